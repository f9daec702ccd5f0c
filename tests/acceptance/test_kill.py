"""kill -9 under load of a worker, a relay, Valkey and PostgreSQL in turn: all heals, nothing is lost or repeated."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from pydantic import SecretStr

from queuemon.config import Settings
from queuemon.demo.stack import Stack
from queuemon.schema.migrate import upgrade
from queuemon.store import Store
from queuemon.workbench import Workbench
from tests.support import ledger, load
from tests.support.proofs import Proof
from tests.support.wait import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
LEASE_SECONDS = 3.0
#: Jobs that a single phase of the test brings.
PHASE = 600
#: Jobs per second of each of the two producers.
RATE = 150.0


@dataclass(kw_only=True)
class Site:
    """The stack, the processes on it, and their books."""

    stack: Stack
    folder: Path
    settings: Settings
    environment: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]]

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=self.environment, cwd=ROOT, stdout=log, stderr=log
            )

    def start_relay(self, name: str) -> None:
        self.start(name, "queuemon", "relay")

    def start_producers(self) -> None:
        for seed in (1, 2):
            self.start(f"producer-{seed}", "tests.support.load", str(self.folder), str(seed), str(RATE))

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.terminate()
        process.wait(60)

    def acknowledged(self) -> int:
        return sum(len(path.read_bytes().splitlines()) for path in self.folder.glob("acknowledged-*.jsonl"))

    def more_arrive(self, number: int = PHASE) -> None:
        """Go on until so many more jobs have been acknowledged: the load goes on."""
        goal = self.acknowledged() + number
        wait_until(lambda: self.acknowledged() >= goal, timeout=60, message=f"{number} more jobs", interval=0.1)

    def rows(self, statement: str) -> list[Any]:
        with psycopg.connect(self.settings.database_url.get_secret_value()) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload]

    def more_complete(self, number: int = 100) -> None:
        """Wait until the healed system has completed so many more."""
        completed = "SELECT count(*) FROM jobs WHERE status = 'completed'"
        goal = self.rows(completed)[0][0] + number
        wait_until(lambda: self.rows(completed)[0][0] >= goal, timeout=60, message="jobs go on being completed")


@pytest.fixture
def site(make_stack: Callable[..., Stack], tmp_path: Path) -> Iterator[Site]:
    stack = make_stack("killed")
    urls = stack.up()
    upgrade(urls.database_url)
    toml = tmp_path / "queuemon.toml"
    toml.write_text(
        f"[profiles.default]\nlease_seconds = {LEASE_SECONDS}\nheartbeat_seconds = 0.5\nbackoff_seconds = 0.2\n"
        f'database_url = "{urls.database_url}"\nredis_url = "{urls.redis_url}"\n'
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUEUEMON_")}
    environment |= {"QUEUEMON_CONFIG": str(toml), "QUEUEMON_TEST_BOOKS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    settings = Settings(
        lease_seconds=LEASE_SECONDS,
        database_url=SecretStr(urls.database_url),
        redis_url=SecretStr(urls.redis_url),
    )
    site = Site(stack=stack, folder=tmp_path, settings=settings, environment=environment, running={})
    with psycopg.connect(urls.database_url) as connection:
        for name, priority in load.QUEUES.items():
            connection.execute(
                "INSERT INTO job_queues (name, priority, concurrency) VALUES (%s, %s, 1)", (name, priority)
            )
    with _processes(site):
        yield site


@contextmanager
def _processes(site: Site) -> Iterator[None]:
    """Two relays, a supervisor with a worker per queue, two producers; all gone at the end, whatever happened."""
    try:
        site.start_relay("relay-1")
        site.start_relay("relay-2")
        site.start("supervisor", "queuemon", "supervisor", "--handlers", "tests.support.load:handle", "--grace", "5")
        site.start_producers()
        yield
    except BaseException:
        for path in sorted(site.folder.glob("*.log")):
            print(f"--- {path.name}\n{path.read_text(errors='replace')[-3_000:]}")
        raise
    finally:
        for name in list(site.running):
            try:
                site.stop(name)
            except subprocess.TimeoutExpired:
                site.kill(name)


def _kill_worker_with_a_job(site: Site) -> None:
    holders = (
        "SELECT w.pid FROM jobs AS j JOIN queuemon.workers AS w ON w.id = j.worker_id WHERE j.status = 'active' LIMIT 1"
    )
    ((pid,),) = wait_until(lambda: site.rows(holders), message="a worker has a job in hand")
    psutil.Process(pid).kill()


def _quiesce(site: Site) -> None:
    """Producers stop; wait until nothing waits, runs or is to be published, and Redis is empty."""
    for seed in (1, 2):
        site.stop(f"producer-{seed}")
    left = (
        "SELECT count(*) FROM jobs WHERE status IN ('waiting', 'active')"
        " UNION ALL SELECT count(*) FROM queuemon.publications"
    )
    wait_until(lambda: site.rows(left) == [(0,), (0,)], timeout=120, message="everything is done", interval=0.2)
    with Store(site.settings) as store:
        client: Any = store.redis.client

        def empty() -> bool:
            return not any(client.exists(f"queue:{name}") for name in load.QUEUES) and not list(
                client.scan_iter(match="queuemon:proc:*")
            )

        wait_until(empty, timeout=30, message="no list and no hand holds anything", interval=0.2)


def _record(site: Site, deleted: set[str]) -> ledger.Record:
    rows = site.rows("SELECT id::text, status, gen, extract(epoch FROM finished_at)::float8 FROM jobs")
    created = site.rows(
        "SELECT (SELECT coalesce(sum(n), 0) FROM queuemon.minutes WHERE kind = 'arrived')"
        " + (SELECT coalesce(sum(n), 0) FROM queuemon.job_deltas WHERE arrived IS NOT NULL)"
    )
    return ledger.Record(
        starts=ledger.read(site.folder, "start"),
        acknowledged={line["id"] for line in ledger.read(site.folder, "acknowledged")},
        rows={i: {"status": status, "gen": gen, "finished_at": at} for i, status, gen, at in rows},
        deleted=deleted,
        created=int(created[0][0]),
    )


def _delete_some(site: Site) -> set[str]:
    """An operator deletes all that stand failed; returns their ids."""
    with Workbench(site.settings) as workbench:
        plan = workbench.plan("delete", [row[0] for row in site.rows("SELECT id FROM jobs WHERE status = 'failed'")])
        result = workbench.apply(plan, reason="test")
    assert result.done > 0
    return {row[0] for row in site.rows("SELECT unnest(done_ids)::text FROM queuemon.action_chunks")}


def _kill_relay(site: Site) -> None:
    site.kill("relay-1")
    site.more_arrive(PHASE // 2)
    site.start_relay("relay-1")


def _kill_valkey(site: Site) -> None:
    urls = site.stack.urls()
    psutil.Process(site.stack.status().valkey.pid).kill()
    site.more_arrive(PHASE // 2)  # jobs are accepted while Valkey is away
    assert site.stack.up() == urls
    site.more_complete()


def _kill_postgres(site: Site) -> None:
    urls = site.stack.urls()
    psutil.Process(site.stack.status().postgres.pid).kill()
    wait_until(lambda: not site.stack.status().postgres.running, message="PostgreSQL has gone")
    assert site.stack.up() == urls
    site.more_complete()


KILLS = {"worker": _kill_worker_with_a_job, "relay": _kill_relay, "valkey": _kill_valkey, "postgres": _kill_postgres}


@pytest.mark.prove
@pytest.mark.timeout(0)
def test_after_kills_in_random_order_at_random_moments_the_books_balance(
    site: Site, proof: Proof, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in proof.cases([f"seed {n}" for n in range(1, 41)], sample=1):
        draw = random.Random(case)
        victims = draw.choices(list(KILLS), k=3)
        for victim in victims:
            site.more_arrive(draw.randint(1, 200))
            KILLS[victim](site)
        _quiesce(site)
        record = _record(site, deleted=set())
        assert ledger.violations(record) == [], f"{case}: {', '.join(victims)}"
        with capsys.disabled():
            print(f"  {case}: {', '.join(victims)} killed; {len(record.rows):,} jobs, {len(record.starts):,} starts")
        site.start_producers()


def test_after_kill_9_of_every_part_under_load_nothing_is_lost_or_repeated(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.more_arrive()
    _kill_worker_with_a_job(site)
    site.more_arrive()
    _kill_relay(site)
    _kill_valkey(site)
    site.more_arrive()
    _kill_postgres(site)
    site.more_arrive()
    _kill_worker_with_a_job(site)

    _quiesce(site)
    record = _record(site, _delete_some(site))
    with capsys.disabled():
        print()
        for name, number in ledger.figures(record).items():
            print(f"  {number:>7,} {name}")
    assert ledger.violations(record) == []
    sums = ledger.figures(record)
    assert sums["waiting"] == sums["active"] == 0
    assert sums["completed"] > 0.9 * sums["created"]
    assert sums["expired"] > 0
    assert sums["jobs started more than once, each time in a new generation"] > 0

    # The checker is no rubber stamp: one wrong line in this very record is found.
    rng = random.Random(1)
    start = rng.choice(record.starts)
    assert ledger.violations(replace(record, starts=[*record.starts, start]))
    victim = rng.choice(sorted(record.acknowledged & record.rows.keys()))
    rest = {job_id: row for job_id, row in record.rows.items() if job_id != victim}
    assert any("lost" in found for found in ledger.violations(replace(record, rows=rest)))
