"""What went wrong on the dashboard: an answer to a click that failed, or a refresh that does; knows no widget.

An entry stays until it is dismissed. A refresh that works again takes its own entries away; where a store failed under
a click, the entry says so once the store answers again.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from traitlets import HasTraits, List

from queuemon.config import Settings
from queuemon.errors import QueuemonError, StoreError
from queuemon.model import HalfError, Snapshot
from queuemon.render.text import TRACE, clean

#: Problems kept on screen; the oldest give way.
PROBLEMS: Final = 5

#: The two stores as `StoreError.store` calls them, with their names on screen.
STORES: Final = {"postgresql": "PostgreSQL", "redis": "Redis"}


class Problems(HasTraits):
    """Everything that is reported and not yet dismissed."""

    #: Oldest first: {id, where, text, details, times, at, store, healed}; `at` in seconds since 1970.
    problems: List[Any] = List()

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._lock = threading.RLock()
        self._numbers = count(1)

    def report(self, where: str, error: BaseException) -> None:
        """Show an error: a sentence, and for a bug of ours the traceback to copy. The same again is counted."""
        text, details = problem_text(error, self._settings)
        entry = {
            "where": clean(where, 80),
            "text": text,
            "details": details,
            "times": 1,
            "at": datetime.now(UTC).timestamp(),
            "store": error.store if isinstance(error, StoreError) and error.store in STORES else "",
            "healed": "",
        }
        with self._lock:
            same = next((p for p in self.problems if p["where"] == where and p["text"] == text), None)
            number = same["id"] if same else next(self._numbers)
            times = same["times"] + 1 if same else 1
            kept = [p for p in self.problems if p is not same]
            self.problems = [*kept, entry | {"id": number, "times": times}][-PROBLEMS:]

    def dismiss(self, number: int) -> None:
        """Take a problem off the screen."""
        with self._lock:
            self.problems = [p for p in self.problems if p["id"] != number]

    def recovered(self, where: str) -> None:
        """What is done again and again works: its problems are over."""
        with self._lock:
            if any(p["where"] == where for p in self.problems):
                self.problems = [p for p in self.problems if p["where"] != where]

    def accept(self, snapshot: Snapshot) -> None:
        """Mark what failed because of a store that has answered since."""
        halves = {"postgresql": (snapshot.postgres, snapshot.postgres_at), "redis": (snapshot.redis, snapshot.redis_at)}
        well = {store: at.timestamp() for store, (half, at) in halves.items() if not isinstance(half, HalfError)}
        with self._lock:
            found = [
                p | {"healed": STORES[p["store"]]} if well.get(p["store"], 0.0) > p["at"] and not p["healed"] else p
                for p in self.problems
            ]
            if found != self.problems:
                self.problems = found

    def guard(self, where: str, work: Callable[[], None]) -> None:
        """Run what a person asked for once; what it raises is reported."""
        try:
            work()
        except Exception as error:
            self.report(where, error)

    def watch(self, where: str, work: Callable[[], None]) -> None:
        """Run what is done with every refresh; what it raises is reported until it works again."""
        try:
            work()
        except Exception as error:
            self.report(where, error)
        else:
            self.recovered(where)


def problem_text(error: BaseException, settings: Settings) -> tuple[str, str]:
    """A sentence, and what to copy into a report (the traceback, for a bug); holds no password."""
    if isinstance(error, QueuemonError):
        return clean(str(error), 1_000, lines=True), ""
    text = f"{type(error).__name__}: {error}"
    details = "".join(traceback.format_exception(error))
    for secret in settings.secrets():
        text, details = text.replace(secret, "••••"), details.replace(secret, "••••")
    return clean(f"queuemon made a mistake. {text}", 600), clean(details, TRACE, lines=True)
