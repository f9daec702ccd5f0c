"""`queuemon timeline` and `forecast`: the past with what changed in it, and when a backlog will be gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from queuemon.cli.options import Json, Queue, opened
from queuemon.cli.terminal import cell, console, plain, print_json, say, table

if TYPE_CHECKING:
    from queuemon.analysis.onset import Onset
    from queuemon.analysis.timeline import Timeline
    from queuemon.contract import Keys


def timeline(
    ctx: typer.Context,
    queue: Annotated[str | None, typer.Argument(metavar="QUEUE", help="One queue (default: all).")] = None,
    since: Annotated[str, typer.Option(help="A time (UTC) or an age, at most 31d.")] = "6h",
    until: Annotated[str | None, typer.Option(help="A time or an age (default: now).", show_default=False)] = None,
    bucket: Annotated[
        int | None,
        typer.Option(metavar="SECONDS", help="Whole minutes (default: fits the window).", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Depth, arrivals, starts and failures of the past, when they changed, and the deploys and actions beside them.

    Reconstructed from the clocks of the jobs: nothing needs to have been recorded.
    """
    with opened(ctx) as wb:
        seen = wb.timeline(queue, since, until, bucket=bucket)
        onset = wb.onset(queue, since, until)
        keys = wb.settings.keys
    if as_json:
        print_json(document(seen, onset, keys))
    else:
        _print(seen, onset, keys)


def _print(seen: Timeline, onset: Onset, keys: Keys) -> None:
    from queuemon.render.text import moment, number
    from queuemon.render.timeline import text

    out = console()
    say(text(seen, keys, width=max(20, min(120, out.width - 42))))
    for note in seen.notes:
        out.print(cell(f"! {note}", limit=500, style="yellow"))
    for sentence in onset.sentences:
        out.print(cell(sentence[0].upper() + sentence[1:] + ".", limit=500))
    if seen.happened:
        made = table("When (UTC)", "What", ("Which", {"overflow": "fold"}), "Who", "Jobs", ("Why", {"ratio": 1}))
        for h in seen.happened[-30:]:
            made.add_row(
                cell(moment(h.at)), cell(h.kind), cell(h.target, limit=80), cell(h.actor, limit=40),
                cell(number(h.done)), cell(h.why, limit=120),
            )  # fmt: skip
        out.print(made)


def document(seen: Timeline, onset: Onset, keys: Keys) -> dict[str, Any]:
    """A timeline with its changes as JSON."""
    window = seen.window
    return {
        "queue": keys.display(window.queue) if window.queue else None,
        "since": plain(window.since),
        "until": plain(window.until),
        "bucket_seconds": seen.bucket_seconds,
        "depth_before": seen.depth_before,
        "points": plain(seen.points),
        "by_queue": {keys.display(q.queue): list(q.depth) for q in seen.by_queue},
        "changes": [{**plain(c), "sentence": c.sentence} for c in onset.changes],
        "happened": plain(seen.happened),
        "notes": list(seen.notes),
    }


def forecast(
    ctx: typer.Context,
    queue: Queue,
    workers: Annotated[
        list[int] | None,
        typer.Option(
            "--workers", metavar="N", help="Also with this many workers; may be repeated.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """When a queue's backlog will be gone: at the present rate, and with other numbers of workers.

    The times are 90 % intervals, from what came and went since conditions last changed.
    """
    with opened(ctx) as wb:
        found = wb.forecast(queue, workers)
        keys = wb.settings.keys
    if as_json:
        outlooks = [{**plain(o), "never": o.never} for o in found.outlooks]
        values = {**plain(found), "queue": keys.display(found.queue), "outlooks": outlooks, "sentence": found.sentence}
        print_json(values)
        return
    served = f", served by {found.workers:.1f} workers" if found.workers else ""
    say(
        f"{keys.display(found.queue)}: {found.depth:,} waiting; {found.arrivals_per_second:,.1f} come and"
        f" {found.service_per_second:,.1f} go a second since {found.since:%H:%M} UTC{served}."
    )
    say(f"{found.sentence[0].upper()}{found.sentence[1:]}.")
