"""An investigation in five sentences, as static HTML and as text: what is red, since when, which error, what the jobs
that failed share, what becomes of the backlog, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from queuemon.analysis.investigation import Investigation
from queuemon.contract import Keys
from queuemon.render.explain import SHOWN
from queuemon.render.failures import title_of
from queuemon.render.html import HEALTH, Safe, el, join, table
from queuemon.render.text import clean, duration, moment, percent, told


def facts(value: Investigation) -> Iterator[tuple[str, str]]:
    """(what it tells, the sentence) of each; hostile text in them is not escaped."""
    yield "Queue", _state(value)
    yield "Began", _began(value)
    yield "Error", _error(value)
    if value.explanation:
        yield "In common", _shared(value)
    yield "Backlog", told(value.forecast.sentence)


def commands(value: Investigation) -> Iterator[tuple[str, str]]:
    """(what for, the command) of the next steps."""
    wanted = shlex.quote(value.filter)
    yield "Look at them", f"queuemon jobs {wanted}"
    yield "Once it is fixed, try one, then more", f"queuemon canary {wanted} --yes --reason 'fixed by …'"
    yield "Or retry all, with a plan first", f"queuemon retry {wanted}"


def html(value: Investigation, keys: Keys) -> Safe:
    """The facts as a table, and below it the next steps; works without a script."""
    parts = [el("h4", "What happened"), table(("", ""), [_row(value, keys, *fact) for fact in facts(value)])]
    if value.stats and value.stats.failed:
        rows = [
            (el("span", what, class_="nw"), el("code", clean(command, 2 * SHOWN))) for what, command in commands(value)
        ]
        parts += [el("h4", "What next"), table(("", ""), rows)]
    return join(parts)


def _row(value: Investigation, keys: Keys, name: str, sentence: str) -> tuple[object, object]:
    if name == "Queue":
        state = el("span", sentence)
        if value.stats:
            colour, sign, _ = HEALTH[value.stats.health]
            state = el("span", f"{sign} {sentence}", style=f"color:{colour}")
        return el("b", name, class_="nw"), join([el("code", keys.display(value.queue)), el("span", " "), state])
    if name == "In common" and (finding := value.finding):
        return el("b", name, class_="nw"), join(
            [el("code", clean(finding.filter, SHOWN)), el("br"), el("span", _rates(value))]
        )
    return el("b", name, class_="nw"), sentence


def text(value: Investigation, keys: Keys) -> str:
    """The same in plain text, a line each."""
    lines = [f"{name:<10} {clean(sentence, 2 * SHOWN)}" for name, sentence in facts(value)]
    lines[0] = f"{'Queue':<10} {clean(keys.display(value.queue), 80)}, {lines[0][11:]}"
    if value.stats and value.stats.failed:
        lines += [f"{what}:\n  {clean(command, 2 * SHOWN)}" for what, command in commands(value)]
    return "\n".join(lines)


def _state(value: Investigation) -> str:
    if (q := value.stats) is None:
        return "unknown: PostgreSQL did not tell its numbers"
    stand = "1 job stands failed" if q.failed == 1 else f"{q.failed:,} jobs stand failed"
    paused = ", paused" if q.queue.paused else ""
    return f"{q.health.value}{paused}: {stand}, {q.waiting:,} wait, {q.workers:,} of {q.queue.concurrency:,} workers"


def _began(value: Investigation) -> str:
    window = value.timeline.window
    if (change := value.began) is None:
        length = duration(window.length.total_seconds())
        return f"Neither failure rate nor depth rose in these {length}: it is older, or as it always was."
    return told(change.sentence.replace(f" at {change.at:%H:%M}", f" at {change.at:%H:%M} UTC", 1))


def _error(value: Investigation) -> str:
    found, since = value.failures, value.failures.window.since
    if (cause := value.cause) is None:
        standing = value.stats.failed if value.stats else 0
        older = f" {standing:,} stand failed since before: look further back." if standing else ""
        return f"No attempt has failed since {moment(since)} UTC.{older}"
    new = f" New since deploy {clean(cause.new_since, 80)}." if cause.new_since else ""
    return f"{title_of(cause, 200)} — {percent(cause.share)} of the {found.attempts} failed attempts since then.{new}"


def _shared(value: Investigation) -> str:
    finding = value.finding
    if finding is None:
        return value.explanation.verdict if value.explanation else ""
    return f"{clean(finding.filter, SHOWN)} — {_rates(value)}"


def _rates(value: Investigation) -> str:
    finding = value.finding
    if finding is None:
        return ""
    risk, label = finding.risk, f" ({clean(finding.label)})" if finding.label else ""
    return (
        f"{percent(finding.support)} of the jobs that failed so{label}: of such jobs {percent(risk.inside)} failed,"
        f" of the others {percent(risk.outside)}."
    )
