"""The relay heals: lost leases, dead workers' hands, deadlines, pauses, a Redis that forgot everything."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from queuemon.engine import reaper
from queuemon.engine.ids import uuid7
from queuemon.engine.publisher import publish
from queuemon.engine.relay import Relay
from queuemon.store import Store, claims, janitor, upkeep
from tests.support.engine import Rig
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


def _enter(rig: Rig, worker_id: str, *, dead: bool) -> None:
    age = "1 h" if dead else "0 s"
    rig.sql(
        "INSERT INTO queuemon.workers (id, home, host, pid, heartbeat_at)"
        f" VALUES (:id, 'mail', 'h', 1, now() - interval '{age}')",
        id=worker_id,
    )


def _start(rig: Rig, worker_id: str, *, silent: bool, **columns: Any) -> UUID:
    """A job in a worker's hand, whose last beat was now or an hour ago."""
    job_id = rig.producer.enqueue("mail", {}, **columns)
    raw = rig.redis.lmove("queue:mail", rig.keys.processing_key(worker_id, "mail"), "LEFT", "RIGHT")
    assert str(job_id).encode() in raw
    with rig.store.postgres.statement() as connection:
        claims.claim(connection, rig.store.tables, job_id=job_id, gen=1, worker_id=worker_id)
    if silent:
        rig.sql("UPDATE jobs SET heartbeat_at = now() - interval '1 h' WHERE id = :id", id=job_id)
    return job_id


# ------------------------------------------------------------------------------------------------------------- leases


def test_a_silent_workers_job_waits_again_under_a_new_generation_and_is_published(rig: Rig) -> None:
    _enter(rig, "gone", dead=True)
    job_id = _start(rig, "gone", silent=True)
    relay = rig.relay()
    relay.step(everything=True)
    relay.step(everything=True)
    row = rig.job(job_id)
    assert (row["status"], row["gen"], row["attempts"], row["worker_id"]) == ("waiting", 2, 1, None)
    assert rig.listed("mail") == [(str(job_id), 2)]
    (log,) = rig.logs(job_id)
    assert (log["kind"], log["status"], log["gen"], log["worker_id"]) == ("lease-lost", "waiting", 1, "gone")
    assert rig.in_hand() == 0


def test_a_job_that_used_up_its_attempts_fails_when_its_lease_runs_out(rig: Rig) -> None:
    job_id = _start(rig, "gone", silent=True, max_attempts=1)
    rig.relay().end_leases()
    row = rig.job(job_id)
    assert (row["status"], row["gen"], row["error_type"]) == ("failed", 1, "LeaseLost")
    assert row["finished_at"] is not None
    assert [(log["kind"], log["status"]) for log in rig.logs(job_id)] == [("lease-lost", "failed")]
    assert rig.outbox() == 0


def test_a_living_workers_job_is_left_alone(rig: Rig) -> None:
    job_id = _start(rig, "alive", silent=False)
    rig.relay().end_leases()
    assert rig.job(job_id)["status"] == "active"


def test_leases_are_ended_only_after_postgresql_has_answered_for_a_while(rig: Rig) -> None:
    job_id = _start(rig, "gone", silent=True)
    relay = Relay(rig.store, calm_seconds=60)
    relay.end_leases()
    assert rig.job(job_id)["status"] == "active"


def test_a_batch_of_leases_is_bounded_and_the_rest_follows(rig: Rig) -> None:
    for _ in range(5):
        _start(rig, "gone", silent=True)
    with rig.store.postgres.statement() as connection:
        taken = upkeep.expire_leases(connection, rig.store.tables, lease_seconds=1, limit=3)
    assert (taken.waiting, taken.failed) == (3, 0)
    assert rig.count("active") == 2


