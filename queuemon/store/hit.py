"""The jobs that failed within a window, and how they stand now; the incident report counts them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, func, select

from queuemon.contract import JobStatus
from queuemon.schema.tables import Tables
from queuemon.store.signing import failed

#: A reading may take this long.
SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Hit:
    """The jobs of a queue with a failed attempt in the window."""

    jobs: int
    #: How many of them stand so now; those that are missing in the sum were deleted.
    now: Mapping[JobStatus, int]


def jobs_hit(connection: Connection, t: Tables, *, since: datetime, until: datetime) -> dict[str, Hit]:
    """By queue in which they failed, each job once."""
    logs, j = t.job_logs, t.jobs
    inside = (failed(t), logs.c.finished_at >= since, logs.c.finished_at < until)
    each = select(logs.c.queue, logs.c.job_id).where(*inside).distinct().subquery("each")
    rows = connection.execute(
        select(each.c.queue, j.c.status, func.count())
        .select_from(each.outerjoin(j, j.c.id == each.c.job_id))
        .group_by(each.c.queue, j.c.status)
    )
    jobs: dict[str, int] = {}
    now: dict[str, dict[JobStatus, int]] = {}
    for queue, word, n in rows:
        jobs[queue] = jobs.get(queue, 0) + n
        if word is not None:
            states = now.setdefault(queue, {})
            states[t.status_of(word)] = states.get(t.status_of(word), 0) + n
    return {queue: Hit(jobs=n, now=now.get(queue, {})) for queue, n in jobs.items()}
