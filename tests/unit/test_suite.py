"""`make test` itself: a failing level is counted and hides no other, and a machine can read the last line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psutil
import pytest

from tests.support.wait import wait_until
from tools import suite

PASSES = "def test_a(): pass\ndef test_b(): pass\n"
FAILS = "import pytest\ndef test_a(): assert False\n@pytest.mark.skip\ndef test_b(): pass\n"
HANGS = "import time\ndef test_a(): time.sleep(60)\n"


@pytest.fixture
def levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five small levels in place of the real ones."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for name, text in {
        "passes": PASSES,
        "fails": FAILS,
        "hangs": HANGS,
        "empty": "",
        "broken": "import nothing_such",
    }.items():
        (tmp_path / f"test_{name}.py").write_text(text)
    made = [
        suite.Level(
            name=name,
            arguments=[f"--rootdir={tmp_path}", str(tmp_path / f"test_{name}.py")],
            limit_seconds=limit,
            lane=lane,
        )
        for name, limit, lane in (
            ("fails", 60, 0),
            ("passes", 60, 1),
            ("empty", 60, 0),
            ("broken", 60, 1),
            ("hangs", 3, 0),
        )
    ]
    monkeypatch.setattr(suite, "LEVELS", made)
    monkeypatch.setattr(suite, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.setattr(suite, "ROOT", tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def last_lines(text: str) -> tuple[dict[str, list[int]], str]:
    """The rows of the table by level (passed, failed, skipped), and the last line."""
    rows = re.findall(r"^([a-z]+) +(\d+) +(\d+) +(\d+) +[\d.]+", text, re.MULTILINE)
    return {name: [int(number) for number in numbers] for name, *numbers in rows}, text.splitlines()[-1]


@pytest.mark.usefixtures("levels")
def test_every_level_runs_and_is_counted_whatever_the_others_do(capfd: pytest.CaptureFixture[str]) -> None:
    assert suite.main([level.name for level in suite.LEVELS]) == 1
    out = capfd.readouterr().out
    assert out.index("==== passes") < out.index("==== broken")
    assert "nothing_such" in out  # what a level of a lane printed
    rows, last = last_lines(out)
    assert rows == {
        "fails": [0, 1, 1],
        "passes": [2, 0, 0],
        "empty": [0, 1, 0],
        "broken": [0, 1, 0],
        "hangs": [0, 1, 0],
    }
    assert last == "2 passed, 4 failed, 1 skipped"


@pytest.mark.usefixtures("levels")
def test_one_green_level_ends_with_zero(capfd: pytest.CaptureFixture[str]) -> None:
    assert suite.main(["passes"]) == 0
    assert last_lines(capfd.readouterr().out)[1] == "2 passed, 0 failed, 0 skipped"


def test_an_unknown_level_is_answered_with_the_known_ones(capfd: pytest.CaptureFixture[str]) -> None:
    assert suite.main(["unti"]) == 2
    assert "there are lint, unit, acceptance" in capfd.readouterr().err


def test_a_level_that_hangs_leaves_no_process(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = (
        "import pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    assert suite.run(["python", "-c", script], environment=os.environ, limit_seconds=2) == 124
    child = int(note.read_text())
    # Nothing may remain but an entry that init has not collected yet.
    wait_until(
        lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE,
        message="the child is gone",
    )
