"""Totals since counting began: what the exporter shows as counters and histograms. They grow and never shrink.

The relay adds to them (`rollups`), behind the xmin horizon, in the transaction that moves the horizon: each attempt is
counted once, whoever is killed. A reader's rights suffice to read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import fsum
from typing import Final

from sqlalchemy import Connection, select

from queuemon.schema.tables import Tables

#: Upper bounds of the histograms' buckets, in seconds, inclusive; one more bucket holds what is longer.
BOUNDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0)


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How many were how long."""

    #: Per bucket, one more than there are bounds; not cumulated.
    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    #: Sum of what was measured.
    seconds: float = 0.0

    @property
    def n(self) -> int:
        """How many."""
        return sum(self.counts)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Of one queue."""

    #: Jobs enqueued, and jobs that expired unprocessed.
    created: int = 0
    expired: int = 0
    #: Attempts by how long they took.
    completed: Distribution = field(default_factory=Distribution)
    failed: Distribution = field(default_factory=Distribution)
    #: Attempts by how long the job had been due when its attempt began.
    waited: Distribution = field(default_factory=Distribution)
    #: Completed jobs that took no longer, from created to finished, than the queue's target at that time.
    in_target: int = 0


def totals(connection: Connection, t: Tables) -> Mapping[str, Totals]:
    """Queue → its totals; queues that nothing is known of are left out. At most 70 rows per queue."""
    found: dict[str, dict[str, dict[int, tuple[int, float]]]] = {}
    c = t.totals.c
    for queue, measure, bucket, n, seconds in connection.execute(select(c.queue, c.measure, c.bucket, c.n, c.seconds)):
        found.setdefault(queue, {}).setdefault(measure, {})[bucket] = (n, seconds)
    return {queue: _totals(measures) for queue, measures in found.items()}


def _totals(measures: Mapping[str, Mapping[int, tuple[int, float]]]) -> Totals:
    def count(measure: str) -> int:
        return sum(n for n, _ in measures.get(measure, {}).values())

    def distribution(measure: str) -> Distribution:
        rows = measures.get(measure, {})
        counts = tuple(rows.get(bucket, (0, 0.0))[0] for bucket in range(len(BOUNDS) + 1))
        # Exact in whatever order the rows come: a counter that falls by a rounding error is one that was reset.
        return Distribution(counts=counts, seconds=fsum(seconds for _, seconds in rows.values()))

    return Totals(
        created=count("created"), expired=count("expired"), completed=distribution("completed"),
        failed=distribution("failed"), waited=distribution("waited"), in_target=count("in-target"),
    )  # fmt: skip
