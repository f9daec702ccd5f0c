"""The failed attempts whose signature is missing or old, and the statement that writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Connection,
    String,
    and_,
    bindparam,
    case,
    column,
    func,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from queuemon.schema.tables import Tables


@dataclass(frozen=True, kw_only=True, slots=True)
class Unsigned:
    """A failed attempt to be signed; its texts are cut as `analysis.frames.shortened` cuts them."""

    id: int
    error_type: str | None
    message: str | None
    stack_trace: str | None


def failed(t: Tables) -> ColumnElement[bool]:
    """The condition of a failed attempt, as literals, so that the planner finds the partial indexes."""
    c = t.job_logs.c
    return and_(c.kind == literal_column("'attempt'"), c.status == literal_column("'failed'"))


def version_of(t: Tables) -> ColumnElement[Any]:
    """The version of an attempt's signature, 0 without one; the expression of the index."""
    return func.coalesce(t.job_logs.c.signature_version, literal_column("0"))


def texts(t: Tables, parts: tuple[int, int]) -> tuple[ColumnElement[Any], ...]:
    """Type, message and trace, of which the first and last `parts` characters are read, as Python would cut them."""
    c = t.job_logs.c
    return c.error_type, _shortened(c.error_message, parts[0]), _shortened(c.stack_trace, parts[1])


def _shortened(text: ColumnElement[Any], part: int) -> ColumnElement[Any]:
    cut = func.left(text, part).concat("\n").concat(func.right(text, part))
    return case((func.length(text) > 2 * part + 1, cut), else_=text)


def unsigned(connection: Connection, t: Tables, *, version: int, limit: int, parts: tuple[int, int]) -> list[Unsigned]:
    """Attempts signed by an older version than this, then those never signed; each the newest first."""
    logs = t.job_logs
    statement = (
        select(logs.c.id, *texts(t, parts))
        .where(failed(t), version_of(t) < version)
        .order_by(version_of(t).desc(), logs.c.id.desc())
        .limit(limit)
    )
    return [
        Unsigned(id=row[0], error_type=row[1], message=row[2], stack_trace=row[3])
        for row in connection.execute(statement)
    ]


def write(connection: Connection, t: Tables, signed: Sequence[tuple[int, str]], *, version: int) -> int:
    """Store (id of the row, signature); a row that has a newer one meanwhile keeps it. Returns how many changed."""
    if not signed:
        return 0
    logs = t.job_logs
    given = (
        func.unnest(
            bindparam("ids", [row for row, _ in signed], ARRAY(BigInteger)),
            bindparam("signatures", [signature for _, signature in signed], ARRAY(String)),
        )
        .table_valued(column("id", BigInteger), column("signature", String), name="given")
        .render_derived()
    )
    statement = (
        update(logs)
        .where(logs.c.id == given.c.id, failed(t), version_of(t) < literal(version))
        .values({logs.c.signature: given.c.signature, logs.c.signature_version: literal(version)})
    )
    return connection.execute(statement).rowcount
