"""Depth, arrivals, starts, completions, failures and waiting times at any past moment; nothing was recorded for it.

Source: every life of a job leaves its clocks (`jobs`, `job_logs`, the chunks of actions). As events +1 and −1 on the
depth they are cumulated backwards from the depth that is known now (store/timeline.py counts them per bucket).
Assumption: attempts are logged with `due_at`, as queuemon's own workers do; what others leave out is said in `notes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from queuemon.analysis.window import Window
from queuemon.errors import InvalidValue, LimitExceeded
from queuemon.store.timeline import BUCKETS, Happened, Reading

if TYPE_CHECKING:
    import pandas as pd

#: Lengths of buckets to choose from, in seconds, and how many buckets are wanted at most.
NICE: Final = (60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800)
WANTED: Final = 240

#: Kinds of events that change the depth, and how.
DEPTH: Final = {"due": 1, "started": -1, "expired": -1, "left": -1}


@dataclass(frozen=True, kw_only=True)
class TimelinePoint:
    """One bucket of time. All counts are of events within it; `depth` is how it stood at its end."""

    at: datetime
    #: Due waiting jobs at the end of the bucket.
    depth: int
    #: New jobs.
    arrived: int = 0
    #: Jobs that began to wait: new, back-off over, retried, moved here, given back.
    due: int = 0
    #: Attempts that began, and that ended: completed, failed, taken from a silent worker.
    started: int = 0
    completed: int = 0
    failed: int = 0
    lost: int = 0
    #: Waiting jobs that expired, and that were deleted or moved away.
    expired: int = 0
    left: int = 0
    #: How long the jobs that started had waited, on average and at most, where it is known (a job that was deleted
    #: while it was stuck takes its wait along); None where none is.
    wait_seconds: float | None = None
    longest_wait_seconds: float | None = None

    @property
    def finished(self) -> int:
        """Attempts that completed or failed."""
        return self.completed + self.failed

    @property
    def failure_rate(self) -> float | None:
        """Failed among finished attempts; None where none finished."""
        return self.failed / self.finished if self.finished else None


@dataclass(frozen=True, kw_only=True)
class QueueDepth:
    """The depth of one queue at the end of each bucket."""

    queue: str
    depth: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A stretch of the past in buckets; the last one may still be filling."""

    window: Window
    bucket_seconds: int
    #: The depth when the window began.
    depth_before: int
    points: tuple[TimelinePoint, ...]
    #: Every queue in which anything waited, by name.
    by_queue: tuple[QueueDepth, ...]
    #: Deploys and operator actions, oldest first.
    happened: tuple[Happened, ...]
    #: PostgreSQL's clock when it was read.
    clock: datetime
    #: What limits it, in sentences; empty where it is exact.
    notes: tuple[str, ...] = ()

    @property
    def filling(self) -> bool:
        """Whether the last bucket is not over yet."""
        return bool(self.points) and self.points[-1].at + timedelta(seconds=self.bucket_seconds) > self.clock

    @property
    def whole(self) -> tuple[TimelinePoint, ...]:
        """The buckets that are over."""
        return self.points[:-1] if self.filling else self.points

    def to_frame(self) -> pd.DataFrame:
        """One row per bucket: at, depth, arrived, due, started, completed, failed, lost, expired, left, waits."""
        from dataclasses import asdict

        import pandas as pd

        return pd.DataFrame([asdict(p) for p in self.points])


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The buckets of a window: aligned to whole multiples of their length since 1970."""

    first: datetime
    step: timedelta
    buckets: int


def grid(window: Window, bucket_seconds: int | None = None) -> Grid:
    """The buckets that cover a window: as asked, or the finest of some nice lengths that gives at most 240.

    Raises InvalidValue for anything but whole minutes, LimitExceeded for more than 12,000 buckets.
    """
    length = window.length.total_seconds()
    seconds = bucket_seconds
    if seconds is None:
        seconds = next((n for n in NICE if length / n <= WANTED), NICE[-1])
    if seconds < 60 or seconds % 60:
        raise InvalidValue(f"the bucket is {seconds} s", expected="whole minutes, at least one")
    first = int(window.since.timestamp()) // seconds * seconds
    buckets = -int(-(window.until.timestamp() - first) // seconds)
    if buckets > BUCKETS:
        raise LimitExceeded(f"{buckets:,} buckets", expected=f"at most {BUCKETS:,}", next_step="ask for longer buckets")
    return Grid(
        first=datetime.fromtimestamp(first, window.since.tzinfo), step=timedelta(seconds=seconds), buckets=buckets
    )


def reconstruct(reading: Reading, window: Window, cells: Grid, happened: Sequence[Happened] = ()) -> Timeline:
    """The curves of what was read over these cells; exact at the ends of buckets.

    The depth at the end of a bucket is the depth now, less what came due and plus what went since then.
    """
    n = cells.buckets
    change: dict[str, list[int]] = {}
    counts: dict[str, list[int]] = {}
    waited, longest = [0.0] * n, [0.0] * n
    for flow in reading.flows:
        if flow.index < 0:
            continue
        if sign := DEPTH.get(flow.kind):
            change.setdefault(flow.queue, [0] * (n + 1))[flow.index] += sign * flow.n
        if flow.index < n:
            counts.setdefault(flow.kind, [0] * n)[flow.index] += flow.n
            waited[flow.index] += flow.seconds
            longest[flow.index] = max(longest[flow.index], flow.longest)
    depths = {name: _backwards(reading.depth.get(name, 0), steps) for name, steps in change.items()}
    depths |= {name: [d] * (n + 1) for name, d in reading.depth.items() if name not in depths}
    total = [sum(column) for column in zip(*depths.values(), strict=True)] or [0] * (n + 1)

    def point(i: int) -> TimelinePoint:
        numbers = {kind: values[i] for kind, values in counts.items()}
        known = numbers.pop("waited", 0)
        return TimelinePoint(
            at=cells.first + i * cells.step,
            depth=total[i + 1],
            wait_seconds=waited[i] / known if known else None,
            longest_wait_seconds=longest[i] if known else None,
            **numbers,
        )

    notes = _notes(reading, lowest=min(total))
    return Timeline(
        window=window,
        bucket_seconds=int(cells.step.total_seconds()),
        depth_before=total[0],
        points=tuple(point(i) for i in range(n)),
        by_queue=tuple(
            QueueDepth(queue=name, depth=tuple(values[1:])) for name, values in sorted(depths.items()) if any(values)
        ),
        happened=tuple(concerning(happened, window.queue)),
        clock=reading.clock,
        notes=notes,
    )


def _backwards(now: int, change: Sequence[int]) -> list[int]:
    """The depth before the first bucket and at the end of each; the last of `change` lies after them all."""
    depths = [now - change[-1]]
    for step in reversed(change[:-1]):
        depths.append(depths[-1] - step)
    return depths[::-1]


def _notes(reading: Reading, *, lowest: int) -> tuple[str, ...]:
    notes = []
    if reading.purged_before is not None:
        notes.append(
            f"The oldest log row is of {reading.purged_before:%Y-%m-%d %H:%M} UTC: attempts that ended before it have"
            " been purged and are not in the curves."
        )
    if reading.undated:
        notes.append(
            f"{reading.undated:,} attempts do not say since when their job had been due (another worker's, or from"
            " before the upgrade): they count as if they had not waited."
        )
    if lowest < 0:
        notes.append("The events do not add up to the depth: rows were changed without a trace.")
    return tuple(notes)


def concerning(happened: Iterable[Happened], queue: str | None) -> Iterable[Happened]:
    """What may have to do with a queue: deploys, actions on it, and actions whose filter does not name other queues."""
    for h in happened:
        named = h.target.partition("queue:")[2] if "queue:" in h.target else h.target
        own = queue is None or h.kind == "deploy" or named.strip('"').startswith(queue)
        bulk = h.kind not in QUEUE_KINDS and "queue:" not in h.target
        if own or bulk:
            yield h


#: Actions whose target is the name of a queue.
QUEUE_KINDS: Final = frozenset({"pause", "resume", "prioritise", "scale"})


def pauses(happened: Iterable[Happened], *, until: datetime) -> tuple[tuple[datetime, datetime, str], ...]:
    """(from, to, queue) of the pauses that operators made, told by their actions; one still on ends `until`."""
    open_: dict[str, Happened] = {}
    found = []
    for h in sorted(happened, key=lambda h: h.at):
        if h.kind == "pause":
            open_.setdefault(h.target, h)
        elif h.kind == "resume" and (began := open_.pop(h.target, None)):
            found.append((began.at, h.at, h.target))
    found += [(h.at, min(until, h.until or until), h.target) for h in open_.values()]
    return tuple(sorted(found))
