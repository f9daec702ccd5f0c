"""The cards of a queue's details: what they say, how often they read, and what ends a reading; without a browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from queuemon.errors import StoreTimeout
from queuemon.filters import JobFilter
from queuemon.views import insight as cards
from queuemon.views.insight import Insight, compared
from tests.support import fake_insight
from tests.support import fake_workbench as fake
from tests.support.wait import wait_until

MRR = "analytics:daily-aggregate"


@pytest.fixture
def bench() -> fake.FakeWorkbench:
    return fake.FakeWorkbench()


@pytest.fixture
def insight(bench: fake.FakeWorkbench) -> Insight:
    """One that works at once, in the caller's thread."""
    return Insight(bench, lambda where, work: work())  # type: ignore[arg-type]


@pytest.fixture
def threads() -> list[threading.Thread]:
    """Those that a threaded one has begun."""
    return []


@pytest.fixture
def threaded(bench: fake.FakeWorkbench, threads: list[threading.Thread]) -> Iterator[Insight]:
    """One that works in threads, as on the page."""

    def run(where: str, work: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=work, name=where))
        threads[-1].start()

    yield Insight(bench, run)  # type: ignore[arg-type]
    for gate in bench.gates.values():
        gate.set()
    over(threads)


def over(threads: list[threading.Thread]) -> None:
    """Wait until all that was begun has ended."""
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_a_queue_that_is_opened_has_its_causes_onset_backlog_and_curves(insight: Insight) -> None:
    insight.look(MRR, 6, workers=4)
    (cause,) = insight.causes["rows"]
    assert (cause["type"], cause["text"]) == ("ZeroDivisionError", "Division by zero in MRR calculation")
    assert (cause["attempts"], cause["share"], cause["standing"], cause["new"]) == (
        "36", "100 %", "12", fake_insight.DEPLOY,
    )  # fmt: skip
    assert JobFilter.parse(cause["only"])
    (change,) = insight.story["changes"]
    assert change["text"].startswith("Failures rose from 0")
    assert change["text"].endswith(f"1 min after deploy {fake_insight.DEPLOY}.")
    assert [line[0] for line in insight.story["forecast"]] == ["as now", "2 workers", "8 workers"]
    assert insight.story["forecast"][1][2], "never with 2"
    assert not insight.causes["loading"]
    assert not insight.story["loading"]
    assert insight.curves.failures is not None
    assert insight.curves.durations is not None


def test_a_reading_waits_for_its_time_and_the_dearer_it_was_the_longer(
    bench: fake.FakeWorkbench, insight: Insight, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1_000.0]
    monkeypatch.setattr(cards.time, "monotonic", lambda: clock[0])
    insight.look(MRR, 6)
    insight.tick()
    clock[0] += cards.OFTEN - 0.1
    insight.tick()
    assert bench.reads["history"] == 1
    slow = bench.durations

    def dear(*asked: object) -> object:
        reading = insight._reading
        assert reading is not None
        reading.spent += 2.0
        return slow(*asked)  # type: ignore[arg-type]

    bench.durations = dear  # type: ignore[assignment, method-assign]
    clock[0] += 0.2
    insight.tick()
    assert bench.reads["history"] == 2
    clock[0] += 99.9
    insight.tick()
    assert bench.reads["history"] == 2, "what took two seconds is not read again within a hundred"
    clock[0] += 0.2
    insight.tick()
    assert bench.reads["history"] == 3
    insight.look(MRR, 1)
    assert bench.reads["history"] == 4, "another window is read at once"


def test_two_readings_never_overlap_and_a_new_question_drops_the_old_answer(
    bench: fake.FakeWorkbench, threaded: Insight, threads: list[threading.Thread]
) -> None:
    bench.gates["failures"] = gate = threading.Event()
    threaded.look(MRR, 6)
    wait_until(lambda: bench.reads["failures"] == 1, timeout=10, message="it reads")
    for _ in range(5):
        threaded.tick()
    assert bench.reads["history"] == 1
    old = threaded._reading
    assert old is not None
    bench.gates.clear()
    threaded.look("warmup:process", 6)
    wait_until(lambda: old.stopped, timeout=10, message="the store is told to stop")
    wait_until(lambda: threaded.curves is not None, timeout=10, message="the new answer")
    gate.set()
    over(threads)
    assert threaded.causes["attempts"] == "3", "the late answer to the old question is dropped"
    assert threaded.curves.timeline.window.queue == "warmup:process"


