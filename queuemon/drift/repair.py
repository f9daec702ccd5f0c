"""Carries a repair out: looks once more, then repairs item by item if it is as it was seen; the workbench calls it.

PostgreSQL commits first, 100 items at a time with their cursor and with before and after of each; publication follows.
What stands differently than it was seen is skipped and named. Going on after a crash begins with a new look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid5

from queuemon.actions.bulk import owes
from queuemon.actions.entries import Journal, result
from queuemon.drift import aside, detect, held, lists, planning, sifting
from queuemon.drift.elements import Fingerprints
from queuemon.drift.model import CLASSES, Finding
from queuemon.drift.sifting import Taken
from queuemon.engine import reaper
from queuemon.engine.publisher import publish
from queuemon.errors import InvalidValue, StoreError
from queuemon.model import ActionKind, ActionProgress, ActionResult
from queuemon.store import Store, audit, drift_repairs, outbox, parking, pauses, upkeep, waiting, workers
from queuemon.store.audit import Entry
from queuemon.store.changes import change_chunk
from queuemon.store.chunks import Order, chunks_of
from queuemon.store.settling import Looks, settled
from queuemon.store.sieve import Sieve

#: Items per transaction.
CHUNK: Final = 100

#: Jobs per transaction when a lost list is published anew.
MASS: Final = 1_000

#: Items between two looks.
LOOK_EVERY: Final = 1_000

#: The breaker judges from so many repairs on.
BREAKER_FROM: Final = 20

#: The drift of the repaired classes may have grown to this many times the plan, and so many more.
GROWN, GROWN_FLOOR = 2, 100

#: Why a planned repair was left alone.
RIGHT_ALREADY: Final = "was put right meanwhile"
CHANGED: Final = "stands differently than it was seen"
UNPARKED: Final = "lies in a list that is not parked any more"
LEFT: Final = "was left alone when the circuit breaker opened"

Progress = Callable[[ActionProgress], None]


@dataclass(kw_only=True)
class _Done:
    """What became of a chunk's items."""

    #: Before and after of each, and the ids in the audit trail.
    repaired: list[Mapping[str, Any]] = field(default_factory=list)
    ids: list[UUID] = field(default_factory=list)
    skipped: dict[UUID, str] = field(default_factory=dict)
    publications: list[int] = field(default_factory=list)
    #: Taken out of parked lists, by queue; they leave the quarantine after the chunk has committed.
    taken: dict[str, list[Taken]] = field(default_factory=dict)
    #: A statement of `changes` has written the chunk's row already.
    noted: bool = False


def carry_out(
    store: Store, journal: Journal, entry: Entry, *, progress: Progress | None, stop: threading.Event | None
) -> ActionResult:
    """Carry an entered repair out, from its cursor on. Raises StoreError; applying the plan again goes on."""
    return _Repair(store, journal, entry, progress=progress, stop=stop or threading.Event()).run()


