"""Each kind of disagreement planted into a live system: all are found, nothing else is, all are repaired, and the books
of the jobs balance afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from queuemon.config import Settings
from queuemon.demo.stack import Stack
from queuemon.drift.model import CLASSES, DriftReport
from queuemon.schema.migrate import upgrade
from queuemon.workbench import Workbench
from tests.support import ledger, load
from tests.support.drift import Planter, mark_of
from tests.support.proofs import Proof
from tests.support.wait import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
LEASE_SECONDS = 10.0

#: What a relay heals by itself within seconds is judged while none runs.
HEALED_BY_THE_RELAY = (6, 7, 10, 15)

#: What stays in the list for the claim to refuse.
LEFT_TO_WORKERS = (3, 4, 5)


@dataclass(kw_only=True)
class Site:
    """The stack, the processes on it, and their books."""

    folder: Path
    settings: Settings
    environment: dict[str, str]
    wb: Workbench
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=self.environment, cwd=ROOT, stdout=log, stderr=log
            )

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.terminate()
        process.wait(60)

    def rows(self, statement: str) -> list[Any]:
        with psycopg.connect(self.settings.database_url.get_secret_value()) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload]

    def completed(self) -> int:
        return int(self.rows("SELECT count(*) FROM jobs WHERE status = 'completed'")[0][0])


@pytest.fixture
def site(make_stack: Callable[..., Stack], tmp_path: Path) -> Iterator[Site]:
    urls = make_stack("live").up()
    upgrade(urls.database_url)
    toml = tmp_path / "queuemon.toml"
    toml.write_text(
        f"[profiles.default]\nlease_seconds = {LEASE_SECONDS}\nheartbeat_seconds = 0.5\nbackoff_seconds = 0.2\n"
        f'database_url = "{urls.database_url}"\nredis_url = "{urls.redis_url}"\n'
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUEUEMON_")}
    environment |= {"QUEUEMON_CONFIG": str(toml), "QUEUEMON_TEST_BOOKS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    settings = Settings(
        lease_seconds=LEASE_SECONDS, heartbeat_seconds=0.5, database_url=SecretStr(urls.database_url),
        redis_url=SecretStr(urls.redis_url),
    )  # fmt: skip
    with psycopg.connect(urls.database_url) as connection:
        for name, priority in load.QUEUES.items():
            connection.execute(
                "INSERT INTO job_queues (name, priority, concurrency) VALUES (%s, %s, 1)", (name, priority)
            )
    with Workbench(settings) as wb:
        made = Site(folder=tmp_path, settings=settings, environment=environment, wb=wb)
        with _processes(made):
            yield made


@contextmanager
def _processes(site: Site) -> Iterator[None]:
    try:
        site.start("relay", "queuemon", "relay")
        site.start("crowd", "tests.support.crowd", str(site.folder))
        site.start("supervisor", "queuemon", "supervisor", "--handlers", "tests.support.load:handle", "--grace", "5")
        yield
    except BaseException:
        for path in sorted(site.folder.glob("*.log")):
            print(f"--- {path.name}\n{path.read_text(errors='replace')[-2_000:]}")
        raise
    finally:
        for name in list(site.running):
            try:
                site.stop(name)
            except subprocess.TimeoutExpired:
                site.running.pop(name, None)


def _found(report: DriftReport, number: int) -> set[str]:
    return {mark_of(f) for f in report.findings if f.number == number}


def _short_lived(site: Site) -> set[str]:
    """Jobs that the load gives 50 ms: they do expire while their element is in the list, and are found for what they
    are."""
    return {row[0] for row in site.rows("SELECT id::text FROM jobs WHERE expires_at - run_at < interval '1 second'")}


@pytest.mark.prove
def test_what_is_planted_into_a_live_system_is_found_and_repaired_and_nothing_else(
    site: Site, proof: Proof, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in proof.cases(["every kind"], sample=1):
        _plant_find_repair(site, 50 if proof.full else 4, 150.0 if proof.full else 60.0, case, capsys)


def _plant_find_repair(site: Site, n: int, rate: float, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    wb, plant = site.wb, Planter(site.wb.store, "archive", "archive-too")
    plant.overdue_listed = False
    plant.new_queue("archive", paused=True)  # a backlog: what is planted there stays until it has been judged
    plant.new_queue("archive-too", paused=False)
    plant.healthy(20 * n)
    for seed in range(4):
        site.start(f"producer-{seed}", "tests.support.load", str(site.folder), str(seed), str(rate))
    wait_until(lambda: site.completed() > 200, timeout=60, message="the system is at work")
    began, before = time.monotonic(), site.completed()

    planted: dict[int, set[str]] = {}
    figures: dict[int, tuple[int, int, int]] = {}
    false: Counter[int] = Counter()
    for numbers in ([c for c in CLASSES if c not in HEALED_BY_THE_RELAY], list(HEALED_BY_THE_RELAY)):
        relay_away = numbers == list(HEALED_BY_THE_RELAY)
        if relay_away:
            site.stop("relay")
        for number in numbers:
            planted[number] = plant.plant(number, n).marks
        report = wb.drift(deep=True)
        for number in CLASSES:
            expected = planted.get(number, set()) if number in numbers or number in (*LEFT_TO_WORKERS, 14) else set()
            seen = _found(report, number)
            # Elements of the old generation of what was repaired before are stale, as they should be.
            extra = (
                seen
                - expected
                - _short_lived(site)
                - (set().union(*planted.values()) if number in LEFT_TO_WORKERS else set())
            )
            false[number] += len(extra)
            if number in numbers:
                figures[number] = (len(expected), len(seen & expected), 0)
        plan = wb.plan("repair", report, max_percent=100, max_repairs=10_000)
        result = wb.apply(plan, reason="proof")
        after = wb.drift(deep=True)
        for number in numbers:
            gone = len(planted[number] - _found(after, number))
            figures[number] = (*figures[number][:2], gone)
        assert (result.state, result.done) == ("done", plan.count), result.summary
        if relay_away:
            site.start("relay", "queuemon", "relay")
    seconds = time.monotonic() - began
    pace = (site.completed() - before) / seconds
    for key in planted[14]:
        plant.redis.delete(key)

    _let_everything_run(site, plant)
    record = _record(site, deleted=planted[2])
    after = wb.drift(deep=True)
    for number in LEFT_TO_WORKERS:
        figures[number] = (*figures[number][:2], len(planted[number] - _found(after, number)))
    with capsys.disabled():
        print(f"\n  {case}: {pace:,.0f} jobs/s completed meanwhile, {len(record.starts):,} starts")
        for number in sorted(CLASSES):
            sown, seen, gone = figures[number]
            how = "reported" if number == 14 else "dropped by claims" if number in LEFT_TO_WORKERS else "repaired"
            print(f"  {number:>2} {CLASSES[number].title:<55} planted {sown:>3}  found {seen:>3}  {how} {gone:>3}")
        print(f"  false findings {sum(false.values())}, violations of the books {len(ledger.violations(record))}")
    assert {k: v for k, v in false.items() if v} == {}
    assert {k: v for k, v in figures.items() if v[1] != v[0]} == {}
    assert {k: v for k, v in figures.items() if v[2] != v[0] and k != 14} == {}
    assert ledger.violations(record) == []
    assert after.count == 0, after.summary


def _let_everything_run(site: Site, plant: Planter) -> None:
    """Producers stop, pauses end, and all that waits is worked off."""
    for seed in range(4):
        site.stop(f"producer-{seed}")
    for (queue,) in site.rows("SELECT name FROM job_queues WHERE paused ORDER BY name"):
        site.wb.resume(queue, reason="proof")
    left = (
        "SELECT count(*) FROM jobs WHERE status IN ('waiting', 'active')"
        " UNION ALL SELECT count(*) FROM queuemon.publications"
    )
    wait_until(lambda: site.rows(left) == [(0,), (0,)], timeout=180, message="everything is done", interval=0.2)

    def empty() -> bool:
        return not any(plant.redis.scan_iter(match="queue:*")) and not any(
            plant.redis.scan_iter(match="queuemon:proc:*")
        )

    wait_until(empty, timeout=60, message="no list and no hand holds anything", interval=0.2)


def _record(site: Site, deleted: set[str]) -> ledger.Record:
    rows = site.rows("SELECT id::text, status, gen, extract(epoch FROM finished_at)::float8 FROM jobs")
    created = site.rows(
        "SELECT (SELECT coalesce(sum(n), 0) FROM queuemon.minutes WHERE kind = 'arrived')"
        " + (SELECT coalesce(sum(n), 0) FROM queuemon.job_deltas WHERE arrived IS NOT NULL)"
    )
    starts = ledger.read(site.folder, "start")
    # Planted as completed: nobody ever started them.
    started = {start["id"] for start in starts}
    mine = {i: r for i, r in ((r[0], r) for r in rows) if i in started or r[1] != "completed"}
    return ledger.Record(
        starts=starts,
        acknowledged={line["id"] for line in ledger.read(site.folder, "acknowledged")},
        rows={i: {"status": r[1], "gen": r[2], "finished_at": r[3]} for i, r in mine.items()},
        deleted=deleted,
        created=int(created[0][0]) - (len(rows) - len(mine)),
    )
