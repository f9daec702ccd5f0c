"""Hypothesis strategies for filters: trees as the parser makes them, and sentences of the grammar in docs/filter.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from queuemon.filters import JobFilter
from queuemon.filters.fields import ALIASES, FIELDS, OPERATORS, ROOT_OPERATORS, STATUSES, Field, Kind, Op
from queuemon.filters.parser import KEYWORDS
from queuemon.filters.tree import (
    At,
    Clock,
    Constant,
    Node,
    Now,
    Number,
    Precision,
    Search,
    Span,
    Term,
    Text,
    Value,
    both,
    either,
    negated,
)
from queuemon.filters.values import NUMBER

DOCS = Path(__file__).parents[2] / "docs" / "filter.md"

#: Everything that a text in PostgreSQL can hold.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def filters(
    *,
    texts: st.SearchStrategy[str] = ANY_TEXT,
    ids: st.SearchStrategy[str] | None = None,
    paths: st.SearchStrategy[tuple[str | int, ...]] | None = None,
    around: datetime = datetime(2026, 11, 24, 14, 3, 5, tzinfo=UTC),
) -> st.SearchStrategy[JobFilter]:
    """Filters of any shape, with values drawn from what the caller's data holds."""
    ids = st.uuids().map(str) if ids is None else ids
    any_path = st.lists(texts | st.integers(0, 99), min_size=1, max_size=4).map(tuple)
    paths = any_path if paths is None else paths
    leaves = _search(texts) | st.sampled_from(list(FIELDS.values())).flatmap(
        lambda field: _term(field, texts, ids, paths, around)
    )
    tree = st.recursive(
        leaves,
        lambda inner: (
            inner.map(negated)
            | st.lists(inner, min_size=2, max_size=3).map(lambda nodes: both(*nodes))
            | st.lists(inner, min_size=2, max_size=3).map(lambda nodes: either(*nodes))
        ),
        max_leaves=6,
    )
    return tree.map(lambda root: JobFilter(root=root))


def _search(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Node]:
    return texts.filter(lambda t: bool(t.strip())).map(Search)


@st.composite
def _term(
    draw: st.DrawFn,
    field: Field,
    texts: st.SearchStrategy[str],
    ids: st.SearchStrategy[str],
    paths: st.SearchStrategy[tuple[str | int, ...]],
    around: datetime,
) -> Node:
    path: tuple[str | int, ...] = ()
    operators = OPERATORS[field.kind]
    if field.kind is Kind.PAYLOAD:
        path = draw(st.just(()) | paths)
        operators = operators if path else ROOT_OPERATORS
    if field.kind is Kind.LENGTH:
        path = draw(st.just(()) | paths)
    op = draw(st.sampled_from(operators))
    values = _values(field, op, texts, ids, around)
    if op is Op.IN:
        listed = tuple(draw(st.lists(values, min_size=1, max_size=3, unique=True)))
        return Term(field.name, op if len(listed) > 1 else Op.EQ, listed, path)
    return Term(field.name, op, (draw(values),), path)


def _values(
    field: Field, op: Op, texts: st.SearchStrategy[str], ids: st.SearchStrategy[str], around: datetime
) -> st.SearchStrategy[Value]:
    match field.kind:
        case Kind.ID:
            made = ids.flatmap(lambda i: st.integers(1, 8).map(lambda n: i[:n])) if op is Op.LIKE else ids
            return made.map(Text)
        case Kind.STATUS:
            return st.sampled_from(list(STATUSES)).map(Text)
        case Kind.NUMBER | Kind.LENGTH:
            return st.integers(-1, 5).map(lambda n: Number(str(n)))
        case Kind.SPAN:
            return _spans().map(Span)
        case Kind.MOMENT:
            made = _moments(around)
        case Kind.PAYLOAD:
            made = texts.map(Text)
            if op is not Op.LIKE:
                numbers = st.integers(-3, 40).map(str) | st.sampled_from(
                    ["17.0", "1.5", "-0", "1e2", "12345678901234567"]
                )
                made |= numbers.map(Number)
                constants = op not in {Op.LT, Op.LE, Op.GT, Op.GE}
                return made | st.sampled_from(["true", "false", "null"]).map(Constant) if constants else made
        case _:
            made = texts.map(Text)
    nulls = field.nullable and op in {Op.EQ, Op.NE, Op.IN}
    return made | st.just(Constant("null")) if nulls else made


def _spans() -> st.SearchStrategy[int]:
    return st.sampled_from([0, 1, 30_000, 60_000, 90_000, 3_600_000, 86_400_000]) | st.integers(0, 10**9)


