"""Races about rows of `jobs` and `job_queues`: workers, operators' actions, undo, repairs, pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from queuemon.contract import Priority
from queuemon.model import ActionKind
from queuemon.store import changes, claims, drift_repairs, numbers, undo, workers
from queuemon.store.chunks import LEGAL, Chunk, Order, chunks_of
from tests.support.actions import Desk
from tests.support.races.race import Race, Step

_TAKEN = (
    "UPDATE jobs SET status = 'active', attempts = 1, worker_id = 'w-2', started_at = now(), heartbeat_at = now(),"
    " finished_at = NULL, updated_at = now()"
)
#: What another operator's retry and a worker's claim leave behind.
_RETRIED_AND_TAKEN = _TAKEN + ", gen = gen + 1"
_LEASE_LOST = (
    "UPDATE jobs SET status = 'waiting', gen = gen + 1, worker_id = NULL, heartbeat_at = NULL, updated_at = now()"
)
_BEAT = "UPDATE jobs SET heartbeat_at = now()"
_JOB = "SELECT concat_ws(' ', status, gen, worker_id) FROM jobs"
_QUEUE = "SELECT concat_ws(' ', paused, pause_epoch) FROM job_queues WHERE name = 'mail'"


def _job(state: str) -> Callable[[Desk], UUID]:
    return lambda desk: desk.add(state)[0]


def _silent(desk: Desk) -> UUID:
    (job_id,) = desk.add("active")
    desk.sql("UPDATE jobs SET started_at = now() - interval '1 hour', heartbeat_at = now() - interval '1 hour'")
    return job_id


def _chunk(job_id: UUID) -> Chunk:
    return chunks_of([job_id], after=None, chunk_rows=1)[0]


# --------------------------------------------------------------------------------------------------------- workers


def _lease(job_id: UUID) -> claims.Lease:
    return claims.Lease(job_id=job_id, gen=4, worker_id="w-1")


_FAILURE = claims.Failure(error_type="E", message="m", stack_trace="s")
_PROCESS = workers.Process(id="w-1", kind="worker", home="mail", host="h", pid=1)


def _late(name: str, run: Step, *, gives: Any, covers: tuple[str, ...]) -> Race:
    """A worker's write about a job whose lease is just being taken away."""
    return Race(
        name=f"{name} after the lease was taken away",
        covers=covers,
        plant=_job("active"),
        hold=_LEASE_LOST,
        run=run,
        gives=gives,
        stands=("SELECT concat_ws(' ', status, gen, (SELECT count(*) FROM job_logs)) FROM jobs", "waiting 5 0"),
    )


_FENCED = claims.Outcome(status=None)

WORKERS = (
    Race(
        name="a claim of a job that another worker takes",
        covers=("claims._claim",),
        plant=_job("waiting"),
        hold=lambda c, t, job: claims.claim(c, t, job_id=job, gen=4, worker_id="w-2"),
        run=lambda c, t, job: isinstance(claims.claim(c, t, job_id=job, gen=4, worker_id="w-1"), claims.Claimed),
        gives=False,
        stands=(_JOB, "active 4 w-2"),
    ),
    _late(
        "a completion",
        lambda c, t, job: claims.complete(c, t, _lease(job)),
        gives=_FENCED,
        covers=("claims._complete", "claims._log"),
    ),
    _late(
        "a failure",
        lambda c, t, job: claims.fail(c, t, _lease(job), _FAILURE, backoff_seconds=1),
        gives=_FENCED,
        covers=("claims._fail", "claims._promised"),
    ),
    _late(
        "a job handed back",
        lambda c, t, job: claims.hand_back(c, t, _lease(job)),
        gives=_FENCED,
        covers=("claims._hand_back",),
    ),
    _late(
        "a beat",
        lambda c, t, job: workers.beat(c, t, _PROCESS, _lease(job)),
        gives=False,
        covers=("workers._beat",),
    ),
)

# --------------------------------------------------------------------------------------------------------- actions


def _change(kind: ActionKind) -> Step:
    def run(connection: Any, t: Any, job_id: UUID) -> int:
        order = Order(kind=kind, cutoff=numbers.clock(connection), to="reports", payload='{"a": 1}')
        return changes.change_chunk(
            connection, t, order, _chunk(job_id), action_id=uuid4(), also=None, keep_days=7, logged=True
        ).done

    return run


