"""The static face of every value without one of its own: its fields in words, nested values within; `static()` uses it.

A value of a room above this one brings its face along (`Faced`); frames of pandas and plain data have one here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable
from uuid import UUID

from queuemon.contract import Keys
from queuemon.filters import JobFilter
from queuemon.masking import MASK, Masking
from queuemon.model import ActionProgress, CanaryProgress, Count
from queuemon.render.html import MAX_ROWS, Safe, el, join, table
from queuemon.render.text import TRACE, clean, duration, moment, number, told

#: Values of a field that holds several, and how deep fields of fields are shown.
MAX_PARTS: Final = 20
MAX_DEPTH: Final = 3

#: Rows of a text twin: it is read in a terminal.
MAX_LINES: Final = 50


@runtime_checkable
class Faced(Protocol):
    """A value that shows itself."""

    def face(self, keys: Keys) -> tuple[Safe, str]:
        """Its HTML and its text; `keys` say how queues are printed."""
        ...


def parts(value: Any, keys: Keys) -> tuple[Safe, str]:
    """The HTML and the text of any value."""
    match value:
        case ActionProgress():
            return el("p", told(progress_text(value))), clean(progress_text(value), 2_000)
        case Mapping():
            pairs = list(islice(_masked(value), MAX_ROWS))
            body = table(("", ""), [(inside(k, keys), inside(v, keys)) for k, v in pairs])
            return _cut(body, len(value)), _lines(f"{said(k, keys)}: {said(v, keys)}" for k, v in pairs)
        case list() | tuple() if not value:
            return el("p", "Nothing.", class_="dim"), "Nothing."
        case [first, *_] if isinstance(value, list | tuple) and is_dataclass(first):
            names = _names(first)
            rows = [[field(v, n, keys) for n in names] for v in value[:MAX_ROWS]]
            body = table([n.replace("_", " ") for n in names], rows, right=_numeric(first, names))
            return _cut(body, len(value)), _lines(said(v, keys) for v in value[:MAX_ROWS])
        case list() | tuple() | set() | frozenset():
            listed = list(islice(value, MAX_ROWS))
            body = join(el("p", inside(v, keys)) for v in listed)
            return _cut(body, len(value)), _lines(said(v, keys) for v in listed)
        case _ if is_dataclass(value):
            return table(("", ""), [(n.replace("_", " "), field(value, n, keys)) for n in _names(value)]), _lines(
                f"{n.replace('_', ' ')}: {said(getattr(value, n, None), keys, n)}" for n in _names(value)
            )
        case _ if hasattr(value, "itertuples") and hasattr(value, "columns"):
            return _frame(value, keys)
        case str():
            return el("pre", clean(value, TRACE, lines=True)), clean(value, TRACE, lines=True)
    return el("p", inside(value, keys)), said(value, keys)


def field(value: Any, name: str, keys: Keys, depth: int = 0) -> Safe | str:
    """One field for a cell; queues are printed as everywhere."""
    found = getattr(value, name, None)
    if name in {"queue", "home"} and isinstance(found, str):
        return el("code", clean(keys.display(found))) if found else "–"
    return inside(found, keys, depth)


def inside(value: Any, keys: Keys, depth: int = 0) -> Safe | str:
    """A value within a cell: nested ones as small tables, down to a bound."""
    if is_dataclass(value) and not isinstance(value, type | Count | JobFilter) and depth < MAX_DEPTH:
        names = [n for n in _names(value) if getattr(value, n, None) not in (None, "", ())]
        return table((), [(n.replace("_", " "), field(value, n, keys, depth + 1)) for n in names])
    if isinstance(value, Mapping) and value and depth < MAX_DEPTH:
        pairs = islice(_masked(value), MAX_PARTS)
        return _more(table((), [(said(k, keys), inside(v, keys, depth + 1)) for k, v in pairs]), len(value))
    if isinstance(value, list | tuple) and value and depth < MAX_DEPTH:
        rows = [el("div", inside(v, keys, depth + 1)) for v in value[:MAX_PARTS]]
        return _more(join(rows), len(value))
    if isinstance(value, UUID | JobFilter | Path):
        return el("code", clean(value))
    return said(value, keys)


def said(value: Any, keys: Keys, name: str = "") -> str:
    """A value in one line of words."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case Count() | UUID() | JobFilter() | Path():
            return clean(value)
        case Enum():
            return clean(value.value)
        case int():
            return number(value)
        case float():
            return duration(value) if name.endswith("_seconds") else f"{value:,.4g}"
        case datetime():
            return f"{moment(value)} UTC"
        case timedelta():
            return duration(value.total_seconds())
        case bytes():
            return f"{len(value):,} bytes"
        case str():
            return clean(keys.display(value) if value and name in {"queue", "home"} else value)
        case Mapping():
            return clean("; ".join(f"{said(k, keys)}: {said(v, keys)}" for k, v in islice(_masked(value), MAX_PARTS)))
        case list() | tuple() | set() | frozenset():
            return clean(", ".join(said(v, keys) for v in islice(value, MAX_PARTS)))
        case _ if is_dataclass(value) and not isinstance(value, type):
            shown = [(n, getattr(value, n, None)) for n in _names(value)]
            told_of = (f"{n.replace('_', ' ')} {said(v, keys, n)}" for n, v in shown if v not in (None, "", ()))
            return clean(", ".join(told_of))
    return clean(value)


