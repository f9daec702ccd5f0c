"""A Workbench without stores, built from values: drives the views in unit tests and browser tests of behaviour."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from queuemon.config import Settings
from queuemon.contract import JobStatus, Priority
from queuemon.drift.aside import Quarantined
from queuemon.drift.model import CLASSES, ClassReport, DriftProgress, DriftReport, DriftWatch, Finding, WatchLine
from queuemon.errors import FilterError, InvalidValue, StoreUnavailable, UnknownAction, UnknownJob
from queuemon.model import (
    ActionKind,
    ActionProgress,
    ActionRecord,
    ActionResult,
    Attempt,
    Breakdown,
    Count,
    HalfError,
    Job,
    JobDetail,
    JobOutcome,
    JobPage,
    Pause,
    Plan,
    PostgresHalf,
    Queue,
    QueueStats,
    RedisHalf,
    RedisPlace,
    RedisQueue,
    Snapshot,
    WorkerInfo,
)
from queuemon.store.names import queue_named
from queuemon.store.timeline import Happened  # noqa: F401 (for what tests make up)
from tests.support.fake_insight import FakeInsight

#: name → (priority, active, waiting, completed in the last hour, failed, desired workers)
FIVE = {
    "email-sending:high": (Priority.HIGH, 3, 12, 4_812, 0, 4),
    "email-sending": (Priority.NORMAL, 8, 5_000, 18_233, 2, 8),
    "analytics:daily-aggregate": (Priority.NORMAL, 1, 3, 41, 12, 1),
    "warmup:process": (Priority.NORMAL, 2, 240, 1_904, 1, 2),
    "email-sending:low": (Priority.LOW, 2, 31, 733, 0, 2),
}

TRACE = """Traceback (most recent call last):
  File "/srv/app/analytics/worker.py", line 88, in run
    result = aggregate(job.payload)
  File "/srv/app/analytics/mrr.py", line 41, in monthly_recurring_revenue
    return total / customers
ZeroDivisionError: Division by zero in MRR calculation"""


def utc(seconds_ago: float = 0.0) -> datetime:
    """A time before now."""
    return datetime.now(UTC) - timedelta(seconds=seconds_ago)


def stats(name: str, **changes: Any) -> QueueStats:
    """Numbers of a queue; known names come with their usual ones, `priority`, `paused` … go to the Queue."""
    priority, active, waiting, done, failed, wanted = FIVE.get(name, (Priority.NORMAL, 0, 0, 0, 0, 1))
    of_queue = {
        "priority": priority,
        "paused": False,
        "pause_epoch": 0,
        "paused_at": None,
        "target_seconds": 300.0,
        "concurrency": wanted,
        "max_attempts": 3,
    }
    of_queue |= {key: changes.pop(key) for key in list(changes) if key in of_queue}
    values = {
        "waiting": waiting,
        "scheduled": 0,
        "active": active,
        "completed": done * 24,
        "failed": failed,
        "expired": 0,
        "completed_last_hour": done,
        "attempts_finished": 400,
        "attempts_failed": 3 * failed,
        "oldest_waiting_at": utc(90) if waiting else None,
        "workers": wanted,
        "stuck": 0,
    }
    return QueueStats(queue=Queue(name=name, **of_queue), **(values | changes))  # type: ignore[arg-type]


def worker(kind: str = "worker", home: str = "email-sending", alive: bool = True) -> WorkerInfo:
    """A process that reported itself."""
    now = utc()
    return WorkerInfo(
        id=f"{kind}-1", home=home, host="box", pid=1, started_at=now, heartbeat_at=now, kind=kind, alive=alive
    )


def postgres_half(*queues: QueueStats, workers: tuple[WorkerInfo, ...] | None = None, **changes: Any) -> PostgresHalf:
    """PostgreSQL's half; by default with a worker, a relay and a supervisor alive."""
    alive = (worker(), worker("relay"), worker("supervisor")) if workers is None else workers
    found = queues or tuple(stats(name) for name in FIVE)
    values = {"clock": utc(), "publications_due": 0, "publication_lag_seconds": 0.0}
    return PostgresHalf(queues=found, workers=alive, **(values | changes))


