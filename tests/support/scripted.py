"""A scripted incident of twenty minutes in its stores, with every clock, and what is true of it.

Minute by minute: a queue served well, a deploy by which half of its jobs fail (those of one region), a pause, the fix,
a retry of what failed. Beside it a queue in which one attempt fails, as on every day.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

MINUTE: Final = timedelta(minutes=1)

#: Jobs a minute of the queue that is hit, and of the one beside it.
RATE, BESIDE = 30, 10

#: Minutes of the script: the deploy, the pause from and to, the fix, the retry, the end of the window.
BROKEN, PAUSED, RESUMED, FIXED, RETRIED, MINUTES = 40, 50, 55, 60, 62, 80


@dataclass(frozen=True, kw_only=True)
class Script:
    """What happened, as the script knows it."""

    since: datetime
    arrived: int
    failed: set[UUID]
    expired: int
    #: Waiting when the pause ended.
    deepest: int

    def at(self, minute: float) -> datetime:
        """A moment of the script."""
        return self.since + minute * MINUTE

    @property
    def until(self) -> datetime:
        """The end of the window."""
        return self.at(MINUTES)


def play(sql: Callable[..., Any], now: datetime, *, error: str = "template helper is missing") -> Script:
    """Write it all down as if it had ended some minutes before `now`."""
    since = now.replace(second=0, microsecond=0) - (MINUTES + 5) * MINUTE
    at = lambda minute: since + minute * MINUTE  # noqa: E731
    jobs: list[dict[str, Any]] = []
    logs: list[dict[str, Any]] = []
    failed: set[UUID] = set()

    def attempt(job: UUID, queue: str, gen: int, due: datetime, start: datetime, *, fails: bool) -> None:
        logs.append({
            "job_id": job, "queue": queue, "gen": gen, "kind": "attempt", "status": "failed" if fails else "completed",
            "due_at": due, "started_at": start, "finished_at": start + timedelta(seconds=1),
            "error_type": "TemplateError" if fails else None, "error_message": error if fails else None,
        })  # fmt: skip

    for minute in range(MINUTES):
        for n in range(RATE):
            job, created = uuid4(), at(minute) + n * timedelta(seconds=1)
            region = "eu" if n % 2 else "us"
            waits = PAUSED <= minute < RESUMED
            start = at(RESUMED) + timedelta(seconds=n) if waits else created + timedelta(seconds=1)
            fails = BROKEN <= minute < FIXED and region == "eu"
            attempt(job, "mail", 1, created, start, fails=fails)
            if fails:
                failed.add(job)
                attempt(job, "mail", 2, at(RETRIED), at(RETRIED) + timedelta(seconds=1 + n), fails=False)
            jobs.append({
                "id": job, "queue": "mail", "payload": json.dumps({"region": region, "n": n}), "at": created,
                "status": "completed", "done": at(RETRIED) if fails else start, "gen": 2 if fails else 1,
            })  # fmt: skip
        for n in range(BESIDE):
            job, created = uuid4(), at(minute) + n * timedelta(seconds=3)
            attempt(job, "reports", 1, created, created + timedelta(seconds=1), fails=(minute, n) == (13, 3))
            state = "failed" if (minute, n) == (13, 3) else "completed"
            jobs.append({"id": job, "queue": "reports", "payload": "{}", "at": created, "status": state,
                         "done": created + timedelta(seconds=2), "gen": 1})  # fmt: skip
    for _ in range(4):
        job, created = uuid4(), at(PAUSED + 1)
        ended = at(PAUSED + 2) + timedelta(seconds=5)
        jobs.append({"id": job, "queue": "mail", "payload": "{}", "at": created, "status": "expired", "done": ended,
                     "gen": 1})  # fmt: skip
        logs.append({
            "job_id": job, "queue": "mail", "gen": 1, "kind": "expire", "status": "expired", "due_at": created,
            "started_at": None, "finished_at": ended, "error_type": None, "error_message": None,
        })  # fmt: skip
    sql(
        "INSERT INTO jobs (id, queue, payload, status, attempts, max_attempts, gen, created_at, started_at,"
        " finished_at, expires_at)"
        " SELECT j.id, j.queue, j.payload, j.status, 1, 3, j.gen, j.at, j.done, j.done, j.at + interval '1 day'"
        " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS j(id uuid, queue text, payload jsonb, status text, gen int,"
        " at timestamptz, done timestamptz)",
        rows=json.dumps([{**j, "payload": json.loads(j["payload"])} for j in jobs], default=str),
    )
    logs.sort(key=lambda row: row["finished_at"])
    sql(
        "INSERT INTO job_logs (job_id, queue, gen, kind, status, due_at, started_at, finished_at, error_type,"
        " error_message) SELECT job_id, queue, gen, kind, status, due_at, started_at, finished_at, error_type,"
        " error_message FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS l(job_id uuid, queue text, gen int, kind text,"
        " status text, due_at timestamptz, started_at timestamptz, finished_at timestamptz, error_type text,"
        " error_message text)",
        rows=json.dumps(logs, default=str),
    )
    for minute, name in ((BROKEN - 1, "mailer 9.1"), (FIXED, "mailer 9.2")):
        sql("INSERT INTO queuemon.deploy_marks (at, name, actor, note) VALUES (:at, :name, 'ci', 'released')",
            at=at(minute), name=name)  # fmt: skip
    for minute, kind, target, why, done in (
        (PAUSED, "pause", "mail", "stop the bleeding", 1),
        (RESUMED, "resume", "mail", "let it go on", 1),
        (RETRIED, "retry", "queue:mail status:failed", "fixed by 9.2", len(failed)),
    ):
        sql(
            "INSERT INTO queuemon.actions (id, kind, target, options, cutoff, planned, done, skipped, gone, state,"
            " reason, actor, summary, before, started_at, updated_at, finished_at)"
            " VALUES (gen_random_uuid(), :kind, :target,"
            " '{}', :at, :done, :done, '{}', 0, 'done', :why, 'ops/maria', '', '{}', :at, :at, :at)",
            kind=kind, target=target, why=why, done=done, at=at(minute),
        )  # fmt: skip
    return Script(since=since, arrived=MINUTES * RATE + 4, failed=failed, expired=4, deepest=(RESUMED - PAUSED) * RATE)
