"""The alerts that stand, as the page shows them: the same rules as `queuemon alerts watch`; knows no widget."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from traitlets import HasTraits, List

from queuemon.alerting.rules import Seen, hits
from queuemon.alerting.standing import Alert, advance
from queuemon.alerting.watch import in_order
from queuemon.config import Settings
from queuemon.drift.model import DriftWatch
from queuemon.model import Snapshot
from queuemon.render.text import clean


class Alerts(HasTraits):
    """What fires, and what will when it lasts, while the page is open; what watches all the time pages somebody."""

    alerts: List[Any] = List()

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._thresholds = settings.thresholds
        self._standing: Mapping[str, Alert] = {}

    def look(self, snapshot: Snapshot, drift: DriftWatch | None) -> None:
        """With every refresh, from one thread."""
        seen = Seen(snapshot=snapshot, drift=drift, thresholds=self._thresholds)
        self._standing = advance(self._standing, hits(seen), datetime.now(UTC)).standing
        firing = [alert for alert in self._standing.values() if alert.firing]
        pending = [alert for alert in self._standing.values() if not alert.firing]
        self.alerts = [alert_values(alert) for alert in (*in_order(firing), *in_order(pending))]


def alert_values(alert: Alert) -> dict[str, Any]:
    """An alert as the page takes it; every text is plain."""
    rule = alert.rule
    return {
        "key": alert.key,
        "name": rule.name,
        "severity": rule.severity.value,
        "firing": alert.firing,
        "since": alert.since.timestamp(),
        "after": rule.for_seconds,
        "summary": clean(alert.summary, 300),
        "description": clean(alert.description, 600),
        "queue": alert.labels.get("queue", ""),
        "runbook": rule.runbook,
        "parameter": rule.parameter,
        "command": clean(alert.command, 400),
    }
