"""What the workers at hand do, as the stores show it: L0, L1 or L2, with the evidence; doctor, plans and repairs ask.

A claim leaves traces: a generation starts once, never before it is due, never in a paused queue, never after a newer
one. One trace that contradicts proves L0; that none does, over enough attempts, is what can be known of L1. L2 shows
itself: registered workers that beat for what they hold, and hold its element in a list of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    Double,
    Select,
    Subquery,
    Text,
    and_,
    cast,
    exists,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.sql.elements import ColumnElement

from queuemon.contract import JobStatus, decode_element
from queuemon.errors import StoreError
from queuemon.model import WorkerLevel
from queuemon.schema.tables import Tables
from queuemon.store.store import Store

#: Evidence is not older than this: workers may have been exchanged.
WINDOW_SECONDS: Final = 3600.0

#: The newest rows of job_logs, active jobs, and completed jobs per queue that are looked at (most).
LOG_ROWS: Final = 10_000
ACTIVE_ROWS: Final = 1_000
COMPLETED_ROWS: Final = 20

#: Fewer attempts without a contradiction say nothing.
MINIMUM: Final = 20

#: A worker that was not registered at its last attempt shows for so long; one that ended in good order has left too.
FOREIGN_SECONDS: Final = 60.0

#: Clocks of other workers may differ by this, and a claim may begin so long before it sees a pause.
SKEW_SECONDS: Final = 5.0

#: Bound of each statement. Each uses an index: 10 M jobs and 10 M log rows cost what 10,000 do.
STATEMENT_SECONDS: Final = 3.0

#: What holds at each level.
PROMISES: Final = {
    "L0": "no operator action and no crash of queuemon loses a job; a job may run twice, and each case is explained",
    "L1": "no job is lost, and a generation starts at most once",
    "L2": "no job is lost, a generation starts at most once, the job of a killed worker is back within the lease, and a"
    " worker's late write is refused",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Traces:
    """What was counted; `judge` reads it."""

    #: Attempts that ended within the window, and by how many workers.
    attempts: int = 0
    workers: int = 0
    #: Of these by registered workers that live; by strangers within FOREIGN_SECONDS.
    attempts_registered: int = 0
    attempts_foreign: int = 0
    #: Completed jobs looked at, and those of which job_logs has no attempt.
    completed: int = 0
    unlogged: int = 0
    #: Active jobs looked at; of registered workers; of those that live; of these with a heartbeat within two leases.
    active: int = 0
    active_registered: int = 0
    active_living: int = 0
    active_beating: int = 0
    #: Active jobs of registered workers whose element, of the same generation, lies in the worker's hand; None: Redis
    #: could not be asked.
    in_hand: int | None = None
    #: Registered workers that live.
    registered: int = 0
    #: What contradicts a claim, in words.
    contradictions: Sequence[str] = field(default_factory=tuple)


def find(store: Store) -> WorkerLevel:
    """The level that holds, from both stores: about ten bounded reads. Raises StoreError where PostgreSQL is away; a
    Redis that is away only keeps L2 from being seen."""
    t, lease = store.tables, store.settings.lease_seconds
    with store.postgres.begin(read_only=True, seconds=STATEMENT_SECONDS) as connection:
        registry = {row[0]: row[1] for row in connection.execute(_registered(t, lease))}
        known, living = set(registry), {name for name, lives in registry.items() if lives}
        found = connection.execute(_attempts(t, known, living)).one()
        twice = connection.execute(_started_twice(t)).one()
        stale = connection.execute(_started_late(t)).one()
        in_pause = connection.execute(_attempts_in_pause(t)).one()
        completed, unlogged = connection.execute(_completed(t)).one()
        active = [_Active(*row) for row in connection.execute(_active(t, lease))]
    active, in_hand = _hands(store, active, known)
    mine = [a for a in active if a.worker_id in living]
    against = (
        (twice, "{} started more than once under one generation"),
        (stale, "{} started under a generation although a newer one was known"),
        (in_pause, "{} of a paused queue started after the pause"),
        (_these(active, lambda a: a.early), "{} of the active ones started before they were due"),
        (_these(active, lambda a: a.in_pause), "{} of the active ones started in a paused queue after its pause"),
        (
            _these(active, lambda a: a.worker_id is None),
            "{} of the active ones name no worker, so nobody claimed them",
        ),
    )
    return judge(
        Traces(
            attempts=found.attempts, workers=found.workers, attempts_registered=found.registered,
            attempts_foreign=found.foreign, completed=completed, unlogged=unlogged, active=len(active),
            active_registered=sum(a.worker_id in known for a in active), active_living=len(mine),
            active_beating=sum(not a.silent for a in mine), in_hand=in_hand, registered=len(living),
            contradictions=tuple(f"{words.format(_jobs(n))} ({_one(n)}{job})" for (n, job), words in against if n),
        ),
        store.settings.worker_level,
    )  # fmt: skip


def judge(traces: Traces, stated: str | None = None) -> WorkerLevel:
    """The level that these traces show; `stated` is the profile's word, and repairs go by the lower of both."""
    seen = [
        *(f"against a claim: {words}" for words in traces.contradictions),
        f"{_jobs(traces.active, 'active job')}, {traces.active_registered:,} of registered workers,"
        f" {traces.active_beating:,} with a fresh heartbeat, {_hand_words(traces.in_hand)}",
        f"{_jobs(traces.attempts, 'attempt')} in the last hour by {_jobs(traces.workers, 'worker')}"
        + ("" if traces.contradictions else ", none of them against a claim" if traces.attempts else ""),
    ]
    if traces.unlogged:
        seen.append(
            f"{traces.unlogged:,} of {_jobs(traces.completed, 'completed job')} left no attempt in job_logs:"
            " starts cannot be counted"
        )
    level, why = _level(traces)
    seen.append(why)
    lowest = min((word for word in (level, stated) if word), default="L0")
    return WorkerLevel(level=level, stated=stated or "", evidence=tuple(seen), promise=PROMISES[lowest])


