"""What an edit may write: the JSON text of one job's payload, judged before there is a plan; planning uses it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from queuemon.errors import InvalidValue

#: Characters of a payload at most.
PAYLOAD_LENGTH: Final = 50_000_000

#: What JSON can spell and PostgreSQL cannot keep.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def check(wanted: object, given: Mapping[str, Any]) -> None:
    """Raises InvalidValue unless one job was named, with a payload that is JSON as PostgreSQL takes it."""
    if not isinstance(wanted, tuple) or len(wanted) != 1:
        raise InvalidValue("an edit was not told of one job", expected="the id of a failed or expired job")
    text = given.get("payload")
    if not isinstance(text, str):
        raise InvalidValue("edit was told of no payload", expected="payload=TEXT, its JSON as text")
    if len(text) > PAYLOAD_LENGTH:
        raise InvalidValue(f"the payload has {len(text):,} characters", expected=f"at most {PAYLOAD_LENGTH:,}")
    try:
        value = json.loads(text, parse_constant=_refuse, parse_int=str, parse_float=str, object_pairs_hook=_once)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidValue("the payload holds half of a character", expected="text in Unicode") from None
    except RecursionError:
        raise InvalidValue("the payload is nested too deeply", expected="JSON of a few hundred levels") from None
    except ValueError as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidValue(f"the payload is no JSON{place}", expected="JSON") from None
    if "\0" in text or _NUL.search(text):
        raise InvalidValue("the payload holds the character NUL", expected="JSON that PostgreSQL can keep")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand there once; PostgreSQL would keep the last of several without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise InvalidValue(f"the payload has the key {twice[:60]!r} twice in one object", expected="each key once")
    return found


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)
