"""Seven days of jobs that never ran: daily rhythm, everyday failures, one incident; `demo up` loads it once.

The same seed and end give the same rows, byte for byte. Today is busier than any day before (the sale is near): the
history ends at the rates of the live workload, so charts show no seam. Always the busy time of the day, wherever the
demo is started.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random
from typing import Any, Final
from uuid import UUID

from queuemon.contract import EXPIRY
from queuemon.demo import faults, payloads
from queuemon.demo.incident import Incident, events
from queuemon.demo.queues import ANALYTICS, BY_NAME, EMAIL, HIGH, LOW, QUEUES, WARMUP, DemoQueue
from queuemon.errors import NotAllowed
from queuemon.store import Store, demo, rollups

DAYS: Final = 7
DAY_SECONDS: Final = 86_400.0
EXPIRY_SECONDS: Final = EXPIRY.total_seconds()
#: First wait before the next attempt; doubles with each.
BACKOFF_SECONDS: Final = 2.0
#: Over this last stretch the rates rise to those of the live workload.
RAMP_SECONDS: Final = 3 * 3_600.0
#: How much busier the busiest hour is: exp(k cos) / I0(k), with a mean of 1 over the day.
_PEAK: Final = 1.0
_PEAK_MEAN: Final = 1.2660658777520084
#: Share of a working day's jobs on Saturdays and Sundays; the working days make up for it.
_WEEKEND: Final = 0.6
_WORKDAY: Final = (7 - 2 * _WEEKEND) / 5

#: Jobs that stand failed at the end: few enough that every queue is green.
STANDING: Final = {HIGH: 1, EMAIL: 3, LOW: 2, WARMUP: 1}
#: Campaign e-mails scheduled for the coming day.
SCHEDULED: Final = 24

#: Hosts of the workers that ran it.
_HOSTS: Final = {HIGH: "mail-high", EMAIL: "mail-bulk", LOW: "exports", ANALYTICS: "analytics", WARMUP: "warmup"}
#: The backlog of the pause is worked off so many times faster than it came.
CATCH_UP: Final = 16.0
_json: Final = json.JSONEncoder(separators=(",", ":")).encode
#: NULL in COPY's text format.
_NULL: Final = r"\N"

JOB_COLUMNS: Final = (
    "id",
    "queue",
    "payload",
    "status",
    "attempts",
    "created_at",
    "updated_at",
    "gen",
    "max_attempts",
    "run_at",
    "expires_at",
    "started_at",
    "finished_at",
    "heartbeat_at",
    "worker_id",
    "error_type",
    "error_message",
)
LOG_COLUMNS: Final = (
    "job_id",
    "queue",
    "kind",
    "gen",
    "attempt",
    "status",
    "worker_id",
    "started_at",
    "finished_at",
    "duration_ms",
    "error_type",
    "error_message",
    "stack_trace",
    "due_at",
)


@dataclass(kw_only=True)
class Block:
    """A stretch of history as lines of COPY's text format."""

    #: (created, line)
    jobs: list[tuple[float, str]] = field(default_factory=list)
    #: (finished, line)
    logs: list[tuple[float, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What was loaded."""

    jobs: int
    logs: int
    end: datetime


class History:
    """The rows of one seed and end; `blocks()` makes the finished past day by day, `scheduled()` what is to come."""

    def __init__(self, seed: int, end: datetime) -> None:
        self.seed = seed
        self.end = end
        self.stop = end.timestamp()
        self.incident = Incident.before(end)
        #: Jobs of the incident that the operators retried, and cleared.
        self.retried: list[str] = []
        self.cleared: list[str] = []

    def blocks(self) -> Iterator[Block]:
        """All finished jobs and their attempts, a day at a time."""
        doomed = self._doomed()
        for day in range(DAYS, 0, -1):
            block = Block()
            start, stop = self.stop - day * DAY_SECONDS, self.stop - (day - 1) * DAY_SECONDS
            for queue in QUEUES:
                rng = Random(f"{self.seed}:{queue.name}:{day}")
                for created in self._arrivals(queue, rng, start, stop):
                    self._run(block, queue, rng, created)
                for created in doomed[queue.name]:
                    if start <= created < stop:
                        self._run(block, queue, rng, created, doom=faults.draw(queue.name, rng))
            yield block

    def scheduled(self) -> list[tuple[str, float, str]]:
        """Campaign e-mails for the next hours, as (id, when due, line)."""
        rng = Random(f"{self.seed}:scheduled")
        queue = BY_NAME[EMAIL]
        made = []
        for n in range(SCHEDULED):
            created, due = self.stop - 60 * (SCHEDULED - n), self.stop + 3_600 * (1 + n % 8)
            job_id = _uuid7(created, rng)
            payload = payloads.MAKERS[EMAIL](rng, datetime.fromtimestamp(created, UTC))
            line = _job_line(job_id, queue, payload, status="waiting", created=created, updated=created, due=due)
            made.append((job_id, due, line))
        return made

    def rate(self, queue: DemoQueue, at: float) -> float:
        """Arrivals per second of a queue at a moment."""
        offset = at - self.stop
        day = (self.end + timedelta(days=round(offset / DAY_SECONDS))).weekday()
        rhythm = math.exp(_PEAK * math.cos(2 * math.pi * offset / DAY_SECONDS)) / _PEAK_MEAN
        usual = queue.history_rate * rhythm * (_WEEKEND if day >= 5 else _WORKDAY)
        ramp = max(0.0, 1 + offset / RAMP_SECONDS) ** 2
        return usual * (1 - ramp) + queue.rate * ramp

    def _arrivals(self, queue: DemoQueue, rng: Random, start: float, stop: float) -> Iterator[float]:
        at = start
        while True:
            at += rng.expovariate(1.0) / self.rate(queue, at)
            if at >= stop:
                return
            yield at

    def _doomed(self) -> dict[str, list[float]]:
        """When the jobs that still stand failed were created: the last two days, hours before the end."""
        rng = Random(f"{self.seed}:standing")
        return {
            q.name: [self.stop - 3_600 * rng.uniform(2, 40) for _ in range(STANDING.get(q.name, 0))] for q in QUEUES
        }

    def _run(
        self, block: Block, queue: DemoQueue, rng: Random, created: float, doom: faults.Fault | None = None
    ) -> None:
        """One job from its creation to its end, every attempt logged; nothing when it would end after the history."""
        payload = payloads.MAKERS[queue.name](rng, datetime.fromtimestamp(created, UTC))
        job_id = _uuid7(created, rng)
        gen, attempt, due, logs = 1, 0, created, []
        while True:
            attempt += 1
            start = self._start(queue, due + 0.004 + rng.expovariate(20.0))
            milliseconds = payloads.duration_ms(queue, payload, rng)
            finish = start + milliseconds / 1_000
            if finish >= self.stop:
                return
            worker = f"{_HOSTS[queue.name]}-{1 + int(rng.random() * queue.concurrency)}"
            hit = self.incident.hits(queue.name, payload, start)
            last = attempt == queue.max_attempts
            fault = faults.RENDERING if hit else doom
            if fault is None and not last and rng.random() < queue.failure_rate:
                fault = faults.draw(queue.name, rng)
            failure = faults.occurrence(fault, payload, rng) if fault else None
            line = _log_line(
                job_id,
                queue,
                gen=gen,
                attempt=attempt,
                worker=worker,
                due=due,
                start=start,
                finish=finish,
                milliseconds=milliseconds,
                failure=failure,
            )
            logs.append((finish, line))
            if failure is None or (last and not self._retried(queue, job_id, hit)):
                break
            gen += 1
            if last:
                attempt, due = 0, self.incident.retried + rng.random()
            else:
                due = finish + BACKOFF_SECONDS * 2 ** (attempt - 1)
        line = _job_line(
            job_id,
            queue,
            payload,
            status="failed" if failure else "completed",
            created=created,
            updated=finish,
            due=due,
            attempts=attempt,
            gen=gen,
            start=start,
            worker=worker,
            failure=failure,
        )
        block.jobs.append((created, line))
        block.logs += logs

    def _start(self, queue: DemoQueue, at: float) -> float:
        """When a worker takes a job: at once, or after the pause, first come first served."""
        start, stop = self.incident.paused
        return stop + (at - start) / CATCH_UP if queue.name == EMAIL and start <= at < stop else at

    def _retried(self, queue: DemoQueue, job_id: str, hit: bool) -> bool:
        """Whether the operators retried a job whose attempts were used up; those of the high queue they cleared."""
        if hit:
            (self.retried if queue.name == EMAIL else self.cleared).append(job_id)
        return hit and queue.name == EMAIL


def load(store: Store, seed: int, end: datetime | None = None) -> Loaded | None:
    """Load queues and the history that ends now (or at `end`), in one transaction: all of it or nothing.

    Declares the database a demo. Returns None, and does nothing, when the history is there; two at once take turns.
    Raises NotAllowed for a database that holds anything else.
    """
    at = (end or datetime.now(UTC)).replace(second=0, microsecond=0)
    history, t = History(seed, at), store.tables
    jobs = logs = 0
    with store.postgres.begin(seconds=0) as connection:
        if not demo.is_demo(connection) and demo.holds_jobs(connection, t):
            raise NotAllowed(
                "this database holds jobs or queues that are not the demo's",
                expected="an empty database",
                next_step="leave the two URLs unset, and the demo brings its own servers",
            )
        demo.mark(connection)
        if demo.state(connection, "history"):
            return None
        demo.add_queues(connection, t, [_queue_row(q) for q in QUEUES])
        demo.count_by_statement(connection)
        for block in _ahead(history.blocks()):
            demo.copy(connection, t.jobs, JOB_COLUMNS, (line for _, line in sorted(block.jobs)))
            demo.copy(connection, t.job_logs, LOG_COLUMNS, (line for _, line in sorted(block.logs)))
            jobs, logs = jobs + len(block.jobs), logs + len(block.logs)
        scheduled = history.scheduled()
        demo.copy(connection, t.jobs, JOB_COLUMNS, (line for _, _, line in scheduled))
        due = [{"job_ids": [UUID(i)], "due_at": _time(when), "created_at": at} for i, when, _ in scheduled]
        demo.insert_rows(connection, t.publications, due)

        incident, rng = history.incident, Random(f"{seed}:actions")
        chosen = [UUID(_uuid7(incident.at(m).timestamp(), rng)) for m in (26, 39, 42, 55)]
        retried, cleared = (sorted(UUID(i) for i in ids) for ids in (history.retried, history.cleared))
        actions = incident.actions(chosen, len(retried), len(cleared))
        demo.insert_rows(connection, t.deploy_marks, incident.deploys())
        demo.insert_rows(connection, t.actions, actions)
        demo.insert_rows(connection, t.action_events, events(actions))
        for action, ids in ((actions[2], retried), (actions[3], cleared)):
            demo.add_chunk(connection, t, action["id"], ids, action["finished_at"])
        demo.delete_with_copies(connection, t, chosen[3], cleared, at + timedelta(days=4))
        told = {"seed": seed, "end": at.isoformat(), "jobs": jobs + len(scheduled) - len(cleared)}
        demo.set_state(connection, "history", told)
        rollups.fold_counts(connection, t)
        demo.analyze(connection, t)
    with store.postgres.begin(seconds=0) as connection:  # attempts are folded once their transaction has committed
        rollups.fold_attempts(connection, t)
    return Loaded(jobs=jobs + len(scheduled) - len(cleared), logs=logs, end=at)


def _queue_row(queue: DemoQueue) -> dict[str, Any]:
    return {
        "name": queue.name,
        "priority": queue.priority.value,
        "target_seconds": queue.target_seconds,
        "concurrency": queue.concurrency,
        "max_attempts": queue.max_attempts,
    }


def _ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """The same blocks; the next one is made while PostgreSQL takes in this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = pool.submit(next, blocks, None)
            yield block


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _uuid7(at: float, rng: Random) -> str:
    """A time-ordered UUID (RFC 9562, version 7) of a past moment, from the seed's dice."""
    ms, bits = f"{int(at * 1000):012x}", rng.getrandbits(74)
    tail = f"{bits >> 12 | 1 << 63:016x}"
    return f"{ms[:8]}-{ms[8:]}-7{bits & 0xFFF:03x}-{tail[:4]}-{tail[4:]}"


def _job_line(
    job_id: str,
    queue: DemoQueue,
    payload: payloads.Payload,
    *,
    status: str,
    created: float,
    updated: float,
    due: float,
    attempts: int = 0,
    gen: int = 1,
    start: float | None = None,
    worker: str = _NULL,
    failure: faults.Failure | None = None,
) -> str:
    """A row of `jobs` in COPY's text format, in the order of JOB_COLUMNS."""
    made, changed, expires = _iso(created), _iso(updated), _iso(due + EXPIRY_SECONDS)
    first = made if due == created else _iso(due)
    started, finished = (_iso(start), changed) if start else (_NULL, _NULL)
    return (
        f"{job_id}\t{queue.name}\t{_json(payload)}\t{status}\t{attempts}\t{made}\t{changed}\t{gen}\t{queue.max_attempts}\t"
        f"{first}\t{expires}\t{started}\t{finished}\t{finished}\t{worker}\t{_error(failure)}\n"
    )


def _log_line(
    job_id: str,
    queue: DemoQueue,
    *,
    gen: int,
    attempt: int,
    worker: str,
    due: float,
    start: float,
    finish: float,
    milliseconds: float,
    failure: faults.Failure | None,
) -> str:
    """A row of `job_logs` in COPY's text format, in the order of LOG_COLUMNS."""
    return (
        f"{job_id}\t{queue.name}\tattempt\t{gen}\t{attempt}\t{'failed' if failure else 'completed'}\t{worker}\t"
        f"{_iso(start)}\t{_iso(finish)}\t{milliseconds:.3f}\t{_error(failure)}\t"
        f"{_escape(failure.trace) if failure else _NULL}\t{_iso(due)}\n"
    )


def _error(failure: faults.Failure | None) -> str:
    return f"{failure.error_type}\t{_escape(failure.message)}" if failure else f"{_NULL}\t{_NULL}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")


def _iso(at: float) -> str:
    """A time as PostgreSQL reads it; 2 million of them, so the minutes are remembered."""
    return f"{_minute(int(at // 60))}{at % 60:09.6f}+00"


@lru_cache(maxsize=4_096)
def _minute(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%d %H:%M:")
