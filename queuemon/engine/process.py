"""What every process of the engine shares: its name, its heartbeat, stop signals, and patience with stores away."""

from __future__ import annotations

import logging
import os
import random
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from queuemon.errors import QueuemonError, StoreError, StoreTimeout, StoreUnavailable
from queuemon.store import Store, workers
from queuemon.store.claims import Lease
from queuemon.store.workers import Process

log = logging.getLogger(__name__)

#: How often a process looks whether the process that started it still lives.
PARENT_SECONDS = 1.0

#: Longest pause between two tries while a store is away.
PATIENCE_SECONDS = 2.0


def this_process(kind: str, home: str = "") -> Process:
    """This process as it enters the registry, under a name that is never used again and holds no colon."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:60] or "host"
    name = f"{host}-{os.getpid()}-{secrets.token_hex(3)}"
    return Process(id=name, kind=kind, home=home, host=host, pid=os.getpid())


class Backoff:
    """Growing pauses with jitter: 0.1 s, 0.2 s, … up to a bound; `reset` after a success."""

    def __init__(self, first: float = 0.1, longest: float = PATIENCE_SECONDS) -> None:
        self.first, self.longest = first, longest
        self._tries = 0

    def next(self) -> float:
        """The next pause in seconds."""
        pause = min(self.longest, self.first * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return pause * random.uniform(0.75, 1.25)

    def reset(self) -> None:
        """Start over."""
        self._tries = 0


def transient(error: QueuemonError) -> bool:
    """Whether waiting may help: a store is away or slow, rather than unfit."""
    return isinstance(error, StoreUnavailable | StoreTimeout)


def patiently(stop: threading.Event, what: str, act: Callable[[], object]) -> bool:
    """Do something at start-up, waiting for stores that are away; False when told to stop before it succeeded.

    Raises what waiting does not help against (SchemaMismatch, NotAllowed).
    """
    backoff = Backoff()
    while not stop.is_set():
        try:
            act()
            return True
        except StoreError as error:
            if not transient(error):
                raise
            log.warning("%s: %s", what, error)
            stop.wait(backoff.next())
    return False


@dataclass(frozen=True, kw_only=True, eq=False)
class Hold:
    """The job in a worker's hand, as far as the heartbeat is concerned."""

    lease: Lease
    #: Set when the job is no longer this worker's: the outcome must not be written, the handler may stop.
    cancelled: threading.Event


class Heart:
    """Beats for a process, and for the job in its hand, from a thread and on a connection of its own.

    With `parent`, the process that started this one, `stop` is set as soon as that has gone.
    """

    def __init__(self, store: Store, process: Process, stop: threading.Event, *, parent: int | None = None) -> None:
        self.store = store
        self.process = process
        self._stop_process = stop
        self._parent = parent
        self._hold: Hold | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queuemon-heart", daemon=True)

    def enter(self) -> None:
        """Enter the registry; raises StoreError."""
        self._beat(None)

    def start(self) -> None:
        """Beat from now on."""
        self._thread.start()

    def hold(self, hold: Hold | None) -> None:
        """From now on renew the lease of this job too (None: the hand is empty)."""
        self._hold = hold

    def end(self) -> None:
        """Stop beating and leave the registry if PostgreSQL answers."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        try:
            with self.store.postgres.statement() as connection:
                workers.leave(connection, self.store.tables, self.process.id)
        except QueuemonError as error:
            log.info("%s stays in the registry until it is forgotten: %s", self.process.id, error)

    def _beat(self, hold: Hold | None) -> None:
        with self.store.postgres.statement() as connection:
            held = workers.beat(connection, self.store.tables, self.process, hold.lease if hold else None)
        # The hand may have been emptied meanwhile; then the answer means nothing.
        if hold is not None and not held and self._hold is hold:
            hold.cancelled.set()

    def _run(self) -> None:
        interval = self.store.settings.heartbeat_seconds
        due = time.monotonic() + interval
        failed = False
        while not self._ended.wait(max(0.0, min(due - time.monotonic(), PARENT_SECONDS))):
            if self._parent is not None and os.getppid() != self._parent:
                log.warning("the process that started %s has gone; stopping", self.process.id)
                self._stop_process.set()
                self._parent = None
            if time.monotonic() < due:
                continue
            try:
                self._beat(self._hold)
                due, failed = time.monotonic() + interval, False
            except QueuemonError as error:
                if not failed:
                    log.warning("no heartbeat from %s: %s", self.process.id, error)
                # The lease runs: try again soon.
                due, failed = time.monotonic() + min(interval, 0.5), True


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set; only for the main thread of a process."""
    stop = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        log.info("received %s: stopping in good order", signal.Signals(number).name)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def log_to_stderr() -> None:
    """Plain log lines on stderr, unless the program has set up logging already."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
