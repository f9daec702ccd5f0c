"""The life of one embedded PostgreSQL and one Valkey: initialise, start, recognise, heal, stop. Stack drives them.

A process belongs to a server when it works in the server's own data folder; pid files only say which of those is the
main one. So a pid that the system gave to another program is never touched, and children that outlived their parent
are found.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

import psutil

from queuemon.demo.binaries import Binaries
from queuemon.demo.host import LOOPBACK, NO_SPACE, Account, disk_full, make_folder, write_private
from queuemon.demo.processes import end, runs, start_detached
from queuemon.errors import StackError

#: The superuser of the embedded PostgreSQL, and its database.
USER: Final = "queuemon"
DATABASE: Final = "queuemon"

#: Recovery after a crash may replay a lot of log.
_START_SECONDS: Final = 120.0
_LOG_BYTES: Final = 10_000_000
_POLL_SECONDS: Final = 0.02

#: Settings for a small machine; times in UTC, reachable from this machine only, and by password.
POSTGRES_SETTINGS: Final[Mapping[str, str]] = {
    "autovacuum": "on",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "shared_buffers": "256MB",
    "synchronous_commit": "on",
    "timezone": "UTC",
}

#: A restart finds the data, a full memory refuses instead of forgetting jobs.
VALKEY_SETTINGS: Final[Mapping[str, str]] = {
    "appendfsync": "everysec",
    "appendonly": "yes",
    "databases": "16",
    "maxmemory-policy": "noeviction",
    "save": "",
}


class PortTaken(Exception):
    """Another program listens on the port; the stack chooses a new one."""


class Server(ABC):
    """One server program and its data folder."""

    title: ClassVar[str]
    folder_name: ClassVar[str]
    pid_file: ClassVar[str]
    #: Names that the kernel gives the processes of this server.
    programs: ClassVar[frozenset[str]]
    #: Signals that stop it, the gentle one first, with the seconds to wait after each.
    stop_steps: ClassVar[tuple[tuple[signal.Signals, float], ...]]

    def __init__(self, home: Path, binaries: Binaries, account: Account, settings: Mapping[str, str]) -> None:
        self.home = home
        self.binaries = binaries
        self.account = account
        self.settings = settings
        self.folder = home / self.folder_name
        self.log = home / f"{self.folder_name}.log"

    @abstractmethod
    def prepare(self, password: str, *, renew: bool) -> None:
        """Make the data folder ready for a start; the server does not run."""

    @abstractmethod
    def command(self, port: int, password: str) -> list[str | Path]:
        """The command line, run in the data folder."""

    @abstractmethod
    def answers(self, port: int, password: str) -> bool:
        """Whether this server accepts commands on the port."""

    def members(self) -> list[psutil.Process]:
        """Every process of this program that works on the data folder, or on a draft of it."""
        place = str(self.folder)
        found = []
        for process in psutil.process_iter(["name"]):
            if process.info["name"] not in self.programs:
                continue
            with suppress(psutil.Error, OSError):
                where = [process.cwd(), *process.cmdline()]
                if any(w == place or w.startswith(f"{place}.new-") for w in where) and runs(process):
                    found.append(process)
        return found

    def main(self) -> psutil.Process | None:
        """The server's own process; None when it does not run."""
        try:
            pid = int((self.folder / self.pid_file).read_text().split("\n")[0])
        except (OSError, ValueError):
            return None
        return next((p for p in self.members() if p.pid == pid), None)

    def start(self, port: int, password: str, *, renew: bool = False) -> None:
        """Make the server answer on `port`: leave it when it does, else heal what a kill left behind and start it.

        `renew` restarts it with this password, whatever it had before. Raises PortTaken when another program listens
        there, and StackError with the last lines of the log.
        """
        process = self.main()
        start_anew = process is None or renew
        if start_anew:
            self.stop()
            self.prepare(password, renew=renew)
            if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.old"))
        log_offset = self.log.stat().st_size if self.log.exists() else 0
        if start_anew:
            command, env = self.command(port, password), environment()
            pid = start_detached(command, directory=self.folder, env=env, log=self.log, account=self.account)
            process = psutil.Process(pid) if psutil.pid_exists(pid) else None
        self._await_answer(process, port, password, log_offset=log_offset)

    def stop(self) -> None:
        """End the server and whatever is left of an earlier one; returns when no process works on the data folder."""
        main = self.main()
        if main is not None:
            end([main], *self.stop_steps)
        left = self.members()
        if left:
            end(left, (self.stop_steps[-1][0], 2.0))
        # Nobody works here any more, so a pid in the file is stale, or another program's by now.
        (self.folder / self.pid_file).unlink(missing_ok=True)

    def _await_answer(self, process: psutil.Process | None, port: int, password: str, *, log_offset: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers(port, password):
            if process is None or not runs(process):
                raise self._did_not_start(log_offset, password)
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.title} in {self.folder} does not answer (process {process.pid} runs)",
                    expected=f"an answer within {_START_SECONDS:g} s",
                    next_step=f"queuemon demo down, then queuemon demo up; its log is {self.log}",
                )
            time.sleep(_POLL_SECONDS)
        # An answer from a port proves nothing when our own process has just given up that port to another program.
        if process is None or not runs(process):
            raise self._did_not_start(log_offset, password)

    def _did_not_start(self, log_offset: int, password: str) -> Exception:
        with self.log.open("rb") as file:
            file.seek(log_offset)
            text = file.read(200_000).decode("utf-8", "replace")
        if "Address already in use" in text:
            return PortTaken(self.title)
        return self._failed("did not start", text, password)

    def _failed(self, what: str, output: str, password: str) -> StackError:
        if NO_SPACE in output:
            return disk_full(self.folder)
        lines = ["".join(c if c.isprintable() else " " for c in line) for line in output.splitlines() if line.strip()]
        last = " | ".join(lines[-6:]).replace(password, "…")[-1200:] or "it printed nothing"
        return StackError(
            f"{self.title} {what}: {last}",
            expected="a running server",
            next_step=f"read {self.log}; queuemon demo up --fresh starts over and deletes the demo's data",
        )


