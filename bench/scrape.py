"""What a scrape costs: its time beside a bare snapshot, fifty at once, and what PostgreSQL spends on it."""

from __future__ import annotations

import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
from sqlalchemy import event, text

from bench import bystander
from bench.data import fill
from bench.measure import compare, milliseconds
from queuemon.alerting.exporter import serving
from queuemon.store.totals import BOUNDS
from queuemon.workbench import Workbench

#: Queues, and scrapes at once.
QUEUES, AT_ONCE = 200, 50

#: Seconds between two scrapes while a bystander is timed: fifteen times as often as usual.
EVERY = 1.0

_NAIVE = "SELECT queue, status, count(*) FROM jobs GROUP BY 1, 2"

_TOTALS = """
INSERT INTO queuemon.totals (queue, measure, bucket, n, seconds)
SELECT name, measure, bucket, 1000, 50.0
FROM job_queues, unnest(ARRAY['completed', 'failed', 'waited']) AS measure,
    generate_series(0, CAST(:buckets AS int)) AS bucket
ON CONFLICT DO NOTHING
"""


def run(wb: Workbench, url: str, total: int) -> None:
    """`total` jobs in 200 queues, every bucket of every histogram filled."""
    seconds = fill(wb.store, total, queues=QUEUES)
    with wb.store.postgres.begin() as connection:
        connection.execute(text(_TOTALS), {"buckets": len(BOUNDS)})
    print(f"\n{total:,} jobs in {QUEUES} queues (loaded in {seconds:.0f} s)")

    def naive() -> None:
        with wb.store.postgres.begin(seconds=0) as connection:
            connection.execute(text(_NAIVE)).all()

    with serving(wb, host="127.0.0.1", port=0, seconds=0) as port:
        page = _scrape(port)
        print(f"a page: {page.count(b'queuemon_'):,} lines, {len(page) / 1024:,.0f} KiB")
        took = milliseconds(lambda: _scrape(port), rounds=100)
        p50, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
        print(f"scrape that reads the stores: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        compare("scrape that reads the stores", lambda: _scrape(port), "a bare snapshot", wb.store.snapshot, rounds=30)
        compare("the same", lambda: _scrape(port), "naive GROUP BY (counts alone)", naive, rounds=3)
        with _counted(wb) as statements:
            _scrape(port)
        print(f"statements per reading: {len(statements)}")
        spent = _server_seconds(wb, lambda: milliseconds(lambda: _scrape(port), rounds=50, warm=0)) / 50
        print(f"PostgreSQL's processor time per reading: {spent * 1000:.1f} ms = {spent / 15:.3%} of a core every 15 s")
        one = len(statements)
        _bystanders(url, port)
    with serving(wb, host="127.0.0.1", port=0, seconds=60) as port, _counted(wb) as statements:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            started = time.perf_counter()
            pages = list(pool.map(lambda _: len(_scrape(port)), range(AT_ONCE)))
            elapsed = time.perf_counter() - started
        if len(statements) != one:
            raise AssertionError(f"{AT_ONCE} scrapes at once took {len(statements)} statements, one takes {one}")
        print(f"{len(pages)} scrapes at once: {len(statements)} statements, as one; all answered in {elapsed:.2f} s")
        took = milliseconds(lambda: _scrape(port), rounds=100)
        print(f"scrape within the interval: p50 {statistics.median(took):.1f} ms, p99 {max(took):.1f} ms at most")


def _scrape(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return answer.read()  # type: ignore[no-any-return]


@contextmanager
def _counted(wb: Workbench) -> Iterator[list[str]]:
    """The statements that reach PostgreSQL meanwhile."""
    found: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    event.listen(wb.store.postgres.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(wb.store.postgres.engine, "before_cursor_execute", note)


def _server_seconds(wb: Workbench, work: Callable[[], object]) -> float:
    """Processor time of the sessions that serve us, while `work` is done."""
    with wb.store.postgres.begin() as connection:
        statement = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        backends = [psutil.Process(pid) for (pid,) in connection.execute(text(statement))]

    def spent() -> float:
        return sum(sum(b.cpu_times()[:2]) for b in backends if b.is_running())

    before = spent()
    work()
    return spent() - before


def _bystanders(url: str, port: int) -> None:
    """The 99th percentile of others' writes alone and while somebody scrapes each second, in turn."""

    def scrapes() -> None:
        for _ in range(5):
            started = time.perf_counter()
            _scrape(port)
            time.sleep(max(0.0, EVERY - (time.perf_counter() - started)))

    found = [(bystander.p99(url, lambda: time.sleep(5 * EVERY)), bystander.p99(url, scrapes)) for _ in range(5)]
    alone, ours = (statistics.median(column) for column in zip(*found, strict=True))
    ratio = statistics.median(b / a for a, b in found)
    print(
        f"p99 of a bystander's cycle: {alone:.2f} ms alone, {ours:.2f} ms with a scrape each second   ratio {ratio:.2f}"
    )
