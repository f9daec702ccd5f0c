"""What a queue holds in Redis, compared with what waits in PostgreSQL, as sorted fingerprints; a look is made of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from queuemon.drift import lists
from queuemon.drift.elements import Fingerprints, cut
from queuemon.store import Store

Array = npt.NDArray[Any]

EMPTY_IDS: Final = np.zeros(0, dtype="V16")
NONE: Final = np.zeros(0, dtype=np.int64)

#: Bytes of a poison element that are shown.
EXCERPT: Final = 120


@dataclass(kw_only=True)
class Poison:
    """An element that nobody can read."""

    digest: str
    size: int
    excerpt: bytes
    count: int = 1
    #: How many elements lay between each and the push end.
    depths: list[int] = field(default_factory=list)


@dataclass(kw_only=True)
class Held:
    """A list's elements in arrays (37 bytes each), and what could not be read."""

    ids: Array = field(default_factory=lambda: EMPTY_IDS)
    gens: Array = field(default_factory=lambda: NONE)
    prints: Array = field(default_factory=lambda: NONE.astype(np.uint64))
    #: The part of the list, from 0, where each was read in a window laid against the one before: twice in one part is
    #: twice in the list; -1 where it was not.
    part: Array = field(default_factory=lambda: NONE.astype(np.int8))
    #: How many elements lay between each and the push end when it was read.
    depths: Array = field(default_factory=lambda: NONE.astype(np.int32))
    poison: dict[str, Poison] = field(default_factory=dict)
    #: Each window was laid against the one before: nothing was left out, and nothing was taken out of the middle.
    sure: bool = True
    #: Fingerprints of the first window and their depths.
    tip: tuple[Array, Array] = field(default_factory=lambda: (NONE.astype(np.uint64), NONE))
    #: Fingerprints of the first window: what lies nearer to the push end later was pushed after it.
    newest: Array = field(default_factory=lambda: NONE.astype(np.uint64))

    @property
    def sorted(self) -> Array:
        """The fingerprints in order."""
        return np.sort(self.prints)

    @property
    def loose(self) -> set[bytes]:
        """Ids of elements that name no generation: they stand for whichever the row has."""
        return {i.tobytes() for i in self.ids[self.gens < 0]}

    def twice(self) -> Array:
        """Fingerprints of what a part of the list holds more than once, each once; their ids are compared whole."""
        seen: Counter[tuple[int, bytes, int, int]] = Counter()
        for part in range(int(self.part.max(initial=-1)) + 1):
            mine = self.part == part
            prints = np.sort(self.prints[mine])
            repeated = np.unique(prints[1:][prints[1:] == prints[:-1]])
            if len(repeated):
                there = np.flatnonzero(inside(self.prints, repeated) & mine).tolist()
                seen.update((part, self.ids[n].tobytes(), int(self.gens[n]), int(self.prints[n])) for n in there)
        return np.array(sorted({mark for (*_, mark), n in seen.items() if n > 1}), dtype=np.uint64)


def digest_of(raw: bytes) -> str:
    """What a poison element is known by."""
    return hashlib.sha256(raw).hexdigest()


def read(
    store: Store,
    meter: lists.Meter,
    queue: str,
    prints: Fingerprints,
    *,
    keys: Sequence[str],
    enough: Callable[[Array, Counter[str]], bool] | None = None,
    keep: Callable[[Array], Array] | None = None,
) -> Held:
    """A queue's list, whose parts have these keys, the one with the push end first. `enough` ends the reading early;
    `keep` says which fingerprints are remembered at all."""
    held, poison = Held(), Counter[str]()
    parts: list[tuple[Array, ...]] = []
    for part, window in ((n, window) for n, key in enumerate(keys) for window in lists.windows(store, meter, key)):
        marks, depths = _take(held, window, queue, prints, parts, part=part if window.sure else -1, keep=keep)
        for digest, p in held.poison.items():
            poison[digest] = p.count
        if len(parts) == 1:
            held.newest, held.tip = np.sort(marks), (marks, depths)
        held.sure &= window.sure
        if enough is not None and enough(parts[-1][2], poison):
            break
    _join(held, parts)
    return held


