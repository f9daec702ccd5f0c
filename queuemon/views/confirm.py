"""The one way from a button to a change: propose a plan, show it, take the reason and the typed count, apply it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

from traitlets import Dict, HasTraits

from queuemon.contract import Keys
from queuemon.errors import InvalidValue
from queuemon.model import ActionKind, ActionProgress, ActionResult, Breakdown, Certainty, Plan
from queuemon.render.text import clean, duration
from queuemon.views.jobs import job_row_error
from queuemon.workbench import Workbench

#: Lines of one breakdown that are shown.
LINES: Final = 6

VERBS: Final = {
    ActionKind.RETRY: ("Retry", "retried"),
    ActionKind.DELETE: ("Delete", "deleted"),
    ActionKind.CLEAR_FAILED: ("Clear failed", "cleared"),
    ActionKind.RUN_NOW: ("Run now", "run now"),
    ActionKind.PAUSE: ("Pause", "paused"),
    ActionKind.RESUME: ("Resume", "resumed"),
    ActionKind.PRIORITISE: ("Set priority", "changed"),
    ActionKind.SCALE: ("Scale workers", "scaled"),
}


class Confirmation(HasTraits):
    """The plan on screen, and the action that is running.

    Whatever `apply` raises closes the confirmation: the plan that was shown may not be repeated unseen.
    """

    #: The proposed plan in plain JSON; empty when no confirmation is open. `busy` while reading or applying.
    plan = Dict()

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self._workbench = workbench
        self._keys: Keys = workbench.settings.keys
        self._plan: Plan | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._question = 0

    def propose(self, kind: str, target: str | Sequence[str], **options: Any) -> None:
        """Read what the action would do and show it; nothing is changed."""
        with self._lock:
            if self.plan.get("busy") == "applying":
                return
            self._question += 1
            question = self._question
            self._plan = None
            self.plan = {"title": verb(ActionKind(kind)), "busy": "planning"}
        try:
            found = self._workbench.plan(ActionKind(kind), target, **options)
        except BaseException:
            self._show(question, None)
            raise
        self._show(question, found)

    def _show(self, question: int, found: Plan | None) -> None:
        """Put a plan on screen, unless it was cancelled or overtaken while it was being read."""
        with self._lock:
            if question == self._question:
                self._plan = found
                self.plan = plan_values(found, self._keys) if found else {}

    def apply(self, plan_id: str, *, reason: str, typed: str) -> ActionResult | None:
        """Do what the shown plan says; None when that plan is no longer the one on screen, or runs already."""
        with self._lock:
            found = self._plan
            if found is None or str(found.id) != plan_id:
                return None
            check_typed(found, typed)
            self._plan = None
            self._stop = threading.Event()
            self.plan = self.plan | {"busy": "applying", "error": ""}
        try:
            result = self._workbench.apply(found, reason=reason.strip(), progress=self._progress, stop=self._stop)
        except BaseException:
            self.plan = {}
            raise
        self.plan = {}
        return result

    def cancel(self) -> None:
        """Close the confirmation; a running action is not stopped by that."""
        with self._lock:
            if self.plan.get("busy") != "applying":
                self._question += 1
                self._plan = None
                self.plan = {}

    def stop(self) -> None:
        """Stop a running action after its chunk."""
        self._stop.set()
        if self.plan:
            self.plan = self.plan | {"stopping": True}

    def _progress(self, p: ActionProgress) -> None:
        eta = f", {duration(p.eta_seconds)} left" if p.eta_seconds else ""
        share = 100 * (p.done + p.skipped) / p.planned if p.planned else 0
        text = f"{p.done:,} of {p.planned:,} at {p.per_second:,.0f}/s{eta}"
        self.plan = self.plan | {"progress": {"share": min(100, round(share)), "text": text}}


def verb(kind: ActionKind) -> str:
    """The action as a button says it."""
    return VERBS[kind][0]


def check_typed(plan: Plan, typed: str) -> None:
    """Raises InvalidValue unless a destructive plan was confirmed by its typed count."""
    wanted = typed_word(plan)
    if wanted and typed.strip().replace(",", "") != wanted:
        raise InvalidValue(f"{clean(typed, 40)!r} was typed", expected=wanted, next_step="type it to confirm")


def typed_word(plan: Plan) -> str:
    """What has to be typed to confirm; empty when nothing has."""
    return str(plan.count) if plan.kind.destructive and plan.count else ""


def plan_values(plan: Plan, keys: Keys) -> dict[str, Any]:
    """A plan as the confirmation takes it."""
    subject = clean(plan.target if plan.kind.bulk else keys.display(plan.target), 300)
    mark = {Certainty.EXACT: "", Certainty.ESTIMATED: "about ", Certainty.CAPPED: "at least "}[plan.certainty]
    many = f"{mark}{plan.count:,} {'job' if plan.count == 1 else 'jobs'}"
    options = {k: v for k, v in plan.options.items() if v is not None}
    return {
        "id": str(plan.id),
        "kind": plan.kind.value,
        "title": headline(plan, many, subject),
        "button": f"{verb(plan.kind)} {many}" if plan.kind.bulk else verb(plan.kind),
        "target": subject if not plan.ids else f"{len(plan.ids):,} selected",
        "count": plan.count,
        "effect": clean(plan.effect, 600),
        "warnings": [clean(w, 400) for w in plan.warnings],
        "options": [[clean(k.replace("_", " "), 40), clean(v, 120)] for k, v in options.items()],
        "groups": [
            {"title": title, **lines(group)}
            for title, group in (("By queue", plan.by_queue), ("By error", plan.by_error), ("By age", plan.by_age))
            if len(group) > 1 or (title == "By error" and group)
        ],
        "excluded": lines(plan.excluded)["lines"],
        "sample": [
            {"id": str(j.id), "state": j.status.value, "created": j.created_at.timestamp(), "error": job_row_error(j)}
            for j in plan.sample[:5]
        ],
        "typed": typed_word(plan),
        "destructive": plan.kind.destructive,
        "busy": "",
        "error": "",
    }


def headline(plan: Plan, many: str, subject: str) -> str:
    """The question the confirmation asks."""
    if plan.kind is ActionKind.CLEAR_FAILED:
        return f"Clear {many} that stand failed?"
    if plan.kind.bulk:
        return f"{verb(plan.kind)} {many}?"
    if plan.kind is ActionKind.PRIORITISE:
        return f"Set the priority of {subject} to {clean(plan.options.get('priority', ''), 20)}?"
    if plan.kind is ActionKind.SCALE:
        return f"Scale {subject} to {clean(plan.options.get('concurrency', ''), 20)} workers?"
    return f"{verb(plan.kind)} {subject}?"


def lines(group: Sequence[Breakdown]) -> dict[str, Any]:
    """The largest parts of a breakdown, the rest summed up."""
    ordered = sorted(group, key=lambda b: -b.count)
    shown = [[clean(b.label, 200), b.count] for b in ordered[:LINES]]
    rest = sum(b.count for b in ordered[LINES:])
    return {"lines": [*shown, [f"{len(ordered) - LINES:,} others", rest]] if rest else shown}
