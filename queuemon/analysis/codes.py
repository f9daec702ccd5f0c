"""Tells the codes in an error message, which are its meaning, from the numbers, which are parameters; `normalise` asks.

Codes: HTTP and SMTP status, SQLSTATE, errno, exit codes, and the numbered errors of databases and compilers.
"""

from __future__ import annotations

import re
from typing import Final

from queuemon.analysis import wording

#: Digits of a code that is kept hide here until the numbers have been replaced.
SHIELD: Final = str.maketrans({str(d): chr(0xF8F0 + d) for d in range(10)})

Found = re.Match[str]

#: What may be a code: a number, or capitals and digits.
_CANDIDATES: Final = re.compile(
    r"(?<![A-Za-z0-9_.])-?(?:\d{1,6}(?:\.\d{1,3}){0,2}|0x[0-9A-Fa-f]{1,8}|[0-9A-Z]{5}|[A-Z]{1,8}-?\d{3,6})(?![A-Za-z0-9_]|\.\d)"
)
_ENHANCED: Final = re.compile(r"[245]\.[0-7]\.\d{1,3}")
_REPLY: Final = re.compile(r"(?:\A|[245]\d\d[ -]#?|[#'\"(\uf8f0-\uf8f9]|\\n|: )\Z")
_REASON: Final = re.compile(rf":? (?:{wording.REASONS})|[ -]#?[245]\.\d{{1,3}}\.\d|, b?['\"]")
_SAID: Final = re.compile(r"(?:\A|: |['\"(])\Z")
_ANSWER: Final = re.compile(r"[ -][A-Z<]")
_QUANTITY: Final = re.compile(rf" ?(?:{wording.UNITS})\b| [a-z]{{3,30}}s\b|[.,:-]\d")
_PREFIXED: Final = re.compile(rf"(?:{wording.PREFIXES})-?\d+")
_BETWEEN: Final = " :=([\"'#-"


def codes(text: str) -> str:
    """The text with the digits of its codes replaced by those of `SHIELD`."""
    return _CANDIDATES.sub(_code, text)


def _code(found: Found) -> str:
    """The number itself, hidden from the steps that follow, where it is a code; else as it stands."""
    code, text, (start, end) = found[0], found.string, found.span()
    before = text[max(0, start - 24) : start].lower().rstrip(_BETWEEN)
    if len(code) == 3 and code.isdigit():
        kept = "100" <= code < "600" and bool(
            _REASON.match(text, end) is not None
            or (before.endswith(wording.STATUS) and not _QUANTITY.match(text, end))
            or (
                code[0] in "245"
                and _SAID.search(text[max(0, start - 3) : start])
                and _ANSWER.match(text, end)
                and not _QUANTITY.match(text, end)
            )
        )
        kept = kept or (before.endswith(wording.CODE) and not _QUANTITY.match(text, end))
    elif _ENHANCED.fullmatch(code):
        kept = text[end : end + 1] != "-" and _REPLY.search(text[max(0, start - 6) : start]) is not None
        kept = kept and not before.endswith(("version", "release"))
    elif _PREFIXED.fullmatch(code):
        kept = True
    elif code[0].isupper() and "-" in code:
        kept = text[end : end + 1] == ":"
    elif len(code) == 4 and code.isdigit() and text[start - 1 : start] == "(" and text[end : end + 1] == ",":
        kept = text[end : end + 3].strip(", ")[:1] in ("'", '"')
    else:
        kept = before.endswith(wording.CODE) and _QUANTITY.match(text, end) is None
    return code.translate(SHIELD) if kept else code
