"""Failure signatures: an id per cause of failure, from the error's type, the application's own frames and its message.

Pure and the same in every process, so the worker stores it with the attempt, and whoever reads an attempt that has
none yet gets the same one. Sentry's default grouping (type, in-app frames, parameterised message) is the model.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from queuemon.analysis.frames import TRACE_PART, Trace, read_trace, shortened
from queuemon.analysis.normalise import MESSAGE_PART, form_of, identifier_of

#: Goes up with every change after which any text may get another id; stored beside each signature.
NORMALISER_VERSION: Final = 1

#: Characters of an id: 48 bits, so ten thousand causes collide once in five million.
ID_LENGTH: Final = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """One cause of failure."""

    #: Twelve hexadecimal digits, the same in every run for the same normaliser.
    id: str
    error_type: str
    #: The message with its parameters replaced by what they are: "no route to <host>"; hostile text.
    text: str
    #: The application's own frames, the innermost last.
    frames: tuple[str, ...]


#: Type, message and trace of a failed attempt, each None where nothing was written.
Texts = tuple[str | None, str | None, str | None]

#: A shorter message may stand in a trace by chance.
LONG_ENOUGH: Final = 8

_TRACE_BEGINS: Final = re.compile(
    r"^(?:Traceback \(most recent call last\):|    at \S|\tat \S|\s+File \")", re.MULTILINE
)
_TYPED: Final = re.compile(
    r"([A-Za-z_][\w.$]{0,150}?(?:Error|Exception|Timeout|Refused|Failure|Warning|Exit|Interrupt))(?:: |\Z)"
)
_BY_NAME: Final = frozenset(
    {"KeyError", "AttributeError", "NameError", "LookupError", "UndefinedError", "MultiValueDictKeyError"}
)


def sign(error_type: str | None, message: str | None, stack_trace: str | None) -> Signature:
    """The signature of a failed attempt; never raises, whatever the texts hold. About 50 µs, at most a few ms."""
    kind, said, trace = _told(error_type or "", message or "", stack_trace or "")
    hashed, shown = _forms(kind, said)
    cause = ("", "")
    if trace.cause_type:
        cause = (trace.cause_type.rpartition(".")[2], _forms(trace.cause_type, trace.cause_message)[0])
    parts = (str(NORMALISER_VERSION), kind.rpartition(".")[2], hashed, *cause, *trace.frames)
    key = hashlib.blake2b("\0".join(parts).encode("utf-8", "replace"), digest_size=ID_LENGTH // 2)
    return Signature(id=key.hexdigest(), error_type=kind, text=shown, frames=trace.frames)


def sign_all(attempts: Iterable[Texts]) -> Iterator[Signature]:
    """The signature of each attempt, in their order; what repeats is looked at once."""
    known: dict[Texts, Signature] = {}
    for texts in attempts:
        found = known.get(texts)
        if found is None:
            found = known[texts] = sign(*texts)
        yield found


def _told(kind: str, said: str, stack: str) -> tuple[str, str, Trace]:
    """Type, message and trace, each from where it was written: some workers put all three into the message."""
    said = shortened(said, MESSAGE_PART)
    if not stack and (begins := _TRACE_BEGINS.search(said)):
        stack = said
        said = said[: begins.start()].strip()
    trace = _read_trace(shortened(_untold(stack, said), TRACE_PART))
    if not said:
        said = trace.message
    if found := _TYPED.match(said):
        if not kind:
            kind = found[1]
        if kind.rpartition(".")[2] == found[1].rpartition(".")[2]:
            said = said[found.end() :]
    return kind or trace.error_type, said, trace


def _untold(stack: str, said: str) -> str:
    """A trace without the message that is known already: what varies least is read once."""
    if len(said) < LONG_ENOUGH:
        return stack
    if stack.endswith(said):
        return stack[: -len(said)] + "…"
    return stack.replace(said, "…", 1)


_read_trace = lru_cache(maxsize=1_000)(read_trace)


@lru_cache(maxsize=4_000)
def _forms(kind: str, said: str) -> tuple[str, str]:
    """The message for the id and for people; where the type says that it is a name, the name."""
    if kind.rpartition(".")[2] in _BY_NAME and said[:1] in ("'", '"') and said.find(said[0], 1) == len(said) - 1:
        name = identifier_of(said[1:-1])
        if name and not (name.isupper() and len(name) <= 3):
            return f"'{name}'", f"'{name}'"
        if " " in said:
            said = said[1:-1]
    return form_of(said)
