"""What a comparison of the stores found: frozen values for screens, commands and repairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from queuemon.model import Breakdown

if TYPE_CHECKING:
    import pandas as pd

    from queuemon.contract import Keys
    from queuemon.render.html import Safe


@dataclass(frozen=True, kw_only=True)
class DriftClass:
    """One of the sixteen kinds of disagreement."""

    number: int
    title: str
    #: What a repair does, in words.
    repair: str
    #: What is counted: "job", "element", "queue", …
    unit: str = "element"
    #: Whether workers that claim make it harmless: the element fails the claim and is dropped there.
    claim_drops: bool = False
    #: Whether a plan can repair it; the others are reported.
    repairable: bool = True


_DROPPED: Final = "dropped by workers that claim; elsewhere filtered out of the list once a hard pause has parked it"

CLASSES: Final[Mapping[int, DriftClass]] = {
    c.number: c
    for c in (
        DriftClass(number=1, title="lost: waiting in PostgreSQL, absent from Redis", unit="job",
                   repair="a new generation, published"),
        DriftClass(number=2, title="ghost: in Redis, without a row", repair="to quarantine; an operator may adopt it"),
        DriftClass(number=3, title="zombie: in Redis, its job has ended", repair=_DROPPED, claim_drops=True),
        DriftClass(number=4, title="stale: in Redis under another generation", repair=_DROPPED, claim_drops=True),
        DriftClass(number=5, title="duplicate: the same generation twice", repair=_DROPPED, claim_drops=True),
        DriftClass(number=6, title="stuck: active without a heartbeat within the lease", unit="job",
                   repair="back to waiting, or failed where its attempts are used up; it may run twice"),
        DriftClass(number=7, title="overdue: waiting past its deadline", unit="job", repair="expires"),
        DriftClass(number=8, title="vanished: a list that should hold jobs has gone", unit="queue",
                   repair="everything that waits is published anew, at a bounded rate"),
        DriftClass(number=9, title="a list has a time to live", unit="list", repair="the time to live is removed"),
        DriftClass(number=10, title="the copy of the pause flag differs", unit="queue",
                   repair="PostgreSQL's is written"),
        DriftClass(number=11, title="the payload differs (deep)", repair="a new generation from PostgreSQL"),
        DriftClass(number=12, title="in the wrong list", repair="a new generation, published to the right list"),
        DriftClass(number=13, title="poison: nobody can read it", repair="the raw bytes go to quarantine"),
        DriftClass(number=14, title="a list without a queue", unit="list", repair="reported only", repairable=False),
        DriftClass(number=15, title="in the hand of a dead worker", unit="hand",
                   repair="given back where its job waits, dropped where it is over"),
        DriftClass(number=16, title="numbers that cannot be", unit="finding",
                   repair="recomputed; a publication that hangs is published"),
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One disagreement, seen twice."""

    #: Its class, 1 to 16.
    number: int
    #: The queue whose list or row it is about; empty where it is about none.
    queue: str
    job_id: UUID | None = None
    #: The generation that the element names, or the row has.
    gen: int | None = None
    #: How the row stands: its state, or "no row".
    row: str = ""
    row_gen: int | None = None
    #: More about it, in words; may hold text of jobs.
    detail: str = ""
    #: How many jobs it is about.
    jobs: int = 1
    #: The Redis key it was found at.
    key: str = ""
    #: The element's bytes, where they are set aside by a repair.
    raw: bytes = b""


