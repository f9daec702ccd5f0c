"""The judge of a case: what was lost, what ran twice, what happened that must not; at L0 what explains it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from queuemon.model import ActionKind
from tests.support.kills.scene import Aftermath, Deed
from tests.support.kills.site import GEN, Site

if TYPE_CHECKING:
    from tests.support.kills.case import Verdict

#: Kinds after which each of their jobs has exactly the next generation: whatever did it twice would show.
_ONE_GENERATION = {
    ActionKind.RETRY, ActionKind.RUN_NOW, ActionKind.MOVE, ActionKind.RESCUE, ActionKind.EDIT
}  # fmt: skip
#: Kinds whose jobs had started before the case, or may have.
_STUCK = {ActionKind.RESCUE, ActionKind.DELETE_STUCK}


def judge(verdict: Verdict, after: Aftermath, late: list[str]) -> None:
    """Fill the verdict in."""
    removed = _removed(after)
    verdict.lost += _lost(after, removed)
    twice = _twice(after)
    ghosts = _ran_though_removed(after, removed)
    if after.level == "L0":
        verdict.explained += [f"{job_id} started twice: {_cause(after, job_id)}" for job_id in twice]
        verdict.explained += [f"{what}: an L0 worker asks no row before it runs" for what in ghosts + late]
        verdict.duplicated += [f"{job_id} started twice" for job_id in twice]
    else:
        verdict.duplicated += _generations_twice(after)
        verdict.unexpected += [f"{job_id} started in two generations without a reason" for job_id in twice]
        verdict.unexpected += ghosts + late
    verdict.unexpected += _books(after)


def started_while_paused(site: Site, deed: Deed, since: datetime | None) -> list[str]:
    """Jobs of a queue that is still paused whose claim began after its pause was seen to have committed."""
    if since is None:
        return []
    found = site.sql("SELECT id FROM jobs WHERE queue = %s AND started_at > %s", deed.pauses, since)
    return [f"{row['id']} was started while its queue was paused" for row in found]


def _removed(after: Aftermath) -> set[UUID]:
    """Jobs that an action of the case took away and nothing brought back."""
    kinds = [kind.value for kind in ActionKind if kind.removes]
    found = after.site.sql(
        "SELECT unnest(c.done_ids) AS id FROM queuemon.action_chunks AS c"
        " JOIN queuemon.actions AS a ON a.id = c.action_id WHERE a.kind = ANY(%s)",
        kinds,
    )
    return {row["id"] for row in found}


def _lost(after: Aftermath, removed: set[UUID]) -> list[str]:
    lost = []
    for job_id, (state, _) in after.site.planted.jobs.items():
        row = after.rows.get(job_id)
        if row is None and job_id not in removed:
            lost.append(f"{job_id} ({state}) has gone")
        elif row is not None and after.left and job_id not in after.deed.exempt:
            due = row["status"] == "waiting" and state != "scheduled"
            if due or row["status"] == "active":
                lost.append(f"{job_id} ({state}) is {row['status']} for good: no worker finds it")
    return lost


def _twice(after: Aftermath) -> list[UUID]:
    """Jobs with more than one start: in a case no job fails, so none has a reason to start again."""
    starts = Counter(UUID(start["id"]) for start in after.starts)
    known = after.rows.keys() | after.site.planted.jobs.keys()  # L0 workers run what no row is, too
    return [job_id for job_id, n in starts.items() if n > 1 and job_id in known]


def _generations_twice(after: Aftermath) -> list[str]:
    starts = Counter((start["id"], start["gen"]) for start in after.starts)
    return [f"{job_id} in generation {gen} started {n} times" for (job_id, gen), n in starts.items() if n > 1]


def _ran_though_removed(after: Aftermath, removed: set[UUID]) -> list[str]:
    """Jobs of a removal that started: what a worker had taken cannot be removed, what was removed cannot be taken."""
    if after.deed.plan is not None and after.deed.plan.kind is ActionKind.UNDO:
        return []  # came back, and ran
    started = {UUID(start["id"]) for start in after.starts}
    return [f"{job_id} ran though it was deleted" for job_id in sorted(removed & started) if job_id not in after.rows]


def _cause(after: Aftermath, job_id: UUID) -> str:
    """Why an L0 worker ran a job twice, from the record."""
    gens = [start["gen"] for start in after.starts if UUID(start["id"]) == job_id]
    queues = {start["queue"] for start in after.starts if UUID(start["id"]) == job_id}
    state, _ = after.site.planted.jobs.get(job_id, ("made by the action", ""))
    lost = after.site.sql("SELECT 1 FROM job_logs WHERE job_id = %s AND kind IN ('lease-lost', 'rescue')", job_id)
    if lost:
        return "its lease was taken away while an older element of it was listed"
    if len(queues) > 1:
        return "moved while the element of its old queue was listed or in a worker's hand"
    if len(set(gens)) > 1:
        return f"republished under a new generation while an older element was listed (was {state})"
    if any(key[0] == job_id for key in after.doubled):
        return "listed twice: its marker had gone when the publication was repeated"
    return "Redis was restored, or the publication repeated, between an L0 worker's pop and its update by id"


# ------------------------------------------------------------------------------------------------------------- books


def _books(after: Aftermath) -> list[str]:
    """Whether the audit trail says what was done, once."""
    plan, site = after.deed.plan, after.site
    if plan is None:
        return []
    found = site.sql("SELECT * FROM queuemon.actions WHERE id = %s", plan.id)
    if len(found) != 1:
        return [f"{len(found)} rows of the action in the audit trail"]
    action: dict[str, Any] = found[0]
    wrong = []
    if action["state"] not in {"done", "partly", "refused"}:
        wrong.append(f"the action is {action['state']}")
    accounted = action["done"] + sum(action["skipped"].values()) + action["gone"]
    if accounted != action["planned"]:
        wrong.append(
            f"done {action['done']} + skipped {action['skipped']} + gone {action['gone']} is not {action['planned']}"
        )
    events = Counter(row["event"] for row in site.sql("SELECT event FROM queuemon.action_events"
                                                      " WHERE action_id = %s", plan.id))  # fmt: skip
    if events["started"] != 1 or events["finished"] != 1:
        wrong.append(f"events {dict(events)}, expected started and finished once")
    return wrong + (_outcomes(after, action) if plan.kind.bulk else [])


def _outcomes(after: Aftermath, action: dict[str, Any]) -> list[str]:
    plan, site = after.deed.plan, after.site
    assert plan is not None
    chunks = site.sql("SELECT done_ids, skipped FROM queuemon.action_chunks WHERE action_id = %s", plan.id)
    done = [job_id for chunk in chunks for job_id in chunk["done_ids"]]
    wrong = []
    if len(done) != len(set(done)) or len(done) != action["done"]:
        wrong.append(f"{action['done']} done, the chunks name {len(done)} ({len(set(done))} different)")
    if plan.kind in _ONE_GENERATION:
        gens = {i: after.rows[i]["gen"] for i in done if i in after.rows}
        wrong += [f"{i} was changed more than once: generation {g}" for i, g in gens.items() if g > GEN + 1]
    if plan.kind.undoable and site.store.settings.undo_days > 0:
        copies = {row["job_id"] for row in site.sql("SELECT job_id FROM queuemon.undo_jobs WHERE action_id = %s",
                                                    plan.id)}  # fmt: skip
        if copies != set(done):
            wrong.append(f"copies for undo: {len(copies)}, done: {len(set(done))}")
    if plan.ids is not None:
        logged = Counter(row["job_id"] for row in site.sql("SELECT job_id FROM job_logs WHERE action_id = %s",
                                                           plan.id))  # fmt: skip
        if logged != Counter(done):
            wrong.append(f"{sum(logged.values())} events in the jobs' histories for {len(done)} outcomes")
    return wrong
