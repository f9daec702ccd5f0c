"""Canary replay against real stores and workers: steps, results, every way to stop, and going on after a crash."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from queuemon.actions import canary
from queuemon.engine.handlers import JobInHand
from queuemon.errors import InvalidValue, StoreUnavailable
from queuemon.model import ActionKind, CanaryProgress, CanaryResult
from queuemon.workbench import Workbench
from tests.support.engine import Rig

pytestmark = pytest.mark.integration

FAILED = "queue:mail status:failed"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often."""
    monkeypatch.setattr(canary, "LOOK_SECONDS", 0.02)


@pytest.fixture
def wb(rig: Rig) -> Iterator[Workbench]:
    """A workbench on the rig's stores."""
    with Workbench(rig.settings) as made:
        yield made


def fail(rig: Rig, number: int, *, max_attempts: int = 1) -> list[UUID]:
    """Jobs that stand failed, in the order of their ids."""
    ids = sorted(uuid4() for _ in range(number))
    for n, job in enumerate(ids):
        rig.sql(
            "INSERT INTO jobs (id, queue, payload, status, attempts, max_attempts, gen, created_at, finished_at,"
            " error_type) VALUES (:id, 'mail', jsonb_build_object('n', CAST(:n AS int)), 'failed', :max, :max, 3,"
            " now() - interval '1 hour', now() - interval '1 minute', 'ZeroDivisionError')",
            id=job,
            n=n,
            max=max_attempts,
        )
    return ids


def succeed(job: JobInHand) -> None:
    """A handler whose cause of failure is fixed."""


def failing(*numbers: int) -> Callable[[JobInHand], None]:
    """A handler that still fails for some of them."""

    def handle(job: JobInHand) -> None:
        if job.payload["n"] in numbers:
            raise ZeroDivisionError("still")

    return handle


def retries(rig: Rig) -> list[Any]:
    """The retries of the audit trail, oldest first."""
    return rig.sql("SELECT * FROM queuemon.actions WHERE kind = 'retry' ORDER BY started_at")


def test_a_canary_retries_more_and_more_while_they_complete(rig: Rig, wb: Workbench) -> None:
    ids = fail(rig, 20)
    seen: list[CanaryProgress] = []
    with rig.worker(succeed):
        result = wb.canary(FAILED, steps=(1, 5), reason="fixed by #812", progress=seen.append)
    assert (result.state, result.done, result.completed, result.failed, result.running) == ("done", 20, 20, 0, 0)
    assert result.summary == "Canary: 20 of 20 retried, 20 completed."
    assert rig.count("completed") == 20
    assert [r["done"] for r in retries(rig)] == [1, 5, 5, 5, 4], "the last step repeats"
    assert [r["ids"] for r in retries(rig)][:2] == [ids[:1], ids[1:6]]
    assert [r["id"] for r in retries(rig)] == list(result.steps)
    assert {r["reason"] for r in retries(rig)} == {"fixed by #812"}
    assert [p.step for p in seen] == sorted(p.step for p in seen)
    assert seen[-1].completed == 20
    for p in seen:
        assert p.done <= sum((1, 5, 5, 5, 4)[: p.step])
    (row,) = rig.sql("SELECT * FROM queuemon.actions WHERE kind = 'canary'")
    assert (row["planned"], row["done"], row["state"], row["summary"]) == (20, 20, "done", result.summary)


def test_no_step_begins_before_the_one_before_it_has_come_to_something(rig: Rig, wb: Workbench) -> None:
    fail(rig, 3)
    let, started = threading.Event(), threading.Event()

    def handle(job: JobInHand) -> None:
        started.set()
        assert let.wait(20)

    def look() -> None:
        assert started.wait(20)
        assert rig.count("failed") == 2
        let.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    with rig.worker(handle):
        result = wb.canary(FAILED, steps=(1, 2))
    watcher.join()
    assert result.done == 3


def test_it_stops_when_too_few_succeed(rig: Rig, wb: Workbench) -> None:
    fail(rig, 31)
    with rig.worker(failing(3)):
        result = wb.canary(FAILED, steps=(1, 5, 25))
    assert (result.state, result.done, result.completed, result.failed) == ("stopped", 6, 5, 1)
    assert result.summary == "Canary: 6 of 31 retried, 5 completed, 1 failed; stopped: success 83.3 % < 90 %."
    assert rig.count("failed") == 26
    assert len(result.steps) == 2


def test_it_stops_at_the_greatest_number_of_errors_whatever_the_share(rig: Rig, wb: Workbench) -> None:
    fail(rig, 30)
    with rig.worker(failing(7, 9)):
        result = wb.canary(FAILED, steps=(5, 20), success=0.5, max_errors=2)
    assert result.state == "stopped"
    assert result.failed == 2
    assert "2 failed jobs (the limit is 2)" in result.why
    assert result.done == 25


def test_an_attempt_that_fails_is_no_failed_job_while_attempts_are_left(rig: Rig, wb: Workbench) -> None:
    fail(rig, 1, max_attempts=2)

    def handle(job: JobInHand) -> None:
        if job.attempt == 1:
            raise ZeroDivisionError

    def publish_meanwhile(progress: CanaryProgress) -> None:
        from queuemon.engine.publisher import publish

        publish(rig.store)

    with rig.worker(handle):
        result = wb.canary(FAILED, progress=publish_meanwhile)
    assert (result.completed, result.failed) == (1, 0)


def test_when_nobody_consumes_it_stops_at_the_timeout_and_says_still_running(rig: Rig, wb: Workbench) -> None:
    fail(rig, 7)
    result = wb.canary(FAILED, timeout=0.2)
    assert (result.state, result.done, result.running) == ("stopped", 1, 1)
    assert "1 still running; stopped: 1 still running after" in result.summary
    assert rig.count("failed") == 6


