"""Pause, resume, prioritise and scale: PostgreSQL first, Redis's copy after it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from queuemon import actions
from queuemon.config import Settings
from queuemon.errors import InvalidValue, UnknownQueue
from queuemon.store import Store, parking
from queuemon.store.pauses import PauseFlag
from tests.support.actions import Desk


def queue(desk: Desk, name: str = "mail") -> Any:
    return desk.sql("SELECT * FROM job_queues WHERE name = :name", name=name)[0]


def test_a_pause_holds_the_queue_in_postgresql_and_is_copied_to_redis(desk: Desk) -> None:
    desk.add("active", 3)
    desk.add("waiting", 5)
    plan = actions.plan(desk.store, "pause", "queue:mail", until="2h")
    assert (plan.target, plan.count) == ("mail", 1)
    assert "3 running jobs will finish; 5 waiting stay, and do not expire meanwhile" in plan.effect
    result = actions.apply(desk.store, plan, reason="Black Friday")
    (pause,) = actions.pauses(desk.store)
    assert pause.until is not None
    assert abs(pause.until - plan.cutoff - timedelta(hours=2)) < timedelta(seconds=1)
    assert (pause.queue, pause.reason, pause.action_id) == ("mail", "Black Friday", plan.id)
    assert pause.holder == actions.actions(desk.store)[0].actor
    row = queue(desk)
    assert (row["paused"], row["pause_epoch"]) == (True, 1)
    assert row["paused_at"] is not None
    assert desk.flag() == {"paused": "1", "epoch": "1", "until": pause.until.isoformat()}
    assert (result.state, result.done, result.published) == ("done", 1, True)
    assert result.summary.startswith("Paused queue:mail until 20")


def test_a_second_pause_of_the_same_holder_replaces_its_end_and_its_reason(desk: Desk) -> None:
    desk.act("pause", "mail", reason="first", until="1h")
    since = queue(desk)["paused_at"]
    plan = actions.plan(desk.store, "pause", "mail")
    assert "holds it paused until 20" in plan.warnings[0]
    assert plan.warnings[0].endswith("(first)")
    actions.apply(desk.store, plan, reason="second")
    (pause,) = actions.pauses(desk.store)
    assert (pause.reason, pause.until) == ("second", None)
    assert queue(desk)["paused_at"] == since, "it has been paused since the first"
    assert desk.flag() == {"paused": "1", "epoch": "2", "until": ""}


def test_a_queue_runs_again_when_the_last_holder_lets_go(desk: Desk) -> None:
    desk.act("pause", "mail", holder="deploy", reason="migration")
    desk.act("pause", "mail", holder="alice", until="1h")
    held = actions.plan(desk.store, "resume", "mail", holder="deploy")
    assert held.effect == "deploy lets go; queue:mail stays paused"
    result = actions.apply(desk.store, held, reason="")
    assert result.summary == "deploy let go; queue:mail stays paused: held by alice."
    assert queue(desk)["paused"]
    assert desk.flag()["paused"] == "1"
    assert desk.flag()["until"], "alice's end is now the queue's"
    last = desk.act("resume", "mail", holder="alice")
    assert last.summary == "Resumed queue:mail."
    row = queue(desk)
    assert (row["paused"], row["paused_at"], row["pause_epoch"]) == (False, None, 4)
    assert desk.flag() == {"paused": "0", "epoch": "4", "until": ""}
    assert actions.pauses(desk.store) == ()


def test_a_resume_without_a_holder_ends_every_pause_and_says_whose(desk: Desk) -> None:
    desk.act("pause", "mail", holder="deploy", reason="migration")
    desk.act("pause", "mail")
    plan = actions.plan(desk.store, "resume", "mail")
    assert plan.warnings == ("this also ends the pause of deploy (migration)",)
    actions.apply(desk.store, plan, reason="")
    assert not queue(desk)["paused"]
    assert actions.pauses(desk.store) == ()


@pytest.mark.parametrize("chunk_rows", [2, 2_000])
def test_resuming_gives_waiting_jobs_the_time_of_the_pause_back_before_the_flag_falls(
    desk: Desk, chunk_rows: int
) -> None:
    old = desk.add("waiting", 5)
    other = desk.add("waiting", queue="reports")
    done = desk.add("completed")
    desk.act("pause", "mail")
    desk.sql("UPDATE job_queues SET paused_at = now() - interval '90 minutes' WHERE name = 'mail'")
    (young,) = desk.add("waiting")
    desk.sql("UPDATE jobs SET created_at = now() - interval '30 minutes' WHERE id = :id", id=young)
    before = {row["id"]: row["expires_at"] for row in desk.sql("SELECT id, expires_at FROM jobs")}
    with Store(desk.settings.model_copy(update={"chunk_rows": chunk_rows})) as store:
        result = actions.apply(store, actions.plan(store, "resume", "mail"), reason="")
    assert result.summary == "Resumed queue:mail; the deadlines of 6 waiting jobs were extended."
    moved = {r["id"]: r["expires_at"] - before[r["id"]] for r in desk.sql("SELECT id, expires_at FROM jobs")}
    slack = timedelta(seconds=30)
    for job_id in old:
        assert timedelta(minutes=90) <= moved[job_id] < timedelta(minutes=90) + slack
    assert timedelta(minutes=30) <= moved[young] < timedelta(minutes=30) + slack
    assert [moved[i] for i in (*other, *done)] == [timedelta(), timedelta()]


def test_a_resume_interrupted_while_it_extends_deadlines_extends_none_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from queuemon.store import changes

    desk.add("waiting", 6)
    desk.act("pause", "mail")
    desk.sql("UPDATE job_queues SET paused_at = now() - interval '1 hour' WHERE name = 'mail'")
    extend, calls = changes.extend_deadlines, []

    def crash(*arguments: Any) -> int:
        calls.append(arguments)
        if len(calls) == 3:
            raise RuntimeError("crash")
        return extend(*arguments)

    with Store(desk.settings.model_copy(update={"chunk_rows": 2})) as store:
        plan = actions.plan(store, "resume", "mail")
        monkeypatch.setattr(changes, "extend_deadlines", crash)
        with pytest.raises(RuntimeError):
            actions.apply(store, plan, reason="")
        assert queue(desk)["paused"], "the flag falls last"
        assert actions.apply(store, plan, reason="").state == "done"
    assert not queue(desk)["paused"]
    assert desk.number("jobs WHERE expires_at > now() + interval '2 hours 30 minutes'") == 0
    assert desk.number("jobs WHERE expires_at > now() + interval '1 hour 30 minutes'") == 6


def test_a_queue_that_is_not_paused_has_nothing_to_resume(desk: Desk) -> None:
    plan = actions.plan(desk.store, "resume", "mail")
    assert (plan.count, plan.effect) == (0, "changes nothing: queue:mail is not paused")
    desk.act("pause", "mail", holder="bob")
    stranger = actions.plan(desk.store, "resume", "mail", holder="eve")
    assert (stranger.count, stranger.effect) == (0, "changes nothing: eve does not hold queue:mail")
    assert stranger.warnings == ("bob holds it paused until it is resumed (test)",)
    actions.apply(desk.store, stranger, reason="")
    assert queue(desk)["paused"]


def test_a_late_pause_cannot_overtake_a_resume_in_redis(desk: Desk) -> None:
    desk.act("pause", "mail")
    desk.act("resume", "mail")
    late = PauseFlag(queue="mail", paused=True, epoch=1, until=None)
    assert desk.store.redis.run("set_pause", *parking.call(desk.store.redis.keys, late)) == 0
    assert desk.flag()["paused"] == "0"


def test_while_redis_is_away_a_pause_holds_all_the_same(desk: Desk, settings: Settings) -> None:
    with Store(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1")})) as deaf:
        result = actions.apply(deaf, actions.plan(deaf, "pause", "mail"), reason="")
    assert (result.state, result.published) == ("done", False)
    assert result.summary == (
        "Paused queue:mail until it is resumed. Redis did not answer: workers still see it in PostgreSQL."
    )
    assert queue(desk)["paused"]


@pytest.mark.parametrize(
    "until", ["soon", "5", "-2h", "2020-01-01", "9999d", "0s", 7, datetime(2020, 1, 1, tzinfo=UTC), "\0"]
)
def test_an_end_that_means_nothing_is_refused(desk: Desk, until: Any) -> None:
    with pytest.raises(InvalidValue):
        actions.plan(desk.store, "pause", "mail", until=until)


def test_an_end_may_be_a_duration_or_a_time_with_or_without_a_zone(desk: Desk) -> None:
    at = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
    for until in (at, at.isoformat(), at.replace(tzinfo=None).isoformat(), at.replace(tzinfo=None)):
        assert actions.plan(desk.store, "pause", "mail", until=until).options == {"until": at.isoformat()}
    plan = actions.plan(desk.store, "pause", "mail", until=timedelta(hours=1))
    assert datetime.fromisoformat(plan.options["until"]) == plan.cutoff + timedelta(hours=1)


def test_a_priority_is_set_and_an_equal_one_changes_nothing(desk: Desk) -> None:
    plan = actions.plan(desk.store, "prioritise", "mail", priority="high")
    assert plan.effect == "the priority of queue:mail goes from normal to high"
    assert actions.apply(desk.store, plan, reason="").summary == "queue:mail has high priority now."
    assert queue(desk)["priority"] == "high"
    assert actions.plan(desk.store, "prioritise", "mail", priority="high").count == 0
    for wrong in ("urgent", None, 1, ["high"]):
        with pytest.raises(InvalidValue):
            actions.plan(desk.store, "prioritise", "mail", priority=wrong)


def test_scaling_sets_the_workers_meant_for_a_queue_and_warns_when_nobody_follows(desk: Desk) -> None:
    plan = actions.plan(desk.store, "scale", "mail", concurrency=4)
    assert plan.effect == "the workers meant for queue:mail go from 1 to 4; 0 alive now"
    assert plan.warnings == ("nobody follows this number: no supervisor is alive, and no scale_command is set",)
    assert actions.apply(desk.store, plan, reason="").summary == "queue:mail is meant to have 4 workers now."
    assert queue(desk)["concurrency"] == 4
    desk.sql("INSERT INTO queuemon.workers (id, kind, host, pid) VALUES ('s', 'supervisor', 'h', 1)")
    assert actions.plan(desk.store, "scale", "mail", concurrency=2).warnings == ()
    for wrong in (-1, 1_001, True, "many", 2.5, None):
        with pytest.raises(InvalidValue):
            actions.plan(desk.store, "scale", "mail", concurrency=wrong)


def scaling(settings: Settings, *command: str) -> Store:
    return Store(settings.model_copy(update={"scale_command": command}))


def test_a_scale_command_gets_queue_and_count_as_single_arguments_and_no_shell(
    desk: Desk, settings: Settings, tmp_path: Path
) -> None:
    hostile = "x; touch pwned {count} $(id)"
    desk.sql("INSERT INTO job_queues (name) VALUES (:name)", name=hostile)
    code = "import sys; print(sys.argv[1:]); print('\\x1b[31m done', file=sys.stderr)"
    with scaling(settings, sys.executable, "-c", code, "--queue={queue}", "{count}") as store:
        result = actions.apply(store, actions.plan(store, "scale", hostile, concurrency=3), reason="")
        again = actions.apply(store, actions.plan(store, "scale", "mail", concurrency=3), reason="")
    assert result.state == "done"
    assert str([f"--queue={hostile}", "3"]) in result.output
    assert "done" in result.output
    assert "--queue=mail" in again.output
    assert not list(tmp_path.iterdir())


def test_a_scale_command_that_fails_is_reported_and_the_number_stands(desk: Desk, settings: Settings) -> None:
    secret = settings.model_copy(update={"redis_url": SecretStr("redis://u:canary-secret@127.0.0.1:1/0")})
    for command, words in (
        ((sys.executable, "-c", "print('canary-secret'); raise SystemExit(3)"), "ended with exit code 3"),
        (("/nonexistent/scaler",), "could not be run (FileNotFoundError)"),
    ):
        with scaling(secret, *command) as store:
            plan = actions.plan(store, "scale", "mail", concurrency=6)
            result = actions.apply(store, plan, reason="")
            assert (result.state, result.done) == ("partly", 1)
            assert words in result.summary
            assert "canary-secret" not in result.output
            assert actions.apply(store, plan, reason="").output == result.output, "kept with the action"
        assert queue(desk)["concurrency"] == 6


def test_a_scale_command_that_hangs_is_stopped(desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("queuemon.actions.command.COMMAND_SECONDS", 0.3)
    with scaling(settings, sys.executable, "-c", "import time; time.sleep(60)") as store:
        result = actions.apply(store, actions.plan(store, "scale", "mail", concurrency=6), reason="")
    assert result.summary.endswith("but the scale_command did not end within 0.3 s and was stopped.")


def test_a_scale_that_was_cut_short_while_its_command_ran_is_counted_once(
    desk: Desk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scaling(settings, "true") as store:
        plan = actions.plan(store, "scale", "mail", concurrency=6)
        with monkeypatch.context() as patch:
            patch.setattr("queuemon.actions.queue_changes.run_command", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                actions.apply(store, plan, reason="")
        result = actions.apply(store, plan, reason="")
    assert (result.state, result.planned, result.done) == ("done", 1, 1)
    assert queue(desk)["concurrency"] == 6


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["pause", "resume", "prioritise", "scale"])
def test_an_unknown_queue_is_refused_with_the_names_that_are_near(desk: Desk, kind: str) -> None:
    with pytest.raises(UnknownQueue, match="did you mean mail"):
        actions.plan(desk.store, kind, "queue:mial")
    for hostile in ("'; DROP TABLE job_queues --", "mail\0", "x" * 70_000, ""):
        with pytest.raises(UnknownQueue) as refused:
            actions.plan(desk.store, kind, hostile)
        assert len(str(refused.value)) < 1_000
    with pytest.raises(InvalidValue):
        actions.plan(desk.store, kind, uuid4())


@pytest.mark.parametrize(
    ("kind", "options"),
    [("pause", {}), ("resume", {}), ("prioritise", {"priority": "low"}), ("scale", {"concurrency": 2})],
)
def test_a_queue_deleted_since_the_plan_is_reported_as_gone(desk: Desk, kind: str, options: dict[str, Any]) -> None:
    plan = actions.plan(desk.store, kind, "reports", **options)
    desk.sql("DELETE FROM job_queues WHERE name = 'reports'")
    result = actions.apply(desk.store, plan, reason="")
    assert (result.state, result.done, result.summary) == ("refused", 0, "queue:reports no longer exists.")


def test_a_repeated_pause_does_not_pause_a_queue_that_was_resumed_since(desk: Desk) -> None:
    plan = actions.plan(desk.store, "pause", "mail")
    actions.apply(desk.store, plan, reason="")
    desk.act("resume", "mail")
    assert actions.apply(desk.store, plan, reason="").repeated
    assert not queue(desk)["paused"]


def test_an_option_that_a_kind_does_not_know_is_refused(desk: Desk) -> None:
    with pytest.raises(InvalidValue, match="pause knows no option 'priority'"):
        actions.plan(desk.store, "pause", "mail", priority="high")
