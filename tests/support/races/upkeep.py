"""Races about upkeep: the janitor, leases, deadlines, the outbox, roll-ups, the registry; and the demo's own rows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from queuemon.store import demo, janitor, outbox, rollups, trail, upkeep, workers
from tests.support.actions import Desk
from tests.support.races.race import Race
from tests.support.races.trail import stopped

# --------------------------------------------------------------------------------------------------------- janitor


def _old_log(desk: Desk) -> None:
    desk.sql(
        "INSERT INTO job_logs (job_id, queue, kind, gen, status, finished_at)"
        " VALUES (gen_random_uuid(), 'mail', 'attempt', 1, 'failed', now() - interval '90 days')"
    )
    desk.sql("UPDATE queuemon.rollup_state SET txid = pg_current_xact_id() WHERE name = 'attempts'")


def _old_copy(desk: Desk) -> None:
    desk.act("delete", desk.add("failed")[0])
    desk.sql("UPDATE queuemon.undo_jobs SET kept_until = now() - interval '1 day'")


def _old_minute(desk: Desk) -> None:
    desk.sql(
        "INSERT INTO queuemon.minutes (queue, kind, minute, n) VALUES ('mail', 'x', now() - interval '90 days', 1)"
    )


def _finished(desk: Desk) -> UUID:
    action_id = stopped(desk)
    desk.sql("UPDATE queuemon.actions SET started_at = now() - interval '91 days'")
    return action_id


JANITOR = (
    Race(
        name="an old log row purged that becomes new",
        covers=("janitor.purge_logs",),
        plant=_old_log,
        hold="UPDATE job_logs SET finished_at = now()",
        run=lambda c, t, _: janitor.purge_logs(c, t, days=30),
        gives=0,
        stands=("SELECT count(*) FROM job_logs", 1),
    ),
    Race(
        name="an old copy purged that is kept for longer",
        covers=("janitor.purge_undo",),
        plant=_old_copy,
        hold="UPDATE queuemon.undo_jobs SET kept_until = now() + interval '1 day'",
        run=lambda c, t, _: janitor.purge_undo(c),
        gives=0,
        stands=("SELECT count(*) FROM queuemon.undo_jobs", 1),
    ),
    Race(
        name="an old action purged that is opened again",
        covers=("janitor.purge_actions",),
        plant=_finished,
        hold=trail.reopen,
        run=lambda c, t, _: janitor.purge_actions(c, days=30),
        gives=0,
        stands=("SELECT state FROM queuemon.actions", "running"),
    ),
    Race(
        name="an old minute purged that becomes new",
        covers=("janitor.purge_minutes",),
        plant=_old_minute,
        hold="UPDATE queuemon.minutes SET minute = now()",
        run=lambda c, t, _: janitor.purge_minutes(c, days=35),
        gives=0,
        stands=("SELECT count(*) FROM queuemon.minutes WHERE kind = 'x'", 1),
    ),
)

# ---------------------------------------------------------------------------------------------------------- upkeep


def _silent(desk: Desk) -> None:
    desk.add("active")
    desk.sql("UPDATE jobs SET started_at = now() - interval '1 hour', heartbeat_at = now() - interval '1 hour'")


def _overdue(desk: Desk) -> None:
    desk.add("waiting")
    desk.sql("UPDATE jobs SET expires_at = now() - interval '1 hour'")


def _promised(desk: Desk) -> list[int]:
    (job_id,) = desk.add("waiting")
    with desk.store.postgres.begin() as connection:
        return [outbox.add(connection, desk.store.tables, [job_id])]


def _logged(desk: Desk) -> None:
    desk.sql(
        "INSERT INTO job_logs (job_id, queue, kind, gen, status) VALUES (gen_random_uuid(), 'mail', 'attempt', 1, 'x')"
    )


def _enter(connection: Any, t: Any, _: Any) -> bool:
    process = workers.Process(id="w-1", kind="worker", home="mail", host="h", pid=1)
    return workers.beat(connection, t, process, None)


def _registered(desk: Desk) -> None:
    with desk.store.postgres.begin() as connection:
        _enter(connection, desk.store.tables, None)
    desk.sql("UPDATE queuemon.workers SET heartbeat_at = now() - interval '1 day'")


_REGISTERED = "SELECT count(*) FROM queuemon.workers"

UPKEEP = (
    Race(
        name="a lease taken away while its worker beats",
        covers=("upkeep._expire_leases", "leases.taken_log"),
        plant=_silent,
        hold="UPDATE jobs SET heartbeat_at = now()",
        run=lambda c, t, _: upkeep.expire_leases(c, t, lease_seconds=30),
        gives=upkeep.Taken(waiting=0, failed=0, outbox_id=None),
        stands=("SELECT status FROM jobs", "active"),
        waits=False,
    ),
    Race(
        name="a job expired that is taken",
        covers=("upkeep._expire_jobs",),
        plant=_overdue,
        hold="UPDATE jobs SET status = 'active', started_at = now(), heartbeat_at = now()",
        run=lambda c, t, _: upkeep.expire_jobs(c, t),
        gives=0,
        stands=("SELECT status FROM jobs", "active"),
        waits=False,
    ),
    Race(
        name="outbox rows that another session publishes",
        covers=("outbox._take",),
        plant=_promised,
        hold=outbox.take,
        run=lambda c, t, rows: (outbox.lock_due(c, t, rows=9, jobs=9), outbox.take(c, t, rows)),
        gives=([], []),
        stands=("SELECT count(*) FROM queuemon.publications", 0),
        waits=False,
    ),
    Race(
        name="counters folded while another session folds",
        covers=("rollups.fold_counts",),
        plant=lambda desk: desk.add("failed", 3),
        hold=lambda c, t, _: rollups.fold_counts(c, t),
        run=lambda c, t, _: rollups.fold_counts(c, t),
        gives=0,
        stands=("SELECT sum(n) FROM queuemon.job_counts WHERE status = 'failed'", 3),
        waits=False,
    ),
    Race(
        name="attempts folded while another session folds",
        covers=("rollups.fold_attempts",),
        plant=_logged,
        hold=lambda c, t, _: rollups.fold_attempts(c, t),
        run=lambda c, t, _: rollups.fold_attempts(c, t),
        gives=0,
        stands=("SELECT sum(n) FROM queuemon.minutes WHERE kind = 'attempt-x'", 1),
        waits=False,
    ),
    Race(
        name="a first time that another session has first",
        covers=("upkeep.first_time",),
        plant=lambda desk: "seen",
        hold=upkeep.first_time,
        run=upkeep.first_time,
        gives=False,
        stands=("SELECT count(*) FROM queuemon.rollup_state WHERE name = 'seen'", 1),
    ),
    Race(
        name="a beat of a process that is being forgotten",
        covers=("workers._beat",),
        plant=_registered,
        hold=lambda c, t, _: workers.forget(c, t, older_than_seconds=60),
        run=_enter,
        gives=False,
        stands=(_REGISTERED, 1),
    ),
    Race(
        name="a process forgotten that beats again",
        covers=("workers.forget",),
        plant=_registered,
        hold=_enter,
        run=lambda c, t, _: workers.forget(c, t, older_than_seconds=60),
        gives=0,
        stands=(_REGISTERED, 1),
    ),
    Race(
        name="a process that leaves while its last beat is written",
        covers=("workers.leave",),
        plant=_registered,
        hold=_enter,
        run=lambda c, t, _: workers.leave(c, t, "w-1"),
        gives=None,
        stands=(_REGISTERED, 0),
    ),
)

# ------------------------------------------------------------------------------------------------------------ demo


def _marked(desk: Desk) -> None:
    with desk.store.postgres.begin() as connection:
        demo.mark(connection)


DEMO = (
    Race(
        name="the demo's state written by two",
        covers=("demo.set_state",),
        plant=_marked,
        hold=lambda c, t, _: demo.set_state(c, "phase", 1),
        run=lambda c, t, _: demo.set_state(c, "phase", 2),
        gives=None,
        stands=("SELECT value FROM queuemon.demo_state WHERE key = 'phase'", 2),
    ),
    Race(
        name="a demo queue added that somebody adds",
        covers=("demo.add_queues",),
        plant=lambda desk: None,
        hold=lambda c, t, _: demo.add_queues(c, t, [{"name": "new", "concurrency": 7}]),
        run=lambda c, t, _: demo.add_queues(c, t, [{"name": "new", "concurrency": 2}]),
        gives=None,
        stands=("SELECT concurrency FROM job_queues WHERE name = 'new'", 7),
    ),
)

RACES = (*JANITOR, *UPKEEP, *DEMO)
