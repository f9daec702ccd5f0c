"""What a job can be asked about: columns of JSON texts and of numbers become attributes with countable conditions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from queuemon.analysis.intervals import FINE_BINS, PAIR_BINS, Scale, between, edges, ranked, spans
from queuemon.analysis.separation import Floats, Ints
from queuemon.filters.fields import Op
from queuemon.filters.tree import And, At, Constant, Node, Not, Number, Precision, Span, Term, Text, Value

#: Values of one attribute that are looked at: those that most failing jobs hold.
MAX_VALUES: Final = 64
#: Members of the lists at one place, likewise.
MAX_MEMBERS: Final = 32
#: Longest text that a condition may name, in characters of JSON.
MAX_TEXT: Final = 200

_CONSTANTS: Final = frozenset({"true", "false", "null"})
_NUMERIC: Final = re.compile(r"-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,100})?")

#: First characters of JSON texts.
_OBJECT, _LIST, _QUOTE = map(ord, '{["')

Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """What each job holds at one place, as JSON texts, none empty, without repetition.

    A text that does not end is one that was cut off; of an object only its "{" is needed.
    """

    #: Field of the filter language, and the path of `payload`.
    field: str
    path: Path = ()
    #: Index into `texts` for each job; -1 where there is nothing.
    codes: NDArray[Any]
    texts: Sequence[str]
    #: Whether presence itself is asked for (it cannot be told where the parent may be a list).
    presence: bool = False

    def frequent(self, most: int) -> list[str]:
        """The texts that most jobs hold."""
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.texts))
        return [self.texts[n] for n in np.argsort(-counts, kind="stable")[:most]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """A number for each job, NaN where there is none: durations in whole milliseconds, times in whole seconds."""

    field: str
    path: Path = ()
    values: Floats
    scale: Scale


@dataclass(frozen=True, kw_only=True, eq=False)
class Discrete:
    """An attribute of values: each condition selects one or more codes."""

    #: Attributes of one source are never paired: they say the same in other words.
    source: str
    #: For each job, 0 … items.shape[1] - 1.
    codes: Ints
    #: Conditions × codes: 1 where the condition selects the code.
    items: Floats
    nodes: tuple[Node, ...]
    #: Conditions that the margins allowed, before any look at failures: what the tests are corrected for.
    tested: int
    #: Words for a condition, where it has some beyond its filter.
    labels: tuple[str, ...] = ()
    #: Whether the filter asks the same as the attribute: false of attempts, which the job's row may have forgotten.
    exact: bool = True

    def take(self, rows: NDArray[np.bool_]) -> Discrete:
        """The same attribute of some of the jobs."""
        return replace(self, codes=self.codes[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class Ordered:
    """An attribute of numbers: each condition is an interval of their ranks."""

    source: str
    field: str
    path: Path
    scale: Scale
    #: For each job, 0 for none and then the bin that it is in as one of a pair.
    codes: Ints
    #: Conditions × codes, as in Discrete: every interval of the pairs' bins.
    items: Floats
    #: For each of those, its first rank and the one behind its last.
    bounds: Ints
    #: For each job, -1 for none and then the rank of its value.
    ranks: Ints
    #: The distinct values, in order.
    points: Floats
    #: Edges of the bins that the attribute alone is tested with.
    fine: Ints
    exact: bool = True

    @property
    def tested(self) -> int:
        """Intervals of the fine bins."""
        bins = len(self.fine) - 1
        return max(0, bins * (bins + 1) // 2 - 1)

    def take(self, rows: NDArray[np.bool_]) -> Ordered:
        """The same attribute of some of the jobs."""
        return replace(self, codes=self.codes[rows], ranks=self.ranks[rows])

    def node(self, low: int, high: int) -> Node:
        """The interval of ranks [low, high) in the filter language."""
        parts: list[Node] = []
        for rank, op in ((low, Op.GE), (high, Op.LT)):
            if 0 < rank < len(self.points):
                bound = between(float(self.points[rank - 1]), float(self.points[rank]), self.scale)
                parts.append(Term(self.field, op, (_spelled(bound, self.scale),), self.path))
        return parts[0] if len(parts) == 1 else And(tuple(parts))


Attribute = Discrete | Ordered


def _spelled(bound: Decimal, scale: Scale) -> Value:
    match scale:
        case Scale.SPAN:
            return Span(int(bound))
        case Scale.MOMENT:
            at = datetime.fromtimestamp(int(bound), UTC)
            precision = Precision.SECOND if at.second else Precision.MINUTE
            return At(at, precision)
        case _:
            return Number(format(bound, "f"))


def source_of(field: str, path: Path) -> str:
    """A name for what a column or measure describes."""
    return ".".join([field, *(json.dumps(str(part)) for part in path)])


# ------------------------------------------------------------------------------------------------------------- making


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What the making of attributes needs to know: which jobs failed, and how many jobs a condition must select."""

    failed: NDArray[np.bool_]
    least: int


