"""A PostgreSQL connection that does not wait for ever: a server that hangs keeps none of its own timeouts."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

Answer = TypeVar("Answer")

#: What a server that is alive may take beyond its own statement timeout.
GRACE_SECONDS = 2.0


class ServerSilent(psycopg.OperationalError):
    """The server accepted a request and said nothing for longer than its own timeout allows."""


class PatientConnection(psycopg.Connection[Any]):
    """Gives up, and is closed, once the server has left one request unanswered for `patience` seconds.

    A stopped process or a frozen disk leaves the TCP connection alive: neither keepalives nor `tcp_user_timeout` help.
    """

    #: Seconds for one answer; None waits without end.
    patience: float | None = None

    def wait(self, gen: Generator[Any, Any, Answer], *args: Any, **options: Any) -> Answer:
        """psycopg's wait for one answer, within the patience."""
        return super().wait(gen if self.patience is None else self._bounded(gen, self.patience), *args, **options)

    def _bounded(self, gen: Generator[Any, Any, Answer], patience: float) -> Generator[Any, Any, Answer]:
        until = time.monotonic() + patience
        try:
            wanted = next(gen)
            while True:
                # psycopg looks up several times a second and sends what is ready: 0 is nothing.
                ready = yield wanted
                if not ready and time.monotonic() > until:
                    self.pgconn.finish()
                    raise ServerSilent("no answer in time")
                wanted = gen.send(ready)
        except StopIteration as end:
            answer: Answer = end.value
            return answer


def patience_for(seconds: float) -> float | None:
    """How long to wait for a server that was told to give up after `seconds` (0: never)."""
    return seconds + GRACE_SECONDS if seconds else None