def _level(traces: Traces) -> tuple[str, str]:
    """The level and what decided."""
    foreign = traces.active - traces.active_registered + traces.attempts_foreign
    claims = traces.attempts >= MINIMUM and not traces.unlogged
    if traces.contradictions:
        return "L0", "what contradicts a claim decides"
    beating = traces.active_living and traces.active_beating == traces.active_living and traces.in_hand
    idle = not traces.active and traces.attempts_registered
    if not foreign and not traces.unlogged and (beating or idle):
        who = _jobs(traces.registered, "registered worker")
        return "L2", f"{who} beat for what they run and hold it in hand, and nobody else runs jobs"
    if claims:
        why = (
            f"{_jobs(foreign, 'job')} by workers that are not registered" if foreign
            else "no registered worker beats for what runs and holds it in hand"
        )  # fmt: skip
        return "L1", f"at most L1: {why}"
    return "", (
        "not known: too little runs that leaves traces. Look again when workers have run"
        f" {MINIMUM} jobs with an attempt in job_logs each, or state worker_level in the profile"
    )


def _jobs(n: int, noun: str = "job") -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _one(n: int) -> str:
    """What introduces the id of one of them."""
    return "" if n == 1 else "for example "


def _these(active: list[_Active], wrong: Callable[[_Active], bool]) -> tuple[int, UUID | None]:
    """How many of them are so, and one."""
    ids = [a.id for a in active if wrong(a)]
    return len(ids), min(ids, default=None)


def _hand_words(in_hand: int | None) -> str:
    return "hands not read: Redis did not answer" if in_hand is None else f"{in_hand:,} in their worker's hand"


# ----------------------------------------------------------------------------------------------------- statements


def _ago(seconds: float) -> ColumnElement[Any]:
    return func.now() - _interval(seconds)


def _interval(seconds: float) -> ColumnElement[Any]:
    return func.make_interval(0, 0, 0, 0, 0, 0, cast(seconds, Double))


def _registered(t: Tables, lease_seconds: float) -> Select[Any]:
    """Every worker in the registry (the dead stay there for some minutes), and whether it lives."""
    w = t.workers
    return select(w.c.id, w.c.heartbeat_at > _ago(lease_seconds)).where(w.c.kind == "worker")


def _recent(t: Tables) -> Subquery:
    """The newest rows of job_logs, by its primary key."""
    logs = t.job_logs
    columns = [logs.c[n] for n in ("job_id", "queue", "kind", "gen", "worker_id", "started_at", "finished_at")]
    return select(*columns).order_by(logs.c.id.desc()).limit(LOG_ROWS).subquery("recent")


def _ended(recent: Subquery) -> ColumnElement[bool]:
    return and_(recent.c.kind == "attempt", recent.c.finished_at > _ago(WINDOW_SECONDS))


def _attempts(t: Tables, known: set[str], living: set[str]) -> Any:
    """How many attempts ended, by how many workers, by registered ones, by others a moment ago."""
    r = _recent(t)
    ours = r.c.worker_id.in_(sorted(living))
    stranger = or_(r.c.worker_id.is_(None), r.c.worker_id.not_in(sorted(known)))
    theirs = and_(stranger, r.c.finished_at > _ago(FOREIGN_SECONDS))
    return select(
        func.count().label("attempts"),
        func.count(r.c.worker_id.distinct()).label("workers"),
        func.count().filter(ours).label("registered"),
        func.count().filter(theirs).label("foreign"),
    ).where(_ended(r))


