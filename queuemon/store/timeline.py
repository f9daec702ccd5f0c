"""What the past left behind, counted per bucket of time by PostgreSQL; `analysis/timeline.py` makes the curves of it.

Every wait of a job is told once: by the row of the attempt that ended it (`due_at` → `started_at`), by the row of its
expiry, by `jobs` while it waits or runs, or by the chunk of the action that broke it off (`action_chunks.depths`).
Arrivals come from the counters, so that deleted jobs are in them. Rows never leave the server, only sums do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Integer,
    Interval,
    and_,
    case,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy import text as sql_text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

from queuemon.contract import JobStatus
from queuemon.model import ActionKind
from queuemon.schema.tables import TIMESTAMPTZ, Tables

#: Longest reach into the past, and most buckets of one reading.
LONGEST: Final = timedelta(days=31)
BUCKETS: Final = 12_000

#: A statement of a reading may take this long.
SECONDS: Final = 60.0

#: Deploys and actions beside a timeline at most; the newest are kept.
MARKS: Final = 500

#: Rows of `job_logs` that end an attempt; "expire" ends a wait without one.
ENDS: Final = ("attempt", "lease-lost", "handed-back")


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """So many events of a kind in a queue within one bucket."""

    queue: str
    #: arrived, due (began to wait), started, waited (started, and the wait is known), completed, failed, lost, expired,
    #: left (deleted or moved while waiting).
    kind: str
    #: Of the bucket; -1 for all that lies before the first, the number of buckets for all after the last.
    index: int
    n: int
    #: Of "waited": how long, in sum and the longest.
    seconds: float = 0.0
    longest: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One consistent view of everything that a timeline is made of."""

    flows: tuple[Flow, ...]
    #: Due waiting jobs now, by queue; queues without any are left out.
    depth: dict[str, int]
    clock: datetime
    #: Where attempts of the window have been purged: the oldest row that `job_logs` still holds.
    purged_before: datetime | None
    #: Attempts in reach that do not say since when their job had been due: counted as if it had not waited.
    undated: int


