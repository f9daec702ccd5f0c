"""Checks the notebooks kept in git (--fix cleans them): thin, no outputs, no trace of a machine, one spelling."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from queuemon.runbooks import lint

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("notebooks", "runbooks")
#: What a notebook may say about itself: everything else changes from machine to machine.
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
#: What a cell may say about itself.
CELL_METADATA = {"tags", "editable", "slideshow", "jupyter"}


def paths() -> list[Path]:
    """Every notebook in git's folders, sorted."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.ipynb"))
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


def clean(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook without outputs, counts and what a machine wrote into it; cells get an id where they have none."""
    cells = []
    for number, cell in enumerate(notebook["cells"]):
        kept = {"id": f"cell-{number}", **cell}
        kept["metadata"] = {key: value for key, value in cell.get("metadata", {}).items() if key in CELL_METADATA}
        if cell["cell_type"] == "code":
            kept |= {"outputs": [], "execution_count": None}
        cells.append(kept)
    metadata = METADATA | {key: value for key, value in notebook["metadata"].items() if key == "queuemon"}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def text(notebook: dict[str, Any]) -> str:
    """The one spelling of a notebook: what Jupyter itself writes."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def complaints(path: Path) -> Iterator[str]:
    """What is wrong with one notebook, in words."""
    found = path.read_text(encoding="utf-8")
    notebook = json.loads(found)
    yield from lint.thin(notebook)
    if text(clean(notebook)) != found:
        yield "is not clean: run make format"


def main(arguments: list[str]) -> int:
    """0 when every notebook is clean, or was made so."""
    failures = 0
    for path in paths():
        if "--fix" in arguments:
            path.write_text(text(clean(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
        for complaint in complaints(path):
            failures += 1
            print(f"{path.relative_to(ROOT)}: {complaint}")
    print(f"{len(paths())} notebooks, {failures} complaints")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