def _started_twice(t: Tables) -> Any:
    """Generations with more than one attempt: each new publication has a new one."""
    r = _recent(t)
    twice = select(r.c.job_id).where(_ended(r)).group_by(r.c.job_id, r.c.gen).having(func.count() > 1)
    found = twice.subquery("twice")
    return _counted(found.c.job_id).select_from(found)


def _counted(job_id: ColumnElement[Any]) -> Any:
    """How many, and the id of one."""
    return select(func.count(), func.min(cast(job_id, Text)))


def _started_late(t: Tables) -> Any:
    """Attempts that started under a generation older than one of which the trail knew by then."""
    r, newer = _recent(t), _recent(t).alias("newer")
    known = and_(
        newer.c.job_id == r.c.job_id,
        newer.c.gen > r.c.gen,
        newer.c.finished_at < r.c.started_at - _interval(SKEW_SECONDS),
    )
    return _counted(r.c.job_id).select_from(r).where(_ended(r), exists().where(known))


def _attempts_in_pause(t: Tables) -> Any:
    """Attempts that started in a queue that has been paused since before."""
    r, q = _recent(t), t.job_queues
    late = and_(q.c.paused, r.c.started_at > q.c.paused_at + _interval(SKEW_SECONDS))
    return _counted(r.c.job_id).select_from(r.join(q, q.c.name == r.c.queue)).where(_ended(r), late)


def _completed(t: Tables) -> Any:
    """The last completed jobs of each queue, and how many of them left no attempt in job_logs."""
    j, q, logs = t.jobs, t.job_queues, t.job_logs
    last = (
        select(j.c.id)
        .where(j.c.queue == q.c.name, t.status_is(JobStatus.COMPLETED), j.c.finished_at > _ago(WINDOW_SECONDS))
        .order_by(j.c.finished_at.desc())
        .limit(COMPLETED_ROWS)
        .lateral("last")
    )
    logged = exists().where(logs.c.job_id == last.c.id, logs.c.kind == "attempt")
    return select(func.count(), func.count().filter(~logged)).select_from(q.join(last, true()))


@dataclass(frozen=True, slots=True)
class _Active:
    """A job that runs, and what is wrong with how it was started."""

    id: UUID
    queue: str
    gen: int
    worker_id: str | None
    early: bool
    silent: bool
    in_pause: bool


def _active(t: Tables, lease_seconds: float) -> Select[Any]:
    """Active jobs."""
    j, q = t.jobs, t.job_queues
    skew = _interval(SKEW_SECONDS)
    return (
        select(
            j.c.id,
            j.c.queue,
            j.c.gen,
            j.c.worker_id,
            func.coalesce(j.c.started_at < j.c.run_at - skew, False),
            func.coalesce(j.c.heartbeat_at < _ago(2 * lease_seconds), True),
            func.coalesce(and_(q.c.paused, j.c.started_at > q.c.paused_at + skew), False),
        )
        .select_from(j.outerjoin(q, q.c.name == j.c.queue))
        .where(t.status_is(JobStatus.ACTIVE))
        .limit(ACTIVE_ROWS)
    )


def _hands(store: Store, active: list[_Active], known: set[str]) -> tuple[list[_Active], int | None]:
    """How many active jobs of registered workers lie in their worker's hand; those that ended meanwhile are left out.

    One pipeline with a list per worker and queue, then one statement.
    """
    keys = store.redis.keys
    hands = sorted({(a.worker_id, a.queue) for a in active if a.worker_id in known})
    try:
        with store.redis.call() as client:
            pipe = client.pipeline(transaction=False)
            for worker, queue in hands:
                pipe.lrange(keys.processing_key(str(worker), queue), 0, 9)
            answers: list[list[bytes]] = pipe.execute() if hands else []
    except StoreError:
        return active, None
    held = {(e.id, e.gen) for raws in answers for raw in raws if (e := decode_element(raw)) is not None}
    still = active
    with store.postgres.begin(read_only=True, seconds=STATEMENT_SECONDS) as connection:
        j, t = store.tables.jobs, store.tables
        some = select(j.c.id, j.c.gen).where(j.c.id.in_([a.id for a in active]), t.status_is(JobStatus.ACTIVE))
        now = {(row[0], row[1]) for row in connection.execute(some)} if active else set()
        still = [a for a in active if (a.id, a.gen) in now]
    mine = [a for a in still if a.worker_id in known]
    return still, sum((str(a.id), a.gen) in held or (str(a.id), None) in held for a in mine)
