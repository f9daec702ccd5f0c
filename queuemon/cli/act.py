"""The commands that change something: each prints its plan, and stops there unless --yes."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queuemon.cli.jobs import error_of, parsed
from queuemon.cli.options import (
    DONE,
    FAILED,
    NOTHING,
    PARTLY,
    Json,
    Queue,
    Reason,
    Target,
    Yes,
    opened,
)
from queuemon.cli.terminal import cell, console, print_json, say, table
from queuemon.contract import Priority
from queuemon.model import ActionKind, ActionProgress, ActionResult, Breakdown, Plan
from queuemon.render.text import clean

if TYPE_CHECKING:
    from queuemon.contract import Keys
    from queuemon.workbench import Workbench

#: What can only be meant as an id.
_ID_LIKE = re.compile(r"[0-9a-fA-F]+(-[0-9a-fA-F]+)+")

#: A queue's name, when no field of the filter language stands before its first colon.
_NAME_LIKE = re.compile(r"[\w./@+-]+(:[\w./@+-]+)*")

#: Bulk actions on more jobs than this show their progress.
PROGRESS_FROM = 2_000


def retry(ctx: typer.Context, target: Target, yes: Yes = False, reason: Reason = "", as_json: Json = False) -> None:
    """Run failed and expired jobs again, with fresh attempts and clocks."""
    _jobs(ctx, ActionKind.RETRY, target, yes, reason, as_json)


def delete(ctx: typer.Context, target: Target, yes: Yes = False, reason: Reason = "", as_json: Json = False) -> None:
    """Delete jobs that are not running; a copy is kept for some days."""
    _jobs(ctx, ActionKind.DELETE, target, yes, reason, as_json)


def run_now(ctx: typer.Context, target: Target, yes: Yes = False, reason: Reason = "", as_json: Json = False) -> None:
    """Let scheduled jobs, and those waiting for their next attempt, run at once."""
    _jobs(ctx, ActionKind.RUN_NOW, target, yes, reason, as_json)


def clear_failed(
    ctx: typer.Context,
    target: Annotated[list[str], typer.Argument(metavar="QUEUE|FILTER", help="A queue, or which failed jobs.")],
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Delete failed jobs of a queue, or those that match a filter; a copy is kept for some days."""
    with opened(ctx) as wb:
        _carry_out(wb, ActionKind.CLEAR_FAILED, _failed_of(wb, target), yes, reason, as_json)


