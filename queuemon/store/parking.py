"""Hard pauses: lists parked and given back as PostgreSQL's pause flags say.

Actions and the relay call `tell`; the relay also looks for flags that differ and for what others pushed to a list that
is parked. What filters a parked list is `sieve`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from queuemon.contract import WAKE_TOKENS, Keys
from queuemon.errors import StoreError
from queuemon.store.pauses import PauseFlag
from queuemon.store.redis import Argument, Redis

#: Elements that one call moves at most (0.3 ms in the server); a large one counts for more.
MOVES: Final = 1_000

#: What `set_pause` answers.
_MORE: Final = 2


def parked_keys(keys: Keys, queue: str) -> tuple[str, str]:
    """The lists that hold a parked queue, in the order in which they will be served; the first is mostly empty.

    Read them in this order, and read the first one again where the second has shrunk meanwhile: a filter moves from
    the second to the first.
    """
    return keys.sifted_key(queue), keys.parked_key(queue)


def tell(redis: Redis, flags: Iterable[PauseFlag], *, seconds: float = 1.0) -> bool:
    """Write pause flags to Redis, and park or give back the lists with them; returns whether something is left to do.

    Parking and giving back rename a list, however long; only where others pushed to a parked list elements are moved,
    for `seconds` at most over all. A flag that cannot be written does not keep the others; its error comes at the end.
    """
    end = time.monotonic() + seconds
    failure: StoreError | None = None
    more = False
    for flag in flags:
        try:
            while redis.run("set_pause", *call(redis.keys, flag)) == _MORE:
                if time.monotonic() > end:
                    more = True
                    break
        except StoreError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return more


def call(keys: Keys, flag: PauseFlag) -> tuple[list[str], list[Argument]]:
    """Keys and arguments of `set_pause`."""
    until = "" if flag.until is None else flag.until.isoformat()
    arguments: list[Argument] = [int(flag.paused), flag.epoch, until, WAKE_TOKENS, int(flag.hard), MOVES]
    return _keys(keys, flag.queue), arguments


def refused(redis: Redis, queue: str, epoch: int) -> None:
    """Write that a queue is paused, known from a refused claim; whether its list is parked, the relay sees to."""
    redis.run("set_pause", _keys(redis.keys, queue), [1, epoch, "", WAKE_TOKENS, "", 0])


def _keys(keys: Keys, queue: str) -> list[str]:
    sifted, parked = parked_keys(keys, queue)
    return [keys.paused_key(queue), keys.wake, keys.queue_key(queue), parked, sifted]


def differing(redis: Redis, flags: Sequence[PauseFlag]) -> list[PauseFlag]:
    """Flags that Redis does not have as PostgreSQL does, and those whose list is not where it belongs.

    One pipeline, three commands per queue (200 queues: about 2 ms).
    """
    keys = redis.keys
    with redis.call() as client:
        pipe = client.pipeline(transaction=False)
        for flag in flags:
            pipe.hmget(keys.paused_key(flag.queue), "paused", "epoch", "hard")
            pipe.exists(keys.queue_key(flag.queue))
            pipe.exists(*parked_keys(keys, flag.queue))
        answers = pipe.execute()
    wrong = []
    for n, flag in enumerate(flags):
        (paused, epoch, hard), listed, parked = answers[3 * n : 3 * n + 3]
        told = (paused, epoch) == (str(int(flag.paused)).encode(), str(flag.epoch).encode())
        # A flag written before lists could be parked says nothing of it.
        misplaced = listed if flag.hard else parked
        if not told or (hard == b"1") is not flag.hard or misplaced:
            wrong.append(flag)
    return wrong


def pushed_meanwhile(redis: Redis, flags: Sequence[PauseFlag]) -> list[PauseFlag]:
    """Of hard pauses those to whose list somebody pushed since it was parked."""
    if not flags:
        return []
    with redis.call() as client:
        pipe = client.pipeline(transaction=False)
        for flag in flags:
            pipe.exists(redis.keys.queue_key(flag.queue))
        return [flag for flag, there in zip(flags, pipe.execute(), strict=True) if there]
