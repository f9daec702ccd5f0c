"""What the counters cost the writers: insert → active → completed with and without the triggers, interleaved."""

from __future__ import annotations

import multiprocessing
import statistics
import threading
import time

import psycopg
from sqlalchemy import text

from queuemon.store import Store

_INSERT = "INSERT INTO jobs (id, queue, payload) VALUES (gen_random_uuid(), %s, %s) RETURNING id"
_CLAIM = (
    "UPDATE jobs SET status = 'active', attempts = attempts + 1, started_at = now(), heartbeat_at = now(),"
    " worker_id = 'bench', updated_at = now() WHERE id = %s AND status = 'waiting'"
)
_FINISH = "UPDATE jobs SET status = 'completed', finished_at = now(), updated_at = now() WHERE id = %s"
_PAYLOAD = '{"campaign_id": 1, "pad": "' + "x" * 400 + '"}'


def run(store: Store, database_url: str, *, pairs: int = 5, seconds: float = 6.0) -> None:
    """Median overhead over interleaved pairs, at 2 and at 8 clients; a folder rolls up in the background meanwhile."""
    print("\ncost of the counters to the writers, one cycle = insert, claim, complete (three commits)")
    for clients in (2, 8):
        _round(store, database_url, clients, 2.0, triggers=True)
        overheads, rates = [], []
        for pair in range(pairs):
            order = (True, False) if pair % 2 else (False, True)
            rate = {on: _round(store, database_url, clients, seconds, triggers=on) for on in order}
            overheads.append(rate[False] / rate[True] - 1)
            rates.append(rate)
        with_counters = statistics.median(r[True] for r in rates)
        without = statistics.median(r[False] for r in rates)
        print(
            f"{clients} clients: {with_counters:,.0f} cycles/s with counters, {without:,.0f} without;"
            f" cost per cycle: median {statistics.median(overheads):+.1%},"
            f" each pair {', '.join(f'{o:+.1%}' for o in overheads)}",
            flush=True,
        )


def _round(store: Store, url: str, clients: int, seconds: float, *, triggers: bool) -> float:
    """Cycles per second of `clients` processes for `seconds`."""
    with store.postgres.begin(seconds=0) as connection:
        connection.execute(text("TRUNCATE jobs, queuemon.job_deltas"))
        connection.execute(text("INSERT INTO job_queues (name) VALUES ('bench') ON CONFLICT DO NOTHING"))
        connection.execute(text(f"ALTER TABLE jobs {'ENABLE' if triggers else 'DISABLE'} TRIGGER USER"))
    with store.postgres.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))
    stop = threading.Event()
    folder = threading.Thread(target=_fold, args=(store, stop))
    folder.start()
    context = multiprocessing.get_context("spawn")
    go, done = context.Event(), context.Queue()
    workers = [context.Process(target=_cycles, args=(url, seconds, go, done)) for _ in range(clients)]
    for worker in workers:
        worker.start()
    for _ in workers:
        done.get()  # ready
    go.set()
    total = sum(done.get() for _ in workers)
    for worker in workers:
        worker.join()
    stop.set()
    folder.join()
    return total / seconds


def _fold(store: Store, stop: threading.Event) -> None:
    from queuemon.store import rollups

    while not stop.wait(1.0):
        with store.postgres.begin() as connection:
            rollups.fold_counts(connection, store.tables)


def _cycles(url: str, seconds: float, go: object, done: object) -> None:
    with psycopg.connect(url, autocommit=True, prepare_threshold=1) as connection:
        for _ in range(20):
            _cycle(connection)
        done.put(0)  # type: ignore[attr-defined]
        go.wait()  # type: ignore[attr-defined]
        end, number = time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            _cycle(connection)
            number += 1
    done.put(number)  # type: ignore[attr-defined]


def _cycle(connection: psycopg.Connection) -> None:
    row = connection.execute(_INSERT, ("bench", _PAYLOAD)).fetchone()
    assert row is not None
    connection.execute(_CLAIM, row)
    connection.execute(_FINISH, row)
