"""Runs a notebook of the repository as a person's Run All would, and hands back what its cells show and hold."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from queuemon.config import Settings

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
PLOTLY = "application/vnd.plotly.v1+json"


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What an executed notebook shows and holds."""

    #: What a person reads in its tables.
    text: str
    #: Plotly charts among the outputs.
    charts: int
    #: The values that were asked for, by way of JSON.
    values: Mapping[str, Any]


def executed(name: str, settings: Settings, **values: str) -> Executed:
    """Run every cell on the stores of `settings`, then evaluate an expression for each of `values`."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    asked = ", ".join(f"{key!r}: {expression}" for key, expression in values.items())
    notebook.cells.append(nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({{{asked}}}))"))
    urls = {
        "QUEUEMON_DATABASE_URL": settings.database_url.get_secret_value(),
        "QUEUEMON_REDIS_URL": settings.redis_url.get_secret_value(),
    }
    NotebookClient(notebook, timeout=120).execute(env={**os.environ, **urls})
    *cells, last = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [output.data for cell in cells for output in cell.outputs if "data" in output]
    return Executed(
        text="\n".join(_read(data.get("text/html", "")) for data in shown),
        charts=sum(PLOTLY in d for d in shown),
        values=json.loads(last.outputs[0].text),
    )


def _read(markup: str) -> str:
    return unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", markup, flags=re.DOTALL))
