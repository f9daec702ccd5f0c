"""From a reading to metric families: names by Prometheus' rules, few labels, no job's id and no job's text.

Names end in their unit; counters end in `_total` and never fall: they are the relay's totals, not this process's.
A half that could not be read leaves its families out (absent is not zero) and says so in `queuemon_up`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from queuemon.alerting.reading import Reading
from queuemon.contract import JobStatus, Thresholds
from queuemon.drift.model import CLASSES, DriftWatch
from queuemon.model import PostgresHalf, QueueStats, RedisHalf
from queuemon.store.totals import BOUNDS, Distribution, Totals

PREFIX: Final = "queuemon_"

_LE: Final = (*(repr(bound) for bound in BOUNDS), "+Inf")


class Readings(Collector):
    """A registry's collector over a source of readings; describes nothing, so registering it reads nothing."""

    def __init__(self, source: Callable[[], Reading]) -> None:
        self._source = source

    def describe(self) -> Sequence[Metric]:
        """Nothing: names are checked when scraped."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families of one reading."""
        yield from families(self._source())


def families(reading: Reading) -> Iterator[Metric]:
    """Every family that the reading can answer for."""
    postgres, redis = reading.postgres, reading.snapshot.redis
    up = GaugeMetricFamily(PREFIX + "up", "Whether the store could be read.", labels=["store"])
    up.add_metric(["postgresql"], float(postgres is not None))
    up.add_metric(["redis"], float(isinstance(redis, RedisHalf)))
    yield up
    yield _gauge(
        "snapshot_timestamp_seconds", "When these numbers were read, in seconds since 1970.",
        reading.snapshot.taken_at.timestamp(),
    )  # fmt: skip
    yield _gauge("snapshot_duration_seconds", "How long reading these numbers took.", reading.seconds)
    if postgres is not None:
        yield from _of_queues(postgres.queues, postgres)
        yield from _of_thresholds(postgres.queues)
        yield _gauge(
            "alert_publication_lag_seconds", "Publication lag above which an alert fires.",
            reading.thresholds.alert_publication_lag_seconds,
        )  # fmt: skip
        yield from _of_totals({q.name: (reading.totals or {}).get(q.name, Totals()) for q in postgres.queues})
        yield from _of_processes(postgres)
        yield _actions(reading)
    if isinstance(redis, RedisHalf):
        yield from _of_redis(redis)
    if reading.drift is not None and not reading.drift.error:
        yield _drift(reading.drift)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _of_queues(queues: Sequence[QueueStats], half: PostgresHalf) -> Iterator[Metric]:
    jobs = GaugeMetricFamily(
        PREFIX + "jobs", "Jobs by state; waiting: due now, scheduled: due later.", labels=["queue", "state"]
    )
    one = ["queue"]
    age = GaugeMetricFamily(
        PREFIX + "oldest_waiting_age_seconds", "How long the oldest waiting job has been due; 0 with none.", labels=one
    )
    target = GaugeMetricFamily(PREFIX + "target_seconds", "The queue's target from created to finished.", labels=one)
    ratio = GaugeMetricFamily(
        PREFIX + "failure_ratio", "Share of the attempts finished in the failure window that failed.", labels=one
    )
    attempts = GaugeMetricFamily(
        PREFIX + "failure_window_attempts", "Attempts finished in the failure window.", labels=one
    )
    stuck = GaugeMetricFamily(PREFIX + "stuck_jobs", "Active jobs without a heartbeat within the lease.", labels=one)
    paused = GaugeMetricFamily(PREFIX + "queue_paused", "Whether the queue is paused.", labels=one)
    paused_for = GaugeMetricFamily(
        PREFIX + "queue_paused_seconds", "For how long the queue has been paused; 0 while it runs.", labels=one
    )
    workers = GaugeMetricFamily(PREFIX + "workers", "Living worker processes at home in the queue.", labels=one)
    desired = GaugeMetricFamily(PREFIX + "workers_desired", "Worker processes meant for the queue.", labels=one)
    for q in queues:
        name = [q.name]
        for state, n in (
            (JobStatus.WAITING.value, q.waiting), ("scheduled", q.scheduled), (JobStatus.ACTIVE.value, q.active),
            (JobStatus.COMPLETED.value, q.completed), (JobStatus.FAILED.value, q.failed),
            (JobStatus.EXPIRED.value, q.expired),
        ):  # fmt: skip
            jobs.add_metric([q.name, state], n)
        waited = (half.clock - q.oldest_waiting_at).total_seconds() if q.oldest_waiting_at else 0.0
        age.add_metric(name, max(0.0, waited))
        target.add_metric(name, q.queue.target_seconds)
        if q.failure_rate is not None:
            ratio.add_metric(name, q.failure_rate)
        if q.attempts_finished is not None:
            attempts.add_metric(name, q.attempts_finished)
        stuck.add_metric(name, q.stuck)
        paused.add_metric(name, float(q.queue.paused))
        since = q.queue.paused_at if q.queue.paused else None
        paused_for.add_metric(name, max(0.0, (half.clock - since).total_seconds()) if since else 0.0)
        workers.add_metric(name, q.workers)
        desired.add_metric(name, q.queue.concurrency)
    yield from (jobs, age, target, ratio, attempts, stuck, paused, paused_for, workers, desired)


