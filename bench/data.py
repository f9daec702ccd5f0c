"""Fill a bench database with N jobs of about 500 bytes, as fast as PostgreSQL can make them up."""

from __future__ import annotations

import time

from sqlalchemy import Connection, text

from queuemon.store import Store

#: Queues and the share of all jobs each holds.
QUEUES = ("email-sending:high", "email-sending", "email-sending:low", "analytics:daily-aggregate", "warmup:process")

_INDEXES = (
    "jobs_waiting",
    "jobs_expiring",
    "jobs_active",
    "jobs_failed",
    "jobs_failed_id",
    "jobs_expired",
    "jobs_completed",
)

#: 1.5 % failed, 0.1 % waiting (a tenth of them scheduled), 20 active, the rest completed over seven days up to now.
_ROWS = """
INSERT INTO jobs (id, queue, payload, status, attempts, created_at, updated_at, run_at, expires_at, started_at,
                  finished_at, heartbeat_at, worker_id, error_type, error_message)
SELECT
    (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(i % 4096), 3, '0')
        || '8' || lpad(to_hex(i), 15, '0'))::uuid,
    (CAST(:queues AS text[]))[1 + i % CAST(:n AS int)],
    jsonb_build_object('campaign_id', i % 20000, 'template', 'spring-' || i % 40, 'region', 'eu-west-' || i % 3,
                       'recipient', 'user' || i || '@example.com', 'tags', jsonb_build_array('a', 'b'),
                       'pad', repeat('x', 280)),
    status, 1, at, at, at, at + interval '24 hours',
    CASE WHEN status IN ('completed', 'failed', 'active') THEN at + interval '1 s' END,
    CASE WHEN status IN ('completed', 'failed') THEN at + interval '2 s' END,
    CASE WHEN status = 'active' THEN now() END,
    CASE WHEN status IN ('completed', 'failed', 'active') THEN 'w' || i % 9 END,
    CASE WHEN status = 'failed' THEN 'ZeroDivisionError' END,
    CASE WHEN status = 'failed' THEN 'Division by zero in MRR calculation for account ' || i END
FROM (
    SELECT i, CASE
        WHEN i > :total - 20 THEN 'active' WHEN i % 1000 = 999 THEN 'waiting' WHEN i % 200 < 3 THEN 'failed'
        ELSE 'completed' END AS status,
        now() - interval '7 days' + interval '7 days' * (i::double precision / :total) - interval '3 s' AS at
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS i
) AS made
"""


def queue_names(number: int) -> list[str]:
    """The five queues of the specification, and as many more as are asked for."""
    return [*QUEUES, *(f"bench-{n}" for n in range(number - len(QUEUES)))][:number]


def fill(store: Store, total: int, *, queues: int = 5) -> float:
    """Empty the database and load `total` jobs; returns the seconds it took. Indexes are built afterwards."""
    started = time.perf_counter()
    names = queue_names(queues)
    with store.postgres.begin(seconds=0) as connection:
        connection.execute(text("TRUNCATE jobs, job_logs, job_queues, queuemon.job_deltas, queuemon.minutes"))
        connection.execute(text("DELETE FROM queuemon.job_counts"))
        for name in names:
            connection.execute(text("INSERT INTO job_queues (name) VALUES (:name)"), {"name": name})
        definitions = _drop_indexes(connection)
        connection.execute(text("ALTER TABLE jobs DISABLE TRIGGER USER"))
        for first in range(1, total + 1, 1_000_000):
            connection.execute(
                text(_ROWS),
                {"queues": names, "n": len(names), "first": first, "last": min(first + 999_999, total), "total": total},
            )
        for definition in definitions:
            connection.execute(text(definition))
        connection.execute(text("ALTER TABLE jobs ENABLE TRIGGER USER"))
        connection.execute(
            text(
                "INSERT INTO queuemon.job_counts SELECT queue,"
                " CASE WHEN status IN ('waiting', 'active') THEN 'open' ELSE status END, count(*)"
                " FROM jobs GROUP BY 1, 2"
            )
        )
        connection.execute(
            text(
                "INSERT INTO queuemon.minutes SELECT queue, 'completed', date_trunc('minute', finished_at), count(*)"
                " FROM jobs WHERE status = 'completed' GROUP BY 1, 3"
            )
        )
        connection.execute(
            text(
                "INSERT INTO queuemon.minutes SELECT queue, 'attempt-' || status, date_trunc('minute', finished_at),"
                " count(*) FROM jobs WHERE status IN ('completed', 'failed') GROUP BY 1, 2, 3"
            )
        )
        connection.execute(
            text(
                "INSERT INTO queuemon.minutes SELECT queue, 'arrived', date_trunc('minute', created_at), count(*)"
                " FROM jobs GROUP BY 1, 3"
            )
        )
    with store.postgres.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM (ANALYZE) jobs"))
        connection.execute(text("ANALYZE"))
        connection.invalidate()
    return time.perf_counter() - started


def _drop_indexes(connection: Connection) -> list[str]:
    """Drop the secondary indexes of jobs; returns the statements that bring them back."""
    found = connection.execute(
        text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'jobs' AND indexname = ANY(:names)"),
        {"names": list(_INDEXES)},
    ).all()
    for name, _ in found:
        connection.execute(text(f'DROP INDEX "{name}"'))
    return [definition for _, definition in found]
