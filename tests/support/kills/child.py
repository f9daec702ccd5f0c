"""Forked children of a lane: warm (the package is imported, statements are compiled), each with its own connections."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from queuemon.store import Store
from tests.support.kills.points import Points

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended."""

    #: Killed by SIGKILL.
    killed: bool
    #: The boundaries that it passed, "thread-number when what in where".
    passed: tuple[str, ...]
    #: A traceback, where its work raised.
    error: str
    seconds: float
    #: When it was known to be dead, time.monotonic().
    at: float


class Child:
    """A process forked from this one, which does `act` on `store` and ends."""

    def __init__(
        self,
        store: Store,
        act: Callable[[Store], object],
        *,
        thread: str = "",
        number: int = 0,
        watched: bool = True,
    ) -> None:
        """`thread`, `number`: the fault point where it kills itself, if any. Not `watched`: it has none."""
        self.started = time.monotonic()
        self._read, write = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._live(store, act, write, Points(write, thread=thread, number=number) if watched else None)
        os.close(write)

    def _live(self, store: Store, act: Callable[[Store], object], report: int, points: Points | None) -> None:
        code = 1
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.close(self._read)
            logging.disable(logging.CRITICAL)
            # The parent's connections are the parent's (redis-py looks at the process id itself).
            store.postgres.engine.dispose(close=False)
            if points is not None:
                points.install(store)
            act(store)
            code = 0
        except BaseException:
            os.write(report, f"! {json.dumps(traceback.format_exc())}\n".encode())
        finally:
            os._exit(code)

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def end(self, *, kill_after: float | None = None, limit: float = 30.0) -> Ended:
        """Wait until it has ended; with `kill_after` kill it then, unless it has ended before."""
        os.set_blocking(self._read, False)
        limit_at, kill_at = time.monotonic() + limit, None if kill_after is None else self.started + kill_after
        raw, status = b"", None
        while status is None:
            raw += self._some()
            pid, found = os.waitpid(self.pid, os.WNOHANG)
            now = time.monotonic()
            if pid:
                status = found
            elif now > limit_at or (kill_at is not None and now >= kill_at):
                self.kill()
                _, status = os.waitpid(self.pid, 0)
            else:
                time.sleep(0.0005 if kill_at is not None else 0.002)
        at = time.monotonic()
        raw += self._some()
        os.close(self._read)
        lines = raw.decode().splitlines()
        errors = [json.loads(line[2:]) for line in lines if line.startswith("! ")]
        if at > limit_at:
            errors.append(f"it did not end within {limit:g} s")
        return Ended(
            killed=os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
            passed=tuple(line for line in lines if not line.startswith("! ")),
            error="".join(errors),
            seconds=at - self.started,
            at=at,
        )

    def _some(self) -> bytes:
        found = b""
        while True:
            try:
                part = os.read(self._read, 65536)
            except BlockingIOError:
                return found
            if not part:
                return found
            found += part
