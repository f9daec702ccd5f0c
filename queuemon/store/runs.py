"""What a run of a runbook needs of PostgreSQL: that it is alone on its queue, and who it runs as, on which version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from queuemon.errors import RowHeld, RunbookError
from queuemon.store import audit
from queuemon.store.postgres import Postgres, translated

#: How long a run waits for one that has just been killed: the server notices at once, or nearly so.
WAIT_MS: Final = 2_000

#: Which sessions hold an advisory lock: `application_name` is readable by every role.
_HOLDER: Final = text(
    "SELECT a.usename, a.application_name FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database"
    " WHERE datname = current_database()) AND l.classid = :high AND l.objid = :low AND l.objsubid = 1 LIMIT 1"
)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """As whom and on what a run works."""

    #: PostgreSQL's role and the user of the operating system.
    actor: str
    #: Version of PostgreSQL, such as "17.2".
    postgresql: str
    #: Version of queuemon's schema.
    schema: str
    #: The database and the cluster that it is of, whatever it is reached by; the name alone where that may not be read.
    database: str


def standing(connection: Connection, os_user: str) -> Standing:
    """Read it; a few round trips."""
    from queuemon.schema import migrate  # alembic takes a third of the time that the dashboard takes to be imported

    version, database, told = connection.execute(
        text(
            "SELECT current_setting('server_version'), current_database(),"
            " has_function_privilege('pg_control_system()', 'EXECUTE')"
        )
    ).one()
    if told:
        cluster = connection.execute(text("SELECT system_identifier FROM pg_control_system()")).scalar_one()
        database = f"{database}@{cluster}"
    return Standing(
        database=database,
        actor=audit.actor_name(connection, os_user),
        postgresql=str(version).partition(" ")[0],
        schema=migrate.current(connection) or "none",
    )


@contextmanager
def alone(postgres: Postgres, runbook: str, queues: Sequence[str], run: str) -> Iterator[None]:
    """Inside, no other run of the runbook works on these queues, none named: on any: a session holds an advisory lock
    for each, and shares one that a run on all queues wants for itself.

    The server drops the locks with the session, so a runner that is killed leaves none. They are the session's own:
    a pooler in transaction mode does not carry them. Raises RunbookError when another run is at work.
    """
    with translated(postgres.settings), postgres.engine.connect() as opened:
        connection = opened.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(
            text("SELECT set_config('application_name', :name, false), set_config('lock_timeout', :wait, false)"),
            {"name": run[:63], "wait": str(WAIT_MS)},
        )
        try:
            for queue in ["", *sorted(set(queues))]:
                key, shared = _key(runbook, queue), "_shared" if queues and not queue else ""
                try:
                    with translated(postgres.settings):
                        connection.execute(text(f"SELECT pg_advisory_lock{shared}(:key)"), {"key": key})
                except RowHeld:
                    raise _taken(connection, runbook, queue, key) from None
            yield
        finally:
            # The session is not given back: its name and, if the server is slow to answer, its locks are the run's.
            connection.invalidate()


def _key(runbook: str, queue: str) -> int:
    """A signed 64-bit number for the pair."""
    digest = hashlib.sha256(f"queuemon runbook\0{runbook}\0{queue}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _taken(connection: Connection, runbook: str, queue: str, key: int) -> RunbookError:
    unsigned = key % 2**64
    row = connection.execute(_HOLDER, {"high": unsigned >> 32, "low": unsigned % 2**32}).first()
    who = f" ({row[1]}, as {row[0]})" if row else ""
    where = f" on {queue}" if queue else ""
    return RunbookError(
        f"another run of {runbook!r} is at work{where}{who}",
        expected="one run of a runbook on a queue at a time",
        next_step="wait for it: `queuemon runbook history`",
    )
