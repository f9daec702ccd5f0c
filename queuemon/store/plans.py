"""Reads for plans: how many jobs an action would take, which they are, and how those stand that it leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Integer, and_, case, func, literal, not_, or_, select, true, tuple_
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import FromClause

from queuemon.contract import JobStatus
from queuemon.masking import Masking
from queuemon.model import ActionKind, Breakdown, Certainty, Count, Job
from queuemon.schema.tables import Tables
from queuemon.store.chunks import (
    LEGAL,
    Order,
    Standing,
    array_of,
    array_text,
    each_state,
    standing_columns,
    standing_from,
    untouched,
)
from queuemon.store.jobs import job_columns, job_from
from queuemon.store.leases import silent

#: Jobs counted exactly per state; beyond it "at least".
COUNT_CAP = 1_000_000

#: Jobs that an action leaves alone, counted up to this many per state.
LEFT_CAP = 100_000

#: Parts of a breakdown; the rest is summed up.
PARTS = 20

#: First characters of an error message by which jobs are grouped.
MESSAGE = 80

#: Window of a queue's present rate.
RATE_WINDOW = timedelta(minutes=5)

#: Ages (created → cutoff), youngest first: up to this long, in words.
AGES = (
    (timedelta(minutes=5), "under 5 min"),
    (timedelta(hours=1), "5 min to 1 h"),
    (timedelta(days=1), "1 h to 1 d"),
    (timedelta(days=7), "1 d to 7 d"),
)
OLDEST = "over 7 d"


@dataclass(frozen=True, kw_only=True)
class Matching:
    """The jobs an action would take, counted."""

    count: Count
    by_queue: tuple[Breakdown, ...]
    by_status: tuple[Breakdown, ...]
    by_error: tuple[Breakdown, ...]
    by_age: tuple[Breakdown, ...]


def takes(t: Tables, order: Order, where: ColumnElement[bool]) -> ColumnElement[bool]:
    """What an action takes of the jobs that are in one of its states."""
    return and_(untouched(t, order), where)


def matching(
    connection: Connection,
    t: Tables,
    taken: ColumnElement[bool],
    states: Sequence[JobStatus],
    cutoff: datetime,
) -> Matching:
    """Count what an action would take (see `takes`), with its breakdowns, in one statement. 100,000 jobs: 0.2 s."""
    j = t.jobs
    age = case(*((j.c.created_at > cutoff - limit, label) for limit, label in AGES), else_=OLDEST)
    message = func.left(func.split_part(j.c.error_message, "\n", 1), MESSAGE)
    found = each_state(
        [
            select(
                j.c.queue.label("queue"),
                literal(s.value).label("state"),
                j.c.error_type.label("error"),
                message.label("message"),
                age.label("age"),
            )
            .where(t.status_is(s), taken)
            .limit(COUNT_CAP + 1)
            for s in states
        ]
    )
    c = found.c
    sets = func.grouping_sets(tuple_(c.queue), tuple_(c.state), tuple_(c.error, c.message), tuple_(c.age))
    which = func.grouping(c.queue, c.state, c.error, c.age, type_=Integer)
    grouped = (
        select(which.label("which"), c.queue, c.state, c.error, c.message, c.age, func.count().label("n"))
        .group_by(sets)
        .subquery()
    )
    rank = func.row_number().over(partition_by=grouped.c.which, order_by=grouped.c.n.desc())
    ranked = select(grouped, rank.label("rank")).subquery()
    rows = connection.execute(select(ranked).where(ranked.c.rank <= PARTS).order_by(ranked.c.rank)).mappings().all()

    def group(bits: int) -> list[Any]:
        """The rows of one grouping set; in `which` a set bit is a column that was not grouped by."""
        return [row for row in rows if row["which"] == bits]

    by_status = tuple(Breakdown(label=row["state"], count=row["n"]) for row in group(0b1011))
    total = sum(b.count for b in by_status)
    capped = any(b.count > COUNT_CAP for b in by_status)
    errors = [
        Breakdown(label=": ".join(filter(None, (row["error"], row["message"]))), count=row["n"])
        for row in group(0b1101)
        if row["error"] or row["message"]
    ]
    without = sum(row["n"] for row in group(0b1101) if not (row["error"] or row["message"]))
    ages = {row["age"]: row["n"] for row in group(0b1110)}
    return Matching(
        count=Count(value=min(total, COUNT_CAP), certainty=Certainty.CAPPED) if capped else Count(value=total),
        by_queue=_with_rest([Breakdown(label=row["queue"], count=row["n"]) for row in group(0b0111)], total),
        by_status=by_status,
        by_error=_with_rest(errors, total - without),
        by_age=tuple(Breakdown(label=a, count=ages[a]) for a in (*(a for _, a in AGES), OLDEST) if a in ages),
    )


def _with_rest(parts: list[Breakdown], total: int) -> tuple[Breakdown, ...]:
    rest = total - sum(p.count for p in parts)
    return (*parts, Breakdown(label="others", count=rest)) if rest > 0 else tuple(parts)


def sample(
    connection: Connection,
    t: Tables,
    taken: ColumnElement[bool],
    states: Sequence[JobStatus],
    *,
    limit: int,
    masking: Masking,
) -> tuple[Job, ...]:
    """A few of the jobs an action would take, the newest of each state; without payloads."""
    jobs: list[Job] = []
    for state in states:
        if len(jobs) < limit:
            rows = connection.execute(
                select(*job_columns(t))
                .where(t.status_is(state), taken)
                .order_by(t.jobs.c.id.desc())
                .limit(limit - len(jobs))
            )
            jobs += [job_from(row, t, masking) for row in rows.mappings()]
    return tuple(jobs)


def left_alone(
    connection: Connection, t: Tables, order: Order, where: ColumnElement[bool], states: Sequence[JobStatus]
) -> dict[Standing, int]:
    """What else matches in these states, counted up to LEFT_CAP per state, which then means "at least". One bounded
    statement."""
    columns = standing_columns(t, order)
    branches = []
    for state in states:
        # Of its own states an action leaves only what these conditions tell apart.
        apart: ColumnElement[bool] = true()
        if state in LEGAL[order.kind]:
            match order.kind:
                case ActionKind.RUN_NOW:
                    apart = t.jobs.c.run_at <= func.now()
                case ActionKind.MOVE:
                    apart = t.jobs.c.queue == order.to
                case ActionKind.RESCUE | ActionKind.DELETE_STUCK:
                    apart = not_(silent(t, order.lease_seconds))
                case _:
                    continue
        branches.append(select(*columns).where(t.status_is(state), where, apart).limit(LEFT_CAP))
    if not branches:
        return {}
    return _counted(connection, t, each_state(branches))[0]


def left_of_selection(
    connection: Connection, t: Tables, order: Order, ids: Sequence[UUID]
) -> tuple[dict[Standing, int], int]:
    """How those of a selection stand that an action leaves alone, and how many no longer exist. One statement."""
    j = t.jobs
    picked = select(func.unnest(array_of(array_text(ids))).label("id")).cte("picked")
    legal = and_(t.status_is(*LEGAL[order.kind]), untouched(t, order))
    found = (
        select(*standing_columns(t, order))
        .join_from(picked, j, j.c.id == picked.c.id, isouter=True)
        .where(or_(j.c.id.is_(None), not_(legal)))
        .subquery()
    )
    return _counted(connection, t, found)


def _counted(connection: Connection, t: Tables, found: FromClause) -> tuple[dict[Standing, int], int]:
    """How many stand alike, and how many rows are missing."""
    columns = [found.c[name] for name in ("status", "due", "stuck", "there")]
    rows = connection.execute(select(*columns, func.count()).group_by(*columns)).all()
    there = {standing_from(t, row): row[4] for row in rows if row[0] is not None}
    return there, sum(row[4] for row in rows if row[0] is None)


def used_up(connection: Connection, t: Tables, taken: ColumnElement[bool]) -> int:
    """How many of the active jobs that an action takes have no attempt left."""
    j = t.jobs
    spent = select(j.c.id).where(t.status_is(JobStatus.ACTIVE), taken, j.c.attempts >= j.c.max_attempts)
    found: int = connection.execute(select(func.count()).select_from(spent.limit(COUNT_CAP).subquery())).scalar_one()
    return found


def rates(connection: Connection, t: Tables) -> dict[str, float]:
    """Jobs completed per second over the last five minutes, by queue; queues without any are left out."""
    minutes, deltas = t.minutes, t.job_deltas
    since = func.date_trunc("minute", func.now()) - RATE_WINDOW
    both = (
        select(minutes.c.queue, minutes.c.n)
        .where(minutes.c.kind == "completed", minutes.c.minute >= since)
        .union_all(
            select(deltas.c.queue, case((deltas.c.becomes == "completed", deltas.c.n), else_=-deltas.c.n)).where(
                deltas.c.finished >= since
            )
        )
        .subquery()
    )
    seconds = func.extract("epoch", func.now() - since)
    rows = connection.execute(select(both.c.queue, func.sum(both.c.n) / seconds).group_by(both.c.queue))
    return {queue: float(rate) for queue, rate in rows if rate > 0}