def attributes(column: Column | Measure, look: Look) -> Iterator[Attribute]:
    """All attributes of a column: its values, presence, numbers as intervals, members and length of its lists."""
    if isinstance(column, Measure):
        made = ordered(column.field, column.path, column.values, column.scale, look)
        if made is not None:
            yield made
        return
    codes = np.asarray(column.codes, dtype=np.intp)
    first = np.fromiter(map(ord, map(itemgetter(0), column.texts)), dtype=np.uint32, count=len(column.texts))
    if (found := _values(column, codes, first, look)) is not None:
        yield found
    numbers = _numbers(column.texts, first)
    if numbers is not None:
        scale = Scale.WHOLE if _whole(numbers, column.texts) else Scale.NUMBER
        made = ordered(column.field, column.path, _spread(numbers, codes), scale, look)
        if made is not None:
            yield made
    if column.field == "payload" and (first == _LIST).any() and not (first == _OBJECT).any():
        yield from _lists(column, codes, first, look)


def _spread(values: Floats, codes: Ints) -> Floats:
    """A value per code as a value per job; NaN for none."""
    return np.asarray(np.append(values, np.nan)[codes])


def ordered(field: str, path: Path, values: Floats, scale: Scale, look: Look) -> Ordered | None:
    """The intervals of a number; None where there are not two values to tell apart."""
    points, ranks = ranked(values)
    if len(points) < 2:
        return None
    counts = np.bincount(ranks[ranks >= 0], minlength=len(points))
    coarse, fine = (edges(counts, bins) for bins in (PAIR_BINS, FINE_BINS))
    low, high = spans(len(coarse) - 1)
    items = np.zeros((len(low), len(coarse)))
    for row, (a, b) in enumerate(zip(low, high, strict=True)):
        items[row, a + 1 : b + 1] = 1
    bin_of = np.searchsorted(coarse, np.arange(len(points)), side="right")
    return Ordered(
        source=source_of(field, path),
        field=field,
        path=path,
        scale=scale,
        codes=np.append(bin_of, 0)[ranks],
        items=items,
        bounds=np.stack([coarse[low], coarse[high]], axis=1),
        ranks=ranks,
        points=points,
        fine=fine,
        exact=field in EXACT,
    )


#: Fields that the job's row keeps for ever; of the others it keeps the last attempt's.
EXACT: Final = frozenset({"payload", "queue", "created", "length"})


def _values(column: Column, codes: Ints, first: NDArray[Any], look: Look) -> Discrete | None:
    """One condition per frequent value, and where some jobs have nothing here, one each for presence and absence."""
    size = len(column.texts)
    total = np.bincount(codes + 1, minlength=size + 1)
    failing = np.bincount(codes[look.failed] + 1, minlength=size + 1)
    scalar = (first != _OBJECT) & (first != _LIST)
    frequent = np.flatnonzero(scalar & (total[1:] >= look.least) & (total[1:] < len(codes)))
    groups: dict[int, tuple[Value, list[int]]] = {}
    by_text = _twins(column.texts, first) if len(frequent) else {}
    seen: set[int] = set()
    for code in frequent[np.argsort(-failing[1:][frequent], kind="stable")].tolist():
        text = column.texts[code]
        if code in seen or (value := _value(text, column.field)) is None:
            continue
        same = [code] if by_text is None else by_text.get(_key(text), [code])
        seen.update(same)
        groups[code] = (value, same)
    tested = len(groups)
    nodes: list[Node] = []
    new = np.ones(size + 1, dtype=np.intp)
    new[-1] = 0
    for value, same in list(groups.values())[:MAX_VALUES]:
        nodes.append(Term(column.field, Op.EQ, (value,), column.path))
        new[same] = len(nodes) + 1
    width = len(nodes) + 2
    items = [np.eye(width)[2:]]
    if column.presence and look.least <= total[0] <= len(codes) - look.least:
        has = Term("payload", Op.HAS, (Text(str(column.path[-1])),), column.path[:-1])
        nodes += [has, Not(has)]
        tested += 2
        missing = np.zeros(width)
        missing[0] = 1
        items.append(np.stack([1 - missing, missing]))
    if not nodes:
        return None
    return Discrete(
        source=source_of(column.field, column.path),
        codes=new[codes],
        items=np.concatenate(items),
        nodes=tuple(nodes),
        tested=tested,
        exact=column.field in EXACT,
    )


def _twins(texts: Sequence[str], first: NDArray[Any]) -> dict[str, list[int]] | None:
    """Codes by what equality cannot tell apart (17, 17.0 and "17"); None where every text stands for itself."""
    if not ((first != _QUOTE) & (first != _OBJECT) & (first != _LIST)).any():
        return None
    made: dict[str, list[int]] = {}
    for code, text in enumerate(texts):
        if text[:1] not in {"{", "["}:
            made.setdefault(_key(text), []).append(code)
    return made


def _key(text: str) -> str:
    """Of a number its shortest spelling, of a text that is spelled as a number or constant the same, else itself."""
    if text[:1] == '"':
        inside = text[1:-1]
        return inside if inside in _CONSTANTS or (_NUMERIC.fullmatch(inside) and _shortest(inside) == inside) else text
    return text if text in _CONSTANTS else _shortest(text)


