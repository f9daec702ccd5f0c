"""Calls one function again and again in a daemon thread: the dashboard's refresh."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

#: Without a sign of life of a page for this long, nothing is read until the next one.
ABANDONED_SECONDS: Final = 60.0


class Poller:
    """One thread that runs `work` every `interval` seconds (0: only on request) and never twice at once.

    `work` must not raise. The thread rests while no page shows the dashboard, and ends with `stop`.
    """

    def __init__(
        self, work: Callable[[], None], *, interval: float, abandoned_seconds: float = ABANDONED_SECONDS
    ) -> None:
        self._work = work
        self._interval = interval
        self._abandoned = abandoned_seconds
        self._condition = threading.Condition()
        self._stopped = False
        self._wanted = True
        self._seen = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="queuemon-poller", daemon=True)

    def start(self) -> None:
        """Begin, with a first call at once."""
        self._thread.start()

    def refresh(self) -> None:
        """Call as soon as the running call is over."""
        with self._condition:
            self._wanted = True
            self._condition.notify_all()

    def set_interval(self, seconds: float) -> None:
        """Another interval; 0 waits for `refresh`."""
        with self._condition:
            self._interval = seconds
            self._condition.notify_all()

    def seen(self) -> None:
        """A page shows the dashboard."""
        with self._condition:
            if self._resting():
                self._wanted = True
            self._seen = time.monotonic()
            self._condition.notify_all()

    def stop(self) -> None:
        """End after the running call; safe from any thread, and twice."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread; whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread.is_alive()

    def _resting(self) -> bool:
        return time.monotonic() - self._seen > self._abandoned

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            with self._condition:
                while not self._stopped and not self._due(due):
                    self._condition.wait(self._patience(due))
                if self._stopped:
                    return
                self._wanted = False
            started = time.monotonic()
            self._work()
            # From start to start, but never back to back: a slow store is not asked more than half of the time.
            due = max(started + self._interval, time.monotonic() + min(self._interval, time.monotonic() - started))

    def _due(self, due: float) -> bool:
        return self._wanted or (bool(self._interval) and not self._resting() and time.monotonic() >= due)

    def _patience(self, due: float) -> float | None:
        if not self._interval or self._resting():
            return None
        return max(0.0, due - time.monotonic())
