"""The relay: publishes what committed and heals what broke; any number may run side by side."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from queuemon.contract import JobStatus
from queuemon.engine import reaper, signing
from queuemon.engine.process import Backoff, Heart, patiently, this_process
from queuemon.engine.publisher import publish
from queuemon.errors import QueuemonError, StoreError
from queuemon.store import Store, changes, chunks, janitor, parking, pauses, rollups, upkeep, workers
from queuemon.store.pauses import PauseFlag

log = logging.getLogger(__name__)

#: Longest pause between two looks at the outbox: what a job enqueued in someone's transaction waits at most.
TICK_SECONDS = 0.1

#: A duty that comes back for more lets the others run after this long.
SLICE_SECONDS = 0.5

#: What others push to a parked list can be taken for about so long.
PARK_SECONDS = 0.2

#: A process that died is shown this long.
FORGET_SECONDS = 600.0

#: Advisory locks: one relay at a time restores Redis, and ends pauses.
_RESTORE_LOCK, _PAUSE_LOCK = 0x72657374, 0x70617573


@dataclass(kw_only=True)
class _Duty:
    """One thing the relay does again and again; fails and rests by itself."""

    name: str
    seconds: float
    #: Returns whether more is left to do at once.
    act: Callable[[], bool]
    due: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(longest=5.0))
    failing: bool = False


class Relay:
    """The duties and when each is due. `calm_seconds`: how long PostgreSQL must have answered before leases are ended.

    After PostgreSQL was away every lease looks old; living workers get the time to beat first.
    """

    def __init__(self, store: Store, *, calm_seconds: float | None = None) -> None:
        store.settings.require_writable("a relay")
        self.store = store
        self.process = this_process("relay")
        settings = store.settings
        lease = settings.lease_seconds
        self._calm_seconds = min(1.5 * settings.heartbeat_seconds, lease) if calm_seconds is None else calm_seconds
        self._calm_since = time.monotonic()
        often = max(0.2, min(5.0, lease / 6))
        #: Queues whose list is parked, as PostgreSQL last said.
        self._parked: list[PauseFlag] = []
        self._duties = [
            _Duty(name="restore", seconds=0.5, act=self.restore),
            _Duty(name="publish", seconds=TICK_SECONDS, act=self.publish),
            _Duty(name="fold", seconds=1.0, act=self.fold),
            _Duty(name="pauses", seconds=1.0, act=self.end_pauses),
            _Duty(name="flags", seconds=2.0, act=self.copy_flags),
            _Duty(name="park", seconds=PARK_SECONDS, act=self.park),
            _Duty(name="leases", seconds=often, act=self.end_leases),
            _Duty(name="expiry", seconds=often, act=self.expire),
            _Duty(name="reap", seconds=often, act=self.reap),
            _Duty(name="reap unknown", seconds=60.0, act=self.reap_unknown),
            _Duty(name="signatures", seconds=5.0, act=self.sign),
            _Duty(name="janitor", seconds=60.0, act=self.clean),
        ]

    def run(self, stop: threading.Event) -> None:
        """Do every duty when it is due until told to stop. Waits for stores that are away, at the start and later.

        Raises SchemaMismatch or NotAllowed when it can never begin.
        """
        heart = Heart(self.store, self.process, stop)
        if not patiently(stop, "the relay cannot enter the registry", heart.enter):
            return
        heart.start()
        log.info("relay %s at work", self.process.id)
        try:
            while not stop.is_set():
                self.step()
                stop.wait(max(0.0, min(duty.due for duty in self._duties) - time.monotonic()))
        finally:
            heart.end()

    def step(self, *, everything: bool = False) -> None:
        """Do each duty that is due (or each one) once. A duty that fails is logged and rests; the others go on."""
        for duty in self._duties:
            if not everything and time.monotonic() < duty.due:
                continue
            try:
                more = duty.act()
                duty.due = time.monotonic() + (0.0 if more else duty.seconds)
                duty.backoff.reset()
                if duty.failing:
                    log.info("%s: works again", duty.name)
                duty.failing = False
            except Exception as error:
                self._rest(duty, error)

    def _rest(self, duty: _Duty, error: Exception) -> None:
        duty.due = time.monotonic() + duty.backoff.next()
        if isinstance(error, StoreError) and error.store == "postgresql":
            self._calm_since = time.monotonic()
        if not isinstance(error, QueuemonError):
            log.exception("%s failed and will be tried again", duty.name)
        elif not duty.failing:
            log.warning("%s rests and will be tried again: %s", duty.name, error)
        duty.failing = True

    # -------------------------------------------------------------------------------------------------------- duties

    def publish(self) -> bool:
        """Publish due outbox rows, for half a second at most; the rest comes after the other duties."""
        return publish(self.store, seconds=SLICE_SECONDS).more

    def fold(self) -> bool:
        """Fold counters and attempts; skipped where another relay does it."""
        with self.store.postgres.begin(seconds=60) as connection:
            rollups.fold_counts(connection, self.store.tables)
        with self.store.postgres.begin(seconds=60) as connection:
            rollups.fold_attempts(connection, self.store.tables)
        return False

    def end_leases(self) -> bool:
        """Take jobs from workers that stopped beating."""
        if time.monotonic() - self._calm_since < self._calm_seconds:
            return False
        with self.store.postgres.statement() as connection:
            taken = upkeep.expire_leases(connection, self.store.tables, lease_seconds=self.store.settings.lease_seconds)
        if taken.waiting or taken.failed:
            log.warning("leases ran out: %d jobs wait again, %d failed", taken.waiting, taken.failed)
        return taken.waiting + taken.failed >= upkeep.BATCH

    def expire(self) -> bool:
        """Expire waiting jobs past their deadline."""
        with self.store.postgres.statement() as connection:
            expired = upkeep.expire_jobs(connection, self.store.tables)
        if expired:
            log.warning("%d jobs expired unprocessed", expired)
        return expired >= upkeep.BATCH

    def reap(self) -> bool:
        """Empty the hands of dead workers, and forget those that died long ago."""
        reaper.reap_dead(self.store)
        with self.store.postgres.statement() as connection:
            workers.forget(
                connection,
                self.store.tables,
                older_than_seconds=max(FORGET_SECONDS, 2 * self.store.settings.lease_seconds),
            )
        return False

    def reap_unknown(self) -> bool:
        """Empty hands whose worker nobody knows."""
        reaper.reap_unknown(self.store)
        return False

    def end_pauses(self) -> bool:
        """Let go of pauses past their end; deadlines are extended, in chunks, before a queue runs again."""
        t = self.store.tables
        with self.store.postgres.begin() as lock:
            due = pauses.due_pauses(lock, t)
            if not due or not upkeep.try_lock(lock, _PAUSE_LOCK):
                return False
            for pause in due:
                if pause.last:
                    self._extend_deadlines(pause.queue)
                with self.store.postgres.begin() as connection:
                    changes.drop_holders(connection, t, pause.queue, holder=pause.holder)
                log.info("the pause of %r by %r has ended", pause.queue, pause.holder)
        return self.copy_flags()

    def _extend_deadlines(self, queue: str) -> None:
        t, after = self.store.tables, None
        while True:
            with self.store.postgres.begin() as connection:
                found = chunks.find_chunks(
                    connection,
                    t,
                    t.jobs.c.queue == queue,
                    [JobStatus.WAITING],
                    after=after,
                    chunk_rows=self.store.settings.chunk_rows,
                )
            for chunk in found:
                with self.store.postgres.begin() as connection:
                    changes.extend_deadlines(connection, t, queue, chunk)
                after = chunk.last
            if not found:
                return

    def copy_flags(self) -> bool:
        """Write every pause flag that Redis does not have as PostgreSQL does, and park or give back lists with them."""
        with self.store.postgres.statement() as connection:
            flags = pauses.pause_flags(connection, self.store.tables)
        self._parked = [flag for flag in flags if flag.hard]
        redis = self.store.redis
        return parking.tell(redis, parking.differing(redis, flags), seconds=SLICE_SECONDS)

    def park(self) -> bool:
        """Park again what others pushed to a parked list. A pause that has ended meanwhile has a newer epoch."""
        redis = self.store.redis
        return parking.tell(redis, parking.pushed_meanwhile(redis, self._parked), seconds=SLICE_SECONDS)

    def restore(self) -> bool:
        """Where Redis lost something (its epoch has gone, or names another run of the server), publish what is missing.

        Every job that waits is promised anew, under its present generation: a marker that is left says that the list,
        of the same age, still holds the job, and stops a second push; so an old RDB or a failover costs no duplicates.
        The first time that this database meets its Redis, lists that hold something are taken as they are.
        """
        redis, t = self.store.redis, self.store.tables
        ready = f"ready:{self._redis_run()}"
        with redis.call() as client:
            epoch: Any = client.get(redis.keys.epoch)
        if epoch == ready.encode():
            return False
        token = f"restoring:{secrets.token_hex(8)}"
        with self.store.postgres.begin(seconds=300) as connection:
            if not upkeep.try_lock(connection, _RESTORE_LOCK):
                return False
            # What is published from here on finds out whether its list is parked.
            self.copy_flags()
            # Written first: should Redis be lost once more before the end, the end is not declared.
            with redis.call() as client:
                client.set(redis.keys.epoch, token)
            jobs = 0
            if not (upkeep.first_time(connection, t, "redis") and self._lists_hold_something()):
                jobs = upkeep.promise_everything_waiting(connection, t)
        redis.run("ready", [redis.keys.epoch], [token, ready])
        if jobs:
            log.warning("Redis was lost or restarted: %d waiting jobs are looked at and published where missing", jobs)
        self.copy_flags()
        return False

    def _redis_run(self) -> str:
        """Names one run of the server: another one after a restart or a failover."""
        with self.store.redis.call() as client:
            info: Any = client.info("server")
        return str(info["run_id"])

    def _lists_hold_something(self) -> bool:
        with self.store.postgres.statement() as connection:
            flags = pauses.pause_flags(connection, self.store.tables)
        with self.store.redis.call() as client:
            keys = self.store.redis.keys
            names = [k for f in flags for k in (keys.queue_key(f.queue), *parking.parked_keys(keys, f.queue))]
            return bool(names and client.exists(*names))

    def sign(self) -> bool:
        """Give failed attempts of other people's workers, and of older versions, their signature."""
        return signing.sign_attempts(self.store) >= signing.BATCH

    def clean(self) -> bool:
        """The janitor: one batch of each kind; more at once where a batch came back full."""
        settings, t, batch = self.store.settings, self.store.tables, 10_000
        with self.store.postgres.begin(seconds=60) as connection:
            gone = janitor.purge_undo(connection, limit=batch)
        if settings.log_days > 0:
            with self.store.postgres.begin(seconds=60) as connection:
                gone = max(gone, janitor.purge_logs(connection, t, days=settings.log_days, limit=batch))
            with self.store.postgres.begin(seconds=60) as connection:
                janitor.purge_actions(connection, days=settings.log_days)
                janitor.purge_minutes(connection, days=settings.log_days)
        return gone >= batch
