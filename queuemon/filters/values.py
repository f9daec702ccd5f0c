"""Values of the filter language: what the text of a token means for the field it is compared with."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from queuemon.contract import Keys
from queuemon.errors import FilterError
from queuemon.filters.fields import MAX_INTEGER, MAX_NUMBER, MAX_SPAN_MS, STATUSES, Field, Kind, Op
from queuemon.filters.tree import At, Clock, Constant, Moment, Now, Number, Precision, Span, Text, Value

UNITS: Final = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}

#: JSON's spelling of a number.
NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
CONSTANTS: Final = frozenset({"true", "false", "null"})

_SPAN = re.compile(r"(?:[0-9]{1,15}(?:ms|[wdhms]))+")
_SPAN_PART = re.compile(r"([0-9]+)(ms|[wdhms])")
_NOW = re.compile(r"now(?:([+-])(.+))?", re.IGNORECASE)
_AT = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?(Z|[+-]\d{2}:?\d{2})?)?",
    re.ASCII | re.IGNORECASE,
)
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")
_ID_PREFIX = re.compile(r"[0-9a-f]{0,8}|[0-9a-f]{8}(?:-[0-9a-f]{0,4}|(?:-[0-9a-f]{4}){1,3}-[0-9a-f]{0,12})")

_KEYS = Keys()

#: What the messages call the values of a kind.
EXPECTED: Final = {
    Kind.ID: "a job id such as 0199a7c2-6b1e-7d44-8a54-0f3c1d2e4b5a",
    Kind.QUEUE: "the name of a queue such as email-sending:high",
    Kind.STATUS: f"one of {', '.join(STATUSES)}",
    Kind.WORD: "a word, or a text in quotes",
    Kind.TEXT: "a word, or a text in quotes",
    Kind.SIGNATURE: "a signature such as ab12cd34",
    Kind.NUMBER: "a whole number",
    Kind.MOMENT: "a time such as 2026-11-24, 2026-11-24T14:03, 14:03, now or now-2h (all UTC)",
    Kind.SPAN: "a duration such as 30s, 5m, 2h, 1d, 1w or 1h30m",
    Kind.PAYLOAD: "a number, true, false, null, a word, or a text in quotes",
    Kind.LENGTH: "a whole number",
}


@dataclass(frozen=True, slots=True)
class Token:
    """A value as it was typed."""

    text: str
    quoted: bool
    position: int


def typed(field: Field, op: Op, token: Token) -> Value:
    """The value a token stands for beside this field. Raises FilterError where it cannot mean one."""
    if field.nullable and token.text == "null" and not token.quoted and op in {Op.EQ, Op.NE, Op.IN}:
        return Constant("null")
    match field.kind:
        case Kind.PAYLOAD:
            return _json(op, token)
        case Kind.QUEUE:
            return Text(token.text if op is Op.LIKE else _KEYS.queue_name(token.text))
        case Kind.STATUS:
            return _status(token)
        case Kind.ID:
            return _id(op, token)
        case Kind.NUMBER | Kind.LENGTH:
            return _integer(field, token)
        case Kind.MOMENT:
            return _moment(field, token)
        case Kind.SPAN:
            return Span(milliseconds(token.text, token.position))
        case Kind.WORD | Kind.TEXT | Kind.SIGNATURE:
            return Text(token.text)


def shown(text: str, limit: int = 40) -> str:
    """A text of the filter inside a message: quoted, clipped, with nothing unprintable."""
    clipped = text if len(text) <= limit else text[: limit - 1] + "…"
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in clipped) + '"'


def refused(found: str, position: int, *, expected: str = "", next_step: str = "") -> FilterError:
    """A FilterError that says where; `found` completes "at column N of the filter …"."""
    return FilterError(
        f"at column {position + 1} of the filter {found}", expected=expected, next_step=next_step, position=position
    )


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    close = difflib.get_close_matches(word.lower()[:100], list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def _wrong(field: Field, token: Token, next_step: str = "") -> FilterError:
    return refused(
        f"{field.name} cannot be {shown(token.text)}",
        token.position,
        expected=EXPECTED[field.kind],
        next_step=next_step,
    )


def _json(op: Op, token: Token) -> Value:
    if token.quoted or op is Op.LIKE:
        return Text(token.text)
    if token.text in CONSTANTS:
        if op in {Op.LT, Op.LE, Op.GT, Op.GE}:
            raise refused(f"{token.text} has no order", token.position, expected="a number or a text after " + op.value)
        return Constant(token.text)
    if not NUMBER.fullmatch(token.text):
        return Text(token.text)
    exponent = re.split("[eE]", token.text)[1:]
    if len(token.text) > MAX_NUMBER or (exponent and abs(int(exponent[0])) > MAX_NUMBER):
        raise refused(
            f"the number {shown(token.text)} is too large",
            token.position,
            expected=f"at most {MAX_NUMBER} digits, and exponents up to {MAX_NUMBER}",
            next_step="put it in quotes if it is a text",
        )
    return Number(token.text)


def _status(token: Token) -> Text:
    word = token.text.lower()
    if word in STATUSES:
        return Text(word)
    meant = nearest(word, STATUSES)
    raise refused(
        f"there is no status {shown(token.text)}",
        token.position,
        expected=EXPECTED[Kind.STATUS],
        next_step=f"write status:{meant}" if meant else "",
    )


def _id(op: Op, token: Token) -> Text:
    word = token.text.strip().lower()
    if op is Op.LIKE:
        if word and _ID_PREFIX.fullmatch(word):
            return Text(word)
        raise refused(
            f"no id begins with {shown(token.text)}",
            token.position,
            expected="the first characters of a job id such as 0199a7c2-6b1e",
        )
    try:
        return Text(str(UUID(word)))
    except ValueError:
        partial = bool(_ID_PREFIX.fullmatch(word))
        raise refused(
            f"{shown(token.text)} is no job id",
            token.position,
            expected=EXPECTED[Kind.ID],
            next_step=f"write id~{word} for the ids that begin so" if word and partial else "",
        ) from None


def id_range(prefix: str) -> tuple[UUID, UUID] | None:
    """First and last id that begin so; None when no id does."""
    word = prefix.strip().lower()
    if not word or not _ID_PREFIX.fullmatch(word):
        return None
    digits = word.replace("-", "")
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


def _integer(field: Field, token: Token) -> Number:
    if not re.fullmatch(r"-?[0-9]{1,20}", token.text):
        raise _wrong(field, token)
    value = int(token.text)
    if abs(value) > MAX_INTEGER:
        raise refused(f"{token.text} is too large", token.position, expected=f"a whole number up to {MAX_INTEGER}")
    return Number(str(value))


def milliseconds(text: str, position: int) -> int:
    """A duration's text as milliseconds. Raises FilterError for anything else, and beyond a hundred years."""
    word = text.strip().lower()
    if not _SPAN.fullmatch(word):
        bare = re.fullmatch(r"[0-9]{1,15}", word)
        raise refused(
            f"{shown(text)} is no duration",
            position,
            expected=EXPECTED[Kind.SPAN],
            next_step=f"write {word}s for seconds or {word}m for minutes" if bare else "",
        )
    total = sum(int(number) * UNITS[unit] for number, unit in _SPAN_PART.findall(word))
    if total > MAX_SPAN_MS:
        raise refused(f"{shown(text)} is too long", position, expected="a duration up to a hundred years (36500d)")
    return total


