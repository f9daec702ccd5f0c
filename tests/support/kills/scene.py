"""What a scene is: the jobs that stand before an action or a duty, the deed that is killed, what must hold after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from queuemon.model import ActionKind, Plan
from queuemon.store import Store
from tests.support.kills.site import Site

MODES = ("idle", "live")


@dataclass(kw_only=True)
class Deed:
    """What an operator's process (or a relay) does, and the same again for whoever goes on."""

    act: Callable[[Store], object]
    plan: Plan | None = None
    #: How an operator who only knows the action's id goes on with it.
    resume: Callable[[Store], object] | None = None
    #: Jobs that nobody is to touch and that never end.
    exempt: set[UUID] = field(default_factory=set)
    #: Brings the queues back to work before they are drained: lets go of a pause, and the like.
    release: Callable[[Site], object] = lambda site: None
    #: More that must hold once the stores agree, before the drain; returns what does not.
    holds: Callable[[Site], list[str]] = lambda site: []
    #: The queue that is paused once this has committed.
    pauses: str = ""
    #: Whether a relay helps to recover; a negative control of a tool without one says no.
    relay: bool = True
    #: Whether whoever goes on does the deed again.
    again: bool = True


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A named scene."""

    name: str
    prepare: Callable[[Site, str], Deed]
    variants: tuple[str, ...] = ("plain",)
    #: idle: workers start after the recovery. live: they work all the time.
    modes: tuple[str, ...] = MODES
    levels: tuple[str, ...] = ("L0", "L1", "L2")
    #: Waiting is given up after so many seconds in which nothing moved: what still waits is lost.
    patience: float = 10.0


def applied(site: Site, kind: ActionKind | str, target: Any, **options: Any) -> Deed:
    """The deed of applying a plan; made now, as the person at the screen saw it."""
    plan = site.workbench.plan(kind, target, **options)
    return Deed(
        act=lambda _store: site.workbench.apply(plan, reason="kill test"),
        plan=plan,
        resume=lambda _store: site.workbench.resume_action(plan.id),
    )


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """Everything the judge looks at."""

    site: Site
    deed: Deed
    level: str
    rows: Mapping[UUID, Any]
    starts: list[dict[str, Any]]
    #: Since when the pause was seen to have committed, by PostgreSQL's clock.
    paused_at: datetime | None
    #: What never ended, when waiting was given up.
    left: int
    #: Elements that were there more than once after the recovery: (id, generation) → times.
    doubled: Mapping[tuple[UUID, int], int]