def progress_text(p: ActionProgress) -> str:
    """How far a running action is: "1,200 of 5,000 at 800/s, 5 s left; 3 skipped"."""
    if isinstance(p, CanaryProgress):
        return f"step {p.step} of {p.steps}: {p.done:,} of {p.planned:,} sent"
    eta = f", {duration(p.eta_seconds)} left" if p.eta_seconds else ""
    skipped = f"; {p.skipped:,} skipped" if p.skipped else ""
    slowed = f"; slowed down, {p.slowed}" if p.slowed else ""
    return f"{p.done:,} of {p.planned:,} at {p.per_second:,.0f}/s{eta}{skipped}{slowed}"


def _frame(value: Any, keys: Keys) -> tuple[Safe, str]:
    """The first rows of a pandas DataFrame."""
    head = [clean(name, 120) for name in islice(value.columns, MAX_PARTS * 2)]
    rows = [
        [inside(cell, keys) for cell in row[: len(head)]]
        for row in islice(value.itertuples(index=False, name=None), MAX_ROWS)
    ]
    if not rows:
        return el("p", "Nothing.", class_="dim"), "Nothing."
    lines = ["  ".join(head)]
    lines += [
        "  ".join(said(cell, keys) for cell in row[: len(head)])
        for row in islice(value.itertuples(index=False, name=None), MAX_LINES)
    ]
    return _cut(table(head, rows), len(value)), _lines(lines)


def _names(value: Any) -> list[str]:
    """The fields that are shown; a payload is shown by its own tree alone."""
    return [f.name for f in fields(value) if f.repr and f.name not in {"payload", "preview"}]


def _masked(value: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    masking = Masking()
    return (
        (k, MASK if masking.hides(v if isinstance(v, str) else 0, masking.below(k)) else v) for k, v in value.items()
    )


def _numeric(value: Any, names: Sequence[str]) -> list[int]:
    return [
        n for n, name in enumerate(names) if isinstance(v := getattr(value, name, None), int | float | Count)
        and not isinstance(v, bool)
    ]  # fmt: skip


def _cut(body: Safe, whole: int) -> Safe:
    return join([body, el("p", f"The first {MAX_ROWS:,} of {whole:,}.", class_="dim")]) if whole > MAX_ROWS else body


def _more(body: Safe, whole: int) -> Safe:
    return join([body, el("div", f"and {whole - MAX_PARTS:,} more", class_="dim")]) if whole > MAX_PARTS else body


def _lines(lines: Iterable[str]) -> str:
    listed = list(islice(lines, MAX_LINES + 1))
    return "\n".join([*listed[:MAX_LINES], *(["…"] if len(listed) > MAX_LINES else [])])
