"""When will a backlog be gone: from what came and went in the last minutes, with its uncertainty.

Source: the backlog as a Brownian motion with drift (the heavy-traffic approximation of a queue, Kingman 1961; its first
passage to zero is the inverse Gaussian, Folks and Chhikara 1978), whose drift is not known but drawn from the Student
posterior of the measured rates; paths between grid points cross by the Brownian bridge. Variances are long-run ones
(Newey and West 1987), so bursts widen the interval. Arrivals follow the rhythm of the past days where it is known.
Assumptions: after the last change that is found in the minutes before, conditions stay; workers are busy while there is
a backlog, and N workers do N times what one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from queuemon.analysis.segments import Array, CountCost, partition

if TYPE_CHECKING:
    import pandas as pd

#: Minutes that are looked at, and the fewest after a change that a forecast is made from.
LOOK_BACK: Final = 120
FEWEST: Final = 5

#: How far a forecast looks; what is not gone by then in 19 of 20 paths is "never".
HORIZON: Final = timedelta(hours=24)
NEVER: Final = 0.05

#: The interval holds the truth with this probability.
COVERAGE: Final = 0.90

#: Paths that are drawn, always with the same dice.
PATHS: Final = 2_000
SEED: Final = 20_261_103

#: A guarded factor on the uncertainty of the rates: the minutes after a change are chosen by looking at them.
CAUTION: Final = 1.15


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """When the backlog is gone, with so many workers."""

    #: None: as it is now.
    workers: int | None
    service_per_second: float
    #: The 90 % interval and its middle; None where that is beyond a day.
    earliest: datetime | None
    likely: datetime | None
    latest: datetime | None
    #: Chance that it is gone within a day.
    chance: float

    @property
    def never(self) -> bool:
        """Whether it does not clear within a day, whatever luck brings."""
        return self.chance < NEVER


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What becomes of a queue's backlog."""

    queue: str
    clock: datetime
    depth: int
    arrivals_per_second: float
    service_per_second: float
    #: Workers that serve it, by what each of them did; None where no attempt shows it.
    workers: float | None
    #: Conditions have stayed the same since then, as far as the minutes show.
    since: datetime
    paused: bool
    #: As it is now, then with other numbers of workers.
    outlooks: tuple[Outlook, ...] = field(default=())
    #: Numbers of workers that were asked about and cannot be compared: no attempt shows who serves the queue now.
    uncompared: tuple[int, ...] = ()

    @property
    def sentence(self) -> str:
        """ "clears 14:20–14:50 at the present rate; with 8 workers 14:05–14:15; never with 2 (arrivals 41/s > …)"."""
        if not self.depth:
            return "nothing waits"
        if self.paused:
            return f"{self.depth:,} wait and the queue is paused: it clears once it is resumed"
        told = [self.told(o) for o in self.outlooks]
        if self.uncompared:
            numbers = " or ".join(f"{n:,}" for n in self.uncompared)
            told.append(f"with {numbers} workers not known, since no attempt shows who serves it now")
        return "; ".join(told)

    def told(self, o: Outlook) -> str:
        """One outlook in words."""
        who = (
            "at the present rate"
            if o.workers is None
            else f"with {o.workers}{' workers' if o.workers != 1 else ' worker'}"
        )
        if o.never:
            sign = ">" if self.arrivals_per_second >= o.service_per_second else "too close to"
            return (
                f"never {who} (arrivals {_rate(self.arrivals_per_second)} {sign} service {_rate(o.service_per_second)})"
            )
        first = self._time(o.earliest)
        if o.latest is None:
            return f"clears {who} at {first} at the earliest, perhaps not within a day"
        span = first if self._time(o.latest) == first else f"{first}–{self._time(o.latest)}"
        return f"clears {span} {who}" if o.workers is None else f"{who} {span}"

    def _time(self, at: datetime | None) -> str:
        if at is None:
            return "?"
        return f"{at:%H:%M}" if at - self.clock < timedelta(hours=18) else f"{at:%a %H:%M}"

    def to_frame(self) -> pd.DataFrame:
        """One row per outlook."""
        from dataclasses import asdict

        import pandas as pd

        return pd.DataFrame([asdict(o) | {"never": o.never} for o in self.outlooks])


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What came and went per minute under the present conditions."""

    came: Array
    went: Array

    @property
    def minutes(self) -> int:
        """How many minutes it rests on."""
        return len(self.came)


def present(came: Sequence[float], went: Sequence[float]) -> Flow:
    """The minutes since arrivals or service last changed; at least the last five, at most 120. The last one is over."""
    a, s = (np.asarray(x[-LOOK_BACK:], dtype=np.float64) for x in (came, went))
    changes = [*partition(CountCost(a)), *partition(CountCost(s))]
    first = min(max(changes, default=0), max(0, len(a) - FEWEST))
    return Flow(came=a[first:], went=s[first:]) if len(a) else Flow(came=np.zeros(1), went=np.zeros(1))


def cleared(
    depth: int, flow: Flow, *, speed: float = 1.0, rhythm: Array | None = None, seed: int = SEED
) -> tuple[float | None, float | None, float | None, float]:
    """Minutes until the backlog is gone: (5 %, 50 %, 95 % quantile, chance within a day); None beyond a day.

    `speed` multiplies the service. `rhythm` is the factor on the arrivals in each of the next 48 half hours.
    2,000 paths on a grid of about 600 times take about 0.1 s.
    """
    if depth <= 0:
        return 0.0, 0.0, 0.0, 1.0
    rng, horizon = np.random.default_rng(seed), HORIZON.total_seconds() / 60
    arrivals, noise_in = _drawn(flow.came, rng)
    service, noise_out = _drawn(flow.went, rng)
    factors = np.ones(48) if rhythm is None else rhythm
    level, alive = np.full(PATHS, float(depth)), np.ones(PATHS, dtype=bool)
    gone = np.full(PATHS, np.inf)
    at = 0.0
    while at < horizon and alive.any():
        step = max(0.05, 0.01 * at)
        factor = float(factors[min(47, int(at // 30))])
        variance = (noise_in * factor + noise_out * speed) * step
        before = level
        level = before + (arrivals * factor - service * speed) * step + np.sqrt(variance) * rng.standard_normal(PATHS)
        with np.errstate(over="ignore", invalid="ignore"):
            between = np.exp(-2.0 * np.maximum(before, 0) * np.maximum(level, 0) / variance)
        crossed = alive & ((level <= 0) | (rng.random(PATHS) < between))
        gone[crossed] = at + step / 2
        alive &= ~crossed
        at += step
    tail = (1 - COVERAGE) / 2
    early, middle, late = np.quantile(gone, (tail, 0.5, 1 - tail), method="higher")
    chance = float(np.isfinite(gone).mean())
    low, mid, high = (float(q) if np.isfinite(q) else None for q in (early, middle, late))
    return low, mid, high, chance


def _drawn(per_minute: Array, rng: np.random.Generator) -> tuple[Array, float]:
    """Rates per minute as they may truly be, and the variance of one minute."""
    n, mean = len(per_minute), float(per_minute.mean())
    variance = max(_long_run_variance(per_minute), mean, 1e-9)
    freedom = max(2, n - 1)
    spread = np.sqrt(variance / n * CAUTION) * rng.standard_t(freedom, PATHS)
    return np.maximum(0.0, mean + spread), variance


def _long_run_variance(values: Array) -> float:
    """Variance that sums of the series grow by: with the correlation of neighbours, where there are enough of them."""
    n = len(values)
    if n < 3:
        return 0.0
    left = values - values.mean()
    plain = float(left @ left) / (n - 1)
    lags = int(n ** (1 / 3)) if n >= 10 else 0
    total = plain
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * float(left[lag:] @ left[:-lag]) / (n - 1)
    return max(total, 0.7 * plain)


def crew(ended: Sequence[int]) -> float | None:
    """How many workers serve a queue, from what each of them ended there: one who does half as much counts half."""
    if not ended or max(ended) < 3:
        return None
    most = float(np.quantile(np.asarray(ended, dtype=np.float64), 0.9, method="higher"))
    return float(sum(min(1.0, n / most) for n in ended))


def rhythm(half_hours: Sequence[float], *, days: int) -> Array | None:
    """The factor on the arrivals in each of the next 48 half hours, from the counts of the last `days` whole days, the
    oldest first, ending now. None where a day or its counts are missing: then arrivals are taken to stay.
    """
    counts = np.asarray(half_hours, dtype=np.float64)
    if days < 1 or len(counts) != 48 * days or counts.reshape(days, 48).sum(axis=1).min() < 500:
        return None
    # The median day: an incident on one of several does not shape the next.
    day = np.median(counts.reshape(days, 48), axis=0)
    padded = np.concatenate([day[-2:], day, day[:2]])
    smooth = np.convolve(padded, np.ones(5) / 5, "valid")
    now = max((smooth[-1] + smooth[0]) / 2, 1e-9)
    factors: Array = np.clip(smooth / now, 0.05, 20.0)
    return factors


def forecast(
    queue: str,
    depth: int,
    came: Sequence[float],
    went: Sequence[float],
    *,
    clock: datetime,
    workers: float | None = None,
    others: Sequence[int] = (),
    rhythm: Array | None = None,
    paused: bool = False,
) -> Forecast:
    """The outlook of a backlog as it is, and with other numbers of workers, from what came and went per whole minute.

    Numbers of workers that cannot be compared, since no attempt shows who serves the queue now, are named as such.
    """
    flow = present(came, went)
    plans: list[tuple[int | None, float]] = [(None, 1.0)]
    if workers:
        plans += [(n, n / workers) for n in others]
    outlooks = []
    for n, speed in plans:
        early, middle, late, chance = cleared(depth, flow, speed=speed, rhythm=rhythm)
        times = [None if m is None else clock + timedelta(minutes=m) for m in (early, middle, late)]
        outlooks.append(
            Outlook(
                workers=n, service_per_second=float(flow.went.mean()) * speed / 60, earliest=times[0], likely=times[1],
                latest=times[2], chance=chance,
            )
        )  # fmt: skip
    return Forecast(
        queue=queue,
        clock=clock,
        depth=depth,
        arrivals_per_second=float(flow.came.mean()) / 60,
        service_per_second=float(flow.went.mean()) / 60,
        workers=workers,
        since=clock - timedelta(minutes=flow.minutes),
        paused=paused,
        outlooks=tuple(outlooks),
        uncompared=() if workers else tuple(others),
    )


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:,.1f}/s"