def read_again(
    store: Store,
    meter: lists.Meter,
    queue: str,
    prints: Fingerprints,
    *,
    key: str,
    spans: Sequence[tuple[int, int]],
    keep: Callable[[Array], Array],
) -> Held:
    """Of a list of one part what lies at these depths (from, to), the deepest first: a push moves what was read away
    from what will be, so nothing is read twice."""
    held = Held()
    parts: list[tuple[Array, ...]] = []
    for window in lists.spans(store, meter, key, spans):
        _take(held, window, queue, prints, parts, part=0, keep=keep)
    _join(held, parts)
    return held


def _take(
    held: Held,
    window: lists.Window,
    queue: str,
    prints: Fingerprints,
    parts: list[tuple[Array, ...]],
    *,
    part: int,
    keep: Callable[[Array], Array] | None,
) -> tuple[Array, Array]:
    """Note a window's elements; returns all of its fingerprints, and their depths."""
    found = cut(window.raws, queue)
    deepest = window.depth + len(window.raws) - 1
    for n in found.poison:
        raw = window.raws[n]
        digest = digest_of(raw)
        known = held.poison.setdefault(digest, Poison(digest=digest, size=len(raw), excerpt=raw[:EXCERPT], count=0))
        known.count += 1
        known.depths.append(deepest - n)
    marks, depths = prints.of(found.ids, found.gens), (deepest - found.at).astype(np.int32)
    chosen = keep(marks) if keep is not None else np.ones(len(marks), dtype=bool)
    where = np.full(int(chosen.sum()), part, dtype=np.int8)
    parts.append((found.ids[chosen], found.gens[chosen], marks[chosen], where, depths[chosen]))
    return marks, depths


def _join(held: Held, parts: Sequence[tuple[Array, ...]]) -> None:
    """The windows' arrays as one, without what stands where an element was taken out: the nil id."""
    if not parts:
        return
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    halves = columns[0].view(np.uint64).reshape(-1, 2)
    real = (halves[:, 0] != 0) | (halves[:, 1] != 0)
    if not real.all():
        columns = [column[real] for column in columns]
    held.ids, held.gens, held.prints, held.part, held.depths = columns


@dataclass(kw_only=True)
class Elsewhere:
    """What is neither lost nor in the list as it was read: in hand, pushed or given back since, parked, set aside."""

    prints: Array
    loose: set[bytes]


def elsewhere(
    store: Store,
    meter: lists.Meter,
    queue: str,
    prints: Fingerprints,
    newest: Array,
    *,
    workers: Iterable[str],
    aside: Sequence[str],
) -> Elsewhere:
    """Read after the list: the hands of these workers, lists `aside`, the list's first elements, and what was pushed
    after its first window (`newest`) was read."""
    keys = store.redis.keys
    batches = list(lists.hands(store, meter, [keys.processing_key(w, queue) for w in workers]).values())
    for key in aside:
        batches += [window.raws for window in lists.windows(store, meter, key)]
    batches.append(lists.head(store, meter, keys.queue_key(queue)))
    marks: list[Array] = []
    loose: set[bytes] = set()

    def take(raws: list[bytes]) -> bool:
        found = cut(raws, queue)
        mine = prints.of(found.ids, found.gens)
        marks.append(mine)
        loose.update(i.tobytes() for i in found.ids[found.gens < 0])
        return bool(inside(mine, newest).any())

    for raws in batches:
        take(raws)
    for _ in lists.newest(store, meter, keys.queue_key(queue), take):
        pass
    return Elsewhere(prints=np.sort(np.concatenate(marks)), loose=loose)


def inside(some: Array, ordered: Array) -> Array:
    """Which of `some` are among `ordered`, which is sorted."""
    if not len(ordered):
        return np.zeros(len(some), dtype=bool)
    at = np.searchsorted(ordered, some)
    found: Array = ordered[np.minimum(at, len(ordered) - 1)] == some
    return found


def outside(some: Array, ordered: Array) -> Array:
    """Which of `some` are not among `ordered`, which is sorted; quicker than `inside` where nearly all are."""
    mine = np.sort(some)
    missing = mine[~inside(mine, ordered)]
    return inside(some, missing)
