"""What a row says of its backlog: its trail, its pace, and when it clears; and nothing that may be chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from queuemon.views.backlogs import POINTS, WINDOW, Backlogs
from tests.support import fake_workbench as fake

START = datetime(2026, 11, 26, 12, tzinfo=UTC)
MAIL = fake.snapshot().postgres.queues[0]  # type: ignore[union-attr]


def seen(depth: Callable[[float], float], *, minutes: float, every: float = 5.0) -> dict[str, Any]:
    """The row's values after so many minutes of refreshes; the depth by the minute."""
    backlogs, at = Backlogs(), 0.0
    while at <= minutes * 60:
        backlogs.look(START + timedelta(seconds=at), [replace(MAIL, waiting=round(depth(at / 60)))])
        at += every
    return backlogs.of(MAIL.name)


def test_a_backlog_that_shrinks_says_how_fast_and_when_it_is_gone() -> None:
    found = seen(lambda m: 6_000 - 300 * m, minutes=10)
    trail = found.pop("trail")
    assert found == {"most": 6_000, "minutes": 10, "pace": -300, "clears": 600}
    assert (trail[0], trail[-1]) == ("9", "5")
    assert trail == "".join(sorted(trail, reverse=True))


def test_the_pace_is_that_of_the_last_minutes_and_not_of_what_was_before() -> None:
    found = seen(lambda m: 100 * m if m < 8 else 800 - 50 * (m - 8), minutes=14)
    assert (found["pace"], found["clears"]) == (-50, 600)


def test_a_backlog_that_grows_clears_at_no_time() -> None:
    found = seen(lambda m: 100 + 120 * m, minutes=4)
    assert found["pace"] == 120
    assert "clears" not in found


@pytest.mark.parametrize("depth", [lambda m: 400 + 20 * (m % 0.2 > 0.1), lambda m: 5, lambda m: 3 - m])
def test_what_may_be_chance_has_no_pace(depth: Callable[[float], float]) -> None:
    assert "pace" not in seen(depth, minutes=3)


def test_nothing_is_said_of_an_empty_queue_nor_of_the_first_look() -> None:
    assert seen(lambda m: 0, minutes=3) == {}
    assert seen(lambda m: 70, minutes=0) == {}
    assert "pace" not in seen(lambda m: 1_000 + 9_000 * m, minutes=0.25)


def test_a_trail_is_short_however_long_and_often_it_was_looked() -> None:
    found = seen(lambda m: 1 + m, minutes=40, every=1.0)
    assert POINTS <= len(found["trail"]) <= POINTS + 2
    assert found["minutes"] == WINDOW / timedelta(minutes=1)
    assert found["trail"] == "".join(sorted(found["trail"]))
    assert found["trail"][-1] == "9"


def test_one_job_that_waits_is_seen_beside_many() -> None:
    assert seen(lambda m: 1 if m < 2 else 10_000, minutes=4)["trail"][0] == "1"


def test_a_clock_that_is_set_back_begins_anew() -> None:
    backlogs = Backlogs()
    for minute in (5, 6, 7, 1):
        backlogs.look(START + timedelta(minutes=minute), [MAIL])
    assert "trail" not in backlogs.of(MAIL.name)
