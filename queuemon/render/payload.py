"""A job's payload as a bounded, masked list of tree rows; the job dialog and static HTML print it.

Bounded in rows, depth and text, and walked without recursion: no payload, however deep or large, can hang a screen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from queuemon.masking import MASK, Masking, Sight
from queuemon.render.text import clean

#: Rows of one tree, children of one node, nesting, and characters of one value that are shown.
MAX_ROWS: Final = 1_500
MAX_CHILDREN: Final = 200
MAX_DEPTH: Final = 24
MAX_TEXT: Final = 2_000

#: Characters of a value that are judged: what is shown of it, and what a secret that the cut runs through needs.
_JUDGED: Final = MAX_TEXT + 400


@dataclass(frozen=True, kw_only=True)
class TreeRow:
    """One line of the tree, in reading order."""

    #: Nesting, 0 for the payload itself.
    depth: int
    #: Key, list index, or "" for the payload itself.
    key: str
    #: object, array, string, number, boolean, null, masked, or more (a line that says what was left out).
    kind: str
    #: The value as text; for objects and arrays how much they hold.
    text: str
    #: Whether rows of the node follow below it.
    open: bool = False


def tree(payload: Any, masking: Masking | None = None) -> tuple[TreeRow, ...]:
    """The payload's rows, depth first; a last row says when there was more."""
    masking = masking or Masking()
    rows = [_row(0, "", payload, masking, Sight.LOOK)]
    stack = [(1, _children(payload), _size(payload), Sight.LOOK)] if rows[0].open else []
    shown = [0]
    while stack:
        depth, items, size, sight = stack[-1]
        if len(rows) >= MAX_ROWS:
            rows.append(TreeRow(depth=0, key="", kind="more", text=f"only the first {MAX_ROWS:,} rows are shown"))
            break
        found = next(items, None) if shown[-1] < MAX_CHILDREN else None
        if found is None:
            if size > shown[-1]:
                rows.append(TreeRow(depth=depth, key="", kind="more", text=f"{size - shown[-1]:,} more"))
            stack.pop()
            shown.pop()
            continue
        shown[-1] += 1
        key, value = found
        inner = masking.below(key, sight)
        rows.append(_row(depth, key, value, masking, inner))
        if rows[-1].open:
            stack.append((depth + 1, _children(value), _size(value), inner))
            shown.append(0)
    return tuple(rows)


def _children(value: Any) -> Iterator[tuple[str | int, Any]]:
    items: Iterator[tuple[str | int, Any]] = iter(value.items()) if isinstance(value, dict) else enumerate(value)
    return islice(items, MAX_CHILDREN)


def _size(value: Any) -> int:
    return len(value)


def _row(depth: int, key: str | int, value: Any, masking: Masking, sight: Sight) -> TreeRow:
    name = clean(masking.name(key) if isinstance(key, str) else key, 200)
    if isinstance(value, dict | list | tuple):
        kind = "object" if isinstance(value, dict) else "array"
        noun = ("key" if kind == "object" else "item") + ("" if len(value) == 1 else "s")
        deep = depth >= MAX_DEPTH
        text = f"{len(value):,} {noun}" + (" (nested too deep to show)" if deep and value else "")
        return TreeRow(depth=depth, key=name, kind=kind, text=text, open=bool(value) and not deep)
    if masking.hides(value[:_JUDGED] if isinstance(value, str) else value, sight):
        return TreeRow(depth=depth, key=name, kind="masked", text=MASK)
    return TreeRow(depth=depth, key=name, kind=_kind(value), text=_scalar(value))


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "string"


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 4_000:
        # Python refuses to print integers of more than 4,300 digits.
        return f"an integer of about {int(value.bit_length() * 0.30103):,} digits"
    return clean(value, MAX_TEXT, lines=True)
