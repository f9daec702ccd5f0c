"""`queuemon runbook new | check`: for those who write runbooks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from queuemon.cli.options import DONE, FAILED, Json
from queuemon.cli.terminal import print_json, say

Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="Notebooks.")]


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A verb and an object, such as drain-queue.")],
    folder: Annotated[Path, typer.Option("--dir", help="Folder of runbooks.")] = Path("runbooks"),
    as_json: Json = False,
) -> None:
    """Write a runbook that works, to be changed step by step: it retries the failed jobs of a queue."""
    from queuemon.runbooks import skeleton

    path = skeleton.write(name, folder)
    if as_json:
        print_json({"file": path})
        return
    say(f"Wrote {path}.\nOpen it in `queuemon lab`, then: queuemon runbook check {path}")


def check(files: Files, as_json: Json = False) -> None:
    """Check runbooks against the conventions, without running them; ends with 1 when one breaks any."""
    from queuemon.runbooks import lint

    found = {path: lint.checked(path) for path in files}
    wrong = sum(map(len, found.values()))
    if as_json:
        print_json({"files": {str(path): complaints for path, complaints in found.items()}})
    else:
        for path, complaints in found.items():
            for complaint in complaints:
                say(f"{path}: {complaint}")
        say(f"{len(found)} checked, {wrong} complaints")
    raise typer.Exit(FAILED if wrong else DONE)
