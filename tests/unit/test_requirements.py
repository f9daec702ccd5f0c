"""A missing server or browser is a failure in CI, and elsewhere a skip that says how to install it."""

import pytest

from tests.support.requirements import missing


def test_missing_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="Chromium is missing; install it: apt-get install chromium"):
        missing("Chromium", "apt-get install chromium")


def test_missing_skips_elsewhere_and_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        missing("Chromium", "apt-get install chromium")
