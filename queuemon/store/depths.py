"""What a chunk did to the depths of queues, kept in its row: the timeline needs it when the jobs themselves have gone.

A job's waiting is counted from its row while it waits or runs, and from `job_logs` (`due_at` → `started_at`) once the
attempt has ended. An action that breaks this off (a due job is deleted or moved, a retry is taken back) leaves the rest
here, as [queue, minute of the epoch, came due, left, started] per queue and minute. So neither an erased job nor a
purged copy is missed. Whatever the chunk's order was, it holds: what happened to the depth, plus what the row as it was
would have counted, minus what the row as it is will count.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, cast, func, literal, select, union_all
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import FromClause

from queuemon.contract import JobStatus
from queuemon.schema.tables import Tables

Column = ColumnElement[Any]


def removed(t: Tables, was: FromClause, changed: FromClause) -> Column:
    """Of jobs that were deleted: `was` are the rows as they stood, `changed` those that went."""
    gone = was.join(changed, changed.c.id == was.c.id)
    due, running = _due(t, was.c.status, was.c.run_at), was.c.status.in_(t.statuses[JobStatus.ACTIVE])
    return _sums(
        _event(gone, due, was.c.queue, was.c.run_at, due=1),
        _event(gone, due, was.c.queue, func.now(), left=1),
        _event(gone, running, was.c.queue, was.c.run_at, due=1),
        _event(gone, running, was.c.queue, func.coalesce(was.c.started_at, was.c.run_at), started=1),
    )


def put_back(t: Tables, changed: FromClause) -> Column:
    """Of deleted jobs that were inserted again as they had stood: the opposite, but they come due now."""
    c = changed.c
    due, running = _due(t, c.status, c.run_at), c.status.in_(t.statuses[JobStatus.ACTIVE])
    return _sums(
        _event(changed, due, c.queue, c.run_at, due=-1),
        _event(changed, due, c.queue, func.now(), due=1),
        _event(changed, running, c.queue, c.run_at, due=-1),
        _event(changed, running, c.queue, func.coalesce(c.started_at, c.run_at), started=-1),
    )


def moved(t: Tables, changed: FromClause, *, origin: Column) -> Column:
    """Of jobs that now stand in another queue, whose column `origin` names the one they left."""
    c, due = changed.c, _due(t, changed.c.status, changed.c.run_at)
    return _sums(
        _event(changed, due, origin, c.run_at, due=1),
        _event(changed, due, origin, func.now(), left=1),
        _event(changed, due, c.queue, c.run_at, due=-1),
        _event(changed, due, c.queue, func.now(), due=1),
    )


def unretried(t: Tables, changed: FromClause, *, waited_since: Column) -> Column:
    """Of jobs that waited again and were taken back to the end they had reached."""
    came = waited_since <= func.now()
    return _sums(
        _event(changed, came, changed.c.queue, waited_since, due=1),
        _event(changed, came, changed.c.queue, func.now(), left=1),
    )


def _due(t: Tables, status: Column, run_at: Column) -> ColumnElement[bool]:
    return status.in_(t.statuses[JobStatus.WAITING]) & (run_at <= func.now())


def _event(
    rows: Any, where: ColumnElement[bool], queue: Column, at: Column, *, due: int = 0, left: int = 0, started: int = 0
) -> Any:
    minute = cast(func.floor(func.extract("epoch", at) / 60), BigInteger)
    return (
        select(
            queue.label("queue"), minute.label("minute"), literal(due).label("due"), literal(left).label("left"),
            literal(started).label("started"),
        )
        .select_from(rows)
        .where(where)
    )  # fmt: skip


def _sums(*events: Any) -> Column:
    """All events per queue and minute as one JSON array; NULL where there are none."""
    e = union_all(*events).subquery("event").c
    sums = [func.sum(column).label(column.name) for column in (e.due, e.left, e.started)]
    s = select(e.queue, e.minute, *sums).group_by(e.queue, e.minute).subquery("depth").c
    return select(func.jsonb_agg(func.jsonb_build_array(s.queue, s.minute, s.due, s.left, s.started))).scalar_subquery()
