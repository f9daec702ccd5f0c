"""`queuemon runbook approve`: another role than the runner's approves what a run plans to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from queuemon.cli.options import Json, Yes, opened
from queuemon.cli.terminal import print_json, say
from queuemon.errors import InvalidValue

_HASH = re.compile(r"[0-9a-f]{64}")


def approve(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="RUN|HASH", help="A recorded run, or the SHA-256 of a plan.")],
    note: Annotated[str, typer.Option("--note", help="Why, kept with the approval.", show_default=False)] = "",
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Where the records are kept.")] = Path("runs"),
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Approve the plans of a run (a dry run, or one that was refused) for a day, as this profile's database role.

    A plan that changes, by one job, needs a new approval, and no role can approve for itself.
    """
    from queuemon.runbooks import past

    plans = [{"hash": target}] if _HASH.fullmatch(target) else list(past.get(target, runs_dir).actions)
    if not plans:
        raise InvalidValue(f"run {target[:70]!r} has planned nothing", expected="a run with a plan")
    role = None
    if yes:
        with opened(ctx) as wb:
            for plan in plans:
                role = wb.approve(str(plan["hash"]), note=note)
    if as_json:
        print_json({"approved_by": role, "plans": plans})
        return
    for plan in plans:
        what = f"{plan['kind']} {plan['planned']}: " if "kind" in plan else ""
        say(f"{what}{plan['hash']}")
    say(f"Approved as {role}." if yes else "Nothing is approved yet: read the record, then say --yes.")
