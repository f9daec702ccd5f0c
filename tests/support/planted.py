"""Jobs whose failures have a known cause, for the tests of the contrast; and their payloads as columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from queuemon.analysis.attributes import Column
from queuemon.analysis.explanation import Explanation
from queuemon.filters import JobFilter
from tests.support.filter_oracle import matches

NOW = datetime(2026, 11, 24, 14, 3, 5, tzinfo=UTC)
Payload = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class World:
    """Payloads, which of them failed, and the causes as sets of jobs (none: they failed by chance)."""

    payloads: list[Payload]
    failed: np.ndarray
    causes: list[np.ndarray] = field(default_factory=list)


def flat(payload: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every path of a payload and what is there; objects are walked, lists are not."""
    for key, value in payload.items():
        yield (*path, key), value
        if isinstance(value, dict):
            yield from flat(value, (*path, key))


def columns(payloads: Sequence[Payload]) -> list[Column]:
    """Payloads as the store reads them: one column of JSON texts per path."""
    found: dict[tuple[str, ...], list[str | None]] = {}
    for n, payload in enumerate(payloads):
        for path, value in flat(payload):
            text = "{" if isinstance(value, dict) else json.dumps(value, ensure_ascii=False)
            found.setdefault(path, [None] * len(payloads))[n] = text
    made = []
    for path, texts in found.items():
        codes, distinct = pd.factorize(pd.Series(texts, dtype=object))
        made.append(Column(field="payload", path=path, codes=codes, texts=list(distinct), presence=True))
    return made


def selected(where: str, payloads: Sequence[Payload]) -> np.ndarray:
    """The jobs that a filter on payloads selects, by the language's second reading in plain Python."""
    parsed = JobFilter.parse(where)
    stored = (json.loads(json.dumps(payload), parse_float=Decimal) for payload in payloads)
    return np.array([matches(parsed, {"payload": payload}, NOW) for payload in stored])


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Shared jobs / jobs in either (Jaccard)."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def found_first(world: World, answer: Explanation, *, at_least: float) -> bool:
    """Whether the first findings are the causes: the same jobs (at least this overlap), in any order."""
    if len(answer.findings) < len(world.causes):
        return False
    masks = [selected(f.filter, world.payloads) for f in answer.findings[: len(world.causes)]]
    return all(max(overlap(cause, mask) for mask in masks) >= at_least for cause in world.causes)


# -------------------------------------------------------------------------------------------------------------- worlds

_REGIONS = ("us-east", "eu-west", "eu-north", "ap-south", "sa-east")
_TEMPLATES = tuple(f"template-{n}" for n in range(12))
_TAGS = ("promo", "utm", "images", "amp", "dark-mode", "tracked", "beta")
_LOCALES = ("en-US", "en-GB", "de-DE", "fr-FR", "sv-SE", "pt-BR", "hi-IN")


def ordinary(rng: np.random.Generator, jobs: int) -> list[Payload]:
    """Payloads of many kinds of attributes that depend on each other, as in life, and on no failure."""
    made = []
    for n in range(jobs):
        region = int(rng.integers(len(_REGIONS)))
        rows = int(10 ** (2 + 4 * rng.random()))
        made.append(
            {
                "template": _TEMPLATES[int(rng.integers(len(_TEMPLATES)))],
                "region": _REGIONS[region],
                "recipient": {
                    "user_id": int(rng.integers(100_000, 999_999)),
                    "locale": _LOCALES[int(rng.integers(len(_LOCALES)))] if rng.random() < 0.3 else _LOCALES[region],
                    "score": float(rng.random()),
                },
                "rows": rows,
                "bytes": int(rows * rng.uniform(80, 120)),
                "batch": int(rng.integers(400)),
                "plan": ("starter", "team", "business")[int(rng.integers(3))],
                "retryable": bool(rng.random() < 0.5),
                "tags": [tag for tag in _TAGS if rng.random() < 0.25],
                "items": [{"sku": k} for k in range(int(rng.integers(0, 7)))],
                "key": f"{n:08x}-{int(rng.integers(2**32)):08x}",
                **({"coupon": f"C{int(rng.integers(30))}"} if rng.random() < 0.2 else {}),
            }
        )
    return made


def failing(rng: np.random.Generator, causes: Sequence[np.ndarray], *, inside: float, outside: float) -> np.ndarray:
    """Which jobs fail: those with a cause `inside` of the time, others `outside`."""
    hit = np.any(causes, axis=0)
    return rng.random(len(hit)) < np.where(hit, inside, outside)


def one_value(rng: np.random.Generator, payloads: list[Payload]) -> list[np.ndarray]:
    """One value of one attribute."""
    bad = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))]
    return [np.array([p["template"] == bad for p in payloads])]


def a_range(rng: np.random.Generator, payloads: list[Payload]) -> list[np.ndarray]:
    """A range of a number that has another one, proportional to it but for noise, beside it."""
    low = float(rng.uniform(0.1, 0.8))
    values = np.array([p["rows"] for p in payloads])
    a, b = np.quantile(values, [low, low + float(rng.uniform(0.06, 0.2))])
    return [(values >= a) & (values < b)]


def a_threshold(rng: np.random.Generator, payloads: list[Payload]) -> list[np.ndarray]:
    """Everything above a number."""
    values = np.array([p["recipient"]["score"] for p in payloads])
    return [values >= float(rng.uniform(0.7, 0.95))]


