"""Deploy marks: when which release went out, so that what began afterwards can be told from what was there before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, func, insert, select

from queuemon.errors import InvalidValue
from queuemon.schema.tables import Tables

#: Deploys that one reading brings at most; the newest are kept.
MARKS: Final = 500

#: Characters of a name, and of a note.
NAME_LENGTH, NOTE_LENGTH = 200, 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Deploy:
    """A release that went out."""

    name: str
    at: datetime
    #: PostgreSQL role.
    actor: str
    note: str


def mark(connection: Connection, t: Tables, name: str, *, at: datetime | None, note: str) -> Deploy:
    """Note a deploy, at a time or now (PostgreSQL's clock). Raises InvalidValue for a name that is none."""
    if not name.strip() or len(name) > NAME_LENGTH or "\0" in name + note or len(note) > NOTE_LENGTH:
        raise InvalidValue(
            f"{name[:60]!r} is no name of a deploy",
            expected=f"1 to {NAME_LENGTH} characters, and a note of at most {NOTE_LENGTH:,}",
        )
    d = t.deploy_marks
    made = connection.execute(
        insert(d)
        .values(name=name.strip(), at=at or func.clock_timestamp(), actor=func.session_user(), note=note)
        .returning(d.c.name, d.c.at, d.c.actor, d.c.note)
    ).one()
    return Deploy(name=made[0], at=made[1], actor=made[2], note=made[3])


def marks(
    connection: Connection, t: Tables, *, since: datetime | None = None, until: datetime | None = None,
    limit: int = MARKS,
) -> tuple[Deploy, ...]:  # fmt: skip
    """Deploys of a time, the newest first."""
    d = t.deploy_marks.c
    statement = select(d.name, d.at, d.actor, d.note).order_by(d.at.desc(), d.id.desc()).limit(limit)
    if since is not None:
        statement = statement.where(d.at >= since)
    if until is not None:
        statement = statement.where(d.at <= until)
    return tuple(Deploy(name=r[0], at=r[1], actor=r[2], note=r[3]) for r in connection.execute(statement))
