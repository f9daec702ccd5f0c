"""Starts a private JupyterLab or Voilà, and a Chromium cut off from the internet: what the browser tests stand on."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from jupyter_client.blocking import BlockingKernelClient
from playwright.sync_api import Browser, Page, Route, ViewportSize, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.support.wait import wait_until

#: So that kernels can import `tests.support`.
REPOSITORY = Path(__file__).parents[2]

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def free_port() -> int:
    """A port on the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(kw_only=True)
class Server:
    """A running JupyterLab or Voilà."""

    url: str
    token: str
    root: Path
    home: Path
    process: subprocess.Popen[bytes]
    log: Path

    def lab_url(self, notebook: str) -> str:
        """Address that opens one notebook, in a workspace of its own."""
        return f"{self.url}/lab/workspaces/auto-{secrets.token_hex(4)}/tree/{notebook}?token={self.token}"

    def voila_url(self, notebook: str, **query: str) -> str:
        """Address that renders one notebook."""
        extra = "".join(f"&{k}={v}" for k, v in query.items())
        return f"{self.url}/voila/render/{notebook}?token={self.token}{extra}"

    def run(self, code: str, *, seconds: float = 30.0) -> str:
        """Run code in the one kernel that is alive, as a cell would; returns what it printed, fails with its errors."""
        with self.running() as run:
            return run(code, seconds)

    @contextmanager
    def running(self) -> Iterator[Callable[..., str]]:
        """`run` for many pieces of code, over one connection."""
        with self._client() as client:

            def run(code: str, seconds: float = 30.0) -> str:
                printed: list[str] = []

                def hear(message: dict[str, Any]) -> None:
                    if message["msg_type"] == "stream":
                        printed.append(message["content"]["text"])

                reply = client.execute_interactive(code, timeout=seconds, output_hook=hear, store_history=False)
                assert reply["content"]["status"] == "ok", reply["content"]
                return "".join(printed)

            yield run

    @contextmanager
    def busy_with(self, code: str, *, seconds: float = 90.0) -> Iterator[None]:
        """While the kernel runs this code, as a long cell would; it must end by itself."""
        with self._client() as client:
            client.execute(code, store_history=False)
            wait_until(lambda: self.get("/api/kernels")[0]["execution_state"] == "busy", message="the kernel is busy")
            yield
            reply = client.get_shell_msg(timeout=seconds)
        assert reply["content"]["status"] == "ok", reply["content"]

    @contextmanager
    def _client(self) -> Iterator[BlockingKernelClient]:
        (kernel,) = self.get("/api/kernels")
        client = BlockingKernelClient(connection_file=str(self.home / "runtime" / f"kernel-{kernel['id']}.json"))
        client.load_connection_file()
        client.start_channels()
        try:
            yield client
        finally:
            client.stop_channels()

    def forget_kernels(self) -> None:
        """End all kernels, so that the next notebook starts afresh."""
        for kernel in self.get("/api/kernels"):
            self._ask("DELETE", f"/api/kernels/{kernel['id']}").close()

    def restart_kernel(self) -> None:
        """Restart the one kernel that is alive, as the menu does: what it had in memory is gone."""
        (kernel,) = self.get("/api/kernels")
        self._ask("POST", f"/api/kernels/{kernel['id']}/restart").close()

    def get(self, path: str) -> Any:
        """A JSON answer of the server's REST interface."""
        with self._ask("GET", path) as answer:
            return json.load(answer)

    def _ask(self, method: str, path: str) -> Any:
        token = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.url}{path}", headers=token, method=method)
        return urllib.request.urlopen(request, timeout=90)  # a kernel that has much to end takes its time


def _environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without its Jupyter settings, with home, config and runtime folders of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "QUEUEMON", "XDG_", "PYTEST"))}
    return {
        **clean,
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(REPOSITORY),
        **extra,
    }


def _settings(home: Path, theme: str) -> None:
    """JupyterLab's theme, and none of its questions about news."""
    folder = home / "settings" / "@jupyterlab" / "apputils-extension"
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in (
        ("themes", {"theme": theme}),
        ("notification", {"fetchNews": "false", "checkForUpdates": False}),
    ):
        (folder / f"{name}.jupyterlab-settings").write_text(json.dumps(values))


