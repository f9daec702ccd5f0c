"""`queuemon runbook list | describe | run | resume | history`: the runbooks of this folder and of the package."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queuemon.cli.options import Json, profile_of
from queuemon.cli.terminal import cell, console, print_json, say, table
from queuemon.errors import InvalidValue
from queuemon.render.text import clean, duration, moment

if TYPE_CHECKING:
    from queuemon.runbooks import PastRun, RunResult, StepProgress

Name = Annotated[str, typer.Argument(metavar="NAME", help="See `queuemon runbook list`.")]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Where the records are kept.")]
Timeout = Annotated[
    str | None,
    typer.Option(
        "--timeout", metavar="TIME", show_default=False,
        help="Such as 90s, 30m or 2h: the running step is interrupted then (default: the runbook's own, or 4h).",
    ),
]  # fmt: skip

RUNS = Path("runs")


def list_(as_json: Json = False) -> None:
    """Every runbook with its title."""
    from queuemon import runbooks

    found = runbooks.list_runbooks()
    if as_json:
        print_json({"runbooks": found})
        return
    made = table(("Runbook", {"no_wrap": True}), "Title", ("When to use", {"ratio": 1}))
    for info in found:
        made.add_row(cell(info.name), cell(info.title), cell(info.when.splitlines()[0] if info.when else ""))
    console().print(made)


def describe(name: Name, as_json: Json = False) -> None:
    """When to use a runbook, its parameters with their bounds, its steps, its time limit, how to run it."""
    from queuemon import runbooks
    from queuemon.runbooks.execution import TIMEOUT_SECONDS

    info = runbooks.describe(name)
    if as_json:
        print_json(info)
        return
    say(f"{info.title}\n\n{info.when}\n", limit=10_000)
    made = table(("Parameter", {"no_wrap": True}), "Type", "Default", "Takes", ("Meaning", {"ratio": 1}))
    for p in info.parameters:
        default = "required" if p.required else repr(p.default)
        made.add_row(cell(p.name), cell(p.type), cell(default), cell(p.expected), cell(p.help))
    console().print(made)
    required = "".join(f" -p {p.name}=…" for p in info.parameters if p.required)
    say(
        f"\nSteps: {' → '.join(info.steps)}\n"
        f"Time limit: {duration(info.timeout_seconds or TIMEOUT_SECONDS)}\n"
        f"Approval: {'another role approves its plans' if info.approval else 'not needed'}\n"
        f"File: {info.path}\n"
        f"Dry run: queuemon runbook run {info.name}{required}\n"
        f"Act:     queuemon runbook run {info.name}{required} --wet"
    )


def run(
    ctx: typer.Context,
    name: Name,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter; repeat for more.")
    ] = None,
    wet: Annotated[bool, typer.Option("--wet", help="Act: the same as -p dry_run=false.")] = False,
    run_id: Annotated[
        str | None,
        typer.Option(
            "--run-id", metavar="ID", show_default=False,
            help="Name the run; one that was begun under this name goes on, one that is done is not repeated.",
        ),
    ] = None,
    timeout: Timeout = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Run a runbook: a dry run unless --wet. The executed notebook and its HTML are kept under runs/NAME/.

    Parameters are checked before anything starts. Ends with 1 when a step, such as the verification, fails, and when
    another run of the runbook is at work on the queue.
    """
    from queuemon import config, runbooks
    from queuemon.runbooks.secrets import Blotter

    given = _given(parameter or [], wet)
    seconds = _seconds(timeout)
    if not as_json:
        info = runbooks.describe(name)
        title = info.title
        if run_id is None:
            values = Blotter.of(config.load(profile_of(ctx))).value(info.values(given))
            title += " (dry run)" if values.get("dry_run") else ""
            title += "".join(f"\n  {key} = {value!r}" for key, value in values.items())
        say(title)
    with stoppable():
        result = runbooks.run(
            name, given, runs_dir=runs_dir, profile=profile_of(ctx), progress=progress(as_json), timeout=seconds,
            run_id=run_id,
        )  # fmt: skip
    tell(result, as_json)


