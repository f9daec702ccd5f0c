"""How jobs, queues and numbers stand in PostgreSQL where the stores may disagree; the comparison reads through here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    Connection,
    Select,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.sql.elements import ColumnElement

from queuemon.contract import JobStatus
from queuemon.schema.tables import Tables
from queuemon.store.chunks import among, array_of, array_text
from queuemon.store.fence import fenced
from queuemon.store.leases import beat, silent

#: A clock of another machine may be ahead by this much.
SKEW: Final = "1 minute"

#: States of the counters, and the rows they count.
_COUNTED: Final = {
    "open": (JobStatus.WAITING, JobStatus.ACTIVE),
    "failed": (JobStatus.FAILED,),
    "expired": (JobStatus.EXPIRED,),
    "completed": (JobStatus.COMPLETED,),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """How the row of a list element stands."""

    status: JobStatus
    gen: int
    queue: str


def rows_of(connection: Connection, t: Tables, ids: Sequence[UUID]) -> dict[UUID, Row]:
    """State, generation and queue of jobs; those without a row are left out. 10,000 ids: about 40 ms."""
    j = t.jobs
    found = connection.execute(select(j.c.id, j.c.status, j.c.gen, j.c.queue).where(among(t, ids)))
    return {row[0]: Row(status=t.status_of(row[1]), gen=row[2], queue=row[3]) for row in found}


def deleted(connection: Connection, t: Tables, ids: Sequence[UUID]) -> set[UUID]:
    """Those among ids without a row that an action deleted: nobody needs to wonder what their elements are."""
    wanted = select(func.unnest(array_of(array_text(ids))).label("id")).subquery("wanted")
    u, c = t.undo_jobs.c, t.action_chunks.c
    kept = select(u.job_id).where(u.job_id == wanted.c.id).exists()
    chunk = and_(c.first_id <= wanted.c.id, c.last_id >= wanted.c.id, wanted.c.id == func.any(c.done_ids))
    noted = select(c.action_id).where(chunk).exists()
    return set(connection.execute(select(wanted.c.id).where(or_(kept, noted))).scalars())


@dataclass(frozen=True, kw_only=True, slots=True)
class Late:
    """A job that its own row says something should have happened to."""

    id: UUID
    queue: str
    gen: int
    #: Of a stuck job: its last beat; of an overdue one: its deadline.
    at: datetime
    worker_id: str | None


def stuck(connection: Connection, t: Tables, *, lease_seconds: float, limit: int) -> list[Late]:
    """Active jobs without a sign of life within the lease, by PostgreSQL's clock."""
    j = t.jobs
    query = select(j.c.id, j.c.queue, j.c.gen, beat(t), j.c.worker_id).order_by(j.c.id)
    return _late(connection, query.where(t.status_is(JobStatus.ACTIVE), silent(t, lease_seconds)).limit(limit))


def overdue(connection: Connection, t: Tables, *, limit: int) -> list[Late]:
    """Waiting jobs past their deadline, in queues that run."""
    j, q = t.jobs, t.job_queues
    running = j.c.queue.not_in(select(q.c.name).where(q.c.paused))
    query = select(j.c.id, j.c.queue, j.c.gen, j.c.expires_at, j.c.worker_id).order_by(j.c.expires_at)
    late = query.where(t.status_is(JobStatus.WAITING), j.c.expires_at <= func.now(), running)
    return _late(connection, late.limit(limit))


