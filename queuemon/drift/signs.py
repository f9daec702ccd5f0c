"""Disagreements that need no walk through a list: leases, deadlines, lives of keys, pause flags, hands, numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from queuemon.contract import JobStatus, Keys, decode_element
from queuemon.drift import lists
from queuemon.drift.elements import uuid_of
from queuemon.drift.model import Finding
from queuemon.store import Store, drift_reads, parking, pauses, workers
from queuemon.store.drift_reads import Late

#: Findings of one class that one look reads; beyond, they are counted.
LIMIT: Final = 100_000

#: An outbox row that has been due for so long hangs: a relay looks ten times a second.
HANGING_SECONDS: Final = 30.0


@dataclass(kw_only=True)
class Signs:
    """What one look found: class → what it is known by → the finding."""

    found: dict[int, dict[Hashable, Finding]] = field(default_factory=dict)

    def add(self, known_by: Hashable, finding: Finding) -> None:
        """Note a finding."""
        self.found.setdefault(finding.number, {})[known_by] = finding

    def of(self, number: int) -> dict[Hashable, Finding]:
        """Those of a class."""
        return self.found.get(number, {})


def both(first: Signs, second: Signs) -> list[Finding]:
    """What was there, unchanged, at both looks."""
    return [
        finding
        for number in sorted(second.found)
        for known_by, finding in second.found[number].items()
        if known_by in first.of(number)
    ]


def motion(first: Signs, second: Signs) -> dict[int, int]:
    """How many of each class the first look saw alone."""
    return {number: len(found.keys() - second.of(number).keys()) for number, found in first.found.items()}


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What is looked at: some queues, all there are, and the lists that there were when the comparison began."""

    queues: tuple[str, ...]
    every: tuple[str, ...]
    keys: tuple[str, ...]
    deep: bool

    def hands(self, keys: Keys) -> list[tuple[str, str, str]]:
        """(key, worker, queue) of everything in hand."""
        made = lists.pattern(keys.processing)
        return [(m[0], m["worker"], m["name"]) for m in map(made.fullmatch, self.keys) if m is not None]


def read(store: Store, meter: lists.Meter, scope: Scope, *, again: Signs | None = None) -> Signs:
    """One look: in PostgreSQL walks of partial indexes, in Redis a pipeline per 500 keys. A second one (`again`) looks
    only for what the first found."""
    found, queues = Signs(), scope.queues

    def wanted(*numbers: int) -> bool:
        return again is None or any(again.of(n) for n in numbers)

    if wanted(6, 7, 16):
        _rows(store, meter, found, set(queues), deep=scope.deep, wanted=wanted)
    if wanted(10):
        _flags(store, meter, found, queues)
    hands = [hand for hand in scope.hands(store.redis.keys) if hand[2] in set(queues)]
    if wanted(9):
        _lives(store, meter, found, queues, [key for key, _, _ in hands])
    if wanted(15):
        _hands_of_the_dead(store, meter, found, hands)
    if wanted(14) and set(queues) >= set(scope.every):
        _strangers(store, meter, found, scope)
    return found


# ------------------------------------------------------------------------------------------------------ PostgreSQL


def _rows(
    store: Store, meter: lists.Meter, found: Signs, queues: set[str], *, deep: bool, wanted: Callable[..., bool]
) -> None:
    t, lease = store.tables, store.settings.lease_seconds

    def look() -> None:
        with store.postgres.begin(seconds=600, read_only=True) as connection:
            stuck = drift_reads.stuck(connection, t, lease_seconds=lease, limit=LIMIT) if wanted(6) else []
            overdue = drift_reads.overdue(connection, t, limit=LIMIT) if wanted(7) else []
            for number, some in ((6, stuck), (7, overdue)):
                for late in some:
                    if late.queue in queues:
                        found.add((late.id, late.gen, late.at), _late(late, number))
            if wanted(16):
                _numbers(store, connection, found, queues, deep=deep)

    meter.postgres(look)


def _numbers(store: Store, connection: Any, found: Signs, queues: set[str], *, deep: bool) -> None:
    t = store.tables
    for odd in drift_reads.odd(connection, t, limit=LIMIT):
        if odd.queue in queues:
            finding = Finding(
                number=16, queue=odd.queue, job_id=odd.id, gen=odd.gen, row=odd.status.value, row_gen=odd.gen,
                detail=odd.what,
            )  # fmt: skip
            found.add((odd.id, odd.what), finding)
    rows, age = drift_reads.hanging(connection, t, seconds=HANGING_SECONDS)
    if rows:
        detail = f"{rows:,} publications hang, the oldest for {age:.0f} s"
        found.add("publications", Finding(number=16, queue="", jobs=rows, detail=detail, key="publications"))
    for miss in drift_reads.miscounts(connection, t, completed=deep):
        if miss.queue in queues:
            detail = f"the counter of {miss.state} says {miss.counted:,}, the rows are {miss.rows:,}"
            known = ("count", miss.queue, miss.state, miss.rows - miss.counted)
            found.add(known, Finding(number=16, queue=miss.queue, detail=detail, key=f"count:{miss.state}"))


