"""The desk of an operator under test: a store with two queues, jobs in every state, and looks at what changed.

Fixture: `desk`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from queuemon import actions
from queuemon.config import Settings
from queuemon.contract import decode_element
from queuemon.engine.ids import uuid7
from queuemon.model import ActionResult
from queuemon.store import Store
from tests.support.wait import wait_until

#: What a row in each state looks like; "scheduled" is waiting for a later time.
STATES = {
    "waiting": "'waiting', 0, now() - interval '1 minute', NULL, NULL, NULL, NULL, NULL, NULL",
    "scheduled": "'waiting', 1, now() + interval '5 days', NULL, NULL, NULL, NULL, NULL, NULL",
    "active": "'active', 1, now() - interval '1 minute', now(), NULL, now(), 'w-1', NULL, NULL",
    "completed": "'completed', 1, now() - interval '2 hours', now() - interval '1 hour', now() - interval '1 hour',"
    " now() - interval '1 hour', 'w-1', NULL, NULL",
    "failed": "'failed', 3, now() - interval '2 hours', now() - interval '1 hour', now() - interval '1 hour',"
    " now() - interval '1 hour', 'w-1', 'ZeroDivisionError', E'Division by zero in MRR calculation\\nmore'",
    "expired": "'expired', 0, now() - interval '30 hours', NULL, now() - interval '1 hour', NULL, NULL, NULL, NULL",
}


class Desk:
    """Both stores of one test, with the queues `mail` and `reports`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings)
        self.sql("INSERT INTO job_queues (name) VALUES ('mail'), ('reports')")

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        """Run a statement; returns its rows, if it has any."""
        with self.store.postgres.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result.mappings()) if result.returns_rows else []

    def add(self, state: str, number: int = 1, *, queue: str = "mail") -> list[UUID]:
        """Jobs in a state, made an hour or so ago; returns their ids in order."""
        ids = [uuid7() for _ in range(number)]
        self.sql(
            "INSERT INTO jobs (id, queue, payload, gen, created_at, updated_at, expires_at, status, attempts, run_at,"
            " started_at, finished_at, heartbeat_at, worker_id, error_type, error_message)"
            " SELECT id, :queue, jsonb_build_object('n', 12345678901234567, 'empty', '[]'::jsonb), 4,"
            " now() - interval '2 hours', now() - interval '2 hours', now() + interval '1 hour',"
            f" {STATES[state]} FROM unnest(CAST(:ids AS uuid[])) AS id",
            queue=queue,
            ids=ids,
        )
        return ids

    def job(self, job_id: UUID) -> Any:
        """The job's row; None when there is none."""
        rows = self.sql("SELECT * FROM jobs WHERE id = :id", id=job_id)
        return rows[0] if rows else None

    def logs(self, job_id: UUID) -> list[Any]:
        """Its log rows, oldest first."""
        return self.sql("SELECT * FROM job_logs WHERE job_id = :id ORDER BY id", id=job_id)

    def number(self, query: str, **parameters: Any) -> int:
        """The number that `SELECT count(*) FROM …` finds."""
        return int(self.sql(f"SELECT count(*) AS n FROM {query}", **parameters)[0]["n"])

    def listed(self, queue: str = "mail") -> list[tuple[str, int | None]]:
        """(id, generation) of a queue's elements in Redis, the next one first."""
        keys = self.store.redis.keys
        raw: Any = self.store.redis.client.lrange(keys.queue_key(queue), 0, -1)
        elements = (decode_element(r) for r in raw)
        return [(element.id, element.gen) for element in elements if element is not None]

    def flag(self, queue: str = "mail") -> dict[str, str]:
        """The pause flag in Redis."""
        raw: Any = self.store.redis.client.hgetall(self.store.redis.keys.paused_key(queue))
        return {key.decode(): value.decode() for key, value in raw.items()}

    def act(self, kind: str, target: Any, reason: str = "test", **options: Any) -> ActionResult:
        """Plan and apply."""
        return actions.apply(self.store, actions.plan(self.store, kind, target, **options), reason=reason)

    def blocked(self) -> int:
        """Sessions that wait for a lock."""
        return self.number("pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")

    def while_held(self, hold: Callable[[Any], object], then: Callable[[], Any]) -> Any:
        """Run `hold` in a transaction, start `then` in a thread, commit once `then` is blocked; returns its value."""
        done: list[Any] = []

        def run() -> None:
            try:
                done.append(then())
            except BaseException as error:
                done.append(error)

        thread = threading.Thread(target=run)
        with self.store.postgres.begin() as connection:
            hold(connection)
            thread.start()
            wait_until(lambda: self.blocked() or done, message="the other session is blocked")
            assert not done, f"it did not wait: {done[0]!r}"
        thread.join(20)
        assert done, "it never came back"
        if isinstance(done[0], BaseException):
            raise done[0]
        return done[0]


@pytest.fixture
def desk(settings: Settings) -> Iterator[Desk]:
    """An operator's desk on the test's own stores."""
    made = Desk(settings)
    yield made
    made.store.close()
