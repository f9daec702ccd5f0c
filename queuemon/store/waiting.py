"""What waits in PostgreSQL, read by the ten thousand as arrays; the comparison of the stores stands on it.

A page travels as one value and is never taken apart row by row: 1 M waiting jobs are 28 MB and about a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import LargeBinary, Select, Uuid, cast, func, literal, select, true, tuple_
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.elements import ColumnElement

from queuemon.contract import JobStatus
from queuemon.schema.tables import TIMESTAMPTZ, Tables
from queuemon.store.chunks import array_of
from queuemon.store.fence import fenced
from queuemon.store.postgres import Postgres

#: Rows per statement.
PAGE: Final = 10_000

#: A row as PostgreSQL packs it: id, generation, run_at in microseconds.
_ROW: Final = np.dtype([("id", "V16"), ("gen", ">i4"), ("at", ">i8")])

#: Where PostgreSQL's clock begins to count.
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)

Array = npt.NDArray[Any]


def pages(postgres: Postgres, queue: str) -> Iterator[tuple[Array, Array]]:
    """(ids as 16 bytes, generations) of a queue's jobs that wait, are due and in time; 10,000 at a time, by keyset.

    Each page is a statement of its own, so no long snapshot holds back vacuum; what changes meanwhile is looked at
    again by whoever asks.
    """
    t = postgres.tables
    after: tuple[datetime, bytes] | None = None
    while True:
        rows = _packed(postgres, _page(t, queue, after))
        if len(rows):
            yield rows["id"], rows["gen"].astype(np.int64)
        if len(rows) < PAGE:
            return
        last = rows[-1]
        after = _EPOCH + timedelta(microseconds=int(last["at"])), last["id"].tobytes()


def still(postgres: Postgres, ids: Sequence[bytes]) -> dict[bytes, int]:
    """id → generation of those that wait, are due and in time, and whose publication is not pending.

    A publication's row goes in the transaction that stays open until Redis has answered: who finds it gone finds the
    job in Redis, unless it was lost there.
    """
    found: dict[bytes, int] = {}
    for first in range(0, len(ids), PAGE):
        rows = _packed(postgres, _still(postgres.tables, ids[first : first + PAGE]))
        found.update(zip((i.tobytes() for i in rows["id"]), rows["gen"].tolist(), strict=True))
    return found


def due(t: Tables) -> tuple[ColumnElement[bool], ...]:
    """What a job must be to stand in a list: waiting, due, in time."""
    j = t.jobs
    return t.status_is(JobStatus.WAITING), j.c.run_at <= func.now(), j.c.expires_at > func.now()


def pending(t: Tables) -> ColumnElement[bool]:
    """Whether an outbox row, due or not, promises the job's publication.

    A list that is hashed once, whatever the statistics say: the outbox grows from nothing to thousands in a second.
    """
    return t.jobs.c.id.in_(select(func.unnest(t.publications.c.job_ids)))


def ids_text(ids: Sequence[bytes]) -> str:
    """PostgreSQL's text of an array of ids given as 16 bytes each."""
    return "{" + ",".join(i.hex() for i in ids) + "}"


def _page(t: Tables, queue: str, after: tuple[datetime, bytes] | None) -> Select[Any]:
    j = t.jobs
    beyond: ColumnElement[bool] = true()
    if after is not None:
        at, job_id = after
        beyond = tuple_(j.c.run_at, j.c.id) > tuple_(cast(literal(at), TIMESTAMPTZ), cast(literal(job_id.hex()), Uuid))
    return (
        select(j.c.id, j.c.gen, j.c.run_at)
        .where(j.c.queue == queue, *due(t), beyond)
        .order_by(j.c.run_at, j.c.id)
        .limit(PAGE)
    )


def _still(t: Tables, ids: Sequence[bytes]) -> Select[Any]:
    j = t.jobs
    # Joined, not `= ANY`: beside another condition the text would be read again for every row that waits.
    picked = select(func.unnest(array_of(ids_text(ids))).label("id")).cte("picked")
    rows = select(j.c.id, j.c.gen, j.c.run_at).join_from(picked, j, j.c.id == picked.c.id)
    return rows.where(fenced(*due(t)), ~pending(t))


def _packed(postgres: Postgres, query: Select[Any]) -> Array:
    """The rows of a query of (id, gen, run_at), as one value made by PostgreSQL: a message for each row would cost
    this side as much as all the rest of a comparison."""
    page = query.subquery("page")
    row = func.uuid_send(page.c.id).op("||")(func.int4send(page.c.gen)).op("||")(func.timestamptz_send(page.c.run_at))
    nothing = aggregate_order_by(literal(b"", LargeBinary), page.c.run_at, page.c.id)
    whole = select(func.string_agg(row, nothing, type_=LargeBinary))
    with postgres.statement() as connection:
        data = connection.execute(whole).scalar_one()
    return np.frombuffer(data or b"", dtype=_ROW)