def _moment(field: Field, token: Token) -> Moment:
    word = token.text.strip()
    if now := _NOW.fullmatch(word):
        if not now[1]:
            return Now()
        offset = token.position + (0 if token.quoted else now.start(2))
        shift = milliseconds(now[2], offset)
        return Now(shift if now[1] == "+" else -shift)
    if clock := _CLOCK.fullmatch(word):
        hours, minutes, seconds = int(clock[1]), int(clock[2]), int(clock[3] or 0)
        return Clock(
            timedelta(hours=hours, minutes=minutes, seconds=seconds),
            Precision.SECOND if clock[3] else Precision.MINUTE,
        )
    if found := _AT.fullmatch(word):
        try:
            return _at(found)
        except (ValueError, OverflowError):
            raise _wrong(field, token) from None
    hint = ""
    if _SPAN.fullmatch(word.lower()):
        hint = f"write {field.name}>now-{word} for the last {word}"
        if field.name == "created":
            hint += f", or age<{word}"
    raise _wrong(field, token, hint)


def _at(found: re.Match[str]) -> At:
    """The time of a match; ValueError or OverflowError where no calendar has it."""
    day, minute, second, fraction, zone = found.groups()
    precision = (
        Precision.EXACT if fraction else Precision.SECOND if second else Precision.MINUTE if minute else Precision.DAY
    )
    text = f"{day}T{minute or '00:00'}:{second or '00'}.{(fraction or '').ljust(6, '0')}"
    offset = "+00:00" if zone is None or zone in "zZ" else zone
    start = datetime.fromisoformat(text + offset).astimezone(UTC)
    if not 1000 <= start.year <= 9998:
        raise ValueError
    return At(start, precision)
