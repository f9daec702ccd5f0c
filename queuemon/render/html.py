"""The one builder of static HTML: escapes everything on the way in; `show()`, reports and executed runbooks use it."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from queuemon.analysis.explanation import Explanation
from queuemon.contract import Health, Keys
from queuemon.errors import QueuemonError
from queuemon.masking import Masking
from queuemon.model import (
    ActionRecord,
    ActionResult,
    Attempt,
    Breakdown,
    Check,
    HalfError,
    Job,
    JobDetail,
    JobPage,
    Plan,
    QueueStats,
    Snapshot,
    Trend,
)
from queuemon.render.payload import tree
from queuemon.render.text import TRACE, ago, clean, duration, moment, number, percent, told

#: How queues are printed where no settings are at hand.
KEYS: Final = Keys()

#: Characters of a text twin.
TWIN: Final = 200_000

#: Rows of a table of plain values.
MAX_ROWS: Final = 200

#: Colour, sign and word of each health: never the colour alone.
HEALTH: Final = {
    Health.HEALTHY: ("var(--queuemon-green, #157347)", "●", "healthy"),
    Health.WARNING: ("var(--queuemon-amber, #855600)", "▲", "warning"),
    Health.CRITICAL: ("var(--queuemon-red, #b3261e)", "◆", "critical"),
    Health.UNKNOWN: ("var(--queuemon-grey, #55606e)", "○", "unknown"),
}

#: The doubled class is stronger than JupyterLab's own rules for tables.
_STYLE: Final = """
.queuemon{--queuemon-green:#157347;--queuemon-amber:#855600;--queuemon-red:#b3261e;--queuemon-grey:#55606e;
font:13px/1.5 system-ui,sans-serif;max-width:1100px;overflow-x:auto}
body[data-jp-theme-light="false"] .queuemon{--queuemon-green:#57cc8f;--queuemon-amber:#f0bd4a;--queuemon-red:#ff8b82;
--queuemon-grey:#9aa6b5}
.queuemon table{border-collapse:collapse;margin:6px 0;font-variant-numeric:tabular-nums}
.queuemon.queuemon table th,.queuemon.queuemon table td{padding:3px 12px 3px 0;text-align:left;vertical-align:top;
border-bottom:1px solid rgba(128,140,155,.25)}
.queuemon.queuemon table .n{text-align:right}
.queuemon.queuemon .nw{white-space:pre}
.queuemon code,.queuemon pre{font:12px/1.45 ui-monospace,monospace}
.queuemon pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0;padding:8px;
background:rgba(128,140,155,.1);border-radius:4px}
.queuemon .dim{opacity:.7}
.queuemon .bad{color:var(--queuemon-red)}
"""


class Safe(str):
    """HTML that was built here: already escaped."""

    __slots__ = ()


class Static:
    """A value as HTML for notebooks and as text for everything else; holds no scripts and needs no server."""

    def __init__(self, body: Safe, text: str) -> None:
        self.html = str(el("div", el("style", Safe(_STYLE)), body, class_="queuemon"))
        # Whatever it was built of: a terminal obeys control characters.
        self.text = clean(text, TWIN, lines=True)

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text

    __str__ = __repr__


def el(tag: str, *children: object, **attributes: str | None) -> Safe:
    """An element. Children that are not `Safe` are cleaned and escaped; `class_` is `class`; None leaves it out."""
    named = "".join(
        f' {name.rstrip("_")}="{html.escape(clean(value), quote=True)}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = "".join(
        c if isinstance(c, Safe) else html.escape(clean(c, TRACE, lines=True), quote=True) for c in children
    )
    return Safe(f"<{tag}{named}>" if tag == "br" else f"<{tag}{named}>{inside}</{tag}>")


def picture(svg: bytes, alt: str) -> Safe:
    """A drawing as an image: whatever is in it, no script of it runs."""
    return Safe(
        f'<img alt="{html.escape(clean(alt), quote=True)}"'
        f' src="data:image/svg+xml;base64,{base64.b64encode(svg).decode("ascii")}">'
    )


def join(parts: Iterable[Safe]) -> Safe:
    """Several elements, one after the other."""
    return Safe("".join(parts))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> Safe:
    """A table; columns whose index is in `right` hold numbers."""
    numeric = dict.fromkeys(right, "n")
    body = [el("tr", *(el("td", cell, class_=numeric.get(i)) for i, cell in enumerate(row))) for row in rows]
    return el(
        "table",
        el("thead", el("tr", *(el("th", name, class_=numeric.get(i), scope="col") for i, name in enumerate(head)))),
        el("tbody", *body),
    )


def static(value: Any, keys: Keys = KEYS) -> Static:
    """Any value as static HTML with a text twin: our own as the screens show them, others by their fields."""
    return Static(*static_parts(value, keys))


def static_parts(value: Any, keys: Keys) -> tuple[Safe, str]:
    """The HTML and the text of `static`."""
    from queuemon.analysis.failures import Failures
    from queuemon.analysis.forecast import Forecast
    from queuemon.analysis.incident import Incident
    from queuemon.analysis.investigation import Investigation
    from queuemon.analysis.onset import Onset
    from queuemon.analysis.timeline import Timeline

    match value:
        case Failures():
            from queuemon.render import failures

            return failures.failures_html(value, keys), failures.failures_text(value)
        case Timeline():
            from queuemon.render import timeline

            return timeline.html(value, keys), timeline.text(value, keys)
        case Onset():
            return join(el("p", told(s)) for s in value.sentences), clean(
                "\n".join(map(told, value.sentences)), TRACE, lines=True
            )
        case Forecast():
            from queuemon.render import forecast

            return forecast.html(value, keys), clean(value.sentence, 2_000)
        case Incident():
            from queuemon.render import incident

            return incident.html(value, keys), incident.text(value, keys)
        case Investigation():
            from queuemon.render import investigation

            return investigation.html(value, keys), investigation.text(value, keys)
        case Snapshot():
            return snapshot(value, keys), snapshot_text(value, keys)
        case JobPage():
            return page(value, keys), page_text(value, keys)
        case JobDetail():
            return detail(
                value, keys
            ), f"{_job_line(value.job, value.clock, keys)}; {len(value.attempts)} entries of history"
        case Explanation():
            from queuemon.render import explain

            return explain.document(value), explain.text(value)
        case Plan():
            return plan(value, keys), plan_text(value)
        case ActionResult():
            return result(value), clean(value.summary, 1_000)
        case Trend():
            return trend(value, keys), f"{len(value.points)} buckets of {duration(value.bucket_seconds)}"
        case QueuemonError():
            return el("p", str(value), class_="bad"), clean(str(value), 2_000)
        case [ActionRecord(), *_]:
            return activity(value, keys), "\n".join(
                clean(f"{moment(r.started_at)} {r.kind.value} {r.target}: {r.summary}") for r in value
            )
        case [Check(), *_]:
            return checks(value), "\n".join(clean(f"{c.state}: {c.name}: {c.found}") for c in value)
        case QueueStats() | [QueueStats(), *_]:
            listed = (value,) if isinstance(value, QueueStats) else value
            return queue_table(listed, None, keys), queue_lines(listed, keys)
        case [Job(), *_]:
            found = JobPage(jobs=tuple(value), after=None, before=None, filter="", clock=datetime.now(UTC))
            return job_table(found, keys), page_text(found, keys)
        case Job():
            return join(_job(value, value.status.value, keys)), _job_line(value, datetime.now(UTC), keys)
        case ActionRecord():
            return activity([value], keys), clean(f"{value.kind.value} {value.target}: {value.summary}", 1_000)
        case Static():
            return Safe(value.html), value.text
    from queuemon.render import values

    return value.face(keys) if isinstance(value, values.Faced) else values.parts(value, keys)


# ---------------------------------------------------------------------------------------------------------- queues


def snapshot(value: Snapshot, keys: Keys) -> Safe:
    """The queue table as it stood, with its time and whatever could not be read."""
    if isinstance(value.postgres, HalfError):
        missing = el("p", f"PostgreSQL could not be read: {value.postgres.message}", class_="bad")
        return join([missing, _taken(value)])
    parts = [queue_table(value.queues, value.postgres_at, keys), _taken(value)]
    if isinstance(value.redis, HalfError):
        parts.append(el("p", f"Redis could not be read: {value.redis.message}", class_="bad"))
    return join(parts)


def queue_table(listed: Sequence[QueueStats], now: datetime | None, keys: Keys) -> Safe:
    """Queues with their numbers; `now` is what the age of the oldest is measured against, None leaves it out."""
    rows = []
    for q in listed:
        colour, sign, word = HEALTH[q.health]
        state = f"{sign} {word}" + (", paused" if q.queue.paused else "")
        waiting = el("span", number(q.waiting), el("br"), el("span", _oldest(q.oldest_waiting_at, now), class_="dim"))
        rows.append(
            (
                join([el("code", keys.display(q.name)), el("br"), el("span", state, style=f"color:{colour}")]),
                number(q.active),
                waiting,
                number(q.completed_last_hour),
                number(q.failed),
                percent(q.failure_rate),
                f"{q.workers}/{q.queue.concurrency}",
            )
        )
    head = ("Queue Name", "Active Jobs", "Waiting", "Completed (last hour)", "Failed", "Failure rate", "Workers")
    return table(head, rows, right=range(1, 7))


def _oldest(at: datetime | None, now: datetime | None) -> str:
    return f"oldest {ago(at, now)}" if at and now else ""


def _taken(value: Snapshot) -> Safe:
    return el("p", f"Taken {moment(value.taken_at)} UTC", class_="dim")


def snapshot_text(value: Snapshot, keys: Keys) -> str:
    """The queue table in plain text."""
    if isinstance(value.postgres, HalfError):
        return f"PostgreSQL could not be read: {clean(value.postgres.message, 1_000)}"
    return queue_lines(value.queues, keys)


def queue_lines(listed: Sequence[QueueStats], keys: Keys) -> str:
    """Queues and their numbers, a line each."""
    lines = [f"{'Queue Name':<36} {'Active':>8} {'Waiting':>10} {'Last hour':>10} {'Failed':>8}  Health"]
    for q in listed:
        word = q.health.value + (", paused" if q.queue.paused else "")
        name = clean(keys.display(q.name), 36)
        lines.append(f"{name:<36} {q.active:>8,} {q.waiting:>10,} {q.completed_last_hour:>10,} {q.failed:>8,}  {word}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------------ jobs


def page(value: JobPage, keys: Keys) -> Safe:
    """A page of jobs."""
    title = el("p", "Filter: ", el("code", value.filter or "(all jobs)"))
    if not value.jobs:
        return join([title, el("p", "No job matches.", class_="dim")])
    return join([title, job_table(value, keys)])


def job_table(value: JobPage, keys: Keys) -> Safe:
    """The jobs of a page, a row each."""
    rows = [
        (
            el("code", job.id),
            el("code", keys.display(job.queue)),
            job.state_at(value.clock),
            f"{job.attempts}/{job.max_attempts}",
            moment(job.created_at),
            _error(job),
        )
        for job in value.jobs
    ]
    return table(("Job", "Queue", "Status", "Attempts", "Created (UTC)", "Error"), rows, right=(3,))


def page_text(value: JobPage, keys: Keys) -> str:
    """A page of jobs in plain text."""
    return "\n".join(_job_line(job, value.clock, keys) for job in value.jobs) or "No job matches."


def _job_line(job: Job, now: datetime, keys: Keys) -> str:
    parts = (str(job.id), keys.display(job.queue), job.state_at(now), f"{job.attempts}/{job.max_attempts}", _error(job))
    return "  ".join(clean(part, 120) for part in parts if part)


def _error(job: Job) -> str:
    return clean(": ".join(part for part in (job.error_type, job.error_message) if part))


def detail(value: JobDetail, keys: Keys) -> Safe:
    """A job: metadata, history with stack traces, payload."""
    where = " ".join(part for part in (value.redis.where, value.redis.note) if part)
    facts, *rest = _job(value.job, value.job.state_at(value.clock), keys, ("In Redis", where), masking=value.masking)
    history = [_attempt(a) for a in value.attempts] or [
        el("p", value.no_history, class_="dim"),
        el("p", _error(value.job), class_="bad"),
    ]
    return join([facts, el("h4", "History"), *history, *rest])


def _job(job: Job, state: str, keys: Keys, *more: tuple[str, str], masking: Masking | None = None) -> list[Safe]:
    """Metadata, and the payload where it was read."""
    facts = [
        ("ID", el("code", job.id)),
        ("Queue", el("code", keys.display(job.queue))),
        ("Status", state),
        ("Attempts", f"{job.attempts} of {job.max_attempts} (generation {job.gen})"),
        ("Created", f"{moment(job.created_at)} UTC"),
        ("Started", moment(job.started_at)),
        ("Finished", moment(job.finished_at)),
        *more,
    ]
    rows = tree(job.payload, masking)
    lines = "\n".join(f"{'  ' * row.depth}{row.key + ': ' if row.key else ''}{row.text}" for row in rows)
    return [table(("", ""), facts), el("h4", "Payload"), el("pre", lines)]


def _attempt(a: Attempt) -> Safe:
    name = f"attempt {a.attempt}" if a.kind == "attempt" else a.kind
    span = f" in {duration(a.duration_ms / 1000)}" if a.duration_ms is not None else ""
    where = f" on {a.worker_id}" if a.worker_id else ""
    parts = [el("div", f"{moment(a.at)} UTC — {name}: {a.status}{span}{where}")]
    if a.error_type or a.error_message:
        parts.append(el("div", ": ".join(p for p in (a.error_type, a.error_message) if p), class_="bad"))
    if a.stack_trace:
        parts.append(el("pre", clean(a.stack_trace, TRACE, lines=True)))
    return join(parts)


# --------------------------------------------------------------------------------------------------------- actions


def plan(value: Plan, keys: Keys) -> Safe:
    """What an action would do."""
    parts = [el("p", el("b", plan_text(value)))]
    parts += [el("p", warning, class_="bad") for warning in value.warnings]
    if value.effect:
        parts.append(el("p", value.effect))
    groups = (
        ("By queue", value.by_queue),
        ("By error", value.by_error),
        ("By age", value.by_age),
        ("Left out", value.excluded),
    )
    parts += [_group(title, group) for title, group in groups if group]
    if value.sample:
        rows = [
            (el("code", j.id), el("code", keys.display(j.queue)), j.status.value, moment(j.created_at), _error(j))
            for j in value.sample
        ]
        parts.append(table(("Sample", "Queue", "Status", "Created (UTC)", "Error"), rows))
    return join(parts)


def result(value: ActionResult) -> Safe:
    """What an action did, and why it left some jobs as they were."""
    parts = [el("p", value.summary, " ", el("span", f"(action {value.id})", class_="dim"))]
    if value.skipped:
        parts.append(_group("Skipped", value.skipped))
    if value.output:
        parts.append(el("pre", clean(value.output, TRACE, lines=True)))
    return join(parts)


def _group(title: str, group: Sequence[Breakdown]) -> Safe:
    return table((title, "Jobs"), [(clean(b.label), number(b.count)) for b in group], right=(1,))


def plan_text(value: Plan) -> str:
    """The plan in one line."""
    what = f"{value.count:,} {'job' if value.count == 1 else 'jobs'}" if value.kind.bulk else clean(value.target, 120)
    # What it names one by one stands in its breakdowns; a payload is nobody's headline.
    told = {
        k: v for k, v in value.options.items() if v not in (None, False, "") and not isinstance(v, dict | list | tuple)
    }
    options = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in told.items() if k != "payload")
    return f"Plan: {value.kind.value} {what}" + (f" ({clean(options)})" if options else "")


def activity(records: Sequence[ActionRecord], keys: Keys) -> Safe:
    """The audit trail."""
    rows = [
        (moment(r.started_at), r.kind.value, el("code", clean(r.target)), r.actor, r.reason, r.state, r.summary)
        for r in records[:MAX_ROWS]
    ]
    shown = table(("When (UTC)", "Action", "Target", "Who", "Why", "State", "Result"), rows)
    more = f"The first {MAX_ROWS:,} of {len(records):,}." if len(records) > MAX_ROWS else ""
    return join([shown, el("p", more, class_="dim")]) if more else shown


def checks(found: Sequence[Check]) -> Safe:
    """The lines of the doctor."""
    return table(("", "Check", "Found", "Next"), [(c.state, c.name, c.found, c.next_step) for c in found[:MAX_ROWS]])


# ---------------------------------------------------------------------------------------------------------- others


def trend(value: Trend, keys: Keys) -> Safe:
    """The buckets of a trend."""
    rows = [(moment(p.at), number(p.arrived), number(p.completed), number(p.failed)) for p in value.points[-MAX_ROWS:]]
    title = keys.display(value.queue) if value.queue else "all queues"
    head = el("p", el("code", title), f", buckets of {duration(value.bucket_seconds)}")
    return join([head, table(("From (UTC)", "Arrived", "Completed", "Failed attempts"), rows, right=(1, 2, 3))])
