"""Bringing both stores to agree: repairs in rounds, and a new comparison as the verification. Cells call these."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from queuemon.drift.model import DriftReport, Finding
from queuemon.drift.planning import finding_of
from queuemon.errors import InvalidValue, RunbookError
from queuemon.model import ActionResult, Plan
from queuemon.render.html import Static, static
from queuemon.runbooks.steps import act

if TYPE_CHECKING:
    from queuemon.workbench import Workbench

#: What a Redis that lost data, or came back with old data, leaves behind.
LOSS: Final = (1, 8, 9, 10, 15)

#: Rounds of repairs at most.
ROUNDS: Final = 1_000

#: Seconds between two comparisons of a verification, besides the time that they take.
LOOK_SECONDS: Final = 1.0

#: Kinds that a key tells apart, not only a job.
_KEYED: Final = frozenset({13, 15, 16})


def class_numbers(words: Sequence[str]) -> tuple[int, ...] | None:
    """Classes of drift as a runbook's parameter holds them; None (every class) for none. Raises InvalidValue."""
    try:
        chosen = tuple(sorted({int(word) for word in words}))
    except ValueError:
        raise InvalidValue(f"classes is {', '.join(words)[:60]!r}", expected="numbers from 1 to 16") from None
    return chosen or None


def disagreements(report: DriftReport) -> Static:
    """What a comparison found, a row per class that was found."""
    return static(report)


def repair(
    wb: Workbench, plan: Plan, *, dry_run: bool, reason: str, rounds: int = 1, classes: Iterable[int] | None = None
) -> ActionResult | None:
    """Apply a repair; then compare, plan and repair again, at most `rounds` in all, until nothing is left to repair.

    Each round keeps the budgets of the first. Returns the last round's result, None when nothing was done.
    """
    if not 1 <= rounds <= ROUNDS:
        raise InvalidValue(f"rounds is {rounds:,}", expected=f"1 to {ROUNDS:,}")
    result = act(wb, plan, dry_run=dry_run, reason=reason)
    for _ in range(rounds - 1):
        if result is None or result.state != "done" or not result.done:
            break
        more = wb.plan("repair", list(plan.options["queues"]), deep=plan.options["deep"], classes=classes,
                       max_repairs=plan.options["max_repairs"], max_percent=plan.options["max_percent"])  # fmt: skip
        if not more.count:
            break
        result = act(wb, more, dry_run=False, reason=reason)
    return result


def verify_repaired(wb: Workbench, plan: Plan, result: ActionResult | None, *, seconds: float) -> DriftReport | None:
    """Compare again: nothing of what the plan named is found any more, within `seconds`. Raises RunbookError."""
    planned = {_same(finding_of(item)) for item in plan.options["items"]}
    return _agreed(
        wb, result, plan.options["queues"], lambda report: sum(_same(f) in planned for f in report.findings),
        deep=plan.options["deep"], seconds=seconds,
    )  # fmt: skip


def verify_rebuilt(
    wb: Workbench, plan: Plan, result: ActionResult | None, *, seconds: float, classes: Sequence[int] = LOSS
) -> DriftReport | None:
    """Compare again: of these classes nothing at all is found, within `seconds`. Raises RunbookError."""
    return _agreed(
        wb, result, plan.options["queues"], lambda report: sum(report.of(n).count for n in classes),
        deep=False, seconds=seconds,
    )  # fmt: skip


def _agreed(
    wb: Workbench, result: ActionResult | None, queues: Sequence[str], left: Any, *, deep: bool, seconds: float
) -> DriftReport | None:
    if result is None:
        print("Nothing to verify: nothing was changed.")  # noqa: T201
        return None
    deadline = time.monotonic() + seconds
    while True:
        report = wb.drift(list(queues), deep=deep)
        if not (n := left(report)) and report.complete:
            return report
        if time.monotonic() >= deadline:
            raise RunbookError(
                f"verification failed: {n:,} disagreements are left or have come back: {report.summary}".rstrip("."),
                expected="none of what was repaired",
                next_step="see `queuemon drift`: does the other side keep making them, or does Redis lose them again?",
            )
        time.sleep(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic())))


def _same(finding: Finding) -> tuple[int, str, UUID | None, str]:
    """What makes it the same trouble, under whatever generation."""
    return finding.number, finding.queue, finding.job_id, finding.key if finding.number in _KEYED else ""
