"""The PostgreSQL server, the role in use, and the schema; the doctor's first part."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from sqlalchemy import Connection, Table, text

from queuemon.model import Check
from queuemon.schema import migrate
from queuemon.store import rights
from queuemon.store.doctor.checks import SKEW_SECONDS, check, tls
from queuemon.store.store import Store

#: The oldest server that has everything the contract needs.
OLDEST_POSTGRES = 15

#: A transaction open for longer holds back vacuum and the counters.
LONG_TRANSACTION_SECONDS = 600.0


def server(store: Store) -> Iterator[Check]:
    """Version, durability, clock, TLS, rights."""
    with store.postgres.begin(read_only=True) as connection:
        row = connection.execute(
            text(
                "SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS n,"
                " current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commits,"
                " current_setting('autovacuum') AS autovacuum, clock_timestamp() AS clock,"
                " (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS ssl,"
                " (SELECT extract(epoch FROM max(now() - xact_start)) FROM pg_stat_activity"
                "  WHERE pid <> pg_backend_pid() AND backend_type = 'client backend') AS longest"
            )
        ).one()
        skew = abs((datetime.now(UTC) - row.clock).total_seconds())
        yield check(
            "PostgreSQL",
            row.n >= OLDEST_POSTGRES * 10_000,
            f"version {row.version}",
            f"use PostgreSQL {OLDEST_POSTGRES} or newer",
            otherwise="fail",
        )
        durable = row.fsync == "on" and row.commits != "off"
        yield check(
            "PostgreSQL durability",
            durable,
            f"fsync {row.fsync}, synchronous_commit {row.commits}",
            "turn both on: a crash of the server may lose committed jobs",
        )
        yield check("PostgreSQL autovacuum", row.autovacuum == "on", row.autovacuum, "turn autovacuum on")
        yield check("PostgreSQL clock", skew <= SKEW_SECONDS, f"{skew:.1f} s from this machine's", "run NTP on both")
        longest = float(row.longest or 0)
        yield check(
            "PostgreSQL transactions",
            longest <= LONG_TRANSACTION_SECONDS,
            f"longest open for {longest:.0f} s",
            "find and end it (pg_stat_activity): it holds back vacuum and the counters",
        )
        host = urlsplit(store.settings.database_url.get_secret_value()).hostname or ""
        yield tls("PostgreSQL", bool(row.ssl), host, "sslmode=verify-full in the database URL")
        refusal = rights.refusal(connection, store.tables)
        yield check(
            "PostgreSQL rights",
            refusal is None,
            refusal or "this role may act",
            "connect with an operator's role to act; `queuemon install --roles` prints both",
        )


def schema(store: Store) -> Iterator[Check]:
    """Version, tables and columns, indexes, triggers."""
    with store.postgres.begin(read_only=True) as connection:
        current, newest = migrate.current(connection), migrate.newest()
        yield check(
            "schema version",
            current == newest,
            f"{current or 'not installed'}, this queuemon brings {newest}",
            "run `queuemon install`" if current is None or current < newest else "upgrade queuemon",
            otherwise="fail",
        )
        if current is None:
            return
        script = migrate.sql()
        missing = [c for table in store.tables.metadata.sorted_tables for c in _missing_columns(connection, table)]
        yield check(
            "tables and columns",
            not missing,
            f"missing: {', '.join(missing[:10])}" if missing else "all there",
            "run `queuemon install`",
            otherwise="fail",
        )
        wanted = set(re.findall(r"CREATE (?:UNIQUE )?INDEX (\w+)", script))
        valid = set(
            connection.execute(
                text(
                    "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
                    " WHERE i.indisvalid AND c.relname = ANY(:names)"
                ),
                {"names": list(wanted)},
            ).scalars()
        )
        lacking = sorted(wanted - valid)
        yield check(
            "indexes",
            not lacking,
            f"missing or invalid: {', '.join(lacking)}" if lacking else f"all {len(wanted)} there",
            "create them as `queuemon install --sql` prints; reads are slow without",
        )
        off = _silent_triggers(
            connection, store.tables.jobs, re.findall(r"CREATE TRIGGER (\w+) [A-Z ]+ ON jobs", script)
        )
        yield check(
            "counters",
            not off,
            f"triggers missing or disabled: {', '.join(off)}" if off else "all triggers count",
            "enable them, or create them as `queuemon install --sql` prints: numbers on screen are wrong without",
            otherwise="fail",
        )
        signing = re.findall(r"CREATE TRIGGER (\w+) [A-Z ]+ ON queuemon\.approvals", script)
        if off := _silent_triggers(connection, store.tables.approvals, signing):
            yield check(
                "approvals",
                False,
                f"triggers missing or disabled: {', '.join(off)}",
                "enable them, or create them as `queuemon install --sql` prints: anybody may sign without",
                otherwise="fail",
            )


def _silent_triggers(connection: Connection, table: Table, names: list[str]) -> list[str]:
    """Those of a table's triggers that are not there, or disabled."""
    on = connection.execute(
        text("SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(:name) AND tgenabled <> 'D'"),
        {"name": table.fullname},
    ).scalars()
    return sorted(set(names) - set(on))


def _missing_columns(connection: Connection, table: Table) -> list[str]:
    there = set(
        connection.execute(
            text("SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attnum > 0"),
            {"name": table.fullname},
        ).scalars()
    )
    if not there:
        return [table.fullname]
    return [f"{table.fullname}.{c.name}" for c in table.c if c.name not in there]
