"""Runbooks: notebooks with typed parameters that are listed, described and run; the command line and operators use it.

A runbook has the headed steps *When to use* → `parameters` cell → *Look* → *Plan* → *Act* → *Verify* → *Undo*. Its
executed copy is the record of the incident.
"""

from __future__ import annotations

from queuemon.runbooks.catalogue import Parameter, RunbookInfo, describe, folders, list_runbooks
from queuemon.runbooks.run import RunResult, StepProgress, run
from queuemon.runbooks.steps import act, failed_jobs, plan, select, settled, verify_completed

__all__ = [
    "Parameter",
    "RunResult",
    "RunbookInfo",
    "StepProgress",
    "act",
    "describe",
    "failed_jobs",
    "folders",
    "list_runbooks",
    "plan",
    "run",
    "select",
    "settled",
    "verify_completed",
]
