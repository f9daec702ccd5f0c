"""The registry of processes: workers, relays and supervisors enter themselves and beat; the relay finds the dead."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Double, Integer, Select, Text, bindparam, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from queuemon.schema.tables import Tables
from queuemon.store.claims import Lease, mine


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process as it enters itself."""

    id: str
    #: worker, relay or supervisor
    kind: str
    #: The queue a worker is meant for; empty for the others.
    home: str
    host: str
    pid: int


def beat(connection: Connection, t: Tables, process: Process, lease: Lease | None) -> bool:
    """Say that the process lives (entering it if need be), and renew the lease of the job in its hand.

    Returns False when the job is no longer this worker's. One statement.
    """
    held: bool = connection.execute(
        _beat(t),
        {
            "worker": process.id,
            "its_kind": process.kind,
            "its_home": process.home,
            "its_host": process.host,
            "its_pid": process.pid,
            "job": lease.job_id if lease else None,
            "held": lease.gen if lease else None,
        },
    ).scalar_one()
    return held


@cache
def _beat(t: Tables) -> Select[Any]:
    w, j = t.workers, t.jobs
    entered = (
        upsert(w)
        .values(
            id=bindparam("worker", type_=Text),
            kind=bindparam("its_kind", type_=Text),
            home=bindparam("its_home", type_=Text),
            host=bindparam("its_host", type_=Text),
            pid=bindparam("its_pid", type_=Integer),
        )
        .on_conflict_do_update(index_elements=[w.c.id], set_={"heartbeat_at": func.now()})
        .returning(w.c.id)
        .cte("entered")
    )
    held = update(j).where(mine(t)).values(heartbeat_at=func.now()).returning(j.c.id).cte("held")
    return select(select(held.c.id).exists()).add_cte(entered)


def leave(connection: Connection, t: Tables, worker_id: str) -> None:
    """A process that ends in good order."""
    connection.execute(delete(t.workers).where(t.workers.c.id == worker_id))


def dead(connection: Connection, t: Tables, *, lease_seconds: float) -> list[str]:
    """Workers whose last beat is older than the lease, by PostgreSQL's clock."""
    w = t.workers
    late = w.c.heartbeat_at < func.now() - _seconds(lease_seconds)
    return list(connection.execute(select(w.c.id).where(w.c.kind == "worker", late).order_by(w.c.id)).scalars())


def known(connection: Connection, t: Tables) -> set[str]:
    """All processes in the registry, alive or dead."""
    return set(connection.execute(select(t.workers.c.id)).scalars())


def leader(connection: Connection, t: Tables, *, kind: str, lease_seconds: float) -> str | None:
    """The one process of a kind that acts while the others stand by: the longest alive."""
    w = t.workers
    alive = w.c.heartbeat_at > func.now() - _seconds(lease_seconds)
    oldest = select(w.c.id).where(w.c.kind == kind, alive).order_by(w.c.started_at, w.c.id).limit(1)
    return connection.execute(oldest).scalar_one_or_none()


def forget(connection: Connection, t: Tables, *, older_than_seconds: float) -> int:
    """Remove processes that have been dead for so long."""
    w = t.workers
    late = w.c.heartbeat_at < func.now() - _seconds(older_than_seconds)
    return connection.execute(delete(w).where(late)).rowcount


def _seconds(seconds: float) -> Any:
    return func.make_interval(0, 0, 0, 0, 0, 0, cast(seconds, Double))
