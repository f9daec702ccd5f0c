"""How far a run is, cell by cell: told as it happens, and read back from the notebook that it keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from queuemon.render.text import clean

#: Longest text of a cell passed on as progress.
SAID_LIMIT: Final = 4_000

#: Bytes of a notebook that is read at most.
NOTEBOOK_BYTES: Final = 50_000_000

_PARAMETERS: Final = {"parameters", "injected-parameters"}

#: Papermill's words for the states of a cell, and ours.
_STATES: Final = {"pending": "pending", "running": "running", "completed": "done", "failed": "failed"}

#: States of a run that did not end well, and of the cell that it ended at.
_CUT_SHORT: Final = {"failed": "failed", "stopped": "stopped", "interrupted": "stopped"}


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """One code cell of a runbook."""

    #: Heading that the cell stands under.
    step: str
    #: Position among the code cells, from 1, and their number.
    cell: int
    cells: int
    #: "running", "done" or "failed"; read back also "pending", and "stopped" where it was running when the run ended.
    state: str
    seconds: float
    #: What a cell that is done said, as text.
    said: str = ""


def headings(cells: Sequence[Any]) -> dict[int, str]:
    """Index of each code cell of a notebook → the heading that it stands under; cells of parameters are no steps."""
    found: dict[int, str] = {}
    heading = "start"
    for index, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            for line in "".join(cell["source"]).splitlines():
                if line.startswith("## "):
                    heading = line[3:].strip()
        elif cell["cell_type"] == "code" and not _PARAMETERS & set(cell["metadata"].get("tags", [])):
            found[index] = heading
    return found


def said(cell: Mapping[str, Any]) -> str:
    """What a cell printed, and the text twin of what it showed."""
    parts = [
        "".join(o["text"] if o["output_type"] == "stream" else o.get("data", {}).get("text/plain", ""))
        for o in cell["outputs"]
    ]
    return clean("\n".join(part.strip() for part in parts if part.strip()), SAID_LIMIT, lines=True)


def steps(notebook: Path, state: str) -> tuple[StepProgress, ...]:
    """The cells of a notebook that a run has kept so far, in their order; none where there is nothing to read yet.

    `state` is the run's: papermill calls cells completed that were cut short or never begun; the last one that began
    ended as the run did.
    """
    try:
        if notebook.stat().st_size > NOTEBOOK_BYTES:
            return ()
        found = _steps(json.loads(notebook.read_text("utf-8"))["cells"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
    begun = sum(step.state != "pending" for step in found)
    if begun and state in _CUT_SHORT:
        found[begun - 1] = replace(found[begun - 1], state=_CUT_SHORT[state])
    return tuple(found)


def _steps(cells: Sequence[dict[str, Any]]) -> list[StepProgress]:
    under = headings(cells)
    found = []
    for number, (index, heading) in enumerate(under.items(), 1):
        facts = cells[index]["metadata"].get("papermill", {})
        status = facts.get("status") if facts.get("start_time") else "pending"
        found.append(
            StepProgress(
                step=heading,
                cell=number,
                cells=len(under),
                state=_STATES.get(status, "pending"),
                seconds=float(facts.get("duration") or 0.0),
                said=said(cells[index]),
            )
        )
    return found
