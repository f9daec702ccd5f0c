"""Debian's promtool, Prometheus and Alertmanager, for tests: the judges of what we expose, not stand-ins."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request
from pathlib import Path

from tests.support.requirements import missing

_PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "amtool": "prometheus-alertmanager",
    "prometheus-alertmanager": "prometheus-alertmanager",
}


def program(name: str) -> str:
    """Where a program of Prometheus' family is; without it the test is skipped, and fails in CI."""
    return shutil.which(name) or missing(name, f"apt-get install {_PACKAGES[name]}")


def judged(name: str, *arguments: str | Path, stdin: str = "") -> str:
    """What promtool or amtool says; fails with it where the tool has any complaint."""
    done = subprocess.run(
        [program(name), *map(str, arguments)], input=stdin.encode(), capture_output=True, timeout=60, check=False
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, said
    return said


def page_of(port: int) -> str:
    """One scrape as text."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return answer.read().decode()  # type: ignore[no-any-return]
