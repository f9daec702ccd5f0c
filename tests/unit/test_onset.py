"""Changes are found where they were planted, quiet series have none, and the sentence says it with what lies before."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import numpy as np
import pytest
import ruptures

from queuemon.analysis import onset
from queuemon.analysis.segments import CountCost, LevelCost, RateCost, partition
from queuemon.analysis.timeline import Timeline, TimelinePoint
from queuemon.analysis.window import Window
from queuemon.store.timeline import Happened
from tests.support import series
from tests.support.proofs import Proof

T0 = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class _Same(ruptures.base.BaseCost):  # type: ignore[misc]
    """Our cost under ruptures' search."""

    model = "ours"
    min_size = 3
    signal = np.zeros((120, 1))

    def __init__(self, cost: Any) -> None:
        self.cost = cost

    def fit(self, _signal: Any) -> _Same:
        return self

    def error(self, start: int, end: int) -> float:
        return float(self.cost.of(np.array([start]), end)[0])


@pytest.mark.parametrize("seed", range(3))
def test_the_partition_is_the_one_that_pelt_finds(seed: int) -> None:
    made = series.rates("two incidents", seed, buckets=120)
    for cost in (
        RateCost(made.failed, made.finished),
        CountCost(made.failed),
        LevelCost(np.log(made.failed + 1)),
    ):
        search = ruptures.Pelt(custom_cost=_Same(cost), min_size=3, jump=1).fit(np.zeros((120, 1)))
        assert partition(cost, penalty=20.0) == search.predict(pen=20.0)[:-1]


def _cases(kinds: tuple[str, ...], seeds: int) -> list[str]:
    return [f"{kind} #{seed}" for kind in kinds for seed in range(seeds)]


def _parsed(case: str) -> tuple[str, int]:
    kind, _, seed = case.rpartition(" #")
    return kind, int(seed)


@pytest.mark.prove
def test_planted_changes_are_dated_within_two_buckets(proof: Proof) -> None:
    chosen = proof.chosen(_cases(series.PLANTED, 100), sample=60)
    errors: dict[str, list[float]] = {}
    for case in chosen:
        kind, seed = _parsed(case)
        made = series.rates(kind, seed)
        found = [r.start for r in onset.rates(made.failed, made.finished)]
        for change in made.changes:
            errors.setdefault(kind, []).append(min((abs(f - change) for f in found), default=999))
    for kind, list_ in errors.items():
        missed = sum(e == 999 for e in list_)
        print(f"{kind}: median error {median(list_):g} buckets of {len(list_)} changes, {missed} not found")
        assert median(list_) <= 2 or not proof.full, f"{kind}: a sample of twelve strays"
    assert median([e for list_ in errors.values() for e in list_]) <= 2


@pytest.mark.prove
def test_the_depth_is_dated_where_it_begins_to_grow(proof: Proof) -> None:
    errors = []
    for case in proof.chosen(_cases(("1.2", "2", "5", "0"), 50), sample=24):
        factor, seed = _parsed(case)
        depth, at = series.planted_depth(float(factor), seed)
        found = [r.start for r in onset.depths(depth, bucket_seconds=60)]
        errors.append(min((abs(f - at) for f in found), default=999))
    print(f"depth: median error {median(errors):g} buckets of {len(errors)}, {sum(e == 999 for e in errors)} not found")
    assert median(errors) <= 2


@pytest.mark.prove
def test_quiet_data_have_no_change(proof: Proof) -> None:
    cases = _cases(series.QUIET, 100) + _cases(tuple(f"depth {k}" for k in series.QUIET_DEPTHS), 100)
    found, total = Counter[str](), Counter[str]()
    for case in proof.chosen(cases, sample=120):
        kind, seed = _parsed(case)
        total[kind] += 1
        if kind.startswith("depth "):
            depth = series.quiet_depth(kind.removeprefix("depth "), seed)
            found[kind] += bool(onset.depths(depth, bucket_seconds=60))
        else:
            made = series.rates(kind, seed)
            found[kind] += bool(onset.rates(made.failed, made.finished))
    for kind, n in total.items():
        print(f"quiet, {kind}: {found[kind]} of {n} report a change")
    assert found.total() <= 0.05 * total.total()
    if proof.full:
        assert all(found[kind] <= 0.05 * n for kind, n in total.items())


