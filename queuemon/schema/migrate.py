"""Apply or print the migrations; `queuemon install`, the demo and the tests use this."""

from __future__ import annotations

import io
from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from queuemon.schema.tables import OWN_SCHEMA

#: Two installers at once take turns on this advisory lock.
_LOCK = 0x71756D6F

#: A role that is called like our schema would put the application's tables there ("$user" comes first in search_path).
_OUTSIDE = text(
    "SELECT set_config('search_path', string_agg(quote_ident(s), ', ' ORDER BY n), true)"
    " FROM unnest(current_schemas(false)) WITH ORDINALITY AS path(s, n) WHERE s <> :own"
)


def _config(output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output) if output else Config()
    config.set_main_option("script_location", str(resources.files("queuemon.schema") / "migrations"))
    return config


def upgrade(database_url: str) -> None:
    """Bring a database to the newest version; does nothing when it is there. For tests and the demo: raises raw
    driver errors. Use `Store.install` elsewhere."""
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
    upgrade_engine(engine)
    engine.dispose()


def upgrade_engine(engine: Engine) -> tuple[str | None, str]:
    """Bring the database behind `engine` to the newest version, all in one transaction; returns (before, after)."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {OWN_SCHEMA}"))
        connection.execute(_OUTSIDE, {"own": OWN_SCHEMA})
        before = current(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return before, newest()


def sql() -> str:
    """The statements of all migrations as one script, for a database that has none of them; it refuses any other."""
    output = io.StringIO()
    command.upgrade(_config(output), "head", sql=True)
    header = "-- For a new database, in one transaction: nothing is changed where queuemon is installed.\n"
    return header + output.getvalue()


def current(connection: Connection) -> str | None:
    """The version a database stands at; None when queuemon was never installed there."""
    context = MigrationContext.configure(
        connection, opts={"version_table": "schema_version", "version_table_schema": OWN_SCHEMA}
    )
    return context.get_current_revision()


def newest() -> str:
    """The version this package brings."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head
