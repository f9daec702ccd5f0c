"""The exporter over real stores: counters equal what the database holds, scrapes share a read, a store away is said."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, text

from queuemon.alerting.exporter import serving
from queuemon.alerting.reading import Reader
from queuemon.errors import StackError
from queuemon.store import rollups
from queuemon.workbench import Workbench
from tests.support.counted import Page, differences, parsed
from tests.support.engine import Rig
from tests.support.prometheus import page_of
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def workbench(rig: Rig) -> Iterator[Workbench]:
    with Workbench(rig.store.settings) as opened:
        yield opened


@pytest.fixture
def statements(workbench: Workbench) -> Iterator[list[str]]:
    """What reaches PostgreSQL from the workbench."""
    found: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    event.listen(workbench.store.postgres.engine, "before_cursor_execute", note)
    yield found
    event.remove(workbench.store.postgres.engine, "before_cursor_execute", note)


def scrape(port: int) -> Page:
    return parsed(page_of(port))


def of(page: Page, name: str, **labels: str) -> float:
    return page[f"queuemon_{name}", frozenset(labels.items())]


def _sometimes(job: Any) -> None:
    if job.payload["n"] % 3 == 0:
        raise ValueError("no")


def _work(rig: Rig, jobs: int) -> None:
    for n in range(jobs):
        rig.producer.enqueue("mail", {"n": n}, max_attempts=1)
    with rig.worker(_sometimes):
        wait_until(lambda: not rig.count("waiting") + rig.count("active"), message="all jobs have ended")
    rig.relay().fold()


def test_counters_and_histograms_equal_the_log_and_do_not_fall_when_it_is_purged(
    rig: Rig, workbench: Workbench
) -> None:
    _work(rig, 9)
    with serving(workbench, host="127.0.0.1", port=0, seconds=0) as port:
        page = scrape(port)
        assert of(page, "jobs_created_total", queue="mail") == 9
        assert of(page, "jobs_completed_total", queue="mail") == 6
        assert of(page, "jobs_failed_total", queue="mail") == 3
        assert of(page, "jobs_within_target_total", queue="mail") == 6
        assert of(page, "job_duration_seconds_count", queue="mail", result="completed") == 6
        assert of(page, "job_waiting_seconds_count", queue="mail") == 9
        (row,) = rig.sql("SELECT sum(duration_ms) / 1000 AS s FROM job_logs WHERE status = 'completed'")
        assert of(page, "job_duration_seconds_sum", queue="mail", result="completed") == pytest.approx(row["s"])
        for bound in ("0.01", "0.5", "60.0"):
            (row,) = rig.sql(
                "SELECT count(*) AS n FROM job_logs"
                f" WHERE kind = 'attempt' AND started_at - due_at <= interval '{bound} s'"
            )
            assert of(page, "job_waiting_seconds_bucket", queue="mail", le=bound) == row["n"]
        rig.sql("DELETE FROM job_logs")
        rig.sql("DELETE FROM jobs")
        rig.relay().fold()
        after = scrape(port)
        assert of(after, "jobs_completed_total", queue="mail") == 6
        assert of(after, "jobs_created_total", queue="mail") == 9


def _commit_late(rig: Rig) -> None:
    """An attempt that commits after a younger transaction's, and after the younger one could be folded."""
    (job_id,) = rig.producer.enqueue_many("mail", [{}])
    rig.sql("UPDATE jobs SET status = 'completed', finished_at = now() WHERE id = :id", id=job_id)
    insert = (
        "INSERT INTO job_logs (job_id, queue, kind, gen, status, finished_at, duration_ms)"
        f" VALUES ('{job_id}', 'mail', 'attempt', 1, 'failed', now(), 5)"
    )
    with rig.store.postgres.begin() as late:
        late.exec_driver_sql(insert)
        rig.sql(insert.replace("'failed'", "'completed'"))  # a younger transaction commits first
        for _ in range(2):
            rig.relay().fold()
    for _ in range(2):
        rig.relay().fold()


def _differences(rig: Rig, workbench: Workbench) -> list[str]:
    with serving(workbench, host="127.0.0.1", port=0, seconds=0) as port:
        return differences(parsed(page_of(port)), lambda statement: [tuple(r.values()) for r in rig.sql(statement)])


