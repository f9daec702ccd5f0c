"""Going on with an action that was interrupted or stopped, ending one, and what an action did to each of its jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from queuemon.actions import text
from queuemon.actions.canary import Rule, step_id
from queuemon.actions.entries import Journal
from queuemon.errors import InvalidValue, UnknownAction
from queuemon.model import ActionKind, ActionRecord, JobOutcome, Plan
from queuemon.store import Store, audit, outbox, trail
from queuemon.store.audit import Entry

#: Outcomes in one answer at most.
OUTCOMES_LIMIT: Final = 10_000

#: Outcomes told at once while an action runs.
TOLD: Final = 1_000

Tell = Callable[[Sequence[JobOutcome]], None]


def reopened(store: Store, journal: Journal, action_id: UUID) -> Entry:
    """An action's row, running again where it was stopped; raises UnknownAction."""
    with store.postgres.begin() as connection:
        if audit.one(connection, store.tables, action_id) is None:
            raise _unknown(action_id)
        trail.reopen(connection, store.tables, action_id)
        entry = audit.held(connection, store.tables, action_id)
        if entry.running:
            detail = {"done": entry.record.done}
            audit.note(connection, store.tables, action_id, "resumed", os_user=journal.user, detail=detail)
    return entry


def stop_action(store: Store, action_id: UUID) -> ActionRecord:
    """End an action that runs, whoever runs it: a process at work sees it before its next chunk, and one that died
    leaves it where its last chunk committed. It can be resumed, or taken back. One that has ended stays as it is.

    Raises UnknownAction.
    """
    journal, t = Journal(store), store.tables
    with store.postgres.begin() as connection:
        if audit.one(connection, t, action_id) is None:
            raise _unknown(action_id)
        held = audit.held(connection, t, action_id)
        if held.running:
            published = not outbox.owes(connection, t, action_id)
            record = held.record
            summary = text.stopped(
                record.kind, planned=record.planned, done=record.done, skipped=held.skipped, gone=held.gone,
                published=published,
            )  # fmt: skip
            journal.end(connection, held, state="stopped", summary=summary, published=published)
        ended = audit.one(connection, t, action_id, undo_days=store.settings.undo_days)
    if ended is None:
        raise _unknown(action_id)
    return ended


def _unknown(action_id: UUID) -> UnknownAction:
    return UnknownAction(
        f"there is no action {action_id}", expected="the id of an action", next_step="see `queuemon actions`"
    )


def begun(store: Store, action_ids: Sequence[UUID]) -> Plan | None:
    """The plan of the first of these actions that was begun, as it was frozen; None when none was.

    Applying it goes on from its cursor, or returns what it did.
    """
    with store.postgres.begin(read_only=True) as connection:
        entry = audit.find(connection, store.tables, action_ids)
    if entry is None:
        return None
    record = entry.record
    left = f"goes on: {record.done + record.skipped:,} of {record.planned:,} are done" if entry.running else "is done"
    return Plan(
        id=record.id, kind=record.kind, target=record.target, ids=entry.ids, cutoff=entry.cutoff, count=record.planned,
        effect=f"was begun before and {left}; nothing is repeated", options=record.options,
    )  # fmt: skip


def outcomes(store: Store, action_id: UUID, *, after: UUID | None = None, limit: int = 1_000) -> tuple[JobOutcome, ...]:
    """What an action did to each job so far, in the order of their ids, after one of them."""
    if not 1 <= limit <= OUTCOMES_LIMIT:
        raise InvalidValue(f"limit is {limit}", expected=f"1 to {OUTCOMES_LIMIT:,}")
    t = store.tables
    with store.postgres.begin(read_only=True) as connection:
        record = audit.one(connection, t, action_id)
        if record is None:
            raise _unknown(action_id)
        steps: list[UUID] = [action_id]
        if record.kind is ActionKind.CANARY:
            parts = Rule.of(record.options).parts(range(record.planned))  # type: ignore[arg-type]
            steps = [step_id(action_id, n) for n in range(len(parts))]
        return trail.outcomes(connection, t, action_id, steps, after=after, limit=limit)


class Teller:
    """Tells the outcomes of an action while it runs, each once; tells nothing where nobody listens."""

    def __init__(self, store: Store, entry: Entry, tell: Tell | None) -> None:
        self._store, self._id, self._tell = store, entry.record.id, tell
        self._told = entry.cursor

    def __call__(self) -> None:
        """What has come since the last time."""
        if self._tell is None:
            return
        while page := outcomes(self._store, self._id, after=self._told, limit=TOLD):
            self._told = page[-1].job_id
            self._tell(page)
