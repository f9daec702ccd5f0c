"""What must hold at every moment of a `World`, whatever has happened in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from queuemon.contract import decode_element
from queuemon.model import ActionKind
from queuemon.store import numbers

if TYPE_CHECKING:
    from tests.support.world import World

#: Where an element is on its way to a worker: a list that a hard pause has parked is given back with it.
ON_THEIR_WAY = ("queue:*", "queuemon:parked:*", "queuemon:sifted:*", "queuemon:proc:*")
#: Kinds whose sums are kept, beside those that act on jobs.
SUMMED = {ActionKind.CANARY, ActionKind.REPAIR, ActionKind.ADOPT}
ENDED = {"done", "partly", "refused"}


def violations(world: World) -> list[str]:
    """What must never be and is; empty at every moment."""
    rows = {row["id"]: row for row in world.sql("SELECT * FROM jobs")}
    return [
        *_started_twice(world),
        *_elements(world, rows),
        *(f"{job} has gone" for job in world.acknowledged - rows.keys() - _removed(world)),
        *_counters(world, rows),
        *_actions(world),
    ]


def _started_twice(world: World) -> Iterator[str]:
    yield from (f"{job} started {n} times in generation {gen}" for (job, gen), n in world.seen.starts.items() if n > 1)


def _elements(world: World, rows: dict[UUID, Any]) -> Iterator[str]:
    """No live element is newer than its row, every waiting row is findable, and what is unreadable is kept."""
    raws = [(key, raw) for pattern in ON_THEIR_WAY for key in world.keys(pattern) for raw in _list(world, key)]
    there = set()
    for key, raw in raws:
        element = decode_element(raw)
        if element is None:
            continue
        job, gen = UUID(element.id), element.gen
        there.add((job, gen))
        if gen is not None and job in rows and gen > rows[job]["gen"]:
            yield f"{key} holds generation {gen} of {job}, whose row has {rows[job]['gen']}"
    kept = {raw for key in world.keys("queuemon:quarantine:*") for raw in _list(world, key)}
    yield from (f"{raw!r} was thrown away" for raw in world.poison - kept - {raw for _, raw in raws})
    if world.lost():
        return  # the next look of a relay promises everything that waits
    # What is past its deadline goes to no worker: the next look of a relay lets it expire.
    late = {row["id"] for row in world.sql("SELECT id FROM jobs WHERE status = 'waiting' AND expires_at <= now()")}
    promised = {row["id"] for row in world.sql("SELECT DISTINCT unnest(job_ids) AS id FROM queuemon.publications")}
    for job, row in rows.items():
        if row["status"] == "waiting" and job not in late | promised and not {(job, row["gen"]), (job, None)} & there:
            yield f"{job} waits in generation {row['gen']} and nothing will bring it to a worker"


def _list(world: World, key: str) -> list[bytes]:
    return list(world.redis.lrange(key, 0, -1))


def _removed(world: World) -> set[UUID]:
    """Jobs that the trail says were deleted."""
    kinds = [kind.value for kind in ActionKind if kind.removes]
    gone = world.sql(
        "SELECT unnest(c.done_ids) AS id FROM queuemon.action_chunks c JOIN queuemon.actions a ON a.id = c.action_id"
        " WHERE a.kind = ANY(:kinds)",
        kinds=kinds,
    )
    return {row["id"] for row in gone}


def _counters(world: World, rows: dict[UUID, Any]) -> Iterator[str]:
    store = world.wb.store
    with store.postgres.begin() as connection:
        half = numbers.snapshot(connection, store.tables, world.settings)
    real = Counter((row["queue"], row["status"]) for row in rows.values())
    for q in half.queues:
        said = {"completed": q.completed, "failed": q.failed, "expired": q.expired, "active": q.active}
        said["waiting"] = q.waiting + q.scheduled
        for state, n in said.items():
            if n != real[q.name, state]:
                yield f"{n} {state} in {q.name} by the counters, {real[q.name, state]} by the rows"


def _actions(world: World) -> Iterator[str]:
    """The audit trail holds what was asked for, each once, and its sums are those of the jobs."""
    events = Counter(
        (e["action_id"], e["event"]) for e in world.sql("SELECT action_id, event FROM queuemon.action_events")
    )
    chunks = world.sql("SELECT action_id, sum(cardinality(done_ids)) AS n FROM queuemon.action_chunks GROUP BY 1")
    named = {row["action_id"]: row["n"] for row in chunks}
    states = {}
    for row in world.sql("SELECT * FROM queuemon.actions"):
        what, kind = f"{row['kind']} {row['id']}", ActionKind(row["options"].get("undoes", row["kind"]))
        states[row["id"]] = row["state"]
        if row["id"] not in world.asked and UUID(row["options"].get("canary", row["id"].hex)) not in world.asked:
            yield f"nobody asked for {what}"
        begun, ended = events[row["id"], "started"], events[row["id"], "finished"]
        if begun != 1 or ((ended == 0) is not (row["state"] == "running") and not events[row["id"], "resumed"]):
            yield f"{what} is {row['state']}, and was begun {begun} times, ended {ended} times"
        if not kind.bulk and kind not in SUMMED:
            continue
        accounted = row["done"] + sum(row["skipped"].values()) + row["gone"]
        # A filter may come to match more of what existed at its cutoff; a selection is what it is.
        more = accounted > row["planned"] and row["ids"] is not None
        if more or (row["state"] in ENDED and accounted < row["planned"]):
            yield f"{what} is {row['state']}: {row['planned']} planned, {accounted} accounted for"
        if kind is not ActionKind.CANARY and row["done"] != named.get(row["id"], 0):  # its steps name them
            yield f"{what}: {row['done']} done, its chunks name {named.get(row['id'], 0)}"
    for action in world.answered:
        if states.get(action, "missing") in {"running", "missing"}:
            yield f"the operator was told that {action} has ended, and it is {states.get(action, 'missing')}"
