"""The outbox: what committed and must still be published to Redis; producers, actions, workers and the relay use it.

A row names the jobs that one transaction (or one chunk of it) made waiting. Whoever publishes deletes the row in a
transaction that stays open until Redis has answered, so a crash anywhere repeats the publication, which is harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Select,
    Text,
    Uuid,
    bindparam,
    cast,
    column,
    delete,
    func,
    insert,
    literal,
    select,
    true,
)

from queuemon.contract import JobStatus
from queuemon.schema.tables import Tables
from queuemon.store.fence import fenced


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """A job as it goes to Redis."""

    id: UUID
    queue: str
    gen: int
    #: The list element's JSON, made by PostgreSQL: no number or empty array changes on the way.
    element: str


def add(connection: Connection, t: Tables, job_ids: Sequence[UUID], *, due_at: datetime | None = None) -> int:
    """Promise the publication of jobs in the caller's transaction; returns the row's id. Due at once by default."""
    values: dict[str, Any] = {"job_ids": list(job_ids)}
    if due_at is not None:
        values["due_at"] = due_at
    row: int = connection.execute(insert(t.publications).values(values).returning(t.publications.c.id)).scalar_one()
    return row


def lock_due(connection: Connection, t: Tables, *, rows: int, jobs: int) -> list[int]:
    """Ids of the oldest due rows that nobody else is publishing, at most `rows` and about `jobs` jobs of them."""
    found: list[int] = []
    total = 0
    for row, size in connection.execute(_lock_due(t), {"rows": rows}):
        if found and total + size > jobs:
            break
        found.append(row)
        total += size
    return found


@cache
def _lock_due(t: Tables) -> Select[Any]:
    p = t.publications
    return (
        select(p.c.id, func.cardinality(p.c.job_ids))
        .where(p.c.due_at <= func.now())
        .order_by(p.c.due_at, p.c.id)
        .limit(bindparam("rows"))
        .with_for_update(skip_locked=True)
    )


def left_by(connection: Connection, t: Tables, action_id: UUID, *, chunks: int) -> list[int]:
    """Rows that the last chunks of an action wrote and nobody published: what a crash left. Reads the outbox once."""
    p, c = t.publications, t.action_chunks.c
    last = select(c.done_ids).where(c.action_id == action_id).order_by(c.n.desc()).limit(chunks).subquery("last")
    mine = select(last.c.done_ids).where(p.c.job_ids.op("&&")(last.c.done_ids)).exists()
    return list(connection.execute(select(p.c.id).where(mine).order_by(p.c.id)).scalars())


def owes(connection: Connection, t: Tables, action_id: UUID) -> bool:
    """Whether a due row is left that any chunk of an action wrote. Reads the outbox once, and the chunks' ends."""
    p, c = t.publications, t.action_chunks.c
    first = p.c.job_ids[1]
    within = (c.action_id == action_id, c.first_id <= first, c.last_id >= first, first == func.any(c.done_ids))
    mine = select(c.n).where(*within).exists()
    return connection.execute(select(p.c.id).where(p.c.due_at <= func.now(), mine).limit(1)).first() is not None


def of_job(connection: Connection, t: Tables, job_id: UUID) -> list[int]:
    """The rows that promise a job's publication. Reads the outbox once."""
    p = t.publications
    return list(connection.execute(select(p.c.id).where(literal(job_id, Uuid) == func.any(p.c.job_ids))).scalars())


def take(connection: Connection, t: Tables, outbox_ids: Sequence[int]) -> list[Publication]:
    """Delete due rows and return those of their jobs that are waiting, due and in time, with their current generation.

    Rows that another session is publishing are left to it. One statement.
    """
    rows = connection.execute(_take(t), {"outbox_ids": list(outbox_ids)})
    seen: dict[UUID, Publication] = {}
    for job_id, queue, gen, element in rows:
        seen[job_id] = Publication(id=job_id, queue=queue, gen=gen, element=element)
    return list(seen.values())


@cache
def _take(t: Tables) -> Select[Any]:
    p, j = t.publications, t.jobs
    free = (
        select(p.c.id)
        .where(p.c.id == func.any(bindparam("outbox_ids", type_=ARRAY(BigInteger))), p.c.due_at <= func.now())
        .with_for_update(skip_locked=True)
    )
    gone = delete(p).where(p.c.id.in_(free)).returning(p.c.id, p.c.job_ids).cte("gone")
    each = func.unnest(gone.c.job_ids).table_valued(column("job_id", Uuid), with_ordinality="n", name="each")
    each = each.render_derived()
    named = (
        select(gone.c.id.label("row"), each.c.job_id, each.c.n).select_from(gone.join(each, true())).subquery("named")
    )
    element = func.json_build_object(
        "id", j.c.id, "gen", j.c.gen, "queue", j.c.queue, "payload", j.c.payload, "attempts", j.c.attempts,
        "max_attempts", j.c.max_attempts, "created_at", j.c.created_at, "expires_at", j.c.expires_at,
    )  # fmt: skip
    return (
        select(j.c.id, j.c.queue, j.c.gen, cast(element, Text))
        .join(named, named.c.job_id == j.c.id)
        .where(fenced(t.status_is(JobStatus.WAITING), j.c.run_at <= func.now(), j.c.expires_at > func.now()))
        .order_by(named.c.row, named.c.n)
    )