def _late(late: Late, number: int) -> Finding:
    state = JobStatus.ACTIVE if number == 6 else JobStatus.WAITING
    word = "last beat" if number == 6 else "deadline"
    by = f", worker {late.worker_id}" if number == 6 and late.worker_id else ""
    return Finding(
        number=number, queue=late.queue, job_id=late.id, gen=late.gen, row=state.value, row_gen=late.gen,
        detail=f"{word} {late.at:%Y-%m-%d %H:%M:%S} UTC{by}",
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- Redis


def _flags(store: Store, meter: lists.Meter, found: Signs, queues: Sequence[str]) -> None:
    """PostgreSQL's flag first: what is copied between the two reads is equal at the second look."""

    def look() -> list[pauses.PauseFlag]:
        with store.postgres.statement() as connection:
            return pauses.pause_flags(connection, store.tables)

    mine = {flag.queue: flag for flag in meter.postgres(look) if flag.queue in set(queues)}
    copies = lists.flags(store, meter, list(mine))
    for queue, flag in mine.items():
        paused, epoch = copies[queue]
        newer = epoch is not None and epoch > flag.epoch
        if bool(paused) == flag.paused and not newer:
            continue
        here = {True: "paused", False: "running", None: "nothing"}[paused]
        word = "paused" if flag.paused else "running"
        detail = f"PostgreSQL says {word} (epoch {flag.epoch}), Redis {here} (epoch {epoch})"
        key = store.redis.keys.paused_key(queue)
        found.add((queue, flag.epoch, epoch, paused), Finding(number=10, queue=queue, detail=detail, key=key))


def _lives(store: Store, meter: lists.Meter, found: Signs, queues: Sequence[str], in_hand: Sequence[str]) -> None:
    keys = store.redis.keys
    owners = {keys.queue_key(q): q for q in queues} | {keys.quarantine_key(q): q for q in queues}
    owners |= {key: q for q in queues for key in parking.parked_keys(keys, q)}
    owners |= dict.fromkeys(in_hand, "")
    for key, ms in lists.lives(store, meter, list(owners)).items():
        detail = f"{key} goes in {ms / 1000:.0f} s, with everything in it"
        found.add(key, Finding(number=9, queue=owners[key], key=key, detail=detail))


def _hands_of_the_dead(store: Store, meter: lists.Meter, found: Signs, dead: Sequence[tuple[str, str, str]]) -> None:
    """Asked after Redis: a worker enters the registry before it takes anything in hand."""

    def look() -> set[str]:
        with store.postgres.statement() as connection:
            known = workers.known(connection, store.tables)
            return known - set(workers.dead(connection, store.tables, lease_seconds=store.settings.lease_seconds))

    if not dead:
        return
    held = lists.hands(store, meter, [key for key, _, _ in dead])
    alive = meter.postgres(look)
    for key, worker, queue in dead:
        raws = held.get(key, [])
        if worker in alive or not raws:
            continue
        left = _not_running(store, meter, raws)
        if left:
            detail = f"{len(raws):,} in the hand of {worker}, which is dead"
            finding = Finding(number=15, queue=queue, key=key, jobs=left, detail=detail, row=worker)
            found.add((key, raws[0]), finding)


def _not_running(store: Store, meter: lists.Meter, raws: Sequence[bytes]) -> int:
    """How many of a hand's elements are not under a lease that still runs (those are class 6 when it has run out)."""
    elements = [decode_element(raw) for raw in raws]
    ids: list[UUID | None] = [uuid_of(e.id) if e is not None else None for e in elements]

    def look() -> dict[UUID, drift_reads.Row]:
        with store.postgres.statement() as connection:
            return drift_reads.rows_of(connection, store.tables, [i for i in ids if i is not None])

    rows = meter.postgres(look)
    left = 0
    for element, job_id in zip(elements, ids, strict=True):
        row = rows.get(job_id) if job_id is not None else None
        same = row is not None and element is not None and element.gen in {None, row.gen}
        left += not (same and row is not None and row.status is JobStatus.ACTIVE)
    return left


def _strangers(store: Store, meter: lists.Meter, found: Signs, scope: Scope) -> None:
    keys = store.redis.keys
    known = {keys.queue_key(queue) for queue in scope.every}
    made = lists.pattern(keys.queue)
    others = [key for key in scope.keys if key not in known and made.fullmatch(key)]
    kinds = lists.types(store, meter, [*others, *sorted(known)])
    for key in others:
        if kinds[key] != "none":
            detail = f"{key} belongs to no queue of job_queues ({keys.queue_name(key)!r})"
            found.add(key, Finding(number=14, queue="", key=key, detail=detail))
    for key in known:
        if kinds[key] not in {"list", "none"}:
            name = keys.queue_name(key)
            found.add(key, Finding(number=14, queue=name, key=key, detail=f"{key} holds a {kinds[key]}"))
