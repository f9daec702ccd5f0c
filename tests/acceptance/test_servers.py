"""Servers lost and killed while a bulk retry runs with live workers: the action resumes, and the counts add up."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from pydantic import SecretStr

from queuemon.config import Settings
from queuemon.demo.stack import Stack
from queuemon.engine.relay import Relay
from queuemon.engine.worker import Worker
from queuemon.errors import StoreError
from queuemon.model import ActionProgress, ActionResult, Plan
from queuemon.schema.migrate import upgrade
from queuemon.store import Store
from queuemon.workbench import Workbench
from tests.support.engine import Rig
from tests.support.wait import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

JOBS = 20_000
#: Where in the action the server is lost.
EARLY, LATE = 4_000, 8_000


class Site:
    """A stack of its own, a relay, two workers, 20,000 failed jobs, and an operator."""

    def __init__(self, stack: Stack, settings: Settings) -> None:
        self.stack = stack
        self.rig = Rig(settings)
        self.wb = Workbench(settings, application="operator")
        self.starts: list[tuple[UUID, int]] = []
        #: While it is cleared, a handler that has begun does not end.
        self.go = threading.Event()
        self.go.set()
        self.rig.sql(
            "INSERT INTO jobs (id, queue, payload, status, gen, attempts, max_attempts, created_at, updated_at, run_at,"
            " expires_at, finished_at, error_type, error_message)"
            " SELECT gen_random_uuid(), 'mail', '{}', 'failed', 1, 3, 3, at, at, at, at + interval '1 day', at,"
            " 'ValueError', 'no' FROM generate_series(1, :n), (SELECT now() - interval '1 hour' AS at) AS past",
            n=JOBS,
        )

    def handle(self, job: Any) -> None:
        self.starts.append((job.id, job.gen))
        self.go.wait(30)

    def retry(self, on: dict[int, Callable[[], object]]) -> ActionResult:
        """Retry all; at each of these numbers of jobs something happens. Applied again where it does not settle."""
        left = sorted(on.items())
        plan = self.wb.plan("retry", "queue:mail status:failed")
        assert plan.count == JOBS

        def follow(progress: ActionProgress) -> None:
            while left and progress.done >= left[0][0]:
                left.pop(0)[1]()

        result = self._applied(plan, follow)
        assert not left, "the action was over before anything happened"
        return result

    def _applied(self, plan: Plan, follow: Callable[[ActionProgress], None]) -> ActionResult:
        try:
            return self.wb.apply(plan, progress=follow)
        except StoreError as error:
            print(f"  did not settle by itself: {error}")
        wait_until(lambda: self.stack.status().running, timeout=30, message="both servers run again")
        return self.wb.resume_action(plan.id, progress=follow)

    def kill_valkey(self) -> None:
        """SIGKILL; then `stack.up()` in the background."""
        psutil.Process(self.stack.status().valkey.pid).kill()
        self.up_again()

    def kill_postgres(self) -> None:
        """The same of PostgreSQL."""
        psutil.Process(self.stack.status().postgres.pid).kill()
        wait_until(lambda: not self.stack.status().postgres.running, message="PostgreSQL has gone")
        self.up_again()

    def up_again(self) -> None:
        """Heal the stack while the action goes on."""
        self._healing = threading.Thread(target=self.stack.up)
        self._healing.start()

    _healing: threading.Thread | None = None

    def healed(self) -> None:
        """Wait until the stack is up."""
        if self._healing is not None:
            self._healing.join(60)
        assert self.stack.status().running
        self.rig.store.postgres.close()  # what its pool holds may be of the server that was killed

    def balance(self, result: ActionResult) -> None:
        """What was planned is accounted for; each job is over or findable, and no generation started twice."""
        assert (result.planned, result.done, result.skipped, result.gone) == (JOBS, JOBS, (), 0)
        assert result.state == "done"
        row = self.rig.sql("SELECT * FROM queuemon.actions WHERE id = :id", id=result.id)[0]
        assert (row["done"], row["skipped"], row["gone"]) == (JOBS, {}, 0)
        chunks = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM (SELECT unnest(done_ids) AS id FROM"
        ids = self.rig.sql(f"{chunks} queuemon.action_chunks) AS each")[0]
        assert (ids["n"], ids["ids"]) == (JOBS, JOBS)
        wait_until(self._published, timeout=60, message="all is published", interval=0.2)

    def _published(self) -> bool:
        restored = self.rig.redis.get(self.rig.keys.epoch) or b""
        return restored.startswith(b"ready:") and self.rig.outbox() == 0 and self.rig.count("failed") == 0

    def books(self) -> None:
        """When nobody works any more: every job is completed after one start of its generation, or waits in its list
        in its generation, once."""
        rows = self.rig.sql("SELECT id, status, gen FROM jobs")
        assert Counter(r["status"] for r in rows).keys() <= {"completed", "waiting"}
        assert len(rows) == JOBS
        starts = Counter(self.starts)
        assert not [start for start, n in starts.items() if n > 1], "a generation started twice"
        unrun = [r["id"] for r in rows if r["status"] == "completed" and (r["id"], r["gen"]) not in starts]
        assert not unrun, "completed without a start"
        listed = Counter(self.rig.listed("mail"))
        lost = [r["id"] for r in rows if r["status"] == "waiting" and (str(r["id"]), r["gen"]) not in listed]
        assert not lost, f"{len(lost):,} jobs wait and nobody will find them"
        assert starts, "the workers have done something"
        print(f"{len(starts):,} started, {sum(listed.values()):,} listed, {len(listed):,} of them different")


@pytest.fixture
def site(make_stack: Callable[..., Stack]) -> Iterator[Site]:
    """Everything at work; at the end the workers stop, the books are read, then the rest ends."""
    stack = make_stack("lost", valkey_settings={"appendonly": "no", "save": "", "enable-debug-command": "local"})
    urls = stack.up()
    upgrade(urls.database_url)
    settings = Settings(
        database_url=SecretStr(urls.database_url), redis_url=SecretStr(urls.redis_url), chunk_rows=500,
        lease_seconds=10.0, heartbeat_seconds=0.5, redis_timeout_seconds=1.0, statement_timeout_seconds=2.0,
    )  # fmt: skip
    made = Site(stack, settings)
    ending = threading.Event()
    with ExitStack() as ends:
        ends.callback(made.wb.close)
        ends.callback(made.rig.store.close)
        engine = ends.enter_context(Store(settings))
        relay = threading.Thread(target=Relay(engine).run, args=(ending,))
        relay.start()
        ends.callback(relay.join, 30)
        ends.callback(ending.set)
        resting = threading.Event()
        crew = [
            threading.Thread(target=Worker(engine, home="mail", handlers=made.handle).run, args=(resting,))
            for _ in range(2)
        ]
        for worker in crew:
            worker.start()

        def rest() -> None:
            made.go.set()
            resting.set()
            for worker in crew:
                worker.join(30)

        ends.callback(rest)
        made.rest = rest  # type: ignore[attr-defined]
        yield made


def finish(site: Site, result: ActionResult) -> None:
    """The action is done, the stack healed, the workers stop: the books balance."""
    site.healed()
    site.balance(result)
    done = site.rig.count("completed")
    wait_until(lambda: site.rig.count("completed") > done, timeout=30, message="the workers go on")
    site.rest()  # type: ignore[attr-defined]
    wait_until(lambda: site.rig.in_hand() == 0, message="nothing is left in a hand")
    site.books()


def test_redis_is_flushed(site: Site) -> None:
    finish(site, site.retry({LATE: site.rig.redis.flushall}))


def test_redis_is_killed_and_comes_back_empty(site: Site) -> None:
    finish(site, site.retry({LATE: site.kill_valkey}))


def test_redis_comes_back_with_an_old_snapshot_and_what_it_gave_to_living_hands_is_taken(site: Site) -> None:
    """The snapshot holds elements in the hands of workers that live on: of jobs that are over by then."""

    def snapshot() -> None:
        site.go.clear()
        wait_until(lambda: site.rig.in_hand() == 2, message="both workers have a job in hand")
        site.rig.redis.save()
        site.go.set()

    result = site.retry({EARLY: snapshot, LATE: site.kill_valkey})
    finish(site, result)


def test_redis_is_full_and_is_given_room_again(site: Site) -> None:
    def fill() -> None:
        site.rig.redis.config_set("maxmemory", site.rig.redis.info("memory")["used_memory"])

    result = site.retry({EARLY: fill})
    assert not result.published, "Redis was full until the end"
    site.rig.redis.config_set("maxmemory", 0)
    finish(site, result)


def test_postgresql_is_killed_and_restarted(site: Site) -> None:
    finish(site, site.retry({LATE: site.kill_postgres}))


def test_the_sessions_of_the_action_are_terminated_again_and_again(site: Site) -> None:
    ended: list[int] = []
    over = threading.Event()

    def terminate() -> None:
        while not over.wait(0.4):
            rows = site.rig.sql(
                "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'operator'"
                " AND state <> 'idle'"
            )
            ended.extend(row["pid"] for row in rows)

    axe = threading.Thread(target=terminate)
    try:
        result = site.retry({500: axe.start})
    finally:
        over.set()
        axe.join()
    assert ended, "no session was caught at work"
    assert not result.repeated
    finish(site, result)


def test_an_element_that_a_snapshot_gave_to_a_living_hand_is_run_although_its_marker_says_that_it_is_listed(
    rig: Rig,
) -> None:
    """Popped, then given back (its queue was paused), with the snapshot in between: it waits, and its marker stops
    every publication."""
    job = rig.producer.enqueue("mail", {})
    starts: list[UUID] = []
    # A moment at which the worker has nothing else to look for.
    with rig.worker(lambda j: starts.append(j.id)) as worker:
        wait_until(lambda: rig.count("completed") == 1, message="the worker is at work")
        other = uuid4()
        rig.sql(
            "INSERT INTO jobs (id, queue, payload, status, gen, run_at, expires_at)"
            " VALUES (:id, 'mail', '{}', 'waiting', 1, now(), now() + interval '1 day')",
            id=other,
        )
        rig.redis.hset(rig.keys.marker_key(str(other)), mapping={"gen": 1, "queue": "mail"})
        rig.redis.rpush(rig.keys.processing_key(worker.id, "mail"), f'{{"id": "{other}", "gen": 1}}')
        rig.redis.delete(rig.keys.epoch)
        rig.relay().step(everything=True)
        wait_until(lambda: rig.count("completed") == 2, message="it is run")
    assert starts == [job, other]
    assert rig.in_hand() == 0
