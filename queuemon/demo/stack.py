"""The embedded stack: a PostgreSQL and a Valkey in a folder, up, down and healed; demo, CLI and tests use it.

The folder belongs to one user. `state.json` (readable by its owner alone) keeps ports and passwords, `demo.lock` makes
commands take turns, `postgres/` and `valkey/` hold the data, `processes/` what the demo runs besides. Root's servers
run as an account without rights; where that account cannot enter the folder, the data lies in /var/lib/queuemon.
"""

from __future__ import annotations

import hashlib
import os
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
from queuemon.demo.host import SHARED, Account, command, disk_errors, make_folder, server_account
from queuemon.demo.servers import PortTaken, Postgres, Server, Valkey
from queuemon.demo.state import STATE_FILE, StackUrls, State
from queuemon.errors import StackError

#: How long one command waits for another that works on the same folder.
_LOCK_SECONDS: Final = 180.0
_PORT_TRIES: Final = 5
#: Its presence also says that the folder is a stack's.
_LOCK: Final = "demo.lock"


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
            (self.directory / _LOCK).touch(0o600)
            with self._lock():
                self._make_home()
                if fresh:
                    self._stop(self._servers(binaries, account))
                    self._wipe()
                return self._start(
                    self._servers(binaries, account), State.load(self.directory) or State.new(), binaries
                )

    def down(self) -> None:
        """Stop the demo's processes and both servers; the data stays. Does nothing when nothing runs.

        Raises StackError for a folder that is no stack's: there none is stopped.
        """
        with disk_errors(self.directory), self._lock() as ours:
            if not ours:
                raise StackError(
                    f"there is no demo in {self.directory}: the folder holds something else",
                    expected="a folder that queuemon demo up has made",
                    next_step="name it with --dir or QUEUEMON_DEMO_DIR",
                )
            self._stop(self._known_servers())

    def destroy(self) -> None:
        """Stop everything and delete all that the stack wrote."""
        with disk_errors(self.directory), self._lock() as ours:
            if not ours:
                return
            self._stop(self._known_servers())
            self._wipe()
            if self._home() != self.directory.resolve():
                shutil.rmtree(self._home(), ignore_errors=True)
            (self.directory / _LOCK).unlink(missing_ok=True)

    def urls(self) -> StackUrls:
        """The URLs of the running servers; StackError when they do not run."""
        state = State.load(self.directory) if self.status().running else None
        if state is None:
            raise StackError(
                f"the embedded servers in {self.directory} do not run",
                expected="a stack that is up",
                next_step=command("up", self.directory),
            )
        return state.urls()

    def status(self) -> StackStatus:
        """What runs, since when, and where; starts and changes nothing."""
        with disk_errors(self.directory):
            if self.directory.is_dir():
                self._refuse_foreign_folder()
            state = State.load(self.directory)
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
        # In this order: another command that makes the stack at this moment begins with the lock.
        if any(self.directory.iterdir()) and not (self.directory / _LOCK).exists():
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
        (self.directory / STATE_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.directory / "processes", ignore_errors=True)
        for server in self._known_servers():
            for path in (server.folder, *server.home.glob(f"{server.folder_name}.new-*")):
                if path.exists():
                    shutil.rmtree(path)
            for path in server.home.glob(f"{server.folder_name}.log*"):
                path.unlink()

    @contextmanager
    def _lock(self) -> Iterator[bool]:
        """One command at a time; the system frees the lock of a command that was killed. False: this is no stack.

        Without a folder there is nothing to lock: somebody may have deleted it under running servers.
        """
        path = self.directory / _LOCK
        if not path.exists():
            yield not self.directory.exists()
            return
        self._refuse_foreign_folder()
        with path.open("r+") as file:
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
            yield True

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

    def _start(self, servers: tuple[Postgres, Valkey], state: State, binaries: Binaries) -> StackUrls:
        postgres, valkey = servers
        versions = binaries.versions()
        state = replace(state, postgres_version=versions[0], valkey_version=versions[1])
        for _ in range(_PORT_TRIES):
            state = state.with_free_ports(postgres=postgres.main() is None, valkey=valkey.main() is None)
            state.save(self.directory)
            try:
                _together(
                    partial(postgres.start, state.postgres_port, state.postgres_password, renew=not state.settled),
                    partial(valkey.start, state.valkey_port, state.valkey_password, renew=not state.settled),
                )
            except PortTaken:
                continue
            if not state.settled:
                replace(state, settled=True).save(self.directory)
            return state.urls()
        raise StackError(
            "other programs took every port that was tried",
            expected="two free ports on 127.0.0.1",
            next_step="try again",
        )

    def _stop(self, servers: tuple[Postgres, Valkey]) -> None:
        processes.stop_all(self.directory)
        _together(*(server.stop for server in servers))


def _together(*tasks: Callable[[], None]) -> None:
    """Run the tasks at once; when several fail, an error that is ours goes before a port that was taken."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        errors = [error for future in [pool.submit(task) for task in tasks] if (error := future.exception())]
    for error in sorted(errors, key=lambda e: isinstance(e, PortTaken)):
        raise error


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
