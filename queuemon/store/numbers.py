"""The numbers of the queues: the snapshot behind every screen, gauge and alert, and counts by state.

Costs are for 10 million jobs, measured by `make bench`. Every read runs under the statement timeout.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, and_, case, func, literal, select
from sqlalchemy import text as sql_text
from sqlalchemy.engine import RowMapping
from sqlalchemy.sql.elements import ColumnElement

from queuemon.config import Settings
from queuemon.contract import JobStatus, Priority
from queuemon.model import Certainty, PostgresHalf, Queue, QueueStats, WorkerInfo
from queuemon.schema.tables import Tables

#: Scheduled jobs are counted exactly up to this many per queue.
SCHEDULED_CAP = 100_000


def clock(connection: Connection) -> datetime:
    """PostgreSQL's clock."""
    value: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return value


def queues(connection: Connection, t: Tables) -> tuple[Queue, ...]:
    """All queues, most urgent first, then by name."""
    rows = connection.execute(select(t.job_queues)).mappings()
    return tuple(sorted((queue_from(row) for row in rows), key=lambda q: (q.priority.rank, q.name)))


def queue_from(row: RowMapping) -> Queue:
    """A row of `job_queues` as a value."""
    return Queue(
        name=row["name"],
        priority=Priority(row["priority"]),
        paused=row["paused"],
        pause_epoch=row["pause_epoch"],
        paused_at=row["paused_at"],
        target_seconds=row["target_seconds"],
        concurrency=row["concurrency"],
        max_attempts=row["max_attempts"],
    )


def snapshot(connection: Connection, t: Tables, settings: Settings) -> PostgresHalf:
    """Every queue's numbers from one view of the data; exact, whether or not a relay folds the counters.

    Three statements in one REPEATABLE READ transaction. 5 queues at 10 M jobs: about 5 ms, 200 queues:
    about 50 ms, since counts come from the counters, "scheduled", "oldest" and "stuck" from partial indexes.
    """
    connection.execute(sql_text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    numbers = _numbers(t, settings.lease_seconds, settings.thresholds.failure_window_seconds)
    rows = connection.execute(numbers).mappings().all()
    workers = connection.execute(
        select(t.workers, (t.workers.c.heartbeat_at > _ago(settings.lease_seconds)).label("alive")).order_by(
            t.workers.c.kind, t.workers.c.home, t.workers.c.id
        )
    ).mappings()
    alive = tuple(worker_from(row) for row in workers)
    p = t.publications
    due, lag, now = connection.execute(
        select(
            func.count(),
            func.coalesce(func.extract("epoch", func.now() - func.min(p.c.due_at)), 0.0),
            func.now(),
        ).where(p.c.due_at <= func.now())
    ).one()
    by_home: dict[str, int] = {}
    for worker in alive:
        if worker.alive and worker.kind == "worker":
            by_home[worker.home] = by_home.get(worker.home, 0) + 1
    stats = [_stats_from(row, by_home, settings) for row in rows]
    stats.sort(key=lambda s: (s.queue.priority.rank, s.name))
    return PostgresHalf(
        queues=tuple(stats),
        workers=alive,
        clock=now,
        publications_due=due,
        publication_lag_seconds=max(0.0, float(lag)),
    )


def _ago(seconds: float) -> ColumnElement[Any]:
    return func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)


#: The states that the counters know: "open" is waiting or active.
COUNTED = ("open", "completed", "failed", "expired")


def _every_count(t: Tables) -> Any:
    """The counters and their deltas as rows (queue, status, n); their sum is exact."""
    counts, deltas = t.job_counts, t.job_deltas
    return (
        select(counts.c.queue, counts.c.status, counts.c.n)
        .union_all(
            select(deltas.c.queue, deltas.c.becomes, deltas.c.n).where(deltas.c.becomes.is_not(None)),
            select(deltas.c.queue, deltas.c.was, -deltas.c.n).where(deltas.c.was.is_not(None)),
        )
        .subquery("every_count")
    )


