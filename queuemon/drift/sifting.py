"""Filters the list of a queue under a hard pause for a repair: what is judged once more, under the lock of its row.

What is taken out lies in the queue's quarantine until the action's record of it has committed, so nothing is ever
nowhere; whoever goes on after a crash finds it there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

from queuemon.drift import lists
from queuemon.drift.detect import verdict
from queuemon.drift.elements import TOMBSTONE_ID, cut
from queuemon.drift.held import digest_of
from queuemon.drift.model import Finding
from queuemon.store import Store, drift_reads, drift_repairs
from queuemon.store.drift_repairs import Standing
from queuemon.store.sieve import Sieve

#: What a filter takes out of a parked list: ghosts and poison for the quarantine, the others for good.
SIFTED: Final = frozenset({2, 3, 4, 5, 13})

#: Elements at the end of a quarantine among which those of a run that was killed are looked for.
SEARCHED: Final = 20_000

#: Elements per round trip when they leave the quarantine.
PER_TRIP: Final = 250

#: Taken out so far, kept so far → whether to take no more.
Trips = Callable[[int, int], bool]


class Element(NamedTuple):
    """An element of a window."""

    #: Its place in the window.
    at: int
    #: What a finding is known by that is about it.
    key: Hashable
    #: None where nobody can read it.
    job_id: UUID | None
    #: -1 where it names none.
    gen: int


@dataclass(frozen=True, kw_only=True)
class Taken:
    """An element that was taken out and lies in quarantine."""

    finding: Finding
    raw: bytes
    #: How its row stood at that moment: a state, "deleted", "no row".
    row: str
    #: Whether its row (or the record of its deletion) says what it is: then it need not stay in quarantine.
    explained: bool


@dataclass(kw_only=True)
class Sifted:
    """What became of the findings that a filter was given."""

    taken: list[Taken] = field(default_factory=list)
    #: In the list, but no longer what they were seen to be: kept.
    changed: list[Finding] = field(default_factory=list)
    #: Not in the list.
    missing: list[Finding] = field(default_factory=list)
    #: Not looked at any more, because it tripped.
    left: list[Finding] = field(default_factory=list)


def take_out(store: Store, queue: str, found: Sequence[Finding], *, trips: Trips) -> Sifted:
    """Filter a parked list: the elements of these findings go to the quarantine, as many of each as were found.

    An element goes if its row says so at that moment, held so that it cannot move; of a generation that waits the
    first element stays, whatever follows it. Raises InvalidValue where the queue is not parked, and StoreError.
    """
    return _Pass(store, queue, found, trips).run()


class _Pass:
    def __init__(self, store: Store, queue: str, found: Sequence[Finding], trips: Trips) -> None:
        self.store, self.queue, self.trips = store, queue, trips
        self.wanted: dict[Hashable, list[Finding]] = {}
        for f in found:
            self.wanted.setdefault(_key(f), []).append(f)
        self.number = {key: some[0].number for key, some in self.wanted.items()}
        #: Keys of which an element was kept: since this pass began, and ever.
        self.kept: set[Hashable] = set()
        self.stayed: Counter[Hashable] = Counter()
        self.done = Sifted()

    def run(self) -> Sifted:
        sieve, tripped = Sieve(self.store.redis, self.queue), False
        for window in sieve.windows():
            if window.first:
                self.kept.clear()
                self.stayed.clear()
            here = [] if tripped else [e for e in elements(window.raws, self.queue) if e.key in self.wanted]
            if not here:
                sieve.cut(())
                continue
            self._judged(sieve, window.raws, here)
            tripped = self.trips(len(self.done.taken), sum(map(self._changed, self.stayed)))
        for key, some in self.wanted.items():
            changed = self._changed(key)
            self.done.changed += some[:changed]
            (self.done.left if tripped else self.done.missing).extend(some[changed:])
        return self.done

    def _changed(self, key: Hashable) -> int:
        """How many findings are about elements that were met and kept."""
        return min(len(self.wanted[key]), self.stayed[key])

    def _judged(self, sieve: Sieve, raws: Sequence[bytes], here: Sequence[Element]) -> None:
        """Judge a window's elements and cut it, while their rows are held."""
        out: list[tuple[Element, Taken]] = []
        kept: list[Hashable] = []
        with self.store.postgres.begin() as connection:
            ids = sorted({e.job_id for e in here if e.job_id is not None})
            standing = drift_repairs.standing(connection, self.store.tables, ids)
            asked: Counter[Hashable] = Counter()
            for e in here:
                some, older = self.wanted[e.key][asked[e.key] :], e.key in self.kept or e.key in kept
                taken = _taken(self.queue, some[0], e, raws[e.at], standing, older=older) if some else None
                if taken is None:
                    kept.append(e.key)
                else:
                    asked[e.key] += 1
                    out.append((e, taken))
            if not sieve.cut([e.at for e, _ in out]):
                return
        self.kept.update(kept)
        # Of a generation that waits the first is the job's own.
        self.stayed.update(key for key in kept if self.number[key] != 5)
        for e, taken in out:
            self.wanted[e.key].remove(taken.finding)
            self.done.taken.append(taken)


