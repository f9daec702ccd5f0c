"""The migrations make exactly the tables that the statements are written against, on any supported server."""

from __future__ import annotations

import threading

import psycopg
import pytest
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.dialects import postgresql

from queuemon.contract import JobStatus
from queuemon.schema import migrate
from queuemon.schema.tables import OWN_SCHEMA, TABLES, Mapped, Tables, build
from tests.support.stores import Servers


def engine_of(url: str):
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


@pytest.fixture
def empty(servers: Servers):
    name = "schema_empty"
    servers.execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
    servers.execute("CREATE DATABASE {}", name)
    yield servers.database_url(name)
    servers.execute("DROP DATABASE {} WITH (FORCE)", name)


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")
def test_every_table_and_column_of_the_statements_exists_and_no_other(database: str) -> None:
    engine = engine_of(database)
    found = inspect(engine)
    for table in TABLES.metadata.tables.values():
        columns = {c["name"]: c for c in found.get_columns(table.name, schema=table.schema)}
        assert {c.name for c in table.columns} == set(columns), table.fullname
        for column in table.columns:
            assert column.nullable == columns[column.name]["nullable"], f"{table.fullname}.{column.name}"
        assert [c.name for c in table.primary_key] == found.get_pk_constraint(table.name, table.schema)[
            "constrained_columns"
        ] or table.name == "job_deltas"
    ours = set(found.get_table_names(schema=OWN_SCHEMA)) - {"schema_version"}
    assert ours == {t.name for t in TABLES.metadata.tables.values() if t.schema == OWN_SCHEMA}
    engine.dispose()


def test_installing_twice_and_at_once_is_harmless(empty: str) -> None:
    problems: list[BaseException] = []

    def install() -> None:
        try:
            migrate.upgrade(empty)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=install) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    engine = engine_of(empty)
    assert migrate.upgrade_engine(engine) == (migrate.newest(), migrate.newest())
    engine.dispose()


def test_the_printed_sql_makes_the_same_schema(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as connection:
        connection.execute(migrate.sql())
    engine = engine_of(empty)
    with engine.connect() as connection:
        assert migrate.current(connection) == migrate.newest()
        connection.execute(text("INSERT INTO jobs (id, queue) VALUES (gen_random_uuid(), 'q')"))
        assert connection.execute(select(TABLES.job_deltas.c.becomes)).scalars().all() == ["open"]
    engine.dispose()


def test_a_mapping_gives_other_physical_names_without_touching_a_statement() -> None:
    def statement(t: Tables):
        return select(t.jobs.c.queue).where(t.status_is(JobStatus.WAITING))

    mapped = build(
        Mapped(
            tables={"jobs": "app.tasks"},
            columns={"jobs.queue": "queue_name"},
            statuses={JobStatus.WAITING: ("queued", "it's")},
        )
    )
    ours = str(statement(TABLES).compile(dialect=postgresql.dialect()))
    theirs = str(statement(mapped).compile(dialect=postgresql.dialect()))
    assert "jobs.status = 'waiting'" in ours
    assert "app.tasks.queue_name" in theirs
    assert "app.tasks.status IN ('queued', 'it''s')" in theirs
    assert mapped.status_of("it's") is JobStatus.WAITING
    assert mapped.status_word(JobStatus.WAITING) == "queued"
    assert mapped.status_of("failed") is JobStatus.FAILED


def test_the_partial_indexes_serve_the_hot_reads(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO jobs (id, queue, status, finished_at) SELECT gen_random_uuid(), 'q' || i % 5,"
            " CASE WHEN i % 50 = 0 THEN 'failed' WHEN i % 10 = 0 THEN 'waiting' ELSE 'completed' END, now()"
            " FROM generate_series(1, 20000) i"
        )
        connection.execute("ANALYZE jobs")
        for where, index in (
            ("queue = 'q0' AND status = 'failed' ORDER BY id DESC LIMIT 50", "jobs_failed"),
            ("status = 'failed' ORDER BY id DESC LIMIT 50", "jobs_failed_id"),
            ("queue = 'q0' AND status = 'waiting' AND run_at > now()", "jobs_waiting"),
        ):
            plan = "\n".join(r[0] for r in connection.execute(f"EXPLAIN SELECT id FROM jobs WHERE {where}"))
            assert index in plan, plan
