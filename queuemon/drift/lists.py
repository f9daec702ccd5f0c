"""Redis as the comparison reads it: lists in windows from the push end, hands, keys; every call is timed.

Windows go from the push end towards the pop end, with negative indexes: pops do not shift them. Pushes do, so each
window is read with the last few elements of the one before and laid against them; what was read already is not read
twice.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from queuemon.store import Store

Answer = TypeVar("Answer")

#: Elements per call, and how many of them are read twice to lay a window against the one before.
WINDOW: Final = 1_000
ANCHOR: Final = 4

#: Bytes per call to aim at: large elements are read in smaller windows.
WINDOW_BYTES: Final = 2_000_000

#: Elements of one hand at most.
HAND_LIMIT: Final = 1_000

#: Keys per step of SCAN, and commands per round trip.
SCAN_COUNT: Final = 1_000
PER_TRIP: Final = 500


@dataclass(kw_only=True)
class Meter:
    """What reading has cost so far; asks `stop` before each call."""

    stop: threading.Event | None = None
    redis_seconds: float = 0.0
    postgres_seconds: float = 0.0
    longest_redis: float = 0.0
    elements: int = 0
    rows: int = 0
    bytes: int = 0

    def redis(self, call: Callable[[], Answer]) -> Answer:
        """A call of Redis, timed."""
        started = time.perf_counter()
        answer = call()
        took = time.perf_counter() - started
        self.redis_seconds += took
        self.longest_redis = max(self.longest_redis, took)
        return answer

    def postgres(self, call: Callable[[], Answer]) -> Answer:
        """A statement, timed."""
        started = time.perf_counter()
        try:
            return call()
        finally:
            self.postgres_seconds += time.perf_counter() - started

    def each(self, pages: Iterable[Answer]) -> Iterator[Answer]:
        """Pages of PostgreSQL, timed."""
        rest = iter(pages)
        while True:
            started = time.perf_counter()
            page = next(rest, None)
            self.postgres_seconds += time.perf_counter() - started
            if page is None:
                return
            yield page

    @property
    def stopped(self) -> bool:
        """Whether to end early."""
        return self.stop is not None and self.stop.is_set()


@dataclass(frozen=True, kw_only=True)
class Window:
    """Elements of a list that no window before held, in the order of the list: the next to be popped first."""

    raws: list[bytes]
    #: Elements between this window's last one and the push end when it was read.
    depth: int
    #: Laid against the window before without a gap: what it holds twice, the list holds twice.
    sure: bool


def windows(store: Store, meter: Meter, key: str) -> Iterator[Window]:
    """A list, from the push end to the pop end. 1,000 elements of 500 bytes: 1 ms there and back."""
    depth, size, sure = 0, WINDOW, True
    anchor: list[bytes] = []
    while not meter.stopped:
        overlap = len(anchor)
        raws = _range(store, meter, key, -(depth + size), -(depth - overlap + 1))
        at = _find(raws, anchor) if anchor else len(raws)
        if at is None:
            # More was pushed than a window holds, or the anchor was popped or set aside: nothing is left out, and from
            # here on nothing counts as twice there.
            at, depth, sure = len(raws), depth - overlap, False
        else:
            depth += len(raws) - overlap - at
        fresh = raws[:at]
        if not fresh:
            return
        yield Window(raws=fresh, depth=depth, sure=sure)
        depth += len(fresh)
        if len(raws) < size + overlap:
            return
        anchor = fresh[:ANCHOR] if len(fresh) >= ANCHOR else (fresh + anchor)[:ANCHOR]
        size = _next_size(size, fresh)


def _find(raws: list[bytes], anchor: list[bytes]) -> int | None:
    n = len(anchor)
    for at in range(len(raws) - n, -1, -1):
        if raws[at] == anchor[0] and raws[at : at + n] == anchor:
            return at
    return None


def _next_size(size: int, raws: list[bytes]) -> int:
    taken = sum(map(len, raws))
    return max(1, min(WINDOW, 2 * size, size * WINDOW_BYTES // max(1, taken)))


def _range(store: Store, meter: Meter, key: str, first: int, last: int) -> list[bytes]:
    with store.redis.call() as client:
        raws: list[bytes] = meter.redis(lambda: client.lrange(key, first, last))  # type: ignore[arg-type, return-value]
    meter.elements += len(raws)
    meter.bytes += sum(map(len, raws))
    return raws


def spans(store: Store, meter: Meter, key: str, some: Sequence[tuple[int, int]]) -> Iterator[Window]:
    """What lies at these depths (from, to; apart from each other), the deepest first."""
    size = WINDOW
    for first, last in sorted(some, reverse=True):
        deep = last
        while deep >= first and not meter.stopped:
            shallow = max(first, deep - size + 1)
            raws = _range(store, meter, key, -(deep + 1), -(shallow + 1))
            if raws:
                yield Window(raws=raws, depth=shallow, sure=True)
                size = _next_size(size, raws)
            deep = shallow - 1


def newest(store: Store, meter: Meter, key: str, known: Callable[[list[bytes]], bool]) -> Iterator[list[bytes]]:
    """Windows from the push end until one holds something known: what was pushed since."""
    for window in windows(store, meter, key):
        yield window.raws
        if known(window.raws):
            return


def head(store: Store, meter: Meter, key: str) -> list[bytes]:
    """The next to be popped, where a worker may have given an element back."""
    return _range(store, meter, key, 0, 99)


def length(store: Store, meter: Meter, keys: Sequence[str]) -> list[int]:
    """The lengths of lists."""
    return [int(n) for n in _piped(store, meter, [("LLEN", key) for key in keys])]


def hands(store: Store, meter: Meter, keys: Sequence[str]) -> dict[str, list[bytes]]:
    """What lies in these in-hand lists; empty ones are left out."""
    found = _piped(store, meter, [("LRANGE", key, 0, HAND_LIMIT - 1) for key in keys])
    return {key: raws for key, raws in zip(keys, found, strict=True) if raws}


def lives(store: Store, meter: Meter, keys: Sequence[str]) -> dict[str, int]:
    """Keys with a time to live, in milliseconds."""
    found = _piped(store, meter, [("PTTL", key) for key in keys])
    return {key: int(ms) for key, ms in zip(keys, found, strict=True) if int(ms) >= 0}


def types(store: Store, meter: Meter, keys: Sequence[str]) -> dict[str, str]:
    """What kind of value each key holds; "none" where there is none."""
    found = _piped(store, meter, [("TYPE", key) for key in keys])
    return {key: kind.decode() for key, kind in zip(keys, found, strict=True)}


def flags(store: Store, meter: Meter, queues: Sequence[str]) -> dict[str, tuple[bool | None, int | None]]:
    """Redis's copy of each pause flag: (paused, epoch), None where it has none."""
    keys = [store.redis.keys.paused_key(queue) for queue in queues]
    found = _piped(store, meter, [("HMGET", key, "paused", "epoch") for key in keys])
    return {
        queue: (None if paused is None else paused == b"1", int(epoch) if epoch and epoch.isdigit() else None)
        for queue, (paused, epoch) in zip(queues, found, strict=True)
    }


