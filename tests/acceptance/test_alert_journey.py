"""An alert's whole way: stores, exporter, a real Prometheus, a real Alertmanager, PagerDuty's door; and back."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from queuemon.alerting.exporter import serving
from queuemon.alerting.rules import RULES, rule_file
from queuemon.workbench import Workbench
from tests.support.engine import Rig
from tests.support.pagerduty import Sink, sink
from tests.support.prometheus import Monitoring, monitoring
from tests.support.wait import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

#: A queue whose name speaks PromQL, Prometheus' templates, HTML, shell and two lines.
HOSTILE = """x"} or vector(1)\n{{ .Evil }} <b> it's $(id)"""
DEPTH, FAILURES = ("QueuemonQueueDepth", "mail"), ("QueuemonFailureRate", HOSTILE)


@pytest.fixture
def workbench(rig: Rig) -> Iterator[Workbench]:
    with Workbench(rig.store.settings) as opened:
        yield opened


def _example(folder: Path, pagerduty: Sink) -> str:
    """The example as it is printed, with another door, another key file, and less patience."""
    key = folder / "pagerduty.key"
    key.write_text(pagerduty.routing_key)
    text = (files("queuemon.alerting") / "alertmanager.yml").read_text()
    for found, here in {
        "https://events.pagerduty.com": pagerduty.url,
        "/etc/prometheus/pagerduty.key": str(key),
        "group_wait: 10s": "group_wait: 100ms",
        "group_interval: 1m": "group_interval: 500ms",
    }.items():
        assert text.count(found) == 1
        text = text.replace(found, here)
    return text


def _jobs(rig: Rig, n: int) -> None:
    rig.sql(
        "INSERT INTO jobs (id, queue, payload, status, attempts, run_at, expires_at)"
        " SELECT gen_random_uuid(), 'mail', '{}', 'waiting', 0, now(), now() + interval '1 day'"
        " FROM generate_series(1, :n)",
        n=n,
    )


def _attempts(rig: Rig, status: str, n: int) -> None:
    rig.sql(
        "INSERT INTO job_logs (job_id, queue, kind, gen, attempt, status, started_at, due_at, finished_at, duration_ms)"
        " SELECT gen_random_uuid(), :queue, 'attempt', 1, 1, :status, now(), now(), now(), 5"
        " FROM generate_series(1, :n)",
        queue=HOSTILE, status=status, n=n,
    )  # fmt: skip


def _shows(prometheus: Monitoring, name: str, value: float, **labels: str) -> None:
    """Wait until Prometheus has scraped a value."""
    chosen = ",".join(f"{label}={value!r}" for label, value in labels.items())
    wait_until(
        lambda: [float(r["value"][1]) for r in prometheus.query(f"queuemon_{name}{{{chosen}}}")] == [value],
        timeout=30, message=f"{name} is {value}", interval=0.1,
    )  # fmt: skip


def test_both_specified_alerts_reach_pagerduty_once_and_resolve(rig: Rig, workbench: Workbench, tmp_path: Path) -> None:
    rig.sql("INSERT INTO job_queues (name) VALUES (:name)", name=HOSTILE)
    quick = [replace(rule, for_seconds=0, keep_seconds=0) for rule in RULES]
    with (
        sink() as pagerduty,
        serving(workbench, host="127.0.0.1", port=0, seconds=0.1, drift=False) as port,
        monitoring(
            tmp_path, exporter=port, rules=rule_file(quick), alertmanager=_example(tmp_path, pagerduty)
        ) as prometheus,
    ):
        _jobs(rig, 10_000)
        _attempts(rig, "completed", 95)
        _attempts(rig, "failed", 5)
        _shows(prometheus, "jobs", 10_000, queue="mail", state="waiting")
        wait_until(
            lambda: [r["value"][1] for r in prometheus.query("max(queuemon_failure_ratio)")] == ["0.05"], timeout=30,
            message="one in twenty fails", interval=0.1,
        )  # fmt: skip
        _rules_ran(prometheus)
        assert not {DEPTH, FAILURES} & prometheus.firing()

        _jobs(rig, 1)
        _attempts(rig, "failed", 1)
        wait_until(lambda: prometheus.firing() >= {DEPTH, FAILURES}, timeout=30, message="both fire", interval=0.1)
        wait_until(lambda: len(_incidents(pagerduty)) == 2, timeout=30, message="both are incidents")
        depth, failures = (_incidents(pagerduty)[name] for name, _ in (DEPTH, FAILURES))
        assert depth["payload"]["summary"] == "10001 jobs wait in mail"
        assert depth["payload"]["severity"] == "critical"
        assert depth["payload"]["component"] == "mail"
        assert (
            depth["payload"]["custom_details"]["runbook_command"]
            == "queuemon runbook run prioritise-transactional -p 'queue=mail'"
        )
        assert failures["payload"]["summary"] == f"5.941% of the attempts of {HOSTILE} fail"
        assert failures["payload"]["component"] == HOSTILE
        command = failures["payload"]["custom_details"]["runbook_command"]
        assert shlex.split(command) == ["queuemon", "runbook", "run", "retry-failed", "-p", f"queue={HOSTILE}"]

        rig.sql("DELETE FROM jobs")
        _attempts(rig, "completed", 100)
        keys = {depth["dedup_key"], failures["dedup_key"]}
        wait_until(
            lambda: {event["dedup_key"] for event in pagerduty.of("resolve")} >= keys, timeout=60,
            message="both are resolved",
        )  # fmt: skip
        assert not {DEPTH, FAILURES} & prometheus.firing()
        assert sorted(_incidents(pagerduty)) == sorted(name for name, _ in (DEPTH, FAILURES))
        assert pagerduty.refused == []


def _rules_ran(prometheus: Monitoring) -> None:
    """Wait until every rule has been judged after what has just been scraped."""
    before = prometheus.judged_at()
    wait_until(lambda: prometheus.judged_at() > before, timeout=30, message="the rules are judged again")


def _incidents(pagerduty: Sink) -> dict[str, dict[str, Any]]:
    """Alert → its trigger; each of the two alerts has triggered once."""
    found = [event for event in pagerduty.of("trigger") if event["payload"]["class"] in {DEPTH[0], FAILURES[0]}]
    assert len(found) == len({event["dedup_key"] for event in found}), found
    return {event["payload"]["class"]: event for event in found}
