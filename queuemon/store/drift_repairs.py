"""The statements that repair: each compares with what was found, on the row itself, and changes nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    Integer,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    column,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from queuemon.contract import EXPIRY, JobStatus
from queuemon.schema.tables import Tables
from queuemon.store import drift_reads
from queuemon.store.chunks import among
from queuemon.store.drift_reads import Row
from queuemon.store.fence import fenced
from queuemon.store.waiting import due

#: One corrector of counters at a time.
_COUNT_LOCK: Final = 0x6472696674


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How the rows of some ids stand, held so until the transaction ends."""

    rows: Mapping[UUID, Row]
    #: Rows that another session holds: how they will stand nobody knows.
    held: Set[UUID]
    #: Ids without a row that an action deleted.
    deleted: Set[UUID]


def standing(connection: Connection, t: Tables, ids: Sequence[UUID]) -> Standing:
    """Share the locks of these rows, without waiting, and say how they stand: until the transaction ends nobody
    changes them."""
    j = t.jobs
    found = connection.execute(
        select(j.c.id, j.c.status, j.c.gen, j.c.queue).where(among(t, ids)).with_for_update(read=True, skip_locked=True)
    )
    rows = {row[0]: Row(status=t.status_of(row[1]), gen=row[2], queue=row[3]) for row in found}
    rest = [i for i in ids if i not in rows]
    held = drift_reads.rows_of(connection, t, rest).keys() if rest else set()
    missing = [i for i in rest if i not in held]
    return Standing(
        rows=rows, held=held, deleted=drift_reads.deleted(connection, t, missing) if missing else set()
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Renewed:
    """A job under a new generation."""

    id: UUID
    before: int
    after: int


def renew(connection: Connection, t: Tables, found: Sequence[tuple[UUID, int, int]]) -> list[Renewed]:
    """Give waiting jobs a new generation: those of (id, generation, floor) that still have this generation, wait and
    are due. The new one is above the floor too: what a marker in Redis names would stop the publication.
    """
    j = t.jobs
    each = (
        func.unnest(
            bindparam("ids", [f[0] for f in found], ARRAY(Uuid)),
            bindparam("gens", [f[1] for f in found], ARRAY(BigInteger)),
            bindparam("floors", [f[2] for f in found], ARRAY(BigInteger)),
        )
        .table_valued(column("id", Uuid), column("gen", BigInteger), column("floor", BigInteger), name="each")
        .render_derived()
    )
    rows = connection.execute(
        update(j)
        .where(j.c.id == each.c.id, fenced(j.c.gen == each.c.gen, *due(t)))
        .values(gen=cast(func.greatest(j.c.gen, each.c.floor) + 1, Integer), updated_at=func.now())
        .returning(j.c.id, each.c.gen, j.c.gen)
    )
    return [Renewed(id=r[0], before=r[1], after=r[2]) for r in rows]


def straighten(connection: Connection, t: Tables, found: Sequence[tuple[UUID, int]]) -> dict[UUID, Mapping[str, Any]]:
    """Attempts beyond the maximum become the maximum, times in the future become now; id → what stood there before.

    Only rows of this generation; the row is locked while what it was is copied.
    """
    j = t.jobs
    times = drift_reads.in_future(t)
    wanted = dict(found)
    rows = connection.execute(
        select(j.c.id, j.c.gen, j.c.attempts, j.c.max_attempts, *(j.c[name] for name, _ in times))
        .where(j.c.id.in_(list(wanted)), or_(j.c.attempts > j.c.max_attempts, *(late for _, late in times)))
        .order_by(j.c.id)
        .with_for_update()
    ).mappings()
    before: dict[UUID, Mapping[str, Any]] = {
        row["id"]: {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in row.items() if k != "id"}
        for row in rows
        if row["gen"] == wanted[row["id"]]
    }
    if before:
        connection.execute(
            update(j)
            .where(j.c.id.in_(list(before)))
            .values(
                attempts=func.least(j.c.attempts, j.c.max_attempts),
                **{name: case((late, func.now()), else_=j.c[name]) for name, late in times},
            )
        )
    return before


def recount(connection: Connection, t: Tables, queue: str, state: str) -> tuple[int, int] | None:
    """Put a queue's counter of a state right by a delta; (what it said, the rows), or None where it is right.

    In one snapshot: whatever changes meanwhile is counted by its own transaction.
    """
    connection.execute(select(func.pg_advisory_xact_lock(_COUNT_LOCK)))
    for miss in drift_reads.miscounts(connection, t, completed=state == "completed"):
        if (miss.queue, miss.state) == (queue, state):
            connection.execute(insert(t.job_deltas).values(queue=queue, becomes=state, n=miss.rows - miss.counted))
            return miss.counted, miss.rows
    return None


def raise_epoch(connection: Connection, t: Tables, queue: str, *, above: int) -> bool:
    """Bring a queue's pause epoch above the one that Redis has, so that PostgreSQL's flag wins again."""
    q = t.job_queues
    changed = update(q).where(q.c.name == queue, q.c.pause_epoch <= above).values(pause_epoch=above + 1)
    return connection.execute(changed).rowcount == 1


def adopt(connection: Connection, t: Tables, *, job_id: UUID, queue: str, payload: str, above: int) -> bool:
    """Make a row of a quarantined element: waiting, due now, with fresh attempts; False where the id has a row.

    Its generation is above the given one and every one that a job of this id had before it was deleted: an old
    snapshot of Redis may have brought the element back.
    """
    j, q, logs, u = t.jobs, t.job_queues, t.job_logs, t.undo_jobs
    logged = select(func.max(logs.c.gen)).where(logs.c.job_id == job_id).scalar_subquery()
    kept = select(func.max(cast(u.c.row.op("->>")("gen"), Integer))).where(u.c.job_id == job_id).scalar_subquery()
    gen = func.greatest(above, func.coalesce(logged, 0), func.coalesce(kept, 0)) + 1
    values = select(
        literal(job_id, Uuid), q.c.name, cast(literal(payload, Text), JSONB),
        literal(t.status_word(JobStatus.WAITING)), literal(0), gen, q.c.max_attempts,
        func.now(), func.now(), func.now(), func.now() + literal(EXPIRY),
    ).where(q.c.name == queue)  # fmt: skip
    columns = (
        "id", "queue", "payload", "status", "attempts", "gen", "max_attempts", "created_at", "updated_at", "run_at",
        "expires_at",
    )  # fmt: skip
    made = upsert(j).from_select([j.c[name] for name in columns], values).on_conflict_do_nothing().returning(j.c.id)
    return connection.execute(made).first() is not None


def note_chunk(connection: Connection, t: Tables, action_id: UUID, ids: Sequence[UUID]) -> None:
    """The chunk's row in the audit trail: a job's history finds its repair by it."""
    c = t.action_chunks.c
    number = select(func.coalesce(func.max(c.n) + 1, 0)).where(c.action_id == action_id).scalar_subquery()
    ordered = sorted(ids) or [UUID(int=0)]
    connection.execute(
        insert(t.action_chunks).values(
            action_id=action_id, n=number, first_id=ordered[0], last_id=ordered[-1], done_ids=sorted(ids)
        )
    )


def note_repairs(
    connection: Connection, t: Tables, action_id: UUID, actor: Any, repairs: Sequence[Mapping[str, Any]]
) -> None:
    """Before and after of every repair of a chunk, append-only."""
    detail = json.loads(json.dumps(list(repairs), default=str))
    connection.execute(
        insert(t.action_events).values(action_id=action_id, event="repaired", actor=actor, detail={"repairs": detail})
    )


def noted(connection: Connection, t: Tables, action_id: UUID) -> set[UUID]:
    """The ids of everything that an action's chunks say is done."""
    c = t.action_chunks.c
    return set(connection.execute(select(func.unnest(c.done_ids)).where(c.action_id == action_id)).scalars())
