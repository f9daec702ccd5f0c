"""The window of an incident report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from queuemon.analysis.incident import whole_buckets
from queuemon.analysis.onset import bucket
from queuemon.analysis.window import Window


def test_a_window_is_of_whole_buckets_that_are_over() -> None:
    now = datetime(2026, 10, 3, 14, 3, 40, tzinfo=UTC)
    month = timedelta(days=31)
    for length in (1, 59, 60, 479, 480, 481, 2_000, 10_000, 44_639, 44_640):
        for ago in (0, 1, 90):
            asked = Window(
                since=max(now - timedelta(minutes=length + ago), now - month), until=now - timedelta(minutes=ago)
            )
            found = whole_buckets(asked, now, longest=month)
            step = bucket(found.length)
            assert found.since.timestamp() % step == 0
            assert now - found.since <= month
            assert found.until <= now
            assert found.until.timestamp() % step == 0 or found.length < timedelta(seconds=step)
            assert abs(found.since - asked.since) <= timedelta(seconds=2 * step)
            assert abs(found.until - asked.until) <= timedelta(seconds=step)
