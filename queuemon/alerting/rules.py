"""What deserves to wake somebody: each rule once, as PromQL over our metrics and as a look at a snapshot.

The thresholds are settings (`[profiles.NAME.thresholds]`, and per queue): the exporter publishes them beside the
numbers they limit, so that the expressions hold for every queue and a changed setting needs no new rules. (Robust
Perception, "Using time series as alert thresholds", 2016.) A rule fires once its condition has held for `for_seconds`,
and ends once it has not held for `keep_seconds`: Prometheus' `for` and `keep_firing_for`, and what `queuemon alerts
watch` does.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from queuemon.contract import Thresholds
from queuemon.drift.model import DriftWatch
from queuemon.model import PostgresHalf, QueueStats, RedisHalf, Snapshot
from queuemon.render.text import duration, percent

#: The queue in Prometheus' templates, for the inside of a shell's single quotes: its name may hold one.
_QUOTED_QUEUE: Final = r"""{{ reReplaceAll "'" "'\\''" $labels.queue }}"""


class Severity(Enum):
    """As PagerDuty and the field name them."""

    CRITICAL = "critical"
    WARNING = "warning"


class Unit(Enum):
    """What a rule's value is counted in."""

    JOBS = "jobs"
    RATIO = "ratio"
    SECONDS = "seconds"

    @property
    def template(self) -> str:
        """How Prometheus prints it."""
        how = {"jobs": 'printf "%.0f"', "ratio": "humanizePercentage", "seconds": "humanizeDuration"}[self.value]
        return f"{{{{ $value | {how} }}}}"

    def words(self, value: float) -> str:
        """How we print it."""
        match self:
            case Unit.JOBS:
                return f"{value:,.0f}"
            case Unit.RATIO:
                return percent(value)
            case Unit.SECONDS:
                return duration(round(value))


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the rules are asked about."""

    snapshot: Snapshot
    #: The continuous look for drift; None where nobody looks.
    drift: DriftWatch | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def postgres(self) -> PostgresHalf | None:
        """PostgreSQL's half; None while it is away."""
        return self.snapshot.postgres if isinstance(self.snapshot.postgres, PostgresHalf) else None


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A condition that holds now."""

    #: At most one of queue, class or store.
    labels: Mapping[str, str] = field(default_factory=dict)
    #: In the rule's unit.
    value: float = 0.0


#: The hits of a rule; None where what it asks about could not be read: then nothing is known, and nothing ends.
Look = Callable[[Seen], "Iterator[Hit] | None"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One alert."""

    #: In CamelCase with our prefix, as Prometheus' rules are named.
    name: str
    severity: Severity
    #: PromQL; its result carries `job` and the labels of a Hit.
    expr: str
    #: None for what only Prometheus can see.
    look: Look | None
    unit: Unit
    for_seconds: int
    keep_seconds: int
    #: Texts with {value} and {queue}, {class} or {store}.
    summary: str
    description: str
    #: The runbook that answers it, and its parameter that takes the queue.
    runbook: str
    parameter: str = ""

    def command(self, labels: Mapping[str, str], *, profile: str = "") -> str:
        """The command line that runs the runbook, dry, for a shell; on the stores of a profile where one is named."""
        words = [*_program(profile), "runbook", "run", self.runbook]
        if self.parameter and "queue" in labels:
            words += ["-p", f"{self.parameter}={labels['queue']}"]
        return shlex.join(words)

    def text(self, template: str, hit: Hit) -> str:
        """One of the texts, for a hit."""
        # Not str.format: it would read on in what a queue is called.
        for name, value in {**hit.labels, "value": self.unit.words(hit.value)}.items():
            template = template.replace(f"{{{name}}}", value if name == "value" else _plain(value))
        return template

    def for_prometheus(self, *, profile: str = "") -> dict[str, Any]:
        """The rule as Prometheus' rule files write it; its runbook's command names the profile, where one is given."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": f"{self.for_seconds}s",
            "keep_firing_for": f"{self.keep_seconds}s",
            "labels": {"severity": self.severity.value},
            "annotations": {
                "summary": self._templated(self.summary),
                "description": self._templated(self.description),
                "runbook": self.runbook,
                "runbook_command": _untemplated(shlex.join([*_program(profile), "runbook", "run", self.runbook]))
                + (f" -p '{self.parameter}={_QUOTED_QUEUE}'" if self.parameter else ""),
            },
        }

    def _templated(self, template: str) -> str:
        for name in ("queue", "class", "store"):
            template = template.replace(f"{{{name}}}", f"{{{{ $labels.{name} }}}}")
        return template.replace("{value}", self.unit.template)


def _program(profile: str) -> list[str]:
    return ["queuemon", "--profile", profile] if profile else ["queuemon"]


def _untemplated(words: str) -> str:
    """For Prometheus' templates: braces that open nothing."""
    return words.replace("{{", '{{ "{{" }}')


