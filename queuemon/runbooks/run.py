"""Runs a runbook: everything is checked first, one run per queue at a time, and the record is kept whatever happens."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from queuemon import config, workbench
from queuemon.actions.entries import os_user
from queuemon.errors import ConfigError, InvalidValue, NotAllowed, QueuemonError, RunbookError, UsageError
from queuemon.runbooks import journal, past, record
from queuemon.runbooks.catalogue import RunbookInfo, describe
from queuemon.runbooks.execution import TIMEOUT_SECONDS, Failure, execute
from queuemon.runbooks.parameters import Parameter
from queuemon.runbooks.past import PastRun
from queuemon.runbooks.procedures import take_back
from queuemon.runbooks.progress import StepProgress
from queuemon.runbooks.secrets import BLOT, Blotter
from queuemon.store import runs as sessions
from queuemon.workbench import Workbench

#: Longest time limit: two days.
LONGEST_SECONDS: Final = 2 * 86_400.0

#: Hexadecimal digits of a run's id that nobody chose.
ID_LENGTH: Final = 12


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run left behind."""

    id: str
    name: str
    #: "done", "failed" or "stopped".
    state: str
    parameters: Mapping[str, Any]
    #: PostgreSQL's role and the user of the operating system.
    actor: str
    started_at: datetime
    finished_at: datetime
    #: What it planned and did, one entry per action: id, kind, hash, state, planned, done, skipped.
    actions: tuple[Mapping[str, Any], ...]
    #: Of queuemon, Python, papermill, PostgreSQL, the schema, and the digest of the runbook's file.
    versions: Mapping[str, str]
    #: The executed notebook, the same as HTML, and these facts as JSON.
    notebook: Path
    html: Path
    record: Path
    #: Where and why it failed.
    step: str = ""
    error: str = ""
    #: True when this run was done before and nothing was executed now.
    repeated: bool = False


def run(
    name: str,
    parameters: Mapping[str, object] | None = None,
    *,
    runs_dir: str | Path = "runs",
    profile: str | None = None,
    progress: Callable[[StepProgress], None] | None = None,
    timeout: float | None = None,
    run_id: str | None = None,
) -> RunResult:
    """Run a runbook and keep its executed notebook, HTML and result under `runs_dir/<name>/`.

    Nothing starts unless every parameter is known, given, of its type and within its bounds, the `queue` exists, the
    profile may act (unless it is a dry run), and no other run of the runbook works on the queue. `timeout` is in
    seconds, for the whole run. The stores' URLs travel in the kernel's environment, never as a parameter.

    A `run_id` that was used before goes on with that run: its parameters hold, its actions are not repeated, and when
    it was done nothing is executed (`repeated`). Raises UnknownRunbook, InvalidValue, UnknownQueue, NotAllowed,
    StoreError; RunbookError when another run is at work or a cell, such as a verification, fails: the record is kept
    then too.
    """
    info = describe(name)
    before = past.find(run_id, runs_dir, info.name) if run_id is not None else None
    given = parameters or {}
    values = info.values({**_kept(before, given), **given})
    seconds = _seconds(info, timeout)
    with ExitStack() as stack:
        wb = stack.enter_context(workbench.connect(profile))
        blotter = Blotter.of(wb.settings)
        _check(wb, info, blotter, values)
        _same(before, blotter.value(values), given)
        chosen = run_id or uuid4().hex[:ID_LENGTH]
        said = journal.words(info.name, chosen)
        stack.enter_context(sessions.alone(wb.store.postgres, info.name, _queues(info, values), said))
        standing = _standing(wb, before)
        if before is not None and before.state == "done":
            return _again(before)
        begun = _begin(info, standing, blotter, values, run_id=chosen, runs_dir=Path(runs_dir))
        if wb.settings.runbook_approval:
            info = replace(info, approval=True)
        return _carry_out(wb, info, begun, blotter, profile=profile, seconds=seconds, progress=progress)


def resume(
    run_id: str,
    *,
    runs_dir: str | Path = "runs",
    profile: str | None = None,
    progress: Callable[[StepProgress], None] | None = None,
    timeout: float | None = None,
) -> RunResult:
    """Go on with a run that was killed, stopped or failed, with its parameters; see `run`. Raises UnknownRunbook."""
    before = past.get(run_id, runs_dir)
    return run(before.name, runs_dir=runs_dir, profile=profile, progress=progress, timeout=timeout, run_id=run_id)


# ---------------------------------------------------------------------------------------------------------- checks


def _kept(before: PastRun | None, given: Mapping[str, object]) -> Mapping[str, Any]:
    """The parameters that a run was started with; raises InvalidValue for one whose text the record has blotted out."""
    parameters = before.parameters if before else {}
    for name, value in parameters.items():
        if before is not None and name not in given and BLOT in str(value):
            raise InvalidValue(
                f"run {before.id!r} has kept its {name} without what looked like a secret",
                expected=f"the {name} that it was started with",
                next_step=f"queuemon runbook run {before.name} --run-id {before.id} -p {name}=…",
            )
    return parameters


