"""Scenes of the actions: for every kind that an operator can apply, the jobs before it and the deed."""

from __future__ import annotations

from collections import Counter

from queuemon.contract import encode_element
from queuemon.engine.ids import uuid7
from queuemon.model import ActionKind
from tests.support.kills.scene import MODES, Deed, Scene, applied
from tests.support.kills.site import GEN, Site


def _retry(site: Site, variant: str) -> Deed:
    failed = site.plant("failed", 44 if variant == "large" else 12)
    site.plant("expired", 3)
    site.plant("failed", 2, queue="bulk")
    waiting = site.plant("waiting", 3)
    running = site.plant("active", 1)
    if variant == "large":  # chunks that are counted by statement
        site.store.settings = site.settings.model_copy(update={"chunk_rows": 22})
    if variant == "selection":
        deed = applied(site, ActionKind.RETRY, [*failed, waiting[0], *running, uuid7()])
    else:
        deed = applied(site, ActionKind.RETRY, "queue:mail status in (failed, expired)")
    deed.exempt |= set(running)
    return deed


def _delete(site: Site, variant: str) -> Deed:
    failed, waiting = site.plant("failed", 5), site.plant("waiting", 7)
    site.plant("completed", 2)
    site.plant("waiting", 3, queue="reports")
    if variant == "selection":
        return applied(site, ActionKind.DELETE, [*failed, *waiting, uuid7()])
    return applied(site, ActionKind.DELETE, "queue:mail")


def _clear_failed(site: Site, _variant: str) -> Deed:
    site.plant("failed", 11)
    site.plant("waiting", 3)
    return applied(site, ActionKind.CLEAR_FAILED, "queue:mail")


def _run_now(site: Site, variant: str) -> Deed:
    scheduled = site.plant("scheduled", 11)
    site.plant("waiting", 3)
    if variant == "selection":
        return applied(site, ActionKind.RUN_NOW, scheduled)
    return applied(site, ActionKind.RUN_NOW, "queue:mail")


def _purge(site: Site, _variant: str) -> Deed:
    site.plant("waiting", 14)
    site.plant("waiting", 3, queue="reports")
    return applied(site, ActionKind.PURGE, "mail")


def _move(site: Site, variant: str) -> Deed:
    waiting, failed = site.plant("waiting", 9), site.plant("failed", 4)
    site.plant("waiting", 3, queue="reports")
    if variant == "selection":
        return applied(site, ActionKind.MOVE, [*waiting, *failed], to="reports")
    return applied(site, ActionKind.MOVE, "queue:mail status:waiting", to="reports")


def _rescue(site: Site, variant: str) -> Deed:
    stuck = site.stuck(8) + site.stuck(3, attempts=3)
    site.plant("waiting", 3)
    if variant == "selection":
        return applied(site, ActionKind.RESCUE, stuck)
    return applied(site, ActionKind.RESCUE, "queue:mail")


def _delete_stuck(site: Site, _variant: str) -> Deed:
    site.stuck(11)
    site.plant("waiting", 3)
    return applied(site, ActionKind.DELETE_STUCK, "queue:mail")


# ------------------------------------------------------------------------------------------------------------- queues


def _let_go(site: Site) -> None:
    for row in site.sql("SELECT name FROM job_queues WHERE paused"):
        site.workbench.resume(row["name"], reason="the end of the case")


def _one_epoch(site: Site, *, paused: bool, epoch: int) -> list[str]:
    """PostgreSQL's flag after an action that counts as one change, and Redis's copy of it once a relay has looked."""
    row = site.sql("SELECT paused, pause_epoch FROM job_queues WHERE name = 'mail'")[0]
    if (row["paused"], row["pause_epoch"]) != (paused, epoch):
        return [f"the flag is {row['paused']} of epoch {row['pause_epoch']}, expected {paused} of {epoch}"]
    return []


def pushed_by_others(site: Site) -> None:
    """A parked queue whose last elements came from a producer that pushes to the list by itself."""
    for _ in range(4):
        if raw := site.redis.rpop("queuemon:parked:mail"):
            site.redis.lpush("queue:mail", raw)


def _pause(site: Site, variant: str) -> Deed:
    site.plant("waiting", 60)  # so that live workers have some left to ask for when it commits
    site.plant("waiting", 3, queue="reports")
    options = {"hard": True} if variant == "hard" else {"until": "2h"} if variant == "for two hours" else {}
    deed = applied(site, ActionKind.PAUSE, "mail", **options)
    deed.pauses, deed.release = "mail", _let_go
    deed.holds = lambda site: _one_epoch(site, paused=True, epoch=1)
    return deed


