"""One chunk of a bulk action in one transaction: the changes with all that belongs to them, and the cursor."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from queuemon.actions import pacing, text, undo
from queuemon.actions.entries import Journal
from queuemon.filters import JobFilter
from queuemon.model import ActionKind
from queuemon.store import Store, changes, erasing
from queuemon.store import undo as undoing
from queuemon.store.audit import Entry
from queuemon.store.chunks import Chunk, Order, standings
from queuemon.store.filtering import conditions
from queuemon.store.postgres import briefly

#: The jobs of a selection up to this size each get an event in their history; of others the chunks keep the ids.
LOGGED_IDS: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What became of a chunk."""

    #: The action's row as it stands now; somebody else may have moved it on, or ended it.
    entry: Entry
    #: The outbox row to publish.
    publication: int | None = None
    #: From before the first row's lock to after the commit.
    held_seconds: float = 0.0


def take(store: Store, journal: Journal, entry: Entry, chunk: Chunk, *, cancel: bool) -> Turn:
    """Change a chunk, unless the action stands elsewhere meanwhile.

    Raises RowHeld where another session keeps a row for LOCK_SECONDS, and with `cancel` StoreTimeout where a statement
    takes CANCEL_SECONDS: then nothing has changed.
    """
    with journal.turn(entry) as (connection, held):
        if not held.running or held.cursor != entry.cursor:
            return Turn(entry=held)
        began = time.monotonic()
        seconds = pacing.CANCEL_SECONDS if cancel else None
        with briefly(connection, store.settings, lock_seconds=pacing.LOCK_SECONDS, seconds=seconds):
            change = _change_back if undo.of_jobs(entry) else _change
            moved, publication = change(store, journal, connection, held, chunk)
    return Turn(entry=moved, publication=publication, held_seconds=time.monotonic() - began)


def order(store: Store, entry: Entry) -> Order:
    """What an entered action is to do, as its statements take it."""
    return Order(
        kind=entry.record.kind,
        cutoff=entry.cutoff,
        lease_seconds=store.settings.lease_seconds,
        to=entry.record.options.get("to", ""),
        payload=entry.record.options.get("payload", ""),
    )


def _change(store: Store, journal: Journal, connection: Any, held: Entry, chunk: Chunk) -> tuple[Entry, int | None]:
    """Do what is ordered; returns the action's new row and the outbox row to publish."""
    t, kind, settings, ordered = store.tables, held.record.kind, store.settings, order(store, held)
    also = None
    if held.ids is None:
        where = JobFilter.parse(held.record.target)
        also = conditions(where, t, now=held.cutoff, lease_seconds=settings.lease_seconds)
    outcome = changes.change_chunk(
        connection, t, ordered, chunk, action_id=held.record.id, also=also,
        keep_days=settings.undo_days, logged=held.ids is not None and len(held.ids) <= LOGGED_IDS,
    )  # fmt: skip
    copies: tuple[UUID, ...] = ()
    if kind is ActionKind.ERASE:
        copies = erasing.forget(connection, t, chunk, missed=outcome.missed, action_id=held.record.id)
    missed = [i for i in outcome.missed if i not in set(copies)]
    now = standings(connection, t, ordered, missed) if missed else {}
    skipped = {i: text.why_not(kind, standing) for i, standing in now.items()}
    moved = journal.advance(
        connection,
        held,
        cursor=chunk.last,
        done=outcome.done + len(copies),
        skipped=skipped,
        gone=len(missed) - len(skipped),
    )
    return moved, outcome.publication


def _change_back(
    store: Store, journal: Journal, connection: Any, held: Entry, chunk: Chunk
) -> tuple[Entry, int | None]:
    """Take back what an action did."""
    t, undone = store.tables, undo.undone_of(held)
    logged = held.record.planned <= LOGGED_IDS
    outcome = undoing.take_back(connection, t, undone, chunk, action_id=held.record.id, logged=logged)
    now = undoing.standing(connection, t, undone, outcome.missed) if outcome.missed else {}
    skipped = {i: undo.why_not(undone, now[i]) if i in now else text.COPY_GONE for i in outcome.missed}
    moved = journal.advance(connection, held, cursor=chunk.last, done=outcome.done, skipped=skipped)
    return moved, outcome.publication
