"""The contract with the job system: states, legal transitions, Redis keys, thresholds. Read this first.

PostgreSQL holds the durable truth; Redis holds fast dispatch that can be rebuilt from it at any moment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

#: A job that nobody processed within this time after it first fell due expires.
EXPIRY: Final = timedelta(hours=24)

#: Time to live of a job's marker in Redis.
MARKER_TTL_SECONDS: Final = 24 * 3600

#: A worker beats this often; a job whose last beat is older than the lease is stuck and taken away from its worker.
HEARTBEAT_SECONDS: Final = 5.0
LEASE_SECONDS: Final = 30.0

#: At most this many ids in one call of a Lua script (1,000 hold the Redis server for 8 ms).
SCRIPT_BATCH: Final = 250

#: Jobs in one call of the publishing script: 0.6 ms of the server's own time (250 take 1.9 ms, and as long in sum), so
#: that a server which loses its processor in mid-call is done in 10 ms more often.
PUBLISH_BATCH: Final = 100

#: Wake tokens at most: idle workers, woken needlessly, look once per token.
WAKE_TOKENS: Final = 64


class JobStatus(StrEnum):
    """The states a row of `jobs` can stand in."""

    WAITING = "waiting"  # due, or scheduled when run_at lies in the future
    ACTIVE = "active"  # a worker holds it and beats
    COMPLETED = "completed"  # terminal: done
    FAILED = "failed"  # terminal: attempts used up
    EXPIRED = "expired"  # terminal: not processed within EXPIRY

    @property
    def terminal(self) -> bool:
        """Whether the job moves again only by an operator's hand."""
        return self in TERMINAL


TERMINAL: Final = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.EXPIRED})

#: state → states the engine may move it to.
ENGINE_TRANSITIONS: Final[Mapping[JobStatus, frozenset[JobStatus]]] = {
    JobStatus.WAITING: frozenset({JobStatus.ACTIVE, JobStatus.EXPIRED}),
    JobStatus.ACTIVE: frozenset({JobStatus.COMPLETED, JobStatus.WAITING, JobStatus.FAILED}),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.EXPIRED: frozenset(),
}

#: States from which an operator may retry a job (attempts and every clock are reset), delete it, or run it now.
RETRYABLE: Final = frozenset({JobStatus.FAILED, JobStatus.EXPIRED})
DELETABLE: Final = frozenset({JobStatus.WAITING, JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.EXPIRED})


class Priority(StrEnum):
    """Order in which workers serve queues."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 is served first."""
        return {"high": 0, "normal": 1, "low": 2}[self.value]


class Health(StrEnum):
    """What the operator sees first."""

    HEALTHY = "healthy"  # green
    WARNING = "warning"  # yellow
    CRITICAL = "critical"  # red
    UNKNOWN = "unknown"  # grey: the data could not be read; never green


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The specification's limits; each is a setting with this default."""

    #: Waiting jobs from which a queue is yellow.
    warning_waiting: int = 100
    #: Waiting jobs above which a queue is red.
    critical_waiting: int = 1_000
    #: Jobs standing failed above which a queue is red.
    critical_failed: int = 10
    #: Depth above which an alert fires.
    alert_depth: int = 10_000
    #: Share of the attempts finished in the window that failed, above which an alert fires.
    alert_failure_rate: float = 0.05
    #: The window of the failure rate, in seconds.
    failure_window_seconds: int = 900
    #: Fewer finished attempts than this in the window say nothing.
    failure_minimum_sample: int = 20
    #: A pause that is older, in seconds, is taken for forgotten, and an alert fires.
    alert_pause_seconds: int = 14_400
    #: Age of the oldest publication that is due, in seconds, above which an alert fires; of all queues together.
    alert_publication_lag_seconds: int = 60


def health(waiting: int | None, failed: int | None, thresholds: Thresholds = Thresholds()) -> Health:
    """Health of a queue from its due waiting jobs and the jobs that stand failed; None means "could not be read"."""
    if waiting is None or failed is None:
        return Health.UNKNOWN
    if waiting > thresholds.critical_waiting or failed > thresholds.critical_failed:
        return Health.CRITICAL
    if waiting >= thresholds.warning_waiting:
        return Health.WARNING
    return Health.HEALTHY