def _resume(site: Site, variant: str) -> Deed:
    site.workbench.pause("mail", reason="before the case", hard=variant == "hard")
    site.sql("UPDATE job_queues SET paused_at = now() - interval '1 hour' WHERE name = 'mail'")
    waiting = site.plant("waiting", 10)
    site.plant("waiting", 3, queue="reports")
    site.sql("UPDATE jobs SET expires_at = now() + interval '1 minute' WHERE id = ANY(%s)", waiting)
    if variant == "hard":
        pushed_by_others(site)
    deed = applied(site, ActionKind.RESUME, "mail")

    def holds(site: Site) -> list[str]:
        short = site.sql(
            "SELECT id FROM jobs WHERE id = ANY(%s) AND status = 'waiting'"
            " AND expires_at < now() + interval '59 minutes'",
            waiting,
        )
        wrong = [f"{row['id']} did not get back the time of the pause" for row in short]
        return wrong + _one_epoch(site, paused=False, epoch=2)

    deed.holds = holds
    return deed


def _prioritise(site: Site, _variant: str) -> Deed:
    site.plant("waiting", 5)
    deed = applied(site, ActionKind.PRIORITISE, "mail", priority="high")
    deed.holds = lambda site: _queue_has(site, "priority", "high")
    return deed


def _scale(site: Site, variant: str) -> Deed:
    site.plant("waiting", 5)
    command = ("true",) if variant == "with a command" else ()
    site.store.settings = site.store.settings.model_copy(update={"scale_command": command})
    deed = applied(site, ActionKind.SCALE, "mail", concurrency=7)
    deed.holds = lambda site: _queue_has(site, "concurrency", 7)
    return deed


def _queue_has(site: Site, column: str, wanted: object) -> list[str]:
    found = site.sql(f"SELECT {column} AS value FROM job_queues WHERE name = 'mail'")[0]["value"]
    return [] if found == wanted else [f"{column} is {found!r}, expected {wanted!r}"]


# ------------------------------------------------------------------------------------------------------------- others


def _canary(site: Site, _variant: str) -> Deed:
    failed = site.plant("failed", 5)
    site.plant("waiting", 3)
    return applied(site, ActionKind.CANARY, failed, steps=(1, 4))


def _edit(site: Site, _variant: str) -> Deed:
    failed = site.plant("failed", 2)
    site.plant("waiting", 3)
    return applied(site, ActionKind.EDIT, failed[0], payload='{"n": 12345678901234567, "edited": []}')


def _erase(site: Site, _variant: str) -> Deed:
    """Jobs that stand, and the copies of others."""
    site.workbench.apply(site.workbench.plan(ActionKind.DELETE, site.plant("failed", 3)), reason="before the case")
    site.plant("failed", 4)
    site.plant("waiting", 7)
    site.plant("waiting", 3, queue="reports")
    return applied(site, ActionKind.ERASE, "queue:mail")


def _repair(site: Site, variant: str) -> Deed:
    """Drift of most kinds that an action, and not the relay, puts right; or a list that has vanished; or what workers
    without a claim would run, in a parked list."""
    if variant == "parked list":
        return _sift(site)
    site.plant("waiting", 9)
    site.plant("waiting", 3, queue="reports")
    site.plant("scheduled", 2)
    marks = [f"job:{job_id}" for job_id in site.planted.ids("waiting", queue="mail")]
    if variant == "list gone":
        site.redis.delete("queue:mail", *marks)
    else:
        strays = site.redis.lrange("queue:mail", 0, 1)
        site.redis.ltrim("queue:mail", 5, -1)  # three are lost, two come to lie in another list
        site.redis.delete(*marks[:3])
        site.redis.rpush("queue:reports", *strays)
        for gen in (1, 2):
            site.redis.rpush("queue:mail", _nobodys(gen))
        site.redis.persist("queue:mail")
        site.redis.expire("queue:mail", 3600)
    return applied(site, ActionKind.REPAIR, None, wait_seconds=0.0)


