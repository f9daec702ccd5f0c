"""`queuemon report incident`: the runbook incident-report, and its page where it is wanted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from queuemon.cli.options import Json, profile_of
from queuemon.cli.runbook import RUNS, RunsDir, progress, stoppable, tell
from queuemon.cli.terminal import say
from queuemon.errors import InvalidValue, RunbookError


def incident(
    ctx: typer.Context,
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Start, well before the trouble: a time (UTC) or an age.")
    ],
    until: Annotated[str, typer.Option("--to", metavar="TIME", help="End (default: now).", show_default=False)] = "",
    queue: Annotated[
        str, typer.Option(metavar="QUEUE", help="Queue to explain (default: hit worst).", show_default=False)
    ] = "",
    compare: Annotated[bool, typer.Option(help="Compare the stores as they are now.")] = True,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Copy the page here too.", show_default=False)
    ] = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """What an incident was: impact, picture, beginning, errors, what the failing jobs share, who did what, the end.

    Made from the record alone. Leaves the executed notebook and the same as one HTML page without scripts, which opens
    without a network and prints well, under runs/incident-report/.
    """
    from queuemon import runbooks

    if output is not None and (output.is_dir() or not os.access(output.parent, os.W_OK)):
        raise InvalidValue(
            f"the page cannot be written to {str(output)!r}", expected="a file in a folder that is there"
        )
    given = {"since": since, "until": until, "queue": queue, "compare": compare}
    with stoppable():
        result = runbooks.run(
            "incident-report", given, runs_dir=runs_dir, profile=profile_of(ctx), progress=progress(as_json)
        )
    if output is not None:
        try:
            shutil.copyfile(result.html, output)
        except OSError as error:
            raise RunbookError(f"the page is in {result.html}; no copy can be made ({error.strerror})") from None
    tell(result, as_json)
    if output is not None and not as_json:
        say(f"Page: {output}")
