"""Plants each of the sixteen kinds of disagreement into two stores, and says what must be found of it.

Used on a quiet pair of stores by the integration tests and on a living system by the acceptance test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text

from queuemon.engine.ids import uuid7
from queuemon.store import Store


@dataclass(kw_only=True)
class Planted:
    """What was planted of one class."""

    number: int
    #: Whatever each finding is recognised by: an id, a queue, a key.
    marks: set[str] = field(default_factory=set)


class Planter:
    """Writes straight into both stores, past every rule, as an accident would."""

    #: Whether overdue jobs have elements: a worker that takes one expires it at once.
    overdue_listed = True

    def __init__(self, store: Store, queue: str, other: str) -> None:
        self.store, self.queue, self.other = store, queue, other
        self.keys = store.redis.keys
        self.redis: Any = store.redis.client
        self.key = self.keys.queue_key(queue)

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        """Run a statement; returns its rows, if it has any."""
        with self.store.postgres.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result.mappings()) if result.returns_rows else []

    def rows(self, n: int, *, queue: str | None = None, **columns: str) -> list[UUID]:
        """Rows that wait and are due, with other SQL for some columns."""
        ids = [uuid7() for _ in range(n)]
        values = {
            "queue": ":queue",
            "payload": "jsonb_build_object('seconds', 0.001, 'failures', 0, 'big', 12345678901234567)",
            "status": "'waiting'", "gen": "1", "run_at": "now() - interval '1 second'",
            "expires_at": "now() + interval '1 day'", **columns,
        }  # fmt: skip
        self.sql(
            f"INSERT INTO jobs (id, {', '.join(values)}) SELECT id, {', '.join(values.values())}"
            " FROM unnest(CAST(:ids AS uuid[])) AS id",
            queue=queue or self.queue, ids=ids,
        )  # fmt: skip
        return ids

    def push(
        self, ids: list[UUID], *, gen: int | None = None, queue: str | None = None, key: str | None = None
    ) -> None:
        """Elements of rows as the publisher writes them, at the push end."""
        made = self.sql(
            "SELECT json_build_object('id', id, 'gen', coalesce(:gen, gen), 'queue', queue, 'payload', payload,"
            " 'attempts', attempts, 'max_attempts', max_attempts, 'created_at', created_at, 'expires_at', expires_at)"
            "::text AS element FROM jobs WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id",
            ids=ids, gen=gen,
        )  # fmt: skip
        target = key or self.keys.queue_key(queue or self.queue)
        if made:
            self.redis.rpush(target, *[row["element"] for row in made])

    def healthy(self, n: int, *, queue: str | None = None) -> list[UUID]:
        """Rows that wait, with their elements."""
        ids = self.rows(n, queue=queue)
        self.push(ids, queue=queue)
        return ids

    # ------------------------------------------------------------------------------------------------- the classes

    def plant(self, number: int, n: int) -> Planted:
        """`n` disagreements of a class."""
        marks = getattr(self, f"_plant_{number}")(n)
        return Planted(number=number, marks={str(mark) for mark in marks})

    def _plant_1(self, n: int) -> list[UUID]:
        return self.rows(n)

    def _plant_2(self, n: int) -> list[UUID]:
        ids = self.healthy(n)
        self.sql("DELETE FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))", ids=ids)
        return ids

    def _plant_3(self, n: int) -> list[UUID]:
        ids = self.healthy(n)
        self.sql(
            "UPDATE jobs SET status = 'completed', finished_at = now() WHERE id = ANY(CAST(:ids AS uuid[]))", ids=ids
        )
        return ids

    def _plant_4(self, n: int) -> list[UUID]:
        ids = self.rows(n, gen="3")
        self.push(ids, gen=2)
        self.push(ids)
        return ids

    def _plant_5(self, n: int) -> list[UUID]:
        ids = self.healthy(n)
        self.push(ids)
        return ids

    def _plant_6(self, n: int) -> list[UUID]:
        return self.rows(
            n, status="'active'", attempts="1", worker_id="'w-gone'", started_at="now() - interval '1 hour'",
            heartbeat_at="now() - interval '1 hour'",
        )  # fmt: skip

    def _plant_7(self, n: int) -> list[UUID]:
        times = {"run_at": "now() - interval '25 hours'", "expires_at": "now() - interval '1 hour'"}
        ids = self.rows(n, queue=self.other, **times)
        if self.overdue_listed:
            self.push(ids, queue=self.other)
        return ids

    def _plant_8(self, n: int) -> list[str]:
        names = [f"{self.queue}-gone-{k}" for k in range(n)]
        for name in names:
            self.new_queue(name)
            self.healthy(12, queue=name)
            self.redis.delete(self.keys.queue_key(name))
        return names

    def _plant_9(self, n: int) -> list[str]:
        names = [f"{self.queue}-ttl-{k}" for k in range(n)]
        for name in names:
            self.new_queue(name)
            self.healthy(2, queue=name)
            self.redis.expire(self.keys.queue_key(name), 3600)
        return names

    def _plant_10(self, n: int) -> list[str]:
        names = [f"{self.queue}-flag-{k}" for k in range(n)]
        for k, name in enumerate(names):
            self.new_queue(name, paused=k % 2 == 0)
            wrong = {"paused": k % 2, "epoch": 1 if k % 4 < 2 else 9, "until": ""}
            self.redis.hset(self.keys.paused_key(name), mapping=wrong)
        return names

    def _plant_11(self, n: int) -> list[UUID]:
        ids = self.healthy(n)
        self.sql(
            "UPDATE jobs SET payload = payload || '{\"big\": 12345678901234568}' WHERE id = ANY(CAST(:ids AS uuid[]))",
            ids=ids,
        )
        return ids

    def _plant_12(self, n: int) -> list[UUID]:
        ids = self.rows(n, queue=self.other)
        self.push(ids, queue=self.queue)
        return ids

    def _plant_13(self, n: int) -> list[bytes]:
        kinds = (b"\xff\x00\x1b[2J", b'{"no": "id"}', b'{"id": [', b"\r\n")
        raws = [kinds[k % 4] + b" " * k for k in range(n)]
        self.redis.rpush(self.key, *raws)
        from queuemon.drift.held import digest_of

        return [digest_of(raw) for raw in raws]  # type: ignore[misc]

    def _plant_14(self, n: int) -> list[str]:
        found = [f"queue:stranger-{k}" for k in range(n)]
        for key in found:
            self.redis.rpush(key, json.dumps({"id": str(uuid7())}))
        return found

    def _plant_15(self, n: int) -> list[str]:
        found = []
        for k in range(n):
            key = self.keys.processing_key(f"w-dead-{k}", self.queue)
            self.push(self.rows(1), key=key)
            found.append(key)
        return found

    def _plant_16(self, n: int) -> list[str]:
        odd = self.rows(n - n // 2, attempts="9", max_attempts="3")
        self.push(odd)
        names = [f"{self.queue}-count-{k}" for k in range(n // 2)]
        for name in names:
            self.new_queue(name)
            self.sql("INSERT INTO queuemon.job_counts VALUES (:name, 'failed', 3)", name=name)
        return [*map(str, odd), *names]

    def new_queue(self, name: str, *, paused: bool = True) -> None:
        """A queue, paused in both stores (or in neither)."""
        self.sql(
            "INSERT INTO job_queues (name, paused, pause_epoch, paused_at, concurrency)"
            " VALUES (:name, :paused, 3, now(), 0)",
            name=name, paused=paused,
        )  # fmt: skip
        if paused:
            self.sql("INSERT INTO queuemon.queue_pauses (queue, holder) VALUES (:name, 'test')", name=name)
        self.redis.hset(self.keys.paused_key(name), mapping={"paused": int(paused), "epoch": 3, "until": ""})


def mark_of(finding: Any) -> str:
    """What a planted disagreement is recognised by."""
    if finding.number in {8, 9, 10}:
        return str(finding.queue)
    if finding.number in {13, 14, 15}:
        return str(finding.key)
    return str(finding.job_id) if finding.job_id is not None else str(finding.queue)
