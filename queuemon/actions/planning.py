"""`plan`: what an action would do, found by reading alone; a person sees the Plan, then it goes to `apply`."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID, uuid4

from queuemon.actions import payload, queue_plans, text, undo
from queuemon.contract import JobStatus
from queuemon.errors import InvalidValue, LimitExceeded, StoreTimeout, UnknownAction, UnknownJob, UnknownQueue
from queuemon.filters import JobFilter
from queuemon.filters.tree import Search
from queuemon.model import ActionKind, Breakdown, Plan, PostgresHalf, QueueStats
from queuemon.store import Store, erasing, numbers, plans
from queuemon.store.chunks import LEGAL, Order, Standing, among
from queuemon.store.filtering import conditions
from queuemon.store.names import queue_named

#: Ids in one selection at most.
SELECTION_LIMIT: Final = 100_000

#: Jobs in a plan's sample at most.
SAMPLE_LIMIT: Final = 100

#: What matches but is left alone is counted within this time, or not at all.
LEFT_SECONDS: Final = 2.0

Target = str | JobFilter | UUID | Sequence[UUID | str]


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """What a kind may be told, and what its filters always mean as well."""

    options: frozenset[str] = frozenset()
    narrowed: str = ""


#: Every kind that can be planned.
_RULES: Final[Mapping[ActionKind, _Rule]] = {
    ActionKind.RETRY: _Rule(),
    ActionKind.DELETE: _Rule(),
    ActionKind.CLEAR_FAILED: _Rule(narrowed="status:failed"),
    ActionKind.RUN_NOW: _Rule(),
    ActionKind.PURGE: _Rule(narrowed="status in (waiting, scheduled)"),
    ActionKind.MOVE: _Rule(options=frozenset({"to"})),
    ActionKind.EDIT: _Rule(options=frozenset({"payload"})),
    ActionKind.RESCUE: _Rule(narrowed="status:stuck"),
    ActionKind.DELETE_STUCK: _Rule(narrowed="status:stuck"),
    ActionKind.ERASE: _Rule(),
    ActionKind.PAUSE: _Rule(options=frozenset({"until", "holder", "hard"})),
    ActionKind.RESUME: _Rule(options=frozenset({"holder"})),
    ActionKind.PRIORITISE: _Rule(options=frozenset({"priority"})),
    ActionKind.SCALE: _Rule(options=frozenset({"concurrency"})),
    ActionKind.UNDO: _Rule(),
}

#: Bulk kinds that are asked of a queue: one word is its name, not a text to search errors for.
_OF_A_QUEUE: Final = frozenset({ActionKind.PURGE, ActionKind.CLEAR_FAILED})


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
    times mean that moment, and what is created or reaches its end later is not touched. A purge or clear-failed takes
    the name of a queue as well as a filter, an undo the id of an action, or "last". Raises UnknownAction, UnknownQueue,
    UnknownJob (no id of a selection exists), InvalidValue, FilterError, LimitExceeded, StoreError.
    """
    chosen = _kind(kind)
    plan_id = action_id or uuid4()
    given = _given(chosen, options)
    if chosen is ActionKind.UNDO:
        return undo.plan(store, target, plan_id=plan_id)
    if not chosen.bulk:
        return queue_plans.plan(store, chosen, target, plan_id=plan_id, given=given)
    if not 0 <= sample <= SAMPLE_LIMIT:
        raise InvalidValue(f"sample is {sample}", expected=f"0 to {SAMPLE_LIMIT}")
    if chosen in _OF_A_QUEUE and isinstance(target, str):
        target = _of_queue(store, target)
    wanted = _wanted(chosen, target)
    if chosen is ActionKind.EDIT:
        payload.check(wanted, given)
    asked = _Asked(kind=chosen, id=plan_id, sample=sample, given=given)
    if isinstance(wanted, JobFilter):
        return _plan_filter(store, asked, wanted)
    return _plan_selection(store, asked, wanted)


# --------------------------------------------------------------------------------------------------------- targets


def _kind(kind: ActionKind | str) -> ActionKind:
    names = [k.value for k in _RULES]
    if kind in names:
        return ActionKind(kind)
    close = difflib.get_close_matches(str(kind)[:40], names, n=1)
    raise UnknownAction(
        f"there is no action {str(kind)[:40]!r}",
        expected=f"one of {', '.join(names)}",
        next_step=f"did you mean {close[0]}?" if close else "correct the name",
    )


