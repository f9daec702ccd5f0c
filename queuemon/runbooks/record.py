"""What a run leaves: the executed notebook, the same as one HTML file without code or scripts, and the facts as JSON.

Each file is replaced whole, so that a kill leaves the one before; none is written with a secret that is known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

from queuemon.runbooks.secrets import Blotter

#: What is no evidence: this machine's paths, widget state, what papermill was told.
_METADATA: Final = ("widgets", "kernelspec")
_PAPERMILL: Final = ("input_path", "output_path", "environment_variables")

#: Papermill marks a failed notebook with cells of raw HTML; the traceback itself stays where it happened.
_BANNER: Final = "papermill-error-cell-tag"


def write_notebook(notebook: Any, path: Path, blotter: Blotter) -> None:
    """Keep an executed notebook (of nbformat), as far as it has come."""
    import nbformat

    facts = blotter.value(dict(notebook))
    metadata = {k: v for k, v in facts["metadata"].items() if k not in _METADATA}
    if "papermill" in metadata:
        metadata["papermill"] = {k: v for k, v in metadata["papermill"].items() if k not in _PAPERMILL}
    cells = [c for c in facts["cells"] if _BANNER not in c["metadata"].get("tags", [])]
    kept = nbformat.from_dict({**facts, "metadata": metadata, "cells": cells})  # type: ignore[no-untyped-call]
    _replace(path, nbformat.writes(kept, version=4) + "\n")  # type: ignore[no-untyped-call]


def write_html(notebook: Path, html: Path, facts: Mapping[str, Any]) -> None:
    """Render a kept notebook; `facts` holds what the template prints above it, all of it escaped there."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="lab",
        raw_template=(resources.files("queuemon.runbooks") / "record.html.j2").read_text("utf-8"),
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=False,
    )
    body, _ = exporter.from_filename(str(notebook), resources={"queuemon": facts})
    _replace(html, body)


def write_facts(facts: Mapping[str, Any], path: Path, blotter: Blotter) -> None:
    """Keep the facts of a run as JSON."""
    _replace(path, json.dumps(blotter.value(dict(facts)), indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="replace")
        os.replace(part, path)
    except OSError:  # the facts may find the room that half a notebook took
        part.unlink(missing_ok=True)
        raise
