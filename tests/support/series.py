"""Series of attempts and depths with known changes, and quiet ones: what the onset is judged on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Kinds of series with a planted change, and of quiet ones.
PLANTED = ("×2", "×5", "×50", "ramp", "two incidents")
QUIET = ("steady", "rare", "daily rhythm", "bursty arrivals", "clustered failures", "few attempts")
QUIET_DEPTHS = ("idle", "busy", "daily rhythm", "bursty arrivals")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Failed and finished attempts per bucket, with the buckets where the rate truly changed."""

    failed: Array
    finished: Array
    changes: tuple[int, ...]


def rates(kind: str, seed: int, *, buckets: int = 240) -> Rates:
    """A series of a kind; everything about it that the kind leaves open is drawn."""
    rng = np.random.default_rng([seed, sum(map(ord, kind))])
    base = float(np.exp(rng.uniform(np.log(0.004), np.log(0.03))))
    volume = float(np.exp(rng.uniform(np.log(60), np.log(600))))
    finished = rng.poisson(volume, buckets).astype(float)
    rate, changes = np.full(buckets, base), ()
    at = int(rng.integers(buckets // 4, 3 * buckets // 4))
    match kind:
        case "×2" | "×5" | "×50":
            rate[at:] = min(0.95, base * int(kind[1:]))
            changes = (at,)
        case "ramp":
            length = int(rng.integers(10, 40))
            factor = float(rng.uniform(8, 30))
            share = np.clip((np.arange(buckets) - at + 1) / length, 0, 1)
            rate = np.minimum(0.95, base * (1 + (factor - 1) * share))
            changes = (at,)
        case "two incidents":
            first, second = int(rng.integers(30, 70)), int(rng.integers(130, 170))
            spans = [(first, first + int(rng.integers(10, 40))), (second, second + int(rng.integers(10, 40)))]
            for start, stop in spans:
                rate[start:stop] = min(0.95, base * float(rng.uniform(5, 50)))
            changes = tuple(edge for span in spans for edge in span)
        case "rare":
            rate[:] = 0.0005
        case "daily rhythm":
            phase = rng.uniform(0, 2 * np.pi)
            finished = rng.poisson(volume * np.exp(np.cos(2 * np.pi * np.arange(buckets) / buckets + phase)))
        case "bursty arrivals":
            finished = rng.poisson(volume * rng.gamma(0.5, 2.0, buckets))
        case "clustered failures":
            rate = rng.beta(base * 30, (1 - base) * 30, buckets)
        case "few attempts":
            finished = rng.poisson(1.5, buckets)
        case _:
            pass
    finished = np.asarray(finished, dtype=float)
    failed = rng.binomial(finished.astype(int), rate).astype(float)
    return Rates(failed=failed, finished=finished, changes=changes)


def quiet_depth(kind: str, seed: int, *, minutes: int = 360) -> Array:
    """The depth of a queue at the end of each minute over six hours without incident: a served queue, simulated."""
    rng = np.random.default_rng([seed, 7, sum(map(ord, kind))])
    load = {"idle": 0.2, "busy": 0.85, "daily rhythm": 0.6, "bursty arrivals": 0.6}[kind]
    service = float(np.exp(rng.uniform(np.log(60), np.log(3_000))))
    arrivals = np.full(minutes * 6, load * service / 6)
    if kind == "daily rhythm":
        phase = rng.uniform(0, 2 * np.pi)
        arrivals *= np.exp(0.45 * np.cos(2 * np.pi * np.arange(minutes * 6) / (24 * 360) + phase))
    if kind == "bursty arrivals":
        arrivals *= rng.gamma(0.7, 1 / 0.7, minutes * 6)
    came, served = rng.poisson(arrivals), rng.poisson(service / 6, minutes * 6)
    depth, found = 0.0, []
    for n, (a, s) in enumerate(zip(came, served, strict=True)):
        depth = max(0.0, depth + a - s)
        if n % 6 == 5:
            found.append(depth)
    return np.array(found)


def planted_depth(factor: float, seed: int, *, minutes: int = 360) -> tuple[Array, int]:
    """A queue whose arrivals grow to `factor` times what is served, or whose workers stop (0), and when that began."""
    rng = np.random.default_rng([seed, 11, int(factor * 10)])
    service = float(np.exp(rng.uniform(np.log(60), np.log(3_000))))
    at = int(rng.integers(90, 270))
    depth, found = 0.0, []
    for n in range(minutes):
        broken = n >= at
        came = rng.poisson(service * (factor if broken and factor else 0.6))
        served = 0 if broken and not factor else rng.poisson(service)
        depth = max(0.0, depth + came - served)
        found.append(depth)
    return np.array(found), at
