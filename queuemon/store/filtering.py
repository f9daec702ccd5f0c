"""Turns a JobFilter into a condition on `jobs`: values are bound, names are whitelisted, status words are literals."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Interval,
    Numeric,
    String,
    and_,
    case,
    cast,
    exists,
    extract,
    false,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.sql.elements import ColumnElement

from queuemon.contract import LEASE_SECONDS, JobStatus
from queuemon.filters import JobFilter
from queuemon.filters.fields import FIELDS, Field, Kind, Op, State
from queuemon.filters.tree import (
    And,
    At,
    Clock,
    Constant,
    Moment,
    Node,
    Not,
    Now,
    Number,
    Or,
    Search,
    Span,
    Term,
    Text,
    Value,
    covered,
    states,
)
from queuemon.filters.values import id_range
from queuemon.schema.tables import TIMESTAMPTZ, Tables

Condition = ColumnElement[bool]

#: JSON's spelling of a number inside a string, short enough for any cast; fixed, so no pattern of a user ever runs.
_NUMERIC_STRING: Final = r"^-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,100})?$"


def conditions(
    where: JobFilter, t: Tables, *, now: datetime | None = None, lease_seconds: float = LEASE_SECONDS
) -> Condition:
    """The filter as a condition on `t.jobs`. What is missing does not match, and `not` inverts that: no NULL logic.

    `now` fixes what relative times mean (a bulk action's cutoff); without it they follow the transaction's now().
    A job is stuck when it is active without a heartbeat for `lease_seconds`.
    """
    return _Compiler(t, now, lease_seconds).node(where.root)


class _Compiler:
    """One filter for one statement."""

    def __init__(self, t: Tables, now: datetime | None, lease_seconds: float) -> None:
        self.t = t
        self.c = t.jobs.c
        self.fixed = now
        self.now: ColumnElement[Any] = func.now() if now is None else literal(now, TIMESTAMPTZ)
        self.lease = timedelta(seconds=lease_seconds)

    def node(self, node: Node) -> Condition:
        named = states(node)
        if named is not None:
            return self._states(named)
        match node:
            case And(parts=parts):
                return and_(true(), *(self.node(p) for p in parts)) if parts else true()
            case Or(parts=parts):
                return or_(*(self.node(p) for p in parts))
            case Not(inner=inner):
                return _not(self.node(inner))
            case Search(text=text):
                return self._search(text)
            case Term():
                return self._term(node)

    def _term(self, term: Term) -> Condition:
        if term.op is Op.NE:
            return _not(self._term(Term(term.field, Op.EQ, term.values, term.path)))
        field = FIELDS[term.field]
        match field.kind:
            case Kind.PAYLOAD:
                return _payload(self.c.payload, term)
            case Kind.LENGTH:
                return _length(_inside(self.c.payload, term.path), term)
            case Kind.MOMENT:
                return self._moment(field, term)
            case Kind.SPAN:
                return self._span(field, term)
            case Kind.SIGNATURE:
                logs = self.t.job_logs
                found = select(1).where(logs.c.job_id == self.c.id, logs.c.signature.in_(_texts(term)))
                return exists(found.correlate(self.t.jobs))
            case Kind.ID if term.op is Op.LIKE:
                return self._id_prefix(_texts(term)[0])
            case _:
                return self._plain(field, term)

    def _plain(self, field: Field, term: Term) -> Condition:
        """A column against texts or whole numbers."""
        column: ColumnElement[Any] = self.c[field.columns[0]]
        if field.name == "hour":
            column = extract("hour", func.timezone("UTC", column))
        if term.op in {Op.LIKE, Op.CONTAINS}:
            return column.ilike(_pattern(_texts(term)[0], wild=term.op is Op.LIKE))
        values = [_plain_value(field, v) for v in term.values]
        if term.op in {Op.EQ, Op.IN}:
            present = [v for v in values if v is not None]
            either = [column == present[0]] if len(present) == 1 else [column.in_(present)] if present else []
            return or_(*either, *([column.is_(None)] if None in values else []))
        return _ordered(column, term.op, values[0])

    def _search(self, text: str) -> Condition:
        """Part of the error message, or the beginning of the id; a whole id finds that job by its key alone."""
        span = id_range(text)
        if span is not None and span[0] == span[1]:
            return self.c.id == span[0]
        found = self.c.error_message.ilike(_pattern(text, wild=False))
        return found if span is None else or_(found, self.c.id.between(*span))

    def _id_prefix(self, prefix: str) -> Condition:
        span = id_range(prefix)
        return false() if span is None else self.c.id.between(*span)

    # -- states

    def _states(self, named: frozenset[State]) -> Condition:
        """Arms joined by OR, so that each can use the partial index of its state."""
        arms = [self.t.status_is(s) for s in JobStatus if s.terminal and State(s.value) in named]
        for status, due, other, when in (
            (JobStatus.WAITING, State.DUE, State.SCHEDULED, self.c.run_at <= self.now),
            (JobStatus.ACTIVE, State.STUCK, State.RUNNING, self._beat() < self.now - literal(self.lease, Interval())),
        ):
            if {due, other} <= named:
                arms.append(self.t.status_is(status))
            elif due in named:
                arms.append(and_(self.t.status_is(status), when))
            elif other in named:
                arms.append(and_(self.t.status_is(status), ~when))
        return or_(false(), *arms) if arms else false()

    def _beat(self) -> ColumnElement[Any]:
        """The last sign of life of an active job."""
        return func.coalesce(self.c.heartbeat_at, self.c.started_at, self.c.updated_at)

    # -- times

    def _moment(self, field: Field, term: Term) -> Condition:
        """A time column against a point or, for `2026-11-24`, a stretch: `=` is inside it, `<` before, `>` after."""
        column, value = self.c[field.columns[0]], term.values[0]
        if not isinstance(value, At | Clock | Now):
            return column.is_(None)
        start, end = self._stretch(value)
        point = end is None
        match term.op:
            case Op.LT:
                return column < start
            case Op.GE:
                return column >= start
            case Op.LE:
                return column <= start if point else column < end
            case Op.GT:
                return column > start if point else column >= end
            case _:
                return column == start if point else and_(column >= start, column < end)

    def _stretch(self, moment: Moment) -> tuple[ColumnElement[Any], ColumnElement[Any] | None]:
        """Start and end of a moment in SQL; no end for an exact one."""
        if self.fixed is not None or isinstance(moment, At):
            start, width = covered(moment, self.fixed or datetime.now(UTC))
            return literal(start, TIMESTAMPTZ), literal(start + width, TIMESTAMPTZ) if width else None
        if isinstance(moment, Now):
            return self.now + literal(timedelta(milliseconds=moment.shift_milliseconds), Interval()), None
        midnight = func.date_trunc("day", self.now, "UTC")
        until = moment.since_midnight + moment.precision.value
        return midnight + literal(moment.since_midnight, Interval()), midnight + literal(until, Interval())

    def _span(self, field: Field, term: Term) -> Condition:
        value = term.values[0]
        delta = literal(value.delta if isinstance(value, Span) else timedelta(), Interval())
        later, earlier = field.columns
        if later == "now":  # age < 2h is created > now - 2h, which an index can use
            return _ordered(self.now - delta, term.op, self.c[earlier])
        return _ordered(self.c[later] - self.c[earlier], term.op, delta)


def _not(condition: Condition) -> Condition:
    """Two-valued: what is unknown counts as not matching, so its negation matches."""
    return condition.is_not(true())


def _ordered(left: ColumnElement[Any], op: Op, right: Any) -> Condition:
    made: Condition
    match op:
        case Op.LT:
            made = left < right
        case Op.LE:
            made = left <= right
        case Op.GT:
            made = left > right
        case _:
            made = left >= right
    return made


def _texts(term: Term) -> list[str]:
    return [v.text for v in term.values if isinstance(v, Text)]


def _plain_value(field: Field, value: Value) -> str | int | UUID | None:
    match value:
        case Constant():
            return None
        case Number(text=text):
            return int(text)
        case Text(text=text):
            return UUID(text) if field.kind is Kind.ID else text
        case _:
            raise TypeError(f"{field.name} takes no {type(value).__name__}")  # the parser never makes one


def _pattern(text: str, *, wild: bool) -> str:
    r"""A pattern for ILIKE. With `wild`, `%` stands for anything and the whole text must match; `\%` is a percent sign.

    Without an unescaped `%` the text is looked for anywhere. `_` is no wildcard: names are full of it.
    """
    made: list[str] = []
    anchored = False
    at = 0
    while at < len(text):
        char = text[at]
        if wild and char == "\\" and text[at + 1 : at + 2] in {"%", "\\"}:
            made.append("\\" + text[at + 1])
            at += 1
        elif wild and char == "%":
            made.append("%")
            anchored = True
        else:
            made.append("\\" + char if char in "\\%_" else char)
        at += 1
    return "".join(made) if anchored else f"%{''.join(made)}%"


# ------------------------------------------------------------------------------------------------------------ payload


def _payload(payload: ColumnElement[Any], term: Term) -> Condition:
    match term.op:
        case Op.EQ | Op.IN:
            return or_(*(_equal(payload, term.path, j) for v in term.values for j in _spellings(v)))
        case Op.LIKE:
            return _as_text(_inside(payload, term.path)).ilike(_pattern(_texts(term)[0], wild=True))
        case Op.HAS:
            return _has(payload, term)
        case _:
            return _compared(_inside(payload, term.path), term.op, term.values[0])


def _spellings(value: Value) -> list[str]:
    """The JSON values that are meant: 17 is also "17", true is also "true"; what was quoted is a string alone."""
    match value:
        case Number(text=text) | Constant(text=text):
            return [text, json.dumps(text)]
        case Text(text=text):
            return [json.dumps(text)]
        case _:
            raise TypeError(f"payload takes no {type(value).__name__}")  # the parser never makes one


def _equal(payload: ColumnElement[Any], path: tuple[str | int, ...], spelled: str) -> Condition:
    """Equality with a JSON scalar; by containment, which a GIN index serves, unless the path goes through a list."""
    if any(isinstance(p, int) for p in path):
        return _inside(payload, path) == _json(spelled)
    return payload.contains(_json(_wrapped(path, spelled)))


def _wrapped(path: tuple[str | int, ...], spelled: str) -> str:
    """JSON text of the object that holds this at the path."""
    return "".join(f"{{{json.dumps(p)}: " for p in path) + spelled + "}" * len(path)


def _has(payload: ColumnElement[Any], term: Term) -> Condition:
    """A list with this member, or an object with this key."""
    value, inside = term.values[0], _inside(payload, term.path)
    members = or_(*(inside.contains(_json(f"[{j}]")) for j in _spellings(value)))
    key = value.text if isinstance(value, Text | Number | Constant) else ""
    has_key = inside.op("?", is_comparison=True, return_type=Boolean())(literal(key, String()))
    # On a list or a string `?` means something else, so it is asked of objects alone.
    return or_(members, and_(func.jsonb_typeof(inside) == "object", has_key))


def _length(inside: ColumnElement[Any], term: Term) -> Condition:
    """How many members a list has; anything else has no length, and does not match."""
    count = func.jsonb_array_length(inside)
    numbers = [int(v.text) for v in term.values if isinstance(v, Number)]
    wanted = count.in_(numbers) if term.op in {Op.EQ, Op.IN} else _ordered(count, term.op, numbers[0])
    return case((func.jsonb_typeof(inside) == "array", wanted), else_=false())


def _compared(inside: ColumnElement[Any], op: Op, value: Value) -> Condition:
    """Order: a number against numbers (also in strings); any other text against strings, by code point."""
    kind, text = func.jsonb_typeof(inside), _as_text(inside)
    if not isinstance(value, Number):
        bound = literal(value.text if isinstance(value, Text) else "", String())
        return and_(kind == "string", _ordered(text.collate("C"), op, bound))
    number = cast(literal(value.text, String()), Numeric())
    numeric = or_(kind == "number", text.op("~", return_type=Boolean())(_NUMERIC_STRING))
    # CASE decides before it casts: a row that holds something else never raises an error.
    return case((numeric, _ordered(cast(text, Numeric()), op, number)), else_=false())


def _inside(payload: ColumnElement[Any], path: tuple[str | int, ...]) -> ColumnElement[Any]:
    """The value at the path, NULL where there is none. A str is a key only; an int is an index, or a key spelled so."""
    for part in path:
        if isinstance(part, int):
            payload = payload.op("#>", return_type=JSONB())(cast([str(part)], ARRAY(String())))
        else:
            payload = payload.op("->", return_type=JSONB())(literal(part, String()))
    return payload


def _as_text(inside: ColumnElement[Any]) -> ColumnElement[Any]:
    """A string without its quotes; anything else as JSON text."""
    return inside.op("#>>", return_type=String())(cast([], ARRAY(String())))


def _json(text: str) -> ColumnElement[Any]:
    return cast(literal(text, String()), JSONB())
