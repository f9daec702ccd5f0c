"""What is reported on the dashboard, when it goes and when it is marked as over."""

from __future__ import annotations

import json

import pytest

from queuemon.config import Settings
from queuemon.errors import InvalidValue, StoreUnavailable
from queuemon.model import HalfError
from queuemon.views.problems import PROBLEMS, Problems
from tests.support import fake_workbench as fake


@pytest.fixture
def found() -> Problems:
    return Problems(Settings(profile="demo", embedded=True))


def away(store: str) -> None:
    raise StoreUnavailable(f"{store} is away", store=store)


def test_problems_are_kept_bounded_counted_and_dismissed(found: Problems) -> None:
    for _ in range(3):
        found.guard("planning", lambda: away("redis"))
    assert [(p["text"], p["times"]) for p in found.problems] == [("redis is away.", 3)]
    for n in range(PROBLEMS + 2):
        found.report("acting", InvalidValue(f"number {n}"))
    assert len(found.problems) == PROBLEMS
    found.dismiss(found.problems[0]["id"])
    assert len(found.problems) == PROBLEMS - 1


def test_the_same_again_is_counted_also_when_something_else_came_between(found: Problems) -> None:
    found.report("refresh", InvalidValue("a"))
    found.report("acting", InvalidValue("b"))
    found.report("refresh", InvalidValue("a"))
    assert [(p["where"], p["times"]) for p in found.problems] == [("acting", 1), ("refresh", 2)]


def test_a_refresh_that_works_again_takes_its_own_problem_away_and_no_other(found: Problems) -> None:
    found.watch("refresh", lambda: away("postgresql"))
    found.watch("looking for drift", lambda: away("redis"))
    found.guard("planning", lambda: away("postgresql"))
    found.watch("refresh", lambda: None)
    assert [p["where"] for p in found.problems] == ["looking for drift", "planning"]


def test_a_click_that_failed_with_a_store_says_so_once_the_store_answers_again(found: Problems) -> None:
    found.guard("planning", lambda: away("postgresql"))
    found.accept(fake.snapshot(postgres=HalfError(message="PostgreSQL is away.", kind="X")))
    assert [p["healed"] for p in found.problems] == [""]
    found.accept(fake.snapshot())
    assert [p["healed"] for p in found.problems] == ["PostgreSQL"]
    found.guard("planning", lambda: away("postgresql"))
    assert [(p["healed"], p["times"]) for p in found.problems] == [("", 2)]


def test_an_older_answer_of_the_store_heals_nothing(found: Problems) -> None:
    before = fake.snapshot()
    found.guard("planning", lambda: away("redis"))
    found.accept(before)
    assert [p["healed"] for p in found.problems] == [""]


def test_a_bug_brings_its_traceback_to_copy_and_no_password() -> None:
    urls = {"database_url": "postgresql://u:s3kret-canary@h/d", "redis_url": "redis://h/0"}
    found = Problems(Settings(profile="demo", **urls))  # type: ignore[arg-type]

    def broken() -> None:
        raise RuntimeError("connection to postgresql://u:s3kret-canary@h/d failed")

    found.guard("refresh", broken)
    text = json.dumps(found.problems)
    assert "RuntimeError" in text
    assert "Traceback" in found.problems[0]["details"]
    assert "s3kret-canary" not in text
