"""An action meets a concurrent change: it waits for the row and judges it as it stands then."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from queuemon import actions
from queuemon.engine.publisher import publish
from queuemon.model import ActionKind, ActionResult
from queuemon.store import Store, changes, claims, numbers
from queuemon.store.chunks import Order, array_text, chunks_of
from tests.support.actions import Desk

CLAIMED = (
    "UPDATE jobs SET status = 'active', attempts = 1, gen = gen + 1, worker_id = 'w-2', started_at = now(),"
    " heartbeat_at = now(), finished_at = NULL, updated_at = clock_timestamp() WHERE id = :id"
)


def retried_and_claimed(job_id: UUID) -> Any:
    """What another operator's retry and a worker's claim leave behind, not yet committed."""
    return lambda connection: connection.execute(text(CLAIMED), {"id": job_id})


@pytest.mark.parametrize("target", ["selection", "filter"])
@pytest.mark.parametrize("kind", ["retry", "delete", "clear-failed"])
def test_a_job_that_was_claimed_in_between_stays_with_its_worker(desk: Desk, kind: str, target: str) -> None:
    ids = desk.add("failed", 3)
    plan = actions.plan(desk.store, kind, ids if target == "selection" else "queue:mail status:failed")
    result: ActionResult = desk.while_held(
        retried_and_claimed(ids[1]), lambda: actions.apply(desk.store, plan, reason="")
    )
    assert (result.done, result.state) == (2, "partly")
    reason = "is running again" if kind == "retry" else "is running"
    assert {b.label: b.count for b in result.skipped} == {reason: 1}
    row = desk.job(ids[1])
    assert (row["status"], row["gen"], row["worker_id"], row["attempts"]) == ("active", 5, "w-2", 1)
    assert desk.number("queuemon.undo_jobs") == 2, "what was not changed has no copy"


def test_with_the_state_tested_in_a_sub_query_alone_the_claimed_job_would_be_taken_away(desk: Desk) -> None:
    """The negative control of the test above: the shape that contract §6.2 forbids does what that test refuses."""
    ids = desk.add("failed", 3)
    wrong = (
        "UPDATE jobs SET status = 'waiting', attempts = 0, gen = gen + 1"
        " WHERE id IN (SELECT id FROM jobs WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'failed') RETURNING id"
    )
    changed = desk.while_held(retried_and_claimed(ids[1]), lambda: desk.sql(wrong, ids=array_text(ids)))
    assert len(changed) == 3
    assert desk.job(ids[1])["status"] == "waiting", "a running job went back to waiting: it would run twice"


def test_of_a_retry_and_a_claim_of_the_same_waiting_job_the_claim_stands(desk: Desk) -> None:
    (job_id,) = desk.add("failed")
    desk.act("retry", job_id)
    t = desk.store.tables
    plan = actions.plan(desk.store, "delete", job_id)
    result = desk.while_held(
        lambda connection: claims.claim(connection, t, job_id=job_id, gen=5, worker_id="w-2"),
        lambda: actions.apply(desk.store, plan, reason=""),
    )
    assert (result.done, result.summary) == (0, "The job was not deleted: it is running.")
    assert desk.job(job_id)["status"] == "active"


def test_a_claim_that_meets_a_delete_is_refused(desk: Desk) -> None:
    (job_id,) = desk.add("waiting")
    t = desk.store.tables

    def claim() -> object:
        with desk.store.postgres.begin() as connection:
            return claims.claim(connection, t, job_id=job_id, gen=4, worker_id="w-2")

    def delete(connection: Any) -> None:
        changes.change_chunk(
            connection, t, Order(kind=ActionKind.DELETE, cutoff=numbers.clock(connection)),
            chunks_of([job_id], after=None, chunk_rows=1)[0], action_id=uuid4(), also=None, keep_days=7, logged=True,
        )  # fmt: skip

    answer = desk.while_held(delete, claim)
    assert isinstance(answer, claims.Refused)
    assert answer.why is claims.Refusal.STALE
    assert desk.job(job_id) is None


def test_of_two_retries_at_once_each_job_is_taken_by_one(desk: Desk) -> None:
    ids = desk.add("failed", 600)
    plans = [actions.plan(desk.store, "retry", target) for target in (ids, ids[::-1], "status:failed")]
    results: list[ActionResult] = []
    with Store(desk.settings.model_copy(update={"chunk_rows": 50})) as store:
        threads = [
            threading.Thread(target=lambda p=p: results.append(actions.apply(store, p, reason="")))  # type: ignore[misc]
            for p in plans
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sum(r.done for r in results) == 600
    assert sum(sum(b.count for b in r.skipped) for r in results) == 1_200
    assert desk.number("jobs WHERE gen = 5 AND status = 'waiting'") == 600
    publish(desk.store)
    assert sorted(desk.listed()) == sorted((str(i), 5) for i in ids)


def test_a_retry_that_waits_for_another_retry_says_the_job_is_waiting_already(desk: Desk) -> None:
    (job_id,) = desk.add("failed")
    first, second = (actions.plan(desk.store, "retry", job_id) for _ in range(2))
    assert first.id != second.id
    retry = "UPDATE jobs SET status = 'waiting', gen = gen + 1, updated_at = now() WHERE id = :id"
    result = desk.while_held(
        lambda connection: connection.execute(text(retry), {"id": job_id}),
        lambda: actions.apply(desk.store, second, reason=""),
    )
    assert result.summary == "The job was not retried: it is waiting already."
    assert result.state == "refused"
    assert desk.job(job_id)["gen"] == 5


def test_a_job_that_falls_due_in_between_is_not_hurried(desk: Desk) -> None:
    (job_id,) = desk.add("scheduled")
    plan = actions.plan(desk.store, "run-now", job_id)
    due = "UPDATE jobs SET run_at = now() - interval '1 second', updated_at = now() WHERE id = :id"
    result = desk.while_held(
        lambda connection: connection.execute(text(due), {"id": job_id}),
        lambda: actions.apply(desk.store, plan, reason=""),
    )
    assert result.summary == "The job was not made due: it is due already."
    assert desk.job(job_id)["gen"] == 4


def test_a_job_deleted_in_between_is_gone(desk: Desk) -> None:
    (job_id,) = desk.add("failed")
    plan = actions.plan(desk.store, "retry", job_id)
    result = desk.while_held(
        lambda connection: connection.execute(text("DELETE FROM jobs WHERE id = :id"), {"id": job_id}),
        lambda: actions.apply(desk.store, plan, reason=""),
    )
    assert (result.gone, result.summary) == (1, "The job was not retried: it was deleted.")


def test_no_claim_begun_after_a_pause_has_committed_succeeds(desk: Desk) -> None:
    first, second = desk.add("waiting", 2)
    t = desk.store.tables

    def claim(job_id: UUID) -> object:
        with desk.store.postgres.begin() as connection:
            return claims.claim(connection, t, job_id=job_id, gen=4, worker_id="w-2")

    with desk.store.postgres.begin() as connection:
        changes.add_holder(connection, t, "mail", holder="me", reason="", until=None, action_id=uuid4())
        assert isinstance(claim(first), claims.Claimed), "a claim begun before the commit may go through"
    refused = claim(second)
    assert isinstance(refused, claims.Refused)
    assert refused.why is claims.Refusal.PAUSED
    desk.act("resume", "mail")
    assert isinstance(claim(second), claims.Claimed)


def test_a_pause_and_a_resume_at_once_take_turns_and_the_later_one_stands(desk: Desk) -> None:
    plan = actions.plan(desk.store, "pause", "mail")
    t = desk.store.tables
    desk.while_held(
        lambda connection: changes.drop_holders(connection, t, "mail", holder=None),
        lambda: actions.apply(desk.store, plan, reason=""),
    )
    assert desk.sql("SELECT paused, pause_epoch FROM job_queues WHERE name = 'mail'") == [
        {"paused": True, "pause_epoch": 2}
    ]
    assert (desk.flag()["paused"], desk.flag()["epoch"]) == ("1", "2")


def test_an_action_that_waits_too_long_for_a_row_gives_up_and_can_be_applied_again(desk: Desk) -> None:
    from queuemon.errors import StoreTimeout

    ids = desk.add("failed", 4)
    hasty = desk.settings.model_copy(update={"lock_timeout_seconds": 0.05, "chunk_rows": 2})
    with Store(hasty) as store:
        plan = actions.plan(store, "retry", ids)
        with desk.store.postgres.begin() as connection:
            connection.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": ids[3]})
            with pytest.raises(StoreTimeout):
                actions.apply(store, plan, reason="")
        result = actions.apply(store, plan, reason="")
    assert (result.done, result.repeated) == (4, False)
    assert desk.number("jobs WHERE gen = 5") == 4