def snapshot(
    *queues: QueueStats, postgres: PostgresHalf | HalfError | None = None, redis: RedisHalf | HalfError | None = None
) -> Snapshot:
    """Both halves, or an error for one."""
    half = postgres or postgres_half(*queues)
    names = [q.name for q in half.queues] if isinstance(half, PostgresHalf) else []
    listed = {
        n: RedisQueue(name=n, length=stats(n).waiting, paused=None, pause_epoch=None, quarantined=0) for n in names
    }
    now = utc()
    return Snapshot(
        taken_at=now,
        postgres=half,
        redis=redis or RedisHalf(queues=listed, used_memory_bytes=1, server="fake"),
        postgres_at=now,
        redis_at=now,
        postgres_seconds=0.001,
        redis_seconds=0.001,
    )


def job(queue: str = "analytics:daily-aggregate", status: JobStatus = JobStatus.FAILED, **changes: Any) -> Job:
    """A job in some state."""
    created = utc(600)
    failed = status is JobStatus.FAILED
    values: dict[str, Any] = {
        "id": uuid4(),
        "queue": queue,
        "status": status,
        "attempts": 3 if failed else 0,
        "max_attempts": 3,
        "gen": 1,
        "created_at": created,
        "updated_at": created,
        "run_at": created,
        "expires_at": created + timedelta(hours=24),
        "started_at": utc(120) if status is not JobStatus.WAITING else None,
        "finished_at": utc(118) if status.terminal else None,
        "worker_id": "worker-1" if status is not JobStatus.WAITING else None,
        "error_type": "ZeroDivisionError" if failed else None,
        "error_message": "Division by zero in MRR calculation" if failed else None,
        "preview": '{"month": "2026-10", "customer_segment": "enterprise"}',
        "payload": {
            "month": "2026-10",
            "customer_segment": "enterprise",
            "filters": {"regions": ["eu-west", "us-east"], "min_seats": 25, "include_trials": False},
            "api_token": "canary-4711",
            "retry_of": None,
        },
    }
    return Job(**(values | changes))


def detail(found: Job) -> JobDetail:
    """A job with its attempts."""
    tries = tuple(
        Attempt(
            kind="attempt",
            gen=found.gen,
            attempt=n,
            status="failed",
            at=utc(120 - 30 * n),
            worker_id=f"worker-{n}",
            started_at=utc(122 - 30 * n),
            finished_at=utc(120 - 30 * n),
            duration_ms=1_840.0,
            error_type=found.error_type,
            error_message=found.error_message,
            stack_trace=TRACE,
        )
        for n in range(1, found.attempts + 1)
    )
    enqueued = Attempt(kind="enqueue", gen=found.gen, attempt=None, status="waiting", at=found.created_at)
    return JobDetail(job=found, attempts=(enqueued, *tries), redis=RedisPlace(where="nowhere"), clock=utc())


def drift_report(counts: dict[int, int], *, deep: bool = False, complete: bool = True) -> DriftReport:
    """A comparison that found so many of each class."""
    classes = tuple(
        ClassReport(
            number=c.number,
            title=c.title,
            unit=c.unit,
            count=(n := counts.get(c.number, 0)),
            jobs=n,
            by_queue=(Breakdown(label="email-sending", count=n),) if n else (),
            sample=(Finding(number=c.number, queue="email-sending", job_id=uuid4(), row="waiting"),) if n else (),
            repair=c.repair,
            harmless=c.claim_drops,
            looked=deep or c.number != 11,
            in_motion=0,
        )
        for c in CLASSES.values()
    )
    numbers = {"seconds": 4.2, "postgres_seconds": 1.0, "redis_seconds": 1.0, "waited_seconds": 2.0}
    return DriftReport(
        taken_at=utc(), clock=utc(), queues=tuple(FIVE), deep=deep, level="L2", classes=classes, findings=(),
        rows=5_286, elements=5_286, bytes=900_000, longest_redis_ms=1.0, complete=complete, parked=(), **numbers,
    )  # fmt: skip


