"""The rules as Prometheus itself understands them: when each begins to fire, what it says, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from queuemon.alerting.rules import RULES, Rule, rule_file
from tests.support.prometheus import judged

pytestmark = pytest.mark.integration

STEP = 15
#: Samples before the condition holds, and while it does.
QUIET, LOUD = 20, 60

MAIL = '{job="queuemon",queue="mail"}'


@dataclass(frozen=True, kw_only=True)
class Case:
    """A rule at its limit, then beyond it, then at its limit again."""

    #: Series → its value while nothing is wrong, and beyond the limit; "_": no sample.
    series: Mapping[str, tuple[float | str, float | str]]
    #: What the alert says; empty: it must not fire.
    summary: str
    labels: Mapping[str, str] = field(default_factory=lambda: {"queue": "mail"})


def _waiting(quiet: float, loud: float) -> dict[str, tuple[float, float]]:
    return {'queuemon_jobs{job="queuemon",queue="mail",state="waiting"}': (quiet, loud)}


def _always(name: str, value: float, labels: str = MAIL) -> dict[str, tuple[float, float]]:
    return {f"queuemon_{name}{labels}": (value, value)}


def _of(name: str, quiet: float, loud: float, labels: str = MAIL) -> dict[str, tuple[float, float]]:
    return {f"queuemon_{name}{labels}": (quiet, loud)}


_JOB = '{job="queuemon"}'
_ALONE = _waiting(0, 7) | _always("workers", 0) | _always("jobs", 0, MAIL[:-1] + ',state="active"}')
_LATE = _of("oldest_waiting_age_seconds", 300, 301) | _always("target_seconds", 300)

CASES: Mapping[str, list[Case]] = {
    "QueuemonQueueDepth": [
        Case(series=_waiting(10_000, 10_001) | _always("alert_depth_jobs", 10_000), summary="10001 jobs wait in mail")
    ],
    "QueuemonFailureRate": [
        Case(
            series=_of("failure_ratio", 0.05, 0.06) | _always("alert_failure_ratio", 0.05),
            summary="6% of the attempts of mail fail",
        )
    ],
    "QueuemonOldestWaiting": [
        Case(series=_LATE | _always("queue_paused", 0), summary="the oldest job of mail has waited for 5m 1s"),
        Case(series=_LATE | _always("queue_paused", 1), summary=""),
    ],
    "QueuemonNoConsumer": [
        Case(
            series=_ALONE | _always("queue_paused", 0),
            summary="nobody consumes mail: 7 jobs wait and no worker is alive",
        ),
        Case(series=_ALONE | _always("queue_paused", 1), summary=""),
        Case(series=_ALONE | _always("workers", 1), summary=""),
        Case(series=_ALONE | _always("jobs", 1, MAIL[:-1] + ',state="active"}'), summary=""),
    ],
    "QueuemonStuckJobs": [Case(series=_of("stuck_jobs", 0, 2), summary="2 jobs of mail are stuck")],
    "QueuemonDrift": [
        Case(
            series=_of("drift", 0, 3, '{job="queuemon",class="2"}'),
            summary="PostgreSQL and Redis disagree: 3 of class 2", labels={"class": "2"},
        )
    ],
    "QueuemonPublicationLag": [
        Case(
            series=_of("publication_lag_seconds", 60, 61, _JOB) | _always("alert_publication_lag_seconds", 60, _JOB),
            summary="jobs have been due for 1m 1s and are not in Redis yet", labels={},
        )
    ],
    "QueuemonForgottenPause": [
        Case(
            series=_of("queue_paused_seconds", 14_400, 14_401) | _always("alert_pause_seconds", 14_400),
            summary="mail has been paused for 4h 0m 1s",
        )
    ],
    "QueuemonStoreDown": [
        Case(
            series=_of("up", 1, 0, '{job="queuemon",store="redis"}'),
            summary="redis does not answer", labels={"store": "redis"},
        )
    ],
    "QueuemonExporterDown": [
        Case(
            series={'up{job="queuemon"}': (1, 0), 'queuemon_up{job="queuemon",store="redis"}': (1, "stale")},
            summary="no exporter of queuemon answers", labels={},
        )
    ],
}  # fmt: skip

#: Rules that name no job when there is none: an exporter that nobody scrapes at all.
_NEVER_SCRAPED = Case(
    series={'queuemon_up{job="queuemon",store="redis"}': (1, "stale")}, summary="no exporter of queuemon answers"
)


def _samples(quiet: float | str, loud: float | str) -> str:
    """In promtool's notation: quiet, loud, quiet, a sample each 15 s."""

    def part(value: float | str, n: int) -> str:
        return " ".join([str(value), *["_"] * n]) if value == "stale" else f"{value}+0x{n}"

    return f"{part(quiet, QUIET)} {part(loud, LOUD)} {part(quiet, 100)}"


def _expected(rule: Rule, case: Case, job: bool) -> dict[str, Any]:
    parameter = f" -p '{rule.parameter}=mail'" if rule.parameter else ""
    description = rule.description
    for name, value in case.labels.items():
        description = description.replace(f"{{{name}}}", value)
    return {
        "exp_labels": {"severity": rule.severity.value, **({"job": "queuemon"} if job else {}), **case.labels},
        "exp_annotations": {
            "summary": case.summary,
            "description": description,
            "runbook": rule.runbook,
            "runbook_command": f"queuemon runbook run {rule.runbook}{parameter}",
        },
    }


def _test(rule: Rule, case: Case, *, job: bool = True) -> dict[str, Any]:
    begins, ends = (QUIET + 1) * STEP, (QUIET + 1 + LOUD) * STEP
    firing = [_expected(rule, case, job)] if case.summary else []
    at = {
        QUIET * STEP: [],
        begins + rule.for_seconds - STEP: [],
        begins + rule.for_seconds: firing,
        ends + rule.keep_seconds: firing,
        ends + rule.keep_seconds + 2 * STEP: [],
    }
    return {
        "interval": f"{STEP}s",
        "input_series": [{"series": name, "values": _samples(*values)} for name, values in case.series.items()],
        "alert_rule_test": [
            {"eval_time": f"{seconds}s", "alertname": rule.name, "exp_alerts": alerts} for seconds, alerts in at.items()
        ],
    }


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    made = tmp_path / "rules.yml"
    made.write_text(rule_file())
    return made


def test_promtool_accepts_the_rules(rules: Path) -> None:
    assert f"{len(RULES)} rules found" in judged("promtool", "check", "rules", rules)


def test_each_rule_fires_beyond_its_limit_says_so_in_words_and_ends(rules: Path, tmp_path: Path) -> None:
    assert sorted(CASES) == sorted(rule.name for rule in RULES)
    made = [_test(rule, case) for rule in RULES for case in CASES[rule.name]]
    (down,) = (rule for rule in RULES if rule.name == "QueuemonExporterDown")
    made.append(_test(down, Case(series=_NEVER_SCRAPED.series, summary=_NEVER_SCRAPED.summary, labels={}), job=False))
    file = tmp_path / "rules_test.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": f"{STEP}s", "tests": made}, sort_keys=False)
    )
    judged("promtool", "test", "rules", file)