def resume(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="See `queuemon runbook history`.")],
    timeout: Timeout = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Go on with a run that was killed, stopped or failed: its parameters hold, and no action is repeated."""
    from queuemon import runbooks

    seconds = _seconds(timeout)
    with stoppable():
        result = runbooks.resume(
            run_id, runs_dir=runs_dir, profile=profile_of(ctx), progress=progress(as_json), timeout=seconds
        )
    tell(result, as_json)


def history(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of one runbook only.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="Runs at most.")] = 20,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """The runs that left a record, newest first: how they ended, who ran them, what they did."""
    from queuemon import runbooks

    if name is not None:
        runbooks.describe(name)
    found = runbooks.history(runs_dir, name, limit=limit)
    if as_json:
        print_json({"runs": found})
        return
    if not found:
        say(f"No run is recorded in {runs_dir}.")
        return
    made = table(
        ("Started (UTC)", {"no_wrap": True}), ("Run", {"no_wrap": True}), "Runbook", "Queue", "State", "Took", "Who",
        ("Did", {"ratio": 1}),
    )  # fmt: skip
    for past in found:
        took = "" if past.seconds is None else duration(round(past.seconds, 1))
        made.add_row(
            cell(moment(past.started_at)), cell(past.id), cell(past.name), cell(past.queue), cell(_state(past)),
            cell(took), cell(past.actor), cell(_did(past)),
        )  # fmt: skip
    console().print(made)
    if any(past.state in {"interrupted", "stopped", "failed"} for past in found):
        say("`queuemon runbook resume RUN` goes on with a run that was interrupted, stopped or failed.")


# ------------------------------------------------------------------------------------------------------------ parts


def _given(parameters: list[str], wet: bool) -> dict[str, object]:
    given: dict[str, object] = {}
    for text in parameters:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise InvalidValue(f"{text[:60]!r} is no parameter", expected="NAME=VALUE", next_step="-p queue=…")
        if key.strip() in given:
            raise InvalidValue(f"parameter {key.strip()[:60]!r} is given twice", expected="each parameter once")
        given[key.strip()] = value
    if wet:
        if "dry_run" in given:
            raise InvalidValue("--wet and -p dry_run=… are both given", expected="one of them")
        given["dry_run"] = False
    return given


def _seconds(text: str | None) -> float | None:
    """A time limit as said on the command line; raises FilterError for one that is no time."""
    from queuemon.filters.values import milliseconds

    return None if text is None else milliseconds(text, 0) / 1000


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM (systemd, a shutdown) stops a run as Ctrl-C does: the step is interrupted and the record kept."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def progress(as_json: bool) -> Callable[[StepProgress], None] | None:
    return None if as_json else _print_step


def _print_step(progress: StepProgress) -> None:
    """A line per step; on a terminal also which one runs now."""
    live = sys.stdout.isatty()
    name = f"{progress.cell}/{progress.cells} {clean(progress.step, 60)}"
    if progress.state == "running":
        if live:
            typer.echo(f"▸ {name} …\r", nl=False)
        return
    sign = "✓" if progress.state == "done" else "✗"
    say(f"{sign} {name}  {progress.seconds:.1f} s")
    if progress.said:
        say("\n".join(f"    {line}" for line in progress.said.splitlines()), limit=10_000)


def tell(result: RunResult, as_json: bool) -> None:
    if as_json:
        print_json(result)
    elif result.repeated:
        say(f"Run {result.id} was done at {moment(result.finished_at)} UTC; nothing is repeated. Record: {result.html}")
    else:
        say(f"Done. Run {result.id}. Record: {result.html}")


def _state(past: PastRun) -> str:
    state = "waits for approval" if past.unapproved else past.state
    return f"{state} (dry run)" if past.dry_run else state


def _did(past: PastRun) -> str:
    return "; ".join(part for part in (past.did, f"at {past.step}: {past.error}" if past.error else "") if part)
