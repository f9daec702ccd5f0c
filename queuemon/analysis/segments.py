"""Where a series of counts changes its level: exact optimal partitioning under a penalty; onset and forecast use it.

Source: Jackson et al., "An algorithm for optimal partitioning of data on an interval" (2005); the same minimum that
PELT finds by pruning (Killick, Fearnhead and Eckley 2012). A series here has at most a few hundred buckets, so every
step is one vector operation over all starts, and 500 buckets take some ten milliseconds; a test compares it with
ruptures. Costs are deviances of one parameter per segment over a dispersion estimated from neighbours, so that bursts
(more variance than the binomial's or Poisson's) do not pass for changes (McCullagh and Nelder, quasi-likelihood, 1989).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: A change costs this times log(buckets), plus a constant: calibrated on quiet series, of which at least 95 % of every
#: kind in tests/support/series.py keep one segment.
PENALTY: Final = (3.0, 7.0)

#: Fewest buckets of a segment.
SHORTEST: Final = 3


class Cost(Protocol):
    """The cost of segments of one series."""

    @property
    def n(self) -> int:
        """Buckets of the series."""
        ...

    def of(self, start: npt.NDArray[np.int64], end: int) -> Array:
        """Cost of the segments from each start up to, and without, `end`; with one parameter each, in units of −2 log
        likelihood over the dispersion."""
        ...


class RateCost:
    """Binomial deviance of `failed` out of `finished` per bucket: one failure rate per segment."""

    def __init__(self, failed: Array, finished: Array) -> None:
        self.k, self.m = _sums(failed), _sums(finished)
        self.dispersion = rate_dispersion(failed, finished)

    @property
    def n(self) -> int:
        """Buckets of the series."""
        return len(self.k) - 1

    def of(self, start: npt.NDArray[np.int64], end: int) -> Array:
        """−2 log likelihood at the segment's own rate."""
        k, m = self.k[end] - self.k[start], self.m[end] - self.m[start]
        cost: Array = -2.0 * (_xlogy(k, k) + _xlogy(m - k, m - k) - _xlogy(m, m)) / self.dispersion
        return cost


class CountCost:
    """Poisson deviance of counts per bucket: one rate per segment."""

    def __init__(self, counts: Array) -> None:
        self.k = _sums(counts)
        self.dispersion = count_dispersion(counts)

    @property
    def n(self) -> int:
        """Buckets of the series."""
        return len(self.k) - 1

    def of(self, start: npt.NDArray[np.int64], end: int) -> Array:
        """−2 log likelihood at the segment's own mean, without terms that no segmentation changes."""
        k = self.k[end] - self.k[start]
        cost: Array = -2.0 * (_xlogy(k, k) - _xlogy(k, (end - start).astype(np.float64))) / self.dispersion
        return cost


class LevelCost:
    """Squared distance of a series from its segment's mean, over the variance of its noise."""

    def __init__(self, values: Array) -> None:
        self.s, self.q = _sums(values), _sums(values**2)
        self.variance = level_variance(values)

    @property
    def n(self) -> int:
        """Buckets of the series."""
        return len(self.s) - 1

    def of(self, start: npt.NDArray[np.int64], end: int) -> Array:
        """Sum of squares around the mean over the variance."""
        s, q = self.s[end] - self.s[start], self.q[end] - self.q[start]
        cost: Array = np.maximum(0.0, q - s**2 / np.maximum(1, end - start)) / self.variance
        return cost


def partition(cost: Cost, *, penalty: float | None = None, shortest: int = SHORTEST) -> list[int]:
    """The first buckets of all segments but the first: where the level changes. Empty for a level series."""
    n = cost.n
    if n < 2 * shortest:
        return []
    each = penalty if penalty is not None else PENALTY[0] * float(np.log(n)) + PENALTY[1]
    best = np.full(n + 1, np.inf)
    best[0] = -each
    last = np.zeros(n + 1, dtype=np.int64)
    for end in range(shortest, n + 1):
        starts = np.arange(0, end - shortest + 1)
        total = best[starts] + cost.of(starts, end) + each
        last[end] = starts[int(np.argmin(total))]
        best[end] = float(total.min())
    found, end = [], n
    while (start := int(last[end])) > 0:
        found.append(start)
        end = start
    return found[::-1]


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """How a level changes: as it was before `start`, as it is from `end` on, straight in between (none for a step)."""

    start: int
    end: int
    before: float
    after: float


