"""queuemon: the ops workbench for background jobs that live in PostgreSQL and Redis.

import queuemon
wb = queuemon.connect()
queuemon.show(wb)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queuemon.workbench import Workbench

__all__ = ["__version__", "connect", "show"]

__version__ = "0.1.0"


def connect(profile: str | None = None) -> Workbench:
    """A Workbench for a profile of queuemon.toml, the two environment variables, or the running embedded demo."""
    from queuemon import workbench

    return workbench.connect(profile)


def show(anything: Any, *beside: Any, part: str = "", queue: str = "") -> Any:
    """A Workbench becomes the live dashboard, or a part of it ("drift", "activity", or one queue); any values become
    static, escaped HTML, with their charts."""
    from queuemon.views import show as views_show

    return views_show.show(anything, *beside, part=part, queue=queue)
