"""The plan of a repair: what was found, within the budgets, frozen item by item; the workbench hands it to `repair`."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from queuemon.actions.text import breakdown
from queuemon.drift.model import CLASSES, DriftReport, Finding
from queuemon.errors import InvalidValue
from queuemon.model import ActionKind, Breakdown, Plan, PostgresHalf, RedisHalf
from queuemon.store import Store

#: A queue's share never bounds a repair to fewer than this.
FLOOR: Final = 100

#: Classes whose repairs change jobs or elements one by one, and count against a queue's share.
SHARED: Final = frozenset({1, 2, 3, 4, 5, 6, 7, 11, 12, 13})

#: Why elements that workers without a claim would run are left alone.
NEEDS_PAUSE: Final = "needs a hard pause: workers here do not claim"

#: What nobody can know before a repair.
TWICE: Final = "a stuck job may run twice: its worker may only be cut off and still be at it; what it writes is refused"


def plan(
    store: Store,
    report: DriftReport,
    *,
    classes: Iterable[int] | None = None,
    max_repairs: int | None = None,
    max_percent: float | None = None,
    action_id: UUID | None = None,
) -> Plan:
    """What a repair of a report would do. Raises InvalidValue for a class that does not exist or cannot be repaired."""
    chosen = _chosen(classes)
    most = store.settings.drift_max_repairs if max_repairs is None else max_repairs
    percent = store.settings.drift_max_percent if max_percent is None else max_percent
    if not 1 <= most <= 10_000:
        raise InvalidValue(f"max_repairs is {most}", expected="1 to 10,000")
    if not 0 < percent <= 100:
        raise InvalidValue(f"max_percent is {percent}", expected="more than 0, at most 100")
    taken, left = _within(store, report, chosen, most, percent)
    per_class = Counter(f.number for f in taken)
    by_class = tuple(Breakdown(label=f"{n}: {CLASSES[n].title}", count=per_class[n]) for n in sorted(per_class))
    queues = Counter(f.queue for f in taken if f.queue)
    shown = ", ".join(report.queues) if len(report.queues) <= 3 else f"{len(report.queues)} queues"
    return Plan(
        id=action_id or uuid4(),
        kind=ActionKind.REPAIR,
        target=f"drift of {shown}",
        ids=None,
        cutoff=report.clock,
        count=len(taken),
        by_queue=tuple(Breakdown(label=q, count=n) for q, n in queues.most_common()),
        # A repair's breakdown goes by the kind of disagreement.
        by_error=by_class,
        excluded=breakdown(left),
        effect=_effect(per_class, taken),
        warnings=_warnings(report, chosen, per_class),
        options={
            "queues": list(report.queues), "deep": report.deep, "max_repairs": most, "max_percent": percent,
            "found": sum(report.of(n).count for n in chosen), "items": [_item(f) for f in taken],
        },
    )  # fmt: skip


def _chosen(classes: Iterable[int] | None) -> set[int]:
    wanted = set(CLASSES) if classes is None else set(classes)
    for number in sorted(wanted):
        if number not in CLASSES:
            raise InvalidValue(f"there is no class {number}", expected="numbers from 1 to 16")
        if classes is not None and not CLASSES[number].repairable:
            raise InvalidValue(
                f"class {number} ({CLASSES[number].title}) is only reported",
                expected="a class that can be repaired", next_step="leave it out",
            )  # fmt: skip
    return wanted


def _within(
    store: Store, report: DriftReport, chosen: set[int], most: int, percent: float
) -> tuple[list[Finding], Mapping[str, int]]:
    """The findings that the budgets allow, the most harmful first, and why the others are left out."""
    sizes = _sizes(store)
    left: Counter[str] = Counter()
    taken: list[Finding] = []
    spent: Counter[str] = Counter()
    beyond = {c.number: c.count for c in report.classes}
    for finding in sorted(report.findings, key=_order):
        beyond[finding.number] -= 1
        c = CLASSES[finding.number]
        if finding.number not in chosen:
            left["is of a class that was not chosen"] += 1
        elif not c.repairable:
            left["is only reported"] += 1
        elif c.claim_drops and report.level != "L0":
            left["is harmless: workers that claim drop it"] += 1
        elif c.claim_drops and finding.queue not in report.parked:
            left[NEEDS_PAUSE] += 1
        elif len(taken) >= most:
            left[f"is beyond the budget of {most:,} repairs"] += 1
        elif finding.number in SHARED and spent[finding.queue] >= max(FLOOR, percent / 100 * sizes[finding.queue]):
            left[f"is beyond {percent:g} % of its queue"] += 1
        else:
            spent[finding.queue] += finding.number in SHARED
            taken.append(finding)
    for number, n in beyond.items():
        if n > 0 and number in chosen:
            left["is more than one report carries: repair, and look again"] += n
    return taken, left


def _order(f: Finding) -> tuple[bool, bool, str, int]:
    """What harms most first; what a filter takes out of a parked list last, queue by queue: one pass for each."""
    sifted = CLASSES[f.number].claim_drops
    return f.number not in {8, 9, 10}, sifted, f.queue if sifted else "", f.number


def _sizes(store: Store) -> Counter[str]:
    """How many jobs a queue has to do with: those that wait, run or are listed."""
    snapshot = store.snapshot()
    sizes: Counter[str] = Counter()
    if isinstance(snapshot.postgres, PostgresHalf):
        for q in snapshot.postgres.queues:
            sizes[q.name] += q.waiting + q.active
    if isinstance(snapshot.redis, RedisHalf):
        for name, listed in snapshot.redis.queues.items():
            sizes[name] = max(sizes[name], listed.elements)
    return sizes


def _item(finding: Finding) -> list[Any]:
    """A finding as the action's row keeps it."""
    job_id = str(finding.job_id) if finding.job_id else None
    return [finding.number, finding.queue, job_id, finding.gen, finding.key, finding.row]


