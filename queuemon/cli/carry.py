"""Carries out what a command asks for: print the plan, stop unless --yes, apply, show progress, stream outcomes."""

from __future__ import annotations

import csv
import io
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import typer

from queuemon.cli.jobs import error_of
from queuemon.cli.options import DONE, FAILED, NOTHING, PARTLY
from queuemon.cli.terminal import cell, console, print_json, say, table
from queuemon.errors import ConfigError
from queuemon.model import ActionKind, ActionProgress, ActionResult, Breakdown, CanaryProgress, JobOutcome, Plan
from queuemon.render.text import clean

if TYPE_CHECKING:
    from queuemon.contract import Keys
    from queuemon.workbench import Workbench

#: Bulk actions on more jobs than this show their progress.
PROGRESS_FROM = 2_000

#: Kinds whose target is a queue's name.
OF_A_QUEUE = (ActionKind.PAUSE, ActionKind.RESUME, ActionKind.PRIORITISE, ActionKind.SCALE)

#: Columns of --results.
COLUMNS = ("job_id", "outcome", "why")


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How an action is to be carried out and told, as the shared options say."""

    yes: bool = False
    reason: str = ""
    as_json: bool = False
    #: Jobs per second at most.
    rate: float | None = None
    #: Where each job's outcome goes: a file, "-", or nowhere.
    results: str | None = None

    @property
    def aside(self) -> bool:
        """Whether stdout belongs to the outcomes, so that everything else goes to stderr."""
        return self.results == "-" and not self.as_json


def carry_out(wb: Workbench, kind: ActionKind, target: Any, manner: Manner, **options: Any) -> None:
    """Plan, print, and with --yes apply; ends the command with its exit code."""
    plan = wb.plan(kind, target, **options)
    if not manner.as_json:
        print_plan(plan, wb.settings.keys, stderr=manner.aside)
    nothing = plan.count == 0
    if nothing or not manner.yes:
        if manner.as_json:
            print_json({"plan": plan, "result": None})
        else:
            say(_why_not(wb, plan), stderr=manner.aside)
        raise typer.Exit(NOTHING if nothing else DONE)
    tell(plan, manner, lambda **heard: wb.apply(plan, reason=manner.reason, **heard))


def tell(
    plan: Plan | None, manner: Manner, act: Callable[..., ActionResult], *, name: str = "", count: int = 0
) -> None:
    """Run what acts with progress, stop, rate and outcomes, show its result, and end with its exit code."""
    shown, size = (plan.kind.value, plan.count) if plan is not None else (name, count)
    always = plan is not None and plan.kind is ActionKind.CANARY
    with (
        writing(manner) as outcomes,
        stoppable() as stop,
        showing(shown, size, quiet=manner.as_json, always=always or manner.rate is not None) as progress,
    ):
        heard: dict[str, Any] = {"progress": progress, "stop": stop, "rate": manner.rate, "outcomes": outcomes}
        # What was not asked for is not passed on: an action that knows no rate need not hear of it.
        result = act(**{name: value for name, value in heard.items() if value is not None})
    if manner.as_json:
        print_json({"plan": plan, "result": result})
    else:
        say(result.summary, stderr=manner.aside)
        if result.repeated:
            say("It had been done before: nothing was done now.", stderr=manner.aside)
        if result.output:
            say(result.output, stderr=manner.aside)
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
def stoppable() -> Iterator[threading.Event]:
    """The first Ctrl-C or SIGTERM asks the action to stop after its chunk, the second interrupts."""
    stop = threading.Event()

    def ask(signum: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# -------------------------------------------------------------------------------------------------------- progress


@contextmanager
def showing(
    name: str, count: int, *, quiet: bool, always: bool = False
) -> Iterator[Callable[[ActionProgress], None] | None]:
    """A line with bar, rate and time left on stderr, for long actions in a terminal."""
    out = console(stderr=True)
    if quiet or (count < PROGRESS_FROM and not always) or not out.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(clean(name, 40)), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=out, transient=True) as bars:
        task = bars.add_task("", total=count)
        yield lambda p: bars.update(task, completed=p.done + p.skipped, total=p.planned, description=pace(p))


def pace(progress: ActionProgress) -> str:
    """How fast it goes and how long it will take; of a canary, what became of its jobs."""
    from queuemon.render.text import duration

    if isinstance(progress, CanaryProgress):
        return (
            f"step {progress.step} of {progress.steps}: {progress.completed:,} completed, {progress.failed:,} failed,"
            f" {progress.running:,} running"
        )
    left = "" if progress.eta_seconds is None else f", {duration(max(1, round(progress.eta_seconds)))} left"
    slowed = f"; slowed down, {progress.slowed}" if progress.slowed else ""
    return f"{progress.per_second:,.0f}/s{left}{slowed}"


# -------------------------------------------------------------------------------------------------------- outcomes


@contextmanager
def writing(manner: Manner) -> Iterator[Callable[[Sequence[JobOutcome]], None] | None]:
    """Writes each job's outcome as it comes: CSV, or JSON lines for a name that ends so and for --json on stdout."""
    if manner.results is None:
        yield None
        return
    if manner.results == "-":
        yield _lines(sys.stdout, as_json=manner.as_json)
        return
    try:
        with open(manner.results, "w", encoding="utf-8", newline="") as target:
            yield _lines(target, as_json=manner.results.lower().endswith((".json", ".jsonl", ".ndjson")))
    except OSError as error:
        raise ConfigError(
            f"{manner.results[:200]!r} cannot be written ({error.strerror})",
            expected="a file for --results",
            next_step="name another; what was done is kept: `queuemon actions show last --ids`",
        ) from None


