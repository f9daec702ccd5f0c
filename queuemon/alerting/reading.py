"""What one scrape or one look of the alerts is made of; read once, however many ask."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from queuemon.alerting.rules import Seen
from queuemon.contract import Thresholds
from queuemon.drift.model import DriftWatch
from queuemon.errors import QueuemonError
from queuemon.model import HalfError, PostgresHalf, Snapshot
from queuemon.store import totals, trail_counts
from queuemon.store.bounds import Bound
from queuemon.store.totals import Totals
from queuemon.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The numbers of one moment."""

    snapshot: Snapshot
    #: Queue → its totals; None where PostgreSQL did not tell.
    totals: Mapping[str, Totals] | None
    #: (kind, state) → actions in the audit trail; None where PostgreSQL did not tell.
    actions: Mapping[tuple[str, str], int] | None
    #: The continuous look for drift; None where it is not asked for.
    drift: DriftWatch | None
    #: Seconds that reading all of it took.
    seconds: float
    #: `time.monotonic()` when it was read.
    read_at: float
    #: What holds where no queue has thresholds of its own.
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def postgres(self) -> PostgresHalf | None:
        """PostgreSQL's half, where everything of it was read."""
        half = self.snapshot.postgres
        return None if isinstance(half, HalfError) or self.totals is None else half


#: Seconds that one statement may take, whatever the settings allow: a scrape must answer within Prometheus' 10 s, and
#: a store that says nothing costs one statement.
STATEMENT_SECONDS: Final = 5.0


class Reader:
    """Reads from a workbench; safe to share between threads. Nothing raises for a store that is away, and nobody waits
    for it twice: what was asked of it next is left out."""

    def __init__(self, workbench: Workbench, *, drift: bool = True) -> None:
        self._workbench = workbench
        self._watch = workbench.drift_watch() if drift else None

    def read(self) -> Reading:
        """Read everything now, in as many statements however many jobs there are (`python -m bench scrape`)."""
        started = time.monotonic()
        store = self._workbench.store
        with Bound(STATEMENT_SECONDS).held():
            snapshot = store.snapshot()
            kept = actions = drift = None
            if not isinstance(snapshot.postgres, HalfError):
                try:
                    with store.postgres.begin(read_only=True) as connection:
                        kept = totals.totals(connection, store.tables)
                        actions = trail_counts.actions_by_state(connection, store.tables)
                except QueuemonError:
                    kept = actions = None  # one store, one answer: `queuemon_up` says that it is not whole
            if kept is not None:
                drift = self._drift(snapshot)
        now = time.monotonic()
        return Reading(
            snapshot=snapshot, totals=kept, actions=actions, drift=drift, thresholds=store.settings.thresholds,
            seconds=now - started, read_at=now,
        )  # fmt: skip

    def seen(self) -> Seen:
        """Read what the rules are asked about: the snapshot and, where it is asked for, the look for drift."""
        store = self._workbench.store
        with Bound(STATEMENT_SECONDS).held():
            snapshot = store.snapshot()
            drift = self._drift(snapshot)
        return Seen(snapshot=snapshot, drift=drift, thresholds=store.settings.thresholds)

    def _drift(self, snapshot: Snapshot) -> DriftWatch | None:
        """The look for drift, which needs both stores; None where one is away, or nobody asks for it."""
        whole = not isinstance(snapshot.postgres, HalfError) and not isinstance(snapshot.redis, HalfError)
        return self._watch.tick() if self._watch is not None and whole else None


class Shared:
    """One reading for all who ask within `seconds`: the first one reads, the others wait for it."""

    def __init__(self, read: Callable[[], Reading], *, seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._lock = threading.Lock()
        self._last: Reading | None = None
        #: How often the stores were read.
        self.reads = 0

    def get(self) -> Reading:
        """A reading at most `seconds` old."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last.read_at >= self._seconds:
                self._last = self._read()
                self.reads += 1
            return self._last
