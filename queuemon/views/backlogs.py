"""What the backlogs did while this page looked: a trail for each row, and how long the present pace needs to clear it.

Costs the stores nothing. The forecast of a queue's details knows the past of before, daily rhythms and intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from math import sqrt
from typing import Any, Final

from queuemon.model import QueueStats

#: How far back a trail reaches, and its points at most.
WINDOW: Final = timedelta(minutes=15)
POINTS: Final = 30

#: Over how long the pace is measured, at most and at least.
PACE: Final = timedelta(minutes=5)
SOON: Final = timedelta(seconds=20)

#: A clearing that is further away than this is no answer.
FAR: Final = timedelta(days=7)


class Backlogs:
    """How many jobs waited, by the clock of PostgreSQL. Whoever holds it keeps threads apart."""

    def __init__(self) -> None:
        self._seen: list[tuple[datetime, Mapping[str, int]]] = []

    def look(self, clock: datetime, queues: Iterable[QueueStats]) -> None:
        """Take in how many wait now; a clock that was set back begins anew."""
        if self._seen and clock < self._seen[-1][0]:
            self._seen = []
        if len(self._seen) > 1 and self._seen[-1][0] - self._seen[-2][0] < WINDOW / POINTS:
            self._seen.pop()
        self._seen = [(at, waiting) for at, waiting in self._seen if clock - at <= WINDOW]
        self._seen.append((clock, {q.name: q.waiting for q in queues}))

    def of(self, queue: str) -> dict[str, Any]:
        """Of one queue, what its row shows; nothing where there is nothing to tell.

        `trail`: one digit a point, the oldest first, 9 the most that waited (`most`); `minutes` that it covers.
        `pace`: jobs per minute that the backlog grows (or shrinks, below 0); `clears`: seconds until it would be gone.
        A change within twice the root of what waits may be chance, and is told as neither.
        """
        seen = [(at, waiting[queue]) for at, waiting in self._seen if queue in waiting]
        if not seen or not (most := max(n for _, n in seen)):
            return {}
        now, last = seen[-1]
        found: dict[str, Any] = {}
        if len(seen) > 2:
            trail = "".join(str(-(-9 * n // most)) for _, n in seen)
            found = {"trail": trail, "most": most, "minutes": round((now - seen[0][0]).total_seconds() / 60)}
        first_at, first = next(point for point in seen if now - point[0] <= PACE)
        if now - first_at < SOON or abs(last - first) <= 2 * sqrt(max(first, last)):
            return found
        pace = (last - first) / ((now - first_at).total_seconds() / 60)
        found["pace"] = round(pace) or round(pace, 1)
        if last and pace < 0 and (left := timedelta(minutes=last / -pace)) < FAR:
            found["clears"] = round(left.total_seconds())
        return found
