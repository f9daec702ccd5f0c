"""Taking an action back: copies put in place again, each judged on the row as it stands now; for actions/undo.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Connection,
    Text,
    and_,
    case,
    cast,
    column,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import CTE, FromClause

from queuemon.contract import JobStatus
from queuemon.model import ActionKind
from queuemon.schema.tables import TIMESTAMPTZ, Tables
from queuemon.store import changes, depths
from queuemon.store.chunks import LEGAL, PAGE_CHUNKS, Chunk, array_of, array_text, sorted_ids
from queuemon.store.fence import fenced

#: What an edit or a retry overwrote, which goes back as it was.
CLOCKS = (
    "status", "attempts", "run_at", "expires_at", "started_at", "finished_at", "heartbeat_at", "worker_id",
    "error_type", "error_message",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Undone:
    """The action that is taken back, as its statements need it."""

    id: UUID
    kind: ActionKind
    #: Where a move brought its jobs.
    to: str = ""


@dataclass(frozen=True, kw_only=True)
class Left:
    """A job that an undo leaves alone, or would."""

    #: None: there is no such job.
    status: JobStatus | None
    #: Its queue no longer has a row.
    homeless: bool


def find_chunks(connection: Connection, t: Tables, undone: Undone, *, after: UUID | None, rows: int) -> list[Chunk]:
    """The next copies of an action beyond the cursor, in chunks, up to 50 of them; empty at the end."""
    u = t.undo_jobs
    beyond = u.c.job_id > after if after is not None else true()
    kept = select(u.c.job_id.label("id")).where(u.c.action_id == undone.id, u.c.kept_until > func.now(), beyond)
    page = kept.order_by(u.c.job_id).limit(rows * PAGE_CHUNKS).subquery()
    number = (func.row_number().over(order_by=page.c.id) - 1) // rows
    numbered = select(page.c.id, number.label("n")).subquery()
    found = select(func.count(), cast(sorted_ids(numbered), Text)).group_by(numbered.c.n).order_by(numbered.c.n)
    return [Chunk(size=size, ids=ids) for size, ids in connection.execute(found)]


def _copies(t: Tables, undone: Undone, chunk: Chunk | None) -> FromClause:
    """The rows as they were; columns that the action did not overwrite are NULL."""
    u = t.undo_jobs
    record = func.jsonb_to_record(u.c.row).table_valued(*[column(c.key, c.type) for c in t.jobs.c], name="r")
    record = record.render_derived(name="r", with_types=True)
    these = u.c.job_id == func.any(array_of(chunk.ids)) if chunk is not None else true()
    return (
        select(*record.c)
        .select_from(u.join(record, true()))
        .where(u.c.action_id == undone.id, u.c.kept_until > func.now(), these)
        .cte("copy")
    )


def _unmoved(t: Tables, undone: Undone, copy: FromClause) -> ColumnElement[bool]:
    """Whether a job stands as the action left it: a retry that was started, or changed by anybody, has moved on."""
    j = t.jobs
    same = j.c.gen == copy.c.gen + 1
    if undone.kind is ActionKind.MOVE:
        return and_(same, j.c.queue == undone.to, t.status_is(*LEGAL[ActionKind.MOVE]), _housed(t, copy))
    return and_(same, t.status_is(JobStatus.WAITING))


def _housed(t: Tables, copy: FromClause) -> ColumnElement[bool]:
    q = t.job_queues
    return select(q.c.name).where(q.c.name == copy.c.queue).exists()


def counted(connection: Connection, t: Tables, undone: Undone) -> tuple[Mapping[str, int], Mapping[Left, int]]:
    """What would be taken back, by queue, and what would be left alone. 100,000 copies: about 1 s."""
    j, copy = t.jobs, _copies(t, undone, None)
    takes = _takes(t, undone, copy)
    homeless = _homeless(t, undone, copy)
    queue = case((takes, func.coalesce(copy.c.queue, j.c.queue)), else_=null())
    each = (
        select(takes.label("takes"), queue.label("queue"), j.c.status, homeless.label("homeless"))
        .select_from(copy.outerjoin(j, j.c.id == copy.c.id))
        .subquery("each")
    )
    rows = connection.execute(select(*each.c, func.count()).group_by(*each.c))
    back: dict[str, int] = {}
    left: dict[Left, int] = {}
    for row in rows:
        n = row[4]
        if row[0]:
            back[row[1]] = back.get(row[1], 0) + n
        else:
            key = Left(status=None if row[2] is None else t.status_of(row[2]), homeless=row[3])
            left[key] = left.get(key, 0) + n
    return back, left


def _takes(t: Tables, undone: Undone, copy: FromClause) -> ColumnElement[bool]:
    if undone.kind.removes:
        return and_(t.jobs.c.id.is_(None), _housed(t, copy))
    return func.coalesce(_unmoved(t, undone, copy), false())


def _homeless(t: Tables, undone: Undone, copy: FromClause) -> ColumnElement[bool]:
    housed = undone.kind.removes or undone.kind is ActionKind.MOVE
    return ~_housed(t, copy) if housed else false()


def take_back(
    connection: Connection, t: Tables, undone: Undone, chunk: Chunk, *, action_id: UUID, logged: bool
) -> changes.Outcome:
    """Put the copies of a chunk in place again, under a new generation, in one statement with all that belongs to it.

    Rows are locked in the order of their ids and judged as they stand then. What comes back to wait is promised in
    the outbox. `action_id` is the undo's.
    """
    if chunk.size > changes.BULK_ROWS:
        changes.count_by_statement(connection)
    picked = select(func.unnest(array_of(chunk.ids)).label("id")).cte("picked")
    copy = _copies(t, undone, chunk)
    changed = _inserted(t, undone, copy) if undone.kind.removes else _updated(t, undone, copy)
    waits = changed.c.status == t.status_word(JobStatus.WAITING)
    sent = (
        insert(t.publications)
        .from_select(["job_ids"], select(sorted_ids(changed)).where(waits).having(func.count() > 0))
        .returning(t.publications.c.id)
        .cte("sent")
    )
    written = [changes.chunk_row(t, chunk, changed, action_id, _depths(t, undone, changed))]
    if undone.kind.removes:
        written.append(_not_arrived(t, changed))
    if logged:
        written.append(changes.event_rows(t, changed, action_id, ActionKind.UNDO))
    missed = (
        select(sorted_ids(picked))
        .join_from(picked, changed, picked.c.id == changed.c.id, isouter=True)
        .where(changed.c.id.is_(None))
        .scalar_subquery()
    )
    done = select(func.count()).select_from(changed).scalar_subquery()
    publication = select(sent.c.id).scalar_subquery()
    row = connection.execute(select(done, missed, publication).add_cte(*written)).one()
    return changes.Outcome(done=row[0], missed=tuple(row[1] or ()), publication=row[2])


def _depths(t: Tables, undone: Undone, changed: CTE) -> ColumnElement[Any]:
    if undone.kind.removes:
        return depths.put_back(t, changed)
    if undone.kind is ActionKind.MOVE:
        return depths.moved(t, changed, origin=changed.c.origin)
    return depths.unretried(t, changed, waited_since=changed.c.waited_since)


def _inserted(t: Tables, undone: Undone, copy: FromClause) -> CTE:
    """Deleted rows, in again: an id that exists stays as it is. The generation is above every one that was published,
    and what waited has the time before it that was left to it when it went."""
    j, a, logs = t.jobs, t.actions, t.job_logs
    known = select(func.max(logs.c.gen)).where(logs.c.job_id == copy.c.id).scalar_subquery()
    began = select(a.c.started_at).where(a.c.id == undone.id).scalar_subquery()
    left = func.now() + (copy.c.expires_at - began)
    now = {
        "gen": func.greatest(copy.c.gen, func.coalesce(known, 0)) + 1,
        "expires_at": case(
            (copy.c.status == t.status_word(JobStatus.WAITING), func.greatest(copy.c.expires_at, left)),
            else_=copy.c.expires_at,
        ),
        "updated_at": func.now(),
    }
    names = [c.key for c in j.c]
    rows = select(*[now.get(name, copy.c[name]) for name in names]).where(_housed(t, copy)).order_by(copy.c.id)
    return (
        upsert(j)
        .from_select([j.c[name] for name in names], rows)
        .on_conflict_do_nothing(index_elements=[j.c.id])
        .returning(j.c.id, j.c.queue, j.c.status, j.c.gen, j.c.created_at, j.c.run_at, j.c.started_at)
        .cte("changed")
    )


def _updated(t: Tables, undone: Undone, copy: FromClause) -> CTE:
    """Retried, edited or moved rows as they were."""
    j = t.jobs
    locked = (
        select(*copy.c, j.c.queue.label("origin"), j.c.run_at.label("waited_since"))
        .join_from(j, copy, j.c.id == copy.c.id)
        .where(fenced(_unmoved(t, undone, copy)))
        .order_by(j.c.id)
        .with_for_update(of=j)
        .cte("locked")
    )
    values: dict[str, Any] = {"gen": j.c.gen + 1, "updated_at": func.now()}
    if undone.kind is ActionKind.MOVE:
        values |= {"queue": locked.c.queue, "expires_at": j.c.expires_at + changes.stood(t)}
    else:
        values |= {name: locked.c[name] for name in CLOCKS}
    if undone.kind is ActionKind.EDIT:
        values["payload"] = locked.c.payload
    return (
        update(j)
        .where(j.c.id == locked.c.id, fenced(j.c.gen == locked.c.gen + 1))
        .values(values)
        .returning(j.c.id, j.c.queue, j.c.status, j.c.gen, j.c.run_at, locked.c.origin, locked.c.waited_since)
        .cte("changed")
    )


def _not_arrived(t: Tables, changed: CTE) -> CTE:
    """Take the arrivals back that the counters' trigger saw: these jobs arrived once, long ago."""
    d = t.job_deltas
    at = func.date_trunc("minute", changed.c.created_at)
    rows = select(changed.c.queue, -func.count(), at).group_by(changed.c.queue, at)
    return insert(d).from_select(["queue", "n", "arrived"], rows).cte("not_arrived")


