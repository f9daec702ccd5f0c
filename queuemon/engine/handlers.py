"""Handlers: the application's functions that run jobs, found by queue; and what is kept of their failures."""

from __future__ import annotations

import importlib
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from uuid import UUID

from queuemon.analysis.signatures import NORMALISER_VERSION, sign
from queuemon.errors import ConfigError
from queuemon.store.claims import Failure

#: Characters kept of a failure.
TYPE_LIMIT, MESSAGE_LIMIT, TRACE_LIMIT = 200, 8_000, 64_000


@dataclass(frozen=True, kw_only=True, eq=False)
class JobInHand:
    """A job as its handler sees it."""

    id: UUID
    queue: str
    payload: Any
    #: Generation: together with the id the key under which side effects can be made idempotent.
    gen: int
    #: This attempt, from 1.
    attempt: int
    max_attempts: int
    created_at: datetime
    worker_id: str
    #: Set when the job has been taken away or must be given back: stop soon, the outcome no longer counts.
    cancelled: threading.Event


#: Returns: the attempt succeeded. Raises anything: it failed. An exception may carry `queuemon_error_type` and
#: `queuemon_stack_trace`, which are kept instead of its class and traceback (failures of programs in other languages).
Handler = Callable[[JobInHand], None]


class Handlers:
    """Queue name or pattern → handler; the exact name wins, then the patterns in their order."""

    def __init__(self, by_pattern: Mapping[str, Handler | str]) -> None:
        self._by_pattern: dict[str, Handler] = {
            pattern: load(handler) if isinstance(handler, str) else handler for pattern, handler in by_pattern.items()
        }

    @classmethod
    def of(cls, found: Handlers | Mapping[str, Handler | str] | Handler | str) -> Handlers:
        """Handlers from a mapping, from one function for every queue, or from "module:name" of either."""
        if isinstance(found, str):
            found = load_any(found)
        if isinstance(found, Handlers):
            return found
        return cls(found) if isinstance(found, Mapping) else cls({"*": found})

    def find(self, queue: str) -> Handler | None:
        """The handler of a queue; None when nothing here serves it."""
        exact = self._by_pattern.get(queue)
        if exact is not None:
            return exact
        return next((h for pattern, h in self._by_pattern.items() if fnmatchcase(queue, pattern)), None)


def load(reference: str) -> Handler:
    """The function that "module:function" names; raises ConfigError."""
    found: Handler = load_any(reference)
    if not callable(found):
        raise ConfigError(f"{reference!r} is a {type(found).__name__}", expected="a function of one job")
    return found


def load_any(reference: str) -> Any:
    """The function or mapping that "module:name" names; modules in the working folder are found too."""
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise ConfigError(f"{reference!r} names no handler", expected="module:function, or module:mapping")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"handlers {reference!r} cannot be loaded: {error}",
            expected="module:name that can be imported from here",
            next_step="correct the name, or run from the folder that holds the module",
        ) from None
    if not callable(found) and not isinstance(found, Mapping | Handlers):
        raise ConfigError(f"{reference!r} is a {type(found).__name__}", expected="a function of one job, or a mapping")
    return found


def failure_of(error: BaseException) -> Failure:
    """What is kept of an exception: type, message and trace, such that PostgreSQL can hold them; never raises."""
    named = getattr(error, "queuemon_error_type", None)
    trace = getattr(error, "queuemon_stack_trace", None)
    try:
        message = str(error)
    except Exception as second:
        message = f"(its message cannot be shown: {type(second).__name__})"
    if trace is None:
        try:
            # Without the engine's own frame.
            below = error.__traceback__.tb_next if error.__traceback__ else None
            trace = "".join(traceback.format_exception(type(error), error, below or error.__traceback__))
        except Exception as second:
            trace = f"(its trace cannot be shown: {type(second).__name__})"
    kind, said, stack = (
        clean(str(named or _qualified(type(error))), TYPE_LIMIT),
        clean(message, MESSAGE_LIMIT),
        clean(str(trace), TRACE_LIMIT),
    )
    # Of the texts as they are kept, so that whoever reads the row finds the same.
    signature = sign(kind, said, stack)
    return Failure(
        error_type=kind, message=said, stack_trace=stack, signature=signature.id, signature_version=NORMALISER_VERSION
    )


def _qualified(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def clean(text: str, limit: int) -> str:
    """Text that PostgreSQL can hold: no NUL, no lone surrogate; of a text beyond `limit` the middle is left out."""
    if len(text) > limit:
        head, tail = limit // 4, limit - limit // 4 - 40
        text = f"{text[:head]}\n… {len(text) - head - tail:,} characters …\n{text[-tail:]}"
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
