"""Blots secrets out of whatever a run leaves behind: the passwords it knows, and what stands behind a telling name."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

from queuemon import config
from queuemon.config import Settings

#: What stands in a secret's place.
BLOT: Final = "[hidden]"

#: A known secret shorter than this is no secret, and blotting it out would tear words apart.
SHORTEST: Final = 4

_MARK: Final = r"""(?:\\?["']|&quot;|&\#34;|&\#39;|&\#x27;)"""

#: `"password": "…"`, `api_key=…`, `Authorization: Bearer …`, as text, JSON or escaped HTML.
#: A word is looked at once and taken whole, so that a megabyte without a space takes no longer than any other.
_TOLD: Final = re.compile(
    rf"""(?P<name>(?<![\w-])(?=[\w-]*?(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key
    |private[_-]?key|authorization|credential|cookie))[\w-]++{_MARK}?\s*+[:=]\s*+)
    (?P<value>(?P<mark>{_MARK})(?:(?!(?P=mark)).)*(?P=mark) | (?:(?:Bearer|Basic)\s+)?[^\s,;&<>"'\\}}\])]+)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)

#: The user and password of a URL.
_IN_URL: Final = re.compile(r"(?<=://)(?=[^\s/@\"'<>]*?:[^\s/@\"'<>])[^\s/@\"'<>]++(?=@)")


class Blotter:
    """Knows the secrets of a run: of its settings and of the environment."""

    def __init__(self, known: Iterable[str]) -> None:
        spellings = {spelt for secret in known if len(secret) >= SHORTEST for spelt in _spellings(secret)}
        longest_first = sorted(spellings, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    @classmethod
    def of(cls, settings: Settings) -> Blotter:
        """Of these settings' URLs and of this process's environment."""
        return cls([*settings.secrets(), *config.environment_secrets()])

    def holds(self, text: str) -> bool:
        """Whether a text holds a secret that is known."""
        return self._known is not None and self._known.search(text) is not None

    def text(self, text: str) -> str:
        """A text without them."""
        if self._known is not None:
            text = self._known.sub(BLOT, text)
        return _TOLD.sub(_hidden, _IN_URL.sub(BLOT, text))

    def value(self, value: Any) -> Any:
        """Whatever JSON can hold, without them: the texts in it, and the values under a telling name."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {k: BLOT if isinstance(v, str) and _telling(k) else self.value(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


def _telling(name: object) -> bool:
    return _TOLD.fullmatch(f"{name}=x") is not None


def _hidden(found: re.Match[str]) -> str:
    mark = found["mark"] or ""
    return f"{found['name']}{mark}{BLOT}{mark}"


def _spellings(secret: str) -> set[str]:
    """A secret as it is, and as HTML, URLs, JSON and Python's repr spell it."""
    return {
        secret, html.escape(secret), quote(secret, safe=""), json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1],
    }  # fmt: skip
