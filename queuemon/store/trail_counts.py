"""How many actions stand in the audit trail, by kind and state; the exporter shows it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from queuemon.schema.tables import Tables


def actions_by_state(connection: Connection, t: Tables) -> Mapping[tuple[str, str], int]:
    """(kind, state) → how many; one row per action is read (the janitor keeps them for `log_days`)."""
    a = t.actions.c
    rows = connection.execute(select(a.kind, a.state, func.count()).group_by(a.kind, a.state))
    return {(kind, state): n for kind, state, n in rows}
