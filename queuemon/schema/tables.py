"""Core tables with logical column names; every statement in `store` is written against these and nothing else.

A column's `key` is its logical name, its name the physical one. `build(mapping)` makes the same tables over other
physical names, so a statement never changes when the application's tables are called differently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Double,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    literal_column,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import UserDefinedType

from queuemon.contract import JobStatus

#: Our own schema; the application's tables stay where the application put them.
OWN_SCHEMA = "queuemon"

TIMESTAMPTZ = TIMESTAMP(timezone=True)


class Xid8(UserDefinedType[str]):
    """PostgreSQL's 64-bit transaction id, as text on this side."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """The type's name in DDL."""
        return "xid8"


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """Physical names of the application's three tables; empty means "as in the contract"."""

    #: logical table → physical table, optionally "schema.table".
    tables: Mapping[str, str] = field(default_factory=dict)
    #: "table.column" (logical) → physical column.
    columns: Mapping[str, str] = field(default_factory=dict)
    #: state → the physical words that mean it; the first one is written.
    statuses: Mapping[JobStatus, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tables:
    """All tables of one job system. Address columns by logical name: `t.jobs.c.queue`.

    Compared and hashed by identity, so that a statement can be built once per mapping and cached.
    """

    metadata: MetaData
    job_queues: Table
    jobs: Table
    job_logs: Table
    actions: Table
    action_events: Table
    action_chunks: Table
    queue_pauses: Table
    undo_jobs: Table
    publications: Table
    workers: Table
    job_counts: Table
    job_deltas: Table
    minutes: Table
    totals: Table
    rollup_state: Table
    deploy_marks: Table
    alert_state: Table
    approvals: Table
    statuses: Mapping[JobStatus, tuple[str, ...]]

    def status_word(self, status: JobStatus) -> str:
        """The physical word written for a state."""
        return self.statuses[status][0]

    def status_is(self, *statuses: JobStatus) -> ColumnElement[bool]:
        """`status = 'failed'` as literals, so that the planner can use the partial indexes in prepared statements."""
        words: list[ColumnElement[Any]] = [
            literal_column("'" + w.replace("'", "''") + "'") for s in statuses for w in self.statuses[s]
        ]
        column = self.jobs.c.status
        return column == words[0] if len(words) == 1 else column.in_(words)

    def status_of(self, word: str) -> JobStatus:
        """The state that a physical word means."""
        for status, words in self.statuses.items():
            if word in words:
                return status
        return JobStatus(word)


def build(mapped: Mapped | None = None) -> Tables:
    """The tables over the given physical names."""
    names = mapped or Mapped()
    metadata = MetaData()

    def table(logical: str, *columns: tuple[Any, ...], own: bool = False) -> Table:
        schema, _, physical = names.tables.get(logical, logical).rpartition(".")
        made: list[Column[Any]] = []
        for name, type_, *rest in columns:
            options = rest[0] if rest else {}
            physical_column = names.columns.get(f"{logical}.{name}", name)
            made.append(Column(physical_column, type_, key=name, **options))
        return Table(physical, metadata, *made, schema=OWN_SCHEMA if own else (schema or None))

    pk = {"primary_key": True}
    required = {"nullable": False}
    return Tables(
        metadata=metadata,
        job_queues=table(
            "job_queues",
            ("name", Text, pk),
            ("priority", Text, required),
            ("paused", Boolean, required),
            ("pause_epoch", BigInteger, required),
            ("paused_at", TIMESTAMPTZ),
            ("target_seconds", Double, required),
            ("concurrency", Integer, required),
            ("max_attempts", Integer, required),
            ("created_at", TIMESTAMPTZ, required),
            ("updated_at", TIMESTAMPTZ, required),
        ),
        jobs=table(
            "jobs",
            ("id", Uuid, pk),
            ("queue", Text, required),
            ("payload", JSONB, required),
            ("status", Text, required),
            ("attempts", Integer, required),
            ("created_at", TIMESTAMPTZ, required),
            ("updated_at", TIMESTAMPTZ, required),
            ("gen", Integer, required),
            ("max_attempts", Integer, required),
            ("run_at", TIMESTAMPTZ, required),
            ("expires_at", TIMESTAMPTZ, required),
            ("started_at", TIMESTAMPTZ),
            ("finished_at", TIMESTAMPTZ),
            ("heartbeat_at", TIMESTAMPTZ),
            ("worker_id", Text),
            ("error_type", Text),
            ("error_message", Text),
        ),
        job_logs=table(
            "job_logs",
            ("id", BigInteger, pk),
            ("job_id", Uuid, required),
            ("queue", Text, required),
            ("kind", Text, required),  # "attempt", or the event: retry, delete, expire, lease-lost, …
            ("gen", Integer, required),
            ("attempt", Integer),
            ("action_id", Uuid),
            ("status", Text, required),
            ("worker_id", Text),
            ("started_at", TIMESTAMPTZ),
            ("finished_at", TIMESTAMPTZ, required),  # of an event: when it happened
            ("duration_ms", Double),
            ("error_type", Text),
            ("error_message", Text),
            ("stack_trace", Text),
            ("signature", Text),
            ("signature_version", SmallInteger),
            ("detail", JSONB),
            ("due_at", TIMESTAMPTZ),  # the job waited from then until started_at, or until it expired
            ("txid", Xid8, required),  # default: the inserting transaction, for the roll-up behind the xmin horizon
        ),
        actions=table(
            "actions",
            ("id", Uuid, pk),
            ("kind", Text, required),
            ("target", Text, required),
            ("options", JSONB, required),
            ("ids", ARRAY(Uuid)),
            ("cutoff", TIMESTAMPTZ, required),
            ("cursor", Uuid),
            ("planned", BigInteger, required),
            ("done", BigInteger, required),
            ("skipped", JSONB, required),  # reason → number
            ("gone", BigInteger, required),
            ("state", Text, required),  # running, done, partly, stopped, refused
            ("reason", Text, required),
            ("actor", Text, required),  # PostgreSQL role / OS user
            ("summary", Text, required),
            ("undo_of", Uuid),
            ("before", JSONB, required),  # what a queue's action replaced: undo compares and puts it back
            ("started_at", TIMESTAMPTZ, required),
            ("updated_at", TIMESTAMPTZ, required),
            ("finished_at", TIMESTAMPTZ),
            own=True,
        ),
        action_events=table(
            "action_events",
            ("id", BigInteger, pk),
            ("action_id", Uuid, required),
            ("at", TIMESTAMPTZ, required),
            ("event", Text, required),
            ("actor", Text, required),
            ("detail", JSONB, required),
            own=True,
        ),
        action_chunks=table(
            "action_chunks",
            ("action_id", Uuid, pk),
            ("n", Integer, pk),
            ("first_id", Uuid, required),  # chunks go by keyset, so a job's history finds its chunks by range
            ("last_id", Uuid, required),
            ("done_ids", ARRAY(Uuid), required),
            ("skipped", JSONB, required),  # id → reason
            ("depths", JSONB),  # what it did to the depths, where no row tells: store/depths.py
            ("at", TIMESTAMPTZ, required),
            own=True,
        ),
        queue_pauses=table(
            "queue_pauses",
            ("queue", Text, pk),
            ("holder", Text, pk),
            ("reason", Text, required),
            ("since", TIMESTAMPTZ, required),
            ("until", TIMESTAMPTZ),
            ("action_id", Uuid),
            ("hard", Boolean, required),  # the list is parked as well
            own=True,
        ),
        undo_jobs=table(
            "undo_jobs",
            ("action_id", Uuid, pk),
            ("job_id", Uuid, pk),
            ("row", JSONB, required),
            ("kept_until", TIMESTAMPTZ, required),
            own=True,
        ),
        publications=table(
            "publications",
            ("id", BigInteger, pk),
            ("job_ids", ARRAY(Uuid), required),
            ("due_at", TIMESTAMPTZ, required),
            ("created_at", TIMESTAMPTZ, required),
            own=True,
        ),
        workers=table(
            "workers",
            ("id", Text, pk),
            ("kind", Text, required),  # worker, relay, supervisor
            ("home", Text, required),
            ("host", Text, required),
            ("pid", Integer, required),
            ("started_at", TIMESTAMPTZ, required),
            ("heartbeat_at", TIMESTAMPTZ, required),
            own=True,
        ),
        job_counts=table(  # status: "open" (waiting or active), completed, failed, expired
            "job_counts", ("queue", Text, pk), ("status", Text, pk), ("n", BigInteger, required), own=True
        ),
        job_deltas=table(  # not folded yet: n jobs left `was` and came to `becomes`
            "job_deltas",
            ("queue", Text, required),
            ("was", Text),
            ("becomes", Text),
            ("n", BigInteger, required),
            ("arrived", TIMESTAMPTZ),  # created_at of rows that are new
            ("finished", TIMESTAMPTZ),  # finished_at of rows that became, or were, completed
            own=True,
        ),
        minutes=table(
            "minutes",
            ("queue", Text, pk),
            ("kind", Text, pk),  # arrived, completed (jobs); attempt-completed, attempt-failed
            ("minute", TIMESTAMPTZ, pk),
            ("n", BigInteger, required),
            own=True,
        ),
        totals=table(  # since counting began; measure and bucket: store/totals.py
            "totals",
            ("queue", Text, pk),
            ("measure", Text, pk),
            ("bucket", SmallInteger, pk),
            ("n", BigInteger, required),
            ("seconds", Double, required),
            own=True,
        ),
        rollup_state=table(
            "rollup_state", ("name", Text, pk), ("txid", Xid8, required), ("at", TIMESTAMPTZ, required), own=True
        ),
        deploy_marks=table(
            "deploy_marks",
            ("id", BigInteger, pk),
            ("name", Text, required),
            ("at", TIMESTAMPTZ, required),
            ("actor", Text, required),
            ("note", Text, required),
            own=True,
        ),
        alert_state=table(
            "alert_state",
            ("key", Text, pk),
            ("state", Text, required),
            ("since", TIMESTAMPTZ, required),
            ("detail", JSONB, required),
            own=True,
        ),
        approvals=table(  # only added to; role and at are written by a trigger
            "approvals",
            ("id", BigInteger, pk),
            ("hash", Text, required),
            ("role", Text, required),
            ("os_user", Text, required),
            ("note", Text, required),
            ("at", TIMESTAMPTZ, required),
            own=True,
        ),
        statuses={s: tuple(names.statuses.get(s, (s.value,))) for s in JobStatus},
    )


#: The contract's own names.
TABLES = build()
