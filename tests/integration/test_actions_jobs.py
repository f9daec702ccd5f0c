"""Retry, delete, clear failed and run now: from every state, by filter and by selection, once and again."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from queuemon import actions
from queuemon.config import Settings
from queuemon.errors import (
    FilterError,
    InvalidValue,
    LimitExceeded,
    NotAllowed,
    QueuemonError,
    UnknownAction,
    UnknownJob,
    UnknownQueue,
)
from queuemon.filters import JobFilter
from queuemon.model import ActionKind, Plan
from queuemon.store import Store
from tests.support.actions import STATES, Desk

LEGAL = {
    "retry": {"failed", "expired"},
    "delete": {"waiting", "scheduled", "completed", "failed", "expired"},
    "clear-failed": {"failed"},
    "run-now": {"scheduled"},
}


def labels(breakdowns: Any) -> dict[str, int]:
    return {b.label: b.count for b in breakdowns}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", LEGAL)
@pytest.mark.parametrize("by", ["id", "filter"])
def test_an_action_takes_a_job_from_its_legal_states_and_leaves_every_other_one_as_it_was(
    desk: Desk, kind: str, state: str, by: str
) -> None:
    (job_id,) = desk.add(state)
    before = desk.job(job_id)
    target = str(job_id) if by == "id" else "queue:mail"
    plan = actions.plan(desk.store, kind, target)
    legal = state in LEGAL[kind]
    assert plan.count == int(legal)
    if not legal and not (kind == "clear-failed" and by == "filter"):
        assert sum(b.count for b in plan.excluded) == 1, "what is left alone is said, with the reason"

    result = actions.apply(desk.store, plan, reason="test")
    assert result.done == int(legal)
    after = desk.job(job_id)
    if not legal:
        assert after == before
        assert desk.listed() == []
        return
    if kind in {"delete", "clear-failed"}:
        assert after is None
        return
    assert (after["status"], after["gen"]) == ("waiting", before["gen"] + 1)
    assert desk.listed() == [(str(job_id), before["gen"] + 1)]
    assert after["expires_at"] - after["run_at"] == timedelta(hours=24)
    assert desk.number("jobs WHERE run_at <= now() AND updated_at > now() - interval '1 minute'") == 1
    assert desk.number("queuemon.publications") == 0, "what is published leaves the outbox"


def test_a_retry_resets_the_attempts_and_every_clock(desk: Desk) -> None:
    for state in ("failed", "expired"):
        (job_id,) = desk.add(state)
        desk.act("retry", job_id)
        row = desk.job(job_id)
        assert row["attempts"] == 0
        kept = {"started_at", "finished_at", "heartbeat_at", "worker_id", "error_type", "error_message"}
        assert {name: row[name] for name in kept} == dict.fromkeys(kept)
        assert row["max_attempts"] == 3


def test_what_is_left_out_is_counted_to_a_bound_and_said_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.add("failed", 1)
    desk.add("waiting", 4)
    desk.add("completed", 2)
    monkeypatch.setattr("queuemon.store.plans.LEFT_CAP", 3)
    plan = actions.plan(desk.store, "retry", "queue:mail")
    assert labels(plan.excluded) == {"is waiting already (at least: no more were counted)": 3, "is completed": 2}
    ids = tuple(desk.add("waiting", 4))
    selected = actions.plan(desk.store, "retry", ids)
    assert labels(selected.excluded) == {"is waiting already": 4}, "of a selection every job is counted"


def test_a_plan_says_how_many_which_and_what_it_means(desk: Desk) -> None:
    failed = desk.add("failed", 7)
    desk.add("failed", 2, queue="reports")
    desk.add("waiting", 3)
    desk.add("active", 2)
    desk.add("completed", 4)
    plan = actions.plan(desk.store, "retry", "queue in (mail, reports)", sample=3)
    assert (plan.count, plan.target) == (9, "queue in (mail, reports)")
    assert labels(plan.by_queue) == {"mail": 7, "reports": 2}
    assert labels(plan.by_error) == {"ZeroDivisionError: Division by zero in MRR calculation": 9}
    assert labels(plan.by_age) == {"1 h to 1 d": 9}
    assert labels(plan.excluded) == {"is waiting already": 3, "is running": 2, "is completed": 4}
    assert len(plan.sample) == 3
    assert all(job.payload is None and job.preview for job in plan.sample)
    assert plan.effect == "adds 9 to the 3 waiting in 2 queues"
    assert plan.warnings == ("no worker is alive: they will wait until one starts",)
    one = actions.plan(desk.store, "retry", "queue:mail status:failed")
    assert (one.count, one.excluded) == (7, ())
    assert one.effect == "adds 7 to the 3 waiting in queue:mail"
    assert {j.id for j in one.sample} <= set(failed)


def test_a_plan_names_the_present_rate_and_what_is_paused(desk: Desk) -> None:
    desk.add("failed", 12)
    done = desk.add("completed", 900)
    desk.sql("UPDATE jobs SET finished_at = now() - interval '1 minute' WHERE id = ANY(:ids)", ids=done)
    desk.act("pause", "mail")
    plan = actions.plan(desk.store, "retry", "queue:mail status:failed")
    assert plan.effect == "adds 12 to the 0 waiting in queue:mail", "nothing waits: the rate is what comes in"
    desk.add("waiting", 100)
    plan = actions.plan(desk.store, "retry", "queue:mail status:failed")
    assert "jobs/s that is about" in plan.effect
    assert plan.warnings == ("queue:mail is paused: they will wait until it is resumed",)


def test_planning_changes_nothing(desk: Desk) -> None:
    desk.add("failed", 3)
    before = desk.sql("SELECT * FROM jobs ORDER BY id")
    for kind in LEGAL:
        actions.plan(desk.store, kind, "queue:mail status:failed")
    assert desk.sql("SELECT * FROM jobs ORDER BY id") == before
    assert actions.actions(desk.store) == ()


@pytest.mark.parametrize(("kind", "state"), [("clear-failed", "failed"), ("purge", "waiting")])
def test_the_name_of_a_queue_means_the_queue_and_no_text_of_errors(desk: Desk, kind: str, state: str) -> None:
    desk.add(state, 2)
    (other,) = desk.add(state, queue="bulk")
    desk.sql("UPDATE jobs SET error_message = 'the mail bounced' WHERE id = :id", id=other)
    for name in ("mail", "queue:mail"):
        plan = actions.plan(desk.store, kind, name)
        assert labels(plan.by_queue) == {"mail": 2}
    with pytest.raises(UnknownQueue):
        actions.plan(desk.store, kind, "bounced")


def test_clear_failed_takes_the_failed_jobs_among_what_a_filter_matches(desk: Desk) -> None:
    desk.add("failed", 3)
    kept = desk.add("completed", 2) + desk.add("failed", 1, queue="reports")
    plan = actions.plan(desk.store, "clear-failed", "queue:mail")
    assert plan.target == "queue:mail status:failed"
    assert plan.effect == "removes 3 jobs; copies are kept for 7 days"
    result = actions.apply(desk.store, plan, reason="done with")
    assert (result.done, result.summary) == (3, "Cleared 3 jobs.")
    assert {row["id"] for row in desk.sql("SELECT id FROM jobs")} == set(kept)


def test_deleted_rows_are_copied_whole_and_of_retried_ones_what_the_retry_overwrites(desk: Desk) -> None:
    (deleted,) = desk.add("failed")
    row = desk.job(deleted)
    desk.act("delete", deleted)
    (retried,) = desk.add("failed")
    desk.act("retry", retried)
    copies = {
        r["job_id"]: r["copy"] for r in desk.sql("SELECT job_id, CAST(row AS text) AS copy FROM queuemon.undo_jobs")
    }
    assert "12345678901234567" in copies[deleted], "a 17-digit integer survives"
    copy = json.loads(copies[deleted])
    assert set(copy) == set(row)
    assert (copy["status"], copy["attempts"], copy["gen"], copy["payload"]["empty"]) == ("failed", 3, 4, [])
    assert set(row) - set(json.loads(copies[retried])) == {"queue", "payload", "created_at", "max_attempts"}
    assert desk.number("queuemon.undo_jobs WHERE kept_until > now() + interval '6 days'") == 2


def test_no_copies_are_kept_when_the_setting_says_zero_days(desk: Desk) -> None:
    (job_id,) = desk.add("failed")
    with Store(desk.settings.model_copy(update={"undo_days": 0.0})) as store:
        plan = actions.plan(store, "delete", job_id)
        assert plan.effect == "removes 1 job; no copies are kept"
        actions.apply(store, plan, reason="")
    assert desk.number("queuemon.undo_jobs") == 0


def test_a_selection_reports_every_id_as_done_skipped_with_its_reason_or_gone(desk: Desk) -> None:
    ids = desk.add("failed", 10)
    plan = actions.plan(desk.store, "retry", ids)
    assert (plan.count, plan.target) == (10, "10 selected jobs")
    now = "updated_at = clock_timestamp()"
    desk.sql(f"UPDATE jobs SET status = 'active', {now} WHERE id = ANY(:ids)", ids=ids[:3])
    desk.sql(f"UPDATE jobs SET status = 'completed', {now} WHERE id = :id", id=ids[3])
    desk.sql(f"UPDATE jobs SET finished_at = clock_timestamp(), {now} WHERE id = :id", id=ids[4])
    desk.sql("DELETE FROM jobs WHERE id = ANY(:ids)", ids=ids[5:7])
    result = actions.apply(desk.store, plan, reason="test")
    assert (result.done, result.gone, result.state, result.planned) == (3, 2, "partly", 10)
    assert labels(result.skipped) == {"is running again": 3, "completed meanwhile": 1, "failed again meanwhile": 1}
    assert result.summary == (
        "Retried 3 of 10. 7 were skipped: 3 are running again, 2 were deleted, 1 completed meanwhile,"
        " 1 failed again meanwhile."
    )
    (chunk,) = desk.sql("SELECT * FROM queuemon.action_chunks")
    assert chunk["done_ids"] == ids[7:]
    assert chunk["skipped"] == {
        **{str(i): "is running again" for i in ids[:3]},
        str(ids[3]): "completed meanwhile",
        str(ids[4]): "failed again meanwhile",
    }
    assert (chunk["first_id"], chunk["last_id"]) == (ids[0], ids[-1])


def test_a_filter_freezes_its_cutoff_and_reports_the_shortfall(desk: Desk) -> None:
    ids = desk.add("failed", 8)
    plan = actions.plan(desk.store, "retry", "queue:mail status:failed")
    desk.sql("UPDATE jobs SET finished_at = clock_timestamp() WHERE id = :id", id=ids[0])  # failed once more since
    desk.sql("DELETE FROM jobs WHERE id = :id", id=ids[1])
    (later,) = desk.add("failed")
    desk.sql("UPDATE jobs SET created_at = clock_timestamp() WHERE id = :id", id=later)
    result = actions.apply(desk.store, plan, reason="test")
    assert (result.done, result.planned, result.state) == (6, 8, "partly")
    assert labels(result.skipped) == {"no longer matches": 2}
    assert result.summary == "Retried 6 of 8. 2 were skipped: 2 no longer match."
    assert desk.job(later)["status"] == "failed"
    assert desk.job(ids[0])["status"] == "failed"


def test_relative_times_of_a_filter_mean_the_time_of_the_plan(desk: Desk) -> None:
    (job_id,) = desk.add("failed")
    desk.sql("UPDATE jobs SET created_at = now() - interval '2 hours' + interval '300 milliseconds'")
    plan = actions.plan(desk.store, "retry", "age<2h status:failed")
    assert plan.count == 1
    desk.sql("SELECT pg_sleep(0.4)")
    assert actions.plan(desk.store, "retry", "age<2h status:failed").count == 0
    assert actions.apply(desk.store, plan, reason="").done == 1
    assert desk.job(job_id)["status"] == "waiting"


def test_applying_the_same_plan_again_changes_nothing_and_returns_the_first_result(desk: Desk) -> None:
    ids = desk.add("failed", 3)
    plan = actions.plan(desk.store, "retry", ids)
    first = actions.apply(desk.store, plan, reason="first")
    desk.sql("UPDATE jobs SET status = 'failed' WHERE id = :id", id=ids[0])
    again = actions.apply(desk.store, plan, reason="second")
    assert again.repeated
    assert not first.repeated
    assert (again.done, again.summary, again.reason, again.state) == (3, first.summary, "first", first.state)
    assert desk.job(ids[0])["status"] == "failed"
    assert desk.number("queuemon.actions") == 1
    assert desk.number("queuemon.action_events") == 2


def test_an_id_that_belongs_to_another_action_is_refused(desk: Desk) -> None:
    first, second = desk.add("failed", 2)
    action_id = uuid4()
    actions.apply(desk.store, actions.plan(desk.store, "retry", first, action_id=action_id), reason="")
    other = actions.plan(desk.store, "delete", second, action_id=action_id)
    with pytest.raises(InvalidValue, match="exists already"):
        actions.apply(desk.store, other, reason="")
    assert desk.job(second) is not None


def test_small_selections_write_an_event_into_each_jobs_history(desk: Desk) -> None:
    (retried,) = desk.add("failed")
    (deleted,) = desk.add("completed")
    (hurried,) = desk.add("scheduled")
    for kind, job_id in (("retry", retried), ("delete", deleted), ("run-now", hurried)):
        result = desk.act(kind, job_id)
        (log,) = desk.logs(job_id)
        assert (log["kind"], log["queue"], log["action_id"]) == (kind, "mail", result.id)
        assert log["gen"] == (4 if kind == "delete" else 5)


def test_bulk_actions_leave_the_counters_exact(desk: Desk) -> None:
    desk.add("failed", 50)
    desk.add("completed", 30)
    desk.act("retry", "status:failed")
    desk.act("delete", "status:completed")
    (stats,) = [q for q in desk.store.snapshot().queues if q.name == "mail"]
    assert (stats.waiting, stats.failed, stats.completed) == (50, 0, 0)


def test_the_audit_trail_says_who_what_why_and_what_came_of_it(desk: Desk) -> None:
    desk.add("failed", 2)
    hostile = "'; DROP TABLE jobs; --\0\ud800 <script>alert(1)</script>"
    result = desk.act("retry", "status:failed", reason=hostile)
    (record,) = actions.actions(desk.store)
    assert record == actions.action(desk.store, result.id)
    role, _, user = record.actor.partition("/")
    assert role == desk.sql("SELECT session_user AS u")[0]["u"]
    assert user
    assert record.reason == "'; DROP TABLE jobs; --�? <script>alert(1)</script>"
    assert (record.kind.value, record.target, record.done, record.state) == ("retry", "status:failed", 2, "done")
    events = desk.sql("SELECT event, actor, detail FROM queuemon.action_events ORDER BY id")
    assert [(e["event"], e["actor"]) for e in events] == [("started", record.actor), ("finished", record.actor)]
    assert events[1]["detail"] == {"state": "done", "done": 2, "published": True}


def test_the_user_of_the_system_may_have_no_name(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    desk.add("failed")
    desk.act("retry", "status:failed")
    assert actions.actions(desk.store)[0].actor.rpartition("/")[2].isdigit()


def test_a_read_only_profile_refuses_before_any_statement() -> None:
    nowhere = Settings(
        read_only=True, database_url=SecretStr("postgresql://127.0.0.1:1/x"), redis_url=SecretStr("redis://127.0.0.1:1")
    )
    plan = Plan(id=uuid4(), kind=ActionKind.RETRY, target="status:failed", ids=None, cutoff=datetime.now(UTC), count=1)
    with Store(nowhere) as store, pytest.raises(NotAllowed, match="read-only"):
        actions.apply(store, plan, reason="")


def test_a_role_without_the_rights_is_refused_in_words(desk: Desk, settings: Settings) -> None:
    (job_id,) = desk.add("failed")
    plan = actions.plan(desk.store, "retry", job_id)
    role = f"reader_{uuid4().hex[:8]}"
    desk.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'secret-canary'")
    desk.sql(f"GRANT USAGE ON SCHEMA queuemon TO {role}")
    desk.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public, queuemon TO {role}")
    url = settings.database_url.get_secret_value()
    scheme, _, rest = url.partition("://")
    host = rest.partition("@")[2]
    try:
        reader = settings.model_copy(update={"database_url": SecretStr(f"{scheme}://{role}:secret-canary@{host}")})
        with Store(reader) as store:
            assert actions.plan(store, "retry", job_id).count == 1, "planning is reading alone"
            with pytest.raises(NotAllowed) as refused:
                actions.apply(store, plan, reason="")
        assert "secret-canary" not in str(refused.value)
    finally:
        desk.sql(f"DROP OWNED BY {role}")
        desk.sql(f"DROP ROLE {role}")
    assert desk.job(job_id)["status"] == "failed"


@pytest.mark.parametrize(
    ("kind", "target", "error"),
    [
        ("retri", "status:failed", UnknownAction),
        ("retry", "queue:mial status:failed", UnknownQueue),
        ("retry", "stauts:failed", FilterError),
        ("retry", "queue:mail'; DROP TABLE jobs", FilterError),
        ("delete", "", InvalidValue),
        ("delete", JobFilter.all(), InvalidValue),
        ("retry", [], InvalidValue),
        ("retry", ["not-an-id"], InvalidValue),
        ("retry", [42], InvalidValue),
        ("retry", 42, InvalidValue),
        ("retry", [UUID(int=7)], UnknownJob),
        ("retry", str(UUID(int=7)), UnknownJob),
    ],
)
def test_a_target_that_means_nothing_is_refused_in_one_sentence(
    desk: Desk, kind: str, target: Any, error: type[QueuemonError]
) -> None:
    with pytest.raises(error) as refused:
        actions.plan(desk.store, kind, target)
    assert "\n" not in str(refused.value)
    assert type(refused.value) is error


def test_named_bounds_hold(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (job_id,) = desk.add("failed")
    with pytest.raises(LimitExceeded):
        actions.plan(desk.store, "retry", [UUID(int=n) for n in range(100_001)])
    with pytest.raises(InvalidValue):
        actions.plan(desk.store, "retry", job_id, sample=101)
    with pytest.raises(InvalidValue):
        actions.plan(desk.store, "retry", job_id, colour="red")
    with pytest.raises(InvalidValue):
        actions.apply(desk.store, actions.plan(desk.store, "retry", job_id), reason="x" * 10_001)
    with pytest.raises(InvalidValue):
        actions.actions(desk.store, limit=0)
    with pytest.raises(UnknownAction):
        actions.action(desk.store, uuid4())
    desk.add("failed", 9)
    monkeypatch.setattr("queuemon.store.plans.COUNT_CAP", 5)
    plan = actions.plan(desk.store, "retry", "queue:mail")
    assert (plan.count, plan.certainty.value, plan.effect[:9]) == (5, "capped", "adds ≥ 5 ")
    assert actions.apply(desk.store, plan, reason="").done == 10


def test_jobs_that_no_longer_exist_are_named_in_the_plan_of_a_selection(desk: Desk) -> None:
    (job_id,) = desk.add("failed")
    plan = actions.plan(desk.store, "retry", [job_id, UUID(int=7), job_id])
    assert (plan.ids, plan.count, labels(plan.excluded)) == ((job_id, UUID(int=7)), 1, {"no longer exists": 1})


def test_what_else_matches_is_left_uncounted_rather_than_waited_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from queuemon.errors import StoreTimeout

    def slow(*_: object) -> None:
        raise StoreTimeout("slow")

    desk.add("failed", 2)
    monkeypatch.setattr("queuemon.store.plans.left_alone", slow)
    plan = actions.plan(desk.store, "retry", "queue:mail")
    assert plan.count == 2
    assert "not counted" in plan.warnings[0]
