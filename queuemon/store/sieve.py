"""Filters the list of a queue under a hard pause, window by window; repairs of drift take elements out with it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from queuemon.contract import SCRIPT_BATCH
from queuemon.errors import InvalidValue, LimitExceeded
from queuemon.store.parking import parked_keys
from queuemon.store.redis import Argument, Redis

#: What `sift` answers.
_CHANGED, _NOT_PARKED, _MOVED = -1, -2, -3

#: Elements of the first window, whose size nobody knows yet, and bytes of the others to aim at.
_FIRST_WINDOW: Final = 16
_WINDOW_BYTES: Final = 500_000

#: How often a filter begins again because somebody else filters or gives the list back at the same time.
_BEGINNINGS: Final = 20


@dataclass(frozen=True, kw_only=True)
class Window:
    """The next elements of a parked list, the one to be served first at its beginning; at most 250."""

    raws: Sequence[bytes]
    #: Nothing before it was kept: what was learnt of elements before it no longer holds.
    first: bool


class Sieve:
    """One pass through a parked list: `for window in sieve.windows(): sieve.cut(indices)`.

    Every element is shown at least once, in order, and the others keep theirs; a window that changed before it was cut
    is shown again, and where somebody else moved the list the pass begins again. What is taken out lies in the queue's
    quarantine, at its end. A crash between two calls loses nothing (see the script), and each call costs the server
    well under a millisecond. For one thread.
    """

    def __init__(self, redis: Redis, queue: str) -> None:
        self._redis, self._queue = redis, queue
        self._sifted, self._parked = parked_keys(redis.keys, queue)
        self._raws: Sequence[bytes] = ()
        self._size = _FIRST_WINDOW
        self._beginnings = 0
        #: Elements of this pass that stay; None before it has begun.
        self._kept: int | None = None
        self._over = False

    def windows(self) -> Iterator[Window]:
        """The list, window by window; `cut` each. Raises InvalidValue where the queue is not parked (any more) and
        LimitExceeded where others do not let the pass come to its end."""
        while not self._over:
            if self._kept is None:
                self._begin()
            self._raws = self._look()
            yield Window(raws=self._raws, first=self._kept == 0)

    def cut(self, taken: Sequence[int]) -> bool:
        """Take the elements at these places of the window out, and go on after it; False where it is to be looked at
        again, and nothing was taken out."""
        assert self._kept is not None, "a window comes first"
        left = self._run(self._kept, sorted(set(taken)))
        if left == _CHANGED:
            return False
        if left == _MOVED:
            self._kept = None
            return False
        self._kept += len(self._raws) - len(set(taken))
        self._over = left == 0
        return True

    def join(self) -> None:
        """Make one list of the two parts that a pass which was killed has left, so that the whole of it is looked at.
        Raises InvalidValue where there are two, and the queue is not parked (any more)."""
        with self._redis.call() as client:
            parts = client.exists(self._sifted)
        while parts:
            self._raws = self._look()
            parts = self._run(-1, ()) != 0

    def _begin(self) -> None:
        self._beginnings += 1
        if self._beginnings > _BEGINNINGS:
            raise LimitExceeded(
                f"the list of {self._redis.keys.display(self._queue)} was moved {_BEGINNINGS} times while it was read",
                expected="one repair of a parked queue at a time",
                next_step="go on with this action when the other one has ended",
            )
        self.join()
        self._kept = 0

    def _look(self) -> Sequence[bytes]:
        with self._redis.call() as client:
            raws: Any = client.lrange(self._parked, 0, self._size - 1)
        return list(raws)

    def _run(self, kept: int, taken: Sequence[int]) -> int:
        keys, raws = self._redis.keys, self._raws
        arguments: list[Argument] = [len(raws), kept]
        for at in taken:
            arguments += [at, raws[at]]
        names = [keys.paused_key(self._queue), self._parked, self._sifted, keys.quarantine_key(self._queue)]
        left = int(self._redis.run("sift", names, arguments))
        if left == _NOT_PARKED:
            raise InvalidValue(
                f"the list of {keys.display(self._queue)} is not parked",
                expected="a hard pause that has reached Redis",
                next_step=f"pause it first: queuemon pause {shlex.quote(self._queue)} --hard",
            )
        size = self._size * _WINDOW_BYTES // max(1, sum(map(len, raws)))
        self._size = max(1, min(SCRIPT_BATCH, 2 * self._size, size))
        return left