def test_closing_ends_what_runs_and_leaves_nothing(
    bench: fake.FakeWorkbench, threaded: Insight, threads: list[threading.Thread]
) -> None:
    bench.gates["failures"] = bench.gates["explain"] = gate = threading.Event()
    threaded.look(MRR, 6)
    threaded.compare()
    wait_until(lambda: bench.reads["failures"] + bench.reads["explain"] == 2, timeout=10, message="both run")
    ended = [threaded._reading, threaded._comparing]
    threaded.close()
    wait_until(lambda: all(bound is not None and bound.stopped for bound in ended), timeout=10, message="both end")
    gate.set()
    over(threads)
    threaded.tick()
    assert (threaded.causes, threaded.story, threaded.contrast, threaded.curves) == ({}, {}, {}, None)


@pytest.mark.parametrize(
    ("read", "says"),
    [
        ("history", lambda i: i.story["onsetError"]),
        ("forecast", lambda i: i.story["forecastError"]),
        ("failures", lambda i: i.causes["error"]),
    ],
)
def test_each_part_fails_alone_and_keeps_its_last_values(
    bench: fake.FakeWorkbench, insight: Insight, read: str, says: Callable[[Insight], str]
) -> None:
    insight.look(MRR, 6, workers=4)
    before = (insight.causes["rows"], insight.story["changes"], insight.story["forecast"])
    bench.failing[read] = StoreTimeout("PostgreSQL did not finish within 10 s", store="postgresql")
    insight._due = 0.0
    insight.tick()
    assert says(insight) == "PostgreSQL did not finish within 10 s."
    errors = (insight.causes["error"], insight.story["onsetError"], insight.story["forecastError"])
    assert sum(map(bool, errors)) == 1
    assert len(insight.story["changes"]) == len(before[1])
    assert insight.curves.failures is not None
    assert len(insight.causes["rows"]) == len(before[0])
    assert len(insight.story["forecast"]) == len(before[2])
    bench.failing.clear()
    insight._due = 0.0
    insight.tick()
    assert not says(insight)


def test_what_the_failing_jobs_share_is_asked_for_and_its_filter_is_ready(insight: Insight) -> None:
    insight.look(MRR, 6)
    signature = insight.causes["rows"][0]["signature"]
    insight.compare(signature)
    (finding,) = insight.contrast["rows"]
    assert finding["only"] == f"signature:{signature} payload.active_subscriptions=0"
    assert (finding["inside"], finding["outside"]) == ("100 %", "0 %")
    assert insight.contrast["what"] == "Division by zero in MRR calculation"
    assert insight.contrast["verdict"] == "One condition explains 100 % of the 12 failing jobs."
    assert "10 % were drawn" in insight.contrast["notes"][0], "the sample is said"
    assert not insight.contrast["running"]
    insight.compare()
    assert insight.contrast["rows"][0]["only"] == "payload.active_subscriptions=0"


def test_that_nothing_separates_them_is_an_answer_and_a_failure_has_its_words(
    bench: fake.FakeWorkbench, insight: Insight
) -> None:
    insight.look(MRR, 6)
    bench.condition = ""
    insight.compare()
    assert insight.contrast["verdict"].startswith("Nothing separates the 12 failing jobs")
    bench.failing["explain"] = StoreTimeout("PostgreSQL did not finish within 30 s", store="postgresql")
    insight.compare()
    assert insight.contrast["error"] == "PostgreSQL did not finish within 30 s."
    bench.failing["explain"] = RuntimeError("a mistake of ours")
    with pytest.raises(RuntimeError):
        insight.compare()
    assert insight.contrast == {}, "no skeleton stays behind"


def test_a_comparison_is_stopped_and_its_answer_dropped(bench: fake.FakeWorkbench, threaded: Insight) -> None:
    threaded.look(MRR, 6)
    bench.gates["explain"] = gate = threading.Event()
    threaded.compare()
    wait_until(lambda: bench.reads["explain"] == 1, timeout=10, message="it runs")
    assert threaded.contrast["running"]
    mine = threaded._comparing
    threaded.stop()
    assert threaded.contrast == {}
    wait_until(lambda: mine is not None and mine.stopped, timeout=10, message="it ends")
    gate.set()
    threaded.compare("other")
    wait_until(lambda: threaded.contrast.get("at"), timeout=10, message="another is answered")
    assert threaded.contrast["signature"] == "other"


def test_half_and_twice_the_workers_are_compared() -> None:
    assert compared(4) == (2, 8)
    assert compared(1) == (2,)
    assert compared(0) == ()