# ------------------------------------------------------------------------------------------------------------ Redis


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Where everything lives in Redis: templates with `{name}`, `{id}` and `{worker}` filled in."""

    queue: str = "queue:{name}"
    marker: str = "job:{id}"
    processing: str = "queuemon:proc:{worker}:{name}"
    paused: str = "queuemon:paused:{name}"
    parked: str = "queuemon:parked:{name}"
    sifted: str = "queuemon:sifted:{name}"
    quarantine: str = "queuemon:quarantine:{name}"
    wake: str = "queuemon:wake"
    epoch: str = "queuemon:epoch"

    def queue_key(self, name: str) -> str:
        """The list of a queue."""
        return self.queue.replace("{name}", name)

    def marker_key(self, job_id: str) -> str:
        """The marker hash of a job."""
        return self.marker.replace("{id}", job_id)

    def processing_key(self, worker: str, name: str) -> str:
        """The in-hand list of a worker for a queue."""
        return self.processing.replace("{worker}", worker).replace("{name}", name)

    def paused_key(self, name: str) -> str:
        """The copy of PostgreSQL's pause flag."""
        return self.paused.replace("{name}", name)

    def parked_key(self, name: str) -> str:
        """The list of a queue while it is parked by a hard pause."""
        return self.parked.replace("{name}", name)

    def sifted_key(self, name: str) -> str:
        """What a filter has passed of a parked list while it runs; older than what is left there."""
        return self.sifted.replace("{name}", name)

    def quarantine_key(self, name: str) -> str:
        """Where unknown elements of a queue's list go."""
        return self.quarantine.replace("{name}", name)

    def display(self, name: str) -> str:
        """The queue's name as screens and exports print it."""
        return self.queue_key(name)

    def queue_name(self, text: str) -> str:
        """The queue's name from either form, `queue:email-sending` or `email-sending`."""
        prefix = self.queue.split("{name}")[0]
        return text[len(prefix) :] if prefix and text.startswith(prefix) else text


@dataclass(frozen=True, kw_only=True)
class Element:
    """What a list element says about its job; only `id` is certain."""

    id: str
    gen: int | None = None
    queue: str | None = None


def encode_element(job: Mapping[str, Any]) -> str:
    """The JSON of a list element (keys: id, gen, queue, payload, attempts, max_attempts, created_at, expires_at)."""
    return json.dumps(job, separators=(",", ":"), ensure_ascii=False, default=str)


#: How an element begins when its id comes first, and its generation second where it names one.
_HEAD: Final = re.compile(
    r'\{\s*"(?:id|jobId)"\s*:\s*(?:"([^"\\]{1,200})"|([0-9]{1,200}))\s*'
    r'(?:,\s*"gen"\s*:\s*([0-9]{1,10})\s*[,}]|,\s*"(?!gen")|\})'
)

#: The largest generation that a row can have.
_LAST_GEN: Final = 2**31 - 1


def decode_element(raw: bytes | str) -> Element | None:
    """Read a list element: our JSON, JSON with `jobId`, or a bare id; None for anything else (poison).

    The job is what counts, and its payload is read from PostgreSQL: an element that begins with its id is read by its
    first bytes where the rest is beyond a decoder (nested thousands deep, numbers of thousands of digits, cut off).
    """
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    stripped = text.strip()
    if not stripped.startswith("{"):
        return Element(id=stripped) if _looks_like_id(stripped) else None
    try:
        value = json.loads(stripped)
    except (ValueError, RecursionError):
        head = _HEAD.match(stripped)
        value = {"id": head[1] or head[2], "gen": int(head[3]) if head[3] else None} if head else None
    job_id = value.get("id", value.get("jobId")) if isinstance(value, dict) else None
    if isinstance(job_id, bool) or not isinstance(job_id, str | int):
        return None
    gen, queue = value.get("gen"), value.get("queue")
    named = isinstance(gen, int) and not isinstance(gen, bool)
    if not _looks_like_id(str(job_id)) or (named and gen > _LAST_GEN):
        return None
    return Element(id=str(job_id), gen=gen if named else None, queue=queue if isinstance(queue, str) else None)


def _looks_like_id(text: str) -> bool:
    return 0 < len(text) <= 200 and text.isprintable() and not any(c.isspace() for c in text) and text[0] not in "[{\"'"
