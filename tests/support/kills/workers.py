"""Workers of the three levels, as a lane forks them: L0 and L1 are somebody else's few lines, L2 is ours.

Each writes a start down before it works. A job's work always succeeds, so no job has a reason to start twice.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import redis

from queuemon.config import Settings
from queuemon.engine.handlers import JobInHand
from queuemon.engine.worker import Worker
from queuemon.store import Store

LEVELS = ("L0", "L1", "L2")
QUEUES = ("mail", "reports", "bulk")
#: An element that ends a worker of another make, once it has done all before it.
STOP = b"stop"
#: Seconds that a job takes.
WORK = 0.001


class Starts:
    """The lane's book of starts: one line per start, written before the work. A write survives kill -9 at once."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, job_id: str, gen: int, queue: str) -> None:
        """A job starts."""
        line = {"id": job_id, "gen": gen, "queue": queue, "at": time.time()}
        os.write(self._file, (json.dumps(line) + "\n").encode())


def work(level: str, store: Store, settings: Settings, starts: Starts) -> None:
    """Work as a worker of this level until killed."""
    logging.disable(logging.CRITICAL)
    if level == "L2":

        def handle(job: JobInHand) -> None:
            starts.write(str(job.id), job.gen, job.queue)
            time.sleep(WORK)

        Worker(store, home=QUEUES[0], handlers=handle).run(threading.Event())
        return
    pg = psycopg.connect(settings.database_url.get_secret_value(), autocommit=True)
    pops = redis.Redis.from_url(settings.redis_url.get_secret_value(), socket_timeout=30)
    _Foreign(pg, pops, starts).run(claims=level == "L1")


_TAKE = """
UPDATE jobs SET status = 'active', attempts = attempts + 1, started_at = now(), heartbeat_at = now(),
    worker_id = 'foreign', updated_at = now()
WHERE id = %(id)s
"""

#: Contract §6, L1.
_CLAIM = (
    _TAKE
    + """ AND gen = %(gen)s AND status = 'waiting' AND run_at <= now() AND expires_at > now()
    AND NOT (SELECT paused FROM job_queues AS q WHERE q.name = jobs.queue)
"""
)

_NOTE = """
INSERT INTO job_logs (job_id, queue, kind, gen, status, finished_at)
SELECT id, queue, 'started', gen, status, now() FROM jobs WHERE id = %(id)s
"""

_DONE = "UPDATE jobs SET status = 'completed', finished_at = now(), updated_at = now() WHERE id = %(id)s"


class _Foreign:
    """A worker of another make: pops the element itself."""

    def __init__(self, pg: psycopg.Connection[Any], pops: redis.Redis, starts: Starts) -> None:
        self.pg, self.pops, self.starts = pg, pops, starts

    def run(self, *, claims: bool) -> None:
        """One element after the other; `claims` tells L1 from L0."""
        while True:
            found: Any = self.pops.blpop([f"queue:{name}" for name in QUEUES], timeout=20)
            if found is None:
                continue
            key, raw = found
            if raw == STOP:
                return
            element = json.loads(raw)
            names = {"id": UUID(element["id"]), "gen": element["gen"]}
            if not claims:
                self.pg.execute(_TAKE, names)
            elif not self._claimed(names):
                self._refused(key, raw, names)
                continue
            self.starts.write(element["id"], element["gen"], element["queue"])
            time.sleep(WORK)
            fence = " AND gen = %(gen)s AND status = 'active'" if claims else ""
            self.pg.execute(_DONE + fence, names)
            self.pops.delete(f"job:{element['id']}")

    def _claimed(self, names: dict[str, Any]) -> bool:
        """Claim and make a note of it, in one transaction: whoever wants the row meanwhile waits for its end."""
        with self.pg.transaction():
            claimed = self.pg.execute(_CLAIM, names).rowcount == 1
            if claimed:
                self.pg.execute(_NOTE, names)
        return claimed

    def _refused(self, key: bytes, raw: bytes, names: dict[str, Any]) -> None:
        """Back to the pop end where the job still waits (its queue is, or was, paused); else its generation is over."""
        waits = self.pg.execute(
            "SELECT 1 FROM jobs WHERE id = %(id)s AND gen = %(gen)s AND status = 'waiting' AND run_at <= now()"
            " AND expires_at > now()",
            names,
        ).fetchone()
        if waits is not None:
            self.pops.lpush(key, raw)
            time.sleep(0.01)
