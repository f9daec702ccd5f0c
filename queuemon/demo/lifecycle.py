"""The demo as a whole: servers, schema, history, background processes, up and down; for `queuemon demo` and `lab`."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from pydantic import SecretStr

from queuemon import config
from queuemon.config import Settings
from queuemon.demo import history, processes
from queuemon.demo.host import disk_errors, write_private
from queuemon.demo.stack import ServerStatus, Stack
from queuemon.demo.state import StackUrls
from queuemon.engine.process import this_process
from queuemon.errors import QueuemonError
from queuemon.schema.migrate import upgrade_engine
from queuemon.store import Store, demo, workers
from queuemon.workbench import DEMO_URLS

RELAY: Final = "relay"
#: Any number may run: where one is killed, the other goes on at once.
SECOND_RELAY: Final = "relay-2"
SUPERVISOR: Final = "supervisor"
PRODUCER: Final = "producer"
#: The background processes, as arguments of this Python. URLs travel in the environment: everybody reads `ps`.
PROCESSES: Final[Mapping[str, tuple[str, ...]]] = {
    RELAY: ("-m", "queuemon", "relay"),
    SECOND_RELAY: ("-m", "queuemon", "relay"),
    SUPERVISOR: ("-m", "queuemon", "supervisor", "--handlers", "queuemon.demo.workload:HANDLERS", "--grace", "5"),
    PRODUCER: ("-m", "queuemon.demo.workload"),
}
#: What the processes read instead of any queuemon.toml of the user's.
_CONFIG: Final = "queuemon.toml"
_PROFILE: Final = '[profiles.demo]\ncolour = "blue"\n'

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class DemoStatus:
    """What of the demo runs."""

    directory: Path
    running: bool
    servers: tuple[ServerStatus, ...]
    #: Background processes that run, by name, with their pids.
    processes: Mapping[str, int]
    #: The scenario that is on; None where the database cannot say.
    scenario: str | None
    #: Jobs the history brought; 0 where none was loaded.
    history_jobs: int

    def __str__(self) -> str:
        lines = [f"The demo in {self.directory} is {'up' if self.running else 'down'}."]
        for server in self.servers:
            state = f"runs on port {server.port} (pid {server.pid})" if server.running else "does not run"
            lines.append(f"  {server.name} {server.version}".rstrip() + f": {state}")
        for name in PROCESSES:
            state = f"runs (pid {self.processes[name]})" if name in self.processes else "does not run"
            lines.append(f"  {name}: {state}")
        if self.scenario is not None:
            lines.append(f"  scenario: {self.scenario}; history: {self.history_jobs:,} jobs")
        return "\n".join(lines)


def _silent(_text: str) -> None:
    """Say nothing."""


def up(
    directory: Path | None = None,
    *,
    fresh: bool = False,
    workload: bool = True,
    seed: int = 7,
    rate: float = 1.0,
    scenario: str | None = None,
    say: Say = _silent,
) -> DemoStatus:
    """Start whatever of the demo does not run: servers, schema, history (once, about 10 s), background processes.

    Heals what was killed. `fresh` deletes all data first, `workload=False` starts the servers alone. Returns when the
    servers answer, or, with a `scenario`, when that is on. Raises StackError, InvalidValue for an unknown scenario.
    """
    from queuemon.demo import scenarios

    if scenario is not None:
        scenarios.check(scenario)
    stack = Stack(directory)
    urls = stack.up(fresh=fresh)
    settings = _settings(urls)
    with disk_errors(stack.directory):
        if _note_urls(stack, urls):
            processes.stop_all(stack.directory)  # they would talk to servers that moved
    with Store(settings, application="queuemon demo") as store:
        upgrade_engine(store.postgres.engine)
        if workload:
            _load(store, seed, say)
            _forget_dead(store)
            _spawn(stack, urls, rate)
    if scenario is not None:
        say(scenarios.start(scenario, stack.directory, say=say))
    return status(stack.directory)


def down(directory: Path | None = None) -> None:
    """Stop everything; the data stays. Does nothing when nothing runs; StackError for a folder that is no demo's."""
    stack = Stack(directory)
    stack.down()
    (stack.directory / DEMO_URLS).unlink(missing_ok=True)


