"""A timeline over N jobs of seven days against the bare grouped reads of the same rows."""

from __future__ import annotations

from sqlalchemy import text

from bench import data
from bench.measure import compare
from queuemon.workbench import Workbench

#: One attempt per job that has ended, as our workers write it.
_LOGS = """
INSERT INTO job_logs (job_id, queue, kind, gen, attempt, status, worker_id, started_at, finished_at, duration_ms,
                      error_type, error_message, due_at)
SELECT id, queue, 'attempt', gen, attempts, status, worker_id, started_at, finished_at, 1000, error_type, error_message,
       run_at
FROM jobs WHERE status IN ('completed', 'failed') ORDER BY finished_at
"""

#: The least that must be read: every attempt once by minute and state, what waits, the arrivals.
_BARE = (
    "SELECT queue, status, date_trunc('hour', finished_at), count(*) FROM job_logs"
    " WHERE finished_at > now() - interval '7 days' GROUP BY 1, 2, 3",
    "SELECT queue, date_trunc('hour', run_at), count(*) FROM jobs WHERE status = 'waiting' GROUP BY 1, 2",
    "SELECT queue, date_trunc('hour', minute), sum(n) FROM queuemon.minutes WHERE kind = 'arrived'"
    " AND minute > now() - interval '7 days' GROUP BY 1, 2",
)


def run(wb: Workbench, total: int) -> None:
    """Fill, then measure seven days, one day and an hour, and how long jobs took; print figures."""
    data.fill(wb.store, total)
    with wb.store.postgres.begin(seconds=0) as connection:
        connection.execute(text(_LOGS))
    with wb.store.postgres.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM (ANALYZE) job_logs"))
        connection.invalidate()

    def bare() -> None:
        with wb.store.postgres.begin(seconds=60) as connection:
            for statement in _BARE:
                connection.execute(text(statement)).all()

    compare(
        f"timeline, {total:,} jobs, 7 days", lambda: wb.timeline(since="167h"), "bare grouped reads", bare, rounds=7
    )
    minutes = lambda: wb.timeline(since="167h", bucket=60)  # noqa: E731
    compare(f"timeline, {total:,} jobs, 7 days by the minute", minutes, "bare grouped reads", bare, rounds=3)
    hour = lambda: wb.timeline(since="1h")  # noqa: E731
    compare(f"timeline, {total:,} jobs, the last hour", hour, "bare grouped reads (7 days)", bare, rounds=7)
    week = lambda: wb.durations(since="167h")  # noqa: E731
    compare(f"durations, {total:,} jobs, 7 days", week, "bare grouped reads", bare, rounds=3)
    lately = lambda: wb.durations(since="1h")  # noqa: E731
    compare(f"durations, {total:,} jobs, the last hour", lately, "bare grouped reads (7 days)", bare, rounds=3)
