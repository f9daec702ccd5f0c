"""An action's own row: entered once, held turn by turn, ended once, read back as a result; `apply` uses it."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from queuemon.actions import text
from queuemon.errors import InvalidValue
from queuemon.model import ActionResult, Plan
from queuemon.store import Store, audit
from queuemon.store.audit import Entry

#: Characters of a reason at most.
REASON_LENGTH: Final = 10_000


def cleaned(value: str) -> str:
    """Text that PostgreSQL can hold: without NUL and lone surrogates."""
    return value.replace("\0", "�").encode("utf-8", "replace").decode("utf-8")


def os_user() -> str:
    """The user of the operating system; the number where it has no name."""
    try:
        return cleaned(getpass.getuser())
    except (OSError, KeyError, ImportError):
        return str(os.getuid())


class Journal:
    """Writes the audit trail of one `apply`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.user = os_user()

    def enter(self, plan: Plan, reason: str) -> Entry:
        """The plan's row, new or found; raises InvalidValue when its id belongs to another action."""
        if len(reason) > REASON_LENGTH:
            raise InvalidValue(
                f"the reason has {len(reason):,} characters",
                expected=f"at most {REASON_LENGTH:,}",
                next_step="say it in fewer words",
            )
        with self.store.postgres.begin() as connection:
            entry = audit.begin(connection, self.store.tables, plan, reason=cleaned(reason), os_user=self.user)
            known = entry.record
            if (known.kind, known.target, entry.ids) != (plan.kind, plan.target, plan.ids):
                raise InvalidValue(
                    f"the action {plan.id} exists already and is another one: {known.kind.value} {known.target[:200]}",
                    expected="an id of its own for each plan",
                    next_step="plan again without naming an id",
                )
        return entry

    def found(self, entry: Entry) -> Entry:
        """The action's row as it stands now; waits for whoever holds it."""
        with self.turn(entry) as (_, held):
            return held

    @contextmanager
    def turn(self, entry: Entry) -> Iterator[tuple[Any, Entry]]:
        """A transaction that holds the action's row: (connection, the row as it stands now)."""
        with self.store.postgres.begin() as connection:
            yield connection, audit.held(connection, self.store.tables, entry.record.id)

    def advance(
        self,
        connection: Any,
        held: Entry,
        *,
        cursor: UUID | None = None,
        done: int = 0,
        skipped: Mapping[UUID, str] | None = None,
        gone: int = 0,
    ) -> Entry:
        """Move a held action on, in the transaction of what it did."""
        return audit.advance(
            connection, self.store.tables, held, cursor=cursor or held.cursor, done=done, skipped=skipped, gone=gone
        )

    def end(
        self,
        connection: Any,
        held: Entry,
        *,
        state: str,
        summary: str,
        skipped: Mapping[str, int] | None = None,
        **detail: Any,
    ) -> Entry:
        """End a held action."""
        reasons = held.skipped if skipped is None else skipped
        return audit.finish(
            connection, self.store.tables, held, state=state, summary=summary, skipped=reasons, os_user=self.user,
            detail={"done": held.record.done, **detail},
        )  # fmt: skip

    def refuse(self, connection: Any, held: Entry, summary: str) -> ActionResult:
        """End a held action that could do nothing."""
        return result(self.end(connection, held, state="refused", summary=summary))

    def repeated(self, connection: Any, ended: Entry) -> ActionResult:
        """What an action that has ended did: the first result again."""
        detail = audit.ending(connection, self.store.tables, ended.record.id)
        return result(
            ended,
            published=bool(detail.get("published", True)),
            output=str(detail.get("output", "")),
            repeated=True,
        )


def result(
    entry: Entry, *, published: bool = True, note: str = "", output: str = "", repeated: bool = False
) -> ActionResult:
    """An ended action's row as the value that surfaces show."""
    record = entry.record
    return ActionResult(
        id=record.id,
        kind=record.kind,
        state=record.state,
        planned=record.planned,
        done=record.done,
        skipped=text.breakdown(entry.skipped),
        gone=entry.gone,
        published=published,
        started_at=record.started_at,
        finished_at=record.finished_at or record.started_at,
        reason=record.reason,
        summary=f"{record.summary} {note}." if note else record.summary,
        repeated=repeated,
        output=output,
    )
