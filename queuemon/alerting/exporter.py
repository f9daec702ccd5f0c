"""The exporter: one HTTP endpoint `/metrics` over one shared reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from queuemon.alerting.metrics import Readings
from queuemon.alerting.reading import Reader, Shared
from queuemon.errors import StackError
from queuemon.workbench import Workbench


def registry(shared: Shared) -> CollectorRegistry:
    """A registry of our own, with nothing of this process in it."""
    made = CollectorRegistry(auto_describe=False)
    made.register(Readings(shared.get))
    return made


@contextmanager
def serving(workbench: Workbench, *, host: str, port: int, seconds: float, drift: bool = True) -> Iterator[int]:
    """Serve until the block ends; yields the port (a free one for 0). Numbers are at most `seconds` old.

    Raises StackError where the address cannot be used.
    """
    shared = Shared(Reader(workbench, drift=drift).read, seconds=seconds)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry(shared))
    except OSError as error:
        raise StackError(
            f"the exporter cannot listen on {host}:{port} ({error.strerror or error})",
            expected="an address of this machine and a free port",
            next_step="choose another with --host and --port",
        ) from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
