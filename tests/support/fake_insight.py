"""What a made-up Workbench knows of a queue's trouble: failures after a deploy, and a backlog that clears."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from queuemon.analysis import durations, onset
from queuemon.analysis.durations import Durations
from queuemon.analysis.explanation import Companion, Explanation, Finding
from queuemon.analysis.failures import BUCKETS, Cause, Failures
from queuemon.analysis.forecast import Forecast, forecast
from queuemon.analysis.onset import Onset
from queuemon.analysis.separation import risk
from queuemon.analysis.timeline import Timeline, TimelinePoint
from queuemon.analysis.window import Window
from queuemon.model import Certainty, Count, Job
from queuemon.store.timeline import Happened

DEPLOY = "analytics 2026.47.0"


class FakeInsight:
    """The analyses of a Workbench over made-up values."""

    #: Reads so far, by name; and where set, a read of that name waits for it.
    reads: Counter[str]
    gates: dict[str, threading.Event]
    #: Where set, a read of that name raises it.
    failing: dict[str, Exception]
    #: What operators did beside the curves.
    happened: tuple[Happened, ...] = ()

    def __init__(self) -> None:
        self.reads, self.gates, self.failing = Counter(), {}, {}

    def all_jobs(self) -> list[Job]:
        """Every job of every queue."""
        raise NotImplementedError

    def _read(self, name: str) -> None:
        self.reads[name] += 1
        if name in self.gates:
            assert self.gates[name].wait(30)
        if name in self.failing:
            raise self.failing[name]

    def history(self, queue: str | None = None, since: Any = "6h") -> Timeline:
        """Minutes with a burst of failures at three quarters of them."""
        self._read("history")
        window = _window(queue, since)
        step = max(60, int(window.length.total_seconds() / 360) // 60 * 60)
        n = int(window.length.total_seconds() // step)
        began = n - n // 4
        points = tuple(
            TimelinePoint(
                at=window.since + timedelta(seconds=k * step), depth=200 + 9 * (k % 13) + 8 * max(0, k - began),
                arrived=40 + 5 * (k % 7), due=40 + 5 * (k % 7), started=39 + 5 * (k % 7),
                completed=38 + 5 * (k % 7) - (9 if k >= began else 0),
                failed=9 + k % 3 if k >= began else int(k % 29 == 0),
            )
            for k in range(n)
        )  # fmt: skip
        deploy = Happened(
            at=points[began].at - timedelta(seconds=step), kind="deploy", target=DEPLOY, actor="ci", why=""
        )
        return Timeline(
            window=window, bucket_seconds=step, depth_before=200, points=points, by_queue=(),
            happened=(deploy, *self.happened), clock=window.until,
        )  # fmt: skip

    def onset(self, *, timeline: Timeline) -> Onset:
        """The real one."""
        return onset.find(timeline)

    def forecast(self, queue: str, workers: Sequence[int] | None = None) -> Forecast:
        """The real one, over minutes in which more goes than comes."""
        self._read("forecast")
        return forecast(
            queue, 5_000, [600.0] * 60, [700.0 + n % 5 for n in range(60)], clock=datetime.now(UTC), workers=4.0,
            others=tuple(workers or ()),
        )  # fmt: skip

    def failures(self, queue: str | None = None, since: Any = "6h", *, limit: int = 20) -> Failures:
        """A cause per error of the queue's jobs that stand failed."""
        self._read("failures")
        window = _window(queue, since)
        failed = [j for j in self.all_jobs() if j.queue == queue and j.error_message]
        by_error = Counter((j.error_type or "", j.error_message or "") for j in failed)
        causes = tuple(
            Cause(
                signature=f"{n:012x}", error_type=kind, text=message, attempts=Count(value=3 * k),
                share=k / len(failed),
                trend=tuple(k * (n + m) % 7 if m > 20 else 0 for m in range(BUCKETS)),
                first_seen=window.until - timedelta(minutes=20), last_seen=window.until - timedelta(seconds=30),
                queues=((queue or "", k),), example=next(j.id for j in failed if j.error_message == message),
                standing=Count(value=k, certainty=Certainty.EXACT), new_since=DEPLOY,
                filter=f"queue:{queue} status:failed signature:{n:012x}",
            )
            for n, ((kind, message), k) in enumerate(by_error.most_common(limit), 1)
        )  # fmt: skip
        return Failures(
            window=window, attempts=Count(value=3 * len(failed)), causes=causes, others=0,
            bucket_seconds=window.length.total_seconds() / BUCKETS,
        )  # fmt: skip

    def durations(self, queue: str | None = None, since: Any = "6h") -> Durations:
        """A slow hour at the end."""
        self._read("durations")
        found = {n: (50, (20.0 + n % 7, 90.0 + 4 * n, 120.0 + 6 * n)) for n in range(durations.BUCKETS)}
        return durations.durations(_window(queue, since), found, target_seconds=300.0, share=1.0)

    #: The condition that is found.
    condition = "payload.active_subscriptions=0"

    def explain_cause(self, queue: str, signature: str | None = None, **_: Any) -> Explanation:
        """One condition, and what goes along with it."""
        self._read("explain")
        finding = Finding(
            filter=self.condition, label="", failing=12, jobs=12, support=1.0, risk=risk(12, 12, 12, 400), log_p=-60.0,
            exact=True, companions=(Companion(filter="payload.plan=legacy-starter", correlation=0.97),),
        )  # fmt: skip
        return Explanation(
            failing=12, succeeding=388, attributes=9, tested=1_204, findings=(finding,) if self.condition else (),
            covered=1.0, where=f"queue:{queue}", baseline=f"queue:{queue}",
            notes=("Of 40,000 succeeding jobs 10 % were drawn, of each queue alike.",),
        )  # fmt: skip


def _window(queue: str | None, since: Any) -> Window:
    now = datetime.now(UTC)
    length = since if isinstance(since, timedelta) else timedelta(hours=6)
    return Window(since=now - length, until=now, queue=queue)
