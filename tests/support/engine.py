"""The engine under test: a store with queues, a producer, workers in threads, and looks into both stores.

Fixture: `rig`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from queuemon.config import Settings
from queuemon.contract import decode_element
from queuemon.engine.producer import Producer
from queuemon.engine.publisher import publish
from queuemon.engine.relay import Relay
from queuemon.engine.worker import Worker
from queuemon.store import Store
from tests.support.wait import wait_until

QUEUES = {"urgent": "high", "mail": "normal", "reports": "normal", "bulk": "low"}


class Rig:
    """Both stores of one test, with four queues."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings)
        self.producer = Producer(self.store)
        self.keys = self.store.redis.keys
        self.redis: Any = self.store.redis.client
        for name, priority in QUEUES.items():
            self.sql("INSERT INTO job_queues (name, priority) VALUES (:name, :priority)", name=name, priority=priority)

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        """Run a statement; returns its rows, if it has any."""
        with self.store.postgres.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result.mappings()) if result.returns_rows else []

    def job(self, job_id: UUID) -> Any:
        """The job's row."""
        return self.sql("SELECT * FROM jobs WHERE id = :id", id=job_id)[0]

    def logs(self, job_id: UUID) -> list[Any]:
        """Its log rows, oldest first."""
        return self.sql("SELECT * FROM job_logs WHERE job_id = :id ORDER BY id", id=job_id)

    def count(self, status: str) -> int:
        """Jobs in a state."""
        return int(self.sql("SELECT count(*) AS n FROM jobs WHERE status = :status", status=status)[0]["n"])

    def outbox(self) -> int:
        """Outbox rows left."""
        return int(self.sql("SELECT count(*) AS n FROM queuemon.publications")[0]["n"])

    def listed(self, queue: str) -> list[tuple[str, int | None]]:
        """(id, generation) of a queue's elements, the next one first."""
        elements = (decode_element(raw) for raw in self.redis.lrange(self.keys.queue_key(queue), 0, -1))
        return [(element.id, element.gen) for element in elements if element is not None]

    def in_hand(self) -> int:
        """Elements in anybody's hand."""
        return sum(self.redis.llen(key) for key in self.redis.scan_iter(match="queuemon:proc:*"))

    def relay(self) -> Relay:
        """A relay that does not wait before it ends leases."""
        return Relay(self.store, calm_seconds=0)

    @contextmanager
    def worker(self, handler: Any, *, home: str = "mail", grace_seconds: float = 5.0) -> Iterator[Worker]:
        """A worker in a thread; stopped in good order at the end."""
        worker = Worker(self.store, home=home, handlers=handler, grace_seconds=grace_seconds)
        stop = threading.Event()
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        try:
            yield worker
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()

    def until(self, status: str, number: int, *, timeout: float = 20.0) -> None:
        """Wait until so many jobs stand in a state; publishes what falls due meanwhile."""

        def there() -> bool:
            publish(self.store)
            return self.count(status) == number

        wait_until(there, timeout=timeout, message=f"{number} jobs are {status}")


@pytest.fixture
def rig(settings: Settings) -> Iterator[Rig]:
    """Queues urgent, mail, reports and bulk; no back-off, a lease of one second."""
    made = Rig(settings.model_copy(update={"backoff_seconds": 0.0, "lease_seconds": 1.0, "heartbeat_seconds": 0.2}))
    yield made
    made.store.close()
