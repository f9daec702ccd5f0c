"""Plans of actions on a queue: pause, resume, prioritise, scale; `plan` hands them over here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from queuemon.actions import text
from queuemon.actions.entries import cleaned, os_user
from queuemon.contract import Keys, Priority
from queuemon.errors import FilterError, InvalidValue
from queuemon.filters.values import milliseconds
from queuemon.model import ActionKind, Pause, Plan, PostgresHalf, QueueStats
from queuemon.render.text import duration
from queuemon.store import Store, audit, discipline, numbers
from queuemon.store.names import queue_named

#: A pause ends at most this far ahead.
LONGEST_PAUSE: Final = timedelta(days=366)

#: Characters of a holder's name at most.
HOLDER_LENGTH: Final = 200


def find(half: PostgresHalf, name: str, keys: Keys) -> QueueStats:
    """A queue's numbers by its name, with or without the prefix; raises UnknownQueue."""
    known = {q.name: q for q in half.queues}
    return known[queue_named(name, known, keys)]


# ----------------------------------------------------------------------------------------------------------- plans


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A queue as it stands, with those who hold it paused."""

    stats: QueueStats
    shown: str
    holders: tuple[Pause, ...]
    half: PostgresHalf
    actor: str
    limit: int
    command: bool
    #: The workers are known to be L0; asked for a pause alone.
    blind: bool

    @property
    def clock(self) -> datetime:
        """PostgreSQL's."""
        return self.half.clock


