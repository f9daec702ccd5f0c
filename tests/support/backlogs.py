"""Simulated backlogs with their true end: what the drain forecast is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

KINDS = ("steady", "bursty", "daily rhythm", "workers added")
#: Steps per minute of the simulation.
STEPS = 6
DAY = 24 * 60


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """A queue at the moment of the forecast, and what became of it."""

    depth: int
    came: Array
    went: Array
    #: Arrivals of the half hours of the days before, and how many days.
    half_hours: Array
    days: int
    #: Minutes until nothing waited; None when that took longer than a day.
    truth: float | None


def backlog(kind: str, seed: int, *, clears: bool = True) -> Backlog:
    """A backlog that an outage or a surge has left, seen 8 to 45 minutes after the last change of conditions."""
    for attempt in range(100):
        rng = np.random.default_rng([seed, attempt, sum(map(ord, kind))])
        made = _life(kind, rng, clears)
        if made is not None:
            return made
    raise AssertionError("no backlog was left at the moment of the forecast")


def _life(kind: str, rng: np.random.Generator, clears: bool) -> Backlog | None:
    service = float(np.exp(rng.uniform(np.log(60), np.log(3_000))))
    load = float(rng.uniform(0.3, 0.92)) if clears else float(rng.uniform(1.15, 2.0))
    days = 3
    now = days * DAY
    phase, swing = rng.uniform(0, 2 * np.pi), (0.5 if kind == "daily rhythm" else 0.0)
    shape = float(rng.uniform(0.7, 4.0))

    def rate(minute: Array) -> Array:
        rhythm = np.exp(swing * np.cos(2 * np.pi * minute / DAY + phase))
        here = np.exp(swing * np.cos(2 * np.pi * now / DAY + phase))
        return np.asarray(load * service * rhythm / here)

    seen = int(rng.integers(8, 45))
    before = int(rng.integers(20, 60))
    trouble = float(rng.uniform(10, 60))
    start = now - seen - before
    minutes = np.arange(start, now + DAY, dtype=float)
    arrivals = rate(minutes)
    if kind == "bursty":
        arrivals *= rng.gamma(shape, 1 / shape, len(minutes))
    capacity = np.full(len(minutes), service)
    if kind == "workers added":
        capacity[:before] = service / float(rng.uniform(1.6, 3.0))
    depth = service * trouble * (1 - min(load, 0.9)) + 0.0
    came, went, truth = np.zeros(before + seen), np.zeros(before + seen), None
    left = 0.0
    for m in range(len(minutes)):
        a = rng.poisson(arrivals[m] / STEPS, STEPS)
        s = rng.poisson(capacity[m] / STEPS, STEPS)
        for i in range(STEPS):
            served = min(depth + a[i], s[i])
            depth += a[i] - served
            if m < len(came):
                came[m] += a[i]
                went[m] += served
            elif depth <= 0:
                truth = m - len(came) + (i + 0.5) / STEPS
                break
        if truth is not None:
            break
        if m == len(came) - 1:
            left = depth
        if m < len(came) and depth <= 0:
            return None  # gone before anybody asked
    past: Any = rate(np.arange(0, now, 30, dtype=float)) * 30
    return Backlog(
        depth=int(left), came=came, went=went, half_hours=rng.poisson(past).astype(float), days=days, truth=truth
    )
