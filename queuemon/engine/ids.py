"""Time-ordered ids (UUID version 7, RFC 9562) for jobs, actions and workers; used by everyone who creates one."""

from __future__ import annotations

import os
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last = 0


def uuid7() -> UUID:
    """A new id; within this process each is greater than the one before.

    48 bits of milliseconds, 12 bits of the fraction of the millisecond, 62 random bits.
    """
    global _last  # noqa: PLW0603
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    stamp = milliseconds << 12 | rest * 4096 // 1_000_000
    with _lock:
        # A clock that stands still or goes back must not break the order.
        stamp = _last = max(stamp, _last + 1)
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=(stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | random)
