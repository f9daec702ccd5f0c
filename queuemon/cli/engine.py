"""`queuemon enqueue`, `relay`, `worker` and `supervisor`: the reference producer and the processes behind it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from queuemon.cli.options import Json, Queue, opened, profile_of
from queuemon.cli.terminal import print_json, say
from queuemon.errors import InvalidValue

if TYPE_CHECKING:
    from queuemon.store import Store

Handlers = Annotated[
    str,
    typer.Option(metavar="MODULE:NAME", help="The function that runs a job, or a mapping of queue patterns to such."),
]


def enqueue(
    ctx: typer.Context,
    queue: Queue,
    payload: Annotated[str, typer.Argument(metavar="JSON", help="The job's payload.")],
    as_json: Json = False,
) -> None:
    """Commit one job and publish it."""
    from queuemon.engine.producer import Producer

    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(
            f"the payload is not JSON ({str(error)[:80]})",
            expected="one JSON value",
            next_step="quote it for the shell",
        ) from None
    with opened(ctx) as wb:
        job_id = Producer(wb.store).enqueue(wb.queue_name(queue), value)
    if as_json:
        print_json({"id": job_id})
    else:
        say(str(job_id))


def relay(ctx: typer.Context) -> None:
    """Publish what is due, expire, give back what dead workers held, fold counters, purge. Several may run."""
    from queuemon.engine.process import log_to_stderr, stop_on_signals
    from queuemon.engine.relay import Relay

    log_to_stderr()
    with _store(ctx, "relay") as store:
        Relay(store).run(stop_on_signals())


def worker(
    ctx: typer.Context,
    queue: Queue,
    handlers: Handlers,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that a job may still take after the stop.")] = 30.0,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run one worker process: high-priority queues first, then QUEUE, then all others it has handlers for."""
    from queuemon.engine.process import log_to_stderr, stop_on_signals
    from queuemon.engine.worker import Worker

    log_to_stderr()
    with _store(ctx, "worker") as store:
        home = store.settings.keys.queue_name(queue)
        Worker(store, home=home, handlers=handlers, grace_seconds=grace, parent=parent).run(stop_on_signals())


def supervisor(
    ctx: typer.Context,
    handlers: Handlers,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that a job may still take after the stop.")] = 30.0,
    limit: Annotated[int, typer.Option(min=1, help="Worker processes at most, over all queues.")] = 64,
) -> None:
    """Start and stop worker processes until each queue has as many as are meant for it (`queuemon scale`)."""
    from queuemon.engine.process import log_to_stderr, stop_on_signals
    from queuemon.engine.supervisor import Supervisor

    log_to_stderr()
    with _store(ctx, "supervisor") as store:
        Supervisor(store, handlers=handlers, grace_seconds=grace, profile=profile_of(ctx)).run(stop_on_signals())


def _store(ctx: typer.Context, kind: str) -> Store:
    from queuemon import config, workbench
    from queuemon.store import Store

    return Store(workbench.resolve(config.load(profile_of(ctx))), application=f"queuemon {kind}")
