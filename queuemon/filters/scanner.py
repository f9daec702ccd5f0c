"""Characters of a filter: spaces, keywords and quoted texts; the parser stands on it."""

from __future__ import annotations

import re

from queuemon.filters.values import Token, refused, shown

_SPACE = re.compile(r"\s*")
_KEYWORD = re.compile(r"(and|or|not)(?=[\s()'\"]|$)", re.IGNORECASE)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "'": "'", '"': '"', "\\": "\\"}


class Scanner:
    """A text and how far it has been read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def quoted(self) -> Token:
        """The quoted text that begins here; raises FilterError where it never ends or an escape is wrong."""
        start = self.at
        quote, text = self.text[start], self.text
        made: list[str] = []
        at = start + 1
        while at < len(text) and text[at] != quote:
            if text[at] != "\\" or at + 1 == len(text):
                made.append(text[at])
                at += 1
            elif text[at + 1] in "uU":
                char, at = self._code_point(at)
                made.append(char)
            else:
                # An unknown escape keeps its backslash: `\%` reaches the pattern of `~` as it is.
                made.append(_ESCAPES.get(text[at + 1], text[at : at + 2]))
                at += 2
        if at >= len(text):
            raise refused(f"a {quote} is never closed", start, expected=f"another {quote} after the text")
        self.at = at + 1
        return Token("".join(made), True, start)

    def _code_point(self, at: int) -> tuple[str, int]:
        r"""The character of `\uXXXX` or `\UXXXXXXXX` and where it ends."""
        length = 4 if self.text[at + 1] == "u" else 8
        digits = self.text[at + 2 : at + 2 + length]
        code = int(digits, 16) if re.fullmatch(rf"[0-9A-Fa-f]{{{length}}}", digits) else -1
        if code <= 0 or 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
            raise refused(
                f"{shown(self.text[at : at + 2 + length])} is no character",
                at,
                expected=r"\u and four, or \U and eight hexadecimal digits, or \\ for a backslash",
            )
        return chr(code), at + 2 + length

    def skip(self) -> None:
        """Step over spaces."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def end(self) -> bool:
        """Whether everything is read."""
        return self.at >= len(self.text)

    def boundary(self) -> bool:
        """Whether a condition could end here."""
        return self.end() or self.text[self.at].isspace() or self.text[self.at] in "()"

    def separated(self) -> None:
        """Refuse what follows a condition without a space."""
        if self.boundary() and not self.text.startswith("(", self.at):
            return
        char = self.text[self.at]
        hint = "write field in (a, b) for several values" if char == "," else "put the whole value in quotes"
        raise refused(
            f"{shown(char)} follows a condition directly", self.at, expected='a space, ")" or the end', next_step=hint
        )

    def keyword(self) -> str | None:
        """`and`, `or` or `not`, when it stands here."""
        match = _KEYWORD.match(self.text, self.at)
        return match[1].lower() if match else None

    def take_keyword(self, word: str) -> bool:
        """Read this keyword; False when it does not stand here."""
        self.skip()
        if self.keyword() != word:
            return False
        self.at += len(word)
        return True
