"""Settles what a lost connection to PostgreSQL left undecided, by looking again; actions and producers use it.

Whoever repeats must be safe to repeat: an action reads its own row again, and goes on from the cursor that committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from queuemon.errors import StoreError, StoreTimeout, StoreUnavailable

T = TypeVar("T")

#: Seconds before each new look; together what a PostgreSQL that is restarted needs.
PAUSES: Final = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)


class Looks:
    """How often may still be looked; as often as at the beginning whenever something has moved."""

    def __init__(self, *, under_way: bool = False) -> None:
        #: Whether what is done has begun already: then a PostgreSQL that cannot be reached is waited for, too. Another
        #: thread's loss empties the pool, and this one's next connection is refused.
        self.under_way = under_way
        #: Whether anything was lost.
        self.lost = False
        self._pauses = iter(PAUSES)

    def moved(self) -> None:
        """Something has committed since the last look."""
        self._pauses = iter(PAUSES)

    def wait(self, error: StoreError) -> None:
        """Wait for the next look; raises the error where it is not about a lost PostgreSQL, or no look is left."""
        away = isinstance(error, StoreUnavailable) and (self.under_way or self.lost)
        held = isinstance(error, StoreTimeout) and self.lost  # by the session that was lost
        pause = next(self._pauses, None) if error.store == "postgresql" and (error.lost or away or held) else None
        if pause is None:
            raise error
        self.lost = True
        time.sleep(pause)


def settled(work: Callable[[], T], looks: Looks | None = None) -> T:
    """What `work` returns, done again where its connection to PostgreSQL was lost."""
    looks = looks or Looks()
    while True:
        try:
            return work()
        except StoreError as error:
            looks.wait(error)
