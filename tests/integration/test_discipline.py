"""Which level of discipline the stores show: with real workers of each level, and one contradiction at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from pydantic import SecretStr

from queuemon import actions
from queuemon.engine.ids import uuid7
from queuemon.engine.publisher import publish
from queuemon.model import WorkerLevel
from queuemon.store import Store, discipline
from queuemon.store.discipline import MINIMUM
from queuemon.workbench import Workbench
from tests.support.engine import Rig
from tests.support.wait import wait_until

_TAKE = (
    "UPDATE jobs SET status = 'active', attempts = attempts + 1, started_at = now(), heartbeat_at = now(),"
    " worker_id = 'theirs', updated_at = now() WHERE id = %(id)s"
)
_CLAIM = (
    f"{_TAKE} AND gen = %(gen)s AND status = 'waiting' AND run_at <= now() AND expires_at > now()"
    " AND NOT (SELECT paused FROM job_queues AS q WHERE q.name = jobs.queue)"
)
_DONE = (
    "WITH done AS (UPDATE jobs SET status = 'completed', finished_at = now(), updated_at = now() WHERE id = %(id)s"
    " RETURNING *) INSERT INTO job_logs (job_id, queue, kind, gen, attempt, status, worker_id, started_at, finished_at)"
    " SELECT id, queue, 'attempt', %(gen)s, attempts, 'completed', 'theirs', started_at, now() FROM done"
)


@contextmanager
def foreign_worker(rig: Rig, *, claims: bool) -> Iterator[None]:
    """Somebody else's worker on the queue mail, which logs its attempts; L1 where it claims, else L0."""
    stop = threading.Event()
    pg = psycopg.connect(rig.settings.database_url.get_secret_value(), autocommit=True)
    pops = redis.Redis.from_url(rig.settings.redis_url.get_secret_value())

    def work() -> None:
        while not stop.is_set():
            found: Any = pops.blpop(["queue:mail"], timeout=0.1)
            if found is None:
                continue
            element = json.loads(found[1])
            names = {"id": UUID(element["id"]), "gen": element["gen"]}
            if pg.execute((_CLAIM if claims else _TAKE).encode(), names).rowcount:
                pg.execute(_DONE.encode(), names)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
        pg.close()
        pops.close()


def level(rig: Rig, **settings: Any) -> WorkerLevel:
    store = Store(rig.settings.model_copy(update=settings))
    try:
        return discipline.find(store)
    finally:
        store.close()


def run_some(rig: Rig, n: int = MINIMUM) -> None:
    """So many jobs, to their end."""
    rig.producer.enqueue_many("mail", ({} for _ in range(n)))
    rig.until("completed", n)


def row(rig: Rig, *, queue: str = "mail", **columns: str) -> UUID:
    """A job's row, with SQL for some columns."""
    job_id = uuid7()
    values = {"status": "'waiting'", "gen": "1", "expires_at": "now() + interval '1 day'", **columns}
    rig.sql(
        f"INSERT INTO jobs (id, queue, payload, {', '.join(values)}) VALUES (:id, :queue, '{{}}',"
        f" {', '.join(values.values())})",
        id=job_id, queue=queue,
    )  # fmt: skip
    return job_id


