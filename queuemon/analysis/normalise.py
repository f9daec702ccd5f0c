"""Replaces the parameters of an error message, so that what is left is its cause; `signatures` uses it.

What a value *is* decides, not what was seen elsewhere, so the same text gives the same form in every run and process.
Kept, because they are the meaning: HTTP and SMTP codes, SQLSTATE, errno, exit codes and other error codes, and quoted
names of the program itself (a column, an attribute, a missing key: `KeyError: 'email'` and `KeyError: 'city'` have
different fixes). Replaced: everything else that varies from job to job. The families of placeholders are Sentry's (its
`parameterization`), the idea of constant and variable parts is that of log parsers (He et al., "Drain", ICWS 2017),
which learn from all messages and so cannot give stable ids.

Every pattern is linear, or bounded by a small constant at each position, on text that is bounded itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

from queuemon.analysis import wording
from queuemon.analysis.codes import SHIELD, codes

#: Characters of a message that are read, and of its form that count.
MESSAGE_PART: Final = 3_000
FORM_LIMIT: Final = 400

#: Placeholders are single characters of a private area while the work goes on, and words at the end.
_NUMBER, _ID, _TIME, _URL, _EMAIL, _HOST, _PATH, _TEXT, _DATA = (chr(0xF8E0 + n) for n in range(9))
_MARKS: Final = "\uf8e0-\uf8e8"
_WORDS: Final = dict(
    zip(
        range(0xF8E0, 0xF8E9),
        ("<number>", "<id>", "<time>", "<url>", "<email>", "<host>", "<path>", "<text>", "<data>"),
        strict=True,
    )
)
_SHOWN: Final = _WORDS | {0xF8F0 + d: str(d) for d in range(10)}
_PRIVATE: Final = re.compile("[\uf8e0-\uf8ff]")

Found = re.Match[str]


def form_of(message: str) -> tuple[str, str]:
    """A message without its parameters: once for the id (one mark for all of them), and once for people."""
    text = message[:MESSAGE_PART]
    if not text.isascii():
        text = _plain_characters(text)
    if "\n" in text or "\r" in text:
        text = _lines(text)
    for needs, step in _STEPS:
        if not needs or not needs.isdisjoint(text):
            text = step(text)
    text = _SPACES.sub(" ", text).strip()[:FORM_LIMIT]
    return _PLURAL.sub(lambda m: m[1], _ANY.sub("*", text).casefold()), text.translate(_SHOWN)


def identifier_of(text: str) -> str:
    """The name that quotes hold, its numbers replaced, or "" when it is no name."""
    return _DIGITS.sub("#", text) if _NAME.fullmatch(text) else ""


_SPACES: Final = re.compile(r"\s+")
_DIGITS: Final = re.compile(r"\d+")
_ANY: Final = re.compile(f"[{_MARKS}]")
#: "1 row" and "2 rows" are one text.
_PLURAL: Final = re.compile(r"(\* [a-z]{3,20}?)(?:\(s\)|s|es)?(?![a-z])")
_NAME: Final = re.compile(r"[^\W\d][\w$]{0,63}(?:(?:\.|::|->)[^\W\d][\w$]{0,63}){0,5}(?:\(\))?")
_OTHER_DIGIT: Final = re.compile(r"(?![0-9])\d")


def _plain_characters(text: str) -> str:
    """Full-width letters, other scripts' digits and our own private characters as what they stand for."""
    text = _PRIVATE.sub(" ", unicodedata.normalize("NFKC", text))
    return _OTHER_DIGIT.sub("0", text)


# ------------------------------------------------------------------------------------------------------------- lines

#: What a database or a library adds below its sentence, and says nothing about the cause that the sentence does not.
_ADDED: Final = re.compile(
    r"\s*(?:(?:DETAIL|DÉTAIL|DETALLE): +)?(?:(?:LINE|ZEILE|LIGNE|LÍNEA|行) \d+ ?:|HINT:|HINWEIS:|TIPP:"
    r"|ASTUCE|SUGERENCIA|CONTEXT:|KONTEXT:|CONTEXTE|CONTEXTO|QUERY:|Process \d+ waits"
    r"|Prozess \d+ wartet|\(Background on this error"
    r"|For further information visit|For more information|\^+\s*\Z|Failing row contains|Fehlgeschlagene Zeile"
    r"|La ligne en échec|La fila que falla|\[parameters: )"
)


def _lines(text: str) -> str:
    """At most ten lines, without those that were only added."""
    return " ".join(line for line in text.splitlines()[:30] if line.strip() and not _ADDED.match(line))


