"""Which jobs an action may take, found in chunks of ids by keyset; plans count them, bulk actions work through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Text, Uuid, and_, cast, func, literal, select, true
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import FromClause

from queuemon.contract import DELETABLE, LEASE_SECONDS, RETRYABLE, JobStatus
from queuemon.model import ActionKind
from queuemon.schema.tables import Tables
from queuemon.store.leases import silent

#: The states from which each kind of bulk action takes a job.
LEGAL: Mapping[ActionKind, tuple[JobStatus, ...]] = {
    ActionKind.RETRY: tuple(s for s in JobStatus if s in RETRYABLE),
    ActionKind.DELETE: tuple(s for s in JobStatus if s in DELETABLE),
    ActionKind.CLEAR_FAILED: (JobStatus.FAILED,),
    ActionKind.RUN_NOW: (JobStatus.WAITING,),
    ActionKind.PURGE: (JobStatus.WAITING,),
    ActionKind.MOVE: (JobStatus.WAITING, *(s for s in JobStatus if s in RETRYABLE)),
    ActionKind.EDIT: tuple(s for s in JobStatus if s in RETRYABLE),
    ActionKind.RESCUE: (JobStatus.ACTIVE,),
    ActionKind.DELETE_STUCK: (JobStatus.ACTIVE,),
    ActionKind.ERASE: tuple(s for s in JobStatus if s in DELETABLE),
}

#: Chunks found by one read while a filter is worked through (of 2,000 ids: 0.15 s and 4 MB).
PAGE_CHUNKS = 50


@dataclass(frozen=True, kw_only=True)
class Order:
    """What an action is to do to jobs, frozen with its plan; every statement about its jobs follows one of these."""

    kind: ActionKind
    #: What came to stand as it does later is left alone.
    cutoff: datetime
    #: An active job without a beat for so long is stuck.
    lease_seconds: float = LEASE_SECONDS
    #: Where a move brings its jobs.
    to: str = ""
    #: What an edit writes, as JSON text: PostgreSQL reads it, so that no number changes on the way.
    payload: str = ""


def untouched(t: Tables, order: Order) -> ColumnElement[bool]:
    """Beside the state: nothing created after the cutoff, and nothing that reached its end after it.

    So a job that was retried by someone else and failed once more since the plan was made is left alone: its new
    failure is not the one the operator looked at. Run-now asks that the job is not due yet, a move that it stands in
    another queue and that the target exists, a rescue that its worker is silent now and took it before the cutoff.
    """
    j, q = t.jobs, t.job_queues
    old = j.c.created_at <= order.cutoff
    match order.kind:
        case ActionKind.RUN_NOW:
            return and_(old, j.c.run_at > func.now())
        case ActionKind.RESCUE | ActionKind.DELETE_STUCK:
            return and_(
                old, func.coalesce(j.c.started_at, j.c.created_at) <= order.cutoff, silent(t, order.lease_seconds)
            )
        case ActionKind.MOVE:
            ended = func.coalesce(j.c.finished_at, j.c.created_at) <= order.cutoff
            return and_(old, ended, j.c.queue != order.to, select(q.c.name).where(q.c.name == order.to).exists())
        case _:
            return and_(old, func.coalesce(j.c.finished_at, j.c.created_at) <= order.cutoff)


def array_text(ids: Sequence[UUID]) -> str:
    """PostgreSQL's text of an array of ids."""
    return "{" + ",".join(map(str, ids)) + "}"


def array_of(text: str) -> ColumnElement[Any]:
    """Such a text as a bound uuid[]."""
    return cast(literal(text, Text), ARRAY(Uuid))


def among(t: Tables, ids: Sequence[UUID]) -> ColumnElement[bool]:
    """The jobs with these ids. A sub-query of its own, so that the text is read once and not again for every row that
    is looked at (a table without statistics is read whole)."""
    return t.jobs.c.id == func.any(cast(select(array_of(array_text(ids))).scalar_subquery(), ARRAY(Uuid)))


def in_queue(t: Tables, queue: str) -> ColumnElement[bool]:
    """The jobs of a queue."""
    return t.jobs.c.queue == queue


