"""Reads the filter language by recursive descent (grammar in docs/filter.md); every refusal is a FilterError."""

from __future__ import annotations

import re
from typing import Final

from queuemon.errors import FilterError
from queuemon.filters.fields import (
    ALIASES,
    FIELDS,
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_PATH,
    MAX_TERMS,
    STATUSES,
    Field,
    Kind,
    Op,
    operator_texts,
)
from queuemon.filters.scanner import Scanner
from queuemon.filters.tree import And, Node, Search, Term, both, either, negated
from queuemon.filters.values import EXPECTED, Token, nearest, refused, shown, typed

#: Words that are not values and not search words unless quoted.
KEYWORDS: Final = frozenset({"and", "or", "not", "in", "has"})

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_SYMBOL = re.compile(r":|\s*(==|=~|!~|<>|=>|=<|&&|\|\||!=|<=|>=|=|<|>|~)")
_WORD_OPERATOR = re.compile(r"\s+(not\s+)?(in|has)(?=[\s()'\"]|$)", re.IGNORECASE)
_BARE = re.compile(r"[^\s()'\",=<>~!:][^\s()'\",]*")
_LENGTH = re.compile(r"\s+length(?=\s*[=<>!~:]|\s+(not\s+)?(in|has)\b)", re.IGNORECASE)
_SEGMENT = re.compile(r"[^\s.()'\",=<>!~:]+")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")

#: What other languages write, and what it is called here.
_FOREIGN = {
    "==": "=",
    "=~": "~",
    "!~": "not field~value",
    "<>": "!=",
    "=>": ">=",
    "=<": "<=",
    "&&": "and",
    "&": "and",
    "||": "or",
    "|": "or",
}


def parse(text: str) -> Node:
    """The tree of a filter; the empty text matches everything. Raises FilterError, and nothing else, for any text."""
    if not isinstance(text, str):
        raise FilterError(f"the filter is a {type(text).__name__}", expected="text such as status:failed")
    if len(text) > MAX_LENGTH:
        raise refused(
            f"there is more than fits: it has {len(text):,} characters",
            MAX_LENGTH,
            expected=f"at most {MAX_LENGTH:,} characters",
            next_step="narrow it with fewer, wider conditions",
        )
    for position, char in enumerate(text):
        if char == "\0" or "\ud800" <= char <= "\udfff":
            raise refused(f"stands U+{ord(char):04X}, which no stored text can hold", position, expected="other text")
    return _Parser(text).whole()


