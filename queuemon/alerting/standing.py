"""Which alerts stand: from what holds now to what is pending, firing and over; values in, values out.

The life of an alert is that of Prometheus' rules: pending while its condition has held for less than `for_seconds`,
then firing until it has not held for `keep_seconds`. What could not be read changes nothing: absent is not zero.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from queuemon.alerting.rules import Hit, Rule


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One rule for one queue (class, store), from when its condition first held."""

    rule: Rule
    labels: Mapping[str, str]
    #: As last seen, in the rule's unit.
    value: float
    since: datetime
    #: When the condition last held.
    held_at: datetime
    firing_since: datetime | None = None

    @property
    def firing(self) -> bool:
        """Whether it has held for long enough."""
        return self.firing_since is not None

    @property
    def key(self) -> str:
        """Names it among all, in the same words for ever."""
        return key_of(self.rule.name, self.labels)

    @property
    def hit(self) -> Hit:
        """Its last hit."""
        return Hit(labels=self.labels, value=self.value)

    @property
    def summary(self) -> str:
        """What is wrong, in one line."""
        return self.rule.text(self.rule.summary, self.hit)

    @property
    def description(self) -> str:
        """What it means, and what to look at."""
        return self.rule.text(self.rule.description, self.hit)

    @property
    def command(self) -> str:
        """The command line of the runbook that answers it, where no profile need be named."""
        return self.rule.command(self.labels)


def key_of(rule: str, labels: Mapping[str, str]) -> str:
    """A short name of an alert, whatever a queue is called: `QueuemonQueueDepth-1a2b…`."""
    words = json.dumps(sorted(labels.items()))
    return f"{rule}-{hashlib.sha256(words.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a look has changed."""

    standing: Mapping[str, Alert]
    #: Those that began to fire, and those that ended after they had.
    fired: Sequence[Alert] = ()
    ended: Sequence[Alert] = ()


def advance(standing: Mapping[str, Alert], found: Iterable[tuple[Rule, Sequence[Hit] | None]], now: datetime) -> Change:
    """The alerts that stand after a look at `now`; where the clock was set back since, they have stood as long."""
    standing = _set_back(standing, now)
    kept: dict[str, Alert] = {}
    fired: list[Alert] = []
    ended: list[Alert] = []
    before: dict[str, list[Alert]] = {}
    for alert in standing.values():
        before.setdefault(alert.rule.name, []).append(alert)
    for rule, hits in found:
        mine = {alert.key: alert for alert in before.get(rule.name, [])}
        if hits is None:
            kept |= mine
            continue
        for hit in hits:
            key = key_of(rule.name, hit.labels)
            alert = Alert(rule=rule, labels=hit.labels, value=hit.value, since=now, held_at=now)
            known = mine.pop(key, alert)
            if known.firing or not _missed(known, now):
                alert = replace(alert, since=known.since, firing_since=known.firing_since)
            if not alert.firing and now - alert.since >= timedelta(seconds=rule.for_seconds):
                alert = replace(alert, firing_since=now)
                fired.append(alert)
            kept[key] = alert
        for key, alert in mine.items():
            if alert.firing and now - alert.held_at < timedelta(seconds=rule.keep_seconds):
                kept[key] = alert
            elif alert.firing:
                ended.append(alert)
    return Change(standing=kept, fired=fired, ended=ended)


def _set_back(standing: Mapping[str, Alert], now: datetime) -> Mapping[str, Alert]:
    """The same, as long as they have stood, by a clock that was set back to `now`; unchanged by one that was not."""
    by = max((alert.held_at for alert in standing.values()), default=now) - now
    if by <= timedelta(0):
        return standing
    return {
        key: replace(
            alert, since=alert.since - by, held_at=alert.held_at - by,
            firing_since=alert.firing_since and alert.firing_since - by,
        )
        for key, alert in standing.items()
    }  # fmt: skip


def _missed(alert: Alert, now: datetime) -> bool:
    """Whether nobody looked for longer than it must hold: then it may have ended meanwhile, and begins again."""
    return now - alert.held_at > timedelta(seconds=max(60.0, alert.rule.for_seconds))
