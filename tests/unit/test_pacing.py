"""How fast a bulk action may go, decided from what its last chunk took."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuemon.actions import pacing
from queuemon.actions.pacing import FLOOR_ROWS, PAUSE_SECONDS, Pace, after_chunk, after_refusal
from queuemon.cli.carry import pace as pace_text
from queuemon.model import ActionProgress
from queuemon.store.chunks import Chunk, chunks_of
from queuemon.views.runs import progress_values

MOST = 2_000
FULL = Pace(rows=MOST)
SECONDS = st.floats(min_value=0, max_value=100)


def after(pace: Pace, held: float, call: float = 0.0, *, rows: int | None = None, most: int = MOST) -> Pace:
    """The pace after a chunk of the size that was allowed."""
    return after_chunk(pace, rows=rows or pace.rows, held_seconds=held, call_seconds=call, most=most)


def test_while_the_stores_are_fast_nothing_is_held_back() -> None:
    assert after(FULL, 0.07, 0.003) == FULL
    assert after(FULL, 0.15, 0.006) == FULL, "slower than usual, and still within the bounds"
    assert FULL.words == ""


def test_a_chunk_that_held_its_rows_for_too_long_is_followed_by_a_smaller_one_and_a_pause() -> None:
    pace = after(FULL, 0.5)
    assert pace == Pace(rows=500, pause_seconds=0.5, why=pacing.POSTGRES_SLOW)
    assert pace.words == "PostgreSQL is slow: 500 jobs at a time"
    assert after(FULL, 0.2).rows == 1_250, "already before the bound, in proportion"


def test_redis_being_slow_shrinks_its_calls_too() -> None:
    pace = after(FULL, 0.07, 0.02)
    assert (pace.rows, pace.why) == (FLOOR_ROWS, pacing.REDIS_SLOW), "less than a call takes at most"
    assert pace.pause_seconds == 0.07


def test_it_goes_faster_again_step_by_step_and_pauses_until_it_is_at_full_speed() -> None:
    pace, sizes = Pace(rows=50, pause_seconds=1.0, why=pacing.POSTGRES_SLOW), []
    while pace != FULL:
        pace = after(pace, 0.01)
        assert (pace.pause_seconds, pace.why) == ((0.01, pacing.POSTGRES_SLOW) if pace.rows < MOST else (0.0, ""))
        sizes.append(pace.rows)
    assert sizes == [100, 200, 400, 800, 1_600, 2_000]


def test_a_short_chunk_at_the_end_of_a_page_does_not_make_the_next_one_larger() -> None:
    slowed = Pace(rows=500, pause_seconds=0.1, why=pacing.POSTGRES_SLOW)
    assert after(slowed, 0.001, rows=3).rows == 500


def test_a_refused_chunk_comes_again_with_fewer_jobs_and_names_who_is_in_the_way() -> None:
    assert after_refusal(rows=2_000, took_seconds=0.2, most=MOST, held=False) == Pace(
        rows=500, pause_seconds=0.2, why=pacing.POSTGRES_SLOW
    )
    held = after_refusal(rows=60, took_seconds=5.0, most=MOST, held=True)
    assert held == Pace(rows=FLOOR_ROWS, pause_seconds=PAUSE_SECONDS, why=pacing.ROWS_HELD)


@given(most=st.integers(1, 50_000), seen=st.lists(st.tuples(SECONDS, SECONDS), max_size=30))
def test_whatever_is_measured_size_and_pause_stay_within_their_bounds(
    most: int, seen: list[tuple[float, float]]
) -> None:
    pace = Pace(rows=most)
    for held, call in seen:
        pace = after(pace, held, call, most=most)
        assert min(FLOOR_ROWS, most) <= pace.rows <= most
        assert 0 <= pace.pause_seconds <= PAUSE_SECONDS
        assert bool(pace.why) == (pace.rows < most or max(held / 0.25, call / 0.01) >= pacing.SLOW_SHARE)


@pytest.mark.parametrize("per_row", [0.00002, 0.0002, 0.001])
def test_at_a_steady_speed_it_settles_within_the_bound_and_swings_no_more(per_row: float) -> None:
    pace = FULL
    for _ in range(20):
        pace = after(pace, 0.005 + per_row * pace.rows)
    held = 0.005 + per_row * pace.rows
    assert held <= pacing.HOLD_SECONDS
    assert after(pace, held).rows == pace.rows


def test_a_chunk_is_cut_without_losing_an_id() -> None:
    ids = sorted(uuid4() for _ in range(7))
    (chunk,) = chunks_of(ids, after=None, chunk_rows=10)
    first, rest = chunk.cut(3)
    assert (first, rest) == (
        chunks_of(ids[:3], after=None, chunk_rows=10)[0],
        *chunks_of(ids[3:], after=None, chunk_rows=10),
    )
    assert (first.last, chunk.cut(7)) == (ids[2], (chunk, None))
    whole: list[Chunk] = []
    left: Chunk | None = chunk
    while left is not None:
        one, left = left.cut(1)
        whole.append(one)
    assert [c.first for c in whole] == ids


def test_terminal_and_dashboard_say_that_it_is_slowed_down() -> None:
    progress = ActionProgress(
        id=uuid4(), planned=100, done=10, skipped=0, per_second=5.0, eta_seconds=18.0,
        slowed="PostgreSQL is slow: 50 jobs at a time",
    )  # fmt: skip
    said = "slowed down, PostgreSQL is slow: 50 jobs at a time"
    assert pace_text(progress) == f"5/s, 18 s left; {said}"
    assert progress_values(progress)["text"].endswith(said)
