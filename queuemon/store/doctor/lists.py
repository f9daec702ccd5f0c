"""The queues' keys in Redis against what PostgreSQL says of them; part of the doctor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from queuemon.model import Check
from queuemon.store import pauses
from queuemon.store.doctor.checks import check
from queuemon.store.parking import parked_keys
from queuemon.store.store import Store


def keys(store: Store) -> Iterator[Check]:
    """Types, times to live, pause flags, parked lists, quarantines: a pipeline, ten commands per queue."""
    with store.postgres.statement() as connection:
        flags = pauses.pause_flags(connection, store.tables)
    names, k = [flag.queue for flag in flags], store.settings.keys
    lists = [(n, key) for n in names for key in (k.queue_key(n), *parked_keys(k, n), k.quarantine_key(n))]
    with store.redis.call() as client:
        pipe = client.pipeline(transaction=False)
        for _, key in lists:
            pipe.type(key)
            pipe.ttl(key)
        for name in names:
            pipe.hmget(k.paused_key(name), "paused", "hard")
        answers = pipe.execute()
    types, lives, copies = answers[: 2 * len(lists) : 2], answers[1 : 2 * len(lists) : 2], answers[2 * len(lists) :]
    wrong = [key for (_, key), kind in zip(lists, types, strict=True) if kind not in {b"list", b"none"}]
    yield check(
        "Redis lists",
        not wrong,
        f"no list at {_named(wrong)}" if wrong else "queues are lists",
        "find out who else writes these keys",
        otherwise="fail",
    )
    mortal = [key for (_, key), ttl in zip(lists, lives, strict=True) if ttl >= 0]
    yield check(
        "Redis time to live",
        not mortal,
        f"set on {_named(mortal)}" if mortal else "none on a list",
        "PERSIST the keys: when it runs out, every element is dropped at once",
    )
    # A queue that was never paused may have no copy of its flag.
    differ = [f.queue for f, (paused, _) in zip(flags, copies, strict=True) if (paused == b"1") is not f.paused]
    yield check(
        "pause flags",
        not differ,
        f"differ for {_named([k.display(n) for n in differ])}" if differ else "the same in both stores",
        "a running relay copies PostgreSQL's, which holds",
    )
    there = {key for (_, key), kind in zip(lists, types, strict=True) if kind != b"none"}
    yield _quarantined(store, [name for name in names if k.quarantine_key(name) in there])
    left = [f.queue for f in flags if not f.hard and any(key in there for key in parked_keys(k, f.queue))]
    yield check(
        "parked lists",
        not left,
        f"still parked without a hard pause: {_named([k.display(n) for n in left])}"
        if left
        else f"{sum(f.hard for f in flags)} queues paused hard",
        "run `queuemon relay`: it gives them back; until then no worker takes these jobs",
        otherwise="fail",
    )
    loose = [f.queue for f in flags if f.hard and k.queue_key(f.queue) in there]
    yield check(
        "hard pauses",
        not loose,
        f"the list is not parked of {_named([k.display(n) for n in loose])}" if loose else "hold",
        "run `queuemon relay`: it parks what others push; workers that do not know the flag can take it",
    )


def _quarantined(store: Store, names: Sequence[str]) -> Check:
    k = store.settings.keys
    with store.redis.call() as client:
        pipe = client.pipeline(transaction=False)
        for name in names:
            pipe.llen(k.quarantine_key(name))
        lengths = pipe.execute(raise_on_error=False)
    aside = [f"{n:,} of {k.display(name)}" for name, n in zip(names, lengths, strict=True) if isinstance(n, int)]
    return check(
        "quarantine",
        not aside,
        f"elements set aside, which no worker takes: {_named(aside)}" if aside else "empty",
        "see `queuemon quarantine list QUEUE`: adopt what is a job, discard the rest",
    )


def _named(some: Sequence[str]) -> str:
    return ", ".join(some[:5]) + (" …" if len(some) > 5 else "")
