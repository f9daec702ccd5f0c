"""Suggestions for a filter box: pure text in, text out; the dashboard's search box uses it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from queuemon.filters.fields import FIELDS, ROOT_OPERATORS, STATUSES, WORDLIKE, Field, Kind, operator_texts
from queuemon.filters.printer import quote

#: Suggestions given at most.
LIMIT: Final = 20

_MOMENTS = ("now-15m", "now-1h", "now-1d", "00:00")
_SPANS = ("1m", "15m", "1h", "1d")

_IN_LIST = re.compile(r"(?:^|[\s(])([A-Za-z_]+)\s+in\s*\((?:[^()]*,)?\s*(['\"]?)([^()'\",]*)$", re.IGNORECASE)
_AFTER_OPERATOR = re.compile(r"(?:^|[\s(])([A-Za-z_]+)(:|\s*(?:!=|<=|>=|=|<|>))(['\"]?)([^\s()'\",]*)$")
_WORD = re.compile(r"[A-Za-z_][\w.-]*$|$")


def suggest(
    text: str,
    cursor: int | None = None,
    *,
    queues: Sequence[str] = (),
    values: Mapping[str, Sequence[str]] | None = None,
    payload_keys: Sequence[str] = (),
) -> list[str]:
    """Whole texts for the box, best first, at most 20: the word at the cursor completed, the rest as it was.

    `values` holds known values by field (`worker`, `error_type`, …), `payload_keys` top-level keys. After choosing one,
    the cursor belongs where the text behind it begins: `len(chosen) - len(text[cursor:])`.
    """
    position = len(text) if cursor is None else max(0, min(cursor, len(text)))
    head, tail = text[:position], text[position:]
    known = {"queue": queues, "status": tuple(STATUSES), **(values or {})}
    start, completions = _completions(head, known, payload_keys)
    made = dict.fromkeys(head[:start] + c + tail for c in completions)
    return [t for t in made if t != text][:LIMIT]


def _completions(
    head: str, known: Mapping[str, Sequence[str]], payload_keys: Sequence[str]
) -> tuple[int, Iterable[str]]:
    """Where the word at the end of `head` begins, and what could stand there."""
    if m := _IN_LIST.search(head):
        return m.start(2), _values(m[1].lower(), m[3], known)
    if m := _AFTER_OPERATOR.search(head):
        return m.start(3), _values(m[1].lower(), m[4], known)
    m = _WORD.search(head)
    if m is None or head[: m.start()].count("'") % 2 or head[: m.start()].count('"') % 2:
        return len(head), ()
    return m.start(), _words(m[0], bool(head[: m.start()].strip(" (")), payload_keys)


def _values(name: str, part: str, known: Mapping[str, Sequence[str]]) -> Iterable[str]:
    field = FIELDS.get(name)
    if field is None:
        return ()
    if field.kind is Kind.MOMENT:
        return _beginning(_MOMENTS, part)
    if field.kind is Kind.SPAN:
        return _beginning(_SPANS, part)
    candidates = known.get(name, ())
    if field.kind is Kind.QUEUE:
        part = part.removeprefix("queue:")
    return (_spelled(c) for c in _matching(candidates, part))


def _words(word: str, continued: bool, payload_keys: Sequence[str]) -> Iterable[str]:
    if word.lower().startswith("payload."):
        return (f"payload.{key}=" for key in _beginning(payload_keys, word[len("payload.") :]))
    field = FIELDS.get(word.lower())
    if field is not None:
        return _operators(field)
    alone = [name for name, field in FIELDS.items() if field.kind is not Kind.LENGTH]
    fields = [_opened(FIELDS[name]) for name in _beginning(alone, word)]
    states = [f"status:{s}" for s in _beginning(tuple(STATUSES), word)] if word else []
    joints = _beginning(("and ", "or ", "not ") if continued else ("not ",), word)
    return [*fields, *states, *joints, *(_opened(FIELDS[name]) for name in _matching(alone, word))]


def _operators(field: Field) -> list[str]:
    root = field.kind is Kind.PAYLOAD
    texts = ["payload.", *ROOT_OPERATORS] if root else list(operator_texts(field))
    spaced = {"in": f"{field.name} in (", "has": f"{field.name} has ", "payload.": "payload."}
    return [spaced.get(op, f"{field.name}{op}") for op in texts]


def _opened(field: Field) -> str:
    """The field with the operator that most want."""
    if field.kind is Kind.PAYLOAD:
        return "payload."
    if field.kind is Kind.MOMENT:
        return f"{field.name}>="
    if field.kind in {Kind.SPAN, Kind.NUMBER}:
        return f"{field.name}>"
    return f"{field.name}:" if field.kind in WORDLIKE or field.kind is Kind.TEXT else f"{field.name}="


def _spelled(value: str) -> str:
    return value if re.fullmatch(r"[\w./@%+-][\w./@%+:-]*", value, re.ASCII) else quote(value)


def _matching(candidates: Iterable[str], part: str) -> list[str]:
    """First those that begin with it, then those that contain it."""
    return _chosen(candidates, lambda c: c.startswith(part.lower())) + _chosen(
        candidates, lambda c: part.lower() in c and not c.startswith(part.lower())
    )


def _beginning(candidates: Iterable[str], part: str) -> list[str]:
    return _chosen(candidates, lambda c: c.startswith(part.lower()))


def _chosen(candidates: Iterable[str], wanted: Callable[[str], bool]) -> list[str]:
    return [c for c in candidates if wanted(c.lower())]