def _timeline(failed: list[int], depth: list[int], *happened: Happened) -> Timeline:
    points = tuple(
        TimelinePoint(at=T0 + n * MINUTE, depth=d, started=200, completed=200 - f, failed=f)
        for n, (f, d) in enumerate(zip(failed, depth, strict=True))
    )
    end = T0 + len(points) * MINUTE
    return Timeline(
        window=Window(since=T0, until=end), bucket_seconds=60, depth_before=0, points=points, by_queue=(),
        happened=happened, clock=end,
    )  # fmt: skip


def _deploy(minute: float, name: str = "2026.10.3", kind: str = "deploy") -> Happened:
    return Happened(at=T0 + minute * MINUTE, kind=kind, target=name, actor="ci", why="")


def test_the_sentence_says_what_changed_when_and_after_which_deploy() -> None:
    failed = [1, 0, 1, 1, 1] * 24 + [74] * 60
    found = onset.find(
        _timeline(failed, [3] * 180, _deploy(118), _deploy(119.5, "mail", "scale"), _deploy(121, "mail", "pause"))
    )
    assert found.sentences == ("failures rose from 0.4 % to 37 % at 14:00, 2 min after deploy 2026.10.3",)
    change = found.changes[0]
    assert [h.target for h in change.near] == ["2026.10.3", "mail"], "the pause is a reaction"
    assert change.rose
    assert found.to_frame()["what"].tolist() == ["failure rate"]


def test_a_deploy_within_the_first_bucket_lies_just_before() -> None:
    found = onset.find(_timeline([1] * 60 + [90] * 60, [0] * 120, _deploy(60.3), _deploy(10, "earlier")))
    assert found.changes[0].beside == "just after deploy 2026.10.3"


def test_a_time_in_a_window_of_days_has_its_date_and_says_no_more_than_its_buckets_know() -> None:
    def told(bucket_seconds: int, minutes: float) -> str:
        return onset.Change(
            what="depth", at=T0, settled=T0, before=385, after=0, bucket_seconds=bucket_seconds, dated=True,
            near=(_deploy(-minutes),),
        ).sentence  # fmt: skip

    on = f"the depth fell from 385 to 0 at {T0:%d %b} 12:00"
    assert told(4 * 3_600, 2) == told(4 * 3_600, -81) == told(3_600, 59) == f"{on}, around deploy 2026.10.3"
    assert told(3_600, 61) == f"{on}, 1 h 1 min after deploy 2026.10.3"
    assert told(60, 0.5) == f"{on}, just after deploy 2026.10.3"


def test_a_backlog_is_told_with_its_peak_and_its_end() -> None:
    depth = [2] * 60 + [100 * n for n in range(1, 31)] + [3000 - 150 * n for n in range(1, 20)] + [2] * 60
    found = onset.find(_timeline([1] * len(depth), depth))
    assert found.sentences == (
        "the depth rose from 2 to 3,000 at 13:00",
        "the depth fell from 3,000 to 2 at 13:29",
    )


def test_a_slow_rise_is_told_with_its_end() -> None:
    failed = [1] * 60 + [1 + 2 * n for n in range(40)] + [80] * 60
    [change] = onset.find(_timeline(failed, [0] * 160)).changes
    assert abs(change.at - (T0 + 60 * MINUTE)) <= 4 * MINUTE
    assert change.settled - change.at >= 20 * MINUTE
    assert " from 13:0" in change.sentence
    assert " to 13:" in change.sentence


def test_nothing_is_found_where_nothing_is() -> None:
    assert onset.find(_timeline([], [])).changes == ()
    assert onset.find(_timeline([0] * 60, [0] * 60)).sentences == ("no change of failure rate or depth",)


def test_minutes_in_which_nothing_finished_do_not_date_a_change() -> None:
    made = _timeline([1] * 60 + [0] * 3 + [90] * 30, [0] * 93, _deploy(63.5))
    idle = tuple(replace(p, started=0, completed=0) if 60 <= n < 63 else p for n, p in enumerate(made.points))
    [change] = onset.find(replace(made, points=idle)).changes
    assert change.at == T0 + 63 * MINUTE
    assert change.beside == "just after deploy 2026.10.3"


def test_a_rate_is_told_while_its_first_minute_still_runs() -> None:
    made = _timeline([1] * 60 + [90], [0] * 61)
    running = replace(made, clock=made.clock - MINUTE / 2)
    assert [c.at for c in onset.find(running).changes] == [T0 + 60 * MINUTE]


def test_a_deploy_stands_beside_one_change_and_not_beside_what_follows() -> None:
    found = onset.find(_timeline([1] * 60 + [90] * 10 + [1] * 40, [0] * 110, _deploy(59)))
    assert [(c.rose, c.beside) for c in found.changes] == [(True, "1 min after deploy 2026.10.3"), (False, "")]
