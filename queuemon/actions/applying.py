"""`apply`: does what a plan says, once; and reads of what was done. The workbench is the only caller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from uuid import UUID

from queuemon.actions import bulk, canary, queue_changes
from queuemon.actions.entries import Journal
from queuemon.errors import InvalidValue, NotAllowed, UnknownAction
from queuemon.model import ActionKind, ActionProgress, ActionRecord, ActionResult, Pause, Plan
from queuemon.store import Store, audit

#: Entries of the audit trail in one answer at most.
ACTIONS_LIMIT = 1_000


def apply(
    store: Store,
    plan: Plan,
    *,
    reason: str,
    progress: Callable[[ActionProgress], None] | None = None,
    stop: threading.Event | None = None,
) -> ActionResult:
    """Do what a plan says to those jobs whose state still matches, and report each that was left alone, and why.

    The plan's id makes it happen once: a second call returns the first result (`repeated`), and one that was
    interrupted goes on from its cursor. PostgreSQL commits chunk by chunk and Redis follows; Redis being away delays
    publication (`published` is False, the relay finishes it) and fails nothing. `progress` is called after each chunk;
    `stop` ends the action between two chunks. Raises NotAllowed before any statement on a read-only profile,
    InvalidValue, StoreError.
    """
    if store.settings.read_only:
        raise NotAllowed(
            f"{plan.kind.value} is refused: the profile {store.settings.profile!r} is read-only",
            expected="a profile that may act",
            next_step="connect with an operator's profile",
        )
    journal = Journal(store)
    entry = journal.enter(plan, reason)
    if not entry.running:
        with store.postgres.begin(read_only=True) as connection:
            if plan.kind is ActionKind.CANARY:
                return canary.repeated(connection, store, entry)
            return journal.repeated(connection, entry)
    if plan.kind is ActionKind.CANARY:
        return canary.carry_out(
            store, journal, entry, retry=lambda step: apply(store, step, reason=entry.record.reason),
            progress=progress, stop=stop,
        )  # fmt: skip
    if plan.kind.bulk:
        return bulk.carry_out(store, journal, entry, progress=progress, stop=stop)
    return queue_changes.carry_out(store, journal, entry)


def actions(store: Store, limit: int = 50) -> tuple[ActionRecord, ...]:
    """The audit trail, newest first."""
    if not 1 <= limit <= ACTIONS_LIMIT:
        raise InvalidValue(f"limit is {limit}", expected=f"1 to {ACTIONS_LIMIT:,}")
    with store.postgres.begin(read_only=True) as connection:
        return audit.recent(connection, store.tables, limit)


def action(store: Store, action_id: UUID) -> ActionRecord:
    """One entry of the audit trail; raises UnknownAction."""
    with store.postgres.begin(read_only=True) as connection:
        found = audit.one(connection, store.tables, action_id)
    if found is None:
        raise UnknownAction(
            f"there is no action {action_id}", expected="the id of an action", next_step="see `queuemon actions`"
        )
    return found


def pauses(store: Store) -> tuple[Pause, ...]:
    """Who keeps which queue paused, the longest first."""
    with store.postgres.begin(read_only=True) as connection:
        return audit.pauses(connection, store.tables)
