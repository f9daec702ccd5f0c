"""A proxy that a test puts between a client and PostgreSQL or Redis, to lose one request or its answer.

`with Proxy.to(url) as proxy:` gives `proxy.url`; `proxy.lose(b"COMMIT")` arms one fault.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

BLOCK = 65_536


class Fault(Enum):
    """What happens to the request that holds the searched bytes."""

    #: The server executes it; the answer is swallowed, and the connection to the client closed.
    ANSWER = "the answer is lost"
    #: It never reaches the server, and both connections are closed.
    REQUEST = "the request is lost"
    #: The server executes it; the client hears nothing and stays connected.
    SILENCE = "the answer never comes"


@dataclass(eq=False)
class _Talk:
    """One client's connection and its own to the server."""

    client: socket.socket
    server: socket.socket
    fault: Fault | None = None
    #: The last bytes of the client's, in which the searched ones may have begun.
    tail: bytes = b""


class Proxy:
    """Carries bytes both ways until a fault that was armed meets its request."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._talks: list[_Talk] = []
        self._needle, self._skip, self._fault = b"", 0, Fault.ANSWER
        #: Requests with the searched bytes so far, and whether the fault has happened.
        self.seen = 0
        self.struck = threading.Event()
        user, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{user}{at}127.0.0.1:{self._listener.getsockname()[1]}").geturl()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @classmethod
    @contextmanager
    def to(cls, url: str) -> Iterator[Proxy]:
        """A proxy to the server of a URL; closed at the end with all its connections."""
        proxy = cls(url)
        try:
            yield proxy
        finally:
            proxy.close()

    def lose(self, needle: bytes, *, after: int = 0, fault: Fault = Fault.ANSWER) -> None:
        """Let the fault happen once, to the request with these bytes that comes after `after` others."""
        with self._lock:
            self._needle, self._skip, self._fault, self.seen = needle, after, fault, 0
            self.struck.clear()

    def count(self, needle: bytes) -> None:
        """Let nothing happen, and count the requests with these bytes in `seen`."""
        self.lose(needle, after=1_000_000)

    def close(self) -> None:
        """End everything."""
        for end in (self._listener, *(s for talk in self._talks for s in (talk.client, talk.server))):
            _end(end)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._server)
                except OSError:  # the server is away: so is what stands in for it
                    _end(client)
                    continue
                talk = _Talk(client, server)
                self._talks.append(talk)
                threading.Thread(target=self._ask, args=(talk,), name="proxy", daemon=True).start()
                threading.Thread(target=self._answer, args=(talk,), name="proxy", daemon=True).start()

    def _ask(self, talk: _Talk) -> None:
        """From the client to the server."""
        with suppress(OSError):
            while block := talk.client.recv(BLOCK):
                fault = self._strikes(talk, block)
                if fault is Fault.REQUEST:
                    break
                if fault is not None:
                    talk.fault = fault  # before the server can answer
                talk.server.sendall(block)
                if fault is not None:
                    self.struck.set()
        if talk.fault is None:
            _end(talk.server)
            _end(talk.client)

    def _strikes(self, talk: _Talk, block: bytes) -> Fault | None:
        with self._lock:
            if not self._needle:
                return None
            text = talk.tail + block
            talk.tail = text[-(len(self._needle) - 1) :] if len(self._needle) > 1 else b""
            found = text.count(self._needle)
            before, self.seen = self.seen, self.seen + found
            if not (before <= self._skip < self.seen):
                return None
            if self._fault is Fault.REQUEST:
                self.struck.set()
            return self._fault

    def _answer(self, talk: _Talk) -> None:
        """From the server to the client, or to nobody."""
        with suppress(OSError):
            while block := talk.server.recv(BLOCK):
                if talk.fault is Fault.ANSWER:
                    break
                if talk.fault is None:
                    talk.client.sendall(block)
        if talk.fault is not Fault.SILENCE:
            _end(talk.client)
        _end(talk.server)


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
