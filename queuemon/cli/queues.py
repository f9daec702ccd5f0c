"""The commands that change a queue: each prints its plan, and stops there unless --yes; and who holds which paused."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from queuemon.cli.carry import Manner, carry_out
from queuemon.cli.options import NOTHING, Json, Queue, Reason, Yes, opened
from queuemon.cli.terminal import cell, console, print_json, say, table
from queuemon.contract import Priority
from queuemon.model import ActionKind

Holder = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who pauses (default: you). It is paused while anyone does.", show_default=False),
]


def pause(
    ctx: typer.Context,
    queue: Queue,
    until: Annotated[
        str | None, typer.Option(help="Resume by itself: 2h, 30m, or a time such as 2026-10-03T14:00.")
    ] = None,
    holder: Holder = None,
    hard: Annotated[
        bool, typer.Option("--hard", help="Park the list too, for workers that do not know the flag.")
    ] = False,
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Let no worker take a job of the queue; running jobs finish."""
    options = {"until": until, "holder": holder, "hard": hard or None}
    _act(ctx, ActionKind.PAUSE, queue, Manner(yes=yes, reason=reason, as_json=as_json), **options)


def resume(
    ctx: typer.Context,
    queue: Queue,
    holder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Let this holder alone go (default: all).", show_default=False)
    ] = None,
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Let workers take jobs of a paused queue again; deadlines are extended by the pause."""
    _act(ctx, ActionKind.RESUME, queue, Manner(yes=yes, reason=reason, as_json=as_json), holder=holder)


def prioritise(
    ctx: typer.Context,
    queue: Queue,
    priority: Annotated[Priority, typer.Argument(help="Order in which workers serve the queue.")],
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Set the order in which workers serve the queue."""
    _act(ctx, ActionKind.PRIORITISE, queue, Manner(yes=yes, reason=reason, as_json=as_json), priority=priority)


def scale(
    ctx: typer.Context,
    queue: Queue,
    concurrency: Annotated[int, typer.Argument(metavar="N", help="Worker processes meant for the queue.")],
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Set how many worker processes are meant for the queue; a supervisor follows."""
    _act(ctx, ActionKind.SCALE, queue, Manner(yes=yes, reason=reason, as_json=as_json), concurrency=concurrency)


def _act(ctx: typer.Context, kind: ActionKind, queue: str, manner: Manner, **options: Any) -> None:
    with opened(ctx) as wb:
        carry_out(wb, kind, wb.queue_name(queue), manner, **{k: v for k, v in options.items() if v is not None})


def pauses(ctx: typer.Context, as_json: Json = False) -> None:
    """Who keeps which queue paused, since when, until when and why; the longest first."""
    from queuemon.render.text import ago, moment

    with opened(ctx) as wb:
        found = wb.pauses()
        if as_json:
            print_json({"pauses": found})
        elif found:
            from datetime import UTC, datetime

            now, keys = datetime.now(UTC), wb.settings.keys
            made = table("Queue", "Holder", "Since (UTC)", "Until", "Hard", ("Reason", {"ratio": 1}))
            for p in found:
                made.add_row(
                    cell(keys.display(p.queue), limit=60),
                    cell(p.holder, limit=60),
                    cell(moment(p.since)),
                    cell(ago(p.until, now) if p.until else "resumed"),
                    cell("yes" if p.hard else "no"),
                    cell(p.reason, limit=200),
                )
            console().print(made)
        else:
            say("No queue is paused.")
    if not found:
        raise typer.Exit(NOTHING)
