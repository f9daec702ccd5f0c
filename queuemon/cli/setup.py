"""`queuemon install`, `doctor`, `lab` and `serve`: make it ready, examine it, open the screen."""

from __future__ import annotations

from typing import Annotated

import typer

from queuemon.cli.options import FAILED, Json, opened, profile_of
from queuemon.cli.terminal import cell, console, print_json, say, table


def install(
    ctx: typer.Context,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements instead of running them.")] = False,
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


def lab(
    ctx: typer.Context,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port (default: a free one).")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open no browser.")] = False,
) -> None:
    """Open JupyterLab on the dashboard; with nothing configured, on the embedded demo."""
    from queuemon.views import launch

    raise typer.Exit(launch.lab(profile=profile_of(ctx), port=port, browser=not no_browser))


def serve(
    ctx: typer.Context,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port (default: a free one).")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, open no browser.")] = False,
) -> None:
    """Serve the dashboard as a web page on this machine, without code cells."""
    from queuemon.views import launch

    raise typer.Exit(launch.serve(profile=profile_of(ctx), port=port, browser=not no_browser))
