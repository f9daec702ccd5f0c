"""`queuemon drift` and `queuemon quarantine`: where the stores disagree, its repair, and what was set aside."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queuemon.cli.carry import Manner, code_of, print_plan, stoppable
from queuemon.cli.options import DONE, NOTHING, PARTLY, Json, Queue, Reason, Yes, opened
from queuemon.cli.terminal import cell, console, plain, print_json, say, table, warn
from queuemon.errors import InvalidValue
from queuemon.model import ActionKind

if TYPE_CHECKING:
    from queuemon.drift.model import DriftReport, DriftWatch
    from queuemon.model import Plan
    from queuemon.workbench import Workbench

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME…", help="Names from `queuemon quarantine list`.")]


def drift(
    ctx: typer.Context,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", metavar="QUEUE", help="Only this queue (repeatable).")
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Compare payloads and count completed jobs too.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Plan a repair; with --yes carry it out.")] = False,
    classes: Annotated[
        str | None, typer.Option("--class", metavar="N,…", help="Repair these classes alone.", show_default=False)
    ] = None,
    max_repairs: Annotated[
        int | None, typer.Option(metavar="N", help="Repairs at most (default: the profile's).", show_default=False)
    ] = None,
    max_percent: Annotated[
        float | None, typer.Option(metavar="P", help="Percent of a queue at most.", show_default=False)
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look cheaply, again and again, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between cheap looks.")] = 5.0,
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Where PostgreSQL and Redis disagree, looked at twice; with --repair, what a repair would do.

    Ends with 0 when they agree (or what was planned is repaired), with 3 when something was found, with 4 when there
    is nothing to repair. What workers drop by themselves does not count.
    """
    with opened(ctx) as wb:
        if watch:
            _watch(wb, interval, as_json)
            return
        with stoppable() as stop:
            report = wb.drift(queue or None, deep=deep, stop=stop)
        if not repair:
            if as_json:
                print_json(document(report))
            else:
                print_report(report, wb)
            raise typer.Exit(PARTLY if report.harmful or not report.complete else DONE)
        chosen = _numbers(classes)
        plan = wb.plan(ActionKind.REPAIR, report, classes=chosen, max_repairs=max_repairs, max_percent=max_percent)
        _carry_out(wb, plan, Manner(yes=yes, reason=reason, as_json=as_json))


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InvalidValue(f"--class is {text!r}", expected="numbers with commas, such as 1,2,13") from None


def _carry_out(wb: Workbench, plan: Plan, manner: Manner) -> None:
    if not manner.as_json:
        print_plan(plan, wb.settings.keys)
    if plan.count == 0 or not manner.yes:
        if manner.as_json:
            print_json({"plan": plan, "result": None})
        elif plan.count == 0:
            say("Nothing to do: nothing was changed.")
        else:
            say("Nothing was changed. Add --yes to do this.")
        raise typer.Exit(NOTHING if plan.count == 0 else DONE)
    with stoppable() as stop:
        result = wb.apply(plan, reason=manner.reason, stop=stop)
    if manner.as_json:
        print_json({"plan": plan, "result": result})
    else:
        say(result.summary)
    raise typer.Exit(code_of(result))


def print_report(report: DriftReport, wb: Workbench) -> None:
    """What was found, class by class, with a few of each."""
    from queuemon.render.text import duration

    out = console()
    found = [c for c in report.classes if c.count]
    if found:
        made = table(("", {"justify": "right"}), "Found", ("Number", {"justify": "right"}), ("Repair", {"ratio": 1}))
        for c in found:
            number = f"{c.count:,} ({c.jobs:,} jobs)" if c.jobs > c.count else f"{c.count:,}"
            style = "dim" if c.harmless else "yellow"
            made.add_row(cell(c.number), cell(c.title, style=style), cell(number), cell(c.repair))
        out.print(made)
        samples = table("", "Queue", "Job or key", ("What", {"ratio": 1}))
        for c in found:
            for f in c.sample:
                shown = wb.settings.keys.display(f.queue) if f.queue else ""
                what = f.detail or (f"generation {f.gen}, row: {f.row}" + (f" {f.row_gen}" if f.row_gen else ""))
                where = cell(f.job_id or f.key, limit=80)
                samples.add_row(cell(f.number), cell(shown, limit=60), where, cell(what, limit=300))
        out.print(samples)
    say(report.summary)
    motion = sum(c.in_motion for c in report.classes)
    say(
        f"{report.rows:,} waiting jobs and {report.elements:,} elements read in {duration(report.seconds)}"
        f" (PostgreSQL {duration(report.postgres_seconds)}, Redis {duration(report.redis_seconds)}, waited"
        f" {duration(report.waited_seconds)}; longest call of Redis {report.longest_redis_ms:.1f} ms)."
        + (f" {motion:,} only moved." if motion else "")
    )