class FakeWorkbench(FakeInsight):
    """Answers like a Workbench over made-up values that tests may replace at any time; counts its reads."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or Settings(profile="demo", colour="blue", embedded=True)
        self.queue_stats = {name: stats(name) for name in FIVE}
        self.jobs_of: dict[str, list[Job]] = {
            name: [job(name) for _ in range(q.failed)]
            + [job(name, JobStatus.WAITING, error_type=None, error_message=None) for _ in range(min(q.waiting, 130))]
            for name, q in self.queue_stats.items()
        }
        self.read_only_reason: str | None = None
        self.postgres_error: HalfError | None = None
        self.redis_error: HalfError | None = None
        self.records: list[ActionRecord] = []
        self.applied: list[tuple[Plan, str]] = []
        #: Jobs of a plan, and what became of the jobs of an action.
        self.planned: dict[UUID, list[UUID]] = {}
        self.became: dict[UUID, list[JobOutcome]] = {}
        self.holders: list[Pause] = []
        self.drifted: dict[int, int] = {}
        self.signs: list[WatchLine] = []
        self.aside: list[Quarantined] = []
        #: Where set, each chunk of ten jobs waits for a permit.
        self.pace: threading.Semaphore | None = None
        self.snapshots = 0
        self.delay = 0.0
        self.jitter = True
        self._random = random.Random(7)

    @property
    def read_only(self) -> bool:
        """Whether it refuses every action."""
        return self.read_only_reason is not None

    def snapshot(self) -> Snapshot:
        """The numbers now; with `jitter` a little different each time, as in life."""
        self.snapshots += 1
        time.sleep(self.delay)
        if self.jitter:
            for name, q in self.queue_stats.items():
                more = self._random.randint(0, 9)
                self.queue_stats[name] = replace(q, completed_last_hour=q.completed_last_hour + more)
        half = self.postgres_error or postgres_half(*self.queue_stats.values())
        return snapshot(postgres=half, redis=self.redis_error)

    def queue_name(self, text: str) -> str:
        """The bare name of an existing queue; raises UnknownQueue."""
        return queue_named(text, list(self.queue_stats), self.settings.keys)

    def _matching(self, where: object) -> list[Job]:
        """Understands `queue:NAME`, `status:WORD` and a word of the error, which is all that the tests ask."""
        found, words = self.all_jobs(), str(where).split(" ")
        for word in words:
            field, _, value = word.partition(":")
            value = value.strip("'\"")
            if field == "queue":
                found = [j for j in found if j.queue == value]
            elif field == "status":
                found = [j for j in found if j.status == ("active" if value == "stuck" else value)]
            elif field == "error":
                found = [j for j in found if value in (j.error_message or "")]
        return found

    def jobs(self, where: object = "", *, limit: int = 50, after: str | None = None, **_: Any) -> JobPage:
        """A page; the cursor is an index."""
        if self.postgres_error:
            raise StoreUnavailable(self.postgres_error.message, store="postgresql")
        found = self._matching(where)
        start = int(after or 0)
        end = start + limit
        return JobPage(
            jobs=tuple(found[start:end]),
            after=str(end) if end < len(found) else None,
            before=str(max(0, start - limit)) if start else None,
            filter=str(where),
            clock=utc(),
        )

    def count(self, where: object = "") -> Count:
        """How many match."""
        return Count(value=len(self._matching(where)))

    def job(self, job_id: str) -> JobDetail:
        """A job with its history."""
        for found in self.all_jobs():
            if str(found.id) == job_id:
                return detail(found)
        raise UnknownJob(f"there is no job {job_id}", expected="the id of a job that stands in `jobs`")

    def payload_paths(self, ids: Sequence[UUID]) -> tuple[tuple[str, ...], ...]:
        """Paths that stand in every payload."""
        return (("month",), ("customer", "tier"))

    def payload_values(self, ids: Sequence[UUID], paths: Sequence[Sequence[str]]) -> dict[UUID, tuple[str, ...]]:
        """The same everywhere."""
        return {job: tuple("gold" for _ in paths) for job in ids}

    def all_jobs(self) -> list[Job]:
        """Every job of every queue."""
        return [j for jobs in self.jobs_of.values() for j in jobs]

    def plan(self, kind: ActionKind | str, target: Any, **options: Any) -> Plan:
        """What would change."""
        action = ActionKind(kind)
        ids = tuple(UUID(i) for i in target) if isinstance(target, list) else None
        found = self._taken(action, target) if action.bulk or action is ActionKind.CANARY else []
        if action is ActionKind.UNDO:
            record = self.records[0] if target == "last" else self.action(target)
            target, options = str(record.id), {"of": f"{record.kind.value} {record.target}"}
            by_id = {j.id: j for j in self.all_jobs()}
            found = [by_id.get(i) or job(id=i) for i in self.planned.get(record.id, [])]
        if action is ActionKind.EDIT and "nonsense" in options["payload"]:
            raise InvalidValue("this payload makes no sense", expected="another one")
        errors = {j.error_message for j in found if j.error_message}
        made = Plan(
            id=uuid4(),
            kind=action,
            target=target if isinstance(target, str) else "",
            ids=ids,
            cutoff=utc(),
            count=len(found) if found or action.bulk else 1,
            by_queue=(Breakdown(label="queue:analytics:daily-aggregate", count=len(found)),),
            by_error=tuple(Breakdown(label=e, count=sum(j.error_message == e for j in found)) for e in sorted(errors)),
            by_age=(Breakdown(label="under 1 h", count=len(found)),),
            sample=tuple(found[:5]),
            excluded=(Breakdown(label="is running now", count=1),) if len(found) > 1 else (),
            effect=f"adds {len(found)} to the waiting" if action is ActionKind.RETRY else "",
            warnings=("a hard pause cannot stop what a worker has taken already",) if options.get("hard") else (),
            options=options,
        )
        self.planned[made.id] = [j.id for j in found]
        return made

    def _taken(self, action: ActionKind, target: Any) -> list[Job]:
        by_id = {str(j.id): j for j in self.all_jobs()}
        if isinstance(target, list):
            return [by_id[i] for i in target if i in by_id]
        if target in by_id:
            return [by_id[target]]
        if "oops" in target:
            raise FilterError("there is no field 'oops'", expected="one of queue, status, error", position=0)
        word = {ActionKind.PURGE: "waiting", ActionKind.RESCUE: "active", ActionKind.DELETE_STUCK: "active"}
        where = target if target.startswith("queue:") else f"queue:{target} status:{word.get(action, 'failed')}"
        return self._matching(where)

    def apply(
        self,
        plan: Plan,
        *,
        reason: str = "",
        progress: Callable[[Any], None] | None = None,
        stop: threading.Event | None = None,
        rate: float | None = None,
        outcomes: Callable[[Sequence[JobOutcome]], None] | None = None,
    ) -> ActionResult:
        """Do it to the made-up values."""
        self.applied.append((plan, reason))
        self.rate = rate
        self.records.insert(0, self._record(plan, reason))
        self.became[plan.id] = []
        if plan.kind in {ActionKind.PAUSE, ActionKind.RESUME, ActionKind.SCALE, ActionKind.PRIORITISE}:
            self._change_queue(plan)
            return self._ended(plan.id, f"{plan.kind.value.capitalize()}d queue:{plan.target}.")
        return self._go_on(plan.id, progress, stop)

    def resume_action(
        self,
        action_id: UUID,
        *,
        progress: Callable[[Any], None] | None = None,
        stop: threading.Event | None = None,
        rate: float | None = None,
        outcomes: Callable[[Sequence[JobOutcome]], None] | None = None,
    ) -> ActionResult:
        """Go on with what was stopped."""
        self.rate = rate
        return self._go_on(action_id, progress, stop)

    def stop_action(self, action_id: UUID | str) -> ActionRecord:
        """End what runs elsewhere, or what nobody moves on; what has ended stays as it is."""
        record = self.action(action_id)
        if record.finished_at is None:
            self._ended(record.id, f"Stopped on request. {record.done} of {record.planned}.", "stopped")
        return self.action(action_id)

    def _change_queue(self, plan: Plan) -> None:
        now, q = utc(), self.queue_stats[plan.target]
        changes: dict[str, Any] = {
            ActionKind.PAUSE: {"paused": True, "paused_at": now},
            ActionKind.RESUME: {"paused": False, "paused_at": None},
            ActionKind.SCALE: {"concurrency": plan.options.get("concurrency")},
            ActionKind.PRIORITISE: {"priority": Priority(plan.options.get("priority", "normal"))},
        }[plan.kind]
        self.queue_stats[plan.target] = replace(q, queue=replace(q.queue, **changes))
        self.holders = [h for h in self.holders if h.queue != plan.target or plan.kind is ActionKind.PAUSE]
        if plan.kind is ActionKind.PAUSE:
            hard, holder = bool(plan.options.get("hard")), plan.options.get("holder", "alex")
            held = {"since": now, "until": None, "action_id": plan.id, "hard": hard, "reason": ""}
            self.holders.append(Pause(queue=plan.target, holder=holder, **held))

    def _go_on(
        self, action_id: UUID, progress: Callable[[Any], None] | None, stop: threading.Event | None
    ) -> ActionResult:
        """Ten jobs at a time, from where it stands."""
        became, planned = self.became[action_id], self.planned[action_id]
        kind = self.action(action_id).kind
        while len(became) < len(planned):
            if self.pace is not None:
                self.pace.acquire(timeout=30)
            if stop is not None and stop.is_set():
                return self._ended(action_id, f"Stopped on request. {len(became)} of {len(planned)}.", "stopped")
            chunk = planned[len(became) : len(became) + 10]
            for name, jobs in self.jobs_of.items():
                again = {ActionKind.RETRY, ActionKind.CANARY, ActionKind.EDIT, ActionKind.RESCUE}
                self.jobs_of[name] = [
                    replace(j, status=JobStatus.WAITING, attempts=0) if j.id in chunk else j
                    for j in jobs
                    if kind in again or j.id not in chunk
                ]
            became += [JobOutcome(job_id=i, outcome="done") for i in chunk]
            self._update(action_id, done=len(became), updated_at=utc())
            if progress is not None:
                values = {"planned": len(planned), "done": len(became), "skipped": 0}
                progress(ActionProgress(id=action_id, per_second=10.0, eta_seconds=20.0, **values))
        return self._ended(action_id, f"{kind.value.capitalize()}: {len(became)} of {len(planned)}.")

    def _record(self, plan: Plan, reason: str) -> ActionRecord:
        now = utc()
        return ActionRecord(
            id=plan.id,
            kind=plan.kind,
            target=plan.target,
            actor="queuemon_operator/alex",
            reason=reason,
            state="running",
            planned=plan.count,
            done=0,
            skipped=0,
            started_at=now,
            updated_at=now,
            finished_at=None,
            options=plan.options,
            summary="",
        )

    def _update(self, action_id: UUID, **changes: Any) -> ActionRecord:
        self.records = [replace(r, **changes) if r.id == action_id else r for r in self.records]
        return self.action(action_id)

    def _ended(self, action_id: UUID, summary: str, state: str = "done") -> ActionResult:
        record = self.action(action_id)
        until = utc(-7 * 86_400) if record.kind.undoable else None
        if record.kind is ActionKind.UNDO:
            self._update(UUID(record.target), undone_by=action_id, undoable_until=None)
        record = self._update(
            action_id, state=state, summary=summary, finished_at=utc(), undoable_until=until, interrupted=False
        )
        return ActionResult(
            id=action_id,
            kind=record.kind,
            state=state,
            planned=record.planned,
            done=record.done or record.planned,
            skipped=(),
            gone=0,
            published=True,
            started_at=record.started_at,
            finished_at=utc(),
            reason=record.reason,
            summary=summary,
        )

    def action(self, action_id: UUID | str) -> ActionRecord:
        """One entry of the audit trail."""
        for record in self.records:
            if str(record.id) == str(action_id):
                return record
        raise UnknownAction(f"there is no action {action_id}", expected="the id of an action")

    def outcomes(self, action_id: UUID, *, after: UUID | None = None, limit: int = 1_000) -> tuple[JobOutcome, ...]:
        """What became of each job, in the order of the ids."""
        found = sorted(self.became.get(action_id, []), key=lambda o: o.job_id)
        return tuple(o for o in found if after is None or o.job_id > after)[:limit]

    def drift(self, *, deep: bool = False, progress: Any = None, stop: Any = None) -> DriftReport:
        """What `self.drifted` says: number → how many."""
        for done in range(len(FIVE) + 1):
            if progress is not None:
                progress(DriftProgress(phase="first look", queue="email-sending", done=done, total=len(FIVE)))
            if self.pace is not None:
                self.pace.acquire(timeout=30)
            if stop is not None and stop.is_set():
                break
        return drift_report(self.drifted, deep=deep, complete=stop is None or not stop.is_set())

    def quarantine(self, queue: str, *, limit: int = 100) -> tuple[Quarantined, ...]:
        """What `self.aside` holds."""
        return tuple(q for q in self.aside if q.queue == queue)[:limit]

    def drift_watch(self) -> FakeWorkbench:
        """Its tick is this one's."""
        return self

    def tick(self) -> DriftWatch:
        """What `self.signs` holds."""
        return DriftWatch(
            taken_at=utc(), milliseconds=1.0, average_milliseconds=1.0, ticks=1, lines=tuple(self.signs), coverage=1.0,
            rounds=1,
        )  # fmt: skip

    def pauses(self) -> tuple[Pause, ...]:
        """Who keeps which queue paused."""
        return tuple(self.holders)

    def actions(self, limit: int = 50) -> tuple[ActionRecord, ...]:
        """The audit trail."""
        return tuple(self.records[:limit])
