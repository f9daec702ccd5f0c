"""What of a payload is hidden from screens and exports: names that look secret or personal, values that look like it.

Pure: the views, the command line, static HTML and exports all ask here. docs/masking.md lists the same for people.
Looking at what is hidden is an action of its own (`reveal`), kept in the audit trail.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

#: Stands for a value that is not shown.
MASK: Final = "••••••"

#: Paths of hidden values that are named in the audit trail at most, and values that are looked through for them.
PATHS: Final = 100
LOOKED_THROUGH: Final = 100_000

#: Names of credentials, wherever they stand in a key; then names of what is personal, as the end of a key or all of it.
_SECRET_NAME: Final = re.compile(
    r"(^|[-_ ])pass$|passwor?d|passphrase|secret|token|api[-_ ]?key|authori[sz]ation|^auth$|cookie|credential|bearer"
    r"|dsn$|(access|private|signing|encryption)[-_ ]?key|session[-_ ]?id|^pin$|^otp$|^cv[vc]|jwt|connection[-_ ]?string"
    r"|credit[-_ ]?card|(^|[-_ ])card$|card[-_ ]?(number|no|nr)|^pan$|iban|account[-_ ]?(number|no|nr)$"
    r"|(^|[-_ ])(ssn|sin|nino|dob)$|social[-_ ]security|(national|tax|passport)[-_ ]?(id|number|no|nr)$|passport$"
    r"|birth[-_ ]?(day|date)|date[-_ ]of[-_ ]birth"
    r"|(^|[-_ ])e[-_ ]?mails?([-_ ]?addr(ess)?(es)?)?$"
    r"|(^|[-_ ])((tele|cell)?phones?|mobile|msisdn|fax)([-_ ]?(number|no|nr))?$",
    re.IGNORECASE,
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS: Final = re.compile(r"[-_. ]+")

#: Values, each pattern anchored at something rare, so that no text makes it slow.
_SECRET_VALUE: Final = re.compile(
    # an e-mail address, or user:password@host.tld
    r"(?<=[^\s@<>\"'(),:;\[\]])@(?![0-9]x\.)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,8}\.[A-Za-z]{2,63}(?![\w])"
    r"|://[^/\s:@]{0,200}:[^/\s@]{1,200}@"  # a URL with a password
    r"|(?<![\w-])eyJ[\w-]{6,}\.[\w-]{6,}\."  # a JSON Web Token
    r"|-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY"
    r"|(?<!\w)(?:[Bb]earer|[Bb]asic) [\w.~+/=-]{16}"
    # password=…, or "password": "…" within a text that holds JSON
    r"|(?i:passw(?:or)?d|passphrase|secret|token|api[_-]?key)(?:[\"']?\s{0,2}=|[\"']\s{0,2}:)\s{0,2}[\"']?[^\s\"'&;,]{3}"
    r"|(?<!\w)(?:AKIA|ASIA)[0-9A-Z]{16}(?!\w)|(?<!\w)(?:gh[pousr]_|github_pat_|xox[abpr]-|[sr]k_live_)[\w-]{16}",
)
_CARD: Final = re.compile(
    r"(?<![\w.-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|\d{4}([ -])\d{6}\2\d{4,5})(?!\w)"
)
#: Where card numbers of the large schemes begin, with the lengths they have.
_BRANDS: Final = (
    (re.compile("4"), {13, 16, 19}),
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), {16}),
    (re.compile("3[47]"), {15}),
    (re.compile("6011|65|64[4-9]|35"), {16}),
    (re.compile("3(?:0[0-5]|[68])"), {14}),
    (re.compile("62"), {16, 17, 18, 19}),
)
_IBAN: Final = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")


class Sight(Enum):
    """What holds for the values under a key."""

    LOOK = "shown, unless it looks secret"
    HIDE = "hidden, whatever it is"
    SHOW = "shown, whatever it is"


@dataclass(frozen=True, kw_only=True)
class Masking:
    """What is hidden. Names of keys are compared without case and separators, and may hold `*` and `?`."""

    #: Keys hidden beside those that look secret by themselves.
    hide: tuple[str, ...] = ()
    #: Keys shown although they, or their values, look secret.
    show: tuple[str, ...] = ()
    #: False once an operator has been shown what is hidden: nothing is then.
    on: bool = True

    def hides_key(self, key: str) -> bool:
        """Whether all values under this key are hidden, judged by its name alone."""
        return self.below(key) is Sight.HIDE

    def sight(self, path: Sequence[str]) -> Sight:
        """What holds for the values under a path of keys; hidden, too, where one of the keys is masked itself."""
        found = Sight.LOOK
        for key in path:
            found = self.below(key, found)
        return Sight.HIDE if any(self.name(key) is MASK for key in path) else found

    def below(self, key: object, above: Sight = Sight.LOOK) -> Sight:
        """What holds under this key of an object for whose values `above` holds; list members take on `above`."""
        if not self.on:
            return Sight.SHOW
        if not isinstance(key, str):
            return above
        if self.hide or self.show:
            name = _folded(key)
            if any(fnmatchcase(name, _folded(word)) for word in self.show):
                return Sight.SHOW
            if any(fnmatchcase(name, _folded(word)) for word in self.hide):
                return Sight.HIDE
        if above is Sight.HIDE or _secret_name(key[:200]):
            return Sight.HIDE
        return above

    def hides(self, value: Any, sight: Sight = Sight.LOOK) -> bool:
        """Whether a value that is no object and no list is hidden where `sight` holds; None never is."""
        if not self.on or value is None or sight is Sight.SHOW:
            return False
        return sight is Sight.HIDE or looks_secret(value)

    def name(self, key: object) -> object:
        """The key as it may be shown: one that itself looks like a secret (an address, a card) is a mask."""
        return MASK if self.on and looks_secret(key) else key

    def masked(self, payload: Any) -> Any:
        """The payload as plain values with a mask for each that is hidden; raises RecursionError where too deep."""
        return self._masked(payload, Sight.LOOK) if self.on else payload

    def _masked(self, value: Any, sight: Sight) -> Any:
        if isinstance(value, dict):
            made: dict[Any, Any] = {}
            for key, inner in value.items():
                name = shown = self.name(key)
                n = 1
                while shown in made:
                    n += 1
                    shown = f"{name}({n})"
                made[shown] = self._masked(inner, self.below(key, sight))
            return made
        if isinstance(value, list | tuple):
            return [self._masked(inner, sight) for inner in value]
        return MASK if self.hides(value, sight) else value

    def paths(self, payload: Any) -> tuple[str, ...]:
        """Where hidden values stand, as paths of names without list positions: for the audit trail, never a value.

        At most 100 different ones, of the first 100,000 values.
        """
        found: dict[str, None] = {}
        for n, (path, hidden) in enumerate(self._walk(payload)):
            if hidden:
                found[path] = None
            if len(found) >= PATHS or n >= LOOKED_THROUGH:
                break
        return tuple(found)

    def _walk(self, payload: Any) -> Iterator[tuple[str, bool]]:
        """Each value with its path, and whether it is hidden; without recursion."""
        stack: list[tuple[str, Any, Sight]] = [("", payload, Sight.LOOK)]
        while stack:
            path, value, sight = stack.pop()
            if isinstance(value, dict):
                for key, inner in reversed(value.items()):
                    name = self.name(key)
                    if name is MASK:
                        yield f"{path}.{name}".lstrip("."), True
                    stack.append((f"{path}.{str(name)[:80]}".lstrip(".")[:400], inner, self.below(key, sight)))
            elif isinstance(value, list | tuple):
                stack.extend((path, inner, sight) for inner in reversed(value))
            else:
                yield path or "the whole payload", self.hides(value, sight)

    def at(self, path: Sequence[str], text: str | None) -> str:
        """The beginning of what stands under a path, as text; "" for nothing."""
        sight = self.sight(path)
        if text is None:
            return ""
        if sight is Sight.HIDE:
            return MASK
        return self.text(text, sight) if text[:1] in {"{", "["} else MASK if self.hides(text, sight) else text

    def preview(self, json_text: str) -> str:
        """The same as `text`, kept: a refresh asks for the same rows again."""
        return _preview(self, json_text)

    def text(self, json_text: str, above: Sight = Sight.LOOK) -> str:
        """The beginning of a payload's JSON text, cut anywhere, with a mask for each value that is hidden.

        What the cut runs through is shown to its last whole word: the rest of it could not be judged.
        """
        if not self.on:
            return json_text
        made: list[str] = []
        sights: list[Sight] = []  # of the containers around
        objects: list[bool] = []
        sight, key = above, False
        tokens = list(_TOKEN.finditer(json_text))
        for i, found in enumerate(tokens):
            part = found[0]
            last = i == len(tokens) - 1
            if part in "{[":
                sights.append(sight)
                objects.append(part == "{")
                key = part == "{"
                made.append(part)
            elif part in "}]":
                sight = sights.pop() if sights else above
                if objects:
                    objects.pop()
                made.append(part)
            elif part == ",":
                key = bool(objects) and objects[-1]
                if key and sights:
                    sight = sights[-1]
                made.append(part)
            elif part == ":" or part.isspace():
                made.append(part)
            elif key and part.startswith('"'):
                name, whole = _string(part, last=last and bool(objects))
                sight = self.below(name, sights[-1] if sights else above)
                made.append(json.dumps(self.name(name), ensure_ascii=False) if whole else '"…')
                key = False
            else:
                made.append(self._scalar(part, sight, cut=last and bool(objects)))
        return "".join(made)

    def _scalar(self, part: str, sight: Sight, *, cut: bool) -> str:
        if not part.startswith('"'):
            if part == "null" or (part in {"true", "false"} and sight is not Sight.HIDE):
                return part
            hidden = self.hides(part, sight) or (cut and sight is Sight.LOOK and len(part) > 6)
            return f'"{MASK}"' if hidden else part
        text, whole = _string(part, last=cut)
        if not whole and sight is Sight.LOOK:
            text = _UNJUDGED.sub("", text)
        if self.hides(text, sight):
            return f'"{MASK}"' if whole else f'"{MASK}'
        return part if whole else f"{json.dumps(text, ensure_ascii=False)[:-1]}…"


#: Shows everything: for those who have asked for it, with a reason.
REVEALED: Final = Masking(on=False)

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}\[\]:,]|\s+|[^\s"{}\[\]:,]+', re.DOTALL)
#: The end of a text whose next characters are missing: its last word, and digits that may belong to it.
_UNJUDGED: Final = re.compile(r"[\d -]*\S*\Z")


def looks_secret(value: object) -> bool:
    """Whether a value looks like an e-mail address, a card number, an IBAN, a key or a token."""
    if isinstance(value, int) and not isinstance(value, bool):
        return 10**12 <= value < 10**19 and _is_card(str(value))
    if not isinstance(value, str) or len(value) < 6:
        return False
    if _SECRET_VALUE.search(value):
        return True
    if any(_is_card(found[0]) for found in _CARD.finditer(value)):
        return True
    return any(_is_iban(found[0]) for found in _IBAN.finditer(value))


@lru_cache(maxsize=10_000)
def _secret_name(key: str) -> bool:
    return bool(_SECRET_NAME.search(_CAMEL.sub("_", key).strip()))


@lru_cache(maxsize=4_096)
def _preview(masking: Masking, json_text: str) -> str:
    return masking.text(json_text)


def _folded(name: str) -> str:
    return _SEPARATORS.sub("", name[:200]).casefold()


def _is_card(text: str) -> bool:
    """The check digit of ISO/IEC 7812 (Luhn), and a beginning and length that card numbers have."""
    digits = text.replace(" ", "").replace("-", "")
    if not any(begins.match(digits) and len(digits) in lengths for begins, lengths in _BRANDS):
        return False
    doubled = (int(d) * (2 if n % 2 else 1) for n, d in enumerate(reversed(digits)))
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """The check digits of ISO 13616."""
    code = text.replace(" ", "")
    if not 15 <= len(code) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in code[4:] + code[:4])) % 97 == 1


def _string(part: str, *, last: bool) -> tuple[str, bool]:
    """A JSON string's text, and whether all of it is there."""
    whole = len(part) > 1 and part.endswith('"') and not (last and _odd_backslash(part))
    if whole:
        try:
            return str(json.loads(part, strict=False)), True
        except ValueError:
            whole = False
    body = re.sub(r"\\(?:u[0-9a-fA-F]{0,3})?\Z", "", part[1:])
    try:
        return str(json.loads(f'"{body}"', strict=False)), False
    except ValueError:
        return body, False


def _odd_backslash(part: str) -> bool:
    return (len(part[:-1]) - len(part[:-1].rstrip("\\"))) % 2 == 1
