"""A worker's statements: claim, complete, fail, hand back. Each is one statement that decides on the target row itself.

Every later write names the generation and the worker (fencing): a worker that lost its lease changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    Connection,
    Double,
    Integer,
    Row,
    Select,
    SmallInteger,
    String,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal,
    null,
    select,
    true,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from queuemon.contract import JobStatus, Priority
from queuemon.schema.tables import TIMESTAMPTZ, Tables
from queuemon.store.fence import fenced


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """A job that is now this worker's."""

    id: UUID
    queue: str
    gen: int
    #: This attempt's number, from 1.
    attempt: int
    max_attempts: int
    created_at: datetime
    #: JSON text: decoding a hostile payload is part of the attempt.
    payload: str


class Refusal(StrEnum):
    """Why a claim changed no row."""

    PAUSED = "paused"  # back to the head of its queue
    EARLY = "early"  # run_at lies in the future: published again when due
    EXPIRED = "expired"  # past its deadline: the expirer's
    STALE = "stale"  # terminal, taken, moved on or gone: whoever changed it published it anew


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A claim that changed no row, and what the worker needs to know to put the element away."""

    why: Refusal
    #: The job's queue by its row, its pause epoch, and when it is due; None where there is no row.
    queue: str | None = None
    pause_epoch: int | None = None
    run_at: datetime | None = None


def claim(connection: Connection, t: Tables, *, job_id: UUID, gen: int | None, worker_id: str) -> Claimed | Refused:
    """Take a job: waiting, of this generation (None: whichever it has), due, in time, and its queue not paused.

    One statement, under the row's lock: of any number of workers at most one gets it.
    """
    row = connection.execute(_claim(t), {"job": job_id, "held": gen, "worker": worker_id}).mappings().first()
    if row is None:
        return Refused(why=Refusal.STALE)
    if row["claimed_gen"] is not None:
        return Claimed(
            id=job_id,
            queue=row["queue"],
            gen=row["claimed_gen"],
            attempt=row["attempt"],
            max_attempts=row["max_attempts"],
            created_at=row["created_at"],
            payload=row["payload"],
        )
    return Refused(why=Refusal(row["why"]), queue=row["queue"], pause_epoch=row["pause_epoch"], run_at=row["run_at"])


def _seconds(name: str) -> ColumnElement[Any]:
    return func.make_interval(0, 0, 0, 0, 0, 0, cast(bindparam(name), Double))


@cache
def _claim(t: Tables) -> Select[Any]:
    j, q = t.jobs, t.job_queues
    job_id = bindparam("job", type_=Uuid)
    gen = func.coalesce(cast(bindparam("held"), Integer), j.c.gen)
    paused = select(q.c.paused).where(q.c.name == j.c.queue).scalar_subquery()
    taken: CTE = (
        update(j)
        .where(
            j.c.id == job_id,
            fenced(
                j.c.gen == gen,
                t.status_is(JobStatus.WAITING),
                j.c.run_at <= func.now(),
                j.c.expires_at > func.now(),
                ~paused,
            ),
        )
        .values(
            status=t.status_word(JobStatus.ACTIVE),
            attempts=j.c.attempts + 1,
            started_at=func.now(),
            heartbeat_at=func.now(),
            updated_at=func.now(),
            worker_id=bindparam("worker", type_=Text),
        )
        .returning(j.c.id, j.c.gen, j.c.attempts, cast(j.c.payload, Text).label("payload"))
        .cte("taken")
    )
    why = case(
        (~and_(t.status_is(JobStatus.WAITING), j.c.gen == gen), Refusal.STALE.value),
        (q.c.paused, Refusal.PAUSED.value),
        (j.c.run_at > func.now(), Refusal.EARLY.value),
        (j.c.expires_at <= func.now(), Refusal.EXPIRED.value),
        else_=Refusal.STALE.value,
    )
    return (
        select(
            j.c.queue,
            j.c.run_at,
            j.c.max_attempts,
            j.c.created_at,
            q.c.pause_epoch,
            why.label("why"),
            taken.c.gen.label("claimed_gen"),
            taken.c.attempts.label("attempt"),
            taken.c.payload,
        )
        .select_from(j.outerjoin(q, q.c.name == j.c.queue).outerjoin(taken, true()))
        .where(j.c.id == job_id)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """What a worker holds a job by: every write about it names all three."""

    job_id: UUID
    gen: int
    worker_id: str

    def parameters(self) -> dict[str, Any]:
        """The statements' parameters."""
        return {"job": self.job_id, "held": self.gen, "worker": self.worker_id}


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an attempt failed, cleaned and capped."""

    error_type: str
    message: str
    stack_trace: str
    #: The signature, and the version of the normaliser that found it; None leaves both to the relay.
    signature: str | None = None
    signature_version: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a write about a job in hand; `status` None means fenced: nothing was written."""

    status: JobStatus | None
    #: The row that promises the next publication, where the job waits again.
    outbox_id: int | None = None


