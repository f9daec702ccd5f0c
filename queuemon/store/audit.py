"""The audit trail: actions with their cursor and outcome, their events, and who holds a pause; actions write it.

`action_events` is only ever inserted into: an operator's role needs no more than that right there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Text, and_, func, insert, literal, literal_column, null, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import RowMapping
from sqlalchemy.sql.elements import ColumnElement

from queuemon.model import ActionKind, ActionRecord, Pause, Plan
from queuemon.schema.tables import Tables
from queuemon.store import undo
from queuemon.store.chunks import array_of, array_text

#: State of an action that has not ended; every other one is final.
RUNNING = "running"

#: A running action that nobody has moved on for so long counts as interrupted; a waiting one notes that it is alive.
INTERRUPTED_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of `actions`, with what a running action needs to go on."""

    record: ActionRecord
    ids: tuple[UUID, ...] | None
    cutoff: datetime
    cursor: UUID | None
    #: reason → number.
    skipped: Mapping[str, int]
    gone: int

    @property
    def running(self) -> bool:
        """Whether it has not ended (it may have been left by a crash)."""
        return self.record.state == RUNNING


def actor(os_user: str) -> ColumnElement[str]:
    """Who acts: the role that logged in, and the user of the operating system."""
    who: ColumnElement[str] = literal_column("session_user::text", Text) + literal("/" + os_user, Text)
    return who


def actor_name(connection: Connection, os_user: str) -> str:
    """The same as text."""
    name: str = connection.execute(select(actor(os_user))).scalar_one()
    return name


def begin(connection: Connection, t: Tables, plan: Plan, *, reason: str, os_user: str) -> Entry:
    """Enter a plan's action, or find it there: whoever comes second with the same id gets the first one's row."""
    a = t.actions
    entered = connection.execute(
        upsert(a)
        .values(
            id=plan.id,
            kind=plan.kind.value,
            target=plan.target,
            options=dict(plan.options),
            ids=null() if plan.ids is None else array_of(array_text(plan.ids)),
            cutoff=plan.cutoff,
            planned=_planned(plan),
            undo_of=UUID(plan.target) if plan.kind is ActionKind.UNDO else None,
            reason=reason,
            actor=actor(os_user),
        )
        .on_conflict_do_nothing(index_elements=[a.c.id])
        .returning(a.c.id)
    ).first()
    event = "started" if entered else "resumed"
    entry = held(connection, t, plan.id)
    if entry.running:
        note(connection, t, plan.id, event, os_user=os_user, detail={"planned": plan.count})
    return entry


def _planned(plan: Plan) -> int:
    """How many jobs an action will account for: an undo goes through all copies, also of what has moved on."""
    if plan.kind is ActionKind.UNDO:
        return plan.count + sum(b.count for b in plan.excluded)
    return plan.count if plan.ids is None else len(plan.ids)


def held(connection: Connection, t: Tables, action_id: UUID) -> Entry:
    """An action's row under its lock: two processes that apply the same plan take turns, chunk by chunk."""
    row = connection.execute(select(t.actions).where(t.actions.c.id == action_id).with_for_update()).mappings().one()
    return _entry(row)


def find(connection: Connection, t: Tables, action_ids: Sequence[UUID]) -> Entry | None:
    """The first of these actions that was entered, without a lock; None when none was."""
    a = t.actions
    row = connection.execute(select(a).where(a.c.id.in_(action_ids)).order_by(a.c.started_at).limit(1)).mappings()
    found = row.first()
    return _entry(found) if found is not None else None


def advance(
    connection: Connection,
    t: Tables,
    entry: Entry,
    *,
    cursor: UUID | None,
    done: int = 0,
    skipped: Mapping[UUID, str] | None = None,
    gone: int = 0,
) -> Entry:
    """Move a held action on; with the chunk's changes in one transaction. Returns its new row."""
    a, c = t.actions, t.action_chunks.c
    reasons = dict(entry.skipped)
    for reason in (skipped or {}).values():
        reasons[reason] = reasons.get(reason, 0) + 1
    if skipped:
        last = select(func.max(c.n)).where(c.action_id == entry.record.id).scalar_subquery()
        connection.execute(
            update(t.action_chunks)
            .where(c.action_id == entry.record.id, c.n == last)
            .values(skipped={str(i): reason for i, reason in skipped.items()})
        )
    row = connection.execute(
        update(a)
        .where(a.c.id == entry.record.id)
        .values(cursor=cursor, done=a.c.done + done, skipped=reasons, gone=a.c.gone + gone, updated_at=func.now())
        .returning(a)
    )
    return _entry(row.mappings().one())


