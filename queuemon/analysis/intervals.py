"""Intervals of an ordered attribute: bins by its margin alone, edges refined on the data, bounds that read well."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum

import numpy as np

from queuemon.analysis.separation import Deviance, Floats, Ints

#: Bins of equal support: an interval of one attribute alone, and one in a pair.
FINE_BINS = 64
PAIR_BINS = 10


class Scale(Enum):
    """What the numbers of an ordered attribute mean, and which bounds the filter language can name."""

    NUMBER = "number"
    WHOLE = "whole number"
    #: Milliseconds.
    SPAN = "duration"
    #: Seconds since 1970, UTC.
    MOMENT = "time"


def edges(counts: Ints, bins: int) -> Ints:
    """Bins over ranks 0 … len(counts), of about equal support: their edges, first and last included.

    `counts` is how many jobs hold each distinct value, in order. A value that fills a bin by itself gets one. Labels
    play no part, so that choosing the bins is no look at the answer.
    """
    if len(counts) <= bins:
        return np.arange(len(counts) + 1)
    upto = np.cumsum(counts)
    share = upto[-1] / bins
    found = np.searchsorted(upto, share * np.arange(1, bins)) + 1
    heavy = np.flatnonzero(counts >= share)
    return np.unique(np.concatenate(([0, len(counts)], found, heavy, heavy + 1)))


def spans(bins: int) -> tuple[Ints, Ints]:
    """Every interval of one or more neighbouring bins but the whole: first bin, and the bin behind the last."""
    first, last = np.triu_indices(bins)
    proper = last - first < bins - 1
    return first[proper], last[proper] + 1


def refined(failing: Ints, jobs: Ints, low: int, high: int, deviance: Deviance) -> tuple[int, int]:
    """The interval of ranks near [low, high) that separates best; an edge that adds little is dropped.

    `failing` and `jobs` count each distinct value. One edge is moved at a time, which finds a local optimum. An edge
    is kept when it gains more than Schwarz's (1978) price of a parameter. For estimation, never for a test.
    """
    f, n = np.concatenate(([0], np.cumsum(failing))), np.concatenate(([0], np.cumsum(jobs)))
    size = len(jobs)
    for _ in range(4):
        before = low, high
        low = int(np.argmax(deviance.of(f[high] - f[:high], n[high] - n[:high])))
        high = low + 1 + int(np.argmax(deviance.of(f[low + 1 :] - f[low], n[low + 1 :] - n[low])))
        if (low, high) == before:
            break

    def of(a: int, b: int) -> float:
        return float(deviance.of(f[b : b + 1] - f[a], n[b : b + 1] - n[a])[0])

    price = 2 * math.log(max(2, deviance.all_jobs))
    best = of(low, high)
    for a, b in ((0, high), (low, size)):
        if (a, b) != (0, size) and of(a, b) >= best - price:
            return a, b
    return low, high


def between(below: float, above: float, scale: Scale) -> Decimal:
    """The roundest bound in (below, above]: values from `above` on are ≥ it, those up to `below` are <.

    Of a NUMBER strictly between them, so that a fraction with more digits than a double holds falls on the same side
    in PostgreSQL as here. Whole scales go by powers of ten, times by minutes and hours.
    """
    if scale is Scale.NUMBER:
        middle = (Decimal(below) + Decimal(above)) / 2
        largest = math.frexp(max(abs(below), abs(above)))[1] * 3 // 10 + 1
        for exponent in range(largest, largest - 40, -1):
            found = round(middle.scaleb(-exponent)) * Decimal(1).scaleb(exponent)
            if below < float(found) < above:
                return found
        return Decimal(above)
    low, high = int(below), int(above)
    return next((Decimal(v) for step in _steps(scale) if (v := (low // step + 1) * step) <= high), Decimal(high))


def _steps(scale: Scale) -> Iterator[int]:
    match scale:
        case Scale.WHOLE | Scale.NUMBER:
            for exponent in range(16, -1, -1):
                yield 5 * 10**exponent
                yield 10**exponent
        case Scale.MOMENT:
            yield from (86_400, 21_600, 3_600, 1_800, 600, 300, 60, 10, 1)
        case Scale.SPAN:
            yield from (604_800_000, 86_400_000, 21_600_000, 3_600_000, 1_800_000, 600_000, 300_000, 60_000)
            yield from (30_000, 10_000, 5_000, 1_000, 500, 100, 50, 10, 1)


def ranked(values: Floats) -> tuple[Floats, Ints]:
    """The distinct values in order, and each job's rank among them; -1 for NaN."""
    known = ~np.isnan(values)
    points, inverse = np.unique(values[known], return_inverse=True)
    ranks = np.full(len(values), -1, dtype=np.intp)
    ranks[known] = inverse
    return points, ranks
