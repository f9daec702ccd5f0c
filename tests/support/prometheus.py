"""Debian's promtool, Prometheus and Alertmanager, for tests: the judges of what we expose, not stand-ins."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.jupyter import free_port
from tests.support.requirements import missing
from tests.support.wait import wait_until

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


def page_of(port: int, *, accept: str = "text/plain") -> str:
    """One scrape as text."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """A running Prometheus and Alertmanager."""

    prometheus: str
    alertmanager: str

    def firing(self) -> set[tuple[str, str]]:
        """(alert, queue) that fire, as Prometheus says."""
        alerts = _json(f"{self.prometheus}/api/v1/alerts")["data"]["alerts"]
        return {(a["labels"]["alertname"], a["labels"].get("queue", "")) for a in alerts if a["state"] == "firing"}

    def judged_at(self) -> str:
        """When the rules were last judged; RFC 3339, so that later is greater."""
        (group,) = _json(f"{self.prometheus}/api/v1/rules")["data"]["groups"]
        return str(group["lastEvaluation"])

    def query(self, expr: str) -> list[Any]:
        """The result of an instant query."""
        return _json(f"{self.prometheus}/api/v1/query?query={quote(expr)}")["data"]["result"]  # type: ignore[no-any-return]


def _json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@contextmanager
def monitoring(folder: Path, *, exporter: int, rules: str, alertmanager: str) -> Iterator[Monitoring]:
    """Debian's Prometheus, which scrapes an exporter's port and judges `rules`, and Alertmanager with its
    configuration; both as they come, but quicker."""
    (folder / "rules.yml").write_text(rules)
    (folder / "alertmanager.yml").write_text(alertmanager)
    judged("amtool", "check-config", folder / "alertmanager.yml")
    here, there = free_port(), free_port()
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 250ms, evaluation_interval: 250ms}\n"
        "rule_files: [rules.yml]\n"
        f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{there}']}}]}}]}}\n"
        f"scrape_configs: [{{job_name: queuemon, static_configs: [{{targets: ['127.0.0.1:{exporter}']}}]}}]\n"
    )
    judged("promtool", "check", "config", folder / "prometheus.yml")
    commands = {
        "prometheus": [
            program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{here}",
        ],
        "alertmanager": [
            program("prometheus-alertmanager"), f"--config.file={folder}/alertmanager.yml",
            f"--storage.path={folder}/alerts", f"--web.listen-address=127.0.0.1:{there}",
            "--cluster.listen-address=",
        ],
    }  # fmt: skip
    running = []
    try:
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as log:
                running.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))
        made = Monitoring(prometheus=f"http://127.0.0.1:{here}", alertmanager=f"http://127.0.0.1:{there}")
        for url in (made.prometheus, made.alertmanager):
            wait_until(lambda url=url: _ready(url), timeout=60, message=f"{url} is ready")  # type: ignore[misc]
        yield made
    except BaseException:
        for path in sorted(folder.glob("*.log")):
            print(f"--- {path.name}\n{path.read_text(errors='replace')[-3_000:]}")
        raise
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def _ready(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
        return bool(answer.status == 200)
    return False
