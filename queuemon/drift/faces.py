"""Drift as static HTML and text: what `queuemon.show()`, runbooks and reports print of a comparison."""

from __future__ import annotations

from queuemon.contract import Keys
from queuemon.drift.model import DriftReport, DriftWatch
from queuemon.render.html import Safe, el, join, table
from queuemon.render.text import clean, duration, moment, number

#: Queues named of one class.
QUEUES = 5


def report(value: DriftReport, keys: Keys) -> tuple[Safe, str]:
    """What a comparison found, a row per class that was found; never an element itself: it holds a payload."""
    head = ("Class", "What", "Found", "Jobs", "Queues", "A repair")
    rows = [
        (c.number, c.title, number(c.count), number(c.jobs),
         ", ".join(clean(keys.display(b.label) if b.label else "–", 120) for b in c.by_queue[:QUEUES])
         + (f" and {len(c.by_queue) - QUEUES} more" if len(c.by_queue) > QUEUES else ""),
         "needless: workers that claim drop them" if c.harmless else c.repair)
        for c in value.classes
        if c.count
    ]  # fmt: skip
    depth = "payloads, too" if value.deep else "payloads were not compared"
    read = (
        f"Looked {moment(value.taken_at)} UTC at {number(value.rows)} rows and {number(value.elements)} elements of"
        f" {number(len(value.queues))} queues in {duration(value.seconds)}; {depth}."
    )
    made = [
        el("p", value.summary),
        *([table(head, rows, right=(0, 2, 3))] if rows else []),
        el("p", read, class_="dim"),
    ]
    return join(made), clean(value.summary, 2_000)


def watch(value: DriftWatch, keys: Keys) -> tuple[Safe, str]:
    """What the continuous look knows."""
    state = value.error or (
        f"Looked {moment(value.taken_at)} UTC; {value.coverage:.0%} of the lists passed in round {value.rounds + 1}."
    )
    foot = el("p", state, class_="bad" if value.error else "dim")
    if not value.lines:
        return join([el("p", "No sign of drift."), foot]), clean(value.error, 1_000) or "No sign of drift."
    rows = [
        (line.number, line.title, el("code", clean(keys.display(line.queue))) if line.queue else "",
         number(line.count), "proven" if line.proven else "suspected", moment(line.since), line.detail)
        for line in value.lines
    ]  # fmt: skip
    head = ("Class", "Sign", "Queue", "Number", "Certainty", "Since (UTC)", "What was seen")
    text = "\n".join(clean(f"{n:,} × {line.title} {line.queue}") for line in value.lines if (n := line.count))
    return join([table(head, rows, right=(0, 3)), foot]), text