def ramp(fit: Callable[[Array], tuple[float, float, float]], n: int, *, around: tuple[int, int]) -> Ramp:
    """The step or ramp that fits best, its start within `around`.

    `fit` takes the share of the new level in each of n buckets (0 before, 1 after) and gives (deviance, before, after).
    A ramp has one parameter more than a step and must earn it (BIC).
    """
    lengths = [0, *(w for w in (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96) if w < n)]
    best: tuple[float, Ramp] | None = None
    buckets = np.arange(n)
    for start in range(max(1, around[0]), min(n - 1, around[1]) + 1):
        for length in lengths:
            if start + length > n - 1:
                break
            weight = np.clip((buckets - start + 1) / (length + 1), 0.0, 1.0)
            deviance, before, after = fit(weight)
            score = deviance + (float(np.log(n)) if length else 0.0)
            if best is None or score < best[0]:
                best = score, Ramp(start=start, end=start + length, before=before, after=after)
    assert best is not None  # there is always a step
    return best[1]


def rate_dispersion(failed: Array, finished: Array) -> float:
    """How much more a failure rate varies between neighbours than the binomial does; at least 1.

    Pearson's statistic of pairs of neighbours, so a few real changes move it little; the largest 2 % are left out.
    """
    a, b = finished[:-1], finished[1:]
    use = (a > 0) & (b > 0)
    total = float(finished.sum())
    rate = float(failed.sum()) / total if total else 0.0
    if not use.any() or not 0 < rate < 1:
        return 1.0
    # The rate of the neighbourhood, not of the whole: an incident would make the quiet time look too calm.
    near = _smooth(failed) / np.maximum(1e-9, _smooth(finished))
    local = np.clip((near[:-1] + near[1:]) / 2, rate * 1e-2, 1 - 1e-6)
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = failed[:-1] / a - failed[1:] / b
        pearson = difference**2 / (local * (1 - local) * (1 / a + 1 / b))
    return max(1.0, _trimmed(pearson[use]))


def count_dispersion(counts: Array) -> float:
    """How much more counts vary between neighbours than Poisson's do; at least 1."""
    if len(counts) < 3:
        return 1.0
    near = _smooth(counts)
    pearson = np.diff(counts) ** 2 / np.maximum(0.5, near[:-1] + near[1:])
    return max(1.0, _trimmed(pearson))


def level_variance(values: Array) -> float:
    """Variance of a series' noise as sums of it see it: of what a running median leaves, with its correlation."""
    width = max(5, min(21, len(values) // 8 | 1))
    padded = np.pad(values, width // 2, mode="edge")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
    left = values - middle
    cut = float(np.quantile(np.abs(left), 0.98)) if len(left) else 0.0
    left = np.clip(left, -cut, cut)
    variance = float(np.mean(left**2))
    if variance <= 0:
        return 1e-4
    lag = min(0.85, max(0.0, float(np.mean(left[1:] * left[:-1])) / variance))
    return max(1e-4, variance * (1 + lag) / (1 - lag))


def _trimmed(values: Array) -> float:
    kept = np.sort(values)[: max(1, int(np.ceil(len(values) * 0.98)))]
    return float(kept.mean())


def _smooth(values: Array, width: int = 9) -> Array:
    kernel = np.ones(min(width, len(values)))
    total: Array = np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
    return total


def _sums(values: Any) -> Array:
    return np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=np.float64))])


def _xlogy(x: Array, y: Array) -> Array:
    product: Array = x * np.log(np.where(x > 0, y, 1.0))
    return product