#: A write about a job in hand, to be tried until PostgreSQL answers.
Write = Callable[[Connection], Outcome]


def complete(connection: Connection, t: Tables, lease: Lease) -> Outcome:
    """The attempt succeeded: the job and its log row, in one statement."""
    done = connection.execute(_complete(t), lease.parameters()).scalar_one()
    return Outcome(status=JobStatus.COMPLETED if done else None)


def mine(t: Tables) -> ColumnElement[bool]:
    """What every write about a job in hand asks: this job, this generation, this worker, still active."""
    j = t.jobs
    return and_(
        j.c.id == bindparam("job", type_=Uuid),
        fenced(
            j.c.gen == bindparam("held", type_=Integer),
            j.c.worker_id == bindparam("worker", type_=Text),
            t.status_is(JobStatus.ACTIVE),
        ),
    )


_LOGGED = (
    "job_id", "queue", "kind", "gen", "attempt", "status", "worker_id", "started_at", "finished_at", "duration_ms",
    "error_type", "error_message", "stack_trace", "signature", "signature_version", "due_at",
)  # fmt: skip


def _log(t: Tables, ended: CTE, *, kind: str, status: ColumnElement[Any], failure: bool = False) -> CTE:
    """A job_logs row for the row that `ended` changed."""
    logs, was = t.job_logs, t.jobs.alias("was")
    duration = func.extract("epoch", func.clock_timestamp() - ended.c.started_at) * 1000
    errors: list[ColumnElement[Any]] = (
        [
            *(
                cast(bindparam(name), Text)
                for name in ("failure_type", "failure_message", "failure_trace", "signature")
            ),
            cast(bindparam("signature_version"), SmallInteger),
        ]
        if failure
        else [*[cast(null(), Text)] * 4, cast(null(), SmallInteger)]
    )
    values = select(
        ended.c.id,
        ended.c.queue,
        literal(kind),
        bindparam("held", type_=Integer),
        ended.c.attempts,
        status,
        bindparam("worker", type_=Text),
        ended.c.started_at,
        func.now(),
        cast(duration, Double),
        *errors,
        # As the statement found the row: the change itself gives it a new one where it waits again.
        select(was.c.run_at).where(was.c.id == bindparam("job", type_=Uuid)).scalar_subquery(),
    )
    return insert(logs).from_select([logs.c[name] for name in _LOGGED], values).returning(logs.c.id).cte("logged")


@cache
def _complete(t: Tables) -> Select[Any]:
    j = t.jobs
    word = t.status_word(JobStatus.COMPLETED)
    ended = (
        update(j)
        .where(mine(t))
        .values(status=word, finished_at=func.now(), updated_at=func.now(), error_type=None, error_message=None)
        .returning(j.c.id, j.c.queue, j.c.attempts, j.c.started_at)
        .cte("ended")
    )
    logged = _log(t, ended, kind="attempt", status=literal(JobStatus.COMPLETED.value))
    return select(func.count()).select_from(ended).add_cte(logged)