def pause(
    ctx: typer.Context,
    queue: Queue,
    until: Annotated[
        str | None, typer.Option(help="Resume by itself: 2h, 30m, or a time such as 2026-10-03T14:00.")
    ] = None,
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Let no worker take a job of the queue; running jobs finish."""
    _queue(ctx, ActionKind.PAUSE, queue, yes, reason, as_json, until=until)


def resume(ctx: typer.Context, queue: Queue, yes: Yes = False, reason: Reason = "", as_json: Json = False) -> None:
    """Let workers take jobs of a paused queue again; deadlines are extended by the pause."""
    _queue(ctx, ActionKind.RESUME, queue, yes, reason, as_json)


def prioritise(
    ctx: typer.Context,
    queue: Queue,
    priority: Annotated[Priority, typer.Argument(help="Order in which workers serve the queue.")],
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Set the order in which workers serve the queue."""
    _queue(ctx, ActionKind.PRIORITISE, queue, yes, reason, as_json, priority=priority)


def scale(
    ctx: typer.Context,
    queue: Queue,
    concurrency: Annotated[int, typer.Argument(metavar="N", help="Worker processes meant for the queue.")],
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Set how many worker processes are meant for the queue; a supervisor follows."""
    _queue(ctx, ActionKind.SCALE, queue, yes, reason, as_json, concurrency=concurrency)


# --------------------------------------------------------------------------------------------------------- targets


def _jobs(ctx: typer.Context, kind: ActionKind, words: list[str], yes: bool, reason: str, as_json: bool) -> None:
    ids = [word for word in words if _ID_LIKE.fullmatch(word)]
    with opened(ctx) as wb:
        if ids and len(ids) == len(words):
            from queuemon.workbench import parse_id

            target: Any = list(dict.fromkeys(parse_id(word) for word in ids))
        else:
            target = parsed(words)
        _carry_out(wb, kind, target, yes, reason, as_json)


def _failed_of(wb: Workbench, words: list[str]) -> Any:
    """The failed jobs of a queue, or those among what a filter matches."""
    from queuemon.filters import JobFilter
    from queuemon.filters.fields import ALIASES, FIELDS

    text = " ".join(words)
    head = text.partition(":")[0].lower()
    if _NAME_LIKE.fullmatch(text) and (head == "queue" or not {head} & {*FIELDS, *ALIASES}):
        return JobFilter.of(queue=wb.queue_name(text), status="failed")
    return parsed(words) & JobFilter.of(status="failed")


def _queue(
    ctx: typer.Context, kind: ActionKind, queue: str, yes: bool, reason: str, as_json: bool, **options: Any
) -> None:
    with opened(ctx) as wb:
        _carry_out(wb, kind, wb.queue_name(queue), yes, reason, as_json, **options)


# ------------------------------------------------------------------------------------------------ plan, then apply


def _carry_out(
    wb: Workbench, kind: ActionKind, target: Any, yes: bool, reason: str, as_json: bool, **options: Any
) -> None:
    plan = wb.plan(kind, target, **options)
    if not as_json:
        print_plan(plan, wb.settings.keys)
    nothing = plan.count == 0
    if nothing or not yes:
        if as_json:
            print_json({"plan": plan, "result": None})
        else:
            say(_why_not(wb, plan))
        raise typer.Exit(NOTHING if nothing else DONE)
    with _stoppable() as stop, _shown(plan, as_json) as progress:
        result = wb.apply(plan, reason=reason, progress=progress, stop=stop)
    if as_json:
        print_json({"plan": plan, "result": result})
    else:
        say(result.summary)
    raise typer.Exit(code_of(result))


def _why_not(wb: Workbench, plan: Plan) -> str:
    """Why the plan was not carried out, and what would."""
    if plan.count == 0:
        return f"{'Nothing matches' if plan.kind.bulk else 'Nothing to do'}: nothing was changed."
    if (why := wb.read_only_reason) is not None:
        return f"Nothing was changed, and nothing can be from here: {why}."
    return "Nothing was changed. Add --yes to do this."


def code_of(result: ActionResult) -> int:
    """What the command ends with."""
    if result.state == "refused":
        return FAILED
    if result.state == "done" and not result.skipped and not result.gone:
        return DONE
    return PARTLY if result.done or result.state != "done" else NOTHING


@contextmanager
def _stoppable() -> Iterator[threading.Event]:
    """The first Ctrl-C asks the action to stop after its chunk, the second interrupts."""
    stop = threading.Event()

    def ask(signum: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _shown(plan: Plan, as_json: bool) -> Iterator[Callable[[ActionProgress], None] | None]:
    """A progress bar on stderr for long actions in a terminal."""
    out = console(stderr=True)
    if as_json or plan.count < PROGRESS_FROM or not out.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(plan.kind.value), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as bars:
        task = bars.add_task("", total=plan.count)
        yield lambda p: bars.update(task, completed=p.done + p.skipped)


def print_plan(plan: Plan, keys: Keys) -> None:
    """What would be done, to how many jobs, which, and what is left out."""
    out = console()
    if plan.kind.bulk:
        what = f"{plan.kind.value} {plan.count:,} {'job' if plan.count == 1 else 'jobs'}"
        of = f"of a selection of {len(plan.ids):,}" if plan.ids is not None else f"matching {plan.target}"
    else:
        what, of = f"{plan.kind.value} {keys.display(plan.target)}", ""
    # The effect says when a pause ends.
    options = ", ".join(f"{k} {v}" for k, v in plan.options.items() if v is not None and k != "until")
    out.print(cell(f"Plan: {' '.join(part for part in (what, of, options) if part)}", limit=1_000, style="bold"))
    for title, group in (("Queue", plan.by_queue), ("Error", plan.by_error), ("Age", plan.by_age)):
        _print_group(title, group)
    _print_group("Left out", plan.excluded)
    if plan.sample:
        say("")
        made = table(("Sample", {"no_wrap": True}), "Queue", "Status", ("Error", {"ratio": 1}))
        for job in plan.sample:
            made.add_row(
                cell(job.id),
                cell(keys.display(job.queue), limit=60),
                cell(job.status.value),
                cell(error_of(job) or "", limit=120),
            )
        out.print(made)
    say("")
    if plan.effect:
        say(f"Effect: {clean(plan.effect, 1_000)}")
    for warning in plan.warnings:
        out.print(cell(f"! {warning}", limit=1_000, style="yellow"))


def _print_group(title: str, group: tuple[Breakdown, ...]) -> None:
    if group:
        say("")
        made = table(title, ("Jobs", {"justify": "right"}))
        for part in group:
            made.add_row(cell(part.label, limit=120), cell(f"{part.count:,}"))
        console().print(made)
