"""Every public value of queuemon, found by walking what its functions return, and made with a text in every field."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd

from queuemon import model, runbooks
from queuemon.analysis import durations, explanation, incident, investigation, separation
from queuemon.contract import Keys
from queuemon.drift import aside
from queuemon.drift import model as drift_model
from queuemon.drift.watch import Watch
from queuemon.filters import JobFilter, quote
from queuemon.render.html import Safe
from queuemon.store import deploys, timeline
from queuemon.workbench import Workbench

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)

#: What type hints name that is imported for the type checker alone; a module's own names go first.
_NAMES: dict[str, Any] = {}
for _module in (
    drift_model,
    aside,
    deploys,
    timeline,
    separation,
    durations,
    explanation,
    incident,
    investigation,
    model,
):
    _NAMES |= vars(_module)
_NAMES |= {"pd": pd, "Workbench": Workbench, "Watch": Watch, "Keys": Keys, "Safe": Safe}

#: What no filter can ask for.
_UNASKED = {0: None, 0xD800: None}

#: Values that nobody gets from a function but as an argument of a callback.
_CALLED_BACK = (model.ActionProgress, model.CanaryProgress, runbooks.StepProgress)


def public() -> list[type]:
    """The dataclasses that the Workbench and the runbooks' functions return, and all that these hold, by name."""
    functions = [f for n, f in inspect.getmembers(Workbench, inspect.isfunction) if not n.startswith("_")]
    functions += [f for n in runbooks.__all__ if inspect.isfunction(f := getattr(runbooks, n))]
    found: dict[str, type] = {}
    functions.append(Watch.tick)
    for hint in [*map(_returned, functions), *_CALLED_BACK]:
        _walk(hint, found)
    for name in runbooks.__all__:
        _walk(getattr(runbooks, name), found)
    return [found[name] for name in sorted(found)]


def _returned(function: Any) -> Any:
    only = types.SimpleNamespace(__annotations__={"return": function.__annotations__["return"]})
    return typing.get_type_hints(only, globalns={**_NAMES, **vars(inspect.getmodule(function))})["return"]


def _walk(hint: Any, found: dict[str, type]) -> None:
    for inner in typing.get_args(hint):
        _walk(inner, found)
    if isinstance(hint, type) and is_dataclass(hint) and hint is not JobFilter:
        name = f"{hint.__module__.removeprefix('queuemon.')}.{hint.__name__}"
        if name not in found:
            found[name] = hint
            for inner in hints(hint).values():
                _walk(inner, found)


@cache
def hints(kind: type) -> Mapping[str, Any]:
    """A dataclass's fields with their types."""
    known = typing.get_type_hints(kind, globalns={**_NAMES, **vars(inspect.getmodule(kind))})
    return {f.name: known[f.name] for f in fields(kind)}


def made(kind: type, text: str) -> Any:
    """A value of this kind: `text` wherever a text may stand, one of everything else."""
    found = {name: _part(hint, text) for name, hint in hints(kind).items()}
    return kind(
        **found
        | {name: f"error:{quote(text.translate(_UNASKED))}" for name in ("filter", "where") if found.get(name) == text}
    )


def _part(hint: Any, text: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _part(next(h for h in inner if h is not type(None)), text)
    if origin is tuple:
        return tuple(_part(h, text) for h in inner if h is not Ellipsis)
    if origin is list or origin is Sequence:
        return [_part(inner[0], text)]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_part(inner[0], text): _part(inner[1], text)}
    if hint is Any:
        return {text: [text, {text: text}]}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint))
    if isinstance(hint, type) and is_dataclass(hint):
        return JobFilter.all() if hint is JobFilter else made(hint, text)
    plain: dict[Any, Any] = {
        str: text, int: 7, float: 0.5, bool: True, bytes: text.encode("utf-8", "surrogatepass"), datetime: NOW,
        timedelta: timedelta(minutes=5), UUID: UUID(int=7), Path: Path("runs") / "x.html", object: text,
    }  # fmt: skip
    return plain[hint]
