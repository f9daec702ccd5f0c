"""Plans of a run: the jobs that were selected, and actions that a run which is started again meets as it left them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from queuemon.contract import JobStatus
from queuemon.errors import LimitExceeded
from queuemon.filters import JobFilter, quote
from queuemon.model import ActionKind, Plan
from queuemon.runbooks import journal
from queuemon.runbooks.journal import Run

if TYPE_CHECKING:
    from queuemon.workbench import Workbench

#: Jobs read at once.
PAGE = 1_000


class Selection(list[UUID]):
    """Ids of jobs, frozen when they were seen."""

    #: Names the selection within its run, so that its actions are found again; empty outside of a run.
    step: str = ""


def failed_jobs(wb: Workbench, queue: str, error: str = "") -> JobFilter:
    """The failed jobs of an existing queue, all or those whose error holds a text. Raises UnknownQueue."""
    where = JobFilter.of(queue=wb.queue_name(queue), status=JobStatus.FAILED)
    return where & JobFilter.parse(f"error:{quote(error)}") if error else where


def select(wb: Workbench, where: JobFilter, *, limit: int) -> Selection:
    """The ids of the jobs that match now: frozen, so that what was seen is what is acted on and verified.

    In a run that is started again, the ids that its action on them froze, whatever matches now. Raises LimitExceeded
    when more than `limit` match.
    """
    run, ids = journal.current(), Selection()
    if run is not None:
        ids.step = run.step("selection")
        begun = wb.begun(*(run.action_id(f"{_on(kind, ids.step)} 1") for kind in ActionKind))
        if begun is not None and begun.ids is not None:
            ids += begun.ids
            return ids
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


def plan(wb: Workbench, kind: str, target: Any, **options: Any) -> Plan | None:
    """What the action would do to a selection, a filter's jobs or a queue; None when nothing is selected.

    `options` are those of `Workbench.plan`. In a run, the action's id follows from the run and the step: where it was
    begun before, this is its plan as it was frozen then.
    """
    run = journal.current()
    if run is None:
        return None if _empty(target) else wb.plan(kind, target, **options)
    action_id = run.action_id(_step(run, kind, target))
    if (begun := wb.begun(action_id)) is not None:
        return begun
    return None if _empty(target) else wb.plan(kind, target, action_id=action_id, **options)


def adopted(wb: Workbench, run: Run, made: Plan) -> Plan:
    """A plan that was not made by `plan`, under an id of the run; as it was frozen where it was begun before."""
    action_id = run.action_id(run.step(f"{made.kind.value} {made.target}"))
    return wb.begun(action_id) or replace(made, id=action_id)


def fingerprint(runbook: str, made: Plan) -> str:
    """What an approval is given for: the SHA-256 of a runbook's plan, 64 hexadecimal digits.

    Of what it does to which jobs; not of its id and the moment of its making, which differ between a dry run and the
    run that acts. The end of a pause counts as its length in minutes.
    """
    options = {name: _lasting(name, value, made.cutoff) for name, value in made.options.items()}
    ids = None if made.ids is None else sorted(str(i) for i in made.ids)
    told = [runbook, made.kind.value, made.target, made.count, ids, options]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode("utf-8", "replace")).hexdigest()


def _lasting(name: str, value: Any, cutoff: datetime) -> Any:
    if name != "until" or not isinstance(value, str):
        return value
    return round((datetime.fromisoformat(value) - cutoff).total_seconds() / 60)


def _step(run: Run, kind: str, target: Any) -> str:
    kind = str(getattr(kind, "value", kind))
    if isinstance(target, Selection) and target.step:
        return run.step(_on(kind, target.step))
    if isinstance(target, str | JobFilter | UUID):
        return run.step(f"{kind} {target}")
    return run.step(kind)


def _on(kind: str, step: str) -> str:
    return f"{kind} of {step}"


def _empty(target: Any) -> bool:
    return isinstance(target, Sequence) and not isinstance(target, str) and not target
