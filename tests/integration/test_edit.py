"""Editing a payload and retrying: what is refused before there is a plan, what is written, what is kept for undo."""

from __future__ import annotations

import json
from typing import Any

import pytest

from queuemon import actions
from queuemon.errors import InvalidValue
from tests.support.actions import Desk

pytestmark = pytest.mark.integration

NEW = '{"n": 98765432109876543210, "x": 1.50, "list": []}'


def test_the_payload_is_written_as_it_was_given_and_the_job_runs_again(desk: Desk) -> None:
    (job,) = desk.add("failed")
    done = desk.act("edit", job, payload=NEW)
    row = desk.job(job)
    assert (done.state, done.summary) == ("done", "Edited and retried 1 job.")
    assert (row["status"], row["attempts"], row["gen"], row["started_at"]) == ("waiting", 0, 5, None)
    (stored,) = desk.sql("SELECT payload::text AS text FROM jobs WHERE id = :id", id=job)
    assert "98765432109876543210" in stored["text"]
    assert "1.50" in stored["text"]
    assert desk.listed() == [(str(job), 5)]
    (copy,) = desk.sql("SELECT row FROM queuemon.undo_jobs WHERE job_id = :id", id=job)
    assert copy["row"]["payload"] == {"n": 12345678901234567, "empty": []}
    assert copy["row"]["edited"] == json.loads(NEW)
    (action,) = desk.sql("SELECT options FROM queuemon.actions")
    assert action["options"] == {}, "the trail holds no payload"


@pytest.mark.parametrize("state", ["waiting", "scheduled", "active", "completed"])
def test_a_job_that_has_not_failed_is_left_alone(desk: Desk, state: str) -> None:
    (job,) = desk.add(state)
    before = desk.job(job)
    plan = actions.plan(desk.store, "edit", job, payload=NEW)
    assert plan.count == 0
    actions.apply(desk.store, plan, reason="")
    assert desk.job(job) == before


def test_a_job_that_runs_again_before_the_edit_keeps_its_payload(desk: Desk) -> None:
    (job,) = desk.add("failed")
    plan = actions.plan(desk.store, "edit", job, payload=NEW)
    retried = desk.act("retry", job)
    assert retried.done == 1
    done = actions.apply(desk.store, plan, reason="")
    assert (done.state, done.done) == ("refused", 0)
    assert desk.job(job)["payload"] == {"n": 12345678901234567, "empty": []}


@pytest.mark.parametrize(
    "payload",
    [
        None,
        3,
        "",
        "{",
        "{'a': 1}",
        "NaN",
        "[1, Infinity]",
        '{"a": "\\u0000"}',
        '{"a": 1, "a": 2}',
        '"\0"',
        '"\ud800"',
        '"\\ud800"',
        "[" * 5_000,
    ],
)
def test_what_is_no_payload_makes_no_plan(desk: Desk, payload: Any) -> None:
    (job,) = desk.add("failed")
    with pytest.raises(InvalidValue):
        actions.plan(desk.store, "edit", job, payload=payload)


def test_a_backslash_before_u0000_is_no_nul(desk: Desk) -> None:
    (job,) = desk.add("failed")
    assert desk.act("edit", job, payload='{"a": "\\\\u0000"}').done == 1
    assert desk.job(job)["payload"] == {"a": "\\u0000"}


@pytest.mark.parametrize("target", ["queue:mail status:failed", "two"])
def test_an_edit_is_of_one_job(desk: Desk, target: str) -> None:
    ids = desk.add("failed", 2)
    with pytest.raises(InvalidValue, match="one job"):
        actions.plan(desk.store, "edit", ids if target == "two" else target, payload="{}")
