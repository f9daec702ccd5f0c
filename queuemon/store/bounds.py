"""A bound around reads that may be long: the dashboard's cards end theirs within some seconds, or when they close."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

import psycopg

#: Seconds that asking the server to stop may take.
STOP_SECONDS: Final = 2.0

_bound: ContextVar[Bound | None] = ContextVar("queuemon_bound", default=None)


class Bound:
    """Within `with bound.held():` every statement of this thread ends within `seconds`, and all at once on `stop()`.

    What is stopped raises StoreTimeout: whoever asked for the stop drops it.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.stopped = False
        #: Seconds that the store has worked for it.
        self.spent = 0.0
        self._lock = threading.Lock()
        self._running: psycopg.Connection[Any] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Bound what this thread reads inside."""
        token = _bound.set(self)
        try:
            yield
        finally:
            _bound.reset(token)

    def stop(self) -> None:
        """End what runs and begin nothing more; from any thread, and twice."""
        with self._lock:
            self.stopped = True
            # Under the lock: the connection cannot have gone to somebody else meanwhile.
            if self._running is not None:
                # Where the server is away, so is the statement; else its own timeout ends it.
                with suppress(psycopg.Error):
                    self._running.cancel_safe(timeout=STOP_SECONDS)

    @contextmanager
    def around(self, connection: Any) -> Iterator[None]:
        """While a driver's connection works for it."""
        with self._lock:
            if self.stopped:
                raise psycopg.errors.QueryCanceled
            self._running = connection
        began = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._running = None
                self.spent += time.monotonic() - began


def bound() -> Bound | None:
    """The bound that this thread reads under; None without one."""
    return _bound.get()
