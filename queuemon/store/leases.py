"""Leases that ran out: how a silent job is known and what becomes of it; the relay and an operator's rescue use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, Uuid, case, cast, func, insert, literal, null, select
from sqlalchemy.sql.elements import ColumnElement

from queuemon.contract import JobStatus
from queuemon.schema.tables import TIMESTAMPTZ, Tables

#: What a job whose worker fell silent carries as its error.
LEASE_LOST = "LeaseLost"

_MESSAGE = "the worker stopped beating and the lease of the job ran out"


def beat(t: Tables) -> ColumnElement[Any]:
    """The last sign of life of an active job."""
    j = t.jobs
    return func.coalesce(j.c.heartbeat_at, j.c.started_at, j.c.updated_at)


def silent(t: Tables, lease_seconds: ColumnElement[Any] | float) -> ColumnElement[bool]:
    """No sign of life within the lease, by PostgreSQL's clock; asked of active jobs."""
    return beat(t) < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, lease_seconds)


def taken_values(t: Tables) -> dict[str, Any]:
    """What a job becomes whose lease ran out: it waits under a new generation, or fails where its attempts are used up.

    The attempt stays counted, so a job that kills its workers ends as failed.
    """
    j = t.jobs
    again = j.c.attempts < j.c.max_attempts
    return {
        "status": case((again, t.status_word(JobStatus.WAITING)), else_=t.status_word(JobStatus.FAILED)),
        "gen": case((again, j.c.gen + 1), else_=j.c.gen),
        "run_at": case((again, func.now()), else_=j.c.run_at),
        "finished_at": case((again, cast(null(), TIMESTAMPTZ)), else_=func.now()),
        "worker_id": None,
        "heartbeat_at": None,
        "updated_at": func.now(),
        "error_type": LEASE_LOST,
        "error_message": _MESSAGE,
    }


def taken_columns(t: Tables, was: CTE) -> Sequence[ColumnElement[Any]]:
    """What the change returns for `taken_log`; `was` holds generation, worker and due time as they were."""
    j = t.jobs
    return (
        j.c.id, j.c.queue, j.c.status, was.c.gen.label("lost_gen"), j.c.attempts, j.c.started_at, was.c.worker_id,
        was.c.run_at.label("due_at"),
    )  # fmt: skip


def taken_log(t: Tables, taken: CTE, *, action_id: UUID | None = None) -> CTE:
    """A log row "lease-lost" for each job that was taken away, by the relay or by an action."""
    logs = t.job_logs
    names = (
        "job_id", "queue", "kind", "gen", "attempt", "status", "worker_id", "started_at", "finished_at", "error_type",
        "error_message", "action_id", "due_at",
    )  # fmt: skip
    waits = taken.c.status == t.status_word(JobStatus.WAITING)
    # The contract's words: logs never hold the application's own.
    word = case((waits, JobStatus.WAITING.value), else_=JobStatus.FAILED.value)
    rows = select(
        taken.c.id, taken.c.queue, literal("lease-lost"), taken.c.lost_gen, taken.c.attempts, word, taken.c.worker_id,
        taken.c.started_at, func.now(), literal(LEASE_LOST), literal(_MESSAGE), literal(action_id, Uuid),
        taken.c.due_at,
    )  # fmt: skip
    return insert(logs).from_select([logs.c[n] for n in names], rows).returning(logs.c.id).cte("logged")