def plan(store: Store, kind: ActionKind, target: object, *, plan_id: UUID, given: Mapping[str, Any]) -> Plan:
    """What an action would do to a queue; `count` is 0 where it would change nothing."""
    if not isinstance(target, str):
        raise InvalidValue(f"the target is a {type(target).__name__}", expected="the name of a queue")
    blind = kind is ActionKind.PAUSE and discipline.find(store).known == "L0"
    with store.postgres.begin() as connection:
        half = numbers.snapshot(connection, store.tables, store.settings)
        stats = find(half, target, store.settings.keys)
        seen = _Seen(
            stats=stats,
            shown=store.settings.keys.display(stats.name),
            holders=tuple(p for p in audit.pauses(connection, store.tables) if p.queue == stats.name),
            half=half,
            actor=audit.actor_name(connection, os_user()),
            limit=store.settings.concurrency_limit,
            command=bool(store.settings.scale_command),
            blind=blind,
        )
    made = _PLANS[kind](seen, given)
    return Plan(
        id=plan_id, kind=kind, target=stats.name, ids=None, cutoff=half.clock, count=made.count, effect=made.effect,
        warnings=tuple(made.warnings), options=made.options,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What the plan of one kind found."""

    effect: str
    options: Mapping[str, Any]
    warnings: list[str]
    count: int = 1


def _plan_pause(seen: _Seen, given: Mapping[str, Any]) -> _Made:
    until = end_of_pause(given.get("until"), seen.clock)
    options: dict[str, Any] = {} if until is None else {"until": until.isoformat()}
    if "holder" in given:
        options["holder"] = _holder(given["holder"])
    hard = given.get("hard", False)
    if not isinstance(hard, bool):
        raise InvalidValue(f"hard is {str(hard)[:40]!r}", expected="true or false")
    if hard:
        options["hard"] = True
    running = seen.stats.active
    effect = f"no worker takes a job of {seen.shown}{text.until_words(until)}"
    effect += f"; {text.counted(running, 'running job')} will finish" if running else "; none is running"
    effect += f"; {seen.stats.waiting:,} waiting stay, and do not expire meanwhile"
    warnings = [_held(p) for p in seen.holders]
    if hard:
        effect += "; the list is parked, out of the reach of workers that do not know the flag"
        warnings += _cannot_stop(seen)
    elif seen.blind:
        warnings.append("the workers here do not ask for the flag (L0): pause hard to keep the jobs from them")
    if not hard:
        mine = options.get("holder", seen.actor)
        if any(p.hard and p.holder == mine for p in seen.holders) and not any(
            p.hard and p.holder != mine for p in seen.holders
        ):
            warnings.append(f"{mine} parked the list; this pause, without hard, gives it back")
    return _Made(effect=effect, options=options, warnings=warnings)


def _cannot_stop(seen: _Seen) -> list[str]:
    """What a hard pause has no hold on."""
    found = [
        "it cannot stop what workers have popped already, or pop before the list is parked; such a job may start after"
        " the pause. Workers that wait in a blocking pop simply go on waiting"
    ]
    if any(w.alive and w.kind == "relay" for w in seen.half.workers):
        found.append(
            "what other producers push to the list themselves can be taken until the relay parks it too (0.2 s)"
        )
    else:
        found.append(
            "no relay is alive: what other producers push to the list themselves is not parked, and can be taken"
        )
    return found


def _plan_resume(seen: _Seen, given: Mapping[str, Any]) -> _Made:
    holder = _holder(given["holder"]) if "holder" in given else None
    options = {} if holder is None else {"holder": holder}
    queue = seen.stats.queue
    dropped = [p for p in seen.holders if holder in {None, p.holder}]
    left = [p for p in seen.holders if p not in dropped]
    if not queue.paused:
        return _Made(effect=f"changes nothing: {seen.shown} is not paused", options=options, warnings=[], count=0)
    if holder is not None and not dropped:
        effect = f"changes nothing: {holder} does not hold {seen.shown}"
        return _Made(effect=effect, options=options, warnings=[_held(p) for p in left], count=0)
    if left:
        effect = f"{holder} lets go; {seen.shown} stays paused"
        if _unparks(dropped, left):
            effect += ", and its parked list is given back"
        return _Made(effect=effect, options=options, warnings=[_held(p) for p in left])
    stood = duration((seen.clock - queue.paused_at).total_seconds()) if queue.paused_at else "the pause"
    effect = f"workers take jobs of {seen.shown} again: {seen.stats.waiting:,} are waiting; deadlines move by {stood}"
    if _unparks(dropped, left):
        effect += "; its parked list is given back, in its order and before what was pushed meanwhile"
    others = [f"this also ends the pause of {p.holder}{_because(p)}" for p in dropped if p.holder != seen.actor]
    return _Made(effect=effect, options=options, warnings=others if holder is None else [])


def _unparks(dropped: Sequence[Pause], left: Sequence[Pause]) -> bool:
    return any(p.hard for p in dropped) and not any(p.hard for p in left)


def _plan_priority(seen: _Seen, given: Mapping[str, Any]) -> _Made:
    words = [p.value for p in Priority]
    if given.get("priority") not in words:
        raise InvalidValue(f"priority is {str(given.get('priority'))[:40]!r}", expected=f"one of {', '.join(words)}")
    priority, now = Priority(given["priority"]), seen.stats.queue.priority
    options = {"priority": priority.value}
    if priority is now:
        return _Made(effect=f"changes nothing: {seen.shown} has {now} priority", options=options, warnings=[], count=0)
    effect = f"the priority of {seen.shown} goes from {now} to {priority}"
    return _Made(effect=effect, options=options, warnings=[])


def _plan_scale(seen: _Seen, given: Mapping[str, Any]) -> _Made:
    wanted, now = given.get("concurrency"), seen.stats.queue.concurrency
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not 0 <= wanted <= seen.limit:
        raise InvalidValue(
            f"concurrency is {str(wanted)[:40]!r}",
            expected=f"a whole number from 0 to {seen.limit:,}",
            next_step="the setting concurrency_limit holds the upper bound",
        )
    effect = f"the workers meant for {seen.shown} go from {now:,} to {wanted:,}; {seen.stats.workers:,} alive now"
    warnings = []
    followed = any(w.alive and w.kind == "supervisor" for w in seen.half.workers)
    if not followed and not seen.command:
        warnings.append("nobody follows this number: no supervisor is alive, and no scale_command is set")
    if wanted == 0:
        warnings.append("no worker will have this queue as its own; those of other queues still help out")
    return _Made(effect=effect, options={"concurrency": wanted}, warnings=warnings)


_PLANS: Final[Mapping[ActionKind, Callable[[_Seen, Mapping[str, Any]], _Made]]] = {
    ActionKind.PAUSE: _plan_pause,
    ActionKind.RESUME: _plan_resume,
    ActionKind.PRIORITISE: _plan_priority,
    ActionKind.SCALE: _plan_scale,
}


def _held(pause: Pause) -> str:
    return (
        f"{pause.holder} holds it paused{' hard' if pause.hard else ''}{text.until_words(pause.until)}{_because(pause)}"
    )


def _because(pause: Pause) -> str:
    return f" ({pause.reason})" if pause.reason else ""


def _holder(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > HOLDER_LENGTH:
        raise InvalidValue("the holder of the pause has no usable name", expected=f"1 to {HOLDER_LENGTH} characters")
    return cleaned(value.strip())


def end_of_pause(value: object, clock: datetime) -> datetime | None:
    """The end of a pause: a time (without a zone: UTC), or how long from now. Raises InvalidValue."""
    expected = "a duration such as 2h or 30m, or a time such as 2026-10-03T14:00 (UTC), at most a year ahead"
    found: datetime | None = None
    if value is None:
        return None
    if isinstance(value, timedelta):
        found = clock + min(value, 2 * LONGEST_PAUSE)
    elif isinstance(value, datetime):
        found = value
    elif isinstance(value, str):
        try:
            found = clock + min(timedelta(milliseconds=milliseconds(value, 0)), 2 * LONGEST_PAUSE)
        except FilterError:
            try:
                found = datetime.fromisoformat(value.strip())
            except ValueError:
                found = None
    if found is None:
        raise InvalidValue(f"until is {str(value)[:60]!r}", expected=expected)
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    if not clock < found <= clock + LONGEST_PAUSE:
        raise InvalidValue(
            f"the pause would end {found:%Y-%m-%d %H:%M:%S} UTC", expected=expected, next_step="choose a later time"
        )
    return found
