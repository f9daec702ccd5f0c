"""One action of the audit trail on screen: who, why, how far, and what became of every job; knows no widget."""

from __future__ import annotations

import threading
from typing import Any, Final
from uuid import UUID

from traitlets import Dict, HasTraits

from queuemon.contract import Keys
from queuemon.errors import QueuemonError, UsageError
from queuemon.model import ActionKind, ActionRecord, JobOutcome
from queuemon.render.text import clean, duration
from queuemon.views.runs import how_far, share, subject
from queuemon.workbench import Workbench

#: Outcomes on one page.
ROWS: Final = 25

#: Outcomes in one read, and reads for one page at most: a rare outcome is looked for among so many, then on request.
READ: Final = 1_000
READS: Final = 50

OUTCOMES: Final = ("all", "done", "skipped", "gone")

#: Options that are shown; a payload is none of them: it holds what only its own dialog knows how to mask.
SHOWN: Final = (
    "of", "to", "until", "holder", "hard", "priority", "concurrency", "steps", "success", "max_errors", "timeout",
    "canary", "step", "rate", "queue", "classes", "limit",
)  # fmt: skip

#: Kinds beside the bulk ones that have an outcome for every job.
BY_JOB: Final = frozenset({ActionKind.UNDO, ActionKind.CANARY, ActionKind.REPAIR})


class Audit(HasTraits):
    """The action that is open."""

    #: Its facts; empty when none is open.
    action = Dict()
    #: A page of what became of its jobs.
    outcomes = Dict()

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self._workbench = workbench
        self._keys: Keys = workbench.settings.keys
        self._lock = threading.RLock()
        self._question = 0
        #: Where each page up to the one on screen begins.
        self._cursors: list[UUID | None] = [None]
        self._record: ActionRecord | None = None

    def open(self, action_id: str, *, again: bool = False) -> None:
        """Show an action and the first of its outcomes; `again` keeps what is on screen until they are there."""
        with self._lock:
            self._question += 1
            self._cursors = [None]
            self._record = None
            if not again:
                self.outcomes = {}
                self.action = {"id": action_id, "loading": True}
        try:
            record = self._workbench.action(action_id)
        except QueuemonError as error:
            away = not isinstance(error, UsageError)
            self.action = {"id": action_id, "error": clean(str(error), 600), "away": away}
            return
        with self._lock:
            if self.action.get("id") != action_id:
                return
            self._record = record
            self.action = action_values(record, self._keys)
        if by_job(record):
            self._read("all")

    def close(self) -> None:
        """Show no action."""
        with self._lock:
            self._question += 1
            self.action, self.outcomes = {}, {}

    def only(self, outcome: str) -> None:
        """Outcomes of one kind, from the first; "all" for every kind."""
        with self._lock:
            if not self._record or outcome not in OUTCOMES:
                return
            self._cursors = [None]
        self._read(outcome)

    def turn(self, forward: bool) -> None:
        """The next or the previous outcomes."""
        with self._lock:
            if forward and self.outcomes.get("after"):
                self._cursors.append(UUID(self.outcomes["after"]))
            elif not forward and len(self._cursors) > 1:
                self._cursors.pop()
            else:
                return
        self._read(self.outcomes["only"])

    def refresh(self) -> None:
        """With every refresh: how far it is now; the page of outcomes stays where it is."""
        before = self._record
        if self.action.get("away"):
            self.open(self.action["id"], again=True)
            return
        if before is None or not self.action:
            return
        now = self._workbench.action(before.id)
        if now == before:
            return
        with self._lock:
            if self._record is not before or not self.action:
                return
            self._record = now
            self.action = action_values(now, self._keys) | {"speed": speed(before, now)}
        if by_job(now) and len(self.outcomes.get("rows", ())) < ROWS:
            self._read(self.outcomes.get("only", "all"))

    def _read(self, only: str) -> None:
        with self._lock:
            record = self._record
            if record is None:
                return
            self._question += 1
            question, cursor, number = self._question, self._cursors[-1], len(self._cursors)
            self.outcomes = self.outcomes | {"only": only, "loading": True}
        try:
            rows, after = self._some(record.id, cursor, only)
            answer = {"rows": [outcome_row(o) for o in rows], "after": str(after) if after else None, "error": ""}
        except QueuemonError as error:
            answer = {"rows": [], "after": None, "error": clean(str(error), 600)}
        with self._lock:
            if question == self._question:
                self.outcomes = {"only": only, "number": number, "loading": False, **answer}

    def _some(self, action_id: UUID, after: UUID | None, only: str) -> tuple[list[JobOutcome], UUID | None]:
        """A page of outcomes, and the cursor of the next; None when there is nothing more."""
        rows: list[JobOutcome] = []
        size = ROWS + 1 if only == "all" else READ
        for _ in range(READS):
            found = self._workbench.outcomes(action_id, after=after, limit=size)
            for outcome in found:
                if only in {"all", outcome.outcome}:
                    if len(rows) == ROWS:
                        return rows, rows[-1].job_id
                    rows.append(outcome)
            if len(found) < size:
                return rows, None
            after = found[-1].job_id
        return rows, after