# --------------------------------------------------------------------------------------------------- things with a form

_URLS: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:[a-z][a-z0-9+.-]{1,30}://|www\.|arn:|urn:)[^\s\"'<>`|)\]}]++", re.IGNORECASE
)
_URL_END: Final = re.compile(r"[.,;:!?]+\Z")
_EMAILS: Final = re.compile(r"<?(?<![\w.+%=-])(?:\w{1,20}['’])?[\w.+%=-]{1,64}+@[\w-]{1,63}+(?:\.[\w-]{1,63}+){0,6}+>?")
_TAGS: Final = re.compile(r"</?[a-zA-Z!][a-zA-Z0-9]{0,14}(?:\s[^<>]{0,300})?/?>")
_OBJECTS: Final = re.compile(
    r"<(?:[A-Za-z_]\w{0,60}\.){0,8}([A-Za-z_]\w{0,60}(?: object)?) at 0x[0-9A-Fa-f]+>|( object)? at 0x[0-9A-Fa-f]+"
)
_COMMANDS: Final = re.compile(
    r"\bCommand '(?:\[')?([\w./-]{1,200}+)[^\n]{0,2000}?'(?= (?:returned non-zero|timed out|died with))"
)
_PATHS: Final = re.compile(
    r"(?<![\w.<])(?:(?:[A-Za-z]:|\\)?\\[^\s\"'<>|:*?,;()\\]{1,255}(?:\\[^\s\"'<>|:*?,;()\\]{0,255}+)*+"
    r"|(?:~|\.{1,2})?/(?=[\w.@%+-])[^\s\"'<>|*?,;()\[\]{}]++"
    rf"|[\w.@%+-]{{1,100}}+(?:/[\w.@%+=-]{{1,255}}+){{2,}}+|(?:[\w.@%+-]{{1,100}}+/)?[\w@%+-]{{1,100}}+(?:\.[\w@%+-]{{1,40}}+)*?\.(?:{wording.EXTENSIONS})\b)"
)
_HOSTS: Final = re.compile(
    rf"(?<![\w.@/-])(?:[a-z0-9-]{{1,63}}+\.){{1,6}}(?:{wording.TOP})(?![\w-]|\.\w)(?::\d{{1,5}})?"
    rf"|(?<![\w.@/-])(?:[a-z0-9-]{{1,63}}+\.){{2,6}}(?:{wording.WEAK_TOP})(?![\w-]|\.\w)(?::\d{{1,5}})?"
)
_AFTER_NET: Final = re.compile(
    r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EPIPE|ECONNABORTED) "
    r"(?!at\b|for\b|while\b|on\b|when\b|in\b)[\w:.-]{2,200}"
)


def _urls(text: str) -> str:
    return _URLS.sub(lambda m: _URL + (end[0] if (end := _URL_END.search(m[0])) else ""), text)


def _emails(text: str) -> str:
    return _EMAILS.sub(_EMAIL, text)


def _tags(text: str) -> str:
    return _TAGS.sub(" ", _OBJECTS.sub(lambda m: m[1] or m[2] or "", text))


def _commands(text: str) -> str:
    return _COMMANDS.sub(lambda m: f"Command {m[1].rpartition('/')[2]}", text)


def _net(text: str) -> str:
    return _AFTER_NET.sub(lambda m: f"{m[1]} {_HOST}", text)


def _paths(text: str) -> str:
    return _PATHS.sub(lambda m: m[0] if _NO_PATH.match(m[0]) else _PATH, text)


_NO_PATH: Final = re.compile(r"(?:application|text|image|audio|video|multipart)/[a-z]|[\d/.-]+\Z")


def _hosts(text: str) -> str:
    return _HOSTS.sub(_HOST, text)


# ------------------------------------------------------------------------------------------------------ data in braces

_BRACES: Final = re.compile(r"\{[^{}]*+\}")
_OPEN_BRACE: Final = re.compile(r"\{\s*[\"'][^{}]*\Z")
_TELLING: Final = re.compile(
    rf"[\"']?\b({wording.TELLING})[\"']?\s?[:=]\s?(\"[^\"\\]*+(?:\\.[^\"\\]*+)*+\"|'[^'\\]*+(?:\\.[^'\\]*+)*+'|[\w.-]++)"
)
_SMTP_ANSWER: Final = re.compile(rf"[{_EMAIL}][\"']?\s?: ?\(?[\uf8f0-\uf8f9]{{3}}, ?b?[\"']?")