@dataclass(frozen=True, kw_only=True)
class ClassReport:
    """What was found of one class."""

    number: int
    title: str
    #: What is counted: "job", "element", "queue", …
    unit: str
    #: Exactly how many were seen at both looks.
    count: int
    #: Jobs that they are about, where that is more (a list that vanished).
    jobs: int
    by_queue: tuple[Breakdown, ...]
    #: A few of them.
    sample: tuple[Finding, ...]
    #: What a repair would do.
    repair: str
    #: Workers that claim drop these by themselves, and the workers here claim.
    harmless: bool
    #: Looked for at all (the payloads only by a deep look).
    looked: bool
    #: Seen at the first look alone: it was only in motion.
    in_motion: int


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """Where PostgreSQL and Redis disagree, each disagreement seen twice."""

    taken_at: datetime
    #: PostgreSQL's clock at the second look.
    clock: datetime
    #: The queues that were looked at.
    queues: tuple[str, ...]
    deep: bool
    #: The workers' level that "harmless" goes by: "L0", "L1" or "L2".
    level: str
    #: Queues under a hard pause: their lists can be filtered.
    parked: tuple[str, ...]
    #: All sixteen, in order.
    classes: tuple[ClassReport, ...]
    #: What was found, up to 10,000 of each class: what a repair plans with.
    findings: tuple[Finding, ...]
    seconds: float
    #: Of these: reading PostgreSQL, reading Redis, waiting between the looks.
    postgres_seconds: float
    redis_seconds: float
    waited_seconds: float
    #: Rows read in PostgreSQL; elements and bytes read in Redis (both looks).
    rows: int
    elements: int
    bytes: int
    #: The longest that one call of Redis took, with its way there and back.
    longest_redis_ms: float
    #: False when it was stopped before its end: then what is missing was not looked at.
    complete: bool = True

    @property
    def count(self) -> int:
        """Everything found."""
        return sum(c.count for c in self.classes)

    @property
    def harmful(self) -> int:
        """What does not go away by itself when the workers go on."""
        return sum(c.count for c in self.classes if not c.harmless)

    def of(self, number: int) -> ClassReport:
        """What was found of one class."""
        return self.classes[number - 1]

    @property
    def summary(self) -> str:
        """One sentence."""
        found = [f"{c.count:,} × {c.number} ({c.title})" for c in self.classes if c.count]
        if not self.complete:
            found.append("stopped before the end")
        return ("; ".join(found) if found else "PostgreSQL and Redis agree") + "."

    def face(self, keys: Keys) -> tuple[Safe, str]:
        """Static HTML and text, for `queuemon.show()`."""
        from queuemon.drift import faces

        return faces.report(self, keys)

    def to_frame(self) -> pd.DataFrame:
        """One row per class."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"class": c.number, "title": c.title, "count": c.count, "jobs": c.jobs, "in_motion": c.in_motion,
                 "harmless": c.harmless, "repair": c.repair}
                for c in self.classes
            ]
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DriftProgress:
    """How far a comparison is."""

    #: "first look", "waiting", "second look".
    phase: str
    queue: str
    #: Queues done in this phase, and how many there are.
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class WatchLine:
    """One sign of disagreement that the continuous look shows."""

    #: The class it belongs to, 1 to 16, and its title.
    number: int
    title: str
    #: Empty where it is about no queue.
    queue: str
    #: How many were seen; of a sign that cannot count, 1.
    count: int
    #: Seen twice, as a comparison asks for it; False: a full comparison of the queue would tell.
    proven: bool
    #: When it was seen first.
    since: datetime
    #: What was seen, in words; may hold text of jobs.
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class DriftWatch:
    """What the continuous look knows now. A panel shows `lines`, `coverage` and the time of the last tick."""

    taken_at: datetime
    #: What this tick took, in milliseconds, and the average of all.
    milliseconds: float
    average_milliseconds: float
    ticks: int
    #: Proven ones first, then by class and queue.
    lines: tuple[WatchLine, ...]
    #: Share of the lists' elements that the rotating window has passed since it began anew, 0 to 1.
    coverage: float
    #: How often it has passed through everything.
    rounds: int
    #: Why this tick could not look (a store is away); then `lines` are those of the tick before.
    error: str = ""

    @property
    def proven(self) -> int:
        """How many disagreements are proven."""
        return sum(line.count for line in self.lines if line.proven)

    @property
    def suspected(self) -> int:
        """How many are only suspected."""
        return sum(line.count for line in self.lines if not line.proven)

    def face(self, keys: Keys) -> tuple[Safe, str]:
        """Static HTML and text, for `queuemon.show()`."""
        from queuemon.drift import faces

        return faces.watch(self, keys)

    def to_frame(self) -> pd.DataFrame:
        """One row per line."""
        import pandas as pd

        names = ("number", "title", "queue", "count", "proven", "since", "detail")
        return pd.DataFrame([{n: getattr(line, n) for n in names} for line in self.lines], columns=list(names))