# ------------------------------------------------------------------------------------------- values into plain JSON


def by_job(record: ActionRecord) -> bool:
    """Whether the action has an outcome for every job."""
    return record.kind.bulk or record.kind in BY_JOB


def action_values(record: ActionRecord, keys: Keys) -> dict[str, Any]:
    """An action as its dialog takes it."""
    reached = record.done + record.skipped
    found: dict[str, Any] = {
        "id": str(record.id),
        "kind": record.kind.value,
        "target": subject(record, keys, 1_000),
        "actor": clean(record.actor, 200),
        "reason": clean(record.reason, 2_000, lines=True),
        "state": clean(record.state, 40),
        "summary": clean(record.summary, 1_000),
        "started": record.started_at.timestamp(),
        "updated": record.updated_at.timestamp(),
        "planned": record.planned,
        "done": record.done,
        "skipped": record.skipped,
        "share": share(reached, record.planned),
        "far": how_far(record),
        "byJob": by_job(record),
        "options": [
            [clean(k.replace("_", " "), 40), option_text(record.options[k])]
            for k in SHOWN
            if record.options.get(k) not in (None, False)
        ],
    }
    return found | fate(record)


def option_text(value: object) -> str:
    """An option's value in words."""
    if value is True:
        return "yes"
    return clean(", ".join(map(str, value)) if isinstance(value, list | tuple) else value, 400)


def fate(record: ActionRecord) -> dict[str, Any]:
    """What can be done about an action, and what was: present only where it holds."""
    optional: dict[str, Any] = {
        "finished": record.finished_at.timestamp() if record.finished_at else None,
        "interrupted": record.interrupted,
        "resumable": by_job(record) and (record.interrupted or record.state == "stopped"),
        "stoppable": record.finished_at is None and (by_job(record) or record.interrupted),
        "undoUntil": record.undoable_until.timestamp() if record.undoable_until else None,
        "undoneBy": str(record.undone_by) if record.undone_by else None,
        "undoOf": str(record.undo_of) if record.undo_of else None,
    }
    return {name: value for name, value in optional.items() if value}


def speed(before: ActionRecord, now: ActionRecord) -> str:
    """How fast an action moves, from two looks at its row; empty where that cannot be told."""
    seconds = (now.updated_at - before.updated_at).total_seconds()
    jobs = now.done + now.skipped - before.done - before.skipped
    if now.finished_at is not None or seconds <= 0 or jobs <= 0:
        return ""
    left = max(0, now.planned - now.done - now.skipped) * seconds / jobs
    return f"{jobs / seconds:,.0f}/s, {duration(left)} left" if left else f"{jobs / seconds:,.0f}/s"


def outcome_row(o: JobOutcome) -> dict[str, str]:
    """One line of the outcomes."""
    return {"id": str(o.job_id), "outcome": o.outcome, "why": clean(o.why)}