def _braces(text: str) -> str:
    """JSON, dicts and sets: what tells the cause stays (error, code, message, …), the rest is data."""
    for _ in range(4):
        if "{" not in text:
            return text
        text = _BRACES.sub(_data, text)
    return _OPEN_BRACE.sub(_DATA, text)


def _data(found: Found) -> str:
    inside = found[0][1:-1]
    if _SMTP_ANSWER.search(inside):
        return inside
    if not inside.strip():
        return _DATA
    said = []
    for key, value in _TELLING.findall(inside):
        plain = value.strip("\"'")
        if key.lower() in wording.SENTENCES or _NAME.fullmatch(plain) or plain.isdigit():
            said.append(f"{key}: {_CODED.sub(lambda m: m[0].translate(SHIELD), plain) if len(plain) < 7 else plain}")
    kept = re.findall(r"\u27e6[^\u27e7]*\u27e7", inside)
    return f"\u27e6{', '.join(said + kept) or _DATA}\u27e7"


_CODED: Final = re.compile(r"\d+")


# ------------------------------------------------------------------------------------------------------------- quotes

_QUOTES: Final = re.compile(
    r"(?<![\w\"])\"([^\"\\]*+(?:\\.[^\"\\]*+)*+)(?:\"|\Z)"
    r"|(?:(?<!\w)|(?<=[^\w][bur]))'((?:[^'\\]|\\.|'(?=\w)){0,600}+)'(?!\w)"
    r"|`([^`]{0,600}+)[`']|[“„»«]\s?([^“”„»«]{0,600}+)[”“«»]|‘([^‘’]{0,600}+)’(?!\w)|‚([^‘’‚]{0,600}+)‘"
    r"|[「『]([^「」『』]{0,600}+)[」』]",
    re.DOTALL,
)
_BEFORE: Final = re.compile(
    rf"(?:\b(?:{wording.NAMED_BEFORE})\s?[:=(]?\s?|(?:{wording.NAMED_BEFORE_CJK})\s?|\(reading )\Z", re.IGNORECASE
)
_AFTER: Final = re.compile(rf"\s?(?:{wording.NAMED_AFTER})", re.IGNORECASE)
_NEAR: Final = re.compile(r"\b(?:near|token|expected|expecting|for)\s?(?::\s)?\Z", re.IGNORECASE)
_SAYING: Final = re.compile(
    r"(?:\([\uf8f0-\uf8f9]{4}, ?|(?:Error|Exception|Timeout|Refused|Failure|Warning|Denied)\(|b"
    r"|\b(?:error|reason|message|said|cause|caused by|because|fehler|grund|erreur|motivo|mensaje|エラー)\s?[:=]\s?)\Z",
    re.IGNORECASE,
)
_DATUM: Final = re.compile(r"[A-Z]{2,3}|[a-z]{2}[-_][A-Z]{2}")


def _quotes(text: str) -> str:
    return _QUOTES.sub(_quoted, text)


def _quoted(found: Found) -> str:
    inside = (found[found.lastindex or 0] or "").strip()
    start, end = found.span()
    before, after = found.string[max(0, start - 40) : start], found.string[end : end + 40]
    if len(inside) <= 3 and not any(c.isalnum() for c in inside) and (_NEAR.search(before) or after[:4] == " not"):
        return f"'{inside}'"  # punctuation: an operator, a delimiter that was expected
    if inside in wording.TYPES or after.startswith(" codec"):
        return f"'{inside}'"
    name = identifier_of(inside)
    if name and not _DATUM.fullmatch(inside):
        if found[3] is not None and "_" in inside:  # code in backticks
            return f"'{name}'"
        if _BEFORE.search(before) or _AFTER.match(after):
            return f"'{name}'"
    if name and inside.isupper() and _NEAR.search(before):
        return f"'{name}'"
    if _SAYING.search(before) and " " in inside:
        return f" {inside} "
    return _TEXT


# --------------------------------------------------------------------------------------------------------- key=value

_PAIRS: Final = re.compile(
    rf"(?<![\w.])(?!(?i:{wording.TELLING})\b)([A-Za-z_][\w.-]{{0,60}}+)=(?![=>~])(?!\s)(\u27e6[^\u27e7]*+\u27e7|[^\s,;&|)\]}}{_MARKS}]++)"
)
_ROW_KEY: Final = re.compile(r"(\([\w, .:\"]{1,200}\))=\([^()]{0,1000}(?:\)|\Z)")
_ASSIGNED: Final = re.compile(r"\b(ids?|ID|Ids?|refs?|token|sku|slug|hash|uuid|guid|nonce)\s?[:#]\s?[\w/+=.-]{2,200}")


