"""The values that travel between the stores and the surfaces: frozen, keyword-only, known by everyone, knowing no one.

Times are aware UTC datetimes. Names of queues are bare (`email-sending`); screens print them through `Keys.display`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from queuemon.contract import Health, JobStatus, Priority, Thresholds, health
from queuemon.masking import Masking

if TYPE_CHECKING:
    import pandas as pd


class Certainty(StrEnum):
    """How a number came about; screens say it wherever it is not exact."""

    EXACT = "exact"
    ESTIMATED = "estimated"
    CAPPED = "capped"  # at least this many


@dataclass(frozen=True, kw_only=True)
class Count:
    """A number and how it came about."""

    value: int
    certainty: Certainty = Certainty.EXACT

    def __str__(self) -> str:
        mark = {Certainty.EXACT: "", Certainty.ESTIMATED: "≈ ", Certainty.CAPPED: "≥ "}[self.certainty]
        return f"{mark}{self.value:,}"


# --------------------------------------------------------------------------------------------------------- queues


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A row of `job_queues`."""

    name: str
    priority: Priority
    paused: bool
    pause_epoch: int
    paused_at: datetime | None
    #: Created → finished, the promise to the users of the queue.
    target_seconds: float
    #: Worker processes meant for the queue.
    concurrency: int
    max_attempts: int


@dataclass(frozen=True, kw_only=True)
class QueueStats:
    """A queue and its numbers at one moment, from PostgreSQL."""

    queue: Queue
    #: Depth: waiting and due.
    waiting: int
    #: Waiting with run_at in the future (a schedule or a back-off), counted apart from `waiting`.
    scheduled: int
    active: int
    completed: int
    #: Jobs that stand failed now.
    failed: int
    expired: int
    completed_last_hour: int
    #: Attempts that finished, and that failed, in the failure window; None where it was not read.
    attempts_finished: int | None
    attempts_failed: int | None
    #: run_at of the oldest due waiting job.
    oldest_waiting_at: datetime | None
    #: Workers whose home this queue is and that beat within the lease.
    workers: int
    #: Active jobs without a heartbeat within the lease.
    stuck: int
    #: How `scheduled` and with it `waiting` came about (capped beyond a named bound).
    certainty: Certainty = Certainty.EXACT
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def name(self) -> str:
        """Bare name of the queue."""
        return self.queue.name

    @property
    def health(self) -> Health:
        """As the specification defines it."""
        return health(self.waiting, self.failed, self.thresholds)

    @property
    def failure_rate(self) -> float | None:
        """Share of failed attempts in the window; None below the minimum sample."""
        finished = self.attempts_finished
        if not finished or self.attempts_failed is None or finished < self.thresholds.failure_minimum_sample:
            return None
        return self.attempts_failed / finished


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """A worker process as it last reported itself."""

    id: str
    #: Queue it is meant for; it serves high-priority queues before and all others after it.
    home: str
    host: str
    pid: int
    started_at: datetime
    heartbeat_at: datetime
    #: "worker", "relay" or "supervisor".
    kind: str
    #: Beat within the lease, by PostgreSQL's clock.
    alive: bool


@dataclass(frozen=True, kw_only=True)
class PostgresHalf:
    """What PostgreSQL said, all in one statement's view of the data."""

    queues: tuple[QueueStats, ...]
    workers: tuple[WorkerInfo, ...]
    #: PostgreSQL's clock when it answered.
    clock: datetime
    #: Outbox rows that are due, and the age of the oldest: what committed but is not yet published.
    publications_due: int
    publication_lag_seconds: float


@dataclass(frozen=True, kw_only=True)
class RedisQueue:
    """A queue as Redis sees it."""

    name: str
    #: Elements in the list.
    length: int
    #: The copy of the pause flag; None where none was ever written.
    paused: bool | None
    pause_epoch: int | None
    #: Elements set aside because they meant nothing.
    quarantined: int
    #: Elements of a list that a hard pause has parked; they will be served when it ends.
    parked: int = 0

    @property
    def elements(self) -> int:
        """Elements that wait in Redis: in the list, and parked."""
        return self.length + self.parked


@dataclass(frozen=True, kw_only=True)
class RedisHalf:
    """What Redis said, in one pipeline."""

    queues: Mapping[str, RedisQueue]
    used_memory_bytes: int
    server: str


