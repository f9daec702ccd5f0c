"""What is right and wrong with a pair of stores, each with what to do; `queuemon doctor` prints it. Changes nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from sqlalchemy import Connection, Table, text

from queuemon.errors import QueuemonError
from queuemon.model import Check, HalfError, PostgresHalf
from queuemon.schema import migrate
from queuemon.store import rights
from queuemon.store.store import Store

#: Oldest servers that have everything the contract needs.
OLDEST_POSTGRES = 15
OLDEST_REDIS = (7, 0)

#: Clocks may differ by this before it matters to what is shown.
SKEW_SECONDS = 5.0

#: A publication that is due for longer means that no relay follows.
LAG_SECONDS = 10.0

#: A transaction open for longer holds back vacuum and the counters.
LONG_TRANSACTION_SECONDS = 600.0


def checks(store: Store) -> tuple[Check, ...]:
    """All checks, PostgreSQL first; a store that is away is one failed check, not an exception."""
    found: list[Check] = []
    for name, part in (
        ("PostgreSQL", _postgres),
        ("PostgreSQL schema", _schema),
        ("processes", _processes),
        ("Redis", _redis),
        ("Redis keys", _keys),
    ):
        before = len(found)
        try:
            found += part(store)
        except QueuemonError as error:
            if len(found) == before and not any(c.state == "fail" and c.found == str(error) for c in found):
                found.append(Check(name=name, state="fail", found=str(error), next_step=error.next_step))
    return tuple(found)


def _check(name: str, fine: bool, found: str, next_step: str = "", *, otherwise: str = "warn") -> Check:
    return Check(name=name, state="ok" if fine else otherwise, found=found, next_step="" if fine else next_step)


# ------------------------------------------------------------------------------------------------------ PostgreSQL


def _postgres(store: Store) -> Iterator[Check]:
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
        yield _check(
            "PostgreSQL",
            row.n >= OLDEST_POSTGRES * 10_000,
            f"version {row.version}",
            f"use PostgreSQL {OLDEST_POSTGRES} or newer",
            otherwise="fail",
        )
        durable = row.fsync == "on" and row.commits != "off"
        yield _check(
            "PostgreSQL durability",
            durable,
            f"fsync {row.fsync}, synchronous_commit {row.commits}",
            "turn both on: a crash of the server may lose committed jobs",
        )
        yield _check("PostgreSQL autovacuum", row.autovacuum == "on", row.autovacuum, "turn autovacuum on")
        yield _check("PostgreSQL clock", skew <= SKEW_SECONDS, f"{skew:.1f} s from this machine's", "run NTP on both")
        longest = float(row.longest or 0)
        yield _check(
            "PostgreSQL transactions",
            longest <= LONG_TRANSACTION_SECONDS,
            f"longest open for {longest:.0f} s",
            "find and end it (pg_stat_activity): it holds back vacuum and the counters",
        )
        host = urlsplit(store.settings.database_url.get_secret_value()).hostname or ""
        yield _tls("PostgreSQL", bool(row.ssl), host, "sslmode=verify-full in the database URL")
        refusal = rights.refusal(connection, store.tables)
        yield _check(
            "PostgreSQL rights",
            refusal is None,
            refusal or "this role may act",
            "connect with an operator's role to act; `queuemon install --roles` prints both",
        )


def _schema(store: Store) -> Iterator[Check]:
    with store.postgres.begin(read_only=True) as connection:
        current, newest = migrate.current(connection), migrate.newest()
        yield _check(
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
        yield _check(
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
        yield _check(
            "indexes",
            not lacking,
            f"missing or invalid: {', '.join(lacking)}" if lacking else f"all {len(wanted)} there",
            "create them as `queuemon install --sql` prints; reads are slow without",
        )
        triggers = set(re.findall(r"CREATE TRIGGER (\w+)", script))
        on = set(
            connection.execute(
                text(
                    "SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(:jobs)"
                    " AND tgenabled <> 'D' AND tgname = ANY(:names)"
                ),
                {"jobs": store.tables.jobs.fullname, "names": list(triggers)},
            ).scalars()
        )
        off = sorted(triggers - on)
        yield _check(
            "counters",
            not off,
            f"triggers missing or disabled: {', '.join(off)}" if off else "all triggers count",
            "enable them, or create them as `queuemon install --sql` prints: numbers on screen are wrong without",
            otherwise="fail",
        )


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


# -------------------------------------------------------------------------------------------------------- processes


def _processes(store: Store) -> Iterator[Check]:
    half = store.snapshot().postgres
    if isinstance(half, HalfError):
        return
    alive = {kind: sum(w.alive and w.kind == kind for w in half.workers) for kind in ("worker", "relay", "supervisor")}
    depth = sum(q.waiting for q in half.queues)
    yield _check(
        "queues", bool(half.queues), f"{len(half.queues)} in job_queues", "insert the queues' rows into job_queues"
    )
    yield _check(
        "relay",
        alive["relay"] > 0,
        f"{alive['relay']} running",
        "run `queuemon relay`: without one, retries, scheduled jobs, expiry and the purge of old logs wait",
    )
    lag = half.publication_lag_seconds if half.publications_due else 0.0
    yield _check(
        "publication",
        lag <= LAG_SECONDS,
        f"{half.publications_due:,} due, the oldest for {lag:.0f} s",
        "run `queuemon relay`, or see why it does not keep up",
    )
    yield _check(
        "workers",
        alive["worker"] > 0,
        f"{alive['worker']} running" + ("" if alive["worker"] else f": nobody consumes {depth:,} waiting jobs"),
        "run `queuemon supervisor`, or `queuemon worker QUEUE`",
    )
    unmet = [q.name for q in half.queues if q.workers < q.queue.concurrency]
    yield _check(
        "supervisor",
        alive["supervisor"] > 0 or not unmet,
        f"{alive['supervisor']} running"
        + (f"; fewer workers than desired: {', '.join(unmet[:5])}" if unmet and not alive["supervisor"] else ""),
        "run `queuemon supervisor`: nobody follows the desired number of workers",
    )
    stuck = sum(q.stuck for q in half.queues)
    yield _check(
        "stuck jobs",
        stuck == 0,
        f"{stuck:,} active without a heartbeat for {store.settings.lease_seconds:g} s",
        "a running relay gives them back",
    )
    yield _discipline(half)


def _discipline(half: PostgresHalf) -> Check:
    """Which level of the workers' discipline (L0, L1, L2) can be seen from here."""
    if any(w.alive and w.kind == "worker" for w in half.workers):
        return Check(name="discipline", state="ok", found="L2: workers register, beat and are fenced")
    active = sum(q.active for q in half.queues)
    if active:
        found = f"at most L1: {active:,} active jobs, but no worker registers itself"
        return Check(
            name="discipline",
            state="warn",
            found=found,
            next_step="let workers register, beat and fence their writes, as `queuemon worker` does",
        )
    return Check(name="discipline", state="ok", found="not known: no worker runs and no job is active")


