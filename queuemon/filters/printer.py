"""Writes a parsed filter as canonical text: parsing it again gives the same tree, and it holds nothing unprintable."""

from __future__ import annotations

import re
from datetime import datetime

from queuemon.contract import Keys
from queuemon.filters.fields import ALIASES, FIELDS, STATUSES, WORDLIKE, Kind, Op
from queuemon.filters.parser import KEYWORDS
from queuemon.filters.tree import (
    And,
    At,
    Clock,
    Constant,
    Node,
    Not,
    Now,
    Number,
    Or,
    Precision,
    Search,
    Span,
    Term,
    Text,
    Value,
)
from queuemon.filters.values import CONSTANTS, NUMBER, UNITS

_PLAIN = re.compile(r"[A-Za-z0-9_./@%+-][A-Za-z0-9_./@%+:-]*")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_INDEX_LIKE = re.compile(r"0|[1-9][0-9]{0,8}")
_PLAIN_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}
_QUEUE_PREFIX = Keys().queue_key("")


def printed(node: Node) -> str:
    """Canonical text of a tree."""
    match node:
        case Term():
            return _term(node)
        case Search(text=text):
            return text if _plain_search(text) else quote(text)
        case Not(inner=inner):
            return f"not {_inside(inner, And, Or)}"
        case And(parts=parts):
            return " ".join(_inside(part, Or) for part in parts)
        case Or(parts=parts):
            return " or ".join(printed(part) for part in parts)


def quote(text: str, mark: str = "'") -> str:
    """A text as a quoted value of the language, whatever it holds (except NUL and lone surrogates, which it cannot)."""
    made = []
    for char in text:
        if char in _ESCAPES:
            made.append(_ESCAPES[char])
        elif char == mark:
            made.append("\\" + char)
        elif char.isprintable():
            made.append(char)
        else:
            made.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return mark + "".join(made) + mark


def path_text(path: tuple[str | int, ...]) -> str:
    """The field `payload.…` for a path; an int is an index, a str a key."""
    return "payload" + "".join("." + (str(p) if isinstance(p, int) else _key(p)) for p in path)


def span_text(milliseconds: int) -> str:
    """A duration in the language's spelling, such as 1h30m."""
    made, rest = [], milliseconds
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, UNITS[unit])
        if count:
            made.append(f"{count}{unit}")
    return "".join(made) or "0s"


def _inside(node: Node, *grouped: type[And | Or]) -> str:
    return f"({printed(node)})" if isinstance(node, grouped) else printed(node)


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) and not _INDEX_LIKE.fullmatch(key) else quote(key, '"')


def _term(term: Term) -> str:
    name = path_text(term.path) if term.path else term.field
    if FIELDS[term.field].kind is Kind.LENGTH:
        name = f"{path_text(term.path)} length"
    if term.op is Op.IN:
        return f"{name} in ({', '.join(_value(term, v) for v in term.values)})"
    if term.op is Op.HAS:
        return f"{name} has {_value(term, term.values[0])}"
    natural = term.op is Op.EQ and FIELDS[term.field].kind in WORDLIKE
    return f"{name}{':' if natural else term.op.value}{_value(term, term.values[0])}"


def _value(term: Term, value: Value) -> str:
    match value:
        case Number(text=text) | Constant(text=text):
            return text
        case Span(milliseconds=milliseconds):
            return span_text(milliseconds)
        case At(start=start, precision=precision):
            return _at(start, precision)
        case Clock(since_midnight=since, precision=precision):
            minutes, seconds = divmod(int(since.total_seconds()), 60)
            text = f"{minutes // 60:02}:{minutes % 60:02}"
            return text if precision is Precision.MINUTE else f"{text}:{seconds:02}"
        case Now(shift_milliseconds=shift):
            return "now" if not shift else f"now{'+' if shift > 0 else '-'}{span_text(abs(shift))}"
        case Text(text=text):
            return _text(term, text)


def _text(term: Term, text: str) -> str:
    field = FIELDS[term.field]
    if field.kind is Kind.QUEUE and term.op is not Op.LIKE and text.startswith(_QUEUE_PREFIX):
        text = _QUEUE_PREFIX + text  # one prefix is taken off when it is read
    if not _PLAIN.fullmatch(text) or text.lower() in KEYWORDS:
        return quote(text)
    if field.nullable and text in CONSTANTS:
        return quote(text)
    return quote(text) if field.kind is Kind.PAYLOAD and NUMBER.fullmatch(text) else text


def _at(start: datetime, precision: Precision) -> str:
    text = start.strftime("%Y-%m-%dT%H:%M:%S.%f")
    return text[: {Precision.DAY: 10, Precision.MINUTE: 16, Precision.SECOND: 19, Precision.EXACT: 26}[precision]]


def _plain_search(text: str) -> bool:
    word = text.lower()
    taken = word in KEYWORDS or word in FIELDS or word in ALIASES or word in STATUSES
    return bool(_PLAIN_WORD.fullmatch(text)) and not taken