@dataclass(frozen=True, kw_only=True)
class HalfError:
    """Why a half is missing; safe to show."""

    message: str
    kind: str  # class name of the error


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Both halves at one moment; each has its own time and may fail alone."""

    taken_at: datetime
    postgres: PostgresHalf | HalfError
    redis: RedisHalf | HalfError
    postgres_at: datetime
    redis_at: datetime
    #: How long each read took.
    postgres_seconds: float
    redis_seconds: float

    @property
    def queues(self) -> tuple[QueueStats, ...]:
        """The queues' numbers; empty when PostgreSQL did not answer."""
        return self.postgres.queues if isinstance(self.postgres, PostgresHalf) else ()

    def queue(self, name: str) -> QueueStats | None:
        """One queue's numbers by its bare name."""
        return next((q for q in self.queues if q.name == name), None)

    def to_frame(self) -> pd.DataFrame:
        """One row per queue: name, priority, paused, health, waiting, scheduled, active, completed_last_hour, …"""
        import pandas as pd

        listed = self.redis.queues if isinstance(self.redis, RedisHalf) else {}
        return pd.DataFrame(
            [
                {
                    "queue": q.name,
                    "priority": q.queue.priority.value,
                    "paused": q.queue.paused,
                    "health": q.health.value,
                    "waiting": q.waiting,
                    "scheduled": q.scheduled,
                    "active": q.active,
                    "completed_last_hour": q.completed_last_hour,
                    "completed": q.completed,
                    "failed": q.failed,
                    "expired": q.expired,
                    "failure_rate": q.failure_rate,
                    "oldest_waiting_at": q.oldest_waiting_at,
                    "workers": q.workers,
                    "concurrency": q.queue.concurrency,
                    "in_redis": listed[q.name].elements if q.name in listed else None,
                }
                for q in self.queues
            ]
        )


# ----------------------------------------------------------------------------------------------------------- jobs


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row of `jobs`. In lists `payload` is None and `preview` holds its first characters, secrets masked."""

    id: UUID
    queue: str
    status: JobStatus
    attempts: int
    max_attempts: int
    gen: int
    created_at: datetime
    updated_at: datetime
    run_at: datetime
    expires_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    heartbeat_at: datetime | None = None
    worker_id: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    preview: str = ""
    #: Not in the repr: it would stand, unmasked, in what a notebook keeps of a cell.
    payload: Any = field(default=None, repr=False)

    def state_at(self, now: datetime) -> str:
        """The word the screens show: like `status`, but "scheduled" when it waits for a later time."""
        return "scheduled" if self.status is JobStatus.WAITING and self.run_at > now else self.status.value


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a job, or an event in its life (enqueue, retry, move, delete, expire, lease lost)."""

    #: "attempt" or the name of the event.
    kind: str
    gen: int
    attempt: int | None
    #: completed, failed; for events what happened.
    status: str
    at: datetime
    worker_id: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: float | None = None
    error_type: str | None = None
    error_message: str | None = None
    stack_trace: str | None = None
    signature: str | None = None
    action_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class RedisPlace:
    """Where a job was found in Redis; a hint, since elements move while one looks."""

    #: "list", "parked" (in the list of a hard pause), "in hand", "quarantine" (set aside: no worker takes it),
    #: "nowhere", "unknown" (Redis away, or not found within the bound).
    where: str
    #: Position from the pop end, 0 is next; None when not in a list or beyond the bound.
    position: int | None = None
    marker_gen: int | None = None
    worker_id: str | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class JobDetail:
    """A job with its whole history and its place in Redis."""

    job: Job
    #: Oldest first.
    attempts: tuple[Attempt, ...]
    redis: RedisPlace
    clock: datetime
    #: What of the payload is hidden wherever it is shown; `job.payload` itself holds everything.
    masking: Masking = field(default=Masking(), repr=False)

    @property
    def no_history(self) -> str:
        """Why there is no history, in words; empty where there is one."""
        if self.attempts:
            return ""
        return "No attempt yet." if not self.job.attempts else "No record of its attempts: purged, or never written."

    def to_frame(self) -> pd.DataFrame:
        """One row per attempt or event."""
        return _frame(self.attempts)


@dataclass(frozen=True, kw_only=True)
class JobPage:
    """A page of jobs in keyset order, newest first by default."""

    jobs: tuple[Job, ...]
    #: Cursors for the neighbouring pages; None where there is none.
    after: str | None
    before: str | None
    #: The filter in canonical text.
    filter: str
    #: PostgreSQL's clock: what "scheduled" and ages are measured against.
    clock: datetime

    def to_frame(self) -> pd.DataFrame:
        """One row per job."""
        return _frame(self.jobs)


@dataclass(frozen=True, kw_only=True)
class TrendPoint:
    """One bucket of time of one queue."""

    at: datetime
    arrived: int
    completed: int
    #: Attempts that failed (a job that fails three times counts three times).
    failed: int


