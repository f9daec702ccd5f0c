"""The curves are cumulated from the depth that is known; windows say what they mean; hostile names stay harmless."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

import queuemon
from queuemon.analysis import onset
from queuemon.analysis.forecast import Forecast, Outlook
from queuemon.analysis.timeline import Timeline, grid, pauses, reconstruct
from queuemon.analysis.window import Window, moment, window
from queuemon.cli.timeline import document
from queuemon.contract import Keys
from queuemon.errors import InvalidValue
from queuemon.render.timeline import figure, html, merged, sparkline, text
from queuemon.store.timeline import Flow, Happened, Reading

NOW = datetime(2026, 11, 25, 14, 2, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOSTILE = "<b onload=alert(1)>\x1b[2J\u202e"


def _reading(*flows: tuple[str, str, int, int], depth: dict[str, int]) -> Reading:
    made = tuple(Flow(queue=q, kind=kind, index=i, n=n) for q, kind, i, n in flows)
    return Reading(flows=made, depth=depth, clock=NOW, purged_before=None, undated=0)


def _made(*happened: Happened) -> Timeline:
    wanted = Window(since=NOW - 3 * MINUTE, until=NOW)
    cells = grid(wanted, 60)
    reading = _reading(
        ("mail", "due", 1, 5), ("mail", "started", 2, 2), ("mail", "due", -1, 50), ("mail", "left", 3, 1),
        ("bulk", "due", 3, 4), ("bulk", "arrived", 3, 4), ("mail", "failed", 2, 1), ("mail", "completed", 2, 3),
        depth={"mail": 9, "bulk": 4},
    )  # fmt: skip
    return reconstruct(reading, wanted, cells, happened)


def test_the_depth_is_cumulated_backwards_from_the_one_that_is_known() -> None:
    made = _made()
    assert [p.depth for p in made.points] == [7, 12, 10, 13]
    assert made.depth_before == 7
    assert {q.queue: q.depth for q in made.by_queue} == {"mail": (7, 12, 10, 9), "bulk": (0, 0, 0, 4)}
    assert made.points[2].failure_rate == 0.25
    assert made.points[0].failure_rate is None
    assert made.filling
    assert len(made.whole) == 3
    assert made.to_frame()["depth"].tolist() == [7, 12, 10, 13]


def test_what_happened_after_the_window_is_taken_off() -> None:
    wanted = Window(since=NOW - 10 * MINUTE, until=NOW - 8 * MINUTE)
    cells = grid(wanted, 60)
    made = reconstruct(_reading(("mail", "due", cells.buckets, 30), depth={"mail": 31}), wanted, cells)
    assert {p.depth for p in made.points} == {1}


def test_events_that_do_not_add_up_are_said() -> None:
    wanted = Window(since=NOW - 3 * MINUTE, until=NOW)
    made = reconstruct(_reading(("mail", "due", 2, 5), depth={"mail": 3}), wanted, grid(wanted, 60))
    assert any("do not add up" in note for note in made.notes)


@pytest.mark.parametrize(
    ("word", "at"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("now-90m", NOW - timedelta(minutes=90)),
        ("now", NOW),
        ("14:00", NOW.replace(minute=0, second=0)),
        ("14:03", NOW.replace(minute=3, second=0) - timedelta(days=1)),
        ("2026-11-24 08:30", datetime(2026, 11, 24, 8, 30, tzinfo=UTC)),
        ("2026-11-24T08:30+02:00", datetime(2026, 11, 24, 6, 30, tzinfo=UTC)),
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
    ],
)
def test_moments_may_be_written_in_several_ways(word: str, at: datetime) -> None:
    assert moment(word, now=NOW, name="since") == at


@pytest.mark.parametrize("word", ["", "soon", "25:00", "2026-13-01", "-1h", "99999999999999w"])
def test_what_is_no_moment_is_refused(word: str) -> None:
    with pytest.raises(InvalidValue, match="since is"):
        moment(word, now=NOW, name="since")


def test_a_window_never_reaches_into_the_future() -> None:
    assert window("1h", NOW + MINUTE, now=NOW, longest=timedelta(days=1)).until == NOW


def test_buckets_fit_the_window_and_begin_at_whole_multiples() -> None:
    cells = grid(Window(since=NOW - timedelta(hours=6), until=NOW))
    assert cells.step == timedelta(minutes=2)
    assert cells.first == NOW.replace(hour=8, minute=2, second=0)
    assert cells.first + cells.buckets * cells.step >= NOW
    assert grid(Window(since=NOW - timedelta(days=31), until=NOW)).step == timedelta(hours=4)


def _happened() -> tuple[Happened, ...]:
    return (
        Happened(at=NOW - 3 * MINUTE, kind="deploy", target=HOSTILE, actor="ci", why=HOSTILE),
        Happened(at=NOW - 2 * MINUTE, kind="pause", target="mail", actor="ann", why="look"),
        Happened(at=NOW - 2 * MINUTE, kind="retry", target="queue:bulk status:failed", actor="ann", why="", done=12),
        Happened(at=NOW - 1 * MINUTE, kind="resume", target="mail", actor="ann", why=""),
    )


def test_pauses_are_told_by_their_actions() -> None:
    first, second = NOW - 2 * MINUTE, NOW - MINUTE
    assert pauses(_happened(), until=NOW) == ((first, second, "mail"),)
    assert pauses(_happened()[:2], until=NOW) == ((first, NOW, "mail"),)


def test_a_queue_has_beside_it_what_may_concern_it() -> None:
    wanted = Window(since=NOW - 3 * MINUTE, until=NOW, queue="mail")
    made = reconstruct(_reading(depth={}), wanted, grid(wanted, 60), _happened())
    assert [h.kind for h in made.happened] == ["deploy", "pause", "resume"]


def test_the_static_page_and_the_text_hold_no_foreign_markup() -> None:
    made = _made(*_happened())
    page, words = str(html(made, Keys(), onset=onset.find(made))), text(made, Keys())
    for shown in (page, words, repr(queuemon.show(made)), queuemon.show(made)._repr_html_()):
        assert "<b onload" not in shown
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert "&lt;b onload" in page
    assert "Waiting" in words
    assert "█" in words


def test_the_figure_draws_the_forecast_the_marks_and_the_pauses() -> None:
    outlook = Outlook(
        workers=None,
        service_per_second=1.0,
        earliest=NOW + 9 * MINUTE,
        likely=NOW + 12 * MINUTE,
        latest=None,
        chance=0.8,
    )
    ahead = Forecast(
        queue="mail", clock=NOW, depth=9, arrivals_per_second=1.0, service_per_second=1.1, workers=1.0, since=NOW,
        paused=False, outlooks=(outlook,),
    )  # fmt: skip
    drawn = figure(_made(*_happened()), forecast=ahead)
    assert [t.name for t in drawn.data] == ["Waiting", "Forecast (90 %)", "Came due", "Started", "Failed"]
    band = drawn.data[1]
    assert list(band.y) == [9, 0.0, 9.0, 9], "an end that is not in sight: level"
    labels = [a.text for a in drawn.layout.annotations]
    assert any(label.startswith("&lt;b onload") for label in labels)
    assert "retry 12" in labels
    assert sum(shape.type == "rect" for shape in drawn.layout.shapes) == 3, "in each of the three charts"
    assert drawn.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert len(figure(_made()).data) == 4


def test_the_json_holds_every_bucket_and_sentence() -> None:
    made = _made(*_happened())
    told = json.loads(json.dumps(document(made, onset.find(made), Keys())))
    assert [p["depth"] for p in told["points"]] == [7, 12, 10, 13]
    assert told["by_queue"]["queue:bulk"] == [0, 0, 0, 4]
    assert told["changes"] == []


def test_a_sparkline_shows_whatever_is_not_nothing() -> None:
    assert sparkline([0, 1, 500, 1000]) == "▁▂▅█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([]) == ""
    assert merged([1, 2, 3, 4, 5], 2, sum) == [6, 9]
