"""Big reads as one stream: COPY from PostgreSQL into Arrow columns (1 M rows: 1.2 to 2 times COPY alone)."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, Final

from sqlalchemy.sql.elements import ColumnElement

from queuemon.filters import JobFilter
from queuemon.masking import MASK, REVEALED, Masking, Sight
from queuemon.store import jobs
from queuemon.store.postgres import Postgres

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows of one export at most.
EXPORT_LIMIT = 10_000_000


def write_csv(
    postgres: Postgres,
    where: JobFilter,
    columns: Sequence[str],
    limit: int,
    target: IO[bytes],
    *,
    seconds: float,
    formulas: bool = False,
    masking: Masking = REVEALED,
) -> None:
    """Stream the matching jobs, newest first, as CSV with a header line into `target`. Flat memory.

    Text that a spreadsheet would take for a formula gets an apostrophe in front, unless `formulas`. Cells of
    payloads are masked: half a million of them take about a minute.
    """
    for row in _rows(postgres, where, columns, limit, seconds=seconds, formulas=formulas, masking=masking):
        target.write(row)


def write_json(
    postgres: Postgres,
    where: JobFilter,
    columns: Sequence[str],
    limit: int,
    target: IO[bytes],
    *,
    seconds: float,
    masking: Masking = REVEALED,
) -> None:
    """The same as one JSON array of objects, one in a line: times in ISO 8601, payloads as they are."""
    found = _rows(postgres, where, columns, limit, seconds=seconds, formulas=True, masking=masking, whole=True)
    kinds = [_kind(column) for column in jobs.columns_of(postgres.tables, columns)]
    names = [json.dumps(name) for name in columns]
    start = "[\n"
    for n, row in enumerate(found):
        if n:
            cells = (f"{name}: {_json(cell, kind)}" for name, cell, kind in zip(names, _cells(row), kinds, strict=True))
            target.write(f"{start}{{{', '.join(cells)}}}".encode("utf-8", "surrogateescape"))
            start = ",\n"
    target.write(b"[]\n" if start == "[\n" else b"\n]\n")


def _kind(column: ColumnElement[Any]) -> str:
    if column.name == "payload":
        return "json"
    python_type = getattr(column.type, "python_type", str)
    return "number" if python_type is int else "time" if python_type is datetime else "text"


def _json(cell: str, kind: str) -> str:
    """A cell of PostgreSQL's CSV as JSON."""
    value = _unquoted(cell)
    if not cell:
        return "null"
    if kind in {"json", "number"}:
        return value
    return json.dumps(datetime.fromisoformat(value).isoformat() if kind == "time" else value, ensure_ascii=False)


def _rows(
    postgres: Postgres,
    where: JobFilter,
    columns: Sequence[str],
    limit: int,
    *,
    seconds: float,
    formulas: bool,
    masking: Masking,
    whole: bool = False,
) -> Iterator[bytes]:
    """The header and the rows of a CSV; `whole`: each by itself, else as they come."""
    hidden = _masked_columns(columns, masking)
    with postgres.begin(seconds=seconds, read_only=True) as connection:
        query, parameters = jobs.exported(
            connection, postgres.tables, postgres.settings, where, columns=columns, limit=limit, formulas=formulas
        )
        driver = connection.connection.driver_connection
        assert driver is not None
        with (
            driver.cursor() as cursor,
            cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", parameters) as copy,
        ):
            blocks = map(bytes, copy)
            yield from masked_rows(blocks, hidden, masking) if hidden or whole else blocks


def _masked_columns(columns: Sequence[str], masking: Masking) -> dict[int, Sight | None]:
    """Which cells are looked at: those of whole payloads (None), and of a path in them, with what holds there."""
    found: dict[int, Sight | None] = {}
    for n, name in enumerate(columns if masking.on else ()):
        if name == "payload":
            found[n] = None
        elif name.startswith("payload."):
            found[n] = masking.sight(name.split(".")[1:])
    return found


def masked_rows(blocks: Iterable[bytes], hidden: Mapping[int, Sight | None], masking: Masking) -> Iterator[bytes]:
    """The lines of a CSV as PostgreSQL writes it, header first, with masks in these cells; the others to the byte."""
    row, header = b"", True
    for block in blocks:
        row += block
        if not row.endswith(b"\n") or row.count(b'"') % 2:
            continue
        if header:
            header = False
            yield row
        elif not hidden:
            yield row
        else:
            cells = _cells(row)
            for n, sight in hidden.items():
                cells[n] = _masked_cell(cells[n], sight, masking)
            yield (",".join(cells) + "\n").encode("utf-8", "surrogateescape")
        row = b""


def _cells(row: bytes) -> list[str]:
    return [found[1] for found in _CELL.finditer(row.decode("utf-8", "surrogateescape")[:-1])]


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"') if cell.startswith('"') else cell


_CELL: Final = re.compile(r'(?:^|,)((?:"(?:[^"]|"")*")|[^,"]*)', re.DOTALL)


def _masked_cell(cell: str, sight: Sight | None, masking: Masking) -> str:
    if not cell:
        return cell  # NULL
    value = _unquoted(cell)
    if sight is None or (value[:1] in "{[" and value and _is_json(value)):
        shown = masking.text(value, sight or Sight.LOOK)
    else:
        shown = MASK if masking.hides(value, sight) else value
    return cell if shown == value else '"' + shown.replace('"', '""') + '"'


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def read_arrow(postgres: Postgres, where: JobFilter, columns: Sequence[str], limit: int, *, seconds: float) -> pa.Table:
    """The matching jobs, newest first, as an Arrow table: UTC timestamps, integers, and text for the rest."""
    import pyarrow as pa
    from pyarrow import csv

    buffer = io.BytesIO()
    write_csv(postgres, where, columns, limit, buffer, seconds=seconds, formulas=True)
    buffer.seek(0)
    types = {}
    for column in jobs.columns_of(postgres.tables, columns):
        python_type = getattr(column.type, "python_type", str)
        name = column.name
        if python_type is int:
            types[name] = pa.int64()
        elif python_type.__name__ == "datetime":
            types[name] = pa.timestamp("us", tz="UTC")
        else:
            types[name] = pa.string()
    return csv.read_csv(
        buffer,
        convert_options=csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
        parse_options=csv.ParseOptions(newlines_in_values=True),
    )
