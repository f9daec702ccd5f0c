"""What Prometheus' own tools say of a real scrape, and that hostile stores cannot make it larger or break it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from queuemon.alerting.exporter import serving
from queuemon.workbench import Workbench
from tests.support.engine import Rig
from tests.support.prometheus import judged, page_of

pytestmark = pytest.mark.integration

#: What a queue may be called where nobody minds.
HOSTILE = (
    'x"} 1\nqueuemon_up{store="postgresql"} 0',
    "back\\slash\\n",
    "<script>alert(1)</script>",
    "\x1b[2J",
    "e\u0301 \u202e",
    "x" * 200,
)

#: Every label that is ever used; each has as many values as there are queues, states, kinds, classes or buckets.
LABELS = {"queue", "state", "store", "result", "le", "kind", "place", "class"}


@pytest.fixture
def workbench(rig: Rig) -> Iterator[Workbench]:
    with Workbench(rig.store.settings) as opened:
        yield opened


def _scrape(workbench: Workbench) -> str:
    with serving(workbench, host="127.0.0.1", port=0, seconds=0) as port:
        return page_of(port)


def _series(page: str) -> set[str]:
    return {line.rpartition(" ")[0] for line in page.splitlines()}


def _fail_once_each(rig: Rig, attempts: int) -> None:
    """Attempts that fail, each with an error, a type and a worker of its own."""
    with rig.store.postgres.begin(seconds=60) as connection:
        connection.exec_driver_sql(
            "INSERT INTO job_logs (job_id, queue, kind, gen, attempt, status, worker_id, started_at, due_at,"
            " finished_at, duration_ms, error_type, error_message)"
            " SELECT gen_random_uuid(), 'mail', 'attempt', 1, 1, 'failed', 'worker-' || i, now(), now(), now(), 5,"
            f" 'Error' || i, md5(i::text) FROM generate_series(1, {attempts}) AS i"
        )


def test_promtool_has_nothing_to_say_of_a_scrape(rig: Rig, workbench: Workbench) -> None:
    rig.producer.enqueue("mail", {})
    page = _scrape(workbench)
    assert "queuemon_drift{" in page
    assert "queuemon_redis_elements{" in page
    judged("promtool", "check", "metrics", stdin=page)
    told = {name for name, _ in re.findall(r"^# (?:HELP|TYPE) (\S+) (.*)$", page, re.MULTILINE)}
    for family in text_string_to_metric_families(page):
        assert family.documentation
        assert family.type != "unknown", family.name
        for sample in family.samples:
            assert set(sample.labels) <= LABELS
            assert sample.name in told or re.sub("_(bucket|count|sum)$", "", sample.name) in told


def test_hostile_queue_names_stay_one_label_each(rig: Rig, workbench: Workbench) -> None:
    for name in HOSTILE:
        rig.sql("INSERT INTO job_queues (name) VALUES (:name)", name=name)
        rig.producer.enqueue(name, {})
    rig.relay().fold()
    page = _scrape(workbench)
    judged("promtool", "check", "metrics", stdin=page)
    (up,) = (f for f in text_string_to_metric_families(page) if f.name == "queuemon_up")
    assert {s.labels["store"]: s.value for s in up.samples} == {"postgresql": 1, "redis": 1}
    (created,) = (f for f in text_string_to_metric_families(page) if f.name == "queuemon_jobs_created")
    counted = {s.labels["queue"]: s.value for s in created.samples}
    assert {name: counted[name] for name in HOSTILE} == dict.fromkeys(HOSTILE, 1)


def test_what_is_in_the_stores_adds_no_series(rig: Rig, workbench: Workbench) -> None:
    """Errors, error types, workers and foreign keys of Redis: the page is as long as there are queues."""
    _fail_once_each(rig, 100)
    rig.relay().fold()
    before = _series(_scrape(workbench))
    _fail_once_each(rig, 100_000)
    with rig.redis.pipeline() as pipe:
        for n in range(1_000):
            pipe.rpush(f"queue:foreign-{n}", "not json")
        pipe.execute()
    rig.relay().fold()
    page = _scrape(workbench)
    assert 'queuemon_jobs_failed_total{queue="mail"} 100100.0' in page
    assert _series(page) == before