def test_it_stops_on_request_and_resuming_it_goes_on(rig: Rig, wb: Workbench) -> None:
    fail(rig, 7)
    stop = threading.Event()
    result = wb.canary(FAILED, stop=stop, progress=lambda p: stop.set() if p.done else None)
    assert (result.state, result.why, result.done) == ("stopped", "on request", 1)
    with rig.worker(succeed):
        again = wb.resume_action(result.id)
    assert isinstance(again, CanaryResult)
    assert (again.state, again.done, again.completed) == ("done", 7, 7)
    assert [r["done"] for r in retries(rig)] == [1, 5, 1]


@pytest.mark.parametrize("rule", [{"success": 0.1, "max_errors": 2}, {"success": 0.9, "max_errors": 30}])
def test_once_resumed_it_judges_by_what_settles_from_then_on(rig: Rig, wb: Workbench, rule: dict[str, Any]) -> None:
    fail(rig, 12)
    with rig.worker(failing(0, 1)):
        first = wb.canary(FAILED, steps=(2, 2, 8), **rule)
    assert (first.state, first.failed, first.done) == ("stopped", 2, 2)
    with rig.worker(failing(4, 5)):
        second = wb.resume_action(first.id)
    assert isinstance(second, CanaryResult)
    assert (second.state, second.failed, second.done) == ("stopped", 4, 12), "two new failures stop it again"
    assert "success 80 % < 90 %" in second.why or "2 failed jobs (the limit is 2)" in second.why


def test_a_failure_that_came_before_a_crash_still_counts_after_it(
    rig: Rig, wb: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(rig, 5)

    class Killed(BaseException):
        pass

    def kill(*_: Any, **__: Any) -> Any:
        raise Killed

    plan = wb.plan("canary", FAILED, steps=(1, 1, 3), success=0.1, max_errors=2)
    with rig.worker(failing(1, 2)):
        with monkeypatch.context() as patch:
            patch.setattr(canary._Run, "_say", lambda run, step: kill() if run.found["failed"] else None)
            with pytest.raises(Killed):
                wb.apply(plan)
        result = wb.resume_action(plan.id)
    assert (result.state, result.failed, result.done) == ("stopped", 2, 5)  # type: ignore[attr-defined]


def test_what_was_retried_is_left_alone_when_the_same_plan_comes_again(rig: Rig, wb: Workbench) -> None:
    fail(rig, 3)
    plan = wb.plan("canary", FAILED)
    assert plan.kind is ActionKind.CANARY
    assert plan.count == 3
    assert "1, 2 in 2 steps" in plan.effect
    with rig.worker(succeed):
        first = wb.apply(plan)
    second = wb.apply(plan)
    assert isinstance(second, CanaryResult)
    assert second.repeated
    assert (second.summary, second.completed, second.steps) == (first.summary, 3, first.steps)  # type: ignore[attr-defined]
    assert len(retries(rig)) == 2


@pytest.mark.parametrize("where", ["before the retry", "after the retry", "while it waits"])
def test_a_canary_killed_anywhere_goes_on_and_repeats_no_step(
    rig: Rig, wb: Workbench, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """An exception at each boundary stands for kill -9: nothing after it runs."""
    fail(rig, 8)
    plan = wb.plan("canary", FAILED, steps=(1, 3))

    class Killed(BaseException):
        pass

    def kill(*_: Any, **__: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        name = {"before the retry": "retried", "after the retry": "add_up", "while it waits": "results"}[where]
        patch.setattr(canary.canaries, name, kill)
        with pytest.raises(Killed):
            wb.apply(plan)
    assert rig.sql("SELECT state FROM queuemon.actions WHERE kind = 'canary'")[0]["state"] == "running"
    with rig.worker(succeed):
        result = wb.apply(plan)
    assert (result.state, result.done) == ("done", 8)
    assert [r["done"] for r in retries(rig)] == [1, 3, 3, 1]
    assert rig.sql("SELECT max(gen) AS gen FROM jobs")[0]["gen"] == 4, "nothing was retried twice"


def test_a_job_retried_by_someone_else_meanwhile_is_skipped_and_named(rig: Rig, wb: Workbench) -> None:
    ids = fail(rig, 3)
    plan = wb.plan("canary", FAILED, steps=(3,))
    rig.sql("UPDATE jobs SET status = 'active', heartbeat_at = now(), updated_at = now() WHERE id = :id", id=ids[0])
    rig.sql("DELETE FROM jobs WHERE id = :id", id=ids[1])
    with rig.worker(succeed):
        result = wb.apply(plan)
    assert (result.state, result.done, result.gone) == ("partly", 1, 1)
    assert "2 skipped (1 is running again, 1 was deleted)" in result.summary


def test_postgresql_away_while_it_waits_is_waited_out(rig: Rig, wb: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(rig, 2)
    real, calls = canary.canaries.results, iter(range(100))

    def away(*arguments: Any) -> Any:
        if next(calls) < 3:
            raise StoreUnavailable("PostgreSQL cannot be reached")
        return real(*arguments)

    monkeypatch.setattr(canary.canaries, "results", away)
    with rig.worker(succeed):
        assert wb.canary(FAILED).completed == 2


@pytest.mark.parametrize(
    "options",
    [
        {"steps": ()}, {"steps": (0,)}, {"steps": (1_001,)}, {"steps": "1,5"}, {"steps": (True,)},
        {"success": 0}, {"success": 1.1}, {"success": float("nan")}, {"max_errors": 0}, {"max_errors": 1.5},
        {"timeout": 0}, {"timeout": float("inf")},
    ],
    ids=str,
)  # fmt: skip
def test_rules_that_mean_nothing_are_refused(wb: Workbench, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        wb.plan("canary", FAILED, **options)
