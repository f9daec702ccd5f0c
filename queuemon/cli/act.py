"""The commands that change jobs: each prints its plan, and stops there unless --yes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queuemon.cli.carry import Manner, carry_out
from queuemon.cli.jobs import parsed
from queuemon.cli.options import Json, Rate, Reason, Results, Target, Yes, opened
from queuemon.errors import InvalidValue
from queuemon.model import ActionKind

if TYPE_CHECKING:
    from queuemon.workbench import Workbench

#: What can only be meant as an id.
_ID_LIKE = re.compile(r"[0-9a-fA-F]+(-[0-9a-fA-F]+)+")

#: A queue's name, when no field of the filter language stands before its first colon.
_NAME_LIKE = re.compile(r"[\w./@+-]+(:[\w./@+-]+)*")

#: Bytes of a payload at most.
PAYLOAD_BYTES = 50_000_000

QueueOrFilter = Annotated[list[str], typer.Argument(metavar="QUEUE|FILTER", help="A queue, or which of its jobs.")]
Stuck = Annotated[list[str] | None, typer.Argument(metavar="FILTER|ID…", help="Which stuck jobs; all without.")]


def retry(
    ctx: typer.Context,
    target: Target,
    yes: Yes = False,
    reason: Reason = "",
    rate: Rate = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Run failed and expired jobs again, with fresh attempts and clocks."""
    manner = Manner(yes=yes, reason=reason, as_json=as_json, rate=rate, results=results)
    with opened(ctx) as wb:
        carry_out(wb, ActionKind.RETRY, chosen(target), manner)


def canary(
    ctx: typer.Context,
    target: Target,
    steps: Annotated[str, typer.Option(metavar="N,N…", help="Jobs of each step; the last is repeated.")] = (
        "1,5,25,125,625"
    ),
    success: Annotated[str, typer.Option(metavar="SHARE", help="How many must complete, such as 0.9 or 90%.")] = "90%",
    max_errors: Annotated[int, typer.Option(metavar="N", help="Stop at so many failed jobs.")] = 3,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="How long a step may take, such as 90s or 10m.")] = "10m",
    yes: Yes = False,
    reason: Reason = "",
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Retry one job, wait for its result, then more and more while they succeed. Each step can be undone.

    Ends with 3 when it stopped before all were retried; `queuemon actions resume ID` goes on.
    """
    manner = Manner(yes=yes, reason=reason, as_json=as_json, results=results)
    rule: dict[str, Any] = {
        "steps": _numbers(steps), "success": _share(success), "max_errors": max_errors, "timeout": _seconds(timeout),
    }  # fmt: skip
    with opened(ctx) as wb:
        carry_out(wb, ActionKind.CANARY, chosen(target), manner, **rule)


def delete(
    ctx: typer.Context,
    target: Target,
    yes: Yes = False,
    reason: Reason = "",
    rate: Rate = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Delete jobs that are not running; a copy is kept for some days."""
    manner = Manner(yes=yes, reason=reason, as_json=as_json, rate=rate, results=results)
    with opened(ctx) as wb:
        carry_out(wb, ActionKind.DELETE, chosen(target), manner)


