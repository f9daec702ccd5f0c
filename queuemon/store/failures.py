"""Failed attempts of a window, counted by signature in the index alone; rows leave the server where one is unsigned.

Beyond a named number of attempts the window is read in slices, evenly spread over it (stratified by time).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Connection,
    Interval,
    Select,
    String,
    Uuid,
    bindparam,
    case,
    cast,
    column,
    func,
    literal,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.sql.elements import ColumnElement

from queuemon.contract import JobStatus
from queuemon.schema.tables import TIMESTAMPTZ, Tables
from queuemon.store.signing import failed, texts, version_of

#: Attempts that are counted one by one; of more, slices.
ATTEMPTS: Final = 1_000_000

#: Unsigned attempts whose texts are read; of more, slices.
UNSIGNED: Final = 20_000

#: Attempts of one signature whose jobs are looked up.
STANDING: Final = 20_000

#: A reading may take this long.
SECONDS: Final = 15.0

#: From (inclusive) and to (exclusive).
Slices = Sequence[tuple[datetime, datetime]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """Attempts of one signature, queue and bucket; the signature is None for those that have none of this version."""

    signature: str | None
    queue: str
    bucket: datetime
    count: int
    first: datetime
    last: datetime
    #: Attempts of all signatures together, and how many signatures there are.
    attempts: int
    signatures: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsigned:
    """An attempt to be signed by the reader."""

    job_id: UUID
    queue: str
    at: datetime
    error_type: str | None
    message: str | None
    stack_trace: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Detail:
    """What is asked of one signature alone."""

    signature: str
    #: Its first attempt in the logs, whatever the window.
    first: datetime
    job_id: UUID | None
    error_type: str | None
    message: str | None
    stack_trace: str | None
    #: Jobs that stand failed now, among those of its newest attempts; and whether there were more attempts.
    standing: int
    capped: bool


def _within(t: Tables, slices: Slices, queue: str | None) -> tuple[Any, Any]:
    """(from, lateral columns) of the failed attempts in the slices."""
    logs = t.job_logs
    spans = (
        func.unnest(
            bindparam("starts", [start for start, _ in slices], ARRAY(TIMESTAMPTZ)),
            bindparam("ends", [end for _, end in slices], ARRAY(TIMESTAMPTZ)),
        )
        .table_valued(column("start", TIMESTAMPTZ), column("end", TIMESTAMPTZ), name="spans")
        .render_derived()
    )
    inside = [failed(t), logs.c.finished_at >= spans.c.start, logs.c.finished_at < spans.c.end]
    if queue is not None:
        inside.append(logs.c.queue == queue)
    return spans, inside


def number(connection: Connection, t: Tables, slices: Slices, queue: str | None, *, limit: int = ATTEMPTS) -> int:
    """Failed attempts in the slices, counted up to `limit` + 1. A million: about 0.2 s."""
    spans, inside = _within(t, slices, queue)
    some = select(literal(1).label("one")).select_from(spans.join(t.job_logs, true())).where(*inside).limit(limit + 1)
    return int(connection.execute(select(func.count()).select_from(some.subquery())).scalar_one())


def counted(
    connection: Connection, t: Tables, slices: Slices, queue: str | None, *,
    since: datetime, step: timedelta, version: int, limit: int,
) -> list[Counted]:  # fmt: skip
    """The attempts in the slices by signature, queue and bucket: of the `limit` signatures with most, and unsigned."""
    logs = t.job_logs
    spans, inside = _within(t, slices, queue)
    signature = case((version_of(t) >= version, logs.c.signature), else_=cast(null(), String)).label("signature")
    bucket = func.date_bin(literal(step, Interval()), logs.c.finished_at, literal(since, TIMESTAMPTZ)).label("bucket")
    grouped = (
        select(
            signature,
            logs.c.queue,
            bucket,
            func.count().label("n"),
            func.min(logs.c.finished_at).label("first"),
            func.max(logs.c.finished_at).label("last"),
        )
        .select_from(spans.join(logs, true()))
        .where(*inside)
        .group_by(signature, logs.c.queue, bucket)
        .subquery("grouped")
    )
    g = grouped.c
    summed = select(
        grouped, func.sum(g.n).over(partition_by=g.signature).label("total"), func.sum(g.n).over().label("attempts")
    ).subquery("summed")
    s = summed.c
    place = func.dense_rank().over(order_by=(s.signature.is_(None), s.total.desc(), s.signature))
    ranked = select(summed, place.label("place")).subquery("ranked")
    r = ranked.c
    most = select(func.max(r.place).filter(r.signature.is_not(None))).scalar_subquery()
    rows = connection.execute(
        select(r.signature, r.queue, r.bucket, r.n, r.first, r.last, r.attempts, func.coalesce(most, 0)).where(
            or_(r.place <= limit, r.signature.is_(None))
        )
    )
    return [
        Counted(
            signature=row[0], queue=row[1], bucket=row[2], count=row[3], first=row[4], last=row[5],
            attempts=int(row[6]), signatures=row[7],
        )
        for row in rows
    ]  # fmt: skip


def unsigned(
    connection: Connection, t: Tables, slices: Slices, queue: str | None, *, version: int, parts: tuple[int, int]
) -> list[Unsigned]:
    """The attempts in the slices that have no signature of this version, at most twice `UNSIGNED`."""
    logs = t.job_logs
    spans, inside = _within(t, slices, queue)
    statement = (
        select(logs.c.job_id, logs.c.queue, logs.c.finished_at, *texts(t, parts))
        .select_from(spans.join(logs, true()))
        .where(*inside, version_of(t) < version)
        .limit(2 * UNSIGNED)
    )
    return [
        Unsigned(job_id=r[0], queue=r[1], at=r[2], error_type=r[3], message=r[4], stack_trace=r[5])
        for r in connection.execute(statement)
    ]


def details(
    connection: Connection, t: Tables, wanted: Sequence[tuple[str, datetime]], queue: str | None, *,
    parts: tuple[int, int],
) -> list[Detail]:  # fmt: skip
    """First attempt, an example and the jobs that stand failed, of (signature, time of one of its attempts)."""
    if not wanted:
        return []
    logs, jobs = t.job_logs, t.jobs
    given = (
        func.unnest(
            bindparam("signatures", [signature for signature, _ in wanted], ARRAY(String)),
            bindparam("times", [at for _, at in wanted], ARRAY(TIMESTAMPTZ)),
        )
        .table_valued(column("signature", String), column("at", TIMESTAMPTZ), name="given")
        .render_derived()
    )
    mine = logs.c.signature == given.c.signature
    first = select(logs.c.finished_at).where(mine).order_by(logs.c.finished_at).limit(1).lateral("first")
    here: list[ColumnElement[bool]] = [] if queue is None else [logs.c.queue == queue]
    example = (
        select(logs.c.job_id, *(c.label(f"text{n}") for n, c in enumerate(texts(t, parts))))
        .where(mine, failed(t), logs.c.finished_at == given.c.at, *here)
        .limit(1)
        .lateral("example")
    )
    newest = (
        select(logs.c.job_id)
        .where(mine)
        .order_by(logs.c.finished_at.desc())
        .limit(STANDING)
        .correlate(given)
        .subquery("newest")
    )
    stands = [jobs.c.id == newest.c.job_id, t.status_is(JobStatus.FAILED)]
    if queue is not None:
        stands.append(jobs.c.queue == queue)
    standing = _one(select(func.count(func.distinct(jobs.c.id))).select_from(newest.join(jobs, true())).where(*stands))
    more = _one(select(func.count()).select_from(select(logs.c.id).where(mine).limit(STANDING + 1).subquery("more")))
    statement = select(given.c.signature, first.c.finished_at, *example.c, standing, more).select_from(
        given.join(first, true()).outerjoin(example, true())
    )
    return [
        Detail(
            signature=r[0], first=r[1], job_id=r[2], error_type=r[3], message=r[4], stack_trace=r[5], standing=r[6],
            capped=r[7] > STANDING,
        )
        for r in connection.execute(statement)
    ]  # fmt: skip


def _one(statement: Select[Any]) -> Any:
    return statement.scalar_subquery()


def stand_failed(connection: Connection, t: Tables, ids: Sequence[UUID]) -> set[UUID]:
    """Those of the jobs that stand failed now."""
    if not ids:
        return set()
    jobs = t.jobs
    wanted = jobs.c.id == func.any(bindparam("ids", list(set(ids)), ARRAY(Uuid)))
    return set(connection.execute(select(jobs.c.id).where(wanted, t.status_is(JobStatus.FAILED))).scalars())


def reach(connection: Connection, t: Tables) -> datetime | None:
    """The oldest failed attempt that the logs still hold."""
    logs = t.job_logs
    found: datetime | None = connection.execute(
        select(logs.c.finished_at).where(failed(t)).order_by(logs.c.finished_at).limit(1)
    ).scalar()
    return found
