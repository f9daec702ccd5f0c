"""`queuemon actions` and `undo`: what operators did, each job's outcome, going on with one, taking one back."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from queuemon.cli.carry import Manner, carry_out, tell, written
from queuemon.cli.options import NOTHING, Json, Rate, Reason, Results, Yes, opened
from queuemon.cli.terminal import cell, console, facts, plain, print_json, say
from queuemon.errors import UnknownAction
from queuemon.model import ActionKind, ActionRecord, JobOutcome

if TYPE_CHECKING:
    from uuid import UUID

    from queuemon.workbench import Workbench

#: Outcomes read at once.
PAGE = 1_000

#: States of an action that `resume` goes on with, unless somebody is at work on it.
OPEN = ("running", "stopped")

ActionId = Annotated[str, typer.Argument(metavar="ID|last", help="An action's id; last is the newest.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many.")]


def actions(ctx: typer.Context, limit: Limit = 20, as_json: Json = False) -> None:
    """What operators did: list them, show one, go on with one that was interrupted."""
    if ctx.invoked_subcommand is None:
        list_(ctx, limit=limit, as_json=as_json)


def list_(ctx: typer.Context, limit: Limit = 20, as_json: Json = False) -> None:
    """What operators did: who, when, what, why and the result, newest first. `queuemon actions` alone does the same."""
    from rich.padding import Padding

    from queuemon.render.text import moment

    with opened(ctx) as wb:
        records = wb.actions(limit)
        if as_json:
            print_json({"actions": records})
        elif records:
            out = console()
            for r in records:
                # Some lines each: side by side, eight columns leave none of them its words on a usual screen.
                out.print(cell(f"{moment(r.started_at)} UTC  {r.kind.value} {target_of(r)}", style="bold"))
                why = f": {r.reason}" if r.reason else ""
                for line in (f"{state_of(r)}. {r.summary}".strip(), f"{r.actor}{why}", str(r.id)):
                    out.print(Padding(cell(line, limit=400), (0, 0, 0, 4)))
            if interrupted := [r for r in records if r.interrupted]:
                first = interrupted[0].id
                say(f"Interrupted: {len(interrupted)}. `queuemon actions resume {first}` goes on, `stop` ends it.")
        else:
            say("No action yet.")
    if not records:
        raise typer.Exit(NOTHING)


def show(
    ctx: typer.Context,
    action_id: ActionId,
    ids: Annotated[bool, typer.Option("--ids", help="Also what became of each job.")] = False,
    as_json: Json = False,
) -> None:
    """One action with its result; with --ids, what it did to each job. With --ids --json, one JSON document a line."""
    from queuemon.render.text import moment

    with opened(ctx) as wb:
        record = _find(wb, action_id)
        if as_json:
            print_json({"action": record})
        else:
            done = f"{record.done:,} of {record.planned:,}, {record.skipped:,} skipped"
            rows: list[tuple[str, object]] = [
                ("ID", record.id), ("Action", record.kind.value), ("Target", target_of(record)),
                ("Who", record.actor), ("Reason", record.reason or "–"), ("State", state_of(record)), ("Jobs", done),
                ("Result", record.summary or "–"), ("Started", f"{moment(record.started_at)} UTC"),
                ("Last change", f"{moment(record.updated_at)} UTC"),
                ("Finished", f"{moment(record.finished_at)} UTC" if record.finished_at else "–"),
            ]  # fmt: skip
            # A payload is long, and may hold what is shown only on request: `queuemon job ID`.
            rows += [(f"Option {k}", str(plain(v))) for k, v in record.options.items() if k != "payload"]
            if record.undo_of:
                rows.append(("Took back", record.undo_of))
            rows.append(("Undo", undo_of(record)))
            console().print(facts(rows))
            if record.interrupted or record.state == "stopped":
                say(f"To go on: queuemon actions resume {record.id}")
                if record.interrupted:
                    say(f"To end it, so that it can be taken back: queuemon actions stop {record.id}")
        if ids:
            if not as_json:
                say("")
            for page in _outcomes(wb, record.id):
                sys.stdout.write(written(page, as_json=as_json))


def resume(
    ctx: typer.Context,
    action_id: ActionId,
    rate: Rate = None,
    results: Results = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Go on with an action that was interrupted or stopped, from where its last chunk committed.

    A canary that was stopped counts its failures, and the share that completes, anew from there.

    Without --yes it says what is left. Going on with one that has ended changes nothing.
    """
    manner = Manner(yes=yes, as_json=as_json, rate=rate, results=results)
    with opened(ctx) as wb:
        record = _find(wb, action_id)
        left = max(0, record.planned - record.done - record.skipped)
        if record.state not in OPEN:
            if as_json:
                print_json({"action": record, "result": None})
            else:
                say(f"{record.kind.value} {record.id} has ended ({record.state}): nothing was done. {record.summary}")
            raise typer.Exit(NOTHING)
        if not yes:
            if as_json:
                print_json({"action": record, "result": None})
            else:
                say(
                    f"Left of {record.kind.value} {target_of(record)}: {left:,} of {record.planned:,}."
                    " Nothing was changed. Add --yes to go on."
                )
            return
        tell(None, manner, lambda **heard: wb.resume_action(record.id, **heard), name=record.kind.value, count=left)


