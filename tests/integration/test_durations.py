"""How long jobs took, against the same said in plain Python; and readings that a bound ends in the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median

import numpy as np
import pytest
from sqlalchemy import text

from queuemon.analysis.durations import BUCKETS
from queuemon.config import Settings
from queuemon.errors import StoreTimeout
from queuemon.store import durations as reading
from queuemon.store.bounds import Bound
from queuemon.workbench import Workbench
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def wb(settings: Settings) -> Iterator[Workbench]:
    with Workbench(settings) as made:
        with made.store.postgres.begin() as connection:
            connection.execute(text("INSERT INTO job_queues (name, target_seconds) VALUES ('mail', 90), ('other', 5)"))
        yield made


def complete(wb: Workbench, queue: str, jobs: list[tuple[datetime, float]], *, kept: bool = True) -> None:
    """Jobs that were done at a time, so many seconds after they were created; without their row where not `kept`."""
    rows = [{"q": queue, "at": at, "took": took} for at, took in jobs]
    with wb.store.postgres.begin() as connection:
        connection.execute(
            text(
                "WITH job AS (INSERT INTO jobs (id, queue, payload, status, created_at, finished_at)"
                " VALUES (gen_random_uuid(), :q, '{}', 'completed', :at - make_interval(secs => :took), :at)"
                " RETURNING id)"
                " INSERT INTO job_logs (job_id, queue, kind, gen, attempt, status, started_at, finished_at, due_at)"
                " SELECT id, :q, 'attempt', 1, 1, 'completed', :at, :at, :at - make_interval(secs => :took) FROM job"
            ),
            rows,
        )
        if not kept:
            connection.execute(text("DELETE FROM jobs WHERE queue = :q"), {"q": queue})


@pytest.mark.parametrize("kept", [True, False])
def test_the_quantiles_are_those_of_the_jobs_that_completed(wb: Workbench, kept: bool) -> None:
    rng, now = Random(5), datetime.now(UTC)
    since, until = now - timedelta(hours=2), now - timedelta(hours=1)
    jobs = [(since + (until - since) * rng.random(), rng.expovariate(1 / 40)) for _ in range(600)]
    complete(wb, "mail", jobs, kept=kept)
    complete(wb, "other", [(at, 9_999.0) for at, _ in jobs[:50]])
    found = wb.durations("queue:mail", since, until)
    assert (found.target_seconds, found.share, len(found.points)) == (90.0, 1.0, BUCKETS)
    assert sum(p.jobs for p in found.points) == 600
    step = (until - since) / BUCKETS
    for n, point in enumerate(found.points):
        took = [took for at, took in jobs if n == min(BUCKETS - 1, (at - since) // step)]
        if not took:
            assert point.p50 is None
            continue
        assert point.p50 == pytest.approx(median(took), abs=0.001)
        assert point.p95 == pytest.approx(np.quantile(took, 0.95), abs=0.001)
        assert point.p99 == pytest.approx(np.quantile(took, 0.99), abs=0.001)
    assert wb.durations(None, since, until).target_seconds is None
    assert max(p.p99 or 0 for p in wb.durations(None, since, until).points) > 9_000


def test_of_many_jobs_a_part_of_the_time_is_read_and_said(wb: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "JOBS", 300)
    rng, now = Random(6), datetime.now(UTC)
    complete(wb, "mail", [(now - timedelta(minutes=59 * rng.random()), 20 + 10 * rng.random()) for _ in range(1_500)])
    found = wb.durations("mail", "1h")
    assert found.share == pytest.approx(0.2, abs=0.01)
    assert 150 < sum(p.jobs for p in found.points) < 450
    assert 20 < median(p.p50 for p in found.points if p.p50 is not None) < 30


def test_a_bound_ends_a_statement_by_its_time_and_says_so(wb: Workbench) -> None:
    bound = Bound(0.3)
    told = pytest.raises(StoreTimeout, match=r"did not finish within 0\.3 s")
    with told, bound.held(), wb.store.postgres.begin(seconds=60) as connection:
        connection.execute(text("SELECT pg_sleep(30)"))
    with wb.store.postgres.begin() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() != "300ms", "outside all is as before"


def test_a_bound_that_is_stopped_ends_what_runs_in_the_store_and_begins_nothing(wb: Workbench) -> None:
    bound, ended = Bound(30), list[float]()

    def read() -> None:
        with bound.held(), pytest.raises(StoreTimeout), wb.store.postgres.begin(seconds=60) as connection:
            connection.execute(text("SELECT pg_sleep(30) /* the one to stop */"))
        ended.append(time.monotonic())

    def running() -> int:
        with wb.store.postgres.begin() as connection:
            asked = text(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%the one' || ' to stop%' AND state = 'active'"
            )
            return int(connection.execute(asked).scalar_one())

    thread = threading.Thread(target=read)
    thread.start()
    wait_until(lambda: running() == 1, timeout=10, message="it runs")
    bound.stop()
    wait_until(lambda: running() == 0, timeout=10, message="it has ended in the store")
    thread.join(10)
    assert ended
    with bound.held(), pytest.raises(StoreTimeout):
        wb.queues()
    assert wb.queues(), "the connection is whole, and another reading is free"
