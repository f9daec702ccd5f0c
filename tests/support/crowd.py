"""Workers of another make (L1) that take many jobs at a time: `python -m tests.support.crowd FOLDER`.

They claim by generation and state, fence what they write, and keep the same book of starts as `tests.support.load`;
a batch costs them little more than a job costs ours, so a small machine carries a busy system.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from queuemon import config
from queuemon.contract import decode_element
from queuemon.engine.process import stop_on_signals
from queuemon.store import Store, claims
from queuemon.store.claims import Failure, Lease
from tests.support.ledger import Book
from tests.support.load import QUEUES

WORKER = "another-make"
#: Jobs that are taken at a time, and the pause after a batch, in which our workers get their share.
BATCH, PAUSE_SECONDS = 50, 0.02
FAILURE = Failure(error_type="RuntimeError", message="fails by order", stack_trace="")

_THESE = "unnest(CAST(:ids AS uuid[]), CAST(:gens AS int[])) AS e(id, gen)"
_LOCK = text(f"SELECT j.id FROM jobs j JOIN {_THESE} ON j.id = e.id ORDER BY j.id FOR UPDATE OF j")
_CLAIM = text(
    "UPDATE jobs SET status = 'active', attempts = attempts + 1, started_at = now(), heartbeat_at = now(),"
    f" worker_id = :worker, updated_at = now() FROM {_THESE}"
    " WHERE jobs.id = e.id AND jobs.gen = e.gen AND status = 'waiting' AND run_at <= now() AND expires_at > now()"
    " AND NOT (SELECT paused FROM job_queues q WHERE q.name = jobs.queue)"
    " RETURNING jobs.id, jobs.gen, attempts, payload"
)
_DONE = text(
    "WITH done AS (UPDATE jobs SET status = 'completed', finished_at = clock_timestamp(), updated_at = now()"
    f" FROM {_THESE} WHERE jobs.id = e.id AND jobs.gen = e.gen AND status = 'active' AND worker_id = :worker"
    " RETURNING jobs.*)"
    " INSERT INTO job_logs (job_id, queue, kind, gen, attempt, status, worker_id, started_at, finished_at)"
    " SELECT id, queue, 'attempt', gen, attempts, 'completed', worker_id, started_at, finished_at FROM done"
)
_STILL = text(
    f"SELECT j.id FROM jobs j JOIN {_THESE} ON j.id = e.id AND j.gen = e.gen"
    " WHERE status = 'waiting' AND run_at <= now() AND expires_at > now()"
)


def work(folder: Path) -> None:
    """Take and run jobs until SIGTERM."""
    store, book, stop = Store(config.load()), Book(folder, "start"), stop_on_signals()
    while not stop.is_set():
        for queue in QUEUES:
            _batch(store, book, queue)
        stop.wait(PAUSE_SECONDS)
    store.close()


def _batch(store: Store, book: Book, queue: str) -> None:
    key = store.redis.keys.queue_key(queue)
    with store.redis.call() as client:
        popped: Any = client.lpop(key, BATCH)
    taken = {(UUID(e.id), e.gen or 0): raw for raw in popped or [] if (e := decode_element(raw)) is not None}
    if not taken:
        return
    with store.postgres.begin() as connection:
        connection.execute(_LOCK, _named(taken))  # in the order in which everybody locks rows
        claimed = {(row.id, row.gen): row for row in connection.execute(_CLAIM, _named(taken) | {"worker": WORKER})}
    at = time.time()
    book.write({"id": str(i), "gen": gen, "at": at, "worker": WORKER} for i, gen in claimed)
    bad = [key for key, row in claimed.items() if row.attempts <= row.payload["failures"]]
    _give_back(store, queue, {key: raw for key, raw in taken.items() if key not in claimed})
    with store.postgres.begin() as connection:
        _end(connection, store, list(claimed), bad)
    markers = store.redis.keys.marker_key
    hand = store.redis.keys.processing_key(WORKER, queue)
    store.redis.run_many("finish", [([hand, markers(str(i))], [taken[i, gen], gen]) for i, gen in claimed])


def _end(connection: Connection, store: Store, claimed: list[tuple[UUID, int]], bad: list[tuple[UUID, int]]) -> None:
    """Write the outcomes; what fails does so as our workers' jobs do."""
    connection.execute(_LOCK, _named(claimed))
    for job_id, gen in bad:
        lease = Lease(job_id=job_id, gen=gen, worker_id=WORKER)
        claims.fail(connection, store.tables, lease, FAILURE, backoff_seconds=0.2)
    well = [key for key in claimed if key not in set(bad)]
    connection.execute(_DONE, _named(well) | {"worker": WORKER})


def _give_back(store: Store, queue: str, refused: dict[tuple[UUID, int], bytes]) -> None:
    """What still waits (its queue is, or was, paused) goes back to the pop end; the rest is over."""
    if not refused:
        return
    with store.postgres.begin() as connection:
        still = set(connection.execute(_STILL, _named(refused)).scalars())
    if back := [raw for (job_id, _), raw in refused.items() if job_id in still]:
        with store.redis.call() as client:
            client.lpush(store.redis.keys.queue_key(queue), *reversed(back))


def _named(jobs: Iterable[tuple[UUID, int]]) -> dict[str, Any]:
    """Ids and generations as the statements take them."""
    pairs = list(jobs)
    return {"ids": [str(i) for i, _ in pairs], "gens": [gen for _, gen in pairs]}


if __name__ == "__main__":
    work(Path(sys.argv[1]))
