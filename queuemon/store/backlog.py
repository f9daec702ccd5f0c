"""What a drain forecast needs beyond the timeline: the arrivals of past days, and who serves the queue; the workbench
asks."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from queuemon.schema.tables import Tables
from queuemon.store.timeline import ENDS

HALF_HOUR: Final = timedelta(minutes=30)


def arrivals(connection: Connection, t: Tables, queue: str, *, until: datetime, days: int) -> list[int]:
    """New jobs of a queue per half hour over the last whole days up to `until`, the oldest first; from the counters."""
    m = t.minutes.c
    since = until - timedelta(days=days)
    bucket = func.date_bin(HALF_HOUR, m.minute, since)
    rows = connection.execute(
        select(bucket, func.sum(m.n))
        .where(m.queue == queue, m.kind == "arrived", m.minute >= since, m.minute < until)
        .group_by(bucket)
    )
    counts = [0] * (48 * days)
    for at, n in rows:
        counts[min((at - since) // HALF_HOUR, len(counts) - 1)] += int(n)
    return counts


def known_days(connection: Connection, t: Tables, queue: str, *, until: datetime, most: int) -> int:
    """How many whole days back the arrivals of a queue are known, at most `most`."""
    m = t.minutes.c
    first = connection.execute(select(func.min(m.minute)).where(m.queue == queue, m.kind == "arrived")).scalar()
    return 0 if first is None else min(most, (until - first + timedelta(minutes=5)) // timedelta(days=1))


def served_by(connection: Connection, t: Tables, queue: str, *, since: datetime) -> list[int]:
    """Attempts that each worker ended in a queue since a moment, the busiest first."""
    logs = t.job_logs.c
    n = func.count().label("n")
    rows = select(n).where(logs.queue == queue, logs.finished_at >= since, logs.kind.in_(ENDS))
    named = rows.where(logs.worker_id.is_not(None)).group_by(logs.worker_id).order_by(n.desc())
    return [int(row[0]) for row in connection.execute(named.limit(1_000))]
