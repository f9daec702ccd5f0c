"""Alerts without Prometheus: look, remember, page; nothing is lost whenever this process dies.

One file holds the alerts that stand and the events that are not delivered. It is replaced as a whole before anything is
sent, and again when something was: an event may be sent twice, under the same key, and never not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from queuemon.alerting.pager import SUMMARY_LENGTH, PagerAway, PagerRefused
from queuemon.alerting.rules import RULES, Hit, Rule, Severity
from queuemon.alerting.standing import Alert, Change, advance, key_of
from queuemon.errors import StackError
from queuemon.render.text import clean

VERSION: Final = 1

#: First wait before an event is sent again; doubled up to the longest.
RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 120.0

Found = Iterable[tuple[Rule, Sequence[Hit] | None]]


class Pager(Protocol):
    """Where events go."""

    def send(self, event: Mapping[str, Any]) -> None:
        """Send one; raises PagerAway."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What outlives the process."""

    standing: Mapping[str, Alert] = field(default_factory=dict)
    #: Events that are not delivered yet, the oldest first.
    unsent: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What every event says of where it comes from."""

    #: The profile's name, as the badge shows it.
    source: str
    dashboard_url: str = ""
    #: The profile that a runbook's command must name to reach the same stores; empty where none need be named.
    profile: str = ""


class Watch:
    """Looks at what holds, again and again. `say` gets a line per change; `file` belongs to one Watch at a time."""

    def __init__(
        self, look: Callable[[], Found], *, file: Path, origin: Origin, pager: Pager | None,
        say: Callable[[str], None], rules: Sequence[Rule] = RULES,
    ) -> None:  # fmt: skip
        self._look, self._file, self._origin, self._pager, self._say = look, file, origin, pager, say
        self._memory = _load(file, {rule.name: rule for rule in rules}, origin, say)
        self._forgetful = False
        self._retry_at = 0.0
        self._retry_seconds = 0.0
        #: Alerts whose events wait for the next try; None where PagerDuty was away, and all do.
        self._resting: set[str] | None = set()

    @property
    def firing(self) -> Sequence[Alert]:
        """The alerts that fire, the most severe first."""
        return in_order(alert for alert in self._memory.standing.values() if alert.firing)

    @property
    def unsent(self) -> int:
        """Events that PagerDuty has not taken yet."""
        return len(self._memory.unsent)

    def run(self, stop: threading.Event, *, seconds: float) -> None:
        """Look every so many seconds until told to stop."""
        while not stop.is_set():
            began = time.monotonic()
            self.step(datetime.now(UTC))
            self.deliver(stop)
            stop.wait(max(0.0, seconds - (time.monotonic() - began)))

    def step(self, now: datetime) -> Change:
        """One look: remember first what is to be sent, then say it."""
        change = advance(self._memory.standing, self._look(), now)
        events: list[Mapping[str, Any]] = []
        if self._pager is not None:
            events += [trigger(alert, self._origin) for alert in change.fired]
            events += [resolve(alert, self._origin) for alert in change.ended]
        self._remember(replace(self._memory, standing=change.standing, unsent=[*self._memory.unsent, *events]))
        for alert in change.fired:
            self._say(
                f"FIRING {alert.rule.severity.value} {alert.rule.name}: {alert.summary}; answer: {self._command(alert)}"
            )
        for alert in change.ended:
            self._say(f"resolved {alert.rule.name}: {alert.summary}")
        return change

    def deliver(self, stop: threading.Event | None = None) -> None:
        """Send what is not delivered, in order. What is refused holds back the events of its own alert alone; where
        PagerDuty is away all wait. The next try comes later each time."""
        if self._pager is None or not self._memory.unsent:
            return
        again = time.monotonic() >= self._retry_at
        if self._resting is None and not again:
            return
        refused = set() if again else set(self._resting or ())
        trouble: PagerAway | None = None
        for event in self._memory.unsent:
            if stop is not None and stop.is_set():
                return
            if event["dedup_key"] in refused:
                continue
            try:
                self._pager.send(event)
            except PagerRefused as error:
                refused.add(event["dedup_key"])
                trouble = error
            except PagerAway as error:
                trouble = error
                break
            else:
                self._remember(replace(self._memory, unsent=[e for e in self._memory.unsent if e is not event]))
        self._resting = None if trouble is not None and not isinstance(trouble, PagerRefused) else refused
        if again or trouble is not None:
            self._rest(trouble)

    def _command(self, alert: Alert) -> str:
        return alert.rule.command(alert.labels, profile=self._origin.profile)

    def _rest(self, trouble: PagerAway | None) -> None:
        """Wait before the next try, where this one failed; say so once."""
        if trouble is not None:
            if not self._retry_seconds:
                self._say(f"{trouble} ({len(self._memory.unsent):,} to be sent)")
            self._retry_seconds = min(LONGEST_RETRY_SECONDS, max(RETRY_SECONDS, 2 * self._retry_seconds))
            self._retry_at = time.monotonic() + self._retry_seconds
        elif self._retry_seconds:
            self._say("PagerDuty takes events again")
            self._retry_seconds = 0.0

    def _remember(self, memory: Memory) -> None:
        """Replace the file, on the disk, before the memory counts. A full disk stops no page: it is said."""
        self._memory = memory
        content = json.dumps({
            "version": VERSION,
            "standing": [_written(alert) for alert in memory.standing.values()],
            "unsent": memory.unsent,
        })  # fmt: skip
        new = _beside(self._file, ".new")
        try:
            with new.open("w", encoding="utf-8") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            new.replace(self._file)
            _keep_name(self._file.parent)
        except OSError as error:
            if not self._forgetful:
                self._say(f"{self._file} cannot be written ({error.strerror}): a restart now would forget what fires")
            self._forgetful = True
        else:
            self._forgetful = False


def in_order(alerts: Iterable[Alert]) -> Sequence[Alert]:
    """The most severe first, then the oldest."""
    return sorted(alerts, key=lambda a: (a.rule.severity is not Severity.CRITICAL, a.since, a.key))


def _beside(file: Path, suffix: str) -> Path:
    """A companion of the file, whatever that is called: no file is its own companion, and no two share one."""
    return file.with_name(file.name + suffix)


def _keep_name(folder: Path) -> None:
    """Bring the folder to the disk as well: a new name in it outlives a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unusable(file: Path, what: str, error: OSError) -> StackError:
    return StackError(
        f"{str(file)!r} cannot be {what} ({error.strerror})",
        expected="a file of this user's, for what fires and what is not delivered",
        next_step="choose another with --state, or set right who owns it and its folder",
    )


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Nobody else watches with this file meanwhile; raises StackError where somebody does, or it cannot be kept."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = _beside(file, ".lock").open("w")
    except OSError as error:
        raise _unusable(file, "written", error) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StackError(
                f"another process watches with {str(file)!r}",
                expected="one watch for each file",
                next_step="end the other, or choose another file with --state",
            ) from None
        yield