def _lines(target: IO[str], *, as_json: bool) -> Callable[[Sequence[JobOutcome]], None]:
    if not as_json:
        target.write(",".join(COLUMNS) + "\n")

    def write(outcomes: Sequence[JobOutcome]) -> None:
        target.write(written(outcomes, as_json=as_json))
        target.flush()

    return write


def written(outcomes: Sequence[JobOutcome], *, as_json: bool) -> str:
    """Outcomes as lines of CSV or JSON."""
    rows = [(str(o.job_id), o.outcome, clean(o.why, 1_000)) for o in outcomes]
    if as_json:
        return "".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


# ------------------------------------------------------------------------------------------------------------ plans


def print_plan(plan: Plan, keys: Keys, *, stderr: bool = False) -> None:
    """What would be done, to how many jobs, which, and what is left out."""
    out = console(stderr=stderr)
    out.print(cell(f"Plan: {_headline(plan, keys)}", limit=1_000, style="bold"))
    kind = "Kind" if plan.kind is ActionKind.REPAIR else "Error"
    for title, group in (("Queue", plan.by_queue), (kind, plan.by_error), ("Age", plan.by_age)):
        _print_group(out, title, group)
    _print_group(out, "Left out", plan.excluded)
    if plan.sample:
        out.print()
        made = table(("Sample", {"no_wrap": True}), "Queue", "Status", ("Error", {"ratio": 1}))
        for job in plan.sample:
            made.add_row(
                cell(job.id),
                cell(keys.display(job.queue), limit=60),
                cell(job.status.value),
                cell(error_of(job) or "", limit=120),
            )
        out.print(made)
    out.print()
    if plan.effect:
        out.print(cell(f"Effect: {plan.effect}", limit=1_100), soft_wrap=True)
    for warning in plan.warnings:
        out.print(cell(f"! {warning}", limit=1_000, style="yellow"))


def _headline(plan: Plan, keys: Keys) -> str:
    if plan.kind in OF_A_QUEUE:
        # The effect says when a pause ends.
        options = ", ".join(f"{k} {v}" for k, v in plan.options.items() if v is not None and k != "until")
        return " ".join(part for part in (plan.kind.value, keys.display(plan.target), options) if part)
    if plan.kind is ActionKind.REPAIR:
        return f"repair {plan.count:,} findings, {plan.target}"
    if plan.kind is ActionKind.ADOPT:
        verb = "discard" if plan.options.get("discard") else "adopt"
        return f"{verb} {plan.count:,} quarantined elements of {keys.display(plan.target)}"
    if plan.kind is ActionKind.UNDO:
        return f"undo {plan.options.get('of', 'action')} {plan.target}"
    what = f"{plan.kind.value} {plan.count:,} {'job' if plan.count == 1 else 'jobs'}"
    of = f"of a selection of {len(plan.ids):,}" if plan.ids is not None else f"matching {plan.target}"
    to = f"to {keys.display(str(plan.options['to']))}" if "to" in plan.options else ""
    return " ".join(part for part in (what, of, to) if part)


def _print_group(out: Any, title: str, group: tuple[Breakdown, ...]) -> None:
    if group:
        out.print()
        made = table(title, ("Jobs", {"justify": "right"}))
        for part in group:
            made.add_row(cell(part.label, limit=120), cell(f"{part.count:,}"))
        out.print(made)
