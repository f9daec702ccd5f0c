"""A state machine of producers, workers, operators, relays, kills and lost servers over real stores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from queuemon.actions import bulk
from queuemon.config import Settings
from queuemon.errors import LimitExceeded, PlanOutdated
from queuemon.store import claims, outbox
from queuemon.store.claims import Lease
from tests.support.proofs import Proof
from tests.support.world import QUEUES, AtOnce, World

pytestmark = pytest.mark.integration

#: Kinds that take a filter, with the options that each needs.
BULK: dict[str, dict[str, Any]] = {
    "retry": {}, "delete": {}, "clear-failed": {}, "run-now": {}, "purge": {}, "move": {"to": "reports"},
    "rescue": {}, "delete-stuck": {},
}  # fmt: skip
ON_QUEUE: dict[str, dict[str, Any]] = {
    "pause": {"until": "1h"}, "resume": {}, "prioritise": {"priority": "high"}, "scale": {"concurrency": 3},
}  # fmt: skip

hands = st.integers(0, 2)
queues = st.sampled_from(QUEUES)
#: None lets it live; otherwise the boundary of a store call at which the process dies.
deaths = st.none() | st.integers(0, 24)


def machine_over(world: World) -> type[RuleBasedStateMachine]:
    """The machine's class over one pair of stores, which each example begins with empty."""

    class Machine(RuleBasedStateMachine):
        broken = False

        @initialize()
        def begin(self) -> None:
            world.begin()

        @rule(queue=queues, number=st.integers(1, 4), later=st.booleans(), death=deaths)
        def produce(self, queue: str, number: int, later: bool, death: int | None) -> None:
            due = datetime.now(UTC) + timedelta(hours=1) if later else None
            with world.killed_after(10_000 if death is None else death):
                world.acknowledged.update(world.producer.enqueue_many(queue, range(number), run_at=due))

        @rule(queue=queues)
        def produce_and_roll_back(self, queue: str) -> None:
            with world.wb.store.postgres.engine.connect() as connection:
                world.producer.enqueue_in(connection, queue, "never")
                connection.rollback()

        @rule(n=hands)
        def pop(self, n: int) -> None:
            world.hands[n].pop()

        @rule(n=hands)
        def claim(self, n: int) -> None:
            world.hands[n].pop()
            world.hands[n].claim()

        @rule(n=hands, well=st.booleans())
        def work(self, n: int, well: bool) -> None:
            world.hands[n].pop()
            world.hands[n].claim()
            world.hands[n].end(well=well)

        @rule(n=hands)
        def beat(self, n: int) -> None:
            world.hands[n].beat()

        @rule(n=hands)
        def kill_worker(self, n: int) -> None:
            world.bury(n)

        @rule()
        def a_dead_worker_writes_late(self) -> None:
            if world.zombies:
                lease, _ = world.zombies.pop()
                with world.wb.store.postgres.statement() as connection:
                    claims.complete(connection, world.wb.store.tables, lease)

        @rule(kind=st.sampled_from(sorted(BULK)), queue=queues, death=deaths)
        def act_on_jobs(self, kind: str, queue: str, death: int | None) -> None:
            self._act(kind, f"queue:{queue}", BULK[kind], death)

        @rule(kind=st.sampled_from(sorted(ON_QUEUE)), queue=queues, death=deaths)
        def act_on_a_queue(self, kind: str, queue: str, death: int | None) -> None:
            self._act(kind, queue, ON_QUEUE[kind], death)

        def _act(self, kind: str, target: str, options: dict[str, Any], death: int | None) -> None:
            plan = world.wb.plan(kind, target, **options)
            with world.killed_after(10_000 if death is None else death):
                world.wb.apply(plan, reason="model")

        @rule(data=st.data())
        def edit(self, data: st.DataObject) -> None:
            failed = world.sql("SELECT id FROM jobs WHERE status = 'failed' ORDER BY id")
            if failed:
                self._act("edit", data.draw(st.sampled_from(failed))["id"], {"payload": '{"n": 2}'}, data.draw(deaths))

        @rule(n=st.integers(0, 4), death=deaths)
        def take_back(self, n: int, death: int | None) -> None:
            able = [a.id for a in world.wb.actions(20) if a.undoable_until is not None]
            if able:
                self._act("undo", str(able[n % len(able)]), {}, death)

        @rule(death=deaths)
        def resume_what_was_interrupted(self, death: int | None) -> None:
            for row in world.sql("SELECT id FROM queuemon.actions WHERE state = 'running' ORDER BY started_at"):
                with world.killed_after(10_000 if death is None else death):
                    world.wb.resume_action(row["id"])

        @rule(death=deaths)
        def relay(self, death: int | None) -> None:
            with world.killed_after(10_000 if death is None else death):
                world.relay()

        @rule()
        def a_day_passes(self) -> None:
            world.sql("UPDATE jobs SET expires_at = now() - interval '1 minute' WHERE status = 'waiting'")

        @rule()
        def what_was_scheduled_falls_due(self) -> None:
            world.sql("UPDATE jobs SET run_at = now() WHERE status = 'waiting' AND run_at > now()")
            world.sql("UPDATE queuemon.publications SET due_at = now() WHERE due_at > now()")

        @rule()
        def redis_restarts_with_its_data(self) -> None:
            world.redis.set(world.wb.store.redis.keys.epoch, "ready:another-run")

        @rule()
        def redis_loses_everything(self) -> None:
            world.redis.flushdb()

        @rule()
        def drift_is_repaired(self) -> None:
            with suppress(LimitExceeded, PlanOutdated):  # a budget or the breaker refuses it
                world.wb.apply(world.wb.plan("repair", None, wait_seconds=0.0), reason="model")

        @invariant()
        def nothing_is_wrong(self) -> None:
            found = world.violations()
            self.broken = bool(found)
            assert found == []

        def teardown(self) -> None:
            """Everything that was interrupted goes on, the queues run, and all that was due comes to an end."""
            if self.broken:
                return
            for row in world.sql("SELECT id FROM queuemon.actions WHERE state = 'running' ORDER BY started_at"):
                world.wb.resume_action(row["id"])
            world.sql("UPDATE queuemon.queue_pauses SET until = now() - interval '1 second'")
            self.what_was_scheduled_falls_due()
            for n in range(len(world.hands)):
                world.bury(n)
            for _ in range(30):
                world.relay()
                hand = world.hands[0]
                hand.pop()
                if hand.element is None and not world.sql("SELECT 1 FROM jobs WHERE status IN ('waiting', 'active')"):
                    break
                while hand.element is not None:
                    hand.claim()
                    hand.end(well=True)
                    hand.pop()
            left = world.sql("SELECT id, queue, status, gen FROM jobs WHERE status IN ('waiting', 'active')")
            assert left == []
            assert world.violations() == []

    return Machine


