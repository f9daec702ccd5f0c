"""Time two things in turn and print both with their ratio; medians, so that one hiccup does not decide."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def milliseconds(call: Callable[[], object], *, rounds: int, warm: int = 2) -> list[float]:
    """Durations of `rounds` calls after `warm` ones that do not count."""
    for _ in range(warm):
        call()
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        found.append((time.perf_counter() - started) * 1000)
    return found


def compare(
    name: str, ours: Callable[[], object], bare_name: str, bare: Callable[[], object], *, rounds: int = 15
) -> tuple[float, float]:
    """Median of ours and of the bare baseline, interleaved, printed as one line; returns both in ms."""
    ours()
    bare()
    mine, base = [], []
    for _ in range(rounds):
        mine += milliseconds(ours, rounds=1, warm=0)
        base += milliseconds(bare, rounds=1, warm=0)
    a, b = statistics.median(mine), statistics.median(base)
    p99 = sorted(mine)[min(len(mine) - 1, round(len(mine) * 0.99))]
    print(f"{name:<44} {a:9.2f} ms (p99 {p99:8.2f})   {bare_name:<38} {b:9.2f} ms   ratio {a / b:6.2f}", flush=True)
    return a, b