def finding_of(item: Sequence[Any]) -> Finding:
    """The same, read back."""
    number, queue, job_id, gen, key, row = item
    return Finding(number=number, queue=queue, job_id=UUID(job_id) if job_id else None, gen=gen, key=key, row=row)


def known_by(finding: Finding) -> tuple[Any, ...]:
    """What makes two findings the same one."""
    key = finding.key if finding.number in {13, 15, 16} else ""
    return finding.number, finding.queue, finding.job_id, finding.gen, key


def _effect(per_class: Mapping[int, int], taken: Sequence[Finding]) -> str:
    if not taken:
        return "changes nothing: nothing was found that may be repaired"
    parts = []
    for number, n in sorted(per_class.items()):
        jobs = sum(f.jobs for f in taken if f.number == number)
        more = f" ({jobs:,} jobs)" if number == 8 else ""
        parts.append(f"{n:,} × {number}{more}: {CLASSES[number].repair}")
    return "; ".join(parts)


def _unparked(report: DriftReport, chosen: set[int]) -> list[str]:
    """Queues with elements that only a filter of the parked list takes out, and whose list is not parked."""
    counted: Counter[str] = Counter()
    for number in sorted(chosen):
        if CLASSES[number].claim_drops:
            counted.update({b.label: b.count for b in report.of(number).by_queue if b.label not in report.parked})
    return [queue for queue, _ in counted.most_common()]


def _pause_first(report: DriftReport, chosen: set[int]) -> str:
    """What to do about them, in one sentence."""
    first, *more = map(shlex.quote, _unparked(report, chosen))
    others = f" (and so for {len(more):,} more queues)" if more else ""
    return (
        f"to take zombies, stale elements and duplicates out, run `queuemon pause {first} --hard`, then repair, then"
        f" `queuemon resume {first}`{others}"
    )


def _warnings(report: DriftReport, chosen: set[int], per_class: Mapping[int, int]) -> tuple[str, ...]:
    found = [_pause_first(report, chosen)] if report.level == "L0" and _unparked(report, chosen) else []
    if per_class.get(6):
        found.append(TWICE)
    if report.level == "L0" and any(per_class.get(n) for n in (1, 8, 11, 12)):
        found.append("workers here do not claim: a job published anew may run twice if its old element still exists")
    if per_class.get(8):
        found.append("a whole list is published anew: everything that waits there comes at once, at a bounded rate")
    if not report.complete:
        found.append("the comparison was stopped before its end: there may be more")
    return tuple(found)
