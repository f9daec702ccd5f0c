"""Reads of PostgreSQL for the surfaces: the snapshot, pages of jobs, one job's history, counts. One function, one read.

Costs are for 10 million jobs, measured by `queuemon bench`. Every read runs under the statement timeout.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Text, Uuid, and_, any_, case, cast, func, literal, select, tuple_
from sqlalchemy import text as sql_text
from sqlalchemy.engine import RowMapping
from sqlalchemy.sql.elements import ColumnElement

from queuemon.config import Settings
from queuemon.contract import JobStatus, Priority
from queuemon.errors import InvalidValue
from queuemon.filters import JobFilter
from queuemon.model import (
    Attempt,
    Certainty,
    Count,
    Job,
    JobPage,
    PostgresHalf,
    Queue,
    QueueStats,
    WorkerInfo,
)
from queuemon.schema.tables import Tables
from queuemon.store.filtering import conditions

#: Scheduled jobs are counted exactly up to this many per queue.
SCHEDULED_CAP = 100_000

#: An exact count gives up here and says "at least".
COUNT_CAP = 1_000_000

#: Characters of a payload shown in a list.
PREVIEW = 200

#: Rows on one page at most.
PAGE_LIMIT = 1_000


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

    Three statements in one REPEATABLE READ transaction. 200 queues at 10 M jobs: a few milliseconds, since counts
    come from the counters, "scheduled", "oldest" and "stuck" from partial indexes.
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


# ----------------------------------------------------------------------------------------------------------- jobs


def job_columns(t: Tables) -> list[ColumnElement[Any]]:
    """The columns of a job in a list: everything but the payload, of which only the first characters travel."""
    j = t.jobs
    listed = [c for c in j.c if c.key != "payload"]
    return [*listed, func.left(cast(j.c.payload, Text), PREVIEW).label("preview")]


def job_from(row: RowMapping, t: Tables) -> Job:
    """A row of `jobs` as a value; takes both shapes, with `payload` or with `preview`."""
    return Job(
        id=row["id"],
        queue=row["queue"],
        status=t.status_of(row["status"]),
        attempts=row["attempts"],
        max_attempts=row["max_attempts"],
        gen=row["gen"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        run_at=row["run_at"],
        expires_at=row["expires_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        heartbeat_at=row["heartbeat_at"],
        worker_id=row["worker_id"],
        error_type=row["error_type"],
        error_message=row["error_message"],
        preview=row.get("preview") or "",
        payload=row.get("payload"),
    )


#: What a page can be sorted by: word → column. The id is time-ordered, so "created" walks the primary key.
SORTS = ("created", "finished", "run_at", "attempts")


def page(
    connection: Connection,
    t: Tables,
    settings: Settings,
    where: JobFilter,
    *,
    limit: int = 50,
    after: str | None = None,
    before: str | None = None,
    sort: str = "created",
    descending: bool = True,
) -> JobPage:
    """A page by keyset: any depth costs the same (0.7 ms for 50 failed jobs). `after` and `before` come from a page.

    Raises InvalidValue for a limit outside 1–1,000, an unknown sort, or a cursor that was made for another sort.
    """
    if not 1 <= limit <= PAGE_LIMIT:
        raise InvalidValue(f"limit is {limit}", expected=f"1 to {PAGE_LIMIT}", next_step="page on with `after`")
    if sort not in SORTS:
        raise InvalidValue(f"jobs cannot be sorted by {sort!r}", expected=f"one of {', '.join(SORTS)}")
    j = t.jobs
    backwards = before is not None
    downwards = descending != backwards
    keys = _sort_keys(t, sort)
    statement = select(*job_columns(t), *(k.label(f"key{n}") for n, k in enumerate(keys))).where(
        conditions(where, t, now=None, lease_seconds=settings.lease_seconds)
    )
    if sort == "finished":
        statement = statement.where(j.c.finished_at.is_not(None))
    cursor = before if backwards else after
    if cursor is not None:
        values = _decode_cursor(cursor, sort, len(keys))
        bound = tuple_(*(cast(literal(v, Text), k.type) for v, k in zip(values, keys, strict=True)))
        position = tuple_(*keys)
        statement = statement.where(position < bound if downwards else position > bound)
    order = [k.desc() if downwards else k.asc() for k in keys]
    rows = connection.execute(statement.order_by(*order).limit(limit + 1)).mappings().all()
    more = len(rows) > limit
    rows = rows[:limit]
    if backwards:
        rows = rows[::-1]
    first = _encode_cursor(rows[0], sort, len(keys)) if rows else None
    last = _encode_cursor(rows[-1], sort, len(keys)) if rows else None
    has_more_after = more if not backwards else bool(rows)
    has_more_before = bool(cursor) if not backwards else more
    return JobPage(
        jobs=tuple(job_from(row, t) for row in rows),
        after=last if has_more_after else None,
        before=first if has_more_before else None,
        filter=str(where),
        clock=clock(connection),
    )


def _sort_keys(t: Tables, sort: str) -> list[ColumnElement[Any]]:
    j = t.jobs
    match sort:
        case "finished":
            return [j.c.finished_at, j.c.id]
        case "run_at":
            return [j.c.run_at, j.c.id]
        case "attempts":
            return [j.c.attempts, j.c.id]
        case _:
            return [j.c.id]


def _encode_cursor(row: RowMapping, sort: str, keys: int) -> str:
    values = [str(row[f"key{n}"]) for n in range(keys)]
    return base64.urlsafe_b64encode(json.dumps([sort, *values]).encode()).decode().rstrip("=")


def _decode_cursor(cursor: str, sort: str, keys: int) -> list[str]:
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(found, list) or found[0] != sort or len(found) != keys + 1:
            raise ValueError
        values = [str(v) for v in found[1:]]
        UUID(values[-1])
        if sort in {"finished", "run_at"}:
            datetime.fromisoformat(values[0])
        elif sort == "attempts":
            int(values[0])
    except (ValueError, IndexError, binascii.Error, UnicodeDecodeError):
        raise InvalidValue(
            "the cursor does not belong to this list",
            expected="`after` or `before` of a page with the same sort order",
            next_step="start again at the first page",
        ) from None
    return values


def count(connection: Connection, t: Tables, settings: Settings, where: JobFilter, *, cap: int = COUNT_CAP) -> Count:
    """How many jobs match, exact up to `cap`, then "at least"; from the counters when only queue and state matter."""
    simple = where.queue_and_status()
    if simple is not None:
        queue, status = simple
        by_status = status_counts(connection, t, queue)
        return Count(value=by_status[status] if status is not None else sum(by_status.values()))
    inner = select(1).where(conditions(where, t, now=None, lease_seconds=settings.lease_seconds)).limit(cap + 1)
    found = int(connection.execute(select(func.count()).select_from(inner.subquery())).scalar_one())
    return Count(value=cap, certainty=Certainty.CAPPED) if found > cap else Count(value=found)


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


def job(connection: Connection, t: Tables, job_id: UUID) -> Job | None:
    """One job with its whole payload; None when no row has this id."""
    row = connection.execute(select(t.jobs).where(t.jobs.c.id == job_id)).mappings().first()
    return job_from(row, t) if row is not None else None


#: Attempts and events read per job at most; the newest are kept.
HISTORY_LIMIT = 500


def history(connection: Connection, t: Tables, job_id: UUID) -> tuple[Attempt, ...]:
    """Every attempt at a job and every event in its life, oldest first (the newest 500)."""
    logs, chunks, actions = t.job_logs, t.action_chunks, t.actions
    rows = (
        connection.execute(select(logs).where(logs.c.job_id == job_id).order_by(logs.c.id.desc()).limit(HISTORY_LIMIT))
        .mappings()
        .all()
    )
    found = [
        Attempt(
            kind=row["kind"],
            gen=row["gen"],
            attempt=row["attempt"],
            status=row["status"],
            at=row["finished_at"],
            worker_id=row["worker_id"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            duration_ms=row["duration_ms"],
            error_type=row["error_type"],
            error_message=row["error_message"],
            stack_trace=row["stack_trace"],
            signature=row["signature"],
            action_id=row["action_id"],
        )
        for row in rows
    ]
    logged = {a.action_id for a in found if a.action_id is not None}
    # A bulk action keeps its ids in one array per chunk; chunks go by keyset, so the range finds the chunk.
    bulk = connection.execute(
        select(chunks.c.action_id, chunks.c.at, actions.c.kind)
        .join(actions, actions.c.id == chunks.c.action_id)
        .where(
            chunks.c.first_id <= job_id, chunks.c.last_id >= job_id, literal(job_id, Uuid) == any_(chunks.c.done_ids)
        )
        .order_by(chunks.c.at.desc())
        .limit(HISTORY_LIMIT)
    )
    found += [
        Attempt(kind=kind, gen=0, attempt=None, status=kind, at=at, action_id=action_id)
        for action_id, at, kind in bulk
        if action_id not in logged
    ]
    return tuple(sorted(found, key=lambda a: a.at))


def columns_of(t: Tables, names: Sequence[str]) -> list[ColumnElement[Any]]:
    """Columns for an export: logical names of `jobs`, `payload` whole, or `payload.path` extracted in SQL as text."""
    known = {c.key: c for c in t.jobs.c}
    made: list[ColumnElement[Any]] = []
    for name in names:
        if name == "payload":
            made.append(cast(t.jobs.c.payload, Text).label(name))
        elif name in known:
            made.append(known[name].label(name))
        elif name.startswith("payload.") and len(name) > len("payload."):
            path = name.split(".")[1:]
            made.append(func.jsonb_extract_path_text(t.jobs.c.payload, *path).label(name))
        else:
            raise InvalidValue(
                f"there is no column {name!r}",
                expected=f"{', '.join(sorted(known))} or payload.PATH",
                next_step="correct the column's name",
            )
    return made


def exported(
    connection: Connection, t: Tables, settings: Settings, where: JobFilter, *, columns: Sequence[str], limit: int
) -> tuple[Any, dict[str, Any]]:
    """An export as (SQL with psycopg placeholders, its parameters): the reader of big results runs it as a COPY."""
    statement = (
        select(*columns_of(t, columns))
        .where(conditions(where, t, now=None, lease_seconds=settings.lease_seconds))
        .order_by(t.jobs.c.id.desc())
        .limit(limit)
    )
    compiled = statement.compile(connection, compile_kwargs={"render_postcompile": True})
    return str(compiled), dict(compiled.params)


def unknown_queues(connection: Connection, t: Tables, names: Sequence[str]) -> list[str]:
    """Those of `names` that have no row in `job_queues`."""
    known = set(connection.execute(select(t.job_queues.c.name).where(t.job_queues.c.name.in_(list(names)))).scalars())
    return [n for n in names if n not in known]