def markers(store: Store, meter: Meter, ids: Sequence[str]) -> dict[str, int]:
    """The generations that markers name."""
    keys = [store.redis.keys.marker_key(i) for i in ids]
    found = _piped(store, meter, [("HGET", key, "gen") for key in keys])
    return {i: int(gen) for i, gen in zip(ids, found, strict=True) if gen is not None and gen.isdigit()}


def every_list(store: Store, meter: Meter) -> list[str]:
    """The keys of all lists, with SCAN, never KEYS. 1 M keys: 0.3 s, no step over 1 ms."""
    found: set[bytes] = set()
    cursor: Any = 0
    with store.redis.call() as client:
        while not meter.stopped:
            at = cursor
            cursor, some = meter.redis(lambda: client.scan(at, count=SCAN_COUNT, _type="LIST"))  # noqa: B023
            found.update(cast(list[bytes], some))
            if not cursor:
                break
    return sorted(raw.decode("utf-8", "replace") for raw in found)


def pattern(template: str) -> re.Pattern[str]:
    """Keys that a template made, taken apart. Workers' names hold no colon, queues' names may."""
    regex = re.escape(template).replace(re.escape("{worker}"), "(?P<worker>[^:]+)")
    return re.compile(regex.replace(re.escape("{name}"), "(?P<name>.+)"), re.DOTALL)


def _piped(store: Store, meter: Meter, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    answers: list[Any] = []
    with store.redis.call() as client:
        for first in range(0, len(commands), PER_TRIP):
            pipe = client.pipeline(transaction=False)
            for command in commands[first : first + PER_TRIP]:
                pipe.execute_command(*command)  # type: ignore[no-untyped-call]
            answers += meter.redis(pipe.execute)
    return answers
