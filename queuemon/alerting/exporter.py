"""The exporter: one HTTP endpoint `/metrics` over one shared reading, written out once, however many scrape."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from queuemon.alerting.metrics import Readings
from queuemon.alerting.reading import Reader, Reading, Shared
from queuemon.errors import StackError
from queuemon.workbench import Workbench

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

#: What an answer depends on, besides the reading: method, path, format, compression, and families asked for by name.
_ASKED: Final = ("REQUEST_METHOD", "PATH_INFO", "HTTP_ACCEPT", "HTTP_ACCEPT_ENCODING", "QUERY_STRING")

#: Answers kept per reading: a scraper asks in one way.
_KEPT: Final = 8


def registry(reading: Reading) -> CollectorRegistry:
    """A registry of our own over one reading, with nothing of this process in it."""
    made = CollectorRegistry(auto_describe=False)
    made.register(Readings(lambda: reading))
    return made


class _Pages:
    """The WSGI application. Writing out 200 queues takes about as long as reading them, so it is done once as well."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self._app: Any = None
        self._answers: dict[tuple[str, ...], tuple[str, list[tuple[str, str]], list[bytes]]] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        asked = tuple(str(environ.get(name, "")) for name in _ASKED)
        with self._lock:
            reading = self._shared.get()
            if reading is not self._reading:
                self._reading, self._app = reading, make_wsgi_app(registry(reading))
                self._answers.clear()
            if asked not in self._answers:
                if len(self._answers) >= _KEPT:
                    self._answers.clear()
                begun: list[Any] = []
                body = self._app(environ, lambda *head: begun.append(head))
                self._answers[asked] = (*begun[0], body)
            status, headers, body = self._answers[asked]
        start_response(status, list(headers))
        return body


class _Handler(WSGIRequestHandler):
    """Says nothing of each scrape, and does not wait for ever for one that is never asked."""

    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        """Nothing."""


@contextmanager
def serving(workbench: Workbench, *, host: str, port: int, seconds: float, drift: bool = True) -> Iterator[int]:
    """Serve until the block ends; yields the port (a free one for 0). Numbers are at most `seconds` old.

    Raises StackError where the address cannot be used.
    """
    pages = _Pages(Shared(Reader(workbench, drift=drift).read, seconds=seconds))
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        kind = type("Server", (ThreadingWSGIServer,), {"address_family": family})
        server: WSGIServer = make_server(str(address[0]), port, pages, kind, _Handler)
    except OSError as error:
        raise StackError(
            f"the exporter cannot listen on {host}:{port} ({error.strerror or error})",
            expected="an address of this machine and a free port",
            next_step="choose another with --host and --port",
        ) from None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