class _Repair:
    def __init__(
        self, store: Store, journal: Journal, entry: Entry, *, progress: Progress | None, stop: threading.Event
    ) -> None:
        self.store, self.journal, self.entry = store, journal, entry
        self.progress, self.stop = progress, stop
        self.meter = lists.Meter()
        self.items = [planning.finding_of(item) for item in entry.record.options["items"]]
        self.started, self.before = time.monotonic(), entry.record.done
        self.published, self.resumed = True, entry.cursor is not None
        self.why = ""
        self.tripped = False

    def run(self) -> ActionResult:
        """From the cursor on, chunk by chunk."""
        self._put_away_again()
        still, looked = self._look_again(), self._at
        while self.entry.running and not self.why and not self.stop.is_set():
            at = self._at
            chunk = self._next_chunk(at)
            if not chunk:
                break
            self._chunk(at, chunk, still)
            self._judge()
            if self._at - looked >= LOOK_EVERY and not self.why:
                still, looked = self._look_again(), self._at
            if self.progress is not None:
                self.progress(self._told())
        return self._ended()

    @property
    def _at(self) -> int:
        """The first item that is left."""
        return self.entry.cursor.int if self.entry.cursor is not None else 0

    def _next_chunk(self, at: int) -> Sequence[Finding]:
        """100 items; of a parked list everything that goes in one pass, up to the next look."""
        first = self.items[at : at + 1]
        sifted = bool(first) and CLASSES[first[0].number].claim_drops
        chunk = []
        for f in self.items[at : at + (LOOK_EVERY if sifted else CHUNK)]:
            if CLASSES[f.number].claim_drops != sifted or (sifted and f.queue != first[0].queue):
                break
            chunk.append(f)
        return chunk

    def _look_again(self) -> set[tuple[Any, ...]]:
        """What of the plan is still so; trips the breaker where there is far more of it than was planned."""
        rest = self.items[self._at :]
        queues = sorted({f.queue for f in rest if f.queue} & set(self.entry.record.options["queues"]))
        numbers = {f.number for f in rest}
        whole = any(not f.queue for f in rest)
        if not rest:
            return set()
        for queue in {f.queue for f in rest if CLASSES[f.number].claim_drops}:
            with suppress(InvalidValue):  # where it is not parked any more there is one list
                Sieve(self.store.redis, queue).join()
        report = detect.compare(
            self.store, None if whole else queues, deep=self.entry.record.options["deep"], wait_seconds=0.0
        )
        now = sum(report.of(n).count for n in numbers)
        found = int(self.entry.record.options["found"])
        if now > GROWN * found + GROWN_FLOOR:
            self.why = f"the drift grows: {now:,} now, {found:,} when it was planned"
        return {planning.known_by(f) for f in report.findings}

    def _chunk(self, at: int, chunk: Sequence[Finding], still: set[tuple[Any, ...]]) -> None:
        done = _Done()
        repairs = [f for f in chunk if f.number == 8 or planning.known_by(f) in still]
        gone = [f for f in chunk if f.number != 8 and planning.known_by(f) not in still]
        self._gone(done, gone)
        # What only Redis does, or what commits for itself, comes before the chunk's own transaction: a crash in
        # between repeats it, which finds it done.
        self._outside(repairs, done)
        with self.journal.turn(self.entry) as (connection, held_):
            if not held_.running or (held_.cursor.int if held_.cursor else 0) != at:
                self.entry = held_
                return
            self._inside(connection, repairs, done)
            t = self.store.tables
            if not done.noted:
                drift_repairs.note_chunk(connection, t, self.entry.record.id, done.ids)
            if done.repaired:
                actor = audit.actor(self.journal.user)
                drift_repairs.note_repairs(connection, t, self.entry.record.id, actor, done.repaired)
            cursor = UUID(int=at + len(chunk))
            self.entry = self.journal.advance(
                connection, held_, cursor=cursor, done=len(done.repaired), skipped=done.skipped
            )
        for queue, taken in done.taken.items():
            sifting.put_away(self.store, queue, taken)
        self._publish(done.publications)

    def _id(self, f: Finding) -> UUID:
        """The job's id, or one that stands for a queue or a key."""
        return f.job_id or uuid5(self.entry.record.id, repr(planning.known_by(f)))

    def _did(self, done: _Done, f: Finding, before: Any, after: Any) -> None:
        done.ids.append(self._id(f))
        done.repaired.append(
            {"class": f.number, "queue": f.queue, "job": f.job_id, "key": f.key, "before": before, "after": after}
        )

    def _left(self, done: _Done, f: Finding, why: str) -> None:
        known = self._id(f)
        while known in done.skipped:  # the same element twice
            known = uuid5(known, "again")
        done.skipped[known] = why

    def _publish(self, publications: Sequence[int]) -> None:
        try:
            settled(lambda: publish(self.store, outbox_ids=publications), Looks(under_way=True))
        except StoreError:
            self.published = False

    # ----------------------------------------------------------------------------------------- inside the transaction

    def _inside(self, connection: Any, repairs: Sequence[Finding], done: _Done) -> None:
        self._renew(connection, [f for f in repairs if f.number in {1, 11, 12}], done)
        self._rescue(connection, [f for f in repairs if f.number == 6], done)
        self._straighten(connection, [f for f in repairs if f.number == 16 and f.job_id is not None], done)

    def _renew(self, connection: Any, some: Sequence[Finding], done: _Done) -> None:
        """Classes 1, 11, 12: a new generation, published from the row."""
        if not some:
            return
        named = {f.job_id: f for f in some if f.job_id is not None}
        floors = lists.markers(self.store, self.meter, [str(i) for i in named])
        found = [(i, f.gen or 0, floors.get(str(i), 0)) for i, f in sorted(named.items())]
        renewed = drift_repairs.renew(connection, self.store.tables, found)
        for r in renewed:
            self._did(done, named[r.id], {"gen": r.before}, {"gen": r.after})
        for i in named.keys() - {r.id for r in renewed}:
            self._left(done, named[i], CHANGED)
        if renewed:
            done.publications.append(outbox.add(connection, self.store.tables, [r.id for r in renewed]))

    def _rescue(self, connection: Any, some: Sequence[Finding], done: _Done) -> None:
        """Class 6, as the relay and an operator's rescue do it: the row says whether its worker is silent."""
        if not some:
            return
        named = {f.job_id: f for f in some if f.job_id is not None}
        settings = self.store.settings
        order = Order(kind=ActionKind.RESCUE, cutoff=self.entry.cutoff, lease_seconds=settings.lease_seconds)
        for chunk in chunks_of(list(named), after=None, chunk_rows=CHUNK):
            outcome = change_chunk(
                connection, self.store.tables, order, chunk, action_id=self.entry.record.id, also=None,
                keep_days=settings.undo_days, logged=False,
            )  # fmt: skip
            done.noted = True
            for i in outcome.missed:
                self._left(done, named[i], CHANGED)
            for i in named.keys() - set(outcome.missed):
                self._did(done, named[i], {"status": "active", "gen": named[i].gen}, {"taken": "from its worker"})
            if outcome.publication is not None:
                done.publications.append(outcome.publication)

    def _straighten(self, connection: Any, some: Sequence[Finding], done: _Done) -> None:
        """Class 16, rows."""
        named = {f.job_id: f for f in some if f.job_id is not None}
        if not named:
            return
        before = drift_repairs.straighten(connection, self.store.tables, [(i, f.gen or 0) for i, f in named.items()])
        for i, f in named.items():
            if i in before:
                self._did(done, f, before[i], "within its bounds")
            else:
                self._left(done, f, CHANGED)

    # --------------------------------------------------------------------------------------- each a commit of its own

    def _outside(self, repairs: Sequence[Finding], done: _Done) -> None:
        elements = [f for f in repairs if f.number in sifting.SIFTED]
        for queue in sorted({f.queue for f in elements}):
            mine = [f for f in elements if f.queue == queue]
            if self._parked(queue):
                self._sift(queue, mine, done)
            else:
                self._set_aside(queue, mine, done)
        for f in repairs:
            match f.number:
                case 7:
                    self._expire(f, done)
                case 8:
                    self._publish_anew(f, done)
                case 9:
                    self._persist(f, done)
                case 10:
                    self._copy_flag(f, done)
                case 15:
                    self._empty_hand(f, done)
                case 16 if f.job_id is None:
                    self._recount(f, done)

    def _set_aside(self, queue: str, some: Sequence[Finding], done: _Done) -> None:
        """Classes 2 and 13, out of a list that workers take from."""
        mine = [f for f in some if not CLASSES[f.number].claim_drops]
        moved = aside.set_aside(self.store, self.meter, queue, mine) if mine else []
        for f in some:
            if f in moved:
                self._did(done, f, {"list": queue}, {"quarantine": queue})
            else:
                self._left(done, f, UNPARKED if CLASSES[f.number].claim_drops else CHANGED)

    def _parked(self, queue: str) -> bool:
        """Whether a hard pause holds a queue; then its list is parked now, with what others pushed to it meanwhile."""
        with self.store.postgres.statement() as connection:
            flags = [f for f in pauses.pause_flags(connection, self.store.tables) if f.queue == queue and f.hard]
        parking.tell(self.store.redis, flags)
        return bool(flags)

    def _sift(self, queue: str, some: Sequence[Finding], done: _Done) -> None:
        """Classes 2, 3, 4, 5 and 13, out of a parked list."""
        try:
            found = sifting.take_out(self.store, queue, some, trips=self._too_many)
        except InvalidValue:  # it was given back meanwhile; what was taken out before lies in quarantine
            found = sifting.Sifted(missing=[*some])
            unseen = UNPARKED
        else:
            unseen = RIGHT_ALREADY
        self._took(queue, found.taken, done)
        for f in found.changed:
            self._left(done, f, CHANGED)
        for f in found.left:
            self._left(done, f, LEFT)
        self.tripped = self.tripped or bool(found.left)
        self._gone(done, found.missing, unseen)

    def _took(self, queue: str, taken: Sequence[Taken], done: _Done) -> None:
        for t in taken:
            f = t.finding
            before = {"list": "parked", "gen": f.gen, "row": t.row, "element": aside.shown(self.store, t.raw)}
            self._did(done, f, before, "taken out" if t.explained else {"quarantine": queue})
        done.taken.setdefault(queue, []).extend(taken)

    def _gone(self, done: _Done, some: Sequence[Finding], why: str = RIGHT_ALREADY) -> None:
        """Items that are not there: a run that was killed may have taken their elements out, which it had no time to
        say."""
        found: set[int] = set()
        for queue in sorted({f.queue for f in some if CLASSES[f.number].claim_drops}):
            mine = [f for f in some if f.queue == queue and CLASSES[f.number].claim_drops]
            taken = sifting.in_quarantine(self.store, self.meter, queue, mine)
            self._took(queue, taken, done)
            found.update(id(t.finding) for t in taken)
        for f in some:
            if id(f) not in found:
                self._left(done, f, why)

    def _put_away_again(self) -> None:
        """What a run recorded and had no time to take out of the quarantine before it was killed."""
        mine = [f for f in self.items[: self._at] if CLASSES[f.number].claim_drops]
        if not mine:
            return
        with self.store.postgres.begin(read_only=True) as connection:
            noted = drift_repairs.noted(connection, self.store.tables, self.entry.record.id)
        for queue in sorted({f.queue for f in mine}):
            some = [f for f in mine if f.queue == queue and f.job_id in noted]
            sifting.put_away(self.store, queue, sifting.in_quarantine(self.store, self.meter, queue, some))

    def _expire(self, f: Finding, done: _Done) -> None:
        with self.store.postgres.statement() as connection:
            n = upkeep.expire_jobs(connection, self.store.tables, job_id=f.job_id, limit=1)
        if n:
            self._did(done, f, {"status": "waiting"}, {"status": "expired"})
        else:
            self._left(done, f, CHANGED)

    def _publish_anew(self, f: Finding, done: _Done) -> None:
        """Class 8: whatever of the queue waits and is nowhere in Redis, in batches, at a bounded rate.

        Done again after a crash it finds only what is still missing: what was promised has an outbox row.
        """
        jobs = 0
        for batch in self._missing(f.queue):
            if self.stop.is_set():
                return
            started = time.monotonic()
            floors = lists.markers(self.store, self.meter, [str(i) for i, _ in batch])
            with self.store.postgres.begin(seconds=60) as connection:
                found = [(i, gen, floors.get(str(i), 0)) for i, gen in batch]
                renewed = [r.id for r in drift_repairs.renew(connection, self.store.tables, found)]
                publications = [outbox.add(connection, self.store.tables, renewed)] if renewed else []
            jobs += len(renewed)
            self._publish(publications)
            pause = len(batch) / self.store.settings.drift_publish_rate - (time.monotonic() - started)
            self.stop.wait(max(0.0, pause))
        if jobs:
            self._did(done, f, {"list": "gone"}, {"published anew": jobs})
        else:
            self._left(done, f, RIGHT_ALREADY)

    def _missing(self, queue: str) -> Iterator[list[tuple[UUID, int]]]:
        import numpy as np

        prints = Fingerprints(np.random.default_rng())
        store, meter = self.store, self.meter
        parked = parking.parked_keys(store.redis.keys, queue)
        for ids, gens in waiting.pages(store.postgres, queue):
            here = held.read(store, meter, queue, prints, keys=[store.redis.keys.queue_key(queue)])
            with store.postgres.statement() as connection:
                known = workers.known(connection, store.tables)
            place = held.elsewhere(store, meter, queue, prints, here.newest, workers=known, aside=parked)
            marks = prints.of(ids, gens)
            absent = ~(held.inside(marks, here.sorted) | held.inside(marks, place.prints))
            loose = here.loose | place.loose
            wanted = [i.tobytes() for i in ids[absent] if i.tobytes() not in loose]
            still = waiting.still(store.postgres, wanted)
            rest = [(UUID(bytes=i), gen) for i, gen in still.items()]
            yield from (rest[n : n + MASS] for n in range(0, len(rest), MASS))

    def _persist(self, f: Finding, done: _Done) -> None:
        with self.store.redis.call() as client:
            left: Any = client.pttl(f.key)
            n = client.persist(f.key)
        if n:
            self._did(done, f, {"ttl_ms": left}, {"ttl_ms": None})
        else:
            self._left(done, f, CHANGED)

    def _copy_flag(self, f: Finding, done: _Done) -> None:
        t = self.store.tables
        copy = lists.flags(self.store, self.meter, [f.queue])[f.queue]
        with self.store.postgres.begin() as connection:
            if copy[1] is not None:
                drift_repairs.raise_epoch(connection, t, f.queue, above=copy[1])
            flags = [flag for flag in pauses.pause_flags(connection, t) if flag.queue == f.queue]
        for flag in flags:
            parking.tell(self.store.redis, [flag])
            self._did(done, f, {"paused": copy[0], "epoch": copy[1]}, {"paused": flag.paused, "epoch": flag.epoch})
        if not flags:
            self._left(done, f, CHANGED)

    def _empty_hand(self, f: Finding, done: _Done) -> None:
        """Class 15, as the relay does it."""
        n = reaper.empty_hand(self.store, f.row, f.queue)
        if n:
            self._did(done, f, {"hand": f.row}, {"put away": n})
        else:
            self._left(done, f, CHANGED)

    def _recount(self, f: Finding, done: _Done) -> None:
        if f.key == "publications":
            published = publish(self.store)
            self._did(done, f, {"hanging": f.jobs}, {"published": published.jobs})
            return
        with self.store.postgres.begin(seconds=600) as connection:
            counted = drift_repairs.recount(connection, self.store.tables, f.queue, f.key.removeprefix("count:"))
        if counted is not None:
            self._did(done, f, {"counter": counted[0]}, {"counter": counted[1]})
        else:
            self._left(done, f, CHANGED)

    # ---------------------------------------------------------------------------------------------------------- ends

    def _judge(self) -> None:
        """The circuit breaker: too much stands differently than it was seen."""
        changed, done = self.entry.skipped.get(CHANGED, 0), self.entry.record.done
        if self.tripped or self._too_many():
            self.why = f"{changed:,} of {changed + done:,} stood differently than they were seen"

    def _too_many(self, more_done: int = 0, more_changed: int = 0) -> bool:
        """Whether too much stood differently, with what this chunk has met so far."""
        changed = self.entry.skipped.get(CHANGED, 0) + more_changed
        tried = self.entry.record.done + more_done + changed
        return tried >= BREAKER_FROM and changed > self.store.settings.drift_breaker_share * tried

    def _told(self) -> ActionProgress:
        record = self.entry.record
        rate = (record.done - self.before) / max(time.monotonic() - self.started, 1e-6)
        left = max(0, record.planned - record.done - record.skipped)
        return ActionProgress(
            id=record.id, planned=record.planned, done=record.done, skipped=record.skipped, per_second=rate,
            eta_seconds=left / rate if rate else None,
        )  # fmt: skip

    def _ended(self) -> ActionResult:
        self.published = self.published and not (self.resumed and owes(self.store, self.entry))
        with self.journal.turn(self.entry) as (connection, held_):
            record = held_.record
            if not held_.running:
                return self.journal.repeated(connection, held_)
            stopped = bool(self.why) or (self.stop.is_set() and record.done + record.skipped < record.planned)
            state = "stopped" if stopped else "done" if record.done >= record.planned else "partly"
            if not stopped and not record.done and record.planned:
                state = "refused"
            ended = self.journal.end(
                connection, held_, state=state, summary=self._summary(held_), published=self.published, why=self.why
            )
        return result(ended, published=self.published)

    def _summary(self, entry: Entry) -> str:
        record = entry.record
        if record.planned == 0:
            return "There was nothing to repair."
        sentences = [f"Repaired {record.done:,} of {record.planned:,}"]
        if self.why:
            sentences.insert(0, f"The circuit breaker stopped it: {self.why}")
        elif self.stop.is_set():
            sentences.insert(0, "Stopped on request")
        sentences += [f"{n:,} {why}" for why, n in sorted(entry.skipped.items())]
        if not self.published:
            sentences.append("Redis did not take them: the relay will publish them when it does")
        return ". ".join(sentences) + "."
