"""The one way from a button to a change: propose a plan, show it, take the reason and the typed count, apply it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from traitlets import Dict, HasTraits

from queuemon.contract import Keys
from queuemon.errors import InvalidValue, UsageError
from queuemon.model import ActionKind, ActionRecord, ActionResult, Breakdown, Certainty, Plan
from queuemon.render.text import clean
from queuemon.views.jobs import job_row_error
from queuemon.views.runs import Runs, how_far, subject
from queuemon.workbench import Workbench

#: Lines of one breakdown that are shown.
LINES: Final = 6

VERBS: Final = {
    ActionKind.RETRY: "Retry",
    ActionKind.DELETE: "Delete",
    ActionKind.CLEAR_FAILED: "Clear failed",
    ActionKind.RUN_NOW: "Run now",
    ActionKind.PURGE: "Purge",
    ActionKind.MOVE: "Move",
    ActionKind.EDIT: "Edit and retry",
    ActionKind.RESCUE: "Rescue",
    ActionKind.DELETE_STUCK: "Delete",
    ActionKind.ERASE: "Erase",
    ActionKind.PAUSE: "Pause",
    ActionKind.RESUME: "Resume",
    ActionKind.PRIORITISE: "Set priority",
    ActionKind.SCALE: "Scale workers",
    ActionKind.UNDO: "Undo",
    ActionKind.CANARY: "Retry as canary",
    ActionKind.REPAIR: "Repair",
    ActionKind.ADOPT: "Adopt",
    ActionKind.REVEAL: "Reveal",
}

#: Options that the page shows in controls or words of its own.
SHOWN_ELSEWHERE: Final = frozenset(
    {
        "until",
        "hard",
        "holder",
        "of",
        "undoes",
        "payload",
        "priority",
        "concurrency",
        "to",
        "steps",
        "success",
        "max_errors",
        "timeout",
        "items",
        "found",
        "queues",
        "deep",
        "digests",
        "discard",
        "keys",
    }
)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the confirm button would do."""

    id: str
    #: What has to be typed; empty when nothing has.
    typed: str
    #: Takes `reason` and what `Runs.carry_out` hands over.
    act: Callable[..., ActionResult]