def _moments(around: datetime) -> st.SearchStrategy[Value]:
    zero = {
        Precision.DAY: {"hour": 0, "minute": 0, "second": 0, "microsecond": 0},
        Precision.MINUTE: {"second": 0, "microsecond": 0},
        Precision.SECOND: {"microsecond": 0},
        Precision.EXACT: {},
    }
    times = st.timedeltas(timedelta(days=-2), timedelta(days=2)).map(lambda d: around + d)
    fixed = st.tuples(times, st.sampled_from(Precision)).map(lambda tp: At(tp[0].replace(**zero[tp[1]]), tp[1]))
    minutes = st.integers(0, 1439).map(lambda m: Clock(timedelta(minutes=m), Precision.MINUTE))
    seconds = st.integers(0, 86399).map(lambda s: Clock(timedelta(seconds=s), Precision.SECOND))
    shifts = (_spans() | _spans().map(lambda s: -s)).map(Now)
    return fixed | minutes | seconds | shifts


# ------------------------------------------------------------------------------------------------------------ grammar

_TOKEN = re.compile(r"\s*(?:\"([^\"]+)\"|\?\s(.+?)\s\?(?=\s)|([a-z]+(?: [a-z]+)*)|([=,|;\[\]{}()]))")


def grammar() -> dict[str, Any]:
    """The EBNF of the documentation as nested lists: ("or", …), ("seq", …), ("many", x), ("maybe", x), and tokens."""
    block = re.search(r"```ebnf\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert block is not None
    tokens = [(m.lastindex, m[m.lastindex or 0]) for m in _TOKEN.finditer(block[1])]
    rules: dict[str, Any] = {}
    at = 0
    while at < len(tokens):
        name = tokens[at][1]
        assert tokens[at + 1] == (4, "=")
        rules[name], at = _choice(tokens, at + 2)
        assert tokens[at] == (4, ";"), f"rule {name} does not end: {tokens[at]}"
        at += 1
    return rules


def _choice(tokens: Sequence[tuple[int | None, str]], at: int) -> tuple[Any, int]:
    choices, sequence = [], []
    while True:
        kind, text = tokens[at]
        at += 1
        if kind == 1:
            sequence.append(("literal", text))
        elif kind == 2:
            sequence.append(("regex", text))
        elif kind == 3:
            sequence.append(("rule", text))
        elif text in "[{":
            inner, at = _choice(tokens, at)
            assert tokens[at][1] == {"[": "]", "{": "}"}[text]
            at += 1
            sequence.append(("maybe" if text == "[" else "many", inner))
        elif text == ",":
            continue
        else:
            choices.append(("seq", sequence))
            if text != "|":
                return ("or", choices), at - 1
            sequence = []


@lru_cache
def sentences() -> st.SearchStrategy[str]:
    """Texts that the documented grammar allows."""
    rules = grammar()
    made: dict[str, st.SearchStrategy[list[str]]] = {}

    def strategy(node: Any, rule: str) -> st.SearchStrategy[list[str]]:
        kind, inner = node
        match kind:
            case "literal":
                return st.just([inner])
            case "regex":
                alphabet = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
                tokens = st.from_regex(re.compile(inner), fullmatch=True, alphabet=alphabet)
                return tokens.filter(lambda t: len(t) < 60 and _allowed(rule, t)).map(lambda t: [t])
            case "rule":
                return st.deferred(lambda: made[inner])
            case "maybe":
                return st.just([]) | strategy(inner, rule)
            case "many":
                return st.lists(strategy(inner, rule), max_size=2).map(lambda parts: list(chain.from_iterable(parts)))
            case "seq":
                return st.tuples(*(strategy(n, rule) for n in inner)).map(
                    lambda parts: list(chain.from_iterable(parts))
                )
            case _:
                return st.one_of(*(strategy(n, rule) for n in inner))

    for name, node in rules.items():
        made[name] = strategy(node, name)
    made["search"] = made["search"].filter(lambda tokens: bool(re.sub(r"\\[ntr]|['\"]", "", tokens[0]).strip()))
    return made["filter"].map(_joined)


def _allowed(rule: str, token: str) -> bool:
    """The conditions that the documentation states in words."""
    word = token.lower()
    if rule in {"bare", "ordered"} and (word in KEYWORDS or (NUMBER.fullmatch(token) and "e" in word)):
        return False
    return rule != "word" or not (word in KEYWORDS or word in FIELDS or word in STATUSES or word in ALIASES)


def _joined(tokens: list[str]) -> str:
    """With spaces, except before `:` and inside a path."""
    made = ""
    for previous, token in zip(["", *tokens], tokens, strict=False):
        tight = token in {":", "."} or previous == "." or not made
        made += token if tight else " " + token
    return made
