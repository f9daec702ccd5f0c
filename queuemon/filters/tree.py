"""The parsed form of a filter: frozen nodes and values, as the parser makes them and printer and compiler read them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TypeAlias

from queuemon.filters.fields import STATUSES, Op, State


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    text: str


@dataclass(frozen=True, slots=True)
class Number:
    """A number in JSON's spelling, which is kept: `17.0` also finds the string "17.0"."""

    text: str


@dataclass(frozen=True, slots=True)
class Constant:
    """`true`, `false` or `null`."""

    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A duration."""

    milliseconds: int

    @property
    def delta(self) -> timedelta:
        """As Python's value."""
        return timedelta(milliseconds=self.milliseconds)


class Precision(Enum):
    """How much time a spelled time covers: `2026-11-24` is a whole day."""

    DAY = timedelta(days=1)
    MINUTE = timedelta(minutes=1)
    SECOND = timedelta(seconds=1)
    EXACT = timedelta()


@dataclass(frozen=True, slots=True)
class At:
    """A fixed time, in UTC."""

    start: datetime
    precision: Precision


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of today (UTC); which day that is, is decided when the filter is used."""

    since_midnight: timedelta
    precision: Precision


@dataclass(frozen=True, slots=True)
class Now:
    """The moment the filter is used, shifted."""

    shift_milliseconds: int = 0


Moment: TypeAlias = At | Clock | Now
Value: TypeAlias = Text | Number | Constant | Span | Moment


@dataclass(frozen=True, slots=True)
class Term:
    """A field (of `payload` with its path), an operator, and a value, or several for `in`.

    In a path an int is an index of a list, or the key of an object that is spelled so; a str is always a key.
    """

    field: str
    op: Op
    values: tuple[Value, ...]
    path: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """A word without a field: part of the error message, or the beginning of the id."""

    text: str


@dataclass(frozen=True, slots=True)
class Not:
    """What the inner one does not match; missing values are no exception (two-valued logic)."""

    inner: Node


@dataclass(frozen=True, slots=True)
class And:
    """All of them; without any, everything."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them."""

    parts: tuple[Node, ...]


Node: TypeAlias = Term | Search | Not | And | Or


def both(*nodes: Node) -> Node:
    """Conjunction, flat and without repetition."""
    return _joined(And, nodes)


def either(*nodes: Node) -> Node:
    """Disjunction, flat and without repetition."""
    return _joined(Or, nodes)


def _joined(kind: type[And] | type[Or], nodes: tuple[Node, ...]) -> Node:
    flat: dict[Node, None] = {}
    for node in nodes:
        flat.update(dict.fromkeys(node.parts if isinstance(node, kind) else (node,)))
    return next(iter(flat)) if len(flat) == 1 else kind(tuple(flat))


def negated(node: Node) -> Node:
    """Negation; two of them cancel."""
    return node.inner if isinstance(node, Not) else Not(node)


def terms(node: Node) -> int:
    """Number of terms; each value of a list counts."""
    match node:
        case Term():
            return len(node.values)
        case Search():
            return 1
        case Not():
            return terms(node.inner)
        case And() | Or():
            return sum(terms(part) for part in node.parts)


def depth(node: Node) -> int:
    """Parentheses and `not`, one inside the other, in the printed text."""
    match node:
        case Term() | Search():
            return 0
        case Not():
            return 1 + depth(node.inner) + isinstance(node.inner, And | Or)
        case And():
            return max((depth(p) + isinstance(p, Or) for p in node.parts), default=0)
        case Or():
            return max(depth(p) for p in node.parts)


def fields(node: Node) -> frozenset[str]:
    """The fields that it asks for; a search asks for the error and the id."""
    match node:
        case Term(field=field):
            return frozenset({field})
        case Search():
            return frozenset({"error", "id"})
        case Not():
            return fields(node.inner)
        case And() | Or():
            return frozenset().union(*(fields(part) for part in node.parts))


def states(node: Node) -> frozenset[State] | None:
    """The parts of the states that a status term (or its negation) names exactly; None for any other node."""
    match node:
        case Term(field="status", op=op):
            named: frozenset[State] = frozenset().union(*(STATUSES[v.text] for v in node.values if isinstance(v, Text)))
            return frozenset(State) - named if op is Op.NE else named
        case Not():
            inner = states(node.inner)
            return None if inner is None else frozenset(State) - inner
        case _:
            return None


def possible_states(node: Node) -> frozenset[State]:
    """The parts of the states that can match at all."""
    exact = states(node)
    if exact is not None:
        return exact
    every = frozenset(State)
    match node:
        case And():
            return every.intersection(*(possible_states(p) for p in node.parts))
        case Or():
            return frozenset().union(*(possible_states(p) for p in node.parts))
        case _:
            return every


def possible_queues(node: Node) -> frozenset[str] | None:
    """The queues that can match at all; None when any can."""
    match node:
        case Term(field="queue", op=Op.EQ | Op.IN):
            return frozenset(v.text for v in node.values if isinstance(v, Text))
        case And():
            pinned = [q for q in map(possible_queues, node.parts) if q is not None]
            return frozenset.intersection(*pinned) if pinned else None
        case Or():
            each = [possible_queues(p) for p in node.parts]
            known = [q for q in each if q is not None]
            return frozenset().union(*known) if len(known) == len(each) else None
        case _:
            return None


def covered(moment: Moment, now: datetime) -> tuple[datetime, timedelta]:
    """The time a moment stands for, at a given now: its start, and how long it lasts (zero for an exact one)."""
    match moment:
        case At():
            return moment.start, moment.precision.value
        case Clock():
            midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            return midnight + moment.since_midnight, moment.precision.value
        case Now():
            return now + timedelta(milliseconds=moment.shift_milliseconds), timedelta()
