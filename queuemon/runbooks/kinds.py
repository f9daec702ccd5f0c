"""What the text of a parameter stands for, where its type alone does not tell: judged before anything runs.

A parameter says so in brackets: `since: str = ""  # since then [moment]`; `queue` and `queues` are queues by name.
Whether a queue exists is asked of the store, once, when the run is about to start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from queuemon.actions.queue_plans import end_of_pause
from queuemon.errors import FilterError, InvalidValue
from queuemon.filters import JobFilter, quote
from queuemon.filters.values import milliseconds

#: Names that mean a queue without saying so.
QUEUES: Final = ("queue", "queues")

_SIGNATURE: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a text may stand for."""

    #: What it takes, in words.
    expected: str
    #: Raises an error of usage for a text that is none.
    judge: Callable[[str], object]


def moment(text: str) -> str:
    """An age or a time of the past as the filter language spells it; raises FilterError for what is neither."""
    word = text.strip().removeprefix("now-")
    try:
        milliseconds(word, 0)
    except FilterError:
        word = quote(word) if " " in word else word
        JobFilter.parse(f"finished>={word}")
        return word
    return f"now-{word}"


def _queue(text: str) -> None:
    if not text.strip():
        raise InvalidValue("a queue without a name")


def _signature(text: str) -> None:
    if not _SIGNATURE.fullmatch(text):
        raise InvalidValue("no signature")


KINDS: Final[Mapping[str, Kind]] = {
    "queue": Kind(expected="the name of a queue", judge=_queue),
    "moment": Kind(expected="an age such as 2h, or a time such as 2026-10-03T14:03 (UTC)", judge=moment),
    "end": Kind(
        expected="a duration such as 30m, or a time to come such as 2026-10-03T14:00 (UTC), at most a year ahead",
        judge=lambda text: end_of_pause(text, datetime.now(UTC)),
    ),
    "signature": Kind(
        expected="a signature of 16 hexadecimal digits, as `queuemon failures` shows it", judge=_signature
    ),
}  # fmt: skip
