"""The steps that runbooks share: act unless it is a dry run, wait until jobs have settled, verify. Cells call these."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from queuemon import config
from queuemon.contract import JobStatus, Keys
from queuemon.errors import NotAllowed, RunbookError
from queuemon.filters import JobFilter
from queuemon.model import ActionResult, Plan
from queuemon.render.html import Safe, el
from queuemon.render.text import clean
from queuemon.runbooks import journal
from queuemon.runbooks.journal import UNAPPROVED, Run
from queuemon.runbooks.selection import adopted, fingerprint

if TYPE_CHECKING:
    from queuemon.workbench import Workbench

#: States in which a job is still on its way.
UNSETTLED = (JobStatus.WAITING, JobStatus.ACTIVE)

#: Characters of a filter that the audit trail keeps beside the reason.
FILTER_LENGTH = 300

#: Seconds between two looks at jobs that have not settled.
INTERVAL = 0.5


@dataclass(frozen=True, kw_only=True, repr=False)
class Outcome:
    """How a set of jobs stands: printed as one sentence."""

    total: int
    by_status: Mapping[JobStatus, int]
    #: Whether nobody is waiting or active any more.
    settled: bool
    #: How long was waited.
    waited_seconds: float = 0.0

    def of(self, status: JobStatus) -> int:
        """How many stand in a state."""
        return self.by_status.get(status, 0)

    @property
    def gone(self) -> int:
        """How many no longer exist."""
        return self.total - sum(self.by_status.values())

    def face(self, keys: Keys) -> tuple[Safe, str]:
        """Static HTML and text, for `queuemon.show()`."""
        return el("p", repr(self)), clean(self)

    def __repr__(self) -> str:
        parts = [f"{n:,} {status.value}" for status, n in self.by_status.items() if n]
        if self.gone:
            parts.append(f"{self.gone:,} deleted")
        return f"Of {self.total:,} jobs after {self.waited_seconds:.0f} s: {', '.join(parts) or 'none left'}."


def act(
    wb: Workbench, plan: Plan | None, *, dry_run: bool, reason: str, where: JobFilter | None = None
) -> ActionResult | None:
    """Apply a plan; a dry run, or a plan that touches nothing, returns None and says so.

    The audit trail gets the reason, the run, and `where`: the filter by which the plan's jobs were selected. In a run
    the action is noted for its record, and one that was begun before goes on, or returns what it did.
    """
    if plan is None or plan.count == 0:
        print("Nothing to do: the plan touches no job.")  # noqa: T201
        return None
    run = journal.current()
    if run is not None:
        if not run.issued(plan.id):
            plan = adopted(wb, run, plan)
        seen = fingerprint(run.name, plan)
        run.note(id=str(plan.id), kind=plan.kind.value, planned=plan.count, hash=seen, state="planned")
    if dry_run:
        print("Dry run: nothing was changed. Run again with dry_run=False (--wet) to do this.")  # noqa: T201
        return None
    if run is not None:
        by = _approved(wb, run, plan, seen) if config.runbook_approval() else ""
        run.note(id=str(plan.id), state="begun", **({"approved_by": by} if by else {}))
    told = [str(run or ""), f"jobs of {where}"[:FILTER_LENGTH] if where is not None else ""]
    behind = "; ".join(part for part in told if part)
    result = wb.apply(plan, reason=f"{reason} ({behind})".strip() if behind else reason)
    if run is not None:
        left = result.gone + sum(b.count for b in result.skipped)
        run.note(id=str(result.id), state=result.state, done=result.done, skipped=left, repeated=result.repeated)
    return result


def _approved(wb: Workbench, run: Run, plan: Plan, seen: str) -> str:
    """Who has approved the plan; raises NotAllowed when nobody has. An action that was begun has been approved."""
    if (role := wb.approved_by(seen)) is not None:
        return role
    if wb.begun(plan.id) is not None:
        return "the plan as it was begun"
    run.note(id=str(plan.id), state=UNAPPROVED)
    raise NotAllowed(
        f"the plan to {plan.kind.value} {plan.count:,} ({seen[:12]}) is not approved",
        expected="the approval of another database role, of this very plan, within the last day",
        next_step=f"`queuemon runbook approve {run.id}` as that role, then `queuemon runbook resume {run.id}`",
    )


def settled(wb: Workbench, ids: Sequence[UUID], *, seconds: float) -> Outcome:
    """Wait until none of the jobs is waiting or active, at most `seconds`, and say how they stand then."""
    started = time.monotonic()
    while True:
        found = wb.statuses_of(ids)
        waited = time.monotonic() - started
        done = not any(found.get(status) for status in UNSETTLED)
        if done or waited >= seconds:
            return Outcome(total=len(ids), by_status=found, settled=done, waited_seconds=waited)
        time.sleep(min(INTERVAL, max(0.0, seconds - waited)))


def verify_completed(
    wb: Workbench, result: ActionResult | None, ids: Sequence[UUID], *, seconds: float
) -> Outcome | None:
    """Wait for the jobs of an action; all that still exist must complete. Raises RunbookError when they do not."""
    if result is None:
        print("Nothing to verify: nothing was changed.")  # noqa: T201
        return None
    outcome = settled(wb, ids, seconds=seconds)
    if outcome.of(JobStatus.COMPLETED) + outcome.gone < outcome.total:
        raise RunbookError(
            f"verification failed: {outcome!r}".rstrip("."),
            expected="every job completed" if outcome.settled else f"every job completed within {seconds:g} s",
            next_step="look at the jobs that failed again before you retry once more"
            if outcome.settled
            else "see `queuemon status`: do workers run, is the queue paused?",
        )
    return outcome
