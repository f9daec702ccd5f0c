"""Compares the stores: a first look at everything, a pause, a second look at exactly what looked wrong.

"In PostgreSQL, not in Redis" is read PostgreSQL, lists, hands, PostgreSQL; "in Redis, not in PostgreSQL" is read
Redis, PostgreSQL, twice. What only moved between two reads is in place at the second look and counts as motion.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from queuemon.contract import JobStatus
from queuemon.drift import held as lists_held
from queuemon.drift import lists, payloads, signs
from queuemon.drift.elements import Fingerprints, cut
from queuemon.drift.held import EMPTY_IDS, NONE, Held, Poison, inside, outside
from queuemon.drift.model import CLASSES, ClassReport, DriftProgress, DriftReport, Finding
from queuemon.model import Breakdown
from queuemon.store import Store, drift_reads, numbers, parking, pauses, waiting, workers
from queuemon.store.drift_reads import Row

Array = npt.NDArray[Any]

#: Findings of one class that a report carries.
KEEP: Final = 10_000

#: Findings of one class in its sample.
SAMPLE: Final = 5

#: Ids per lookup.
LOOKUP: Final = 5_000

#: From so many lost jobs on, with the list gone or most of it missing, the list itself counts as lost.
VANISHED: Final = 10

#: Elements on both sides of where one must lie that are read as well, and the share of a list up to which that is done.
SLACK: Final = 200
PARTLY: Final = 0.5

#: Seconds between the two looks.
WAIT_SECONDS: Final = 2.0

Progress = Callable[[DriftProgress], None]


@dataclass(kw_only=True)
class _Look:
    """What looked wrong in one queue."""

    queue: str
    #: Lost: ids and generations.
    lost_ids: Array = field(default_factory=lambda: EMPTY_IDS)
    lost_gens: Array = field(default_factory=lambda: NONE)
    #: Elements that do not agree with a row: ids, generations, fingerprints, and what each looks like.
    ids: Array = field(default_factory=lambda: EMPTY_IDS)
    gens: Array = field(default_factory=lambda: NONE)
    prints: Array = field(default_factory=lambda: NONE.astype(np.uint64))
    numbers: Array = field(default_factory=lambda: NONE)
    #: How many elements lay between each and the push end.
    depths: Array = field(default_factory=lambda: NONE)
    #: The list as it was read, for the second look: its keys, its first window, and whether nothing was left out.
    parts: tuple[str, ...] = ()
    tip: tuple[Array, Array] = field(default_factory=lambda: (NONE, NONE))
    sure: bool = False
    poison: dict[str, Poison] = field(default_factory=dict)
    #: Jobs that wait here, as far as they were read, and the list's length.
    waiting: int = 0
    length: int = 0
    #: How the rows of the elements stand.
    rows: dict[UUID, Row] = field(default_factory=dict)
    deleted: set[UUID] = field(default_factory=set)

    @property
    def clean(self) -> bool:
        return not (len(self.lost_ids) or len(self.ids) or self.poison)


def compare(
    store: Store,
    queues: Sequence[str] | None = None,
    *,
    deep: bool = False,
    wait_seconds: float | None = None,
    level: str = "L2",
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> DriftReport:
    """Where the stores disagree about these queues (default: all). Reads alone; flat memory: about 60 bytes per
    waiting job of the largest queue. `stop` ends it early, with what was confirmed by then. Raises StoreError."""
    return _Comparison(store, queues, deep=deep, wait_seconds=wait_seconds, progress=progress, stop=stop).run(level)


class _Comparison:
    def __init__(
        self,
        store: Store,
        queues: Sequence[str] | None,
        *,
        deep: bool,
        wait_seconds: float | None,
        progress: Progress | None,
        stop: threading.Event | None,
    ) -> None:
        self.store, self.deep, self.wait_seconds = store, deep, wait_seconds
        self.progress, self.stop = progress, stop or threading.Event()
        self.meter = lists.Meter(stop=self.stop)
        self.prints = Fingerprints(np.random.default_rng())
        with store.postgres.begin(read_only=True) as connection:
            self.every = tuple(q.name for q in numbers.queues(connection, store.tables))
        self.queues = self.every if queues is None else tuple(queues)
        self.scope = signs.Scope(
            queues=self.queues, every=self.every, keys=tuple(lists.every_list(store, self.meter)), deep=deep
        )
        self.hands = {worker for _, worker, _ in self.scope.hands(store.redis.keys)}
        self.readable = list(self.queues)
        self.findings: list[Finding] = []
        self.counts: Counter[int] = Counter()
        self.jobs: Counter[int] = Counter()
        self.motion: Counter[int] = Counter()
        self.by_queue: dict[int, Counter[str]] = {n: Counter() for n in CLASSES}

    def run(self, level: str) -> DriftReport:
        started, taken_at = time.perf_counter(), datetime.now(UTC)
        looks: list[_Look] = []
        for queue in self._each("first look", self._lists()):
            if not (look := self._first(queue)).clean:
                looks.append(look)
        self._leave_out_the_misplaced(looks)
        first_signs = signs.read(self.store, self.meter, self.scope)
        differing = payloads.first(self.store, self.meter, self.readable) if self.deep else {}
        waited = self._wait(stuck=bool(first_signs.of(6)))
        self._second_looks(looks)
        second_signs = signs.read(self.store, self.meter, self.scope, again=first_signs)
        for finding in signs.both(first_signs, second_signs):
            self._add(finding)
        for number, n in signs.motion(first_signs, second_signs).items():
            self.motion[number] += n
        if differing and not self.stop.is_set():
            for finding in payloads.second(self.store, self.meter, differing):
                self._add(finding)
        with self.store.postgres.begin(read_only=True) as connection:
            clock = numbers.clock(connection)
            flags = pauses.pause_flags(connection, self.store.tables)
        return DriftReport(
            taken_at=taken_at, clock=clock, queues=self.queues, deep=self.deep, level=level,
            parked=tuple(flag.queue for flag in flags if flag.hard),
            classes=self._classes(level), findings=tuple(self.findings), seconds=time.perf_counter() - started,
            postgres_seconds=self.meter.postgres_seconds, redis_seconds=self.meter.redis_seconds,
            waited_seconds=waited, rows=self.meter.rows, elements=self.meter.elements, bytes=self.meter.bytes,
            longest_redis_ms=self.meter.longest_redis * 1000, complete=not self.stop.is_set(),
        )  # fmt: skip

    def _each(self, phase: str, some: Sequence[str] | None = None) -> Iterator[str]:
        queues = self.queues if some is None else some
        for n, queue in enumerate(queues):
            if self.stop.is_set():
                return
            if self.progress is not None:
                self.progress(DriftProgress(phase=phase, queue=queue, done=n, total=len(queues)))
            yield queue

    def _lists(self) -> list[str]:
        """Queues whose key holds a list or nothing; another type is reported among the strangers."""
        key = self.store.redis.keys.queue_key
        kinds = lists.types(self.store, self.meter, [key(queue) for queue in self.queues])
        self.readable = [queue for queue in self.queues if kinds[key(queue)] in {"list", "none"}]
        return self.readable

    # ------------------------------------------------------------------------------------------------ first look

    def _first(self, queue: str) -> _Look:
        pages = list(self.meter.each(waiting.pages(self.store.postgres, queue)))
        ids = np.concatenate([page[0] for page in pages]) if pages else EMPTY_IDS
        gens = np.concatenate([page[1] for page in pages]) if pages else NONE
        self.meter.rows += len(ids)
        parts = self._parts(queue)
        held = lists_held.read(self.store, self.meter, queue, self.prints, keys=parts)
        look = _Look(queue=queue, waiting=len(ids), length=len(held.prints), poison=held.poison)
        look.parts, look.tip, look.sure = tuple(parts), held.tip, held.sure
        mine = self.prints.of(ids, gens)
        seen = held.sorted
        self._unmatched(look, held, np.sort(mine))
        lost = outside(mine, seen)
        if lost.any():
            look.lost_ids, look.lost_gens = self._truly_lost(queue, ids[lost], gens[lost], held)
        return look

    def _truly_lost(self, queue: str, ids: Array, gens: Array, held: Held) -> tuple[Array, Array]:
        """Those that are nowhere in Redis and, asked after it, still wait with no publication pending."""
        place = lists_held.elsewhere(
            self.store, self.meter, queue, self.prints, held.newest, workers=self._workers(), aside=self._aside(queue)
        )
        absent = ~inside(self.prints.of(ids, gens), place.prints)
        known = held.loose | place.loose
        if known:
            absent &= np.fromiter((i.tobytes() not in known for i in ids), dtype=bool, count=len(ids))
        ids, gens = ids[absent], gens[absent]
        if not len(ids):
            return ids, gens
        still = self.meter.postgres(lambda: waiting.still(self.store.postgres, [i.tobytes() for i in ids]))
        lost = np.fromiter(
            (still.get(i.tobytes()) == gen for i, gen in zip(ids, gens.tolist(), strict=True)), bool, count=len(ids)
        )
        return ids[lost], gens[lost]

    def _workers(self) -> set[str]:
        """Whoever may hold an element: the registry, asked now, and whoever held one when this began."""
        with self.store.postgres.statement() as connection:
            return self.hands | workers.known(connection, self.store.tables)

    def _parts(self, queue: str) -> list[str]:
        """The keys that hold a queue, from the push end: its list, and what a hard pause has parked of it."""
        keys = self.store.redis.keys
        sifted, parked = parking.parked_keys(keys, queue)
        held = any(lists.length(self.store, self.meter, [parked, sifted]))
        return [keys.queue_key(queue), parked, sifted] if held else [keys.queue_key(queue)]

    def _aside(self, queue: str) -> list[str]:
        """Where else an element may lie that is not lost: set aside, or parked since the list was read."""
        keys = self.store.redis.keys
        sifted, parked = parking.parked_keys(keys, queue)
        named = [keys.quarantine_key(queue), sifted, parked]
        aside, *held = lists.length(self.store, self.meter, named)
        # The sifted part is read on both sides: a filter moves elements to it.
        return named[:1] * bool(aside) + [sifted, parked, sifted] * any(held)

    def _unmatched(self, look: _Look, held: Held, due: Array) -> None:
        """What the list holds that no due waiting row of the queue stands for, and what it holds twice."""
        other = outside(held.prints, due)
        ids, gens, prints = held.ids[other], held.gens[other], held.prints[other]
        verdicts = self._judge(look, ids, gens)
        wrong = verdicts > 0
        twice = np.zeros(0, dtype=np.uint64)
        if len(held.prints):
            repeated = held.twice()
            twice = repeated[inside(repeated, due)]
        extra = np.flatnonzero(inside(held.prints, twice)) if len(twice) else NONE
        look.ids = np.concatenate([ids[wrong], held.ids[extra]])
        look.gens = np.concatenate([gens[wrong], held.gens[extra]])
        look.prints = np.concatenate([prints[wrong], held.prints[extra]])
        look.numbers = np.concatenate([verdicts[wrong], np.full(len(extra), 5)])
        look.depths = np.concatenate([held.depths[other][wrong], held.depths[extra]])

    def _judge(self, look: _Look, ids: Array, gens: Array) -> Array:
        """The class of each element by its row, asked after the list was read; 0 agrees."""
        verdicts = np.zeros(len(ids), dtype=np.int64)
        for first in range(0, len(ids), LOOKUP):
            some = [UUID(bytes=i.tobytes()) for i in ids[first : first + LOOKUP]]
            rows, gone = self.meter.postgres(lambda s=some: self._rows(s))  # type: ignore[misc]
            look.rows.update(rows)
            look.deleted |= gone
            for n, (job_id, gen) in enumerate(zip(some, gens[first : first + LOOKUP].tolist(), strict=True), first):
                verdicts[n] = verdict(look.queue, gen, rows.get(job_id), deleted=job_id in gone)
        return verdicts

    def _rows(self, ids: Sequence[UUID]) -> tuple[dict[UUID, Row], set[UUID]]:
        t = self.store.tables
        with self.store.postgres.begin(read_only=True) as connection:
            rows = drift_reads.rows_of(connection, t, ids)
            missing = [i for i in ids if i not in rows]
            return rows, drift_reads.deleted(connection, t, missing) if missing else set()

    def _leave_out_the_misplaced(self, looks: Sequence[_Look]) -> None:
        """A job whose element lies in the wrong list is not lost."""
        misplaced = {i.tobytes() for look in looks for i in look.ids[look.numbers == 12]}
        for look in looks:
            if misplaced and len(look.lost_ids):
                kept = np.fromiter((i.tobytes() not in misplaced for i in look.lost_ids), bool, len(look.lost_ids))
                look.lost_ids, look.lost_gens = look.lost_ids[kept], look.lost_gens[kept]

    # ----------------------------------------------------------------------------------------------- second look

    def _wait(self, *, stuck: bool) -> float:
        """Living workers get the time to beat, however long PostgreSQL was away."""
        seconds = WAIT_SECONDS if self.wait_seconds is None else self.wait_seconds
        if stuck and self.wait_seconds is None:
            seconds = max(seconds, 1.5 * self.store.settings.heartbeat_seconds)
        if self.progress is not None:
            self.progress(DriftProgress(phase="waiting", queue="", done=0, total=0))
        self.stop.wait(seconds)
        return seconds

    def _second_looks(self, looks: Sequence[_Look]) -> None:
        again: dict[str, tuple[_Look, _Look]] = {}
        by_name = {look.queue: look for look in looks}
        for queue in self._each("second look", [*by_name]):
            again[queue] = (by_name[queue], self._second(by_name[queue]))
        if self.stop.is_set():
            return  # a look that was cut short proves nothing
        self._leave_out_the_misplaced([second for _, second in again.values()])
        for first, second in again.values():
            self._confirm(first, second)

    def _second(self, first: _Look) -> _Look:
        """The same queue again, with an eye on what looked wrong alone."""
        second = _Look(queue=first.queue, waiting=first.waiting)
        lost_marks = self.prints.of(first.lost_ids, first.lost_gens)
        parts = self._parts(first.queue)
        held = self._where_it_was(first, parts) or self._everything(first, parts, lost_marks)
        second.length = sum(lists.length(self.store, self.meter, parts))
        second.poison = {digest: p for digest, p in held.poison.items() if digest in first.poison}
        here = inside(held.prints, np.unique(first.prints))
        second.ids, second.gens, second.prints = held.ids[here], held.gens[here], held.prints[here]
        verdicts = self._judge(second, second.ids, second.gens)
        repeated = held.twice()
        # A waiting row has one element: the second one is the duplicate.
        verdicts[(verdicts == 0) & inside(second.prints, repeated)] = 5
        second.numbers = verdicts
        if len(first.lost_ids):
            absent = ~inside(lost_marks, held.sorted)
            second.lost_ids, second.lost_gens = first.lost_ids[absent], first.lost_gens[absent]
            if len(second.lost_ids):
                second.lost_ids, second.lost_gens = self._truly_lost(
                    first.queue, second.lost_ids, second.lost_gens, held
                )
        return second

    def _where_it_was(self, first: _Look, parts: Sequence[str]) -> Held | None:
        """What looked wrong, read where it must lie by now if it is still there; None where nobody can tell.

        What was nowhere in a list that was read without a gap can only have come to one of its ends: `_truly_lost`
        looks there.
        """
        if self.meter.stopped or not first.sure or len(parts) > 1 or tuple(parts) != first.parts:
            return None
        depths = [*first.depths.tolist(), *(d for p in first.poison.values() for d in p.depths)]
        pushed = self._pushed(first, parts[0]) if depths else 0
        if pushed is None:
            return None
        spans: list[tuple[int, int]] = []
        for depth in sorted(depths):
            begin, end = max(0, depth - SLACK), depth + pushed + SLACK
            if spans and begin <= spans[-1][1] + 1:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((begin, end))
        if sum(end - begin for begin, end in spans) > PARTLY * first.length:
            return None
        wanted = np.unique(first.prints)
        held = lists_held.read_again(
            self.store, self.meter, first.queue, self.prints, key=parts[0], spans=spans,
            keep=lambda marks: inside(marks, wanted),
        )  # fmt: skip
        held.newest = np.sort(first.tip[0])
        return held

    def _pushed(self, first: _Look, key: str) -> int | None:
        """How many elements were pushed since the first window was read; None where all of it has gone, or too many."""
        marks, depths = first.tip
        before = dict(zip(marks.tolist(), depths.tolist(), strict=True))
        for window in lists.windows(self.store, self.meter, key):
            found = cut(window.raws, first.queue)
            now = window.depth + len(window.raws) - 1 - found.at
            here: list[int] = [
                depth - before[mark]
                for mark, depth in zip(self.prints.of(found.ids, found.gens).tolist(), now.tolist(), strict=True)
                if mark in before
            ]
            if here:
                return max(0, *here)
            if window.depth > PARTLY * first.length:
                break
        return None

    def _everything(self, first: _Look, parts: Sequence[str], lost_marks: Array) -> Held:
        """The whole list again; where nothing is lost, until all that looked wrong was met."""
        wanted = np.unique(np.concatenate([first.prints, lost_marks]))
        left = {**Counter(first.prints.tolist())}
        poison = {digest: p.count for digest, p in first.poison.items()}

        def enough(marks: Array, found: Counter[str]) -> bool:
            for mark in marks[inside(marks, wanted)].tolist():
                left[mark] = left.get(mark, 0) - 1
            return (
                not len(first.lost_ids)
                and all(n <= 0 for n in left.values())
                and all(found[digest] >= n for digest, n in poison.items())
            )

        return lists_held.read(
            self.store, self.meter, first.queue, self.prints, keys=parts, enough=enough,
            keep=lambda marks: inside(marks, wanted),
        )  # fmt: skip

    def _confirm(self, first: _Look, second: _Look) -> None:
        self._confirm_lost(first, second)
        before = _counted(first)
        for mark, (n, number, job_id, gen) in _counted(second).items():
            if mark not in before or not _proven(first, before[mark], number):
                continue
            agreed = min(n, before[mark][0])
            row = second.rows.get(job_id)
            if number == 5 and row is not None and row.status is JobStatus.WAITING:
                agreed -= 1  # one of them is the job's own
            for _ in range(agreed):
                self._add(_element(second, number, job_id, gen))
            before.pop(mark)
        for n, number, _, _ in before.values():
            self.motion[number] += n
        for digest, p in second.poison.items():
            for _ in range(min(p.count, first.poison[digest].count)):
                self._add(
                    Finding(
                        number=13, queue=second.queue, key=digest, raw=p.excerpt, detail=f"{p.size:,} bytes",
                    )
                )  # fmt: skip

    def _confirm_lost(self, first: _Look, second: _Look) -> None:
        lost = len(second.lost_ids)
        self.motion[1] += len(first.lost_ids) - lost
        if lost >= VANISHED and (second.length == 0 or 2 * lost >= second.waiting):
            key = self.store.redis.keys.queue_key(second.queue)
            gone = "the list has gone" if second.length == 0 else "most of the list has gone"
            self._add(Finding(number=8, queue=second.queue, jobs=lost, key=key, detail=f"{gone}: {lost:,} jobs"))
            return
        for job_id, gen in zip(second.lost_ids, second.lost_gens.tolist(), strict=True):
            self._add(
                Finding(
                    number=1, queue=second.queue, job_id=UUID(bytes=job_id.tobytes()), gen=gen, row="waiting",
                    row_gen=gen,
                )
            )  # fmt: skip

    # ---------------------------------------------------------------------------------------------------- report

    def _add(self, finding: Finding) -> None:
        n = finding.number
        self.counts[n] += 1
        self.jobs[n] += finding.jobs
        self.by_queue[n][finding.queue] += 1
        if self.counts[n] <= KEEP:
            self.findings.append(finding)

    def _classes(self, level: str) -> tuple[ClassReport, ...]:
        made = []
        for c in CLASSES.values():
            mine = [f for f in self.findings if f.number == c.number][:SAMPLE]
            queues = self.by_queue[c.number].most_common()
            made.append(
                ClassReport(
                    number=c.number, title=c.title, unit=c.unit, count=self.counts[c.number],
                    jobs=self.jobs[c.number], by_queue=tuple(Breakdown(label=q, count=n) for q, n in queues),
                    sample=tuple(mine), repair=c.repair, harmless=c.claim_drops and level != "L0",
                    looked=self.deep or c.number != 11, in_motion=self.motion[c.number],
                )
            )  # fmt: skip
        return tuple(made)


def verdict(queue: str, gen: int, row: Row | None, *, deleted: bool) -> int:
    """The class of an element of a queue's list (`gen` -1: names none) by how its row stands; 0: they agree."""
    if row is None:
        return 3 if deleted else 2
    if row.status.terminal:
        return 3
    if gen not in {-1, row.gen}:
        return 4
    if row.status is JobStatus.ACTIVE:
        return 5  # its generation has been taken already: this is another element of it
    return 0 if row.queue == queue else 12