class Postgres(Server):
    """The embedded PostgreSQL: TCP on loopback, SCRAM passwords, superuser and database `queuemon`."""

    title = "PostgreSQL"
    folder_name = "postgres"
    pid_file = "postmaster.pid"
    programs = frozenset({"postgres", "initdb"})
    # INT: fast shutdown, sessions are ended; QUIT: immediate, the next start recovers.
    stop_steps = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0))

    def prepare(self, password: str, *, renew: bool) -> None:
        major = self.binaries.versions()[0].split(".")[0]
        if not (self.folder / "PG_VERSION").exists():
            self._initialise(password, int(major))
            return
        found = (self.folder / "PG_VERSION").read_text().strip()
        if found != major:
            raise StackError(
                f"the data in {self.folder} is of PostgreSQL {found}",
                expected=f"data of PostgreSQL {major}, which this environment brings",
                next_step="queuemon demo up --fresh starts over, or install the version that wrote it",
            )
        if renew:
            self._single_user(self.folder, f"ALTER ROLE {USER} PASSWORD '{password}'", password)

    def command(self, port: int, password: str) -> list[str | Path]:
        fixed = {"port": str(port), "listen_addresses": LOOPBACK, "unix_socket_directories": ""}
        settings = {**POSTGRES_SETTINGS, **self.settings, **fixed}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [self.binaries.postgres / "postgres", "-D", self.folder, *options]

    def answers(self, port: int, password: str) -> bool:
        """Any answer but "the database system is starting up" to the first packet of a session."""
        body = struct.pack("!I", 196608) + f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
        reply = _ask(port, struct.pack("!I", len(body) + 4) + body, bool)
        return reply[:1] in {b"R", b"E"} and b"C57P03" not in reply

    @property
    def _hurried(self) -> bool:
        """Whether the data need not survive a power cut."""
        return self.settings.get("fsync") == "off"

    def _initialise(self, password: str, major: int) -> None:
        """Create the data in a draft folder and move it into place when it is complete."""
        draft = self.home / f"{self.folder_name}.new-{secrets.token_hex(4)}"
        make_folder(draft, 0o700, self.account)
        secret, data = draft / "password", draft / "data"
        write_private(secret, password, self.account)
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        result = subprocess.run(
            [
                *(self.binaries.postgres / "initdb", "--pgdata", data, "--username", USER, "--pwfile", secret),
                *("--auth=scram-sha-256", "--encoding=UTF8", *(locale if major >= 17 else ["--locale=C.UTF-8"])),
                *(["--no-sync"] if self._hurried else []),
            ],
            cwd=draft,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self.account.popen(),
        )
        if result.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise self._failed("could not be initialised", result.stdout + result.stderr, password)
        self._single_user(data, f"CREATE DATABASE {DATABASE}", password)
        shutil.rmtree(self.folder, ignore_errors=True)  # what an initialisation of another program left half done
        data.rename(self.folder)
        for leftover in self.home.glob(f"{self.folder_name}.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _single_user(self, data: Path, statement: str, password: str) -> None:
        """Run one statement without starting the server, and without a password."""
        result = subprocess.run(
            [
                self.binaries.postgres / "postgres",
                "--single",
                *(["-F"] if self._hurried else []),
                "-D",
                data,
                "-j",
                "postgres",
            ],
            input=f"{statement};\n\n",
            cwd=data,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            **self.account.popen(),
        )
        if result.returncode != 0 or re.search(r"\b(ERROR|FATAL|PANIC):", result.stderr):
            raise self._failed("could not be set up", result.stderr, password)


class Valkey(Server):
    """The embedded Valkey (or a Redis): TCP on loopback, a password, an append-only file."""

    title = "Valkey"
    folder_name = "valkey"
    pid_file = "valkey.pid"
    programs = frozenset({"valkey-server", "redis-server"})
    stop_steps = ((signal.SIGTERM, 30.0),)

    def prepare(self, password: str, *, renew: bool) -> None:
        make_folder(self.folder, 0o700, self.account)

    def command(self, port: int, password: str) -> list[str | Path]:
        fixed = {
            "bind": LOOPBACK,
            "port": str(port),
            "requirepass": password,
            "dir": str(self.folder),
            "pidfile": str(self.folder / self.pid_file),
            "daemonize": "no",
        }
        settings = {**VALKEY_SETTINGS, **self.settings, **fixed}
        lines = [f"{key} {json.dumps(value, ensure_ascii=False)}\n" for key, value in settings.items()]
        # A file, since everybody can read a command line.
        config = self.folder / "valkey.conf"
        write_private(config, "".join(lines), self.account)
        return [self.binaries.valkey, config]

    def answers(self, port: int, password: str) -> bool:
        words = [b"AUTH", b"default", password.encode()]
        packet = b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words) + b"*1\r\n$4\r\nPING\r\n"
        return _ask(port, packet, lambda reply: reply.count(b"\r\n") >= 2) == b"+OK\r\n+PONG\r\n"


def environment() -> dict[str, str]:
    """What a server gets of the environment: nothing that could redirect it (PGDATA, LD_PRELOAD, …) and no secret."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _ask(port: int, packet: bytes, enough: Callable[[bytes], bool]) -> bytes:
    """Send a packet to a loopback port and read until there is enough; what came until then when it breaks off."""
    reply = b""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=2.0) as talk:
        talk.sendall(packet)
        while not enough(reply) and (more := talk.recv(1024)):
            reply += more
    return reply
