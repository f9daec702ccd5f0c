"""What is right and wrong with a pair of stores, each with what to do; `queuemon doctor` prints it. Changes nothing."""

from __future__ import annotations

from queuemon.errors import QueuemonError
from queuemon.model import Check
from queuemon.store.doctor import lists, postgres, processes, redis
from queuemon.store.store import Store


def checks(store: Store) -> tuple[Check, ...]:
    """All checks, PostgreSQL first; a store that is away is one failed check, not an exception."""
    found: list[Check] = []
    for name, part in (
        ("PostgreSQL", postgres.server),
        ("PostgreSQL schema", postgres.schema),
        ("processes", processes.processes),
        ("discipline", processes.workers),
        ("pauses", processes.pauses),
        ("janitor", processes.janitor),
        ("Redis", redis.server),
        ("Redis keys", lists.keys),
    ):
        before = len(found)
        try:
            found += part(store)
        except QueuemonError as error:
            if len(found) == before and not any(c.state == "fail" and c.found == str(error) for c in found):
                found.append(Check(name=name, state="fail", found=str(error), next_step=error.next_step))
    return tuple(found)
