"""The two stores: `Postgres` and `Redis`, which do not know each other, and `Store` over both."""

from queuemon.store.postgres import Postgres
from queuemon.store.redis import Redis
from queuemon.store.store import Store

__all__ = ["Postgres", "Redis", "Store"]
