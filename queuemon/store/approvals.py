"""Approvals of plans: added by one role, found by another; runbooks ask for them before they act."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, insert, literal_column, select, text

from queuemon.schema.tables import Tables

#: An approval holds for so long: a plan that is approved is carried out, not kept.
HOURS: Final = 24


def approve(connection: Connection, t: Tables, fingerprint: str, *, os_user: str, note: str) -> str:
    """Approve a plan as the role that is logged in; returns the role. The server signs it, whatever is written here."""
    a = t.approvals
    row = connection.execute(insert(a).values(hash=fingerprint, os_user=os_user, note=note).returning(a.c.role))
    role: str = row.scalar_one()
    return role


def role(connection: Connection) -> str:
    """Who an approval would be signed by: the role that is logged in."""
    found: str = connection.execute(select(literal_column("session_user::text"))).scalar_one()
    return found


def approved_by(connection: Connection, t: Tables, fingerprint: str) -> str | None:
    """Which other role than this one has approved a plan within HOURS, the newest; None when none has."""
    a = t.approvals
    since = func.now() - text(f"interval '{HOURS} hours'")
    row = connection.execute(
        select(a.c.role)
        .where(a.c.hash == fingerprint, a.c.role != literal_column("session_user::text"), a.c.at > since)
        .order_by(a.c.at.desc())
        .limit(1)
    )
    found: str | None = row.scalar_one_or_none()
    return found
