"""A job's payload as a bounded, masked list of tree rows; the job dialog and static HTML print it.

Bounded in rows, depth and text, and walked without recursion: no payload, however deep or large, can hang a screen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from queuemon.render.text import clean

#: Rows of one tree, children of one node, nesting, and characters of one value that are shown.
MAX_ROWS: Final = 1_500
MAX_CHILDREN: Final = 200
MAX_DEPTH: Final = 24
MAX_TEXT: Final = 2_000

#: Stands for a value that is not shown.
MASK: Final = "••••••"

#: Keys whose values are not shown: they are named like credentials.
_SECRET: Final = re.compile(
    r"(^|[-_ ])pass$|passwor?d|passphrase|secret|token|api[-_ ]?key|authori[sz]ation|^auth$|cookie|credential|bearer"
    r"|dsn$|(private|signing)[-_ ]?key|session[-_ ]?id|^pin$|^otp$|^cv[vc]|card[-_ ]?number|^ssn$|^iban$"
    r"|connection[-_ ]?string",
    re.IGNORECASE,
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


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


def is_secret(key: str) -> bool:
    """Whether a value under this key is masked, judged by its name alone."""
    return bool(_SECRET.search(_CAMEL.sub("_", key[:200]).strip()))


def tree(payload: Any) -> tuple[TreeRow, ...]:
    """The payload's rows, depth first; a last row says when there was more."""
    rows: list[TreeRow] = []
    _add(rows, 0, "", payload, masked=False)
    stack = [(1, _children(payload), _size(payload), False)] if rows[0].open else []
    shown = [0]
    while stack:
        depth, items, size, masked = stack[-1]
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
        hidden = masked or (isinstance(key, str) and is_secret(key))
        _add(rows, depth, key, value, masked=hidden)
        if rows[-1].open:
            stack.append((depth + 1, _children(value), _size(value), hidden))
            shown.append(0)
    return tuple(rows)


def _children(value: Any) -> Iterator[tuple[str | int, Any]]:
    items: Iterator[tuple[str | int, Any]] = iter(value.items()) if isinstance(value, dict) else enumerate(value)
    return islice(items, MAX_CHILDREN)


def _size(value: Any) -> int:
    return len(value)


def _add(rows: list[TreeRow], depth: int, key: str | int, value: Any, *, masked: bool) -> None:
    name = clean(key, 200)
    if isinstance(value, dict | list | tuple):
        kind = "object" if isinstance(value, dict) else "array"
        noun = ("key" if kind == "object" else "item") + ("" if len(value) == 1 else "s")
        deep = depth >= MAX_DEPTH
        text = f"{len(value):,} {noun}" + (" (nested too deep to show)" if deep and value else "")
        rows.append(TreeRow(depth=depth, key=name, kind=kind, text=text, open=bool(value) and not deep))
    elif masked and value is not None:
        rows.append(TreeRow(depth=depth, key=name, kind="masked", text=MASK))
    else:
        rows.append(TreeRow(depth=depth, key=name, kind=_kind(value), text=_scalar(value)))


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