def document(report: DriftReport) -> dict[str, Any]:
    """The report as JSON, without the findings beyond each sample."""
    made: dict[str, Any] = plain(report)
    made.pop("findings")
    for c in made["classes"]:
        for f in c["sample"]:
            f.pop("raw", None)
    return {**made, "count": report.count, "harmful": report.harmful, "summary": report.summary}


def _watch(wb: Workbench, interval: float, as_json: bool) -> None:
    watch, pause = wb.drift_watch(), threading.Event()
    if as_json:
        while True:
            print_json(watch.tick())
            pause.wait(interval)
    from rich.live import Live

    out = console()
    with Live(console=out, screen=out.is_terminal, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(watch_table(watch.tick(), wb), refresh=True)
            pause.wait(interval)


def watch_table(value: DriftWatch, wb: Workbench) -> Any:
    """What the continuous look knows."""
    from rich.console import Group

    made = table(
        ("", {"justify": "right"}), "Sign", "Queue", ("Number", {"justify": "right"}), "", ("What", {"ratio": 1})
    )
    for line in value.lines:
        shown = wb.settings.keys.display(line.queue) if line.queue else ""
        word = "proven" if line.proven else "suspected"
        made.add_row(
            cell(line.number), cell(line.title), cell(shown, limit=60), cell(f"{line.count:,}"),
            cell(word, style="red" if line.proven else "yellow"), cell(line.detail, limit=300),
        )  # fmt: skip
    foot = (
        f"{value.taken_at:%H:%M:%S} UTC · {value.milliseconds:.0f} ms · lists passed {value.coverage:.0%}"
        f" (round {value.rounds + 1}) · Ctrl-C ends"
    )
    parts = [made, cell(value.error or foot, limit=500, style="red" if value.error else "dim")]
    return Group(*parts) if value.lines else Group(cell("No sign of drift."), parts[1])


# ------------------------------------------------------------------------------------------------------ quarantine


def list_(
    ctx: typer.Context,
    queue: Queue,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Elements at most.")] = 100,
    as_json: Json = False,
) -> None:
    """What was set aside of a queue, the oldest first."""
    with opened(ctx) as wb:
        found = wb.quarantine(queue, limit=limit)
    if as_json:
        print_json(found)
    elif found:
        made = table("Name", ("Bytes", {"justify": "right"}), "Job", "Adopt", ("Beginning", {"ratio": 1}))
        for q in found:
            why = "possible" if not q.why_not else f"no: {q.why_not}"
            made.add_row(cell(q.digest), cell(f"{q.size:,}"), cell(q.job_id or ""), cell(why), cell(q.text, limit=100))
        console().print(made)
    else:
        say("Nothing is in quarantine.")
    raise typer.Exit(DONE if found else NOTHING)


def adopt(
    ctx: typer.Context, queue: Queue, names: Names = None, yes: Yes = False, reason: Reason = "", as_json: Json = False
) -> None:
    """Make jobs of quarantined elements: those named, or all that can be."""
    with opened(ctx) as wb:
        plan = wb.plan(ActionKind.ADOPT, queue, digests=names or None)
        _carry_out(wb, plan, Manner(yes=yes, reason=reason, as_json=as_json))


def discard(
    ctx: typer.Context,
    queue: Queue,
    names: Names = None,
    confirm: Annotated[int | None, typer.Option(metavar="N", help="How many: typed, beside --yes.")] = None,
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Throw quarantined elements away, for good: only those named, and their number must be typed."""
    with opened(ctx) as wb:
        plan = wb.plan(ActionKind.ADOPT, queue, digests=names or [], discard=True)
        if yes and confirm != plan.count:
            warn(f"To discard {plan.count:,} for good, say --confirm {plan.count} beside --yes.")
            raise typer.Exit(2)
        _carry_out(wb, plan, Manner(yes=yes, reason=reason, as_json=as_json))
