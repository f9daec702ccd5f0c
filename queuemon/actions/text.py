"""The words of plans and results, made from values alone; every surface shows them as they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from queuemon.contract import JobStatus
from queuemon.model import ActionKind, Breakdown, Count, QueueStats
from queuemon.render.text import duration
from queuemon.store.chunks import Standing

#: What an action did: before the number, after it, and as a participle.
_DONE: Final = {
    ActionKind.RETRY: ("Retried", "", "retried"),
    ActionKind.DELETE: ("Deleted", "", "deleted"),
    ActionKind.CLEAR_FAILED: ("Cleared", "", "cleared"),
    ActionKind.RUN_NOW: ("Made", " due now", "made due"),
    ActionKind.PURGE: ("Purged", "", "purged"),
    ActionKind.MOVE: ("Moved", "", "moved"),
    ActionKind.EDIT: ("Edited and retried", "", "edited"),
    ActionKind.RESCUE: ("Rescued", "", "rescued"),
    ActionKind.DELETE_STUCK: ("Deleted", "", "deleted"),
    ActionKind.ERASE: ("Erased", "", "erased"),
    ActionKind.UNDO: ("Took back", "", "taken back"),
}

#: Kinds that make a job that has ended run again.
_AGAIN: Final = frozenset({ActionKind.RETRY, ActionKind.EDIT})

#: Kinds that take a job from a worker that has fallen silent.
_STUCK: Final = frozenset({ActionKind.RESCUE, ActionKind.DELETE_STUCK})

#: Kinds that take no job that has ended.
_ENDED_IS_TOO_LATE: Final = _STUCK | {ActionKind.RUN_NOW, ActionKind.PURGE}

#: Why a planned selection is smaller than it was.
NO_LONGER_EXISTS: Final = "no longer exists"

#: Why an undo takes back less than was changed.
COPY_GONE: Final = "has no copy any more"

#: Why fewer jobs matched a filter when it was applied than when it was planned.
SHORTFALL: Final = "no longer matches"

#: What nobody can know of a worker that has fallen silent.
MAY_RUN_TWICE: Final = (
    "a job may run twice: its worker may only be cut off and still be at it; whatever it writes later is refused"
)

#: What erasing cannot reach at once.
STILL_IN_REDIS: Final = (
    "what waits, or waited when it was deleted, has an element in Redis that holds the payload until a worker drops it"
)

REDIS_SILENT: Final = "Redis did not take them: the relay will publish them when it does"
FLAG_UNTOLD: Final = "Redis did not answer: workers still see it in PostgreSQL"
PARKING_UNTOLD: Final = "Redis did not answer: the list is not parked yet; the relay does it when Redis answers"
STILL_MOVING: Final = "elements that others pushed are still being moved: the relay goes on"


def counted(n: int, noun: str = "job") -> str:
    """A number with its noun."""
    return f"{n:,} {noun if n == 1 else noun + 's'}"


def plural(reason: str) -> str:
    """A reason as it is said of several jobs: "is running" → "are running"."""
    verb, _, rest = reason.partition(" ")
    many = {"is": "are", "was": "were", "has": "have"}.get(verb)
    if many is not None:
        return f"{many} {rest}"
    return reason.replace("no longer matches", "no longer match").replace("no longer exists", "no longer exist")


def why_not(kind: ActionKind, standing: Standing) -> str:
    """Why an action leaves a job alone that stands so; `later` says it came to stand so after the plan was made."""
    later = standing.later
    match standing.status:
        case JobStatus.ACTIVE if kind in _STUCK:
            return "was started again" if standing.stuck else "has a worker that beats"
        case JobStatus.ACTIVE:
            return "is running again" if later and kind in _AGAIN else "is running"
        case JobStatus.COMPLETED:
            return "completed meanwhile" if later else "is completed"
        case _ if kind is ActionKind.MOVE:
            return "is there already" if standing.there else SHORTFALL
        case JobStatus.WAITING if kind is ActionKind.RUN_NOW:
            return "is due already" if standing.due else SHORTFALL
        case JobStatus.WAITING:
            return "is waiting already" if kind in _AGAIN else "is waiting again"
        case JobStatus.FAILED if kind in _ENDED_IS_TOO_LATE:
            return "failed meanwhile" if later else "has failed"
        case JobStatus.FAILED:
            return "failed again meanwhile" if later else SHORTFALL
        case JobStatus.EXPIRED:
            return "expired meanwhile" if later else "has expired"


def why_not_undone(kind: ActionKind, status: JobStatus | None, *, homeless: bool) -> str:
    """Why an undo of this kind leaves a job alone that stands so; None: there is no such job."""
    if homeless:
        return "has no queue any more"
    if kind.removes:
        return COPY_GONE if status is None else "exists again"
    match status:
        case None:
            return "was deleted"
        case JobStatus.ACTIVE:
            return "is running"
        case JobStatus.COMPLETED:
            return "completed meanwhile"
        case _:
            return "was changed since"


def breakdown(reasons: Mapping[str, int]) -> tuple[Breakdown, ...]:
    """Reasons with their numbers, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Breakdown(label=reason, count=n) for reason, n in ordered if n)


