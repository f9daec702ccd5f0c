"""Folding: deltas of the counters into job_counts and minutes, finished attempts into minutes and totals. The relay
calls it.

Readers add what is not folded yet, so their numbers are exact whether or not anybody folds.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from queuemon.schema.tables import Tables
from queuemon.store.totals import BOUNDS

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
), total AS (
    INSERT INTO queuemon.totals AS kept (queue, measure, bucket, n, seconds)
    SELECT queue, 'created', 0, sum(n), 0 FROM gone WHERE arrived IS NOT NULL GROUP BY queue HAVING sum(n) > 0
    ON CONFLICT (queue, measure, bucket) DO UPDATE SET n = kept.n + excluded.n
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
), fresh AS MATERIALIZED (
    SELECT kind, queue, status, job_id, finished_at, duration_ms / 1000.0 AS duration,
        extract(epoch FROM started_at - due_at)::float8 AS waited
    FROM job_logs, horizon
    WHERE kind IN ('attempt', 'expire') AND txid >= horizon.old AND txid < horizon.new
), timed AS (
    INSERT INTO queuemon.minutes AS kept (queue, kind, minute, n)
    SELECT queue, 'attempt-' || status, date_trunc('minute', finished_at), count(*) FROM fresh WHERE kind = 'attempt'
    GROUP BY 1, 2, 3
    ON CONFLICT (queue, kind, minute) DO UPDATE SET n = kept.n + excluded.n
), measured AS (
    SELECT queue, status AS measure, duration AS seconds FROM fresh WHERE kind = 'attempt'
    UNION ALL
    SELECT queue, 'waited', greatest(waited, 0) FROM fresh WHERE kind = 'attempt' AND waited IS NOT NULL
    UNION ALL
    SELECT queue, 'expired', 0 FROM fresh WHERE kind = 'expire'
    UNION ALL
    SELECT f.queue, 'in-target', extract(epoch FROM f.finished_at - j.created_at)
    FROM fresh AS f JOIN jobs AS j ON j.id = f.job_id JOIN job_queues AS q ON q.name = f.queue
    WHERE f.kind = 'attempt' AND f.status = 'completed'
        AND f.finished_at - j.created_at <= make_interval(secs => q.target_seconds)
), total AS (
    INSERT INTO queuemon.totals AS kept (queue, measure, bucket, n, seconds)
    SELECT queue, measure, (SELECT count(*) FROM unnest(CAST(:bounds AS float8[])) AS bound WHERE bound < seconds),
        count(*), sum(seconds)
    FROM (SELECT queue, measure, coalesce(seconds, 0)::float8 AS seconds FROM measured) AS m GROUP BY 1, 2, 3
    ON CONFLICT (queue, measure, bucket) DO UPDATE
        SET n = kept.n + excluded.n, seconds = kept.seconds + excluded.seconds
)
SELECT count(*) FROM fresh WHERE kind = 'attempt'
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
    return int(connection.execute(_FOLD_ATTEMPTS, {"bounds": list(BOUNDS)}).scalar_one())
