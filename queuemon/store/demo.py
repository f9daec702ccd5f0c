"""What the embedded demo asks of PostgreSQL: its marker, its state, bulk loading, deploy marks; used by `demo` alone.

A database is a demo when it has the table `queuemon.demo_state`: nothing in `demo` touches any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    Connection,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from queuemon.contract import JobStatus
from queuemon.schema.tables import Tables

_CREATE = """
CREATE TABLE IF NOT EXISTS queuemon.demo_state (
    key    text PRIMARY KEY,
    value  jsonb NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
)
"""


def mark(connection: Connection) -> None:
    """Declare this database a demo."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('queuemon.demo_state'))"))
    connection.execute(text(_CREATE))


def is_demo(connection: Connection) -> bool:
    """Whether this database was declared a demo."""
    return bool(connection.execute(text("SELECT to_regclass('queuemon.demo_state') IS NOT NULL")).scalar_one())


def holds_jobs(connection: Connection, t: Tables) -> bool:
    """Whether any job or queue exists."""
    return any(
        connection.execute(select(table.c[key]).limit(1)).first()
        for table, key in ((t.jobs, "id"), (t.job_queues, "name"))
    )


def state(connection: Connection, key: str) -> Any:
    """A value the demo keeps; None where there is none."""
    return connection.execute(text("SELECT value FROM queuemon.demo_state WHERE key = :key"), {"key": key}).scalar()


def set_state(connection: Connection, key: str, value: Any) -> None:
    """Keep a value."""
    statement = text(
        "INSERT INTO queuemon.demo_state (key, value) VALUES (:key, :value)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value, at = now()"
    ).bindparams(bindparam("value", type_=JSON))
    connection.execute(statement, {"key": key, "value": value})


def add_queues(connection: Connection, t: Tables, rows: Sequence[dict[str, Any]]) -> None:
    """Create the demo's queues; those that exist keep what an operator has set."""
    now = func.now()
    statement = upsert(t.job_queues).values(
        [{"paused": False, "pause_epoch": 0, "created_at": now, "updated_at": now, **row} for row in rows]
    )
    connection.execute(statement.on_conflict_do_nothing())


def count_by_statement(connection: Connection) -> None:
    """Let the counters count this transaction's changes per statement instead of per row."""
    connection.execute(text("SET LOCAL queuemon.bulk = 'on'"))


def copy(connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[str]) -> None:
    """Load rows in COPY's text format (each with its newline) within the connection's transaction."""
    names = ", ".join(f'"{table.c[name].name}"' for name in columns)
    target = f'"{table.schema}"."{table.name}"' if table.schema else f'"{table.name}"'
    cursor: Any = connection.connection.cursor()
    with cursor, cursor.copy(f"COPY {target} ({names}) FROM STDIN") as stream:
        for row in rows:
            stream.write(row)


def analyze(connection: Connection, t: Tables) -> None:
    """Tell the planner what was loaded."""
    for table in (t.jobs, t.job_logs, t.minutes):
        connection.execute(text(f"ANALYZE {table.fullname}"))


def insert_rows(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Plain rows of any table."""
    if rows:
        connection.execute(insert(table), list(rows))


def add_deploy(connection: Connection, t: Tables, name: str, note: str) -> datetime:
    """Mark a deploy now."""
    at: datetime = connection.execute(
        insert(t.deploy_marks)
        .values(name=name, note=note, at=func.clock_timestamp(), actor=func.session_user())
        .returning(t.deploy_marks.c.at)
    ).scalar_one()
    return at


def latest_deploy(connection: Connection, t: Tables, names: Sequence[str]) -> str | None:
    """Which of these deploys was the last; None where none ever was."""
    d = t.deploy_marks
    return connection.execute(select(d.c.name).where(d.c.name.in_(names)).order_by(d.c.id.desc()).limit(1)).scalar()


def add_chunk(connection: Connection, t: Tables, action_id: UUID, ids: Sequence[UUID], at: datetime) -> None:
    """The ids that a bulk action of the past has done, sorted."""
    if ids:
        row = {"action_id": action_id, "n": 0, "first_id": ids[0], "last_id": ids[-1], "skipped": {}, "at": at}
        connection.execute(insert(t.action_chunks).values(done_ids=list(ids), **row))


def delete_with_copies(
    connection: Connection, t: Tables, action_id: UUID, ids: Sequence[UUID], kept_until: datetime
) -> None:
    """Delete jobs as an action of the past did, with copies for undo."""
    chosen = t.jobs.c.id.in_(list(ids))
    copies = select(literal(action_id), t.jobs.c.id, func.to_jsonb(t.jobs.table_valued()), literal(kept_until))
    connection.execute(
        insert(t.undo_jobs).from_select(["action_id", "job_id", "row", "kept_until"], copies.where(chosen))
    )
    connection.execute(delete(t.jobs).where(chosen))


def running_since_before(connection: Connection, t: Tables, at: datetime) -> int:
    """Attempts that began before a moment and still run."""
    began = select(func.count()).select_from(t.jobs).where(t.status_is(JobStatus.ACTIVE), t.jobs.c.started_at < at)
    return int(connection.execute(began).scalar_one())


def holders(connection: Connection, t: Tables, host: str, queue: str) -> list[tuple[str, int, UUID]]:
    """Workers of a machine with a job of a queue in their hand, as (worker, pid, job), longest first."""
    w, j = t.workers, t.jobs
    rows = connection.execute(
        select(w.c.id, w.c.pid, j.c.id)
        .join_from(j, w, w.c.id == j.c.worker_id)
        .where(t.status_is(JobStatus.ACTIVE), j.c.queue == queue, w.c.kind == "worker", w.c.host == host)
        .order_by(j.c.started_at)
    )
    return [(worker, pid, job) for worker, pid, job in rows]


def helpers(connection: Connection, t: Tables, host: str) -> list[tuple[str, int]]:
    """Relays and supervisors that a machine has entered in the registry, as (name, pid)."""
    w = t.workers
    rows = connection.execute(select(w.c.id, w.c.pid).where(w.c.host == host, w.c.kind != "worker"))
    return [(name, pid) for name, pid in rows]
