"""A state machine of producers, workers, operators, relays, kills and lost servers over a `World`."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from queuemon.engine.producer import Producer
from queuemon.errors import LimitExceeded, PlanOutdated
from queuemon.store import claims
from tests.support.hand import FAILURE
from tests.support.promises import violations
from tests.support.world import QUEUES, Between, World

#: Kinds that take a filter, with the options that each needs.
BULK: dict[str, dict[str, Any]] = {
    "retry": {}, "delete": {}, "clear-failed": {}, "run-now": {}, "purge": {}, "move": {"to": "reports"},
    "rescue": {}, "delete-stuck": {}, "erase": {},
}  # fmt: skip

hands = st.integers(0, 2)
queues = st.sampled_from(sorted(QUEUES))
holders = st.sampled_from(["deploy", "someone", None])
#: None lets it live; otherwise the boundary of a store call at which the process dies.
deaths = st.none() | st.integers(0, 24)
long_deaths = st.none() | st.integers(0, 60)
#: An operator who never stops an action, or does at a look; with workers at work meanwhile or without.
buttons = st.none() | st.tuples(st.none() | st.integers(0, 3), st.booleans())
Button = tuple[int | None, bool] | None


def machine_over(world: World) -> type[RuleBasedStateMachine]:
    """The machine's class over one pair of stores, which each example begins with empty."""

    def act(kind: str, target: Any, death: int | None, button: Button = None, **options: Any) -> None:
        plan = world.wb.plan(kind, target, **options)
        stop = None if button is None else Between(world, button[0], workers=button[1])
        world.apply(plan, death=death, stop=stop)

    class Machine(RuleBasedStateMachine):
        broken = False

        @initialize(failed=st.integers(0, 3), waiting=st.integers(0, 3))
        def begin(self, failed: int, waiting: int) -> None:
            """Stores that have seen something, so that the first steps find something to do."""
            world.begin()
            world.produce("reports", failed)
            while world.hands[0].work(well=False):
                pass
            world.produce("mail", waiting)

        # ------------------------------------------------------------------------------------------------- producers

        @rule(queue=queues)
        def produce_one(self, queue: str) -> None:
            world.produce(queue, 1)

        @rule(queue=queues, number=st.integers(1, 4), later=st.booleans(), death=deaths)
        def produce(self, queue: str, number: int, later: bool, death: int | None) -> None:
            due = datetime.now(UTC) + timedelta(hours=1) if later else None
            world.produce(queue, number, death=death, run_at=due)

        @rule(queue=queues)
        def produce_and_roll_back(self, queue: str) -> None:
            with world.wb.store.postgres.engine.connect() as connection:
                Producer(world.wb.store).enqueue_in(connection, queue, "never")
                connection.rollback()

        @rule(queue=queues, kind=st.sampled_from(["of nobody's job", "bare id", "unreadable"]), aside=st.booleans())
        def another_program_pushes(self, queue: str, kind: str, aside: bool) -> None:
            world.push(queue, kind, aside=aside)

        @rule(n=st.integers(0, 3))
        def an_element_comes_again(self, n: int) -> None:
            world.push_again(n)

        # --------------------------------------------------------------------------------------------------- workers

        @rule(n=hands)
        def pop(self, n: int) -> None:
            world.hands[n].pop()

        @rule(n=hands)
        def claim(self, n: int) -> None:
            world.hands[n].pop()
            world.hands[n].claim()

        @rule(n=hands, well=st.booleans())
        def work(self, n: int, well: bool) -> None:
            world.hands[n].work(well=well)

        @rule(n=hands)
        def beat(self, n: int) -> None:
            world.hands[n].beat()

        @rule(n=hands)
        def stop_worker(self, n: int) -> None:
            world.hands[n].give_back()

        @rule(n=hands)
        def kill_worker(self, n: int) -> None:
            world.bury(n)

        @rule(well=st.booleans())
        def a_dead_worker_writes_late(self, well: bool) -> None:
            if world.zombies:
                lease, tables = world.zombies.pop(), world.store.tables
                its_own = world.holds(lease)
                with world.store.postgres.statement() as connection:
                    if well:
                        written = claims.complete(connection, tables, lease)
                    else:
                        written = claims.fail(connection, tables, lease, FAILURE, backoff_seconds=0.0)
                assert (written.status is not None) is its_own

        # ------------------------------------------------------------------------------------------------- operators

        @rule(kind=st.sampled_from(sorted(BULK)), queue=queues, death=deaths, button=buttons)
        def act_on_jobs(self, kind: str, queue: str, death: int | None, button: Button) -> None:
            act(kind, f"queue:{queue}", death, button, **BULK[kind])

        @rule(queue=queues, holder=holders, hard=st.booleans(), until=st.sampled_from([None, "1h"]), death=deaths)
        def pause(self, queue: str, holder: str | None, hard: bool, until: str | None, death: int | None) -> None:
            act("pause", queue, death, hard=hard, until=until, **_named(holder))

        @rule(queue=queues, holder=holders, death=deaths)
        def resume(self, queue: str, holder: str | None, death: int | None) -> None:
            act("resume", queue, death, **_named(holder))

        @rule(queue=queues, priority=st.sampled_from(["high", "low"]), death=deaths)
        def prioritise(self, queue: str, priority: str, death: int | None) -> None:
            act("prioritise", queue, death, priority=priority)

        @rule(queue=queues, concurrency=st.integers(0, 3), death=deaths)
        def scale(self, queue: str, concurrency: int, death: int | None) -> None:
            act("scale", queue, death, concurrency=concurrency)

        @rule(data=st.data())
        def edit(self, data: st.DataObject) -> None:
            failed = world.sql("SELECT id FROM jobs WHERE status = 'failed' ORDER BY id")
            if failed:
                chosen = data.draw(st.sampled_from(failed))["id"]
                act("edit", chosen, data.draw(deaths), payload='{"n": 2}')

        @rule(queue=queues, looks=st.integers(0, 6), death=long_deaths)
        def canary(self, queue: str, looks: int, death: int | None) -> None:
            act("canary", f"queue:{queue}", death, (looks, True), steps=(1, 2))

        @rule(n=st.integers(0, 4), death=deaths, button=buttons)
        def take_back(self, n: int, death: int | None, button: Button) -> None:
            able = [a.id for a in world.wb.actions(20) if a.undoable_until is not None]
            if able:
                act("undo", str(able[n % len(able)]), death, button)

        @rule(death=deaths, states=st.sampled_from([("running",), ("running", "stopped")]))
        def go_on_with_what_was_interrupted(self, states: tuple[str, ...], death: int | None) -> None:
            world.go_on(*states, death=death)

        @rule(death=long_deaths, button=buttons)
        def repair_drift(self, death: int | None, button: Button) -> None:
            with suppress(LimitExceeded, PlanOutdated):  # a budget or the breaker refuses it
                act("repair", None, death, button, wait_seconds=0.0)

        @rule(queue=queues, death=deaths, button=buttons)
        def adopt(self, queue: str, death: int | None, button: Button) -> None:
            act("adopt", queue, death, button)

        # --------------------------------------------------------------------------------------- relays, time, servers

        @rule(death=long_deaths)
        def relay(self, death: int | None) -> None:
            world.relay(death=death)

        @rule()
        def a_day_passes(self) -> None:
            world.sql("UPDATE jobs SET expires_at = now() - interval '1 minute' WHERE status = 'waiting'")

        @rule()
        def what_was_scheduled_falls_due(self) -> None:
            world.sql("UPDATE jobs SET run_at = now() WHERE status = 'waiting' AND run_at > now()")
            world.sql("UPDATE queuemon.publications SET due_at = now() WHERE due_at > now()")

        @rule()
        def redis_saves(self) -> None:
            world.save()

        @rule(what=st.sampled_from(["restart", "restore", "forget"]))
        def redis_goes_down(self, what: str) -> None:
            getattr(world, what)()

        # ------------------------------------------------------------------------------------------------------- ends

        @invariant()
        def nothing_is_wrong(self) -> None:
            found = violations(world)
            self.broken = bool(found)
            _none(world, found)

        def teardown(self) -> None:
            """Everything that was interrupted goes on, the queues run, and all that was due comes to an end."""
            if self.broken:
                return
            world.go_on("running")
            world.sql("UPDATE queuemon.queue_pauses SET until = now() - interval '1 second'")
            self.what_was_scheduled_falls_due()
            for n in range(len(world.hands)):
                world.bury(n)
            for _ in range(30):
                world.relay()
                if not world.hands[0].work() and not world.sql(UNFINISHED):
                    break
                while world.hands[0].work():
                    pass
            left = [f"{row['id']} is {row['status']} for good" for row in world.sql(UNFINISHED)]
            left += [f"{key} is left" for kind in ("parked", "sifted") for key in world.keys(f"queuemon:{kind}:*")]
            _none(world, left + violations(world))

    return Machine


UNFINISHED = "SELECT id, queue, status, gen FROM jobs WHERE status IN ('waiting', 'active')"


def _none(world: World, found: list[str]) -> None:
    """Nothing was found; what was is kept too, for a failure that does not come again when it is replayed."""
    world.wrong += found
    assert not found, "\n".join(found)


def _named(holder: str | None) -> dict[str, str]:
    return {} if holder is None else {"holder": holder}


def run(world: World, number: int, *, examples: int, steps: int) -> None:
    """So many examples of so many steps, the same ones for the same number."""
    chosen = hypothesis_settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
        phases=(Phase.generate,), suppress_health_check=list(HealthCheck), report_multiple_bugs=False, print_blob=False,
    )  # fmt: skip
    run_state_machine_as_test(seed(number)(machine_over(world)), settings=chosen)
