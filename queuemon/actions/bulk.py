"""Actions on jobs and the undo of them. Chunk by chunk, published while the next chunk changes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final
from uuid import UUID

from queuemon.actions import text, undo
from queuemon.actions.entries import Journal, result
from queuemon.actions.settling import Looks, settled
from queuemon.engine.publisher import Published, publish
from queuemon.errors import QueuemonError, StoreTimeout
from queuemon.filters import JobFilter
from queuemon.model import ActionKind, ActionProgress, ActionResult
from queuemon.store import Store, changes, erasing, outbox
from queuemon.store import undo as undoing
from queuemon.store.audit import Entry
from queuemon.store.chunks import LEGAL, Chunk, Order, chunks_of, find_chunks, standings, untouched
from queuemon.store.filtering import conditions

#: The jobs of a selection up to this size each get an event in their history; of others the chunks keep the ids.
LOGGED_IDS: Final = 1_000

#: A chunk whose rows another session holds is tried this often, each time for the lock timeout.
TRIES: Final = 3

#: Reading the ids of a filter may take this long; they are read by the ten thousand.
FIND_SECONDS: Final = 60.0

#: Chunks that may wait for their publication while the next one changes.
AHEAD: Final = 2

#: Jobs per second that a rate may ask for at most.
RATE_LIMIT: Final = 1_000_000

Progress = Callable[[ActionProgress], None]


def carry_out(
    store: Store,
    journal: Journal,
    entry: Entry,
    *,
    progress: Progress | None,
    stop: threading.Event | None,
    rate: float | None = None,
) -> ActionResult:
    """Go through the chunks of an entered action from its cursor on; raises what a store or `progress` raises.

    Whatever interrupts it, the cursor has committed with the changes: applying the same plan again goes on from there.
    """
    started, before = time.monotonic(), entry.record.done
    asked = stop or threading.Event()
    stopped = False
    chunks: deque[Chunk] = deque()
    with _publishing(store) as publisher:
        if entry.cursor is not None:
            for row in interrupted(store, entry):
                publisher.send(row)
        while entry.running:
            if asked.wait(_pause(entry, started, before, rate)):
                stopped = True
                break
            if not chunks:
                chunks.extend(_next_chunks(store, entry, rate))
                if not chunks:
                    break
            chunk = chunks.popleft()
            entry, publication = _tried(store, journal, entry, chunk)
            if entry.cursor != chunk.last:
                chunks.clear()  # someone else applies this plan too and is further: go on from there
                continue
            if publication is not None:
                publisher.send(publication)
            if progress is not None:
                progress(_progress(entry, started, before))
        published = publisher.wait()
    return _ended(journal, entry, stopped=stopped, published=published)


def _pause(entry: Entry, started: float, before: int, rate: float | None) -> float:
    """How long the next chunk has to wait, so that no more than `rate` jobs a second are changed."""
    if rate is None:
        return 0.0
    return max(0.0, started + (entry.record.done - before) / rate - time.monotonic())


def _next_chunks(store: Store, entry: Entry, rate: float | None) -> list[Chunk]:
    # With a rate a chunk is what may be done in a second: the pauses between them stay short.
    rows = store.settings.chunk_rows if rate is None else min(store.settings.chunk_rows, max(1, int(rate)))
    kind, t = entry.record.kind, store.tables
    if undo.of_jobs(entry):
        with store.postgres.begin(seconds=FIND_SECONDS, read_only=True) as connection:
            return undoing.find_chunks(connection, t, undo.undone_of(entry), after=entry.cursor, rows=rows)
    if entry.ids is not None:
        return chunks_of(entry.ids, after=entry.cursor, chunk_rows=rows)
    where = JobFilter.parse(entry.record.target)
    possible = where.statuses()
    states = [s for s in LEGAL[kind] if s in possible]
    if not states:
        return []
    matches = conditions(where, t, now=entry.cutoff, lease_seconds=store.settings.lease_seconds)
    with store.postgres.begin(seconds=FIND_SECONDS, read_only=True) as connection:
        return find_chunks(
            connection, t, matches & untouched(t, _order(store, entry)), states, after=entry.cursor, chunk_rows=rows
        )


def _order(store: Store, entry: Entry) -> Order:
    """What an entered action is to do, as its statements take it."""
    return Order(
        kind=entry.record.kind,
        cutoff=entry.cutoff,
        lease_seconds=store.settings.lease_seconds,
        to=entry.record.options.get("to", ""),
        payload=entry.record.options.get("payload", ""),
    )


def _tried(store: Store, journal: Journal, entry: Entry, chunk: Chunk) -> tuple[Entry, int | None]:
    """A chunk's transaction, again where another session held its rows for too long."""
    for attempt in range(TRIES):
        try:
            return _change(store, journal, entry, chunk)
        except StoreTimeout as error:
            if error.lost or attempt == TRIES - 1:
                raise
    raise AssertionError  # the loop returns or raises


