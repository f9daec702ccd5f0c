"""Runs a runbook: parameters checked first, then papermill in a kernel of this interpreter; the record is kept."""

from __future__ import annotations

import getpass
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from queuemon import config, errors, workbench
from queuemon.errors import ConfigError, RunbookError
from queuemon.render.text import clean
from queuemon.runbooks.catalogue import RunbookInfo, describe

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

#: Longest error text kept in a result.
ERROR_LIMIT = 2_000

#: Longest text of a cell passed on as progress.
SAID_LIMIT = 4_000

_PARAMETERS = {"parameters", "injected-parameters"}


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """One code cell of a running runbook began or ended."""

    #: Heading that the cell stands under.
    step: str
    #: Position among the code cells, from 1, and their number.
    cell: int
    cells: int
    #: "running", "done" or "failed".
    state: str
    seconds: float
    #: What a cell that is done said, as text.
    said: str = ""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run left behind."""

    id: str
    name: str
    #: "done", "failed" or "stopped".
    state: str
    parameters: Mapping[str, Any]
    started_at: datetime
    finished_at: datetime
    #: The executed notebook, the same as HTML, and these facts as JSON.
    notebook: Path
    html: Path
    record: Path
    #: Where and why it failed.
    step: str = ""
    error: str = ""


def run(
    name: str,
    parameters: Mapping[str, object] | None = None,
    *,
    runs_dir: str | Path = "runs",
    profile: str | None = None,
    progress: Callable[[StepProgress], None] | None = None,
) -> RunResult:
    """Run a runbook and keep its executed notebook, HTML and result under `runs_dir/<name>/`.

    Nothing starts unless every parameter is known, given and of its type, and the `queue` exists. The stores' URLs
    travel in the kernel's environment, never as a parameter. Raises UnknownRunbook, InvalidValue, UnknownQueue;
    RunbookError when a cell, such as a verification, fails; the record is kept then too.
    """
    info = describe(name)
    values = info.values(parameters or {})
    _check_queue(values, profile)
    run_id = uuid4().hex[:8]
    environment = {**config.child_environment(profile), config.RUN_VARIABLE: f"runbook {info.name}, run {run_id}"}
    started_at = datetime.now(UTC)
    folder = Path(runs_dir) / info.name
    stem = f"{started_at:%Y%m%dT%H%M%SZ}-{run_id}"
    notebook = folder / f"{stem}.ipynb"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        notebook.touch()
    except OSError as error:
        raise ConfigError(
            f"the record of the run cannot be written to {str(folder)!r} ({error.strerror})",
            expected="a folder that can be written",
            next_step="name another with --runs-dir",
        ) from None
    state, step, why = "stopped", "", ""
    try:
        step, why = _execute(info, values, notebook, environment, progress)
        state = "failed" if why else "done"
    finally:
        result = RunResult(
            id=run_id,
            name=info.name,
            state=state,
            parameters=values,
            started_at=started_at,
            finished_at=datetime.now(UTC),
            notebook=notebook,
            html=notebook.with_suffix(".html"),
            record=notebook.with_suffix(".json"),
            step=step,
            error=why,
        )
        _keep(info, result)
    if why:
        raise RunbookError(f"runbook {info.name!r} failed at {step!r}: {why}. The run is kept in {result.html}")
    return result


def _check_queue(values: Mapping[str, Any], profile: str | None) -> None:
    """A kernel takes seconds to start: a queue that does not exist is told before. Raises UnknownQueue, StoreError."""
    with workbench.connect(profile) as wb:
        if queue := values.get("queue"):
            wb.queue_name(str(queue))


def _execute(
    info: RunbookInfo,
    values: Mapping[str, Any],
    notebook: Path,
    environment: Mapping[str, str],
    progress: Callable[[StepProgress], None] | None,
) -> tuple[str, str]:
    """Run all cells; returns where and why it failed, or two empty texts."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    # What papermill has to say is in the result; without a handler Python would print it.
    logging.getLogger("papermill").addHandler(logging.NullHandler())
    follow = _Follow(progress)
    log = notebook.with_suffix(".log")
    try:
        papermill.execute_notebook(
            # Papermill fills in {braces} of paths.
            str(info.path).replace("{", "{{").replace("}", "}}"),
            str(notebook).replace("{", "{{").replace("}", "}}"),
            parameters=dict(values),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            kernel_manager_class=_kernel(environment, log),
            store_widget_state=False,
            on_notebook_start=follow.start,
            on_cell_start=follow.cell_start,
            on_cell_executed=follow.cell_executed,
            on_cell_error=follow.cell_error,
        )
    except PapermillExecutionError as error:
        why = _words(error.ename, error.evalue)
    except RuntimeError as error:  # the kernel died, or did not start: its last words say more
        words = log.read_text("utf-8", "replace").strip() if log.exists() else ""
        why = f"the kernel ended: {words[-500:] or error}"
    else:
        return "", ""
    finally:
        log.unlink(missing_ok=True)
    return follow.step, clean(why, ERROR_LIMIT)