def _standing(wb: Workbench, before: PastRun | None) -> sessions.Standing:
    """As whom and on what a run works; raises InvalidValue where it was begun on another database."""
    with wb.store.postgres.begin(read_only=True) as connection:
        standing = sessions.standing(connection, os_user())
    if before is not None and (begun_on := before.facts.get("database", standing.database)) != standing.database:
        raise InvalidValue(
            f"run {before.id!r} was begun on another database, {str(begun_on)[:80]}",
            expected="the database that it was begun on",
            next_step="name its profile with --profile, or start a new run",
        )
    return standing


def _same(before: PastRun | None, values: Mapping[str, Any], given: Mapping[str, object]) -> None:
    """A run keeps the parameters it was started with; `values` are as a record keeps them. Raises InvalidValue."""
    if before is None:
        return
    for name in given:
        if values[name] != before.parameters.get(name):
            raise InvalidValue(
                f"run {before.id!r} was started with another {name}",
                expected="the parameters it was started with, or none",
                next_step=f"queuemon runbook resume {before.id}, or start a new run",
            )


def _seconds(info: RunbookInfo, timeout: float | None) -> float:
    seconds = timeout if timeout is not None else info.timeout_seconds or TIMEOUT_SECONDS
    if not 0 < seconds <= LONGEST_SECONDS:
        raise InvalidValue(f"timeout is {seconds}", expected=f"seconds above 0, at most {LONGEST_SECONDS:,.0f}")
    return seconds


def judged(
    wb: Workbench, info: RunbookInfo, given: Mapping[str, object]
) -> tuple[dict[str, Any], dict[str, UsageError]]:
    """The values of a run, and what is wrong with each parameter that has none, before anything is run.

    Raises StoreError where the queues cannot be read.
    """
    blotter = Blotter.of(wb.settings)
    values: dict[str, Any] = {}
    wrong: dict[str, UsageError] = {}
    for p in info.parameters:
        try:
            if p.required and p.name not in given:
                raise InvalidValue(f"parameter {p.name!r} is missing", expected=p.expected)
            values[p.name] = p.value(given[p.name]) if p.name in given else p.default
            _check_value(wb, blotter, p, values)
        except UsageError as error:
            wrong[p.name] = error
    return {name: value for name, value in values.items() if name not in wrong}, wrong


def _check(wb: Workbench, info: RunbookInfo, blotter: Blotter, values: dict[str, Any]) -> None:
    """What can be told before a kernel, which takes seconds, is started; spells the names of queues."""
    for p in info.parameters:
        _check_value(wb, blotter, p, values)
    if values.get("dry_run") is False and (why := wb.read_only_reason) is not None:
        raise NotAllowed(
            f"the run would act and is refused: {why}",
            expected="a profile and a role that may act",
            next_step="leave --wet out, or connect with an operator's profile",
        )


def _check_value(wb: Workbench, blotter: Blotter, p: Parameter, values: dict[str, Any]) -> None:
    """What the environment and the stores have against a value; spells the names of queues. Raises UsageError."""
    value = values[p.name]
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    if any(blotter.holds(text) for text in texts):
        raise InvalidValue(
            f"parameter {p.name!r} holds a secret of this environment",
            expected="no secret in a parameter: the executed notebook keeps them",
            next_step="name a profile of queuemon.toml with --profile",
        )
    if p.kind == "queue" and value:
        names = [wb.queue_name(text) for text in texts]
        values[p.name] = names if p.many else names[0]
        for other in p.apart:
            if both := set(names) & {values.get(other)}:
                raise InvalidValue(
                    f"parameter {p.name!r} names {min(map(str, both))}, which is the {other}",
                    expected="other queues",
                    next_step="leave it out",
                )


def _queues(info: RunbookInfo, values: Mapping[str, Any]) -> list[str]:
    """The queues that a run is alone on; none: on all."""
    named = [values[p.name] for p in info.parameters if p.kind == "queue"]
    return [str(queue) for value in named for queue in (value if isinstance(value, list) else [value]) if queue]


# ---------------------------------------------------------------------------------------------------------- record


def _begin(
    info: RunbookInfo, standing: sessions.Standing, blotter: Blotter, values: Mapping[str, Any], *,
    run_id: str, runs_dir: Path,
) -> PastRun:  # fmt: skip
    """Write down that a run begins."""
    started_at = datetime.now(UTC)
    folder = runs_dir / info.name
    path = folder / f"{started_at:%Y%m%dT%H%M%SZ}-{run_id}.json"
    begun = PastRun(
        id=run_id, name=info.name, state="running", parameters=values, actor=standing.actor, started_at=started_at,
        finished_at=None, step="", error="", actions=(), versions=_versions(info, standing),
        record=path, notebook=path.with_suffix(".ipynb"), html=path.with_suffix(".html"),
        facts={"database": standing.database},
    )  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".jsonl").unlink(missing_ok=True)  # of an attempt in the same second
        record.write_facts({**_facts(info, begun), "process": past.this_process()}, path, blotter)
    except OSError as error:
        raise ConfigError(
            f"the record of the run cannot be written to {str(folder)!r} ({error.strerror})",
            expected="a folder that can be written",
            next_step="name another with --runs-dir",
        ) from None
    return begun