def standing(connection: Connection, t: Tables, undone: Undone, ids: Sequence[UUID]) -> dict[UUID, Left]:
    """How the jobs that an undo left alone stand now; one whose copy has gone is left out."""
    j, u = t.jobs, t.undo_jobs
    queue = u.c.row.op("->>")("queue")
    homeless: ColumnElement[bool] = false()
    if undone.kind.removes or undone.kind is ActionKind.MOVE:
        homeless = ~select(t.job_queues.c.name).where(t.job_queues.c.name == queue).exists()
    rows = connection.execute(
        select(u.c.job_id, j.c.status, homeless)
        .select_from(u.outerjoin(j, j.c.id == u.c.job_id))
        .where(u.c.action_id == undone.id, u.c.job_id == func.any(array_of(array_text(ids))))
    )
    return {row[0]: Left(status=None if row[1] is None else t.status_of(row[1]), homeless=bool(row[2])) for row in rows}


# ---------------------------------------------------------------------------------------------------------- queues


def remember(connection: Connection, t: Tables, action_id: UUID, before: Mapping[str, Any]) -> None:
    """Keep with a held action what it replaces."""
    a = t.actions
    connection.execute(update(a).where(a.c.id == action_id).values(before=dict(before)))


def remembered(connection: Connection, t: Tables, action_id: UUID) -> Mapping[str, Any]:
    """What an action replaced."""
    before: Mapping[str, Any] = connection.execute(
        select(t.actions.c.before).where(t.actions.c.id == action_id)
    ).scalar_one()
    return before


