"""`queuemon failures`: what fails, grouped by cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from queuemon.cli.options import NOTHING, Json, opened
from queuemon.cli.terminal import cell, console, print_json, say, table

if TYPE_CHECKING:
    from queuemon.analysis.failures import Cause, Failures
    from queuemon.contract import Keys


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
    from queuemon.render.text import moment

    window = found.window
    where = keys.display(window.queue) if window.queue else "all queues"
    say(f"{found.attempts} failed attempts, {where}, {moment(window.since)} to {moment(window.until)} UTC")
    say("")
    out = console()
    right = {"justify": "right", "no_wrap": True}
    made = table(
        ("Signature", {"no_wrap": True}), ("Attempts", right), ("Share", right), ("Trend", {"no_wrap": True}),
        ("Standing", right), ("First seen (UTC)", right), ("Error", {"ratio": 1, "overflow": "fold"}),
    )  # fmt: skip
    for cause in found.causes:
        made.add_row(*_row(cause, found))
    out.print(made)
    if found.others:
        say(f"And {found.others:,} attempts of other causes: --limit shows more.")
    for note in found.notes:
        say(note)
    say(f"Only these: queuemon jobs '{found.causes[0].filter}'")


def _row(cause: Cause, found: Failures) -> list[Any]:
    from queuemon.render.failures import sparkline
    from queuemon.render.text import clean, percent

    what = f"{cause.error_type}: {cause.text}" if cause.error_type else cause.text
    new = f" (new since {clean(cause.new_since, 60)})" if cause.new_since else ""
    return [
        cell(cause.signature), cell(cause.attempts), cell(percent(cause.share)), cell(sparkline(cause.trend, 10)),
        cell(cause.standing), cell(f"{cause.first_seen:%Y-%m-%d %H:%M}"), cell(clean(what, 160) + new, limit=260),
    ]  # fmt: skip
