"""Failures by cause are shown as what they are, whatever their texts hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from queuemon.analysis.failures import BUCKETS, Cause, Failures, Tally, causes, new_since
from queuemon.analysis.signatures import sign
from queuemon.analysis.window import Window
from queuemon.cli.failures import lines
from queuemon.contract import Keys
from queuemon.filters import JobFilter
from queuemon.model import Certainty, Count
from queuemon.render import failures as render
from queuemon.render import html
from queuemon.store.deploys import Deploy
from tests.unit.test_render import HOSTILE, read

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
CAUSE = Cause(
    signature="0123456789ab", error_type="E", text="order <number> is late", attempts=Count(value=30), share=1.0,
    trend=(1,) * BUCKETS, first_seen=NOW - timedelta(hours=30), last_seen=NOW, queues=(("mail", 30),),
    example=UUID(int=1), standing=Count(value=3), new_since="mailer 2", filter="status:failed signature:0123456789ab",
)  # fmt: skip


def found(*listed: Cause) -> Failures:
    return Failures(
        window=Window(since=NOW - timedelta(hours=24), until=NOW),
        attempts=Count(value=30),
        causes=listed,
        others=2,
        bucket_seconds=2880.0,
        notes=("A note.",),
    )


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_texts_reach_no_page_as_markup(hostile: str) -> None:
    cause = replace(CAUSE, error_type=hostile, text=hostile, new_since=hostile, queues=((hostile, 1),))
    read(html.static(found(cause)).html)
    figure = render.failures_figure(found(cause))
    assert not any(sign in figure.data[0].name for sign in "<>$")


def test_the_table_says_what_an_operator_asks() -> None:
    shown = read(html.static(found(CAUSE)).html)
    for words in (
        "30 failed attempts",
        "order <number> is late",
        "100 %",
        "mailer 2",
        "status:failed signature:",
        "A note.",
    ):
        assert words in shown
    assert "No attempt failed" in read(html.static(replace(found(), attempts=Count(value=0))).html)


def test_the_chart_stacks_six_causes_and_the_rest() -> None:
    figure = render.failures_figure(found(*(replace(CAUSE, text=f"cause {n}") for n in range(8))))
    assert figure.layout.barmode == "stack"
    assert [trace.name for trace in figure.data][-2:] == ["E: cause 5", "Other causes"]
    assert list(figure.data[-1].y) == [2] * BUCKETS
    assert len(set(render.COLOURS)) == len(render.COLOURS) == len(render.PATTERNS)
    assert len(render.failures_figure(found()).data) == 0


@pytest.mark.parametrize(
    ("values", "shown"), [((0, 0, 0, 0), "    "), ((0, 1, 4, 8), " ▁▄█"), ((5, 5, 5, 5), "▇▇▇▇"), ((), "    ")]
)
def test_a_sparkline_is_as_high_as_its_values(values: tuple[int, ...], shown: str) -> None:
    assert render.sparkline(values, 4) == shown


def test_new_is_only_what_the_logs_can_prove() -> None:
    deploy = Deploy(name="d", at=NOW - timedelta(hours=2), actor="a", note="")
    older = replace(deploy, name="older", at=NOW - timedelta(hours=9))
    first, reach = NOW - timedelta(hours=1), NOW - timedelta(days=9)
    assert new_since(first, [older, deploy], reach) == "d"
    assert new_since(NOW - timedelta(hours=3), [deploy], reach) is None
    assert new_since(NOW + timedelta(days=3), [deploy], reach) is None
    assert new_since(first, [deploy], NOW - timedelta(hours=1)) is None
    assert new_since(first, [deploy], None) is None


@pytest.mark.parametrize("queue", ["mail", "mail:low", "or", "not", "has", "queue:mail", 'it\'s "q" [b]'])
def test_the_filter_of_a_cause_is_of_its_queue_whatever_the_queue_is_called(queue: str) -> None:
    tally = Tally(attempts=1.0, first=NOW, last=NOW, signed=sign("E", "boom", None))
    [cause] = causes(
        [("0123456789ab", tally)], [], window=Window(since=NOW - timedelta(hours=1), until=NOW, queue=queue),
        step=timedelta(minutes=2), attempts=1.0, exact=True, deploys=[], reach=None, failed=set(),
    )  # fmt: skip
    assert JobFilter.parse(cause.filter).queues() == {queue}


def test_the_jobs_of_a_sample_that_stand_failed_are_a_lower_bound() -> None:
    job = UUID(int=1)
    tally = Tally(attempts=100_000.0, first=NOW, last=NOW, signed=sign("E", "boom", None), jobs={job})
    [cause] = causes(
        [("0123456789ab", tally)], [], window=Window(since=NOW - timedelta(hours=1), until=NOW),
        step=timedelta(minutes=2), attempts=100_000.0, exact=False, deploys=[], reach=None, failed={job},
    )  # fmt: skip
    assert cause.standing == Count(value=1, certainty=Certainty.CAPPED)


def test_the_terminal_says_when_a_cause_was_first_seen_as_a_time() -> None:
    """An age would be read as from now, and the window may have ended long ago."""
    assert any("first seen 2026-11-25 06:00" in line for line in lines(CAUSE, Keys()))
