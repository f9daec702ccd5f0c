"""Jobs as the page takes them: a page of the list, and one job with its history; inspector and confirmation use it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from queuemon.contract import DELETABLE, LEASE_SECONDS, RETRYABLE, JobStatus, Keys
from queuemon.model import Attempt, Job, JobDetail, JobPage
from queuemon.render.payload import tree
from queuemon.render.text import TRACE, clean, duration

#: States in which a job can go to another queue.
MOVABLE: Final = RETRYABLE | {JobStatus.WAITING}

#: Jobs on one page.
PAGE: Final = 50


def page_values(found: JobPage, number: int, lease_seconds: float = LEASE_SECONDS) -> dict[str, Any]:
    """A page as the job list takes it."""
    return {
        "rows": [job_row(job, found.clock, lease_seconds) for job in found.jobs],
        "after": found.after,
        "number": number,
        "first": (number - 1) * PAGE + 1,
        "filter": clean(found.filter, 2_000),
        "loading": False,
        "error": "",
        "position": None,
        "away": False,
        "changed": False,
    }


def job_row(job: Job, clock: datetime, lease_seconds: float) -> dict[str, Any]:
    """One line of the job list."""
    row: dict[str, Any] = {
        "id": str(job.id),
        "state": state_of(job, clock, lease_seconds),
        "attempts": f"{job.attempts}/{job.max_attempts}",
        "created": job.created_at.timestamp(),
        "took": took(job),
        "error": job_row_error(job),
        "preview": clean(job.preview, 240),
    }
    if job.error_type:
        row["type"] = clean(job.error_type, 120)
    if job.status is JobStatus.ACTIVE:
        row |= {"worker": clean(job.worker_id or "", 120), "beat": beat(job)}
    return row


def state_of(job: Job, clock: datetime, lease_seconds: float) -> str:
    """The word for a job's state: also "scheduled", and "stuck" where its worker has fallen silent."""
    silent = clock - timedelta(seconds=lease_seconds)
    last = job.heartbeat_at or job.started_at
    if job.status is JobStatus.ACTIVE and (last is None or last < silent):
        return "stuck"
    return job.state_at(clock)


def beat(job: Job) -> float | None:
    """When the worker of an active job last beat."""
    last = job.heartbeat_at or job.started_at
    return last.timestamp() if last else None


def job_row_error(job: Job) -> str:
    """Type and message of a job's last error in one line; empty where there is none."""
    return clean(": ".join(part for part in (job.error_type, job.error_message) if part), 240)


def took(job: Job) -> str:
    """How long the last attempt ran; empty where it did not end."""
    if job.started_at is None or job.finished_at is None or job.finished_at < job.started_at:
        return ""
    return duration((job.finished_at - job.started_at).total_seconds())


def job_values(found: JobDetail, keys: Keys, lease_seconds: float = LEASE_SECONDS) -> dict[str, Any]:
    """A job as its dialog takes it."""
    job, state = found.job, state_of(found.job, found.clock, lease_seconds)
    stuck = state == "stuck"
    times = {
        "Created": job.created_at,
        "Runs at": job.run_at if job.status is JobStatus.WAITING and job.run_at > found.clock else None,
        "Started": job.started_at,
        "Last heartbeat": job.heartbeat_at if job.status is JobStatus.ACTIVE else None,
        "Finished": job.finished_at,
        "Expires": job.expires_at if not job.status.terminal else None,
    }
    return {
        "id": str(job.id),
        "queue": job.queue,
        "title": clean(keys.display(job.queue), 200),
        "state": state,
        "attempts": f"{job.attempts} of {job.max_attempts}",
        "gen": job.gen,
        "worker": clean(job.worker_id or "", 120),
        "silent": beat(job) if stuck else None,
        "took": took(job),
        "times": [[name, at.timestamp()] for name, at in times.items() if at is not None],
        "clock": found.clock.timestamp(),
        "error": clean(": ".join(p for p in (job.error_type, job.error_message) if p), 2_000, lines=True),
        "place": place_text(found),
        "history": [attempt_values(a) for a in found.attempts],
        "noHistory": found.no_history,
        "tree": [[r.depth, r.key, r.kind, r.text, r.open] for r in tree(job.payload, found.masking)],
        "masked": len(found.masking.paths(job.payload)),
        "revealed": not found.masking.on,
        "can": {
            "retry": job.status in RETRYABLE,
            "delete": job.status in DELETABLE,
            "move": job.status in MOVABLE,
            "rescue": stuck,
            "runNow": job.status is JobStatus.WAITING and job.run_at > found.clock,
        },
        "loading": False,
    }


def attempt_values(a: Attempt) -> dict[str, Any]:
    """One entry of a job's history."""
    return {
        "name": f"Attempt {a.attempt}" if a.kind == "attempt" else clean(a.kind.replace("-", " ").capitalize(), 60),
        "kind": "attempt" if a.kind == "attempt" else "event",
        "status": clean(a.status, 60),
        "at": a.at.timestamp(),
        "gen": a.gen,
        "worker": clean(a.worker_id or "", 120),
        "took": duration(a.duration_ms / 1000) if a.duration_ms is not None else "",
        "type": clean(a.error_type or "", 200),
        "message": clean(a.error_message or "", 4_000, lines=True),
        "trace": clean(a.stack_trace or "", TRACE, lines=True),
    }


def place_text(found: JobDetail) -> str:
    """Where the job is in Redis, in words."""
    place = found.redis
    words = {
        "parked": f"parked by a hard pause, number {(place.position or 0) + 1:,} of that list",
        "list": f"in the list, number {place.position + 1:,} from the front"
        if place.position is not None
        else "in the list",
        "in hand": f"in the hand of worker {place.worker_id}",
        "quarantine": "in quarantine",
        "nowhere": "not in Redis",
    }.get(place.where, "not known")
    if place.marker_gen is not None:
        words += f"; marker of generation {place.marker_gen}"
    return clean(f"{words} ({place.note})" if place.note else words, 400)