def a_pair(rng: np.random.Generator, payloads: list[Payload]) -> list[np.ndarray]:
    """A value of one attribute together with a value of another."""
    bad, where = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))], _REGIONS[int(rng.integers(len(_REGIONS)))]
    return [np.array([p["template"] == bad and p["region"] == where for p in payloads])]


def a_value_in_a_range(rng: np.random.Generator, payloads: list[Payload]) -> list[np.ndarray]:
    """A value of one attribute together with a range of a number."""
    where = _REGIONS[int(rng.integers(len(_REGIONS)))]
    values = np.array([p["rows"] for p in payloads])
    a = np.quantile(values, float(rng.uniform(0.5, 0.8)))
    return [np.array([p["region"] == where for p in payloads]) & (values >= a)]


def two_causes(rng: np.random.Generator, payloads: list[Payload]) -> list[np.ndarray]:
    """Two that have nothing to do with each other."""
    bad, plan = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))], ("starter", "team", "business")[int(rng.integers(3))]
    locale = _LOCALES[int(rng.integers(2, len(_LOCALES)))]
    one = np.array([p["template"] == bad for p in payloads])
    return [one, np.array([p["plan"] == plan and p["recipient"]["locale"] == locale for p in payloads])]


def nested(rng: np.random.Generator, payloads: list[Payload]) -> list[np.ndarray]:
    """A value two levels down."""
    locale = _LOCALES[int(rng.integers(len(_LOCALES)))]
    return [np.array([p["recipient"]["locale"] == locale for p in payloads])]


def a_member(rng: np.random.Generator, payloads: list[Payload]) -> list[np.ndarray]:
    """A member of a list."""
    tag = _TAGS[int(rng.integers(len(_TAGS)))]
    return [np.array([tag in p["tags"] for p in payloads])]


def a_length(rng: np.random.Generator, payloads: list[Payload]) -> list[np.ndarray]:
    """Lists that are too long."""
    longest = int(rng.integers(4, 6))
    return [np.array([len(p["items"]) >= longest for p in payloads])]


def presence(rng: np.random.Generator, payloads: list[Payload]) -> list[np.ndarray]:
    """A key that most payloads lack."""
    return [np.array(["coupon" in p for p in payloads])]


CAUSES: Mapping[str, Callable[[np.random.Generator, list[Payload]], list[np.ndarray]]] = {
    "one value": one_value,
    "a range": a_range,
    "a threshold": a_threshold,
    "a pair": a_pair,
    "a value in a range": a_value_in_a_range,
    "two causes": two_causes,
    "a nested value": nested,
    "a member of a list": a_member,
    "the length of a list": a_length,
    "presence of a key": presence,
}


def planted(name: str, seed: int, *, jobs: int = 4_000) -> World:
    """Jobs that fail for the named cause (70 %), and a few (3 %) for none."""
    rng = np.random.default_rng([seed, *name.encode()])
    payloads = ordinary(rng, jobs)
    causes = CAUSES[name](rng, payloads)
    return World(payloads=payloads, failed=failing(rng, causes, inside=0.7, outside=0.03), causes=causes)


def among_shadows(seed: int, *, jobs: int = 4_000, shadows: int = 40) -> World:
    """One value causes it, and 40 other attributes agree with it, up to a correlation of 0.9; names tell nothing."""
    rng = np.random.default_rng([seed, 40])
    cause = rng.random(jobs) < 0.15
    names = rng.permutation(shadows + 1)
    made: list[Payload] = [{} for _ in range(jobs)]
    for n, strength in enumerate([1.0, *np.linspace(0.9, 0.3, shadows)]):
        # A copy of the cause, redrawn for a share of the jobs: its correlation with the cause is the rest.
        redrawn = rng.random(jobs) >= strength
        values = np.where(redrawn, rng.random(jobs) < 0.15, cause)
        other = rng.integers(0, 6, jobs)
        for payload, value, rest in zip(made, values, other, strict=True):
            payload[f"a{names[n]}"] = "bad" if value else f"v{rest}"
    return World(payloads=made, failed=failing(rng, [cause], inside=0.7, outside=0.03), causes=[cause])


def without_cause(kind: str, seed: int) -> World:
    """Jobs that fail by chance alone."""
    rng = np.random.default_rng([seed, *kind.encode()])
    match kind:
        case "few jobs":
            payloads, rate = ordinary(rng, int(rng.integers(20, 150))), float(rng.uniform(0.1, 0.6))
        case "correlated":
            return World(payloads=among_shadows(seed, jobs=1_500).payloads, failed=rng.random(1_500) < 0.2)
        case "numbers":
            payloads = [
                {f"n{k}": float(v) for k, v in enumerate(rng.normal(size=12))} | {"whole": int(rng.integers(50))}
                for _ in range(1_500)
            ]
            rate = float(rng.uniform(0.02, 0.5))
        case "many values":
            payloads = [
                {f"k{k}": f"v{int(v)}" for k, v in enumerate(rng.zipf(1.5, size=12) % 10_000)} | {"id": f"{n:x}"}
                for n in range(1_500)
            ]
            rate = float(rng.uniform(0.02, 0.5))
        case _:
            payloads, rate = ordinary(rng, 1_500), float(rng.uniform(0.01, 0.5))
    return World(payloads=payloads, failed=rng.random(len(payloads)) < rate)


NO_CAUSE = ("ordinary", "few jobs", "correlated", "numbers", "many values")


def later(seconds: float) -> datetime:
    """A time after NOW."""
    return NOW + timedelta(seconds=seconds)
