"""kill -9 of the exporter and of the relay under load: no counter ever falls, and in the end none differs from the
tables."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from queuemon.engine.handlers import JobInHand
from tests.support.counted import Page, differences, fallen, growing, parsed
from tests.support.engine import QUEUES, Rig
from tests.support.prometheus import page_of
from tests.support.proofs import Proof
from tests.support.wait import wait_until

pytestmark = pytest.mark.acceptance  # no time limit of its own: in full it takes half an hour

ROOT = Path(__file__).resolve().parents[2]
#: Jobs per second that are enqueued.
RATE = 40.0
#: Attempts that a scrape must have seen between two kills, at least.
BETWEEN = 40


@dataclass(kw_only=True)
class Site:
    """A relay and an exporter as processes, on the rig's stores; and what their counters have said so far."""

    folder: Path
    url: str
    environment: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    last: Page = field(default_factory=dict)
    scrapes: int = 0

    def start(self, name: str) -> None:
        arguments = [name, "--port", "0", "--interval", "0.1"] if name == "exporter" else [name]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "queuemon", *arguments], env=self.environment, cwd=ROOT, stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def rows(self, statement: str) -> list[Any]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload]

    def scrape(self) -> Page | None:
        """A page, compared with the last one, whichever process gave that; None while nobody answers."""
        said = re.search(rb"http://127\.0\.0\.1:(\d+)/", (self.folder / "exporter.log").read_bytes())
        try:
            page = parsed(page_of(int(said[1]))) if said else None
        except OSError:
            page = None
        if page is not None:
            now = growing(page)
            assert fallen(self.last, now) == []
            self.last = now
            self.scrapes += 1
        return page

    def scrape_until(self, holds: Callable[[Page], bool], *, timeout: float = 60.0, message: str = "") -> None:
        """Scrape until a page is as expected."""
        wait_until(lambda: (page := self.scrape()) and holds(page), timeout=timeout, message=message, interval=0.1)


@pytest.fixture
def site(rig: Rig, tmp_path: Path) -> Iterator[Site]:
    url = rig.settings.database_url.get_secret_value()
    toml = tmp_path / "queuemon.toml"
    toml.write_text(
        "[profiles.default]\nlease_seconds = 10\nheartbeat_seconds = 0.5\n"
        f'database_url = "{url}"\nredis_url = "{rig.settings.redis_url.get_secret_value()}"\n'
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUEUEMON_")}
    made = Site(folder=tmp_path, url=url, environment=environment | {"QUEUEMON_CONFIG": str(toml)})
    try:
        made.start("relay")
        made.start("exporter")
        yield made
    except BaseException:
        for path in sorted(tmp_path.glob("*.log")):
            print(f"--- {path.name}\n{path.read_text(errors='replace')[-2_000:]}")
        raise
    finally:
        for name in list(made.running):
            made.kill(name)


def _handle(job: JobInHand) -> None:
    if job.attempt <= job.payload["failures"]:
        raise RuntimeError(f"attempt {job.attempt} fails by order")


@contextmanager
def _thread(act: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=act, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def _producer(rig: Rig, seed: int) -> Callable[[threading.Event], None]:
    """Enqueues one by one and in batches; some jobs fail once or for good, some expire before anybody can run them."""

    def produce(stop: threading.Event) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            n = rng.choices([1, 20], [9, 1])[0]
            payloads = [{"failures": rng.choices([0, 1, 9], [90, 7, 3])[0]} for _ in range(n)]
            queue = rng.choice(list(QUEUES))
            if n > 1:
                rig.producer.enqueue_many(queue, payloads)
            elif rng.random() < 0.1:
                rig.producer.enqueue(queue, payloads[0], expires_after=timedelta(milliseconds=1))
            else:
                rig.producer.enqueue(queue, payloads[0])
            stop.wait(n / RATE)

    return produce


def _late(url: str, seed: int) -> Callable[[threading.Event], None]:
    """Jobs whose attempt commits a second or so after younger ones: what a fold without the xmin horizon misses."""

    def write(stop: threading.Event) -> None:
        rng = random.Random(seed)
        with psycopg.connect(url) as connection:
            while not stop.is_set():
                with connection.transaction():
                    connection.execute(
                        "WITH made AS (INSERT INTO jobs (id, queue, payload, status, attempts, run_at, expires_at,"
                        " started_at, finished_at) VALUES (gen_random_uuid(), 'reports', '{}', 'completed', 1, now(),"
                        " now() + interval '1 day', now(), now()) RETURNING id)"
                        " INSERT INTO job_logs (job_id, queue, kind, gen, attempt, status, due_at, started_at,"
                        " finished_at, duration_ms)"
                        " SELECT id, 'reports', 'attempt', 1, 1, 'completed', now(), now(), now(), 3 FROM made"
                    )
                    stop.wait(rng.uniform(0.2, 2.5))

    return write


def _attempts(page: Page) -> float:
    return sum(page.get((f"queuemon_jobs_{end}_total", frozenset({("queue", q)})), 0)
               for q in QUEUES for end in ("completed", "failed"))  # fmt: skip


@pytest.mark.prove
def test_counters_do_not_fall_and_do_not_differ_whoever_is_killed(
    rig: Rig, site: Site, proof: Proof, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in proof.cases(["three kills of each"], sample=1):
        victims, seconds = (["exporter", "relay"] * 3, 1_800.0) if proof.full else (["exporter", "relay"], 0.0)
        random.Random(proof.seed).shuffle(victims)
        _under_load(rig, site, proof.seed, victims, seconds / (len(victims) + 1))
        with capsys.disabled():
            print(f"\n{case if proof.full else 'one kill of each'}: {_figures(site)}")


def _under_load(rig: Rig, site: Site, seed: int, victims: list[str], rest: float) -> None:
    with ExitStack() as load:
        load.enter_context(rig.worker(_handle))
        for act in (_producer(rig, seed), _late(site.url, seed), _late(site.url, seed + 1)):
            load.enter_context(_thread(act))
        for victim in victims:
            _scrape_on(site, rest)
            site.kill(victim)
            site.start(victim)
        _scrape_on(site, rest)
    # The worker has gone with the load; what it left ends now.
    with rig.worker(_handle):
        wait_until(lambda: not rig.count("waiting") + rig.count("active"), timeout=60, message="all jobs have ended")
    with suppress(AssertionError):  # what still differs is said in full below
        site.scrape_until(lambda page: not differences(page, site.rows), timeout=20)
    page = wait_until(site.scrape, timeout=60, message="the exporter answers")
    assert differences(page, site.rows) == []


def _scrape_on(site: Site, seconds: float) -> None:
    """Until so much time has passed and `BETWEEN` attempts more are counted."""
    began, before = time.monotonic(), _attempts(site.last)
    site.scrape_until(
        lambda page: _attempts(page) >= before + BETWEEN and time.monotonic() >= began + seconds,
        timeout=seconds + 60,
        message=f"{BETWEEN} attempts more are counted",
    )


def _figures(site: Site) -> str:
    ((jobs,),) = site.rows("SELECT count(*) FROM jobs")
    ((attempts,),) = site.rows("SELECT count(*) FROM job_logs WHERE kind = 'attempt'")
    series = sum(map(bool, site.last.values()))
    return f"{jobs} jobs, {attempts} attempts, {site.scrapes} scrapes, {series} series compared, difference 0"
