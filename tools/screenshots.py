"""Takes the pictures of the README: the dashboard on the embedded demo, light and dark; for `make screenshots`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.jupyter import chromium, open_page
from tests.support.wait import wait_until

ROOT = Path(__file__).resolve().parent.parent
QUEUEMON = Path(sys.executable).with_name("queuemon")
#: What is to be seen: one queue full, one queue failing, the others well.
SCENARIOS = ("mrr-bug", "black-friday")


@contextmanager
def demo() -> Iterator[dict[str, str]]:
    """The environment of a demo of its own; the servers are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="queuemon-pictures-") as folder:
        Path(folder).chmod(0o711)  # as root, the servers run under an account without rights
        kept = {name: value for name, value in os.environ.items() if not name.startswith("QUEUEMON_")}
        environment = {**kept, "QUEUEMON_DEMO_DIR": f"{folder}/demo"}
        try:
            subprocess.run([QUEUEMON, "demo", "up"], check=True, env=environment)
            for scenario in SCENARIOS:
                subprocess.run([QUEUEMON, "demo", "scenario", scenario], check=True, env=environment)
            yield environment
        finally:
            subprocess.run([QUEUEMON, "demo", "down"], check=False, env=environment)


@contextmanager
def served(environment: dict[str, str], theme: str) -> Iterator[str]:
    """The URL of the dashboard as a web page in a theme."""
    script = f"from queuemon.views.launch import serve; serve(browser=False, theme={theme!r})"
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as output:
            program = subprocess.Popen(
                [sys.executable, "-c", script], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            found = wait_until(
                lambda: re.search(r"runs\. Open\s+(http\S+)", log.read_text()),
                timeout=60,
                message="Voilà prints its URL",
            )
            assert found
            yield found[1]
        finally:
            program.send_signal(signal.SIGINT)
            program.wait(30)


def main() -> None:
    """Write docs/dashboard-light.png and docs/dashboard-dark.png."""
    with demo() as environment, chromium() as browser:
        for theme in ("light", "dark"):
            with served(environment, theme) as url:
                page = open_page(browser, width=1400, height=900, colour_scheme=theme).page  # type: ignore[arg-type]
                page.goto(url)
                page.wait_for_selector("[data-qm=dashboard] [data-queue]", timeout=60_000)
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(6_000)  # a second refresh, so that trends are drawn
                page.locator("[data-qm=dashboard]").screenshot(path=ROOT / "docs" / f"dashboard-{theme}.png")
                page.close()


if __name__ == "__main__":
    main()
