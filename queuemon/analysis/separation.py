"""How well a condition separates failing jobs from succeeding ones: counts of a two-by-two table in, figures out.

Arrays are one entry per condition. `failing` of the `jobs` that a condition selects failed; `all_failing` of
`all_jobs` did. Everything asks one side: do the selected jobs fail *more* often than the others?
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

#: Two-sided 95 % of the normal distribution.
_Z95 = 1.959963984540054


class Deviance:
    """Likelihood-ratio statistic (G², Wilks 1938) of many two-by-two tables over one set of jobs, by table look-up.

    It is twice what a model that knows the condition gains in log likelihood over one that does not, so the condition
    of the true model has the highest expected value: no cause hidden among its shadows is beaten by one of them.
    0 where the selected jobs fail no more often than the others.
    """

    def __init__(self, all_failing: int, all_jobs: int) -> None:
        k = np.arange(all_jobs + 1, dtype=np.float64)
        self._klogk = k * np.log(np.maximum(k, 1))
        self.all_failing, self.all_jobs = all_failing, all_jobs
        entropy = self._klogk
        self._whole = entropy[all_failing] + entropy[all_jobs - all_failing] - entropy[all_jobs]

    def of(self, failing: Ints, jobs: Ints) -> Floats:
        """The statistic of each condition."""
        t, out_failing, out = self._klogk, self.all_failing - failing, self.all_jobs - jobs
        inside = t[failing] + t[jobs - failing] - t[jobs]
        outside = t[out_failing] + t[out - out_failing] - t[out]
        found = 2 * (inside + outside - self._whole)
        more = failing * self.all_jobs > jobs * self.all_failing
        return np.asarray(np.where(more, found, 0.0))


def log_p(failing: int, jobs: int, all_failing: int, all_jobs: int) -> float:
    """Natural logarithm of the one-sided p of Fisher's exact test (Fisher 1935): given both margins, as many or more.

    Assumes that jobs fail independently of each other. Exact in the far tail, where normal approximations of sparse
    tables are off by orders of magnitude. 0 (p = 1) where they fail no more often than the others.
    """
    if failing * all_jobs <= jobs * all_failing:
        return 0.0
    most = min(jobs, all_failing)
    k = np.arange(failing, most + 1, dtype=np.float64)
    # Above the expectation the terms fall quickly: 5,000 of them hold all that a double can tell apart.
    k = k[:5_000]

    def choose(n: float, r: Floats) -> Floats:
        return np.asarray(gammaln(n + 1) - gammaln(r + 1) - gammaln(n - r + 1))

    rest = all_jobs - jobs
    k = k[all_failing - k <= rest]
    terms = choose(jobs, k) + choose(rest, all_failing - k)
    whole = choose(all_jobs, np.array([float(all_failing)]))[0]
    return min(0.0, float(logsumexp(terms) - whole)) if len(k) else 0.0


@dataclass(frozen=True, kw_only=True)
class Risk:
    """How often jobs fail inside and outside a condition, and their ratio with its 95 % confidence interval."""

    inside: float
    outside: float
    #: inside / outside; infinite when nothing outside failed.
    ratio: float
    low: float
    high: float


def risk(failing: int, jobs: int, all_failing: int, all_jobs: int, *, weight: float = 1.0) -> Risk:
    """The risk ratio with the log interval of Katz et al. (1978); half a job is added to each cell where one is empty.

    `weight` is how many failing jobs one of the sample stands for, per succeeding job that one stands for: with
    sides sampled apart the rates are put right by it, and the interval by the delta method (equal to Katz at 1).
    """
    cells = [failing, jobs - failing, all_failing - failing, (all_jobs - jobs) - (all_failing - failing)]
    a, b, c, d = (float(cell) for cell in cells)
    inside, outside = _rate(a, b, weight), _rate(c, d, weight)
    ratio = inside / outside if outside else math.inf
    if 0 in cells:
        a, b, c, d = a + 0.5, b + 0.5, c + 0.5, d + 0.5
    log_ratio = math.log(_rate(a, b, weight) / _rate(c, d, weight))
    error = math.sqrt(b * (a + b) / (a * (weight * a + b) ** 2) + d * (c + d) / (c * (weight * c + d) ** 2))
    low, high = math.exp(log_ratio - _Z95 * error), math.exp(log_ratio + _Z95 * error)
    return Risk(inside=inside, outside=outside, ratio=ratio, low=low, high=high if outside else math.inf)


def _rate(failing: float, succeeding: float, weight: float) -> float:
    whole = weight * failing + succeeding
    return weight * failing / whole if whole else 0.0
