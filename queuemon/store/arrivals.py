"""New jobs: one statement inserts them and promises their publication; the producer uses it, in any transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import (
    ARRAY,
    Connection,
    Double,
    Integer,
    Select,
    Text,
    Uuid,
    bindparam,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import Compiled

from queuemon.contract import EXPIRY, JobStatus
from queuemon.schema.tables import TIMESTAMPTZ, Tables

#: A caller's own transaction.
Transaction = Connection | psycopg.Connection[Any]

#: From this many rows on the counters count the statement instead of each row.
BULK = 50


@dataclass(frozen=True, kw_only=True)
class NewJobs:
    """What to insert: jobs of one queue that differ in nothing but their ids and payloads."""

    queue: str
    ids: Sequence[UUID]
    #: One JSON text per id.
    payloads: Sequence[str]
    #: None or a time in the past: due at once.
    run_at: datetime | None = None
    #: None: the queue's.
    max_attempts: int | None = None
    #: Counted from the first due time.
    expires_after_seconds: float = EXPIRY.total_seconds()

    def parameters(self) -> dict[str, Any]:
        """The statement's parameters."""
        return {
            "queue": self.queue,
            "ids": list(self.ids),
            "payloads": list(self.payloads),
            "run_at": self.run_at,
            "max_attempts": self.max_attempts,
            "expires_after": self.expires_after_seconds,
        }


def insert_jobs(connection: Connection, t: Tables, new: NewJobs) -> int | None:
    """Insert jobs and their outbox row; returns the row's id, or None (and inserts nothing) for an unknown queue."""
    if len(new.ids) >= BULK:
        connection.execute(text("SELECT set_config('queuemon.bulk', 'on', true)"))
    row: int | None = connection.execute(_insert(t), new.parameters()).scalar_one()
    return row


def insert_jobs_in(transaction: Transaction, t: Tables, new: NewJobs) -> int | None:
    """The same in a transaction of the caller's own, SQLAlchemy's or psycopg's."""
    if isinstance(transaction, Connection):
        return insert_jobs(transaction, t, new)
    compiled = _compiled(t)
    # Read by position, whatever the caller's row factory is.
    with transaction.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        row = cursor.execute(compiled.string.encode(), compiled.construct_params(new.parameters())).fetchone()
    return row[0] if row is not None else None


@cache
def _compiled(t: Tables) -> Compiled:
    dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]
    return _insert(t).compile(dialect=dialect)


@cache
def _insert(t: Tables) -> Select[Any]:
    j, q, p = t.jobs, t.job_queues, t.publications
    due = func.greatest(cast(bindparam("run_at"), TIMESTAMPTZ), func.now())
    lifetime = func.make_interval(0, 0, 0, 0, 0, 0, cast(bindparam("expires_after"), Double))
    each = (
        func.unnest(cast(bindparam("ids"), ARRAY(Uuid)), cast(bindparam("payloads"), ARRAY(Text)))
        .table_valued("id", "payload", name="each")
        .render_derived()
    )
    rows = (
        select(
            cast(each.c.id, Uuid), q.c.name, cast(each.c.payload, JSONB), literal(t.status_word(JobStatus.WAITING)),
            literal(0), literal(1), func.coalesce(cast(bindparam("max_attempts"), Integer), q.c.max_attempts),
            func.now(), func.now(), due, due + lifetime,
        )
        .select_from(q.join(each, true()))
        .where(q.c.name == cast(bindparam("queue"), Text))
    )  # fmt: skip
    columns = (
        "id", "queue", "payload", "status", "attempts", "gen", "max_attempts", "created_at", "updated_at", "run_at",
        "expires_at",
    )  # fmt: skip
    made = insert(j).from_select([j.c[name] for name in columns], rows).returning(j.c.id, j.c.run_at).cte("made")
    promised = (
        insert(p)
        .from_select(
            [p.c.job_ids, p.c.due_at],
            select(func.array_agg(made.c.id), func.max(made.c.run_at)).having(func.count() > 0),
        )
        .returning(p.c.id)
        .cte("promised")
    )
    return select(select(promised.c.id).scalar_subquery())


def exists(connection: Connection, t: Tables, job_id: UUID) -> bool:
    """Whether a job has a row, or had one that an action took away: it was inserted."""
    there = select(t.jobs.c.id).where(t.jobs.c.id == job_id).exists()
    kept = select(t.undo_jobs.c.job_id).where(t.undo_jobs.c.job_id == job_id).exists()
    return bool(connection.execute(select(or_(there, kept))).scalar_one())


def queue_names(connection: Connection, t: Tables) -> list[str]:
    """All queues, for the message about one that does not exist."""
    return list(connection.execute(select(t.job_queues.c.name).order_by(t.job_queues.c.name)).scalars())