def _shortest(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number


def _value(text: str, field: str) -> Value | None:
    """The value to compare with; None for a text that is too long to name, or cut off."""
    if len(text) >= MAX_TEXT:
        return None
    key = _key(text)
    if key[:1] != '"':
        if field not in {"payload", "attempts", "hour"}:
            return Text(str(json.loads(text)))
        return Constant(key) if key in _CONSTANTS else Number(key)
    try:
        return Text(json.loads(text))
    except ValueError:
        return None


def _numbers(texts: Sequence[str], first: NDArray[Any]) -> Floats | None:
    """Each text as a number where the filter language compares it as one, else NaN; None where fewer than two are."""
    found = np.full(len(texts), np.nan)
    plain: list[int] = np.flatnonzero((first == ord("-")) | ((first >= ord("0")) & (first <= ord("9")))).tolist()
    found[plain] = [float(texts[code]) for code in plain]
    quoted: list[int] = np.flatnonzero(first == _QUOTE).tolist()
    if not len(plain) and not any(_NUMERIC.fullmatch(texts[code][1:-1]) for code in quoted[:100]):
        return None
    for code in quoted:
        inside = texts[code][1:-1]
        if _NUMERIC.fullmatch(inside):
            found[code] = float(inside)
    found[~np.isfinite(found)] = np.nan
    return found if np.count_nonzero(~np.isnan(found)) > 1 else None


def _whole(numbers: Floats, texts: Sequence[str]) -> bool:
    """Whether all are whole numbers that a double holds exactly."""
    known = numbers[~np.isnan(numbers)]
    if not bool((np.floor(known) == known).all() and (np.abs(known) < 2.0**53).all()):
        return False
    return all(len(texts[code]) <= 18 for code in np.flatnonzero(~np.isnan(numbers)).tolist())


def _lists(column: Column, codes: Ints, first: NDArray[Any], look: Look) -> Iterator[Attribute]:
    """Of lists: one attribute for each frequent member, and the length."""
    size = len(column.texts)
    total = np.bincount(codes + 1, minlength=size + 1)[1:]
    failing = np.bincount(codes[look.failed] + 1, minlength=size + 1)[1:]
    lengths = np.full(size, np.nan)
    holders: dict[str, set[int]] = {}
    spelled: dict[str, str] = {}
    complete = True
    for code in np.flatnonzero(first == _LIST).tolist():
        try:
            members = json.loads(column.texts[code], parse_float=Decimal, parse_int=Decimal)
        except (ValueError, RecursionError):
            complete = False
            continue
        lengths[code] = len(members)
        for member in members:
            if not isinstance(member, list | dict):
                text = str(member) if isinstance(member, Decimal) else json.dumps(member, ensure_ascii=False)
                holders.setdefault(_key(text), set()).add(code)
                spelled.setdefault(_key(text), text)
    if not complete:
        return
    made = ordered("length", column.path, _spread(lengths, codes), Scale.WHOLE, look)
    if made is not None:
        yield made
    counted = [(key, sorted(held)) for key, held in holders.items()]
    frequent = [(key, held) for key, held in counted if total[held].sum() >= look.least]
    frequent.sort(key=lambda found: (-failing[found[1]].sum(), found[0]))
    # The first one carries the price of those that were not looked at, too.
    unseen = max(0, len(frequent) - MAX_MEMBERS)
    for key, held in frequent[:MAX_MEMBERS]:
        value = _value(spelled[key], column.field)
        if value is None:
            continue
        flag = np.zeros(size + 1, dtype=np.intp)
        flag[held] = 1
        yield Discrete(
            source=source_of(column.field, column.path),
            codes=flag[codes],
            items=np.array([[0.0, 1.0]]),
            nodes=(Term("payload", Op.HAS, (value,), column.path),),
            tested=1 + unseen,
        )
        unseen = 0


def deploys(started: Floats, marks: Sequence[tuple[str, datetime]], look: Look) -> Discrete | None:
    """Which deploy was the last before each attempt began (seconds since 1970); None without marks."""
    if not marks:
        return None
    marks = sorted(marks, key=lambda mark: mark[1])[-MAX_VALUES:]
    at = np.array([np.ceil(when.timestamp()) for _, when in marks])
    codes = np.where(np.isnan(started), 0, np.searchsorted(at, started, side="right") + 1)
    nodes: list[Node] = []
    for n, (_, when) in enumerate(marks):
        since: Node = Term("started", Op.GE, (At(_second(when), Precision.SECOND),))
        until = (
            Term("started", Op.LT, (At(_second(marks[n + 1][1]), Precision.SECOND),)) if n + 1 < len(marks) else None
        )
        nodes.append(since if until is None else And((since, until)))
    items = np.eye(len(marks) + 2)[2:]
    return Discrete(
        source="started",
        codes=codes.astype(np.intp),
        items=items,
        nodes=tuple(nodes),
        tested=len(nodes),
        labels=tuple(f"deploy {name}" for name, _ in marks),
        exact=False,
    )


def _second(at: datetime) -> datetime:
    """The next whole second."""
    return at if not at.microsecond else at.replace(microsecond=0) + timedelta(seconds=1)
