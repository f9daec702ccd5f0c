"""`queuemon exporter` and `queuemon alerts`: metrics and rules for Prometheus, and the same alerts without it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queuemon.cli.options import Json, named_profile, opened
from queuemon.cli.terminal import cell, console, print_json, say, warn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from queuemon.alerting.standing import Alert

#: What `queuemon alerts check` ends with: the convention of Nagios' plugins.
OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3

CHECK_EXIT_CODES = (
    "Exit codes: 0 no alert, 1 a warning, 2 a critical one, 3 not all is known and nothing critical seen."
)


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


def rules(ctx: typer.Context) -> None:
    """Print the alert rules for Prometheus (2.42 or newer).

    They compare with thresholds that `queuemon exporter` publishes from the settings, so they need no writing anew
    when a threshold changes. With --profile, the runbooks' commands in them name it.
    """
    from queuemon.alerting.rules import rule_file

    typer.echo(rule_file(profile=named_profile(ctx)), nl=False)


def alertmanager() -> None:
    """Print an example of Alertmanager's configuration (0.25 or newer) that pages through PagerDuty."""
    from importlib.resources import files

    typer.echo((files("queuemon.alerting") / "alertmanager.yml").read_text(encoding="utf-8"), nl=False)


def grafana() -> None:
    """Print a board for Grafana (10 or newer): Dashboards > New > Import."""
    from json import dumps

    from queuemon.alerting.grafana import board

    typer.echo(dumps(board(), indent=2))


def check(
    ctx: typer.Context,
    drift: Annotated[bool, typer.Option(help="Look for drift too.")] = True,
    json: Json = False,
) -> None:
    """Look once, and list every alert whose condition holds now, however short; for cron, Nagios, Icinga and the like.

    The exit code is the most severe of them, as those understand it.
    """
    from queuemon.errors import QueuemonError

    try:
        ended = _check(ctx, drift=drift, json=json)
    except QueuemonError as error:
        warn(str(error))
        ended = UNKNOWN
    raise typer.Exit(ended)


def _check(ctx: typer.Context, *, drift: bool, json: bool) -> int:
    from queuemon.alerting.reading import Reader
    from queuemon.alerting.rules import Severity, hits
    from queuemon.alerting.standing import advance
    from queuemon.alerting.watch import in_order

    with opened(ctx) as wb:
        reader = Reader(wb, drift=drift)
        found = list(hits(reader.seen()))
        now = datetime.now(UTC)
        alerts = in_order(advance({}, found, now).standing.values())
        unknown = [rule.name for rule, seen in found if seen is None and (drift or rule.name != "QueuemonDrift")]
        if json:
            print_json({"alerts": [_row(a, named_profile(ctx)) for a in alerts], "unknown": unknown})
        else:
            _print(alerts, unknown, named_profile(ctx))
    if any(alert.rule.severity is Severity.CRITICAL for alert in alerts):
        return CRITICAL
    return UNKNOWN if unknown else WARNING if alerts else OK


def watch(
    ctx: typer.Context,
    interval: Annotated[float, typer.Option(min=1, max=3_600, help="Seconds between two looks.")] = 15.0,
    drift: Annotated[bool, typer.Option(help="Look for drift too.")] = True,
    state: Annotated[
        Path | None,
        typer.Option(help="File of what fires and what is not delivered (default: in the user's state folder)."),
    ] = None,
) -> None:
    """Look again and again, page through PagerDuty, and resolve what is over; until stopped.

    PagerDuty's routing key comes from QUEUEMON_PAGERDUTY_ROUTING_KEY or the profile; without one, changes are printed
    alone. What is not delivered when PagerDuty is away, or this is killed, is delivered later.
    """
    from queuemon.alerting.pager import PagerDuty
    from queuemon.alerting.reading import Reader
    from queuemon.alerting.rules import hits
    from queuemon.alerting.watch import Origin, Watch, alone
    from queuemon.engine.process import stop_on_signals

    stop = stop_on_signals()
    with opened(ctx) as wb:
        settings = wb.settings
        key = settings.pagerduty_routing_key.get_secret_value()
        file = state or _state_file(settings.profile)
        reader = Reader(wb, drift=drift)
        pager = PagerDuty(key, settings.pagerduty_url) if key else None
        with alone(file):
            watching = Watch(
                lambda: hits(reader.seen()), file=file, pager=pager, say=say,
                origin=Origin(
                    source=settings.profile, dashboard_url=settings.dashboard_url, profile=named_profile(ctx)
                ),
            )  # fmt: skip
            where = "pages through PagerDuty" if key else "prints alone: no PagerDuty routing key is set"
            say(f"watching every {interval:g} s; {where}; Ctrl-C ends")
            watching.run(stop, seconds=interval)
        if pager is not None:
            pager.close()


def _state_file(profile: str) -> Path:
    import platformdirs

    name = re.sub(r"[^A-Za-z0-9_.-]", "_", profile)[:80]
    return Path(platformdirs.user_state_dir("queuemon")) / f"alerts-{name}.json"


def _row(alert: Alert, profile: str) -> dict[str, Any]:
    rule = alert.rule
    return {
        "alert": rule.name, "severity": rule.severity.value, "labels": dict(alert.labels), "value": alert.value,
        "unit": rule.unit.value, "summary": alert.summary, "description": alert.description, "runbook": rule.runbook,
        "runbook_command": rule.command(alert.labels, profile=profile), "fires_after_seconds": rule.for_seconds,
    }  # fmt: skip


def _print(alerts: Sequence[Alert], unknown: list[str], profile: str) -> None:
    from rich.padding import Padding

    out = console()
    for alert in alerts:
        style = "bold red" if alert.rule.severity.value == "critical" else "bold yellow"
        out.print(cell(f"{alert.rule.severity.value}  {alert.rule.name}: {alert.summary}", limit=400, style=style))
        out.print(Padding(cell(alert.description, limit=600), (0, 0, 0, 4)))
        command = alert.rule.command(alert.labels, profile=profile)
        out.print(Padding(cell(f"fires when it has held for {alert.rule.for_seconds} s; {command}"), (0, 0, 0, 4)))
    if unknown:
        say(f"Not known, because a store could not be read: {', '.join(unknown)}.")
    elif not alerts:
        say("No alert: no condition holds.")
