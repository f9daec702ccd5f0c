"""One thread that plays producers, workers, operators and relays over real stores, and what must hold at every moment.

The state machine of `test_model` and the tests of lost servers use it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import text

from queuemon.config import Settings
from queuemon.contract import decode_element
from queuemon.engine.ids import uuid7
from queuemon.engine.producer import Producer
from queuemon.engine.relay import Relay
from queuemon.engine.worker import Worker
from queuemon.model import ActionKind
from queuemon.store import claims, numbers, workers
from queuemon.store.claims import Claimed, Failure, Lease
from queuemon.workbench import Workbench

QUEUES = ("mail", "reports")
FAILURE = Failure(error_type="ValueError", message="no", stack_trace="")

#: What the tests clear between two examples; the schema stays.
TABLES = (
    "job_queues, jobs, job_logs, queuemon.action_chunks, queuemon.action_events, queuemon.actions, queuemon.job_counts,"
    " queuemon.job_deltas, queuemon.minutes, queuemon.publications, queuemon.queue_pauses, queuemon.undo_jobs,"
    " queuemon.workers"
)


class Killed(BaseException):
    """The process is gone: nothing of it may catch this."""


class AtOnce:
    """An executor that does its work in `submit`: an action's publications come in the same order every time."""

    def __init__(self, **_: Any) -> None:
        pass

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *given: Any, **named: Any) -> Future[Any]:
        """Do it now; a kill leaves at once, an error waits in the future as it would."""
        future: Future[Any] = Future()
        try:
            future.set_result(work(*given, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class Hand:
    """A worker that takes one step at a time: the statements and scripts are the real worker's."""

    def __init__(self, world: World, home: str) -> None:
        self.world = world
        self.worker = Worker(world.wb.store, home=home, handlers=lambda _: None)
        self.worker.process = workers.Process(
            id=f"w-{uuid7().hex[-12:]}", kind="worker", home=home, host="here", pid=1
        )  # fmt: skip
        self.element: tuple[str, bytes] | None = None
        self.job: Claimed | None = None
        self.beat()

    @property
    def lease(self) -> Lease:
        """What the claimed job is held by."""
        assert self.job is not None
        return Lease(job_id=self.job.id, gen=self.job.gen, worker_id=self.worker.id)

    def beat(self) -> None:
        """Say that it lives."""
        with self.world.wb.store.postgres.statement() as connection:
            workers.beat(connection, self.world.wb.store.tables, self.worker.process, self.lease if self.job else None)

    def pop(self) -> None:
        """Take an element in hand, if there is one."""
        if self.element is None:
            self.worker._refresh()
            self.element = self.worker._pop()

    def claim(self) -> None:
        """Claim what is in hand; a refused element is put away."""
        if self.element is None or self.job is not None:
            return
        queue, raw = self.element
        element = decode_element(raw)
        assert element is not None
        store = self.world.wb.store
        with store.postgres.statement() as connection:
            answer = claims.claim(
                connection, store.tables, job_id=UUID(element.id), gen=element.gen, worker_id=self.worker.id
            )
        if isinstance(answer, Claimed):
            self.job = answer
            self.world.starts[answer.id, answer.gen] += 1
        else:
            self.worker._put_away(queue, raw, UUID(element.id), element.gen or 0, answer)
            self.element = None

    def end(self, *, well: bool) -> None:
        """Write the outcome of the job in hand, and empty the hand."""
        if self.job is None or self.element is None:
            return
        store = self.world.wb.store
        with store.postgres.statement() as connection:
            if well:
                claims.complete(connection, store.tables, self.lease)
            else:
                claims.fail(connection, store.tables, self.lease, FAILURE, backoff_seconds=0.0)
        self.worker._empty_hand(*self.element, self.job.id, self.job.gen)
        self.element = self.job = None


class World:
    """Both stores of a test, two queues, three hands, an operator, and what has happened so far."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.wb = Workbench(settings)
        self.starts: Counter[tuple[UUID, int]] = Counter()
        self.acknowledged: set[UUID] = set()
        self.zombies: list[tuple[Lease, bool]] = []
        self.hands: list[Hand] = []

    def begin(self) -> None:
        """Empty stores, as at the beginning."""
        self.sql(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE")
        self.redis.flushdb()
        for name in QUEUES:
            self.sql("INSERT INTO job_queues (name, concurrency) VALUES (:name, 2)", name=name)
        self.starts.clear()
        self.acknowledged.clear()
        self.zombies.clear()
        self.hands = [Hand(self, QUEUES[n % 2]) for n in range(3)]

    @property
    def redis(self) -> Any:
        """The client of the test's own Redis database."""
        return self.wb.store.redis.client

    @property
    def producer(self) -> Producer:
        """A producer of this process."""
        return Producer(self.wb.store)

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        """Run a statement; returns its rows, if it has any."""
        with self.wb.store.postgres.engine.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result.mappings()) if result.returns_rows else []

    def relay(self) -> None:
        """One step of every duty, by a relay that has been calm for long enough."""
        Relay(self.wb.store, calm_seconds=0).step(everything=True)

    def bury(self, n: int) -> None:
        """Kill a worker: what it held stays where it is, and its last beat and its job's are long ago."""
        hand = self.hands[n]
        self.sql("UPDATE queuemon.workers SET heartbeat_at = now() - interval '1 hour' WHERE id = :w", w=hand.worker.id)
        self.sql(
            "UPDATE jobs SET heartbeat_at = now() - interval '1 hour' WHERE status = 'active' AND worker_id = :w",
            w=hand.worker.id,
        )
        if hand.job is not None:
            self.zombies.append((hand.lease, n % 2 == 0))
        self.hands[n] = Hand(self, QUEUES[n % 2])

    @contextmanager
    def killed_after(self, calls: int) -> Iterator[None]:
        """What runs here dies at its so-manieth boundary of a store call: before it, before its commit or after it."""
        left = [calls]

        def boundary() -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed

        store = self.wb.store
        begin, statement = store.postgres.begin, store.postgres.statement
        run, run_many = store.redis.run, store.redis.run_many

        def around(real: Callable[..., Any]) -> Callable[..., Any]:
            @contextmanager
            def call(**given: Any) -> Iterator[Any]:
                boundary()
                with real(**given) as connection:
                    yield connection
                    boundary()
                boundary()

            return call

        def both_sides(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any, **named: Any) -> Any:
                boundary()
                answer = real(*given, **named)
                boundary()
                return answer

            return call

        for target, name, made in (
            (store.postgres, "begin", around(begin)),
            (store.postgres, "statement", around(statement)),
            (store.redis, "run", both_sides(run)),
            (store.redis, "run_many", both_sides(run_many)),
        ):
            setattr(target, name, made)
        try:
            yield
        except Killed:
            store.close()  # whatever it had open is rolled back, as by the server when the socket falls
        finally:
            for target, name in (
                (store.postgres, "begin"), (store.postgres, "statement"), (store.redis, "run"),
                (store.redis, "run_many"),
            ):  # fmt: skip
                delattr(target, name)

    # ---------------------------------------------------------------------------------------------- what must hold

    def live(self) -> list[tuple[str, UUID, int]]:
        """(key, id, generation) of every element in a list or in a hand."""
        found = []
        for pattern in ("queue:*", "queuemon:proc:*"):
            for key in self.redis.scan_iter(match=pattern):
                for raw in self.redis.lrange(key, 0, -1):
                    element = decode_element(raw)
                    assert element is not None, f"{key!r} holds {raw!r}"
                    found.append((key.decode(), UUID(element.id), element.gen or 0))
        return found

    def lost(self) -> bool:
        """Whether Redis has lost something and no relay has looked since: everything that waits is then promised."""
        epoch = self.redis.get(self.wb.store.redis.keys.epoch)
        return epoch != f"ready:{self.redis.info('server')['run_id']}".encode()

    def violations(self) -> list[str]:
        """What must never be and is; empty at every moment."""
        rows = {row["id"]: row for row in self.sql("SELECT * FROM jobs")}
        live, lost = self.live(), self.lost()
        there = {(job, gen) for _, job, gen in live}
        promised = {row["id"] for row in self.sql("SELECT DISTINCT unnest(job_ids) AS id FROM queuemon.publications")}
        found = [f"{job} started {n} times in generation {gen}" for (job, gen), n in self.starts.items() if n > 1]
        found += [
            f"{key} holds generation {gen} of {job}, whose row has {rows[job]['gen']}"
            for key, job, gen in live
            if job in rows and gen > rows[job]["gen"]
        ]
        found += [
            f"{job} waits in generation {row['gen']} and nothing will bring it to a worker"
            for job, row in rows.items()
            if row["status"] == "waiting" and job not in promised and (job, row["gen"]) not in there and not lost
        ]
        found += [f"{job} has gone" for job in self.acknowledged - rows.keys() - self.removed()]
        return found + self._wrong_counts(rows) + self._wrong_actions()

    def removed(self) -> set[UUID]:
        """Jobs that the trail says were deleted."""
        kept = self.sql(
            "SELECT u.job_id AS id FROM queuemon.undo_jobs u JOIN queuemon.actions a ON a.id = u.action_id"
            " WHERE a.kind = ANY(:kinds)",
            kinds=[kind.value for kind in ActionKind if kind.removes],
        )
        return {row["id"] for row in kept}

    def _wrong_counts(self, rows: dict[UUID, Any]) -> list[str]:
        store = self.wb.store
        with store.postgres.begin() as connection:
            half = numbers.snapshot(connection, store.tables, self.settings)
        real = Counter((row["queue"], row["status"]) for row in rows.values())
        found = []
        for q in half.queues:
            said = {"completed": q.completed, "failed": q.failed, "expired": q.expired, "active": q.active}
            said["waiting"] = q.waiting + q.scheduled
            found += [
                f"{n} {state} in {q.name} by the counters, {real[q.name, state]} by the rows"
                for state, n in said.items()
                if n != real[q.name, state]
            ]
        return found

    def _wrong_actions(self) -> list[str]:
        found = []
        for row in self.sql("SELECT * FROM queuemon.actions"):
            accounted = row["done"] + sum(row["skipped"].values()) + row["gone"]
            if not ActionKind(row["options"].get("undoes", row["kind"])).bulk:
                continue
            ended = row["state"] in {"done", "partly", "refused"}
            if accounted > row["planned"] or (ended and accounted < row["planned"]):
                found.append(f"{row['kind']} {row['id']}: {row['planned']} planned, {accounted} accounted for")
        return found