def _carry_out(
    wb: Workbench,
    info: RunbookInfo,
    begun: PastRun,
    blotter: Blotter,
    *,
    profile: str | None,
    seconds: float,
    progress: Callable[[StepProgress], None] | None,
) -> RunResult:
    notes = begun.record.with_suffix(".jsonl")
    environment = {
        **config.child_environment(profile),
        config.RUN_VARIABLE: journal.words(info.name, begun.id),
        config.JOURNAL_VARIABLE: str(notes.resolve()),
        config.APPROVAL_VARIABLE: "1" if info.approval else "0",
    }
    state, failure = "stopped", None
    try:
        failure = execute(
            info.path, begun.parameters, target=begun.notebook, environment=environment, blotter=blotter,
            seconds=seconds, progress=progress,
        )  # fmt: skip
        state = "failed" if failure else "done"
    finally:
        if state != "done" and (told := _put_back(wb, begun, notes)):
            cut = failure or Failure(step="", why="")
            failure = replace(cut, why=f"{cut.why}; {told}" if cut.why else told)
        ended = _end(info, begun, blotter, state, failure)
    if failure is not None:
        raise RunbookError(
            f"runbook {info.name!r} failed at {failure.step!r}: {failure.why}. The run is kept in {ended.html}"
        )
    return _result(ended)


def _put_back(wb: Workbench, begun: PastRun, notes: Path) -> str:
    """Take back what was to last no longer than the run, where its kernel could not: it died, or had no time left.

    Returns what to say of it; empty where nothing was left.
    """
    left = [UUID(str(note["id"])) for note in journal.read(notes) if note.get("held")]
    if not left:
        return ""
    try:
        run = journal.Run(name=begun.name, id=begun.id, journal=notes)
        take_back(wb, left, reason=f"the run ended early ({run})", run=run, tell=lambda _: None)
    except (QueuemonError, OSError) as error:
        return str(error).rstrip(".")
    return "what it had changed for its own time was taken back"


def _end(info: RunbookInfo, begun: PastRun, blotter: Blotter, state: str, failure: Failure | None) -> PastRun:
    """Write down how it ended; a run that was stopped before its first cell leaves only the facts.

    Raises RunbookError, which says how it ended, where that cannot be written.
    """
    try:
        return _written(info, begun, blotter, state, failure)
    except OSError as error:
        how = f"{state} at {failure.step!r}: {failure.why}" if failure else state
        raise RunbookError(
            f"run {begun.id} of {info.name!r} is {how}; its record cannot be written ({error.strerror})",
            next_step="see `queuemon actions` for what it did",
        ) from None


def _written(info: RunbookInfo, begun: PastRun, blotter: Blotter, state: str, failure: Failure | None) -> PastRun:
    notes = begun.record.with_suffix(".jsonl")
    ended = replace(
        begun,
        state=state,
        finished_at=datetime.now(UTC),
        step=failure.step if failure else "",
        error=failure.why if failure else "",
        actions=tuple(journal.read(notes)),
    )
    facts = _facts(info, ended)
    record.write_facts(facts, ended.record, blotter)
    notes.unlink(missing_ok=True)
    if ended.notebook.exists():
        record.write_html(ended.notebook, ended.html, blotter.value(facts))
    return ended


def _facts(info: RunbookInfo, of: PastRun) -> dict[str, Any]:
    """A run as its JSON and the head of its HTML say it."""
    finished = of.finished_at
    return {
        "id": of.id,
        "name": of.name,
        "title": info.title,
        "state": of.state,
        "parameters": dict(of.parameters),
        "actor": of.actor,
        "database": of.facts.get("database", ""),
        "started_at": of.started_at.isoformat(timespec="seconds"),
        "finished_at": finished.isoformat(timespec="seconds") if finished else None,
        "seconds": round((finished - of.started_at).total_seconds(), 1) if finished else None,
        "step": of.step,
        "error": of.error,
        "actions": [dict(action) for action in of.actions],
        "versions": dict(of.versions),
        "notebook": of.notebook.name,
        "html": of.html.name,
    }


def _versions(info: RunbookInfo, standing: sessions.Standing) -> dict[str, str]:
    return {
        "queuemon": version("queuemon"),
        "python": platform.python_version(),
        "papermill": version("papermill"),
        "postgresql": standing.postgresql,
        "schema": standing.schema,
        "runbook": hashlib.sha256(info.path.read_bytes()).hexdigest()[:12],
    }


def _again(before: PastRun) -> RunResult:
    return replace(_result(before), repeated=True)


def _result(ended: PastRun) -> RunResult:
    return RunResult(
        id=ended.id, name=ended.name, state=ended.state, parameters=ended.parameters, actor=ended.actor,
        started_at=ended.started_at, finished_at=ended.finished_at or ended.started_at, actions=ended.actions,
        versions=ended.versions, notebook=ended.notebook, html=ended.html, record=ended.record, step=ended.step,
        error=ended.error,
    )  # fmt: skip
