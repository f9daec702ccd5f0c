"""Going on with stopped and interrupted actions, their outcomes job by job, and the rate that holds them back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from uuid import UUID, uuid4

import pytest

from queuemon.errors import InvalidValue, UnknownAction
from queuemon.model import ActionProgress, JobOutcome
from queuemon.workbench import Workbench
from tests.support.actions import Desk

pytestmark = pytest.mark.integration


@pytest.fixture
def wb(desk: Desk) -> Iterator[Workbench]:
    """A workbench whose chunks are ten jobs."""
    with Workbench(desk.settings.model_copy(update={"chunk_rows": 10})) as made:
        yield made


def outcomes(wb: Workbench, action_id: UUID, *, page: int = 1_000) -> list[JobOutcome]:
    """All of them, page by page."""
    found: list[JobOutcome] = []
    while some := wb.outcomes(action_id, after=found[-1].job_id if found else None, limit=page):
        found += some
    return found


def test_a_stopped_action_goes_on_from_its_cursor_and_does_nothing_twice(desk: Desk, wb: Workbench) -> None:
    ids = desk.add("failed", 35)
    stop, plan = threading.Event(), wb.plan("retry", "queue:mail status:failed")
    first = wb.apply(plan, reason="fixed", progress=lambda _: stop.set(), stop=stop)
    assert (first.state, first.done) == ("stopped", 10)
    second = wb.resume_action(first.id)
    assert (second.state, second.done, second.repeated) == ("done", 35, False)
    assert {desk.job(i)["gen"] for i in ids} == {5}
    assert wb.resume_action(first.id).repeated
    assert wb.action(first.id).reason == "fixed"
    events = desk.sql("SELECT event FROM queuemon.action_events WHERE action_id = :id ORDER BY id", id=first.id)
    assert [e["event"] for e in events] == ["started", "finished", "resumed", "finished"]


def test_an_interrupted_action_says_so_and_goes_on(desk: Desk, wb: Workbench) -> None:
    desk.add("failed", 25)
    plan = wb.plan("retry", "queue:mail status:failed")

    def crash(_: ActionProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wb.apply(plan, progress=crash)
    assert not wb.action(plan.id).interrupted, "it may be at work still"
    desk.sql("UPDATE queuemon.actions SET updated_at = now() - interval '1 minute'")
    assert wb.action(plan.id).interrupted
    assert wb.actions()[0].interrupted
    assert wb.resume_action(plan.id).done == 25
    assert not wb.action(plan.id).interrupted


def _crashed(desk: Desk, wb: Workbench) -> UUID:
    """An action whose process died after its first chunk, a minute ago."""
    plan = wb.plan("retry", "queue:mail status:failed")

    def crash(_: ActionProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wb.apply(plan, progress=crash)
    desk.sql("UPDATE queuemon.actions SET updated_at = now() - interval '1 minute' WHERE id = :id", id=plan.id)
    return plan.id


def test_an_action_whose_process_died_is_ended_and_then_taken_back(desk: Desk, wb: Workbench) -> None:
    older = wb.apply(wb.plan("delete", desk.add("failed", 2)))
    ids = desk.add("failed", 25)
    crashed = _crashed(desk, wb)
    for target in (crashed, "last"):
        with pytest.raises(
            InvalidValue, match=f"its process died; end it first with `queuemon actions stop {crashed}`"
        ):
            wb.plan("undo", target)
    record = wb.stop_action(crashed)
    assert (record.state, record.done, record.interrupted) == ("stopped", 10, False)
    assert record.summary.startswith("Stopped on request. Retried 10 of 25.")
    assert wb.stop_action(crashed) == record
    assert wb.undo("last").done == 10
    assert {desk.job(i)["status"] for i in ids} == {"failed"}
    assert wb.action(older.id).undone_by is None


def test_an_action_at_work_is_stopped_from_elsewhere_after_its_chunk(desk: Desk, wb: Workbench) -> None:
    desk.add("failed", 35)
    plan = wb.plan("retry", "queue:mail status:failed")
    with Workbench(desk.settings) as other:
        result = wb.apply(plan, progress=lambda p: other.stop_action(plan.id) and None)
    assert (result.state, result.repeated) == ("stopped", False)
    assert result.done == wb.action(plan.id).done == len([o for o in outcomes(wb, plan.id) if o.outcome == "done"]) < 35
    assert wb.resume_action(plan.id).done == 35


def test_stopping_what_is_no_action_is_said(wb: Workbench) -> None:
    with pytest.raises(UnknownAction):
        wb.stop_action(uuid4())


@pytest.mark.parametrize("page", [1, 7, 1_000])
def test_every_job_of_a_selection_has_its_outcome_in_the_order_of_the_ids(desk: Desk, wb: Workbench, page: int) -> None:
    failed, done, gone = desk.add("failed", 25), desk.add("completed", 3), [uuid4() for _ in range(12)]
    result = wb.apply(wb.plan("retry", [*gone, *done, *failed]))
    found = outcomes(wb, result.id, page=page)
    assert [o.job_id for o in found] == sorted(failed + done + gone)
    by = {o.job_id: o for o in found}
    assert {by[i].outcome for i in failed} == {"done"}
    assert {(by[i].outcome, by[i].why) for i in done} == {("skipped", "is completed")}
    assert {by[i].outcome for i in gone} == {"gone"}
    assert result.gone == 12


def test_outcomes_are_told_while_it_runs_each_once(desk: Desk, wb: Workbench) -> None:
    ids, told = [*desk.add("failed", 25), uuid4()], list[JobOutcome]()
    sizes: list[int] = []

    def hear(some: Sequence[JobOutcome]) -> None:
        told.extend(some)
        sizes.append(len(some))

    wb.apply(wb.plan("delete", ids), outcomes=hear)
    assert [o.job_id for o in told] == sorted(ids)
    assert len(sizes) == 3, "chunk by chunk"


def test_a_canary_has_an_outcome_for_every_job_that_it_reached(desk: Desk, wb: Workbench) -> None:
    ids = desk.add("failed", 6)
    result = wb.canary("queue:mail status:failed", steps=(2,), timeout=0.1)
    assert result.state == "stopped"
    assert [(o.job_id, o.outcome) for o in outcomes(wb, result.id)] == [(i, "done") for i in sorted(ids)[:2]]


class Patience(threading.Event):
    """A stop that nobody asks for: remembers how long it was waited for, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return False


def test_a_rate_makes_chunks_of_a_second_and_waits_between_them(desk: Desk, wb: Workbench) -> None:
    desk.add("failed", 8)
    stop, seen = Patience(), list[int]()
    result = wb.apply(
        wb.plan("retry", "queue:mail status:failed"), progress=lambda p: seen.append(p.done), stop=stop, rate=4
    )  # fmt: skip
    assert seen == [4, 8]
    assert result.done == 8
    desk.add("failed", 3)
    slow = Patience()
    wb.apply(wb.plan("retry", "queue:mail status:failed"), stop=slow, rate=0.01)
    assert slow.waits[0] == 0
    assert 0 < slow.waits[1] <= 100 < slow.waits[2] <= 200
    for wrong in (0, -1, float("nan"), 1e9):
        with pytest.raises(InvalidValue):
            wb.apply(wb.plan("retry", desk.add("failed")), rate=wrong)


def test_an_unknown_action_is_named(wb: Workbench) -> None:
    for ask in (wb.action, wb.outcomes, wb.resume_action):
        with pytest.raises(UnknownAction):
            ask(uuid4())
    with pytest.raises(InvalidValue):
        wb.action("nonsense")
