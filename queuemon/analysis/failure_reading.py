"""Reads the failures of a window: how much there is, then counts by signature, then what the listed ones are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from queuemon.analysis.failures import BUCKETS, Failures, causes, counted_as, slices, tallies
from queuemon.analysis.frames import TRACE_PART
from queuemon.analysis.normalise import MESSAGE_PART
from queuemon.analysis.signatures import NORMALISER_VERSION
from queuemon.analysis.window import When, Window, window
from queuemon.errors import InvalidValue
from queuemon.store import Store, deploys, numbers
from queuemon.store import failures as rows

#: The longest window, from now.
LONGEST: Final = timedelta(days=31)

#: Causes that one reading lists at most.
MAX_CAUSES: Final = 200

#: Share of the window that is counted to guess how much there is, and the largest sample.
_PROBE, _MOST = 0.01, 0.9


def failures(store: Store, since: When, until: When | None, *, queue: str | None, limit: int) -> Failures:
    """The failures of a window, of the `limit` causes with most attempts. Seven statements, each within its bound.

    Exact up to a million attempts (and 20,000 unsigned ones); beyond, a stratified, seeded sample that the notes speak
    of. Raises InvalidValue, StoreTimeout.
    """
    if not 1 <= limit <= MAX_CAUSES:
        raise InvalidValue(f"limit is {limit}", expected=f"1 to {MAX_CAUSES}")
    with store.postgres.begin(seconds=rows.SECONDS, read_only=True) as connection:
        asked = window(since, until, now=numbers.clock(connection), longest=LONGEST, queue=queue)
        return _read(connection, store.tables, asked, limit)


def _read(connection: Any, t: Any, asked: Window, limit: int) -> Failures:
    parts, queue, step = (MESSAGE_PART, TRACE_PART), asked.queue, asked.length / BUCKETS
    share = 1.0
    if rows.number(connection, t, slices(asked, 1), queue) > rows.ATTEMPTS:
        guessed = rows.number(connection, t, slices(asked, _PROBE), queue) / _PROBE
        share = min(_MOST, rows.ATTEMPTS / max(1.0, guessed))
    counted = rows.counted(
        connection, t, slices(asked, share), queue,
        since=asked.since, step=step, version=NORMALISER_VERSION, limit=2 * limit,
    )  # fmt: skip
    waiting = sum(row.count for row in counted if row.signature is None)
    read_share = share * min(1.0, rows.UNSIGNED / max(1, waiting))
    unsigned = (
        rows.unsigned(connection, t, slices(asked, read_share), queue, version=NORMALISER_VERSION, parts=parts)
        if waiting
        else []
    )
    # By what was really read: the slices hold now a little more, now a little less than their share.
    unsigned_share = len(unsigned) / (waiting / share) if unsigned else 1.0
    found = tallies(counted, unsigned, window=asked, step=step, share=share, unsigned_share=unsigned_share)
    attempts = counted[0].attempts / share if counted else 0.0
    chosen = sorted(found.items(), key=lambda item: (-item[1].attempts, item[0]))[:limit]
    exact = share == 1 and read_share == share
    listed = causes(
        chosen,
        rows.details(connection, t, [(k, y.stored) for k, y in chosen if y.stored is not None], queue, parts=parts),
        window=asked, step=step, attempts=attempts, exact=exact,
        deploys=deploys.marks(connection, t, until=asked.until),
        reach=rows.reach(connection, t),
        failed=rows.stand_failed(connection, t, [job for _, tally in chosen for job in tally.jobs]),
    )  # fmt: skip
    return Failures(
        window=asked,
        attempts=counted_as(attempts, exact=share == 1),
        causes=listed,
        others=max(0, round(attempts - sum(tally.attempts for _, tally in chosen))),
        bucket_seconds=step.total_seconds(),
        unsigned=round(waiting / share),
        notes=tuple(_notes(share, read_share / share, round(waiting / share))),
    )


def _notes(share: float, unsigned_share: float, unsigned: int) -> Iterator[str]:
    if share < 1:
        yield (
            f"More than {rows.ATTEMPTS:,} attempts failed: the numbers are estimates from {share:.1%} of the time, "
            "evenly spread over the window."
        )
    if unsigned_share < 1:
        yield (
            f"Of {unsigned:,} attempts without a stored signature {unsigned_share:.1%} were read, evenly spread: "
            "their numbers are estimates."
        )
    if unsigned:
        yield f"{unsigned:,} attempts have no stored signature yet: filters find them once a relay has signed them."