@contextmanager
def running(
    command: list[str], *, root: Path, home: Path, ready: str, env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start `command` on a free port, wait until the path `ready` answers, and stop the whole group at the end."""
    home.mkdir(parents=True, exist_ok=True)
    token, port = secrets.token_hex(16), free_port()
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, f"--port={port}"],
            cwd=root,
            env=_environment(home, {"JUPYTER_TOKEN": token, **(env or {})}),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(url=f"http://127.0.0.1:{port}", token=token, root=root, home=home, process=process, log=log)

    def answers() -> bool:
        assert process.poll() is None, f"the server ended:\n{log.read_text()[-3000:]}"
        try:
            urllib.request.urlopen(f"{server.url}{ready}?token={token}", timeout=5).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    try:
        wait_until(answers, timeout=60, message="the server answers")
        yield server
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started; its kernels share its group."""
    for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        if process.poll() is not None:
            break
        os.killpg(process.pid, sign)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


def lab(root: Path, home: Path, *, theme: str = "JupyterLab Light", env: Mapping[str, str] | None = None) -> Any:
    """A JupyterLab on `root`; a context manager that yields a `Server`."""
    home.mkdir(parents=True, exist_ok=True)
    _settings(home, theme)
    command = [
        "jupyterlab",
        "--no-browser",
        "--ip=127.0.0.1",
        "--ServerApp.port_retries=0",
        # Else each page that opens has Node look for extensions to build.
        "--ServerApp.tornado_settings={'page_config_data': {'buildAvailable': False, 'buildCheck': False}}",
        f"--ServerApp.root_dir={root}",
    ]
    if os.geteuid() == 0:
        command.append("--allow-root")
    return running(command, root=root, home=home, ready="/api/status", env=env)


def voila(
    root: Path,
    home: Path,
    *,
    theme: str = "light",
    template: str = "lab",
    env: Mapping[str, str] | None = None,
) -> Any:
    """A Voilà on `root`; a context manager that yields a `Server`."""
    command = ["voila", "--no-browser", "--Voila.ip=127.0.0.1", "--token", f"--theme={theme}"]
    command += [f"--template={template}", str(root)]
    return running(command, root=root, home=home, ready="/", env=env)


@dataclass(kw_only=True)
class Watched:
    """A page with everything it logged as an error and every address it wanted outside this machine."""

    page: Page
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def open_page(
    browser: Browser,
    *,
    width: int = 1400,
    height: int = 900,
    colour_scheme: Literal["light", "dark"] = "light",
    timezone: str | None = None,
) -> Watched:
    """A page that is refused everything outside 127.0.0.1 and remembers that it asked."""
    size: ViewportSize = {"width": width, "height": height}
    page = browser.new_page(viewport=size, color_scheme=colour_scheme, timezone_id=timezone)
    watched = Watched(page=page)

    def guard(route: Route) -> None:
        if urlsplit(route.request.url).hostname in {"127.0.0.1", "localhost", None}:
            route.continue_()
        else:
            watched.outside.append(route.request.url)
            route.abort()

    page.route("**/*", guard)
    page.on("pageerror", lambda error: watched.errors.append(f"pageerror: {error}"))
    page.on("console", lambda m: watched.errors.append(f"console: {m.text}") if m.type == "error" else None)
    return watched


def run_all(page: Page) -> None:
    """Run every cell of the open notebook; returns once the first of them has begun."""
    page.wait_for_selector(".jp-NotebookPanel .jp-CodeCell", timeout=60_000)
    # Run before the kernel is connected makes JupyterLab start another one and ask "Select Kernel". Only the status bar
    # knows: the notebook's own indicator says idle from the start.
    page.locator("#jp-main-statusbar", has_text=re.compile(r"\| Idle")).wait_for(timeout=90_000)
    started = page.locator(".jp-CodeCell .jp-InputPrompt", has_text=re.compile(r"\[(\*|\d+)\]"))
    # A menu that opens while the page still settles closes again without a command.
    for _ in range(5):
        try:
            page.click(".lm-MenuBar-itemLabel:text-is('Run')", timeout=5_000)
            page.click(".lm-Menu-itemLabel:text-is('Run All Cells')", timeout=5_000)
            started.first.wait_for(timeout=10_000)
        except PlaywrightTimeout:
            continue
        return
    raise AssertionError("Run All Cells did not start")
