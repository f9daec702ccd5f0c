"""Finds runbooks and reads what they say about themselves, without Jupyter; `list`, `describe` and `run` start here."""

from __future__ import annotations

import ast
import difflib
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from queuemon.errors import InvalidValue, RunbookError, UnknownRunbook

#: Types that a parameter may be annotated with.
TYPES: Final = ("str", "int", "float", "bool", "list[str]")

_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_WITH_PASSWORD: Final = re.compile(r"\w+://[^\s/@]*:[^\s/@]+@")
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One typed parameter of a runbook, as its `parameters` cell declares it."""

    name: str
    #: One of TYPES.
    type: str
    #: Whether it must be given.
    required: bool
    default: Any
    #: The comment behind it.
    help: str

    def value(self, given: object) -> Any:
        """A given value as this parameter's type; text (from a command line) is read. Raises InvalidValue."""
        if isinstance(given, str) and _WITH_PASSWORD.search(given):
            raise InvalidValue(
                f"parameter {self.name!r} holds a URL with a password",
                expected="no secret in a parameter: the executed notebook keeps them",
                next_step="name a profile of queuemon.toml with --profile",
            )
        try:
            return _READERS[self.type](given)
        except (ValueError, TypeError):
            shown = repr(given)
            raise InvalidValue(
                f"parameter {self.name!r} is {shown if len(shown) <= 60 else shown[:57] + '…'}",
                expected=_EXPECTED[self.type],
                next_step="see `queuemon runbook describe`",
            ) from None


def _read_str(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError
    given.encode()  # lone surrogates cannot be written to a notebook
    return given


def _read_int(given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise TypeError
    number = int(given)
    if not 0 <= number <= 2**63:
        raise ValueError
    return number


def _read_float(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise TypeError
    number = float(given)
    if not math.isfinite(number) or number < 0:
        raise ValueError
    return number


def _read_bool(given: object) -> bool:
    if isinstance(given, bool):
        return given
    word = given.strip().lower() if isinstance(given, str) else ""
    if word not in _TRUE | _FALSE:
        raise TypeError
    return word in _TRUE


def _read_list(given: object) -> list[str]:
    if isinstance(given, str):
        given = (
            json.loads(given) if given.lstrip().startswith("[") else [t.strip() for t in given.split(",") if t.strip()]
        )
    if not isinstance(given, Sequence) or not all(isinstance(item, str) for item in given):
        raise TypeError
    return [_read_str(item) for item in given]


_READERS: Final = {
    "str": _read_str,
    "int": _read_int,
    "float": _read_float,
    "bool": _read_bool,
    "list[str]": _read_list,
}
_EXPECTED: Final = {
    "str": "text",
    "int": "a whole number, 0 or more",
    "float": "a number, 0 or more",
    "bool": "true or false",
    "list[str]": "texts separated by commas, or a JSON list of texts",
}


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

    def values(self, given: Mapping[str, object]) -> dict[str, Any]:
        """All parameters' values for a run: what was given, typed, and the defaults for the rest.

        Raises InvalidValue for an unknown, missing or mistyped parameter.
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


def folders() -> tuple[Path, ...]:
    """Where runbooks are looked for, the first one wins: ./runbooks, the checkout's, and those of the package."""
    package = Path(str(resources.files("queuemon")))
    candidates = [Path.cwd() / "runbooks", package.parent / "runbooks", package / "data" / "runbooks"]
    return tuple(dict.fromkeys(c.resolve() for c in candidates if c.is_dir()))


def list_runbooks() -> tuple[RunbookInfo, ...]:
    """All runbooks, by name."""
    return tuple(_read(name, path) for name, path in sorted(_paths().items()))


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
    return _read(name, paths[name])


def _paths() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.ipynb")):
            if _NAME.fullmatch(path.stem):
                found.setdefault(path.stem, path)
    return found


def _read(name: str, path: Path) -> RunbookInfo:
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        sources = [(c["cell_type"], "".join(c["source"]), c.get("metadata", {}).get("tags", [])) for c in cells]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunbookError(
            f"runbook {name!r} cannot be read ({type(error).__name__})",
            expected="a notebook of format 4",
            next_step=f"correct {path}",
        ) from None
    prose = "\n\n".join(text for kind, text, _ in sources if kind == "markdown")
    title = re.search(r"^# (.+)$", prose, re.MULTILINE)
    when = re.search(r"^## When to use\s*\n(.*?)(?=^#|\Z)", prose, re.MULTILINE | re.DOTALL)
    declared = next((text for kind, text, tags in sources if kind == "code" and "parameters" in tags), "")
    return RunbookInfo(
        name=name,
        title=title[1].strip() if title else name,
        when=when[1].strip() if when else "",
        parameters=parse_parameters(declared, name),
        steps=tuple(re.findall(r"^## (.+)$", prose, re.MULTILINE)),
        path=path,
    )


def parse_parameters(source: str, runbook: str) -> tuple[Parameter, ...]:
    """The parameters that a cell declares as `name: type = literal  # help`; raises RunbookError for anything else."""
    try:
        tree = ast.parse(source)
        comments = {
            token.start[0]: token.string.lstrip("# ").strip()
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        return tuple(_parameter(node, comments) for node in tree.body)
    except (SyntaxError, ValueError, TypeError, InvalidValue, tokenize.TokenError) as error:
        line = getattr(error, "lineno", None)
        raise RunbookError(
            f"the parameters cell of runbook {runbook!r} cannot be read{f' (line {line})' if line else ''}: {error}",
            expected=f'lines such as `queue: str = "email-sending"  # help`, of type {", ".join(TYPES)}',
            next_step="correct the notebook",
        ) from None


def _parameter(node: ast.stmt, comments: Mapping[int, str]) -> Parameter:
    if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
        raise ValueError(f"line {node.lineno} is no typed parameter")
    type_ = ast.unparse(node.annotation)
    if type_ not in TYPES:
        raise ValueError(f"{node.target.id} has the type {type_}")
    parameter = Parameter(
        name=node.target.id,
        type=type_,
        required=node.value is None,
        default=None,
        help=comments.get(node.end_lineno or node.lineno, ""),
    )
    if node.value is None:
        return parameter
    default = ast.literal_eval(node.value)
    if isinstance(default, str) and type_ != "str":
        raise ValueError(f"{parameter.name} is {type_}, its default is text")
    return Parameter(
        name=parameter.name, type=type_, required=False, default=parameter.value(default), help=parameter.help
    )