def attempt(rig: Rig, job_id: UUID, *, gen: int = 1, started: str = "now()", worker: str = "theirs") -> None:
    rig.sql(
        "INSERT INTO job_logs (job_id, queue, kind, gen, attempt, status, worker_id, started_at, finished_at)"
        f" VALUES (:id, 'mail', 'attempt', :gen, 1, 'completed', :worker, {started}, now())",
        id=job_id, gen=gen, worker=worker,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------- real workers


def test_where_nothing_runs_nothing_is_known_and_the_lowest_level_is_assumed(rig: Rig) -> None:
    found = level(rig)
    assert (found.level, found.known, found.assumed) == ("", "", "L0")
    assert found.promise == discipline.PROMISES["L0"]
    assert "not known" in found.evidence[-1]
    assert f"{MINIMUM} jobs" in found.evidence[-1]


def test_registered_workers_alone_prove_nothing(rig: Rig) -> None:
    with rig.worker(lambda job: None):
        wait_until(lambda: bool(rig.sql("SELECT 1 FROM queuemon.workers")))
        assert level(rig).level == ""


def test_our_workers_are_l2_while_they_run_a_job_and_when_they_have_run_some(rig: Rig) -> None:
    go = threading.Event()
    with rig.worker(lambda job: go.wait(20)):
        rig.producer.enqueue("mail", {})
        rig.until("active", 1)
        found = level(rig)
        assert found.level == "L2"
        assert (
            "1 active job, 1 of registered workers, 1 with a fresh heartbeat, 1 in their worker's hand"
            in found.evidence
        )
        assert found.promise == discipline.PROMISES["L2"]
        go.set()
        rig.until("completed", 1)
        assert level(rig).level == "L2"


def test_foreign_workers_that_claim_are_l1_after_enough_attempts(rig: Rig) -> None:
    with foreign_worker(rig, claims=True):
        run_some(rig, MINIMUM - 1)
        assert level(rig).level == ""
        rig.producer.enqueue("mail", {})
        rig.until("completed", MINIMUM)
    found = level(rig)
    assert found.level == "L1"
    assert f"{MINIMUM} attempts in the last hour by 1 worker, none of them against a claim" in found.evidence


def test_a_foreign_worker_that_takes_the_same_generation_twice_is_l0(rig: Rig) -> None:
    with foreign_worker(rig, claims=False):
        (job_id,) = rig.producer.enqueue_many("mail", [{}])
        rig.until("completed", 1)
        rig.redis.rpush("queue:mail", json.dumps({"id": str(job_id), "gen": 1}))
        wait_until(lambda: len(rig.logs(job_id)) == 2)
    found = level(rig)
    assert found.level == "L0"
    assert f"against a claim: 1 job started more than once under one generation ({job_id})" in found.evidence


def test_the_same_double_element_does_a_claiming_worker_no_harm(rig: Rig) -> None:
    """The negative control."""
    with foreign_worker(rig, claims=True):
        run_some(rig)
        (job_id, *_) = (r["id"] for r in rig.sql("SELECT id FROM jobs"))
        rig.redis.rpush("queue:mail", json.dumps({"id": str(job_id), "gen": 1}))
        wait_until(lambda: rig.redis.llen("queue:mail") == 0)
    assert level(rig).level == "L1"


def test_a_foreign_worker_that_starts_jobs_during_a_pause_is_l0_and_a_soft_pause_warns(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {})
    rig.sql("UPDATE job_queues SET paused = true, paused_at = now() - interval '1 minute' WHERE name = 'mail'")
    with foreign_worker(rig, claims=False):
        rig.until("completed", 1)
    assert f"against a claim: 1 job of a paused queue started after the pause ({job_id})" in level(rig).evidence
    soft = actions.plan(rig.store, "pause", "mail")
    assert any("do not ask for the flag (L0): pause hard" in w for w in soft.warnings)
    assert not any("L0" in w for w in actions.plan(rig.store, "pause", "mail", hard=True).warnings)


def test_beside_ours_one_foreign_worker_makes_it_l1_at_most(rig: Rig) -> None:
    go = threading.Event()
    with rig.worker(lambda job: go.wait(20)):
        rig.producer.enqueue("mail", {})
        rig.until("active", 1)
        row(rig, status="'active'", started_at="now()", heartbeat_at="now()", worker_id="'theirs'")
        for _ in range(MINIMUM):
            attempt(rig, uuid7())
        found = level(rig)
        assert found.level == "L1"
        assert "workers that are not registered" in found.evidence[-1]
        go.set()


# ------------------------------------------------------------------------------------------- one contradiction each

_PAUSED = "UPDATE job_queues SET paused = true, paused_at = now() - interval '1 minute' WHERE name = 'mail'"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"started_at": "now()", "run_at": "now() + interval '1 h'", "worker_id": "'w'"}, "before they were due"),
        ({"started_at": "now()"}, "name no worker"),
        ({"started_at": "now()", "worker_id": "'w'"}, "in a paused queue after its pause"),
    ],
)
def test_an_active_job_that_contradicts_a_claim_is_l0(rig: Rig, columns: dict[str, str], words: str) -> None:
    run = {"run_at": "now() - interval '1 h'", "status": "'active'", "heartbeat_at": "now()"} | columns
    if "paused" in words:
        rig.sql(_PAUSED)
    row(rig, **run)
    found = level(rig)
    assert found.level == "L0"
    assert any(words in line for line in found.evidence)
    assert len([line for line in found.evidence if line.startswith("against")]) == 1


