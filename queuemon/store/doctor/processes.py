"""The processes at work, what they have left undone, and what the workers do; part of the doctor."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import func, select

from queuemon.model import Check, HalfError
from queuemon.store import audit, discipline
from queuemon.store.doctor.checks import check
from queuemon.store.numbers import clock
from queuemon.store.store import Store

#: A publication that is due for longer means that no relay follows.
LAG_SECONDS = 10.0

#: A pause without an end that is older has probably been forgotten.
FORGOTTEN_HOURS = 24.0

#: What the janitor should have removed may lie about for so long.
JANITOR_SLACK = timedelta(days=1)


def processes(store: Store) -> Iterator[Check]:
    """Relay, workers, supervisor, and what waits for them."""
    half = store.snapshot().postgres
    if isinstance(half, HalfError):
        return
    alive = {kind: sum(w.alive and w.kind == kind for w in half.workers) for kind in ("worker", "relay", "supervisor")}
    depth = sum(q.waiting for q in half.queues)
    yield check(
        "queues", bool(half.queues), f"{len(half.queues)} in job_queues", "insert the queues' rows into job_queues"
    )
    yield check(
        "relay",
        alive["relay"] > 0,
        f"{alive['relay']} running",
        "run `queuemon relay`: without one, retries, scheduled jobs, expiry and the purge of old logs wait",
    )
    lag = half.publication_lag_seconds if half.publications_due else 0.0
    yield check(
        "publication",
        lag <= LAG_SECONDS,
        f"{half.publications_due:,} due, the oldest for {lag:.0f} s",
        "run `queuemon relay`, or see why it does not keep up",
    )
    yield check(
        "workers",
        alive["worker"] > 0,
        f"{alive['worker']} running" + ("" if alive["worker"] else f": nobody consumes {depth:,} waiting jobs"),
        "run `queuemon supervisor`, or `queuemon worker QUEUE`",
    )
    unmet = [q.name for q in half.queues if q.workers < q.queue.concurrency]
    yield check(
        "supervisor",
        alive["supervisor"] > 0 or not unmet,
        f"{alive['supervisor']} running"
        + (f"; fewer workers than desired: {', '.join(unmet[:5])}" if unmet and not alive["supervisor"] else ""),
        "run `queuemon supervisor`: nobody follows the desired number of workers",
    )
    stuck = sum(q.stuck for q in half.queues)
    yield check(
        "stuck jobs",
        stuck == 0,
        f"{stuck:,} active without a heartbeat for {store.settings.lease_seconds:g} s",
        "a running relay gives them back",
    )


def workers(store: Store) -> Iterator[Check]:
    """Which level of discipline (L0, L1, L2) holds, with its evidence and the promise."""
    found = discipline.find(store)
    shown = f"{found.level}: " if found.level else ""
    if found.stated:
        shown += f"the profile states {found.stated}; "
    shown += "; ".join(reversed(found.evidence))
    shown += f". At {found.assumed} {found.promise}"
    step = "let workers claim, beat and fence their writes, as `queuemon worker` does; pause with --hard until they do"
    if found.contradicted:
        step = f"correct worker_level in the profile, or the workers: repairs go by {found.assumed}"
    yield check("discipline", found.level != "L0" and not found.contradicted, shown, step)


def pauses(store: Store) -> Iterator[Check]:
    """Pauses that somebody forgot."""
    keys = store.settings.keys
    with store.postgres.begin(read_only=True) as connection:
        now = clock(connection)
        held = audit.pauses(connection, store.tables)
    old = [p for p in held if p.until is None and now - p.since > timedelta(hours=FORGOTTEN_HOURS)]
    named = ", ".join(f"{keys.display(p.queue)} by {p.holder}, {(now - p.since).days} d" for p in old[:5])
    yield check(
        "pauses",
        not old,
        f"{len(old)} without an end for more than {FORGOTTEN_HOURS:g} h: {named}" if old else f"{len(held)} held",
        "resume the queue (`queuemon resume QUEUE --holder NAME`), or give the pause an end (--until)",
    )


def janitor(store: Store) -> Iterator[Check]:
    """Whether old logs and copies are removed."""
    t, days = store.tables, store.settings.log_days
    with store.postgres.begin(read_only=True) as connection:
        now = clock(connection)
        oldest = connection.execute(select(t.job_logs.c.finished_at).order_by(t.job_logs.c.id).limit(1)).scalar()
        copy = connection.execute(select(func.min(t.undo_jobs.c.kept_until))).scalar()
    late = []
    if days > 0 and oldest is not None and now - oldest > timedelta(days=days) + JANITOR_SLACK:
        late.append(f"the oldest row of job_logs is {(now - oldest).days:,} days old (log_days: {days:g})")
    if copy is not None and now - copy > JANITOR_SLACK:
        late.append(f"copies for undo outlived their time by {(now - copy).days:,} days")
    kept = "old logs and copies are removed" if days > 0 else "log_days is 0: job_logs is kept for ever"
    yield check("janitor", not late, "; ".join(late) or kept, "run `queuemon relay`: the janitor is one of its duties")
