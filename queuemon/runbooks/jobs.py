"""Jobs of a runbook: which ones are meant, and whether what was done to them holds. Cells call these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from queuemon.contract import JobStatus
from queuemon.errors import FilterError, InvalidValue, RunbookError
from queuemon.filters import JobFilter, quote
from queuemon.model import ActionResult
from queuemon.runbooks import kinds
from queuemon.runbooks.steps import Outcome

if TYPE_CHECKING:
    from queuemon.workbench import Workbench

#: Ids in one filter; the language allows 200 terms.
IDS: Final = 150


def jobs_of(wb: Workbench, queue: str, state: str) -> JobFilter:
    """The jobs of an existing queue (empty: of all queues) in a state, by the filter's word. Raises UnknownQueue."""
    return JobFilter.of(queue=wb.queue_name(queue) if queue else None, status=state)


def narrowed(where: JobFilter, *, error: str = "", signature: str = "", since: str = "", until: str = "") -> JobFilter:
    """Of these jobs those whose error holds a text, with a failed attempt of a signature, that ended within a window.

    `since` and `until` are ages ("2h") or times ("2026-10-03T14:03", UTC); what is empty narrows nothing. Raises
    InvalidValue for what is neither.
    """
    parts = [f"error:{quote(error)}"] if error else []
    parts += [f"signature:{quote(signature)}"] if signature else []
    parts += [f"finished>={_moment('since', since)}"] if since else []
    parts += [f"finished<{_moment('until', until)}"] if until else []
    for part in parts:
        where = where & JobFilter.parse(part)
    return where


def _moment(name: str, text: str) -> str:
    try:
        return kinds.moment(text)
    except FilterError:
        raise InvalidValue(f"{name} is {text[:60]!r}", expected=kinds.KINDS["moment"].expected) from None


def retry_kind(*, canary: bool) -> str:
    """The action that retries: all at once, or a few first and more while they complete."""
    return "canary" if canary else "retry"


def verify_removed(wb: Workbench, result: ActionResult | None, ids: Sequence[UUID]) -> Outcome | None:
    """After a deletion: no failed job of the selection is left, and what was removed can be brought back.

    A job that somebody retried meanwhile is no failure. Raises RunbookError.
    """
    if result is None:
        print("Nothing to verify: nothing was changed.")  # noqa: T201
        return None
    found = wb.statuses_of(ids)
    outcome = Outcome(total=len(ids), by_status=found, settled=True)
    if found.get(JobStatus.FAILED):
        raise RunbookError(
            f"verification failed: {outcome!r}".rstrip("."),
            expected="none of them failed any more",
            next_step="see `queuemon actions` for who brought them back, and run this again",
        )
    record = wb.action(result.id)
    if record.done and record.undoable_until is None:
        raise RunbookError(
            "verification failed: no copy of the removed jobs is left",
            expected="a copy to undo from",
            next_step="see `queuemon actions` for who took it",
        )
    return outcome


def verify_freed(wb: Workbench, result: ActionResult | None, ids: Sequence[UUID]) -> Outcome | None:
    """After a rescue: none of the jobs is stuck; each waits, runs under a worker that beats, or has ended.

    Raises RunbookError, as when a job has taken down its next worker too.
    """
    if result is None:
        print("Nothing to verify: nothing was changed.")  # noqa: T201
        return None
    stuck = sum(
        wb.count(f"status:stuck id in ({', '.join(map(str, ids[n : n + IDS]))})").value
        for n in range(0, len(ids), IDS)
    )  # fmt: skip
    outcome = Outcome(total=len(ids), by_status=wb.statuses_of(ids), settled=True)
    if stuck:
        raise RunbookError(
            f"verification failed: {stuck:,} of {len(ids):,} jobs are stuck again",
            expected="none",
            next_step="such a job may kill its worker: look at its attempts with `queuemon job ID` before the next try",
        )
    return outcome
