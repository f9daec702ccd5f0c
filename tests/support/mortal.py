"""Death at a boundary of a store call, for tests that play a process in their own thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

from queuemon.store import Store


class Killed(BaseException):
    """The process is gone: nothing of it may catch this."""


class AtOnce:
    """An executor that does its work in `submit`: an action's publications come in the same order every time."""

    def __init__(self, **_: Any) -> None:
        pass

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *given: Any, **named: Any) -> Future[Any]:
        """Do it now; a kill leaves at once, an error waits in the future as it would."""
        future: Future[Any] = Future()
        try:
            future.set_result(work(*given, **named))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def dies_after(store: Store, calls: int | None) -> Iterator[None]:
    """What uses this store here dies at its so-manieth boundary of a call: before it, before its commit or after it.

    None: it lives. Its open transactions are rolled back, as by the server when a socket falls.
    """
    if calls is None:
        yield
        return
    left = calls

    def boundary() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def call(**given: Any) -> Iterator[Any]:
            boundary()
            with real(**given) as connection:
                yield connection
                boundary()
            boundary()

        return call

    def both_sides(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            boundary()
            answer = real(*given, **named)
            boundary()
            return answer

        return call

    watched = (
        (store.postgres, "begin", around), (store.postgres, "statement", around), (store.redis, "call", around),
        (store.redis, "run", both_sides), (store.redis, "run_many", both_sides),
    )  # fmt: skip
    for half, name, wrapped in watched:
        setattr(half, name, wrapped(getattr(half, name)))
    try:
        with suppress(Killed):
            yield
    finally:
        for half, name, _ in watched:
            delattr(half, name)
        if left < 0:
            store.close()
