"""A new runbook that works and keeps the conventions, to be changed step by step; `queuemon runbook new` writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from queuemon.errors import ConfigError, InvalidValue

_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")

#: Text, and code under it.
_PARAMETERS: Final = """\
queue: str  # queue to act on
error: str = ""  # only jobs whose error holds this text; empty takes every error
limit: int = 1_000  # refuse when more jobs than this match [1..100_000]
reason: str = ""  # why, for the audit trail
wait_seconds: float = 300.0  # how long the jobs may take to complete
dry_run: bool = True  # look and plan, change nothing"""

_STEPS: Final = (
    (
        "# {title}\n\nOne sentence: what it does, and when it ends well.\n\n## When to use\n\n"
        "The symptom, as the dashboard or an alert shows it.\n\nNot when: what makes it wrong or dangerous.",
        _PARAMETERS,
    ),
    (
        "## Look\n\nWhat stands now, and the jobs that it is about.",
        "import queuemon\nfrom queuemon import runbooks\n\nwb = queuemon.connect()\nqueuemon.show(wb.snapshot())",
    ),
    ("", "jobs = runbooks.failed_jobs(wb, queue, error)\nqueuemon.show(wb.jobs(jobs, limit=10))"),
    (
        "## Plan\n\nFrozen here: exactly these jobs are acted on and verified.",
        'ids = runbooks.select(wb, jobs, limit=limit)\nplan = runbooks.plan(wb, "retry", ids)\n'
        "plan and queuemon.show(plan)",
    ),
    (
        "## Act\n\nOnly without `dry_run`. A run that is started again goes on with its action and repeats nothing.",
        "result = runbooks.act(wb, plan, dry_run=dry_run, reason=reason, where=jobs)\nresult and queuemon.show(result)",
    ),
    (
        "## Verify\n\nWhat must hold now; what raises here fails the run.",
        "runbooks.verify_completed(wb, result, ids, seconds=wait_seconds)",
    ),
    ("## Undo / next\n\nHow to take it back (`queuemon undo ACTION`), and what to look at next.", ""),
)


def write(name: str, folder: Path) -> Path:
    """Write `folder/NAME.ipynb`; raises InvalidValue for a name that is none, ConfigError when it cannot be written."""
    if not _NAME.fullmatch(name):
        raise InvalidValue(
            f"{name[:60]!r} cannot be a runbook's name",
            expected="a verb and an object, in small letters with hyphens, such as retry-failed",
        )
    path = folder / f"{name}.ipynb"
    text = json.dumps(_notebook(name), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidValue(f"{path} exists already", expected="a new name", next_step="choose another") from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror})", expected="a folder that can be written",
            next_step="name another with --dir",
        ) from None  # fmt: skip
    return path


def _notebook(name: str) -> dict[str, Any]:
    title = name.replace("-", " ").capitalize()
    cells: list[dict[str, Any]] = []
    for prose, code in _STEPS:
        if prose:
            cells.append({"cell_type": "markdown", "metadata": {}, "source": _lines(prose.format(title=title))})
        if code:
            metadata = {"tags": ["parameters"]} if code is _PARAMETERS else {}
            source = {"metadata": metadata, "source": _lines(code), "outputs": [], "execution_count": None}
            cells.append({"cell_type": "code", **source})
    return {
        "cells": [{**cell, "id": f"cell-{n}"} for n, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
