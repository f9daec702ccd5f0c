"""`queuemon jobs` and `job`: look at jobs, and at one job with its history."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queuemon.cli.options import NOTHING, Filter, Json, Reason, Reveal, filter_text, opened
from queuemon.cli.terminal import cell, console, facts, plain, print_json, say, table
from queuemon.errors import ConfigError, FilterError, InvalidValue
from queuemon.model import Attempt, Job, JobDetail, JobPage
from queuemon.render.text import clean

if TYPE_CHECKING:
    from queuemon.contract import Keys
    from queuemon.filters import JobFilter
    from queuemon.workbench import Workbench


#: An export may take so long: masking looks at each payload.
EXPORT_SECONDS = 600.0


def parsed(words: list[str] | None) -> JobFilter:
    """A filter from the words of the command line; its error carries the text, for the caret under it."""
    from queuemon.filters import JobFilter, pointer

    text = filter_text(words)
    try:
        return JobFilter.parse(text)
    except FilterError as error:
        if error.position is not None:
            error.add_note(pointer(text, error.position))
        raise


def existing(wb: Workbench, where: JobFilter) -> JobFilter:
    """The filter, once every queue that it names exists; raises UnknownQueue, since "no job" would mislead."""
    for name in sorted(where.queues() or ()):
        wb.queue_name(wb.settings.keys.display(name))
    return where


def jobs(
    ctx: typer.Context,
    where: Filter = None,
    limit: Annotated[int, typer.Option(help="Jobs on the page (1 to 1,000); with --csv, at most this many.")] = 50,
    after: Annotated[str | None, typer.Option(help="Cursor of the previous page.", show_default=False)] = None,
    sort: Annotated[str, typer.Option(help="created, finished, run_at or attempts.")] = "created",
    oldest: Annotated[bool, typer.Option("--oldest", help="Oldest first.")] = False,
    as_json: Json = False,
    csv: Annotated[Path | None, typer.Option(help="Write CSV to a file (- is stdout).", show_default=False)] = None,
    columns: Annotated[str, typer.Option(help="Columns of the CSV, such as id,status,payload.month.")] = "",
    reveal: Reveal = False,
    reason: Reason = "",
) -> None:
    """Jobs that match a filter, newest first, page by page; all without one. See docs/filter.md for the language."""
    if columns and csv is None:
        raise InvalidValue("--columns is given without --csv", expected="both", next_step="add --csv FILE, or --csv -")
    if reveal and csv is None:
        raise InvalidValue("--reveal is given without --csv", expected="both", next_step="or see `queuemon job ID`")
    with opened(ctx) as wb:
        wanted = existing(wb, parsed(where))
        if csv is not None:
            _export(wb, wanted, csv, columns, limit, reason=reason if reveal else None)
            return
        page = wb.jobs(wanted, limit=limit, after=after, sort=sort, descending=not oldest)
        if as_json:
            print_json({"filter": page.filter, "jobs": page.jobs, "after": page.after, "clock": page.clock})
        elif page.jobs:
            console().print(job_table(page, wb.settings.keys))
            if page.after:
                say(f"More: add --after {page.after}")
        else:
            say("No job matches.")
    if not page.jobs:
        raise typer.Exit(NOTHING)


def _export(wb: Workbench, wanted: JobFilter, csv: Path, columns: str, limit: int, *, reason: str | None) -> None:
    """Write the CSV; a reason is given for one that masks nothing, and is entered in the audit trail first."""
    from queuemon.workbench import FRAME_COLUMNS

    names = [name.strip() for name in columns.split(",") if name.strip()] or FRAME_COLUMNS
    masked = reason is None
    if reason is not None:
        wb.apply(wb.plan("reveal", wanted, columns=names), reason=reason)
    if str(csv) == "-":
        target: Any = _Harmless() if sys.stdout.isatty() else sys.stdout.buffer
        wb.export_csv(target, wanted, columns=names, limit=limit, seconds=EXPORT_SECONDS, masked=masked)
        return
    try:
        with csv.open("wb") as target:
            wb.export_csv(target, wanted, columns=names, limit=limit, seconds=EXPORT_SECONDS, masked=masked)
    except OSError as error:
        raise ConfigError(
            f"{str(csv)!r} cannot be written ({error.strerror})", expected="a file", next_step="name another"
        ) from None
    say(f"Written to {csv}.")


class _Harmless:
    """Stands for stdout where that is a terminal: what could steer it is shown. A file or a pipe gets the bytes."""

    def write(self, block: bytes) -> None:
        """One block of the export, which ends with a line."""
        text = block.decode("utf-8", "replace")
        sys.stdout.write(clean(text, len(text), lines=True))


def job_table(page: JobPage, keys: Keys) -> Any:
    """A page of jobs."""
    from queuemon.render.text import ago

    right = {"justify": "right", "no_wrap": True}
    made = table(
        ("ID", {"no_wrap": True}),
        ("Queue", {"overflow": "fold"}),
        "Status",
        ("Attempts", right),
        ("Created", right),
        ("Error", {"ratio": 1, "no_wrap": True}),
    )
    for job in page.jobs:
        made.add_row(
            cell(job.id),
            cell(keys.display(job.queue), limit=60),
            cell(job.state_at(page.clock), style=_STYLES.get(job.status.value, "")),
            cell(f"{job.attempts}/{job.max_attempts}"),
            cell(ago(job.created_at, page.clock)),
            cell(error_of(job) or "", limit=120),
        )
    return made


_STYLES = {"failed": "red", "expired": "yellow", "active": "blue", "completed": "green"}


def error_of(job: Job | Attempt) -> str | None:
    """Type and message of an error on one line; None without one."""
    return ": ".join(part for part in (job.error_type, job.error_message) if part) or None


def job(
    ctx: typer.Context,
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    as_json: Json = False,
    reveal: Reveal = False,
    reason: Reason = "",
) -> None:
    """One job: metadata, every attempt with its stack trace, its payload (secrets masked) and its place in Redis."""
    with opened(ctx) as wb:
        detail = wb.reveal(job_id, reason=reason) if reveal else wb.job(job_id)
        if as_json:
            found = plain(detail)
            found["job"]["payload"] = detail.masking.masked(found["job"]["payload"])
            del found["masking"]
            print_json(found)
        else:
            _print_detail(detail, wb.settings.keys)


def _print_detail(detail: JobDetail, keys: Keys) -> None:
    from queuemon.render.text import ago, duration, moment

    job, now, out = detail.job, detail.clock, console()
    place: Any = detail.redis.where
    if detail.redis.position is not None:
        place += f", position {detail.redis.position:,} from the head"
    if detail.redis.where == "quarantine":
        place = cell(f"in quarantine ({detail.redis.note})", limit=500, style="yellow")
    elif detail.redis.note:
        place += f" ({detail.redis.note})"

    def at(value: Any) -> str:
        return f"{moment(value)} UTC ({ago(value, now)})" if value else "–"

    rows: list[tuple[str, object]] = [
        ("ID", job.id),
        ("Queue", keys.display(job.queue)),
        ("Status", cell(job.state_at(now), style=_STYLES.get(job.status.value, ""))),
        ("Attempts", f"{job.attempts} of {job.max_attempts} (generation {job.gen})"),
        ("Created", at(job.created_at)),
        ("Due", at(job.run_at)),
        ("Expires", at(job.expires_at)),
        ("Started", at(job.started_at)),
        ("Finished", at(job.finished_at)),
        ("Worker", job.worker_id or "–"),
        ("In Redis", place),
    ]
    if error := error_of(job):
        rows.append(("Error", cell(error, limit=1_000, style="red")))
    out.print(facts(rows))
    say("")
    out.print(cell("History", style="bold") if detail.attempts else cell(detail.no_history, style="dim"))
    for entry in detail.attempts:
        what = f"attempt {entry.attempt}" if entry.kind == "attempt" else entry.kind
        spent = f" after {duration(entry.duration_ms / 1000)}" if entry.duration_ms is not None else ""
        who = f" on {entry.worker_id}" if entry.worker_id else ""
        style = "red" if entry.status == "failed" else ""
        out.print(cell(f"{moment(entry.at)}  {what}: {entry.status}{spent}{who}", style=style))
        if why := error_of(entry):
            say(f"  {clean(why, 1_000)}")
        if entry.stack_trace:
            trace = clean(entry.stack_trace, 20_000, lines=True)
            say("\n".join(f"    {line}" for line in trace.splitlines()), limit=40_000)
    say("")
    out.print(cell("Payload", style="bold"))
    # ASCII JSON: whatever the payload holds, the terminal sees escapes.
    say(json.dumps(detail.masking.masked(plain(job.payload)), indent=2), limit=200_000)
