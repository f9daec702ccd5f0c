"""An incident as static HTML and as text: impact, picture, beginning, errors, what they share, who did what, the end.

Every section says by which command its numbers can be had again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime

from queuemon.analysis.incident import Impact, Incident
from queuemon.contract import JobStatus, Keys
from queuemon.render import drawing, explain, failures, investigation
from queuemon.render.html import MAX_ROWS, Safe, el, join, picture, table
from queuemon.render.text import clean, duration, moment, number, told
from queuemon.store.timeline import Happened

_NOW = {
    JobStatus.COMPLETED: "completed", JobStatus.FAILED: "stand failed", JobStatus.WAITING: "wait",
    JobStatus.ACTIVE: "run", JobStatus.EXPIRED: "expired",
}  # fmt: skip


def html(value: Incident, keys: Keys) -> Safe:
    """All sections; works without a script."""
    return join(
        el("div", el("h4", title), *parts)
        for title, parts in (
            ("Summary", [el("p", s) for s in sentences(value, keys)]),
            ("Impact", list(_impact(value, keys))),
            ("Timeline", list(_timeline(value, keys))),
            ("Beginning", list(_onset(value))),
            ("Errors", list(_errors(value, keys))),
            ("What the failing jobs share", list(_shared(value))),
            ("What people did", list(_happened(value))),
            ("Still open", list(_open(value, keys))),
        )
    )


def text(value: Incident, keys: Keys) -> str:
    """The summary in plain text, a line each."""
    return "\n".join(clean(s, 600) for s in sentences(value, keys))


def sentences(value: Incident, keys: Keys) -> Iterator[str]:
    """The incident in short; hostile text in them is not escaped."""
    w = value.window
    span = f"{w.since:%Y-%m-%d %H:%M} to {w.until:%Y-%m-%d %H:%M} UTC ({duration(w.length.total_seconds())})"
    where = keys.display(w.queue) if w.queue else "all queues"
    yield f"{clean(where, 80)}, {span}."
    if not value.impacts:
        yield "No attempt failed, no job expired, and none waited for longer than its queue's target."
    else:
        jobs, n = sum(i.jobs_failed for i in value.impacts), len(value.impacts)
        failed, expired = sum(i.failed + i.lost for i in value.impacts), sum(i.expired for i in value.impacts)
        late = max(i.over_target_seconds for i in value.impacts)
        yield (
            f"{n:,} {'queue was' if n == 1 else 'queues were'} hit: {jobs:,} {'job' if jobs == 1 else 'jobs'} failed in"
            f" {failed:,} attempts, {expired:,} expired; at worst, jobs started late for {duration(late)}."
        )
    if value.began is None:
        yield "Neither failure rate nor depth rose within it."
    else:
        yield told(f"{clean(keys.display(value.queue), 80)}: {value.began.sentence}")
        yield (
            f"It ended at {value.ended.settled:%Y-%m-%d %H:%M} UTC, after {duration(value.lasted.total_seconds())}."
            if value.ended and value.lasted else "It has not ended within this time."
        )  # fmt: skip
    if cause := value.investigation.cause:
        yield f"Most attempts failed by: {failures.title_of(cause, 200)}."
    if finding := value.investigation.finding:
        yield f"The jobs that failed so share: {clean(finding.filter, 300)}."


def _command(*words: str, ends: tuple[datetime, datetime] | None = None) -> Safe:
    """A command line, with both ends of a window."""
    span = ["--since", f"{ends[0]:%Y-%m-%dT%H:%M:%S}", "--until", f"{ends[1]:%Y-%m-%dT%H:%M:%S}"] if ends else []
    return el("p", "Again: ", el("code", clean(shlex.join(["queuemon", *words, *span]), 600)), class_="again")


def _impact(value: Incident, keys: Keys) -> Iterator[Safe]:
    if not value.impacts:
        yield el("p", "Nothing was hit.")
    else:
        head = (
            "Queue", "Began", "Jobs that failed", "of these now", "Failed attempts", "Expired", "Late for",
            "Longest wait", "Deepest", "Arrived", "Completed",
        )  # fmt: skip
        rows = [
            (
                el("code", keys.display(i.queue)), f"{i.began.at:%H:%M}" if i.began else "–",
                number(i.jobs_failed), _standing(i), number(i.failed + i.lost),
                number(i.expired), duration(i.over_target_seconds) if i.over_target_seconds else "–",
                f"{_span(i.longest_wait_seconds)} (target {duration(i.target_seconds)})", _deepest(i, value),
                number(i.arrived), number(i.completed),
            )
            for i in value.impacts
        ]  # fmt: skip
        yield table(head, rows, right=(2, 4, 5, 6, 8, 9, 10))
        yield el(
            "p", "Late for: the time in whose minutes a job started that had waited for longer than its queue's target."
        )
    if value.others:
        yield el("p", f"{value.others:,} queues with fewer events were not looked at one by one.")
    for i in value.impacts[:3]:
        yield _again(value, i.queue)


def _again(value: Incident, queue: str) -> Safe:
    """The command for a queue's curve, in the same buckets."""
    seconds = value.investigation.timeline.bucket_seconds
    return _command("timeline", queue, "--bucket", str(seconds), ends=(value.window.since, value.window.until))


