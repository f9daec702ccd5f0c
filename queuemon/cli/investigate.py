"""`queuemon investigate`: from "something is red" to the cause, in five lines."""

from __future__ import annotations

from typing import Annotated

import typer

from queuemon.cli.options import Json, opened
from queuemon.cli.terminal import print_json, say


def investigate(
    ctx: typer.Context,
    queue: Annotated[str | None, typer.Argument(metavar="QUEUE", help="One queue (default: the reddest).")] = None,
    since: Annotated[str, typer.Option(help="An age or a time (UTC), well before it began.")] = "6h",
    until: Annotated[str | None, typer.Option(help="End, likewise; now without it.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Why a queue is red: since when and after what, which error, what the jobs share that failed so, the backlog.

    Changes nothing; the commands to go on with stand below.
    """
    from queuemon.render.investigation import commands, facts, text

    with opened(ctx) as wb:
        found = wb.investigate(queue, since, until)
        keys = wb.settings.keys
    if as_json:
        print_json(
            {
                "queue": keys.display(found.queue),
                "facts": dict(facts(found)),
                "commands": dict(commands(found)),
                "filter": found.filter,
                "began": found.began,
                "cause": found.cause,
                "explanation": found.explanation,
                "forecast": found.forecast,
            }
        )
    else:
        say(text(found, keys), limit=20_000)