def bulk_summary(
    kind: ActionKind, *, planned: int, done: int, skipped: Mapping[str, int], gone: int, stopped: bool, published: bool
) -> str:
    """What a bulk action did: "Retried 45 of 50. 5 were skipped: 3 are running again, 2 were deleted." """
    verb, after, participle = _DONE[kind]
    already = kind.removes
    reasons = {**skipped, **({"was deleted already" if already else "was deleted": gone} if gone else {})}
    left = sum(reasons.values())
    if planned == 0 and not done:
        return "There was nothing to do."
    if done == 0 and planned == 1 and left == 1:
        return f"The job was not {participle}: it {next(iter(reasons))}."
    if done >= planned:
        first = f"{verb} {counted(done)}{after}"
    else:
        first = f"{verb} {f'{done:,}' if done else 'none'} of {planned:,}{after}"
    sentences = [f"Stopped on request. {first}" if stopped else first]
    if left:
        listed = ", ".join(f"{b.count:,} {b.label if b.count == 1 else plural(b.label)}" for b in breakdown(reasons))
        sentences.append(f"{left:,} {'was' if left == 1 else 'were'} skipped: {listed}")
    if done and not published:
        sentences.append(REDIS_SILENT)
    return ". ".join(sentences) + "."


def stopped(
    kind: ActionKind, *, planned: int, done: int, skipped: Mapping[str, int], gone: int, published: bool
) -> str:
    """What an action had done when somebody ended it."""
    if kind not in _DONE:
        return "Stopped on request."
    return bulk_summary(
        kind, planned=planned, done=done, skipped=skipped, gone=gone, stopped=True, published=published
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- plans


def backlog_effect(count: Count, queues: Mapping[str, QueueStats], rates: Mapping[str, float]) -> str:
    """What it means that this many jobs more wait in these queues (by display name)."""
    if not queues:
        return f"makes {counted(count.value)} wait"
    waiting = sum(q.waiting for q in queues.values())
    where = next(iter(queues)) if len(queues) == 1 else f"{len(queues)} queues"
    words = f"adds {count} to the {waiting:,} waiting in {where}"
    rate = sum(rates.get(q.name, 0.0) for q in queues.values())
    # Only where more waits than a few seconds bring is the rate what the workers can do, not merely what comes in.
    if count.value and 0 < 5 * rate < waiting:
        words += (
            f"; at the present {rate:,.1f} jobs/s that is about {duration(max(1, round(count.value / rate)))} of work"
        )
    return words


def removal_effect(count: Count, by_status: tuple[Breakdown, ...], keep_days: float) -> str:
    """What it means that these jobs go."""
    kept = f"copies are kept for {keep_days:g} days" if keep_days > 0 else "no copies are kept"
    return f"removes {count} {'job' if count.value == 1 else 'jobs'}{_of(by_status)}; {kept}"


def undo_effect(kind: ActionKind, count: int) -> str:
    """What it means that an action on jobs is taken back."""
    if not count:
        return "changes nothing: all of them have moved on since"
    jobs = counted(count)
    match kind:
        case ActionKind.MOVE:
            return f"{jobs} {'goes' if count == 1 else 'go'} back to the queue they came from, under a new generation"
        case kind if kind.removes:
            return f"{jobs} {'comes' if count == 1 else 'come'} back as they were, under a new generation"
        case _:
            return (
                f"{jobs} {'stands' if count == 1 else 'stand'} again as they did before; what has started is left alone"
            )


def _of(by_status: tuple[Breakdown, ...]) -> str:
    """How many of each state, where there are several."""
    return f" ({', '.join(f'{b.count:,} {b.label}' for b in by_status)})" if len(by_status) > 1 else ""


def erasure_effect(count: Count, by_status: tuple[Breakdown, ...], copies: int) -> str:
    """What it means that these jobs go for good; `copies` of them exist only as copies of an earlier action."""
    only = f", {copies:,} of them kept only as copies" if copies else ""
    return (
        f"erases {count} {'job' if count.value == 1 else 'jobs'}{_of(by_status)}{only}: no copies are kept, those of"
        " earlier actions go too, and their error texts are blanked; this cannot be undone"
    )


def move_effect(count: Count, by_status: tuple[Breakdown, ...], shown: str, target: QueueStats) -> str:
    """What it means that these jobs stand in another queue."""
    return (
        f"moves {count} {'job' if count.value == 1 else 'jobs'}{_of(by_status)} to {shown},"
        f" where {counted(target.waiting)} {'is' if target.waiting == 1 else 'are'} waiting"
    )


def move_warnings(shown: str, target: QueueStats, sources: Mapping[str, QueueStats]) -> tuple[str, ...]:
    """What the operator must know of the queue that jobs are moved to."""
    now = target.queue.priority
    others = [f"{name} has {q.queue.priority}" for name, q in sources.items() if q.queue.priority is not now]
    found = [f"{shown} is paused: they will wait until it is resumed"] if target.queue.paused else []
    if others:
        found.append(f"{shown} has {now} priority; {', '.join(others)}")
    return tuple(found)


def rescue_effect(count: Count, used_up: int) -> str:
    """What it means that these jobs are taken from their workers."""
    waits = count.value - used_up
    parts = [f"{waits:,} {'waits' if waits == 1 else 'wait'} again under a new generation"] if waits else []
    parts += [f"{used_up:,} {'fails' if used_up == 1 else 'fail'}: no attempts are left"] if used_up else []
    return f"takes {count} stuck {'job' if count.value == 1 else 'jobs'} from silent workers: {', '.join(parts)}"


def until_words(until: datetime | None) -> str:
    """When a pause ends."""
    return f" until {until:%Y-%m-%d %H:%M:%S} UTC" if until is not None else " until it is resumed"


def paused_warnings(queues: Mapping[str, QueueStats]) -> tuple[str, ...]:
    """Which of the queues (by display name) that jobs are to wait in are paused."""
    return tuple(
        f"{shown} is paused: they will wait until it is resumed" for shown, q in queues.items() if q.queue.paused
    )


def idle_warnings(*, workers: int, rate: float) -> tuple[str, ...]:
    """Whether nobody is there to run what waits."""
    return () if workers or rate else ("no worker is alive: they will wait until one starts",)