@lru_cache(maxsize=8)
def _numbers(t: Tables, lease_seconds: float, window_seconds: int) -> Any:
    """One row per queue: its columns, its counts by status, and what the partial indexes know.

    Kept once built: building costs more than executing.
    """
    q, j = t.job_queues, t.jobs
    minutes, deltas = t.minutes, t.job_deltas

    every = _every_count(t)

    def of(state: str) -> ColumnElement[Any]:
        return func.coalesce(func.sum(every.c.n).filter(every.c.status == state), 0).label(state)

    by_status = select(every.c.queue, *(of(s) for s in COUNTED)).group_by(every.c.queue).cte("by_status")

    # Whole minutes from the counters, the part of a minute at the far edge from the index: exact to the microsecond.
    edge = func.date_trunc("minute", _ago(3600.0)) + sql_text("interval '1 minute'")
    whole = (
        select(minutes.c.queue, minutes.c.n)
        .where(minutes.c.kind == "completed", minutes.c.minute >= edge)
        .union_all(
            select(deltas.c.queue, case((deltas.c.becomes == "completed", deltas.c.n), else_=-deltas.c.n)).where(
                deltas.c.finished >= edge
            )
        )
        .subquery("whole_minutes")
    )
    hour = select(whole.c.queue, func.sum(whole.c.n).label("n")).group_by(whole.c.queue).cte("hour")

    attempts = _recent_attempts(t, window_seconds)

    waiting_here = and_(j.c.queue == q.c.name, t.status_is(JobStatus.WAITING))
    later = select(j.c.id).where(waiting_here, j.c.run_at > func.now()).limit(SCHEDULED_CAP)
    scheduled = select(func.count().label("n")).select_from(later.correlate(q).lateral("later")).lateral("scheduled")
    oldest = (
        select(j.c.run_at.label("at"))
        .where(waiting_here, j.c.run_at <= func.now())
        .order_by(j.c.run_at)
        .limit(1)
        .lateral("oldest")
    )
    beat = func.coalesce(j.c.heartbeat_at, j.c.started_at, j.c.updated_at)
    active = (
        select(func.count().label("n"), func.count().filter(beat < _ago(lease_seconds)).label("stuck"))
        .where(j.c.queue == q.c.name, t.status_is(JobStatus.ACTIVE))
        .lateral("active")
    )
    far_edge = (
        select(func.count().label("n"))
        .where(
            j.c.queue == q.c.name,
            t.status_is(JobStatus.COMPLETED),
            j.c.finished_at > _ago(3600.0),
            j.c.finished_at < edge,
        )
        .lateral("far_edge")
    )
    joined = (
        q.outerjoin(by_status, by_status.c.queue == q.c.name)
        .outerjoin(hour, hour.c.queue == q.c.name)
        .outerjoin(attempts, attempts.c.queue == q.c.name)
        .join(scheduled, literal(True))
        .outerjoin(oldest, literal(True))
        .join(active, literal(True))
        .join(far_edge, literal(True))
    )
    return select(
        q,
        *(by_status.c[s] for s in COUNTED),
        scheduled.c.n.label("scheduled"),
        oldest.c.at.label("oldest"),
        active.c.n.label("active"),
        active.c.stuck.label("stuck"),
        (func.coalesce(hour.c.n, 0) + far_edge.c.n).label("completed_last_hour"),
        attempts.c.finished.label("attempts_finished"),
        attempts.c.failed.label("attempts_failed"),
    ).select_from(joined)


def _recent_attempts(t: Tables, window_seconds: int) -> Any:
    """Attempts finished and failed per queue in the window: folded minutes, and the tail of job_logs not folded yet."""
    minutes, logs, state = t.minutes, t.job_logs, t.rollup_state
    since = _ago(float(window_seconds))
    watermark = select(state.c.txid).where(state.c.name == "attempts").scalar_subquery()
    folded = select(minutes.c.queue, minutes.c.kind, minutes.c.n).where(
        minutes.c.kind.in_(["attempt-completed", "attempt-failed"]),
        minutes.c.minute >= func.date_trunc("minute", since),
    )
    tail = select(logs.c.queue, literal("attempt-") + logs.c.status, literal(1)).where(
        logs.c.txid >= watermark, logs.c.kind == "attempt", logs.c.finished_at >= since
    )
    both = folded.union_all(tail).subquery("attempts_both")
    return (
        select(
            both.c.queue,
            func.sum(both.c.n).label("finished"),
            func.coalesce(func.sum(both.c.n).filter(both.c.kind == "attempt-failed"), 0).label("failed"),
        )
        .group_by(both.c.queue)
        .cte("attempts")
    )


def _stats_from(row: RowMapping, workers: dict[str, int], settings: Settings) -> QueueStats:
    queue = queue_from(row)
    scheduled, active = int(row["scheduled"]), int(row["active"])
    finished, failed = row["attempts_finished"], row["attempts_failed"]
    return QueueStats(
        queue=queue,
        waiting=max(0, int(row["open"] or 0) - active - scheduled),
        scheduled=scheduled,
        active=active,
        completed=int(row["completed"] or 0),
        failed=int(row["failed"] or 0),
        expired=int(row["expired"] or 0),
        completed_last_hour=int(row["completed_last_hour"]),
        attempts_finished=int(finished or 0),
        attempts_failed=int(failed or 0),
        oldest_waiting_at=row["oldest"],
        workers=workers.get(queue.name, 0),
        stuck=int(row["stuck"]),
        certainty=Certainty.CAPPED if scheduled >= SCHEDULED_CAP else Certainty.EXACT,
        thresholds=settings.thresholds_of(queue.name),
    )


def worker_from(row: RowMapping) -> WorkerInfo:
    """A row of `workers` with its column "alive" as a value."""
    return WorkerInfo(
        id=row["id"],
        home=row["home"],
        host=row["host"],
        pid=row["pid"],
        started_at=row["started_at"],
        heartbeat_at=row["heartbeat_at"],
        kind=row["kind"],
        alive=row["alive"],
    )


def status_counts(connection: Connection, t: Tables, queue: str | None) -> dict[JobStatus, int]:
    """Jobs by state, of one queue or all, exact: the counters, and the active ones from their index."""
    every, j = _every_count(t), t.jobs
    statement = select(every.c.status, func.sum(every.c.n)).group_by(every.c.status)
    active = select(literal("active"), func.count()).where(t.status_is(JobStatus.ACTIVE))
    if queue is not None:
        statement = statement.where(every.c.queue == queue)
        active = active.where(j.c.queue == queue)
    found = {state: int(n) for state, n in connection.execute(statement.union_all(active))}
    running = found.get("active", 0)
    return {
        JobStatus.WAITING: max(0, found.get("open", 0) - running),
        JobStatus.ACTIVE: running,
        JobStatus.COMPLETED: found.get("completed", 0),
        JobStatus.FAILED: found.get("failed", 0),
        JobStatus.EXPIRED: found.get("expired", 0),
    }
