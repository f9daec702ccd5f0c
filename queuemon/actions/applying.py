"""`apply`: does what a plan says, once; and reads of what was done. The workbench is the only caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, Protocol
from uuid import UUID

from queuemon.actions import bulk, canary, queue_changes, revealing, undo
from queuemon.actions.entries import Journal
from queuemon.actions.resuming import Tell, Teller, reopened
from queuemon.engine.publisher import publish
from queuemon.errors import InvalidValue, StoreError, UnknownAction
from queuemon.model import ActionKind, ActionProgress, ActionRecord, ActionResult, Pause, Plan
from queuemon.store import Store, audit
from queuemon.store.audit import Entry
from queuemon.store.settling import Looks, settled


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


#: Kinds that change pause flags, of which Redis has a copy.
_TELLING: Final = frozenset({ActionKind.PAUSE, ActionKind.RESUME, ActionKind.UNDO})

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
    store.settings.require_writable(plan.kind.value)
    if plan.kind is ActionKind.REVEAL:
        revealing.check_reason(reason)
    journal = Journal(store)
    return _settled(
        store, journal, lambda: journal.enter(plan, reason), progress=progress, stop=stop, rate=rate,
        outcomes=outcomes, others=others,
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
    store.settings.require_writable("resuming")
    journal = Journal(store)
    return _settled(
        store, journal, lambda: reopened(store, journal, action_id), progress=progress, stop=stop, rate=rate,
        outcomes=outcomes, others=others,
    )  # fmt: skip


def _settled(
    store: Store,
    journal: Journal,
    enter: Callable[[], Entry],
    *,
    progress: Callable[[ActionProgress], None] | None,
    stop: threading.Event | None,
    rate: float | None,
    outcomes: Tell | None,
    others: Mapping[ActionKind, Carrier] | None,
) -> ActionResult:
    """Enter an action and carry it out. Where the connection is lost, its row says what has committed: the same again
    from there on, until PostgreSQL has been away for too long."""
    entry = settled(enter)
    ours, told, looks = entry.running, Teller(store, entry, outcomes), Looks(under_way=True)
    while True:
        try:
            done = _carry_out(store, journal, entry, told=told, progress=progress, stop=stop, rate=rate, others=others)
        except StoreError as error:
            looks.wait(error)
        else:
            # What ended without our hearing of it was ended here.
            return replace(done, repeated=done.repeated and not (looks.lost and ours))
        now = settled(partial(journal.found, entry), looks)
        if (now.cursor, now.record.done) != (entry.cursor, entry.record.done):
            looks.moved()
        entry = now


def _carry_out(
    store: Store,
    journal: Journal,
    entry: Entry,
    *,
    told: Teller,
    progress: Callable[[ActionProgress], None] | None,
    stop: threading.Event | None,
    rate: float | None,
    others: Mapping[ActionKind, Carrier] | None,
) -> ActionResult:
    kind = entry.record.kind
    if rate is not None and not 0 < rate <= bulk.RATE_LIMIT:
        raise InvalidValue(f"rate is {rate}", expected=f"jobs per second, above 0, at most {bulk.RATE_LIMIT:,}")

    def heard(p: ActionProgress) -> None:
        told()
        if progress is not None:
            progress(p)

    if not entry.running:
        told()
        return _repeated(store, journal, entry)
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
    elif kind is ActionKind.REVEAL:
        return revealing.carry_out(journal, entry)
    elif kind is ActionKind.UNDO:
        return undo.carry_out_queue(store, journal, entry)
    else:
        return queue_changes.carry_out(store, journal, entry)
    told()
    return done


def _repeated(store: Store, journal: Journal, entry: Entry) -> ActionResult:
    """What an action that has ended did. Its pause flag may not have reached Redis: nobody else might bring it."""
    with store.postgres.begin(read_only=True) as connection:
        if entry.record.kind is ActionKind.CANARY:
            return canary.repeated(connection, store, entry)
        first = journal.repeated(connection, entry)
    if entry.record.kind in _TELLING and not undo.of_jobs(entry):
        first = replace(first, published=first.published and queue_changes.told_all(store))
    return first


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
