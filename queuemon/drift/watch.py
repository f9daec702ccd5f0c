"""The continuous, cheap look: signs for a few statements, and one window of a list per tick; a dashboard ticks it.

A tick costs what a snapshot costs (5 queues: about 10 ms, 200 queues: about 60 ms) and a window of 1,000 elements
with its rows (about 20 ms), whatever the sizes of the tables and lists. It proves what it has seen twice; what only a
full comparison can prove it calls suspected.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from queuemon.drift import lists, signs
from queuemon.drift.detect import VANISHED, verdict
from queuemon.drift.elements import TOMBSTONE_ID, cut
from queuemon.drift.held import digest_of
from queuemon.drift.model import CLASSES, DriftWatch, WatchLine
from queuemon.errors import QueuemonError
from queuemon.model import PostgresHalf, RedisHalf, Snapshot
from queuemon.store import Store, drift_reads, parking, pauses, workers

#: Elements of the rotating window.
WINDOW: Final = lists.WINDOW

#: Waiting jobs of the rotating queue whose markers are looked at per tick.
MARKERS: Final = 20

#: Stuck and overdue jobs read per tick.
ROWS: Final = 200

#: What a window proved is shown until the window has passed it so often without seeing it.
ROUNDS_KEPT: Final = 2


@dataclass(frozen=True, kw_only=True)
class _Sighting:
    """Something the rotating window saw."""

    number: int
    queue: str
    depth: int
    since: datetime
    proven: bool
    round: int


class Watch:
    """Ticks whenever it is asked to; keeps what it knows between the ticks. Not for several threads at once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._ticks = 0
        self._spent = 0.0
        self._rounds = 0
        self._place = (0, 0)  # queue, depth
        self._passed = 0
        self._signs: dict[Hashable, WatchLine] = {}
        self._seen: dict[Hashable, _Sighting] = {}
        self._coverage = 0.0
        self._lines: tuple[WatchLine, ...] = ()

    def tick(self) -> DriftWatch:
        """Look once. Never raises for a store that is away."""
        started, now, error = time.perf_counter(), datetime.now(UTC), ""
        try:
            self._look(now)
        except QueuemonError as failure:
            error = str(failure)
        spent = (time.perf_counter() - started) * 1000
        self._ticks += 1
        self._spent += spent
        return DriftWatch(
            taken_at=now, milliseconds=spent, average_milliseconds=self._spent / self._ticks, ticks=self._ticks,
            lines=self._lines, coverage=self._coverage, rounds=self._rounds, error=error,
        )  # fmt: skip

    def _look(self, now: datetime) -> None:
        snapshot = self.store.snapshot()
        postgres, redis = snapshot.postgres, snapshot.redis
        if not isinstance(postgres, PostgresHalf):
            raise QueuemonError(postgres.message)
        if not isinstance(redis, RedisHalf):
            raise QueuemonError(redis.message)
        meter = lists.Meter()
        found = self._cheap(snapshot, postgres, redis, meter)
        self._signs = {
            known_by: replace(
                line,
                since=self._signs[known_by].since if known_by in self._signs else now,
                proven=line.proven and known_by in self._signs,
            )
            for known_by, line in found.items()
        }
        queues = [q.name for q in postgres.queues]
        lengths = {name: redis.queues[name].length for name in queues if name in redis.queues}
        self._look_again(meter, now)
        self._rotate(meter, queues, lengths, now)
        self._lines = self._shown()

    # --------------------------------------------------------------------------------------------------- cheap signs

    def _cheap(
        self, snapshot: Snapshot, postgres: PostgresHalf, redis: RedisHalf, meter: lists.Meter
    ) -> dict[Hashable, WatchLine]:
        """known by → line; `proven` says that seeing it again at the next tick proves it."""
        found: dict[Hashable, WatchLine] = {}
        at = snapshot.taken_at

        def add(known_by: Hashable, number: int, queue: str, detail: str, *, n: int = 1, proves: bool = True) -> None:
            title = CLASSES[number].title
            line = WatchLine(
                number=number, title=title, queue=queue, count=n, proven=proves, since=at, detail=detail
            )  # fmt: skip
            found[number, known_by] = line

        for q in postgres.queues:
            there = redis.queues.get(q.name)
            missing = q.waiting - (there.elements if there else 0)
            if there and not postgres.publications_due and missing >= VANISHED and 2 * missing >= q.waiting:
                detail = f"{q.waiting:,} jobs wait and are due, the list holds {there.elements:,}"
                add(q.name, 8 if not there.elements else 1, q.name, detail, n=missing, proves=False)
        if postgres.publication_lag_seconds > signs.HANGING_SECONDS:
            detail = f"{postgres.publications_due:,} publications hang for {postgres.publication_lag_seconds:.0f} s"
            add("publications", 16, "", detail, n=postgres.publications_due)
        t, lease = self.store.tables, self.store.settings.lease_seconds
        names = [q.name for q in postgres.queues]
        with self.store.postgres.begin(read_only=True) as connection:
            # Only where the numbers say so: stuck and overdue jobs are rare.
            stuck = any(q.stuck for q in postgres.queues)
            rows = drift_reads.stuck(connection, t, lease_seconds=lease, limit=ROWS) if stuck else []
            late = drift_reads.overdue(connection, t, limit=ROWS)
            flags = pauses.pause_flags(connection, t)
            dead = workers.dead(connection, t, lease_seconds=lease)
        for job in rows:
            add((job.id, job.gen, job.at), 6, job.queue, f"job {job.id}, last beat {job.at:%H:%M:%S} UTC")
        for job in late:
            add((job.id, job.gen, job.at), 7, job.queue, f"job {job.id}, deadline {job.at:%Y-%m-%d %H:%M:%S} UTC")
        copies = {name: (q.paused, q.pause_epoch) for name, q in redis.queues.items()}
        for flag in flags:
            paused, epoch = copies.get(flag.queue, (None, None))
            if bool(paused) != flag.paused or (epoch is not None and epoch > flag.epoch):
                detail = f"PostgreSQL {'paused' if flag.paused else 'running'}, Redis {_said(paused)}"
                add((flag.queue, flag.epoch, paused, epoch), 10, flag.queue, detail)
        keys = self.store.redis.keys
        owners = {key: name for name in names for key in (keys.queue_key(name), *parking.parked_keys(keys, name))}
        for key, ms in lists.lives(self.store, meter, list(owners)).items():
            add(key, 9, owners[key], f"{key} goes in {ms / 1000:.0f} s, with everything in it")
        hands = {keys.processing_key(worker, name): (worker, name) for worker in dead[:50] for name in names}
        for key, raws in lists.hands(self.store, meter, list(hands)).items():
            worker, name = hands[key]
            add((key, raws[0]), 15, name, f"{len(raws):,} in the hand of {worker}", n=len(raws))
        return found

    # -------------------------------------------------------------------------------------------- the rotating window

    def _look_again(self, meter: lists.Meter, now: datetime) -> None:
        """The windows in which something was seen once: what is still there is proven, what is not was in motion."""
        once = [(known_by, s) for known_by, s in self._seen.items() if not s.proven]
        for queue, depth in sorted({(s.queue, s.depth) for _, s in once}):
            found = self._window(meter, queue, depth, 2 * WINDOW)
            for known_by, s in once:
                if (s.queue, s.depth) != (queue, depth):
                    continue
                if known_by in found:
                    self._seen[known_by] = replace(s, number=found[known_by], proven=True, round=self._rounds)
                else:
                    del self._seen[known_by]

    def _rotate(self, meter: lists.Meter, queues: Sequence[str], lengths: Mapping[str, int], now: datetime) -> None:
        """The next window; at the end of the last list it begins anew."""
        if not queues:
            return
        n, depth = self._place
        for _ in range(len(queues)):
            if n >= len(queues):
                n, depth, self._passed, self._rounds = 0, 0, 0, self._rounds + 1
            if depth < lengths.get(queues[n], 0):
                break
            n, depth = n + 1, 0
        if n >= len(queues):
            n, depth, self._passed, self._rounds = 0, 0, 0, self._rounds + 1
        queue = queues[n]
        found = self._window(meter, queue, depth, WINDOW)
        # Most of what a busy queue shows has left the list a moment later: it is not even suspected.
        still = self._window(meter, queue, depth, 2 * WINDOW) if found.keys() - self._seen.keys() else found
        for known_by, number in found.items():
            if known_by not in still:
                continue
            if known_by in self._seen:
                self._seen[known_by] = replace(self._seen[known_by], round=self._rounds)
            else:
                self._seen[known_by] = _Sighting(
                    number=number, queue=queue, depth=depth, since=now, proven=False, round=self._rounds
                )
        self._passed += min(WINDOW, max(0, lengths.get(queue, 0) - depth))
        total = sum(lengths.values())
        self._coverage = min(1.0, self._passed / total) if total else 1.0
        self._place = (n, depth + WINDOW)
        old = [k for k, s in self._seen.items() if s.round + ROUNDS_KEPT < self._rounds]
        for known_by in old:
            del self._seen[known_by]

    def _window(self, meter: lists.Meter, queue: str, depth: int, size: int) -> dict[Hashable, int]:
        """What a window of a list holds that does not agree with its rows: known by → class."""
        key = self.store.redis.keys.queue_key(queue)
        with self.store.redis.call() as client:
            raws: Any = meter.redis(lambda: client.lrange(key, -(depth + size), -(depth + 1)))
        found = cut(raws, queue)
        wrong: dict[Hashable, int] = {("poison", digest_of(raws[n])): 13 for n in found.poison}
        ids = [UUID(bytes=i.tobytes()) for i in found.ids]
        if not ids:
            return wrong
        with self.store.postgres.begin(read_only=True) as connection:
            rows = drift_reads.rows_of(connection, self.store.tables, ids)
            missing = [i for i in ids if i not in rows and i != TOMBSTONE_ID]
            deleted = drift_reads.deleted(connection, self.store.tables, missing) if missing else set()
        seen: set[tuple[UUID, int]] = set()
        for job_id, gen in zip(ids, found.gens.tolist(), strict=True):
            if job_id == TOMBSTONE_ID:
                continue
            number = verdict(queue, gen, rows.get(job_id), deleted=job_id in deleted)
            if number == 0 and (job_id, gen) in seen:
                number = 5
            seen.add((job_id, gen))
            if number:
                wrong[queue, job_id, gen] = number
        return wrong

    def _shown(self) -> tuple[WatchLine, ...]:
        """The signs, and what the windows saw, together by class and queue."""
        together: dict[tuple[bool, int, str], WatchLine] = {}
        walked = [
            WatchLine(
                number=s.number, title=CLASSES[s.number].title, queue=s.queue, count=1, proven=s.proven, since=s.since
            )
            for s in self._seen.values()
        ]
        for line in (*self._signs.values(), *walked):
            known = (not line.proven, line.number, line.queue)
            if known in together:
                before = together[known]
                line = replace(  # noqa: PLW2901
                    before, count=before.count + line.count, since=min(before.since, line.since)
                )
            together[known] = line
        return tuple(line for _, line in sorted(together.items()))


def _said(paused: bool | None) -> str:
    return {True: "paused", False: "running", None: "nothing"}[paused]
