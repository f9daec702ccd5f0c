"""The supervisor: starts and stops worker processes until each queue has as many as `job_queues.concurrency` says."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from queuemon.engine.process import Backoff, Heart, patiently, this_process
from queuemon.errors import QueuemonError
from queuemon.store import Store, claims, workers

log = logging.getLogger(__name__)

#: The numbers wanted are read, and the processes looked at, this often.
FOLLOW_SECONDS = 0.5

#: A worker that lived this long did not crash at its start.
STEADY_SECONDS = 30.0

#: What a stopping worker gets beyond its grace time before it is killed.
KILL_SECONDS = 15.0


def worker_command(handlers: str, grace_seconds: float, profile: str | None = None) -> list[str]:
    """The command of a worker process; `{queue}` and `{parent}` are filled in as parts of single arguments."""
    chosen = ["--profile", profile] if profile else []
    options = ["--handlers", handlers, "--grace", f"{grace_seconds:g}", "--parent", "{parent}"]
    return [sys.executable, "-m", "queuemon", *chosen, "worker", *options, "--", "{queue}"]


@dataclass(kw_only=True, eq=False)
class _Child:
    """A worker process."""

    process: subprocess.Popen[bytes]
    started: float
    #: When it was told to stop.
    stopped: float | None = None


@dataclass(kw_only=True)
class _Crew:
    """The worker processes of one queue, oldest first."""

    children: list[_Child] = field(default_factory=list)
    backoff: Backoff = field(default_factory=lambda: Backoff(first=0.5, longest=30.0))
    #: After a crash nothing is started before this moment.
    rest_until: float = 0.0

    def working(self) -> list[_Child]:
        """Those not told to stop."""
        return [child for child in self.children if child.stopped is None]


class Supervisor:
    """Follows the numbers wanted, with at most `limit` processes in all. One acts; others stand by.

    Workers stop by themselves when their supervisor has gone, however it ended.
    """

    def __init__(
        self,
        store: Store,
        *,
        handlers: str = "",
        grace_seconds: float = 30.0,
        profile: str | None = None,
        command: Sequence[str] | None = None,
        limit: int = 64,
    ) -> None:
        store.settings.require_writable("a supervisor")
        self.store = store
        self.process = this_process("supervisor")
        self.grace_seconds = grace_seconds
        self.limit = limit
        self._command = list(command or worker_command(handlers, grace_seconds, profile))
        self._crews: dict[str, _Crew] = {}
        self._wanted: dict[str, int] = {}
        self._limited = False

    def run(self, stop: threading.Event) -> None:
        """Follow until told to stop, then stop all workers in good order. While PostgreSQL is away nothing changes.

        Raises SchemaMismatch or NotAllowed when it can never begin.
        """
        heart = Heart(self.store, self.process, stop)
        if not patiently(stop, "the supervisor cannot enter the registry", heart.enter):
            return
        heart.start()
        log.info("supervisor %s at work", self.process.id)
        backoff, away = Backoff(), False
        try:
            while not stop.is_set():
                pause = FOLLOW_SECONDS
                try:
                    self._wanted = self._read()
                    backoff.reset()
                    away = False
                except QueuemonError as error:
                    if not away:
                        log.warning("the numbers wanted cannot be read; nothing changes: %s", error)
                    away, pause = True, backoff.next()
                self.follow(self._wanted)
                stop.wait(pause)
        finally:
            self._stop_all()
            heart.end()

    def _read(self) -> dict[str, int]:
        """Worker processes wanted per queue, most urgent queues first; none where another supervisor acts."""
        t = self.store.tables
        with self.store.postgres.statement() as connection:
            first = workers.leader(connection, t, kind="supervisor", lease_seconds=self.store.settings.lease_seconds)
            if first is not None and first != self.process.id:
                return {}
            queues = claims.serving(connection, t)
        queues.sort(key=lambda q: (q.priority.rank, q.name))
        wanted: dict[str, int] = {}
        room = self.limit
        for queue in queues:
            wanted[queue.name] = min(queue.concurrency, room)
            room -= wanted[queue.name]
        short = sum(q.concurrency for q in queues) > self.limit
        if short and not self._limited:
            log.warning("more workers are wanted than the limit of %d processes allows", self.limit)
        self._limited = short
        return wanted

    def follow(self, wanted: dict[str, int]) -> None:
        """One look: bury the dead, start what is missing, tell the newest of what is too many to stop."""
        now = time.monotonic()
        for queue in list(self._crews):
            self._bury(queue, self._crews[queue], now)
        for queue in wanted.keys() | self._crews.keys():
            crew = self._crews.setdefault(queue, _Crew())
            number = wanted.get(queue, 0)
            working = crew.working()
            for child in working[number:]:
                self._tell_to_stop(child, now)
            missing = number - len(working)
            # Those still finishing a job count against the limit, so it holds at every moment.
            room = self.limit - sum(len(other.children) for other in self._crews.values())
            if now >= crew.rest_until:
                for _ in range(min(missing, room)):
                    crew.children.append(self._start(queue))
            if not crew.children and number == 0:
                del self._crews[queue]

    def _start(self, queue: str) -> _Child:
        parent = str(os.getpid())
        arguments = [part.replace("{parent}", parent).replace("{queue}", queue) for part in self._command]
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
        log.info("started worker process %d for %r", process.pid, queue)
        return _Child(process=process, started=time.monotonic())

    def _bury(self, queue: str, crew: _Crew, now: float) -> None:
        for child in list(crew.children):
            code = child.process.poll()
            if code is None:
                if child.stopped is not None and now - child.stopped > self.grace_seconds + KILL_SECONDS:
                    log.warning("worker process %d did not stop and is killed", child.process.pid)
                    child.process.kill()
                continue
            crew.children.remove(child)
            if child.stopped is not None:
                continue
            log.warning("worker process %d for %r ended by itself (%s)", child.process.pid, queue, _how(code))
            if now - child.started > STEADY_SECONDS:
                crew.backoff.reset()
            crew.rest_until = now + crew.backoff.next()

    @staticmethod
    def _tell_to_stop(child: _Child, now: float) -> None:
        child.stopped = now
        child.process.terminate()

    def _stop_all(self) -> None:
        now = time.monotonic()
        children = [child for crew in self._crews.values() for child in crew.children]
        for child in children:
            if child.stopped is None:
                self._tell_to_stop(child, now)
        deadline = now + self.grace_seconds + KILL_SECONDS
        for child in children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self._crews.clear()


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
