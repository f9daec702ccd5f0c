"""When did it begin: changes of the failure rate and of the depth, with the deploys and actions just before them.

Source: change points by optimal partitioning (analysis/segments.py), then a step or ramp fitted around each, so that a
slow rise is dated by its beginning. Assumptions: within a stretch without incident the failure rate is level and the
depth stays within a factor of 2.5; attempts fail independently but for a constant over-dispersion. A deploy or action
beside a change is a coincidence in time, not a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from queuemon.analysis.segments import SHORTEST, Array, LevelCost, Ramp, RateCost, partition, ramp
from queuemon.analysis.timeline import NICE
from queuemon.analysis.window import Window
from queuemon.render.text import duration, percent

if TYPE_CHECKING:
    import pandas as pd

    from queuemon.analysis.timeline import Timeline, TimelinePoint
    from queuemon.store.timeline import Happened

#: Most buckets that are looked at; longer series are added up.
BUCKETS: Final = 480

#: Smallest change that is told: the failure rate by this factor and this much; the depth (with the offset) by a factor.
RATE_FACTOR: Final = 1.5
RATE_DIFFERENCE: Final = 0.002
DEPTH_FACTOR: Final = 2.5

#: A queue's depth is compared with this much added: from 0 to 5 is no change.
DEPTH_OFFSET: Final = 20.0

#: A depth that changes more slowly than by this factor an hour is the rhythm of the day.
DEPTH_FACTOR_PER_HOUR: Final = 2.0

#: A deploy or action this long before a change, at most, stands beside it.
BEFORE: Final = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A level that changed, and when."""

    #: "failure rate" or "depth".
    what: str
    #: The first bucket of the change begins here; the change lies within one bucket of it.
    at: datetime
    #: Where a slow change had arrived at its new level; equal to `at` for a sudden one.
    settled: datetime
    #: The level before and after: a share, or jobs.
    before: float
    after: float
    #: Deploys and actions shortly before, the most likely first.
    near: tuple[Happened, ...] = ()
    bucket_seconds: int = 60
    #: Whether the window holds more than one day, so that a time of day alone says little.
    dated: bool = False

    @property
    def rose(self) -> bool:
        """Whether it went up."""
        return self.after > self.before

    @property
    def sentence(self) -> str:
        """For the operator: "failures rose from 0.4 % to 37 % at 14:03, 2 min after deploy 2026.10.3"."""
        verb = "rose" if self.rose else "fell"
        if self.what == "failure rate":
            told = f"failures {verb} from {percent(self.before)} to {percent(self.after)}"
        else:
            told = f"the depth {verb} from {self.before:,.0f} to {self.after:,.0f}"
        clock = "%d %b %H:%M" if self.dated else "%H:%M"
        told += (
            f" at {self.at:{clock}}"
            if self.settled == self.at
            else f" from {self.at:{clock}} to {self.settled:{clock}}"
        )
        return told + (f", {self.beside}" if self.near else "")

    @property
    def beside(self) -> str:
        """The nearest deploy or action and how far it lies: "2 min after deploy 2026.10.3"; empty without one."""
        if not self.near:
            return ""
        first = self.near[0]
        gap = (self.at - first.at).total_seconds()
        name = f"{first.kind} {first.target}" if len(first.target) <= 80 else f"{first.kind} {first.target[:79]}…"
        # The change lies within one bucket of its time: nothing finer is known, and nothing finer is said.
        if gap <= -self.bucket_seconds or (self.bucket_seconds > 60 and gap < self.bucket_seconds):
            return f"around {name}"
        return f"{duration(gap // 60 * 60)} after {name}" if gap >= 60 else f"just after {name}"


