"""Scenes of the relay: for each of its duties, what gives it something to do."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from queuemon.contract import encode_element
from queuemon.engine.ids import uuid7
from queuemon.engine.relay import Relay
from queuemon.store import Store, pauses
from tests.support.kills.scene import Deed, Scene
from tests.support.kills.site import GEN, Site


def duty_names(store: Store) -> list[str]:
    """What a relay does again and again, by name."""
    return [duty.name for duty in Relay(store)._duties]


def _doing(name: str) -> Callable[[Store], object]:
    def act(store: Store) -> None:
        duty = next(d for d in Relay(store, calm_seconds=0)._duties if d.name == name)
        while duty.act():
            pass

    return act


def _restore(site: Site, variant: str) -> Deed:
    """Redis lost everything; or what it had an hour ago is back, with markers and all."""
    site.plant("waiting", 12)
    site.plant("waiting", 3, queue="reports")
    if variant == "lost":
        site.redis.flushdb()
    else:
        site.redis.ltrim("queue:mail", 0, 5)
        site.redis.delete(*[f"job:{i}" for i in site.planted.ids("waiting", queue="mail")[6:]])
        site.redis.set("queuemon:epoch", "ready:another run of the server")
    return Deed(act=_doing("restore"))


def _publish(site: Site, _variant: str) -> Deed:
    for _ in range(3):
        site.plant("waiting", 4, published=False)
    site.plant("waiting", 3, queue="reports", published=False)
    return Deed(act=_doing("publish"))


def _fold(site: Site, _variant: str) -> Deed:
    site.plant("waiting", 5)
    site.plant("failed", 2)
    deed = Deed(act=_doing("fold"))
    deed.holds = _counters_true
    return deed


def _counters_true(site: Site) -> list[str]:
    """Each arrival is counted once, folded or not."""
    found = site.sql(
        "SELECT (SELECT coalesce(sum(n), 0) FROM queuemon.minutes WHERE kind = 'arrived')"
        " + (SELECT coalesce(sum(n), 0) FROM queuemon.job_deltas WHERE arrived IS NOT NULL) AS n"
    )[0]["n"]
    made = len(site.planted.jobs)
    return [] if found == made else [f"{found} arrivals are counted, {made} jobs were made"]


def _pauses(site: Site, variant: str) -> Deed:
    """Pauses past their end: the last holder's, or one of two."""
    workbench = site.workbench
    workbench.apply(workbench.plan("pause", "mail", until="1h", holder="deploy"), reason="before the case")
    if variant == "one of two":
        workbench.apply(workbench.plan("pause", "mail", holder="someone"), reason="before the case")
    site.sql("UPDATE job_queues SET paused_at = now() - interval '1 hour' WHERE name = 'mail'")
    site.sql("UPDATE queuemon.queue_pauses SET until = now() - interval '1 second' WHERE holder = 'deploy'")
    waiting = site.plant("waiting", 10)
    site.plant("waiting", 3, queue="reports")
    site.sql("UPDATE jobs SET expires_at = now() + interval '1 minute' WHERE id = ANY(%s)", waiting)
    deed = Deed(act=_doing("pauses"))
    deed.release = lambda site: site.workbench.resume("mail", reason="the end of the case")
    return deed


def _flags(site: Site, _variant: str) -> Deed:
    site.plant("waiting", 6)
    site.redis.hset("queuemon:paused:mail", mapping={"paused": 1, "epoch": 0, "until": ""})
    site.redis.delete("queuemon:paused:reports")
    return Deed(act=_doing("flags"))


def _park(site: Site, _variant: str) -> Deed:
    """What others push to a parked list; the queue is let go at the end of the case."""
    site.workbench.pause("mail", reason="before the case", hard=True)
    site.plant("waiting", 10)
    site.plant("waiting", 3, queue="reports")
    for raw in site.redis.rpop("queuemon:parked:mail", 4) or []:
        site.redis.lpush("queue:mail", raw)

    def act(store: Store) -> None:
        relay = Relay(store, calm_seconds=0)
        with store.postgres.statement() as connection:
            relay._parked = [flag for flag in pauses.pause_flags(connection, store.tables) if flag.hard]
        while relay.park():
            pass

    deed = Deed(act=act)
    deed.release = lambda site: site.workbench.resume("mail", reason="the end of the case")
    deed.holds = lambda site: ["the list is not parked"] if site.redis.exists("queue:mail") else []
    return deed


