"""The five queues of the specification with the demo's numbers; history, workload and scenarios read them here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from queuemon.contract import Priority


@dataclass(frozen=True, kw_only=True)
class DemoQueue:
    """A row of `job_queues`, and how busy the demo keeps it."""

    name: str
    priority: Priority
    #: Created → finished, the promise to the users of the queue.
    target_seconds: float
    #: Worker processes; few, because a demo runs on a laptop beside a browser.
    concurrency: int
    max_attempts: int
    #: Jobs per second of the live producer, at the busiest hour.
    rate: float
    #: Jobs per second of the history, averaged over the week.
    history_rate: float
    #: Middle and spread (of the logarithm) of a run's duration; exports take longer with their rows.
    duration_ms: float
    duration_spread: float
    #: Share of attempts that fail by bad luck, and succeed when repeated.
    failure_rate: float = 0.01


HIGH: Final = "email-sending:high"
EMAIL: Final = "email-sending"
LOW: Final = "email-sending:low"
ANALYTICS: Final = "analytics:daily-aggregate"
WARMUP: Final = "warmup:process"

QUEUES: Final = (
    DemoQueue(
        name=HIGH,
        priority=Priority.HIGH,
        target_seconds=60,
        concurrency=1,
        max_attempts=3,
        rate=1.0,
        history_rate=0.085,
        duration_ms=45,
        duration_spread=0.45,
        failure_rate=0.006,
    ),
    DemoQueue(
        name=EMAIL,
        priority=Priority.NORMAL,
        target_seconds=300,
        concurrency=2,
        max_attempts=3,
        rate=3.0,
        history_rate=0.22,
        duration_ms=70,
        duration_spread=0.5,
    ),
    DemoQueue(
        name=LOW,
        priority=Priority.LOW,
        target_seconds=1_800,
        concurrency=1,
        max_attempts=3,
        rate=0.3,
        history_rate=0.012,
        duration_ms=120,
        duration_spread=0.15,
        failure_rate=0.015,
    ),
    DemoQueue(
        name=ANALYTICS,
        priority=Priority.NORMAL,
        target_seconds=3_600,
        concurrency=1,
        max_attempts=3,
        rate=0.15,
        history_rate=0.006,
        duration_ms=260,
        duration_spread=0.4,
        failure_rate=0.008,
    ),
    DemoQueue(
        name=WARMUP,
        priority=Priority.NORMAL,
        target_seconds=900,
        concurrency=1,
        max_attempts=3,
        rate=0.5,
        history_rate=0.045,
        duration_ms=110,
        duration_spread=0.5,
        failure_rate=0.012,
    ),
)

BY_NAME: Final = {q.name: q for q in QUEUES}
