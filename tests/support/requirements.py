"""What a test needs of the machine: missing means failed in CI and skipped, with the way to install it, elsewhere."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def in_ci() -> bool:
    """Whether nothing may be missing (CI=true, as every CI service sets it)."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def missing(what: str, install: str) -> NoReturn:
    """Fail or skip the test because something is not installed."""
    words = f"{what} is missing; install it: {install}"
    if in_ci():
        pytest.fail(words, pytrace=False)
    pytest.skip(words)
