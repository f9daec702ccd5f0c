"""Races about the audit trail, and what erasing removes of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from queuemon import actions
from queuemon.model import Plan
from queuemon.store import audit, canaries, erasing, trail, undo
from queuemon.store.chunks import chunks_of
from tests.support.actions import Desk
from tests.support.races.race import Race, Step

# ----------------------------------------------------------------------------------------------------- audit trail


def _plan(desk: Desk) -> Plan:
    return actions.plan(desk.store, "retry", desk.add("failed", 2))


def _entered(desk: Desk) -> UUID:
    plan = _plan(desk)
    with desk.store.postgres.begin() as connection:
        audit.begin(connection, desk.store.tables, plan, reason="", os_user="me")
    return plan.id


def stopped(desk: Desk) -> UUID:
    """An action that was stopped long ago."""
    action_id = _entered(desk)
    desk.sql("UPDATE queuemon.actions SET state = 'stopped', finished_at = now() - interval '90 days'")
    return action_id


def _begin(reason: str) -> Step:
    return lambda c, t, plan: audit.begin(c, t, plan, reason=reason, os_user="me").record.reason


def _advance(done: int) -> Step:
    def run(connection: Any, t: Any, action_id: UUID) -> int:
        entry = audit.held(connection, t, action_id)
        return audit.advance(connection, t, entry, cursor=uuid4(), done=done).record.done

    return run


def _finish(state: str) -> Step:
    def run(connection: Any, t: Any, action_id: UUID) -> str:
        entry = audit.one(connection, t, action_id)  # not held: what a late finish may know
        assert entry is not None
        known = audit.Entry(
            record=entry, ids=None, cutoff=entry.started_at, cursor=None, skipped={}, gone=0
        )  # fmt: skip
        ended = audit.finish(
            connection, t, known, state=state, summary=state, skipped={}, os_user="me", detail={}
        )  # fmt: skip
        return ended.record.state

    return run


def _canary(desk: Desk) -> tuple[UUID, UUID]:
    return _entered(desk), _entered(desk)


def _step_ends(connection: Any, t: Any, planted: tuple[UUID, UUID]) -> object:
    _advance(0)(connection, t, planted[0])
    return _advance(5)(connection, t, planted[1])


def _add_up(connection: Any, t: Any, planted: tuple[UUID, UUID]) -> int:
    audit.held(connection, t, planted[0])
    canaries.add_up(connection, t, planted[0], [planted[1]], cursor=uuid4())
    return audit.held(connection, t, planted[0]).record.done


TRAIL = (
    Race(
        name="an action entered that another process enters",
        covers=("audit.begin",),
        plant=_plan,
        hold=_begin("first"),
        run=_begin("second"),
        gives="first",
        stands=("SELECT string_agg(event, ' ' ORDER BY id) FROM queuemon.action_events", "started resumed"),
    ),
    Race(
        name="an action moved on that another process moves on",
        covers=("audit.advance",),
        plant=_entered,
        hold=_advance(3),
        run=_advance(2),
        gives=5,
        stands=("SELECT done FROM queuemon.actions", 5),
    ),
    Race(
        name="an action ended that another process ends",
        covers=("audit.finish",),
        plant=_entered,
        hold=_finish("stopped"),
        run=_finish("done"),
        gives="stopped",
        stands=("SELECT count(*) FROM queuemon.action_events WHERE event = 'finished'", 1),
    ),
    Race(
        name="a canary's sums while its step moves on",
        covers=("canaries.add_up",),
        plant=_canary,
        hold=_step_ends,
        run=_add_up,
        gives=5,
        stands=("SELECT sum(done) FROM queuemon.actions", 10),
    ),
    Race(
        name="a canary that waits while another process ends it",
        covers=("canaries.still_waits",),
        plant=_entered,
        hold=_finish("stopped"),
        run=canaries.still_waits,
        gives=False,
        stands=("SELECT state FROM queuemon.actions", "stopped"),
    ),
    Race(
        name="a stopped action opened that another process opens",
        covers=("trail.reopen",),
        plant=stopped,
        hold=trail.reopen,
        run=trail.reopen,
        gives=False,
        stands=("SELECT state FROM queuemon.actions", "running"),
    ),
    Race(
        name="what an action replaces kept while it moves on",
        covers=("undo.remember",),
        plant=_entered,
        hold=_advance(3),
        run=lambda c, t, action_id: undo.remember(c, t, action_id, {"priority": 2}),
        gives=None,
        stands=("SELECT concat_ws(' ', done, before) FROM queuemon.actions", '3 {"priority": 2}'),
    ),
)

# --------------------------------------------------------------------------------------------------------- erasing


def _deleted(desk: Desk) -> UUID:
    (job_id,) = desk.add("failed")
    assert desk.act("edit", job_id, payload='{"secret": 1}').done == 1
    assert desk.act("delete", job_id).done == 1
    return job_id


def _forget(connection: Any, t: Any, job_id: UUID) -> tuple[UUID, ...]:
    (chunk,) = chunks_of([job_id], after=None, chunk_rows=1)
    return erasing.forget(connection, t, chunk, missed=[job_id], action_id=uuid4())


ERASING = (
    Race(
        name="copies erased that somebody removes",
        covers=("erasing.forget",),
        plant=_deleted,
        hold="DELETE FROM queuemon.undo_jobs",
        run=_forget,
        gives=(),
        stands=("SELECT count(*) FROM queuemon.undo_jobs", 0),
    ),
    Race(
        name="words erased that somebody writes",
        covers=("erasing.forget",),
        plant=_deleted,
        hold="UPDATE job_logs SET error_message = 'secret'",
        run=lambda c, t, job_id: _forget(c, t, job_id) == (job_id,),
        gives=True,
        stands=("SELECT count(*) FROM job_logs WHERE error_message IS NOT NULL", 0),
    ),
    Race(
        name="a payload erased of an action that changes",
        covers=("erasing.forget",),
        plant=_deleted,
        hold="UPDATE queuemon.actions SET reason = 'other' WHERE kind = 'edit'",
        run=lambda c, t, job_id: _forget(c, t, job_id) == (job_id,),
        gives=True,
        stands=("SELECT concat_ws(' ', options, reason) FROM queuemon.actions WHERE kind = 'edit'", "{} other"),
    ),
)

RACES = (*TRAIL, *ERASING)
