"""Background processes of the demo: started so that they outlive the command, recognised, and stopped.

A pid alone proves nothing, since the system uses numbers again: a pid file also holds the start time of its process,
and a process that began at another time is foreign and never touched. Each process also carries a mark in its
environment, as do its children: so what runs is stopped even where its parent was killed, or its pid file is damaged.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from queuemon.demo.host import Account, disk_errors, make_folder, write_private

#: Start times are compared with this much slack: a stepped clock moves all of them a little.
_SLACK_SECONDS: Final = 2.0

#: The variable that says which process of which stack this is, or belongs to: NAME@FOLDER.
_MARK: Final = "QUEUEMON_DEMO_PROCESS"

#: The shell ends at once, so the program belongs to init and leaves no zombie with us. It starts with INT and QUIT
#: ignored (Ctrl-C is not meant for it) until it handles them itself.
_DETACH: Final = '"$@" >&2 </dev/null & echo $!'


def start_detached(
    argv: Sequence[str | Path], *, directory: Path, env: Mapping[str, str], log: Path, account: Account | None = None
) -> int:
    """Start a program in a session of its own, in `directory`, its output appended to `log`; returns its pid."""
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        started = subprocess.run(
            ["/bin/sh", "-c", _DETACH, "sh", *map(str, argv)],
            cwd=directory,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
            check=True,
            **(account.popen() if account else {}),
        )
    return int(started.stdout)


def runs(process: psutil.Process) -> bool:
    """Whether a process still runs; one that ended and waits for its parent does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_gone(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until the processes have ended; returns those that have not."""
    deadline = time.monotonic() + seconds
    left = [p for p in processes if runs(p)]
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [p for p in left if runs(p)]
    return left


def end(processes: Iterable[psutil.Process], *steps: tuple[signal.Signals, float]) -> None:
    """Send each signal in turn to those still running, wait that many seconds for them, and KILL the rest."""
    left = list(processes)
    for sign, patience in (*steps, (signal.SIGKILL, 5.0)):
        for process in left:
            try:
                process.send_signal(sign)
            except psutil.NoSuchProcess:
                continue
        left = wait_gone(left, patience)
        if not left:
            return


def spawn(name: str, argv: Sequence[str | Path], directory: Path, env: Mapping[str, str]) -> int:
    """Start a named process of the stack in `directory`, unless it runs already; returns its pid.

    Its output goes to `processes/<name>.log`.
    """
    folder = directory / "processes"
    running = alive(directory).get(name)
    if running is not None:
        return running
    with disk_errors(directory):
        make_folder(folder, 0o700)
        marked = {**env, _MARK: f"{name}@{directory.resolve()}"}
        pid = start_detached(argv, directory=directory, env=marked, log=folder / f"{name}.log")
        try:
            record = {"pid": pid, "started": psutil.Process(pid).create_time()}
        except psutil.NoSuchProcess:
            return pid  # ended at once: alive() will not list it, its log says why
        write_private(folder / f"{name}.json", json.dumps(record))
    return pid


def alive(directory: Path) -> dict[str, int]:
    """The named processes of the stack in `directory` that run now, with their pids."""
    found = {path.stem: _recorded(path) for path in sorted((directory / "processes").glob("*.json"))}
    return {name: process.pid for name, process in found.items() if process is not None}


def stop_all(directory: Path, timeout: float = 10.0, *, only: Iterable[str] | None = None) -> None:
    """Stop all named processes (or `only` some) and what they started: TERM first, KILL after a time."""
    names = None if only is None else set(only)
    paths = [p for p in sorted((directory / "processes").glob("*.json")) if names is None or p.stem in names]
    family = {process.pid: process for process in _marked(directory, names)}
    for path in paths:
        if (process := _recorded(path)) is not None:
            family |= {p.pid: p for p in (process, *process.children(recursive=True))}
    # TERM goes to the named process alone: a supervisor ends its own workers, in its own order.
    main = [p for p in family.values() if _parent(p) not in family]
    for process in main:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    deadline = time.monotonic() + timeout
    wait_gone(main, timeout)
    end(wait_gone(family.values(), 0.0), (signal.SIGTERM, max(deadline - time.monotonic(), 1.0)))
    for path in paths:
        path.unlink(missing_ok=True)


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _marked(directory: Path, names: Collection[str] | None) -> Iterator[psutil.Process]:
    """The processes of a stack by their mark, with all that they started."""
    for process in psutil.process_iter():
        try:
            name, _, folder = process.environ().get(_MARK, "").partition("@")
        except (psutil.Error, OSError):  # another user's, or just gone
            continue
        if folder == str(directory.resolve()) and (names is None or name in names):
            yield process


def _recorded(path: Path) -> psutil.Process | None:
    """The process of a pid file; None when it has ended or the number belongs to another program now."""
    try:
        record = json.loads(path.read_text("utf-8"))
        process = psutil.Process(int(record["pid"]))
        same = abs(process.create_time() - float(record["started"])) < _SLACK_SECONDS
    except (OSError, ValueError, KeyError, TypeError, OverflowError, psutil.Error):
        return None
    return process if same and runs(process) else None
