"""What an incident was, from the record alone: the post-incident report shows it; `Workbench.incident` makes it.

Everything is read for the same whole buckets of time, so its numbers add up, and each can be had again by a command.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from queuemon.analysis.investigation import Investigation, ended
from queuemon.analysis.onset import Change, bucket
from queuemon.analysis.timeline import Timeline
from queuemon.analysis.window import Window
from queuemon.contract import JobStatus
from queuemon.store.hit import Hit
from queuemon.store.timeline import Happened

#: Queues that are looked at one by one, those hit worst.
QUEUES: Final = 20


@dataclass(frozen=True, kw_only=True)
class Impact:
    """What happened to one queue within the window."""

    queue: str
    target_seconds: float
    arrived: int
    completed: int
    #: Attempts that failed, and that were taken from silent workers.
    failed: int
    lost: int
    #: Waiting jobs that expired.
    expired: int
    #: The most jobs that waited at the end of a bucket, and when; None where none ever did.
    deepest: int
    deepest_at: datetime | None
    #: Time in whose buckets a job started that had waited for longer than the queue's target, in seconds.
    over_target_seconds: int
    longest_wait_seconds: float | None
    #: Jobs with a failed attempt, each once.
    jobs_failed: int
    #: How these stand now; those that are missing in the sum were deleted.
    now: Mapping[JobStatus, int]
    #: The rise that it began with; None where neither failure rate nor depth rose.
    began: Change | None = None

    @property
    def hit(self) -> bool:
        """Whether anybody noticed."""
        return bool(self.failed or self.lost or self.expired or self.over_target_seconds or self.began)

    @property
    def badness(self) -> tuple[float, float, int, int]:
        """To order by: how far the failure rate rose, how far the depth, what failed, how long it was late."""
        rise = self.began.after - self.began.before if self.began else 0.0
        failing = self.began is not None and self.began.what == "failure rate"
        return rise if failing else 0.0, 0.0 if failing else rise, self.failed + self.lost, self.over_target_seconds

    @property
    def deleted(self) -> int:
        """Jobs that failed and no longer exist."""
        return self.jobs_failed - sum(self.now.values())


@dataclass(frozen=True, kw_only=True)
class Incident:
    """A stretch of time in which something went wrong, and what is known of it."""

    #: Whole buckets of the timeline; `queue` is the one that was asked for, or None.
    window: Window
    #: The queues that were hit, worst first.
    impacts: tuple[Impact, ...]
    #: Queues that were not looked at one by one.
    others: int
    #: Of the queue that was asked for, or hit worst.
    investigation: Investigation
    #: Deploys and operator actions, of every queue, oldest first.
    happened: tuple[Happened, ...]
    #: PostgreSQL's clock when it was read.
    clock: datetime

    @property
    def queue(self) -> str:
        """Bare name of the queue that is explained."""
        return self.investigation.queue

    @property
    def began(self) -> Change | None:
        """What it began with; None where neither the failure rate nor the depth rose."""
        return self.investigation.began

    @property
    def ended(self) -> Change | None:
        """The fall after which that never rose again; None where it has not ended within the window."""
        return ended(self.investigation.onset)

    @property
    def lasted(self) -> timedelta | None:
        """From its beginning to its end."""
        return self.ended.settled - self.began.at if self.began and self.ended else None


def whole_buckets(window: Window, now: datetime, *, longest: timedelta) -> Window:
    """The window made wider to whole buckets of its timeline, a minute for up to eight hours, without one that is not
    over: curves count whole buckets, so that its numbers add up, and are the same whenever they are asked for again.

    A window within a single bucket that is not over ends now.
    """
    seconds = bucket(window.length)
    first = math.floor(window.since.timestamp() / seconds) * seconds
    last = math.ceil(window.until.timestamp() / seconds) * seconds
    if last > now.timestamp() and last - seconds > first:
        last -= seconds
    if now.timestamp() - first > longest.total_seconds():
        first += seconds
    # As long as its own buckets are looked at; a length has hundreds of them.
    while bucket(timedelta(seconds=last - first)) > seconds:
        first += seconds
    while bucket(timedelta(seconds=last - first)) < seconds:
        first -= seconds
    since, until = (datetime.fromtimestamp(at, UTC) for at in (first, last))
    return Window(since=since, until=min(until, now), queue=window.queue)


def impact(timeline: Timeline, target_seconds: float, hit: Hit | None, began: Change | None) -> Impact:
    """What a queue's own timeline says."""
    points = timeline.points
    worst = max(points, key=lambda p: p.depth, default=None)
    waits = [p.longest_wait_seconds for p in points if p.longest_wait_seconds is not None]
    late = sum((p.longest_wait_seconds or 0) > target_seconds for p in points)
    step = timedelta(seconds=timeline.bucket_seconds)
    return Impact(
        queue=timeline.window.queue or "",
        target_seconds=target_seconds,
        arrived=sum(p.arrived for p in points),
        completed=sum(p.completed for p in points),
        failed=sum(p.failed for p in points),
        lost=sum(p.lost for p in points),
        expired=sum(p.expired for p in points),
        deepest=worst.depth if worst else 0,
        deepest_at=worst.at + step if worst and worst.depth else None,
        over_target_seconds=late * timeline.bucket_seconds,
        longest_wait_seconds=max(waits, default=None),
        jobs_failed=hit.jobs if hit else 0,
        now=hit.now if hit else {},
        began=began,
    )


def worst_first(impacts: Sequence[Impact]) -> tuple[Impact, ...]:
    """Those that were hit: first where failures or the depth rose, as a few attempts fail on every day."""
    return tuple(sorted((i for i in impacts if i.hit), key=lambda i: (*(-n for n in i.badness), i.queue)))
