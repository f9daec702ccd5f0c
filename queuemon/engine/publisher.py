"""Publication: what PostgreSQL committed goes to Redis; producers and actions do it at once, the relay the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from queuemon.contract import MARKER_TTL_SECONDS, PUBLISH_BATCH, WAKE_TOKENS
from queuemon.store import Store, outbox
from queuemon.store.outbox import Publication

#: Jobs per transaction of a publisher (about).
JOBS_PER_TRANSACTION = 5_000

#: Characters of elements per call of the script: large payloads travel in smaller batches.
CALL_CHARACTERS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a publisher did."""

    #: Elements pushed; jobs already published or no longer waiting are not counted.
    jobs: int
    #: Outbox rows done with.
    rows: int
    #: Whether due rows may be left (the limit was reached).
    more: bool
    #: Seconds that one call of the script took, as it was felt here; 0 where there was none.
    call_seconds: float = field(default=0.0, compare=False)


def publish(
    store: Store, *, outbox_ids: Sequence[int] | None = None, limit: int = 1_000, seconds: float = math.inf
) -> Published:
    """Publish the named outbox rows, or up to `limit` due ones, oldest first, beginning no transaction after `seconds`.

    Safe to repeat and to run side by side.

    Each transaction reads the jobs again and deletes the outbox rows, pushes what is still waiting and due, and
    commits after Redis has answered: a crash in between publishes again, which the markers make harmless. Raises
    StoreError when a store is away; the rows then stay for the relay.
    """
    if outbox_ids is not None:
        return _transaction(store, outbox_ids) if outbox_ids else Published(jobs=0, rows=0, more=False)
    jobs = rows = 0
    end = time.monotonic() + seconds
    while rows < limit and time.monotonic() < end:
        done = _transaction(store, None, rows=min(200, limit - rows))
        jobs, rows = jobs + done.jobs, rows + done.rows
        if done.rows == 0:
            return Published(jobs=jobs, rows=rows, more=False)
    return Published(jobs=jobs, rows=rows, more=True)


def _transaction(store: Store, outbox_ids: Sequence[int] | None, *, rows: int = 0) -> Published:
    with store.postgres.begin() as connection:
        if outbox_ids is None:
            outbox_ids = outbox.lock_due(connection, store.tables, rows=rows, jobs=JOBS_PER_TRANSACTION)
        if not outbox_ids:
            return Published(jobs=0, rows=0, more=False)
        jobs, call_seconds = push(store, outbox.take(connection, store.tables, outbox_ids))
    return Published(jobs=jobs, rows=len(outbox_ids), more=False, call_seconds=call_seconds)


def push(store: Store, publications: Sequence[Publication]) -> tuple[int, float]:
    """Send jobs to Redis, at most PUBLISH_BATCH per call of the script, in order within each queue.

    Returns how many were new, and the seconds that this thread waited for one call (the mean; 0 where there was none).
    """
    by_queue: dict[str, list[Publication]] = {}
    for publication in publications:
        by_queue.setdefault(publication.queue, []).append(publication)
    keys = store.redis.keys
    calls: list[tuple[list[str], list[str | int]]] = []
    for queue, found in by_queue.items():
        for some in _batches(found):
            arguments: list[str | int] = [queue, MARKER_TTL_SECONDS, WAKE_TOKENS]
            for publication in some:
                arguments += [publication.gen, publication.element]
            markers = [keys.marker_key(str(publication.id)) for publication in some]
            names = [keys.queue_key(queue), keys.wake, keys.paused_key(queue), keys.parked_key(queue)]
            calls.append(([*names, *markers], arguments))
    began, worked = time.monotonic(), time.thread_time()
    jobs = sum(int(pushed) for pushed in store.redis.run_many("publish", calls))
    # To write the calls takes this thread longer than they take Redis: what counts is the time that it was idle.
    waited = time.monotonic() - began - (time.thread_time() - worked)
    return jobs, max(0.0, waited) / max(1, len(calls))


def _batches(publications: Sequence[Publication]) -> Iterator[list[Publication]]:
    batch: list[Publication] = []
    size = 0
    for publication in publications:
        if batch and (len(batch) == PUBLISH_BATCH or size + len(publication.element) > CALL_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(publication)
        size += len(publication.element)
    if batch:
        yield batch
