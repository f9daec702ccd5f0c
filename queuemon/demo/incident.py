"""The past incident of the demo's history: a deploy broke the footer of e-mails in some languages for 35 minutes.

The history asks when which job was hit; the operators' side of the story (deploys, pause, retry, clear) is rows that
look as if queuemon had written them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from queuemon.demo.queues import EMAIL, HIGH
from queuemon.model import ActionKind

#: Languages whose footer used the renamed variable: about 37 % of the e-mails, 40 times the usual share of failures.
BROKEN_LANGUAGES: Final = frozenset({"de", "fr", "nl", "sv", "fi", "da", "pt"})

ON_CALL: Final = "queuemon/maria"
DEPLOYER: Final = "queuemon/ci"


@dataclass(frozen=True, kw_only=True)
class Incident:
    """When what happened; everything follows from the time of the deploy."""

    deployed: datetime

    @classmethod
    def before(cls, end: datetime) -> Incident:
        """In the busy hours three days before the history ends, or on the next working day to it."""
        days = [end - timedelta(days=n, minutes=70) for n in (3, 4, 2)]
        return cls(deployed=next(day for day in days if day.weekday() < 5))

    def at(self, minutes: float) -> datetime:
        """So many minutes after the deploy."""
        return self.deployed + timedelta(minutes=minutes)

    @cached_property
    def broken(self) -> tuple[float, float]:
        """From when to when e-mails failed, in seconds of the epoch."""
        return self.at(2).timestamp(), self.at(37).timestamp()

    @cached_property
    def paused(self) -> tuple[float, float]:
        """From when to when the campaign queue was paused, in seconds of the epoch."""
        return self.at(26).timestamp(), self.at(39).timestamp()

    @cached_property
    def retried(self) -> float:
        """When the failed campaign e-mails were retried, in seconds of the epoch."""
        return self.at(42).timestamp()

    def hits(self, queue: str, payload: Mapping[str, Any], at: float) -> bool:
        """Whether an attempt at this moment runs into the broken footer."""
        start, stop = self.broken
        return (
            start <= at < stop
            and queue in {HIGH, EMAIL}
            and payload["recipient"]["locale"].partition("-")[0] in BROKEN_LANGUAGES
        )

    def deploys(self) -> list[dict[str, Any]]:
        """Rows of `deploy_marks`: the week's deploys, the guilty one, and the way back."""
        week = [
            (-3.2 * 1440, "analytics 2026.44.1", "monthly totals by currency"),
            (-1.3 * 1440, "mailer 2026.44.2", "connection pool per provider"),
            (0, "mailer 2026.45.0", "footer: one unsubscribe link per locale"),
            (37, "mailer 2026.45.0 rolled back", "INC-214: footer does not render in seven languages"),
            (1.1 * 1440, "mailer 2026.45.1", "footer: unsubscribe link again, with a test per locale"),
            (2.2 * 1440, "warmup 2026.45.0", "fewer IMAP connections per mailbox"),
        ]
        return [{"name": name, "at": self.at(minutes), "actor": DEPLOYER, "note": note} for minutes, name, note in week]

    def actions(self, ids: Sequence[UUID], retried: int, cleared: int) -> list[dict[str, Any]]:
        """Rows of `actions`; `ids` are four ids for them, in order: pause, resume, retry, clear-failed."""
        told = [
            (26.0, 0.1, ActionKind.PAUSE, EMAIL, 1, "INC-214: footer errors since the deploy, roll back first"),
            (39.0, 0.2, ActionKind.RESUME, EMAIL, 1, "INC-214: rolled back"),
            (
                42.0,
                0.9,
                ActionKind.RETRY,
                f"queue:{EMAIL} status:failed error:unsubscribe_url",
                retried,
                "INC-214: fixed by the roll-back",
            ),
            (
                55.0,
                0.4,
                ActionKind.CLEAR_FAILED,
                f"queue:{HIGH} status:failed",
                cleared,
                "INC-214: login codes have lapsed, customers asked for new ones",
            ),
        ]
        rows: list[dict[str, Any]] = []
        for action_id, (minute, seconds, kind, target, n, reason) in zip(ids, told, strict=True):
            start = self.at(minute)
            stop = start + timedelta(seconds=seconds)
            verb = {
                ActionKind.PAUSE: f"Paused queue:{EMAIL} until it is resumed.",
                ActionKind.RESUME: f"Resumed queue:{EMAIL}.",
                ActionKind.RETRY: f"Retried {n} jobs.",
                ActionKind.CLEAR_FAILED: f"Cleared {n} jobs.",
            }[kind]
            rows.append(
                {
                    "id": action_id,
                    "kind": kind.value,
                    "target": target,
                    "options": {},
                    "cutoff": start,
                    "planned": n,
                    "done": n,
                    "skipped": {},
                    "gone": 0,
                    "state": "done",
                    "reason": reason,
                    "actor": ON_CALL,
                    "summary": verb,
                    "started_at": start,
                    "updated_at": stop,
                    "finished_at": stop,
                }
            )
        return rows


def events(actions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `action_events` for finished actions."""
    return [
        {"action_id": a["id"], "at": at, "event": event, "actor": a["actor"], "detail": detail}
        for a in actions
        for event, at, detail in (
            ("started", a["started_at"], {"planned": a["planned"]}),
            ("finished", a["finished_at"], {"done": a["done"], "state": "done", "published": True}),
        )
    ]
