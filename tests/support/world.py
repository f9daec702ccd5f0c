"""One thread that plays producers, workers, operators, relays and accidents over real stores, for the state machine."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

from sqlalchemy import text

from queuemon.config import Settings
from queuemon.contract import encode_element
from queuemon.engine.ids import uuid7
from queuemon.engine.producer import Producer
from queuemon.engine.relay import Relay
from queuemon.model import ActionKind, Plan
from queuemon.store import Store
from queuemon.store.claims import Lease
from queuemon.workbench import Workbench
from tests.support.hand import Hand, Seen
from tests.support.mortal import dies_after

#: Queue → attempts at each of its jobs.
QUEUES = {"mail": 2, "reports": 1}

#: What is emptied between two examples; the schema stays.
TABLES = (
    "job_queues, jobs, job_logs, queuemon.action_chunks, queuemon.action_events, queuemon.actions, queuemon.job_counts,"
    " queuemon.job_deltas, queuemon.minutes, queuemon.publications, queuemon.queue_pauses, queuemon.undo_jobs,"
    " queuemon.workers"
)


class Between(threading.Event):
    """An operator's stop button, pressed at its so-manieth look (None: never); workers work between two looks."""

    def __init__(self, world: World, looks: int | None, *, workers: bool = False) -> None:
        super().__init__()
        self.world, self.looks, self.workers = world, looks, workers

    def is_set(self) -> bool:
        """A look."""
        if self.looks is not None and not super().is_set():
            self.looks -= 1
            if self.looks < 0:
                self.set()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """A look; no time passes."""
        if not self.is_set() and self.workers:
            self.world.work()
        return super().is_set()


