"""Turns hostile text and raw numbers into what a person may read; the screens, static HTML and charts use it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

#: Longest text of one cell; a stack trace gets more.
CELL: Final = 300
TRACE: Final = 20_000

#: Control characters, lone surrogates, and the marks that reorder what is read (the "Trojan Source" set).
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def clean(text: object, limit: int = CELL, *, lines: bool = False) -> str:
    """Text that shows what it is: unprintable characters become ⟨U+XXXX⟩, the rest is cut at `limit` characters.

    Line breaks stay with `lines`, else they become spaces. Nothing here escapes HTML: that is the renderer's.
    """
    value = text if isinstance(text, str) else str(text)
    cut = value[:limit]
    cut = cut.replace("\r\n", "\n")
    shown = _UNSAFE.sub(lambda m: f"⟨U+{ord(m[0]):04X}⟩", cut)
    if not lines:
        shown = shown.replace("\n", " ").replace("\t", " ")
    return f"{shown}… ({len(value):,} characters)" if len(value) > limit else shown


def duration(seconds: float) -> str:
    """A span of time in its two largest units: "4 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    if seconds < 0:
        return f"−{duration(-seconds)}"
    if seconds < 1:
        return f"{round(seconds * 1000)} ms" if seconds else "0 s"
    whole = round(seconds)
    for size, unit, smaller_size, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller_size
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def ago(then: datetime | None, now: datetime) -> str:
    """How long before `now`: "4 s ago"; "in 2 min" for later; "–" for never."""
    if then is None:
        return "–"
    span = now - then
    if abs(span) < timedelta(seconds=1):
        return "now"
    return f"{duration(span.total_seconds())} ago" if span > timedelta(0) else f"in {duration(-span.total_seconds())}"


def moment(at: datetime | None) -> str:
    """A time in UTC to the second: "2026-10-03 14:03:07"."""
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else "–"


def number(value: int | float | None) -> str:
    """A count with thousands separators; "–" for unknown."""
    return "–" if value is None else f"{value:,}"


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal below ten: "0.4 %", "37 %"; "–" for unknown."""
    if share is None:
        return "–"
    value = share * 100
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def told(words: str) -> str:
    """Words as a sentence of their own: with a capital letter and a full stop."""
    return f"{words[:1].upper()}{words[1:]}."