class Confirmation(HasTraits):
    """The plan on screen.

    Whatever the action raises closes the confirmation: the plan that was shown may not be repeated unseen.
    """

    #: The proposed plan in plain JSON; empty when no confirmation is open. `busy` while reading or applying; `refused`
    #: alone says why the values of a form make no plan.
    plan = Dict()

    def __init__(self, workbench: Workbench, runs: Runs | None = None) -> None:
        super().__init__()
        self._workbench = workbench
        self._runs = runs or Runs()
        self._keys: Keys = workbench.settings.keys
        self._offer: Offer | None = None
        self._lock = threading.Lock()
        self._question = 0
        self._dialog = 0
        self._asked: tuple[ActionKind, Any, dict[str, Any]] | None = None

    # --------------------------------------------------------------------------------------------------- proposing

    def propose(
        self,
        kind: str,
        target: Any,
        options: Mapping[str, Any] | None = None,
        *,
        form: bool = False,
    ) -> None:
        """Read what the action would do and show it; nothing is changed.

        From a form, values that make no plan are answered in the form (`refused`) instead of raised.
        """
        chosen, given = ActionKind(kind), dict(options or {})

        def read() -> tuple[Offer, dict[str, Any]]:
            found = self._workbench.plan(chosen, target, **given)
            return self._of_plan(found), plan_values(found, self._keys)

        if numbers := self._open(verb(chosen)):
            self._asked = (chosen, target, given)
            self._read(read, *numbers, form=form)

    def propose_edit(self, job_id: str, made: Callable[[], tuple[str, Sequence[tuple[str, str]]]]) -> None:
        """The same for a payload that was edited in a form: `made` gives it as JSON, with the lines that differ."""

        def read() -> tuple[Offer, dict[str, Any]]:
            payload, diff = made()
            found = self._workbench.plan(ActionKind.EDIT, job_id, payload=payload)
            return self._of_plan(found), plan_values(found, self._keys) | {"diff": [list(line) for line in diff]}

        if numbers := self._open(verb(ActionKind.EDIT)):
            self._asked = None
            self._read(read, *numbers, form=True)

    def adjust(self, options: Mapping[str, Any]) -> None:
        """The same question with other options: the dialog stays, with the new plan in it.

        `turn` among them is the page's number of the question; the plan carries it, so that the page confirms no other.
        """
        options = dict(options)
        turn = options.pop("turn", 0)
        with self._lock:
            if self._asked is None or not self.plan.get("id") or self.plan.get("busy") == "applying":
                return
            kind, target, given = self._asked
            wanted = {name: value for name, value in {**given, **options}.items() if value not in (None, "", False)}
            self._question += 1
            self._asked = (kind, target, wanted)
            self.plan = self.plan | {"busy": "planning", "error": "", "turn": turn}
            question, dialog = self._question, self._dialog

        def read() -> tuple[Offer, dict[str, Any]]:
            found = self._workbench.plan(kind, target, **wanted)
            return self._of_plan(found), plan_values(found, self._keys) | {"turn": turn}

        self._read(read, question, dialog, form=True)

    def propose_resume(self, action_id: str) -> None:
        """Show how far an action came that was interrupted or stopped; confirming goes on from there."""

        def read() -> tuple[Offer, dict[str, Any]]:
            record = self._workbench.action(action_id)
            act = partial(without_reason, partial(self._workbench.resume_action, record.id))
            return Offer(id=str(record.id), typed="", act=act), resume_values(record, self._keys)

        if numbers := self._open("Resume"):
            self._asked = None
            self._read(read, *numbers, form=False)

    def offer(self, offer: Offer, values: Mapping[str, Any]) -> None:
        """Show a plan that was made elsewhere."""
        if numbers := self._open(str(values["title"])):
            self._asked = None
            self._read(lambda: (offer, dict(values)), *numbers, form=False)

    def _of_plan(self, plan: Plan) -> Offer:
        return Offer(id=str(plan.id), typed=typed_word(plan), act=partial(self._workbench.apply, plan))

    def _open(self, title: str) -> tuple[int, int] | None:
        """The numbers of a new question and its dialog; None while an action is being carried out."""
        with self._lock:
            if self.plan.get("busy") == "applying":
                return None
            self._question += 1
            self._dialog += 1
            self._offer = None
            self.plan = {"title": title, "busy": "planning", "dialog": self._dialog}
            return self._question, self._dialog

    def _read(
        self, read: Callable[[], tuple[Offer, dict[str, Any]]], question: int, dialog: int, *, form: bool
    ) -> None:
        """Put a plan on screen, unless it was cancelled or overtaken while it was being read."""
        try:
            offer, values = read()
        except UsageError as error:
            if form:
                said = clean(str(error), 600)
                kept = self.plan | {"busy": "", "error": said} if self.plan.get("id") else {"refused": said}
                self._show(question, self._offer, kept | {"dialog": dialog})
                return
            self._show(question, None, {})
            raise
        except BaseException:
            self._show(question, None, {})
            raise
        self._show(question, offer, values | {"dialog": dialog})

    def _show(self, question: int, offer: Offer | None, values: dict[str, Any]) -> None:
        with self._lock:
            if question == self._question:
                self._offer = offer
                self.plan = values

    # ---------------------------------------------------------------------------------------------------- applying

    def apply(self, plan_id: str, *, reason: str, typed: str, rate: float | None = None) -> ActionResult | None:
        """Do what the shown plan says; None when that plan is no longer the one on screen, or runs already.

        `rate` is the most jobs per second.
        """
        with self._lock:
            offer = self._offer
            if offer is None or offer.id != plan_id or self.plan.get("busy"):
                return None
            check_typed(offer.typed, typed)
            self._offer = None
            self.plan = self.plan | {"busy": "applying", "error": ""}
        limits = {} if rate is None else {"rate": rate}
        try:
            return self._runs.carry_out(offer.id, offer.act, reason=reason.strip(), **limits)
        finally:
            with self._lock:
                if self.plan.get("id") == offer.id:
                    self.plan = {}

    def cancel(self) -> None:
        """Close the confirmation; a running action goes on (it is listed under Activity)."""
        with self._lock:
            self._question += 1
            self._offer = None
            self.plan = {}


# ------------------------------------------------------------------------------------------- values into plain JSON


def without_reason(act: Callable[..., ActionResult], *, reason: str, **options: Any) -> ActionResult:
    """An action that keeps the reason it began with."""
    return act(**options)


def verb(kind: ActionKind) -> str:
    """The action as a button says it."""
    return VERBS[kind]


def check_typed(wanted: str, typed: str) -> None:
    """Raises InvalidValue unless what has to be typed was."""
    if wanted and typed.strip().replace(",", "") != wanted:
        raise InvalidValue(f"{clean(typed, 40)!r} was typed", expected=wanted, next_step="type it to confirm")


def typed_word(plan: Plan) -> str:
    """What has to be typed to confirm; empty when nothing has."""
    return str(plan.count) if destroys(plan) and plan.count else ""


def destroys(plan: Plan) -> bool:
    """Whether something is gone for good, or for as long as nobody takes it back."""
    return plan.kind.destructive or bool(plan.options.get("discard"))