class _Parser(Scanner):
    """One pass over one text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.terms = 0
        self.depth = 0

    # -- structure

    def whole(self) -> Node:
        self.skip()
        if self.end():
            return And(())
        node = self._or()
        if not self.end():
            raise refused('there is a ")" that nothing opened', self.at, expected="the end or another condition")
        return node

    def _or(self) -> Node:
        nodes = [self._and()]
        while self.take_keyword("or"):
            nodes.append(self._and())
        return either(*nodes)

    def _and(self) -> Node:
        nodes = [self._unary()]
        while True:
            self.skip()
            if self.end() or self.text[self.at] == ")" or self.keyword() == "or":
                return both(*nodes)
            self.take_keyword("and")
            nodes.append(self._unary())

    def _unary(self) -> Node:
        self.skip()
        start = self.at
        if self.end():
            raise refused("a condition is missing", start, expected="a condition such as status:failed")
        if self.take_keyword("not"):
            self._deeper(start)
            node = negated(self._unary())
            self.depth -= 1
            return node
        if word := self.keyword():
            raise refused(
                f'"{word}" stands where a condition belongs', start, expected="a condition on each side of it"
            )
        if self.text[start] == "(":
            return self._group(start)
        return self._condition()

    def _group(self, start: int) -> Node:
        self.at += 1
        self._deeper(start)
        self.skip()
        if not self.end() and self.text[self.at] == ")":
            raise refused("the parentheses are empty", start, expected="a condition between them")
        node = self._or()
        if self.end():
            raise refused('a "(" is never closed', start, expected='a ")" after the condition')
        self.at += 1
        self.depth -= 1
        return node

    def _deeper(self, start: int) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise refused(
                f"the nesting goes deeper than {MAX_DEPTH}",
                start,
                expected=f"at most {MAX_DEPTH} levels of ( ) and not",
            )

    # -- conditions

    def _condition(self) -> Node:
        start = self.at
        name = _NAME.match(self.text, start)
        if name is None:
            return self._search(start)
        self.at = name.end()
        word = name[0].lower()
        field = FIELDS.get(ALIASES.get(word, word))
        path = self._path() if field is not None and field.kind is Kind.PAYLOAD else ()
        if field is not None and field.kind is Kind.PAYLOAD and (behind := _LENGTH.match(self.text, self.at)):
            field, self.at = FIELDS["length"], behind.end()
        elif field is not None and field.kind is Kind.LENGTH and (self.boundary() or _SYMBOL.match(self.text, self.at)):
            raise refused(
                f"{shown(name[0])} stands without a path",
                start,
                expected="the path of a list before it, such as payload.tags length>=3",
                next_step="put it in quotes to search for the word",
            )
        symbol = _SYMBOL.match(self.text, self.at)
        if symbol is not None:
            return self._compared(field, name, path, symbol)
        spelled = _WORD_OPERATOR.match(self.text, self.at)
        listed = spelled is not None and self.text[spelled.end() :].lstrip().startswith("(")
        if spelled is not None and (field is not None or listed):
            return self._worded(field, name, path, spelled)
        if field is not None and self.boundary():
            raise refused(
                f"{shown(self.text[start : self.at])} stands without a comparison",
                start,
                expected=f"one of {' '.join(operator_texts(field, root=_is_root(field, path)))} after it",
                next_step="put it in quotes to search for the word",
            )
        return self._search(start)

    def _search(self, start: int) -> Node:
        self.at = start
        if self.text[start] in "'\"":
            token = self.quoted()
        else:
            bare = _BARE.match(self.text, start)
            if bare is None:
                raise self._misplaced(start)
            word = bare[0]
            if word.lower() in STATUSES:
                raise refused(
                    f"{shown(word)} stands alone",
                    start,
                    expected=f"status:{word.lower()}",
                    next_step="put it in quotes, with its neighbours, to search error messages for it",
                )
            if word in _FOREIGN:
                raise refused(f"stands {shown(word)}", start, expected=_FOREIGN[word])
            self.at = bare.end()
            token = Token(word, False, start)
        if not token.text.strip():
            raise refused("the text to search for is empty", start, expected="a word, or a text in quotes")
        self.separated()
        self._counted(start)
        return Search(token.text)

    def _misplaced(self, start: int) -> FilterError:
        """The refusal of a character that begins no condition."""
        char = self.text[start]
        if char == ",":
            return refused('there is a "," outside a list', start, expected="field in (a, b) for several values")
        if char == "!":
            return refused('there is a "!" before a condition', start, expected="not")
        return refused(f"there is no field before {shown(char)}", start, expected=f"one of {', '.join(FIELDS)}")

    def _compared(
        self, field: Field | None, name: re.Match[str], path: tuple[str | int, ...], m: re.Match[str]
    ) -> Node:
        """A condition with an operator of signs."""
        sign, position = m[0].strip(), m.start() + len(m[0]) - len(m[0].lstrip())
        if sign in _FOREIGN:
            raise refused(f"{sign} is no operator here", position, expected=_FOREIGN[sign])
        known = self._known(field, name)
        op = Op.EQ if sign == ":" and known.kind is not Kind.TEXT else Op(sign)
        self._allowed(known, op, path, position, sign)
        self.at = m.end()
        token = self._value(known, f"after {sign}")
        self.separated()
        self._counted(token.position)
        return Term(known.name, op, (typed(known, op, token),), path)

    def _worded(self, field: Field | None, name: re.Match[str], path: tuple[str | int, ...], m: re.Match[str]) -> Node:
        """A condition with `in`, `not in` or `has`."""
        known = self._known(field, name)
        op = Op(m[2].lower())
        self._allowed(known, op, path, m.start(2), op.value)
        self.at = m.end()
        if op is Op.HAS:
            token = self._value(known, "after has")
            self._counted(token.position)
            node: Node = Term(known.name, op, (typed(known, op, token),), path)
        else:
            values = tuple(dict.fromkeys(typed(known, op, token) for token in self._list(known)))
            node = Term(known.name, op if len(values) > 1 else Op.EQ, values, path)
        self.separated()
        return negated(node) if m[1] else node

    def _known(self, field: Field | None, name: re.Match[str]) -> Field:
        if field is not None:
            return field
        meant = nearest(name[0], [*FIELDS, *ALIASES])
        raise refused(
            f"there is no field {shown(name[0])}",
            name.start(),
            expected=f"one of {', '.join(FIELDS)}",
            next_step=f"write {meant}" if meant else "put it in quotes to search error messages for it",
        )

    def _allowed(self, field: Field, op: Op, path: tuple[str | int, ...], position: int, sign: str) -> None:
        allowed = operator_texts(field, root=_is_root(field, path))
        if sign in allowed:
            return
        what = "payload without a path" if _is_root(field, path) else field.name
        hint = "write payload.key=value" if _is_root(field, path) else ""
        raise refused(f"{what} cannot be compared with {sign}", position, expected=" ".join(allowed), next_step=hint)

    def _list(self, field: Field) -> list[Token]:
        self.skip()
        start = self.at
        if self.end() or self.text[start] != "(":
            raise refused("a list is missing after in", start, expected=f"{field.name} in (a, b)")
        self.at += 1
        tokens = []
        while True:
            token = self._value(field, "in the list")
            self._counted(token.position)
            tokens.append(token)
            self.skip()
            if self.end():
                raise refused("the list is never closed", start, expected='a ")" after the last value')
            char = self.text[self.at]
            if char not in ",)":
                raise refused(f"{shown(char)} follows a value of the list", self.at, expected='"," or ")"')
            self.at += 1
            if char == ")":
                return tokens

    def _value(self, field: Field, where: str) -> Token:
        self.skip()
        start = self.at
        if self.end() or self.text[start] in "),":
            raise refused(f"a value is missing {where}", start, expected=EXPECTED[field.kind])
        if self.text[start] in "'\"":
            return self.quoted()
        bare = _BARE.match(self.text, start)
        if bare is None:
            hint = f"write {field.name} in (a, b)" if self.text[start] == "(" else "put the value in quotes"
            raise refused(
                f"stands {shown(self.text[start])} where a value belongs",
                start,
                expected=EXPECTED[field.kind],
                next_step=hint,
            )
        if bare[0].lower() in KEYWORDS:
            raise refused(
                f"a value is missing before {shown(bare[0])}",
                start,
                expected=EXPECTED[field.kind],
                next_step="put the word in quotes if it is the value",
            )
        self.at = bare.end()
        return Token(bare[0], False, start)

    def _path(self) -> tuple[str | int, ...]:
        path: list[str | int] = []
        while self.text.startswith(".", self.at):
            self.at += 1
            start = self.at
            if len(path) == MAX_PATH:
                raise refused("the path goes on", start, expected=f"at most {MAX_PATH} keys")
            if start < len(self.text) and self.text[start] in "'\"":
                path.append(self.quoted().text)
                continue
            bare = _SEGMENT.match(self.text, start)
            if bare is None:
                raise refused("a key is missing", start, expected='payload.key, or payload."odd key"')
            self.at = bare.end()
            path.append(int(bare[0]) if _INDEX.fullmatch(bare[0]) else bare[0])
        return tuple(path)

    def _counted(self, position: int) -> None:
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise refused(
                f"the conditions go on beyond {MAX_TERMS}",
                position,
                expected=f"at most {MAX_TERMS} conditions and list values",
                next_step="narrow it with fewer, wider conditions",
            )


def _is_root(field: Field, path: tuple[str | int, ...]) -> bool:
    return field.kind is Kind.PAYLOAD and not path
