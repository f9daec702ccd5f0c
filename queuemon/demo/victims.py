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


def kill_workers_with_jobs(store: Store, queue: str, *, limit: int) -> list[Victim]:
    """Kill up to `limit` workers of this machine that hold a job of a queue; returns those that held it to the end.

    A pid from the registry is believed only where a Python process of ours has it: the number may be used again.
    """
    host = this_process("").host
    killed: list[Victim] = []
    for worker_id, pid, job_id in _holders(store, host, queue)[:limit]:
        try:
            process = psutil.Process(pid)
            ours = process.uids().real == os.getuid() and any("queuemon" in part for part in process.cmdline())
        except psutil.Error:
            continue
        if ours:
            process.send_signal(signal.SIGKILL)
            killed.append(Victim(worker_id=worker_id, pid=pid, job_id=job_id))
    held = {(worker_id, job_id) for worker_id, _, job_id in _holders(store, host, queue)}
    return [v for v in killed if (v.worker_id, v.job_id) in held]


def _holders(store: Store, host: str, queue: str) -> list[tuple[str, int, UUID]]:
    with store.postgres.begin() as connection:
        return demo.holders(connection, store.tables, host, queue)
