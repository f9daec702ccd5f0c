"""The run that this process carries out: its actions' ids follow from it; what it does is noted for its record.

An action's id is uuid5 of the run and the step, so that a run that is started again meets the actions it began.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid5

from queuemon import config

#: What the ids of all runs' actions are derived from.
NAMESPACE: Final = UUID("6c0b8f5e-3f57-5d0a-9a5e-1d2f6f1c7a44")

#: What a run may be called: a part of file names, nothing else.
RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: The state of an action that nobody has approved.
UNAPPROVED: Final = "unapproved"

_RUN: Final = re.compile(rf"runbook (?P<name>[a-z0-9-]+), run (?P<id>{RUN_ID.pattern})")


@dataclass(frozen=True, kw_only=True)
class Run:
    """The run that this process carries out."""

    #: Of the runbook.
    name: str
    id: str
    #: Where notes go; None: nowhere.
    journal: Path | None = None
    #: How often each step was taken in this process.
    taken: Counter[str] = field(default_factory=Counter, compare=False)
    #: The ids that were derived for it in this process.
    ids: set[UUID] = field(default_factory=set, compare=False)

    def __str__(self) -> str:
        return words(self.name, self.id)

    def step(self, label: str) -> str:
        """The name of the next step of this label: the same in every process that carries the run out."""
        self.taken[label] += 1
        return f"{label} {self.taken[label]}"

    def action_id(self, step: str) -> UUID:
        """The id of the action of a step."""
        derived = uuid5(NAMESPACE, f"{self.name}\0{self.id}\0{step}")
        self.ids.add(derived)
        return derived

    def issued(self, action_id: UUID) -> bool:
        """Whether an id is one of this run's."""
        return action_id in self.ids

    def note(self, **facts: Any) -> None:
        """Append a line to the journal: ids and counts, no text of a job."""
        if self.journal is not None:
            with self.journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(facts) + "\n")


def words(name: str, run_id: str) -> str:
    """A run as the environment and the audit trail spell it."""
    return f"runbook {name}, run {run_id}"


def current() -> Run | None:
    """The run of this process; None outside of one, as in a notebook that was opened by hand."""
    return _run(config.runbook_run(), config.runbook_journal())


@lru_cache(maxsize=8)
def _run(said: str, journal: Path | None) -> Run | None:
    found = _RUN.fullmatch(said)
    return Run(name=found["name"], id=found["id"], journal=journal) if found else None


def read(journal: Path) -> list[dict[str, Any]]:
    """What a run noted, one entry per action with its last state, in their order; a line cut by a kill is left out."""
    merged: dict[str, dict[str, Any]] = {}
    for facts in _lines(journal):
        key = str(facts.get("id", ""))
        merged[key] = {**merged.get(key, {}), **facts}
    return list(merged.values())


def _lines(journal: Path) -> Iterator[Mapping[str, Any]]:
    try:
        lines = journal.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            facts = json.loads(line)
        except ValueError:
            continue
        if isinstance(facts, dict):
            yield facts