_STATE = {ActionKind.RUN_NOW: "scheduled", ActionKind.PURGE: "waiting", ActionKind.MOVE: "waiting"}
_STUCK = (ActionKind.RESCUE, ActionKind.DELETE_STUCK)
_JOB_KINDS = tuple(kind for kind in ActionKind if kind in LEGAL)

ACTIONS = tuple(
    Race(
        name=f"{kind.value} of a job whose worker beats again"
        if kind in _STUCK
        else f"{kind.value} of a job that is taken",
        covers=("changes.change_chunk", "changes.chunk_row", "changes.event_rows", "changes._undo_rows"),
        plant=_silent if kind in _STUCK else _job(_STATE.get(kind, "failed")),
        hold=_BEAT if kind in _STUCK else _RETRIED_AND_TAKEN,
        run=_change(kind),
        gives=0,
        stands=(
            "SELECT concat_ws(' ', status, gen, worker_id, queue, (SELECT count(*) FROM queuemon.undo_jobs),"
            " (SELECT count(*) FROM queuemon.publications)) FROM jobs",
            "active 4 w-1 mail 0 0" if kind in _STUCK else "active 5 w-2 mail 0 0",
        ),
    )
    for kind in _JOB_KINDS
)

# ------------------------------------------------------------------------------------------------------------ undo


def _done(kind: str, state: str, **options: Any) -> Callable[[Desk], tuple[UUID, UUID]]:
    def plant(desk: Desk) -> tuple[UUID, UUID]:
        (job_id,) = desk.add(state)
        result = desk.act(kind, job_id, **options)
        assert result.done == 1, result.summary
        return job_id, result.id

    return plant


def _take_back(kind: ActionKind, to: str = "") -> Step:
    def run(connection: Any, t: Any, planted: tuple[UUID, UUID]) -> int:
        undone = undo.Undone(id=planted[1], kind=kind, to=to)
        return undo.take_back(connection, t, undone, _chunk(planted[0]), action_id=uuid4(), logged=True).done

    return run


UNDO = (
    *(
        Race(
            name=f"the undo of a {kind.value} whose job is taken",
            covers=("undo.take_back", "undo._updated"),
            plant=_done(kind.value, state, **options),
            hold=_TAKEN,
            run=_take_back(kind, options.get("to", "")),
            gives=0,
            stands=(_JOB, "active 5 w-2"),
        )
        for kind, state, options in (
            (ActionKind.RETRY, "failed", {}),
            (ActionKind.EDIT, "failed", {"payload": '{"a": 1}'}),
            (ActionKind.MOVE, "waiting", {"to": "reports"}),
        )
    ),
    Race(
        name="the undo of a delete whose id comes to exist",
        covers=("undo.take_back", "undo._inserted", "undo._not_arrived"),
        plant=_done("delete", "failed"),
        hold=lambda c, t, planted: drift_repairs.adopt(c, t, job_id=planted[0], queue="mail", payload="{}", above=8),
        run=_take_back(ActionKind.DELETE),
        gives=0,
        stands=(_JOB, "waiting 9"),
    ),
)

# ----------------------------------------------------------------------------------------------------------- repair


def _too_many(desk: Desk) -> UUID:
    (job_id,) = desk.add("waiting")
    desk.sql("UPDATE jobs SET attempts = max_attempts + 4")
    return job_id


def _miscounted(desk: Desk) -> None:
    desk.add("failed")
    desk.sql("INSERT INTO queuemon.job_deltas (queue, becomes, n) VALUES ('mail', 'failed', 5)")


def _adopt(above: int) -> Step:
    return lambda c, t, job: drift_repairs.adopt(c, t, job_id=job, queue="mail", payload="{}", above=above)


