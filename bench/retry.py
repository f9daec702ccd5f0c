"""A bulk retry with every promise against bare statements, its undo, and what others feel meanwhile."""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import event, text

from queuemon import actions
from queuemon.store import Store

_QUEUE = "email-sending"
_FILL = (
    "INSERT INTO jobs (id, queue, payload, status, attempts, gen, created_at, finished_at, error_type, error_message)"
    " SELECT gen_random_uuid(), :queue, jsonb_build_object('campaign_id', n, 'pad', repeat('x', 400)), 'failed', 3, 2,"
    " now() - interval '1 hour', now() - interval '1 minute', 'SMTPError', 'connection refused'"
    " FROM generate_series(1, :total) AS n"
)
_BARE = (
    "UPDATE jobs SET status = 'waiting', attempts = 0, gen = gen + 1, run_at = now(), started_at = NULL,"
    " finished_at = NULL, error_type = NULL, error_message = NULL, updated_at = now()"
    " WHERE queue = %s AND status = 'failed' RETURNING id, gen, payload::text"
)
_CYCLE = (
    "INSERT INTO jobs (id, queue, payload) VALUES (gen_random_uuid(), 'bystander', '{}') RETURNING id",
    "UPDATE jobs SET status = 'active', started_at = now(), updated_at = now() WHERE id = %s AND status = 'waiting'",
    "UPDATE jobs SET status = 'completed', finished_at = now(), updated_at = now() WHERE id = %s",
)


def run(store: Store, database_url: str, total: int = 100_000, *, pairs: int = 3) -> None:
    """Jobs per second of both, interleaved on freshly failed jobs; longest Redis call and chunk; bystander's p99."""
    print(
        f"\nretry of {total:,} failed jobs: plan and apply, with audit, undo copies, outbox and idempotent publication"
    )
    chunks: list[float] = []
    _time_chunks(store, chunks)
    client: Any = store.redis.client
    client.config_set("slowlog-log-slower-than", 1_000)
    ours, bare, calls = [], [], []
    for pair in range(pairs):
        for which in ("ours", "bare") if pair % 2 == 0 else ("bare", "ours"):
            _fresh(store, total)
            client.slowlog_reset()
            started = time.perf_counter()
            done = _ours(store)[0] if which == "ours" else _plain(store, database_url)
            rate = done / (time.perf_counter() - started)
            (ours if which == "ours" else bare).append(rate)
            if which == "ours":
                calls += [entry["duration"] / 1_000 for entry in client.slowlog_get(128)]
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    print(f"  {statistics.median(ours):9,.0f} jobs/s with every promise, each {', '.join(f'{r:,.0f}' for r in ours)}")
    print(f"  {statistics.median(bare):9,.0f} jobs/s bare: one UPDATE … RETURNING, RPUSH of 1,000 a command")
    print(f"  {ratio:9.2f} ratio, median of {pairs} pairs")
    print(f"  {max(calls, default=0.0):9.1f} ms longest Redis call in the server (0.0: none over 1 ms)")
    print(f"  {max(chunks) * 1_000:9.1f} ms longest chunk statement, of {len(chunks)}")
    _fresh(store, total)
    done, action = _ours(store)
    started = time.perf_counter()
    undone = actions.apply(store, actions.plan(store, "undo", action), reason="bench").done
    print(f"  {undone / (time.perf_counter() - started):9,.0f} jobs/s undone, of {done:,}")
    _fresh(store, total)
    alone = _bystander(store, database_url, lambda: time.sleep(3))
    beside = _bystander(store, database_url, lambda: _ours(store))
    print(f"  {alone:9.2f} ms p99 of a bystander's cycle (insert, claim, complete; 2 clients) without the retry")
    print(f"  {beside:9.2f} ms with it: {beside / alone:.2f} times", flush=True)


def _fresh(store: Store, total: int) -> None:
    with store.postgres.begin(seconds=0) as connection:
        connection.execute(
            text("TRUNCATE jobs, job_logs, queuemon.job_deltas, queuemon.undo_jobs, queuemon.publications")
        )
        connection.execute(text("TRUNCATE queuemon.actions, queuemon.action_chunks, queuemon.action_events"))
        connection.execute(
            text("INSERT INTO job_queues (name) VALUES (:queue), ('bystander') ON CONFLICT DO NOTHING"),
            {"queue": _QUEUE},
        )
        connection.execute(text("SET LOCAL queuemon.bulk = 'on'"))
        connection.execute(text(_FILL), {"queue": _QUEUE, "total": total})
    store.redis.client.flushdb()
    with store.postgres.statement() as connection:
        connection.execute(text("VACUUM ANALYZE jobs"))
        connection.execute(text("CHECKPOINT"))


def _ours(store: Store) -> tuple[int, UUID]:
    plan = actions.plan(store, "retry", f"queue:{_QUEUE} status:failed")
    return actions.apply(store, plan, reason="bench").done, plan.id


def _plain(store: Store, url: str) -> int:
    client: Any = store.redis.client
    with psycopg.connect(url) as connection:
        rows = connection.execute(_BARE, (_QUEUE,)).fetchall()
        connection.commit()
    for first in range(0, len(rows), 1_000):
        some = rows[first : first + 1_000]
        client.rpush(
            store.settings.keys.queue_key(_QUEUE),
            *[f'{{"id":"{i}","gen":{gen},"queue":"{_QUEUE}","payload":{payload}}}' for i, gen, payload in some],
        )
    return len(rows)


def _time_chunks(store: Store, seconds: list[float]) -> None:
    """Note how long each chunk's statement takes: its rows are locked from there to the commit that follows."""

    def before(*given: Any) -> None:
        given[4].began = time.perf_counter()

    def after(*given: Any) -> None:
        statement, context = given[2], given[4]
        if "action_chunks" in statement and "INSERT INTO queuemon.undo_jobs" in statement:
            seconds.append(time.perf_counter() - context.began)

    event.listen(store.postgres.engine, "before_cursor_execute", before)
    event.listen(store.postgres.engine, "after_cursor_execute", after)


def _bystander(store: Store, url: str, meanwhile: Any) -> float:
    """The 99th percentile of a cycle of two clients while something else happens, in ms."""
    stop, took = threading.Event(), []

    def cycles() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not stop.is_set():
                started = time.perf_counter()
                (job,) = connection.execute(_CYCLE[0]).fetchone() or (None,)
                connection.execute(_CYCLE[1], (job,))
                connection.execute(_CYCLE[2], (job,))
                took.append((time.perf_counter() - started) * 1_000)

    threads = [threading.Thread(target=cycles) for _ in range(2)]
    for thread in threads:
        thread.start()
    meanwhile()
    stop.set()
    for thread in threads:
        thread.join()
    return statistics.quantiles(took, n=100)[98]