def _words(kind: str, message: str) -> str:
    """An exception of a cell as the operator reads it; our own errors are sentences already."""
    return message.rstrip(".") if hasattr(errors, kind) else f"{kind}: {message}"


class _Follow:
    """Turns nbclient's hooks into progress by headed step."""

    def __init__(self, progress: Callable[[StepProgress], None] | None) -> None:
        self.progress = progress
        #: Index of a code cell → the heading it stands under; cells of parameters are not steps.
        self.headings: dict[int, str] = {}
        self.step = "start"
        self.began = time.monotonic()

    def start(self, notebook: Any) -> None:
        """Learn which heading each code cell stands under."""
        heading = "start"
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "markdown":
                for line in cell.source.splitlines():
                    if line.startswith("## "):
                        heading = line[3:].strip()
            elif not _PARAMETERS & set(cell.metadata.get("tags", [])):
                self.headings[index] = heading

    def cell_start(self, cell: Any, cell_index: int) -> None:
        """A cell begins."""
        if cell_index in self.headings:
            self.step, self.began = self.headings[cell_index], time.monotonic()
            self._say(cell_index, "running")

    def cell_executed(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """A cell ended, well or not."""
        if cell_index in self.headings and execute_reply["content"]["status"] == "ok":
            self._say(cell_index, "done", _said(cell))

    def cell_error(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """A cell ended with an error."""
        self._say(cell_index, "failed")

    def _say(self, index: int, state: str, said: str = "") -> None:
        if self.progress is not None:
            numbers = list(self.headings)
            self.progress(
                StepProgress(
                    step=self.step,
                    cell=numbers.index(index) + 1 if index in numbers else 0,
                    cells=len(numbers),
                    state=state,
                    seconds=time.monotonic() - self.began,
                    said=said,
                )
            )


def _said(cell: Any) -> str:
    """What a cell printed, and the text twin of what it showed."""
    parts = [o.text if o.output_type == "stream" else o.get("data", {}).get("text/plain", "") for o in cell.outputs]
    return clean("\n".join(part.strip() for part in parts if part.strip()), SAID_LIMIT, lines=True)


def _kernel(environment: Mapping[str, str], log: Path) -> type[AsyncKernelManager]:
    """A kernel of this very interpreter, whatever kernels are registered; what it says itself goes to `log`."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"],
        display_name="Python 3",
        language="python",
    )

    class RunbookKernel(AsyncKernelManager):
        kernel_spec = property(lambda self: spec)

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]  # awaited by nbclient
            with log.open("wb") as output:
                await super().start_kernel(**{**options, "env": dict(environment), "stdout": output, "stderr": output})

    return RunbookKernel


def _keep(info: RunbookInfo, result: RunResult) -> None:
    """Write the record beside the notebook; a run that was stopped before its first cell leaves only the result."""
    from queuemon.runbooks import record

    facts = {
        "id": result.id,
        "name": result.name,
        "title": info.title,
        "state": result.state,
        "parameters": dict(result.parameters),
        "actor": getpass.getuser(),
        "started_at": result.started_at.isoformat(timespec="seconds"),
        "finished_at": result.finished_at.isoformat(timespec="seconds"),
        "seconds": round((result.finished_at - result.started_at).total_seconds(), 1),
        "step": result.step,
        "error": result.error,
        "notebook": result.notebook.name,
        "html": result.html.name,
    }
    result.record.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    if result.notebook.stat().st_size:
        record.tidy(result.notebook)
        record.write_html(result.notebook, result.html, facts)