def clock(connection: Connection) -> datetime:
    """PostgreSQL's clock in this transaction, whose every statement from now on sees one state of the data."""
    connection.execute(sql_text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    now: datetime = connection.execute(select(func.now())).scalar_one()
    return now


def read(
    connection: Connection,
    t: Tables,
    *,
    now: datetime,
    since: datetime,
    step: timedelta,
    buckets: int,
    queue: str | None,
) -> Reading:
    """All events from `since` on in buckets of `step`; `now` is what `clock` gave in the same transaction.

    Reads the log rows since then once (by their BRIN index), the waiting and active jobs (by theirs), the chunks of
    actions and the arrivals per minute. 1 M attempts of seven days in 200 buckets: about 1.5 s, an
    hour of them: 30 ms (bench/timeline.py).
    """
    grid = _Grid(since=since, step=step, buckets=buckets)
    sums: dict[tuple[str, str, int], list[float]] = {}

    def add(name: str, kind: str, bucket: int | None, n: int, waits: tuple[float, float] = (0.0, 0.0)) -> None:
        if bucket is None or not n:
            return
        found = sums.setdefault((name, kind, min(max(bucket, -1), buckets)), [0, 0.0, 0.0])
        found[0] += n
        found[1] += waits[0]
        found[2] = max(found[2], waits[1])

    undated = 0
    for name, kind, status, due, started, ended, n, dated, seconds, longest in connection.execute(
        _logs(t, grid, queue)
    ):
        add(name, "due", due, n)
        if kind == "expire":
            add(name, "expired", ended, n)
            continue
        add(name, "started", started, n)
        add(name, "waited", started, dated, (seconds or 0.0, longest or 0.0))
        undated += n - dated
        if kind == "lease-lost":
            add(name, "lost", ended, n)
        elif kind == "attempt":
            add(name, "failed" if status == JobStatus.FAILED.value else "completed", ended, n)
    depth: dict[str, int] = {}
    for name, due, n in connection.execute(_waiting(t, grid, queue)):
        add(name, "due", due, n)
        depth[name] = depth.get(name, 0) + n
    for name, due, started, n, seconds, longest in connection.execute(_active(t, grid, queue)):
        add(name, "due", due, n)
        add(name, "started", started, n)
        add(name, "waited", started, n, (seconds, longest))
    for name, bucket, due, left, started in connection.execute(_broken_off(t, grid, queue)):
        add(name, "due", bucket, due)
        add(name, "left", bucket, left)
        add(name, "started", bucket, started)
    for name, bucket, n in connection.execute(_arrived(t, grid, queue)):
        add(name, "arrived", bucket, n)
    flows = tuple(
        Flow(queue=name, kind=kind, index=index, n=int(n), seconds=seconds, longest=longest)
        for (name, kind, index), (n, seconds, longest) in sums.items()
    )
    purged = _purged(connection, t, since)
    return Reading(flows=flows, depth=depth, clock=now, purged_before=purged, undated=undated)


def _purged(connection: Connection, t: Tables, since: datetime) -> datetime | None:
    """The oldest log row, where the counters know of attempts that ended before it and after `since`."""
    m, logs = t.minutes.c, t.job_logs.c
    oldest: datetime | None = connection.execute(
        select(logs.finished_at).where(logs.kind == "attempt").order_by(logs.id).limit(1)
    ).scalar()
    earlier = select(literal(1)).where(
        m.minute >= since,
        m.minute < func.date_trunc("minute", cast(literal(oldest), TIMESTAMPTZ)),
        m.kind.like("attempt-%"),
    )
    return oldest if connection.execute(earlier.limit(1)).first() else None


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """The buckets; rows are grouped by a bucket's first moment, and groups leave the server with its number."""

    since: datetime
    step: timedelta
    buckets: int

    def of(self, at: ColumnElement[Any]) -> ColumnElement[Any]:
        """The bucket of a moment; all after the last bucket are one."""
        after = cast(literal(self.since + self.buckets * self.step), TIMESTAMPTZ)
        return func.date_bin(cast(literal(self.step), Interval), func.least(at, after), self._since)

    def number(self, bucket: ColumnElement[Any]) -> ColumnElement[Any]:
        """Its number: 0 is the first of the window, those before are below."""
        seconds = func.date_part("epoch", bucket - self._since, type_=Double)
        return cast(seconds / self.step.total_seconds(), Integer)

    @property
    def _since(self) -> ColumnElement[Any]:
        return cast(literal(self.since), TIMESTAMPTZ)


def _named(named: ColumnElement[str], queue: str | None) -> ColumnElement[bool]:
    return true() if queue is None else named == queue


def _logs(t: Tables, grid: _Grid, queue: str | None) -> Any:
    logs = t.job_logs.c
    started = func.coalesce(logs.started_at, logs.finished_at)
    # A job whose deadline lies before its back-off ends expires without having come due.
    due = case(
        (logs.kind == "expire", func.least(logs.due_at, logs.finished_at)), else_=func.coalesce(logs.due_at, started)
    )
    waited = started - due
    keys = (
        logs.queue, logs.kind, logs.status, grid.of(due).label("due"), grid.of(started).label("started"),
        grid.of(logs.finished_at).label("ended"),
    )  # fmt: skip
    sums = (
        func.count().label("n"),
        func.count(logs.due_at).label("dated"),
        func.sum(_seconds(waited)).label("seconds"),
        _seconds(func.max(waited)).label("longest"),
    )
    rows = select(*keys, *sums).where(
        logs.finished_at >= grid.since, logs.kind.in_((*ENDS, "expire")), _named(logs.queue, queue)
    )
    g = rows.group_by(logs.queue, logs.kind, logs.status, "due", "started", "ended").subquery("counted").c
    numbers = (grid.number(at) for at in (g.due, g.started, g.ended))
    return select(g.queue, g.kind, g.status, *numbers, g.n, g.dated, g.seconds, g.longest)


def _seconds(span: ColumnElement[Any]) -> ColumnElement[Any]:
    # Of an interval, as a float: EXTRACT would be arithmetic with numerics.
    return func.date_part("epoch", span, type_=Double)


def _waiting(t: Tables, grid: _Grid, queue: str | None) -> Any:
    j = t.jobs.c
    rows = select(j.queue, grid.of(j.run_at).label("due"), func.count().label("n"))
    rows = rows.where(t.status_is(JobStatus.WAITING), j.run_at <= func.now(), _named(j.queue, queue))
    g = rows.group_by(j.queue, "due").subquery("counted").c
    return select(g.queue, grid.number(g.due), g.n)


def _active(t: Tables, grid: _Grid, queue: str | None) -> Any:
    j = t.jobs.c
    began = func.coalesce(j.started_at, j.run_at)
    waited = _seconds(began - j.run_at)
    sums = (func.count().label("n"), func.sum(waited).label("seconds"), func.max(waited).label("longest"))
    rows = select(j.queue, grid.of(j.run_at).label("due"), grid.of(began).label("started"), *sums)
    rows = rows.where(t.status_is(JobStatus.ACTIVE), _named(j.queue, queue))
    g = rows.group_by(j.queue, "due", "started").subquery("counted").c
    return select(g.queue, grid.number(g.due), grid.number(g.started), g.n, g.seconds, g.longest)


def _broken_off(t: Tables, grid: _Grid, queue: str | None) -> Any:
    """What chunks of actions say of waits that no row tells any more."""
    c = t.action_chunks.c
    each = func.jsonb_array_elements(c.depths).table_valued(column("v", JSONB), name="each").render_derived()
    told = [each.c.v.op("->>")(n) for n in range(5)]
    rows = (
        select(told[0].label("queue"), *(cast(v, BigInteger).label(f"n{n}") for n, v in enumerate(told[1:])))
        .select_from(t.action_chunks.join(each, true()))
        .where(c.depths.is_not(None), c.at >= grid.since, _named(told[0], queue))
        .subquery("told")
    )
    at = grid.number(grid.of(func.to_timestamp(rows.c.n0 * 60.0, type_=TIMESTAMPTZ))).label("at")
    sums = [cast(func.sum(n), BigInteger) for n in (rows.c.n1, rows.c.n2, rows.c.n3)]
    return select(rows.c.queue, at, *sums).group_by(rows.c.queue, "at")


def _arrived(t: Tables, grid: _Grid, queue: str | None) -> Any:
    m, d = t.minutes.c, t.job_deltas.c
    folded = select(m.queue, m.minute.label("at"), m.n).where(
        m.kind == "arrived", m.minute >= grid.since, _named(m.queue, queue)
    )
    fresh = select(d.queue, d.arrived, d.n).where(d.arrived >= grid.since, _named(d.queue, queue))
    both = union_all(folded, fresh).subquery("arrived")
    at = grid.number(grid.of(both.c.at)).label("bucket")
    return select(both.c.queue, at, func.sum(both.c.n).cast(BigInteger)).group_by(both.c.queue, "bucket")


@dataclass(frozen=True, kw_only=True)
class Happened:
    """A deploy or an operator's action, as it stands beside a timeline."""

    at: datetime
    #: "deploy", or the kind of the action.
    kind: str
    #: The deploy's name; of an action the queue or the filter. Hostile text.
    target: str
    actor: str
    #: The deploy's note, or the reason that the operator gave.
    why: str
    #: Jobs that an action changed.
    done: int | None = None
    #: Of a pause: when it ends by itself.
    until: datetime | None = None


def happened(connection: Connection, t: Tables, *, since: datetime, until: datetime) -> tuple[Happened, ...]:
    """Deploys and operator actions from `since` to `until`, oldest first; the newest 500 of each."""
    d, a = t.deploy_marks.c, t.actions.c
    deploys: Sequence[Any] = connection.execute(
        select(d.at, d.name, d.actor, d.note).where(d.at.between(since, until)).order_by(d.at.desc()).limit(MARKS)
    ).all()
    # Looking at what is masked changes nothing: it cannot be why anything else changed.
    did = and_(a.kind != ActionKind.REVEAL.value, or_(a.done > 0, a.state == "running"))
    acts: Sequence[Any] = connection.execute(
        select(a.started_at, a.kind, a.target, a.actor, a.reason, a.done, a.options.op("->>")("until"))
        .where(and_(a.started_at.between(since, until), did))
        .order_by(a.started_at.desc())
        .limit(MARKS)
    ).all()
    found = [Happened(at=r[0], kind="deploy", target=r[1], actor=r[2], why=r[3]) for r in deploys]
    found += [
        Happened(
            at=r[0], kind=r[1], target=r[2], actor=r[3], why=r[4], done=r[5],
            until=datetime.fromisoformat(r[6]) if r[6] else None,
        )
        for r in acts
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda h: h.at))
