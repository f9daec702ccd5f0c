"""The tree of commands; each imports what it needs when it runs, so `queuemon --help` stays quick."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from queuemon.cli import (
    act,
    alerts,
    demo,
    deploy,
    drift,
    engine,
    explain,
    failures,
    investigate,
    jobs,
    queues,
    report,
    runbook,
    runbook_approve,
    runbook_author,
    setup,
    status,
    timeline,
    trail,
)
from queuemon.cli.options import EXIT_CODES, Session

SEE, FIX, RUN, TRY = "See", "Fix", "Set up and run", "Runbooks and demo"


class Commands(TyperGroup):
    """Help in plain text, the commands under their headings (rich's help takes as long to load as all the rest)."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One list per heading, each command with its whole first sentence."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None) or "Commands"
            panels.setdefault(panel, []).append((name, command.get_short_help_str(200)))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


PLAIN: Mapping[str, Any] = {"cls": Commands, "rich_markup_mode": None}

app = typer.Typer(
    name="queuemon",
    help="The ops workbench for background jobs that live in PostgreSQL and Redis.",
    epilog=EXIT_CODES,
    pretty_exceptions_enable=False,
    **PLAIN,
)


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="Profile of queuemon.toml.", show_default=False)
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """The ops workbench for background jobs that live in PostgreSQL and Redis."""
    ctx.obj = Session(profile=profile)
    if version:
        from queuemon import __version__

        typer.echo(f"queuemon {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def _add(group: typer.Typer, panel: str | None, **commands: object) -> None:
    for name, function in commands.items():
        group.command(name.rstrip("_").replace("_", "-"), rich_help_panel=panel, epilog=EXIT_CODES)(function)  # type: ignore[type-var]


_add(
    app,
    SEE,
    status=status.status,
    jobs=jobs.jobs,
    job=jobs.job,
    explain=explain.explain,
    investigate=investigate.investigate,
    timeline=timeline.timeline,
    forecast=timeline.forecast,
    pauses=queues.pauses,
    failures=failures.failures,
    drift=drift.drift,
    doctor=setup.doctor,
)

_actions = typer.Typer(invoke_without_command=True, callback=trail.actions, **PLAIN)
_add(_actions, None, list_=trail.list_, show=trail.show, resume=trail.resume, stop=trail.stop)
app.add_typer(_actions, name="actions", rich_help_panel=SEE)

_deploy = typer.Typer(help="Deploys: mark one, list them.", no_args_is_help=True, **PLAIN)
_add(_deploy, None, mark=deploy.mark, list_=deploy.list_)
app.add_typer(_deploy, name="deploy", rich_help_panel=SEE)

_add(
    app,
    FIX,
    retry=act.retry,
    canary=act.canary,
    run_now=act.run_now,
    move=act.move,
    edit=act.edit,
    rescue=act.rescue,
    delete=act.delete,
    clear_failed=act.clear_failed,
    purge=act.purge,
    delete_stuck=act.delete_stuck,
    erase=act.erase,
    undo=trail.undo,
    pause=queues.pause,
    resume=queues.resume,
    prioritise=queues.prioritise,
    scale=queues.scale,
)
_add(
    app,
    RUN,
    lab=setup.lab,
    serve=setup.serve,
    install=setup.install,
    enqueue=engine.enqueue,
    relay=engine.relay,
    worker=engine.worker,
    supervisor=engine.supervisor,
    exporter=alerts.exporter,
)

_quarantine = typer.Typer(help="What was set aside: list, adopt, discard.", no_args_is_help=True, **PLAIN)
_add(_quarantine, None, list_=drift.list_, adopt=drift.adopt, discard=drift.discard)
app.add_typer(_quarantine, name="quarantine", rich_help_panel=FIX)

_report = typer.Typer(help="Reports: what an incident was.", no_args_is_help=True, **PLAIN)
_add(_report, None, incident=report.incident)
app.add_typer(_report, name="report", rich_help_panel=SEE)

_alerts = typer.Typer(help="Alerts: rules for Prometheus, check, watch.", no_args_is_help=True, **PLAIN)
_add(
    _alerts,
    None,
    rules=alerts.rules,
    alertmanager=alerts.alertmanager,
    grafana=alerts.grafana,
    watch=alerts.watch,
)
_alerts.command("check", epilog=alerts.CHECK_EXIT_CODES)(alerts.check)
app.add_typer(_alerts, name="alerts", rich_help_panel=RUN)

_runbook = typer.Typer(
    help="Runbooks: list, describe, run, resume, history, approve, new, check.", no_args_is_help=True, **PLAIN
)
_add(
    _runbook,
    None,
    list_=runbook.list_,
    describe=runbook.describe,
    run=runbook.run,
    resume=runbook.resume,
    history=runbook.history,
    approve=runbook_approve.approve,
    new=runbook_author.new,
    check=runbook_author.check,
)
app.add_typer(_runbook, name="runbook", rich_help_panel=TRY)

_demo = typer.Typer(help="The embedded demo: servers, workload, scenarios.", no_args_is_help=True, **PLAIN)
_add(
    _demo,
    None,
    up=demo.up,
    down=demo.down,
    status=demo.status,
    env=demo.env,
    scenario=demo.scenario,
    deploy=demo.deploy,
)
app.add_typer(_demo, name="demo", rich_help_panel=TRY)
