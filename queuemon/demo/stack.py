"""The embedded stack: a PostgreSQL and a Valkey in a folder, up, down and healed; demo, CLI and tests use it.

The folder belongs to one user. `state.json` (readable by its owner alone) keeps ports and passwords, `demo.lock` makes
commands take turns, `postgres/` and `valkey/` hold the data, `processes/` what the demo runs besides. Root's servers
run as an account without rights; where that account cannot enter the folder, the data lies in /var/lib/queuemon.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from queuemon import config
from queuemon.demo import processes
from queuemon.demo.binaries import Binaries, bundled, reachable
from queuemon.demo.host import (
    LOOPBACK,
    SHARED,
    Account,
    disk_errors,
    free_port,
    make_folder,
    port_is_free,
    server_account,
    write_private,
)
from queuemon.demo.servers import DATABASE, USER, PortTaken, Postgres, Server, Valkey
from queuemon.errors import StackError

#: How long one command waits for another that works on the same folder.
_LOCK_SECONDS: Final = 180.0
_PORT_TRIES: Final = 5
#: Its presence also says that the folder is a stack's.
_LOCK: Final = "demo.lock"
_STATE: Final = "state.json"


@dataclass(frozen=True, kw_only=True, repr=False)
class StackUrls:
    """Where the two servers answer; both URLs hold a password."""

    database_url: str
    redis_url: str

    def __repr__(self) -> str:
        return "StackUrls(database_url='…', redis_url='…')"


@dataclass(frozen=True, kw_only=True)
class ServerStatus:
    """One server as it stands."""

    #: "PostgreSQL" or "Valkey".
    name: str
    running: bool
    pid: int | None
    #: Its port on 127.0.0.1; None before the first start.
    port: int | None
    #: Of the program, such as "18.6"; empty before the first start.
    version: str
    #: Its data.
    directory: Path
    log: Path
    #: When the process started.
    since: datetime | None


@dataclass(frozen=True, kw_only=True)
class StackStatus:
    """Both servers and the demo's own background processes (name → pid)."""

    directory: Path
    postgres: ServerStatus
    valkey: ServerStatus
    processes: Mapping[str, int]

    @property
    def running(self) -> bool:
        """Whether both servers run."""
        return self.postgres.running and self.valkey.running


@dataclass(frozen=True, kw_only=True, repr=False)
class _State:
    """What the next command needs to know; kept in state.json."""

    postgres_port: int
    valkey_port: int
    postgres_password: str
    valkey_password: str
    postgres_version: str = ""
    valkey_version: str = ""
    #: False until PostgreSQL is known to have taken the password.
    settled: bool = False

    @classmethod
    def new(cls) -> _State:
        postgres_port, valkey_port = _two_ports()
        return cls(
            postgres_port=postgres_port,
            valkey_port=valkey_port,
            postgres_password=secrets.token_urlsafe(24),
            valkey_password=secrets.token_urlsafe(24),
        )


