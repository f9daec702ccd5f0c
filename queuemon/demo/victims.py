"""Which worker processes hold a job right now, and their end by kill -9; scenario worker-crash uses it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from uuid import UUID

import psutil

from queuemon.engine.process import this_process
from queuemon.store import Store, demo


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A worker that was killed with a job in hand."""

    worker_id: str
    pid: int
    job_id: UUID


def kill_workers_with_jobs(store: Store, *, limit: int) -> list[Victim]:
    """Kill up to `limit` workers of this machine that hold a job; returns them.

    A pid from the registry is believed only where a Python process of ours has it: the number may be used again.
    """
    host, killed = this_process("").host, []
    with store.postgres.begin() as connection:
        holders = demo.holders(connection, store.tables, host)
    for worker_id, pid, job_id in holders[:limit]:
        try:
            process = psutil.Process(pid)
            ours = process.uids().real == os.getuid() and any("queuemon" in part for part in process.cmdline())
        except psutil.Error:
            continue
        if ours:
            process.send_signal(signal.SIGKILL)
            killed.append(Victim(worker_id=worker_id, pid=pid, job_id=job_id))
    return killed
