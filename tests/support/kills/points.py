"""Fault points: the boundaries of every store call of a process, numbered per thread; at a chosen one it kills itself.

Installed in a forked child of the tests alone: the package knows nothing of it, so nothing is paid in production.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Generator
from importlib import resources
from typing import Any

from redis.connection import AbstractConnection
from sqlalchemy import event

from queuemon.store import Store
from queuemon.store.patience import PatientConnection

#: Files whose frames only carry a call; the name of a point is that of the function which asked for it.
_CARRIERS = ("/store/postgres.py", "/store/redis.py", "/store/patience.py", "/kills/points.py")
_PACKAGES = ("/queuemon/", "/kills/")
#: What opening a connection says; no boundary of its own.
_HANDSHAKE = {"CLIENT", "SELECT", "AUTH", "HELLO", "PING"}


class Points:
    """Counts the boundaries that each thread passes, and kills this process with SIGKILL at one.

    Between two calls there is one boundary ("after" the first of them). Calls that have an effect by themselves
    (COMMIT, a statement that is its own transaction, every Redis command) have one more, "during": the server has been
    asked and its answer has not been read, so the kill is ambiguous.
    """

    def __init__(self, report: int, *, thread: str = "", number: int = 0) -> None:
        self._report = report
        self._target = (thread, number)
        self._lock = threading.Lock()
        self._passed: dict[str, int] = {}
        self._local = threading.local()
        self._scripts = {
            hashlib.sha1(entry.read_bytes(), usedforsecurity=False).hexdigest(): entry.name
            for entry in (resources.files("queuemon.store") / "scripts").iterdir()
        }

    def install(self, store: Store) -> None:
        """Watch the store's engine and every Redis connection of this process."""
        engine = store.postgres.engine
        event.listen(engine, "before_cursor_execute", self._before_statement)
        event.listen(engine, "after_cursor_execute", self._after_statement)
        commit = engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            self._before("COMMIT")
            self._local.flight = "COMMIT"
            commit(connection)
            self.point("after", "COMMIT")

        engine.dialect.do_commit = do_commit  # type: ignore[method-assign]
        self._watch_answers()
        self._watch_redis()

    def point(self, when: str, what: str) -> None:
        """One boundary: counted, reported, and perhaps the last."""
        name = threading.current_thread().name
        thread = "main" if name == "MainThread" else name.rstrip("_0123456789").removeprefix("queuemon-")
        self._local.fresh = False
        with self._lock:
            number = self._passed[thread] = self._passed.get(thread, 0) + 1
            os.write(self._report, f"{thread}-{number} {when} {what} in {_asker()}\n".encode())
            if (thread, number) == self._target:
                os.kill(os.getpid(), signal.SIGKILL)

    def _before(self, what: str) -> None:
        """The boundary before a call, where none was passed since the last one."""
        if getattr(self._local, "fresh", True):
            self.point("before", what)

    # ---------------------------------------------------------------------------------------------------- PostgreSQL

    def _before_statement(self, connection: Any, _c: Any, statement: str, *_: Any) -> None:
        what = statement.lstrip().split(None, 1)[0].upper()
        self._before(what)
        if connection.connection.dbapi_connection.autocommit:
            self._local.flight = what

    def _after_statement(self, _connection: Any, _c: Any, statement: str, *_: Any) -> None:
        self._local.flight = ""
        self.point("after", statement.lstrip().split(None, 1)[0].upper())

    def _watch_answers(self) -> None:
        wait = PatientConnection.wait

        def watched(connection: Any, gen: Any, *args: Any, **options: Any) -> Any:
            what = getattr(self._local, "flight", "")
            self._local.flight = ""
            return wait(connection, self._in_flight(gen, what) if what else gen, *args, **options)

        PatientConnection.wait = watched  # type: ignore[method-assign]

    def _in_flight(self, gen: Generator[Any, Any, Any], what: str) -> Generator[Any, Any, Any]:
        try:
            wanted = next(gen)  # asked; psycopg wants to read the answer
            self.point("during", what)
            while True:
                ready = yield wanted
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value

    # --------------------------------------------------------------------------------------------------------- Redis

    def _watch_redis(self) -> None:
        send, read = AbstractConnection.send_packed_command, AbstractConnection.read_response

        def send_watched(connection: Any, command: Any, *args: Any, **options: Any) -> Any:
            what = self._command(command)
            if what in _HANDSHAKE:
                return send(connection, command, *args, **options)
            self._before(what)
            answer = send(connection, command, *args, **options)
            self.point("during", what)
            self._local.unread = what
            return answer

        def read_watched(connection: Any, *args: Any, **options: Any) -> Any:
            answer = read(connection, *args, **options)
            what, self._local.unread = getattr(self._local, "unread", ""), ""
            if what:
                self.point("after", what)
            return answer

        AbstractConnection.send_packed_command = send_watched  # type: ignore[method-assign]
        AbstractConnection.read_response = read_watched  # type: ignore[method-assign]

    def _command(self, packed: Any) -> str:
        raw = packed if isinstance(packed, bytes) else b"".join(packed if isinstance(packed, list) else [packed])
        words = raw.split(b"\r\n", 6)
        name = words[2].decode("ascii", "replace")
        return self._scripts.get(words[4].decode("ascii", "replace"), name) if name == "EVALSHA" else name


def _asker() -> str:
    """The function of the package that asked for the call, as "module.function"."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        found = next((file.partition(p)[2] for p in _PACKAGES if p in file), "")
        if found and not file.endswith(_CARRIERS) and "site-packages" not in file and frame.f_code.co_name != "turn":
            return f"{found.removesuffix('.py').replace('/', '.')}.{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"
