"""The runbooks as the page shows them: what there is, a form, the run that is open, the runs there were.

A run is a process of its own and is read from its record, whoever started it: a refresh, another page, or a cell that
is run again takes nothing away and starts nothing twice. Knows no widget.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Final

from traitlets import Dict, HasTraits, List

from queuemon.contract import Keys
from queuemon.errors import NotAllowed, QueuemonError, RunbookError
from queuemon.render.text import clean
from queuemon.runbooks import background, catalogue, past, progress
from queuemon.runbooks.background import Started
from queuemon.runbooks.catalogue import RunbookInfo
from queuemon.runbooks.past import PastRun
from queuemon.runbooks.progress import StepProgress
from queuemon.runbooks.run import judged
from queuemon.views.runbook_values import (
    field_error,
    form_values,
    listed,
    run_row,
    run_values,
    shown,
    starting,
    tone_of,
    verdict,
)
from queuemon.workbench import Workbench

#: Runs that are listed.
RUNS: Final = 20

#: Seconds between two looks at the record of a run that is open.
LOOK_SECONDS: Final = 0.4

#: Bytes of a record that is shown on the page; a larger one is opened from its folder.
RECORD_BYTES: Final = 6_000_000


class Runbooks(HasTraits):
    """What is on screen of the runbooks."""

    #: Every runbook: {name, title, use}.
    shelf: List[Any] = List()
    #: The newest runs of all runbooks.
    ran: List[Any] = List()
    #: The runbook that is open, with its parameters; empty when none is.
    book = Dict()
    #: The run that is open; empty when none is.
    run = Dict()
    #: The record that is open: {id, html}.
    record = Dict()

    def __init__(
        self, workbench: Workbench, *, told: Callable[[str, str], None] | None = None, runs_dir: Path | None = None
    ) -> None:
        super().__init__()
        self._workbench = workbench
        self._keys: Keys = workbench.settings.keys
        self._runs_dir = runs_dir or background.runs_folder()
        self._told = told or (lambda text, tone: None)
        self._lock = threading.RLock()
        self._closed = threading.Event()
        #: Processes of runs that were started here and have not ended, by the run's id.
        self._started: dict[str, Started] = {}
        #: The newest record that a run had when it was started here: an older attempt's, or none.
        self._before: dict[str, Path | None] = {}
        #: What a process said that left no record.
        self._refused: dict[str, str] = {}
        #: Of runs that were started here, and may have left no record: the runbook and its values.
        self._given: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._numbers = count(1)
        #: Steps of the notebook that was read last, by its path and age.
        self._steps: tuple[tuple[Path, int, str], tuple[StepProgress, ...]] | None = None

    # ---------------------------------------------------------------------------------------------------- what there is

    def read(self) -> None:
        """Which runbooks there are."""
        self.shelf = [listed(info) for info in catalogue.list_runbooks()]

    def tick(self) -> None:
        """With every refresh: which runs there are, and how they stand."""
        if not self.shelf:
            self.read()
        found = past.history(self._runs_dir, limit=RUNS)
        self.ran = [run_row(run, self._keys) for run in found]
        if run_id := self.run.get("id"):
            self._look(run_id)

    def close(self) -> None:
        """Watch nothing any more; what runs goes on."""
        self._closed.set()

    def answer(self, event: Mapping[str, Any]) -> None:
        """What a person did on the page: {do: one of these, …}; anything else is left alone."""
        name, run_id, values = (event.get(key) for key in ("name", "id", "values"))
        given = values if isinstance(values, dict) else {}
        match event.get("do"), name, run_id:
            case "read", _, _:
                self.read()
                self.tick()
            case "open", str(), _:
                self.open(name, wet=event.get("wet") is True, **{str(k): v for k, v in given.items() if k != "wet"})
            case "judge", str(), _:
                self.judge(name, given)
            case "start", str(), _:
                self.start(name, given, wet=event.get("wet") is True)
            case "show", _, str():
                self.open_run(run_id)
            case "again", _, str():
                self.again(run_id, wet=event.get("wet") is True)
            case "stop", _, str():
                self.stop(run_id)
            case "resume", _, str():
                self.resume(run_id)
            case "approve", _, str():
                self.approve(run_id, str(event.get("note") or ""))
            case "record", _, str():
                self.show_record(run_id)
            case "back", _, _:
                self.close_record()
            case "close", _, _:
                self.close_run()

    # ------------------------------------------------------------------------------------------------------ the form

    def open(self, name: str, /, wet: bool = False, **parameters: Any) -> None:
        """Show a runbook's form, filled with these values: from an alert, a warning, a queue, or a past run.

        Raises UnknownRunbook; a value that the runbook does not take is said at its field.
        """
        info = catalogue.describe(name)
        known = {p.name: p for p in info.parameters if p.name != "dry_run"}
        values = {n: shown(p, parameters.get(n, p.default), self._keys) for n, p in known.items()}
        odd = ", ".join(sorted(set(parameters) - set(known) - {"dry_run"}))
        _, wrong = self._judged(info, values) if parameters else ({}, {"errors": {}, "refused": ""})
        if odd:
            wrong["refused"] = clean(f"It has no parameter {odd}.", 200)
        form = form_values(info, approval=self._workbench.settings.runbook_approval)
        with self._lock:
            self.run, self.record = {}, {}
            self.book = form | wrong | {"values": values, "wet": wet, "busy": False, "opening": next(self._numbers)}

    def judge(self, name: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """Say at each field what is wrong with it; returns the values of a run when nothing is."""
        found, wrong = self._judged(catalogue.describe(name), values)
        with self._lock:
            if self.book.get("name") == name:
                self.book = self.book | wrong
        return None if wrong["errors"] or wrong["refused"] else found

    def _judged(self, info: RunbookInfo, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        given = {p.name: values[p.name] for p in info.parameters if p.name in values and p.name != "dry_run"}
        try:
            found, errors = judged(self._workbench, info, given)
        except QueuemonError as error:
            return {}, {"errors": {}, "refused": clean(str(error), 600)}
        return found, {"errors": {name: field_error(error) for name, error in errors.items()}, "refused": ""}

    def start(self, name: str, values: Mapping[str, Any], *, wet: bool) -> None:
        """Run a runbook with these values, if nothing is wrong with them; the run takes the form's place on screen."""
        with self._lock:
            if self.book.get("name") != name or self.book.get("busy"):
                return
            self.book = self.book | {"busy": True}
        try:
            found = self.judge(name, values)
            if found is None:
                return
            if wet and (why := self._workbench.read_only_reason) is not None:
                raise NotAllowed(f"the run would act and is refused: {why}", next_step="run it dry")
            info = catalogue.describe(name)
            if any(p.name == "dry_run" for p in info.parameters):
                found["dry_run"] = not wet
            self._watch(background.start(self._workbench.settings, name, found, runs_dir=self._runs_dir), found)
        except QueuemonError as error:
            with self._lock:
                self.book = self.book | {"refused": clean(str(error), 600)}
        finally:
            with self._lock:
                if self.book:
                    self.book = self.book | {"busy": False}

    # ------------------------------------------------------------------------------------------------------- the runs

    def open_run(self, run_id: str) -> None:
        """Show a run."""
        found = past.get(run_id, self._runs_dir)
        with self._lock:
            if run_id not in self._started:
                self._before.pop(run_id, None)
            self.book, self.record = {}, {}
            self.run = {"id": found.id, "name": found.name}
        self._show(found)
        if found.state == "running":
            self._in_thread(lambda: self._follow(found.id))

    def close_run(self) -> None:
        """Show neither form nor run; what runs goes on."""
        with self._lock:
            self.book, self.run, self.record = {}, {}, {}

    def stop(self, run_id: str) -> None:
        """Stop a run: its step is interrupted, and puts back what it changed."""
        with self._lock:
            if self.run.get("id") == run_id:
                self.run = self.run | {"stopping": True}
        if (started := self._started.get(run_id)) is not None:
            started.stop()
        else:
            background.stop(past.get(run_id, self._runs_dir))

    def resume(self, run_id: str) -> None:
        """Go on with a run that was interrupted, stopped, or waited for its approval."""
        before = past.get(run_id, self._runs_dir)
        with self._lock:
            if run_id in self._started or not before.can_go_on:
                return
        if not before.dry_run and (why := self._workbench.read_only_reason) is not None:
            raise NotAllowed(f"the run would act and is refused: {why}")
        started = background.resume(self._workbench.settings, before, runs_dir=self._runs_dir)
        self._watch(started, before.parameters)

    def again(self, run_id: str, *, wet: bool) -> None:
        """The form of a run's runbook, with its values."""
        name, values = self._given.get(run_id) or ("", {})
        if not name:
            run = past.get(run_id, self._runs_dir)
            name, values = run.name, run.parameters
        self.open(name, wet=wet, **{str(k): v for k, v in values.items() if k != "wet"})

    def approve(self, run_id: str, note: str) -> None:
        """Approve the plans that a run waits for, as this workbench's database role."""
        run = past.get(run_id, self._runs_dir)
        for plan in run.unapproved:
            self._workbench.approve(str(plan["hash"]), note=note)
        self._told(f"Approved as {self._workbench.role()}: whoever started the run can go on with it.", "good")
        self._show(run)

    def show_record(self, run_id: str) -> None:
        """Read the HTML that a run left. Raises RunbookError where there is none, or it is too large to show here."""
        run = past.get(run_id, self._runs_dir)
        try:
            size = run.html.stat().st_size
            html = run.html.read_text("utf-8", "replace") if size <= RECORD_BYTES else ""
        except OSError:
            raise RunbookError(f"run {run.id} has left no HTML yet", next_step="wait for its end") from None
        if not html:
            raise RunbookError(f"the record has {size:,} bytes", next_step=f"open {run.html}")
        self.record = {"id": run.id, "html": html}

    def close_record(self) -> None:
        """Back to the run."""
        self.record = {}

    # ------------------------------------------------------------------------------------------------------------ parts

    def _watch(self, started: Started, values: Mapping[str, Any]) -> None:
        """Put a run that was started on screen, and follow it to its end."""
        before = past.find(started.id, self._runs_dir, started.name)
        with self._lock:
            self._started[started.id] = started
            self._given[started.id] = (started.name, dict(values))
            self._before[started.id] = before.record if before else None
            self.book, self.record = {}, {}
            self.run = starting(started.id, catalogue.describe(started.name), values, self._keys)
        self._in_thread(lambda: self._follow(started.id))
        self._in_thread(lambda: self._reap(started))

    def _reap(self, started: Started) -> None:
        said = started.wait()
        run = past.find(started.id, self._runs_dir, started.name)
        with self._lock:
            del self._started[started.id]
            if run is None or run.record == self._before.get(started.id):
                self._refused[started.id] = said or "It was stopped before it began."
                run = None
        if self._closed.is_set():
            return
        if self.run.get("id") != started.id:
            told = (verdict(run), tone_of(run)) if run is not None else (self._refused[started.id], "bad")
            self._told(f"Runbook {started.name}: {told[0]}", told[1])
        self._look(started.id)
        self.tick()

    def _follow(self, run_id: str) -> None:
        """While it runs and is on screen."""
        while not self._closed.wait(LOOK_SECONDS) and self._look(run_id):
            pass

    def _look(self, run_id: str) -> bool:
        """Bring the run on screen up to date; whether it is still to be followed."""
        found = past.find(run_id, self._runs_dir)
        with self._lock:
            here, before = run_id in self._started, self._before.get(run_id)
            if self.run.get("id") != run_id:
                return False
            if found is None or found.record == before:
                if not here:
                    refused = clean(self._refused.get(run_id, ""), 800)
                    ended = {"state": "failed", "running": False, "starting": False, "tone": "bad"}
                    self.run = self.run | ended | {"verdict": refused}
                return here
        self._show(found)
        return here or found.state == "running"

    def _show(self, run: PastRun) -> None:
        """Values of a run into the trait, if it is the one on screen."""
        values = run_values(run, self._steps_of(run), self._keys)
        if run.unapproved:
            hashes = [str(plan.get("hash")) for plan in run.unapproved]
            roles = [self._workbench.approved_by(fingerprint) for fingerprint in hashes]
            values["approvedBy"] = clean(roles[0], 80) if all(roles) else ""
            values["own"] = run.actor.partition("/")[0] == self._workbench.role()
        with self._lock:
            if self.run.get("id") == run.id:
                stopping = bool(self.run.get("stopping")) and run.state == "running"
                self.run = values | {"stopping": stopping}

    def _steps_of(self, run: PastRun) -> tuple[StepProgress, ...]:
        """The cells of a run; its notebook is read again when it has changed."""
        try:
            key = (run.notebook, run.notebook.stat().st_mtime_ns, run.state)
        except OSError:
            return ()
        if self._steps is None or self._steps[0] != key:
            self._steps = (key, progress.steps(run.notebook, run.state))
        return self._steps[1]

    def _in_thread(self, work: Callable[[], None]) -> None:
        def quietly() -> None:
            try:
                work()
            except QueuemonError as error:
                self._told(clean(str(error), 400), "bad")

        threading.Thread(target=quietly, name="queuemon-runbook", daemon=True).start()
