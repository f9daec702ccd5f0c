"""What the dashboard shows, as traits that know no widget: strip, queue rows, activity, the last result.

Fed with values by the poller and the actions; mirrored to the page by `dashboard.py`; tested without a browser.
Every trait holds plain JSON and is replaced whole, so an unchanged value sends nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any, Final
from uuid import UUID

from traitlets import Dict, HasTraits, List

from queuemon.config import Settings
from queuemon.contract import Health
from queuemon.model import (
    ActionRecord,
    ActionResult,
    HalfError,
    Pause,
    PostgresHalf,
    QueueStats,
    RedisHalf,
    Snapshot,
    WorkerInfo,
)
from queuemon.render.text import clean, percent
from queuemon.views.audit import fate
from queuemon.views.backlogs import Backlogs
from queuemon.views.runs import how_far, share, subject

#: Seconds between refreshes that can be chosen; 0 is off.
INTERVALS: Final = (1, 2, 5, 15, 30, 0)

#: Missed refreshes after which the age of the data turns amber.
MISSED: Final = 2

#: Holders of a pause that are shown.
HOLDERS: Final = 8

#: A publication that is due for longer than this means that nobody publishes.
LATE_PUBLICATION_SECONDS: Final = 10.0

#: What moves in a row with any refresh; the rest goes to the page when it changes, which is seldom.
MOVING: Final = (
    "active", "waiting", "done", "failed", "workers", "scheduled", "oldest", "target", "listed", "rate", "trail",
    "most", "minutes", "pace", "clears",
)  # fmt: skip

#: In few words, and as a sentence.
NOBODY_CONSUMES: Final = ("nobody consumes it", "Nobody consumes this queue: no worker is alive.")


class Board(HasTraits):
    """Everything but the details of one queue."""

    #: Badge, age, totals, the two stores, notices.
    strip = Dict()
    #: One entry per queue, in the order of urgency.
    rows: List[Any] = List()
    #: Operator actions, newest first.
    activity: List[Any] = List()
    #: The last outcome, for the snackbar.
    toast = Dict()

    def __init__(self, settings: Settings, *, interval: float = 5.0) -> None:
        super().__init__()
        self.settings = settings
        self.interval = interval
        #: The last snapshot, whatever its halves say.
        self.snapshot: Snapshot | None = None
        self._lock = threading.RLock()
        self._numbers = count(1)
        self._postgres: tuple[PostgresHalf, datetime] | None = None
        self._redis: tuple[RedisHalf, datetime] | None = None
        self._errors: dict[str, str] = {}
        self._read_only = settings.read_only_reason or ""
        self._snapshots = 0
        self._interrupted: list[dict[str, str]] = []
        self._pauses: tuple[Pause, ...] = ()
        #: Whether the audit trail has been read: nobody has acted, or nobody knows.
        self._audited = False
        self._backlogs = Backlogs()
        self.strip = self._strip()

    # ------------------------------------------------------------------------------------------------- updates in

    def accept(self, snapshot: Snapshot) -> None:
        """Take a snapshot in; a half that failed leaves its last values and says why."""
        with self._lock:
            self._snapshots += 1
            self.snapshot = snapshot
            if isinstance(snapshot.postgres, PostgresHalf):
                self._postgres = (snapshot.postgres, snapshot.postgres_at)
                self._backlogs.look(snapshot.postgres.clock, snapshot.postgres.queues)
            if isinstance(snapshot.redis, RedisHalf):
                self._redis = (snapshot.redis, snapshot.redis_at)
            halves = (("postgres", snapshot.postgres), ("redis", snapshot.redis))
            self._errors = {n: clean(h.message, 600) for n, h in halves if isinstance(h, HalfError)}
            self.rows = self._rows()
            self.strip = self._strip()

    def accept_activity(self, records: Sequence[ActionRecord]) -> None:
        """Take the audit trail in."""
        with self._lock:
            self.activity = [activity_row(record, self.settings) for record in records]
            self._interrupted = [interrupted_notice(r, self.settings) for r in records if r.interrupted]
            if self.strip["interrupted"] != self._interrupted or not self._audited:
                self._audited = True
                self.strip = self._strip()

    def accept_pauses(self, pauses: Sequence[Pause]) -> None:
        """Take in who keeps which queue paused."""
        with self._lock:
            if self._pauses != tuple(pauses):
                self._pauses = tuple(pauses)
                self.rows = self._rows()

    @property
    def paused(self) -> bool:
        """Whether any queue is paused, as far as is known."""
        return bool(self._pauses) or any(row.get("paused") for row in self.rows)

    def set_interval(self, seconds: float) -> None:
        """Another time between refreshes; one of INTERVALS."""
        with self._lock:
            self.interval = seconds if seconds in INTERVALS else 5.0
            self.strip = self._strip()

    def set_read_only(self, reason: str | None) -> None:
        """Why nothing may be changed; None when it may."""
        with self._lock:
            self._read_only = clean(reason or "")
            self.strip = self._strip()

    def announce(self, text: str, tone: str = "good", **more: Any) -> None:
        """Say something in the snackbar; tone is good, partly or bad."""
        self.toast = {"id": next(self._numbers), "text": clean(text, 600), "tone": tone, **more}

    def announce_result(self, result: ActionResult) -> None:
        """Say what an action did; with the way back or on, where the audit trail says that there is one."""
        late = "" if result.published else " The relay finishes publishing it."
        self._announce_action(result.id, f"{result.summary}{late}", result.state)

    def announce_stop(self, record: ActionRecord) -> None:
        """Say how far an action came that was to be stopped; one that had ended by then is said to have."""
        late = "" if record.state == "stopped" else f"It had ended already ({record.state}): nothing was stopped. "
        self._announce_action(record.id, f"{late}{record.summary}", record.state)

    def _announce_action(self, action_id: UUID, text: str, state: str) -> None:
        tone = {"done": "good", "refused": "bad"}.get(state, "partly")
        row: dict[str, Any] = next((r for r in self.activity if r["id"] == str(action_id)), {})
        ways: dict[str, Any] = {"action": row["id"]} if row else {}
        if "undoUntil" in row:
            ways |= {"undo": row["id"], "undoUntil": row["undoUntil"]}
        if "resumable" in row:
            ways["resume"] = row["id"]
        self.announce(text, tone, **ways)

    # ------------------------------------------------------------------------------------------------ derived

    def queue(self, name: str) -> QueueStats | None:
        """The last known numbers of a queue."""
        half = self._postgres
        return next((q for q in half[0].queues if q.name == name), None) if half else None

    def _rows(self) -> list[dict[str, Any]]:
        if self._postgres is None:
            return []
        half = self._postgres[0]
        alive = [w for w in half.workers if w.alive]
        held: dict[str, list[dict[str, Any]]] = {}
        for pause in self._pauses:
            held.setdefault(pause.queue, []).append(holder_values(pause))
        redis = self._redis and self._redis[0]
        return [
            queue_row(q, alive, redis, self.settings, held.get(q.name, [])) | self._backlogs.of(q.name)
            for q in half.queues
        ]

    def _strip(self) -> dict[str, Any]:
        half = self._postgres[0] if self._postgres else None
        return {
            "profile": clean(self.settings.profile, 40),
            "colour": self.settings.colour,
            "embedded": self.settings.embedded,
            "readOnly": self._read_only,
            "interval": self.interval,
            "amberAfter": MISSED * self.interval + 1 if self.interval else 0,
            "snapshots": self._snapshots,
            "postgres": self._half("postgres", self._postgres),
            "redis": self._half("redis", self._redis),
            "clock": half.clock.timestamp() if half else None,
            "totals": totals(half.queues) if half else None,
            "notices": notices(half) if half else [],
            "interrupted": self._interrupted,
            "audited": self._audited,
        }

    def _half(self, name: str, last: tuple[Any, datetime] | None) -> dict[str, Any]:
        return {"at": last[1].timestamp() if last else None, "error": self._errors.get(name, "")}


# ------------------------------------------------------------------------------------------- values into plain JSON


def parted(
    rows: Sequence[Mapping[str, Any]], places: dict[str, int]
) -> tuple[list[dict[str, Any]], list[dict[str, int] | list[Any] | None]]:
    """Rows without what moves, and that alone: a list for each, in the order that the first entry names.

    `at` in a row is where its numbers stand. `places` remembers that for each queue, so that neither list depends on
    the order of the other; the place of a queue that has gone is free for another from the next time on.
    """
    taken = set(places.values())
    free = (n for n in count(1) if n not in taken)
    for row in rows:
        if row["name"] not in places:
            places[row["name"]] = next(free)
    numbers: list[dict[str, int] | list[Any] | None] = [None] * (max(places.values(), default=0) + 1)
    numbers[0] = {key: n for n, key in enumerate(MOVING)}
    for row in rows:
        numbers[places[row["name"]]] = [row.get(key) for key in MOVING]
    for gone in places.keys() - {row["name"] for row in rows}:
        del places[gone]
    return [{k: v for k, v in r.items() if k not in MOVING} | {"at": places[r["name"]]} for r in rows], numbers


def queue_row(
    q: QueueStats,
    alive: Sequence[WorkerInfo],
    redis: RedisHalf | None,
    settings: Settings,
    held: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """One row of the queue table. Times are seconds since 1970 by PostgreSQL's clock."""
    listed = redis.queues.get(q.name) if redis else None
    row: dict[str, Any] = {
        "name": q.name,
        "title": clean(settings.keys.display(q.name), 200),
        "health": q.health.value,
        "priority": q.queue.priority.value,
        "active": q.active,
        "waiting": q.waiting,
        "done": q.completed_last_hour,
        "failed": q.failed,
        "workers": q.workers,
        "wanted": q.queue.concurrency,
    }
    optional: dict[str, Any] = {
        "paused": q.queue.paused,
        "held": list(held[:HOLDERS]) if q.queue.paused else None,
        "hard": q.queue.paused and any(h["hard"] for h in held),
        "scheduled": q.scheduled,
        "oldest": q.oldest_waiting_at.timestamp() if q.oldest_waiting_at else None,
        "target": q.queue.target_seconds if q.oldest_waiting_at else None,
        "listed": listed.elements if listed and listed.elements != q.waiting else None,
        "parked": listed.parked if listed else None,
        "rate": percent(q.failure_rate) if q.failure_rate else None,
        "stuck": q.stuck,
        "hot": hot_cells(q),
        "warn": row_warnings(q, alive, settings),
    }
    return row | {key: value for key, value in optional.items() if value}


