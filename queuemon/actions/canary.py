"""Canary replay: retry one job, see what becomes of it, then more while they succeed; planned and applied like others.

Every step is a retry of a selection, an action of its own whose id follows from the canary's: whoever goes on with an
interrupted canary meets the same steps and repeats none.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID, uuid5

from queuemon.actions import text
from queuemon.actions.entries import Journal, result
from queuemon.errors import InvalidValue, LimitExceeded, StoreError
from queuemon.filters import JobFilter
from queuemon.model import ActionKind, ActionResult, CanaryProgress, CanaryResult, Plan
from queuemon.render.text import duration
from queuemon.store import Store, audit, canaries
from queuemon.store.audit import Entry
from queuemon.store.chunks import LEGAL, Order, untouched
from queuemon.store.filtering import conditions

#: Jobs of each step; the last number is repeated until all are retried.
STEPS: Final = (1, 5, 25, 125, 625)

#: Jobs in one step at most: up to this many, each has its own event in its history, which holds its generation.
STEP_LIMIT: Final = 1_000

#: Jobs of a canary at most; their ids are frozen with the plan.
CANARY_LIMIT: Final = 100_000

#: Seconds that the jobs of a step may take.
TIMEOUT_SECONDS: Final = 600.0

#: Seconds between two looks at the jobs of a step, and between two notes that somebody still waits.
LOOK_SECONDS: Final = 0.25
NOTE_SECONDS: Final = 5.0

Retry = Callable[[Plan], ActionResult]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a canary goes on, as the plan's options hold it."""

    steps: tuple[int, ...] = STEPS
    #: Share of the settled jobs that must have completed before the next step.
    success: float = 0.9
    #: So many failed jobs stop it at once.
    max_errors: int = 3
    #: Seconds that the jobs of a step may take.
    timeout: float = TIMEOUT_SECONDS

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Rule:
        """From options, as given or as stored; raises InvalidValue."""
        unknown = sorted(set(options) - {"steps", "success", "max_errors", "timeout"})
        if unknown:
            raise InvalidValue(
                f"canary knows no option {unknown[0]!r}", expected="among max_errors, steps, success, timeout"
            )
        given = {name: value for name, value in options.items() if value is not None}
        steps = given.get("steps", STEPS)
        if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps or not all(map(_is_step, steps)):
            raise InvalidValue(
                f"steps is {str(steps)[:60]!r}", expected=f"whole numbers from 1 to {STEP_LIMIT:,}, such as 1, 5, 25"
            )
        rule = cls(**{**given, "steps": tuple(steps)})
        if not _is_number(rule.success) or not 0 < rule.success <= 1:
            raise InvalidValue(f"success is {str(rule.success)[:40]!r}", expected="a share above 0, at most 1")
        if isinstance(rule.max_errors, bool) or not isinstance(rule.max_errors, int) or rule.max_errors < 1:
            raise InvalidValue(f"max_errors is {str(rule.max_errors)[:40]!r}", expected="a whole number from 1 on")
        if not _is_number(rule.timeout) or not 0 < rule.timeout <= 7 * 86_400:
            raise InvalidValue(f"timeout is {str(rule.timeout)[:40]!r}", expected="seconds above 0, at most a week")
        return rule

    def options(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "steps": list(self.steps), "success": self.success, "max_errors": self.max_errors, "timeout": self.timeout,
        }  # fmt: skip

    def parts(self, ids: Sequence[UUID]) -> list[tuple[UUID, ...]]:
        """The ids of each step, in keyset order."""
        ordered, first = sorted(ids), 0
        parts: list[tuple[UUID, ...]] = []
        while first < len(ordered):
            size = self.steps[min(len(parts), len(self.steps) - 1)]
            parts.append(tuple(ordered[first : first + size]))
            first += size
        return parts

    def why_stop(self, completed: int, failed: int, *, settled: bool) -> str:
        """Why there is no next step, of what settled since its start or last resume; empty where there may be one.

        Errors count at once, the rate once all settled.
        """
        if failed >= self.max_errors:
            return f"{text.counted(failed, 'failed job')} (the limit is {self.max_errors:,})"
        rate = completed / (completed + failed) if completed + failed else 1.0
        if settled and rate < self.success:
            return f"success {_percent(rate)} < {_percent(self.success)}"
        return ""