def _counted(look: _Look) -> dict[int, tuple[int, int, UUID, int]]:
    """fingerprint → how many, class, id, generation."""
    found: dict[int, tuple[int, int, UUID, int]] = {}
    for mark, number, job_id, gen in zip(
        look.prints.tolist(), look.numbers.tolist(), look.ids, look.gens.tolist(), strict=True
    ):
        if number:
            n = found[mark][0] if mark in found else 0
            found[mark] = (n + 1, number, UUID(bytes=job_id.tobytes()), gen)
    return found


def _proven(look: _Look, first: tuple[int, int, UUID, int], number: int) -> bool:
    """Whether an element that is in the list at the second look is what its row says there.

    The same verdict twice proves it. So does one that cannot be undone: a generation that had ended or been taken at
    the first look needs no element any more, whatever its row has become since.
    """
    _, before, job_id, _ = first
    row = look.rows.get(job_id)
    over = before in {2, 3, 4} or (before == 5 and row is not None and row.status is JobStatus.ACTIVE)
    return number == before or over


def _element(look: _Look, number: int, job_id: UUID, gen: int) -> Finding:
    row = look.rows.get(job_id)
    stands = row.status.value if row is not None else "deleted" if job_id in look.deleted else "no row"
    detail = f"its row stands in {row.queue}" if number == 12 and row is not None else ""
    return Finding(
        number=number, queue=look.queue, job_id=job_id, gen=gen if gen >= 0 else None, row=stands,
        row_gen=row.gen if row is not None else None, detail=detail,
    )  # fmt: skip