def clear_failed(
    ctx: typer.Context,
    target: QueueOrFilter,
    yes: Yes = False,
    reason: Reason = "",
    rate: Rate = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Delete failed jobs of a queue, or those that match a filter; a copy is kept for some days."""
    manner = Manner(yes=yes, reason=reason, as_json=as_json, rate=rate, results=results)
    with opened(ctx) as wb:
        carry_out(wb, ActionKind.CLEAR_FAILED, _of_queue(wb, target), manner)


def purge(
    ctx: typer.Context,
    target: QueueOrFilter,
    yes: Yes = False,
    reason: Reason = "",
    rate: Rate = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Delete what waits in a queue, or what waits and matches a filter; a copy is kept for some days."""
    manner = Manner(yes=yes, reason=reason, as_json=as_json, rate=rate, results=results)
    with opened(ctx) as wb:
        carry_out(wb, ActionKind.PURGE, _of_queue(wb, target), manner)


def run_now(
    ctx: typer.Context,
    target: Target,
    yes: Yes = False,
    reason: Reason = "",
    rate: Rate = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Let scheduled jobs, and those waiting for their next attempt, run at once."""
    manner = Manner(yes=yes, reason=reason, as_json=as_json, rate=rate, results=results)
    with opened(ctx) as wb:
        carry_out(wb, ActionKind.RUN_NOW, chosen(target), manner)


def move(
    ctx: typer.Context,
    target: Target,
    to: Annotated[str, typer.Option("--to", metavar="QUEUE", help="Where they go.", show_default=False)],
    yes: Yes = False,
    reason: Reason = "",
    rate: Rate = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Move waiting, failed and expired jobs to another queue."""
    manner = Manner(yes=yes, reason=reason, as_json=as_json, rate=rate, results=results)
    with opened(ctx) as wb:
        carry_out(wb, ActionKind.MOVE, chosen(target), manner, to=wb.queue_name(to))


def edit(
    ctx: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The failed or expired job.")],
    payload: Annotated[
        str, typer.Option("--payload", metavar="FILE|-|JSON", help="The new payload (- is stdin).", show_default=False)
    ],
    yes: Yes = False,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Replace a job's payload and retry it; the old one is kept for undo."""
    from queuemon.workbench import parse_id

    manner = Manner(yes=yes, reason=reason, as_json=as_json)
    with opened(ctx) as wb:
        carry_out(wb, ActionKind.EDIT, parse_id(job_id), manner, payload=payload_text(payload))


def rescue(
    ctx: typer.Context,
    target: Stuck = None,
    yes: Yes = False,
    reason: Reason = "",
    rate: Rate = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Take stuck jobs from workers that stopped beating: they wait again, or fail when attempts are used up."""
    manner = Manner(yes=yes, reason=reason, as_json=as_json, rate=rate, results=results)
    with opened(ctx) as wb:
        carry_out(wb, ActionKind.RESCUE, chosen(target or ["status:stuck"]), manner)


def delete_stuck(
    ctx: typer.Context,
    target: Stuck = None,
    yes: Yes = False,
    reason: Reason = "",
    rate: Rate = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Delete stuck jobs; a copy is kept for some days, and a worker's late write is refused."""
    manner = Manner(yes=yes, reason=reason, as_json=as_json, rate=rate, results=results)
    with opened(ctx) as wb:
        carry_out(wb, ActionKind.DELETE_STUCK, chosen(target or ["status:stuck"]), manner)


def erase(
    ctx: typer.Context,
    target: Target,
    yes: Yes = False,
    reason: Reason = "",
    rate: Rate = None,
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Delete jobs for good: no copy is kept, and those that are kept go too. This cannot be undone."""
    manner = Manner(yes=yes, reason=reason, as_json=as_json, rate=rate, results=results)
    with opened(ctx) as wb:
        carry_out(wb, ActionKind.ERASE, chosen(target), manner)


# ------------------------------------------------------------------------------------------------ what words mean


def chosen(words: list[str]) -> Any:
    """The ids that were named, or a filter."""
    ids = [word for word in words if _ID_LIKE.fullmatch(word)]
    if ids and len(ids) == len(words):
        from queuemon.workbench import parse_id

        return list(dict.fromkeys(parse_id(word) for word in ids))
    return parsed(words)


def _of_queue(wb: Workbench, words: list[str]) -> Any:
    """The jobs of a queue, or those that a filter matches."""
    from queuemon.filters import JobFilter
    from queuemon.filters.fields import ALIASES, FIELDS

    text = " ".join(words)
    head = text.partition(":")[0].lower()
    if _NAME_LIKE.fullmatch(text) and (head == "queue" or not {head} & {*FIELDS, *ALIASES}):
        return JobFilter.of(queue=wb.queue_name(text))
    return chosen(words)


def payload_text(given: str) -> str:
    """The JSON text of a payload: given itself, from stdin, or from the file that is named."""
    import json

    if given == "-":
        return _whole(sys.stdin.buffer.read(PAYLOAD_BYTES + 1), "stdin")
    try:
        json.loads(given)
    except RecursionError:
        return given  # PostgreSQL judges it
    except ValueError as error:
        path = Path(given)
        try:
            with path.open("rb") as source:
                return _whole(source.read(PAYLOAD_BYTES + 1), "the file")
        except (OSError, ValueError) as why:
            raise InvalidValue(
                f"the payload is no JSON ({str(error)[:80]})"
                + (f", and its file cannot be read ({why.strerror})" if isinstance(why, OSError) else ""),
                expected="JSON, the name of a file that holds it, or - for stdin",
                next_step="quote JSON for the shell",
            ) from None
    return given


def _whole(raw: bytes, source: str) -> str:
    try:
        if len(raw) <= PAYLOAD_BYTES:
            return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidValue(f"{source} is not UTF-8", expected="a payload as JSON in UTF-8") from None
    raise InvalidValue(f"{source} holds more than {PAYLOAD_BYTES:,} bytes", expected="a smaller payload")


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InvalidValue(f"--steps is {text[:60]!r}", expected="whole numbers with commas, such as 1,5,25")
    return tuple(map(int, parts))


def _share(text: str) -> float:
    word = text.strip()
    try:
        return float(word[:-1]) / 100 if word.endswith("%") else float(word)
    except ValueError:
        raise InvalidValue(f"--success is {text[:40]!r}", expected="a share such as 0.9 or 90%") from None


def _seconds(text: str) -> float:
    from queuemon.errors import FilterError
    from queuemon.filters.values import milliseconds

    try:
        return milliseconds(text, 0) / 1000
    except FilterError:
        raise InvalidValue(f"--timeout is {text[:40]!r}", expected="a duration such as 90s, 10m or 2h") from None
