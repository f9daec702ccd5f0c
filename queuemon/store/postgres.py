"""The PostgreSQL half: connections with timeouts, and driver errors translated in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import errors as pg
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from queuemon.config import Settings
from queuemon.errors import (
    NotAllowed,
    QueuemonError,
    RowHeld,
    SchemaMismatch,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from queuemon.schema.tables import TABLES, Tables
from queuemon.store.bounds import bound
from queuemon.store.patience import PatientConnection, ServerSilent, patience_for

STORE = "postgresql"


class Postgres:
    """One pool of connections to the durable truth; safe to share between threads.

    `begin()` gives a transaction under the settings' timeouts; `begin(seconds=…)` under another statement timeout.
    """

    def __init__(self, settings: Settings, tables: Tables = TABLES, *, application: str = "queuemon") -> None:
        self.tables = tables
        self.settings = settings
        self.application = application
        self.engine = _engine(settings, application)

    @contextmanager
    def begin(self, *, seconds: float | None = None, read_only: bool = False) -> Iterator[Connection]:
        """A transaction; commits at the end, rolls back on an error, which leaves translated.

        `seconds` replaces the statement timeout (0 means none) within this transaction.
        """
        seconds = self._shorter(seconds)
        with (
            translated(self.settings, seconds),
            self.engine.connect() as connection,
            _within_bound(connection),
            connection.begin(),
        ):
            _give_patience(connection, self.settings.statement_timeout_seconds if seconds is None else seconds)
            if read_only:
                connection.execute(text("SET TRANSACTION READ ONLY"))
            if seconds is not None:
                # No query: the caller may still choose the isolation level.
                connection.execute(text(f"SET LOCAL statement_timeout = {int(seconds * 1000)}"))
            yield connection

    @contextmanager
    def statement(self) -> Iterator[Connection]:
        """A connection on which every statement is its own transaction: one round trip instead of three."""
        with translated(self.settings), self.engine.connect() as connection, _within_bound(connection):
            _give_patience(connection, self.settings.statement_timeout_seconds)
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def _shorter(self, seconds: float | None) -> float | None:
        """The statement timeout under the bound of this thread, if it has one."""
        if (limit := bound()) is None:
            return seconds
        usual = self.settings.statement_timeout_seconds if seconds is None else seconds
        return min(usual or limit.seconds, limit.seconds)

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


@contextmanager
def briefly(
    connection: Connection, settings: Settings, *, lock_seconds: float, seconds: float | None = None
) -> Iterator[None]:
    """Inside, a statement waits at most so long for each row that another session holds, and is cancelled when it takes
    `seconds`: the transaction keeps its own locks meanwhile.

    The statement timeout is the settings' again before the commit, which a standby may have to confirm.
    """
    lock = min(lock_seconds, settings.lock_timeout_seconds)
    usual = settings.statement_timeout_seconds
    within = usual if seconds is None else min(seconds, usual)
    _set_timeouts(connection, lock, within)
    yield
    if within != usual:
        _set_timeouts(connection, lock, usual)


def _set_timeouts(connection: Connection, lock_seconds: float, seconds: float) -> None:
    connection.execute(
        text("SELECT set_config('lock_timeout', :lock, true), set_config('statement_timeout', :all, true)"),
        {"lock": str(max(1, round(lock_seconds * 1000))), "all": str(max(1, round(seconds * 1000)))},
    )


@contextmanager
def _within_bound(connection: Connection) -> Iterator[None]:
    """Let the bound of this thread end what the connection does; without one nothing is different."""
    if (limit := bound()) is None:
        yield
        return
    with limit.around(connection.connection.driver_connection):
        yield


def _give_patience(connection: Connection, seconds: float) -> None:
    """Wait for each answer as long as the statement timeout allows, and a little more."""
    raw = connection.connection.dbapi_connection
    if isinstance(raw, PatientConnection):
        raw.patience = patience_for(seconds)


def _engine(settings: Settings, application: str) -> Engine:
    """An engine whose URL is taken apart here, so that no driver message can print a password."""
    arguments: dict[str, Any] = dict(connection_arguments(settings.database_url.get_secret_value()))
    arguments.setdefault("connect_timeout", str(max(1, round(settings.connect_timeout_seconds))))
    arguments["application_name"] = application
    for name, value in (("keepalives_idle", "10"), ("keepalives_interval", "5"), ("keepalives_count", "3")):
        arguments.setdefault(name, value)
    arguments.setdefault("tcp_user_timeout", "15000")
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: PatientConnection.connect(**arguments),
        pool_size=5,
        max_overflow=10,
        pool_timeout=settings.connect_timeout_seconds,
        pool_pre_ping=False,
        pool_recycle=1800,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def set_bounds(connection: psycopg.Connection, _record: object) -> None:
        """Bounds of every session; set once per connection instead of a round trip per transaction."""
        if isinstance(connection, PatientConnection):
            connection.patience = patience_for(settings.statement_timeout_seconds)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false),"
                " set_config('idle_in_transaction_session_timeout', '60000', false),"
                " set_config('timezone', 'UTC', false)",
                (
                    str(int(settings.statement_timeout_seconds * 1000)),
                    str(int(settings.lock_timeout_seconds * 1000)),
                ),
            )
        connection.commit()

    return engine


def connection_arguments(url: str) -> dict[str, str]:
    """A PostgreSQL URL as libpq's keyword arguments (host, port, user, password, dbname, sslmode, …)."""
    parts = urlsplit(url)
    arguments = {
        key: value
        for key, value in (
            ("host", unquote(parts.hostname or "")),
            ("port", str(parts.port or "")),
            ("user", unquote(parts.username or "")),
            ("password", unquote(parts.password or "")),
            ("dbname", unquote(parts.path.lstrip("/"))),
        )
        if value
    }
    for pair in parts.query.split("&") if parts.query else []:
        key, _, value = pair.partition("=")
        arguments[unquote(key)] = unquote(value)
    return arguments