@pytest.fixture
def world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Chunks of two jobs, so that an action of a few has several; nothing runs in a second thread."""
    monkeypatch.setattr(bulk, "ThreadPoolExecutor", AtOnce)
    made = World(settings.model_copy(update={"backoff_seconds": 0.0, "chunk_rows": 2}))
    yield made
    made.wb.close()


def run(world: World, number: int, *, examples: int, steps: int) -> None:
    """So many examples of so many steps, the same ones for the same number."""
    chosen = hypothesis_settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
        phases=(Phase.generate,), suppress_health_check=list(HealthCheck), report_multiple_bugs=False, print_blob=False,
    )  # fmt: skip
    run_state_machine_as_test(seed(number)(machine_over(world)), settings=chosen)


@pytest.mark.prove
def test_nothing_is_lost_or_doubled_whatever_happens_in_whatever_order(world: World, proof: Proof) -> None:
    for case in proof.cases([f"seed {n}" for n in range(100)], sample=1):
        run(world, int(case.removeprefix("seed ")), examples=10, steps=30)


def test_the_machine_finds_a_publication_that_is_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(*given: Any) -> list[Any]:
        real(*given)
        return []

    real = outbox.take
    monkeypatch.setattr(outbox, "take", forget)
    with pytest.raises(AssertionError, match="nothing will bring it to a worker"):
        run(world, 1, examples=101, steps=20)


def test_the_machine_finds_a_claim_that_does_not_ask_for_the_generation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(connection: Any, tables: Any, *, job_id: Any, gen: int | None, worker_id: str) -> Any:
        lease = Lease(job_id=job_id, gen=gen or 0, worker_id=worker_id)
        connection.exec_driver_sql(
            "UPDATE jobs SET status = 'waiting' WHERE id = %s AND gen = %s AND status <> 'waiting'",
            (lease.job_id, lease.gen),
        )
        return real(connection, tables, job_id=job_id, gen=gen, worker_id=worker_id)

    real = claims.claim
    monkeypatch.setattr(claims, "claim", careless)
    with pytest.raises(AssertionError, match="started 2 times"):
        run(world, 1, examples=400, steps=40)