def _sift(site: Site) -> Deed:
    site.plant("waiting", 9)
    ended, again, twice = site.plant("completed", 3), site.plant("waiting", 2), site.plant("waiting", 2)
    site.plant("waiting", 3, queue="reports")
    for job_id, gen in [*((i, GEN) for i in ended + twice), *((i, GEN - 1) for i in again)]:
        site.redis.rpush("queue:mail", encode_element({"id": str(job_id), "gen": gen, "queue": "mail", "payload": {}}))
    site.plant("waiting", 20)
    site.workbench.pause("mail", reason="before the case", hard=True)
    deed = applied(site, ActionKind.REPAIR, site.workbench.drift(level="L0", wait_seconds=0.0))
    assert deed.plan is not None
    assert deed.plan.count == 7
    action = deed.plan.id

    def holds(site: Site) -> list[str]:
        listed = Counter(site.elements())
        wrong = [f"{job_id} in generation {gen} is listed {n} times" for (job_id, gen), n in listed.items() if n > 1]
        wrong += [f"{job_id} in generation {gen} was not taken out" for job_id, gen in listed if job_id in ended]
        noted = (
            "SELECT jsonb_array_length(detail -> 'repairs') AS n FROM queuemon.action_events WHERE event = 'repaired'"
        )
        repairs = sum(row["n"] for row in site.sql(noted + " AND action_id = %s", action))
        left = site.redis.llen("queuemon:quarantine:mail")
        return wrong + ([] if (repairs, left) == (7, 0) else [f"{repairs} of 7 are recorded, {left} lie in quarantine"])

    deed.holds, deed.release = holds, _let_go
    return deed


def _adopt(site: Site, _variant: str) -> Deed:
    """Elements in quarantine that can be made jobs of, and one that cannot."""
    site.plant("waiting", 3)
    site.redis.rpush("queuemon:quarantine:mail", *[_nobodys(gen) for gen in (1, 2, 3, 4)], "{not JSON")
    deed = applied(site, ActionKind.ADOPT, "mail")

    def holds(site: Site) -> list[str]:
        jobs, left = len(site.rows()) - len(site.planted.jobs), site.redis.llen("queuemon:quarantine:mail")
        # A crash between the commit and the removal leaves an element whose job exists; the list says so.
        return [] if jobs == 4 and left >= 1 else [f"{jobs} jobs were made of 4 elements, {left} are left"]

    deed.holds = holds
    return deed


def _nobodys(gen: int) -> str:
    """An element of a job without a row."""
    return encode_element({"id": str(uuid7()), "gen": gen, "queue": "mail", "payload": {"n": gen}})


def _undo(site: Site, variant: str) -> Deed:
    """An action of another kind, done; it is taken back before, or while, workers take its jobs."""
    scene = ACTIONS[ActionKind(variant)]
    first = scene.prepare(site, scene.variants[0])
    first.act(site.store)
    assert first.plan is not None
    deed = applied(site, ActionKind.UNDO, first.plan.id)
    deed.exempt, deed.release = first.exempt, _let_go
    if first.plan.kind.removes:
        done = site.sql("SELECT unnest(done_ids) AS id FROM queuemon.action_chunks WHERE action_id = %s", first.plan.id)
        back = {row["id"] for row in done}
        deed.holds = lambda site: [f"{i} was deleted and did not come back" for i in sorted(back - set(site.rows()))]
    return deed


_BY_FILTER, _BOTH = ("filter",), ("filter", "selection")

ACTIONS = {
    kind: Scene(name=kind.value, prepare=prepare, variants=variants, modes=modes)
    for kind, prepare, variants, modes in (
        (ActionKind.RETRY, _retry, ("filter", "selection", "large"), MODES),
        (ActionKind.DELETE, _delete, _BOTH, MODES),
        (ActionKind.CLEAR_FAILED, _clear_failed, _BY_FILTER, MODES),
        (ActionKind.RUN_NOW, _run_now, _BOTH, MODES),
        (ActionKind.PURGE, _purge, _BY_FILTER, MODES),
        (ActionKind.MOVE, _move, _BOTH, MODES),
        (ActionKind.RESCUE, _rescue, _BOTH, MODES),
        (ActionKind.DELETE_STUCK, _delete_stuck, _BY_FILTER, MODES),
        (ActionKind.PAUSE, _pause, ("without end", "for two hours", "hard"), MODES),
        (ActionKind.RESUME, _resume, ("all holders", "hard"), MODES),
        (ActionKind.PRIORITISE, _prioritise, ("plain",), MODES),
        (ActionKind.SCALE, _scale, ("plain", "with a command"), MODES),
        (ActionKind.CANARY, _canary, ("selection",), ("live",)),  # it waits for the results of its jobs
        (ActionKind.EDIT, _edit, ("one job",), MODES),
        (ActionKind.REPAIR, _repair, ("mixed", "list gone", "parked list"), MODES),
        (ActionKind.ADOPT, _adopt, ("plain",), MODES),
        (ActionKind.ERASE, _erase, _BY_FILTER, MODES),
        (ActionKind.UNDO, _undo, tuple(kind.value for kind in ActionKind if kind.undoable), MODES),
    )
}

#: Kinds that `plan` does not know; a test fails as soon as it does. A reveal changes no job: it enters the audit trail.
PENDING = {ActionKind.REVEAL}