def finish(
    connection: Connection,
    t: Tables,
    entry: Entry,
    *,
    state: str,
    summary: str,
    skipped: Mapping[str, int],
    os_user: str,
    detail: Mapping[str, Any],
) -> Entry:
    """End a held action; a second end changes nothing and returns the first.

    The payload of an edit goes from its options: it stands in the job now.
    """
    a = t.actions
    kept = a.c.options if state == "stopped" else a.c.options.op("-")(literal("payload", Text))
    row = connection.execute(
        update(a)
        .where(a.c.id == entry.record.id, a.c.state == RUNNING)
        .values(
            state=state,
            summary=summary,
            options=kept,
            skipped=dict(skipped),
            updated_at=func.clock_timestamp(),
            finished_at=func.clock_timestamp(),
        )
        .returning(a)
    ).mappings()
    found = row.first()
    if found is None:
        return held(connection, t, entry.record.id)
    note(connection, t, entry.record.id, "finished", os_user=os_user, detail={"state": state, **detail})
    return _entry(found)


def note(
    connection: Connection, t: Tables, action_id: UUID, event: str, *, os_user: str, detail: Mapping[str, Any]
) -> None:
    """Append an event."""
    connection.execute(
        insert(t.action_events).values(action_id=action_id, event=event, actor=actor(os_user), detail=dict(detail))
    )


def ending(connection: Connection, t: Tables, action_id: UUID) -> Mapping[str, Any]:
    """What was noted when an action ended, the last time; empty when it has not."""
    e = t.action_events
    detail = connection.execute(
        select(e.c.detail).where(e.c.action_id == action_id, e.c.event == "finished").order_by(e.c.id.desc()).limit(1)
    ).scalar_one_or_none()
    return detail or {}


def recent(connection: Connection, t: Tables, limit: int, *, undo_days: float = 7.0) -> tuple[ActionRecord, ...]:
    """Actions, newest first; without the ids of selections."""
    listed = _listed(t, undo_days)
    rows = connection.execute(select(*listed).order_by(t.actions.c.started_at.desc(), t.actions.c.id).limit(limit))
    return tuple(_record(row) for row in rows.mappings())


def one(connection: Connection, t: Tables, action_id: UUID, *, undo_days: float = 7.0) -> ActionRecord | None:
    """An action by its id; without the ids of a selection."""
    listed = _listed(t, undo_days)
    row = connection.execute(select(*listed).where(t.actions.c.id == action_id)).mappings().first()
    return _record(row) if row is not None else None


def _listed(t: Tables, undo_days: float) -> list[ColumnElement[Any]]:
    """An action's columns, and what its row alone does not say."""
    own = [c for c in t.actions.c if c.key not in {"ids", "before"}]
    return [*own, _silent(t), undo.undoable_until(t, undo_days), undo.undone_by(t).label("undone_by")]


def _silent(t: Tables) -> ColumnElement[bool]:
    """Whether an action says that it runs, but nobody has moved it on for a while."""
    a = t.actions.c
    silent = and_(a.state == RUNNING, a.updated_at < func.now() - timedelta(seconds=INTERRUPTED_SECONDS))
    return silent.label("interrupted")


def pauses(connection: Connection, t: Tables) -> tuple[Pause, ...]:
    """Who holds which queue, the longest first."""
    p = t.queue_pauses
    rows = connection.execute(select(p).order_by(p.c.since, p.c.queue, p.c.holder)).mappings()
    return tuple(Pause(**{c.key: row[c.key] for c in p.c}) for row in rows)


def _entry(row: RowMapping) -> Entry:
    return Entry(
        record=_record(row),
        ids=tuple(row["ids"]) if row["ids"] is not None else None,
        cutoff=row["cutoff"],
        cursor=row["cursor"],
        skipped=row["skipped"],
        gone=row["gone"],
    )


def _record(row: RowMapping) -> ActionRecord:
    return ActionRecord(
        id=row["id"],
        kind=ActionKind(row["kind"]),
        target=row["target"],
        actor=row["actor"],
        reason=row["reason"],
        state=row["state"],
        planned=row["planned"],
        done=row["done"],
        skipped=sum(row["skipped"].values()) + row["gone"],
        started_at=row["started_at"],
        updated_at=row["updated_at"],
        finished_at=row["finished_at"],
        options=row["options"],
        summary=row["summary"],
        undo_of=row["undo_of"],
        undone_by=row.get("undone_by"),
        undoable_until=row.get("undoable_until"),
        interrupted=bool(row.get("interrupted")),
    )
