"""The actions that this dashboard carries out: how far each is, and the way to stop it; confirmations start them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from traitlets import Dict, HasTraits

from queuemon.contract import Keys
from queuemon.model import ActionKind, ActionProgress, ActionRecord, ActionResult, CanaryProgress, Plan
from queuemon.render.text import clean
from queuemon.render.values import progress_text

#: Kinds whose target is the name of a queue.
OF_QUEUES: Final = frozenset(
    {ActionKind.PAUSE, ActionKind.RESUME, ActionKind.PRIORITISE, ActionKind.SCALE, ActionKind.ADOPT}
)


class Runs(HasTraits):
    """What runs now, by action id: {share, text, stopping, …}; empty when nothing does."""

    running = Dict()

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._stops: dict[str, threading.Event] = {}

    def carry_out(self, action_id: str, act: Callable[..., ActionResult], **options: Any) -> ActionResult:
        """Call `act` with `progress` and `stop` (and the options) in this thread; raises what it raises."""
        stop = threading.Event()
        with self._lock:
            self._stops[action_id] = stop
            self.running = self.running | {action_id: {"share": 0, "text": "", "stopping": False}}
        try:
            return act(progress=lambda p: self._progress(action_id, p), stop=stop, **options)
        finally:
            with self._lock:
                del self._stops[action_id]
                self.running = {key: value for key, value in self.running.items() if key != action_id}

    def stop(self, action_id: str) -> bool:
        """Stop an action after its chunk; whether it runs here: one that does not is left alone."""
        with self._lock:
            if (stop := self._stops.get(action_id)) is None:
                return False
            stop.set()
            self._change(action_id, {"stopping": True})
            return True

    def _progress(self, action_id: str, p: ActionProgress) -> None:
        with self._lock:
            if action_id in self.running:
                self._change(action_id, progress_values(p))

    def _change(self, action_id: str, values: dict[str, Any]) -> None:
        self.running = self.running | {action_id: self.running[action_id] | values}


# ------------------------------------------------------------------------------------------- values into plain JSON


def progress_values(p: ActionProgress) -> dict[str, Any]:
    """How far a running action is, as a bar and in words."""
    found: dict[str, Any] = {"share": share(p.done + p.skipped, p.planned), "text": progress_text(p)}
    if isinstance(p, CanaryProgress):
        found["canary"] = {"step": p.step, "steps": p.steps, "sent": p.done} | {
            name: getattr(p, name) for name in ("completed", "failed", "running")
        }
    return found


def share(done: int, planned: int) -> int:
    """How much of a plan is done, in whole per cent."""
    return min(100, round(100 * done / planned)) if planned else 0


def how_far(record: ActionRecord) -> str:
    """How far an action has come: "4,210 of 10,000 (42 %)"."""
    reached = record.done + record.skipped
    skipped = f", {record.skipped:,} of them skipped" if record.skipped else ""
    return f"{reached:,} of {record.planned:,} ({share(reached, record.planned)} %{skipped})"


def subject(action: ActionRecord | Plan, keys: Keys, limit: int = 300) -> str:
    """What an action is about: a queue as the screens print it, a filter, or what an undo takes back."""
    if action.kind is ActionKind.UNDO:
        return clean(action.options.get("of", "an action"), limit)
    return clean(keys.display(action.target) if action.kind in OF_QUEUES else action.target, limit)
