"""Why a queue is as it is, beside its jobs: charts, failures by cause, onset, forecast, what the failing jobs share.

Knows no widget. These reads may be heavy, so they keep a cadence of their own, slower the more they cost; never two at
once; each within its time, failing alone with its words; and ended in the store when their question is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from traitlets import Any as AnyTrait
from traitlets import Dict, HasTraits

from queuemon.analysis.explanation import Explanation, Finding
from queuemon.analysis.failures import Cause, Failures
from queuemon.analysis.forecast import Forecast
from queuemon.analysis.investigation import began
from queuemon.analysis.onset import Change, Onset
from queuemon.errors import QueuemonError
from queuemon.filters import JobFilter, quote
from queuemon.render.explain import LAST_ATTEMPT, SHOWN, p_text, ratio
from queuemon.render.forecast import who
from queuemon.render.queue_charts import Curves
from queuemon.render.text import clean, duration, percent, told
from queuemon.store.bounds import Bound
from queuemon.workbench import Workbench

#: The shortest and the longest time between two readings, in seconds; between them fifty times what the last one
#: kept the store busy.
OFTEN, SELDOM, COST = 10.0, 300.0, 50.0

#: Seconds that one statement may take: of a reading, and of a comparison that somebody asked for.
READ_SECONDS: Final = 10.0
COMPARE_SECONDS: Final = 30.0

#: Causes, changes and findings that are listed.
CAUSES: Final = 8
CHANGES: Final = 4
FINDINGS: Final = 6

#: How one does something beside the page: a name for it, and the work.
Run = Callable[[str, Callable[[], None]], None]


class Insight(HasTraits):
    """What is known of the open queue beside its jobs; empty when none is open."""

    #: Failures by cause: rows, or the error; `at` is when it was read.
    causes = Dict()
    #: When it began, and what becomes of the backlog.
    story = Dict()
    #: What the failing jobs share: the question that runs, or its answer. Empty until asked.
    contrast = Dict()
    #: What the charts show (Curves); None until read.
    curves = AnyTrait(None, allow_none=True)

    def __init__(self, workbench: Workbench, run: Run) -> None:
        super().__init__()
        self._workbench = workbench
        self._run = run
        self._lock = threading.RLock()
        self._queue = ""
        self._hours = 0.0
        self._workers = 0
        #: What reads, and what compares, now.
        self._reading: Bound | None = None
        self._comparing: Bound | None = None
        self._due = 0.0
        self._onset: Onset | None = None

    # ---------------------------------------------------------------------------------------------- from the page

    def look(self, queue: str, hours: float, workers: int = 0) -> None:
        """Look at another queue, or through another window: what runs for the last one is ended."""
        with self._lock:
            self._workers = workers
            other = queue != self._queue
            self._end(comparing=other)
            self._queue, self._hours, self._due, self._onset = queue, hours, 0.0, None
            if other:
                self.contrast, self.curves = {}, None
            waiting = {"loading": True} if queue else {}
            self.causes = waiting if other or not self.causes else self.causes | waiting
            self.story = waiting if other or not self.story else self.story | waiting
        self.tick()

    def close(self) -> None:
        """Look at none."""
        with self._lock:
            self._end()
            self._queue = ""
            self.causes, self.story, self.contrast, self.curves = {}, {}, {}, None

    def tick(self, workers: int | None = None) -> None:
        """With every refresh: read again when it is time, and nothing is being read. `workers` serve the queue now."""
        with self._lock:
            if workers is not None:
                self._workers = workers
            if not self._queue or self._reading is not None or time.monotonic() < self._due:
                return
            mine = self._reading = Bound(READ_SECONDS)
            queue, hours, others = self._queue, self._hours, compared(self._workers)
        self._run("reading the cards", lambda: self._read(mine, queue, hours, others))

    def compare(self, signature: str = "") -> None:
        """What do the failing jobs share: of a signature, or all of the queue. Another question ends the last one."""
        with self._lock:
            if not self._queue:
                return
            self._end(reading=False)
            mine = self._comparing = Bound(COMPARE_SECONDS)
            queue, hours, onset = self._queue, self._hours, self._onset
            self.contrast = {"running": True, "signature": signature, "what": self._named(signature)}
        self._run("comparing jobs", lambda: self._compare(mine, queue, hours, signature, onset))

    def stop(self) -> None:
        """End the comparison that runs, or put its answer away."""
        with self._lock:
            self._end(reading=False)
            self.contrast = {}

    def _end(self, *, reading: bool = True, comparing: bool = True) -> None:
        """Nothing that runs now is shown any more; the store is told in a thread, since it may not answer."""
        ended = []
        if reading and self._reading is not None:
            ended.append(self._reading)
            self._reading = None
        if comparing and self._comparing is not None:
            ended.append(self._comparing)
            self._comparing = None
        for bound in ended:
            self._run("ending a reading", bound.stop)

    # ------------------------------------------------------------------------------------------------- in threads

    def _read(self, mine: Bound, queue: str, hours: float, others: Sequence[int]) -> None:
        """Each part by itself: one that fails leaves its last values, and says why."""
        window = timedelta(hours=hours)
        story: dict[str, Any] = {}
        onset: Onset | None = None
        try:
            with mine.held():
                seen, error = self._part(lambda: self._workbench.history(queue, window))
                if seen is not None:
                    onset = self._workbench.onset(timeline=seen)
                story["onsetError"] = error
                failures, causes_error = self._part(lambda: self._workbench.failures(queue, window, limit=CAUSES))
                listed = {} if failures is None else causes_values(failures)
                self._show(mine, causes={**listed, "error": causes_error, "loading": False})
                if onset is not None:
                    story |= onset_values(onset, hours, failures)
                future, story["forecastError"] = self._part(lambda: self._workbench.forecast(queue, others))
                if future is not None:
                    story |= forecast_values(future)
                self._show(mine, onset, story={**story, "loading": False})
                took, _ = self._part(lambda: self._workbench.durations(queue, window))
                if seen is not None:
                    last = self.curves or Curves(timeline=seen)
                    full = Curves(
                        timeline=seen, onset=onset, failures=failures or last.failures,
                        durations=took or last.durations,
                    )  # fmt: skip
                    self._draw(mine, full)
        finally:
            with self._lock:
                if self._reading is mine:
                    self._reading = None
                    self._due = time.monotonic() + min(SELDOM, max(OFTEN, COST * mine.spent))

    def _compare(self, mine: Bound, queue: str, hours: float, signature: str, onset: Onset | None) -> None:
        change = began(onset) if onset else None
        values: dict[str, Any] = {}
        try:
            with mine.held():
                found = self._workbench.explain_cause(
                    queue, signature or None, began=change.at if change else None, since=timedelta(hours=hours),
                    seconds=COMPARE_SECONDS,
                )  # fmt: skip
            values = contrast_values(found, signature)
        except QueuemonError as error:
            values = {"error": clean(str(error), 600)}
        finally:
            with self._lock:
                if self._comparing is mine:
                    self._comparing = None
                    self.contrast = self.contrast | {"running": False, "at": time.time(), **values} if values else {}

    def _part(self, read: Callable[[], Any]) -> tuple[Any, str]:
        """(what was read, "") or (None, why not)."""
        try:
            return read(), ""
        except QueuemonError as error:
            return None, clean(str(error), 400)

    def _show(self, mine: Bound, onset: Onset | None = None, **cards: dict[str, Any]) -> None:
        """Put values on the page, unless their question is over; cards keep what could not be read anew."""
        with self._lock:
            if self._reading is mine:
                self._onset = onset or self._onset
                for name, values in cards.items():
                    setattr(self, name, getattr(self, name) | values)

    def _draw(self, mine: Bound, curves: Curves) -> None:
        """Draw, which may take a second: without the lock, and taken back where the question has ended meanwhile."""
        if self._reading is not mine:
            return
        self.curves = curves
        with self._lock:
            if self._reading is not mine and self.curves is curves:
                self.curves = None

    def _named(self, signature: str) -> str:
        """The cause that a question is about, in words."""
        row = next((r for r in self.causes.get("rows", ()) if r["signature"] == signature), None)
        return row["text"] if row else ""


# ------------------------------------------------------------------------------------------- values into plain JSON


def compared(workers: int) -> tuple[int, ...]:
    """The numbers of workers that a forecast compares with those who serve a queue: half as many, and twice."""
    return tuple(n for n in (workers // 2, workers * 2) if n > 0) if workers else ()


def causes_values(found: Failures) -> dict[str, Any]:
    """Failures by cause as the card takes them."""
    return {
        "at": found.window.until.timestamp(),
        "attempts": str(found.attempts),
        "rows": [cause_values(cause) for cause in found.causes],
        "others": found.others,
        "notes": [clean(note, 300) for note in found.notes],
    }


def cause_values(c: Cause) -> dict[str, Any]:
    """One cause."""
    return {
        "signature": c.signature,
        "type": clean(c.error_type, 80),
        "text": clean(c.text, 300) or "(no message)",
        "attempts": str(c.attempts),
        "share": percent(c.share),
        "trend": list(c.trend),
        "first": c.first_seen.timestamp(),
        "last": c.last_seen.timestamp(),
        "new": clean(c.new_since, 80) if c.new_since else "",
        "example": str(c.example) if c.example else "",
        "standing": str(c.standing),
        "stands": c.standing.value > 0 and c.signed,
        "unsigned": not c.signed,
        "only": f"signature:{c.signature}",
    }


def onset_values(onset: Onset, hours: float, failures: Failures | None = None) -> dict[str, Any]:
    """The changes of the window, the newest first; of deploys side by side the one that an error is new since."""
    new = {c.new_since for c in failures.causes} if failures else set()

    def told_of(c: Change) -> Change:
        return replace(c, near=tuple(sorted(c.near, key=lambda h: h.kind != "deploy" or h.target not in new)))

    changes = [
        {"text": clean(told(told_of(c).sentence), 300), "bad": c.rose, "at": c.at.timestamp()}
        for c in reversed(onset.changes[-CHANGES:])
    ]
    return {
        "at": onset.window.until.timestamp(),
        "changes": changes,
        "none": f"No change of failure rate or depth in the last {duration(hours * 3600)}.",
    }


def forecast_values(future: Forecast) -> dict[str, Any]:
    """The outlooks, a line each; or the one sentence where there is nothing to foresee."""
    if not future.depth or future.paused:
        return {"forecast": [], "backlog": clean(told(future.sentence), 300)}
    # Why one never clears stands in its tip: the rates stand below them all.
    said = [(o, future.told(o)) for o in future.outlooks]
    lines: list[list[Any]] = [
        [who(o), clean(told(words.partition(" (")[0]), 200), o.never, clean(words, 200)] for o, words in said
    ]
    if future.uncompared:
        lines.append(["other numbers", "Not known: no attempt shows who serves it now.", False, ""])
    rates = f"{future.arrivals_per_second:,.1f} come and {future.service_per_second:,.1f} go a second"
    return {"forecast": lines, "backlog": f"{future.depth:,} wait; {rates} since {_clock(future.since)}."}


def _clock(at: datetime) -> str:
    return f"{at:%H:%M} UTC"


def contrast_values(found: Explanation, signature: str) -> dict[str, Any]:
    """An explanation as the card takes it."""
    since = f", {found.since:%d %b %H:%M} to {found.until:%H:%M} UTC" if found.since and found.until else ""
    return {
        "verdict": clean(found.verdict, 300),
        "compared": f"{found.failing:,} failing and {found.succeeding:,} succeeding jobs of the queue{since}; "
        f"{found.tested:,} conditions on {found.attributes} attributes tested.",
        "notes": [clean(note, 300) for note in found.notes],
        "rows": [finding_values(f, signature) for f in found.findings[:FINDINGS]],
    }


def finding_values(f: Finding, signature: str) -> dict[str, Any]:
    """One condition with its figures, and the filter that makes its jobs the list's."""
    asked = JobFilter.parse(f.filter)
    if signature:
        asked = JobFilter.parse(f"signature:{quote(signature)}") & asked
    beside = ", ".join(clean(c.filter, SHOWN) for c in f.companions)
    notes = [clean(f.label, 120), f"goes along with {beside}" if beside else "", "" if f.exact else LAST_ATTEMPT]
    return {
        "filter": clean(f.filter, SHOWN),
        "only": str(asked),
        "note": clean("; ".join(n for n in notes if n), 400),
        "support": percent(f.support),
        "inside": percent(f.risk.inside),
        "outside": percent(f.risk.outside),
        "insideShare": round(f.risk.inside, 4),
        "outsideShare": round(f.risk.outside, 4),
        "jobs": f"{f.jobs:,}",
        "ratio": ratio(f),
        "p": p_text(f),
    }