def _pairs(text: str) -> str:
    return _PAIRS.sub(lambda m: f"{m[1]}={_ID}", _ROW_KEY.sub(lambda m: f"{m[1]}={_TEXT}", text))


def _assigned(text: str) -> str:
    return _ASSIGNED.sub(lambda m: f"{m[1]} {_ID}", text)


# ------------------------------------------------------------------------------------------------------------ numbers

#: A run of letters, digits and what may join them that holds a digit.
_TOKENS: Final = re.compile(r"(?<![A-Za-z0-9_.:/+,@#~%=^-])(?=[A-Za-z_.:/+,@#~%=^-]*+[0-9])[A-Za-z0-9_.:/+,@#~%=^-]++")
_SHAPES: Final = re.compile(
    r"(?P<time>\d{4}-\d\d(?:-\d\d)?(?:T?[\d:.]*(?:Z|[+-]\d\d:?\d\d)?)|\d{1,4}/\d{1,2}/\d{1,4}|\d{1,2}\.\d{1,2}\.\d{2,4}|\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)"
    r"|(?P<host>\d{1,3}(?:\.\d{1,3}){3}(?:[:/]\d{1,5})?|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f:.%a-z0-9]*|[a-z][a-z0-9.-]*:\d{2,5})"
    rf"|(?P<number>[+~#-]?\d[\d.,_]*(?:[eE][+-]?\d+)?(?:%|(?:{wording.UNITS}))?|0x[0-9A-Fa-f]+|\d+/\d+)"
    rf"|(?P<id>(?:\d+(?:{wording.UNITS})){{1,5}})"
)
_TRAILING: Final = re.compile(r"[.:/,;=-]+\Z")
_PARTS: Final = re.compile(r"[:,/=]+")


def _token(found: Found) -> str:
    token = found[0]
    trailing = end[0] if (end := _TRAILING.search(token)) else ""
    body = token[: len(token) - len(trailing)]
    if body.lower() in wording.NUMBERED:
        return token.translate(SHIELD)
    if shape := _SHAPES.fullmatch(body):
        kind = {"time": _TIME, "host": _HOST, "number": _NUMBER}.get(shape.lastgroup or "", _NUMBER)
        return kind + trailing
    if not any(sign in body for sign in ":,/="):
        return _ID + trailing
    return _PARTS.sub(lambda m: m[0], "".join(_part(p) for p in re.split(r"([:,/=]+)", body))) + trailing


def _part(part: str) -> str:
    if not any(c.isdigit() for c in part):
        return part
    return _NUMBER if _SHAPES.fullmatch(part) else _ID


_CJK_NUMBER: Final = re.compile(r"\d+(?:[.,]\d+)*")
_UNIT: Final = re.compile(
    rf"{_NUMBER} ?(?:{wording.UNITS}|{wording.CURRENCIES}|%)(?![A-Za-z])|(?:{wording.CURRENCIES}) ?{_NUMBER}"
)
_ZONES: Final = "AM|PM|GMT|UTC|CET|CEST|Z|Uhr"
_DATE: Final = re.compile(
    rf"(?:\b(?:{wording.WEEKDAYS})\.?,? )?"
    rf"(?:[{_NUMBER}{_ID}]\.? (?:de )?(?:{wording.MONTHS})\b\.?|\b(?:{wording.MONTHS})\.? {_NUMBER})"
    rf"(?:,? (?:de )?[{_NUMBER}{_TIME}])*(?: ?(?:{_ZONES})\b)?|{_TIME} ?(?:{_ZONES})\b",
    re.IGNORECASE,
)
#: The pattern is slow, dates in words are rare.
_MONTHS_BEGIN: Final = frozenset(month[:3].lower() for month in wording.MONTHS.split("|"))
#: A day and an hour.
_THEN: Final = re.compile(rf"{_TIME},? (?:um|à|at|a las|kl\.) {_TIME}(?: ?(?:{_ZONES})\b)?")
_IN_BRACKETS: Final = re.compile(r"\[[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}\](?::\d{1,5})?")
#: Base64 that happens to hold no digit.
_LONG: Final = re.compile(r"(?<![\w+/=-])[A-Za-z+/_-]{20,}+={1,2}")


