"""What became of the jobs that a canary retried, read by their ids alone; actions/canary.py waits on these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Integer, Select, Text, Uuid, case, cast, column, func, literal, select, update
from sqlalchemy.sql.elements import ColumnElement

from queuemon.contract import JobStatus
from queuemon.model import ActionKind
from queuemon.schema.tables import Tables
from queuemon.store.chunks import array_of, array_text, each_state

#: What a retried job can have come to; the last two are no result of its own.
COMPLETED, FAILED, GONE, RUNNING = "completed", "failed", "gone", "running"


def matching_ids(
    connection: Connection, t: Tables, where: ColumnElement[bool], states: Sequence[JobStatus], *, limit: int
) -> tuple[UUID, ...]:
    """The ids of the jobs in these states that match, in keyset order, at most `limit`."""
    j = t.jobs
    if not states:
        return ()
    found = each_state([select(j.c.id).where(t.status_is(s), where).order_by(j.c.id).limit(limit) for s in states])
    return tuple(connection.execute(select(found.c.id).order_by(found.c.id).limit(limit)).scalars())


def retried(connection: Connection, t: Tables, action_id: UUID, ids: Sequence[UUID]) -> dict[UUID, int]:
    """Job → the generation that a retry of a selection (of up to a thousand, so that each has its event) gave it."""
    c = t.job_logs.c
    rows = connection.execute(
        select(c.job_id, c.gen).where(
            c.job_id == func.any(array_of(array_text(ids))), c.action_id == action_id, c.kind == ActionKind.RETRY.value
        )
    )
    return {row[0]: row[1] for row in rows}


def results(connection: Connection, t: Tables, gens: Mapping[UUID, int]) -> dict[UUID, str]:
    """What each retried job came to: completed, failed (or expired) of its generation or a later attempt's, gone (it
    was deleted), running (it waits or is active). 1,000 ids: about 3 ms."""
    if not gens:
        return {}
    return {row.id: row.came_to for row in connection.execute(_results(t, gens))}


def _results(t: Tables, gens: Mapping[UUID, int]) -> Select[Any]:
    j = t.jobs
    numbers = cast(literal("{" + ",".join(map(str, gens.values())) + "}", Text), ARRAY(Integer))
    columns = column("id", Uuid), column("gen", Integer)
    ids = array_of(array_text(list(gens)))
    wanted = func.unnest(ids, numbers).table_valued(*columns, name="wanted").render_derived()
    came_to = case(
        (j.c.id.is_(None), GONE),
        # Older than the retry: not what it became, but what it was (a restored copy); the next look tells.
        (j.c.gen < wanted.c.gen, RUNNING),
        (t.status_is(JobStatus.COMPLETED), COMPLETED),
        (t.status_is(JobStatus.FAILED, JobStatus.EXPIRED), FAILED),
        else_=RUNNING,
    )
    return select(wanted.c.id, came_to.label("came_to")).join_from(wanted, j, j.c.id == wanted.c.id, isouter=True)


def add_up(connection: Connection, t: Tables, action_id: UUID, steps: Sequence[UUID], *, cursor: UUID) -> None:
    """Write into a held canary what its steps did so far: sums over their own rows, so twice is the same as once."""
    a = t.actions
    rows = connection.execute(select(a.c.done, a.c.skipped, a.c.gone).where(a.c.id.in_(list(steps)))).all()
    skipped: dict[str, int] = {}
    for row in rows:
        for reason, n in row.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + n
    done, gone = (sum(getattr(row, name) for row in rows) for name in ("done", "gone"))
    values = {"cursor": cursor, "done": done, "skipped": skipped, "gone": gone, "updated_at": func.clock_timestamp()}
    connection.execute(update(a).where(a.c.id == action_id).values(values))


def still_waits(connection: Connection, t: Tables, action_id: UUID) -> bool:
    """Note that somebody waits for a canary's jobs; False when another process has ended it."""
    a = t.actions
    noted = update(a).where(a.c.id == action_id, a.c.state == "running").values(updated_at=func.clock_timestamp())
    return connection.execute(noted).rowcount == 1
