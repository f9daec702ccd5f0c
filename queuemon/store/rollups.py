"""Folding: deltas of the counters into job_counts and minutes, and finished attempts into minutes. The relay calls it.

Readers add what is not folded yet, so their numbers are exact whether or not anybody folds.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from queuemon.schema.tables import Tables

#: One folder at a time; a second one goes away instead of waiting.
_LOCK = 0x666F6C64

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:key)")

_FOLD_COUNTS = text("""
WITH gone AS (
    DELETE FROM queuemon.job_deltas RETURNING queue, was, becomes, n, arrived, finished
), counted AS (
    INSERT INTO queuemon.job_counts AS kept (queue, status, n)
    SELECT queue, status, sum(n) FROM (
        SELECT queue, becomes AS status, n FROM gone WHERE becomes IS NOT NULL
        UNION ALL
        SELECT queue, was, -n FROM gone WHERE was IS NOT NULL
    ) AS change
    GROUP BY queue, status HAVING sum(n) <> 0
    ON CONFLICT (queue, status) DO UPDATE SET n = kept.n + excluded.n
), timed AS (
    INSERT INTO queuemon.minutes AS kept (queue, kind, minute, n)
    SELECT queue, kind, date_trunc('minute', at), sum(n) FROM (
        SELECT queue, 'arrived' AS kind, arrived AS at, n FROM gone WHERE arrived IS NOT NULL
        UNION ALL
        SELECT queue, 'completed', finished, CASE WHEN becomes = 'completed' THEN n ELSE -n END
        FROM gone WHERE finished IS NOT NULL
    ) AS event
    GROUP BY 1, 2, 3 HAVING sum(n) <> 0
    ON CONFLICT (queue, kind, minute) DO UPDATE SET n = kept.n + excluded.n
)
SELECT count(*) FROM gone
""")

_FOLD_ATTEMPTS = text("""
WITH horizon AS (
    SELECT txid AS old, pg_snapshot_xmin(pg_current_snapshot()) AS new
    FROM queuemon.rollup_state WHERE name = 'attempts'
), moved AS (
    UPDATE queuemon.rollup_state SET txid = horizon.new, at = now() FROM horizon
    WHERE name = 'attempts' AND horizon.new > horizon.old
), fresh AS (
    SELECT queue, 'attempt-' || status AS kind, date_trunc('minute', finished_at) AS minute, count(*) AS n
    FROM job_logs, horizon
    WHERE kind = 'attempt' AND txid >= horizon.old AND txid < horizon.new GROUP BY 1, 2, 3
), timed AS (
    INSERT INTO queuemon.minutes AS kept (queue, kind, minute, n) SELECT queue, kind, minute, n FROM fresh
    ON CONFLICT (queue, kind, minute) DO UPDATE SET n = kept.n + excluded.n
)
SELECT coalesce(sum(n), 0) FROM fresh
""")


def fold_counts(connection: Connection, t: Tables) -> int:
    """Fold all deltas that have committed; returns how many, 0 when another folder is at work. One statement."""
    del t  # our own tables are never mapped
    if not connection.execute(_TRY_LOCK, {"key": _LOCK}).scalar_one():
        return 0
    return int(connection.execute(_FOLD_COUNTS).scalar_one())


def fold_attempts(connection: Connection, t: Tables) -> int:
    """Fold the attempts of all transactions below the xmin horizon (late commits are not missed); returns how many."""
    del t
    if not connection.execute(_TRY_LOCK, {"key": _LOCK + 1}).scalar_one():
        return 0
    return int(connection.execute(_FOLD_ATTEMPTS).scalar_one())