def _is_step(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= STEP_LIMIT


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _percent(share: float) -> str:
    return f"{math.floor(share * 1000) / 10:g} %"


# ------------------------------------------------------------------------------------------------------------- plan


def plan(store: Store, retry: Plan, options: Mapping[str, Any]) -> Plan:
    """The canary of what a retry's plan would take: its ids frozen. Raises InvalidValue, LimitExceeded, StoreError."""
    rule = Rule.of(options)
    ids = retry.ids if retry.ids is not None else _frozen(store, retry)
    first = [len(part) for part in rule.parts(ids)]
    shown = ", ".join(map(str, first[:5])) + (" …" if len(first) > 5 else "")
    effect = (
        f"retries {shown} in {text.counted(len(first), 'step')} while at least {_percent(rule.success)} of them "
        f"complete; stops at {text.counted(rule.max_errors, 'failed job')}, or when a step takes over "
        f"{duration(rule.timeout)}"
    )
    return replace(
        retry,
        kind=ActionKind.CANARY,
        ids=ids,
        count=retry.count if retry.ids is not None else len(ids),
        effect=effect if ids else retry.effect,
        options=rule.options(),
    )


def _frozen(store: Store, retry: Plan) -> tuple[UUID, ...]:
    t, where = store.tables, JobFilter.parse(retry.target)
    order = Order(kind=ActionKind.RETRY, cutoff=retry.cutoff)
    matches = conditions(where, t, now=retry.cutoff, lease_seconds=store.settings.lease_seconds) & untouched(t, order)
    states = [s for s in LEGAL[ActionKind.RETRY] if s in where.statuses()]
    with store.postgres.begin(read_only=True) as connection:
        ids = canaries.matching_ids(connection, t, matches, states, limit=CANARY_LIMIT + 1)
    if len(ids) > CANARY_LIMIT:
        raise LimitExceeded(
            f"more than {CANARY_LIMIT:,} jobs match",
            expected="a set that a canary can go through",
            next_step="narrow the filter; the rest can be retried once the canary has succeeded",
        )
    return ids


# ------------------------------------------------------------------------------------------------------------ apply


def carry_out(
    store: Store,
    journal: Journal,
    entry: Entry,
    *,
    retry: Retry,
    progress: Callable[[CanaryProgress], None] | None,
    stop: threading.Event | None,
) -> CanaryResult:
    """Go through the steps of an entered canary from where it stands; `retry` applies the plan of one step.

    Killed at any point, it goes on when it is applied or resumed: steps that were retried are only waited for. One that
    was stopped and is resumed judges by what settles from then on: who resumes it has seen what stopped it.
    """
    return _Run(store, journal, entry, retry=retry, progress=progress, stop=stop or threading.Event()).to_the_end()


class _Run:
    """One process's work on a canary."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        entry: Entry,
        *,
        retry: Retry,
        progress: Callable[[CanaryProgress], None] | None,
        stop: threading.Event,
    ) -> None:
        self.store, self.journal, self.entry = store, journal, entry
        self.retry, self.progress, self.stop = retry, progress, stop
        self.rule = Rule.of(entry.record.options)
        self.parts = self.rule.parts(entry.ids or ())
        #: Job → the generation its retry gave it, of those that have not come to anything yet.
        self.running: dict[UUID, int] = {}
        self.found = dict.fromkeys((canaries.COMPLETED, canaries.FAILED, canaries.GONE), 0)
        #: What was known when it was last stopped; whoever resumed it has seen that. A crash forgets no failure.
        self.seen: Mapping[str, Any] = {}
        self.published = True
        self._began = time.monotonic()
        self._noted = time.monotonic()

    def to_the_end(self) -> CanaryResult:
        """All steps, or until something stops it."""
        cursor = self.entry.cursor
        with self.store.postgres.begin(read_only=True) as connection:
            self.seen = audit.ending(connection, self.store.tables, self.entry.record.id)
        step = sum(1 for part in self.parts if cursor is not None and part[-1] <= cursor)
        for n in range(step):
            self._remember(n)
        while not (why := self._waited(step)) and step < len(self.parts):
            if self.stop.is_set():
                why = "on request"
                break
            self._retry(step)
            step += 1
        return self._ended(step, why)

    def _retry(self, n: int) -> None:
        record, part = self.entry.record, self.parts[n]
        done = self.retry(
            Plan(
                id=step_id(record.id, n),
                kind=ActionKind.RETRY,
                target=f"id:{part[0]}" if len(part) == 1 else text.counted(len(part), "selected job"),
                ids=part,
                cutoff=self.entry.cutoff,
                count=len(part),
                options={"canary": str(record.id), "step": n + 1},
            )
        )
        self.published &= done.published
        with self.journal.turn(self.entry) as (connection, held):
            if held.running:
                steps = [step_id(record.id, k) for k in range(n + 1)]
                canaries.add_up(connection, self.store.tables, record.id, steps, cursor=part[-1])
                self.entry = audit.held(connection, self.store.tables, record.id)
        self._remember(n)

    def _remember(self, n: int) -> None:
        with self.store.postgres.begin(read_only=True) as connection:
            self.running |= canaries.retried(
                connection, self.store.tables, step_id(self.entry.record.id, n), self.parts[n]
            )

    # ------------------------------------------------------------------------------------------------------ results

    def _waited(self, step: int) -> str:
        """Wait until every retried job has come to something; returns why there is no next step, or nothing."""
        deadline = time.monotonic() + self.rule.timeout
        while True:
            self._look()
            self._say(step)
            settled = not self.running
            completed, failed = self._anew(canaries.COMPLETED), self._anew(canaries.FAILED)
            if why := self.rule.why_stop(completed, failed, settled=settled):
                return why
            if settled:
                return ""
            if time.monotonic() >= deadline:
                return f"{len(self.running):,} still running after {duration(self.rule.timeout)}"
            if self.stop.wait(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic()))):
                self._look()
                return "on request"

    def _anew(self, word: str) -> int:
        """How many came to this since the canary was started, or was resumed last."""
        return max(0, self.found[word] - int(self.seen.get(word, 0)))

    def _look(self) -> None:
        """Ask PostgreSQL about the jobs that are still running; one that does not answer is asked again."""
        t, record = self.store.tables, self.entry.record
        if not self.running:
            return
        try:
            with self.store.postgres.begin(read_only=True) as connection:
                found = canaries.results(connection, t, self.running)
            if time.monotonic() - self._noted > NOTE_SECONDS:
                self._noted = time.monotonic()
                with self.store.postgres.begin() as connection:
                    if not canaries.still_waits(connection, t, record.id):
                        self.stop.set()  # another process has ended it
        except StoreError:
            return
        for job_id, word in found.items():
            if word != canaries.RUNNING:
                self.found[word] += 1
                del self.running[job_id]

    def _say(self, step: int) -> None:
        if self.progress is None:
            return
        record = self.entry.record
        per_second = record.done / max(time.monotonic() - self._began, 1e-6)
        left = max(0, record.planned - record.done - record.skipped)
        self.progress(
            CanaryProgress(
                id=record.id,
                planned=record.planned,
                done=record.done,
                skipped=record.skipped,
                per_second=per_second,
                eta_seconds=left / per_second if per_second else None,
                step=step,
                steps=len(self.parts),
                completed=self.found[canaries.COMPLETED],
                failed=self.found[canaries.FAILED],
                running=len(self.running),
            )
        )

    def _ended(self, step: int, why: str) -> CanaryResult:
        with self.journal.turn(self.entry) as (connection, held):
            if not held.running:
                return repeated(connection, self.store, held)
            record = held.record
            state = "stopped" if why else "done" if record.done >= record.planned else "partly"
            detail: dict[str, Any] = {**self.found, canaries.RUNNING: len(self.running), "steps": step, "why": why}
            ended = self.journal.end(
                connection, held, state=state, summary=self._summary(held, why), published=self.published, **detail
            )
        return _result(ended, detail, result(ended, published=self.published))

    def _summary(self, held: Entry, why: str) -> str:
        record, found = held.record, self.found
        parts = [f"{record.done:,} of {record.planned:,} retried"]
        parts += [f"{n:,} {word}" for word, n in found.items() if n or word == canaries.COMPLETED]
        if self.running:
            parts.append(f"{len(self.running):,} still running")
        if record.skipped:
            reasons = {**held.skipped, **({"was deleted": held.gone} if held.gone else {})}
            listed = ", ".join(
                f"{b.count:,} {b.label if b.count == 1 else text.plural(b.label)}" for b in text.breakdown(reasons)
            )
            parts.append(f"{record.skipped:,} skipped ({listed})")
        said = f"Canary: {', '.join(parts)}{f'; stopped: {why}' if why else ''}"
        return f"{said}. {text.REDIS_SILENT}." if not self.published else f"{said}."


def step_id(canary_id: UUID, n: int) -> UUID:
    """The action id of a canary's step (from 0), the same in whichever process."""
    return uuid5(canary_id, f"step {n}")


def repeated(connection: Any, store: Store, ended: Entry) -> CanaryResult:
    """What a canary that has ended did: the first result again."""
    detail = audit.ending(connection, store.tables, ended.record.id)
    return _result(ended, detail, result(ended, published=bool(detail.get("published", True)), repeated=True))


def _result(entry: Entry, detail: Mapping[str, Any], action: ActionResult) -> CanaryResult:
    return CanaryResult(
        **vars(action),
        completed=int(detail.get(canaries.COMPLETED, 0)),
        failed=int(detail.get(canaries.FAILED, 0)),
        running=int(detail.get(canaries.RUNNING, 0)),
        steps=tuple(step_id(entry.record.id, n) for n in range(int(detail.get("steps", 0)))),
        why=str(detail.get("why", "")),
    )
