"""Failures of a window, grouped by cause: the values that screens show, and the fold that makes them from counts."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from queuemon.analysis.signatures import Signature, sign, sign_all
from queuemon.analysis.window import Window
from queuemon.filters import JobFilter
from queuemon.model import Certainty, Count
from queuemon.store.deploys import Deploy
from queuemon.store.failures import Counted, Detail, Unsigned

if TYPE_CHECKING:
    import pandas as pd

#: Buckets of a trend.
BUCKETS: Final = 30

#: A signature is called new since a deploy when it was first seen within this time after it.
NEW_WITHIN: Final = timedelta(hours=24)

#: Strata of a sample.
STRATA: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Cause:
    """The failed attempts of one signature within the window."""

    signature: str
    error_type: str
    #: The message without its parameters; hostile text.
    text: str
    attempts: Count
    #: Of all failed attempts of the window, 0 to 1.
    share: float
    #: Attempts per bucket, oldest first.
    trend: tuple[int, ...]
    #: The first attempt that the logs hold, which may lie before the window; and the last within it.
    first_seen: datetime
    last_seen: datetime
    #: Attempts by queue (bare names), most first.
    queues: tuple[tuple[str, int], ...]
    #: A job that failed so.
    example: UUID | None
    #: Jobs that stand failed now and failed so at least once.
    standing: Count
    #: The deploy after which it was first seen; None where it was there before, or no deploy is near.
    new_since: str | None
    #: The filter of its jobs that stand failed: what "retry only these" takes.
    filter: str
    #: Whether that filter finds any of them yet: not before a relay has stored their signature.
    signed: bool = True


@dataclass(frozen=True, kw_only=True)
class Failures:
    """The failures of a window by cause, most attempts first."""

    window: Window
    attempts: Count
    causes: tuple[Cause, ...]
    #: Attempts of causes that are not listed.
    others: int
    bucket_seconds: float
    #: Attempts that were grouped here because nobody has stored their signature yet.
    unsigned: int = 0
    #: What the reader must know of the numbers: sampling, signatures that are not stored yet.
    notes: tuple[str, ...] = ()

    @property
    def buckets(self) -> tuple[datetime, ...]:
        """Where each bucket of the trends begins."""
        step = timedelta(seconds=self.bucket_seconds)
        return tuple(self.window.since + n * step for n in range(BUCKETS))

    def to_frame(self) -> pd.DataFrame:
        """One row per cause."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "signature": c.signature, "error_type": c.error_type, "text": c.text, "attempts": c.attempts.value,
                    "share": c.share, "first_seen": c.first_seen, "last_seen": c.last_seen,
                    "queues": ", ".join(name for name, _ in c.queues), "standing": c.standing.value,
                    "new_since": c.new_since, "example": c.example, "filter": c.filter,
                }
                for c in self.causes
            ]
        )  # fmt: skip


def slices(window: Window, share: float, *, seed: int = 7) -> list[tuple[datetime, datetime]]:
    """The window itself, or of each of a thousand equal parts a stretch that is `share` of it, at a seeded place."""
    if share >= 1:
        return [(window.since, window.until)]
    rng, part = random.Random(seed), window.length / STRATA
    starts = (window.since + part * (n + rng.random() * (1 - share)) for n in range(STRATA))
    return [(start, start + part * share) for start in starts]


@dataclass(kw_only=True)
class Tally:
    """Attempts of one signature, while they are added up; numbers are those of the whole window."""

    attempts: float = 0.0
    trend: dict[datetime, float] = field(default_factory=lambda: defaultdict(float))
    queues: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    first: datetime | None = None
    last: datetime | None = None
    #: Of attempts that were signed here: the signature, and their jobs.
    signed: Signature | None = None
    jobs: set[UUID] = field(default_factory=set)
    #: The last attempt whose signature is stored.
    stored: datetime | None = None

    def add(self, queue: str, bucket: datetime, n: float, first: datetime, last: datetime) -> None:
        """Add `n` attempts of a queue and bucket."""
        self.attempts += n
        self.trend[bucket] += n
        self.queues[queue] += n
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)


