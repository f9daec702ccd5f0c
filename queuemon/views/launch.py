"""Starts JupyterLab (`queuemon lab`) and Voilà (`queuemon serve`) on the notebooks of the package; the CLI calls it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.error import HTTPError, URLError

from queuemon import config
from queuemon.errors import InvalidValue, QueuemonError

#: The notebook that opens.
DASHBOARD: Final = "dashboard.ipynb"

#: Remembers the content of the copies, so that an edited one is told from an old one.
MANIFEST: Final = ".queuemon-notebooks.json"

#: Folders of notebooks that a working folder gets.
FOLDERS: Final = ("notebooks", "runbooks")

#: Seconds that a server may take to answer.
START_SECONDS: Final = 60.0

#: Settings of JupyterLab that the dashboard wants; a person's own settings win over them.
OVERRIDES: Final[Mapping[str, Mapping[str, Any]]] = {
    # Clicks are answered while a cell runs.
    "@jupyterlab/apputils-extension:kernels-settings": {"commsOverSubshells": "perCommTarget"},
    # No question about news, no look at the internet.
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    # An executed notebook keeps no widget state: it could hold payloads.
    "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": False},
}

#: Read by the server. A person's own jupyter_server_config.py wins over it.
SERVER_CONFIG: Final = f"from {__name__} import forget_widgets\nc.ContentsManager.pre_save_hook = forget_widgets\n"

_WIDGET: Final = "application/vnd.jupyter.widget-view+json"


# --------------------------------------------------------------------------------------------------------- notebooks


def packaged() -> Iterator[tuple[str, bytes]]:
    """Name ("notebooks/dashboard.ipynb") and content of every notebook of the wheel, or of the repository."""
    data = resources.files("queuemon") / "data"
    root: Traversable = data if data.is_dir() else Path(str(resources.files("queuemon"))).parent
    for folder in FOLDERS:
        source = root / folder
        if source.is_dir():
            for entry in sorted(source.iterdir(), key=lambda e: e.name):
                if entry.is_file() and entry.name.endswith((".ipynb", ".md")):
                    yield f"{folder}/{entry.name}", entry.read_bytes()


def unpack(workdir: Path) -> list[str]:
    """Copy the notebooks into the working folder; returns what a person should know.

    A copy that nobody edited is brought up to date; an edited one is kept, and the new version laid beside it as
    NAME.new.ipynb. A copy that was deleted comes back. In the repository itself nothing is copied.
    """
    if _is_repository(workdir):
        return []
    manifest = workdir / MANIFEST
    known = _read_manifest(manifest)
    said = []
    for name, content in packaged():
        target = workdir / name
        digest = hashlib.sha256(content).hexdigest()
        present = _digest(target)
        if present is None or (present != digest and present == known.get(name)):
            _write(target, content)
        elif present != digest:
            if known.get(name) != digest:
                beside = target.with_name(_new_name(target.name))
                if _digest(beside) != digest:
                    _write(beside, content)
                new = PurePosixPath(name).parent / beside.name
                said.append(f"{name} was edited and is kept; this version's is {new}")
            # The manifest keeps what the copy came from, until the person takes the new version over.
            continue
        known[name] = digest
    _write(manifest, json.dumps(known, indent=1, sort_keys=True).encode())
    return said


def _is_repository(workdir: Path) -> bool:
    """Whether the working folder is the checkout that this code runs from."""
    package = Path(str(resources.files("queuemon")))
    return not (package / "data").is_dir() and workdir.resolve() == package.parent.resolve()


def _new_name(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem}.new{dot}{ending}"


def _read_manifest(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        passing = path.with_name(f".{path.name}.{os.getpid()}")
        passing.write_bytes(content)
        passing.replace(path)
    except OSError as error:
        raise QueuemonError(
            f"{path} cannot be written ({error.strerror or type(error).__name__})",
            expected="a folder that can be written to",
            next_step="change into such a folder, or name one with --dir",
        ) from None


def forget_widgets(*, model: dict[str, Any], **_: object) -> None:
    """Leave widgets out of a notebook that JupyterLab saves: opened again, they would only say "model not found"."""
    content = model.get("content")
    for cell in content["cells"] if model.get("type") == "notebook" and content else ():
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if _WIDGET not in output.get("data", {})]


# ----------------------------------------------------------------------------------------------------------- servers


def lab(
    workdir: Path | None = None,
    notebook: str = DASHBOARD,
    *,
    profile: str | None = None,
    port: int | None = None,
    browser: bool = True,
) -> int:
    """Lay out the notebooks in the working folder, run JupyterLab there with one open; returns its exit code.

    JupyterLab runs no cell by itself: the person chooses Run All Cells.
    """
    folder = _prepared(workdir)
    path = _find(folder, notebook)
    command = ["jupyterlab", "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder}"]
    command += ["--ServerApp.port_retries=0", *_as_root()]
    with tempfile.TemporaryDirectory(prefix="queuemon-lab-") as settings:
        _write(Path(settings) / "labconfig" / "default_setting_overrides.json", json.dumps(OVERRIDES).encode())
        _write(Path(settings) / "jupyter_server_config.py", SERVER_CONFIG.encode())
        return _run(
            command,
            folder,
            option="--ServerApp.port",
            port=port,
            path=f"lab/tree/{path}",
            ready="api/status",
            environment={"JUPYTER_CONFIG_PATH": _joined(settings, "JUPYTER_CONFIG_PATH")},
            profile=profile,
            name="JupyterLab",
            browser=browser,
        )


def serve(
    workdir: Path | None = None,
    notebook: str = DASHBOARD,
    *,
    profile: str | None = None,
    port: int | None = None,
    browser: bool = True,
    theme: str = "light",
) -> int:
    """Run Voilà on one notebook, as a page without code; returns its exit code when it ends."""
    if theme not in {"light", "dark"}:
        raise InvalidValue(f"theme is {theme!r}", expected="light or dark")
    folder = _prepared(workdir)
    path = _find(folder, notebook)
    command = ["voila", str(folder / path), "--no-browser", "--Voila.ip=127.0.0.1", "--token", "--strip_sources=True"]
    command += ["--template=queuemon", f"--theme={theme}", "--show_tracebacks=False", "--Voila.port_retries=0"]
    templates = str(resources.files("queuemon.views") / "jupyter")
    return _run(
        command,
        folder,
        option="--Voila.port",
        port=port,
        path="",
        ready="voila/static/nothing",
        environment={"JUPYTER_PATH": _joined(templates, "JUPYTER_PATH")},
        profile=profile,
        name="Voilà",
        browser=browser,
    )


def _prepared(workdir: Path | None) -> Path:
    """The working folder with the notebooks in it; what a person should know of them is printed."""
    folder = (workdir or Path.cwd()).resolve()
    for line in unpack(folder):
        print(line, flush=True)  # noqa: T201
    return folder


def _find(workdir: Path, notebook: str) -> str:
    """The notebook's path below the working folder; its name alone is enough, also without the ending."""
    for name in (notebook, f"{notebook}.ipynb"):
        for candidate in (name, *(f"{folder}/{name}" for folder in FOLDERS)):
            if (workdir / candidate).is_file():
                return candidate
    raise InvalidValue(
        f"there is no notebook {notebook!r} in {workdir}",
        expected="the path of a notebook in the working folder",
        next_step="run `queuemon lab` once: it lays the notebooks there",
    )


