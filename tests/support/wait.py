"""Waiting for a condition instead of sleeping; every test that watches a process or a page uses it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], *, timeout: float = 10.0, message: str = "the condition holds", interval: float = 0.02
) -> T:
    """The condition's first truthy value; fails with `message` when there is none within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {message} (last value: {value!r})")
        time.sleep(interval)
    return value