class World:
    """Both stores of a test, two queues, three hands, an operator, and what has happened so far."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.wb = Workbench(settings)
        #: The workers': they live on when the operator's process dies.
        self.store = Store(settings)
        self.seen = Seen()
        self.acknowledged: set[UUID] = set()
        #: Actions that were begun, and those whose result the operator has seen.
        self.asked: set[UUID] = set()
        self.answered: set[UUID] = set()
        #: What dead workers held.
        self.zombies: list[Lease] = []
        #: Elements that nobody can read, until Redis loses them.
        self.poison: set[bytes] = set()
        self.hands: list[Hand] = []
        #: Whatever did not hold, in any example.
        self.wrong: list[str] = []
        self._saved: list[tuple[bytes, bytes, int]] = []

    def begin(self) -> None:
        """Empty stores, as at the beginning."""
        self.sql(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE")
        self.redis.flushdb()
        for name, most in QUEUES.items():
            self.sql("INSERT INTO job_queues (name, concurrency, max_attempts) VALUES (:n, 2, :m)", n=name, m=most)
        # A relay has looked, not for the first time.
        self.sql("INSERT INTO queuemon.rollup_state (name, txid) VALUES ('redis', '0') ON CONFLICT DO NOTHING")
        self.redis.set(self.store.redis.keys.epoch, self._ready())
        for memory in (self.acknowledged, self.asked, self.answered, self.poison):
            memory.clear()
        self.seen, self.zombies, self._saved = Seen(), [], []
        self.hands = [self._new_hand(n) for n in range(3)]

    def close(self) -> None:
        """Give the connections back."""
        self.wb.close()
        self.store.close()

    # -------------------------------------------------------------------------------------------------------- stores

    @property
    def redis(self) -> Any:
        """The client of the test's own Redis database."""
        return self.store.redis.client

    def keys(self, pattern: str) -> list[str]:
        """Names of Redis keys."""
        return sorted(key.decode() for key in self.redis.scan_iter(match=pattern, count=1000))

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        """Run a statement; returns its rows, if it has any."""
        with self.store.postgres.engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result.mappings()) if result.returns_rows else []

    # --------------------------------------------------------------------------------------------- producers, workers

    def produce(self, queue: str, number: int, *, death: int | None = None, **options: Any) -> None:
        """Enqueue some jobs; only what the producer hears of counts as promised."""
        with dies_after(self.wb.store, death):
            self.acknowledged.update(Producer(self.wb.store).enqueue_many(queue, range(number), **options))

    def push(self, queue: str, kind: str, *, aside: bool = False) -> None:
        """What another program leaves in a list, or what lies in quarantine already."""
        job = str(uuid7())
        raws = {
            "of nobody's job": encode_element({"id": job, "gen": 1, "queue": queue, "payload": {"n": 1}}),
            "bare id": job,
            "unreadable": "{" + job,
        }
        raw = raws[kind].encode()
        if kind == "unreadable":
            self.poison.add(raw)
        self.redis.rpush(f"queuemon:quarantine:{queue}" if aside else f"queue:{queue}", raw)

    def push_again(self, n: int) -> None:
        """An element comes again that a worker has taken before."""
        if self.seen.elements:
            queue, raw = self.seen.elements[-1 - n % len(self.seen.elements)]
            self.redis.rpush(f"queue:{queue}", raw)

    def work(self) -> None:
        """Somebody publishes what is due, and each worker works off one job."""
        self.relay(only="publish")
        for hand in self.hands:
            hand.work()

    def bury(self, n: int) -> None:
        """Kill a worker: what it held stays where it is, and its last beat and its job's are long ago."""
        hand = self.hands[n]
        self.sql("UPDATE queuemon.workers SET heartbeat_at = now() - interval '1 hour' WHERE id = :w", w=hand.worker.id)
        self.sql(
            "UPDATE jobs SET heartbeat_at = now() - interval '1 hour' WHERE status = 'active' AND worker_id = :w",
            w=hand.worker.id,
        )
        if hand.job is not None:
            self.zombies.append(hand.lease)
        self.hands[n] = self._new_hand(n)

    def _new_hand(self, n: int) -> Hand:
        return Hand(self.store, sorted(QUEUES)[n % len(QUEUES)], self.seen)

    def holds(self, lease: Lease) -> bool:
        """Whether a job is still this worker's."""
        found = self.sql("SELECT 1 FROM jobs WHERE id = :job AND gen = :gen AND worker_id = :worker AND"
                         " status = 'active'", job=lease.job_id, gen=lease.gen, worker=lease.worker_id)  # fmt: skip
        return bool(found)

    # -------------------------------------------------------------------------------------------- operators, relays

    def apply(self, plan: Plan, *, death: int | None = None, stop: Between | None = None) -> None:
        """Do what a plan says, or die over it."""
        self.asked.add(plan.id)
        with dies_after(self.wb.store, death):
            self.wb.apply(plan, reason="model", stop=stop)
            self.answered.add(plan.id)

    def go_on(self, *states: str, death: int | None = None) -> None:
        """Go on with the actions that stand so, oldest first."""
        for row in self.sql(
            "SELECT id, kind FROM queuemon.actions WHERE state = ANY(:states) ORDER BY started_at, id",
            states=list(states),
        ):
            stop = Between(self, 8, workers=True) if row["kind"] == ActionKind.CANARY else None  # it waits for them
            self.answered.discard(row["id"])
            with dies_after(self.wb.store, death):
                self.wb.resume_action(row["id"], stop=stop)
                self.answered.add(row["id"])

    def relay(self, *, death: int | None = None, only: str = "") -> None:
        """One step of every duty, by a relay that has been calm for long enough, or of one duty."""
        relay = Relay(self.wb.store if death is not None else self.store, calm_seconds=0)
        if only:
            relay._duties = [duty for duty in relay._duties if duty.name == only]
        with dies_after(self.wb.store, death):
            relay.step(everything=True)

    # ------------------------------------------------------------------------------------------------------ accidents

    def forget(self) -> None:
        """Redis loses everything."""
        self.redis.flushdb()
        self.poison.clear()

    def save(self) -> None:
        """Redis writes its data to disk."""
        keys = list(self.redis.scan_iter(count=1000))
        self._saved = [(key, raw, max(0, self.redis.pttl(key))) for key in keys if (raw := self.redis.dump(key))]

    def restore(self) -> None:
        """Redis starts with what it had when it last saved, and is another run of the server."""
        self.forget()
        for key, raw, ttl in self._saved:
            self.redis.restore(key, ttl, raw)
        self.restart()

    def restart(self) -> None:
        """Redis starts again, and loses nothing that it had."""
        if self.redis.exists(epoch := self.store.redis.keys.epoch):
            self.redis.set(epoch, "ready:another-run")

    def lost(self) -> bool:
        """Whether Redis may have lost something that no relay has seen yet: all that waits is then promised anew."""
        return bool(self.redis.get(self.store.redis.keys.epoch) != self._ready())

    def _ready(self) -> bytes:
        return f"ready:{self.redis.info('server')['run_id']}".encode()