def _as_root() -> list[str]:
    return ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []


def _joined(folder: str, variable: str) -> str:
    return os.pathsep.join(part for part in (folder, os.environ.get(variable, "")) if part)


def free_port(wanted: int | None) -> int:
    """The wanted port, or one that is free; raises InvalidValue for a wanted one that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except (OSError, OverflowError):
            raise InvalidValue(
                f"port {wanted} cannot be used", expected="a free port", next_step="name another with --port, or none"
            ) from None
        return int(probe.getsockname()[1])


def _run(
    command: list[str],
    workdir: Path,
    *,
    option: str,
    port: int | None,
    path: str,
    ready: str,
    environment: Mapping[str, str],
    profile: str | None,
    name: str,
    browser: bool,
) -> int:
    """Start a server, print its URL when it answers, and wait for its end; Ctrl-C ends it.

    The token travels in the environment: a command line is readable by every user of the machine.
    """
    chosen = free_port(port)
    token = os.environ.get("JUPYTER_TOKEN") or secrets.token_urlsafe(24)
    process = subprocess.Popen(
        [sys.executable, "-m", *command, f"{option}={chosen}"],
        cwd=workdir,
        env={**config.child_environment(profile), **environment, "JUPYTER_TOKEN": token, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    base = f"http://127.0.0.1:{chosen}/"
    url = f"{base}{path}?token={token}"

    def announce() -> None:
        if _answers(f"{base}{ready}?token={token}", process):
            print(f"\n{name} runs. Open\n\n    {url}\n\nCtrl-C ends it.\n", flush=True)  # noqa: T201
            if browser:
                _open(url)

    threading.Thread(target=announce, name="queuemon-announce", daemon=True).start()
    previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)
        end(process)


def end(process: subprocess.Popen[Any], *, seconds: float = 10.0) -> None:
    """Ask a server and its kernels to end, and insist."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, sign)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _answers(url: str, process: subprocess.Popen[Any]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own address
                return True
        except HTTPError:
            return True  # it answers: a page that runs the notebook is not asked for, just to see
        except (URLError, OSError):
            time.sleep(0.1)
    return False


def _open(url: str) -> None:
    import webbrowser

    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(url)
