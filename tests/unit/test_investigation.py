"""The reddest queue, what trouble began with, and the five sentences, of hand-built values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

import queuemon
from queuemon.analysis.explanation import Explanation, Finding
from queuemon.analysis.failures import Failures
from queuemon.analysis.forecast import Forecast, Outlook
from queuemon.analysis.investigation import Investigation, began, reddest
from queuemon.analysis.onset import Change, Onset
from queuemon.analysis.separation import risk
from queuemon.analysis.timeline import Timeline, TimelinePoint
from queuemon.analysis.window import Window
from queuemon.errors import InvalidValue
from queuemon.model import Certainty, Count
from queuemon.render.shown import PLOTLY, Charted, shown
from queuemon.store.timeline import Happened

T0 = datetime(2026, 11, 26, 4, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WINDOW = Window(since=T0, until=T0 + 10 * MINUTE, queue="mail")
HOSTILE = "<img src=x onerror=alert(1)>"


def _change(what: str, minute: int, before: float, after: float, *near: str) -> Change:
    at = T0 + minute * MINUTE
    deploys = tuple(Happened(at=at, kind="deploy", target=name, actor="ci", why="") for name in near)
    return Change(what=what, at=at, settled=at, before=before, after=after, near=deploys)


def _case(*changes: Change, condition: str = "payload.x=1", depth: int = 0) -> Investigation:
    finding = Finding(
        filter=condition, label="", failing=12, jobs=12, support=1.0, risk=risk(12, 12, 12, 400), log_p=-50.0,
        exact=True, companions=(),
    )  # fmt: skip
    points = tuple(TimelinePoint(at=T0 + n * MINUTE, depth=n, completed=9, failed=n) for n in range(10))
    outlook = Outlook(
        workers=None, service_per_second=2.0, earliest=T0 + 20 * MINUTE, likely=T0 + 25 * MINUTE,
        latest=T0 + 30 * MINUTE, chance=1.0,
    )  # fmt: skip
    return Investigation(
        stats=None,
        timeline=Timeline(
            window=WINDOW, bucket_seconds=60, depth_before=0, points=points, by_queue=(), happened=(),
            clock=WINDOW.until,
        ),
        onset=Onset(window=WINDOW, bucket_seconds=60, changes=changes),
        failures=Failures(
            window=WINDOW, attempts=Count(value=0, certainty=Certainty.EXACT), causes=(), others=0, bucket_seconds=20
        ),
        explanation=Explanation(failing=12, succeeding=388, attributes=3, tested=9, findings=(finding,), covered=1.0),
        forecast=Forecast(
            queue="mail", clock=WINDOW.until, depth=depth, arrivals_per_second=1.0, service_per_second=2.0,
            workers=1.0, since=T0, paused=False, outlooks=(outlook,),
        ),
    )  # fmt: skip


def test_it_began_with_the_last_rise_of_failures_else_of_the_depth() -> None:
    deep, first, last, fall = (
        _change("depth", 1, 2, 900), _change("failure rate", 2, 0.01, 0.4), _change("failure rate", 5, 0.01, 0.3),
        _change("failure rate", 7, 0.3, 0.01),
    )  # fmt: skip
    assert began(_case(deep, first, last, fall).onset) == last
    assert began(_case(deep, fall).onset) == deep
    assert began(_case(fall).onset) is None


def test_the_sentences_say_what_the_values_say_and_hostile_words_stay_words() -> None:
    case = _case(_change("failure rate", 4, 0.01, 0.4, HOSTILE), condition=f"payload.x='{HOSTILE}'")
    made = queuemon.show(case)
    assert "Failures rose from 1.0 % to 40 % at 04:04 UTC, just after deploy" in repr(made)
    assert "of such jobs 100 % failed, of the others 0 %" in repr(made)
    assert "No attempt has failed since 2026-11-26 04:00:00 UTC." in repr(made)
    assert "<img" not in made.html
    assert "&lt;img" in made.html
    assert "older, or as it always was" in repr(queuemon.show(_case()))


def test_charts_stand_above_the_tables_as_data_and_a_timeline_takes_what_is_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = _case(_change("failure rate", 4, 0.01, 0.4), depth=9)
    made = shown((case.onset, case.timeline, case.forecast))
    assert isinstance(made, Charted)
    assert [len(chart.data) > 0 for chart in made.charts] == [True], "the forecast is drawn into the timeline"
    assert "Forecast (90 %)" in {trace.name for trace in made.charts[0].data}
    assert len(shown((case.forecast, case.explanation)).charts) == 2  # type: ignore[attr-defined]
    assert not isinstance(shown((case.onset,)), Charted)

    said: list[dict[str, object]] = []
    monkeypatch.setattr("IPython.display.publish_display_data", said.append)
    made._ipython_display_()
    assert [PLOTLY in data for data in said] == [True, False]
    assert said[0]["text/html"] == "", "a viewer without plotly shows the table alone"
    assert said[1] == {"text/html": made.html, "text/plain": made.text}
    assert "<script" not in made.html


def test_the_reddest_queue_is_the_one_furthest_beyond_its_thresholds() -> None:
    from tests.support import fake_workbench as fake

    snapshot = fake.FakeWorkbench().snapshot()
    names = [q.name for q in snapshot.queues]
    half = snapshot.postgres
    calm = tuple(replace(q, waiting=0, failed=0) for q in snapshot.queues)

    def worst(n: int, **numbers: int) -> str:
        queues = (*calm[:n], replace(calm[n], **numbers), *calm[n + 1 :])
        return reddest(replace(snapshot, postgres=replace(half, queues=queues)))  # type: ignore[type-var]

    assert worst(1, failed=12) == names[1]
    assert worst(2, waiting=1_500) == names[2]
    with pytest.raises(InvalidValue, match="there is no queue"):
        reddest(replace(snapshot, postgres=replace(half, queues=())))  # type: ignore[type-var]