REPAIRS = (
    Race(
        name="a new generation for a job that is taken",
        covers=("drift_repairs.renew",),
        plant=_job("waiting"),
        hold=_TAKEN,
        run=lambda c, t, job: drift_repairs.renew(c, t, [(job, 4, 0)]),
        gives=[],
        stands=(_JOB, "active 4 w-2"),
    ),
    Race(
        name="attempts put right of a job that moves on",
        covers=("drift_repairs.straighten",),
        plant=_too_many,
        hold="UPDATE jobs SET gen = gen + 1",
        run=lambda c, t, job: drift_repairs.straighten(c, t, [(job, 4)]),
        gives={},
        stands=("SELECT attempts - max_attempts FROM jobs", 4),
    ),
    Race(
        name="a counter put right that another repair puts right",
        covers=("drift_repairs.recount",),
        plant=_miscounted,
        hold=lambda c, t, _: drift_repairs.recount(c, t, "mail", "failed"),
        run=lambda c, t, _: drift_repairs.recount(c, t, "mail", "failed"),
        gives=None,
        stands=("SELECT sum(n) FROM queuemon.job_deltas WHERE becomes = 'failed'", 1),
    ),
    Race(
        name="a pause epoch raised that rises already",
        covers=("drift_repairs.raise_epoch",),
        plant=lambda desk: None,
        hold="UPDATE job_queues SET pause_epoch = 9 WHERE name = 'mail'",
        run=lambda c, t, _: drift_repairs.raise_epoch(c, t, "mail", above=5),
        gives=False,
        stands=(_QUEUE, "f 9"),
    ),
    Race(
        name="an element adopted that another one adopts",
        covers=("drift_repairs.adopt",),
        plant=lambda desk: uuid4(),
        hold=_adopt(6),
        run=_adopt(2),
        gives=False,
        stands=(_JOB, "waiting 7"),
    ),
)

# ----------------------------------------------------------------------------------------------------------- queues


def _pause(connection: Any, t: Any, holder: str) -> Any:
    return changes.add_holder(connection, t, "mail", holder=holder, reason="", until=None, action_id=uuid4())


def _paused(desk: Desk) -> UUID:
    with desk.store.postgres.begin() as connection:
        _pause(connection, desk.store.tables, "me")
    return desk.add("waiting")[0]


def _epoch(flag: changes.PauseFlag | None) -> tuple[bool, int] | None:
    return flag and (flag.paused, flag.epoch)


_GONE = "DELETE FROM job_queues WHERE name = 'mail'"
_QUEUES_LEFT = ("SELECT count(*) FROM job_queues WHERE name = 'mail'", 0)

QUEUES = (
    Race(
        name="a pause of a queue that is let go",
        covers=("changes.add_holder",),
        plant=_paused,
        hold=lambda c, t, _: changes.drop_holders(c, t, "mail", holder=None),
        run=lambda c, t, _: _epoch(_pause(c, t, "me")),
        gives=(True, 3),
        stands=(_QUEUE, "t 3"),
    ),
    Race(
        name="a holder let go while another one pauses",
        covers=("changes.drop_holders",),
        plant=_paused,
        hold=lambda c, t, _: _pause(c, t, "you"),
        run=lambda c, t, _: _epoch(changes.drop_holders(c, t, "mail", holder="me")),
        gives=(True, 3),
        stands=(_QUEUE, "t 3"),
    ),
    Race(
        name="time given back to a job that is taken",
        covers=("changes.extend_deadlines",),
        plant=_paused,
        hold=_TAKEN,
        run=lambda c, t, job: changes.extend_deadlines(c, t, "mail", _chunk(job)),
        gives=0,
        stands=(_JOB, "active 4 w-2"),
    ),
    Race(
        name="a priority of a queue that is removed",
        covers=("changes.set_priority",),
        plant=lambda desk: None,
        hold=_GONE,
        run=lambda c, t, _: changes.set_priority(c, t, "mail", Priority.HIGH),
        gives=False,
        stands=_QUEUES_LEFT,
    ),
    Race(
        name="a number of workers for a queue that is removed",
        covers=("changes.set_concurrency",),
        plant=lambda desk: None,
        hold=_GONE,
        run=lambda c, t, _: changes.set_concurrency(c, t, "mail", 4),
        gives=False,
        stands=_QUEUES_LEFT,
    ),
)

RACES = (*WORKERS, *ACTIONS, *UNDO, *REPAIRS, *QUEUES)
