"""A fresh clone and an empty HOME: `make lab` alone leads to a dashboard, `make setup` does nothing twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.empty import Place, empty_place, running_lab
from tests.support.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.acceptance


@pytest.fixture
def clone() -> Iterator[Place]:
    """What a clone of this working copy would hold, in a place without anything else."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    with empty_place("/usr/bin:/bin") as place:
        for name in filter(None, listing.stdout.split("\0")):
            if (ROOT / name).is_file():
                (place.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, place.folder / name)
        yield place


def python() -> str:
    """An interpreter outside of this environment."""
    return os.path.realpath(sys.executable)


@pytest.mark.timeout(420)
def test_make_lab_leads_from_a_clone_to_jupyterlab(clone: Place) -> None:
    with running_lab(clone, ["make", "lab", f"PYTHON={python()}", "LAB=--no-browser"], timeout=300):
        pass
    started = time.monotonic()
    with running_lab(clone, ["make", "lab", f"PYTHON={python()}", "LAB=--no-browser"], timeout=60):
        warm = time.monotonic() - started
    assert warm < 15, "a second start installs nothing"
    assert clone.run(clone.folder / ".venv/bin/queuemon", "demo", "down").returncode == 0
    wait_until(lambda: not clone.processes(), timeout=15, message="nothing keeps running")


def test_a_python_that_is_too_old_or_missing_is_refused_in_words(clone: Place) -> None:
    old = clone.base / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
    old.chmod(0o755)
    for python_name, words in ((old, "Python 3.9.2, queuemon needs 3.11 or newer"), ("nopython", "No nopython found")):
        answer = clone.run("make", "setup", f"PYTHON={python_name}")
        assert answer.returncode == 2
        assert words in answer.stderr
    assert not (clone.folder / ".venv").exists()


def test_make_alone_lists_the_commands(clone: Place) -> None:
    answer = clone.run("make")
    assert answer.returncode == 0
    for command in ("lab", "serve", "test", "lint", "prove", "bench", "setup", "lock", "clean"):
        assert f"\nmake {command} " in answer.stdout
