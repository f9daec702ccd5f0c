"""What erasing does beyond deleting: copies, words and payloads of jobs that no longer exist go too; bulk calls it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Uuid, cast, column, delete, func, null, select, update
from sqlalchemy.sql.elements import ColumnElement

from queuemon.model import ActionKind
from queuemon.schema.tables import Tables
from queuemon.store.chunks import Chunk, array_of, array_text


def only_copies(connection: Connection, t: Tables, ids: Sequence[UUID]) -> int:
    """How many of these ids exist only as copies that an earlier action kept."""
    u = t.undo_jobs
    these = u.c.job_id == func.any(array_of(array_text(ids)))
    found = select(func.count(func.distinct(u.c.job_id))).where(these, ~_exists(t, u.c.job_id))
    return int(connection.execute(found).scalar_one())


def forget(
    connection: Connection, t: Tables, chunk: Chunk, *, missed: Sequence[UUID], action_id: UUID
) -> tuple[UUID, ...]:
    """Of the jobs of a chunk that do not exist (any more): remove every copy, blank the words of their history and the
    payloads of edits; times, counts and kinds of error stay. Of the `missed` ids, those of which only copies existed
    are done by this: they are added to the chunk's, and returned."""
    u, logs, a = t.undo_jobs, t.job_logs, t.actions
    ids = array_of(chunk.ids)
    copies = delete(u).where(u.c.job_id == func.any(ids), ~_exists(t, u.c.job_id)).returning(u.c.job_id)
    had = set(connection.execute(copies).scalars())
    blank = dict.fromkeys(("error_message", "stack_trace", "detail"), null())
    connection.execute(update(logs).where(logs.c.job_id == func.any(ids), ~_exists(t, logs.c.job_id)).values(blank))
    edited = a.c.ids[1]
    these = (a.c.kind == ActionKind.EDIT.value, edited == func.any(ids), ~_exists(t, edited))
    connection.execute(update(a).where(*these).values(options=a.c.options.op("-")("payload")))
    done = tuple(i for i in missed if i in had)
    if done:
        _add_to_chunk(connection, t, done, action_id=action_id)
    return done


def _add_to_chunk(connection: Connection, t: Tables, ids: Sequence[UUID], *, action_id: UUID) -> None:
    """Name more ids among what the last chunk of a held action did."""
    c = t.action_chunks.c
    last = select(func.max(c.n)).where(c.action_id == action_id).scalar_subquery()
    both = func.array_cat(c.done_ids, array_of(array_text(ids)))
    each = func.unnest(both).table_valued(column("id", Uuid), name="each").render_derived()
    ordered = select(func.array_agg(each.c.id, type_=ARRAY(Uuid)).aggregate_order_by(each.c.id)).scalar_subquery()
    done = (
        update(t.action_chunks).where(c.action_id == action_id, c.n == last).values(done_ids=cast(ordered, ARRAY(Uuid)))
    )
    connection.execute(done)


def _exists(t: Tables, job_id: ColumnElement[Any]) -> ColumnElement[bool]:
    return select(t.jobs.c.id).where(t.jobs.c.id == job_id).exists()