def _taken(
    queue: str, finding: Finding, element: Element, raw: bytes, standing: Standing, *, older: bool
) -> Taken | None:
    """The element as it is taken out, or None where it stays."""
    job_id = element.job_id
    if job_id is None:
        return Taken(finding=finding, raw=raw, row="no row", explained=False)
    if job_id in standing.held:
        return None  # somebody changes its row just now
    row = standing.rows.get(job_id)
    now = verdict(queue, element.gen, row, deleted=job_id in standing.deleted)
    over = now == 2 or (finding.number != 2 and now in {3, 4})
    again = finding.number == 5 and (now == 5 or (now == 0 and older))
    if not (over or again):
        return None
    word = row.status.value if row is not None else "deleted" if job_id in standing.deleted else "no row"
    return Taken(finding=finding, raw=raw, row=word, explained=now != 2)


# ------------------------------------------------------------------------------------------------------- in quarantine


def in_quarantine(store: Store, meter: lists.Meter, queue: str, found: Sequence[Finding]) -> list[Taken]:
    """Those of these findings whose element lies near the end of the quarantine: a run that was killed, or whose
    answer was lost, has taken it out."""
    wanted: dict[Hashable, list[Finding]] = {}
    for f in found:
        wanted.setdefault(_key(f), []).append(f)
    there: list[tuple[Finding, Element, bytes]] = []
    seen = 0
    for window in lists.windows(store, meter, store.redis.keys.quarantine_key(queue)):
        for e in elements(window.raws, queue):
            if wanted.get(e.key):
                there.append((wanted[e.key].pop(), e, window.raws[e.at]))
        seen += len(window.raws)
        if seen >= SEARCHED or len(there) == len(found):
            break
    ids = [e.job_id for _, e, _ in there if e.job_id is not None]
    with store.postgres.begin(read_only=True) as connection:
        rows = drift_reads.rows_of(connection, store.tables, ids)
        deleted = drift_reads.deleted(connection, store.tables, [i for i in ids if i not in rows])
    taken = []
    for f, e, raw in there:
        row = rows.get(e.job_id) if e.job_id is not None else None
        word = row.status.value if row is not None else "deleted" if e.job_id in deleted else "no row"
        taken.append(Taken(finding=f, raw=raw, row=word, explained=word != "no row"))
    return taken


def put_away(store: Store, queue: str, taken: Sequence[Taken]) -> None:
    """Whatever is explained leaves the quarantine; once its record has committed."""
    key = store.redis.keys.quarantine_key(queue)
    raws = [t.raw for t in taken if t.explained]
    with store.redis.call() as client:
        for first in range(0, len(raws), PER_TRIP):
            pipe = client.pipeline(transaction=False)
            for raw in raws[first : first + PER_TRIP]:
                pipe.lrem(key, -1, raw)  # type: ignore[arg-type]
            pipe.execute()


# ------------------------------------------------------------------------------------------------------------ elements


def elements(raws: Sequence[bytes], queue: str) -> Iterator[Element]:
    """A window's elements in order, without what stands where one was taken out."""
    parts = cut(raws, queue)
    found = {n: Element(at=n, key=digest_of(raws[n]), job_id=None, gen=-1) for n in parts.poison}
    for n, i, gen in zip(parts.at.tolist(), parts.ids, parts.gens.tolist(), strict=True):
        job_id = UUID(bytes=i.tobytes())
        if job_id != TOMBSTONE_ID:
            found[n] = Element(at=n, key=(job_id, gen), job_id=job_id, gen=gen)
    for n in sorted(found):
        yield found[n]


def _key(f: Finding) -> Hashable:
    return f.key if f.number == 13 else (f.job_id, -1 if f.gen is None else f.gen)
