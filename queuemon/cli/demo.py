"""`queuemon demo …`: the embedded servers, their workload, its scenarios and deploys."""

from __future__ import annotations

from typing import Annotated

import typer

from queuemon.cli.options import Directory, Json
from queuemon.cli.terminal import print_json, say


def up(
    directory: Directory = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete all data of the demo first.")] = False,
    scenario: Annotated[str | None, typer.Option(help="Play a scenario right away.", show_default=False)] = None,
    servers_only: Annotated[bool, typer.Option("--servers-only", help="No history and no workload.")] = False,
    rate: Annotated[float, typer.Option(min=0.0, max=1000.0, help="Times the usual rate of new jobs.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the history: the same seed, the same week.")] = 7,
) -> None:
    """Start the embedded PostgreSQL and Valkey with a believable workload; heals what was killed."""
    from queuemon.demo import lifecycle

    found = lifecycle.up(
        directory, fresh=fresh, workload=not servers_only, seed=seed, rate=rate, scenario=scenario, say=say
    )
    say(str(found))


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
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="quiet, black-friday, mrr-bug, bad-template, redis-loss or worker-crash."),
    ],
    directory: Directory = None,
) -> None:
    """Make something happen in the demo."""
    from queuemon.demo import scenarios

    say(scenarios.start(name, directory, say=say))


def deploy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="mrr-fix or template-fix.")],
    directory: Directory = None,
) -> None:
    """Deploy a fix to the demo's workers."""
    from queuemon.demo import scenarios

    say(scenarios.deploy(name, directory))
