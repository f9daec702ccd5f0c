"""Erasing for good: no copy, no word of the job is left, whatever state it stood in; what runs is left alone."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from queuemon import actions
from queuemon.actions import turns
from queuemon.errors import InvalidValue, UnknownJob
from queuemon.store import Store
from tests.support.actions import STATES, Desk

pytestmark = pytest.mark.integration

SECRET = "canary-4711"


def remember(desk: Desk, job_id: UUID) -> None:
    """Leave the secret wherever a job's words are kept."""
    desk.sql("UPDATE jobs SET payload = jsonb_build_object('s', CAST(:s AS text)) WHERE id = :id", s=SECRET, id=job_id)
    desk.sql(
        "INSERT INTO job_logs (job_id, queue, kind, gen, status, error_type, error_message, stack_trace, detail)"
        " VALUES (:id, 'mail', 'attempt', 1, 'failed', 'E', :s, :s, jsonb_build_object('s', CAST(:s AS text)))",
        id=job_id,
        s=SECRET,
    )


def words(desk: Desk) -> str:
    """All that the database holds of jobs and actions, as one text."""
    tables = ("jobs", "job_logs", "queuemon.undo_jobs", "queuemon.actions", "queuemon.action_events")
    return json.dumps(
        [desk.sql(f"SELECT CAST(to_jsonb(x) AS text) AS x FROM {name} AS x") for name in tables], default=str
    )


@pytest.mark.parametrize("state", STATES)
def test_nothing_is_left_of_an_erased_job_and_one_that_runs_is_left_alone(desk: Desk, state: str) -> None:
    (job_id,), (other,) = desk.add(state), desk.add("failed")
    remember(desk, job_id)
    if state == "active":
        result = desk.act("erase", [job_id, other])
        assert (result.done, [b.label for b in result.skipped]) == (1, ["is running"])
        assert SECRET in words(desk)
        return
    result = desk.act("erase", job_id)
    assert (result.state, result.done) == ("done", 1)
    assert result.summary == "Erased 1 job."
    assert desk.job(job_id) is None
    assert SECRET not in words(desk)
    assert desk.number("queuemon.undo_jobs") == 0
    assert desk.logs(job_id)[0]["error_type"] == "E", "what it was stays counted"
    assert desk.job(other) is not None
    with pytest.raises(InvalidValue, match="nothing was kept"):
        actions.plan(desk.store, "undo", result.id)


def test_copies_of_earlier_actions_and_the_payload_of_an_edit_go_too(desk: Desk) -> None:
    (job_id,) = desk.add("failed")
    remember(desk, job_id)
    desk.act("edit", job_id, payload=json.dumps({"s": SECRET, "again": True}))
    desk.act("delete", job_id)
    assert SECRET in words(desk)
    assert desk.number("queuemon.undo_jobs") == 2
    plan = actions.plan(desk.store, "erase", job_id)
    assert plan.count == 1
    assert "kept only as copies" in plan.effect
    assert any("element in Redis" in warning for warning in plan.warnings), "it may have waited when it was deleted"
    result = actions.apply(desk.store, plan, reason="asked to forget")
    assert (result.done, result.gone) == (1, 0)
    assert SECRET not in words(desk)
    assert [(o.job_id, o.outcome) for o in actions.outcomes(desk.store, result.id)] == [(job_id, "done")]
    with pytest.raises(UnknownJob):
        actions.plan(desk.store, "erase", job_id)


def test_of_a_selection_each_is_done_skipped_or_gone(desk: Desk) -> None:
    (stands,), (deleted,), (runs,), stranger = desk.add("failed"), desk.add("failed"), desk.add("active"), uuid4()
    desk.act("delete", deleted)
    result = desk.act("erase", [stands, deleted, runs, stranger])
    assert (result.planned, result.done, result.gone) == (4, 2, 1)
    found = {o.job_id: o.outcome for o in actions.outcomes(desk.store, result.id)}
    assert found == {stands: "done", deleted: "done", runs: "skipped", stranger: "gone"}


def test_a_waiting_job_leaves_an_element_in_redis_and_the_plan_says_so(desk: Desk) -> None:
    desk.add("waiting")
    assert any("Redis" in warning for warning in actions.plan(desk.store, "erase", "queue:mail").warnings)


def test_a_job_that_is_claimed_in_between_keeps_its_words(desk: Desk) -> None:
    ids = desk.add("failed", 2)
    for job_id in ids:
        remember(desk, job_id)
    plan = actions.plan(desk.store, "erase", ids)
    claimed = (
        "UPDATE jobs SET status = 'active', gen = gen + 1, worker_id = 'w', updated_at = clock_timestamp()"
        " WHERE id = :id"
    )
    result: Any = desk.while_held(
        lambda connection: connection.execute(text(claimed), {"id": ids[0]}),
        lambda: actions.apply(desk.store, plan, reason=""),
    )
    assert result.done == 1
    assert desk.logs(ids[0])[0]["error_message"] == SECRET
    assert desk.logs(ids[1])[0]["error_message"] is None


class Killed(BaseException):
    """As if the process had died."""


def test_an_erasure_that_is_killed_goes_on_from_its_cursor(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = desk.add("failed", 30)
    for job_id in ids:
        remember(desk, job_id)
    with Store(desk.settings.model_copy(update={"chunk_rows": 10})) as store:
        plan = actions.plan(store, "erase", "status:failed")
        change, times = turns._change, iter(range(2))

        def dying(*arguments: Any) -> Any:
            if next(times, None) is None:
                raise Killed
            return change(*arguments)

        monkeypatch.setattr(turns, "_change", dying)
        with pytest.raises(Killed):
            actions.apply(store, plan, reason="")
        monkeypatch.setattr(turns, "_change", change)
        result = actions.resume_action(store, plan.id)
    assert (result.done, result.state) == (30, "done")
    assert SECRET not in words(desk)
