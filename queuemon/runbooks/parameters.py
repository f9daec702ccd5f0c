"""The typed parameters of a runbook: how its `parameters` cell declares them, and which values they take.

A line is `name: type = literal  # meaning [bounds]`. Bounds are `[1..100]`, `[1..]`, `[..100]` for numbers and
`[high|normal|low]` for texts, which may be a `[queue]`, `[moment]`, `[end]` or `[signature]` instead (see `kinds`),
`[moment or nothing]` where it may be left empty and the default is not; without bounds numbers are 0 or more. A line
without a value must be given one.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from queuemon.errors import InvalidValue, RunbookError, UsageError
from queuemon.runbooks.kinds import KINDS, QUEUES

#: Types that a parameter may be annotated with.
TYPES: Final = ("str", "int", "float", "bool", "list[str]")

#: Characters of a text, and texts of a list, at most: the audit trail keeps a reason, the record all of them.
TEXT_LIMIT: Final = 4_000
LIST_LIMIT: Final = 1_000

_NUMBERS: Final = frozenset({"int", "float"})
_TEXTS: Final = frozenset({"str", "list[str]"})

#: The bounds at the end of a comment.
_BOUNDS: Final = re.compile(
    rf"\s*\[([^\[\]]*(?:\.\.|\|)[^\[\]]*|(?:{'|'.join(KINDS)})(?: or nothing| except [^\[\]]*)?)\]\s*\Z"
)
_EMPTY: Final = " or nothing"
_WITH_PASSWORD: Final = re.compile(r"\w://[^\s/@]*:[^\s/@]+@")
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
    #: The comment behind it, without the bounds.
    help: str
    #: Bounds of a number, both inclusive; None: none.
    minimum: float | None = None
    maximum: float | None = None
    #: The texts it may be; empty: any.
    choices: tuple[str, ...] = ()
    #: One of KINDS that its texts must be; empty: any text.
    kind: str = ""
    #: Whether it may be left empty, where it is of a kind.
    optional: bool = False
    #: Other parameters whose queues it may not name.
    apart: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """What it takes, in words."""
        if self.choices:
            each = "one of" if self.type == "str" else "some of"
            return f"{each} {', '.join(self.choices)}"
        if self.kind:
            more = ", or several, separated by commas" if self.many else ", or nothing" if self.optional else ""
            return f"{KINDS[self.kind].expected}{more}"
        if self.type not in _NUMBERS:
            return _EXPECTED[self.type]
        low, high = (None if n is None else _shown(n) for n in (self.minimum, self.maximum))
        span = f"{low} or more" if high is None else f"{high} or less" if low is None else f"{low} to {high}"
        return f"{_EXPECTED[self.type]}, {span}"

    @property
    def many(self) -> bool:
        """Whether it takes several values."""
        return self.type == "list[str]"

    def value(self, given: object) -> Any:
        """A given value as this parameter's type; text (from a command line) is read. Raises InvalidValue."""
        try:
            value = _READERS[self.type](given)
        except (ValueError, TypeError):
            raise self._wrong(given) from None
        texts = value if isinstance(value, list) else [value]
        if len(texts) > LIST_LIMIT or any(isinstance(text, str) and len(text) > TEXT_LIMIT for text in texts):
            raise InvalidValue(
                f"parameter {self.name!r} is too long",
                expected=f"at most {TEXT_LIMIT:,} characters{f' each, and {LIST_LIMIT:,} texts' if self.many else ''}",
            )
        if any(isinstance(text, str) and _WITH_PASSWORD.search(text) for text in texts):
            raise InvalidValue(
                f"parameter {self.name!r} holds a URL with a password",
                expected="no secret in a parameter: the executed notebook keeps them",
                next_step="name a profile of queuemon.toml with --profile",
            )
        try:
            return self._bounded(value)
        except (ValueError, TypeError):
            raise self._wrong(given) from None

    def _wrong(self, given: object) -> InvalidValue:
        shown = repr(given)
        return InvalidValue(
            f"parameter {self.name!r} is {shown if len(shown) <= 60 else shown[:57] + '…'}",
            expected=self.expected,
            next_step="see `queuemon runbook describe`",
        )

    def _bounded(self, value: Any) -> Any:
        if self.type in _NUMBERS:
            low = -math.inf if self.minimum is None else self.minimum
            high = math.inf if self.maximum is None else self.maximum
            if not low <= value <= high:
                raise ValueError
        if self.kind and not (self.optional and not value):
            try:
                for text in value if self.many else [value]:
                    KINDS[self.kind].judge(text)
            except UsageError:
                raise ValueError from None
        if self.choices and not set([value] if isinstance(value, str) else value) <= set(self.choices):
            raise ValueError
        return value


def _shown(number: float) -> str:
    return f"{int(number) if number == int(number) else number:,}"


def _read_str(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError
    given.encode()  # lone surrogates cannot be written to a notebook
    return given


def _read_int(given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, int | str):
        raise TypeError
    number = int(given)
    if not -(2**63) <= number <= 2**63:
        raise ValueError
    return number


def _read_float(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise TypeError
    number = float(given)
    if not math.isfinite(number):
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
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list[str]": "texts separated by commas, or a JSON list of texts",
}


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
    comment = comments.get(node.end_lineno or node.lineno, "")
    parameter = Parameter(
        name=node.target.id, type=type_, required=node.value is None, default=None,
        help=_BOUNDS.sub("", comment), minimum=0 if type_ in _NUMBERS else None,
        kind="queue" if node.target.id in QUEUES and type_ in _TEXTS else "",
    )  # fmt: skip
    if bounds := _BOUNDS.search(comment):
        parameter = _with_bounds(parameter, bounds[1])
    if node.value is None:
        return parameter
    default = ast.literal_eval(node.value)
    if isinstance(default, str) and type_ != "str":
        raise ValueError(f"{parameter.name} is {type_}, its default is text")
    optional = parameter.optional or default == ""
    return replace(parameter, optional=optional, default=replace(parameter, optional=optional).value(default))


def _with_bounds(parameter: Parameter, text: str) -> Parameter:
    """The bounds of a comment; raises ValueError for such as its type cannot have."""
    kind, _, apart = text.removesuffix(_EMPTY).partition(" except ")
    if kind in KINDS and parameter.type in _TEXTS:
        names = tuple(name.strip() for name in apart.split(",") if name.strip())
        return replace(parameter, kind=kind, apart=names, optional=text.endswith(_EMPTY))
    if "|" in text and parameter.type in _TEXTS:
        return replace(parameter, choices=tuple(choice.strip() for choice in text.split("|")))
    low, dots, high = text.partition("..")
    if not dots or parameter.type not in _NUMBERS:
        raise ValueError(f"{parameter.name} is {parameter.type} and cannot have the bounds [{text}]")
    read = int if parameter.type == "int" else float
    minimum, maximum = (read(n.replace(",", "").replace("_", "")) if n.strip() else None for n in (low, high))
    return replace(parameter, minimum=minimum, maximum=maximum)
