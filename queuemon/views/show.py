"""`queuemon.show(anything)`: a Workbench becomes the live dashboard, any other value static, escaped HTML."""

from __future__ import annotations

from typing import Any, Final

from queuemon.errors import InvalidValue
from queuemon.render import html
from queuemon.render.html import Static
from queuemon.render.shown import shown
from queuemon.workbench import Workbench

#: Panels that can stand alone.
PARTS: Final = ("drift", "activity")

#: The dashboards that are alive, by the cell that made them, so that running the cell again replaces its own.
_alive: dict[str, Any] = {}


def show(anything: Any, *beside: Any, part: str = "", queue: str = "") -> Any:
    """The live dashboard of a Workbench (in a notebook), or values as static HTML with a text twin and their charts.

    Of the dashboard `part` shows one panel alone ("drift", "activity"), and `queue` one queue: its charts and jobs. A
    Timeline's chart shows the Onset and the Forecast that are given beside it. Running the same cell again replaces its
    dashboard and stops the old one's refresh. Outside a notebook a Workbench is shown by values: a snapshot, or what
    the part lists. Raises InvalidValue for a part that there is none of, UnknownQueue.
    """
    if part not in {"", *PARTS} or (part and queue):
        raise InvalidValue(
            f"part is {part!r}" + (f" and queue is {queue!r}" if queue else ""),
            expected=f"one of {', '.join(PARTS)}, or a queue, or neither",
        )
    if not isinstance(anything, Workbench) and not _acts_like_workbench(anything):
        return shown((anything, *beside))
    name = anything.queue_name(queue) if queue else ""
    if not in_notebook():
        return values(anything, part, name)
    from queuemon.views.dashboard import Dashboard

    cell = _cell()
    if (old := _alive.pop(cell, None)) is not None:
        old.close()
    dashboard = _alive[cell] = Dashboard(anything, part=part, queue=name)
    return dashboard


def values(workbench: Any, part: str, queue: str) -> Static:
    """What a part of the dashboard shows, as values."""
    keys = workbench.settings.keys
    if part == "drift":
        return html.static(workbench.drift_watch().tick(), keys)
    if part == "activity":
        return html.static(workbench.actions(), keys)
    snapshot = workbench.snapshot()
    return html.static(snapshot.queue(queue) if queue else snapshot, keys)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    return _kernel() is not None


def _acts_like_workbench(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("snapshot", "jobs", "plan", "apply", "settings"))


def _kernel() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return getattr(get_ipython(), "kernel", None)


def _parent() -> dict[str, Any]:
    kernel = _kernel()
    try:
        return dict(kernel.get_parent("shell") or {})
    except Exception:
        return {}


def _cell() -> str:
    """The id of the running cell as the front end names it; "" where it names none."""
    return str(_parent().get("metadata", {}).get("cellId", ""))
