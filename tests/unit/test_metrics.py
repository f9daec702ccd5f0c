"""From a reading to metric families: names, labels, and what is left out when a store is away."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from queuemon.alerting.metrics import Readings, families
from queuemon.alerting.reading import Reading, Shared
from queuemon.contract import Priority
from queuemon.model import HalfError, PostgresHalf, Queue, QueueStats, RedisHalf, RedisQueue, Snapshot
from queuemon.store.totals import BOUNDS, Distribution, Totals

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
HOSTILE = 'x"y\\z\n<script>'


def stats(name: str, **values: object) -> QueueStats:
    queue = Queue(
        name=name, priority=Priority.NORMAL, paused=False, pause_epoch=0, paused_at=None, target_seconds=300.0,
        concurrency=2, max_attempts=3,
    )  # fmt: skip
    made = QueueStats(
        queue=queue, waiting=7, scheduled=1, active=2, completed=100, failed=3, expired=0, completed_last_hour=50,
        attempts_finished=40, attempts_failed=4, oldest_waiting_at=NOW - timedelta(seconds=90), workers=2, stuck=1,
    )  # fmt: skip
    return replace(made, **values)  # type: ignore[arg-type]


def reading(*queues: QueueStats, totals: Mapping[str, Totals] | None = None, **halves: object) -> Reading:
    half = PostgresHalf(queues=queues, workers=(), clock=NOW, publications_due=0, publication_lag_seconds=0.0)
    redis = RedisHalf(
        queues={q.name: RedisQueue(name=q.name, length=7, paused=False, pause_epoch=0, quarantined=1) for q in queues},
        used_memory_bytes=1_000, server="Valkey 9",
    )  # fmt: skip
    snapshot = Snapshot(
        **{  # type: ignore[arg-type]
            "taken_at": NOW,
            "postgres": half,
            "redis": redis,
            "postgres_at": NOW,
            "redis_at": NOW,
            "postgres_seconds": 0.01,
            "redis_seconds": 0.001,
            **halves,
        }
    )
    return Reading(
        snapshot=snapshot, totals=totals or {}, actions={("retry", "done"): 2}, drift=None, seconds=0.02,
        read_at=time.monotonic(),
    )  # fmt: skip


def exposed(of: Reading) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus' own parser reads of the page: (name, labels) → value."""
    registry = CollectorRegistry()
    registry.register(Readings(lambda: of))
    page = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_a_queue_is_told_by_state_age_failures_and_workers() -> None:
    page = exposed(reading(stats("email")))
    queue = ("queue", "email")
    assert page["queuemon_jobs", (queue, ("state", "waiting"))] == 7
    assert page["queuemon_jobs", (queue, ("state", "scheduled"))] == 1
    assert page["queuemon_oldest_waiting_age_seconds", (queue,)] == 90
    assert page["queuemon_failure_ratio", (queue,)] == pytest.approx(0.1)
    assert page["queuemon_workers", (queue,)] == page["queuemon_workers_desired", (queue,)] == 2
    assert page["queuemon_up", (("store", "postgresql"),)] == page["queuemon_up", (("store", "redis"),)] == 1


def test_histograms_are_cumulated_and_end_with_their_count_and_sum() -> None:
    counts = [0] * (len(BOUNDS) + 1)
    counts[0], counts[3], counts[-1] = 5, 2, 1
    page = exposed(
        reading(stats("email"), totals={"email": Totals(completed=Distribution(counts=tuple(counts), seconds=9.5))})
    )
    labels = (("queue", "email"), ("result", "completed"))

    def bucket(le: str) -> float:
        return page["queuemon_job_duration_seconds_bucket", tuple(sorted((*labels, ("le", le))))]

    assert (bucket("0.01"), bucket("0.1"), bucket("0.5"), bucket("86400.0"), bucket("+Inf")) == (5, 5, 7, 7, 8)
    assert page["queuemon_job_duration_seconds_count", labels] == 8
    assert page["queuemon_job_duration_seconds_sum", labels] == 9.5
    assert page["queuemon_jobs_completed_total", (("queue", "email"),)] == 8


def test_a_half_that_fails_is_absent_and_said_and_the_other_half_stays() -> None:
    away = reading(stats("email"), postgres=HalfError(message="away", kind="StoreUnavailable"))
    page = exposed(away)
    assert page["queuemon_up", (("store", "postgresql"),)] == 0
    assert page["queuemon_up", (("store", "redis"),)] == 1
    assert not any(name == "queuemon_jobs" for name, _ in page)
    assert any(name == "queuemon_redis_elements" for name, _ in page)
    page = exposed(reading(stats("email"), redis=HalfError(message="away", kind="StoreUnavailable")))
    assert page["queuemon_up", (("store", "redis"),)] == 0
    assert page["queuemon_jobs", (("queue", "email"), ("state", "failed"))] == 3


def test_totals_that_could_not_be_read_count_as_a_store_that_is_away() -> None:
    page = exposed(replace(reading(stats("email")), totals=None))
    assert page["queuemon_up", (("store", "postgresql"),)] == 0
    assert not any(name.startswith("queuemon_jobs") for name, _ in page)


def test_a_hostile_queue_name_is_one_escaped_label() -> None:
    page = exposed(reading(stats(HOSTILE)))
    assert page["queuemon_jobs", (("queue", HOSTILE), ("state", "waiting"))] == 7


def test_names_follow_prometheus_rules() -> None:
    for family in families(reading(stats("email"))):
        assert family.name.startswith("queuemon_")
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_total", "_ms", "_count"))
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_all_who_ask_within_the_interval_share_one_reading() -> None:
    shared = Shared(lambda: reading(stats("email")), seconds=60)
    assert shared.get() is shared.get()
    assert shared.reads == 1
    eager = Shared(lambda: reading(stats("email")), seconds=0)
    assert eager.get() is not eager.get()
