"""What others feel: the cycles of two clients in processes of their own, while something else happens."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import psycopg

#: Clients; each is a process, so that none shares an interpreter with what is measured.
CLIENTS = 2

_CYCLE = (
    "INSERT INTO jobs (id, queue, payload) VALUES (gen_random_uuid(), 'bystander', '{}') RETURNING id",
    "UPDATE jobs SET status = 'active', started_at = now(), updated_at = now() WHERE id = %s AND status = 'waiting'",
    "UPDATE jobs SET status = 'completed', finished_at = now(), updated_at = now() WHERE id = %s",
)


def p99(url: str, meanwhile: Callable[[], object]) -> float:
    """The 99th percentile of a cycle (insert, claim, complete; three commits) while `meanwhile` runs, in ms."""
    context = multiprocessing.get_context("spawn")
    go, stop, answers = context.Event(), context.Event(), context.Queue()
    clients = [context.Process(target=_cycles, args=(url, go, stop, answers)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for _ in clients:
        answers.get()  # ready
    go.set()
    meanwhile()
    stop.set()
    took = [ms for _ in clients for ms in answers.get()]
    for client in clients:
        client.join()
    return statistics.quantiles(took, n=100)[98]


def _cycles(url: str, go: Any, stop: Any, answers: Any) -> None:
    took: list[float] = []
    with psycopg.connect(url, autocommit=True, prepare_threshold=1) as connection:
        for _ in range(20):
            _cycle(connection)
        answers.put([])
        go.wait()
        while not stop.is_set():
            started = time.perf_counter()
            _cycle(connection)
            took.append((time.perf_counter() - started) * 1_000)
    answers.put(took)


def _cycle(connection: psycopg.Connection) -> None:
    row = connection.execute(_CYCLE[0]).fetchone()
    assert row is not None
    connection.execute(_CYCLE[1], row)
    connection.execute(_CYCLE[2], row)
