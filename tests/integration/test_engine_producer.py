"""PostgreSQL commits first; publication follows, may be repeated, and loses nothing."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from queuemon.config import Settings
from queuemon.contract import PUBLISH_BATCH, WAKE_TOKENS
from queuemon.engine import publisher
from queuemon.engine.producer import Producer
from queuemon.engine.publisher import publish
from queuemon.errors import InvalidValue, StoreError, StoreUnavailable, UnknownQueue
from queuemon.store import Store, outbox
from tests.support.engine import Rig

pytestmark = pytest.mark.integration


def test_an_enqueued_job_is_committed_and_listed_once_as_the_contract_says(rig: Rig) -> None:
    payload = {"big": 12345678901234567890, "none": [], "text": "ü\\u0000"}
    job_id = rig.producer.enqueue("mail", payload)
    row = rig.job(job_id)
    assert (row["status"], row["gen"], row["attempts"], row["max_attempts"]) == ("waiting", 1, 0, 3)
    assert row["expires_at"] - row["run_at"] == timedelta(hours=24)
    (raw,) = rig.redis.lrange("queue:mail", 0, -1)
    element = json.loads(raw)
    assert element["payload"] == payload
    assert set(element) == {"id", "gen", "queue", "payload", "attempts", "max_attempts", "created_at", "expires_at"}
    assert datetime.fromisoformat(element["created_at"]) == row["created_at"]
    assert rig.redis.hgetall(f"job:{job_id}") == {b"gen": b"1", b"queue": b"mail"}
    assert 0 < rig.redis.ttl(f"job:{job_id}") <= 24 * 3600
    assert rig.redis.ttl("queue:mail") == -1
    assert rig.outbox() == 0


def test_a_batch_keeps_its_order_and_leaves_nothing_in_the_outbox(rig: Rig) -> None:
    ids = rig.producer.enqueue_many("mail", ({"n": n} for n in range(2_300)))
    assert [i for i, _ in rig.listed("mail")] == [str(i) for i in ids]
    assert rig.count("waiting") == 2_300
    assert rig.outbox() == 0


def test_an_empty_batch_is_nothing(rig: Rig) -> None:
    assert rig.producer.enqueue_many("mail", []) == []


@pytest.mark.parametrize("driver", ["sqlalchemy", "psycopg"])
def test_a_job_enqueued_in_a_transaction_exists_only_if_that_commits(rig: Rig, driver: str) -> None:
    def transaction() -> Any:
        if driver == "sqlalchemy":
            return rig.store.postgres.begin()
        return psycopg.connect(rig.settings.database_url.get_secret_value(), row_factory=psycopg.rows.dict_row)

    with suppress(ZeroDivisionError), transaction() as connection:
        rig.producer.enqueue_in(connection, "mail", {"never": True})
        raise ZeroDivisionError
    assert rig.count("waiting") == 0
    assert rig.outbox() == 0

    with transaction() as connection:
        job_id = rig.producer.enqueue_in(connection, "mail", {"n": 1}, max_attempts=7)
    assert rig.listed("mail") == []
    rig.relay().step(everything=True)
    assert rig.listed("mail") == [(str(job_id), 1)]
    assert rig.job(job_id)["max_attempts"] == 7


def test_an_unknown_queue_is_refused_with_the_names_that_come_close(rig: Rig) -> None:
    with pytest.raises(UnknownQueue, match="did you mean mail"):
        rig.producer.enqueue("mial", {})
    with pytest.raises(UnknownQueue), rig.store.postgres.begin() as connection:
        rig.producer.enqueue_in(connection, "x; DROP TABLE jobs", {})
    assert rig.outbox() == 0


def test_an_unknown_queue_leaves_the_callers_transaction_alone(rig: Rig) -> None:
    with rig.store.postgres.begin() as connection:
        with pytest.raises(UnknownQueue):
            rig.producer.enqueue_in(connection, "nowhere", {})
        rig.producer.enqueue_in(connection, "mail", {})
    assert rig.count("waiting") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"run_at": datetime(2030, 1, 1)},  # noqa: DTZ001
        {"max_attempts": 0},
        {"expires_after": timedelta(0)},
    ],
)
def test_values_that_mean_nothing_are_refused(rig: Rig, options: Any) -> None:
    with pytest.raises(InvalidValue):
        rig.producer.enqueue("mail", {}, **options)


def test_a_scheduled_job_is_published_when_it_is_due_and_expires_24_hours_after_that(rig: Rig) -> None:
    next_week = datetime.now(UTC) + timedelta(days=7)
    job_id = rig.producer.enqueue("mail", {}, run_at=next_week)
    assert publish(rig.store).rows == 0
    assert rig.listed("mail") == []
    row = rig.job(job_id)
    assert row["run_at"] == next_week
    assert row["expires_at"] - next_week == timedelta(hours=24)
    rig.sql("UPDATE jobs SET run_at = now()")
    rig.sql("UPDATE queuemon.publications SET due_at = now()")
    assert publish(rig.store).jobs == 1
    assert rig.listed("mail") == [(str(job_id), 1)]


def test_a_time_in_the_past_means_now(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {}, run_at=datetime(2020, 1, 1, tzinfo=UTC))
    row = rig.job(job_id)
    assert row["run_at"] == row["created_at"]


def test_while_redis_is_away_jobs_are_accepted_and_published_later(rig: Rig, settings: Settings) -> None:
    away = Store(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))
    producer = Producer(away)
    ids = [producer.enqueue("mail", {"n": n}) for n in range(3)]
    with pytest.raises(StoreUnavailable):
        publish(away)
    away.close()
    assert rig.outbox() == 3
    assert publish(rig.store).jobs == 3
    assert [i for i, _ in rig.listed("mail")] == [str(i) for i in ids]


def test_a_crash_between_push_and_commit_publishes_again_without_a_second_element(rig: Rig) -> None:
    with rig.store.postgres.begin() as connection:
        job_id = rig.producer.enqueue_in(connection, "mail", {})
    with suppress(ZeroDivisionError), rig.store.postgres.begin() as connection:
        rows = outbox.lock_due(connection, rig.store.tables, rows=10, jobs=100)
        assert publisher.push(rig.store, outbox.take(connection, rig.store.tables, rows))[0] == 1
        raise ZeroDivisionError  # the process dies here
    assert rig.outbox() == 1
    assert publish(rig.store) == publisher.Published(jobs=0, rows=1, more=False)
    assert rig.listed("mail") == [(str(job_id), 1)]


def test_only_jobs_that_still_wait_are_published_and_with_the_generation_they_have_now(rig: Rig) -> None:
    with rig.store.postgres.begin() as connection:
        ids = [rig.producer.enqueue_in(connection, "mail", {"n": n}) for n in range(6)]
    done, late, later, moved, gone, kept = ids
    rig.sql("UPDATE jobs SET status = 'completed', finished_at = now() WHERE id = :id", id=done)
    rig.sql("UPDATE jobs SET expires_at = now() - interval '1 s' WHERE id = :id", id=late)
    rig.sql("UPDATE jobs SET run_at = now() + interval '1 h' WHERE id = :id", id=later)
    rig.sql("UPDATE jobs SET gen = 5, queue = 'bulk' WHERE id = :id", id=moved)
    rig.sql("DELETE FROM jobs WHERE id = :id", id=gone)
    assert publish(rig.store).jobs == 2
    assert rig.listed("mail") == [(str(kept), 1)]
    assert rig.listed("bulk") == [(str(moved), 5)]
    assert rig.outbox() == 0


def test_a_newer_generation_passes_the_marker_of_an_older_one_but_not_the_other_way_round(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {})
    rig.sql("UPDATE jobs SET gen = 2")
    with rig.store.postgres.begin() as connection:
        row = outbox.add(connection, rig.store.tables, [job_id])
    assert publish(rig.store, outbox_ids=[row]).jobs == 1
    rig.sql("UPDATE jobs SET gen = 1")
    with rig.store.postgres.begin() as connection:
        row = outbox.add(connection, rig.store.tables, [job_id, job_id])
    assert publish(rig.store, outbox_ids=[row]).jobs == 0
    assert rig.listed("mail") == [(str(job_id), 1), (str(job_id), 2)]


def test_publishers_side_by_side_push_each_job_once(rig: Rig) -> None:
    with rig.store.postgres.begin() as connection:
        for n in range(300):
            rig.producer.enqueue_in(connection, "mail", {"n": n})
    pushed: list[int] = []
    threads = [
        threading.Thread(target=lambda: pushed.extend(publish(rig.store, limit=20).jobs for _ in range(15)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(pushed) == 300
    assert len(set(rig.listed("mail"))) == len(rig.listed("mail")) == 300


def test_a_row_that_someone_else_is_publishing_is_left_to_him_without_waiting(rig: Rig) -> None:
    with rig.store.postgres.begin() as connection:
        job_id = rig.producer.enqueue_in(connection, "mail", {})
    with rig.store.postgres.begin() as other:
        (row,) = outbox.lock_due(other, rig.store.tables, rows=10, jobs=100)
        assert publish(rig.store, outbox_ids=[row]).jobs == 0
        assert publish(rig.store).rows == 0
    assert publish(rig.store).jobs == 1
    assert rig.listed("mail") == [(str(job_id), 1)]


def test_no_call_of_a_script_names_more_than_250_jobs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run_many = rig.store.redis.run_many

    def spy(script: str, calls: Any, **options: Any) -> Any:
        sizes.extend(len(keys) - 4 for keys, _ in calls)
        return run_many(script, calls, **options)

    monkeypatch.setattr(rig.store.redis, "run_many", spy)
    rig.producer.enqueue_many("mail", ({} for _ in range(1_100)))
    assert sum(sizes) == 1_100
    assert max(sizes) <= PUBLISH_BATCH


def test_a_list_of_another_type_stops_the_publication_and_loses_nothing(rig: Rig) -> None:
    rig.redis.set("queue:mail", "not a list")
    job_id = rig.producer.enqueue("mail", {})
    with pytest.raises(StoreError, match="another type"):
        publish(rig.store)
    assert not rig.redis.exists(f"job:{job_id}")
    rig.redis.delete("queue:mail")
    assert publish(rig.store).jobs == 1
    assert rig.listed("mail") == [(str(job_id), 1)]


def test_scripts_are_loaded_again_after_the_server_forgot_them(rig: Rig) -> None:
    rig.producer.enqueue("mail", {})
    rig.redis.script_flush()
    rig.producer.enqueue("mail", {})
    assert len(rig.listed("mail")) == 2


def test_idle_workers_are_woken_once_per_job_up_to_a_bound(rig: Rig) -> None:
    rig.producer.enqueue("mail", {})
    assert rig.redis.llen("queuemon:wake") == 1
    rig.producer.enqueue_many("mail", ({} for _ in range(500)))
    assert rig.redis.llen("queuemon:wake") == WAKE_TOKENS


def test_publication_stops_at_its_limits_and_says_that_more_is_left(rig: Rig) -> None:
    with rig.store.postgres.begin() as connection:
        for _ in range(5):
            rig.producer.enqueue_in(connection, "mail", {})
    first = publish(rig.store, limit=2)
    assert (first.jobs, first.rows, first.more) == (2, 2, True)
    assert publish(rig.store, seconds=0.0) == publisher.Published(jobs=0, rows=0, more=True)
    assert publish(rig.store).jobs == 3
