"""Actions on a queue, carried out: PostgreSQL first, then the copy of the pause flag in Redis; `apply` calls them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from queuemon.actions import text
from queuemon.actions.command import run_command
from queuemon.actions.entries import Journal, result
from queuemon.contract import JobStatus, Priority
from queuemon.errors import QueuemonError
from queuemon.model import ActionKind, ActionResult
from queuemon.store import Store, audit, changes, parking, pauses, undo
from queuemon.store.chunks import Chunk, find_chunks, in_queue
from queuemon.store.pauses import PauseFlag


def carry_out(store: Store, journal: Journal, entry: audit.Entry) -> ActionResult:
    """Do what an entered action says to its queue; safe to repeat from the beginning after a crash."""
    match entry.record.kind:
        case ActionKind.PAUSE:
            return _pause(store, journal, entry)
        case ActionKind.RESUME:
            return _resume(store, journal, entry)
        case ActionKind.PRIORITISE:
            return _prioritise(store, journal, entry)
        case _:
            n = int(entry.record.options["concurrency"])
            return scale_to(store, journal, entry, entry.record.target, n)


def _pause(store: Store, journal: Journal, entry: audit.Entry) -> ActionResult:
    record = entry.record
    end = record.options.get("until")
    until = datetime.fromisoformat(end) if end else None
    shown = store.settings.keys.display(record.target)
    with journal.turn(entry) as (connection, held):
        if not held.running:
            return journal.repeated(connection, held)
        holder = record.options.get("holder", record.actor)
        before = [h for h in undo.holders(connection, store.tables, record.target) if h["holder"] == holder]
        flag = changes.add_holder(
            connection, store.tables, record.target, holder=holder,
            reason=record.reason, until=until, action_id=record.id, hard=bool(record.options.get("hard")),
        )  # fmt: skip
        if flag is None:
            return journal.refuse(connection, held, f"{shown} no longer exists.")
        undo.remember(connection, store.tables, record.id, {"holders": before})
        journal.advance(connection, held, done=1)
        ended = journal.end(connection, held, state="done", summary=f"Paused {shown}{text.until_words(until)}.")
    return told(store, ended, flag)


def _resume(store: Store, journal: Journal, entry: audit.Entry) -> ActionResult:
    record, t = entry.record, store.tables
    shown, holder = store.settings.keys.display(record.target), record.options.get("holder")
    extended = extend(store, journal, entry, record.target) if ends_pause(store, record.target, holder) else 0
    with journal.turn(entry) as (connection, held):
        if not held.running:
            return journal.repeated(connection, held)
        before = [h for h in undo.holders(connection, t, record.target) if holder in {None, h["holder"]}]
        flag = changes.drop_holders(connection, t, record.target, holder=holder)
        if flag is None:
            return journal.refuse(connection, held, f"{shown} no longer exists.")
        undo.remember(connection, t, record.id, {"holders": before} if before else {})
        journal.advance(connection, held, done=1)
        if flag.paused:
            others = ", ".join(p.holder for p in audit.pauses(connection, t) if p.queue == record.target)
            summary = f"{holder} let go; {shown} stays paused: held by {others}."
        else:
            moved = f"; the deadlines of {text.counted(extended, 'waiting job')} were extended" if extended else ""
            summary = f"Resumed {shown}{moved}."
        ended = journal.end(connection, held, state="done", summary=summary)
    return told(store, ended, flag)


def ends_pause(store: Store, queue: str, holder: str | None) -> bool:
    """Whether nobody would hold a queue once a holder (None: all) lets go."""
    with store.postgres.begin(read_only=True) as connection:
        holders = {p.holder for p in audit.pauses(connection, store.tables) if p.queue == queue}
    return holder is None or holders <= {holder}


def extend(store: Store, journal: Journal, entry: audit.Entry, queue: str) -> int:
    """Move the deadlines of what waits, chunk by chunk, while the queue is still paused; returns how many jobs."""
    cursor, extended = entry.cursor, 0
    while chunks := _waiting(store, queue, cursor):
        for chunk in chunks:
            with journal.turn(entry) as (connection, held):
                if not held.running:
                    return extended
                if held.cursor != cursor:
                    # Someone else applies this plan too and is further: go on from there.
                    cursor = held.cursor
                    break
                extended += changes.extend_deadlines(connection, store.tables, queue, chunk)
                cursor = journal.advance(connection, held, cursor=chunk.last).cursor
    return extended


def _waiting(store: Store, queue: str, after: UUID | None) -> list[Chunk]:
    t, rows = store.tables, store.settings.chunk_rows
    with store.postgres.begin(read_only=True) as connection:
        return find_chunks(connection, t, in_queue(t, queue), [JobStatus.WAITING], after=after, chunk_rows=rows)


def _prioritise(store: Store, journal: Journal, entry: audit.Entry) -> ActionResult:
    record, shown = entry.record, store.settings.keys.display(entry.record.target)
    priority = Priority(record.options["priority"])
    with journal.turn(entry) as (connection, held):
        if not held.running:
            return journal.repeated(connection, held)
        before = undo.queue_row(connection, store.tables, record.target)
        if before is None:
            return journal.refuse(connection, held, f"{shown} no longer exists.")
        changes.set_priority(connection, store.tables, record.target, priority)
        undo.remember(connection, store.tables, record.id, {"priority": before["priority"]})
        journal.advance(connection, held, done=1)
        summary = f"{shown} has {priority} priority now."
        return result(journal.end(connection, held, state="done", summary=summary))


def scale_to(
    store: Store, journal: Journal, entry: audit.Entry, queue: str, n: int, *, only: int | None = None
) -> ActionResult:
    """Set the number of workers, and run the scale_command; refused where the number is no longer `only`."""
    shown = store.settings.keys.display(queue)
    command = store.settings.scale_command
    state, summary, output = "done", f"{shown} is meant to have {text.counted(n, 'worker')} now", ""
    with journal.turn(entry) as (connection, held):
        if not held.running:
            return journal.repeated(connection, held)
        moved = held
        # A process that was killed while the command ran has counted it already; the command runs again.
        if not held.record.done:
            before = undo.queue_row(connection, store.tables, queue)
            if before is None:
                return journal.refuse(connection, held, f"{shown} no longer exists.")
            if only is not None and before["concurrency"] != only:
                return journal.refuse(connection, held, f"{shown} was scaled to {before['concurrency']:,} since.")
            changes.set_concurrency(connection, store.tables, queue, n)
            undo.remember(connection, store.tables, held.record.id, {"concurrency": before["concurrency"]})
            moved = journal.advance(connection, held, done=1)
        if not command:
            return result(journal.end(connection, moved, state=state, summary=f"{summary}."))
    failure, output = run_command(command, queue, n, store.settings.secrets())
    if failure:
        state, summary = "partly", f"{summary}, but the scale_command {failure}"
    with journal.turn(entry) as (connection, held):
        ended = journal.end(connection, held, state=state, summary=f"{summary}.", output=output)
    return result(ended, output=output)


def told(store: Store, entry: audit.Entry, flag: PauseFlag) -> ActionResult:
    """Copy the flag to Redis, and park or give back the list with it. Where that fails, or takes long, the action is
    done all the same: a claim asks PostgreSQL, and the relay goes on."""
    try:
        more = parking.tell(store.redis, [flag])
    except QueuemonError:
        return result(entry, published=False, note=text.PARKING_UNTOLD if flag.hard else text.FLAG_UNTOLD)
    return result(entry, published=not more, note=text.STILL_MOVING if more else "")


def told_all(store: Store) -> bool:
    """Copy every pause flag that Redis does not have as PostgreSQL does; returns whether it has them all now."""
    with store.postgres.begin(read_only=True) as connection:
        flags = pauses.pause_flags(connection, store.tables)
    try:
        return not parking.tell(store.redis, parking.differing(store.redis, flags))
    except QueuemonError:
        return False