def sorted_ids(rows: FromClause) -> ColumnElement[Any]:
    """The column "id" of rows as one array, in keyset order."""
    return func.array_agg(rows.c.id, type_=ARRAY(Uuid)).aggregate_order_by(rows.c.id)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The ids of one transaction, in keyset order."""

    size: int
    #: PostgreSQL's text of the array, carried from one statement to the next without being taken apart.
    ids: str

    @property
    def first(self) -> UUID:
        """The lowest id."""
        return UUID(self.ids[1:37])

    @property
    def last(self) -> UUID:
        """The highest id: the cursor once the chunk is done."""
        return UUID(self.ids[-37:-1])

    def cut(self, rows: int) -> tuple[Chunk, Chunk | None]:
        """Its first `rows` ids, and the rest; nothing is left of one that is no larger."""
        if self.size <= rows:
            return self, None
        at = 37 * rows  # each id takes 36 characters and a comma
        return (
            Chunk(size=rows, ids=f"{self.ids[:at]}}}"),
            Chunk(size=self.size - rows, ids=f"{{{self.ids[at + 1 :]}"),
        )


def chunks_of(ids: Sequence[UUID], *, after: UUID | None, chunk_rows: int) -> list[Chunk]:
    """A selection's ids beyond the cursor, in chunks."""
    rest = sorted(i for i in ids if after is None or i > after)
    parts = [rest[n : n + chunk_rows] for n in range(0, len(rest), chunk_rows)]
    return [Chunk(size=len(part), ids=array_text(part)) for part in parts]


def find_chunks(
    connection: Connection,
    t: Tables,
    where: ColumnElement[bool],
    states: Sequence[JobStatus],
    *,
    after: UUID | None,
    chunk_rows: int,
) -> list[Chunk]:
    """The next chunks of jobs in these states that match beyond the cursor, up to 50 of them; empty at the end.

    One branch per state, so that each can use the partial index of its state.
    """
    j = t.jobs
    limit = chunk_rows * PAGE_CHUNKS
    beyond = j.c.id > after if after is not None else true()
    found = each_state(
        [select(j.c.id).where(t.status_is(s), where, beyond).order_by(j.c.id).limit(limit) for s in states]
    )
    page = select(found.c.id).order_by(found.c.id).limit(limit).subquery()
    number = (func.row_number().over(order_by=page.c.id) - 1) // chunk_rows
    numbered = select(page.c.id, number.label("n")).subquery()
    rows = connection.execute(
        select(func.count(), cast(sorted_ids(numbered), Text)).group_by(numbered.c.n).order_by(numbered.c.n)
    )
    return [Chunk(size=size, ids=ids) for size, ids in rows]


def each_state(branches: Sequence[Any]) -> FromClause:
    """The rows of bounded selects, one per state, together."""
    first, *others = (select(b.subquery()) for b in branches)
    both: FromClause = (first.union_all(*others) if others else first).subquery()
    return both


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a job stands that an action leaves alone."""

    status: JobStatus
    #: Waiting, and due.
    due: bool
    #: Came to stand so after the cutoff.
    later: bool = False
    #: Active, and its worker is silent.
    stuck: bool = False
    #: In the queue that a move brings its jobs to.
    there: bool = False


def standing_columns(t: Tables, order: Order) -> tuple[ColumnElement[Any], ...]:
    """What `standing_from` reads of a job, whose row may be missing."""
    j = t.jobs
    return (
        j.c.status,
        (j.c.run_at <= func.now()).label("due"),
        and_(t.status_is(JobStatus.ACTIVE), silent(t, order.lease_seconds)).label("stuck"),
        (j.c.queue == order.to).label("there"),
    )


def standing_from(t: Tables, row: Any, *, later: bool = False) -> Standing:
    """The first four of a row's columns as a value."""
    word, due, stuck, there = row[:4]
    return Standing(status=t.status_of(word), due=due, later=later, stuck=bool(stuck), there=there)


def standings(connection: Connection, t: Tables, order: Order, ids: Sequence[UUID]) -> dict[UUID, Standing]:
    """How the jobs of these ids stand now; those that no longer exist are left out."""
    j = t.jobs
    later = j.c.updated_at > order.cutoff
    rows = connection.execute(select(*standing_columns(t, order), later, j.c.id).where(among(t, ids)))
    return {row[5]: standing_from(t, row, later=row[4]) for row in rows}
