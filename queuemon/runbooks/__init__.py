"""Runbooks: notebooks with typed parameters that are listed, described and run; the command line and operators use it.

A runbook has the headed steps *When to use* → `parameters` cell → *Look* → *Plan* → *Act* → *Verify* → *Undo*. Its
executed copy is the record of the incident.
"""

from __future__ import annotations

from queuemon.runbooks.advice import advise, listed, nothing_to_do, verify_healthy
from queuemon.runbooks.agreement import LOSS, class_numbers, disagreements, repair, verify_rebuilt, verify_repaired
from queuemon.runbooks.catalogue import RunbookInfo, describe, folders, list_runbooks
from queuemon.runbooks.jobs import jobs_of, narrowed, retry_kind, verify_freed, verify_removed
from queuemon.runbooks.parameters import Parameter
from queuemon.runbooks.past import PastRun, history
from queuemon.runbooks.procedures import act_all, drain, pauses, shown, take_back, verify_idle, verify_on_time, way_for
from queuemon.runbooks.progress import StepProgress
from queuemon.runbooks.reported import verify_counts
from queuemon.runbooks.run import RunResult, resume, run
from queuemon.runbooks.selection import Selection, failed_jobs, plan, select
from queuemon.runbooks.steps import act, settled, verify_completed

__all__ = [
    "LOSS",
    "Parameter",
    "PastRun",
    "RunResult",
    "RunbookInfo",
    "Selection",
    "StepProgress",
    "act",
    "act_all",
    "advise",
    "class_numbers",
    "describe",
    "disagreements",
    "drain",
    "failed_jobs",
    "folders",
    "history",
    "jobs_of",
    "list_runbooks",
    "listed",
    "narrowed",
    "nothing_to_do",
    "pauses",
    "plan",
    "repair",
    "resume",
    "retry_kind",
    "run",
    "select",
    "settled",
    "shown",
    "take_back",
    "verify_completed",
    "verify_counts",
    "verify_freed",
    "verify_healthy",
    "verify_idle",
    "verify_on_time",
    "verify_rebuilt",
    "verify_removed",
    "verify_repaired",
    "way_for",
]
