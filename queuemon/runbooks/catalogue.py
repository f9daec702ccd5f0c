"""Finds runbooks and reads what they say about themselves, without Jupyter; `list`, `describe` and `run` start here."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from queuemon.errors import InvalidValue, RunbookError, UnknownRunbook
from queuemon.runbooks.parameters import Parameter, parse_parameters

_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class RunbookInfo:
    """What a runbook says about itself."""

    name: str
    title: str
    #: Text under "When to use".
    when: str
    parameters: tuple[Parameter, ...]
    #: Headings of its steps, in order.
    steps: tuple[str, ...]
    path: Path
    #: Text under "Undo / next".
    next: str = ""
    #: The time limit of a run that it names itself (`queuemon.timeout_seconds` in the notebook's metadata).
    timeout_seconds: float | None = None
    #: Whether its plans must be approved by another role (`queuemon.approval`).
    approval: bool = False

    def values(self, given: Mapping[str, object]) -> dict[str, Any]:
        """All parameters' values for a run: what was given, typed, and the defaults for the rest.

        Raises InvalidValue for an unknown, missing or mistyped parameter, or one out of its bounds.
        """
        known = {p.name: p for p in self.parameters}
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                raise InvalidValue(
                    f"runbook {self.name!r} has no parameter {name[:60]!r}",
                    expected=f"parameters among {', '.join(known) or '(none)'}",
                    next_step=f"did you mean {close[0]!r}?" if close else "correct the name",
                )
        missing = [p.name for p in self.parameters if p.required and p.name not in given]
        if missing:
            raise InvalidValue(
                f"runbook {self.name!r} needs {', '.join(missing)}",
                expected="a value for every parameter without a default",
                next_step=" ".join(f"-p {name}=…" for name in missing),
            )
        return {n: p.value(given[n]) if n in given else p.default for n, p in known.items()}


def working_folder() -> Path:
    """The folder of runbooks/ and runs/: this one, or the one above where a kernel started beside its notebook."""
    here = Path.cwd()
    return here.parent if here.name == "notebooks" and (here.parent / "runbooks").is_dir() else here


def folders() -> tuple[Path, ...]:
    """Where runbooks are looked for, the first one wins: ./runbooks, the checkout's, and those of the package."""
    package = Path(str(resources.files("queuemon")))
    candidates = [working_folder() / "runbooks", package.parent / "runbooks", package / "data" / "runbooks"]
    return tuple(dict.fromkeys(c.resolve() for c in candidates if c.is_dir()))


def list_runbooks() -> tuple[RunbookInfo, ...]:
    """All runbooks, by name."""
    return tuple(read(name, path) for name, path in sorted(_paths().items()))


def describe(name: str) -> RunbookInfo:
    """One runbook by its name; raises UnknownRunbook, RunbookError when its notebook cannot be read."""
    paths = _paths()
    if name not in paths:
        close = difflib.get_close_matches(name, paths, n=1)
        raise UnknownRunbook(
            f"there is no runbook {name[:60]!r}",
            expected=f"one of {', '.join(sorted(paths)) or 'none: no folder of runbooks was found'}",
            next_step=f"did you mean {close[0]!r}?" if close else "see `queuemon runbook list`",
        )
    return read(name, paths[name])


def _paths() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.ipynb")):
            if _NAME.fullmatch(path.stem):
                found.setdefault(path.stem, path)
    return found


def read(name: str, path: Path) -> RunbookInfo:
    """What the notebook of a file says about itself; raises RunbookError when it cannot be read."""
    try:
        notebook = json.loads(path.read_text("utf-8"))
        sources = [
            (c["cell_type"], "".join(c["source"]), c.get("metadata", {}).get("tags", [])) for c in notebook["cells"]
        ]
        own = notebook.get("metadata", {}).get("queuemon", {})
        timeout, approval = own.get("timeout_seconds"), own.get("approval", False)
        if not (timeout is None or float(timeout) > 0) or not isinstance(approval, bool):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunbookError(
            f"runbook {name!r} cannot be read ({type(error).__name__})",
            expected="a notebook of format 4",
            next_step=f"correct {path}",
        ) from None
    prose = "\n\n".join(text for kind, text, _ in sources if kind == "markdown")
    title = re.search(r"^# (.+)$", prose, re.MULTILINE)
    declared = next((text for kind, text, tags in sources if kind == "code" and "parameters" in tags), "")
    return RunbookInfo(
        name=name,
        title=title[1].strip() if title else name,
        when=_under("When to use", prose),
        next=_under("Undo / next", prose),
        parameters=parse_parameters(declared, name),
        steps=tuple(re.findall(r"^## (.+)$", prose, re.MULTILINE)),
        path=path,
        timeout_seconds=float(timeout) if timeout is not None else None,
        approval=approval,
    )


def _under(heading: str, prose: str) -> str:
    found = re.search(rf"^## {heading}\s*\n(.*?)(?=^#|\Z)", prose, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""
