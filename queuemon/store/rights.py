"""What the database role in use may do; the workbench is read-only by itself when it may not act."""

from __future__ import annotations

from sqlalchemy import Connection, text

from queuemon.schema.tables import Tables


def refusal(connection: Connection, t: Tables) -> str | None:
    """Why this role cannot act (it lacks UPDATE on jobs, or the server is a replica); None when it can."""
    recovering, role, may = connection.execute(
        text(
            "SELECT pg_is_in_recovery(), current_user,"
            " has_table_privilege(to_regclass(:jobs), 'UPDATE')"
            " AND has_table_privilege(to_regclass(:actions), 'INSERT')"
        ),
        {"jobs": t.jobs.fullname, "actions": t.actions.fullname},
    ).one()
    if recovering:
        return "this PostgreSQL server is a read-only replica"
    if may is False:
        return f"the database role {role!r} has the rights of a reader"
    return None
