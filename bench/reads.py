"""The reads of a screen at 10 k, 1 M and 10 M jobs: snapshot, page, search, frame."""

from __future__ import annotations

import statistics
import time

from sqlalchemy import text

from bench.data import fill
from bench.measure import compare, milliseconds
from queuemon.store import Store
from queuemon.workbench import Workbench

_NAIVE = "SELECT queue, status, count(*) FROM jobs GROUP BY 1, 2"
_PAGE = (
    "SELECT id, queue, status, attempts, max_attempts, gen, created_at, updated_at, run_at, expires_at, started_at,"
    " finished_at, heartbeat_at, worker_id, error_type, error_message, left(payload::text, 200)"
    " FROM jobs WHERE queue = 'email-sending' AND status = 'failed' AND id < :after ORDER BY id DESC LIMIT 50"
)


def run(workbench: Workbench, sizes: list[int]) -> None:
    """Fill, then measure, for each size; the largest also pages, searches and exports."""
    first: float | None = None
    for total in sizes:
        seconds = fill(workbench.store, total)
        print(f"\n{total:,} jobs in 5 queues (loaded in {seconds:.0f} s)")
        ours = snapshot(workbench.store, f"snapshot, exact, {total:,} jobs")
        first = first or ours
        print(f"{'':<44} {ours:9.2f} ms = {ours / first:.2f} times the same at {sizes[0]:,} jobs")
    pages(workbench)
    search(workbench)
    frame(workbench)
    total = sizes[-1]
    seconds = fill(workbench.store, total, queues=200)
    print(f"\n{total:,} jobs in 200 queues (loaded in {seconds:.0f} s)")
    snapshot(workbench.store, f"snapshot, exact, 200 queues, {total:,} jobs")


def snapshot(store: Store, name: str) -> float:
    """The whole of `Store.snapshot()` against a naive GROUP BY; checks that both count the same."""

    def naive() -> dict[tuple[str, str], int]:
        with store.postgres.begin(seconds=0) as connection:
            return {(q, s): n for q, s, n in connection.execute(text(_NAIVE))}

    ours, _ = compare(name, store.snapshot, "naive GROUP BY (counts alone)", naive, rounds=5)
    truth = naive()
    for q in store.snapshot().queues:
        found = (q.waiting + q.scheduled, q.active, q.completed, q.failed, q.expired)
        expected = tuple(truth.get((q.name, s), 0) for s in ("waiting", "active", "completed", "failed", "expired"))
        if found != expected:
            raise AssertionError(f"{q.name}: snapshot says {found}, count(*) says {expected}")
    return statistics.median(milliseconds(store.snapshot, rounds=30)) if ours else ours


def pages(workbench: Workbench) -> None:
    """A page half-way down the failed jobs of a queue by keyset, and the same by OFFSET."""
    depth = workbench.count("queue:email-sending status:failed").value // 2
    with workbench.store.postgres.begin(seconds=0) as connection:
        deep = connection.execute(
            text(
                "SELECT id FROM jobs WHERE queue = 'email-sending' AND status = 'failed'"
                " ORDER BY id DESC OFFSET :depth LIMIT 1"
            ),
            {"depth": depth},
        ).scalar_one()
    page = workbench.jobs("queue:email-sending status:failed", limit=50)
    while page.after and page.jobs[-1].id > deep:
        page = workbench.jobs("queue:email-sending status:failed", limit=1000, after=page.after)
    cursor = page.after

    def ours() -> None:
        workbench.jobs("queue:email-sending status:failed", limit=50, after=cursor)

    def bare() -> None:
        with workbench.store.postgres.begin() as connection:
            connection.execute(text(_PAGE), {"after": deep}).all()

    def offset() -> None:
        with workbench.store.postgres.begin() as connection:
            connection.execute(text(_PAGE.replace("AND id < :after", "") + " OFFSET :depth"), {"depth": depth}).all()

    name = f"page of 50 failed jobs, {depth:,} deep"
    compare(name, ours, "the bare keyset statement", bare, rounds=40)
    compare(name, ours, "the same by OFFSET", offset, rounds=10)


def search(workbench: Workbench) -> None:
    """payload.campaign_id=…, first without an index (bounded by the statement timeout), then with the GIN index."""
    store = workbench.store

    def ours() -> None:
        workbench.jobs("payload.campaign_id=4711", limit=50)

    started = time.perf_counter()
    try:
        ours()
        outcome = "answered"
    except Exception as error:
        outcome = f"was bounded: {error}"
    print(f"search without an index {outcome} after {time.perf_counter() - started:.2f} s")
    started = time.perf_counter()
    with store.postgres.begin(seconds=0) as connection:
        connection.execute(text("SET LOCAL maintenance_work_mem = '1GB'"))
        connection.execute(text("CREATE INDEX bench_payload ON jobs USING gin (payload jsonb_path_ops)"))
    print(f"GIN index built in {time.perf_counter() - started:.0f} s")

    def bare() -> None:
        statement = _PAGE.replace("queue = 'email-sending' AND status = 'failed' AND id < :after", "payload @> :p")
        with store.postgres.begin() as connection:
            connection.execute(text(statement), {"p": '{"campaign_id": 4711}'}).all()

    compare("search payload.campaign_id=4711 with GIN", ours, "the bare @> statement", bare, rounds=15)
    with store.postgres.begin(seconds=0) as connection:
        connection.execute(text("DROP INDEX bench_payload"))


def frame(workbench: Workbench) -> None:
    """1 M rows with two JSON fields into a DataFrame, against COPY alone."""
    columns = ["id", "queue", "created_at", "payload.campaign_id", "payload.template"]
    copy = (
        "COPY (SELECT id, queue, created_at, payload->>'campaign_id', payload->>'template' FROM jobs"
        " ORDER BY id DESC LIMIT 1000000) TO STDOUT (FORMAT csv)"
    )

    def ours() -> None:
        workbench.frame("", columns=columns, limit=1_000_000)

    def bare() -> None:
        with workbench.store.postgres.begin(seconds=0) as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            with driver.cursor() as cursor, cursor.copy(copy) as rows:
                for _ in rows:
                    pass

    compare("frame of 1,000,000 jobs, 5 columns", ours, "COPY alone, thrown away", bare, rounds=3)
