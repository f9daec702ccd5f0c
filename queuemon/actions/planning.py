"""`plan`: what an action would do, found by reading alone; a person sees the Plan, then it goes to `apply`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID, uuid4

from queuemon.actions import queue_plans, text
from queuemon.contract import JobStatus
from queuemon.errors import InvalidValue, LimitExceeded, StoreTimeout, UnknownAction, UnknownJob
from queuemon.filters import JobFilter
from queuemon.model import ActionKind, Breakdown, Plan, PostgresHalf, QueueStats
from queuemon.store import Store, numbers, plans
from queuemon.store.chunks import LEGAL, Standing, among
from queuemon.store.filtering import conditions

#: Ids in one selection at most.
SELECTION_LIMIT: Final = 100_000

#: Jobs in a plan's sample at most.
SAMPLE_LIMIT: Final = 100

#: What matches but is left alone is counted within this time, or not at all.
LEFT_SECONDS: Final = 2.0

Target = str | JobFilter | UUID | Sequence[UUID | str]


def plan(
    store: Store,
    kind: ActionKind | str,
    target: Target,
    *,
    action_id: UUID | None = None,
    sample: int = 5,
    **options: Any,
) -> Plan:
    """What an action would do to a filter's jobs, a job, a selection of ids, or a queue. Changes nothing.

    A selection freezes its ids; a filter freezes its count and the cutoff, PostgreSQL's time of the reading: relative
    times mean that moment, and what is created or reaches its end later is not touched. Raises UnknownAction,
    UnknownQueue, UnknownJob (no id of a selection exists), InvalidValue, FilterError, LimitExceeded, StoreError.
    """
    chosen = _kind(kind)
    plan_id = action_id or uuid4()
    if not chosen.bulk:
        return queue_plans.plan(store, chosen, target, plan_id=plan_id, options=options)
    if options:
        raise InvalidValue(
            f"{chosen.value} knows no option {sorted(options)[0]!r}", expected="none", next_step="leave it out"
        )
    if not 0 <= sample <= SAMPLE_LIMIT:
        raise InvalidValue(f"sample is {sample}", expected=f"0 to {SAMPLE_LIMIT}")
    wanted = _wanted(chosen, target)
    if isinstance(wanted, JobFilter):
        return _plan_filter(store, chosen, wanted, plan_id, sample)
    return _plan_selection(store, chosen, wanted, plan_id, sample)


# --------------------------------------------------------------------------------------------------------- targets


def _kind(kind: ActionKind | str) -> ActionKind:
    names = [k.value for k in ActionKind]
    if kind in names:
        return ActionKind(kind)
    close = difflib.get_close_matches(str(kind)[:40], names, n=1)
    raise UnknownAction(
        f"there is no action {str(kind)[:40]!r}",
        expected=f"one of {', '.join(names)}",
        next_step=f"did you mean {close[0]}?" if close else "correct the name",
    )


def _wanted(kind: ActionKind, target: Target) -> JobFilter | tuple[UUID, ...]:
    """A filter, or the ids of a selection, each once and in their order."""
    if isinstance(target, str):
        alone = _uuid(target)
        target = (alone,) if alone is not None else JobFilter.parse(target)
    if isinstance(target, UUID):
        target = (target,)
    if isinstance(target, JobFilter):
        if target.matches_all:
            raise InvalidValue(
                "the filter is empty, which means every job",
                expected="a filter or ids",
                next_step="write what you mean, such as `queue:email-sending status:failed`",
            )
        return target & JobFilter.of(status=JobStatus.FAILED) if kind is ActionKind.CLEAR_FAILED else target
    if not isinstance(target, Sequence):
        raise InvalidValue(f"the target is a {type(target).__name__}", expected="a filter, a job's id, or several ids")
    if not target:
        raise InvalidValue("no job was selected", expected="at least one id", next_step="select jobs, or give a filter")
    if len(target) > SELECTION_LIMIT:
        raise LimitExceeded(
            f"the selection holds {len(target):,} ids",
            expected=f"at most {SELECTION_LIMIT:,}",
            next_step="use a filter instead",
        )
    return tuple(dict.fromkeys(_id(item) for item in target))


def _uuid(value: str) -> UUID | None:
    """An id spelled in full; hexadecimal digits alone are a word to search for."""
    stripped = value.strip()
    try:
        return UUID(stripped) if len(stripped) == 36 else None
    except ValueError:
        return None


def _id(value: object) -> UUID:
    found = value if isinstance(value, UUID) else _uuid(value) if isinstance(value, str) else None
    if found is None:
        raise InvalidValue(
            f"{str(value)[:60]!r} is not the id of a job",
            expected="a UUID such as 0199f3c2-7d1e-7c55-9a41-2f6d1b0c9e77",
        )
    return found


# ----------------------------------------------------------------------------------------------------------- plans


@dataclass(frozen=True, kw_only=True)
class _Around:
    """What stands around the jobs of a plan."""

    half: PostgresHalf
    rates: Mapping[str, float]


def _plan_filter(store: Store, kind: ActionKind, where: JobFilter, plan_id: UUID, sample: int) -> Plan:
    t, lease = store.tables, store.settings.lease_seconds
    possible = where.statuses()
    states = [s for s in LEGAL[kind] if s in possible]
    with store.postgres.begin() as connection:
        half = numbers.snapshot(connection, t, store.settings)
        around = _Around(half=half, rates=plans.rates(connection, t))
        for name in sorted(where.queues() or ()):
            queue_plans.find(half, name, store.settings.keys)
        cutoff = half.clock
        taken = plans.takes(t, kind, conditions(where, t, now=cutoff, lease_seconds=lease), cutoff)
        found = plans.matching(connection, t, taken, states, cutoff) if states else None
        some = plans.sample(connection, t, taken, states, sample)
    warnings: tuple[str, ...] = ()
    left: Mapping[Standing, int] = {}
    try:
        seconds = min(LEFT_SECONDS, store.settings.statement_timeout_seconds)
        with store.postgres.begin(seconds=seconds, read_only=True) as connection:
            matches = conditions(where, t, now=cutoff, lease_seconds=lease)
            left = plans.left_alone(connection, t, kind, matches, [s for s in JobStatus if s in possible])
    except StoreTimeout:
        warnings = ("what else matches was not counted: it would have taken too long",)
    return _made(
        store, around, found, left,
        Plan(
            id=plan_id, kind=kind, target=str(where), ids=None, cutoff=cutoff, count=0, sample=some, warnings=warnings
        ),
    )  # fmt: skip


def _plan_selection(store: Store, kind: ActionKind, ids: tuple[UUID, ...], plan_id: UUID, sample: int) -> Plan:
    t = store.tables
    with store.postgres.begin() as connection:
        half = numbers.snapshot(connection, t, store.settings)
        around = _Around(half=half, rates=plans.rates(connection, t))
        cutoff = half.clock
        taken = plans.takes(t, kind, among(t, ids), cutoff)
        found = plans.matching(connection, t, taken, LEGAL[kind], cutoff)
        some = plans.sample(connection, t, taken, LEGAL[kind], sample)
        left, gone = plans.left_of_selection(connection, t, kind, ids, cutoff)
    if gone == len(ids):
        raise UnknownJob(
            f"there is no job {ids[0]}" if len(ids) == 1 else f"none of the {len(ids):,} selected jobs exists",
            expected="ids of jobs that stand in `jobs`",
            next_step="a deleted job is listed under `queuemon actions`",
        )
    target = f"id:{ids[0]}" if len(ids) == 1 else text.counted(len(ids), "selected job")
    base = Plan(id=plan_id, kind=kind, target=target, ids=ids, cutoff=cutoff, count=0, sample=some)
    return _made(store, around, found, left, base, gone=gone)


def _made(
    store: Store,
    around: _Around,
    found: plans.Matching | None,
    left: Mapping[Standing, int],
    base: Plan,
    *,
    gone: int = 0,
) -> Plan:
    """The plan with its counts, and what they mean."""
    reasons: dict[str, int] = {text.NO_LONGER_EXISTS: gone} if gone else {}
    for standing, n in left.items():
        reason = text.why_not(base.kind, standing)
        reasons[reason] = reasons.get(reason, 0) + n
    excluded = text.breakdown(reasons)
    if found is None:
        return replace(base, excluded=excluded, effect="changes nothing: no job that matches can be in such a state")
    touched = _touched(store, around.half, found.by_queue)
    count, rate = found.count, sum(around.rates.values())
    warnings = base.warnings
    if base.kind.removes:
        effect = text.removal_effect(count, found.by_status, store.settings.undo_days)
    else:
        effect = text.backlog_effect(count, touched, around.rates)
        alive = sum(w.alive and w.kind == "worker" for w in around.half.workers)
        warnings += text.bulk_warnings(count.value, touched, workers=alive, rate=rate)
    return replace(
        base,
        count=count.value,
        certainty=count.certainty,
        by_queue=found.by_queue,
        by_error=found.by_error,
        by_age=found.by_age,
        excluded=excluded,
        effect=effect if count.value else "changes nothing: no job matches that may be changed so",
        warnings=warnings,
    )


def _touched(store: Store, half: PostgresHalf, by_queue: Sequence[Breakdown]) -> dict[str, QueueStats]:
    """The queues of a breakdown with their numbers, by display name."""
    stats = {q.name: q for q in half.queues}
    return {store.settings.keys.display(b.label): stats[b.label] for b in by_queue if b.label in stats}
