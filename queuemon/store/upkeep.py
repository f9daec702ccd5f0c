"""Upkeep that the relay does in PostgreSQL: leases that ran out, jobs past their deadline, a Redis that lost all.

Every statement locks what it picks with SKIP LOCKED and repeats its condition on the target row, so any number of
relays may run it at once. One call is one bounded batch; the caller repeats it while it comes back full.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Double,
    Select,
    Uuid,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.dialects.postgresql import insert as upsert

from queuemon.contract import JobStatus, Priority
from queuemon.schema.tables import Tables, Xid8
from queuemon.store import leases
from queuemon.store.fence import fenced

#: Rows per batch.
BATCH = 1_000


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Jobs taken away from workers that stopped beating."""

    waiting: int
    failed: int
    outbox_id: int | None


def expire_leases(connection: Connection, t: Tables, *, lease_seconds: float, limit: int = BATCH) -> Taken:
    """Active jobs without a beat within the lease wait again under a new generation, or fail when attempts are used up.

    The attempt stays counted, so a job that kills its workers ends as failed. Each gets a log row "lease-lost".
    """
    row = connection.execute(_expire_leases(t), {"lease": lease_seconds, "limit": limit}).one()
    return Taken(waiting=row[0], failed=row[1], outbox_id=row[2])


@cache
def _expire_leases(t: Tables) -> Select[Any]:
    j, p = t.jobs, t.publications
    silent = leases.silent(t, cast(bindparam("lease"), Double))
    picked = (
        select(j.c.id, j.c.gen, j.c.worker_id, j.c.run_at)
        .where(t.status_is(JobStatus.ACTIVE), silent)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    taken = (
        update(j)
        .where(j.c.id == picked.c.id, fenced(j.c.gen == picked.c.gen, t.status_is(JobStatus.ACTIVE), silent))
        .values(leases.taken_values(t))
        .returning(*leases.taken_columns(t, picked))
        .cte("taken")
    )
    logged = leases.taken_log(t, taken)
    waits = taken.c.status == t.status_word(JobStatus.WAITING)
    promised = (
        insert(p)
        .from_select([p.c.job_ids], select(func.array_agg(taken.c.id)).where(waits).having(func.count() > 0))
        .returning(p.c.id)
        .cte("promised")
    )
    return (
        select(
            func.count().filter(waits),
            func.count().filter(~waits),
            select(promised.c.id).scalar_subquery(),
        )
        .select_from(taken)
        .add_cte(logged)
    )


def expire_jobs(connection: Connection, t: Tables, *, job_id: UUID | None = None, limit: int = BATCH) -> int:
    """Waiting jobs past their deadline expire, each with a log row, never silently; paused queues are left alone.

    With `job_id` only that one, if it is so.
    """
    found: int = connection.execute(_expire_jobs(t), {"limit": limit, "job_id": job_id}).scalar_one()
    return found


@cache
def _expire_jobs(t: Tables) -> Select[Any]:
    j, q, logs = t.jobs, t.job_queues, t.job_logs
    late = j.c.expires_at <= func.now()
    running = j.c.queue.not_in(select(q.c.name).where(q.c.paused))
    only = cast(bindparam("job_id"), Uuid)
    picked = (
        select(j.c.id)
        .where(t.status_is(JobStatus.WAITING), late, running, or_(only.is_(None), j.c.id == only))
        .order_by(j.c.expires_at)
        .limit(bindparam("limit"))
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    expired = (
        update(j)
        .where(j.c.id == picked.c.id, fenced(t.status_is(JobStatus.WAITING), late, running))
        .values(status=t.status_word(JobStatus.EXPIRED), finished_at=func.now(), updated_at=func.now())
        .returning(j.c.id, j.c.queue, j.c.gen, j.c.attempts, j.c.run_at)
        .cte("expired")
    )
    logged = (
        insert(logs)
        .from_select(
            [logs.c[name] for name in ("job_id", "queue", "kind", "gen", "attempt", "status", "finished_at", "due_at")],
            select(
                expired.c.id, expired.c.queue, literal("expire"), expired.c.gen, expired.c.attempts,
                literal(JobStatus.EXPIRED.value), func.now(), expired.c.run_at,
            ),
        )
        .returning(logs.c.id)
        .cte("logged")
    )  # fmt: skip
    return select(func.count()).select_from(expired).add_cte(logged)


def promise_everything_waiting(connection: Connection, t: Tables, *, jobs_per_row: int = BATCH) -> int:
    """Outbox rows for every job that waits and is due, most urgent queues first, oldest first: Redis lost something.

    Keeps each job's generation, so that a marker that is left stops a second push; a claim goes by generation and
    state, so no generation starts twice either way. Returns how many jobs. 1 M waiting jobs: about 2 s, one statement;
    publication itself goes on at the relay's pace.
    """
    return int(connection.execute(_promise_everything(t), {"size": jobs_per_row}).scalar_one())


@cache
def _promise_everything(t: Tables) -> Select[Any]:
    j, q, p = t.jobs, t.job_queues, t.publications
    rank = case({priority.value: priority.rank for priority in Priority}, value=q.c.priority, else_=len(Priority))
    within = func.row_number().over(partition_by=j.c.queue, order_by=(j.c.run_at, j.c.id)) - 1
    due = (
        select(j.c.id, j.c.queue, rank.label("rank"), j.c.run_at, func.div(within, bindparam("size")).label("chunk"))
        .join(q, q.c.name == j.c.queue)
        .where(t.status_is(JobStatus.WAITING), j.c.run_at <= func.now(), j.c.expires_at > func.now())
        .subquery("due")
    )
    in_order = func.array_agg(aggregate_order_by(due.c.id, due.c.run_at, due.c.id))
    rows = (
        select(in_order).group_by(due.c.queue, due.c.rank, due.c.chunk).order_by(due.c.rank, due.c.queue, due.c.chunk)
    )
    promised = insert(p).from_select([p.c.job_ids], rows).returning(p.c.job_ids).cte("promised")
    return select(func.coalesce(func.sum(func.cardinality(promised.c.job_ids)), 0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a job stands whose element lies in a dead worker's hand."""

    status: JobStatus
    gen: int
    queue: str


def standing(connection: Connection, t: Tables, job_ids: list[UUID]) -> dict[UUID, Standing]:
    """State, generation and queue of some jobs; those without a row are left out."""
    j = t.jobs
    rows = connection.execute(select(j.c.id, j.c.status, j.c.gen, j.c.queue).where(j.c.id.in_(job_ids)))
    return {row[0]: Standing(status=t.status_of(row[1]), gen=row[2], queue=row[3]) for row in rows}


def try_lock(connection: Connection, key: int) -> bool:
    """Whether this transaction now holds a lock that only one session at a time can have."""
    held: bool = connection.execute(select(func.pg_try_advisory_xact_lock(key))).scalar_one()
    return held


def first_time(connection: Connection, t: Tables, name: str) -> bool:
    """Whether this happens for the first time in this database; remembered with the transaction."""
    state = t.rollup_state
    new = upsert(state).values(name=name, txid=cast("0", Xid8())).on_conflict_do_nothing().returning(state.c.name)
    return connection.execute(new).first() is not None
