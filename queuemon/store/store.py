"""`Store`: both halves together, opened from settings; the workbench, the engine and the drift checks hold one."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from queuemon.config import Settings
from queuemon.schema.tables import TABLES, Tables
from queuemon.store.postgres import Postgres
from queuemon.store.redis import Redis


class Store:
    """PostgreSQL and Redis of one job system. Opening it connects to nothing; the first use does."""

    def __init__(self, settings: Settings, tables: Tables = TABLES, *, application: str = "queuemon") -> None:
        self.settings = settings
        self.tables = tables
        self.postgres = Postgres(settings, tables, application=application)
        self.redis = Redis(settings, application=application)

    def close(self) -> None:
        """Give all connections back."""
        self.postgres.close()
        self.redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
