"""Runs beside this process: started as `queuemon runbook run`, watched by their record, stopped as by `kill`.

What is started here outlives this process: a kernel that is restarted cuts nothing short, and finds it by its record.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from queuemon import config
from queuemon.config import Settings
from queuemon.errors import InvalidValue, NotAllowed, RunbookError
from queuemon.runbooks import past
from queuemon.runbooks.catalogue import working_folder
from queuemon.runbooks.past import PastRun
from queuemon.runbooks.run import ID_LENGTH
from queuemon.runbooks.secrets import Blotter


@dataclass(frozen=True, kw_only=True)
class Started:
    """A run whose process was started here."""

    id: str
    #: Of the runbook.
    name: str
    process: subprocess.Popen[bytes]
    #: What the process says when it refuses to run.
    _errors: IO[bytes]
    _blotter: Blotter

    def wait(self) -> str:
        """Wait for its end, once; returns what it said then: empty, or one sentence."""
        self.process.wait()
        with self._errors as file:
            file.seek(0)
            return self._blotter.text(file.read().decode("utf-8", "replace").strip())

    def stop(self) -> None:
        """Stop it, as `stop` does; one that has ended is left alone."""
        self.process.terminate()


def runs_folder() -> Path:
    """Where the records of runs are kept that are started without a folder of their own."""
    return working_folder() / "runs"


def start(settings: Settings, name: str, values: Mapping[str, Any], *, runs_dir: Path) -> Started:
    """Start a run of a runbook on the stores of these settings; raises InvalidValue for what cannot be passed on.

    The process checks everything again, so that it may still refuse: `Started.wait` tells.
    """
    run_id = uuid4().hex[:ID_LENGTH]
    words = [word for key, value in values.items() for word in ("-p", f"{key}={_text(value)}")]
    return _start(settings, name, run_id, ["run", name, "--run-id", run_id, *words], runs_dir)


def resume(settings: Settings, run: PastRun, *, runs_dir: Path) -> Started:
    """Go on with a run that was interrupted, stopped or refused."""
    return _start(settings, run.name, run.id, ["resume", run.id], runs_dir)


def stop(run: PastRun) -> None:
    """Stop a run of this machine: its step is interrupted, puts back what it changed, and the record is kept.

    One that has ended is left alone. Raises RunbookError for one elsewhere, NotAllowed for another user's.
    """
    process = run.facts.get("process")
    if run.state != "running" or not isinstance(process, dict):
        return
    if process.get("host") != socket.gethostname():
        raise RunbookError(
            f"run {run.id} is at work on {str(process.get('host'))[:60]}", next_step="stop it there, as by Ctrl-C"
        )
    try:
        os.kill(int(process["pid"]), signal.SIGTERM)
    except ProcessLookupError:
        return
    except PermissionError:
        raise NotAllowed(f"run {run.id} belongs to another user of this machine ({run.actor})") from None


def _start(settings: Settings, name: str, run_id: str, words: list[str], runs_dir: Path) -> Started:
    past.check_id(run_id)
    command = [sys.executable, "-P", "-m", "queuemon", "runbook", *words, "--runs-dir", str(runs_dir), "--json"]
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the value
    try:
        process = subprocess.Popen(
            command, cwd=working_folder(), env=config.environment_of(settings), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise InvalidValue(
            f"the run cannot be started ({type(error).__name__})",
            expected="parameters that a command line can hold",
            next_step="give shorter ones, without NUL",
        ) from None
    return Started(id=run_id, name=name, process=process, _errors=errors, _blotter=Blotter.of(settings))


def _text(value: Any) -> str:
    """A parameter's value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)
