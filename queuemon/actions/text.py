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
}

#: Why a planned selection is smaller than it was.
NO_LONGER_EXISTS: Final = "no longer exists"

#: Why fewer jobs matched a filter when it was applied than when it was planned.
SHORTFALL: Final = "no longer matches"

REDIS_SILENT: Final = "Redis did not answer: the relay will publish them when it does"
FLAG_UNTOLD: Final = "Redis did not answer: workers still see it in PostgreSQL"


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
        case JobStatus.ACTIVE:
            return "is running again" if later and kind is ActionKind.RETRY else "is running"
        case JobStatus.WAITING if kind is ActionKind.RUN_NOW:
            return "is due already" if standing.due else SHORTFALL
        case JobStatus.WAITING:
            return "is waiting already" if kind is ActionKind.RETRY else "is waiting again"
        case JobStatus.COMPLETED:
            return "completed meanwhile" if later else "is completed"
        case JobStatus.FAILED if kind is ActionKind.RUN_NOW:
            return "has failed"
        case JobStatus.FAILED:
            return "failed again meanwhile" if later else SHORTFALL
        case JobStatus.EXPIRED:
            return "expired meanwhile" if later else "has expired"


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
    of = f" ({', '.join(f'{b.count:,} {b.label}' for b in by_status)})" if len(by_status) > 1 else ""
    kept = f"copies are kept for {keep_days:g} days" if keep_days > 0 else "no copies are kept"
    return f"removes {count} {'job' if count.value == 1 else 'jobs'}{of}; {kept}"


def until_words(until: datetime | None) -> str:
    """When a pause ends."""
    return f" until {until:%Y-%m-%d %H:%M:%S} UTC" if until is not None else " until it is resumed"


def bulk_warnings(plan_count: int, queues: Mapping[str, QueueStats], *, workers: int, rate: float) -> tuple[str, ...]:
    """What the operator must know before jobs are put back to wait in these queues (by display name)."""
    if not plan_count:
        return ()
    warnings = [
        f"{shown} is paused: they will wait until it is resumed" for shown, q in queues.items() if q.queue.paused
    ]
    if not workers and not rate:
        warnings.append("no worker is alive: they will wait until one starts")
    return tuple(warnings)
