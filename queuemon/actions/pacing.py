"""How fast a bulk action may go: the rows of its next chunk and the pause before it, from what the last one took.

Values in, values out. A chunk holds the locks of its rows until it commits, and whoever wants one of them waits; so the
size follows the time, as in TCP's congestion control (RFC 5681): at once much smaller, doubled while it goes well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from queuemon.contract import PUBLISH_BATCH

#: No chunk should hold its rows' locks for longer.
HOLD_SECONDS: Final = 0.25

#: No call should keep Redis busy for longer.
CALL_SECONDS: Final = 0.01

#: From this share of a limit on the stores are slow, and the next chunk aims at half of the limit.
SLOW_SHARE: Final = 0.8
AIM_SHARE: Final = 0.5

#: Below this share of both limits the next chunk is twice as large: it stays below the share that is slow.
FAST_SHARE: Final = 0.4

#: A chunk's statement that takes longer is cancelled and tried again with fewer rows; the rest is for the commit.
CANCEL_SECONDS: Final = HOLD_SECONDS * SLOW_SHARE

#: A chunk waits so long for a row that another session holds: meanwhile it holds those that it has already.
LOCK_SECONDS: Final = 0.15

#: No chunk is smaller on account of slow stores (a rate, or a smaller `chunk_rows`, may make it so).
FLOOR_ROWS: Final = 50

#: One chunk shrinks at most to this part of the last one.
SHRINK: Final = 0.25

#: The pause between two chunks is never longer (one that a rate asks for may be).
PAUSE_SECONDS: Final = 1.0

POSTGRES_SLOW: Final = "PostgreSQL is slow"
REDIS_SLOW: Final = "Redis is slow"
ROWS_HELD: Final = "another session held a row"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How the next chunk is to be taken."""

    #: Jobs in it at most.
    rows: int
    #: Seconds to wait before it.
    pause_seconds: float = 0.0
    #: What slows it down; empty at full speed.
    why: str = ""

    @property
    def words(self) -> str:
        """As progress says it: "PostgreSQL is slow: 125 jobs at a time"; empty at full speed."""
        return f"{self.why}: {self.rows:,} {'job' if self.rows == 1 else 'jobs'} at a time" if self.why else ""


def floor(most: int) -> int:
    """The smallest chunk where `most` is the largest."""
    return min(FLOOR_ROWS, most)


def after_chunk(pace: Pace, *, rows: int, held_seconds: float, call_seconds: float, most: int) -> Pace:
    """The pace after a chunk of `rows` jobs that held its locks for `held_seconds`.

    `call_seconds` is what one call of the last publication took (0: nothing is known); `most` the largest chunk. While
    chunks are smaller than that, each pause is as long as the last chunk took: half of the time is left to others.
    """
    held, called = held_seconds / HOLD_SECONDS, call_seconds / CALL_SECONDS
    share, slow = max(held, called), max(held, called) >= SLOW_SHARE
    why = pace.why
    if slow:
        why = POSTGRES_SLOW if held >= called else REDIS_SLOW
        # Redis feels the ids of one call, of which a chunk has many until it is small.
        size = rows if held >= called else min(rows, PUBLISH_BATCH)
        wanted = int(size * max(AIM_SHARE / share, SHRINK))
    elif share < FAST_SHARE and 2 * rows > pace.rows:  # a short one at the end of a page says nothing
        wanted = 2 * pace.rows
    else:
        wanted = pace.rows
    wanted = max(floor(most), min(most, wanted))
    if not slow and wanted == most:
        return Pace(rows=most)
    return Pace(rows=wanted, pause_seconds=min(PAUSE_SECONDS, max(held_seconds, call_seconds)), why=why)


def after_refusal(*, rows: int, took_seconds: float, most: int, held: bool) -> Pace:
    """The pace after a chunk that was cancelled: it took too long, or (`held`) waited too long for another session."""
    return Pace(
        rows=max(floor(most), min(most, int(rows * SHRINK))),
        pause_seconds=min(PAUSE_SECONDS, took_seconds),
        why=ROWS_HELD if held else POSTGRES_SLOW,
    )
