"""`queuemon failures`: what fails, grouped by cause."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from queuemon.cli.options import NOTHING, Json, opened
from queuemon.cli.terminal import cell, console, print_json, say

if TYPE_CHECKING:
    from queuemon.analysis.failures import Cause, Failures
    from queuemon.contract import Keys

#: Queues that are named per cause.
QUEUES = 3


def failures(
    ctx: typer.Context,
    queue: Annotated[str | None, typer.Option("--queue", help="Of one queue alone.", show_default=False)] = None,
    since: Annotated[str, typer.Option("--since", help="A time, or an age such as 2h; at most 31 days.")] = "24h",
    until: Annotated[str | None, typer.Option("--until", help="The end (default: now).", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", help="Causes at most (1 to 200).")] = 20,
    as_json: Json = False,
) -> None:
    """Failed attempts by cause, most first, with their trend, what is new since a deploy, and the filter of each."""
    with opened(ctx) as wb:
        found = wb.failures(queue, since, until, limit=limit)
        if as_json:
            print_json(found)
        elif not found.causes:
            say("No attempt failed in this time.")
        else:
            _print(found, wb.settings.keys)
    if not found.causes:
        raise typer.Exit(NOTHING)


def _print(found: Failures, keys: Keys) -> None:
    from rich.padding import Padding

    from queuemon.render.text import clean, moment

    window = found.window
    where = keys.display(window.queue) if window.queue else "all queues"
    say(f"{found.attempts} failed attempts, {where}, {moment(window.since)} to {moment(window.until)} UTC")
    say("")
    out = console()
    for cause in found.causes:
        # Some lines each, as for actions: in a table the error would be left without room.
        what = f"{cause.error_type}: {cause.text}" if cause.error_type else cause.text
        out.print(cell(clean(what, 160), limit=160, style="bold"))
        for line in lines(cause, keys):
            out.print(Padding(cell(line, limit=400), (0, 0, 0, 4)))
    if found.others:
        say(f"And {found.others:,} attempts of other causes: --limit shows more.")
    for note in found.notes:
        say(note)
    say(f"Only the first: queuemon jobs {shlex.quote(found.causes[0].filter)}")


def lines(cause: Cause, keys: Keys) -> Iterator[str]:
    """What is known of a cause beside its words."""
    from queuemon.render.failures import sparkline
    from queuemon.render.text import clean, percent

    yield (
        f"{cause.signature}  {sparkline(cause.trend, 10)}  {cause.attempts} attempts, {percent(cause.share)};"
        f" jobs that stand failed: {cause.standing}"
    )
    new = f", new since {clean(cause.new_since, 60)}" if cause.new_since else ""
    yield f"first seen {cause.first_seen:%Y-%m-%d %H:%M}, last {cause.last_seen:%Y-%m-%d %H:%M} UTC{new}"
    named = [f"{clean(keys.display(name), 60)} ({n:,})" for name, n in cause.queues[:QUEUES]]
    more = f" and {len(cause.queues) - QUEUES:,} more queues" if len(cause.queues) > QUEUES else ""
    example = f"; for example job {cause.example}" if cause.example else ""
    yield f"{', '.join(named)}{more}{example}"
