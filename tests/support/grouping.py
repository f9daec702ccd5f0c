"""How well a grouping agrees with the true one: precision and recall over all pairs of texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Shares of pairs; 1.0 where there is no pair to judge."""

    #: Of the pairs that were put together, those that belong together.
    precision: float
    #: Of the pairs that belong together, those that were put together.
    recall: float


def agreement(pairs: Iterable[tuple[Hashable, Hashable]]) -> Agreement:
    """The agreement of (true family, found group), one pair per text. Counting, not comparing: linear in the texts."""
    both: Counter[tuple[Hashable, Hashable]] = Counter(pairs)
    families: Counter[Hashable] = Counter()
    groups: Counter[Hashable] = Counter()
    for (family, group), n in both.items():
        families[family] += n
        groups[group] += n
    right = sum(n * (n - 1) for n in both.values())
    together = sum(n * (n - 1) for n in groups.values())
    belong = sum(n * (n - 1) for n in families.values())
    return Agreement(precision=right / together if together else 1.0, recall=right / belong if belong else 1.0)