def stop(ctx: typer.Context, action_id: ActionId, as_json: Json = False) -> None:
    """End an action that runs, here or elsewhere, after its chunk, or one whose process died; what it did stays.

    It can be resumed, or taken back. One that has ended stays as it is.
    """
    with opened(ctx) as wb:
        before = _find(wb, action_id)
        record = wb.stop_action(before.id)
        if as_json:
            print_json({"action": record})
        elif before.state != "running":
            say(f"{record.kind.value} {record.id} has ended ({record.state}): nothing was done. {record.summary}")
        else:
            say(f"{record.summary} To go on: queuemon actions resume {record.id}")
    if before.state != "running":
        raise typer.Exit(NOTHING)


def undo(
    ctx: typer.Context,
    action_id: Annotated[
        str, typer.Argument(metavar="[last|ID]", help="The action to take back; last is the newest that can be.")
    ] = "last",
    yes: Yes = False,
    reason: Reason = "",
    results: Results = None,
    as_json: Json = False,
) -> None:
    """Take an action back: what has moved on since is left alone and named. An undo is an action like any other."""
    from queuemon.workbench import parse_id

    manner = Manner(yes=yes, reason=reason, as_json=as_json, results=results)
    with opened(ctx) as wb:
        target: str | UUID = "last" if action_id.strip().lower() == "last" else parse_id(action_id)
        carry_out(wb, ActionKind.UNDO, target, manner)


# ------------------------------------------------------------------------------------------------------------ words


def _find(wb: Workbench, text: str) -> ActionRecord:
    from queuemon.workbench import parse_id

    if text.strip().lower() != "last":
        return wb.action(parse_id(text))
    newest = wb.actions(1)
    if not newest:
        raise UnknownAction("there is no action yet", expected="an action in the audit trail")
    return newest[0]


def _outcomes(wb: Workbench, action_id: UUID) -> Iterator[Sequence[JobOutcome]]:
    after = None
    while page := wb.outcomes(action_id, after=after, limit=PAGE):
        yield page
        after = page[-1].job_id


def target_of(record: ActionRecord) -> str:
    """What an action acted on, in words."""
    to = record.options.get("to")
    return f"{record.target} → {to}" if to else record.target


def state_of(record: ActionRecord) -> str:
    """How an action stands, in words."""
    if record.undone_by:
        return f"{record.state}, undone"
    return "interrupted" if record.interrupted else record.state


def undo_of(record: ActionRecord) -> str:
    """Whether an action can be taken back, in words."""
    from queuemon.render.text import moment

    if record.undone_by:
        return f"was undone by {record.undone_by}"
    if record.undoable_until:
        return f"queuemon undo {record.id} (until {moment(record.undoable_until)} UTC)"
    return "no"
