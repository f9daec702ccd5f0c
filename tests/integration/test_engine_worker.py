"""Workers claim before they run, beat while they run, and write nothing about a job that is no longer theirs."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from queuemon.contract import WAKE_TOKENS
from queuemon.engine.handlers import JobInHand
from queuemon.engine.ids import uuid7
from queuemon.engine.publisher import publish
from queuemon.engine.worker import Worker
from queuemon.errors import ConfigError, SchemaMismatch, StoreUnavailable
from queuemon.store import claims, parking
from queuemon.store.claims import Claimed, Refusal, Refused
from queuemon.store.pauses import PauseFlag
from tests.support.engine import Rig
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


class Recorder:
    """A handler that notes every start and can be held up."""

    def __init__(self, *, hold: bool = False) -> None:
        self.started: list[tuple[UUID, int]] = []
        self.queues: list[str] = []
        self.go = threading.Event()
        self.jobs: list[JobInHand] = []
        if not hold:
            self.go.set()

    def __call__(self, job: JobInHand) -> None:
        self.started.append((job.id, job.gen))
        self.queues.append(job.queue)
        self.jobs.append(job)
        while not self.go.wait(0.02):
            if job.cancelled.is_set():
                return

    def wait_for_start(self) -> None:
        wait_until(lambda: self.started, message="the handler runs")


def test_a_job_is_completed_with_its_attempt_on_record_and_nothing_left_in_redis(rig: Rig) -> None:
    seen: list[JobInHand] = []
    job_id = rig.producer.enqueue("mail", {"to": "a@example.com", "big": 12345678901234567890})
    with rig.worker(seen.append) as worker:
        rig.until("completed", 1)
        wait_until(lambda: rig.in_hand() == 0)
    (job,) = seen
    assert job.payload == {"to": "a@example.com", "big": 12345678901234567890}
    assert (job.id, job.queue, job.gen, job.attempt, job.max_attempts) == (job_id, "mail", 1, 1, 3)
    assert job.worker_id == worker.id
    row = rig.job(job_id)
    assert (row["attempts"], row["worker_id"], row["error_type"]) == (1, worker.id, None)
    assert row["created_at"] <= row["started_at"] <= row["finished_at"]
    (log,) = rig.logs(job_id)
    assert (log["kind"], log["status"], log["attempt"], log["gen"]) == ("attempt", "completed", 1, 1)
    assert log["duration_ms"] >= 0
    assert not rig.redis.exists(f"job:{job_id}")


def test_a_failing_job_is_tried_again_under_new_generations_until_its_attempts_are_used_up(rig: Rig) -> None:
    def fail(job: JobInHand) -> None:
        raise ZeroDivisionError(f"Division by zero in MRR calculation, attempt {job.attempt}")

    job_id = rig.producer.enqueue("mail", {})
    with rig.worker(fail):
        rig.until("failed", 1)
        wait_until(lambda: rig.in_hand() == 0)
    row = rig.job(job_id)
    assert (row["attempts"], row["gen"]) == (3, 3)
    assert row["error_type"] == "ZeroDivisionError"
    assert row["error_message"].endswith("attempt 3")
    logs = rig.logs(job_id)
    assert [(log["status"], log["attempt"], log["gen"]) for log in logs] == [
        ("failed", 1, 1),
        ("failed", 2, 2),
        ("failed", 3, 3),
    ]
    assert all("in fail" in log["stack_trace"] for log in logs)
    assert rig.outbox() == 0


def test_between_attempts_a_job_waits_for_its_back_off(rig: Rig) -> None:
    slow = rig.settings.model_copy(update={"backoff_seconds": 100.0})
    rig.store.settings = slow
    job_id = rig.producer.enqueue("mail", {})
    with rig.worker(lambda _job: 1 / 0):
        wait_until(lambda: rig.job(job_id)["status"] == "waiting" and rig.job(job_id)["attempts"] == 1)
    row = rig.job(job_id)
    (due,) = rig.sql("SELECT due_at, job_ids FROM queuemon.publications")
    assert due["due_at"] == row["run_at"]
    assert due["job_ids"] == [job_id]
    wait = (row["run_at"] - row["updated_at"]).total_seconds()
    assert 75 <= wait <= 125
    assert (row["worker_id"], row["heartbeat_at"], row["finished_at"]) == (None, None, None)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), RecursionError("deep")], ids=repr)
def test_whatever_a_handler_raises_is_a_failed_attempt_and_the_worker_goes_on(rig: Rig, error: BaseException) -> None:
    def handler(job: JobInHand) -> None:
        if job.payload["bad"]:
            raise error

    rig.producer.enqueue("mail", {"bad": True}, max_attempts=1)
    rig.producer.enqueue("mail", {"bad": False})
    with rig.worker(handler):
        rig.until("completed", 1)
        rig.until("failed", 1)


def test_a_hostile_failure_is_kept_as_text(rig: Rig) -> None:
    def fail(_job: JobInHand) -> None:
        raise ValueError("\0 \ud800 <script> {{x}} \x1b[31m" + "x" * 50_000)

    job_id = rig.producer.enqueue("mail", {}, max_attempts=1)
    with rig.worker(fail):
        rig.until("failed", 1)
    assert len(rig.job(job_id)["error_message"]) <= 8_000


def test_a_payload_that_cannot_be_decoded_fails_its_attempt_and_not_the_worker(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {}, max_attempts=1)
    rig.sql("UPDATE jobs SET payload = (repeat('[', 6000) || repeat(']', 6000))::jsonb")
    with rig.worker(lambda _job: None):
        rig.until("failed", 1)
    assert [log["error_type"] for log in rig.logs(job_id)] == ["queuemon.engine.worker.UnreadablePayload"]


# ------------------------------------------------------------------------------------------------------------- claims


def _claim(rig: Rig, job_id: UUID, gen: int | None = 1, worker_id: str = "w") -> Claimed | Refused:
    with rig.store.postgres.statement() as connection:
        return claims.claim(connection, rig.store.tables, job_id=job_id, gen=gen, worker_id=worker_id)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("status = 'active'", Refusal.STALE),
        ("status = 'completed'", Refusal.STALE),
        ("status = 'failed'", Refusal.STALE),
        ("status = 'expired'", Refusal.STALE),
        ("gen = 2", Refusal.STALE),
        ("run_at = now() + interval '1 h'", Refusal.EARLY),
        ("expires_at = now()", Refusal.EXPIRED),
        ("queue = 'paused'", Refusal.PAUSED),
        ("queue = 'nobody'", Refusal.STALE),
    ],
)
def test_a_claim_is_refused_unless_the_job_waits_is_due_in_time_and_not_paused(
    rig: Rig, change: str, why: Refusal
) -> None:
    rig.sql("INSERT INTO job_queues (name, paused, pause_epoch) VALUES ('paused', true, 4)")
    job_id = rig.producer.enqueue("mail", {})
    rig.sql(f"UPDATE jobs SET {change}")
    before = rig.job(job_id)
    answer = _claim(rig, job_id)
    assert isinstance(answer, Refused)
    assert answer.why is why
    assert rig.job(job_id) == before


def test_a_claim_of_a_job_that_does_not_exist_is_refused(rig: Rig) -> None:
    assert _claim(rig, uuid7()) == Refused(why=Refusal.STALE)


def test_an_element_without_a_generation_claims_whichever_generation_stands(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {})
    rig.sql("UPDATE jobs SET gen = 9")
    answer = _claim(rig, job_id, None)
    assert isinstance(answer, Claimed)
    assert answer.gen == 9


def test_of_many_claims_of_one_generation_exactly_one_succeeds(rig: Rig) -> None:
    job_ids = rig.producer.enqueue_many("mail", ({} for _ in range(20)))
    won: list[UUID] = []
    barrier = threading.Barrier(8)

    def race(worker_id: str) -> None:
        for job_id in job_ids:
            barrier.wait()
            if isinstance(_claim(rig, job_id, worker_id=worker_id), Claimed):
                won.append(job_id)

    threads = [threading.Thread(target=race, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(won) == dict.fromkeys(job_ids, 1)


# ----------------------------------------------------------------------------------------------------------- elements


def test_elements_that_lead_nowhere_are_dropped_and_unreadable_ones_set_aside(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {})
    (element,) = rig.redis.lrange("queue:mail", 0, -1)
    poison = [
        b'{"id": "%s", "gen": 99999999999}' % str(uuid7()).encode(),
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"{",
        b"not-a-uuid",
        b'{"id": true}',
        b"",
    ]
    rig.redis.lpush("queue:mail", *poison)
    # The same job twice; a bare id; foreign JSON; a job that was deleted.
    rig.redis.rpush("queue:mail", element, str(job_id), f'{{"jobId": "{job_id}"}}', str(uuid7()))
    recorder = Recorder()
    with rig.worker(recorder):
        rig.until("completed", 1)
        wait_until(lambda: rig.redis.llen("queue:mail") == 0 and rig.in_hand() == 0)
    assert recorder.started == [(job_id, 1)]
    assert sorted(rig.redis.lrange("queuemon:quarantine:mail", 0, -1)) == sorted(poison)


def test_a_job_found_in_the_wrong_list_is_run_all_the_same(rig: Rig) -> None:
    job_id = rig.producer.enqueue("reports", {})
    rig.redis.lmove("queue:reports", "queue:mail", "LEFT", "RIGHT")
    recorder = Recorder()
    with rig.worker(recorder):
        rig.until("completed", 1)
    assert recorder.queues == ["reports"]
    assert recorder.started == [(job_id, 1)]


def test_jobs_of_a_paused_queue_go_back_to_its_head_and_redis_learns_of_the_pause(rig: Rig) -> None:
    rig.sql("UPDATE job_queues SET paused = true, pause_epoch = 3, paused_at = now() WHERE name = 'mail'")
    ids = rig.producer.enqueue_many("mail", ({} for _ in range(3)))
    rig.producer.enqueue("bulk", {})
    recorder = Recorder()
    with rig.worker(recorder):
        rig.until("completed", 1)
        wait_until(lambda: rig.in_hand() == 0)
        assert recorder.queues == ["bulk"]
        assert rig.listed("mail") == [(str(i), 1) for i in ids]
        assert rig.redis.hget("queuemon:paused:mail", "paused") == b"1"
        assert rig.redis.hget("queuemon:paused:mail", "epoch") == b"3"
        rig.sql("UPDATE job_queues SET paused = false, pause_epoch = 4, paused_at = NULL WHERE name = 'mail'")
        rig.relay().copy_flags()
        rig.until("completed", 4)
    assert [i for i, _ in recorder.started[1:]] == ids


def test_a_late_pause_cannot_overtake_a_resume(rig: Rig) -> None:
    for epoch, paused, written in ((8, False, 1), (7, True, 0)):
        flag = PauseFlag(queue="mail", paused=paused, epoch=epoch, until=None)
        assert rig.store.redis.run("set_pause", *parking.call(rig.keys, flag)) == written
    assert rig.redis.hget(rig.keys.paused_key("mail"), "paused") == b"0"
    assert rig.redis.llen(rig.keys.wake) == WAKE_TOKENS


def test_an_element_that_came_too_early_is_published_again_when_its_job_is_due(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {})
    rig.sql("UPDATE jobs SET run_at = now() + interval '2 s'")
    recorder = Recorder()
    with rig.worker(recorder):
        wait_until(lambda: rig.redis.llen("queue:mail") == 0 and rig.in_hand() == 0)
        rig.until("completed", 1)
    assert recorder.started == [(job_id, 1)]


def test_an_element_whose_job_is_past_its_deadline_expires_it(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {})
    rig.sql("UPDATE jobs SET expires_at = now()")
    with rig.worker(lambda _job: None):
        wait_until(lambda: rig.job(job_id)["status"] == "expired")
    assert [log["kind"] for log in rig.logs(job_id)] == ["expire"]


def test_queues_are_served_in_order_of_priority(rig: Rig) -> None:
    for queue in ("bulk", "reports", "mail", "urgent"):
        rig.producer.enqueue_many(queue, ({} for _ in range(2)))
    recorder = Recorder()
    with rig.worker(recorder, home="reports"):
        rig.until("completed", 8)
    assert recorder.queues == ["urgent"] * 2 + ["reports"] * 2 + ["mail"] * 2 + ["bulk"] * 2


def test_a_worker_serves_only_queues_it_has_handlers_for(rig: Rig) -> None:
    rig.producer.enqueue("bulk", {})
    rig.producer.enqueue("mail", {})
    with rig.worker({"mail": lambda _job: None}):
        rig.until("completed", 1)
    assert len(rig.listed("bulk")) == 1
    with pytest.raises(ConfigError):
        Worker(rig.store, home="bulk", handlers={"mail": lambda _job: None})


def test_a_queue_that_is_added_is_served_without_a_restart(rig: Rig) -> None:
    with rig.worker(lambda _job: None):
        rig.sql("INSERT INTO job_queues (name) VALUES ('new')")
        rig.producer.enqueue("new", {})
        rig.until("completed", 1)


# -------------------------------------------------------------------------------------------- leases, fencing, stopping


def test_a_worker_is_in_the_registry_while_it_runs_and_renews_the_lease_of_its_job(rig: Rig) -> None:
    recorder = Recorder(hold=True)
    job_id = rig.producer.enqueue("mail", {})
    with rig.worker(recorder) as worker:
        recorder.wait_for_start()
        first = rig.job(job_id)["heartbeat_at"]
        wait_until(lambda: rig.job(job_id)["heartbeat_at"] > first, message="a beat")
        (row,) = rig.sql("SELECT * FROM queuemon.workers")
        assert (row["id"], row["kind"], row["home"]) == (worker.id, "worker", "mail")
        assert row["heartbeat_at"] >= row["started_at"]
        recorder.go.set()
        rig.until("completed", 1)
    assert rig.sql("SELECT * FROM queuemon.workers") == []


def test_a_worker_that_lost_its_job_writes_no_outcome_and_tells_the_handler(rig: Rig) -> None:
    recorder = Recorder(hold=True)
    job_id = rig.producer.enqueue("mail", {})
    with rig.worker(recorder):
        recorder.wait_for_start()
        rig.sql("UPDATE jobs SET status = 'waiting', gen = 2, worker_id = NULL, heartbeat_at = NULL")
        wait_until(recorder.jobs[0].cancelled.is_set, message="the handler is told")
        wait_until(lambda: rig.in_hand() == 0, message="the hand is empty")
    row = rig.job(job_id)
    assert (row["status"], row["gen"]) == ("waiting", 2)
    assert rig.logs(job_id) == []


@pytest.mark.parametrize("outcome", ["complete", "fail", "hand_back"])
@pytest.mark.parametrize("change", ["gen = 2", "worker_id = 'other'", "status = 'completed'", "status = 'waiting'"])
def test_a_late_write_of_a_zombie_changes_nothing(rig: Rig, outcome: str, change: str) -> None:
    job_id = rig.producer.enqueue("mail", {})
    assert isinstance(_claim(rig, job_id), Claimed)
    rig.sql(f"UPDATE jobs SET {change}")
    before = rig.job(job_id)
    lease, t = claims.Lease(job_id=job_id, gen=1, worker_id="w"), rig.store.tables
    failure = claims.Failure(error_type="E", message="m", stack_trace="t")
    with rig.store.postgres.statement() as connection:
        written = {
            "complete": lambda: claims.complete(connection, t, lease),
            "fail": lambda: claims.fail(connection, t, lease, failure, backoff_seconds=0),
            "hand_back": lambda: claims.hand_back(connection, t, lease),
        }[outcome]()
    assert written.status is None
    assert rig.job(job_id) == before
    assert rig.logs(job_id) == []
    assert rig.outbox() == 0


def test_a_stop_lets_the_job_in_hand_finish_and_takes_no_other(rig: Rig) -> None:
    recorder = Recorder(hold=True)
    rig.producer.enqueue_many("mail", ({} for _ in range(2)))
    worker, stop = Worker(rig.store, home="mail", handlers=recorder), threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    recorder.wait_for_start()
    stop.set()
    recorder.go.set()
    thread.join(10)
    assert rig.count("completed") == 1
    assert rig.count("waiting") == 1
    assert rig.in_hand() == 0


def test_a_job_that_outlasts_the_grace_time_is_handed_back_uncounted(rig: Rig) -> None:
    recorder = Recorder(hold=True)
    job_id = rig.producer.enqueue("mail", {})
    with rig.worker(recorder, grace_seconds=0.1):
        recorder.wait_for_start()
    row = rig.job(job_id)
    assert (row["status"], row["gen"], row["attempts"], row["worker_id"]) == ("waiting", 2, 0, None)
    assert rig.listed("mail") == [(str(job_id), 2)]
    assert [log["kind"] for log in rig.logs(job_id)] == ["handed-back"]
    assert recorder.jobs[0].cancelled.is_set()


# ------------------------------------------------------------------------------------------------------- lost answers


def test_an_element_whose_pop_was_never_answered_is_taken_again(rig: Rig) -> None:
    job_id = rig.producer.enqueue("mail", {})
    worker = Worker(rig.store, home="mail", handlers=lambda _job: None)
    hand = rig.keys.processing_key(worker.id, "mail")
    rig.redis.lmove("queue:mail", hand, "LEFT", "RIGHT")
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        rig.until("completed", 1)
    finally:
        stop.set()
        thread.join()
    assert rig.job(job_id)["worker_id"] == worker.id


@pytest.mark.parametrize("committed", [True, False])
def test_a_claim_whose_answer_was_lost_is_given_back_and_starts_no_generation_twice(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    genuine, lost = claims.claim, []

    def claim(connection: Any, t: Any, **arguments: Any) -> Any:
        if lost:
            return genuine(connection, t, **arguments)
        lost.append(True)
        if committed:
            genuine(connection, t, **arguments)
        raise StoreUnavailable("gone", store="postgresql")

    monkeypatch.setattr(claims, "claim", claim)
    recorder = Recorder()
    job_id = rig.producer.enqueue("mail", {})
    with rig.worker(recorder):
        rig.until("completed", 1)
    assert recorder.started == [(job_id, 2 if committed else 1)]
    assert rig.job(job_id)["attempts"] == 1


@pytest.mark.parametrize("committed", [True, False])
def test_an_outcome_is_written_again_until_postgresql_has_answered(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    genuine, tries = claims.complete, []

    def complete(connection: Any, *arguments: Any) -> Any:
        tries.append(True)
        if len(tries) < 4:
            if committed:
                genuine(connection, *arguments)
            raise StoreUnavailable("gone", store="postgresql")
        return genuine(connection, *arguments)

    monkeypatch.setattr(claims, "complete", complete)
    job_id = rig.producer.enqueue("mail", {})
    with rig.worker(lambda _job: None):
        wait_until(lambda: len(tries) >= 4)
        rig.until("completed", 1)
    assert len(rig.logs(job_id)) == 1


def test_an_outcome_that_postgresql_refuses_is_given_up_for_the_lease(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def complete(*_: Any) -> Any:
        raise SchemaMismatch("odd", store="postgresql")

    monkeypatch.setattr(claims, "complete", complete)
    recorder = Recorder()
    job_id = rig.producer.enqueue("mail", {})
    with rig.worker(recorder):
        wait_until(lambda: rig.in_hand() == 0 and recorder.started, timeout=15)
        relay = rig.relay()

        def taken() -> bool:
            relay.end_leases()
            return bool(rig.job(job_id)["gen"] == 2)

        monkeypatch.undo()
        wait_until(taken, timeout=10)
        publish(rig.store)
        rig.until("completed", 1)
    assert recorder.started == [(job_id, 1), (job_id, 2)]


@pytest.mark.parametrize(
    ("payload", "why"),
    [("[" * 3_000 + "]" * 3_000, "nested too deeply"), ("1" * 5_000, "4300 digits")],
    ids=["nested 3,000 deep", "a number of 5,000 digits"],
)
def test_a_payload_that_no_handler_can_be_given_fails_its_job_in_words_and_is_never_set_aside(
    rig: Rig, payload: str, why: str
) -> None:
    job_id, other = uuid7(), rig.producer.enqueue("mail", {})
    rig.sql(
        "INSERT INTO jobs (id, queue, payload, max_attempts) VALUES (:id, 'mail', CAST(:payload AS jsonb), 1)",
        id=job_id,
        payload=payload,
    )
    rig.sql("INSERT INTO publications (job_ids, due_at) VALUES (ARRAY[CAST(:id AS uuid)], now())", id=job_id)
    publish(rig.store)
    with rig.worker(lambda _job: None):
        rig.until("failed", 1)
        rig.until("completed", 1)
        wait_until(lambda: rig.in_hand() == 0)
    (row,) = rig.sql("SELECT error_type, error_message FROM jobs WHERE id = :id", id=job_id)
    assert row["error_type"].endswith("UnreadablePayload")
    assert why in row["error_message"]
    assert "queuemon edit" in row["error_message"]
    assert rig.redis.llen("queuemon:quarantine:mail") == 0
    assert rig.job(other)["status"] == "completed"
