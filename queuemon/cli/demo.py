"""`queuemon demo …`: the embedded servers, their workload, its scenarios and deploys."""

from __future__ import annotations

from typing import Annotated

import typer

from queuemon.cli.options import Directory, Json
from queuemon.cli.terminal import print_json, say


def up(
    directory: Directory = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete all data of the demo first.")] = False,
    servers_only: Annotated[bool, typer.Option("--servers-only", help="No history, no workload.")] = False,
) -> None:
    """Start the embedded PostgreSQL and Valkey with a believable workload; heals what was killed."""
    from queuemon.demo import lifecycle

    say(str(lifecycle.up(directory, fresh=fresh, workload=not servers_only, say=say)))


def down(directory: Directory = None) -> None:
    """Stop everything of the demo; the data stays."""
    from queuemon.demo import lifecycle

    lifecycle.down(directory)
    say("The demo is down; its data stays.")


def status(directory: Directory = None, as_json: Json = False) -> None:
    """What of the demo runs."""
    from queuemon.demo import lifecycle

    found = lifecycle.status(directory)
    if as_json:
        print_json(found)
    else:
        say(str(found))


def env(directory: Directory = None) -> None:
    """Print the two URLs as export lines, for eval "$(queuemon demo env)". They hold passwords."""
    from queuemon.demo import lifecycle

    typer.echo(lifecycle.env(directory))


def scenario(
    name: Annotated[str, typer.Argument(help="quiet, black-friday, mrr-bug, bad-template, redis-loss, worker-crash")],
    directory: Directory = None,
) -> None:
    """Make something happen in the demo."""
    from queuemon.demo import scenarios

    say(str(scenarios.start(name, directory)))


def deploy(
    name: Annotated[str, typer.Argument(help="mrr-fix")],
    directory: Directory = None,
) -> None:
    """Deploy a fix to the demo's workers."""
    from queuemon.demo import scenarios

    say(str(scenarios.deploy(name, directory)))