class Stack:
    """The embedded servers in one folder (default: the user's state folder).

    `postgres_settings` and `valkey_settings` override the defaults from the next start on.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        postgres_settings: Mapping[str, str] | None = None,
        valkey_settings: Mapping[str, str] | None = None,
        binaries: Binaries | None = None,
    ) -> None:
        self.directory = (directory or config.demo_directory()).expanduser().absolute()
        self._postgres_settings = dict(postgres_settings or {})
        self._valkey_settings = dict(valkey_settings or {})
        self._binaries = binaries

    def up(self, *, fresh: bool = False) -> StackUrls:
        """Start what does not run, heal what was killed, and return the URLs; `fresh` deletes all data first.

        Returns at once when both servers run. Raises StackError; what was started until then keeps running.
        """
        binaries = self._binaries or bundled()
        with disk_errors(self.directory):
            account = server_account()
            binaries = reachable(binaries, account)
            self._make_folder(account)
            with self._lock():
                self._make_home()
                if fresh:
                    self._stop(self._servers(binaries, account))
                    self._wipe()
                return self._start(self._servers(binaries, account), self._load() or _State.new(), binaries)

    def down(self) -> None:
        """Stop the demo's processes and both servers; the data stays. Does nothing when nothing runs."""
        with disk_errors(self.directory), self._lock():
            self._stop(self._known_servers())

    def destroy(self) -> None:
        """Stop everything and delete all that the stack wrote."""
        with disk_errors(self.directory), self._lock():
            self._stop(self._known_servers())
            self._wipe()
            if self._home() != self.directory.resolve():
                shutil.rmtree(self._home(), ignore_errors=True)
            (self.directory / _LOCK).unlink(missing_ok=True)

    def urls(self) -> StackUrls:
        """The URLs of the running servers; StackError when they do not run."""
        state = self._load() if self.status().running else None
        if state is None:
            raise StackError(
                f"the embedded servers in {self.directory} do not run",
                expected="a stack that is up",
                next_step="queuemon demo up",
            )
        return _urls(state)

    def status(self) -> StackStatus:
        """What runs, since when, and where; starts and changes nothing."""
        with disk_errors(self.directory):
            if self.directory.is_dir():
                self._refuse_foreign_folder()
            state = self._load()
            postgres, valkey = self._known_servers()
        return StackStatus(
            directory=self.directory,
            postgres=_status(postgres, state.postgres_port if state else None, state.postgres_version if state else ""),
            valkey=_status(valkey, state.valkey_port if state else None, state.valkey_version if state else ""),
            processes=processes.alive(self.directory),
        )

    # ---- the folder

    def _make_folder(self, account: Account) -> None:
        """Create the folder, or accept one that is empty or a stack's: `fresh` must never delete anything else."""
        if not self.directory.exists():
            make_folder(self.directory, 0o711 if account.switch else 0o700)
        self._refuse_foreign_folder()
        if not (self.directory / _LOCK).exists() and any(self.directory.iterdir()):
            raise StackError(
                f"the folder {self.directory} holds something else",
                expected="an empty or a new folder, or one that queuemon demo up has made",
                next_step="choose another one with --dir or QUEUEMON_DEMO_DIR",
            )

    def _make_home(self) -> None:
        home = self._home()
        if home != self.directory.resolve():
            for folder, mode in ((SHARED, 0o755), (home.parent, 0o755), (home, 0o711)):
                make_folder(folder, mode)
            (home / "origin").write_text(f"{self.directory}\n", "utf-8")

    def _home(self) -> Path:
        """Where the servers' data lies: the folder itself, or a shared place when root's account cannot enter it."""
        account = server_account()
        home = self.directory.resolve()
        if account.reaches(home / "data"):
            return home
        return SHARED / "stacks" / hashlib.sha256(os.fsencode(home)).hexdigest()[:16]

    def _refuse_foreign_folder(self) -> None:
        owner = self.directory.stat().st_uid
        if owner != os.geteuid():
            raise StackError(
                f"the demo folder {self.directory} belongs to another user (uid {owner})",
                expected="a folder of your own",
                next_step="run the command as that user, or choose another folder with --dir or QUEUEMON_DEMO_DIR",
            )

    def _wipe(self) -> None:
        """Delete all data and the state; only what a stack itself writes."""
        (self.directory / _STATE).unlink(missing_ok=True)
        shutil.rmtree(self.directory / "processes", ignore_errors=True)
        for server in self._known_servers():
            for path in (server.folder, *server.home.glob(f"{server.folder_name}.new-*")):
                if path.exists():
                    shutil.rmtree(path)
            for path in server.home.glob(f"{server.folder_name}.log*"):
                path.unlink()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One command at a time; the system frees the lock of a command that was killed.

        Without a folder there is nothing to lock: somebody may have deleted it under running servers.
        """
        if not self.directory.is_dir():
            yield
            return
        self._refuse_foreign_folder()
        with open(os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)) as file:
            import fcntl

            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StackError(
                            f"another command has been working on {self.directory} for {_LOCK_SECONDS:g} s",
                            expected="one command at a time",
                            next_step="wait for it or end it, then try again",
                        ) from None
                    time.sleep(0.05)
            yield

    def _load(self) -> _State | None:
        """The saved state; None when there is none or it cannot be used (then ports and passwords are made anew)."""
        try:
            values = json.loads((self.directory / _STATE).read_text("utf-8"))
            return _State(**values)
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None

    def _save(self, state: _State) -> None:
        write_private(self.directory / _STATE, json.dumps(state.__dict__, indent=1))

    # ---- the servers

    def _servers(self, binaries: Binaries, account: Account) -> tuple[Postgres, Valkey]:
        home = self._home()
        return (
            Postgres(home, binaries, account, self._postgres_settings),
            Valkey(home, binaries, account, self._valkey_settings),
        )

    def _known_servers(self) -> tuple[Postgres, Valkey]:
        """The servers for looking and stopping, which takes no programs."""
        nothing = Binaries(postgres=Path(), valkey=Path())
        return self._servers(self._binaries or nothing, server_account())

    def _start(self, servers: tuple[Postgres, Valkey], state: _State, binaries: Binaries) -> StackUrls:
        postgres, valkey = servers
        versions = binaries.versions()
        state = replace(state, postgres_version=versions[0], valkey_version=versions[1])
        for _ in range(_PORT_TRIES):
            state = _with_free_ports(state, servers)
            self._save(state)
            try:
                _together(
                    partial(postgres.start, state.postgres_port, state.postgres_password, renew=not state.settled),
                    partial(valkey.start, state.valkey_port, state.valkey_password, renew=not state.settled),
                )
            except PortTaken:
                continue
            if not state.settled:
                self._save(replace(state, settled=True))
            return _urls(state)
        raise StackError(
            "other programs took every port that was tried",
            expected="two free ports on 127.0.0.1",
            next_step="try again",
        )

    def _stop(self, servers: tuple[Postgres, Valkey]) -> None:
        processes.stop_all(self.directory)
        _together(*(server.stop for server in servers))


def _with_free_ports(state: _State, servers: tuple[Postgres, Valkey]) -> _State:
    """The state with new ports where a server is down and another program has taken its port."""
    postgres, valkey = servers
    ports = _two_ports()
    if postgres.main() is None and not port_is_free(state.postgres_port):
        state = replace(state, postgres_port=ports[0])
    if valkey.main() is None and not port_is_free(state.valkey_port):
        state = replace(state, valkey_port=ports[1])
    return state


def _together(*tasks: Callable[[], None]) -> None:
    """Run the tasks at once; when several fail, an error that is ours goes before a port that was taken."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        errors = [error for future in [pool.submit(task) for task in tasks] if (error := future.exception())]
    for error in sorted(errors, key=lambda e: isinstance(e, PortTaken)):
        raise error


def _two_ports() -> tuple[int, int]:
    first = second = free_port()
    while second == first:
        second = free_port()
    return first, second


def _urls(state: _State) -> StackUrls:
    return StackUrls(
        database_url=f"postgresql://{USER}:{state.postgres_password}@{LOOPBACK}:{state.postgres_port}/{DATABASE}",
        redis_url=f"redis://:{state.valkey_password}@{LOOPBACK}:{state.valkey_port}/0",
    )


def _status(server: Server, port: int | None, version: str) -> ServerStatus:
    process = server.main()
    return ServerStatus(
        name=server.title,
        running=process is not None,
        pid=process.pid if process else None,
        port=port,
        version=version,
        directory=server.folder,
        log=server.log,
        since=datetime.fromtimestamp(process.create_time(), UTC) if process else None,
    )
