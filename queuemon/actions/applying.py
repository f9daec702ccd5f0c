"""`apply`: does what a plan says, once; and reads of what was done. The workbench is the only caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol
from uuid import UUID

from queuemon.actions import bulk, canary, queue_changes, undo
from queuemon.actions.entries import Journal
from queuemon.actions.resuming import Tell, Teller, reopened
from queuemon.engine.publisher import publish
from queuemon.errors import InvalidValue, NotAllowed, StoreError, UnknownAction
from queuemon.model import ActionKind, ActionProgress, ActionRecord, ActionResult, Pause, Plan
from queuemon.store import Store, audit
from queuemon.store.audit import Entry


class Carrier(Protocol):
    """Carries out an entered action of a kind that a room above this one knows."""

    def __call__(
        self,
        store: Store,
        journal: Journal,
        entry: Entry,
        *,
        progress: Callable[[ActionProgress], None] | None,
        stop: threading.Event | None,
    ) -> ActionResult: ...


#: Entries of the audit trail in one answer at most.
ACTIONS_LIMIT = 1_000


def apply(
    store: Store,
    plan: Plan,
    *,
    reason: str,
    progress: Callable[[ActionProgress], None] | None = None,
    stop: threading.Event | None = None,
    rate: float | None = None,
    outcomes: Tell | None = None,
    others: Mapping[ActionKind, Carrier] | None = None,
) -> ActionResult:
    """Do what a plan says to those jobs whose state still matches, and report each that was left alone, and why.

    The plan's id makes it happen once: a second call returns the first result (`repeated`), and one that was
    interrupted goes on from its cursor. PostgreSQL commits chunk by chunk and Redis follows; Redis being away delays
    publication (`published` is False, the relay finishes it) and fails nothing. `progress` is called after each chunk;
    `stop` ends the action between two chunks, `rate` is the most jobs per second, `outcomes` is told what became of
    each job; `others` carries out the kinds of rooms above. Raises NotAllowed before any statement on a read-only
    profile, InvalidValue, StoreError.
    """
    _may_act(store, plan.kind)
    journal = Journal(store)
    return _carry_out(
        store, journal, journal.enter(plan, reason), progress=progress, stop=stop, rate=rate, outcomes=outcomes,
        others=others,
    )  # fmt: skip


def resume_action(
    store: Store,
    action_id: UUID,
    *,
    progress: Callable[[ActionProgress], None] | None = None,
    stop: threading.Event | None = None,
    rate: float | None = None,
    outcomes: Tell | None = None,
    others: Mapping[ActionKind, Carrier] | None = None,
) -> ActionResult:
    """Go on with an action that was interrupted or stopped, from its cursor; one that has ended is `repeated`."""
    _may_act(store, "resuming")
    journal = Journal(store)
    entry = reopened(store, journal, action_id)
    return _carry_out(store, journal, entry, progress=progress, stop=stop, rate=rate, outcomes=outcomes, others=others)


def _may_act(store: Store, what: str) -> None:
    if store.settings.read_only:
        raise NotAllowed(
            f"{what} is refused: the profile {store.settings.profile!r} is read-only",
            expected="a profile that may act",
            next_step="connect with an operator's profile",
        )


def _carry_out(
    store: Store,
    journal: Journal,
    entry: Entry,
    *,
    progress: Callable[[ActionProgress], None] | None,
    stop: threading.Event | None,
    rate: float | None,
    outcomes: Tell | None,
    others: Mapping[ActionKind, Carrier] | None,
) -> ActionResult:
    kind, told = entry.record.kind, Teller(store, entry, outcomes)
    if rate is not None and not 0 < rate <= bulk.RATE_LIMIT:
        raise InvalidValue(f"rate is {rate}", expected=f"jobs per second, above 0, at most {bulk.RATE_LIMIT:,}")

    def heard(p: ActionProgress) -> None:
        told()
        if progress is not None:
            progress(p)

    if not entry.running:
        with store.postgres.begin(read_only=True) as connection:
            if kind is ActionKind.CANARY:
                return canary.repeated(connection, store, entry)
            return journal.repeated(connection, entry)
    if entry.cursor is not None and not kind.bulk and kind is not ActionKind.CANARY:
        with suppress(StoreError):  # the relay publishes it then
            publish(store, outbox_ids=bulk.interrupted(store, entry))
    if others is not None and kind in others:
        return others[kind](store, journal, entry, progress=progress, stop=stop)
    if kind is ActionKind.CANARY:
        done: ActionResult = canary.carry_out(
            store, journal, entry, retry=lambda step: apply(store, step, reason=entry.record.reason),
            progress=heard, stop=stop,
        )  # fmt: skip
    elif kind.bulk or undo.of_jobs(entry):
        done = bulk.carry_out(store, journal, entry, progress=heard, stop=stop, rate=rate)
    elif kind is ActionKind.UNDO:
        return undo.carry_out_queue(store, journal, entry)
    else:
        return queue_changes.carry_out(store, journal, entry)
    told()
    return done


def actions(store: Store, limit: int = 50) -> tuple[ActionRecord, ...]:
    """The audit trail, newest first."""
    if not 1 <= limit <= ACTIONS_LIMIT:
        raise InvalidValue(f"limit is {limit}", expected=f"1 to {ACTIONS_LIMIT:,}")
    with store.postgres.begin(read_only=True) as connection:
        return audit.recent(connection, store.tables, limit, undo_days=store.settings.undo_days)


def action(store: Store, action_id: UUID) -> ActionRecord:
    """One entry of the audit trail; raises UnknownAction."""
    with store.postgres.begin(read_only=True) as connection:
        found = audit.one(connection, store.tables, action_id, undo_days=store.settings.undo_days)
    if found is None:
        raise UnknownAction(
            f"there is no action {action_id}", expected="the id of an action", next_step="see `queuemon actions`"
        )
    return found


def pauses(store: Store) -> tuple[Pause, ...]:
    """Who keeps which queue paused, the longest first."""
    with store.postgres.begin(read_only=True) as connection:
        return audit.pauses(connection, store.tables)
