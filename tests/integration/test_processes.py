"""The demo's background processes outlive their starter, are known again, and are stopped with all they started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from queuemon.demo import processes
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

ENV = {"PATH": os.environ["PATH"]}

#: Starts a child that ignores TERM, prints its pid, and waits.
PARENT = """
import signal, subprocess, sys
child = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
child = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
signal.pause()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    processes.stop_all(tmp_path, timeout=1.0)


def running(pid: int) -> bool:
    return psutil.pid_exists(pid) and processes.runs(psutil.Process(pid))


def child_of(folder: Path, name: str) -> int:
    log = folder / "processes" / f"{name}.log"
    return int(wait_until(lambda: log.read_text().strip(), message="the parent has started its child"))


def test_a_process_is_listed_until_it_ends_and_started_once(folder: Path):
    pid = processes.spawn("sleeper", ["sleep", "60"], folder, ENV)
    assert processes.alive(folder) == {"sleeper": pid}
    assert processes.spawn("sleeper", ["sleep", "60"], folder, ENV) == pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes.alive(folder), message="the dead process is not listed")
    assert processes.spawn("sleeper", ["sleep", "60"], folder, ENV) != pid


def test_a_process_survives_the_program_that_started_it(folder: Path):
    code = (
        "import sys; from pathlib import Path; from queuemon.demo import processes;"
        "processes.spawn('sleeper', ['sleep', '60'], Path(sys.argv[1]), {'PATH': '/usr/bin:/bin'})"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, start_new_session=True)
    assert list(processes.alive(folder)) == ["sleeper"]


def test_stopping_ends_children_too_even_those_that_ignore_it(folder: Path):
    pid = processes.spawn("parent", [sys.executable, "-c", PARENT], folder, ENV)
    child = child_of(folder, "parent")
    processes.stop_all(folder, timeout=0.5)
    assert not running(pid)
    assert not running(child)
    assert processes.alive(folder) == {}


def test_children_of_a_killed_parent_are_found_and_ended(folder: Path):
    pid = processes.spawn("parent", [sys.executable, "-c", PARENT], folder, ENV)
    child = child_of(folder, "parent")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not running(pid))
    assert running(child)
    processes.stop_all(folder, timeout=0.5)
    assert not running(child)


@pytest.mark.parametrize("left", ["", "{", '{"pid": "x"}', "[]", None], ids=repr)
def test_a_process_is_stopped_even_where_its_pid_file_is_damaged_or_gone(folder: Path, left: str | None):
    pid = processes.spawn("parent", [sys.executable, "-c", PARENT], folder, ENV)
    child = child_of(folder, "parent")
    file = folder / "processes" / "parent.json"
    file.unlink() if left is None else file.write_text(left)
    processes.stop_all(folder, timeout=0.5)
    assert not running(pid)
    assert not running(child)
    assert not file.exists()


def test_a_program_that_only_works_in_the_folder_is_left_alone(folder: Path):
    with subprocess.Popen(["sleep", "60"], cwd=folder, start_new_session=True) as foreign:
        processes.stop_all(folder)
        assert foreign.poll() is None
        foreign.kill()


def test_only_the_named_processes_are_stopped(folder: Path):
    for name in ("one", "two"):
        processes.spawn(name, ["sleep", "60"], folder, ENV)
    processes.stop_all(folder, only=["one"])
    assert list(processes.alive(folder)) == ["two"]


def test_a_number_that_belongs_to_another_program_now_is_left_alone(folder: Path):
    processes.spawn("sleeper", ["sleep", "60"], folder, ENV)
    processes.stop_all(folder)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as foreign:
        record = {"pid": foreign.pid, "started": psutil.Process(foreign.pid).create_time() - 60, "session": foreign.pid}
        (folder / "processes" / "sleeper.json").write_text(json.dumps(record))
        assert processes.alive(folder) == {}
        processes.stop_all(folder)
        assert foreign.poll() is None
        foreign.kill()


def test_a_program_that_ends_at_once_is_not_listed_and_its_log_says_why(folder: Path):
    processes.spawn("broken", ["sh", "-c", "echo oh no; exit 1"], folder, ENV)
    wait_until(lambda: not processes.alive(folder))
    assert (folder / "processes" / "broken.log").read_text() == "oh no\n"