@dataclass(frozen=True, kw_only=True)
class Onset:
    """What changed within a window, oldest first; empty where nothing did."""

    window: Window
    bucket_seconds: int
    changes: tuple[Change, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """One per change; or that there was none."""
        return tuple(c.sentence for c in self.changes) or ("no change of failure rate or depth",)

    def to_frame(self) -> pd.DataFrame:
        """One row per change."""
        import pandas as pd

        names = ("what", "at", "settled", "before", "after", "beside", "sentence")
        return pd.DataFrame([{n: getattr(c, n) for n in names} for c in self.changes], columns=names)


def bucket(length: timedelta) -> int:
    """The finest buckets, in seconds, that a window of this length is looked at in: a minute for up to eight hours."""
    return next((n for n in NICE if length.total_seconds() / n <= BUCKETS), NICE[-1])


def find(timeline: Timeline) -> Onset:
    """The changes of a timeline: of the rate up to now, of the depth in buckets that are over. 480 take about 0.1 s."""
    points = timeline.points
    if not points:
        return Onset(window=timeline.window, bucket_seconds=timeline.bucket_seconds, changes=())
    each = -(-len(points) // BUCKETS)
    seconds = timeline.bucket_seconds * each
    failed, finished, depth = _series(points, each)
    if timeline.filling:
        depth = depth[:-1]
    found, dated = [], timeline.window.since.date() != timeline.window.until.date()
    for what, marks in (("failure rate", rates(failed, finished)), ("depth", depths(depth, bucket_seconds=seconds))):
        known = None  # what stands beside a change is not told again beside the next
        for r in marks:
            at = points[len(points) % each].at + timedelta(seconds=seconds * r.start)
            settled = at + timedelta(seconds=seconds * (r.end - r.start))
            found.append(
                Change(
                    what=what, at=at, settled=settled, before=r.before, after=r.after, bucket_seconds=seconds,
                    near=near(timeline.happened, at, settled, seconds, since=known), dated=dated,
                )
            )  # fmt: skip
            known = settled + timedelta(seconds=seconds)
    changes = tuple(sorted(found, key=lambda c: c.at))
    return Onset(window=timeline.window, bucket_seconds=seconds, changes=changes)


def _series(points: Sequence[TimelinePoint], each: int) -> tuple[Array, Array, Array]:
    n = len(points) // each
    used = points[len(points) % each :]
    shape = (n, each)
    failed = np.array([p.failed for p in used], dtype=np.float64).reshape(shape).sum(axis=1)
    finished = np.array([p.finished for p in used], dtype=np.float64).reshape(shape).sum(axis=1)
    depth = np.array([p.depth for p in used], dtype=np.float64).reshape(shape)[:, -1]
    return failed, finished, depth


def rates(failed: Array, finished: Array) -> list[Ramp]:
    """Where the share of failed attempts changed, in buckets; `before` and `after` are shares.

    Buckets in which nothing finished say nothing and are left out: a change begins where it is seen.
    """
    seen = np.flatnonzero(finished)
    failed, finished = failed[seen], finished[seen]
    if not seen.size:
        return []

    def level(first: int, last: int) -> float:
        return float((failed[first:last].sum() + 0.5) / (finished[first:last].sum() + 1.0))

    def told(a: float, b: float) -> bool:
        return max(a, b) / min(a, b) >= RATE_FACTOR and abs(a - b) >= RATE_DIFFERENCE

    cost = RateCost(failed, finished)
    found = _located(
        partition(cost), cost.n, level, told,
        lambda lo, hi: _rate_fit(failed[lo:hi], finished[lo:hi], cost.dispersion),
    )  # fmt: skip
    # The fit of a ramp leaves its beginning vague: it is the first bucket that stands clear of the old level.
    share = failed / finished
    begins = []
    for r in found:
        clear = share[r.start : r.end] / max(r.before, 1e-9)
        beyond = clear >= RATE_FACTOR if r.after > r.before else clear <= 1 / RATE_FACTOR
        begins.append(r.start + int(np.argmax(beyond)) if beyond.any() else r.start)
    return [replace(r, start=int(seen[begin]), end=int(seen[r.end])) for r, begin in zip(found, begins, strict=True)]


def depths(depth: Array, *, bucket_seconds: float) -> list[Ramp]:
    """Where the depth changed, in buckets; of a rise `after` is the peak that it led to, of a fall `before`.

    A rise begins where the depth bends, a fall at the peak.
    """
    values = np.log(np.maximum(0.0, depth) + DEPTH_OFFSET)

    def level(first: int, last: int) -> float:
        return float(values[first:last].mean())

    def told(a: float, b: float) -> bool:
        return bool(abs(a - b) >= np.log(DEPTH_FACTOR))

    cost = LevelCost(values)
    found = _located(
        partition(cost), cost.n, level, told, lambda lo, hi: _level_fit(values[lo:hi], cost.variance)
    )  # fmt: skip
    quick = []
    for r in found:
        hours = max(1, r.end - r.start) * bucket_seconds / 3_600
        if abs(r.after - r.before) / hours >= np.log(DEPTH_FACTOR_PER_HOUR):
            quick.append(r)
    made: list[Ramp] = []
    for n, r in enumerate(quick):
        low, high = (made[-1].start if made else 0), (quick[n + 1].start if n + 1 < len(quick) else cost.n)
        start = _bend(depth, low, r.end, high) if r.after > r.before else low + int(np.argmax(depth[low : r.end + 1]))
        before, after = depth[low : start + 1], depth[start:high]
        if r.after > r.before:
            made.append(Ramp(start=start, end=start, before=float(np.median(before)), after=float(after.max())))
        else:
            made.append(
                Ramp(start=start, end=start, before=float(before.max()), after=float(np.median(depth[r.end : high])))
            )
    return made


def _bend(depth: Array, low: int, rough: int, high: int) -> int:
    """Where a depth begins to grow: it is level up to there and then a straight line, or a step (least squares)."""
    seen = depth[low : min(high, rough + 4)]
    buckets, ones = np.arange(len(seen)), np.ones(len(seen))
    best, found = np.inf, max(0, rough - low)
    for start in range(1, len(seen) - 1):
        for weight in (np.maximum(0, buckets - start + 1) / (len(seen) - start), (buckets >= start).astype(float)):
            a, b = _least_squares(seen, weight, ones, (float(seen[0]), float(seen[-1])))
            error = float(((seen - a - (b - a) * weight) ** 2).sum())
            if error < best:
                best, found = error, start
    return low + found


def _located(
    changes: list[int],
    n: int,
    level: Callable[[int, int], float],
    told: Callable[[float, float], bool],
    fit: Callable[[int, int], Callable[[Array], tuple[float, float, float]]],
) -> list[Ramp]:
    """The changes worth telling, each with the step or ramp that fits it best; a rise in several steps is one ramp."""
    changes = _worthwhile(changes, n, level, told)
    edges = [0, *changes, n]
    levels = [level(a, b) for a, b in pairwise(edges)]
    groups: list[list[int]] = []
    for i, change in enumerate(changes):
        up = levels[i + 1] > levels[i]
        if groups and up == (levels[i] > levels[i - 1]):
            groups[-1].append(change)
        else:
            groups.append([change])
    found: list[Ramp] = []
    for i, group in enumerate(groups):
        low = found[-1].end if found else 0
        high = groups[i + 1][0] if i + 1 < len(groups) else n
        # Segments have three buckets at least, so that a change in the last two was found too early.
        span = max(12, group[-1] - group[0])
        best = ramp(fit(low, high), high - low, around=(group[0] - low - span, group[-1] - low + SHORTEST - 1))
        found.append(Ramp(start=best.start + low, end=best.end + low, before=best.before, after=best.after))
    return found


def _worthwhile(
    changes: list[int], n: int, level: Callable[[int, int], float], told: Callable[[float, float], bool]
) -> list[int]:
    """Without changes that are too small to tell, the smallest taken out first, since its neighbours' levels change."""
    kept = list(changes)
    while kept:
        edges = [0, *kept, n]
        levels = [level(a, b) for a, b in pairwise(edges)]
        small = [i for i in range(len(kept)) if not told(levels[i], levels[i + 1])]
        if not small:
            break
        del kept[min(small, key=lambda i: abs(np.log(max(levels[i + 1], 1e-12) / max(levels[i], 1e-12))))]
    return kept


def _rate_fit(failed: Array, finished: Array, dispersion: float) -> Callable[[Array], tuple[float, float, float]]:
    """Binomial fit of a rate that goes from one level to another with given weights, by reweighted least squares."""
    share = failed / np.maximum(1.0, finished)

    def fit(weight: Array) -> tuple[float, float, float]:
        a = _ratio(failed * (1 - weight), finished * (1 - weight))
        b = _ratio(failed * weight, finished * weight)
        if ((weight > 0) & (weight < 1)).any():
            for _ in range(3):
                p = np.clip(a + (b - a) * weight, 1e-6, 1 - 1e-6)
                a, b = _least_squares(share, weight, finished / (p * (1 - p)), (a, b))
        p = np.clip(a + (b - a) * weight, 1e-9, 1 - 1e-9)
        deviance = -2.0 * float((failed * np.log(p) + (finished - failed) * np.log(1 - p)).sum()) / dispersion
        return deviance, min(1.0, max(0.0, a)), min(1.0, max(0.0, b))

    return fit


def _level_fit(values: Array, variance: float) -> Callable[[Array], tuple[float, float, float]]:
    ones = np.ones_like(values)

    def fit(weight: Array) -> tuple[float, float, float]:
        a, b = _least_squares(values, weight, ones, (float(values[0]), float(values[-1])))
        return float(((values - a - (b - a) * weight) ** 2).sum()) / variance, a, b

    return fit


def _least_squares(y: Array, weight: Array, precision: Array, otherwise: tuple[float, float]) -> tuple[float, float]:
    """(a, b) of y ≈ a (1 − weight) + b weight."""
    u, v = 1 - weight, weight
    uu, uv, vv = ((precision * x).sum() for x in (u * u, u * v, v * v))
    determinant = uu * vv - uv * uv
    if determinant <= 1e-12 * max(1.0, float(uu * vv)):
        return otherwise
    uy, vy = (precision * u * y).sum(), (precision * v * y).sum()
    return float((vv * uy - uv * vy) / determinant), float((uu * vy - uv * uy) / determinant)


def _ratio(part: Array, whole: Array) -> float:
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0


def near(
    happened: Sequence[Happened],
    at: datetime,
    settled: datetime,
    bucket_seconds: float,
    *,
    since: datetime | None = None,
) -> tuple[Happened, ...]:
    """Deploys and actions up to 30 minutes before a change, none before `since`, or within its first bucket; deploys
    first, then the nearest.

    An action that follows a change (a pause, a retry) is a reaction, so what comes later is left out; but the beginning
    of a slow change is vague: deploys until it had settled may have made it.
    """
    step = timedelta(seconds=bucket_seconds)
    begin = at - BEFORE if since is None else max(at - BEFORE, since)
    close: list[Any] = [h for h in happened if begin <= h.at < (settled if h.kind == "deploy" else at) + step]
    return tuple(sorted(close, key=lambda h: (h.kind != "deploy", abs(at - h.at))))[:5]
