"""Pause flags as Redis should have them, and pauses whose end has come; the relay follows both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, case, cast, func, null, or_, select

from queuemon.schema.tables import TIMESTAMPTZ, Tables


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseFlag:
    """A queue's pause flag as Redis should have it."""

    queue: str
    paused: bool
    epoch: int
    until: datetime | None
    #: Whether the list is parked as well.
    hard: bool = False


def pause_flags(connection: Connection, t: Tables) -> list[PauseFlag]:
    """Every queue's pause flag; `until` only where every holder lets go by itself."""
    q, p = t.job_queues, t.queue_pauses
    held = (
        select(
            p.c.queue,
            func.bool_or(p.c.until.is_(None)).label("endless"),
            func.max(p.c.until).label("until"),
            func.bool_or(p.c.hard).label("hard"),
        )
        .group_by(p.c.queue)
        .subquery("held")
    )
    until = case((held.c.endless, cast(null(), TIMESTAMPTZ)), else_=held.c.until)
    rows = connection.execute(
        select(q.c.name, q.c.paused, q.c.pause_epoch, until, and_(q.c.paused, held.c.hard.is_(True))).select_from(
            q.outerjoin(held, held.c.queue == q.c.name)
        )
    )
    return [PauseFlag(queue=row[0], paused=row[1], epoch=row[2], until=row[3], hard=row[4]) for row in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class DuePause:
    """A pause whose end has come."""

    queue: str
    holder: str
    #: Whether no other holder keeps the queue paused.
    last: bool


def due_pauses(connection: Connection, t: Tables) -> list[DuePause]:
    """Pauses past their `until`."""
    p = t.queue_pauses
    others = p.alias("others")
    stays = (
        select(others.c.holder)
        .where(others.c.queue == p.c.queue, or_(others.c.until.is_(None), others.c.until > func.now()))
        .exists()
    )
    rows = connection.execute(select(p.c.queue, p.c.holder, ~stays).where(p.c.until <= func.now()))
    return [DuePause(queue=row[0], holder=row[1], last=row[2]) for row in rows]