def test_a_sum_of_seconds_is_the_same_in_whatever_order_its_rows_lie(rig: Rig, workbench: Workbench) -> None:
    """A sum that falls by a rounding error would be a counter that was reset."""
    rig.sql("INSERT INTO queuemon.totals (queue, measure, bucket, n, seconds) VALUES"
            " ('mail', 'waited', 1, 1, 0.1), ('mail', 'waited', 2, 1, 0.2), ('mail', 'waited', 3, 1, 0.3)")  # fmt: skip
    seen = [Reader(workbench).read().totals]
    rig.sql("UPDATE queuemon.totals SET n = 1 WHERE bucket = 1")
    assert [row["bucket"] for row in rig.sql("SELECT bucket FROM queuemon.totals")] == [2, 3, 1]
    seen += [Reader(workbench).read().totals]
    assert [f"{page['mail'].waited.seconds!r}" for page in seen if page] == ["0.6", "0.6"]


def test_an_attempt_that_commits_late_is_counted_once(rig: Rig, workbench: Workbench) -> None:
    _commit_late(rig)
    assert _differences(rig, workbench) == []


def test_without_the_xmin_horizon_a_late_commit_is_missed(
    rig: Rig, workbench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contrast to the test above, by the same comparison."""
    hasty = str(rollups._FOLD_ATTEMPTS).replace("pg_snapshot_xmin", "pg_snapshot_xmax")
    monkeypatch.setattr(rollups, "_FOLD_ATTEMPTS", text(hasty))
    _commit_late(rig)
    assert any("jobs_failed" in line for line in _differences(rig, workbench))


def test_two_relays_that_fold_at_once_count_nothing_twice(rig: Rig, workbench: Workbench) -> None:
    _work(rig, 6)
    _ = [rig.producer.enqueue("mail", {}) for _ in range(50)]
    rig.sql(
        "INSERT INTO job_logs (job_id, queue, kind, gen, status, finished_at, duration_ms)"
        " SELECT id, queue, 'attempt', 1, 'completed', now(), 5 FROM jobs"
    )

    def fold(_: int) -> None:
        with rig.store.postgres.begin() as connection:
            rollups.fold_counts(connection, rig.store.tables)
        with rig.store.postgres.begin() as connection:
            rollups.fold_attempts(connection, rig.store.tables)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fold, range(16)))
    with serving(workbench, host="127.0.0.1", port=0, seconds=0) as port:
        page = scrape(port)
    assert of(page, "jobs_created_total", queue="mail") == 56
    assert of(page, "jobs_completed_total", queue="mail") == 4 + 56


def test_fifty_scrapes_at_once_are_one_reading(rig: Rig, workbench: Workbench, statements: list[str]) -> None:
    rig.producer.enqueue("mail", {})
    with serving(workbench, host="127.0.0.1", port=0, seconds=0) as port:
        page_of(port)
    one = len(statements)
    statements.clear()
    barrier = threading.Barrier(50)

    def get(port: int) -> str:
        barrier.wait()
        return page_of(port)

    with serving(workbench, host="127.0.0.1", port=0, seconds=60) as port, ThreadPoolExecutor(50) as pool:
        assert len(set(pool.map(get, [port] * 50))) == 1
        assert len(statements) == one > 5
        page = page_of(port, accept="application/openmetrics-text; version=1.0.0")
        assert page.endswith("# EOF\n")
        assert len(statements) == one


def test_a_scrape_after_the_interval_tells_news(rig: Rig, workbench: Workbench) -> None:
    with serving(workbench, host="127.0.0.1", port=0, seconds=0) as port:
        for n in (1, 2):
            rig.producer.enqueue("mail", {})
            assert of(scrape(port), "jobs", queue="mail", state="waiting") == n


def test_scraping_changes_nothing(rig: Rig, workbench: Workbench) -> None:
    _work(rig, 3)
    before = rig.sql("SELECT sum(n) AS n FROM queuemon.totals")
    with serving(workbench, host="127.0.0.1", port=0, seconds=0) as port:
        scrape(port)
        assert of(scrape(port), "up", store="postgresql") == 1
    assert rig.sql("SELECT sum(n) AS n FROM queuemon.totals") == before


def test_a_port_in_use_is_said_in_words(workbench: Workbench) -> None:
    with (
        serving(workbench, host="127.0.0.1", port=0, seconds=1) as port,
        pytest.raises(StackError, match=f"127.0.0.1:{port}"),
        serving(workbench, host="127.0.0.1", port=port, seconds=1),
    ):
        pass