def _plain(name: str) -> str:
    """A queue's name without what would be taken for one of our own marks."""
    return name.replace("{", "(").replace("}", ")")


def _by_queue(value: Callable[[QueueStats, PostgresHalf], float | None]) -> Look:
    """A look at every queue: its value where the condition holds, None where it does not."""

    def look(seen: Seen) -> Iterator[Hit] | None:
        half = seen.postgres
        if half is None:
            return None
        found = ((q.name, value(q, half)) for q in half.queues)
        return (Hit(labels={"queue": name}, value=v) for name, v in found if v is not None)

    return look


def _depth(q: QueueStats, half: PostgresHalf) -> float | None:
    return float(q.waiting) if q.waiting > q.thresholds.alert_depth else None


def _failures(q: QueueStats, half: PostgresHalf) -> float | None:
    rate = q.failure_rate
    return rate if rate is not None and rate > q.thresholds.alert_failure_rate else None


def _oldest(q: QueueStats, half: PostgresHalf) -> float | None:
    if q.queue.paused or q.oldest_waiting_at is None:
        return None
    age = (half.clock - q.oldest_waiting_at).total_seconds()
    return age if age > q.queue.target_seconds else None


def _nobody(q: QueueStats, half: PostgresHalf) -> float | None:
    alone = q.waiting and not q.workers and not q.active and not q.queue.paused
    return float(q.waiting) if alone else None


def _stuck(q: QueueStats, half: PostgresHalf) -> float | None:
    return float(q.stuck) if q.stuck else None


def _paused(q: QueueStats, half: PostgresHalf) -> float | None:
    if not q.queue.paused or q.queue.paused_at is None:
        return None
    age = (half.clock - q.queue.paused_at).total_seconds()
    return age if age > q.thresholds.alert_pause_seconds else None


def _lag(seen: Seen) -> Iterator[Hit] | None:
    half = seen.postgres
    if half is None:
        return None
    lag = half.publication_lag_seconds
    return iter([Hit(value=lag)] if lag > seen.thresholds.alert_publication_lag_seconds else [])


def _drift(seen: Seen) -> Iterator[Hit] | None:
    if seen.drift is None or seen.drift.error:
        return None
    proven: dict[int, int] = {}
    for line in seen.drift.lines:
        if line.proven:
            proven[line.number] = proven.get(line.number, 0) + line.count
    return (Hit(labels={"class": str(number)}, value=float(n)) for number, n in sorted(proven.items()) if n)


def _away(seen: Seen) -> Iterator[Hit] | None:
    halves = {"postgresql": seen.postgres, "redis": seen.snapshot.redis}
    return (Hit(labels={"store": s}) for s, h in halves.items() if not isinstance(h, PostgresHalf | RedisHalf))


def _metric(name: str, *labels: str, by: str = "queue") -> str:
    """Of any number of exporters over the same stores the largest, per `job` of the scrape."""
    chosen = f"{{{','.join(labels)}}}" if labels else ""
    return f"max by (job, {by}) (queuemon_{name}{chosen})" if by else f"max by (job) (queuemon_{name}{chosen})"


_WAITING: Final = _metric("jobs", 'state="waiting"')
_ACTIVE: Final = _metric("jobs", 'state="active"')
_NOT_PAUSED: Final = f"unless {_metric('queue_paused')} > 0"