def status(directory: Path | None = None) -> DemoStatus:
    """What runs; starts and changes nothing."""
    stack = Stack(directory)
    found = stack.status()
    scenario, jobs = _told(stack) if found.running else (None, 0)
    return DemoStatus(
        directory=found.directory,
        running=found.running,
        servers=(found.postgres, found.valkey),
        processes=found.processes,
        scenario=scenario,
        history_jobs=jobs,
    )


def settings_of(directory: Path | None = None) -> Settings:
    """Settings of the running demo; StackError when it is down."""
    return _settings(Stack(directory).urls())


def env(directory: Path | None = None) -> str:
    """The two URLs as lines for a shell. They hold passwords; StackError when the demo is down."""
    return "\n".join(f"export {name}={shlex.quote(url)}" for name, url in _environment(Stack(directory).urls()).items())


def _settings(urls: StackUrls) -> Settings:
    return Settings(
        profile="demo",
        colour="blue",
        embedded=True,
        database_url=SecretStr(urls.database_url),
        redis_url=SecretStr(urls.redis_url),
    )


def _environment(urls: StackUrls) -> dict[str, str]:
    return {"QUEUEMON_DATABASE_URL": urls.database_url, "QUEUEMON_REDIS_URL": urls.redis_url}


def _note_urls(stack: Stack, urls: StackUrls) -> bool:
    """Leave the URLs where `connect()` looks for them; returns whether others stood there."""
    path = stack.directory / DEMO_URLS
    text = json.dumps({"database_url": urls.database_url, "redis_url": urls.redis_url})
    before = path.read_text("utf-8") if path.exists() else text
    write_private(path, text)
    return before != text


def _load(store: Store, seed: int, say: Say) -> None:
    with store.postgres.begin() as connection:
        loaded = demo.is_demo(connection) and demo.state(connection, "history") is not None
    if loaded:
        return
    say("Loading a week of history (only this once) …")
    started = time.monotonic()
    found = history.load(store, seed)
    if found is not None:
        say(f"{found.jobs:,} jobs loaded in {time.monotonic() - started:.1f} s.")


def _forget_dead(store: Store) -> None:
    """Strike killed supervisors off the registry: a new one would stand by until the lease of the old one ends."""
    with store.postgres.begin() as connection:
        for name, pid in demo.helpers(connection, store.tables, this_process("").host):
            if not _runs(pid):
                workers.leave(connection, store.tables, name)


def _runs(pid: int) -> bool:
    try:
        return processes.runs(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def _spawn(stack: Stack, urls: StackUrls, rate: float) -> None:
    path = stack.directory / _CONFIG
    with disk_errors(stack.directory):
        write_private(path, _PROFILE)
    environment = {
        **config.child_environment("demo"),
        **_environment(urls),
        "QUEUEMON_CONFIG": str(path),
        "QUEUEMON_READ_ONLY": "",
    }
    alive = processes.alive(stack.directory)
    # What a killed supervisor left behind ends by itself, but not before its successor has started.
    processes.stop_all(stack.directory, only=[name for name in PROCESSES if name not in alive])
    for name, arguments in PROCESSES.items():
        more = ("--rate", f"{rate:g}") if name == PRODUCER else ()
        processes.spawn(name, (sys.executable, *arguments, *more), stack.directory, environment)


def _told(stack: Stack) -> tuple[str | None, int]:
    """What the database says of itself: the scenario, and the jobs of the history."""
    try:
        settings = settings_of(stack.directory)
        with Store(settings, application="queuemon demo") as store, store.postgres.begin(read_only=True) as connection:
            if not demo.is_demo(connection):
                return None, 0
            told = demo.state(connection, "history") or {}
            return demo.state(connection, "scenario") or "quiet", int(told.get("jobs", 0))
    except QueuemonError:
        return None, 0
