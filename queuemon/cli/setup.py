"""`queuemon install`, `doctor`, `lab` and `serve`: make it ready, examine it, open the screen."""

from __future__ import annotations

from typing import Annotated

import typer

from queuemon.cli.options import FAILED, Json, opened, profile_of
from queuemon.cli.terminal import cell, console, print_json, say, table


def install(
    ctx: typer.Context,
    sql: Annotated[bool, typer.Option("--sql", help="Print them instead, for a new database.")] = False,
    roles: Annotated[
        bool, typer.Option("--roles", help="Print the roles of a reader and an operator, for both stores.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the tables in the database, or bring them to this version. Safe to repeat."""
    if roles:
        from queuemon.schema import roles as rights

        comment = "".join(f"-- Redis: {line}\n" for line in rights.acl().splitlines())
        typer.echo(rights.sql() + comment, nl=False)
        return
    if sql:
        from queuemon.schema import migrate

        typer.echo(migrate.sql(), nl=False)
        return
    with opened(ctx) as wb:
        before, after = wb.install()
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        say(f"Nothing to do: the schema stands at version {after}.")
    else:
        say(f"Installed: the schema stands at version {after} ({f'before: {before}' if before else 'new'}).")


def doctor(ctx: typer.Context, as_json: Json = False) -> None:
    """Examine both stores and the processes on them; ends with 1 when something fails."""
    with opened(ctx) as wb:
        found = wb.doctor()
    worst = "fail" if any(c.state == "fail" for c in found) else "ok"
    if as_json:
        print_json({"checks": found})
    else:
        styles = {"ok": "green", "warn": "yellow", "fail": "red"}
        made = table("", ("Check", {"no_wrap": True}), "Found", "Next")
        for check in found:
            made.add_row(
                cell(check.state, style=styles[check.state]),
                cell(check.name, limit=60),
                cell(check.found, limit=500),
                cell(check.next_step, limit=500),
            )
        console().print(made)
        bad = sum(c.state != "ok" for c in found)
        say(f"{len(found)} checks, {bad} to look at." if bad else f"{len(found)} checks, all fine.")
    if worst == "fail":
        raise typer.Exit(FAILED)


Notebook = Annotated[
    str,
    typer.Argument(
        metavar="[NOTEBOOK]", help="Which one; its name is enough: queues, failures, drift, activity, investigate."
    ),
]
Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port (default: a free one).", show_default=False)]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Print the address, open no browser.")]


def lab(
    ctx: typer.Context, notebook: Notebook = "dashboard.ipynb", port: Port = None, no_browser: NoBrowser = False
) -> None:
    """Open JupyterLab on the dashboard; with nothing configured, on the embedded demo.

    The notebooks are laid into the working folder; those you edited are never overwritten.
    """
    from queuemon.views import launch

    _demo_if_nothing_is_configured(ctx)
    raise typer.Exit(launch.lab(notebook=notebook, port=port, browser=not no_browser, profile=profile_of(ctx)))


def serve(
    ctx: typer.Context,
    notebook: Notebook = "dashboard.ipynb",
    port: Port = None,
    no_browser: NoBrowser = False,
    theme: Annotated[str, typer.Option(help="light or dark.")] = "light",
) -> None:
    """Serve the dashboard as a web page on this machine, without code cells."""
    from queuemon.views import launch

    _demo_if_nothing_is_configured(ctx)
    raise typer.Exit(
        launch.serve(notebook=notebook, port=port, browser=not no_browser, theme=theme, profile=profile_of(ctx))
    )


def _demo_if_nothing_is_configured(ctx: typer.Context) -> None:
    from queuemon import config

    if config.load(profile_of(ctx)).embedded:
        from queuemon.demo import lifecycle

        say("Nothing is configured: the embedded demo starts.")
        lifecycle.up(say=say)