def holder_values(pause: Pause) -> dict[str, Any]:
    """Someone who keeps a queue paused."""
    return {
        "holder": clean(pause.holder, 80),
        "name": pause.holder,
        "reason": clean(pause.reason, 200),
        "since": pause.since.timestamp(),
        "until": pause.until.timestamp() if pause.until else None,
        "hard": pause.hard,
    }


def hot_cells(q: QueueStats) -> dict[str, str]:
    """The numbers that made the queue yellow or red, with their colour."""
    found = {}
    if q.waiting >= q.thresholds.warning_waiting:
        found["waiting"] = "qm-red" if q.waiting > q.thresholds.critical_waiting else "qm-amber"
    if q.failed > q.thresholds.critical_failed:
        found["failed"] = "qm-red"
    return found


def row_warnings(q: QueueStats, alive: Sequence[WorkerInfo], settings: Settings) -> list[tuple[str, str]]:
    """What the operator must know about a queue beside its numbers: in few words, and as a sentence."""
    found = []
    kinds = {w.kind for w in alive}
    if q.waiting and not q.queue.paused and "worker" not in kinds:
        found.append(NOBODY_CONSUMES)
    if q.stuck:
        text = (
            f"{q.stuck:,} active without a heartbeat: their workers are gone. A relay gives them back; or rescue them."
        )
        found.append((f"{q.stuck:,} stuck", text))
    if q.workers != q.queue.concurrency and "supervisor" not in kinds and not settings.scale_command:
        text = (
            f"{q.queue.concurrency} workers are wanted and {q.workers} run, but no supervisor follows: "
            "run `queuemon worker --supervise`, or set scale_command."
        )
        found.append(("no supervisor", text))
    return found