def fail(connection: Connection, t: Tables, lease: Lease, failure: Failure, *, backoff_seconds: float) -> Outcome:
    """The attempt failed: the job fails, or waits for the next attempt under a new generation, with its log row and
    the promise to publish it then; one statement."""
    values = {
        "failure_type": failure.error_type,
        "failure_message": failure.message,
        "failure_trace": failure.stack_trace,
        "signature": failure.signature,
        "signature_version": failure.signature_version,
        "backoff": backoff_seconds,
    }
    return _outcome(t, connection.execute(_fail(t), {**lease.parameters(), **values}).first())


def _outcome(t: Tables, row: Row[Any, Any] | None) -> Outcome:
    return Outcome(status=t.status_of(row[0]), outbox_id=row[1]) if row is not None else Outcome(status=None)


@cache
def _fail(t: Tables) -> Select[Any]:
    j = t.jobs
    again = j.c.attempts < j.c.max_attempts
    ended = (
        update(j)
        .where(mine(t))
        .values(
            status=case((again, t.status_word(JobStatus.WAITING)), else_=t.status_word(JobStatus.FAILED)),
            gen=case((again, j.c.gen + 1), else_=j.c.gen),
            run_at=case((again, func.now() + _seconds("backoff")), else_=j.c.run_at),
            finished_at=case((again, cast(null(), TIMESTAMPTZ)), else_=func.now()),
            worker_id=case((again, cast(null(), String)), else_=j.c.worker_id),
            heartbeat_at=None,
            updated_at=func.now(),
            error_type=bindparam("failure_type", type_=Text),
            error_message=bindparam("failure_message", type_=Text),
        )
        .returning(j.c.id, j.c.queue, j.c.status, j.c.attempts, j.c.started_at, j.c.run_at)
        .cte("ended")
    )
    logged = _log(t, ended, kind="attempt", status=literal(JobStatus.FAILED.value), failure=True)
    return _promised(t, ended, logged)


def _promised(t: Tables, ended: CTE, logged: CTE) -> Select[Any]:
    """(status, outbox id or None) of the row that `ended` changed, with an outbox row where it waits again."""
    p = t.publications
    promised = (
        insert(p)
        .from_select(
            [p.c.job_ids, p.c.due_at],
            select(func.array_agg(ended.c.id), func.max(ended.c.run_at))
            .where(ended.c.status == t.status_word(JobStatus.WAITING))
            .having(func.count() > 0),
        )
        .returning(p.c.id)
        .cte("promised")
    )
    return select(ended.c.status, select(promised.c.id).scalar_subquery()).add_cte(logged)


def hand_back(connection: Connection, t: Tables, lease: Lease) -> Outcome:
    """Give a job in hand back unfinished: it waits again at once under a new generation; the attempt does not count."""
    return _outcome(t, connection.execute(_hand_back(t), lease.parameters()).first())


@cache
def _hand_back(t: Tables) -> Select[Any]:
    j = t.jobs
    ended = (
        update(j)
        .where(mine(t))
        .values(
            status=t.status_word(JobStatus.WAITING),
            gen=j.c.gen + 1,
            attempts=j.c.attempts - 1,
            run_at=func.now(),
            worker_id=None,
            heartbeat_at=None,
            updated_at=func.now(),
        )
        .returning(j.c.id, j.c.queue, j.c.status, j.c.attempts, j.c.started_at, j.c.run_at)
        .cte("ended")
    )
    logged = _log(t, ended, kind="handed-back", status=literal(JobStatus.WAITING.value))
    return _promised(t, ended, logged)


def due_again(connection: Connection, t: Tables, *, job_id: UUID, at: datetime) -> None:
    """Promise a publication for a job whose element came too early and was dropped."""
    connection.execute(insert(t.publications).values(job_ids=[job_id], due_at=at))


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A queue as workers and the supervisor follow it."""

    name: str
    priority: Priority
    #: Worker processes meant for it.
    concurrency: int


def serving(connection: Connection, t: Tables) -> list[Served]:
    """Every queue."""
    q = t.job_queues
    rows = connection.execute(select(q.c.name, q.c.priority, q.c.concurrency))
    return [Served(name=row[0], priority=Priority(row[1]), concurrency=row[2]) for row in rows]
