"""What a race is made of, and its course."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from queuemon.schema.tables import Tables
from tests.support.actions import Desk

#: A statement under test: connection, tables, and what the race planted.
Step = Callable[[Connection, Tables, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Race:
    """One statement against one holder of its row."""

    #: What happens to the row meanwhile, as the test's name.
    name: str
    #: "module.function" of each function whose statement this runs.
    covers: tuple[str, ...]
    plant: Callable[[Desk], Any]
    #: What A does and does not commit yet: SQL, or a function of the store.
    hold: str | Step
    run: Step
    gives: Any
    #: A query with one value, and that value after both have committed.
    stands: tuple[str, Any]
    #: False: B does not wait, it leaves the row alone (SKIP LOCKED, or a lock it only tries).
    waits: bool = True

    def course(self, desk: Desk) -> tuple[Any, Any]:
        """What B answered and what stands; fails where B waits and should not, or does not and should."""
        planted = self.plant(desk)
        t = desk.store.tables

        def held(connection: Connection) -> object:
            if isinstance(self.hold, str):
                changed = connection.execute(text(self.hold))
                assert changed.rowcount > 0, "A holds nothing"
                return changed
            return self.hold(connection, t, planted)

        def ran() -> Any:
            with desk.store.postgres.begin() as connection:
                return self.run(connection, t, planted)

        if self.waits:
            answer = desk.while_held(held, ran)
        else:
            with desk.store.postgres.begin() as connection:
                held(connection)
                answer = ran()
        (row,) = desk.sql(self.stands[0])
        return answer, next(iter(row.values()))
