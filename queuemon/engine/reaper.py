"""The reaper: empties the hands of dead workers, so that what they had popped is taken again; the relay runs it."""

from __future__ import annotations

import logging
import re
from typing import Any
from uuid import UUID

from queuemon.contract import JobStatus, Keys, decode_element
from queuemon.store import Store, claims, upkeep, workers
from queuemon.store.upkeep import Standing

log = logging.getLogger(__name__)

#: Elements looked at per hand and call; a worker of ours never holds more than one.
HAND_LIMIT = 1_000

#: Keys per SCAN step.
SCAN_COUNT = 1_000


def reap_dead(store: Store) -> int:
    """Empty the hands of workers that stopped beating; returns how many elements were put away.

    One pipeline of an EXISTS per dead worker and queue.
    """
    with store.postgres.statement() as connection:
        dead = workers.dead(connection, store.tables, lease_seconds=store.settings.lease_seconds)
        queues = [served.name for served in claims.serving(connection, store.tables)] if dead else []
    hands = [(worker, queue) for worker in dead for queue in queues]
    if not hands:
        return 0
    keys = store.redis.keys
    with store.redis.call() as client:
        pipe = client.pipeline(transaction=False)
        for worker, queue in hands:
            pipe.exists(keys.processing_key(worker, queue))
        held = [hand for hand, there in zip(hands, pipe.execute(), strict=True) if there]
    return sum(empty_hand(store, worker, queue) for worker, queue in held)


def reap_unknown(store: Store) -> int:
    """Empty the hands of workers that the registry does not know (any more), found with SCAN, never KEYS."""
    pattern, match = _hand_pattern(store.redis.keys)
    with store.redis.call() as client:
        found: list[Any] = list(client.scan_iter(match=match, count=SCAN_COUNT))
    # Asked after Redis: a worker enters the registry before it takes anything in hand.
    with store.postgres.statement() as connection:
        known = workers.known(connection, store.tables)
    hands = [pattern.fullmatch(raw.decode("utf-8", "replace")) for raw in found]
    return sum(
        empty_hand(store, hand["worker"], hand["name"]) for hand in hands if hand and hand["worker"] not in known
    )


def _hand_pattern(keys: Keys) -> tuple[re.Pattern[str], str]:
    """In-hand keys as a regular expression and as a glob. Workers' names hold no colon, queues' names may."""
    template = keys.processing
    regex = re.escape(template).replace(re.escape("{worker}"), "(?P<worker>[^:]+)")
    regex = regex.replace(re.escape("{name}"), "(?P<name>.+)")
    glob = re.sub(r"([*?\[\]\\])", r"\\\1", template).replace("{worker}", "*").replace("{name}", "*")
    return re.compile(regex, re.DOTALL), glob


def empty_hand(store: Store, worker_id: str, queue: str) -> int:
    """Put away what a dead worker holds of a queue; returns how many elements.

    Its job still waits under the same generation: to the head of its queue. Active under that worker: left until the
    lease has run out. Anything else has been published anew, or is over: dropped. Unreadable: quarantine.
    """
    keys = store.redis.keys
    hand = keys.processing_key(worker_id, queue)
    with store.redis.call() as client:
        elements: Any = client.lrange(hand, 0, HAND_LIMIT - 1)
    named = [(raw, decode_element(raw)) for raw in elements]
    ids = {element.id: job_id for _, element in named if element and (job_id := _uuid(element.id)) is not None}
    with store.postgres.statement() as connection:
        standing = upkeep.standing(connection, store.tables, list(ids.values()))
    done = 0
    for raw, element in named:
        if element is None or element.id not in ids:
            store.redis.run("quarantine", [hand, keys.quarantine_key(queue)], [raw])
        else:
            job = standing.get(ids[element.id])
            if job is not None and _same(element.gen, job) and job.status is JobStatus.ACTIVE:
                continue
            if job is not None and _same(element.gen, job) and job.status is JobStatus.WAITING:
                names = [keys.queue_key(job.queue), keys.paused_key(job.queue), keys.parked_key(job.queue)]
                store.redis.run("give_back", [hand, *names, keys.wake], [raw])
                log.warning("job %s was in the hand of dead worker %s: back to its queue", element.id, worker_id)
            else:
                store.redis.run("finish", [hand, keys.marker_key(element.id)], [raw, element.gen or 0])
        done += 1
    return done


def _same(gen: int | None, job: Standing) -> bool:
    return gen is None or gen == job.gen


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
