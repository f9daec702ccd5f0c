"""A PostgreSQL that is connected but answers nothing: the other half is still read, nothing hangs, and it recovers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from queuemon.config import Settings
from queuemon.errors import StoreTimeout
from queuemon.model import HalfError, PostgresHalf, RedisHalf
from queuemon.workbench import Workbench


class Line:
    """Carries bytes between a client and a server, and can fall silent: both ends stay connected."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._speaks = threading.Event()
        self._speaks.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        self._speaks.clear()

    def speak(self) -> None:
        self._speaks.set()

    def close(self) -> None:
        self._speaks.set()
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._ends += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(65536):
                self._speaks.wait()
                target.sendall(block)
            target.shutdown(socket.SHUT_WR)


@contextmanager
def _line_to(url: str) -> Iterator[tuple[Line, str]]:
    parts = urlsplit(url)
    line = Line(parts.hostname or "127.0.0.1", parts.port or 5432)
    user = parts.netloc.rpartition("@")[0]
    try:
        yield line, parts._replace(netloc=f"{user}@127.0.0.1:{line.port}").geturl()
    finally:
        line.close()


@pytest.fixture
def line_and_workbench(settings: Settings) -> Iterator[tuple[Line, Workbench]]:
    with _line_to(settings.database_url.get_secret_value()) as (line, url):
        short = settings.model_copy(update={"database_url": SecretStr(url), "statement_timeout_seconds": 0.5})
        with Workbench(short) as workbench:
            yield line, workbench


def test_a_silent_postgresql_fails_alone_and_in_time_and_recovers(
    line_and_workbench: tuple[Line, Workbench],
) -> None:
    line, workbench = line_and_workbench
    assert isinstance(workbench.snapshot().postgres, PostgresHalf)

    line.fall_silent()
    started = time.monotonic()
    silent = workbench.snapshot()
    assert time.monotonic() - started < 6
    assert isinstance(silent.postgres, HalfError)
    assert "does not answer" in silent.postgres.message
    assert isinstance(silent.redis, RedisHalf)

    line.speak()
    assert isinstance(workbench.snapshot().postgres, PostgresHalf)


def test_a_commit_without_an_answer_ends_in_an_error(line_and_workbench: tuple[Line, Workbench]) -> None:
    line, workbench = line_and_workbench

    def commit_into_silence() -> None:
        with workbench.store.postgres.begin() as connection:
            connection.exec_driver_sql("SELECT 1")
            line.fall_silent()

    with pytest.raises(StoreTimeout, match="does not answer"):
        commit_into_silence()


def test_a_longer_statement_timeout_waits_longer(line_and_workbench: tuple[Line, Workbench]) -> None:
    _, workbench = line_and_workbench
    with workbench.store.postgres.begin(seconds=10) as connection:
        assert connection.exec_driver_sql("SELECT 1 FROM pg_sleep(3)").scalar() == 1