# --------------------------------------------------------------------------------------------------------- events


def trigger(alert: Alert, origin: Origin) -> dict[str, Any]:
    """The event that opens an incident."""
    link = origin.dashboard_url
    details = {
        "description": alert.description,
        "value": alert.rule.unit.words(alert.value),
        "since": alert.since.isoformat(timespec="seconds"),
        "runbook": alert.rule.runbook,
        "runbook_command": alert.rule.command(alert.labels, profile=origin.profile),
        **{name: clean(value, 200) for name, value in alert.labels.items()},
        **({"dashboard": link} if link else {}),
    }
    return {
        "event_action": "trigger",
        "dedup_key": _dedup_key(alert.key, origin),
        "client": "queuemon",
        **({"client_url": link, "links": [{"href": link, "text": "Dashboard"}]} if link else {}),
        "payload": {
            "summary": clean(f"{origin.source}: {alert.summary}", SUMMARY_LENGTH),
            "source": clean(origin.source, 200),
            "severity": alert.rule.severity.value,
            "timestamp": alert.since.isoformat(timespec="milliseconds"),
            "component": clean(alert.labels.get("queue", alert.labels.get("store", "queuemon")), 200),
            "group": "queuemon",
            "class": alert.rule.name,
            "custom_details": details,
        },
    }


def resolve(alert: Alert, origin: Origin) -> dict[str, Any]:
    """The event that ends it."""
    return _resolve(alert.key, origin)


def _resolve(key: str, origin: Origin) -> dict[str, Any]:
    return {"event_action": "resolve", "dedup_key": _dedup_key(key, origin)}


def _dedup_key(key: str, origin: Origin) -> str:
    """The same for every event of an alert, and another one in another environment."""
    return f"queuemon/{clean(origin.source, 100)}/{key}"


# --------------------------------------------------------------------------------------------------------- the file


def _written(alert: Alert) -> dict[str, Any]:
    return {
        "rule": alert.rule.name,
        "labels": dict(alert.labels),
        "value": alert.value,
        "since": alert.since.isoformat(),
        "held_at": alert.held_at.isoformat(),
        "firing_since": alert.firing_since.isoformat() if alert.firing_since else None,
    }


def _load(file: Path, rules: Mapping[str, Rule], origin: Origin, say: Callable[[str], None]) -> Memory:
    """What the last watch left; a damaged file is set aside, as without it everything that holds is found again.

    What fired by a rule that no longer exists is resolved. Raises StackError where the file cannot be read, or not be
    set aside: to begin without it would leave incidents open for ever.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return Memory()
    except OSError as error:
        raise _unusable(file, "read", error) from None
    except (ValueError, RecursionError):
        content = None
    try:
        if content["version"] != VERSION:
            raise ValueError
        unsent = [_event(written) for written in content["unsent"]]
        standing = {}
        for written in content["standing"]:
            if (rule := rules.get(written["rule"])) is not None:
                alert = _alert(written, rule)
                standing[alert.key] = alert
            elif written["firing_since"]:
                unsent.append(_resolve(key_of(written["rule"], written["labels"]), origin))
        return Memory(standing=standing, unsent=unsent)
    except (AttributeError, KeyError, TypeError, ValueError):
        aside = _beside(file, ".damaged")
        try:
            file.replace(aside)
        except OSError as error:
            raise _unusable(file, "set aside", error) from None
        say(f"{file} could not be read and is now {aside.name}: what fires is found again")
        return Memory()


def _event(written: Mapping[str, Any]) -> Mapping[str, Any]:
    if not (isinstance(written["dedup_key"], str) and isinstance(written["event_action"], str)):
        raise TypeError
    return dict(written)


def _alert(written: Mapping[str, Any], rule: Rule) -> Alert:
    fired = written["firing_since"]
    return Alert(
        rule=rule, labels={str(k): str(v) for k, v in written["labels"].items()}, value=float(written["value"]),
        since=_time(written["since"]), held_at=_time(written["held_at"]),
        firing_since=_time(fired) if fired else None,
    )  # fmt: skip


def _time(written: str) -> datetime:
    found = datetime.fromisoformat(written)
    if found.tzinfo is None:
        raise ValueError
    return found
