"""How long jobs take from created to done, over time, against the queue's target."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from queuemon.analysis.window import Window

if TYPE_CHECKING:
    import pandas as pd

#: Buckets of a window.
BUCKETS: Final = 60


@dataclass(frozen=True, kw_only=True)
class DurationPoint:
    """The jobs that completed in one bucket; seconds from created to done."""

    at: datetime
    #: That were looked at.
    jobs: int
    #: So long took the middle one, and the slowest but 5 % and 1 %; None where none completed.
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, kw_only=True)
class Durations:
    """A window in sixty buckets."""

    window: Window
    bucket_seconds: float
    points: tuple[DurationPoint, ...]
    #: What the queue aims at from created to done; None for all queues.
    target_seconds: float | None
    #: The share of the time that was looked at; 1 is all of it.
    share: float = 1.0

    def to_frame(self) -> pd.DataFrame:
        """One row per bucket."""
        from dataclasses import asdict

        import pandas as pd

        return pd.DataFrame([asdict(p) for p in self.points])


def slices(window: Window, share: float, *, seed: int = 7) -> Iterator[tuple[datetime, datetime]]:
    """Of each bucket a stretch that is `share` of it, at a seeded place."""
    rng, part = random.Random(seed), window.length / BUCKETS
    for n in range(BUCKETS):
        start = window.since + part * (n + rng.random() * (1 - share))
        yield start, start + part * share


def durations(
    window: Window,
    found: dict[int, tuple[int, tuple[float, ...]]],
    *,
    target_seconds: float | None,
    share: float,
) -> Durations:
    """The value of what was read: number of the bucket → (jobs, the three quantiles in seconds)."""
    part = window.length / BUCKETS

    def point(n: int) -> DurationPoint:
        jobs, at = found.get(n, (0, ())), window.since + n * part
        if not jobs[0]:
            return DurationPoint(at=at, jobs=0)
        p50, p95, p99 = jobs[1]
        return DurationPoint(at=at, jobs=jobs[0], p50=p50, p95=p95, p99=p99)

    return Durations(
        window=window, bucket_seconds=part.total_seconds(), points=tuple(point(n) for n in range(BUCKETS)),
        target_seconds=target_seconds, share=share,
    )  # fmt: skip
