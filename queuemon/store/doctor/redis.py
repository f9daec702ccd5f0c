"""The Redis server and the user in use; part of the doctor."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from queuemon.errors import NotAllowed
from queuemon.model import Check
from queuemon.store.doctor.checks import SKEW_SECONDS, check, tls
from queuemon.store.store import Store

#: The oldest server that has everything the contract needs.
OLDEST_REDIS = (7, 0)

_OPERATOR = "act with an operator's user; `queuemon install --roles` prints its rights"


def server(store: Store) -> Iterator[Check]:
    """Version, role, eviction, memory, persistence, clock, TLS, rights."""
    with store.redis.call() as client:
        started = time.time()
        seconds, micros = client.time()
        ended = time.time()
        server, memory = client.info("server"), client.info("memory")
        persistence, replication = client.info("persistence"), client.info("replication")
    valkey = server.get("valkey_version")
    version = str(valkey or server.get("redis_version", "0"))
    number = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    yield check(
        "Redis",
        number >= OLDEST_REDIS,
        f"{'Valkey' if valkey else 'Redis'} {version}",
        "use Redis 7 or newer, or Valkey",
        otherwise="fail",
    )
    role = str(replication.get("role", "?"))
    yield check("Redis role", role == "master", role, "connect to the primary", otherwise="fail")
    if str(server.get("redis_mode", "standalone")) == "cluster":
        yield Check(name="Redis mode", state="warn", found="cluster", next_step="use key templates with one hash tag")
    policy, limit = str(memory.get("maxmemory_policy", "?")), int(memory.get("maxmemory", 0))
    yield check(
        "Redis eviction",
        limit == 0 or policy == "noeviction",
        f"maxmemory {limit:,} bytes, policy {policy}" if limit else "no maxmemory",
        "set maxmemory-policy noeviction: any other silently drops whole queues",
        otherwise="fail",
    )
    used = int(memory.get("used_memory", 0))
    if limit:
        yield check("Redis memory", used < 0.8 * limit, f"{used / limit:.0%} of maxmemory used", "raise maxmemory")
    aof = bool(persistence.get("aof_enabled"))
    broken = persistence.get("rdb_last_bgsave_status") == "err" or persistence.get("aof_last_write_status") == "err"
    yield check(
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
    yield check("Redis clock", skew <= SKEW_SECONDS, f"{skew:.1f} s from this machine's", "run NTP on both")
    url = urlsplit(store.settings.redis_url.get_secret_value())
    yield tls("Redis", url.scheme == "rediss", url.hostname or "", "a rediss:// URL")
    yield _rights(store)


def _rights(store: Store) -> Check:
    """What the user may do with a queue's keys; asks the server without doing any of it."""
    keys, name = store.settings.keys, "queuemon-doctor"
    named = {
        "list": [
            keys.queue_key(name), keys.processing_key("w", name), keys.parked_key(name), keys.sifted_key(name),
            keys.quarantine_key(name), keys.wake,
        ],
        "hash": [keys.marker_key(name), keys.paused_key(name)],
        "text": [keys.epoch],
    }  # fmt: skip
    arguments = [word for kind, some in named.items() for key in some for word in (kind, key)]
    try:
        refused = [raw.decode("utf-8", "replace") for raw in store.redis.run("may", [], arguments)]
        who = _user(store)
    except NotAllowed:
        return check("Redis rights", False, "this user may run no scripts", _OPERATOR)
    shown = f"{', '.join(refused[:5])}{' …' if len(refused) > 5 else ''}"
    return check("Redis rights", not refused, f"{who} may not: {shown}" if refused else f"{who} may act", _OPERATOR)


def _user(store: Store) -> str:
    try:
        with store.redis.call() as client:
            who: object = client.acl_whoami()
    except NotAllowed:
        return "this user"
    return f"the user {who.decode() if isinstance(who, bytes) else who}"
