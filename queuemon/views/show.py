"""`queuemon.show(anything)`: a Workbench becomes the live dashboard, any other value static, escaped HTML."""

from __future__ import annotations

from typing import Any

from queuemon.render import html
from queuemon.render.shown import shown
from queuemon.workbench import Workbench

#: The dashboards that are alive, by the cell that made them, so that running the cell again replaces its own.
_alive: dict[str, Any] = {}


def show(anything: Any, *beside: Any) -> Any:
    """The live dashboard of a Workbench (in a notebook), or values as static HTML with a text twin and their charts.

    A Timeline's chart shows the Onset and the Forecast that are given beside it. Running the same cell again replaces
    its dashboard and stops the old one's refresh. Outside a notebook a Workbench is shown by its snapshot.
    """
    if not isinstance(anything, Workbench) and not _acts_like_workbench(anything):
        return shown((anything, *beside))
    if not in_notebook():
        return html.static(anything.snapshot(), anything.settings.keys)
    from queuemon.views.dashboard import Dashboard

    cell = _cell()
    if (old := _alive.pop(cell, None)) is not None:
        old.close()
    dashboard = _alive[cell] = Dashboard(anything)
    return dashboard


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
