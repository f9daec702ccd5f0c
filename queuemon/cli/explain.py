"""`queuemon explain`: what the failing jobs share that the succeeding ones do not."""

from __future__ import annotations

from typing import Annotated

import typer

from queuemon.cli.jobs import existing, parsed
from queuemon.cli.options import NOTHING, Filter, Json, opened
from queuemon.cli.terminal import plain, print_json, say


def explain(
    ctx: typer.Context,
    where: Filter = None,
    signature: Annotated[str | None, typer.Option(help="Only failures of this signature.", show_default=False)] = None,
    since: Annotated[str, typer.Option(help="Start: an age such as 2h, or a time (UTC).")] = "24h",
    until: Annotated[str | None, typer.Option(help="End, likewise; now without it.", show_default=False)] = None,
    queue: Annotated[str | None, typer.Option(help="Only this queue.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Which jobs are drawn where there are more than 100,000 on a side.")] = 0,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Longest that one statement may take.")] = 60.0,
    as_json: Json = False,
) -> None:
    """What the failing jobs share that the succeeding ones do not: conditions with their figures and ready filters.

    The filter says which failures; its conditions on payload, queue, worker and creation narrow the others, too.
    """
    from queuemon.render.explain import text

    with opened(ctx) as wb:
        answer = wb.explain(
            existing(wb, parsed(where)),
            signature=signature,
            since=since,
            until=until,
            queue=queue,
            seed=seed,
            seconds=seconds,
        )
    if as_json:
        findings = [{**plain(f), "selection": answer.selection(f)} for f in answer.findings]
        print_json({**plain(answer), "findings": findings})
    else:
        say(text(answer), limit=100_000)
    if not answer.failing:
        raise typer.Exit(NOTHING)