def _given(kind: ActionKind, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, None being left out; raises InvalidValue for one that the kind does not know."""
    given = {name: value for name, value in options.items() if value is not None}
    known = _RULES[kind].options
    if unknown := sorted(set(given) - known):
        raise InvalidValue(
            f"{kind.value} knows no option {unknown[0]!r}",
            expected=f"among {', '.join(sorted(known))}" if known else "none",
            next_step="leave it out",
        )
    return given


def _of_queue(store: Store, text_: str) -> JobFilter | str:
    """The jobs of the queue with this name; the text itself where it is a filter."""
    with store.postgres.begin(read_only=True) as connection:
        names = [q.name for q in numbers.queues(connection, store.tables)]
    try:
        return JobFilter.of(queue=queue_named(text_, names, store.settings.keys))
    except UnknownQueue:
        if isinstance(JobFilter.parse(text_).root, Search) and _uuid(text_) is None:
            raise  # one word: it was meant as a name
        return text_


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
        return target & JobFilter.parse(_RULES[kind].narrowed)
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
class _Asked:
    """What a plan of a bulk action is to be made for, beside its target."""

    kind: ActionKind
    id: UUID
    sample: int
    given: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """What is ordered, and what stands around the jobs of a plan."""

    store: Store
    order: Order
    options: Mapping[str, Any]
    half: PostgresHalf
    rates: Mapping[str, float]


def _scene(store: Store, connection: Any, asked: _Asked) -> _Scene:
    kind, given = asked.kind, asked.given
    half = numbers.snapshot(connection, store.tables, store.settings)
    options: dict[str, Any] = {}
    if kind is ActionKind.MOVE:
        if not isinstance(given.get("to"), str):
            raise InvalidValue("move was not told where", expected="to=QUEUE, an existing queue")
        options["to"] = queue_plans.find(half, given["to"], store.settings.keys).name
    if kind is ActionKind.EDIT:
        options["payload"] = given["payload"]
    order = Order(kind=kind, cutoff=half.clock, lease_seconds=store.settings.lease_seconds, **options)
    return _Scene(store=store, order=order, options=options, half=half, rates=plans.rates(connection, store.tables))


def _plan_filter(store: Store, asked: _Asked, where: JobFilter) -> Plan:
    t, lease, kind, masking = store.tables, store.settings.lease_seconds, asked.kind, store.settings.masking
    possible = where.statuses()
    states = [s for s in LEGAL[kind] if s in possible]
    with store.postgres.begin() as connection:
        scene = _scene(store, connection, asked)
        for name in sorted(where.queues() or ()):
            queue_plans.find(scene.half, name, store.settings.keys)
        cutoff = scene.order.cutoff
        matches = conditions(where, t, now=cutoff, lease_seconds=lease)
        taken = plans.takes(t, scene.order, matches)
        found = plans.matching(connection, t, taken, states, cutoff) if states else None
        some = plans.sample(connection, t, taken, states, limit=asked.sample, masking=masking)
        used_up = plans.used_up(connection, t, taken) if kind is ActionKind.RESCUE else 0
    warnings: tuple[str, ...] = ()
    left: Mapping[Standing, int] = {}
    try:
        seconds = min(LEFT_SECONDS, store.settings.statement_timeout_seconds)
        with store.postgres.begin(seconds=seconds, read_only=True) as connection:
            left = plans.left_alone(connection, t, scene.order, matches, [s for s in JobStatus if s in possible])
    except StoreTimeout:
        warnings = ("what else matches was not counted: it would have taken too long",)
    return _made(
        scene, found, left,
        Plan(
            id=asked.id, kind=kind, target=str(where), ids=None, cutoff=cutoff, count=0, sample=some,
            warnings=warnings, options=scene.options,
        ),
        used_up=used_up,
    )  # fmt: skip


def _plan_selection(store: Store, asked: _Asked, ids: tuple[UUID, ...]) -> Plan:
    t, kind, masking = store.tables, asked.kind, store.settings.masking
    with store.postgres.begin() as connection:
        scene = _scene(store, connection, asked)
        cutoff = scene.order.cutoff
        taken = plans.takes(t, scene.order, among(t, ids))
        found = plans.matching(connection, t, taken, LEGAL[kind], cutoff)
        some = plans.sample(connection, t, taken, LEGAL[kind], limit=asked.sample, masking=masking)
        left, gone = plans.left_of_selection(connection, t, scene.order, ids)
        used_up = plans.used_up(connection, t, taken) if kind is ActionKind.RESCUE else 0
        copies = erasing.only_copies(connection, t, ids) if kind is ActionKind.ERASE else 0
        gone -= copies
    if gone == len(ids):
        raise UnknownJob(
            f"there is no job {ids[0]}" if len(ids) == 1 else f"none of the {len(ids):,} selected jobs exists",
            expected="ids of jobs that stand in `jobs`",
            next_step="a deleted job is listed under `queuemon actions`",
        )
    target = f"id:{ids[0]}" if len(ids) == 1 else text.counted(len(ids), "selected job")
    base = Plan(
        id=asked.id, kind=kind, target=target, ids=ids, cutoff=cutoff, count=0, sample=some, options=scene.options
    )
    return _made(scene, found, left, base, gone=gone, used_up=used_up, copies=copies)


def _made(
    scene: _Scene,
    found: plans.Matching | None,
    left: Mapping[Standing, int],
    base: Plan,
    *,
    gone: int = 0,
    used_up: int = 0,
    copies: int = 0,
) -> Plan:
    """The plan with its counts, and what they mean."""
    reasons: dict[str, int] = {text.NO_LONGER_EXISTS: gone} if gone else {}
    seen: Counter[JobStatus] = Counter()
    for standing, n in left.items():
        seen[standing.status] += n
    for standing, n in left.items():
        reason = text.why_not(base.kind, standing)
        if base.ids is None and seen[standing.status] >= plans.LEFT_CAP:
            reason = f"{reason} (at least: no more were counted)"
        reasons[reason] = reasons.get(reason, 0) + n
    excluded = text.breakdown(reasons)
    if found is None:
        return replace(base, excluded=excluded, effect="changes nothing: no job that matches can be in such a state")
    found = replace(found, count=replace(found.count, value=found.count.value + copies))
    count = found.count
    effect, warnings = _meaning(scene, found, used_up, copies)
    return replace(
        base,
        count=count.value,
        certainty=count.certainty,
        by_queue=found.by_queue,
        by_error=found.by_error,
        by_age=found.by_age,
        excluded=excluded,
        effect=effect if count.value else "changes nothing: no job matches that may be changed so",
        warnings=base.warnings + (warnings if count.value else ()),
    )


def _meaning(scene: _Scene, found: plans.Matching, used_up: int, copies: int) -> tuple[str, tuple[str, ...]]:
    """What it means, in words, and what the operator must know."""
    store, order, count = scene.store, scene.order, found.count
    touched = _touched(store, scene.half, found.by_queue)
    alive = sum(w.alive and w.kind == "worker" for w in scene.half.workers)
    idle = text.idle_warnings(workers=alive, rate=sum(scene.rates.values()))
    twice = (text.MAY_RUN_TWICE,) if order.kind in {ActionKind.RESCUE, ActionKind.DELETE_STUCK} else ()
    match order.kind:
        case ActionKind.MOVE:
            target = queue_plans.find(scene.half, order.to, store.settings.keys)
            shown = store.settings.keys.display(order.to)
            effect = text.move_effect(count, found.by_status, shown, target)
            return effect, text.move_warnings(shown, target, touched) + idle
        case ActionKind.RESCUE:
            return text.rescue_effect(count, used_up), twice + text.paused_warnings(touched) + idle
        case ActionKind.ERASE:
            waits = copies > 0 or any(b.label in {"waiting", "scheduled"} for b in found.by_status)
            return text.erasure_effect(count, found.by_status, copies), (text.STILL_IN_REDIS,) if waits else ()
        case kind if kind.removes:
            return text.removal_effect(count, found.by_status, store.settings.undo_days), twice
        case _:
            return text.backlog_effect(count, touched, scene.rates), text.paused_warnings(touched) + idle


def _touched(store: Store, half: PostgresHalf, by_queue: Sequence[Breakdown]) -> dict[str, QueueStats]:
    """The queues of a breakdown with their numbers, by display name."""
    stats = {q.name: q for q in half.queues}
    return {store.settings.keys.display(b.label): stats[b.label] for b in by_queue if b.label in stats}
