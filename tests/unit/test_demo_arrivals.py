"""The live producer's timetable, and the payloads and faults it draws from."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from random import Random

import pytest

from queuemon.demo import faults, payloads
from queuemon.demo.queues import ANALYTICS, EMAIL, QUEUES
from queuemon.demo.workload import LATE_SECONDS, Arrivals

AT = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)


def _count(arrivals: Arrivals, start: float, seconds: float) -> dict[str, int]:
    total: dict[str, int] = {}
    for tick in range(1, round(seconds * 10) + 1):
        for queue, n in arrivals.due(start + tick / 10).items():
            total[queue] = total.get(queue, 0) + n
    return total


def test_arrivals_keep_their_rates() -> None:
    arrivals = Arrivals({"fast": 25.0, "slow": 0.15, "none": 0.0}, Random(7), 0.0)
    found = _count(arrivals, 0.0, 400)
    assert found["fast"] == pytest.approx(10_000, rel=0.03)
    assert found["slow"] == pytest.approx(60, abs=4)
    assert "none" not in found


def test_the_quietest_queue_moves_every_ten_seconds() -> None:
    slowest = min(q.rate for q in QUEUES)
    arrivals = Arrivals({"slow": slowest}, Random(7), 0.0)
    assert all(_count(arrivals, start, 10) for start in range(0, 1_000, 10))


def test_changed_rates_hold_from_then_on() -> None:
    arrivals = Arrivals({"a": 1.0, "b": 1.0}, Random(7), 0.0)
    _count(arrivals, 0.0, 10)
    arrivals.set_rates({"a": 50.0, "b": 0.0}, 10.0)
    found = _count(arrivals, 10.0, 20)
    assert found["a"] == pytest.approx(1_000, rel=0.1)
    assert "b" not in found


def test_arrivals_missed_during_an_outage_are_dropped() -> None:
    arrivals = Arrivals({"a": 10.0}, Random(7), 0.0)
    assert arrivals.due(1_000.0)["a"] <= 2 * 10.0 * LATE_SECONDS


@pytest.mark.parametrize("queue", [q.name for q in QUEUES])
def test_payloads_are_json_and_name_reserved_domains_only(queue: str) -> None:
    rng = Random(7)
    for _ in range(200):
        payload = payloads.MAKERS[queue](rng, AT)
        text = json.dumps(payload)
        assert json.loads(text) == payload
        assert text.count("@") == sum(text.count(f"@example.{end}") for end in ("com", "net", "org"))


def test_only_closed_plans_have_no_subscriptions() -> None:
    rng = Random(7)
    assert all(payloads.MAKERS[ANALYTICS](rng, AT)["active_subscriptions"] > 0 for _ in range(2_000))
    closed = payloads.closed_plan(rng, AT)
    assert (closed["active_subscriptions"], closed["month"]) == (0, "2026-10")


def test_the_bad_template_has_innocent_company() -> None:
    rng = Random(7)
    made = [payloads.campaign(rng, AT) for _ in range(2_000)]
    both = [p for p in made if (p["template"], p["region"]) == (payloads.BAD_TEMPLATE, payloads.BAD_REGION)]
    template = [p for p in made if p["template"] == payloads.BAD_TEMPLATE]
    region = [p for p in made if p["region"] == payloads.BAD_REGION]
    assert 0.05 < len(both) / len(made) < 0.15
    assert len(template) > 2 * len(both)
    assert len(region) > 2 * len(both)
    assert {p["campaign_id"] for p in both} == {p["campaign_id"] for p in template}


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda f: f.key)
def test_a_fault_fills_in_its_texts(fault: faults.Fault) -> None:
    payload = payloads.MAKERS[fault.queues[0]](Random(7), AT)
    failure = faults.occurrence(fault, payload, Random(7))
    assert "$" not in failure.message
    assert failure.message in failure.trace
    assert failure.trace.count("\n") >= 6


def test_faults_of_chance_never_include_those_of_scenarios() -> None:
    rng = Random(7)
    drawn = {faults.draw(queue, rng).key for queue in (EMAIL, ANALYTICS) for _ in range(2_000)}
    assert drawn.isdisjoint({faults.MRR.key, faults.TEMPLATE.key, faults.RENDERING.key})
