"""Executes the cells of a runbook with papermill and tells how it goes, step by step; `run` is the only caller."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from queuemon import errors
from queuemon.render.text import clean, duration
from queuemon.runbooks import kernel
from queuemon.runbooks.progress import StepProgress, headings, said
from queuemon.runbooks.record import write_notebook
from queuemon.runbooks.secrets import Blotter

#: Longest error text kept in a result.
ERROR_LIMIT: Final = 2_000

#: The time limit of a run where neither the caller nor the runbook names one.
TIMEOUT_SECONDS: Final = 4 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Where and why the cells did not all run."""

    step: str
    why: str


def execute(
    source: Path,
    values: Mapping[str, Any],
    *,
    target: Path,
    environment: Mapping[str, str],
    blotter: Blotter,
    seconds: float,
    progress: Callable[[StepProgress], None] | None,
) -> Failure | None:
    """Run all cells; `target` is written after each, without secrets. None when all went well.

    `seconds` after the kernel has started the running cell is interrupted, as by Ctrl-C, and the run has failed.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    # What papermill and nbclient have to say is in the result; without a handler Python would print it.
    for name in ("papermill", "traitlets"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    follow = _Follow(target, blotter, progress, seconds)
    with tempfile.TemporaryFile() as said:
        try:
            papermill.execute_notebook(
                # Papermill fills in {braces} of paths.
                str(source).replace("{", "{{").replace("}", "}}"),
                None,
                parameters=dict(values),
                kernel_name="python3",
                language="python",
                progress_bar=False,
                kernel_manager_class=kernel.manager(environment, said),
                store_widget_state=False,
                timeout_func=follow.seconds_left,
                on_notebook_start=follow.start,
                on_cell_start=follow.cell_start,
                on_cell_executed=follow.cell_executed,
            )
        except PapermillExecutionError as error:
            why = _words(error.ename, error.evalue)
        except TimeoutError:  # nbclient's, of a cell
            why = f"the time limit of the run, {duration(seconds)}, was reached"
        except RuntimeError as error:  # the kernel died, or did not start: its last words say more
            said.seek(0)
            last = said.read().decode("utf-8", "replace").strip()
            why = f"the kernel ended: {last[-500:] or error}"
        else:
            return None
        finally:
            follow.keep()
    follow.failed()
    return Failure(step=follow.step, why=clean(blotter.text(why), ERROR_LIMIT))


def _words(kind: str, message: str) -> str:
    """An exception of a cell as the operator reads it; our own errors are sentences already."""
    return message.rstrip(".") if hasattr(errors, kind) else f"{kind}: {message}"


class _Follow:
    """Turns nbclient's hooks into progress by headed step, and keeps the notebook as far as it has come."""

    def __init__(
        self, target: Path, blotter: Blotter, progress: Callable[[StepProgress], None] | None, seconds: float
    ) -> None:
        self.target, self.blotter, self.progress = target, blotter, progress
        #: Index of a code cell → the heading it stands under; cells of parameters are not steps.
        self.headings: dict[int, str] = {}
        self.step, self.index = "start", -1
        self.began = time.monotonic()
        self.seconds, self.deadline = seconds, self.began + seconds
        self.notebook: Any = None

    def seconds_left(self, cell: Any) -> float:
        """How long the next cell may take; nbclient takes 0 for no limit."""
        return max(0.01, self.deadline - time.monotonic())

    def start(self, notebook: Any) -> None:
        """Learn which heading each code cell stands under."""
        self.notebook, self.deadline = notebook, time.monotonic() + self.seconds
        self.headings = headings(notebook.cells)
        self.keep()

    def cell_start(self, cell: Any, cell_index: int) -> None:
        """A cell begins."""
        if cell_index in self.headings:
            self.step, self.index, self.began = self.headings[cell_index], cell_index, time.monotonic()
            self.keep()
            self._say("running")

    def cell_executed(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """A cell ended, well or not."""
        cell.outputs = [type(output)(self.blotter.value(output)) for output in cell.outputs]
        self.keep()
        if cell_index in self.headings and execute_reply["content"]["status"] == "ok":
            self._say("done", said(cell))

    def failed(self) -> None:
        """The cell that began last did not end well."""
        self._say("failed")

    def keep(self) -> None:
        """Write the notebook as far as it has come. A full disk ends no run: its end is told all the same."""
        if self.notebook is not None:
            with suppress(OSError):
                write_notebook(self.notebook, self.target, self.blotter)

    def _say(self, state: str, said: str = "") -> None:
        if self.progress is not None:
            numbers = list(self.headings)
            self.progress(
                StepProgress(
                    step=self.step,
                    cell=numbers.index(self.index) + 1 if self.index in numbers else 0,
                    cells=len(numbers),
                    state=state,
                    seconds=time.monotonic() - self.began,
                    said=said,
                )
            )
