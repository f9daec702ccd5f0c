"""A bulk retry with every promise against bare statements, its undo, and what others feel meanwhile."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
from sqlalchemy import text

from bench import bystander
from queuemon import actions
from queuemon.actions import turns
from queuemon.actions.turns import Turn
from queuemon.contract import PUBLISH_BATCH
from queuemon.engine import publisher
from queuemon.store import Store
from queuemon.store.outbox import Publication

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


def run(store: Store, database_url: str, total: int = 100_000, *, pairs: int = 3) -> None:
    """Jobs per second of both, interleaved on freshly failed jobs; longest Redis call and locks; bystander's p99."""
    print(
        f"\nretry of {total:,} failed jobs: plan and apply, with audit, undo copies, outbox and idempotent publication"
    )
    taken: list[Turn] = []
    client: Any = store.redis.client
    client.config_set("slowlog-log-slower-than", 200)
    client.config_set("slowlog-max-len", 10_000)
    ours: list[float] = []
    bare: list[float] = []
    calls: list[float] = []
    with _noted(taken):
        for pair in range(pairs):
            for which in ("ours", "bare") if pair % 2 == 0 else ("bare", "ours"):
                _fresh(store, total)
                client.slowlog_reset()
                started = time.perf_counter()
                done = _ours(store)[0] if which == "ours" else _plain(store, database_url)
                rate = done / (time.perf_counter() - started)
                (ours if which == "ours" else bare).append(rate)
                if which == "ours":
                    calls += _calls(client)
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    held, load = [turn.held_seconds * 1_000 for turn in taken], os.getloadavg()[0]
    print(f"  {statistics.median(ours):9,.0f} jobs/s with every promise, each {', '.join(f'{r:,.0f}' for r in ours)}")
    print(f"  {statistics.median(bare):9,.0f} jobs/s bare: one UPDATE … RETURNING, RPUSH of 1,000 a command")
    print(f"  {ratio:9.2f} ratio, median of {pairs} pairs; load average {load:.1f}")
    print(f"  {_three(calls)} longest Redis call in the server, of {len(calls):,} (SLOWLOG)")
    print(f"  {_three(_alone(store))} the same calls when nothing else runs")
    print(f"  {_three(held)} longest hold of a chunk's row locks, up to its commit, of {len(held):,}")
    _fresh(store, total)
    done, action = _ours(store)
    started = time.perf_counter()
    undone = actions.apply(store, actions.plan(store, "undo", action), reason="bench").done
    print(f"  {undone / (time.perf_counter() - started):9,.0f} jobs/s undone, of {done:,}")
    _beside(store, database_url, total, pairs)


def _beside(store: Store, url: str, total: int, pairs: int) -> None:
    """The bystander's p99 alone, beside ours and beside the bare retry, in turn; ratios of the same round."""
    found: list[tuple[float, float, float]] = []
    for _ in range(pairs):
        _fresh(store, total)
        alone = bystander.p99(url, lambda: time.sleep(3))
        ours = bystander.p99(url, lambda: _ours(store))
        _fresh(store, total)
        found.append((alone, ours, bystander.p99(url, lambda: _plain(store, url))))
    alone, ours, bare = (statistics.median(values) for values in zip(*found, strict=True))
    print(
        f"  {alone:9.2f} ms p99 of a bystander's cycle (insert, claim, complete; {bystander.CLIENTS} processes) alone"
    )
    for name, ms, n in (("the retry", ours, 1), ("the bare one", bare, 2)):
        ratio = statistics.median(values[n] / values[0] for values in found)
        each = ", ".join(f"{values[n] / values[0]:.2f}" for values in found)
        print(f"  {ms:9.2f} ms beside {name}: {ratio:.2f} times, each {each}", flush=True)


def _three(ms: list[float]) -> str:
    """Longest, 99th percentile and median."""
    cuts = statistics.quantiles(ms, n=100)
    return f"{max(ms):9.1f} ms (p99 {cuts[98]:.1f}, median {cuts[49]:.1f})"


def _calls(client: Any) -> list[float]:
    """What each publishing script took in the server, ms: its own time, and any in which it was not scheduled."""
    entries = client.slowlog_get(10_000)
    return [entry["duration"] / 1_000 for entry in entries if entry["command"].startswith(b"EVALSHA")]


def _alone(store: Store, number: int = 100) -> list[float]:
    """The publishing script with elements of the same length, while PostgreSQL rests."""
    client: Any = store.redis.client
    client.flushdb()
    client.slowlog_reset()
    element = '{"pad":"' + "x" * 640 + '"}'
    for _ in range(number):
        some = [Publication(id=uuid4(), queue=_QUEUE, gen=1, element=element) for _ in range(PUBLISH_BATCH)]
        publisher.push(store, some)
    return _calls(client)


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


@contextmanager
def _noted(taken: list[Turn]) -> Iterator[None]:
    """Keep the turn of each chunk: it says how long the locks were held."""
    take = turns.take

    def noting(*given: Any, **options: Any) -> Turn:
        turn = take(*given, **options)
        taken.append(turn)
        return turn

    turns.take = noting
    try:
        yield
    finally:
        turns.take = take
