"""Taking an action back, itself an action: its plan, and the undo of what was done to a queue. Jobs go through bulk."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from queuemon.actions import queue_changes, text
from queuemon.actions.entries import Journal, result
from queuemon.contract import Priority
from queuemon.errors import InvalidValue, UnknownAction
from queuemon.model import ActionKind, ActionRecord, ActionResult, Breakdown, Plan
from queuemon.store import Store, audit, changes, numbers, undo
from queuemon.store.audit import Entry
from queuemon.store.pauses import PauseFlag
from queuemon.store.undo import Left, Undone

#: Among so many of the newest actions "last" is looked for.
LAST_OF: Final = 200


def undone_of(entry: Entry) -> Undone:
    """What an entered undo takes back, as its plan froze it."""
    options = entry.record.options
    return Undone(id=UUID(entry.record.target), kind=ActionKind(options["undoes"]), to=options.get("to", ""))


def of_jobs(entry: Entry) -> bool:
    """Whether an entered action is an undo that changes jobs."""
    return entry.record.kind is ActionKind.UNDO and ActionKind(entry.record.options["undoes"]).bulk


def why_not(undone: Undone, left: Left) -> str:
    """Why an undo leaves a job alone that stands so."""
    return text.why_not_undone(undone.kind, left.status, homeless=left.homeless)


# ------------------------------------------------------------------------------------------------------------- plan


def plan(store: Store, target: object, *, plan_id: UUID) -> Plan:
    """What taking an action ("last", or its id) back would do, and what has moved on since. Changes nothing.

    Raises UnknownAction, InvalidValue (it cannot be taken back, and why), StoreError.
    """
    record = _found(store, target)
    t, shown = store.tables, store.settings.keys.display(record.target)
    with store.postgres.begin(seconds=60, read_only=True) as connection:
        clock = numbers.clock(connection)
        by_queue: tuple[Breakdown, ...] = ()
        excluded: tuple[Breakdown, ...] = ()
        if not record.kind.bulk:
            found, effect = _of_queue(connection, store, record, shown)
            count = int(found)
        else:
            undone = Undone(id=record.id, kind=record.kind, to=record.options.get("to", ""))
            back, left = undo.counted(connection, t, undone)
            count, by_queue = sum(back.values()), _queues(store, back)
            reasons: dict[str, int] = {}
            for standing, n in left.items():
                why = why_not(undone, standing)
                reasons[why] = reasons.get(why, 0) + n
            excluded = text.breakdown(reasons)
            effect = text.undo_effect(record.kind, count)
    of = f"{record.kind.value} of {text.counted(record.done) if record.kind.bulk else shown}"
    options = {"of": of, "undoes": record.kind.value, **{k: v for k, v in record.options.items() if k == "to"}}
    return Plan(
        id=plan_id, kind=ActionKind.UNDO, target=str(record.id), ids=None, cutoff=clock, count=count,
        by_queue=by_queue, excluded=excluded, effect=effect, options=options,
    )  # fmt: skip


def _queues(store: Store, back: Mapping[str, int]) -> tuple[Breakdown, ...]:
    ordered = sorted(back.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Breakdown(label=name, count=n) for name, n in ordered)


def _found(store: Store, target: object) -> ActionRecord:
    days = store.settings.undo_days
    with store.postgres.begin(read_only=True) as connection:
        if target == "last":
            newest = audit.recent(connection, store.tables, LAST_OF, undo_days=days)
            record = next((r for r in newest if r.undoable_until is not None or _unfinished(r)), None)
            if record is None:
                raise UnknownAction(
                    "there is no action that can be taken back",
                    expected=f"one of the last {days:g} days that changed something and was not taken back yet",
                    next_step="see `queuemon actions`",
                )
            if _unfinished(record):
                raise InvalidValue(
                    f"the newest action that can be taken back, {record.kind.value} {record.id}, has not ended:"
                    f" {_refusal(record, days)}",
                    expected="an action that has ended",
                    next_step="or name the action to take back",
                )
            return record
        try:
            action_id = target if isinstance(target, UUID) else UUID(str(target).strip())
        except ValueError:
            raise InvalidValue(f"{str(target)[:60]!r} is not an action", expected="an action's id, or last") from None
        record = audit.one(connection, store.tables, action_id, undo_days=days)
    if record is None:
        raise UnknownAction(
            f"there is no action {action_id}", expected="the id of an action", next_step="see `queuemon actions`"
        )
    if record.undoable_until is None:
        raise InvalidValue(f"this {record.kind.value} cannot be taken back: {_refusal(record, days)}")
    return record


def _unfinished(record: ActionRecord) -> bool:
    """Whether an action changed something that could be taken back, had it ended."""
    return record.state == "running" and record.kind.undoable and record.done > 0


def _refusal(record: ActionRecord, days: float) -> str:
    """Why an action cannot be taken back."""
    if record.undone_by is not None:
        return f"{record.undone_by} did that already, or is at it"
    if record.kind is ActionKind.CANARY:
        return "each of its steps is a retry of its own; see `queuemon actions`"
    if record.kind is ActionKind.UNDO:
        return "do the action itself again"
    if not record.kind.undoable:
        return "nothing was kept of what it replaced"
    if record.state == "running":
        how = "its process died" if record.interrupted else "it is running"
        return f"{how}; end it first with `queuemon actions stop {record.id}`"
    if not record.done:
        return "it changed nothing"
    return f"what it replaced is kept for {days:g} days, and has gone"


# ----------------------------------------------------------------------------------------------------------- queues


def _of_queue(connection: Any, store: Store, record: ActionRecord, shown: str) -> tuple[bool, str]:
    """Whether an action on a queue can be taken back as the queue stands now, and what that means."""
    before = undo.remembered(connection, store.tables, record.id)
    known = {q.name: q for q in numbers.queues(connection, store.tables)}
    held = [p for p in audit.pauses(connection, store.tables) if p.queue == record.target]
    queue = known.get(record.target)
    if queue is None:
        return False, f"changes nothing: {shown} no longer exists"
    match record.kind:
        case ActionKind.PRIORITISE:
            if queue.priority.value != record.options["priority"]:
                return False, f"changes nothing: {shown} was given {queue.priority} priority since"
            return True, f"the priority of {shown} goes back to {before['priority']}"
        case ActionKind.SCALE:
            if queue.concurrency != record.options["concurrency"]:
                return False, f"changes nothing: {shown} was scaled to {queue.concurrency:,} since"
            return True, f"the workers meant for {shown} go back to {before['concurrency']:,}"
        case ActionKind.PAUSE:
            if not any(p.action_id == record.id for p in held):
                return False, f"changes nothing: that pause of {shown} has ended, or was replaced, since"
            others = len(held) > 1 or bool(before["holders"])
            return True, f"{shown} stays paused by other holders" if others else f"workers take jobs of {shown} again"
        case _:
            again = _missing(before, {p.holder for p in held})
            if not again:
                return False, f"changes nothing: {shown} is held by the same holders again"
            return True, f"{shown} is paused again, held by {', '.join(h['holder'] for h in again)}"


def _missing(before: Mapping[str, Any], held: set[str]) -> list[Mapping[str, Any]]:
    return [h for h in before["holders"] if h["holder"] not in held]


def carry_out_queue(store: Store, journal: Journal, entry: Entry) -> ActionResult:
    """Take an action on a queue back, unless the queue has moved on since; safe to repeat after a crash."""
    with store.postgres.begin(read_only=True) as connection:
        record = audit.one(connection, store.tables, UUID(entry.record.target))
        before = undo.remembered(connection, store.tables, UUID(entry.record.target)) if record else {}
    if record is None:
        with journal.turn(entry) as (connection, held):
            return journal.refuse(connection, held, "The action has been purged from the audit trail.")
    match record.kind:
        case ActionKind.PRIORITISE:
            return _priority_back(store, journal, entry, record, Priority(before["priority"]))
        case ActionKind.SCALE:
            only = int(record.options["concurrency"])
            return queue_changes.scale_to(store, journal, entry, record.target, int(before["concurrency"]), only=only)
        case ActionKind.PAUSE:
            return _end_pause(store, journal, entry, record, before)
        case _:
            return _pause_again(store, journal, entry, record, before)


def _priority_back(
    store: Store, journal: Journal, entry: Entry, record: ActionRecord, priority: Priority
) -> ActionResult:
    shown = store.settings.keys.display(record.target)
    with journal.turn(entry) as (connection, held):
        if not held.running:
            return journal.repeated(connection, held)
        row = undo.queue_row(connection, store.tables, record.target)
        if row is None or row["priority"] != record.options["priority"]:
            return journal.refuse(connection, held, f"The priority of {shown} was changed since.")
        changes.set_priority(connection, store.tables, record.target, priority)
        moved = journal.advance(connection, held, done=1)
        return result(journal.end(connection, moved, state="done", summary=f"{shown} has {priority} priority again."))


def _end_pause(
    store: Store, journal: Journal, entry: Entry, record: ActionRecord, before: Mapping[str, Any]
) -> ActionResult:
    t, shown = store.tables, store.settings.keys.display(record.target)
    holder = record.options.get("holder", record.actor)
    if not before["holders"] and queue_changes.ends_pause(store, record.target, holder):
        queue_changes.extend(store, journal, entry, record.target)
    with journal.turn(entry) as (connection, held):
        if not held.running:
            return journal.repeated(connection, held)
        now = [h for h in undo.holders(connection, t, record.target) if h["action_id"] == str(record.id)]
        if not now:
            return journal.refuse(connection, held, f"That pause of {shown} has ended, or was replaced, since.")
        flag = changes.drop_holders(connection, t, record.target, holder=now[0]["holder"])
        if flag is None:
            return journal.refuse(connection, held, f"{shown} no longer exists.")
        for earlier in before["holders"]:
            flag = _hold(connection, store, record.target, earlier) or flag
        moved = journal.advance(connection, held, done=1)
        state = "stays paused by other holders" if flag.paused else "runs again"
        ended = journal.end(connection, moved, state="done", summary=f"Took the pause back: {shown} {state}.")
    return queue_changes.told(store, ended, flag)


def _pause_again(
    store: Store, journal: Journal, entry: Entry, record: ActionRecord, before: Mapping[str, Any]
) -> ActionResult:
    t, shown = store.tables, store.settings.keys.display(record.target)
    with journal.turn(entry) as (connection, held):
        if not held.running:
            return journal.repeated(connection, held)
        again = _missing(before, {h["holder"] for h in undo.holders(connection, t, record.target)})
        flag = None
        for holder in again:
            flag = _hold(connection, store, record.target, holder) or flag
        if flag is None:
            return journal.refuse(connection, held, f"{shown} is held by the same holders again, or no longer exists.")
        moved = journal.advance(connection, held, done=1)
        names = ", ".join(h["holder"] for h in again)
        ended = journal.end(connection, moved, state="done", summary=f"Paused {shown} again, held by {names}.")
    return queue_changes.told(store, ended, flag)


def _hold(connection: Any, store: Store, queue: str, holder: Mapping[str, Any]) -> PauseFlag | None:
    """Let somebody hold a queue as before; one whose time has come does not."""
    until = datetime.fromisoformat(holder["until"]) if holder["until"] else None
    if until is not None and until <= numbers.clock(connection):
        return None
    action_id = UUID(holder["action_id"]) if holder["action_id"] else None
    return changes.add_holder(
        connection, store.tables, queue, holder=holder["holder"], reason=holder["reason"], until=until,
        action_id=action_id, hard=holder["hard"],
    )  # fmt: skip