def _standing(i: Impact) -> str:
    parts = [f"{n:,} {_NOW[state]}" for state, n in sorted(i.now.items(), key=lambda item: -item[1])]
    return ", ".join([*parts, *([f"{i.deleted:,} were deleted"] if i.deleted else [])]) or "–"


def _deepest(i: Impact, value: Incident) -> str:
    return f"{i.deepest:,} at {min(i.deepest_at, value.clock):%H:%M}" if i.deepest_at else "0"


def _span(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


def marks(value: Incident) -> list[tuple[int, Happened]]:
    """Deploys and actions with the numbers that the picture gives them: the newest that fit into it."""
    return list(enumerate(value.happened[-drawing.MARKS :], start=1))


def _timeline(value: Incident, keys: Keys) -> Iterator[Safe]:
    numbers: list[tuple[datetime, int]] = [(h.at, n) for n, h in marks(value)]
    svg = drawing.timeline_svg(value.investigation.timeline, numbers, began=value.began, ended=value.ended)
    yield el("p", el("code", keys.display(value.queue)), ", times in UTC")
    yield picture(svg, f"Depth, flow and failures of {keys.display(value.queue)}")
    yield el("p", "Red: it began. Green: it ended. Grey: paused. Numbers: see what people did.")
    yield _again(value, value.queue)


def _onset(value: Incident) -> Iterator[Safe]:
    for sentence in value.investigation.onset.sentences:
        yield el("p", told(sentence))
    yield _again(value, value.queue)


def _errors(value: Incident, keys: Keys) -> Iterator[Safe]:
    yield failures.failures_html(value.investigation.failures, keys)
    looked_at = value.investigation.failures.window  # since it began
    yield _command("failures", "--queue", value.queue, ends=(looked_at.since, looked_at.until))


def _shared(value: Incident) -> Iterator[Safe]:
    found, cause = value.investigation.explanation, value.investigation.cause
    if found is None or cause is None:
        yield el("p", "Nothing failed, so there is nothing to compare.")
        return
    yield explain.document(found)
    ends = (found.since, found.until) if found.since and found.until else None
    yield _command("explain", found.where, ends=ends)


def _happened(value: Incident) -> Iterator[Safe]:
    if not value.happened:
        yield el("p", "No deploy was marked, and no operator acted.")
    else:
        rows = [
            (number(n), moment(h.at), h.kind, el("code", clean(h.target)), clean(h.actor), clean(h.why), number(h.done))
            for n, h in marks(value)[-MAX_ROWS:]
        ]
        yield table(("", "When (UTC)", "What", "Which", "Who", "Why", "Jobs"), rows, right=(0, 6))
    yield _command("actions", "--limit", "100")


def _open(value: Incident, keys: Keys) -> Iterator[Safe]:
    yield investigation.html(value.investigation, keys)
    yield _command("status")
