"""`queuemon runbook list | describe | run`: the runbooks of this folder and of the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queuemon.cli.options import Json, profile_of
from queuemon.cli.terminal import cell, console, print_json, say, table
from queuemon.errors import InvalidValue
from queuemon.render.text import clean

if TYPE_CHECKING:
    from queuemon.runbooks import StepProgress

Name = Annotated[str, typer.Argument(metavar="NAME", help="See `queuemon runbook list`.")]


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
    """When to use a runbook, its parameters and its steps."""
    from queuemon import runbooks

    info = runbooks.describe(name)
    if as_json:
        print_json(info)
        return
    say(f"{info.title}\n\n{info.when}\n", limit=10_000)
    made = table(("Parameter", {"no_wrap": True}), "Type", "Default", ("Meaning", {"ratio": 1}))
    for p in info.parameters:
        made.add_row(cell(p.name), cell(p.type), cell("required" if p.required else repr(p.default)), cell(p.help))
    console().print(made)
    say(f"Steps: {' → '.join(info.steps)}\nFile: {info.path}")


def run(
    ctx: typer.Context,
    name: Name,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter; repeat for more.")
    ] = None,
    wet: Annotated[bool, typer.Option("--wet", help="Act: the same as -p dry_run=false.")] = False,
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Where the records are kept.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Run a runbook: a dry run unless --wet. The executed notebook and its HTML are kept under runs/NAME/.

    Parameters are checked before anything starts. Ends with 1 when a step, such as the verification, fails.
    """
    from queuemon import runbooks

    given: dict[str, object] = {}
    for text in parameter or ():
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
    if not as_json:
        info = runbooks.describe(name)
        values = info.values(given)
        say(info.title + (" (dry run)" if values.get("dry_run") else ""))
        say("\n".join(f"  {key} = {value!r}" for key, value in values.items()))
    result = runbooks.run(
        name, given, runs_dir=runs_dir, profile=profile_of(ctx), progress=None if as_json else _print_step
    )
    if as_json:
        print_json(result)
    else:
        say(f"Done. Record: {result.html}")


def _print_step(progress: StepProgress) -> None:
    if progress.state != "running":
        sign = "✓" if progress.state == "done" else "✗"
        say(f"{sign} {progress.cell}/{progress.cells} {clean(progress.step, 60)}  {progress.seconds:.1f} s")
        if progress.said:
            say("\n".join(f"    {line}" for line in progress.said.splitlines()), limit=10_000)