def _leases(site: Site, _variant: str) -> Deed:
    site.stuck(8)
    site.stuck(3, attempts=3)
    site.plant("waiting", 3)
    return Deed(act=_doing("leases"))


def _expiry(site: Site, _variant: str) -> Deed:
    late = site.plant("waiting", 8)
    site.plant("waiting", 3)
    site.sql("UPDATE jobs SET expires_at = now() - interval '1 minute' WHERE id = ANY(%s)", late)
    return Deed(act=_doing("expiry"))


def _hand(site: Site, worker: str) -> None:
    """A worker that was killed with jobs in hand: waiting, over, of an older generation, and what nobody can read."""
    waiting, done = site.plant("waiting", 6), site.plant("completed", 2)
    for raw in site.redis.lrange("queue:mail", 0, 2):
        site.redis.lrem("queue:mail", 1, raw)
        site.redis.rpush(f"queuemon:proc:{worker}:mail", raw)
    for job_id, gen in [(done[0], GEN), (waiting[5], GEN - 1)]:
        site.redis.rpush(f"queuemon:proc:{worker}:mail", _element(job_id, gen))
    site.redis.rpush(f"queuemon:proc:{worker}:mail", "{not JSON")


def _element(job_id: UUID, gen: int) -> str:
    return encode_element({"id": str(job_id), "gen": gen, "queue": "mail", "payload": {}})


def _reap(site: Site, _variant: str) -> Deed:
    site.sql(
        "INSERT INTO queuemon.workers (id, kind, home, host, pid, heartbeat_at)"
        " VALUES ('dead-1', 'worker', 'mail', 'host', 1, now() - interval '1 hour')"
    )
    _hand(site, "dead-1")
    deed = Deed(act=_doing("reap"))
    deed.holds = _hands_empty
    return deed


def _reap_unknown(site: Site, _variant: str) -> Deed:
    _hand(site, "unknown-1")
    deed = Deed(act=_doing("reap unknown"))
    deed.holds = _hands_empty
    return deed


def _hands_empty(site: Site) -> list[str]:
    kept = site.redis.llen("queuemon:quarantine:mail")
    return [] if kept == 1 else [f"{kept} elements in quarantine, expected the one that nobody can read"]


def _signatures(site: Site, _variant: str) -> Deed:
    """Failed attempts that nobody has signed, of jobs that wait."""
    for job_id in site.plant("waiting", 6):
        site.sql(
            "INSERT INTO job_logs (job_id, queue, kind, gen, status, finished_at, error_type, error_message)"
            " VALUES (%s, 'mail', 'attempt', 1, 'failed', now(), 'ValueError', 'no')",
            job_id,
        )
    deed = Deed(act=_doing("signatures"))
    deed.holds = lambda site: (
        ["an attempt is not signed"]
        if site.sql("SELECT 1 FROM job_logs WHERE status = 'failed' AND signature IS NULL")
        else []
    )
    return deed


def _clean(site: Site, _variant: str) -> Deed:
    """Copies, logs and actions past their time, beside others that are kept."""
    site.plant("waiting", 5)
    old, young, action = uuid7(), uuid7(), uuid7()
    for job_id, days in ((old, -1), (young, 1)):
        site.sql(
            "INSERT INTO queuemon.undo_jobs (action_id, job_id, row, kept_until)"
            " VALUES (%s, %s, '{}', now() + make_interval(days => %s))",
            action, job_id, days,
        )  # fmt: skip
    deed = Deed(act=_doing("janitor"))
    deed.holds = lambda site: (
        [] if site.sql("SELECT 1 FROM queuemon.undo_jobs WHERE job_id = %s", young) else ["a copy went before its time"]
    )
    return deed


DUTIES = {
    name: Scene(name=f"relay {name}", prepare=prepare, variants=variants)
    for name, prepare, variants in (
        ("restore", _restore, ("lost", "old snapshot")),
        ("publish", _publish, ("plain",)),
        ("fold", _fold, ("plain",)),
        ("pauses", _pauses, ("last", "one of two")),
        ("flags", _flags, ("plain",)),
        ("park", _park, ("plain",)),
        ("signatures", _signatures, ("plain",)),
        ("leases", _leases, ("plain",)),
        ("expiry", _expiry, ("plain",)),
        ("reap", _reap, ("plain",)),
        ("reap unknown", _reap_unknown, ("plain",)),
        ("janitor", _clean, ("plain",)),
    )
}
