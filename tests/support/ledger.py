"""What really happened, written down before it happened: starts of jobs, acknowledged ids, and their checker."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATES = ("completed", "failed", "waiting", "active", "expired")


class Book:
    """An append-only file of one process; the system has a line before `write` returns, so kill -9 loses none."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._file = os.open(folder / f"{kind}-{os.getpid()}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines."""
        os.write(self._file, "".join(json.dumps(line) + "\n" for line in lines).encode())


def read(folder: Path, kind: str) -> list[dict[str, Any]]:
    """All lines of all books of a kind; a line that a kill cut short was never acknowledged."""
    lines = [line for path in sorted(folder.glob(f"{kind}-*.jsonl")) for line in path.read_bytes().split(b"\n")]
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that was written down, and how the stores stand at the end."""

    #: Each start of a handler: id, gen, at (seconds since 1970).
    starts: list[dict[str, Any]]
    #: Ids that a producer was told have been committed.
    acknowledged: set[str]
    #: id → status, gen, finished_at (seconds since 1970, or None).
    rows: dict[str, dict[str, Any]]
    #: Ids that an operator deleted.
    deleted: set[str]
    #: Jobs ever inserted, by the counters.
    created: int


def figures(record: Record) -> dict[str, int]:
    """The sums, for printing."""
    states = Counter(row["status"] for row in record.rows.values())
    return {
        "created": record.created,
        **{state: states[state] for state in STATES},
        "deleted": len(record.deleted),
        "acknowledged": len(record.acknowledged),
        "starts": len(record.starts),
        "jobs started more than once, each time in a new generation": sum(
            n > 1 for n in Counter(start["id"] for start in record.starts).values()
        ),
    }


def violations(record: Record) -> list[str]:
    """What must never happen and did; empty is what one hopes for."""
    found = []
    sums = figures(record)
    total = sum(sums[state] for state in STATES) + sums["deleted"]
    if total != record.created:
        found.append(f"sum: {record.created} were created, {total} are accounted for")
    lost = record.acknowledged - record.rows.keys() - record.deleted
    found += [f"lost: {job_id} was acknowledged and has gone" for job_id in sorted(lost)]
    back = record.rows.keys() & record.deleted
    found += [f"risen: {job_id} was deleted and is there" for job_id in sorted(back)]
    twice = Counter((start["id"], start["gen"]) for start in record.starts)
    found += [f"twice: {job_id} in generation {gen} started {n} times" for (job_id, gen), n in twice.items() if n > 1]
    started = set()
    for start in record.starts:
        started.add((start["id"], start["gen"]))
        row = record.rows.get(start["id"])
        if row is None or row["status"] != "completed":
            continue
        if start["gen"] > row["gen"] or start["at"] > row["finished_at"]:
            found.append(f"again: {start['id']} started after it was completed")
    for job_id, row in record.rows.items():
        if row["status"] == "completed" and (job_id, row["gen"]) not in started:
            found.append(f"unrun: {job_id} is completed and its last generation never started")
    return found
