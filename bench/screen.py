"""What the dashboard costs: first paint, kernel time and bytes of a refresh, and whether the page's memory grows."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import CDPSession, Page

from bench.data import fill
from queuemon.workbench import Workbench
from tests.support import jupyter
from tests.support.jupyter import Server
from tests.support.operator import notebook

#: What screens are held to: seconds, milliseconds, bytes.
FIRST_PAINT, KERNEL, BYTES = 2.0, 150.0, 50_000

#: Refreshes for one figure, one each second.
REFRESHES = 60

_CONNECT = """
import queuemon
from pydantic import SecretStr
from queuemon.config import Settings
from queuemon.workbench import Workbench
wb = Workbench(Settings(profile="bench", statement_timeout_seconds=30,
    database_url=SecretStr({database!r}), redis_url=SecretStr({redis!r})))
"""

_SHOW = "import time; began = time.time()\nboard = queuemon.show(wb)\nboard"

#: Notes when the first row of the table is there.
_PAINTED = """() => {
  const look = () => {
    if (document.querySelector('[data-qm=dashboard] [data-queue]')) window.painted = Date.now() / 1000;
    else requestAnimationFrame(look);
  };
  look();
}"""


def run(workbench: Workbench, database: str, redis: str, total: int, *, minutes: float, queues: Sequence[int]) -> None:
    """`total` jobs in so many `queues`, one after the other; `minutes` of refreshes for the page's memory with each."""
    for number in queues:
        seconds = fill(workbench.store, total, queues=number)
        print(f"\n{total:,} jobs in {number} queues (loaded in {seconds:.0f} s)", flush=True)
        with _shown(_CONNECT.format(database=database, redis=redis)) as screen:
            judged("first paint after the cell began", screen.first_paint(), "s", FIRST_PAINT)
            screen.measure("refresh")
            screen.page.get_by_label(re.compile("^View details of queue:email-sending$")).click()
            screen.page.wait_for_selector(".qm-charts .main-svg", timeout=120_000)
            screen.measure("refresh with a queue opened")
            screen.grow(minutes)


@dataclass(kw_only=True)
class Screen:
    """A page that shows the dashboard, and its kernel."""

    lab: Server
    page: Page
    cdp: CDPSession
    kernel: psutil.Process
    #: Bytes of each frame that came over the page's sockets.
    frames: list[int] = field(default_factory=list)

    def first_paint(self) -> float:
        """Seconds from the cell's first statement to the first row on screen."""
        began = float(self.lab.run("print(began)"))
        painted: float = self.page.evaluate("window.painted")
        return painted - began

    def measure(self, name: str) -> None:
        """Kernel time and bytes of a refresh."""
        self._await_refreshes(3)  # what opening has set off is over
        self.frames.clear()
        before = sum(self.kernel.cpu_times()[:2])
        number = self._await_refreshes(REFRESHES)
        spent = (sum(self.kernel.cpu_times()[:2]) - before) / number
        judged(f"{name}: kernel time", spent * 1000, "ms", KERNEL)
        judged(f"{name}: bytes", sum(self.frames) / number, "bytes", BYTES)

    def grow(self, minutes: float) -> None:
        """The page's memory after garbage collection, over so many minutes of refreshes each second."""
        first = self._heap()
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            self.page.wait_for_timeout(min(60_000, 1_000 * max(1.0, until - time.monotonic())))
        last = self._heap()
        print(
            f"{'heap of the page':<44} {first / 2**20:9.1f} MiB, after {minutes:g} min {last / 2**20:.1f} MiB"
            f" ({(last - first) / 2**20:+.1f})",
            flush=True,
        )

    def _heap(self) -> float:
        self.cdp.send("HeapProfiler.collectGarbage")
        found: dict[str, Any] = self.cdp.send("Performance.getMetrics")
        return next(float(m["value"]) for m in found["metrics"] if m["name"] == "JSHeapUsedSize")

    def _await_refreshes(self, number: int) -> int:
        code = "print(board.strip['snapshots'])"
        before = now = int(self.lab.run(code))
        while now < before + number:
            self.page.wait_for_timeout(1_000 * (before + number - now))  # frames are heard meanwhile
            now = int(self.lab.run(code))
        return now - before


def judged(name: str, found: float, unit: str, limit: float) -> None:
    """Print a figure beside what it is held to."""
    word = "within" if found < limit else "MISSES"
    print(f"{name:<44} {found:12,.1f} {unit:<6} {word} {limit:,.0f} {unit}", flush=True)


@contextmanager
def _shown(setup: str) -> Iterator[Screen]:
    with tempfile.TemporaryDirectory() as folder, jupyter.chromium() as browser:
        root = Path(folder) / "work"
        root.mkdir()
        with jupyter.lab(root, Path(folder) / "home") as lab:
            page = jupyter.open_page(browser).page
            page.goto(lab.lab_url(notebook(root, setup, _SHOW)))
            page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", timeout=60_000)
            cdp = page.context.new_cdp_session(page)
            for domain in ("Network", "Performance", "HeapProfiler"):
                cdp.send(f"{domain}.enable")
            frames: list[int] = []
            cdp.on("Network.webSocketFrameReceived", lambda event: frames.append(_size(event["response"])))
            page.evaluate(_PAINTED)
            jupyter.run_all(page)
            page.wait_for_function("window.painted", timeout=120_000)
            page.get_by_label("Refresh every").select_option("1")
            kernel = psutil.Process(int(lab.run("import os; print(os.getpid())")))
            yield Screen(lab=lab, page=page, cdp=cdp, kernel=kernel, frames=frames)


def _size(frame: dict[str, Any]) -> int:
    """Bytes of a frame; a binary one comes in base64."""
    text: str = frame["payloadData"]
    return len(text) * 3 // 4 if frame["opcode"] == 2 else len(text.encode())