def tallies(
    counted: Iterable[Counted], unsigned: Sequence[Unsigned], *,
    window: Window, step: timedelta, share: float, unsigned_share: float,
) -> dict[str, Tally]:  # fmt: skip
    """Signature → its attempts: those counted by the database, and those signed here, each by its sampled share."""
    found: dict[str, Tally] = defaultdict(Tally)
    for row in counted:
        if row.signature is not None:
            tally = found[row.signature]
            tally.add(row.queue, row.bucket, row.count / share, row.first, row.last)
            tally.stored = row.last if tally.stored is None else max(tally.stored, row.last)
    for attempt, signature in zip(
        unsigned, sign_all((u.error_type, u.message, u.stack_trace) for u in unsigned), strict=True
    ):
        tally = found[signature.id]
        bucket = window.since + (attempt.at - window.since) // step * step
        tally.add(attempt.queue, bucket, 1 / unsigned_share, attempt.at, attempt.at)
        tally.signed = tally.signed or signature
        tally.jobs.add(attempt.job_id)
    return found


def causes(
    chosen: Sequence[tuple[str, Tally]], details: Iterable[Detail], *,
    window: Window, step: timedelta, attempts: float, exact: bool, deploys: Sequence[Deploy], reach: datetime | None,
    failed: set[UUID],
) -> tuple[Cause, ...]:  # fmt: skip
    """The values of the chosen signatures; `failed` holds those of the jobs signed here that stand failed."""
    by_id: Mapping[str, Detail] = {d.signature: d for d in details}
    made = []
    for key, tally in chosen:
        detail = by_id.get(key)
        signature = tally.signed or _signed(detail)
        first, last = tally.first or window.since, tally.last or window.since
        if detail is not None:
            first = min(first, detail.first)
        here = tally.jobs & failed
        standing = (detail.standing if detail else 0) + len(here)
        certainty = Certainty.CAPPED if detail and detail.capped else Certainty.EXACT
        if here and not exact:  # jobs of a sample: so many at least
            standing, certainty = max(standing - len(here), len(here)), Certainty.CAPPED
        elif here and detail:
            certainty = Certainty.ESTIMATED
        made.append(
            Cause(
                signature=key,
                error_type=signature.error_type,
                text=signature.text,
                attempts=counted_as(tally.attempts, exact=exact),
                share=tally.attempts / attempts if attempts else 0.0,
                trend=tuple(round(tally.trend.get(window.since + n * step, 0)) for n in range(BUCKETS)),
                first_seen=first,
                last_seen=last,
                queues=tuple((name, round(n)) for name, n in sorted(tally.queues.items(), key=lambda q: (-q[1], q[0]))),
                example=(detail.job_id if detail else None) or min(tally.jobs, default=None),
                standing=Count(value=standing, certainty=certainty),
                new_since=new_since(first, deploys, reach),
                filter=_filter(key, window.queue),
                signed=not standing or bool(detail and detail.standing),
            )
        )
    return tuple(made)


def new_since(first: datetime, deploys: Sequence[Deploy], reach: datetime | None) -> str | None:
    """The last deploy before the first attempt, when it is near, and the logs reach back beyond it."""
    before = [d for d in deploys if d.at <= first]
    latest = max(before, key=lambda d: d.at, default=None)
    if latest is None or first - latest.at > NEW_WITHIN or reach is None or reach >= latest.at:
        return None
    return latest.name


def _signed(detail: Detail | None) -> Signature:
    return sign(detail.error_type, detail.message, detail.stack_trace) if detail else sign(None, None, None)


def counted_as(value: float, *, exact: bool) -> Count:
    """A number of attempts, exact or estimated."""
    return Count(value=round(value), certainty=Certainty.EXACT if exact else Certainty.ESTIMATED)


def _filter(signature: str, queue: str | None) -> str:
    return f"{JobFilter.of(queue=queue, status='failed')} signature:{signature}"
