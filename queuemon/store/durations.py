"""How long jobs took from created to done, per bucket of time; `analysis/durations.py` makes the value of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Double,
    Integer,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
    true,
)

from queuemon.contract import JobStatus
from queuemon.schema.tables import TIMESTAMPTZ, Tables

#: A statement of a reading may take this long.
SECONDS: Final = 15.0

#: Completed jobs that a reading looks at.
JOBS: Final = 30_000

#: The quantiles that are read.
QUANTILES: Final = (0.5, 0.95, 0.99)


def completed(connection: Connection, t: Tables, *, queue: str | None, since: datetime, until: datetime) -> int:
    """Jobs that completed, by the counters per minute: a few thousand rows for a week of one queue."""
    m, d = t.minutes.c, t.job_deltas.c
    folded = select(func.coalesce(func.sum(m.n), 0)).where(m.kind == "completed", m.minute >= since, m.minute < until)
    fresh = select(func.coalesce(func.sum(d.n), 0)).where(d.finished >= since, d.finished < until)
    if queue is not None:
        folded, fresh = folded.where(m.queue == queue), fresh.where(d.queue == queue)
    return sum(int(connection.execute(part).scalar_one()) for part in (folded, fresh))


def quantiles(
    connection: Connection, t: Tables, slices: Sequence[tuple[datetime, datetime]], *, queue: str | None
) -> dict[int, tuple[int, tuple[float, ...]]]:
    """Number of the slice → (completed jobs in it, seconds from created to done at each of `QUANTILES`).

    Since when a job exists is asked of its row; of one that was deleted since, its wait began when it came due. Reads
    the log by its BRIN index and one row per job: 30,000 take about 0.2 s.
    """
    logs, jobs = t.job_logs.c, t.jobs.c
    numbers = list(range(len(slices)))
    spans = (
        func.unnest(
            bindparam("numbers", numbers, ARRAY(Integer)),
            bindparam("starts", [start for start, _ in slices], ARRAY(TIMESTAMPTZ)),
            bindparam("ends", [end for _, end in slices], ARRAY(TIMESTAMPTZ)),
        )
        .table_valued(column("n", Integer), column("start", TIMESTAMPTZ), column("end", TIMESTAMPTZ), name="spans")
        .render_derived()
    )
    # Row by row: a join could be planned as a walk over all jobs.
    created = select(jobs.created_at).where(jobs.id == logs.job_id).correlate(t.job_logs).scalar_subquery()
    since = func.coalesce(created, logs.due_at, logs.started_at, logs.finished_at)
    took = func.date_part("epoch", logs.finished_at - since, type_=Double)
    inside = [
        logs.kind == "attempt",
        logs.status == JobStatus.COMPLETED.value,
        logs.finished_at >= spans.c.start,
        logs.finished_at < spans.c.end,
    ]
    if queue is not None:
        inside.append(logs.queue == queue)
    found = (
        select(
            spans.c.n,
            cast(func.count(), BigInteger),
            func.percentile_cont(literal(list(QUANTILES), ARRAY(Double))).within_group(took),
        )
        .select_from(spans.join(t.job_logs, true()))
        .where(*inside)
        .group_by(spans.c.n)
    )
    return {int(n): (int(k), tuple(map(float, values))) for n, k, values in connection.execute(found)}
