"""What the exporter's counters and histograms must say, by counting in the tables; and where a page says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from queuemon.store.totals import BOUNDS

Series = tuple[str, frozenset[tuple[str, str]]]
Page = Mapping[Series, float]

#: Counter → queue and how many there are, told by the rows of the jobs wherever they can tell it.
_COUNTED = {
    "jobs_created": "SELECT queue, count(*) FROM jobs GROUP BY 1",
    "jobs_completed": "SELECT queue, count(*) FROM jobs WHERE status = 'completed' GROUP BY 1",
    "jobs_expired": "SELECT queue, count(*) FROM jobs WHERE status = 'expired' GROUP BY 1",
    "jobs_failed": "SELECT queue, count(*) FROM job_logs WHERE kind = 'attempt' AND status = 'failed' GROUP BY 1",
    "jobs_within_target": "SELECT queue, count(*) FROM jobs JOIN job_queues ON name = queue WHERE status = 'completed'"
    " AND finished_at - jobs.created_at <= make_interval(secs => target_seconds) GROUP BY 1",
}

_DURATION = "coalesce(duration_ms, 0) / 1000.0", "kind = 'attempt' AND status = '{result}'"
_WAITING = (
    "extract(epoch FROM started_at - due_at)",
    "kind = 'attempt' AND started_at IS NOT NULL AND due_at IS NOT NULL",
)


def parsed(page: str) -> Page:
    """(name, labels) → value, as Prometheus' own parser reads it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def growing(page: Page) -> Page:
    """What may never fall: counters, and all of histograms."""
    ends = ("_total", "_bucket", "_count", "_sum")
    return {series: value for series, value in page.items() if series[0].endswith(ends)}


def fallen(before: Page, after: Page) -> list[str]:
    """Series that fell, or went away."""
    return [
        f"{key}: {value}, then {after.get(key)}" for key, value in before.items() if not after.get(key, -1) >= value
    ]


def differences(page: Page, rows: Callable[[str], list[Any]]) -> list[str]:
    """Every counter and every bucket that differs from the tables. `rows` runs a statement and gives tuples."""
    expected: dict[Series, float] = {}

    def expect(name: str, value: float, **labels: str) -> None:
        expected[f"queuemon_{name}", frozenset(labels.items())] = float(value)

    for counter, statement in _COUNTED.items():
        for queue, n in rows(statement):
            expect(f"{counter}_total", n, queue=queue)
    for result in ("completed", "failed"):
        value, where = _DURATION[0], _DURATION[1].format(result=result)
        for queue, *numbers in rows(_histogram(value, where)):
            _expect_histogram(expect, "job_duration_seconds", numbers, queue=queue, result=result)
    for queue, *numbers in rows(_histogram(*_WAITING)):
        _expect_histogram(expect, "job_waiting_seconds", numbers, queue=queue)
    wrong = [f"{key}: {page.get(key)}, counted {n}" for key, n in expected.items() if not _same(page.get(key), n)]
    alien = [key for key, n in growing(page).items() if n and key not in expected]
    return wrong + [f"{key}: {page[key]}, counted nothing" for key in alien]


def _same(shown: float | None, counted: float) -> bool:
    return shown is not None and abs(shown - counted) <= 1e-6 * max(1.0, abs(counted))


def _histogram(value: str, where: str) -> str:
    buckets = ", ".join(f"count(*) FILTER (WHERE greatest({value}, 0) <= {bound!r})" for bound in BOUNDS)
    return f"SELECT queue, {buckets}, count({value}), sum(greatest({value}, 0)) FROM job_logs WHERE {where} GROUP BY 1"


def _expect_histogram(expect: Callable[..., None], name: str, numbers: list[Any], **labels: str) -> None:
    *buckets, n, seconds = numbers
    for bound, value in zip((*map(repr, BOUNDS), "+Inf"), (*buckets, n), strict=True):
        expect(f"{name}_bucket", value, **labels, le=bound)
    expect(f"{name}_count", n, **labels)
    expect(f"{name}_sum", float(seconds), **labels)
