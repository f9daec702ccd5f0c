"""A lane's stores: one database and one Redis database, emptied before each case, planted, and looked at."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import redis
from psycopg.rows import dict_row

from queuemon.config import Settings
from queuemon.contract import decode_element
from queuemon.engine.ids import uuid7
from queuemon.engine.publisher import publish
from queuemon.workbench import Workbench
from tests.support.actions import STATES
from tests.support.kills.workers import QUEUES

#: Kept between cases: the schema's version and what the roll-ups began with.
_KEPT = {"rollup_state", "schema_version"}

#: A generation, so that "older" exists.
GEN = 4


@dataclass(kw_only=True)
class Planted:
    """The jobs of a case as they were before anything happened."""

    #: id → (state as in STATES, queue).
    jobs: dict[UUID, tuple[str, str]] = field(default_factory=dict)

    def ids(self, *states: str, queue: str = "") -> list[UUID]:
        """Those that stood in these states (and this queue), in order."""
        return [i for i, (state, name) in self.jobs.items() if state in states and queue in ("", name)]


class Site:
    """Both stores of a lane. Plans are made here; forked children use `store`, with connections of their own."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.workbench = Workbench(settings)
        self.store = self.workbench.store
        self.folder = folder
        self.starts_file = folder / "starts.jsonl"
        self.pg: psycopg.Connection[Any] = psycopg.connect(
            settings.database_url.get_secret_value(), autocommit=True, row_factory=dict_row
        )
        self.redis: Any = redis.Redis.from_url(settings.redis_url.get_secret_value())
        self.planted = Planted()
        own = self.sql(
            "SELECT schemaname || '.' || tablename AS name FROM pg_tables"
            " WHERE schemaname IN ('public', 'queuemon') AND tablename <> ALL(%s)",
            list(_KEPT),
        )
        self._empty = "; ".join(f"DELETE FROM {row['name']}" for row in own)
        self.pg.execute("SET session_replication_role = replica")  # no triggers: this is not the application
        self.sql("INSERT INTO queuemon.rollup_state (name, txid) VALUES ('redis', '0') ON CONFLICT DO NOTHING")

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        """Run a statement; returns its rows, if it has any."""
        cursor = self.pg.execute(statement, parameters or None)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []

    def reset(self, *, chunk_rows: int = 6, **settings: Any) -> None:
        """Empty both stores; three queues; Redis knows that nothing was lost."""
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        self.wait_alone()
        self.pg.execute(self._empty)  # type: ignore[arg-type]
        for name in QUEUES:
            self.sql("INSERT INTO job_queues (name) VALUES (%s)", name)
        self.redis.flushdb()
        self.epoch = f"ready:{self.redis.info('server')['run_id']}"
        self.redis.set("queuemon:epoch", self.epoch)
        for name in QUEUES:
            self.redis.hset(f"queuemon:paused:{name}", mapping={"paused": 0, "epoch": 0, "until": ""})
        self.starts_file.unlink(missing_ok=True)
        self.planted = Planted()
        self.store.settings = self.settings.model_copy(update={"chunk_rows": chunk_rows, **settings})

    def wait_alone(self) -> None:
        """Until no other backend is left: those of killed processes end as soon as they notice."""
        self.store.postgres.engine.dispose()
        deadline = time.monotonic() + 10
        while self.sql(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ):
            assert time.monotonic() < deadline, "a backend of a killed process does not end"
            time.sleep(0.002)

    # ------------------------------------------------------------------------------------------------------ planting

    def plant(self, state: str, number: int, *, queue: str = "mail", published: bool = True) -> list[UUID]:
        """Jobs in a state, made an hour or so ago; what waits is published as a producer does."""
        ids = [uuid7() for _ in range(number)]
        self.sql("SET session_replication_role = origin")
        self.sql(
            "INSERT INTO jobs (id, queue, payload, gen, created_at, updated_at, expires_at, status, attempts, run_at,"
            " started_at, finished_at, heartbeat_at, worker_id, error_type, error_message)"
            " SELECT id, %s, jsonb_build_object('n', 12345678901234567), " + str(GEN) + ","
            " now() - interval '2 hours', now() - interval '2 hours', now() + interval '1 hour',"
            f" {STATES[state]} FROM unnest(%s::uuid[]) AS id",
            queue,
            ids,
        )
        self.sql("SET session_replication_role = replica")
        if state == "waiting":
            self.promise(ids)
            if published:
                publish(self.store)
        self.planted.jobs |= dict.fromkeys(ids, (state, queue))
        return ids

    def stuck(self, number: int, *, queue: str = "mail", attempts: int = 1) -> list[UUID]:
        """Active jobs whose worker fell silent an hour ago."""
        ids = self.plant("active", number, queue=queue)
        self.sql(
            "UPDATE jobs SET heartbeat_at = now() - interval '1 hour', started_at = now() - interval '1 hour',"
            " attempts = %s WHERE id = ANY(%s)",
            attempts,
            ids,
        )
        self.planted.jobs |= dict.fromkeys(ids, ("stuck", queue))
        return ids

    def promise(self, ids: list[UUID]) -> None:
        """An outbox row for these jobs."""
        self.sql("INSERT INTO queuemon.publications (job_ids) VALUES (%s)", ids)

    # ------------------------------------------------------------------------------------------------------- looking

    def rows(self) -> dict[UUID, Any]:
        """All jobs by id."""
        return {row["id"]: row for row in self.sql("SELECT * FROM jobs")}

    def elements(self) -> list[tuple[UUID, int]]:
        """(id, generation) of everything in lists, parked or not, and in hands, as often as it is there."""
        lists = ("queue", "queuemon:sifted", "queuemon:parked")
        keys = [f"{key}:{name}" for name in QUEUES for key in lists] + list(
            self.redis.scan_iter(match="queuemon:proc:*", count=1000)
        )
        raws = [raw for key in keys for raw in self.redis.lrange(key, 0, -1)]
        found = (decode_element(raw) for raw in raws)
        return [(UUID(e.id), e.gen) for e in found if e is not None and e.gen is not None]

    def unfindable(self) -> set[UUID]:
        """Jobs that wait, are due, and are in no list, no hand and no due outbox row (looked at twice)."""
        waiting = (
            "SELECT id, gen FROM jobs WHERE status = 'waiting' AND run_at <= now() AND expires_at > now()"
            " AND NOT EXISTS (SELECT 1 FROM queuemon.publications AS p WHERE jobs.id = ANY(p.job_ids))"
        )
        before = {(row["id"], row["gen"]) for row in self.sql(waiting)}
        missing = before - set(self.elements()) if before else set()
        if missing:  # a worker may have taken it between the two looks
            missing &= {(row["id"], row["gen"]) for row in self.sql(waiting)}
            missing -= set(self.elements())
        return {job_id for job_id, _ in missing}

    def owed(self) -> int:
        """Outbox rows that are due."""
        found = self.sql("SELECT count(*) AS n FROM queuemon.publications WHERE due_at <= now()")
        return int(found[0]["n"])

    def unfinished(self, exempt: set[UUID]) -> int:
        """Jobs that are due or active, beside those that nobody is to touch."""
        found = self.sql(
            "SELECT count(*) AS n FROM jobs WHERE (status = 'active' OR status = 'waiting' AND run_at <= now())"
            " AND id <> ALL(%s)",
            list(exempt),
        )
        return int(found[0]["n"])

    def starts(self) -> list[dict[str, Any]]:
        """Every start of a job in this case."""
        if not self.starts_file.exists():
            return []
        return [json.loads(line) for line in self.starts_file.read_text().splitlines()]

    def state_of(self, action_id: UUID) -> str:
        """The state of an action; empty when it was never entered."""
        found = self.sql("SELECT state FROM queuemon.actions WHERE id = %s", action_id)
        return str(found[0]["state"]) if found else ""
