"""Alembic's environment: runs on the connection that `queuemon.schema.migrate` hands over, or prints SQL."""

from __future__ import annotations

from alembic import context

from queuemon.schema.tables import OWN_SCHEMA

VERSIONS = "schema_version"

if context.is_offline_mode():
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        as_sql=True,
        version_table=VERSIONS,
        version_table_schema=OWN_SCHEMA,
    )
    with context.begin_transaction():
        context.execute(
            f"DO $$ BEGIN IF to_regclass('{OWN_SCHEMA}.{VERSIONS}') IS NOT NULL THEN"
            " RAISE EXCEPTION 'queuemon is installed in this database already'"
            " USING HINT = 'Run `queuemon install`: it brings any version up to date.'; END IF; END $$"
        )
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {OWN_SCHEMA}")
        context.execute("SET LOCAL search_path = public")
        context.run_migrations()
else:
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, version_table=VERSIONS, version_table_schema=OWN_SCHEMA)
    with context.begin_transaction():
        context.run_migrations()