def plan_values(plan: Plan, keys: Keys) -> dict[str, Any]:
    """A plan as the confirmation takes it."""
    about = subject(plan, keys)
    mark = {Certainty.EXACT: "", Certainty.ESTIMATED: "about ", Certainty.CAPPED: "at least "}[plan.certainty]
    many = f"{mark}{plan.count:,} {'job' if plan.count == 1 else 'jobs'}"
    options = {k: v for k, v in plan.options.items() if v is not None and k not in SHOWN_ELSEWHERE}
    return {
        "id": str(plan.id),
        "kind": plan.kind.value,
        "title": headline(plan, many, about, keys),
        "button": button(plan, many),
        "target": about if not plan.ids or plan.kind is ActionKind.REVEAL else f"{len(plan.ids):,} selected",
        "count": plan.count,
        "limited": plan.kind.bulk and plan.count > 1,
        "given": {k: v for k, v in plan.options.items() if k in {"hard", "holder"}},
        "effect": clean(plan.effect, 600),
        "warnings": [clean(w, 400) for w in plan.warnings],
        "options": [[clean(k.replace("_", " "), 40), clean(v, 120)] for k, v in options.items()],
        "groups": [
            {"title": title, **lines(group)}
            for title, group in (
                ("By queue", plan.by_queue),
                ("By kind" if plan.kind is ActionKind.REPAIR else "By error", plan.by_error),
                ("By age", plan.by_age),
            )
            if len(group) > 1 or (group is plan.by_error and group)
        ],
        "excluded": lines(plan.excluded)["lines"],
        "sample": [
            {"id": str(j.id), "state": j.status.value, "created": j.created_at.timestamp(), "error": job_row_error(j)}
            for j in plan.sample[:5]
        ],
        "typed": typed_word(plan),
        "destructive": destroys(plan),
        "needsReason": destroys(plan) or plan.kind is ActionKind.REVEAL,
        "busy": "",
        "error": "",
    }


def button(plan: Plan, many: str) -> str:
    """What the button that confirms says."""
    if plan.kind is ActionKind.ADOPT and plan.options.get("discard"):
        return "Discard"
    return f"{verb(plan.kind)} {many}" if plan.kind.bulk else verb(plan.kind)


def headline(plan: Plan, many: str, about: str, keys: Keys) -> str:
    """The question the confirmation asks."""
    match plan.kind:
        case ActionKind.CLEAR_FAILED:
            return f"Clear {many} that stand failed?"
        case ActionKind.RUN_NOW:
            return f"Run {many} now?"
        case ActionKind.PURGE:
            return f"Purge {many} that wait?"
        case ActionKind.MOVE:
            return f"Move {many} to {clean(keys.display(str(plan.options.get('to', ''))), 120)}?"
        case ActionKind.DELETE_STUCK:
            return f"Delete {many.replace(' job', ' stuck job')}?"
        case ActionKind.RESCUE:
            return f"Rescue {many.replace(' job', ' stuck job')}?"
        case ActionKind.ERASE:
            return f"Erase {many} for good?"
        case ActionKind.EDIT:
            return "Edit the payload and retry?"
        case ActionKind.PRIORITISE:
            return f"Set the priority of {about} to {clean(plan.options.get('priority', ''), 20)}?"
        case ActionKind.SCALE:
            wanted = clean(plan.options.get("concurrency", ""), 20)
            return f"Scale {about} to {wanted} {'worker' if wanted == '1' else 'workers'}?"
        case ActionKind.CANARY:
            return f"Retry {many} as a canary?"
        case ActionKind.REPAIR:
            return f"Repair {plan.count:,} {'finding' if plan.count == 1 else 'findings'}?"
        case ActionKind.ADOPT:
            what = f"{plan.count:,} quarantined {'element' if plan.count == 1 else 'elements'}"
            return f"Discard {what} for good?" if plan.options.get("discard") else f"Make jobs of {what}?"
        case ActionKind.REVEAL:
            return "Reveal what is masked in this payload?"
        case ActionKind.UNDO:
            return f"Undo the {about}?"
        case _:
            return f"{verb(plan.kind)} {many if plan.kind.bulk else about}?"


def resume_values(record: ActionRecord, keys: Keys) -> dict[str, Any]:
    """How far an action came, as the confirmation takes it."""
    left = max(0, record.planned - record.done - record.skipped)
    return {
        "id": str(record.id),
        "kind": "resume-action",
        "title": f"Resume: {record.kind.value} of {record.planned:,} {'job' if record.planned == 1 else 'jobs'}?",
        "button": "Resume",
        "target": subject(record, keys),
        "limited": True,
        "effect": f"goes on from where it stopped: {left:,} are left; what was done is not done again",
        "options": [
            ["came to", how_far(record)],
            ["begun by", clean(record.actor, 120)],
            ["because", clean(record.reason, 400) or "no reason given"],
        ],
        "warnings": [],
        "groups": [],
        "typed": "",
        "noReason": True,
        "busy": "",
        "error": "",
    }


def lines(group: Sequence[Breakdown]) -> dict[str, Any]:
    """The largest parts of a breakdown, the rest summed up."""
    ordered = sorted(group, key=lambda b: -b.count)
    shown = [[clean(b.label, 200), b.count] for b in ordered[:LINES]]
    rest = sum(b.count for b in ordered[LINES:])
    return {"lines": [*shown, [f"{len(ordered) - LINES:,} others", rest]] if rest else shown}
