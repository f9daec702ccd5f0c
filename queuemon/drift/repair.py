"""Carries a repair out: looks once more, then repairs item by item if it is as it was seen; the workbench calls it.

PostgreSQL commits first, 100 items at a time with their cursor and with before and after of each; publication follows.
What stands differently than it was seen is skipped and named. Going on after a crash begins with a new look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid5

from queuemon.actions.entries import Journal, result
from queuemon.drift import aside, detect, held, lists, planning
from queuemon.drift.elements import Fingerprints
from queuemon.drift.model import Finding
from queuemon.engine import reaper
from queuemon.engine.publisher import publish
from queuemon.errors import StoreError
from queuemon.model import ActionKind, ActionProgress, ActionResult
from queuemon.store import Store, audit, drift_repairs, outbox, parking, pauses, upkeep, waiting, workers
from queuemon.store.audit import Entry
from queuemon.store.changes import change_chunk
from queuemon.store.chunks import Order, chunks_of

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

Progress = Callable[[ActionProgress], None]


@dataclass(kw_only=True)
class _Done:
    """What became of a chunk's items."""

    #: Before and after of each, and the ids in the audit trail.
    repaired: list[Mapping[str, Any]] = field(default_factory=list)
    ids: list[UUID] = field(default_factory=list)
    skipped: dict[UUID, str] = field(default_factory=dict)
    publications: list[int] = field(default_factory=list)
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
        self.published = True
        self.why = ""

    def run(self) -> ActionResult:
        """From the cursor on, chunk by chunk."""
        still = self._look_again()
        while self.entry.running and not self.why and not self.stop.is_set():
            at = self.entry.cursor.int if self.entry.cursor is not None else 0
            chunk = self.items[at : at + CHUNK]
            if not chunk:
                break
            self._chunk(at, chunk, still)
            self._judge()
            if (at + CHUNK) % LOOK_EVERY == 0 and not self.why:
                still = self._look_again()
            if self.progress is not None:
                self.progress(self._told())
        return self._ended()

    def _look_again(self) -> set[tuple[Any, ...]]:
        """What of the plan is still so; trips the breaker where there is far more of it than was planned."""
        at = self.entry.cursor.int if self.entry.cursor is not None else 0
        rest = self.items[at:]
        queues = sorted({f.queue for f in rest if f.queue} & set(self.entry.record.options["queues"]))
        numbers = {f.number for f in rest}
        whole = any(not f.queue for f in rest)
        if not rest:
            return set()
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
        for f in chunk:
            if f.number != 8 and planning.known_by(f) not in still:
                self._left(done, f, RIGHT_ALREADY)
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
            publish(self.store, outbox_ids=publications)
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
        elements = [f for f in repairs if f.number in {2, 13}]
        for queue in sorted({f.queue for f in elements}):
            mine = [f for f in elements if f.queue == queue]
            moved = aside.set_aside(self.store, self.meter, queue, mine)
            for f in mine:
                if f in moved:
                    self._did(done, f, {"list": queue}, {"quarantine": queue})
                else:
                    self._left(done, f, CHANGED)
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
            here = held.read(store, meter, queue, prints)
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
        changed = self.entry.skipped.get(CHANGED, 0)
        tried = self.entry.record.done + changed
        share = self.store.settings.drift_breaker_share
        if tried >= BREAKER_FROM and changed > share * tried:
            self.why = f"{changed:,} of {tried:,} stood differently than they were seen"

    def _told(self) -> ActionProgress:
        record = self.entry.record
        rate = (record.done - self.before) / max(time.monotonic() - self.started, 1e-6)
        left = max(0, record.planned - record.done - record.skipped)
        return ActionProgress(
            id=record.id, planned=record.planned, done=record.done, skipped=record.skipped, per_second=rate,
            eta_seconds=left / rate if rate else None,
        )  # fmt: skip

    def _ended(self) -> ActionResult:
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
            sentences.append("Redis did not answer: the relay will publish them when it does")
        return ". ".join(sentences) + "."