def _late(connection: Connection, query: Select[Any]) -> list[Late]:
    rows = connection.execute(query)
    return [Late(id=r[0], queue=r[1], gen=r[2], at=r[3], worker_id=r[4]) for r in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Odd:
    """A row whose numbers cannot be."""

    id: UUID
    queue: str
    gen: int
    status: JobStatus
    #: "attempts 5 of 3", "started_at in the future", …
    what: str


def in_future(t: Tables) -> list[tuple[str, ColumnElement[bool]]]:
    """(column, whether it lies in the future) of each time that can only have passed."""
    j, late = t.jobs, func.now() + text(f"interval '{SKEW}'")
    names = ("created_at", "updated_at", "started_at", "finished_at", "heartbeat_at")
    return [(name, j.c[name] > late) for name in names]


def odd(connection: Connection, t: Tables, *, limit: int) -> list[Odd]:
    """Jobs that wait, run, failed or expired with more attempts than allowed, or with a time in the future.

    Through the partial indexes of their states; completed jobs are left alone, they decide nothing any more.
    """
    j = t.jobs
    too_many = j.c.attempts > j.c.max_attempts
    times = in_future(t)
    what = func.concat_ws(
        ", ",
        case((too_many, func.concat("attempts ", j.c.attempts, " of ", j.c.max_attempts))),
        *(case((later, f"{name} in the future")) for name, later in times),
    )
    open_ = t.status_is(JobStatus.WAITING, JobStatus.ACTIVE, JobStatus.FAILED, JobStatus.EXPIRED)
    rows = connection.execute(
        select(j.c.id, j.c.queue, j.c.gen, j.c.status, what)
        .where(open_, or_(too_many, *(later for _, later in times)))
        .order_by(j.c.id)
        .limit(limit)
    )
    return [Odd(id=r[0], queue=r[1], gen=r[2], status=t.status_of(r[3]), what=r[4]) for r in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Miscount:
    """A counter that does not say what the rows say."""

    queue: str
    state: str
    counted: int
    rows: int


def miscounts(connection: Connection, t: Tables, *, completed: bool) -> list[Miscount]:
    """Counters that differ from their rows, in one snapshot (triggers count in the same transaction, so any
    difference is an error). Index walks; `completed` (10 M jobs: seconds) only where asked for."""
    j = t.jobs
    states = [s for s in _COUNTED if completed or s != "completed"]
    counts, deltas = t.job_counts, t.job_deltas
    said = (
        select(counts.c.queue, counts.c.status, counts.c.n)
        .union_all(
            select(deltas.c.queue, deltas.c.becomes, deltas.c.n).where(deltas.c.becomes.is_not(None)),
            select(deltas.c.queue, deltas.c.was, -deltas.c.n).where(deltas.c.was.is_not(None)),
        )
        .subquery("said")
    )
    real = [
        select(j.c.queue, literal(state, Text).label("status"), func.count().label("n"))
        .where(t.status_is(status))
        .group_by(j.c.queue)
        for state in states
        for status in _COUNTED[state]
    ]
    both = (
        select(said.c.queue, said.c.status, said.c.n.label("counted"), literal(0).label("rows"))
        .where(said.c.status.in_(states))
        .union_all(*(select(r.c.queue, r.c.status, literal(0), r.c.n) for r in (one.subquery() for one in real)))
        .subquery("both_sides")
    )
    counted, rows = func.sum(both.c.counted), func.sum(both.c.rows)
    found = connection.execute(
        select(both.c.queue, both.c.status, counted, rows)
        .group_by(both.c.queue, both.c.status)
        .having(counted != rows)
        .order_by(both.c.queue, both.c.status)
    )
    return [Miscount(queue=r[0], state=r[1], counted=int(r[2]), rows=int(r[3])) for r in found]


def hanging(connection: Connection, t: Tables, *, seconds: float) -> tuple[int, float]:
    """(outbox rows, age of the oldest in seconds) that have been due for longer than this."""
    p = t.publications
    age = func.extract("epoch", func.now() - func.min(p.c.due_at))
    late = p.c.due_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    row = connection.execute(select(func.count(), func.coalesce(age, 0.0)).where(late)).one()
    return int(row[0]), float(row[1])


def payloads(connection: Connection, t: Tables, ids: Sequence[UUID]) -> dict[UUID, tuple[int, str]]:
    """id → (generation, MD5 of the payload's text) of waiting jobs."""
    j = t.jobs
    rows = connection.execute(
        select(j.c.id, j.c.gen, func.md5(cast(j.c.payload, Text))).where(
            among(t, ids), fenced(t.status_is(JobStatus.WAITING))
        )
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def payload_texts(connection: Connection, t: Tables, ids: Sequence[UUID]) -> dict[UUID, str]:
    """The payloads' text of a few jobs."""
    j = t.jobs
    rows = connection.execute(select(j.c.id, cast(j.c.payload, Text)).where(among(t, ids)))
    return {row[0]: row[1] for row in rows}


def due_waiting(connection: Connection, t: Tables) -> Mapping[str, int]:
    """Due waiting jobs of each queue that has any: one walk of the index of waiting jobs."""
    j = t.jobs
    rows = connection.execute(
        select(j.c.queue, func.count())
        .where(t.status_is(JobStatus.WAITING), j.c.run_at <= func.now(), j.c.expires_at > func.now())
        .group_by(j.c.queue)
    )
    return {row[0]: row[1] for row in rows}
