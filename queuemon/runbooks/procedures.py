"""Changes of several queues that belong together: planned, made, watched, and taken back whatever happens.

`act_all` takes back what it has made when a later change fails; `drain` takes everything back however it ends.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from queuemon.contract import Keys
from queuemon.errors import InvalidValue, QueuemonError, RunbookError, StoreError, UnknownAction
from queuemon.model import ActionResult, Plan, PostgresHalf, QueueStats, RedisHalf
from queuemon.render.html import Safe, Static, el, static
from queuemon.render.text import clean, duration
from queuemon.runbooks import journal
from queuemon.runbooks.journal import Run
from queuemon.runbooks.selection import plan
from queuemon.runbooks.steps import act

if TYPE_CHECKING:
    from queuemon.workbench import Workbench

#: Seconds between two looks at the queues.
LOOK_SECONDS: Final = 1.0

#: Seconds between two lines that say how a drain goes, and how many of them at most.
TELL_SECONDS: Final = 30.0
TELL_LINES: Final = 200

#: A pause outlives the watch by so much: a run that is killed leaves a pause that ends by itself.
SPARE_SECONDS: Final = 600.0

#: Seconds that taking back may wait for PostgreSQL.
RESTORE_SECONDS: Final = 60.0

#: Queues that one runbook pauses at most.
QUEUES: Final = 200

#: Who holds the pauses of these runbooks, so that nobody else's pause is ended with them.
MAKES_WAY: Final = "runbook prioritise-transactional"


# ----------------------------------------------------------------------------------------------------------- plans


def way_for(
    wb: Workbench, queue: str, *, transactional: str, make_way: Sequence[str], workers: int, seconds: float
) -> list[Plan]:
    """What makes way for a queue for at most `seconds`: the transactional queue is served first, others are paused, and
    the queue has at least so many workers. Changes nothing.

    Raises UnknownQueue; InvalidValue for a queue that is paused, or that would make way for itself.
    """
    served = {wb.queue_name(queue), wb.queue_name(transactional)}
    aside = _names(wb, make_way)
    if both := served & set(aside):
        raise InvalidValue(
            f"{min(both)} would make way for itself", expected="other queues in make_way", next_step="leave it out"
        )
    stats = {q.name: q for q in _seen(wb)}
    if held := [name for name in sorted(served) if stats[name].queue.paused]:
        raise InvalidValue(
            f"{held[0]} is paused: it would not drain",
            expected="a queue that is served",
            next_step=f"queuemon resume {shlex.quote(held[0])}",
        )
    until = timedelta(seconds=seconds + SPARE_SECONDS)
    found = [plan(wb, "prioritise", transactional, priority="high")]
    found += [plan(wb, "pause", name, until=until, holder=MAKES_WAY) for name in aside]
    # No fewer than there are: where there are enough, that changes nothing.
    found.append(plan(wb, "scale", queue, concurrency=max(workers, stats[wb.queue_name(queue)].queue.concurrency)))
    # What a run that was killed has changed already is planned again: it is to be taken back, too.
    return [made for made in found if made is not None and made.count]


def pauses(wb: Workbench, queues: Sequence[str], *, until: str, holder: str, hard: bool = False) -> list[Plan]:
    """A pause of each queue (none named: of all), held under one name. Raises UnknownQueue, InvalidValue."""
    names = _names(wb, queues, all_=True)
    found = [plan(wb, "pause", name, until=until, holder=holder, hard=hard) for name in names]
    return [made for made in found if made is not None]


def _names(wb: Workbench, queues: Sequence[str], *, all_: bool = False) -> list[str]:
    """Bare names of existing queues, each once."""
    named = [wb.queue_name(name) for name in queues] if queues or not all_ else [q.name for q in wb.queues()]
    if len(named) > QUEUES:
        raise InvalidValue(f"{len(named):,} queues", expected=f"at most {QUEUES}", next_step="name those that matter")
    return list(dict.fromkeys(named))


def shown(values: Sequence[Any]) -> Static:
    """Several values, one under the other."""
    parts = [static(value) for value in values]
    return Static(Safe("".join(part.html for part in parts)), "\n".join(part.text for part in parts))


# ------------------------------------------------------------------------------------------------------------- act


def act_all(wb: Workbench, plans: Sequence[Plan], *, dry_run: bool, reason: str) -> list[ActionResult]:
    """Apply the plans in their order; a dry run changes nothing and returns none.

    When one fails, or is done in part only, those before it are taken back; the runner takes them back where this
    process ends before `drain` or `verify_idle` has. Raises what it raised; RunbookError, as when this run, started
    again, has taken them back before.
    """
    made: list[ActionResult] = []
    begun: list[UUID] = []
    try:
        for step in plans:
            print(f"{step.kind.value} {step.target}: {step.effect}.")  # noqa: T201
            if step.count and not dry_run:
                begun.append(step.id)  # one whose answer is lost may have been made all the same
                _hold([step.id], held=True)
            result = act(wb, step, dry_run=dry_run, reason=reason)
            if result is None:
                continue
            begun[-1] = result.id
            made.append(result)
            if result.repeated and wb.action(result.id).undone_by is not None:
                raise RunbookError(
                    f"this run has taken back its {step.kind.value} of {step.target}",
                    expected="a change that stands",
                    next_step="start a new run",
                )
            if result.state != "done":
                raise RunbookError(
                    f"{step.kind.value} of {step.target} is {result.state}: {result.summary}".rstrip("."),
                    expected="every change made, or none",
                    next_step="what was changed has been taken back",
                )
    except BaseException:
        take_back(wb, begun, reason="a later change failed")
        raise
    return made


def _hold(action_ids: Sequence[UUID], *, held: bool, run: Run | None = None) -> None:
    """Note for the runner whether actions are to be taken back should this process end here."""
    if (found := run or journal.current()) is not None:
        for action_id in action_ids:
            found.note(id=str(action_id), held=held)


def take_back(
    wb: Workbench,
    action_ids: Sequence[UUID],
    *,
    reason: str,
    run: Run | None = None,
    tell: Callable[[str], object] = print,
) -> list[str]:
    """Undo actions, the last one first; what somebody changed since is left to them. Returns a sentence for each.

    Goes on past a failure. Raises RunbookError that names what could not be taken back, and how it can be.
    """
    told, left = [], []
    for action_id in reversed(action_ids):
        try:
            told.append(_taken_back(wb, action_id, reason))
            _hold([action_id], held=False, run=run)
        except QueuemonError as error:
            left.append(f"`queuemon undo {action_id}`")
            told.append(f"NOT taken back: {error}")
        tell(told[-1])
    if left:
        raise RunbookError(
            f"{len(left):,} of {len(action_ids):,} changes could not be taken back",
            expected="everything as it was before",
            next_step=" and ".join(left),
        )
    return told


def _taken_back(wb: Workbench, action_id: UUID, reason: str) -> str:
    """One undo; PostgreSQL may be away for a while. A second undo of the same action changes nothing."""
    deadline = time.monotonic() + RESTORE_SECONDS
    while True:
        try:
            record = wb.action(action_id)
            if record.undone_by is not None or (not record.done and record.state != "running"):
                return f"Nothing to take back: {record.summary}"
            back = wb.plan("undo", action_id)
            return wb.apply(back, reason=reason).summary if back.count else f"Left as it is: {back.effect}."
        except UnknownAction:
            return "Nothing to take back: it was not begun."
        except StoreError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(LOOK_SECONDS)


# ---------------------------------------------------------------------------------------------------------- verify


@dataclass(frozen=True, kw_only=True, repr=False)
class Drained:
    """How a queue came down: printed as one sentence."""

    queue: str
    #: Waiting at the first and at the last look.
    before: int
    left: int
    waited_seconds: float

    def face(self, keys: Keys) -> tuple[Safe, str]:
        """Static HTML and text, for `queuemon.show()`."""
        return el("p", repr(self)), clean(self)

    def __repr__(self) -> str:
        return f"{self.queue}: {self.before:,} → {self.left:,} waiting in {duration(self.waited_seconds)}."


def drain(
    wb: Workbench, made: Sequence[ActionResult], queue: str, *, below: int, seconds: float, reason: str
) -> Drained | None:
    """Watch until fewer than `below` wait, at most `seconds`; then, and whatever happens before, take `made` back.

    Raises RunbookError when the queue has not drained by then, or something could not be taken back.
    """
    if not made:
        print("Nothing to watch: nothing was changed.")  # noqa: T201
        return None
    try:
        return _watched(wb, wb.queue_name(queue), below=below, seconds=seconds)
    finally:
        take_back(wb, [r.id for r in made], reason=reason or "the queue was watched to the end")


def _watched(wb: Workbench, name: str, *, below: int, seconds: float) -> Drained:
    began = told = time.monotonic()
    before, left, lines = -1, -1, 0
    while True:
        stats = wb.snapshot().queue(name)
        waited = time.monotonic() - began
        if stats is not None:  # PostgreSQL may be away for a while
            left = stats.waiting
            before = left if before < 0 else before
            if left < below:
                return Drained(queue=name, before=before, left=left, waited_seconds=waited)
        if waited >= seconds:
            raise RunbookError(
                f"verification failed: {f'{left:,} still wait' if left >= 0 else 'nobody knows how many wait'} in "
                f"{name} after {seconds:g} s",
                expected=f"fewer than {below:,}",
                next_step="see `queuemon forecast` for how many workers it needs; everything was taken back",
            )
        if time.monotonic() - told >= TELL_SECONDS and lines < TELL_LINES:
            told, lines = time.monotonic(), lines + 1
            print(f"{left:,} waiting after {duration(waited)}")  # noqa: T201
        time.sleep(min(LOOK_SECONDS, max(0.0, seconds - waited)))


def verify_on_time(wb: Workbench, drained: Drained | None, queue: str) -> str | None:
    """After a drain: nothing that is due in the queue waits longer than its target. Raises RunbookError."""
    if drained is None:
        print("Nothing to verify: nothing was changed.")  # noqa: T201
        return None
    name = wb.queue_name(queue)
    half = wb.snapshot().postgres
    stats = next((q for q in half.queues if q.name == name), None) if isinstance(half, PostgresHalf) else None
    if stats is None or not isinstance(half, PostgresHalf):
        raise RunbookError(f"verification failed: PostgreSQL does not tell about {name}", expected="its numbers")
    oldest = stats.oldest_waiting_at
    waits = (half.clock - oldest).total_seconds() if oldest is not None else 0.0
    if waits > stats.queue.target_seconds:
        raise RunbookError(
            f"verification failed: the oldest job of {name} has waited {duration(waits)}",
            expected=f"at most its target of {duration(stats.queue.target_seconds)}",
            next_step=f"see `queuemon status` and `queuemon forecast {shlex.quote(name)}`",
        )
    return f"{name}: {stats.waiting:,} waiting, the oldest for {duration(waits)}."


def verify_idle(
    wb: Workbench, made: Sequence[ActionResult], *, seconds: float, resume_on_failure: bool = True
) -> str | None:
    """Wait until no job of the paused queues runs; all of them must be paused in both stores.

    Otherwise the pauses are taken back (unless told not to) and RunbookError is raised.
    """
    if not made:
        print("Nothing to verify: nothing was changed.")  # noqa: T201
        return None
    names = [wb.action(result.id).target for result in made]
    try:
        waited = _until(lambda: not _busy(wb, names), seconds)
        if waited is None:
            raise RunbookError(
                f"verification failed after {seconds:g} s: {'; '.join(_busy(wb, names)[:5])}",
                expected="every queue paused, and no job running",
                next_step="wait longer, or free stuck jobs with the runbook rescue-stuck",
            )
    except BaseException:
        if resume_on_failure:
            take_back(wb, [r.id for r in made], reason="the queues did not come to rest")
        else:
            _hold([r.id for r in made], held=False)
        raise
    _hold([r.id for r in made], held=False)
    return f"{len(names):,} queues are paused and idle after {duration(waited)}."


def _until(there: Callable[[], bool], seconds: float) -> float | None:
    """Seconds until a condition held; None when it did not in time."""
    began = time.monotonic()
    while not there():
        waited = time.monotonic() - began
        if waited >= seconds:
            return None
        time.sleep(min(LOOK_SECONDS, seconds - waited))
    return time.monotonic() - began


def _busy(wb: Workbench, names: Sequence[str]) -> list[str]:
    """What keeps queues from being at rest, in words."""
    snapshot = wb.snapshot()
    if not isinstance(snapshot.postgres, PostgresHalf):
        return ["PostgreSQL does not answer"]
    copies: Any = snapshot.redis.queues if isinstance(snapshot.redis, RedisHalf) else {}
    stats = {q.name: q for q in snapshot.queues}
    found = []
    for name in names:
        q = stats.get(name)
        if q is None:
            found.append(f"{name} no longer exists")
        elif not q.queue.paused:
            found.append(f"{name} is not paused any more")
        elif q.active:
            found.append(f"{name}: {q.active:,} still run" + (f", {q.stuck:,} of them stuck" if q.stuck else ""))
        elif name in copies and not copies[name].paused:
            found.append(f"{name}: the pause has not reached Redis")
    return found


def _seen(wb: Workbench) -> tuple[QueueStats, ...]:
    """The queues' numbers; raises RunbookError when PostgreSQL is away."""
    half = wb.snapshot().postgres
    if not isinstance(half, PostgresHalf):
        raise RunbookError(f"PostgreSQL does not answer: {half.message}", expected="its numbers")
    return half.queues