def totals(queues: Sequence[QueueStats]) -> dict[str, int]:
    """Sums over all queues, and how many stand in each health."""
    found = {
        "queues": len(queues),
        "active": sum(q.active for q in queues),
        "waiting": sum(q.waiting for q in queues),
        "done": sum(q.completed_last_hour for q in queues),
        "failed": sum(q.failed for q in queues),
        "paused": sum(q.queue.paused for q in queues),
    }
    return found | {h.value: sum(q.health is h for q in queues) for h in Health}


def notices(half: PostgresHalf) -> list[str]:
    """What is wrong with the system as a whole."""
    relay = any(w.alive and w.kind == "relay" for w in half.workers)
    if half.publications_due and not relay and half.publication_lag_seconds > LATE_PUBLICATION_SECONDS:
        return [
            f"Nobody publishes: {half.publications_due:,} publications are due and no relay is alive. "
            "Run `queuemon relay`."
        ]
    return []


def activity_row(record: ActionRecord, settings: Settings) -> dict[str, Any]:
    """One line of the activity list."""
    row = {
        "id": str(record.id),
        "at": record.started_at.timestamp(),
        "kind": record.kind.value,
        "target": subject(record, settings.keys),
        "actor": clean(record.actor, 80),
        "reason": clean(record.reason),
        "state": clean(record.state, 40),
        "summary": clean(record.summary, 400),
    }
    if record.finished_at is None:
        row |= {"share": share(record.done + record.skipped, record.planned), "far": how_far(record)}
    return row | fate(record)


def interrupted_notice(record: ActionRecord, settings: Settings) -> dict[str, str]:
    """What the strip says of an action that nobody moves on."""
    text = (
        f"An action was interrupted: {record.kind.value} of {subject(record, settings.keys)} came to {how_far(record)}."
    )
    return {"id": str(record.id), "text": text}


def as_text(value: Mapping[str, Any], key: str) -> str:
    """A text field of an event of the page; anything else counts as empty."""
    found = value.get(key)
    return found if isinstance(found, str) else ""
