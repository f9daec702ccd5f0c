"""`queuemon enqueue`, `relay`, `worker` and `supervisor`: the reference producer and the processes behind it."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from queuemon.cli.options import Json, Queue, opened
from queuemon.cli.terminal import print_json, say
from queuemon.errors import InvalidValue


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
