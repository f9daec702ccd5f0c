"""What reaches the terminal: hostile text made harmless, tables, JSON; every command prints through here."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import typer

from queuemon.masking import MASK
from queuemon.render.text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Width of tables that are piped into a file or another program.
PIPED_WIDTH = 180

#: JSON nested deeper is cut: Python's encoder ends at about a thousand levels.
MAX_DEPTH = 100


def console(*, stderr: bool = False) -> Console:
    """A console that takes every text literally: no markup, no emoji codes, no highlighting."""
    from rich.console import Console

    made = Console(markup=False, highlight=False, emoji=False, stderr=stderr)
    if not made.is_terminal:
        made.width = shutil.get_terminal_size((PIPED_WIDTH, 50)).columns
    return made


def say(text: str, *, limit: int = 4_000, stderr: bool = False) -> None:
    """A line, or several, on stdout."""
    typer.echo(clean(text, limit, lines=True), err=stderr)


def warn(text: str) -> None:
    """A line on stderr; what it quotes (a queue's name) cannot break it."""
    typer.echo(f"queuemon: {clean(text, 4_000)}", err=True)


def table(*columns: str | tuple[str, Mapping[str, Any]]) -> Table:
    """A plain table; a column may carry rich's options."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        name, options = (column, {}) if isinstance(column, str) else column
        made.add_column(Text(name), **options)
        # Only a table that fills its width gives such a column what the others leave.
        made.expand = made.expand or "ratio" in options
    return made


def cell(text: object, *, limit: int = 200, style: str = "") -> Any:
    """A cell of a table, taken literally."""
    from rich.text import Text

    return Text(clean(text, limit), style=style)


def print_json(value: Any) -> None:
    """A value as JSON on stdout, ASCII only, so that no text in it can steer the terminal."""
    typer.echo(json.dumps(plain(value), indent=2 if sys.stdout.isatty() else None))


def plain(value: Any, depth: int = 0) -> Any:
    """A value as what JSON can hold: dataclasses as objects, times in ISO 8601, durations in seconds."""
    if depth > MAX_DEPTH:
        return "… nested too deeply"
    match value:
        case Enum():
            return value.value
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case UUID() | Path():
            return str(value)
        case Mapping():
            return {str(plain(k, depth + 1)): plain(v, depth + 1) for k, v in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(v, depth + 1) for v in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(_shown(f.name, getattr(value, f.name)), depth + 1) for f in fields(value)}
    return str(value)


def _shown(name: str, value: Any) -> Any:
    """A field's value; of an edit's options not the payload, which may hold what is masked: `queuemon job ID`."""
    return {**value, "payload": MASK} if name == "options" and "payload" in value else value


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Names and values, one under the other."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(Text(name), value if isinstance(value, Text) else cell(value, limit=1_000))
    return made


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names with commas, cut after some."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
