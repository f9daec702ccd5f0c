"""The janitor: purges old logs, undo copies, actions and roll-ups, one bounded batch per call. The relay calls it.

Each condition stands on the target row too: what changes meanwhile (a stopped action that is opened again) is kept.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select, text

from queuemon.schema.tables import Tables

#: Days that the per-minute roll-ups are kept at least: charts reach back 31 days.
MINUTES_DAYS = 35.0


def purge_logs(connection: Connection, t: Tables, *, days: float, limit: int = 10_000) -> int:
    """Remove log rows older than `days` among the `limit` oldest rows; those not folded yet are kept."""
    logs, state = t.job_logs, t.rollup_state
    folded = select(state.c.txid).where(state.c.name == "attempts").scalar_subquery()
    oldest = select(logs.c.id).order_by(logs.c.id).limit(limit).subquery()
    old = logs.c.finished_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, days * 86_400.0)
    statement = delete(logs).where(logs.c.id.in_(select(oldest.c.id)), old, logs.c.txid < folded)
    return connection.execute(statement).rowcount


_PURGE_UNDO = """
DELETE FROM queuemon.undo_jobs WHERE (action_id, job_id) IN (
    SELECT action_id, job_id FROM queuemon.undo_jobs WHERE kept_until < now() LIMIT :limit)
AND kept_until < now()
"""

_PURGE_ACTIONS = """
WITH old AS (
    DELETE FROM queuemon.actions AS a WHERE id IN (
        SELECT id FROM queuemon.actions
        WHERE finished_at < now() - make_interval(secs => :seconds) ORDER BY finished_at LIMIT 100)
    AND finished_at < now() - make_interval(secs => :seconds)
    AND NOT EXISTS (SELECT FROM queuemon.undo_jobs AS u WHERE u.action_id = a.id)
    AND NOT EXISTS (SELECT FROM queuemon.queue_pauses AS p WHERE p.action_id = a.id)
    RETURNING id
), chunks AS (
    DELETE FROM queuemon.action_chunks WHERE action_id IN (SELECT id FROM old)
), events AS (
    DELETE FROM queuemon.action_events WHERE action_id IN (SELECT id FROM old)
)
SELECT count(*) FROM old
"""

_PURGE_MINUTES = "DELETE FROM queuemon.minutes WHERE minute < now() - make_interval(secs => :seconds)"


def purge_undo(connection: Connection, *, limit: int = 10_000) -> int:
    """Remove copies of deleted and changed rows that were kept long enough."""
    return connection.execute(text(_PURGE_UNDO), {"limit": limit}).rowcount


def purge_actions(connection: Connection, *, days: float) -> int:
    """Remove finished actions older than `days` with their chunks and events, unless something still hangs on them."""
    return int(connection.execute(text(_PURGE_ACTIONS), {"seconds": days * 86_400.0}).scalar_one())


def purge_minutes(connection: Connection, *, days: float) -> int:
    """Remove roll-ups older than `days`, but at least 35 days."""
    return connection.execute(text(_PURGE_MINUTES), {"seconds": max(days, MINUTES_DAYS) * 86_400.0}).rowcount
