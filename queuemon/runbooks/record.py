"""The executed notebook as one HTML file without code, scripts or anything from elsewhere: the incident's record."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

#: What notebooks of earlier tools may have left that the record must not hold.
_METADATA = ("widgets", "kernelspec")


def write_html(notebook: Path, html: Path, run: dict[str, Any]) -> None:
    """Render an executed notebook; `run` holds what the template prints above it, all of it escaped there."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="lab",
        raw_template=(resources.files("queuemon.runbooks") / "record.html.j2").read_text("utf-8"),
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=False,
    )
    body, _ = exporter.from_filename(str(notebook), resources={"queuemon": run})
    html.write_text(body, encoding="utf-8", errors="replace")


def tidy(notebook: Path) -> None:
    """Take out of an executed notebook what is no evidence: this machine's paths, widget state, papermill's banners."""
    import nbformat

    nb = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    for key in _METADATA:
        nb.metadata.pop(key, None)
    papermill = nb.metadata.get("papermill", {})
    for key in ("input_path", "output_path", "environment_variables"):
        papermill.pop(key, None)
    # Papermill marks a failed notebook with two cells of raw HTML; the traceback itself stays where it happened.
    nb.cells = [c for c in nb.cells if "papermill-error-cell-tag" not in c.metadata.get("tags", [])]
    nbformat.write(nb, notebook)  # type: ignore[no-untyped-call]