# ------------------------------------------------------------------------------------------------------------ Redis


def _redis(store: Store) -> Iterator[Check]:
    with store.redis.call() as client:
        started = time.time()
        seconds, micros = client.time()
        ended = time.time()
        server, memory = client.info("server"), client.info("memory")
        persistence, replication = client.info("persistence"), client.info("replication")
    valkey = server.get("valkey_version")
    version = str(valkey or server.get("redis_version", "0"))
    number = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    yield _check(
        "Redis",
        number >= OLDEST_REDIS,
        f"{'Valkey' if valkey else 'Redis'} {version}",
        "use Redis 7 or newer, or Valkey",
        otherwise="fail",
    )
    role = str(replication.get("role", "?"))
    yield _check("Redis role", role == "master", role, "connect to the primary", otherwise="fail")
    if str(server.get("redis_mode", "standalone")) == "cluster":
        yield Check(name="Redis mode", state="warn", found="cluster", next_step="use key templates with one hash tag")
    policy, limit = str(memory.get("maxmemory_policy", "?")), int(memory.get("maxmemory", 0))
    yield _check(
        "Redis eviction",
        limit == 0 or policy == "noeviction",
        f"maxmemory {limit:,} bytes, policy {policy}" if limit else "no maxmemory",
        "set maxmemory-policy noeviction: any other silently drops whole queues",
        otherwise="fail",
    )
    used = int(memory.get("used_memory", 0))
    if limit:
        yield _check("Redis memory", used < 0.8 * limit, f"{used / limit:.0%} of maxmemory used", "raise maxmemory")
    aof = bool(persistence.get("aof_enabled"))
    broken = persistence.get("rdb_last_bgsave_status") == "err" or persistence.get("aof_last_write_status") == "err"
    yield _check(
        "Redis persistence",
        not broken,
        "the last write failed"
        if broken
        else "append-only file"
        if aof
        else "snapshots or none (PostgreSQL has it all)",
        "look at the server's log and its disk",
    )
    skew = abs(seconds + micros / 1e6 - (started + ended) / 2)
    yield _check("Redis clock", skew <= SKEW_SECONDS, f"{skew:.1f} s from this machine's", "run NTP on both")
    url = urlsplit(store.settings.redis_url.get_secret_value())
    yield _tls("Redis", url.scheme == "rediss", url.hostname or "", "a rediss:// URL")


def _keys(store: Store) -> Iterator[Check]:
    snapshot = store.snapshot()
    keys, names = store.settings.keys, [q.name for q in snapshot.queues]
    with store.redis.call() as client:
        pipe = client.pipeline(transaction=False)
        for name in names:
            pipe.type(keys.queue_key(name))
            pipe.ttl(keys.queue_key(name))
        answers = pipe.execute()
    wrong = [n for n, t in zip(names, answers[::2], strict=True) if t not in (b"list", b"none")]
    mortal = [n for n, ttl in zip(names, answers[1::2], strict=True) if ttl >= 0]
    yield _check(
        "Redis lists",
        not wrong,
        f"no list at {', '.join(keys.display(n) for n in wrong[:5])}" if wrong else "queues are lists",
        "find out who else writes these keys",
        otherwise="fail",
    )
    yield _check(
        "Redis time to live",
        not mortal,
        f"set on {', '.join(keys.display(n) for n in mortal[:5])}" if mortal else "none on a list",
        "PERSIST the keys: when it runs out, every element is dropped at once",
    )
    if isinstance(snapshot.redis, HalfError):
        return
    listed = snapshot.redis.queues
    differ = [q.name for q in snapshot.queues if q.name in listed and bool(listed[q.name].paused) != q.queue.paused]
    yield _check(
        "pause flags",
        not differ,
        f"differ for {', '.join(keys.display(n) for n in differ[:5])}" if differ else "the same in both stores",
        "pause or resume the queue again (PostgreSQL's flag holds)",
    )


def _tls(store: str, on: bool, host: str, how: str) -> Check:
    local = host in {"", "localhost", "127.0.0.1", "::1"} or host.startswith("/")
    found = "on" if on else "off, on this machine" if local else "off: data and password cross the network readable"
    return _check(f"{store} TLS", on or local, found, f"use {how}")
