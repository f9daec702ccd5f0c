"""Reads of single jobs and lists of them: pages by keyset, counts, one job with its history, columns of an export.

Costs are for 10 million jobs, measured by `make bench`. Every read runs under the statement timeout.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Select, Text, Uuid, any_, case, cast, func, literal, select, tuple_
from sqlalchemy.engine import RowMapping
from sqlalchemy.sql.elements import ColumnElement

from queuemon.config import Settings
from queuemon.errors import InvalidValue
from queuemon.filters import JobFilter
from queuemon.masking import Masking
from queuemon.model import Attempt, Certainty, Count, Job, JobPage
from queuemon.schema.tables import Tables
from queuemon.store import numbers
from queuemon.store.filtering import conditions

#: An exact count gives up here and says "at least".
COUNT_CAP = 1_000_000

#: Characters of a payload shown in a list.
PREVIEW = 200

#: Rows on one page at most.
PAGE_LIMIT = 1_000


def job_columns(t: Tables) -> list[ColumnElement[Any]]:
    """The columns of a job in a list: everything but the payload, of which only the first characters travel."""
    j = t.jobs
    listed = [c for c in j.c if c.key != "payload"]
    return [*listed, func.left(cast(j.c.payload, Text), PREVIEW).label("preview")]


def job_from(row: Mapping[Any, Any], t: Tables, masking: Masking) -> Job:
    """A row of `jobs` as a value; takes both shapes, with `payload` or with `preview`, which is masked here."""
    values = dict(row)
    return Job(
        **{name: values[name] for name in _AS_THEY_ARE},
        status=t.status_of(values["status"]),
        preview=masking.preview(values.get("preview") or ""),
        payload=values.get("payload"),
    )


#: Fields of a Job that are the row's.
_AS_THEY_ARE = tuple(f.name for f in fields(Job) if f.name not in {"status", "preview", "payload"})

#: What a page can be sorted by: word → column. The id is time-ordered, so "created" walks the primary key.
SORTS = ("created", "finished", "run_at", "attempts")


def page(
    connection: Connection,
    t: Tables,
    settings: Settings,
    where: JobFilter,
    *,
    limit: int = 50,
    after: str | None = None,
    before: str | None = None,
    sort: str = "created",
    descending: bool = True,
) -> JobPage:
    """A page by keyset: any depth costs the same (0.7 ms for 50 failed jobs). `after` and `before` come from a page.

    Raises InvalidValue for a limit outside 1–1,000, an unknown sort, or a cursor that was made for another sort.
    """
    if not 1 <= limit <= PAGE_LIMIT:
        raise InvalidValue(f"limit is {limit}", expected=f"1 to {PAGE_LIMIT}", next_step="page on with `after`")
    if sort not in SORTS:
        raise InvalidValue(f"jobs cannot be sorted by {sort!r}", expected=f"one of {', '.join(SORTS)}")
    j = t.jobs
    backwards = before is not None
    downwards = descending != backwards
    keys = _sort_keys(t, sort)
    statement = _listing(t, sort).where(conditions(where, t, now=None, lease_seconds=settings.lease_seconds))
    if sort == "finished":
        statement = statement.where(j.c.finished_at.is_not(None))
    cursor = before if backwards else after
    if cursor is not None:
        values = _decode_cursor(cursor, sort, len(keys))
        bound = tuple_(*(cast(literal(v, Text), k.type) for v, k in zip(values, keys, strict=True)))
        position = tuple_(*keys)
        statement = statement.where(position < bound if downwards else position > bound)
    masking = settings.masking
    order = [k.desc() if downwards else k.asc() for k in keys]
    rows = connection.execute(statement.order_by(*order).limit(limit + 1)).mappings().all()
    more = len(rows) > limit
    rows = rows[:limit]
    if backwards:
        rows = rows[::-1]
    first = _encode_cursor(rows[0], sort, len(keys)) if rows else None
    last = _encode_cursor(rows[-1], sort, len(keys)) if rows else None
    has_more_after = more if not backwards else bool(rows)
    has_more_before = bool(cursor) if not backwards else more
    return JobPage(
        jobs=tuple(job_from(row, t, masking) for row in rows),
        after=last if has_more_after else None,
        before=first if has_more_before else None,
        filter=str(where),
        clock=rows[0]["clock"] if rows else numbers.clock(connection),
    )


@lru_cache(maxsize=32)
def _listing(t: Tables, sort: str) -> Select[Any]:
    """What every page selects; kept, because building it costs as much as running it."""
    keys = (k.label(f"key{n}") for n, k in enumerate(_sort_keys(t, sort)))
    return select(*job_columns(t), *keys, func.now().label("clock"))


def _sort_keys(t: Tables, sort: str) -> list[ColumnElement[Any]]:
    j = t.jobs
    match sort:
        case "finished":
            return [j.c.finished_at, j.c.id]
        case "run_at":
            return [j.c.run_at, j.c.id]
        case "attempts":
            return [j.c.attempts, j.c.id]
        case _:
            return [j.c.id]


def _encode_cursor(row: RowMapping, sort: str, keys: int) -> str:
    values = [str(row[f"key{n}"]) for n in range(keys)]
    return base64.urlsafe_b64encode(json.dumps([sort, *values]).encode()).decode().rstrip("=")


def _decode_cursor(cursor: str, sort: str, keys: int) -> list[str]:
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(found, list) or found[0] != sort or len(found) != keys + 1:
            raise ValueError
        values = [str(v) for v in found[1:]]
        UUID(values[-1])
        if sort in {"finished", "run_at"}:
            datetime.fromisoformat(values[0])
        elif sort == "attempts":
            int(values[0])
    except (ValueError, IndexError, binascii.Error, UnicodeDecodeError):
        raise InvalidValue(
            "the cursor does not belong to this list",
            expected="`after` or `before` of a page with the same sort order",
            next_step="start again at the first page",
        ) from None
    return values


def count(connection: Connection, t: Tables, settings: Settings, where: JobFilter, *, cap: int = COUNT_CAP) -> Count:
    """How many jobs match, exact up to `cap`, then "at least"; from the counters when only queue and state matter."""
    simple = where.queue_and_status()
    if simple is not None:
        queue, status = simple
        by_status = numbers.status_counts(connection, t, queue)
        return Count(value=by_status[status] if status is not None else sum(by_status.values()))
    inner = select(1).where(conditions(where, t, now=None, lease_seconds=settings.lease_seconds)).limit(cap + 1)
    found = int(connection.execute(select(func.count()).select_from(inner.subquery())).scalar_one())
    return Count(value=cap, certainty=Certainty.CAPPED) if found > cap else Count(value=found)


def job(connection: Connection, t: Tables, job_id: UUID) -> Job | None:
    """One job with its whole payload; None when no row has this id. A payload that is beyond a decoder comes
    as the start of its JSON text, said so."""
    j = t.jobs
    columns = [c for c in j.c if c.key != "payload"]
    statement = select(*columns, cast(j.c.payload, Text).label("payload")).where(j.c.id == job_id)
    row = connection.execute(statement).mappings().first()
    return job_from({**row, "payload": _decoded(row["payload"])}, t, Masking()) if row is not None else None


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        return f"nested too deeply to be taken apart; its JSON begins: {text[:PREVIEW]}"
    except ValueError:  # numbers of thousands of digits, which jsonb holds
        return f"beyond what can be taken apart; its JSON begins: {text[:PREVIEW]}"


#: Attempts and events read per job at most; the newest are kept.
HISTORY_LIMIT = 500


def history(connection: Connection, t: Tables, job_id: UUID) -> tuple[Attempt, ...]:
    """Every attempt at a job and every event in its life, oldest first (the newest 500)."""
    logs, chunks, actions = t.job_logs, t.action_chunks, t.actions
    rows = (
        connection.execute(select(logs).where(logs.c.job_id == job_id).order_by(logs.c.id.desc()).limit(HISTORY_LIMIT))
        .mappings()
        .all()
    )
    found = [
        Attempt(
            kind=row["kind"],
            gen=row["gen"],
            attempt=row["attempt"],
            status=row["status"],
            at=row["finished_at"],
            worker_id=row["worker_id"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            duration_ms=row["duration_ms"],
            error_type=row["error_type"],
            error_message=row["error_message"],
            stack_trace=row["stack_trace"],
            signature=row["signature"],
            action_id=row["action_id"],
        )
        for row in rows
    ]
    logged = {a.action_id for a in found if a.action_id is not None}
    # A bulk action keeps its ids in one array per chunk; chunks go by keyset, so the range finds the chunk.
    bulk = connection.execute(
        select(chunks.c.action_id, chunks.c.at, actions.c.kind)
        .join(actions, actions.c.id == chunks.c.action_id)
        .where(
            chunks.c.first_id <= job_id, chunks.c.last_id >= job_id, literal(job_id, Uuid) == any_(chunks.c.done_ids)
        )
        .order_by(chunks.c.at.desc())
        .limit(HISTORY_LIMIT)
    )
    found += [
        Attempt(kind=kind, gen=0, attempt=None, status=kind, at=at, action_id=action_id)
        for action_id, at, kind in bulk
        if action_id not in logged
    ]
    return tuple(sorted(found, key=lambda a: a.at))


def columns_of(t: Tables, names: Sequence[str]) -> list[ColumnElement[Any]]:
    """Columns for an export: logical names of `jobs`, `payload` whole, or `payload.path` extracted in SQL as text."""
    known = {c.key: c for c in t.jobs.c}
    if not names:
        raise InvalidValue("no column is named", expected=f"some of {', '.join(sorted(known))} or payload.PATH")
    made: list[ColumnElement[Any]] = []
    for name in names:
        if name == "payload":
            made.append(cast(t.jobs.c.payload, Text).label(name))
        elif name in known:
            made.append(known[name].label(name))
        elif name.startswith("payload.") and len(name) > len("payload."):
            path = name.split(".")[1:]
            made.append(func.jsonb_extract_path_text(t.jobs.c.payload, *path, type_=Text).label(name))
        else:
            raise InvalidValue(
                f"there is no column {name!r}",
                expected=f"{', '.join(sorted(known))} or payload.PATH",
                next_step="correct the column's name",
            )
    return made


#: What a spreadsheet would take for a formula; a plain number with a sign is none.
FORMULA = r"^[=@\t\r]|^[+-](?![0-9.]+$)"


def exported(
    connection: Connection,
    t: Tables,
    settings: Settings,
    where: JobFilter,
    *,
    columns: Sequence[str],
    limit: int,
    formulas: bool,
) -> tuple[Any, dict[str, Any]]:
    """An export as (SQL with psycopg placeholders, its parameters): the reader of big results runs it as a COPY.

    Without `formulas`, text that a spreadsheet would run gets an apostrophe in front.
    """
    chosen = columns_of(t, columns)
    statement = (
        select(*(chosen if formulas else map(_inert, chosen)))
        .where(conditions(where, t, now=None, lease_seconds=settings.lease_seconds))
        .order_by(t.jobs.c.id.desc())
        .limit(limit)
    )
    compiled = statement.compile(connection, compile_kwargs={"render_postcompile": True})
    return str(compiled), dict(compiled.params)


def _inert(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The column, its text made harmless for spreadsheets."""
    if not isinstance(column.type, Text):
        return column
    return case((column.regexp_match(FORMULA), func.concat("'", column)), else_=column).label(column.name)