def _change(store: Store, journal: Journal, entry: Entry, chunk: Chunk) -> tuple[Entry, int | None]:
    """One chunk in one transaction; returns the action's new row and the outbox row to publish."""
    if undo.of_jobs(entry):
        return _change_back(store, journal, entry, chunk)
    t, kind, settings, order = store.tables, entry.record.kind, store.settings, _order(store, entry)
    also = None
    if entry.ids is None:
        where = JobFilter.parse(entry.record.target)
        also = conditions(where, t, now=entry.cutoff, lease_seconds=settings.lease_seconds)
    with journal.turn(entry) as (connection, held):
        if not held.running or held.cursor != entry.cursor:
            return held, None
        outcome = changes.change_chunk(
            connection, t, order, chunk, action_id=entry.record.id, also=also,
            keep_days=settings.undo_days, logged=entry.ids is not None and len(entry.ids) <= LOGGED_IDS,
        )  # fmt: skip
        copies: tuple[UUID, ...] = ()
        if kind is ActionKind.ERASE:
            copies = erasing.forget(connection, t, chunk, missed=outcome.missed, action_id=entry.record.id)
        missed = [i for i in outcome.missed if i not in set(copies)]
        now = standings(connection, t, order, missed) if missed else {}
        skipped = {i: text.why_not(kind, standing) for i, standing in now.items()}
        moved = journal.advance(
            connection,
            held,
            cursor=chunk.last,
            done=outcome.done + len(copies),
            skipped=skipped,
            gone=len(missed) - len(skipped),
        )
    return moved, outcome.publication


def _change_back(store: Store, journal: Journal, entry: Entry, chunk: Chunk) -> tuple[Entry, int | None]:
    """One chunk of an undo in one transaction."""
    t, undone = store.tables, undo.undone_of(entry)
    with journal.turn(entry) as (connection, held):
        if not held.running or held.cursor != entry.cursor:
            return held, None
        logged = held.record.planned <= LOGGED_IDS
        outcome = undoing.take_back(connection, t, undone, chunk, action_id=entry.record.id, logged=logged)
        now = undoing.standing(connection, t, undone, outcome.missed) if outcome.missed else {}
        skipped = {i: undo.why_not(undone, now[i]) if i in now else text.COPY_GONE for i in outcome.missed}
        moved = journal.advance(connection, held, cursor=chunk.last, done=outcome.done, skipped=skipped)
    return moved, outcome.publication


def _progress(entry: Entry, started: float, before: int) -> ActionProgress:
    record = entry.record
    per_second = (record.done - before) / max(time.monotonic() - started, 1e-6)
    left = max(0, record.planned - record.done - record.skipped)
    return ActionProgress(
        id=record.id,
        planned=record.planned,
        done=record.done,
        skipped=record.skipped,
        per_second=per_second,
        eta_seconds=left / per_second if per_second else None,
    )


def _ended(journal: Journal, entry: Entry, *, stopped: bool, published: bool) -> ActionResult:
    with journal.turn(entry) as (connection, held):
        record = held.record
        if not held.running:
            return journal.repeated(connection, held)
        skipped = dict(held.skipped)
        missing = record.planned - record.done - record.skipped
        if missing > 0 and not stopped:
            why = text.COPY_GONE if record.kind is ActionKind.UNDO else text.SHORTFALL
            skipped[why] = skipped.get(why, 0) + missing
        summary = text.bulk_summary(
            record.kind, planned=record.planned, done=record.done, skipped=skipped, gone=held.gone, stopped=stopped,
            published=published,
        )  # fmt: skip
        state = "stopped" if stopped else _state(record.planned, record.done)
        ended = journal.end(connection, held, state=state, summary=summary, skipped=skipped, published=published)
    return result(ended, published=published)


def _state(planned: int, done: int) -> str:
    if done >= planned:
        return "done"
    return "partly" if done else "refused"


def interrupted(store: Store, entry: Entry) -> list[int]:
    """Outbox rows of a process that was killed between a commit and its publication; there may be no relay."""
    with store.postgres.begin(read_only=True) as connection:
        return outbox.left_by(connection, store.tables, entry.record.id, chunks=AHEAD + 2)


class _Publisher:
    """Publishes outbox rows in a thread; after the first failure the rest is left to the relay."""

    def __init__(self, store: Store, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._pool = pool
        self._pending: deque[Future[Published]] = deque()
        self._failed = False

    def send(self, publication: int) -> None:
        """Publish an outbox row that has committed; waits while too many are under way."""
        if not self._failed:
            once = partial(publish, self._store, outbox_ids=[publication])
            self._pending.append(self._pool.submit(settled, once, Looks(under_way=True)))
        while len(self._pending) > AHEAD:
            self._settle()

    def wait(self) -> bool:
        """Whether everything sent is published."""
        while self._pending:
            self._settle()
        return not self._failed

    def _settle(self) -> None:
        try:
            self._pending.popleft().result()
        except QueuemonError:
            self._failed = True


@contextmanager
def _publishing(store: Store) -> Iterator[_Publisher]:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="queuemon-publish") as pool:
        yield _Publisher(store, pool)
