"""Every check of the doctor, seen fine and seen failing on real stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis
from pydantic import SecretStr

from queuemon import actions
from queuemon.contract import Keys
from queuemon.demo.stack import Stack
from queuemon.engine.producer import Producer
from queuemon.engine.relay import Relay
from queuemon.model import Check
from queuemon.schema import roles
from queuemon.store import Store, doctor
from queuemon.store.doctor import processes
from tests.support.actions import Desk
from tests.support.stores import Servers
from tests.support.wait import wait_until

PASSWORD = "correct-horse"


def examined(desk: Desk, **settings: Any) -> dict[str, Check]:
    """The checks by name; with other settings where given."""
    store = Store(desk.settings.model_copy(update=settings))
    try:
        found = doctor.checks(store)
    finally:
        store.close()
    assert len({c.name for c in found}) == len(found)
    return {c.name: c for c in found}


def own(desk: Desk) -> Any:
    return desk.store.redis.client


def with_user(url: str, user: str) -> SecretStr:
    """A URL with another user."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return SecretStr(urlunsplit(parts._replace(netloc=f"{user}:{PASSWORD}@{host}")))


@contextmanager
def server_set(desk: Desk, **values: str) -> Iterator[None]:
    """Settings of the session's Redis, put back at the end."""
    names = {name.replace("_", "-"): value for name, value in values.items()}
    before = {name: own(desk).config_get(name)[name] for name in names}
    try:
        for name, value in names.items():
            own(desk).config_set(name, value)
        yield
    finally:
        for name, value in before.items():
            own(desk).config_set(name, value)


def test_two_fresh_stores_have_no_failure_and_every_step_is_named_where_something_is_to_do(desk: Desk) -> None:
    desk.sql("UPDATE job_queues SET concurrency = 0")
    found = examined(desk)
    assert [c.name for c in found.values() if c.state == "fail"] == []
    assert {c.name for c in found.values() if c.state == "warn"} <= {
        "relay", "workers", "PostgreSQL durability", "Redis memory",
    }  # fmt: skip
    assert all(bool(c.next_step) == (c.state != "ok") for c in found.values())
    assert {"discipline", "pauses", "janitor", "parked lists", "hard pauses", "Redis rights"} <= set(found)


# ------------------------------------------------------------------------------------------------------- the servers


def test_a_redis_that_may_evict_fails(desk: Desk) -> None:
    assert examined(desk)["Redis eviction"].state == "ok"
    with server_set(desk, maxmemory="1gb", maxmemory_policy="allkeys-lru"):
        found = examined(desk)
    assert found["Redis eviction"].state == "fail"
    assert "allkeys-lru" in found["Redis eviction"].found
    assert "noeviction" in found["Redis eviction"].next_step


def test_a_redis_that_is_nearly_full_warns(desk: Desk) -> None:
    used = own(desk).info("memory")["used_memory"]
    with server_set(desk, maxmemory_policy="noeviction", maxmemory=str(int(used * 1.1))):
        found = examined(desk)
    assert (found["Redis eviction"].state, found["Redis memory"].state) == ("ok", "warn")


def test_a_snapshot_that_failed_warns(make_stack: Callable[..., Stack], desk: Desk) -> None:
    stack = make_stack()
    urls = stack.up()
    with redis.Redis.from_url(urls.redis_url) as client:
        # A folder stands where the snapshot should go.
        name = Path(client.config_get("dir")["dir"]) / client.config_get("dbfilename")["dbfilename"]
        name.unlink(missing_ok=True)
        name.mkdir()
        (name / "x").touch()
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    assert examined(desk, redis_url=SecretStr(urls.redis_url))["Redis persistence"].state == "warn"


def test_a_replica_fails_its_role(make_stack: Callable[..., Stack], desk: Desk) -> None:
    urls = make_stack().up()
    with redis.Redis.from_url(urls.redis_url) as client:
        client.replicaof("127.0.0.1", "1")
    found = examined(desk, redis_url=SecretStr(urls.redis_url))
    assert (found["Redis role"].state, found["Redis role"].found) == ("fail", "slave")