def queue_row(connection: Connection, t: Tables, queue: str) -> Mapping[str, Any] | None:
    """A queue's priority and number of workers under its lock; None when there is no such queue."""
    q = t.job_queues
    row = connection.execute(select(q.c.priority, q.c.concurrency).where(q.c.name == queue).with_for_update()).first()
    return None if row is None else {"priority": row[0], "concurrency": row[1]}


def holders(connection: Connection, t: Tables, queue: str) -> list[dict[str, Any]]:
    """Who holds a queue paused, as JSON can keep it; the queue's row is locked first."""
    p = t.queue_pauses
    queue_row(connection, t, queue)
    rows = connection.execute(select(p).where(p.c.queue == queue).order_by(p.c.holder)).mappings()
    return [
        {
            "holder": row["holder"],
            "reason": row["reason"],
            "until": row["until"].isoformat() if row["until"] else None,
            "hard": row["hard"],
            "action_id": str(row["action_id"]) if row["action_id"] else None,
        }
        for row in rows
    ]


# ----------------------------------------------------------------------------------------------------- what can be


def undoable_until(t: Tables, days: float) -> ColumnElement[Any]:
    """Until when an action can be taken back; NULL where it cannot. Its first copy stands for all of them."""
    a, u = t.actions, t.undo_jobs
    jobs = [kind.value for kind in ActionKind if kind.undoable and kind.bulk]
    queues = [kind.value for kind in ActionKind if kind.undoable and not kind.bulk]
    kept = select(u.c.kept_until).where(u.c.action_id == a.c.id).order_by(u.c.job_id).limit(1).scalar_subquery()
    until = case(
        (a.c.kind.in_(jobs), kept),
        (
            and_(a.c.kind.in_(queues), a.c.before != literal({}, a.c.before.type)),
            a.c.finished_at + func.make_interval(0, 0, 0, 0, 0, 0, days * 86_400.0),
        ),
        else_=cast(null(), TIMESTAMPTZ),
    )
    possible = and_(
        a.c.done > 0, or_(a.c.state == "done", a.c.state == "partly", a.c.state == "stopped"), until > func.now(),
        undone_by(t).is_(None),
    )  # fmt: skip
    return case((possible, until), else_=cast(null(), TIMESTAMPTZ)).label("undoable_until")


def undone_by(t: Tables) -> ColumnElement[Any]:
    """The undo that took an action back, or is at it."""
    a, other = t.actions, t.actions.alias("undo")
    found = select(other.c.id).where(other.c.undo_of == a.c.id, other.c.state != "refused")
    return found.order_by(other.c.started_at).limit(1).scalar_subquery()
