"""Where the stores disagree, as the page shows it: the continuous look, a close one on request; knows no widget."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from traitlets import Dict, HasTraits, List

from queuemon.contract import Keys
from queuemon.drift.aside import Quarantined
from queuemon.drift.model import CLASSES, ClassReport, DriftProgress, DriftReport, DriftWatch, Finding, WatchLine
from queuemon.errors import InvalidValue
from queuemon.model import RedisHalf
from queuemon.render.text import clean, duration
from queuemon.views.confirm import Confirmation
from queuemon.workbench import Workbench

#: How much of a close look each phase is, in per cent: where it begins and ends.
PHASES: Final = {"first look": (0, 45), "waiting": (45, 55), "second look": (55, 100)}


#: The continuous look looks no more often than this, in seconds, however short the refresh is.
TICK_SECONDS: Final = 3.0

#: Quarantined elements that are listed.
ELEMENTS: Final = 50

#: Lines of the continuous look that are shown.
LINES: Final = 30


class Drift(HasTraits):
    """What the continuous look sees, the last close look, and the one that is under way."""

    #: The continuous look; empty before its first tick.
    watch = Dict()

    #: What the last close look found; empty before the first.
    report = Dict()
    #: Elements that were set aside, the oldest of each queue first.
    quarantine: List[Any] = List()
    #: {share, text, stopping} while a close look runs; empty otherwise.
    looking = Dict()

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self._workbench = workbench
        self._keys: Keys = workbench.settings.keys
        self._lock = threading.Lock()
        self._stop: threading.Event | None = None
        self._aside: dict[str, int] | None = None
        self._watch = workbench.drift_watch()
        self._ticked = -TICK_SECONDS
        #: The value behind `watch`.
        self.seen: DriftWatch | None = None
        #: The value behind `report`.
        self.found: DriftReport | None = None

    def tick(self) -> None:
        """With every refresh, from one thread: look cheaply."""
        if time.monotonic() - self._ticked < TICK_SECONDS:
            return
        self._ticked = time.monotonic()
        self.seen = self._watch.tick()
        self.watch = watch_values(self.seen, self._keys)

    def read_quarantine(self, redis: RedisHalf) -> None:
        """With every refresh: read what was set aside where its number has changed."""
        counts = {name: q.quarantined for name, q in redis.queues.items() if q.quarantined}
        if counts == self._aside:
            return
        found = [element for name in sorted(counts) for element in self._workbench.quarantine(name, limit=ELEMENTS)]
        self._aside = counts
        self.quarantine = [element_values(element, self._keys) for element in found[:ELEMENTS]]

    def propose_repair(self, confirmation: Confirmation, classes: Sequence[int]) -> None:
        """The plan of a repair of what the last close look found; of some kinds, or all."""
        if self.found is None:
            raise InvalidValue("nothing was looked at yet", next_step="look closely first")
        confirmation.propose("repair", self.found, {"classes": list(classes)} if classes else {})

    def look(self, *, deep: bool = False) -> None:
        """Compare the stores closely; `deep` compares payloads too. A second call meanwhile does nothing."""
        with self._lock:
            if self._stop is not None:
                return
            stop = self._stop = threading.Event()
            self.looking = {"share": 0, "text": "Starting…", "stopping": False}
        try:
            found = self._workbench.drift(deep=deep, progress=self._progress, stop=stop)
            with self._lock:
                self.found = found
                self.report = report_values(found, self._keys)
        finally:
            with self._lock:
                self._stop = None
                self.looking = {}

    def stop(self) -> None:
        """End the look that runs; what it has found so far is shown."""
        with self._lock:
            if self._stop is not None:
                self._stop.set()
                self.looking = self.looking | {"stopping": True}

    def _progress(self, p: DriftProgress) -> None:
        with self._lock:
            if self.looking:
                self.looking = self.looking | progress_values(p, self._keys)


# ------------------------------------------------------------------------------------------- values into plain JSON


def progress_values(p: DriftProgress, keys: Keys) -> dict[str, Any]:
    """How far a close look is, as a bar and in words."""
    begins, ends = PHASES.get(p.phase, (0, 100))
    share = begins + (ends - begins) * (min(1.0, p.done / p.total) if p.total else 0.0)
    where = f": {clean(keys.display(p.queue), 120)}" if p.queue else ""
    of = f", {p.done:,} of {p.total:,} queues" if p.total > 1 else ""
    return {"share": round(share), "text": f"{p.phase.capitalize()}{where}{of}"}


def watch_values(watch: DriftWatch, keys: Keys) -> dict[str, Any]:
    """The continuous look as the panel takes it."""
    return {
        "at": watch.taken_at.timestamp(),
        "proven": watch.proven,
        "suspected": watch.suspected,
        "share": 100 if watch.rounds else round(100 * watch.coverage),
        "error": clean(watch.error, 400),
        "lines": [line_values(line, keys) for line in watch.lines[:LINES]],
        "more": max(0, len(watch.lines) - LINES),
    }


def line_values(line: WatchLine, keys: Keys) -> dict[str, Any]:
    """One sign of disagreement."""
    name, _, meaning = line.title.partition(": ")
    return {
        "number": line.number,
        "name": clean(name, 80),
        "meaning": clean(meaning, 200),
        "queue": clean(keys.display(line.queue), 120) if line.queue else "",
        "count": line.count,
        "proven": line.proven,
        "since": line.since.timestamp(),
        "detail": clean(line.detail, 300),
    }


def element_values(element: Quarantined, keys: Keys) -> dict[str, Any]:
    """An element that was set aside."""
    return {
        "queue": element.queue,
        "title": clean(keys.display(element.queue), 120),
        "digest": element.digest,
        "size": element.size,
        "text": clean(element.text, 240),
        "id": str(element.job_id) if element.job_id else "",
        "whyNot": clean(element.why_not, 200),
    }


def report_values(report: DriftReport, keys: Keys) -> dict[str, Any]:
    """A close look as the panel takes it; of the sixteen kinds those that were found."""
    found = [c for c in report.classes if c.count]
    return {
        "at": report.taken_at.timestamp(),
        "summary": clean(report.summary, 600),
        "count": report.count,
        "harmful": report.harmful,
        "level": clean(report.level, 10),
        "deep": report.deep,
        "complete": report.complete,
        "took": duration(report.seconds),
        "read": f"{report.rows:,} rows, {report.elements:,} elements of {len(report.queues):,} queues",
        "clean": sum(1 for c in report.classes if c.looked and not c.count),
        "moving": sum(c.in_motion for c in report.classes),
        "classes": [class_values(c, keys) for c in found],
    }


def class_values(c: ClassReport, keys: Keys) -> dict[str, Any]:
    """One kind of disagreement."""
    name, _, meaning = c.title.partition(": ")
    return {
        "number": c.number,
        "name": clean(name, 80),
        "meaning": clean(meaning, 200),
        "count": f"{c.count:,} {c.unit if c.count == 1 else c.unit + 's'}",
        "jobs": c.jobs if c.jobs > c.count else 0,
        "harmless": c.harmless,
        "repair": clean(c.repair, 200),
        "repairable": CLASSES[c.number].repairable and not c.harmless,
        "queues": [[clean(keys.display(b.label), 120), b.count] for b in c.by_queue[:8]],
        "sample": [finding_values(f, keys) for f in c.sample],
    }


def finding_values(f: Finding, keys: Keys) -> dict[str, str]:
    """One disagreement in a line."""
    parts = [clean(keys.display(f.queue), 80) if f.queue else "", f"the row is {f.row}" if f.row else "", f.detail]
    if f.gen is not None and f.row_gen is not None and f.gen != f.row_gen:
        parts.append(f"generation {f.gen} of {f.row_gen}")
    return {"id": str(f.job_id) if f.job_id else "", "text": clean(" · ".join(p for p in parts if p), 300)}