@dataclass(frozen=True, kw_only=True)
class Trend:
    """What came in and went out of a queue (or all of them) over time; buckets without events are present as zeros."""

    queue: str | None
    bucket_seconds: int
    points: tuple[TrendPoint, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per bucket."""
        return _frame(self.points)


# -------------------------------------------------------------------------------------------------------- actions


class ActionKind(StrEnum):
    """What an operator can do."""

    RETRY = "retry"
    DELETE = "delete"
    CLEAR_FAILED = "clear-failed"
    RUN_NOW = "run-now"
    PURGE = "purge"  # delete what waits
    MOVE = "move"  # to another queue
    EDIT = "edit"  # one job's payload, and retry
    RESCUE = "rescue"  # take stuck jobs from workers that stopped beating
    DELETE_STUCK = "delete-stuck"
    ERASE = "erase"  # delete without a copy, and the copies that are kept
    PAUSE = "pause"
    RESUME = "resume"
    PRIORITISE = "prioritise"
    SCALE = "scale"
    UNDO = "undo"  # of an earlier action
    CANARY = "canary"  # retry a few, look, then more
    REPAIR = "repair"  # drift between the stores
    ADOPT = "adopt"  # make a job of a quarantined element
    REVEAL = "reveal"  # look at what is masked in a payload

    @property
    def bulk(self) -> bool:
        """Whether it acts on jobs named by a filter or their ids."""
        return self in _BULK

    @property
    def removes(self) -> bool:
        """Whether its jobs no longer exist afterwards."""
        return self in _REMOVES

    @property
    def destructive(self) -> bool:
        """Whether the confirmation asks for the typed count."""
        return self in _REMOVES

    @property
    def undoable(self) -> bool:
        """Whether `undo` can take it back."""
        return self in _UNDOABLE


_REMOVES: Final = frozenset(
    {ActionKind.DELETE, ActionKind.CLEAR_FAILED, ActionKind.PURGE, ActionKind.DELETE_STUCK, ActionKind.ERASE}
)
_BULK: Final = _REMOVES | {ActionKind.RETRY, ActionKind.RUN_NOW, ActionKind.MOVE, ActionKind.EDIT, ActionKind.RESCUE}
_UNDOABLE: Final = (_REMOVES - {ActionKind.ERASE}) | {
    ActionKind.RETRY, ActionKind.MOVE, ActionKind.EDIT,
    ActionKind.PAUSE, ActionKind.RESUME, ActionKind.PRIORITISE, ActionKind.SCALE,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """How many of the plan's jobs share a value."""

    label: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an action would do: made by reading alone, shown for confirmation, handed to `apply` unchanged."""

    #: Chosen before the first statement; applying the same id again changes nothing and returns the first result.
    id: UUID
    kind: ActionKind
    #: Canonical filter for bulk actions; the queue's name otherwise.
    target: str
    #: A selection freezes ids; a filter freezes count and cutoff.
    ids: tuple[UUID, ...] | None
    #: Only what existed before this moment is touched.
    cutoff: datetime
    #: Exactly how many jobs would change (1 for a queue action).
    count: int
    certainty: Certainty = Certainty.EXACT
    by_queue: tuple[Breakdown, ...] = ()
    by_error: tuple[Breakdown, ...] = ()
    by_age: tuple[Breakdown, ...] = ()
    #: A few of the jobs.
    sample: tuple[Job, ...] = ()
    #: What matches but would not be touched, and why.
    excluded: tuple[Breakdown, ...] = ()
    #: Effect in words: "adds 12 to the 3 waiting in queue:analytics:daily-aggregate".
    effect: str = ""
    #: Warnings the operator must see ("nobody consumes this queue").
    warnings: tuple[str, ...] = ()
    #: Parameters of the kind: priority, concurrency, until, …
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """The breakdowns, one row each."""
        import pandas as pd

        rows = [
            {"by": by, "label": b.label, "count": b.count}
            for by, group in (("queue", self.by_queue), ("error", self.by_error), ("age", self.by_age))
            for b in group
        ]
        rows += [{"by": "excluded", "label": b.label, "count": b.count} for b in self.excluded]
        return pd.DataFrame(rows, columns=["by", "label", "count"])


@dataclass(frozen=True, kw_only=True)
class ActionResult:
    """What an action did."""

    id: UUID
    kind: ActionKind
    #: "done", "partly", "stopped", "refused".
    state: str
    planned: int
    done: int
    #: reason → number ("is running again" → 3, "was deleted" → 2).
    skipped: tuple[Breakdown, ...]
    #: Selected ids that no longer exist.
    gone: int
    #: Whether everything committed is also published; False means the relay finishes it.
    published: bool
    started_at: datetime
    finished_at: datetime
    reason: str
    #: One sentence for the operator.
    summary: str
    #: True when this id had been applied before and nothing was done now.
    repeated: bool = False
    #: What a scale_command printed; foreign text.
    output: str = ""

    def to_frame(self) -> pd.DataFrame:
        """One row per outcome."""
        import pandas as pd

        rows = [{"outcome": "done", "why": "", "count": self.done}]
        rows += [{"outcome": "skipped", "why": b.label, "count": b.count} for b in self.skipped]
        rows += [{"outcome": "gone", "why": "no longer exists", "count": self.gone}]
        return pd.DataFrame(rows)


@dataclass(frozen=True, kw_only=True)
class ActionProgress:
    """How far a running action is."""

    id: UUID
    planned: int
    done: int
    skipped: int
    per_second: float
    eta_seconds: float | None
    #: What slows it down, and how it goes on meanwhile; empty at full speed.
    slowed: str = ""


@dataclass(frozen=True, kw_only=True)
class CanaryProgress(ActionProgress):
    """How far a canary is: `done` were retried; what became of them."""

    #: The step under way, from 1, and how many there are when none fails.
    step: int
    steps: int
    completed: int
    failed: int
    #: Retried, and neither completed nor failed yet.
    running: int


@dataclass(frozen=True, kw_only=True)
class CanaryResult(ActionResult):
    """What a canary did and found: `done` were retried, step by step, while those before them completed.

    `state` is "done" (all were retried), "partly" (some could not be), "stopped" (`why` says what stopped it).
    """

    #: What became of the retried jobs; "failed" counts those that expired too.
    completed: int
    failed: int
    #: Neither completed nor failed when it ended.
    running: int
    #: The retries it made, each an action of its own that can be undone.
    steps: tuple[UUID, ...]
    #: What stopped it; empty when nothing did.
    why: str = ""

    @property
    def success_rate(self) -> float | None:
        """Completed among those that completed or failed; None where none has."""
        settled = self.completed + self.failed
        return self.completed / settled if settled else None


@dataclass(frozen=True, kw_only=True)
class ActionRecord:
    """A row of the audit trail."""

    id: UUID
    kind: ActionKind
    target: str
    #: PostgreSQL role and OS user.
    actor: str
    reason: str
    state: str
    planned: int
    done: int
    skipped: int
    started_at: datetime
    #: When its last chunk committed.
    updated_at: datetime
    finished_at: datetime | None
    options: Mapping[str, Any]
    summary: str
    #: The action that this one took back.
    undo_of: UUID | None = None
    #: The action that took this one back.
    undone_by: UUID | None = None
    #: Until when it can be undone; None where it cannot (any more).
    undoable_until: datetime | None = None
    #: Says "running", but nobody has moved it on for a while: `resume_action` finishes it.
    interrupted: bool = False


@dataclass(frozen=True, kw_only=True)
class JobOutcome:
    """What an action did to one job."""

    job_id: UUID
    #: "done", "skipped", "gone" (of a selection: it no longer existed).
    outcome: str
    #: Why it was skipped.
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Someone who keeps a queue paused; it is paused while anyone does."""

    queue: str
    holder: str
    reason: str
    since: datetime
    #: When the holder lets go by itself.
    until: datetime | None
    #: The action that paused it, where one did.
    action_id: UUID | None
    #: The list is parked too, for workers that ignore the flag.
    hard: bool = False


@dataclass(frozen=True, kw_only=True)
class WorkerLevel:
    """How disciplined the workers at hand are, as far as the stores show it."""

    #: "L0" (take and update by id), "L1" (claim), "L2" (ours: claim, hold, beat, fence); "" where it is not known.
    level: str
    #: What the profile says (`worker_level`); "" where it says nothing.
    stated: str
    #: What was seen, in sentences; the last one says what decided.
    evidence: tuple[str, ...]
    #: What queuemon promises at the assumed level.
    promise: str

    @property
    def assumed(self) -> str:
        """What repairs go by: L0 where nothing is known."""
        return self.known or "L0"

    @property
    def known(self) -> str:
        """The lower of what was seen and what the profile states; "" where neither is known."""
        return min((word for word in (self.level, self.stated) if word), default="")

    @property
    def contradicted(self) -> bool:
        """Whether less was seen than the profile states."""
        return bool(self.level and self.stated) and self.level < self.stated


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of `queuemon doctor`."""

    name: str
    #: "ok", "warn", "fail".
    state: str
    found: str
    next_step: str = ""


def _frame(values: Sequence[Any]) -> pd.DataFrame:
    """A frame with one row per frozen value and one column per field."""
    from dataclasses import fields

    import pandas as pd

    if not values:
        return pd.DataFrame()
    names = [f.name for f in fields(values[0])]
    return pd.DataFrame([{n: getattr(v, n) for n in names} for v in values], columns=names)
