"""What one command of the embedded stack leaves for the next: ports and passwords, in a file of its owner alone."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from queuemon.demo.host import LOOPBACK, free_port, port_is_free, write_private
from queuemon.demo.servers import DATABASE, USER

STATE_FILE: Final = "state.json"


@dataclass(frozen=True, kw_only=True, repr=False)
class StackUrls:
    """Where the two servers answer; both URLs hold a password."""

    database_url: str
    redis_url: str

    def __repr__(self) -> str:
        return "StackUrls(database_url='…', redis_url='…')"


@dataclass(frozen=True, kw_only=True, repr=False)
class State:
    """Ports, passwords and versions of one stack."""

    postgres_port: int
    valkey_port: int
    postgres_password: str
    valkey_password: str
    postgres_version: str = ""
    valkey_version: str = ""
    #: False until PostgreSQL is known to have taken the password.
    settled: bool = False

    @classmethod
    def new(cls) -> State:
        """New passwords, and ports that are free now."""
        postgres_port, valkey_port = _two_ports()
        return cls(
            postgres_port=postgres_port,
            valkey_port=valkey_port,
            postgres_password=secrets.token_urlsafe(24),
            valkey_password=secrets.token_urlsafe(24),
        )

    @classmethod
    def load(cls, directory: Path) -> State | None:
        """The saved state; None when there is none or it cannot be used (the next start makes a new one)."""
        try:
            return cls(**json.loads((directory / STATE_FILE).read_text("utf-8")))
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None

    def save(self, directory: Path) -> None:
        """Replace the saved state."""
        write_private(directory / STATE_FILE, json.dumps(asdict(self), indent=1))

    def urls(self) -> StackUrls:
        """The URLs of both servers."""
        return StackUrls(
            database_url=f"postgresql://{USER}:{self.postgres_password}@{LOOPBACK}:{self.postgres_port}/{DATABASE}",
            redis_url=f"redis://:{self.valkey_password}@{LOOPBACK}:{self.valkey_port}/0",
        )

    def with_free_ports(self, *, postgres: bool, valkey: bool) -> State:
        """The state with a new port for each named server whose port another program has taken."""
        ports = _two_ports()
        state = self
        if postgres and not port_is_free(state.postgres_port):
            state = replace(state, postgres_port=ports[0])
        if valkey and not port_is_free(state.valkey_port):
            state = replace(state, valkey_port=ports[1])
        return state


def _two_ports() -> tuple[int, int]:
    first = second = free_port()
    while second == first:
        second = free_port()
    return first, second