def _numbers(text: str) -> str:
    if "[" in text:
        text = _IN_BRACKETS.sub(_HOST, text)
    text = _CJK_NUMBER.sub(_NUMBER, _TOKENS.sub(_token, text))
    if _NUMBER in text:
        text = _UNIT.sub(_NUMBER, text)
    if _TIME in text or not _MONTHS_BEGIN.isdisjoint([word[:3].lower() for word in _WORD.findall(text)]):
        text = _THEN.sub(_TIME, _DATE.sub(_TIME, text))
    return text


def _long(text: str) -> str:
    return _LONG.sub(_ID, text)


# -------------------------------------------------------------------------------------------------------- named things

_WORD: Final = re.compile(r"[^\W\d_][\w'’]*+")
_NOT_A_NAME: Final = rf"(?!(?i:{wording.NOT_NAMES})(?![\w-]))"
_CALLED: Final = re.compile(
    r"((?: (?:id|name|key|named|called|of))?:? )"
    rf"(?:{_NOT_A_NAME}[\w.]{{1,60}}+(?:[-_/][\w.]{{1,60}}+)+"  # kebab and snake case
    rf"|{_NOT_A_NAME}[a-z][a-z0-9]{{1,40}}(?=[,)\]]| for |\Z)"  # a plain word at the end of the phrase
    rf"|{_NOT_A_NAME}(?<=[a-zß-ÿ] )[A-Z][a-zß-ÿ]{{1,40}}(?: [A-Z][a-zß-ÿ]{{1,40}})?(?! ?\())"  # a proper name
)
_ACTING: Final = re.compile(rf"(:? ){_NOT_A_NAME}[a-z][a-z0-9]{{1,40}}(?= (?:{wording.VERBS})(?![\w-]))")
_LOCALE: Final = re.compile(
    r"\b((?i:locale|language|lang|sprache|langue|idioma|country|land|pays|currency))"
    r"( [A-Za-z]{2,3}(?:[-_][A-Za-z]{2,4})?)(?=[,)\];.]|\s|\Z)"
)
_REGION: Final = re.compile(
    r"\b(?:us|eu|ap|sa|ca|af|me|uk)-(?:north|south|east|west|central|northeast|southeast)(?:[a-z]*-[\w]+)?\b"
)


def _things(text: str) -> str:
    text = _REGION.sub(_ID, text)
    text = _LOCALE.sub(lambda m: m[0] if m[2].strip() in wording.SHORT_WORDS else f"{m[1]} {_ID}", text)
    made, at = "", 0
    for word in _WORD.finditer(text):
        thing = word[0].lower()
        if thing not in wording.THINGS or word.start() < at:
            continue
        name = _CALLED.match(text, word.end())
        if name is None and thing in wording.ACTORS:
            name = _ACTING.match(text, word.end())
        if name is not None:
            made += f"{text[at : word.end()]}{name[1]}{_ID}"
            at = name.end()
    return made + text[at:]


_BOUND: Final = re.compile(rf"%\([{_MARKS}\w]{{1,60}}\)s|%s|\$[{_MARKS}]|(?<![\w?])\?(?=[,)])")
_MANY: Final = re.compile(
    rf"(?:\((?=[{_MARKS}]\)[ -]?[{_MARKS}]))?"
    rf"[{_MARKS}](?:[\s,;/|&()\[\]+×x*@-]{{0,4}}(?:(?:and|und|et|y|or|oder|of|to|bis|から)\s)?[{_MARKS}])+"
)
_WRAPPED: Final = re.compile(rf"[\[(<⟦]\s?([{_MARKS}])\s?[\])>⟧]")


def _many(text: str) -> str:
    """A list of values is one value, however long."""
    if "%" in text or "$" in text or "?" in text:
        text = _BOUND.sub(_DATA, text)
    return _WRAPPED.sub(lambda m: m[1], _MANY.sub(lambda m: m[0].lstrip("(")[0], text))


#: The steps in their order, each with the characters without which it has nothing to do.
_STEPS: Final[tuple[tuple[frozenset[str], Callable[[str], str]], ...]] = tuple(
    (frozenset(needs), step)
    for needs, step in (
        ("0123456789", codes),
        (":.", _urls),
        ("@", _emails),
        ("{", _braces),
        ("<", _tags),
        ("C", _commands),
        ("\"'`“„»«‘‚「『", _quotes),
        ("E", _net),
        ("=", _pairs),
        (":#", _assigned),
        ("/\\.", _paths),
        (".", _hosts),
        ("=", _long),
        ("0123456789", _numbers),
        ("", _things),
        ("".join(chr(c) for c in _WORDS), _many),
    )
)
