"""A user who has nothing: empty folder, empty HOME, no configuration; for tests of the wheel and of a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.wait import wait_until

#: What a machine sets for everybody, and what reaches its package index.
_KEPT = re.compile(r"LANG|LC_.*|TMPDIR|TZ|CI|.*_proxy|SSL_.*|PIP_.*|UV_.*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where that user works."""

    #: Holds `work` and `home`; gone after the test.
    base: Path
    #: The empty folder to run in.
    folder: Path
    environment: dict[str, str]

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with its output as text."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def processes(self) -> list[psutil.Process]:
        """The living processes that work in this place, name it, or have their HOME in it."""
        found = []
        for process in psutil.process_iter():
            try:
                traces = [process.cwd(), *process.cmdline(), process.environ().get("HOME", "")]
            except psutil.Error:
                continue
            if process.pid != os.getpid() and any(str(self.base) in trace for trace in traces):
                found.append(process)
        return found


@contextmanager
def empty_place(path: str) -> Iterator[Place]:
    """A new Place whose PATH is `path`; whatever still runs there afterwards is killed."""
    base = Path(tempfile.mkdtemp(prefix="queuemon-"))
    (home := base / "home").mkdir()
    (folder := base / "work").mkdir()
    for directory in (base, home, folder):
        directory.chmod(0o711)  # servers started by root run as an account without rights
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
    place = Place(base=base, folder=folder, environment={**kept, "HOME": str(home), "PATH": path})
    try:
        yield place
    finally:
        for process in place.processes():
            process.kill()
        shutil.rmtree(base)


@contextmanager
def running_lab(place: Place, command: Sequence[str], *, timeout: float) -> Iterator[str]:
    """Run a command that opens JupyterLab, yield the URL it prints once that answers, and end it with Ctrl-C."""
    log = place.base / "lab.log"
    with log.open("w") as output:
        program = subprocess.Popen(
            command,
            cwd=place.folder,
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def url() -> str:
        assert program.poll() is None, f"{' '.join(command)} ended: {log.read_text()}"
        found = re.search(r"runs\. Open\s+(http://127\.0\.0\.1:\d+/\S+)", log.read_text())
        return found[1] if found and _opens(found[1]) else ""

    try:
        yield wait_until(url, timeout=timeout, interval=0.1, message=f"{' '.join(command)} prints a URL that answers")
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGINT)
        try:
            program.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)
            raise AssertionError(f"{' '.join(command)} did not end on Ctrl-C: {log.read_text()}") from None


def _opens(url: str) -> bool:
    """Whether the page is there and asks for no password."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200) and "/login" not in str(response.url)
    except OSError:
        return False
