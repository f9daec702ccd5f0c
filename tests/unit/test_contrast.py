"""The contrast finds planted causes, is silent where there is none, and says exactly which jobs it means."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact
from scipy.stats.contingency import relative_risk

from queuemon.analysis import contrast
from queuemon.analysis.attributes import MAX_MEMBERS, MAX_VALUES, Column, Measure
from queuemon.analysis.contrast import explain
from queuemon.analysis.intervals import Scale, between, edges
from queuemon.analysis.separation import Deviance, log_p, risk
from queuemon.filters import JobFilter
from tests.support.planted import (
    CAUSES,
    NO_CAUSE,
    NOW,
    World,
    among_shadows,
    columns,
    found_first,
    later,
    ordinary,
    planted,
    selected,
    without_cause,
)
from tests.support.proofs import Proof

# -------------------------------------------------------------------------------------------------------------- proofs


@pytest.mark.prove
@pytest.mark.timeout(3_600)
def test_the_planted_cause_is_found_first(proof: Proof) -> None:
    seeds = range(20) if proof.full else [proof.seed]
    for name in [*CAUSES, "among 40 shadows"]:
        missed = []
        for seed in seeds:
            world = among_shadows(seed) if name == "among 40 shadows" else planted(name, seed)
            answer = explain(world.failed, columns(world.payloads))
            # The bounds of a range are estimated; a value is met exactly or not at all.
            if not found_first(world, answer, at_least=0.9 if "range" in name or "threshold" in name else 1.0):
                missed.append((seed, [f.filter for f in answer.findings]))
        print(f"{name}: first in {len(seeds) - len(missed)} of {len(seeds)}")
        assert len(missed) <= 0.05 * len(seeds), (name, missed)


@pytest.mark.prove
@pytest.mark.timeout(3_600)
def test_nothing_is_found_where_nothing_is(proof: Proof) -> None:
    seeds = range(100) if proof.full else range(proof.seed, proof.seed + 3)
    found = {
        (kind, seed): [f.filter for f in answer.findings]
        for kind in NO_CAUSE
        for seed in seeds
        for world in [without_cause(kind, seed)]
        for answer in [explain(world.failed, columns(world.payloads))]
        if answer.findings
    }
    tried = len(NO_CAUSE) * len(seeds)
    print(f"false findings in {len(found)} of {tried}: {found}")
    assert len(found) <= 0.05 * tried, found


@pytest.mark.prove
def test_a_filter_selects_exactly_the_jobs_that_were_counted(proof: Proof) -> None:
    for seed in range(20) if proof.full else [proof.seed]:
        for name in CAUSES:
            world = planted(name, seed, jobs=1_500)
            for finding in explain(world.failed, columns(world.payloads)).findings:
                mask = selected(finding.filter, world.payloads)
                assert (int(mask.sum()), int(world.failed[mask].sum())) == (finding.jobs, finding.failing), finding


# ------------------------------------------------------------------------------------------------------------- answers


def test_what_only_goes_along_with_the_cause_is_named_beside_it() -> None:
    world = among_shadows(3, jobs=3_000)
    answer = explain(world.failed, columns(world.payloads))
    assert len(answer.findings) == 1, [f.filter for f in answer.findings]
    beside = answer.findings[0].companions
    assert [round(c.correlation, 1) for c in beside] == [0.9, 0.9, 0.9]


def test_two_attributes_that_say_the_same_are_one_finding_and_its_companion() -> None:
    rng = np.random.default_rng(1)
    payloads: list[dict[str, Any]] = [
        {"campaign": f"c{n}", "template": f"t{n}", "other": int(rng.integers(5))} for n in rng.integers(0, 8, 2_000)
    ]
    failed = np.array([p["campaign"] == "c3" for p in payloads]) & (rng.random(2_000) < 0.8)
    (finding,) = explain(failed, columns(payloads)).findings
    assert {finding.filter, finding.companions[0].filter} == {"payload.campaign=c3", "payload.template=t3"}
    assert finding.companions[0].correlation == pytest.approx(1.0)
    assert finding.risk.ratio == math.inf
    assert finding.risk.low > 100


def test_it_says_that_nothing_separates_them() -> None:
    world = without_cause("ordinary", 1)
    answer = explain(world.failed, columns(world.payloads))
    assert answer.verdict.startswith(f"Nothing separates the {world.failed.sum():,} failing jobs from the ")
    assert answer.covered == 0


@pytest.mark.parametrize("failed", [[], [True] * 30, [False] * 30, [True] * 4 + [False] * 4])
def test_too_few_jobs_on_a_side_explain_nothing(failed: list[bool]) -> None:
    answer = explain(np.array(failed, dtype=bool), columns([{"a": bool(f)} for f in failed]))
    assert answer.findings == ()
    assert answer.verdict


def test_values_that_no_two_jobs_share_are_no_conditions() -> None:
    rng = np.random.default_rng(1)
    payloads: list[dict[str, Any]] = [{"id": f"k{n:x}", "same": "x"} for n in range(2_000)]
    answer = explain(rng.random(2_000) < 0.3, columns(payloads))
    assert (answer.findings, answer.tested) == ((), 0)


def test_of_many_values_and_members_those_are_looked_at_that_most_failing_jobs_hold() -> None:
    rng = np.random.default_rng(1)
    kinds = rng.integers(0, 3 * MAX_VALUES, 30_000)
    payloads: list[dict[str, Any]] = [
        {"kind": f"k{k}", "tags": [f"t{t}" for t in range(k % (2 * MAX_MEMBERS), 2 * MAX_MEMBERS)]} for k in kinds
    ]
    failed = (kinds == 150) & (rng.random(30_000) < 0.9)
    answer = explain(failed, columns(payloads))
    assert answer.findings[0].filter == "payload.kind=k150"
    assert answer.tested > 3 * MAX_VALUES + 2 * MAX_MEMBERS, "those that are not looked at are paid for"


@pytest.mark.parametrize(
    ("bad", "good", "expected"),
    [
        ("17", "18", "payload.x=17"),
        (17, "18", "payload.x=17"),
        ("true", True, None),  # the language cannot tell them apart: neither does the answer
        ("", "full", "payload.x=''"),
        ("null", "full", "payload.x=null"),
        (None, "full", "payload.x=null"),
        ("it's \u202e", "full", r"payload.x='it\'s \u202e'"),
        ("1.50", "1.5", "payload.x='1.50'"),
        ("y" * 300, "full", None),  # too long to name, but its opposite is not worth naming
        ({"a": 1}, "full", "payload.x.a=1"),
    ],
)
def test_a_value_is_named_as_the_filter_language_reads_it(bad: Any, good: Any, expected: str | None) -> None:
    payloads: list[dict[str, Any]] = [{"x": bad if n % 4 == 0 else good} for n in range(400)]
    failed = np.arange(400) % 4 == 0
    answer = explain(failed, columns(payloads))
    named = [f.filter for f in answer.findings] + [c.filter for f in answer.findings for c in f.companions]
    assert named == [] if expected is None else expected in named, named
    for finding in answer.findings:
        assert (selected(finding.filter, payloads) == failed).all()


def test_numbers_in_strings_count_as_the_filter_compares_them() -> None:
    rng = np.random.default_rng(1)
    numbers = rng.integers(0, 10_000, 3_000)
    payloads: list[dict[str, Any]] = [{"n": str(n) if n % 2 else int(n)} for n in numbers]
    world = World(payloads=payloads, failed=numbers >= 9_000, causes=[numbers >= 9_000])
    answer = explain(world.failed, columns(payloads))
    assert answer.findings[0].filter == "payload.n>=9000"
    assert found_first(world, answer, at_least=1.0)


def test_fractions_that_a_double_cannot_tell_apart_fall_on_the_same_side_as_in_postgresql() -> None:
    tail = [f"0.{n:04d}99999999999999999999" for n in range(1_000)]
    column = Column(field="payload", path=("x",), codes=np.arange(1_000), texts=tail)
    (finding,) = explain(np.arange(1_000) >= 700, [column]).findings
    bound = Decimal(finding.filter.removeprefix("payload.x>="))
    assert [Decimal(text) >= bound for text in tail] == [n >= 700 for n in range(1_000)]


def test_clocks_workers_and_deploys_are_conditions_too() -> None:
    rng = np.random.default_rng(2)
    started = NOW.timestamp() + rng.integers(0, 7_200, 4_000)
    waited = np.floor(rng.exponential(60_000, 4_000))
    workers = rng.integers(0, 6, 4_000)
    given_columns = [
        Measure(field="started", values=started.astype(float), scale=Scale.MOMENT),
        Measure(field="wait", values=waited, scale=Scale.SPAN),
        Column(field="worker", codes=workers, texts=[f'"w{n}"' for n in range(6)]),
    ]
    marks = [("2026.10.2", later(-86_400)), ("2026.10.3", later(3_600)), ("2026.10.4", later(5_400))]
    since = started - NOW.timestamp()
    chance = rng.random(4_000)
    for failed, text, label in (
        (
            (since >= 3_600) & (since < 5_400),
            "started>=2026-11-24T15:03:05 started<2026-11-24T15:33:05",
            "deploy 2026.10.3",
        ),
        (waited >= 120_000, "wait>=2m", ""),
        (workers == 4, "worker:w4", ""),
    ):
        answer = explain(failed & (chance < 0.9), given_columns, deploy_marks=marks)
        assert (answer.findings[0].filter, answer.findings[0].label) == (text, label)
        assert not answer.findings[0].exact, "the filter asks the last attempt"


def test_sides_that_were_sampled_apart_get_their_rates_back() -> None:
    whole, sampled = risk(90, 1_090, 100, 11_000), risk(90, 190, 100, 1_190, weight=0.1)
    assert sampled.inside == pytest.approx(whole.inside)
    assert sampled.ratio == pytest.approx(whole.ratio)
    assert sampled.high > whole.high, "a sample knows less"


def test_nothing_says_more_than_the_whole_level_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    world = without_cause("ordinary", 1)
    monkeypatch.setattr(contrast, "ALPHA", 1e9)
    monkeypatch.setattr(contrast, "MIN_RISK_RATIO", 1.0)
    assert explain(world.failed, columns(world.payloads)).findings, "without the level, chance is found"


# ---------------------------------------------------------------------------------------------------------- statistics


@given(st.integers(2, 3_000), st.data())
def test_the_exact_test_is_fisher_s(jobs: int, data: st.DataObject) -> None:
    inside = data.draw(st.integers(1, jobs - 1))
    all_failing = data.draw(st.integers(1, jobs - 1))
    failing = data.draw(st.integers(max(0, inside + all_failing - jobs), min(inside, all_failing)))
    rest = all_failing - failing
    table = [[failing, inside - failing], [rest, jobs - inside - rest]]
    expected = float(fisher_exact(table, alternative="greater").pvalue)
    found = math.exp(log_p(failing, inside, all_failing, jobs))
    if failing * jobs > inside * all_failing:
        assert found == pytest.approx(expected, rel=1e-6)
    else:
        assert found == 1.0


def test_the_exact_test_knows_ps_that_no_double_holds() -> None:
    assert log_p(60_000, 80_000, 70_000, 200_000) == pytest.approx(-50_087.093, abs=0.01)


def test_the_risk_ratio_and_its_interval_are_those_of_katz() -> None:
    expected = relative_risk(30, 100, 10, 200)
    interval = expected.confidence_interval(0.95)
    found = risk(30, 100, 40, 300)
    assert (found.ratio, found.low, found.high) == pytest.approx((expected.relative_risk, interval.low, interval.high))


def test_the_statistic_is_the_likelihood_ratio_and_one_sided() -> None:
    from scipy.stats import chi2_contingency

    table = [[30, 70], [10, 190]]
    expected = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
    found = Deviance(40, 300).of(np.array([30, 10]), np.array([100, 200]))
    assert found[0] == pytest.approx(expected)
    assert found[1] == 0.0


# ----------------------------------------------------------------------------------------------------------- intervals


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_a_bound_lies_strictly_between_two_numbers(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if np.nextafter(np.nextafter(low, high), high) < high:
        assert low < float(between(low, high, Scale.NUMBER)) < high


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**9), st.sampled_from([Scale.WHOLE, Scale.SPAN, Scale.MOMENT]))
def test_a_bound_of_whole_numbers_belongs_to_the_upper_one(low: int, gap: int, scale: Scale) -> None:
    assert low < between(float(low), float(low + gap), scale) <= low + gap


@pytest.mark.parametrize(
    ("low", "high", "scale", "expected"),
    [
        (9, 10, Scale.WHOLE, 10),
        (4_712, 5_391, Scale.WHOLE, 5_000),
        (-7, -3, Scale.WHOLE, -5),
        (0.8071, 0.8079, Scale.NUMBER, Decimal("0.8075")),
        (55_000, 61_000, Scale.SPAN, 60_000),
    ],
)
def test_a_bound_is_round(low: float, high: float, scale: Scale, expected: Decimal | int) -> None:
    assert between(low, high, scale) == expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=300), st.integers(2, 20))
def test_bins_hold_about_the_same_number_of_jobs(counts: list[int], bins: int) -> None:
    given_counts = np.array(counts)
    found = edges(given_counts, bins)
    assert (found[0], found[-1]) == (0, len(counts))
    assert (np.diff(found) > 0).all()
    share = given_counts.sum() / bins
    held = np.add.reduceat(given_counts, found[:-1])
    assert ((held <= share + 50) | (np.diff(found) == 1)).all()


def test_an_answer_is_a_frame_too() -> None:
    world = planted("two causes", 1)
    frame = explain(world.failed, columns(world.payloads)).to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["failing"]) == sorted(frame["failing"], reverse=True) or len(frame) == 2
    assert JobFilter.parse(frame["filter"][0])


def test_the_same_jobs_in_another_order_give_the_same_answer() -> None:
    rng = np.random.default_rng(5)
    payloads = ordinary(rng, 1_500)
    failed = np.array([p["plan"] == "team" for p in payloads]) & (rng.random(1_500) < 0.6)
    order = rng.permutation(1_500)
    one = explain(failed, columns(payloads))
    two = explain(failed[order], columns([payloads[n] for n in order]))
    assert one.findings == two.findings
