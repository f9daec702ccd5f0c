"""What a look at everything suggests to do next, and with which runbook; the runbook weekly-health shows it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from queuemon.contract import Health
from queuemon.drift.model import DriftReport
from queuemon.errors import RunbookError
from queuemon.model import Check, HalfError, QueueStats, Snapshot
from queuemon.render.html import Safe, Static, el, table
from queuemon.render.text import clean, duration
from queuemon.runbooks.agreement import LOSS

#: Pieces of advice that are shown at most.
SHOWN: Final = 100

#: The class of a list that has vanished.
_VANISHED: Final = 8


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One thing that wants doing."""

    #: Whether it cannot wait: the verification fails over it.
    urgent: bool
    #: Bare name of the queue; empty where it is about none.
    queue: str
    #: What was found.
    found: str
    #: What to do.
    next_step: str


def advise(snapshot: Snapshot, checks: Sequence[Check], report: DriftReport | None) -> tuple[Advice, ...]:
    """What the queues' numbers, the doctor and a comparison of the stores suggest, the urgent first."""
    found = [*_missing(snapshot), *(a for q in snapshot.queues for a in _of_queue(q, snapshot)), *_of_drift(report)]
    found += [
        Advice(urgent=True, queue="", found=f"{c.name}: {c.found}", next_step=c.next_step or "queuemon doctor")
        for c in checks
        if c.state == "fail"
    ]
    return tuple(sorted(found, key=lambda a: not a.urgent))


def _missing(snapshot: Snapshot) -> Iterator[Advice]:
    for name, half in (("PostgreSQL", snapshot.postgres), ("Redis", snapshot.redis)):
        if isinstance(half, HalfError):
            yield Advice(urgent=True, queue="", found=f"{name}: {half.message}", next_step="queuemon doctor")


def _of_queue(q: QueueStats, snapshot: Snapshot) -> Iterator[Advice]:
    def said(urgent: bool, found: str, next_step: str) -> Advice:
        return Advice(urgent=urgent, queue=q.name, found=found, next_step=next_step)

    named = shlex.quote(q.name)  # whoever makes a queue chooses what is pasted into a shell
    run: Callable[[str], str] = lambda book: f"queuemon runbook run {book} -p {shlex.quote(f'queue={q.name}')}"  # noqa: E731
    limits = q.thresholds
    if q.failed:
        fix = f"{run('retry-failed')} once the cause is fixed, else {run('clear-failed')}"
        yield said(q.failed > limits.critical_failed, f"{q.failed:,} jobs stand failed", fix)
    if q.expired:
        yield said(False, f"{q.expired:,} jobs have expired", run("replay-expired"))
    if q.stuck:
        yield said(True, f"{q.stuck:,} jobs are stuck", run("rescue-stuck"))
    if q.queue.paused:
        since = q.queue.paused_at
        stood = f" for {duration((snapshot.taken_at - since).total_seconds())}" if since is not None else ""
        yield said(False, f"paused{stood}, {q.waiting:,} waiting", f"queuemon resume {named}, if nobody needs it")
    elif q.waiting > limits.critical_waiting:
        yield said(True, f"{q.waiting:,} waiting", run("prioritise-transactional"))
    elif q.health is Health.WARNING:
        yield said(False, f"{q.waiting:,} waiting", f"queuemon forecast {named}")
    if q.waiting and not q.queue.paused and q.oldest_waiting_at is not None:
        late = (snapshot.postgres_at - q.oldest_waiting_at).total_seconds() - q.queue.target_seconds
        if late > 0:
            yield said(True, f"the oldest job is {duration(late)} past its target", f"queuemon forecast {named}")


def _of_drift(report: DriftReport | None) -> Iterator[Advice]:
    for c in report.classes if report is not None else ():
        if c.count and not c.harmless:
            name = "rebuild-redis" if c.number == _VANISHED else "repair-drift"
            yield Advice(
                urgent=c.number in LOSS,
                queue=c.by_queue[0].label if c.by_queue else "",
                found=f"drift: {c.count:,} × {c.title}",
                next_step=f"queuemon runbook run {name}",
            )


def listed(found: Sequence[Advice]) -> Static:
    """The advice as a table, and as lines of text."""
    if not found:
        return Static(el("p", "Nothing wants doing."), "Nothing wants doing.")
    rows = [("now" if a.urgent else "", a.queue, a.found, el("code", a.next_step)) for a in found[:SHOWN]]
    more = [el("p", f"and {len(found) - SHOWN:,} more")] if len(found) > SHOWN else []
    lines = [clean(f"{'NOW ' if a.urgent else ''}{a.queue or 'all'}: {a.found} → {a.next_step}") for a in found]
    body = Safe("".join([table(("", "Queue", "Found", "Next"), rows), *more]))
    return Static(body, "\n".join(lines[:SHOWN]))


def nothing_to_do(*, dry_run: bool) -> str:
    """What a runbook that only reads says where others act."""
    return f"Nothing was changed: this runbook only reads, {'dry' if dry_run else 'wet'} as well."


def verify_healthy(found: Sequence[Advice], *, fail_when_urgent: bool) -> str:
    """How many things want doing. Raises RunbookError where some cannot wait, so that a scheduled run says so."""
    urgent = [a for a in found if a.urgent]
    if urgent and fail_when_urgent:
        first = "; ".join(clean(f"{a.queue or 'all queues'}: {a.found}", 120) for a in urgent[:3])
        raise RunbookError(
            f"verification failed: {len(urgent):,} findings cannot wait: {first}",
            expected="none",
            next_step="see the advice under Plan",
        )
    return f"{len(urgent):,} findings cannot wait, {len(found) - len(urgent):,} more."
