"""One incident from "something is red" to the cause: the analyses of a queue side by side, and what they say together.

`Workbench.investigate` makes it; notebooks and the terminal show it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from queuemon.analysis.explanation import Explanation, Finding
from queuemon.analysis.failures import Cause, Failures
from queuemon.analysis.forecast import Forecast
from queuemon.analysis.onset import Change, Onset
from queuemon.analysis.timeline import Timeline
from queuemon.contract import Health
from queuemon.errors import InvalidValue
from queuemon.filters import JobFilter
from queuemon.model import HalfError, QueueStats, Snapshot

#: So many jobs must have succeeded since it began to be compared with; else those of the whole window are.
ENOUGH: Final = 200

_RANK: Final = {Health.CRITICAL: 3, Health.WARNING: 2, Health.UNKNOWN: 1, Health.HEALTHY: 0}


@dataclass(frozen=True, kw_only=True)
class Investigation:
    """What is known of one queue's trouble."""

    #: Its numbers now; None where PostgreSQL did not tell them.
    stats: QueueStats | None
    timeline: Timeline
    #: Over the whole window.
    onset: Onset
    #: Since it began: what failed before is another story.
    failures: Failures
    #: Of the jobs that failed by the first cause; None where nothing failed.
    explanation: Explanation | None
    forecast: Forecast

    @property
    def queue(self) -> str:
        """Bare name of the queue."""
        return self.forecast.queue

    @property
    def began(self) -> Change | None:
        """The change that it began with, beside it first the deploy since which the error is new; None where the window
        shows no change."""
        change, new = began(self.onset), self.cause and self.cause.new_since
        return change and replace(change, near=tuple(sorted(change.near, key=lambda h: h.target != new)))

    @property
    def cause(self) -> Cause | None:
        """The error that most attempts failed by since then."""
        return next(iter(self.failures.causes), None)

    @property
    def finding(self) -> Finding | None:
        """What the jobs that failed so share, the strongest condition; None where nothing separates them."""
        return next(iter(self.explanation.findings), None) if self.explanation else None

    @property
    def filter(self) -> str:
        """The jobs that stand failed by this cause, or all of the queue without one: what a retry takes."""
        return self.cause.filter if self.cause else str(JobFilter.of(queue=self.queue, status="failed"))


def reddest(snapshot: Snapshot) -> str:
    """The bare name of the queue that is worst off: by health, then by how far it is beyond its thresholds.

    Raises InvalidValue where there is none to choose from.
    """
    if not snapshot.queues:
        half = snapshot.postgres
        raise InvalidValue(
            f"PostgreSQL could not be read: {half.message}" if isinstance(half, HalfError) else "there is no queue",
            expected="a queue to look at",
            next_step="queuemon doctor",
        )
    return max(snapshot.queues, key=_redness).name


def _redness(q: QueueStats) -> tuple[int, float, float]:
    beyond = max(q.failed / max(1, q.thresholds.critical_failed), q.waiting / max(1, q.thresholds.critical_waiting))
    return _RANK[q.health], beyond, q.failure_rate or 0.0


def began(onset: Onset) -> Change | None:
    """The last rise of the failure rate; where it never rose, the last rise of the depth."""
    rises = [c for c in onset.changes if c.rose]
    failing = [c for c in rises if c.what == "failure rate"]
    return next(reversed(failing or rises), None)


def ended(onset: Onset) -> Change | None:
    """The end of what began so: the last change of the same level, where that was a fall."""
    start = began(onset)
    later = [c for c in onset.changes if start and c.what == start.what and c.at > start.at]
    return later[-1] if later and not later[-1].rose else None
