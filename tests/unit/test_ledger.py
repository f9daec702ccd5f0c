"""The checker of the kill tests notices everything that must not happen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.ledger import Record, violations

CLEAN = Record(
    starts=[{"id": "a", "gen": 1, "at": 10.0}, {"id": "b", "gen": 1, "at": 10.0}, {"id": "b", "gen": 2, "at": 12.0}],
    acknowledged={"a", "b", "c", "d"},
    rows={
        "a": {"status": "completed", "gen": 1, "finished_at": 11.0},
        "b": {"status": "completed", "gen": 2, "finished_at": 13.0},
        "c": {"status": "waiting", "gen": 1, "finished_at": None},
    },
    deleted={"d"},
    created=4,
)


def test_a_clean_record_is_clean() -> None:
    assert violations(CLEAN) == []


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (replace(CLEAN, created=5), "sum"),
        (replace(CLEAN, acknowledged={*CLEAN.acknowledged, "e"}), "lost"),
        (replace(CLEAN, deleted={"d", "c"}, created=5), "risen"),
        (replace(CLEAN, starts=[*CLEAN.starts, CLEAN.starts[0]]), "twice"),
        (replace(CLEAN, starts=[*CLEAN.starts, {"id": "a", "gen": 2, "at": 10.5}]), "again"),
        (replace(CLEAN, starts=[*CLEAN.starts, {"id": "b", "gen": 3, "at": 14.0}]), "again"),
        (replace(CLEAN, starts=CLEAN.starts[1:]), "unrun"),
    ],
)
def test_each_violation_is_noticed(record: Record, word: str) -> None:
    assert [found.partition(":")[0] for found in violations(record)] == [word]
