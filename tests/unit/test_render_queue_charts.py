"""The charts of a queue's details: four on one axis of time, updated in place, with hostile marks as text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from queuemon.render import queue_charts
from queuemon.store.timeline import Happened
from tests.support import fake_insight
from tests.support import fake_workbench as fake


def curves(hours: float = 6) -> queue_charts.Curves:
    """What the details of a queue in trouble show."""
    wb, window, queue = fake.FakeWorkbench(), timedelta(hours=hours), "analytics:daily-aggregate"
    wb.happened = (
        Happened(at=datetime.now(UTC) - timedelta(minutes=9), kind="pause", target=queue, actor="a", why=""),
        Happened(
            at=datetime.now(UTC) - timedelta(minutes=5),
            kind="<b>x</b>",
            target="<img src=x>",
            actor="a",
            why="",
            done=3,
        ),
    )
    seen = wb.history(queue, window)
    return queue_charts.Curves(
        timeline=seen, onset=wb.onset(timeline=seen), failures=wb.failures(queue, window),
        durations=wb.durations(queue, window),
    )  # fmt: skip


@pytest.mark.parametrize("hours", [0.25, 6, 168])
def test_the_charts_of_a_queue_share_one_axis_of_time_with_its_marks(hours: float) -> None:
    made = queue_charts.figure(found := curves(hours))
    seen = found.timeline
    assert sum(made.data[1].y) == sum(
        p.arrived for p in seen.whole[: len(made.data[1].y) * (-(-len(seen.points) // 180))]
    )
    assert made.data[0].y[-1] == seen.points[-1].depth
    assert max(len(t.y) for t in made.data) <= queue_charts.POINTS
    assert {made.layout[axis].matches for axis in ("xaxis2", "xaxis3", "xaxis4")} == {"x"}
    pauses = [s for s in made.layout.shapes if s.type == "rect"]
    assert len(pauses) == 1, "the pause is shaded until now"
    words = [a.text for a in made.layout.annotations]
    assert fake_insight.DEPLOY in words
    assert "&lt;b&gt;x&lt;/b&gt; 3" in words
    assert any("target 5 min" in text for text in words)
    assert made.layout.yaxis4.ticktext[0] == "0 s"
    assert len(made.to_json()) < 40_000, "what travels with a reading"


def test_the_charts_take_new_values_without_being_rebuilt_and_stay_where_something_could_not_be_read() -> None:
    made = queue_charts.figure(curves())
    traces = made.data
    queue_charts.update(made, replace(curves(24), failures=None, durations=None))
    assert all(a is b for a, b in zip(made.data, traces, strict=True))
    assert len(made.data[3].y) == 0
    queue_charts.update(made, curves(1))
    assert len(made.data[3].y) == 30
