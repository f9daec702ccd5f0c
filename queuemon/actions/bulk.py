"""Actions on jobs and the undo of them. Chunk by chunk, published while the next chunk changes; held back while the
stores are slow."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from queuemon.actions import pacing, text, turns, undo
from queuemon.actions.entries import Journal, result
from queuemon.actions.pacing import Pace
from queuemon.engine.publisher import Published, publish
from queuemon.errors import QueuemonError, RowHeld, StoreTimeout
from queuemon.filters import JobFilter
from queuemon.model import ActionKind, ActionProgress, ActionResult
from queuemon.store import Store, outbox
from queuemon.store import undo as undoing
from queuemon.store.audit import Entry
from queuemon.store.chunks import LEGAL, Chunk, chunks_of, find_chunks, untouched
from queuemon.store.filtering import conditions
from queuemon.store.settling import Looks, settled

#: A chunk that is refused (another session holds its rows) is tried again for so many lock timeouts.
PATIENCE: Final = 3

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
    stopped, resumed = False, entry.cursor is not None
    chunks: deque[Chunk] = deque()
    tempo = _Tempo(store, _most(store, rate))
    with _publishing(store) as publisher:
        if resumed:
            for row in interrupted(store, entry):
                publisher.send(row)
        while entry.running:
            if asked.wait(max(tempo.pace.pause_seconds, _pause(entry, started, before, rate))):
                stopped = True
                break
            if not chunks:
                chunks.extend(_next_chunks(store, entry, tempo.most))
                if not chunks:
                    break
            chunk, rest = chunks.popleft().cut(tempo.pace.rows)
            if rest is not None:
                chunks.appendleft(rest)
            began = time.monotonic()
            try:
                turn = turns.take(store, journal, entry, chunk, cancel=tempo.may_shrink(chunk))
            except StoreTimeout as error:
                tempo.refused(error, chunk, began)
                chunks.appendleft(chunk)
            else:
                entry = turn.entry
                if entry.cursor != chunk.last:
                    chunks.clear()  # someone else applies this plan too and is further: go on from there
                    continue
                if turn.publication is not None:
                    publisher.send(turn.publication)
                tempo.went(chunk, turn.held_seconds, publisher.call_seconds)
            if progress is not None:
                progress(_progress(entry, started, before, tempo.pace))
        published = publisher.wait()
    # Of what went before it this run knows nothing.
    published = published and not (resumed and owes(store, entry))
    return _ended(journal, entry, stopped=stopped, published=published)


class _Tempo:
    """The pace of one run of an action, and for how long its next chunk has been refused."""

    def __init__(self, store: Store, most: int) -> None:
        self.most, self.pace = most, Pace(rows=most)
        self._patience = PATIENCE * store.settings.lock_timeout_seconds
        self._refused_since: float | None = None

    def may_shrink(self, chunk: Chunk) -> bool:
        """Whether there are smaller chunks than this one."""
        return chunk.size > pacing.floor(self.most)

    def went(self, chunk: Chunk, held_seconds: float, call_seconds: float) -> None:
        """A chunk has committed."""
        self._refused_since = None
        self.pace = pacing.after_chunk(
            self.pace, rows=chunk.size, held_seconds=held_seconds, call_seconds=call_seconds, most=self.most
        )

    def refused(self, error: StoreTimeout, chunk: Chunk, began: float) -> None:
        """A chunk begun then was cancelled; raises the error where to try again, with fewer rows, is no use."""
        now, held = time.monotonic(), isinstance(error, RowHeld)
        self._refused_since = self._refused_since or began
        patient = now - self._refused_since < self._patience if held else self.may_shrink(chunk)
        if error.lost or not patient:
            raise error
        self.pace = pacing.after_refusal(rows=chunk.size, took_seconds=now - began, most=self.most, held=held)


def _pause(entry: Entry, started: float, before: int, rate: float | None) -> float:
    """How long the next chunk has to wait, so that no more than `rate` jobs a second are changed."""
    if rate is None:
        return 0.0
    return max(0.0, started + (entry.record.done - before) / rate - time.monotonic())


def _most(store: Store, rate: float | None) -> int:
    """The largest chunk. With a rate it is what may be done in a second: the pauses between them stay short."""
    return store.settings.chunk_rows if rate is None else min(store.settings.chunk_rows, max(1, int(rate)))


def _next_chunks(store: Store, entry: Entry, rows: int) -> list[Chunk]:
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
            connection,
            t,
            matches & untouched(t, turns.order(store, entry)),
            states,
            after=entry.cursor,
            chunk_rows=rows,
        )


def _progress(entry: Entry, started: float, before: int, pace: Pace) -> ActionProgress:
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
        slowed=pace.words,
    )


def _ended(journal: Journal, entry: Entry, *, stopped: bool, published: bool) -> ActionResult:
    with journal.turn(entry) as (connection, held):
        record = held.record
        if not held.running:
            # Ended by somebody else, while this run was at it or after another one had done the rest.
            return replace(journal.repeated(connection, held), repeated=record.state != "stopped")
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


def owes(store: Store, entry: Entry) -> bool:
    """Whether publications of an action are left to the relay; asked where another run may have left them."""
    with store.postgres.begin(read_only=True) as connection:
        return outbox.owes(connection, store.tables, entry.record.id)


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
        #: What one call took in the last publication that is known; 0 before the first.
        self.call_seconds = 0.0

    def send(self, publication: int) -> None:
        """Publish an outbox row that has committed; waits while too many are under way."""
        if not self._failed:
            once = partial(publish, self._store, outbox_ids=[publication])
            self._pending.append(self._pool.submit(settled, once, Looks(under_way=True)))
        while self._pending and (len(self._pending) > AHEAD or self._pending[0].done()):
            self._settle()

    def wait(self) -> bool:
        """Whether everything sent is published."""
        while self._pending:
            self._settle()
        return not self._failed

    def _settle(self) -> None:
        try:
            self.call_seconds = self._pending.popleft().result().call_seconds
        except QueuemonError:
            self._failed = True


@contextmanager
def _publishing(store: Store) -> Iterator[_Publisher]:
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="queuemon-publish") as pool:
        yield _Publisher(store, pool)
