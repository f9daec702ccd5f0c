"""The two sides of the contrast, read in one stream: jobs that failed in a window, and jobs that succeeded in it.

A job is on one side only: it is failing if an attempt at it failed in the window (or it stands failed there without a
record of its attempts), else succeeding if it completed. Its worker, attempt and clocks are those of the *first* such
failed attempt, so that what failing itself brings about (later attempts, longer waits) does not look like a cause.
Nothing of a payload is decoded on this side: paths are walked, and values cut, by PostgreSQL.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa
from pyarrow import csv
from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    Connection,
    Select,
    Text,
    and_,
    case,
    cast,
    exists,
    extract,
    func,
    literal,
    literal_column,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB, distinct_on
from sqlalchemy.sql.elements import ColumnElement

from queuemon.contract import JobStatus
from queuemon.filters import JobFilter
from queuemon.filters.fields import Op
from queuemon.filters.tree import And, Node, Term, both, fields
from queuemon.filters.tree import Text as Word
from queuemon.schema.tables import TIMESTAMPTZ, Tables
from queuemon.store.filtering import conditions
from queuemon.store.postgres import Postgres

#: Longest window.
LONGEST: Final = timedelta(days=31)
#: Jobs read of each side at most; beyond it a seeded draw, the same share of every queue.
SIDE_LIMIT: Final = 100_000
#: Paths of the payload that become attributes: the most frequent ones.
MAX_PATHS: Final = 60
#: Levels of objects that are walked.
MAX_DEPTH: Final = 5
#: Jobs of each side whose payloads are walked for paths.
WALKED: Final = 1_000
#: Jobs with a payload that takes more bytes than this in its row are left out.
MAX_PAYLOAD_BYTES: Final = 256_000
#: Characters of a value, and of a list, that travel.
MAX_TEXT: Final = 200
MAX_LIST: Final = 4_000

#: Fields by which a filter narrows both sides: what a job is, not how it went.
SHARED: Final = frozenset({"queue", "payload", "length", "created", "age", "worker", "max_attempts", "hour", "id"})

_FRACTION: Final = 2**20


@dataclass(frozen=True, kw_only=True, eq=False)
class Sides:
    """Both sides as one Arrow table, and how they came about.

    Columns: `failed`, `started` (s since 1970), `wait` (ms), and as JSON texts `queue`, `worker`, `attempts`, `hour`
    and `p0`, `p1`, … for the paths.
    """

    table: pa.Table
    #: The path behind each column `p…`, and whether its presence can be asked for.
    paths: tuple[tuple[str, ...], ...]
    presence: tuple[bool, ...]
    #: Jobs of each side in the window; more than were read where the side was sampled.
    failing_total: int
    succeeding_total: int
    #: Jobs that a failing one stands for, per succeeding one's.
    weight: float
    #: Condition that both sides share, as a filter.
    shared: str
    #: Fields that the failing side was chosen by: no attributes.
    chosen_by: frozenset[str]
    deploys: tuple[tuple[str, datetime], ...]
    #: What was left out, in the operator's words.
    notes: tuple[str, ...]


def split(where: JobFilter) -> tuple[JobFilter, JobFilter]:
    """A filter as (what both sides share, what makes a job one of the failing): by the fields of its conditions."""
    parts: tuple[Node, ...] = where.root.parts if isinstance(where.root, And) else (where.root,)
    shared = [p for p in parts if fields(p) <= SHARED]
    own = [p for p in parts if not fields(p) <= SHARED]
    return JobFilter(root=both(*shared) if shared else And(())), JobFilter(root=both(*own) if own else And(()))


def read(
    postgres: Postgres,
    where: JobFilter,
    *,
    since: datetime,
    until: datetime,
    queue: str | None,
    limit: int = SIDE_LIMIT,
    seed: int = 0,
    seconds: float,
) -> Sides:
    """Both sides in one snapshot of the data; every statement ends within `seconds`.

    100,000 + 100,000 jobs with 17 paths keep this side busy for 1 s. Raises StoreTimeout.
    """
    t = postgres.tables
    shared, own = split(where)
    with postgres.begin(seconds=seconds, read_only=True) as connection:
        lease = postgres.settings.lease_seconds
        reading = _Reading(
            connection=connection,
            t=t,
            shared=conditions(shared, t, lease_seconds=lease),
            own=conditions(own, t, lease_seconds=lease),
            signatures=_signatures(own.root),
            since=literal(since, TIMESTAMPTZ),
            until=literal(until, TIMESTAMPTZ),
            queue=queue,
            seed=seed,
        )
        bad, queues = reading.count_failing()
        good = reading.count_succeeding(queues)
        shares = [min(1.0, limit / max(1, n)) for n in (bad, good)]
        sides = reading.sides(queues, shares)
        found = reading.paths(sides) if bad and good else []
        paths = found[:MAX_PATHS]
        table = reading.stream(sides, paths)
        marks = connection.execute(
            select(t.deploy_marks.c.name, t.deploy_marks.c.at).where(t.deploy_marks.c.at < until)
            .order_by(t.deploy_marks.c.at.desc()).limit(20)
        ).all()  # fmt: skip
    notes = [
        f"Of {n:,} {side} jobs {share * 100:.2g} % were drawn, of each queue alike."
        for side, n, share in (("failing", bad, shares[0]), ("succeeding", good, shares[1]))
        if share < 1
    ]
    big = table.column("big").to_numpy(zero_copy_only=False).astype(bool)
    if big.any():
        notes.append(f"{int(big.sum()):,} jobs with payloads over {MAX_PAYLOAD_BYTES // 1_000} kB were left out.")
        table = table.filter(pa.array(~big))
    if len(found) > MAX_PATHS:
        notes.append(f"The payloads have more paths; the {MAX_PATHS} most frequent ones were looked at.")
    return Sides(
        table=table,
        paths=tuple(tuple(path) for path, _, _ in paths),
        presence=tuple(presence for _, presence, _ in paths),
        failing_total=bad,
        succeeding_total=good,
        weight=shares[1] / shares[0],
        shared=str(shared),
        chosen_by=chosen_by | {"hour"} if "started" in (chosen_by := fields(own.root)) else chosen_by,
        deploys=tuple((name, at) for name, at in marks),
        notes=tuple(notes),
    )


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """The statements, over one connection and one pair of conditions."""

    connection: Connection
    t: Tables
    shared: ColumnElement[bool]
    own: ColumnElement[bool]
    #: Signatures that the failed attempt itself must have; none: any.
    signatures: Sequence[str]
    since: ColumnElement[Any]
    until: ColumnElement[Any]
    queue: str | None
    seed: int

    def _failures(self) -> Select[Any]:
        """The failed attempts of the window (index job_logs_failures, or job_logs_signature)."""
        c = self.t.job_logs.c
        chosen = select(c.id, c.job_id, c.worker_id, c.attempt, c.started_at).where(
            c.kind == literal_column("'attempt'"),
            c.status == literal_column("'failed'"),
            c.finished_at >= self.since,
            c.finished_at < self.until,
        )
        if self.queue is not None:
            chosen = chosen.where(c.queue == self.queue)
        return chosen.where(c.signature.in_(self.signatures)) if self.signatures else chosen

    def failing(self) -> Select[Any]:
        """Failing jobs, each with its first failed attempt of the window."""
        j, t = self.t.jobs, self.t
        log = self._failures().subquery("log")
        first = select(log).ext(distinct_on(log.c.job_id)).order_by(log.c.job_id, log.c.id).subquery("first")
        recorded = (
            self._side(first.c.worker_id, first.c.attempt, first.c.started_at, failed=True)
            .join_from(first, j, j.c.id == first.c.job_id)
            .where(self.shared, self.own)
        )
        if self.signatures:
            return recorded
        logs = t.job_logs.c
        unrecorded = self._side(j.c.worker_id, null(), j.c.started_at, failed=True).where(
            t.status_is(JobStatus.FAILED),
            *self._finished(),
            ~exists(select(1).where(logs.job_id == j.c.id, logs.kind == "attempt", logs.status == "failed")),
            self.shared,
            self.own,
        )
        both_kinds = union_all(recorded, unrecorded).subquery("failing")
        return select(both_kinds)

    def succeeding(self, queues: Sequence[str]) -> Select[Any]:
        """Completed jobs of the same queues and window (index jobs_completed), without a failed attempt in it."""
        j, logs = self.t.jobs, self.t.job_logs.c
        failed = exists(
            select(1).where(
                logs.job_id == j.c.id,
                logs.kind == "attempt",
                logs.status == "failed",
                logs.finished_at >= self.since,
                logs.finished_at < self.until,
            )
        )
        return self._side(j.c.worker_id, j.c.attempts, j.c.started_at, failed=False).where(
            self.t.status_is(JobStatus.COMPLETED), j.c.queue.in_(queues), *self._finished(), self.shared, ~failed
        )

    def _finished(self) -> tuple[ColumnElement[bool], ...]:
        j = self.t.jobs.c
        queue = true() if self.queue is None else j.queue == self.queue
        return (j.finished_at >= self.since, j.finished_at < self.until, queue)

    def _side(self, worker: Any, attempt: Any, started: Any, *, failed: bool) -> Select[Any]:
        j = self.t.jobs.c
        return select(
            j.id.label("id"),
            j.queue.label("queue"),
            j.created_at.label("created_at"),
            j.payload.label("payload"),
            worker.label("worker_id"),
            cast(attempt, BigInteger).label("attempt"),
            started.label("started_at"),
            literal_column("true" if failed else "false").label("failed"),
        )

    def count_failing(self) -> tuple[int, list[str]]:
        """How many failing jobs there are, and their queues."""
        side = self.failing().subquery()
        rows = self.connection.execute(select(side.c.queue, func.count()).group_by(side.c.queue)).all()
        return sum(n for _, n in rows), sorted(q for q, _ in rows)

    def count_succeeding(self, queues: Sequence[str]) -> int:
        """How many jobs completed, those with a failed attempt before included: an index answers."""
        if not queues:
            return 0
        j = self.t.jobs.c
        statement = select(func.count()).where(
            self.t.status_is(JobStatus.COMPLETED), j.queue.in_(queues), *self._finished(), self.shared
        )
        return int(self.connection.execute(statement).scalar_one())

    def sides(self, queues: Sequence[str], shares: Sequence[float]) -> CTE:
        """Both sides, each drawn by a seeded hash of the id, so that a repeated reading draws the same jobs."""
        drawn = []
        for side, share in zip((self.failing(), self.succeeding(queues or [""])), shares, strict=True):
            rows = side.subquery()
            chosen = select(rows)
            if share < 1:
                hashed = func.uuid_hash_extended(rows.c.id, cast(self.seed, BigInteger), type_=BigInteger)
                chosen = chosen.where(hashed.op("&")(_FRACTION - 1) < int(share * _FRACTION))
            drawn.append(chosen)
        return union_all(*drawn).cte("sides")

    def paths(self, sides: CTE) -> list[tuple[list[str], bool, bool]]:
        """Paths of objects in a draw of the payloads: (path, whether presence can be asked for, whether lists stand
        there), the most frequent first. A path needs 1 % of the draw; maps keyed by data drop out."""
        small = func.pg_column_size(sides.c.payload) <= MAX_PAYLOAD_BYTES
        order = func.uuid_hash_extended(sides.c.id, cast(self.seed + 1, BigInteger))
        arms = [
            select(sides.c.payload)
            .where(sides.c.failed.is_(literal_column(word)), small)
            .order_by(order)
            .limit(WALKED)
            .subquery()
            for word in ("true", "false")
        ]
        drawn = union_all(*(select(a) for a in arms)).cte("drawn")
        nothing = literal_column("'{}'::jsonb", JSONB)

        def members(value: ColumnElement[Any]) -> Any:
            inside = case((func.jsonb_typeof(value) == "object", value), else_=nothing)
            return func.jsonb_each(inside).table_valued("key", "value", name="member").render_derived()

        top = members(drawn.c.payload)
        key = cast(top.c.key, Text)
        walk = (
            select(
                func.array_append(cast(literal_column("'{}'"), ARRAY(Text)), key).label("path"),
                cast(top.c.value, JSONB).label("value"),
                literal(1).label("depth"),
            )
            .select_from(drawn.join(top, true()))
            .cte("walk", recursive=True)
        )
        deeper = members(walk.c.value)
        walk = walk.union_all(
            select(
                func.array_append(walk.c.path, cast(deeper.c.key, Text)),
                cast(deeper.c.value, JSONB),
                walk.c.depth + 1,
            )
            .select_from(walk.join(deeper, true()))
            .where(walk.c.depth < MAX_DEPTH)
        )
        listed = func.bool_or(func.jsonb_typeof(walk.c.value) == "array")
        total = select(func.count()).select_from(drawn).scalar_subquery()
        rows = self.connection.execute(
            select(walk.c.path, listed)
            .group_by(walk.c.path)
            .having(func.count() * 100 >= total)
            .order_by(func.count().desc(), walk.c.path)
            .limit(MAX_PATHS + 1)
        ).all()
        lists = {tuple(path) for path, is_list in rows if is_list}
        return [(path, tuple(path[:-1]) not in lists, is_list) for path, is_list in rows]

    def stream(self, sides: CTE, paths: Sequence[tuple[list[str], bool, bool]]) -> pa.Table:
        """Both sides by COPY into Arrow, texts without repetition."""
        small = func.pg_column_size(sides.c.payload) <= MAX_PAYLOAD_BYTES
        payload = case((small, sides.c.payload), else_=null())
        held = select(sides, payload.label("small")).cte("held")
        c = held.c
        columns: dict[str, ColumnElement[Any]] = {
            "failed": c.failed,
            "big": and_(c.small.is_(None), c.payload.is_not(None)),
            "started": func.floor(extract("epoch", c.started_at)),
            "wait": func.floor(extract("epoch", c.started_at - c.created_at) * 1000),
            "queue": cast(func.to_jsonb(cast(c.queue, Text)), Text),
            "worker": cast(func.to_jsonb(cast(c.worker_id, Text)), Text),
            "attempts": cast(c.attempt, Text),
            "hour": cast(cast(extract("hour", func.timezone("UTC", c.started_at)), BigInteger), Text),
        }
        for n, (path, _, listed) in enumerate(paths):
            value = c.small.op("#>", return_type=JSONB())(cast(path, ARRAY(Text)))
            columns[f"p{n}"] = func.left(cast(value, Text), MAX_LIST if listed else MAX_TEXT)
        statement = select(*(column.label(name) for name, column in columns.items()))
        compiled = statement.compile(self.connection, compile_kwargs={"render_postcompile": True})
        buffer = io.BytesIO()
        driver = self.connection.connection.driver_connection
        assert driver is not None
        with (
            driver.cursor() as cursor,
            cursor.copy(f"COPY ({compiled}) TO STDOUT (FORMAT csv, HEADER)", dict(compiled.params)) as copy,
        ):
            for block in copy:
                buffer.write(block)
        buffer.seek(0)
        text = pa.dictionary(pa.int32(), pa.string())
        types = dict.fromkeys(columns, text) | {"started": pa.float64(), "wait": pa.float64()}
        types |= {"failed": pa.bool_(), "big": pa.bool_()}
        return csv.read_csv(
            buffer,
            convert_options=csv.ConvertOptions(
                column_types=types,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
            parse_options=csv.ParseOptions(newlines_in_values=True),
        )


def _signatures(node: Node) -> list[str]:
    """The signatures that a filter asks for by itself: then the attempts with them are the failed ones."""
    parts = node.parts if isinstance(node, And) else (node,)
    for part in parts:
        if isinstance(part, Term) and part.field == "signature" and part.op in {Op.EQ, Op.IN}:
            return [v.text for v in part.values if isinstance(v, Word)]
    return []
