"""Load for tests that kill processes: `python -m tests.support.load FOLDER SEED RATE` produces, `handle` runs the jobs.

Both write down what they do, in FOLDER (for the handler: QUEUEMON_TEST_BOOKS).
"""

from __future__ import annotations

import os
import random
import sys
import time
from datetime import timedelta
from functools import cache
from pathlib import Path
from uuid import UUID

from queuemon import config
from queuemon.engine.handlers import JobInHand
from queuemon.engine.process import stop_on_signals
from queuemon.engine.producer import Producer
from queuemon.errors import StoreError
from queuemon.store import Store
from tests.support.ledger import Book

QUEUES = {"urgent": "high", "mail": "normal", "reports": "normal", "bulk": "low"}


@cache
def _book() -> Book:
    return Book(Path(os.environ["QUEUEMON_TEST_BOOKS"]), "start")


def handle(job: JobInHand) -> None:
    """Write the start down, work for a millisecond or so, and fail now and then."""
    _book().write([{"id": str(job.id), "gen": job.gen, "at": time.time(), "worker": job.worker_id}])
    time.sleep(job.payload["seconds"])
    if job.attempt <= job.payload["failures"]:
        raise RuntimeError(f"attempt {job.attempt} fails by order")


def produce(folder: Path, seed: int, rate: float) -> None:
    """Enqueue about `rate` jobs per second, one by one, in batches and in transactions, until SIGTERM."""
    rng, stop = random.Random(seed), stop_on_signals()
    store = Store(config.load())
    producer, book = Producer(store), Book(folder, "acknowledged")
    begun, made = time.monotonic(), 0
    while not stop.is_set():
        queue = rng.choice(list(QUEUES))
        payloads = [
            {"seconds": rng.expovariate(1 / 0.001), "failures": rng.choices([0, 1, 9], [95, 4, 1])[0]}
            for _ in range(rng.choices([1, 20, 100], [8, 1, rate // 100])[0])
        ]
        ids: list[UUID] = []
        try:
            if len(payloads) > 1:
                ids = producer.enqueue_many(queue, payloads)
            elif rng.random() < 0.1:
                with store.postgres.begin() as connection:
                    ids = [producer.enqueue_in(connection, queue, payloads[0])]
            elif rng.random() < 0.02:
                ids = [producer.enqueue(queue, payloads[0], expires_after=timedelta(milliseconds=50))]
            else:
                ids = [producer.enqueue(queue, payloads[0])]
        except StoreError:
            # Nobody can say whether it committed: it is not acknowledged, and counts if it did.
            ids = []
            stop.wait(0.1)
        else:
            book.write({"id": str(i)} for i in ids)
        made += len(payloads)
        stop.wait(max(0.0, begun + made / rate - time.monotonic()))
        begun = max(begun, time.monotonic() - made / rate - 1.0)  # after an outage: no rush to catch up
    store.close()


if __name__ == "__main__":
    produce(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