@contextmanager
def translated(settings: Settings, seconds: float | None = None) -> Iterator[None]:
    """Driver errors become ours: found, expected, what to do next, and never a DSN or a password.

    `seconds` is the statement timeout, where it is not the settings'.

    Raised `from None`: driver errors may quote parameters and addresses in a printed traceback.
    """
    try:
        yield
    except QueuemonError:
        raise
    except PoolTimeout:
        raise StoreTimeout(
            "all connections to PostgreSQL are busy",
            expected="a free connection in time",
            next_step="wait for running actions, or look for stuck queries",
            store=STORE,
        ) from None
    except DBAPIError as error:
        ours = _from_driver(error.orig, settings, seconds)
        if isinstance(ours, StoreError):
            ours.lost = error.connection_invalidated
        raise ours from None
    except psycopg.Error as error:
        raise _from_driver(error, settings, seconds) from None
    except SQLAlchemyError as error:
        name = type(error).__name__
        raise StoreError(f"PostgreSQL: {name}", next_step="run `queuemon doctor`", store=STORE) from None


def _from_driver(error: BaseException | None, settings: Settings, seconds: float | None = None) -> QueuemonError:
    allowed = settings.statement_timeout_seconds if seconds is None else seconds
    target = _where(settings)
    primary = ""
    if isinstance(error, psycopg.Error):
        primary = (error.diag.message_primary or "").strip()
    match error:
        case ServerSilent():
            return StoreTimeout(
                f"PostgreSQL at {target} took the request and does not answer",
                expected=f"an answer within {allowed:g} s",
                next_step="check the server's load, its disks and the network; the connection was given up",
                store=STORE,
            )
        case pg.QueryCanceled():
            return StoreTimeout(
                f"PostgreSQL did not finish within {allowed:g} s and was asked to stop",
                expected="an answer within the statement timeout",
                next_step="narrow the filter, or try again when the database is less busy",
                store=STORE,
            )
        case pg.LockNotAvailable() | pg.DeadlockDetected():
            return RowHeld(
                "PostgreSQL: another session holds a row that is needed here",
                expected=f"the lock within {settings.lock_timeout_seconds:g} s",
                next_step="try again",
                store=STORE,
            )
        case pg.UndefinedTable() | pg.UndefinedColumn() | pg.InvalidSchemaName() | pg.UndefinedFunction():
            return SchemaMismatch(
                f"PostgreSQL says: {primary}",
                expected="the tables of the contract",
                next_step="run `queuemon install` against this database",
                store=STORE,
            )
        case pg.InsufficientPrivilege():
            return NotAllowed(
                f"PostgreSQL says: {primary}",
                expected="a role with the right to do this",
                next_step="connect with an operator's role",
            )
        case pg.ReadOnlySqlTransaction():
            return NotAllowed(
                "this database accepts no writes (a replica, or a read-only session)",
                expected="the primary",
                next_step="connect to the primary to act",
            )
        case pg.InvalidPassword() | pg.InvalidAuthorizationSpecification():
            return _refused(target)
        case pg.InvalidCatalogName():
            return StoreUnavailable(
                f"PostgreSQL at {target} has no such database",
                expected="the database named in QUEUEMON_DATABASE_URL or the profile",
                next_step="correct the name, or create the database",
                store=STORE,
            )
        case psycopg.OperationalError():
            words = str(error).lower()
            if "password authentication failed" in words or "no password supplied" in words:
                return _refused(target)
            if 'role "' in words and "does not exist" in words:
                return _refused(target)
            if "database" in words and "does not exist" in words:
                return StoreUnavailable(
                    f"PostgreSQL at {target} has no such database",
                    expected="the database named in QUEUEMON_DATABASE_URL or the profile",
                    next_step="correct the name, or create the database",
                    store=STORE,
                )
            if "ssl" in words or "certificate" in words:
                return StoreUnavailable(
                    f"PostgreSQL at {target} and this side do not agree on TLS",
                    expected="a certificate that is trusted here, as sslmode and sslrootcert say",
                    next_step="correct sslmode or sslrootcert in QUEUEMON_DATABASE_URL or the profile",
                    store=STORE,
                )
            if "starting up" in words or "shutting down" in words or "recovery mode" in words:
                return StoreUnavailable(
                    f"PostgreSQL at {target} is starting up or shutting down",
                    expected="a server that accepts connections",
                    next_step="wait a moment",
                    store=STORE,
                )
            return StoreUnavailable(
                f"PostgreSQL at {target} cannot be reached",
                expected="a running server",
                next_step="run `queuemon demo up`, which starts what of the demo does not run"
                if settings.embedded
                else "check that it runs and that QUEUEMON_DATABASE_URL or the profile names it",
                store=STORE,
            )
        case psycopg.ProgrammingError() if "connection option" in str(error) or "conninfo" in str(error):
            return StoreUnavailable(
                "the database URL has an option that PostgreSQL does not know",
                expected="postgresql://user:password@host:port/name?sslmode=…",
                next_step="correct QUEUEMON_DATABASE_URL or the profile",
                store=STORE,
            )
        case _:
            name = type(error).__name__
            return StoreError(f"PostgreSQL says: {primary or name}", next_step="run `queuemon doctor`", store=STORE)


def _refused(target: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"PostgreSQL at {target} refused the user name or password",
        expected="credentials it accepts",
        next_step="correct QUEUEMON_DATABASE_URL or the profile",
        store=STORE,
    )


def _where(settings: Settings) -> str:
    """host:port of the database, which is safe to print."""
    arguments = connection_arguments(settings.database_url.get_secret_value())
    return f"{arguments.get('host', 'localhost')}:{arguments.get('port', '5432')}"
