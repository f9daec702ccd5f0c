"""`queuemon exporter`: metrics for Prometheus."""

from __future__ import annotations

from typing import Annotated

import typer

from queuemon.cli.options import opened
from queuemon.cli.terminal import say


def exporter(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = 9_187,
    interval: Annotated[
        float, typer.Option(min=0.1, max=3_600, help="Seconds for which one reading serves every scrape.")
    ] = 5.0,
    drift: Annotated[bool, typer.Option(help="Look for drift with each reading.")] = True,
) -> None:
    """Serve metrics for Prometheus at /metrics until stopped. Reads alone; any number may run."""
    from queuemon.alerting.exporter import serving
    from queuemon.engine.process import stop_on_signals

    stop = stop_on_signals()
    with opened(ctx) as wb, serving(wb, host=host, port=port, seconds=interval, drift=drift) as bound:
        say(f"metrics at http://{'[' + host + ']' if ':' in host else host}:{bound}/metrics, Ctrl-C ends")
        stop.wait()
