"""Begins the record of the controls that are used, and leaves its judgement for the end."""

from __future__ import annotations

import pytest

from tests.support.controls import RECORD


def pytest_sessionstart() -> None:
    """Forget what an earlier run has used."""
    RECORD.unlink(missing_ok=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What judges the others runs after them."""
    items.sort(key=lambda item: item.name == "test_every_control_of_every_screen_is_used_against_real_stores")
