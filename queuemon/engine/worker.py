"""The worker: takes a job from Redis, claims it in PostgreSQL, runs its handler, writes the outcome (level L2)."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from queuemon.config import Settings
from queuemon.contract import Priority, decode_element
from queuemon.engine.handlers import Handler, Handlers, JobInHand, failure_of
from queuemon.engine.process import Backoff, Heart, Hold, patiently, this_process, transient
from queuemon.engine.publisher import publish
from queuemon.errors import ConfigError, QueuemonError, StoreError
from queuemon.store import Store, claims, parking, upkeep
from queuemon.store.claims import Claimed, Failure, Lease, Outcome, Refusal, Refused, Write

log = logging.getLogger(__name__)

#: Queues per call of the pop script.
POP_QUEUES = 250

#: The list of queues, their priorities and handlers is read again this often.
REFRESH_SECONDS = 2.0

#: Tries of a write that PostgreSQL answers with an error of its own (not by being away).
WRITE_TRIES = 5


def service_order(queues: Sequence[tuple[str, Priority]], home: str) -> list[str]:
    """Queues in the order a worker serves them: high-priority ones, its home, then the others by priority and name."""

    def key(queue: tuple[str, Priority]) -> tuple[int, int, int, str]:
        name, priority = queue
        at_home = name == home
        return (0 if priority is Priority.HIGH else 1 if at_home else 2, 0 if at_home else 1, priority.rank, name)

    return [name for name, _ in sorted(queues, key=key)]


def backoff_seconds(attempt: int, settings: Settings, jitter: float | None = None) -> float:
    """Delay before the next attempt: doubles with each from the setting up to the maximum, times 0.75–1.25."""
    delay = min(settings.backoff_maximum_seconds, settings.backoff_seconds * 2.0 ** min(attempt - 1, 60))
    return delay * (random.uniform(0.75, 1.25) if jitter is None else jitter)


class Worker:
    """One worker process, one job at a time. `home` is the queue it is meant for; it helps with all it can handle.

    On stop it finishes the job in hand, for at most `grace_seconds`, and then hands it back uncounted.
    """

    def __init__(
        self,
        store: Store,
        *,
        home: str,
        handlers: Handlers | Mapping[str, Handler | str] | Handler | str,
        grace_seconds: float = 30.0,
        parent: int | None = None,
    ) -> None:
        store.settings.require_writable("a worker")
        self.store = store
        self.home = home
        self.handlers = Handlers.of(handlers)
        self.grace_seconds = grace_seconds
        self.process = this_process("worker", home)
        self._parent = parent
        self._queues: list[str] = []
        self._refresh_at = 0.0
        #: A claim whose answer was lost: it may or may not have been made.
        self._uncertain: Lease | None = None
        if self.handlers.find(home) is None:
            raise ConfigError(f"no handler serves the queue {home!r}", expected="a handler for the worker's own queue")

    @property
    def id(self) -> str:
        """The worker's name in the registry, in jobs and in Redis."""
        return self.process.id

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop. Waits for stores that are away, at the start and later.

        Raises SchemaMismatch or NotAllowed when it can never begin.
        """
        heart = Heart(self.store, self.process, stop, parent=self._parent)
        if not patiently(stop, f"{self.id} cannot enter the registry", heart.enter):
            return
        heart.start()
        log.info("worker %s serves %r first", self.id, self.home)
        backoff = Backoff()
        try:
            while not stop.is_set():
                try:
                    self._cycle(stop, heart)
                    backoff.reset()
                except QueuemonError as error:
                    log.warning("worker %s waits: %s", self.id, error)
                    stop.wait(backoff.next())
        finally:
            heart.end()

    def _cycle(self, stop: threading.Event, heart: Heart) -> None:
        """Serve one job, or sleep until there may be one (a second at most)."""
        self._settle()
        self._refresh()
        found = self._pop()
        if found is None:
            self._sleep(stop)
        else:
            self._serve(*found, stop, heart)

    def _settle(self) -> None:
        """Give back what a claim with a lost answer may have taken; the element in hand is then looked at again."""
        if self._uncertain is not None:
            with self.store.postgres.statement() as connection:
                claims.hand_back(connection, self.store.tables, self._uncertain)
            self._uncertain = None

    def _refresh(self) -> None:
        now = time.monotonic()
        if now < self._refresh_at:
            return
        with self.store.postgres.statement() as connection:
            rows = claims.serving(connection, self.store.tables)
        served = [(row.name, row.priority) for row in rows if self.handlers.find(row.name) is not None]
        self._queues = service_order(served, self.home)
        self._refresh_at = now + REFRESH_SECONDS

    def _pop(self) -> tuple[str, bytes] | None:
        keys = self.store.redis.keys
        for first in range(0, len(self._queues), POP_QUEUES):
            some = self._queues[first : first + POP_QUEUES]
            names: list[str] = []
            for name in some:
                names += [keys.paused_key(name), keys.queue_key(name), keys.processing_key(self.id, name)]
            found = self.store.redis.run("pop", names)
            if found is not None:
                return some[int(found[0]) - 1], found[1]
        return None

    def _sleep(self, stop: threading.Event) -> None:
        if not self._queues:
            stop.wait(0.5)
            return
        with self.store.redis.call() as client:
            client.blpop([self.store.redis.keys.wake], timeout=min(1.0, self.store.settings.redis_timeout_seconds / 2))

    # --------------------------------------------------------------------------------------------------- one element

    def _serve(self, queue: str, raw: bytes, stop: threading.Event, heart: Heart) -> None:
        element = decode_element(raw)
        job_id = _uuid(element.id) if element is not None else None
        if element is None or job_id is None:
            keys = self.store.redis.keys
            self.store.redis.run("quarantine", [keys.processing_key(self.id, queue), keys.quarantine_key(queue)], [raw])
            log.warning("an element of %r means nothing and was set aside: %r", queue, raw[:80])
            return
        try:
            with self.store.postgres.statement() as connection:
                answer = claims.claim(connection, self.store.tables, job_id=job_id, gen=element.gen, worker_id=self.id)
        except StoreError:
            if element.gen is not None:
                self._uncertain = Lease(job_id=job_id, gen=element.gen, worker_id=self.id)
            raise
        if isinstance(answer, Refused):
            self._put_away(queue, raw, job_id, element.gen or 0, answer)
            return
        self._run_job(answer, stop, heart)
        self._empty_hand(queue, raw, job_id, answer.gen)

    def _put_away(self, queue: str, raw: bytes, job_id: UUID, gen: int, refused: Refused) -> None:
        """An element whose claim was refused: back to the head of its queue when that is paused, dropped otherwise."""
        redis, keys = self.store.redis, self.store.redis.keys
        if refused.why is Refusal.PAUSED and refused.queue is not None:
            # Redis did not know: tell it first, or the next pop brings the same element.
            parking.refused(redis, refused.queue, refused.pause_epoch or 0)
            names = [keys.queue_key(refused.queue), keys.paused_key(refused.queue), keys.parked_key(refused.queue)]
            redis.run("give_back", [keys.processing_key(self.id, queue), *names], [raw])
            return
        if refused.why is Refusal.EARLY and refused.run_at is not None:
            with self.store.postgres.statement() as connection:
                claims.due_again(connection, self.store.tables, job_id=job_id, at=refused.run_at)
        elif refused.why is Refusal.EXPIRED:
            with self.store.postgres.statement() as connection:
                upkeep.expire_jobs(connection, self.store.tables, job_id=job_id)
        self._empty_hand(queue, raw, job_id, gen)

    def _empty_hand(self, queue: str, raw: bytes, job_id: UUID, gen: int) -> None:
        keys = self.store.redis.keys
        self.store.redis.run("finish", [keys.processing_key(self.id, queue), keys.marker_key(str(job_id))], [raw, gen])

    # ------------------------------------------------------------------------------------------------------- one job

    def _run_job(self, job: Claimed, stop: threading.Event, heart: Heart) -> None:
        """Run the handler in a thread, beating meanwhile, and write what came of it."""
        lease = Lease(job_id=job.id, gen=job.gen, worker_id=self.id)
        hold = Hold(lease=lease, cancelled=threading.Event())
        heart.hold(hold)
        try:
            attempt = _Attempt(job, self.handlers.find(job.queue), self.id, hold.cancelled)
            if not attempt.wait(stop, self.grace_seconds):
                self._hand_back(hold, stop)
            elif hold.cancelled.is_set():
                log.warning("job %s was taken away while it ran; its outcome is not written", job.id)
            else:
                self._write_outcome(lease, job.attempt, attempt.failure, stop)
        finally:
            heart.hold(None)

    def _write_outcome(self, lease: Lease, attempt: int, failure: Failure | None, stop: threading.Event) -> None:
        tables = self.store.tables
        if failure is None:
            outcome = self._write(lambda c: claims.complete(c, tables, lease), stop)
        else:
            pause = backoff_seconds(attempt, self.store.settings)
            outcome = self._write(lambda c: claims.fail(c, tables, lease, failure, backoff_seconds=pause), stop)
        if outcome is not None and outcome.status is None:
            log.warning("job %s was taken away before its outcome was written; nothing changed", lease.job_id)

    def _hand_back(self, hold: Hold, stop: threading.Event) -> None:
        hold.cancelled.set()
        outcome = self._write(lambda c: claims.hand_back(c, self.store.tables, hold.lease), stop, wait=5.0)
        log.warning("job %s did not end within %g s of the stop", hold.lease.job_id, self.grace_seconds)
        if outcome is not None and outcome.outbox_id is not None:
            try:
                publish(self.store, outbox_ids=[outcome.outbox_id])
            except StoreError as error:
                log.info("publication is left to the relay: %s", error)

    def _write(self, write: Write, stop: threading.Event, *, wait: float | None = None) -> Outcome | None:
        """Write until PostgreSQL has answered: the fence decides whether it still counts, however long that takes.

        Given up (None; the lease then takes the job) when PostgreSQL answers with an error of its own five times, or
        is away for `wait` (by default the grace time) after the stop.
        """
        backoff, refused, waited = Backoff(longest=1.0), 0, 0.0
        limit = self.grace_seconds if wait is None else wait
        while True:
            try:
                with self.store.postgres.statement() as connection:
                    return write(connection)
            except QueuemonError as error:
                refused += not transient(error)
                log.warning("worker %s cannot write an outcome yet: %s", self.id, error)
            if refused == WRITE_TRIES or waited > limit:
                return None
            pause = backoff.next()
            waited += pause if stop.is_set() else 0.0
            time.sleep(pause)


class _Attempt:
    """One call of a handler in a thread of its own, so that a stop can give up waiting for it."""

    def __init__(self, job: Claimed, handler: Handler | None, worker_id: str, cancelled: threading.Event) -> None:
        self.failure: Failure | None = None
        self._job, self._handler, self._worker_id, self._cancelled = job, handler, worker_id, cancelled
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="queuemon-job", daemon=True).start()

    def wait(self, stop: threading.Event, grace_seconds: float) -> bool:
        """Whether the handler ended before the grace time after a stop was over."""
        deadline = None
        while not self._ended.wait(0.2):
            if deadline is None and stop.is_set():
                deadline = time.monotonic() + grace_seconds
            if deadline is not None and time.monotonic() >= deadline:
                return False
        return True

    def _run(self) -> None:
        job = self._job
        try:
            if self._handler is None:
                raise LookupError(f"no handler serves the queue {job.queue!r}")
            self._handler(
                JobInHand(
                    id=job.id,
                    queue=job.queue,
                    payload=_payload(job.payload),
                    gen=job.gen,
                    attempt=job.attempt,
                    max_attempts=job.max_attempts,
                    created_at=job.created_at,
                    worker_id=self._worker_id,
                    cancelled=self._cancelled,
                )
            )
        except BaseException as error:  # whatever a handler raises, SystemExit included, is a failed attempt
            self.failure = failure_of(error)
        finally:
            self._ended.set()


class UnreadablePayload(Exception):
    """PostgreSQL holds the payload, but no Python value can be made of it."""


def _payload(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise UnreadablePayload(
            f"the payload of {len(text):,} characters cannot be read: {why}. Next: replace it with `queuemon edit`"
        ) from None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
