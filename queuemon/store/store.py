"""`Store`: both halves together, opened from settings; the workbench, the engine and the drift checks hold one."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeVar

from queuemon.config import Settings
from queuemon.errors import QueuemonError
from queuemon.model import HalfError, PostgresHalf, RedisHalf, Snapshot
from queuemon.schema.tables import TABLES, Tables
from queuemon.store import numbers
from queuemon.store.postgres import Postgres
from queuemon.store.redis import Redis

Half = TypeVar("Half", PostgresHalf, RedisHalf)


class Store:
    """PostgreSQL and Redis of one job system. Opening it connects to nothing; the first use does."""

    def __init__(self, settings: Settings, tables: Tables = TABLES, *, application: str = "queuemon") -> None:
        self.settings = settings
        self.tables = tables
        self.postgres = Postgres(settings, tables, application=application)
        self.redis = Redis(settings, application=application)
        #: Queues as PostgreSQL last named them: what Redis is asked about while PostgreSQL is away.
        self._names: tuple[str, ...] = ()

    def snapshot(self) -> Snapshot:
        """Both halves now, read side by side; each carries its own time and its error if it failed. Never raises for
        a store that is away."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="queuemon-redis") as pool:
            redis_half = pool.submit(self._timed, self._redis_half) if self._names else None
            postgres, postgres_at, postgres_seconds = self._timed(self._postgres_half)
            if isinstance(postgres, PostgresHalf):
                names = tuple(q.name for q in postgres.queues)
                if redis_half is None or names != self._names:
                    # The first time, and when queues came or went, Redis is asked after PostgreSQL.
                    self._names = names
                    redis_half = pool.submit(self._timed, self._redis_half)
            if redis_half is None:
                redis_half = pool.submit(self._timed, self._redis_half)
            redis, redis_at, redis_seconds = redis_half.result()
        return Snapshot(
            taken_at=datetime.now(UTC),
            postgres=postgres,
            redis=redis,
            postgres_at=postgres_at,
            redis_at=redis_at,
            postgres_seconds=postgres_seconds,
            redis_seconds=redis_seconds,
        )

    def _postgres_half(self) -> PostgresHalf:
        with self.postgres.begin() as connection:
            return numbers.snapshot(connection, self.tables, self.settings)

    def _redis_half(self) -> RedisHalf:
        return self.redis.half(self._names)

    @staticmethod
    def _timed(read: Callable[[], Half]) -> tuple[Half | HalfError, datetime, float]:
        at, started = datetime.now(UTC), time.perf_counter()
        half: Half | HalfError
        try:
            half = read()
        except QueuemonError as error:
            half = HalfError(message=str(error), kind=type(error).__name__)
        return half, at, time.perf_counter() - started

    def close(self) -> None:
        """Give all connections back."""
        self.postgres.close()
        self.redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
