"""The records under a folder of runs, read back: which runs there were, how they ended, and which can go on."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psutil

from queuemon.errors import InvalidValue, UnknownRunbook
from queuemon.render.text import clean, number
from queuemon.runbooks import journal
from queuemon.runbooks.journal import RUN_ID, UNAPPROVED

#: Records in one answer at most.
HISTORY_LIMIT: Final = 1_000

#: Bytes of a record that is read at most; ours have a few thousand.
RECORD_BYTES: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """One record: an attempt at a run. A run that was started again has several, the newest first."""

    id: str
    #: Of the runbook.
    name: str
    #: "done", "failed", "stopped" (by a person or a signal), "running", or "interrupted": its process is gone.
    state: str
    #: As given; not checked again.
    parameters: Mapping[str, Any]
    #: PostgreSQL's role and the user of the operating system.
    actor: str
    started_at: datetime
    #: None while it runs, and for ever where it was interrupted.
    finished_at: datetime | None
    #: Where and why it failed.
    step: str
    error: str
    #: What it planned and did, one entry per action: id, kind, hash, state, planned, done, skipped.
    actions: tuple[Mapping[str, Any], ...]
    #: Of queuemon, Python, papermill, PostgreSQL, the schema, and the digest of the runbook's file.
    versions: Mapping[str, str]
    record: Path
    notebook: Path
    html: Path
    #: Everything that the record says.
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def queue(self) -> str:
        """The queue it acted on; empty where the runbook has no such parameter."""
        return str(self.parameters.get("queue", ""))

    @property
    def dry_run(self) -> bool:
        """Whether it changed nothing."""
        return bool(self.parameters.get("dry_run", False))

    @property
    def unapproved(self) -> tuple[Mapping[str, Any], ...]:
        """The plans that it waits for another role to approve; none where it does not."""
        return tuple(a for a in self.actions if a.get("state") == UNAPPROVED) if self.state == "failed" else ()

    @property
    def can_go_on(self) -> bool:
        """Whether it can be started again under its id."""
        return self.state in {"interrupted", "stopped", "failed"}

    @property
    def did(self) -> str:
        """What it did, or would have done, in words; empty for nothing."""
        told = []
        for a in self.actions:
            counts = (a.get(name) for name in ("done", "planned"))
            kind, (done, planned) = a.get("kind"), (number(n if isinstance(n, int) else None) for n in counts)
            would = a.get("state") in {"planned", UNAPPROVED}
            told.append(f"would {kind} {planned}" if would else f"{kind} {done} of {planned}")
        return clean("; ".join(told), 300)

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None


def history(runs_dir: str | Path = "runs", name: str | None = None, *, limit: int = 50) -> tuple[PastRun, ...]:
    """The newest records, of one runbook or of all; unreadable files are left out."""
    if not 1 <= limit <= HISTORY_LIMIT:
        raise InvalidValue(f"limit is {limit}", expected=f"1 to {HISTORY_LIMIT:,}")
    found: list[PastRun] = []
    for path in _paths(Path(runs_dir), name):
        if len(found) == limit:
            break
        if (run := _read(path)) is not None:
            found.append(run)
    return tuple(found)


def find(run_id: str, runs_dir: str | Path = "runs", name: str | None = None) -> PastRun | None:
    """The newest record of a run; None where there is none. Raises InvalidValue where two runbooks have such a run."""
    check_id(run_id)
    runs = [_read(p) for p in _paths(Path(runs_dir), name, run_id) if p.stem.partition("-")[2] == run_id]
    known = [run for run in runs if run is not None]
    if len(names := sorted({run.name for run in known})) > 1:
        raise InvalidValue(
            f"{run_id!r} is a run of {' and of '.join(names)}",
            expected="one runbook",
            next_step=f"queuemon runbook run {names[0]} --run-id {run_id}",
        )
    return known[0] if known else None


def get(run_id: str, runs_dir: str | Path = "runs") -> PastRun:
    """The newest record of a run; raises UnknownRunbook where there is none."""
    found = find(run_id, runs_dir)
    if found is None:
        raise UnknownRunbook(
            f"there is no record of a run {run_id!r} in {str(runs_dir)!r}",
            expected="the id of a run",
            next_step="see `queuemon runbook history`; --runs-dir names another folder",
        )
    return found


def check_id(run_id: str) -> str:
    """A run's id, as it may be; raises InvalidValue."""
    if not RUN_ID.fullmatch(run_id):
        raise InvalidValue(
            f"{run_id[:70]!r} cannot be a run's id", expected="1 to 64 letters, digits, '.', '_' or '-', a letter first"
        )
    return run_id


def this_process() -> dict[str, Any]:
    """What tells whether the process that runs it is still there."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": psutil.Process().create_time()}


def _alive(process: object) -> bool:
    """Whether a process of this machine still runs; one of another machine may."""
    if not isinstance(process, dict) or process.get("host") != socket.gethostname():
        return isinstance(process, dict)
    try:
        return abs(psutil.Process(int(process["pid"])).create_time() - float(process["since"])) < 1
    except (psutil.Error, KeyError, ValueError, TypeError):
        return False


def _paths(runs_dir: Path, name: str | None, run_id: str = "*") -> Iterator[Path]:
    """Records, newest first: their names begin with the time."""
    folders = [runs_dir / name] if name else sorted(p for p in runs_dir.glob("*") if p.is_dir())
    paths = [path for folder in folders for path in folder.glob(f"*Z-{run_id}.json")]
    yield from sorted(paths, key=lambda path: (path.stem, path.parent.name), reverse=True)


def _read(path: Path) -> PastRun | None:
    try:
        if path.stat().st_size > RECORD_BYTES:
            return None
        facts = json.loads(path.read_text("utf-8"))
        state, finished = str(facts["state"]), facts.get("finished_at")
        notes = facts.get("actions")
        if state == "running":
            notes = journal.read(path.with_suffix(".jsonl"))
            state = state if _alive(facts.get("process")) else "interrupted"
        return PastRun(
            id=str(facts["id"]),
            name=str(facts["name"]),
            state=state,
            parameters=dict(facts["parameters"]),
            actor=str(facts["actor"]),
            started_at=datetime.fromisoformat(facts["started_at"]),
            finished_at=datetime.fromisoformat(finished) if finished else None,
            step=str(facts.get("step", "")),
            error=str(facts.get("error", "")),
            actions=tuple(dict(note) for note in notes or ()),
            versions=dict(facts.get("versions") or {}),
            record=path,
            notebook=path.with_suffix(".ipynb"),
            html=path.with_suffix(".html"),
            facts=facts,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