def test_an_attempt_under_an_old_generation_is_l0(rig: Rig) -> None:
    job_id = uuid7()
    rig.sql(
        "INSERT INTO job_logs (job_id, queue, kind, gen, status, finished_at)"
        " VALUES (:id, 'mail', 'retry', 2, 'waiting', now() - interval '1 minute')",
        id=job_id,
    )
    attempt(rig, job_id, gen=1)
    assert "although a newer one was known" in level(rig).evidence[0]


def test_what_began_before_the_pause_or_under_the_newest_generation_is_no_contradiction(rig: Rig) -> None:
    rig.sql(_PAUSED)
    job_id = row(
        rig, status="'active'", started_at="now() - interval '2 min'", run_at="now() - interval '1 h'", worker_id="'w'"
    )
    attempt(rig, job_id, gen=1, started="now() - interval '3 min'")
    attempt(rig, job_id, gen=2, started="now() - interval '2 min'")
    assert not [line for line in level(rig).evidence if line.startswith("against")]


def test_completed_jobs_without_attempts_keep_l1_from_being_seen(rig: Rig) -> None:
    for _ in range(MINIMUM):
        attempt(rig, uuid7())
    assert level(rig).level == "L1"
    row(rig, status="'completed'", finished_at="now()", worker_id="'theirs'")
    found = level(rig)
    assert found.level == ""
    assert any("left no attempt in job_logs" in line for line in found.evidence)


def test_a_registered_worker_that_does_not_beat_for_its_job_or_does_not_hold_it_is_not_l2(rig: Rig) -> None:
    rig.sql("INSERT INTO queuemon.workers (id, home, host, pid) VALUES ('w-1', 'mail', 'h', 1)")
    job_id = row(rig, status="'active'", started_at="now()", heartbeat_at="now()", worker_id="'w-1'")
    assert level(rig).level == "", "nothing in hand"
    rig.redis.rpush("queuemon:proc:w-1:mail", json.dumps({"id": str(job_id), "gen": 2}))
    assert level(rig).level == "", "another generation in hand"
    rig.redis.rpush("queuemon:proc:w-1:mail", json.dumps({"id": str(job_id), "gen": 1}))
    assert level(rig).level == "L2"
    rig.sql("UPDATE jobs SET heartbeat_at = now() - interval '1 hour'")
    assert level(rig).level == ""


def test_old_evidence_does_not_count(rig: Rig) -> None:
    job_id = uuid7()
    attempt(rig, job_id)
    attempt(rig, job_id)
    assert level(rig).level == "L0"
    rig.sql("UPDATE job_logs SET finished_at = now() - interval '2 hours'")
    assert level(rig).level == ""


# ------------------------------------------------------------------------------------------------------ and the rest


def test_the_profile_s_word_is_compared_and_the_lower_one_assumed(rig: Rig) -> None:
    assert level(rig, worker_level="L2").assumed == "L2", "nothing speaks against it"
    row(rig, status="'active'", started_at="now()", heartbeat_at="now()")
    found = level(rig, worker_level="L2")
    assert (found.level, found.assumed, found.contradicted) == ("L0", "L0", True)
    assert found.promise == discipline.PROMISES["L0"]
    assert not level(rig, worker_level="L0").contradicted


def test_while_redis_is_away_l2_cannot_be_seen(rig: Rig) -> None:
    go = threading.Event()
    with rig.worker(lambda job: go.wait(20)):
        rig.producer.enqueue("mail", {})
        rig.until("active", 1)
        found = level(rig, redis_url=SecretStr("redis://127.0.0.1:1/0"))
        assert found.level == ""
        assert any("Redis did not answer" in line for line in found.evidence)
        go.set()


def test_a_comparison_goes_by_the_level_that_was_found(rig: Rig) -> None:
    workbench = Workbench(rig.settings)
    try:
        assert workbench.worker_level().assumed == "L0"
        assert workbench.drift(wait_seconds=0.0).level == "L0"
        with rig.worker(lambda job: None):
            run_some(rig, 1)
            publish(rig.store)
            assert workbench.drift(wait_seconds=0.0).level == "L2"
    finally:
        workbench.close()
