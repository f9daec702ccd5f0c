"""Checks a runbook against the conventions, without running it: `queuemon runbook check` and the tests use it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from queuemon.errors import QueuemonError
from queuemon.runbooks import catalogue
from queuemon.runbooks.parameters import Parameter

#: The headed steps, in their order.
STEPS: Final = ("When to use", "Look", "Plan", "Act", "Verify", "Undo / next")

#: Steps that do something, so that a code cell stands under each; a runbook that only reads has none under Act.
DOING: Final = ("Look", "Plan", "Verify")

#: Lines of code in a cell at most: what is longer belongs in a package.
CELL_LINES: Final = 8

#: What has a branch or a loop, or a second use.
_THICK: Final = (
    ast.If, ast.For, ast.While, ast.Try, ast.With, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda,
    ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp, ast.Match,
)  # fmt: skip

#: Methods of a Workbench that act past the runner: such a step would be repeated when a run is started again.
_ACTS: Final = frozenset(
    {"apply", "retry", "pause", "resume", "resume_action", "set_priority", "scale", "canary", "undo"}
)

_SECRET_NAME: Final = re.compile(r"password|passwd|secret|token|api_?key|credential|dsn|url\b", re.IGNORECASE)
_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """A cell and where it stands."""

    number: int
    kind: str
    source: str
    tags: tuple[str, ...]
    #: The heading that it stands under.
    step: str
    dirty: bool


def check(path: Path) -> tuple[str, ...]:
    """What is wrong with the runbook of a file, each as one sentence; empty when it keeps every convention.

    Raises RunbookError when it cannot be read.
    """
    info = catalogue.read(path.stem, path)
    cells = _cells(json.loads(path.read_text("utf-8")))
    return (*_named(path, info), *_placed(cells, info.steps), *_declared(info.parameters), *_written(cells))


def thin(notebook: dict[str, Any]) -> tuple[str, ...]:
    """What any notebook may not hold, a runbook or not: outputs, long cells, branches, loops, actions past a plan."""
    return tuple(_written(_cells(notebook)))


def _cells(notebook: dict[str, Any]) -> list[_Cell]:
    found: list[_Cell] = []
    step = ""
    for number, cell in enumerate(notebook["cells"], 1):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and (headings := re.findall(r"^## (.+)$", source, re.MULTILINE)):
            step = headings[-1].strip()
        found.append(
            _Cell(
                number=number,
                kind=cell["cell_type"],
                source=source,
                tags=tuple(cell.get("metadata", {}).get("tags", ())),
                step=step,
                dirty=bool(cell.get("outputs") or cell.get("execution_count")),
            )
        )
    return found


def _named(path: Path, info: catalogue.RunbookInfo) -> Iterator[str]:
    if not _NAME.fullmatch(path.stem):
        yield f"the file is called {path.name}: call it verb-object.ipynb, such as retry-failed.ipynb"
    if info.title == info.name:
        yield "it has no title: begin with a heading `# …`"
    if not info.when:
        yield "nothing stands under `## When to use`: say when, and when not"


def _placed(cells: list[_Cell], steps: tuple[str, ...]) -> Iterator[str]:
    if steps != STEPS:
        yield f"its steps are {' → '.join(steps) or '(none)'}: use the headings {' → '.join(STEPS)}, in this order"
    tagged = [c for c in cells if "parameters" in c.tags]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged `parameters`: exactly one declares them"
    elif tagged[0].step != STEPS[0]:
        yield f"cell {tagged[0].number} declares the parameters: it stands right under `## {STEPS[0]}`"
    for step in DOING:
        if step in steps and not any(c.kind == "code" and c.step == step for c in cells):
            yield f"no code cell stands under `## {step}`"
    acting = [c for c in cells if c.kind == "code" and c.step == "Act"]
    if acting and not any("dry_run" in c.source for c in acting):
        yield f"cell {acting[0].number} acts without asking for dry_run: runbooks.act(wb, plan, dry_run=dry_run, …)"


def _declared(parameters: tuple[Parameter, ...]) -> Iterator[str]:
    for p in parameters:
        if not p.help:
            yield f"parameter {p.name} is not explained: write a comment behind it"
        if _SECRET_NAME.search(p.name):
            yield f"parameter {p.name} sounds like a secret, and parameters are kept: use a profile of queuemon.toml"
    dry_run = [p for p in parameters if p.name == "dry_run"]
    if [(p.type, p.default) for p in dry_run] != [("bool", True)]:
        yield "a run must change nothing unless asked: declare `dry_run: bool = True  # look and plan, change nothing`"


def _written(cells: list[_Cell]) -> Iterator[str]:
    for cell in cells:
        if cell.dirty:
            yield f"cell {cell.number} has outputs: clear them"
        if cell.kind != "code" or "parameters" in cell.tags:
            continue
        lines = [line for line in cell.source.splitlines() if line.strip()]
        if len(lines) > CELL_LINES:
            yield f"cell {cell.number} has {len(lines)} lines, at most {CELL_LINES}: put the work into a module"
        try:
            tree = ast.parse(cell.source)
        except SyntaxError as error:
            yield f"cell {cell.number} is not Python (line {error.lineno})"
            continue
        for node in ast.walk(tree):
            if isinstance(node, _THICK):
                yield f"cell {cell.number} holds a {type(node).__name__.lower()}: put it into a module"
                break
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in _ACTS and ast.unparse(node.value) == "wb":
                yield (
                    f"cell {cell.number} calls wb.{node.attr}: act with runbooks.plan and runbooks.act, "
                    "so that a run that is started again repeats nothing"
                )


def checked(path: Path) -> tuple[str, ...]:
    """The same, with what cannot be read as the only complaint."""
    try:
        return check(path)
    except QueuemonError as error:
        return (str(error),)