RULES: Final[Sequence[Rule]] = (
    Rule(
        name="QueuemonQueueDepth",
        severity=Severity.CRITICAL,
        expr=f"{_WAITING} > {_metric('alert_depth_jobs')}",
        look=_by_queue(_depth),
        unit=Unit.JOBS,
        for_seconds=60,
        keep_seconds=300,
        summary="{value} jobs wait in {queue}",
        description="More jobs wait in {queue} than its threshold alert_depth allows. See whether workers are missing"
        " or more arrives than they can do, and let less urgent queues make way.",
        runbook="prioritise-transactional",
        parameter="queue",
    ),
    Rule(
        name="QueuemonFailureRate",
        severity=Severity.CRITICAL,
        expr=f"{_metric('failure_ratio')} > {_metric('alert_failure_ratio')}",
        look=_by_queue(_failures),
        unit=Unit.RATIO,
        for_seconds=60,
        keep_seconds=300,
        summary="{value} of the attempts of {queue} fail",
        description="More attempts of {queue} fail than its threshold alert_failure_rate allows. `queuemon explain`"
        " says what the failing jobs share; once the cause is fixed, retry them.",
        runbook="retry-failed",
        parameter="queue",
    ),
    Rule(
        name="QueuemonOldestWaiting",
        severity=Severity.WARNING,
        expr=f"{_metric('oldest_waiting_age_seconds')} > {_metric('target_seconds')} {_NOT_PAUSED}",
        look=_by_queue(_oldest),
        unit=Unit.SECONDS,
        for_seconds=120,
        keep_seconds=300,
        summary="the oldest job of {queue} has waited for {value}",
        description="The oldest waiting job of {queue} is past the queue's target.",
        runbook="prioritise-transactional",
        parameter="queue",
    ),
    Rule(
        name="QueuemonNoConsumer",
        severity=Severity.CRITICAL,
        expr=f"{_WAITING} > 0 unless {_metric('workers')} > 0 unless {_ACTIVE} > 0 {_NOT_PAUSED}",
        look=_by_queue(_nobody),
        unit=Unit.JOBS,
        for_seconds=120,
        keep_seconds=120,
        summary="nobody consumes {queue}: {value} jobs wait and no worker is alive",
        description="No worker at home in {queue} is alive and none of its jobs runs. Start its workers, then look for"
        " jobs that the dead ones held.",
        runbook="rescue-stuck",
        parameter="queue",
    ),
    Rule(
        name="QueuemonStuckJobs",
        severity=Severity.WARNING,
        expr=f"{_metric('stuck_jobs')} > 0",
        look=_by_queue(_stuck),
        unit=Unit.JOBS,
        for_seconds=120,
        keep_seconds=120,
        summary="{value} jobs of {queue} are stuck",
        description="Jobs of {queue} are active, but their worker has not been heard of within the lease, and no relay"
        " has given them back.",
        runbook="rescue-stuck",
        parameter="queue",
    ),
    Rule(
        name="QueuemonDrift",
        severity=Severity.WARNING,
        expr=f"{_metric('drift', by='class')} > 0",
        look=_drift,
        unit=Unit.JOBS,
        for_seconds=300,
        keep_seconds=300,
        summary="PostgreSQL and Redis disagree: {value} of class {class}",
        description="The continuous look has proven disagreements of class {class} that did not heal by themselves."
        " `queuemon drift` lists them.",
        runbook="repair-drift",
    ),
    Rule(
        name="QueuemonPublicationLag",
        severity=Severity.CRITICAL,
        expr=f"{_metric('publication_lag_seconds', by='')} > {_metric('alert_publication_lag_seconds', by='')}",
        look=_lag,
        unit=Unit.SECONDS,
        for_seconds=60,
        keep_seconds=120,
        summary="jobs have been due for {value} and are not in Redis yet",
        description="What committed to PostgreSQL does not reach Redis: no relay runs, or Redis refuses. Start a relay;"
        " `queuemon doctor` says what is wrong.",
        runbook="repair-drift",
    ),
    Rule(
        name="QueuemonForgottenPause",
        severity=Severity.WARNING,
        expr=f"{_metric('queue_paused_seconds')} > {_metric('alert_pause_seconds')}",
        look=_by_queue(_paused),
        unit=Unit.SECONDS,
        for_seconds=60,
        keep_seconds=60,
        summary="{queue} has been paused for {value}",
        description="{queue} has been paused for longer than its threshold alert_pause_seconds. `queuemon pauses` says"
        " who holds the pause and why; what expired meanwhile can be run after all.",
        runbook="replay-expired",
        parameter="queue",
    ),
    Rule(
        name="QueuemonStoreDown",
        severity=Severity.CRITICAL,
        expr=f"{_metric('up', by='store')} == 0",
        look=_away,
        unit=Unit.JOBS,
        for_seconds=60,
        keep_seconds=120,
        summary="{store} does not answer",
        description="{store} cannot be read. `queuemon doctor` says why. When Redis comes back without its data, a"
        " relay publishes what waits; without a relay the runbook does.",
        runbook="rebuild-redis",
    ),
    Rule(
        name="QueuemonExporterDown",
        severity=Severity.CRITICAL,
        # One alert, not two: an exporter that is down leaves no `queuemon_up` either.
        expr='max by (job) (up{job=~"queuemon.*"}) == 0 or absent(queuemon_up) unless on () up{job=~"queuemon.*"}',
        look=None,
        unit=Unit.JOBS,
        for_seconds=120,
        keep_seconds=120,
        summary="no exporter of queuemon answers",
        description="Prometheus has no numbers of the queues: no other alert of queuemon can fire.",
        runbook="weekly-health",
    ),
)


def hits(seen: Seen, rules: Sequence[Rule] = RULES) -> Iterator[tuple[Rule, list[Hit] | None]]:
    """What holds now, by rule; None where nothing is known. Rules that only Prometheus can see are left out."""
    for rule in rules:
        if rule.look is not None:
            found = rule.look(seen)
            yield rule, None if found is None else list(found)


def rule_file(rules: Sequence[Rule] = RULES, *, profile: str = "") -> str:
    """The rules as a file for Prometheus 2.42 or newer; `profile` is what the runbooks' commands name."""
    import yaml

    groups = {"groups": [{"name": "queuemon", "rules": [rule.for_prometheus(profile=profile) for rule in rules]}]}
    return yaml.safe_dump(groups, sort_keys=False, width=120, allow_unicode=True)
