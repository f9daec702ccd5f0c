"""`queuemon deploy …`: note when which release went out."""

from __future__ import annotations

from typing import Annotated

import typer

from queuemon.cli.options import NOTHING, Json, opened
from queuemon.cli.terminal import cell, console, print_json, say, table


def mark(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the release, such as 'mailer 2026.47.1'.")],
    at: Annotated[
        str | None,
        typer.Option("--at", help="When: a time (UTC), or an age such as 10m (default: now).", show_default=False),
    ] = None,
    note: Annotated[str, typer.Option("--note", help="What it brought.", show_default=False)] = "",
    as_json: Json = False,
) -> None:
    """Mark a deploy, so that failures and charts tell before from after. For the last step of a release's script."""
    from queuemon.render.text import clean, moment

    with opened(ctx) as wb:
        made = wb.mark_deploy(name, at=at, note=note)
        if as_json:
            print_json(made)
        else:
            say(f"Marked the deploy {clean(made.name)} at {moment(made.at)} UTC.")


def list_(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="Deploys at most.")] = 50,
    as_json: Json = False,
) -> None:
    """The deploys that were marked, the newest first."""
    from queuemon.render.text import moment

    with opened(ctx) as wb:
        found = wb.deploys(limit=limit)
        if as_json:
            print_json(found)
        elif found:
            made = table(("At (UTC)", {"no_wrap": True}), "Deploy", "Who", ("Note", {"ratio": 1, "overflow": "fold"}))
            for deploy in found:
                made.add_row(cell(moment(deploy.at)), cell(deploy.name), cell(deploy.actor), cell(deploy.note))
            console().print(made)
        else:
            say("No deploy was marked: `queuemon deploy mark NAME` does.")
    if not found:
        raise typer.Exit(NOTHING)
