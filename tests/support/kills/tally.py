"""The sums over verdicts, for printing: kills, what was lost or doubled at each level, how long the healing took."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tests.support.kills.case import Name, Verdict
from tests.support.kills.workers import LEVELS


def table(verdicts: Sequence[Verdict]) -> str:
    """A row per level of the workers."""
    rows = [
        f"{'workers':<8}{'cases':>7}{'kills':>7}{'at random':>11}{'of recovery':>13}{'points':>8}{'lost':>6}"
        f"{'doubled':>9}{'unexpected':>12}{'agree again, ms: p50':>22}{'p99':>7}"
    ]
    for level in [*LEVELS, "all"]:
        some = [v for v in verdicts if level in ("all", Name.of(v.case).level)]
        if not some:
            continue
        times = sorted(v.converged_ms for v in some if v.converged_ms is not None)
        kills = sum(v.kills for v in some)
        struck = [v for v in some if v.kills]
        random = sum(1 for v in struck if Name.of(v.case).point.startswith("random-"))
        points = {re.sub(r"^\S+ ", "", p) for v in some for p in v.points}
        p50, p99 = (f"{_percentile(times, share):,.0f}" if times else "-" for share in (0.5, 0.99))
        rows.append(
            f"{level:<8}{len(some):>7,}{kills:>7,}{random:>11,}{kills - len(struck):>13,}{len(points):>8,}"
            f"{sum(len(v.lost) for v in some):>6,}{sum(len(v.duplicated) for v in some):>9,}"
            f"{sum(len(v.unexpected) for v in some):>12,}{p50:>22}{p99:>7}"
        )
    return "\n".join(rows)


def by_scene(verdicts: Sequence[Verdict]) -> str:
    """A row per action and duty: how many kills, and at how many different boundaries."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(Name.of(verdict.case).scene, []).append(verdict)
    rows = [f"{'':<20}{'kills':>7}{'boundaries':>12}"]
    for scene, some in found.items():
        places = {point.partition(" ")[2] for v in some for point in v.points}
        rows.append(f"{scene:<20}{sum(v.kills for v in some):>7,}{len(places):>12,}")
    return "\n".join(rows)


def causes(verdicts: Sequence[Verdict]) -> str:
    """What happened to L0 workers that a claim would have refused, by cause."""
    found = Counter(line.partition(" ")[2] for v in verdicts for line in v.explained)
    return "\n".join(f"{n:>7,} × {cause}" for cause, n in found.most_common())


def control(name: str, verdicts: Sequence[Verdict]) -> str:
    """What a negative control did."""
    bad = [v for v in verdicts if v.lost or v.duplicated or v.unexpected]
    lost, doubled, again = (
        sum(len(getattr(v, what)) for v in verdicts) for what in ("lost", "duplicated", "unexpected")
    )
    return (
        f"{name}: {sum(v.kills for v in verdicts):,} kills; {lost:,} jobs lost, {doubled:,} doubled, "
        f"{again:,} things unexpected, in {len(bad):,} of {len(verdicts):,} cases"
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