def test_a_database_without_durability_warns(desk: Desk) -> None:
    found = examined(desk)
    assert found["PostgreSQL durability"].state == "warn", "the tests' server runs without fsync"


def test_autovacuum_and_an_old_transaction_warn(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from queuemon.store.doctor import postgres

    monkeypatch.setattr(postgres, "LONG_TRANSACTION_SECONDS", 0.0)
    with desk.store.postgres.begin() as connection:
        connection.exec_driver_sql("SELECT 1")
        assert examined(desk)["PostgreSQL transactions"].state == "warn"
    assert examined(desk)["PostgreSQL autovacuum"].state == "ok"


def test_a_clock_that_differs_warns(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from queuemon.store.doctor import postgres
    from queuemon.store.doctor import redis as redis_part

    for part in (postgres, redis_part):
        monkeypatch.setattr(part, "SKEW_SECONDS", -1.0)  # no two clocks agree so well
    found = examined(desk)
    assert (found["PostgreSQL clock"].state, found["Redis clock"].state) == ("warn", "warn")


def test_servers_that_are_too_old_fail(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from queuemon.store.doctor import postgres
    from queuemon.store.doctor import redis as redis_part

    monkeypatch.setattr(postgres, "OLDEST_POSTGRES", 99)
    monkeypatch.setattr(redis_part, "OLDEST_REDIS", (99, 0))
    found = examined(desk)
    assert (found["PostgreSQL"].state, found["Redis"].state) == ("fail", "fail")


def test_an_open_connection_to_another_machine_warns() -> None:
    from queuemon.store.doctor.checks import tls

    assert tls("Redis", False, "10.0.0.7", "rediss").state == "warn"
    assert tls("Redis", True, "10.0.0.7", "rediss").state == "ok"
    assert tls("Redis", False, "localhost", "rediss").state == "ok"


@pytest.mark.parametrize("store", ["redis", "postgresql"])
def test_a_store_that_is_away_is_a_failed_check(desk: Desk, store: str) -> None:
    if store == "redis":
        found = examined(desk, redis_url=SecretStr("redis://127.0.0.1:1/0"))
    else:
        found = examined(desk, database_url=SecretStr("postgresql://x@127.0.0.1:1/x"))
    assert [c for c in found.values() if c.state == "fail" and "cannot be reached" in c.found]


# --------------------------------------------------------------------------------------------------------- the schema


@pytest.mark.parametrize(
    ("statement", "check", "words"),
    [
        ("DROP INDEX jobs_waiting", "indexes", "jobs_waiting"),
        ("ALTER TABLE queuemon.queue_pauses DROP COLUMN hard", "tables and columns", "queue_pauses.hard"),
        ("ALTER TABLE jobs DISABLE TRIGGER USER", "counters", "disabled"),
        ("UPDATE queuemon.schema_version SET version_num = '0001'", "schema version", "0001"),
    ],
)
def test_what_the_schema_lacks_is_named(desk: Desk, statement: str, check: str, words: str) -> None:
    assert examined(desk)[check].state == "ok"
    desk.sql(statement)
    found = examined(desk)[check]
    assert found.state in {"warn", "fail"}
    assert words in found.found


# --------------------------------------------------------------------------------------------------------- the rights


def test_a_role_that_may_not_update_jobs_warns(desk: Desk, servers: Servers) -> None:
    desk.sql(roles.sql().replace("%", "%%"))
    desk.sql(f"ALTER ROLE {roles.OPERATOR} PASSWORD '{PASSWORD}'")
    url = with_user(desk.settings.database_url.get_secret_value(), roles.OPERATOR)
    assert examined(desk, database_url=url)["PostgreSQL rights"].state == "ok"
    desk.sql(f"REVOKE UPDATE ON jobs FROM {roles.OPERATOR}")
    assert examined(desk, database_url=url)["PostgreSQL rights"].state == "warn"


@pytest.fixture
def users(desk: Desk) -> Iterator[Desk]:
    """A desk whose Redis knows the two users that `queuemon install --roles` prints."""
    for line in roles.acl(Keys()).splitlines():
        own(desk).execute_command(*line.replace("PASSWORD", PASSWORD).split())
    yield desk
    own(desk).acl_deluser(roles.OPERATOR, roles.READER)


def test_the_printed_redis_operator_may_do_all_that_actions_and_the_relay_need(users: Desk) -> None:
    url = with_user(users.settings.redis_url.get_secret_value(), roles.OPERATOR)
    found = examined(users, redis_url=url)["Redis rights"]
    assert (found.state, found.found) == ("ok", f"the user {roles.OPERATOR} may act")
    store = Store(users.settings.model_copy(update={"redis_url": url}))
    made = Producer(store).enqueue("mail", {})
    for kind, options in (("pause", {"hard": True}), ("resume", {})):
        result = actions.apply(store, actions.plan(store, kind, "mail", **options), reason="")
        assert result.published, result.summary
    relay = Relay(store)
    relay.step(everything=True)
    assert [duty.name for duty in relay._duties if duty.failing] == []
    store.close()
    assert users.listed() == [(str(made), 1)]


def test_the_printed_redis_reader_is_told_that_it_may_not_act(users: Desk) -> None:
    found = examined(users, redis_url=with_user(users.settings.redis_url.get_secret_value(), roles.READER))
    assert found["Redis rights"].state == "warn"
    assert "may run no scripts" in found["Redis rights"].found
    assert found["Redis"].state == "ok", "it may look"


def test_a_missing_right_is_named(users: Desk) -> None:
    own(users).execute_command("ACL", "SETUSER", roles.OPERATOR, "-rename", "-rpush")
    url = with_user(users.settings.redis_url.get_secret_value(), roles.OPERATOR)
    found = examined(users, redis_url=url)["Redis rights"]
    assert found.state == "warn"
    assert "RPUSH queue:queuemon-doctor, RENAME queue:queuemon-doctor" in found.found
    own(users).execute_command("ACL", "SETUSER", roles.OPERATOR, "+rename", "+rpush", "resetkeys", "~queue:*")
    assert "queuemon:" in examined(users, redis_url=url)["Redis rights"].found


# ------------------------------------------------------------------------------------------------------- the lists


@pytest.mark.parametrize("key", ["queue:mail", "queuemon:parked:mail", "queuemon:quarantine:mail"])
def test_a_list_that_will_vanish_warns(desk: Desk, key: str) -> None:
    own(desk).rpush(key, "x")
    assert examined(desk)["Redis time to live"].state == "ok"
    own(desk).expire(key, 60)
    found = examined(desk)["Redis time to live"]
    assert (found.state, found.found) == ("warn", f"set on {key}")


def test_a_parked_list_without_a_hard_holder_fails_until_the_relay_gives_it_back(desk: Desk) -> None:
    desk.act("pause", "mail", hard=True)
    own(desk).rpush("queuemon:parked:mail", "x")
    found = examined(desk)
    assert (found["parked lists"].state, found["hard pauses"].state) == ("ok", "ok")
    desk.sql("UPDATE queuemon.queue_pauses SET hard = false")
    found = examined(desk)
    assert found["parked lists"].state == "fail"
    assert found["parked lists"].found == "still parked without a hard pause: queue:mail"
    Relay(desk.store).copy_flags()
    assert examined(desk)["parked lists"].state == "ok"


def test_a_list_that_should_be_parked_warns(desk: Desk) -> None:
    desk.act("pause", "mail", hard=True)
    own(desk).rpush("queue:mail", "x")
    assert examined(desk)["hard pauses"].state == "warn"


def test_what_is_in_quarantine_is_counted(desk: Desk) -> None:
    assert examined(desk)["quarantine"].state == "ok"
    desk.store.redis.client.rpush("queuemon:quarantine:mail", b"\xff", b"[1]")
    found = examined(desk)["quarantine"]
    assert (found.state, "2 of queue:mail" in found.found) == ("warn", True)
    assert "queuemon quarantine list" in found.next_step


def test_a_pause_flag_that_differs_warns(desk: Desk) -> None:
    own(desk).hset("queuemon:paused:mail", mapping={"paused": 1, "epoch": 9})
    assert examined(desk)["pause flags"].state == "warn"


# ------------------------------------------------------------------------------------------------- what is left undone


def test_a_pause_without_an_end_is_called_forgotten_after_a_day(desk: Desk) -> None:
    desk.act("pause", "mail", holder="deploy")
    desk.act("pause", "reports", holder="deploy", until="30d")
    assert examined(desk)["pauses"].state == "ok"
    desk.sql("UPDATE queuemon.queue_pauses SET since = now() - interval '3 days'")
    found = examined(desk)["pauses"]
    assert found.state == "warn"
    assert found.found == "1 without an end for more than 24 h: queue:mail by deploy, 3 d"


def test_logs_and_copies_that_nobody_removes_warn(desk: Desk) -> None:
    (job_id,) = desk.add("completed")
    assert examined(desk)["janitor"].state == "ok"
    desk.sql(
        "INSERT INTO job_logs (job_id, queue, kind, gen, status, finished_at)"
        " VALUES (:id, 'mail', 'attempt', 1, 'completed', now() - interval '40 days')",
        id=job_id,
    )
    found = examined(desk)["janitor"]
    assert found.state == "warn"
    assert "40 days old (log_days: 30)" in found.found
    assert "kept for ever" in examined(desk, log_days=0)["janitor"].found


def test_publications_stuck_jobs_and_missing_processes_warn(desk: Desk) -> None:
    desk.sql("UPDATE job_queues SET concurrency = 0")
    found = examined(desk)
    assert [found[n].state for n in ("publication", "stuck jobs", "supervisor", "relay", "workers")] == [
        "ok", "ok", "ok", "warn", "warn",
    ]  # fmt: skip
    (job_id,) = desk.add("active")
    desk.sql("UPDATE jobs SET heartbeat_at = now() - interval '1 hour'")
    desk.sql("UPDATE job_queues SET concurrency = 2")
    desk.sql(
        "INSERT INTO queuemon.publications (job_ids, due_at)"
        " VALUES (ARRAY[CAST(:id AS uuid)], now() - interval '1 hour')",
        id=job_id,
    )
    found = examined(desk)
    assert [found[n].state for n in ("publication", "stuck jobs", "supervisor")] == ["warn", "warn", "warn"]
    assert processes.LAG_SECONDS < 3600


def test_no_queues_warn(desk: Desk) -> None:
    desk.sql("DELETE FROM job_queues")
    assert examined(desk)["queues"].state == "warn"


# --------------------------------------------------------------------------------------------------------- discipline


def test_the_level_is_printed_with_its_evidence_and_its_promise(desk: Desk) -> None:
    found = examined(desk)["discipline"]
    assert found.state == "ok"
    assert found.found.startswith("not known: ")
    assert "At L0 no operator action" in found.found
    desk.add("active")
    desk.sql("UPDATE jobs SET worker_id = NULL")
    found = examined(desk)["discipline"]
    assert found.state == "warn"
    assert found.found.startswith("L0: ")
    assert "name no worker" in found.found
    assert "--hard" in found.next_step
    found = examined(desk, worker_level="L2")["discipline"]
    assert (found.state, "the profile states L2" in found.found) == ("warn", True)
    assert found.next_step == "correct worker_level in the profile, or the workers: repairs go by L0"