def _of_thresholds(queues: Sequence[QueueStats]) -> Iterator[Metric]:
    """The settings that the rules compare with; so each queue has its own, and the rules never change with them."""
    limits: dict[str, tuple[str, Callable[[Thresholds], float]]] = {
        "alert_depth_jobs": ("Depth above which an alert fires.", lambda t: t.alert_depth),
        "alert_failure_ratio": ("Failure ratio above which an alert fires.", lambda t: t.alert_failure_rate),
        "alert_pause_seconds": ("Pauses that last longer are taken for forgotten.", lambda t: t.alert_pause_seconds),
    }
    for name, (text, value) in limits.items():
        family = GaugeMetricFamily(PREFIX + name, text, labels=["queue"])
        for q in queues:
            family.add_metric([q.name], value(q.thresholds))
        yield family


def _of_totals(totals: dict[str, Totals]) -> Iterator[Metric]:
    counters: dict[str, tuple[str, Callable[[Totals], int]]] = {
        "jobs_created": ("Jobs enqueued.", lambda t: t.created),
        "jobs_completed": ("Attempts that completed their job.", lambda t: t.completed.n),
        "jobs_failed": ("Attempts that failed.", lambda t: t.failed.n),
        "jobs_expired": ("Jobs that expired unprocessed.", lambda t: t.expired),
        "jobs_within_target": ("Completed jobs that met the queue's target.", lambda t: t.in_target),
    }
    for name, (text, value) in counters.items():
        family = CounterMetricFamily(PREFIX + name, text, labels=["queue"])
        for queue, of in totals.items():
            family.add_metric([queue], value(of))
        yield family
    duration = HistogramMetricFamily(
        PREFIX + "job_duration_seconds", "How long attempts took.", labels=["queue", "result"]
    )
    waiting = HistogramMetricFamily(
        PREFIX + "job_waiting_seconds", "How long jobs had been due when an attempt began.", labels=["queue"]
    )
    for queue, of in totals.items():
        _histogram(duration, [queue, "completed"], of.completed)
        _histogram(duration, [queue, "failed"], of.failed)
        _histogram(waiting, [queue], of.waited)
    yield duration
    yield waiting


def _histogram(family: HistogramMetricFamily, labels: Sequence[str], of: Distribution) -> None:
    cumulated = accumulate(of.counts)
    family.add_metric(labels, [(le, float(n)) for le, n in zip(_LE, cumulated, strict=True)], of.seconds)


def _of_processes(half: PostgresHalf) -> Iterator[Metric]:
    processes = GaugeMetricFamily(PREFIX + "processes", "Living processes of the engine by kind.", labels=["kind"])
    for kind in ("relay", "supervisor", "worker"):
        processes.add_metric([kind], sum(1 for w in half.workers if w.alive and w.kind == kind))
    yield processes
    yield _gauge("publications_due", "Publications that are due and not done.", half.publications_due)
    yield _gauge("publication_lag_seconds", "How long the oldest of them has been due.", half.publication_lag_seconds)


def _actions(reading: Reading) -> Metric:
    family = GaugeMetricFamily(
        PREFIX + "actions", "Operators' actions in the audit trail by kind and state.", labels=["kind", "state"]
    )
    for (kind, state), n in sorted((reading.actions or {}).items()):
        family.add_metric([kind, state], n)
    return family


def _of_redis(half: RedisHalf) -> Iterator[Metric]:
    elements = GaugeMetricFamily(
        PREFIX + "redis_elements", "Elements of the queue in Redis by place.", labels=["queue", "place"]
    )
    for name, q in half.queues.items():
        for place, n in (("list", q.length), ("parked", q.parked), ("quarantine", q.quarantined)):
            elements.add_metric([name, place], n)
    yield elements
    yield _gauge("redis_memory_bytes", "Memory that Redis uses.", half.used_memory_bytes)


def _drift(watch: DriftWatch) -> Metric:
    family = GaugeMetricFamily(
        PREFIX + "drift", "Differences between the stores by class, as the continuous look has proven them.",
        labels=["class"],
    )  # fmt: skip
    for number in CLASSES:
        family.add_metric(
            [str(number)], sum(line.count for line in watch.lines if line.number == number and line.proven)
        )
    return family
