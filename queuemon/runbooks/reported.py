"""Whether a report's numbers hold; the runbook incident-report ends with it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from queuemon.analysis.incident import Incident
from queuemon.errors import RunbookError
from queuemon.model import Certainty
from queuemon.render.html import Static, el
from queuemon.render.text import clean

if TYPE_CHECKING:
    from queuemon.workbench import Workbench

#: Attempts are written down by their own end; what is younger than this may still be on its way.
SETTLED: Final = timedelta(minutes=1)

#: Queues that are counted again.
QUEUES: Final = 5


def verify_counts(wb: Workbench, incident: Incident) -> Static:
    """Count the failed attempts of the queues that were hit anew, by their signatures; raises RunbookError where they
    differ from the report's. A window that has only just ended is not judged."""
    window = incident.window
    if incident.clock - window.until < SETTLED:
        return _said("Not counted again: the window has only just ended, and attempts may still be written down.")
    for impact in incident.impacts[:QUEUES]:
        found = wb.failures(impact.queue, window.since, window.until).attempts
        if found.certainty is Certainty.EXACT and found.value != impact.failed:
            raise RunbookError(
                f"{clean(impact.queue, 80)}: {impact.failed:,} failed attempts reported, {found.value:,} found now",
                expected="the same number",
                next_step="run it again: rows may have been removed meanwhile (log_days); else this is a bug",
            )
    return _said(f"The failed attempts of {len(incident.impacts[:QUEUES]):,} queues, counted anew, are the same.")


def _said(sentence: str) -> Static:
    return Static(el("p", sentence), sentence)