def test_relays_side_by_side_take_each_lease_once(rig: Rig) -> None:
    ids = [_start(rig, "gone", silent=True) for _ in range(40)]
    threads = [threading.Thread(target=rig.relay().end_leases) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {rig.job(i)["gen"] for i in ids} == {2}
    assert all(len(rig.logs(i)) == 1 for i in ids)
    publish(rig.store)
    assert sorted(rig.listed("mail")) == sorted((str(i), 2) for i in ids)


# -------------------------------------------------------------------------------------------------------- dead workers


def test_what_a_dead_worker_had_popped_but_not_claimed_returns_to_the_head_of_its_queue(rig: Rig) -> None:
    _enter(rig, "gone", dead=True)
    ids = rig.producer.enqueue_many("mail", ({"n": n} for n in range(3)))
    rig.redis.lmove("queue:mail", rig.keys.processing_key("gone", "mail"), "LEFT", "RIGHT")
    assert reaper.reap_dead(rig.store) == 1
    assert [i for i, _ in rig.listed("mail")] == [str(i) for i in ids]
    assert rig.in_hand() == 0


def test_the_hand_of_a_living_worker_is_left_alone(rig: Rig) -> None:
    _enter(rig, "alive", dead=False)
    rig.producer.enqueue("mail", {})
    rig.redis.lmove("queue:mail", rig.keys.processing_key("alive", "mail"), "LEFT", "RIGHT")
    assert reaper.reap_dead(rig.store) == reaper.reap_unknown(rig.store) == 0
    assert rig.in_hand() == 1


@pytest.mark.parametrize(
    ("change", "stays", "listed"),
    [
        ("status = 'active', worker_id = 'gone'", 1, 0),
        ("status = 'completed'", 0, 0),
        ("status = 'failed'", 0, 0),
        ("gen = 2", 0, 0),
        ("queue = 'bulk'", 0, 1),
    ],
)
def test_what_else_a_dead_worker_holds_is_left_to_the_lease_or_dropped(
    rig: Rig, change: str, stays: int, listed: int
) -> None:
    _enter(rig, "gone", dead=True)
    rig.producer.enqueue("mail", {})
    rig.redis.lmove("queue:mail", rig.keys.processing_key("gone", "mail"), "LEFT", "RIGHT")
    rig.sql(f"UPDATE jobs SET {change}")
    reaper.reap_dead(rig.store)
    assert rig.in_hand() == stays
    assert len(rig.listed("mail") + rig.listed("bulk")) == listed


def test_poison_in_a_dead_workers_hand_is_set_aside(rig: Rig) -> None:
    rig.redis.rpush(rig.keys.processing_key("gone", "mail"), b"\xff", "{}", str(uuid7()))
    _enter(rig, "gone", dead=True)
    assert reaper.reap_dead(rig.store) == 3
    assert rig.redis.lrange("queuemon:quarantine:mail", 0, -1) == [b"\xff", b"{}"]
    assert rig.in_hand() == 0


def test_hands_of_workers_that_nobody_knows_are_found_by_scanning(rig: Rig) -> None:
    rig.sql("INSERT INTO job_queues (name) VALUES ('a:b c*')")
    job_id = rig.producer.enqueue("a:b c*", {})
    rig.redis.lmove("queue:a:b c*", rig.keys.processing_key("forgotten", "a:b c*"), "LEFT", "RIGHT")
    assert reaper.reap_dead(rig.store) == 0
    assert reaper.reap_unknown(rig.store) == 1
    assert rig.listed("a:b c*") == [(str(job_id), 1)]


def test_a_worker_that_died_is_shown_for_a_while_and_then_forgotten(rig: Rig) -> None:
    _enter(rig, "gone", dead=False)
    rig.sql("UPDATE queuemon.workers SET heartbeat_at = now() - interval '5 min'")
    rig.relay().reap()
    assert len(rig.sql("SELECT * FROM queuemon.workers")) == 1
    rig.sql("UPDATE queuemon.workers SET heartbeat_at = now() - interval '11 min'")
    rig.relay().reap()
    assert rig.sql("SELECT * FROM queuemon.workers") == []


# ----------------------------------------------------------------------------------------------------------- deadlines


def test_a_job_past_its_deadline_expires_with_a_log_row(rig: Rig) -> None:
    late, fine = rig.producer.enqueue("mail", {}), rig.producer.enqueue("mail", {})
    rig.sql("UPDATE jobs SET expires_at = now() WHERE id = :id", id=late)
    rig.relay().expire()
    assert rig.job(late)["status"] == "expired"
    assert rig.job(late)["finished_at"] is not None
    assert [(log["kind"], log["status"]) for log in rig.logs(late)] == [("expire", "expired")]
    assert rig.job(fine)["status"] == "waiting"
    with rig.worker(lambda _job: None):
        rig.until("completed", 1)
    assert rig.job(late)["status"] == "expired"


def test_deadlines_of_a_paused_queue_stand_still(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {})
    rig.sql("UPDATE jobs SET expires_at = now()")
    rig.sql("UPDATE job_queues SET paused = true, paused_at = now() WHERE name = 'mail'")
    rig.relay().expire()
    assert rig.job(job_id)["status"] == "waiting"


def test_a_pause_ends_by_itself_and_gives_the_jobs_their_time_back_first(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {})
    rig.sql("UPDATE jobs SET created_at = now() - interval '30 h', expires_at = now() - interval '6 h'")
    rig.sql(
        "UPDATE job_queues SET paused = true, pause_epoch = 1, paused_at = now() - interval '10 h' WHERE name = 'mail'"
    )
    rig.sql(
        "INSERT INTO queuemon.queue_pauses (queue, holder, until)"
        " VALUES ('mail', 'a', now() - interval '1 s'), ('mail', 'b', now() + interval '1 h')"
    )
    relay = rig.relay()
    relay.step(everything=True)
    assert rig.sql("SELECT paused FROM job_queues WHERE name = 'mail'")[0]["paused"] is True
    assert rig.redis.hget("queuemon:paused:mail", "paused") == b"1"
    rig.sql("UPDATE queuemon.queue_pauses SET until = now()")
    relay.end_pauses()
    (queue,) = rig.sql("SELECT * FROM job_queues WHERE name = 'mail'")
    assert (queue["paused"], queue["paused_at"]) == (False, None)
    assert rig.sql("SELECT * FROM queuemon.queue_pauses") == []
    assert rig.redis.hget("queuemon:paused:mail", "paused") == b"0"
    left = rig.sql("SELECT expires_at - now() AS left FROM jobs")[0]["left"]
    assert timedelta(hours=3.9) < left < timedelta(hours=4.1)
    relay.expire()
    assert rig.job(job_id)["status"] == "waiting"


def test_a_pause_without_an_end_stays(rig: Rig) -> None:
    rig.sql("UPDATE job_queues SET paused = true, paused_at = now() WHERE name = 'mail'")
    rig.sql("INSERT INTO queuemon.queue_pauses (queue, holder) VALUES ('mail', 'a')")
    rig.relay().end_pauses()
    assert rig.sql("SELECT paused FROM job_queues WHERE name = 'mail'")[0]["paused"] is True


def test_pause_flags_in_redis_follow_postgresql(rig: Rig) -> None:
    rig.sql("UPDATE job_queues SET paused = true, pause_epoch = 5 WHERE name = 'mail'")
    rig.sql("INSERT INTO queuemon.queue_pauses (queue, holder, until) VALUES ('mail', 'a', '2030-01-01 00:00+00')")
    rig.relay().copy_flags()
    assert rig.redis.hgetall("queuemon:paused:mail") == {
        b"paused": b"1",
        b"epoch": b"5",
        b"until": b"2030-01-01T00:00:00+00:00",
    }
    assert rig.redis.hget("queuemon:paused:bulk", "paused") == b"0"


# ---------------------------------------------------------------------------------------------------------- Redis loss


def test_after_flushall_every_waiting_job_is_published_again_in_order_and_once(rig: Rig) -> None:
    relay = rig.relay()
    relay.step(everything=True)
    ids = rig.producer.enqueue_many("mail", ({"n": n} for n in range(2_500)))
    urgent = rig.producer.enqueue("urgent", {})
    done = rig.producer.enqueue("mail", {})
    rig.sql("UPDATE jobs SET status = 'completed', finished_at = now() WHERE id = :id", id=done)
    rig.sql("UPDATE job_queues SET paused = true, pause_epoch = 2 WHERE name = 'bulk'")
    rig.redis.flushdb()
    fresh = rig.producer.enqueue("mail", {"n": "after the loss"})
    relay.step(everything=True)
    relay.step(everything=True)
    listed = rig.listed("mail")
    assert listed == [(str(fresh), 1), *((str(i), 1) for i in ids)]
    assert rig.listed("urgent") == [(str(urgent), 1)]
    assert rig.redis.hget("queuemon:paused:bulk", "paused") == b"1"
    assert rig.outbox() == 0


def test_without_a_loss_nothing_is_published_again(rig: Rig) -> None:
    relay = rig.relay()
    relay.step(everything=True)
    rig.producer.enqueue("mail", {})
    rig.redis.delete("queue:mail")
    relay.step(everything=True)
    relay.step(everything=True)
    assert rig.listed("mail") == []  # a list that vanished alone is drift, which is repaired with a budget


def test_after_a_restart_with_older_data_exactly_what_is_missing_is_published_again(rig: Rig) -> None:
    relay = rig.relay()
    relay.step(everything=True)
    kept, lost = rig.producer.enqueue("mail", {}), rig.producer.enqueue("mail", {})
    # As an old snapshot has it: list and markers of the same age, the epoch of another run of the server.
    rig.redis.rpop("queue:mail")
    rig.redis.delete(f"job:{lost}")
    rig.redis.set("queuemon:epoch", "ready:another-run")
    relay.step(everything=True)
    relay.step(everything=True)
    assert rig.listed("mail") == [(str(kept), 1), (str(lost), 1)]


def test_a_loss_in_the_middle_of_the_restoration_starts_it_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    relay = rig.relay()
    relay.step(everything=True)
    job_id = rig.producer.enqueue("mail", {})
    rig.redis.flushdb()
    genuine = upkeep.promise_everything_waiting

    def interrupted(*arguments: Any) -> int:
        jobs = genuine(*arguments)
        monkeypatch.undo()
        rig.redis.flushdb()
        return jobs

    monkeypatch.setattr(upkeep, "promise_everything_waiting", interrupted)
    relay.restore()
    assert rig.redis.get("queuemon:epoch") is None
    relay.step(everything=True)
    assert rig.redis.get("queuemon:epoch").startswith(b"ready")
    publish(rig.store)
    assert rig.listed("mail") == [(str(job_id), 1)]


def test_a_relay_that_dies_in_the_middle_of_the_restoration_is_replaced_by_another(rig: Rig) -> None:
    rig.relay().step(everything=True)
    job_id = rig.producer.enqueue("mail", {})
    rig.redis.flushdb()
    rig.redis.set("queuemon:epoch", "restoring:by-a-dead-relay")
    other = rig.relay()
    other.step(everything=True)
    other.step(everything=True)
    assert rig.listed("mail") == [(str(job_id), 1)]


def test_lists_that_hold_something_when_a_relay_first_meets_them_are_taken_as_they_are(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {})
    rig.redis.delete(f"job:{job_id}")  # other people's producers write no markers
    relay = rig.relay()
    relay.step(everything=True)
    relay.step(everything=True)
    assert rig.listed("mail") == [(str(job_id), 1)]
    assert rig.redis.get("queuemon:epoch").startswith(b"ready")


# ----------------------------------------------------------------------------------------------- duties, folding, purge


def test_a_duty_that_fails_rests_and_the_others_go_on(rig: Rig) -> None:
    settings = rig.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    away = Store(settings)
    job_id = _start(rig, "gone", silent=True)
    relay = Relay(away, calm_seconds=0)
    relay.step(everything=True)
    relay.step(everything=True)
    assert rig.job(job_id)["status"] == "waiting"
    assert {duty.name for duty in relay._duties if duty.failing} == {"restore", "publish", "flags", "reap unknown"}
    assert all(duty.due > 0 for duty in relay._duties)
    away.close()


def test_a_relay_waits_for_stores_that_are_away_and_stops_when_told(rig: Rig) -> None:
    away = Store(rig.settings.model_copy(update={"database_url": SecretStr("postgresql://x@127.0.0.1:1/x")}))
    stop = threading.Event()
    thread = threading.Thread(target=Relay(away).run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    away.close()


def test_a_running_relay_is_in_the_registry_and_publishes_soon(rig: Rig) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=rig.relay().run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: rig.sql("SELECT * FROM queuemon.workers WHERE kind = 'relay'"))
        with rig.store.postgres.begin() as connection:
            rig.producer.enqueue_in(connection, "mail", {})
        wait_until(lambda: rig.listed("mail"), timeout=5)
    finally:
        stop.set()
        thread.join()
    assert rig.sql("SELECT * FROM queuemon.workers") == []


def test_relays_side_by_side_fold_every_change_once(rig: Rig) -> None:
    with rig.worker(lambda job: 1 // job.payload["n"]):
        rig.producer.enqueue_many("mail", ({"n": n % 5} for n in range(50)), max_attempts=1)
        rig.until("completed", 40)
        rig.until("failed", 10)
        relays = [rig.relay() for _ in range(3)]

        def folded() -> bool:
            threads = [threading.Thread(target=relay.fold) for relay in relays]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            minutes = rig.sql("SELECT kind, sum(n)::int AS n FROM queuemon.minutes GROUP BY kind")
            return {row["kind"]: row["n"] for row in minutes} == {
                "arrived": 50,
                "completed": 40,
                "attempt-completed": 40,
                "attempt-failed": 10,
            }

        wait_until(folded, timeout=15)


def test_the_janitor_purges_what_is_old_and_keeps_the_rest(rig: Rig) -> None:
    old, new = uuid7(), uuid7()
    rig.sql(
        "INSERT INTO job_logs (job_id, queue, gen, status, finished_at, txid)"
        " VALUES (:old, 'mail', 1, 'completed', now() - interval '31 d', '0'),"
        " (:new, 'mail', 1, 'completed', now(), '0'),"
        " (:new, 'mail', 1, 'failed', now() - interval '31 d', pg_current_xact_id())",
        old=old,
        new=new,
    )
    rig.sql("UPDATE queuemon.rollup_state SET txid = '1' WHERE name = 'attempts'")
    actions = "INSERT INTO queuemon.actions (id, kind, target, cutoff, planned, actor, finished_at)"
    rig.sql(
        f"{actions} VALUES (:old, 'retry', '', now(), 0, 'a', now() - interval '40 d'),"
        " (:new, 'retry', '', now(), 0, 'a', now() - interval '40 d')",
        old=old,
        new=new,
    )
    rig.sql("INSERT INTO queuemon.action_events (action_id, event, actor) VALUES (:old, 'done', 'a')", old=old)
    rig.sql(
        "INSERT INTO queuemon.undo_jobs (action_id, job_id, row, kept_until)"
        " VALUES (:old, :old, '{}', now() - interval '1 s'), (:new, :new, '{}', now() + interval '1 d')",
        old=old,
        new=new,
    )
    rig.sql("INSERT INTO queuemon.minutes VALUES ('mail', 'arrived', now() - interval '36 d', 1)")
    rig.sql("INSERT INTO queuemon.minutes VALUES ('mail', 'arrived', now() - interval '30 d', 1)")
    rig.relay().clean()
    assert [(row["job_id"], row["status"]) for row in rig.sql("SELECT * FROM job_logs ORDER BY id")] == [
        (new, "completed"),
        (new, "failed"),  # not folded yet
    ]
    assert [row["id"] for row in rig.sql("SELECT id FROM queuemon.actions")] == [new]  # its undo copy is still kept
    assert rig.sql("SELECT * FROM queuemon.action_events") == []
    assert len(rig.sql("SELECT * FROM queuemon.undo_jobs")) == 1
    assert len(rig.sql("SELECT * FROM queuemon.minutes")) == 1


def test_the_janitor_keeps_logs_for_ever_when_told_so(rig: Rig) -> None:
    rig.sql(
        "INSERT INTO job_logs (job_id, queue, gen, status, finished_at, txid)"
        " VALUES (gen_random_uuid(), 'mail', 1, 'completed', now() - interval '9 years', '0')"
    )
    rig.sql("UPDATE queuemon.rollup_state SET txid = '1' WHERE name = 'attempts'")
    rig.store.settings = rig.settings.model_copy(update={"log_days": 0.0})
    rig.relay().clean()
    assert len(rig.sql("SELECT * FROM job_logs")) == 1


def test_a_purge_of_logs_is_bounded(rig: Rig) -> None:
    rig.sql(
        "INSERT INTO job_logs (job_id, queue, gen, status, finished_at, txid)"
        " SELECT gen_random_uuid(), 'mail', 1, 'completed', now() - interval '31 d', '0' FROM generate_series(1, 50)"
    )
    rig.sql("UPDATE queuemon.rollup_state SET txid = '1' WHERE name = 'attempts'")
    with rig.store.postgres.begin() as connection:
        assert janitor.purge_logs(connection, rig.store.tables, days=30, limit=20) == 20


def test_elements_published_again_say_what_the_row_says_now(rig: Rig) -> None:
    rig.relay().step(everything=True)
    rig.producer.enqueue("mail", {"n": 1})
    rig.sql("UPDATE jobs SET payload = '{\"n\": 2}', attempts = 1")
    rig.redis.flushdb()
    relay = rig.relay()
    relay.step(everything=True)
    relay.step(everything=True)
    (raw,) = rig.redis.lrange("queue:mail", 0, -1)
    element = json.loads(raw)
    assert (element["payload"], element["attempts"]) == ({"n": 2}, 1)
