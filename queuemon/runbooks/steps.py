"""The steps that runbooks share: act unless it is a dry run, wait until jobs have settled, verify. Cells call these."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from queuemon import config
from queuemon.contract import JobStatus
from queuemon.errors import LimitExceeded, RunbookError
from queuemon.filters import JobFilter, quote
from queuemon.model import ActionResult, Plan

if TYPE_CHECKING:
    from queuemon.workbench import Workbench

#: States in which a job is still on its way.
UNSETTLED = (JobStatus.WAITING, JobStatus.ACTIVE)

#: Jobs read at once.
PAGE = 1_000

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

    def __repr__(self) -> str:
        parts = [f"{n:,} {status.value}" for status, n in self.by_status.items() if n]
        if self.gone:
            parts.append(f"{self.gone:,} deleted")
        return f"Of {self.total:,} jobs after {self.waited_seconds:.0f} s: {', '.join(parts) or 'none left'}."


def failed_jobs(wb: Workbench, queue: str, error: str = "") -> JobFilter:
    """The failed jobs of an existing queue, all or those whose error holds a text. Raises UnknownQueue."""
    where = JobFilter.of(queue=wb.queue_name(queue), status=JobStatus.FAILED)
    return where & JobFilter.parse(f"error:{quote(error)}") if error else where


def select(wb: Workbench, where: JobFilter, *, limit: int) -> list[UUID]:
    """The ids of the jobs that match now: frozen, so that what was seen is what is acted on and verified.

    Raises LimitExceeded when more than `limit` match.
    """
    ids: list[UUID] = []
    after: str | None = None
    while True:
        page = wb.jobs(where, limit=PAGE, after=after)
        ids += [job.id for job in page.jobs]
        if len(ids) > limit:
            raise LimitExceeded(
                f"more than {limit:,} jobs match",
                expected="at most the runbook's limit",
                next_step="narrow the filter, or give a higher limit",
            )
        if (after := page.after) is None:
            return ids


def plan(wb: Workbench, kind: str, ids: Sequence[UUID]) -> Plan | None:
    """What the action would do to the selected jobs; None when none is selected."""
    return wb.plan(kind, list(ids)) if ids else None


def act(
    wb: Workbench, plan: Plan | None, *, dry_run: bool, reason: str, where: JobFilter | None = None
) -> ActionResult | None:
    """Apply a plan; a dry run, or a plan that touches nothing, returns None and says so.

    The audit trail gets the reason, the run, and `where`: the filter by which the plan's jobs were selected.
    """
    if plan is None or plan.count == 0:
        print("Nothing to do: the plan touches no job.")  # noqa: T201
        return None
    if dry_run:
        print("Dry run: nothing was changed. Run again with dry_run=False (--wet) to do this.")  # noqa: T201
        return None
    told = [config.runbook_run(), f"jobs of {where}"[:FILTER_LENGTH] if where is not None else ""]
    behind = "; ".join(part for part in told if part)
    return wb.apply(plan, reason=f"{reason} ({behind})".strip() if behind else reason)


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
