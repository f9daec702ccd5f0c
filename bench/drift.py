"""The comparison of the stores at 1 M list elements and 1 M waiting rows: against both raw reads, with its memory."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from sqlalchemy import text

from bench.measure import milliseconds
from queuemon.drift import detect
from queuemon.store import Store

QUEUE = "drift-bench"

_ROWS = """
INSERT INTO jobs (id, queue, payload, created_at, run_at, expires_at)
SELECT (lpad(to_hex(1700000000000 + i), 12, '0') || '7000' || '8' || lpad(to_hex(i * 7919 % 1000003), 15, '0'))::uuid,
    :queue, jsonb_build_object('campaign_id', i % 20000, 'recipient', 'user' || i || '@example.com',
                               'pad', repeat('x', 200)),
    now(), now() - interval '1 s', now() + interval '1 day'
FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS i
"""

_ELEMENTS = """
SELECT json_build_object('id', id, 'gen', gen, 'queue', queue, 'payload', payload, 'attempts', attempts,
    'max_attempts', max_attempts, 'created_at', created_at, 'expires_at', expires_at)::text
FROM jobs WHERE queue = :queue ORDER BY run_at, id
"""


def fill(store: Store, total: int) -> None:
    """`total` waiting jobs of one queue, and their elements and markers in Redis."""
    client: Any = store.redis.client
    client.flushdb()
    with store.postgres.begin(seconds=0) as connection:
        connection.execute(text("TRUNCATE jobs, job_queues, queuemon.job_counts, queuemon.job_deltas"))
        connection.execute(text("INSERT INTO job_queues (name) VALUES (:queue)"), {"queue": QUEUE})
        connection.execute(text("SELECT set_config('queuemon.bulk', 'on', true)"))
        for first in range(1, total + 1, 250_000):
            last = min(first + 249_999, total)
            connection.execute(text(_ROWS), {"queue": QUEUE, "first": first, "last": last})
    with store.postgres.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM (ANALYZE) jobs"))
        connection.invalidate()
    with store.postgres.begin(seconds=0) as connection:
        rows = connection.execution_options(stream_results=True, yield_per=1_000).execute(
            text(_ELEMENTS), {"queue": QUEUE}
        )
        for some in rows.partitions():
            pipe = client.pipeline(transaction=False)
            pipe.rpush(store.redis.keys.queue_key(QUEUE), *[row[0] for row in some])
            for row in some:
                pipe.hset(store.redis.keys.marker_key(row[0][9:45]), mapping={"gen": 1, "queue": QUEUE})
            pipe.execute()


def raw_redis(store: Store) -> None:
    """The whole list in windows of 1,000, thrown away."""
    client: Any = store.redis.client
    key = store.redis.keys.queue_key(QUEUE)
    for first in range(0, client.llen(key), 1_000):
        client.lrange(key, -(first + 1_000), -(first + 1))


def raw_postgres(store: Store) -> None:
    """Ids and generations of all waiting rows by one bare COPY, thrown away."""
    with store.postgres.begin(seconds=0) as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        query = f"COPY (SELECT id, gen FROM jobs WHERE queue = '{QUEUE}' AND status = 'waiting') TO STDOUT"
        with driver.cursor() as cursor, cursor.copy(query) as rows:
            for _ in rows:
                pass


def run(store: Store, total: int) -> None:
    """Fill, measure the raw reads and the comparison in turn, then with drift planted; print figures."""
    fill(store, total)
    client: Any = store.redis.client
    client.config_set("slowlog-log-slower-than", 1_000)
    for name, wrong in (("nothing wrong", 0), ("300 disagreements", 100)):
        _plant(store, wrong)
        ours, lists, rows = [], [], []
        client.slowlog_reset()
        for _ in range(3):
            lists += milliseconds(lambda: raw_redis(store), rounds=1, warm=0)
            rows += milliseconds(lambda: raw_postgres(store), rounds=1, warm=0)
            started = time.perf_counter()
            report = detect.compare(store, wait_seconds=0.0)
            ours.append((time.perf_counter() - started) * 1000)
        bare = sorted(lists)[1] + sorted(rows)[1]
        mine = sorted(ours)[1]
        slow = max((entry["duration"] for entry in client.slowlog_get(128)), default=0) / 1000
        print(
            f"comparison, {total:,} elements + {total:,} rows, {name:<18} {mine:9.0f} ms   raw: Redis"
            f" {sorted(lists)[1]:.0f} + PostgreSQL {sorted(rows)[1]:.0f} ms   ratio {mine / bare:5.2f}"
        )
        print(
            f"    found {report.count:,} ({report.summary[:90]}); longest Redis call {slow:.1f} ms (in the server),"
            f" {report.longest_redis_ms:.1f} ms (there and back)"
        )
    print(f"peak memory of a process that compares: {_memory(store)}")


def _plant(store: Store, n: int) -> None:
    client: Any = store.redis.client
    key = store.redis.keys.queue_key(QUEUE)
    if not n:
        return
    with store.postgres.begin(seconds=0) as connection:
        for status, offset in (("completed", 20_000), ("failed", 100_000)):
            connection.execute(
                text(
                    "UPDATE jobs SET status = :status WHERE id IN (SELECT id FROM jobs WHERE queue = :queue"
                    " AND status = 'waiting' ORDER BY run_at, id OFFSET :offset LIMIT :n)"
                ),
                {"status": status, "queue": QUEUE, "offset": offset, "n": n},
            )
    for _ in range(n):
        client.lset(key, client.llen(key) * 7 // 10 + client.incr("bench:n"), "poison")


def _memory(store: Store) -> str:
    """Resident memory of a fresh process before and at the peak of one comparison."""
    code = (
        "import re\nfrom pathlib import Path\nfrom queuemon import config\nfrom queuemon.store import Store\n"
        "from queuemon.drift import detect\nstore = Store(config.load())\n"
        "peak = lambda: re.search(r'VmHWM:\\s*(.*)', Path('/proc/self/status').read_text())[1]\n"
        "before = peak()\ndetect.compare(store, wait_seconds=0.0)\nprint(before, 'before,', peak(), 'at the peak')"
    )
    settings = store.settings
    environment = {
        "QUEUEMON_DATABASE_URL": settings.database_url.get_secret_value(),
        "QUEUEMON_REDIS_URL": settings.redis_url.get_secret_value(),
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()
