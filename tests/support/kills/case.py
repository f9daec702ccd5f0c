"""One case: plant, kill, recover (and kill the recovery now and then), agree, drain, judge."""

from __future__ import annotations

import gc
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from random import Random
from typing import Any

from queuemon.engine.relay import Relay
from queuemon.engine.worker import Worker
from queuemon.store import Store
from tests.support.kills import judge, workers
from tests.support.kills.child import Child, Ended
from tests.support.kills.scene import Aftermath, Deed, Scene
from tests.support.kills.site import Site

#: Of so many cases one has its recovery killed too.
KILL_RECOVERY_ONE_IN = 3
#: Boundaries that a relay's step passes at least.
RELAY_BOUNDARIES = 40
LOOK = 0.004


@dataclass(kw_only=True)
class Verdict:
    """What came of a case."""

    case: str
    kills: int = 0
    #: The boundaries at which it was killed.
    points: list[str] = field(default_factory=list)
    recovery: str = ""
    converged_ms: float | None = None
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    #: At L0: what else ran that a claim would have refused, with its cause.
    explained: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Name:
    """What a case is called: "retry (filter), L1 workers live, killed at main-10"."""

    scene: str
    variant: str
    level: str
    mode: str
    point: str = ""

    def __str__(self) -> str:
        return f"{self.scene} ({self.variant}), {self.level} workers {self.mode}, killed at {self.point}"

    @classmethod
    def of(cls, text: str) -> Name:
        """From its text."""
        found = re.fullmatch(r"(.+) \((.+)\), (L\d) workers (\w+), killed at (\S*)", text)
        assert found, text
        return cls(scene=found[1], variant=found[2], level=found[3], mode=found[4], point=found[5])


@dataclass(frozen=True, kw_only=True)
class Usual:
    """A deed that nobody killed."""

    #: Its points, "thread-number".
    points: tuple[str, ...]
    seconds: float


class Case:
    """One kill of one scene; its point is "thread-number" or "random-n"."""

    def __init__(self, site: Site, scene: Scene, name: Name) -> None:
        self.site, self.scene, self.name = site, scene, name
        self.level, self.mode = name.level, name.mode
        self.draw = Random(str(name))
        self.verdict = Verdict(case=str(name))
        self.helpers: list[Child] = []
        self.workers: list[Child] = []
        #: Since when the deed's pause was seen to have committed.
        self.paused_at: datetime | None = None

    def count(self) -> Usual:
        """Do the deed unharmed: which boundaries there are, and how long it takes.

        Once in this process before: statements that are compiled here are so in every child.
        """
        self._count(in_child=False)
        ended = self._count(in_child=True)
        if ended.error:
            raise RuntimeError(f"{self.name}, unharmed: {ended.error}")
        return Usual(points=tuple(point.partition(" ")[0] for point in ended.passed), seconds=ended.seconds)

    def _count(self, *, in_child: bool) -> Ended:
        self.site.reset()
        deed = self.scene.prepare(self.site, self.name.variant)
        try:
            if self.mode == "live":
                self._start_workers()
            if in_child:
                return Child(self.site.store, deed.act).end()
            deed.act(self.site.store)
            return Ended(killed=False, passed=(), error="", seconds=0.0, at=0.0)
        finally:
            self._stop_helpers()

    def run(self, usual: Usual) -> Verdict:
        """Kill at the point and see what becomes of it."""
        began = time.monotonic()
        self.site.reset()
        deed = self.scene.prepare(self.site, self.name.variant)
        try:
            if self.mode == "live":
                self._start_workers()
                if deed.relay and self.draw.random() < 0.5:
                    self._start(_relay)
            last = self._strike(deed, self.name.point, usual.seconds)
            self.paused_at = self._paused_at(deed)
            last = self._recover(deed, last, sum(point.startswith("main-") for point in usual.points))
            self._judge(deed, last)
        finally:
            self._stop_helpers()
        self.verdict.seconds = time.monotonic() - began
        return self.verdict

    # ------------------------------------------------------------------------------------------------------- killing

    def _strike(self, deed: Deed, point: str, usual_seconds: float) -> float:
        """Kill once; returns when."""
        thread, _, number = point.rpartition("-")
        if thread == "random":
            child = Child(self.site.store, deed.act)
            return self._ended(child.end(kill_after=self.draw.uniform(0.0, 1.1 * usual_seconds)))
        return self._ended(Child(self.site.store, deed.act, thread=thread, number=int(number)).end())

    def _ended(self, ended: Ended) -> float:
        if ended.killed:
            self.verdict.kills += 1
            self.verdict.points.append(ended.passed[-1] if ended.passed else "before anything")
        if ended.error:
            self.verdict.unexpected.append(f"error: {ended.error[-1500:]}")
        return ended.at

    def _recover(self, deed: Deed, last: float, boundaries: int) -> float:
        """Another process goes on, or only a relay does; in part of the cases it is killed in its turn."""
        ways = ["again", "relay", "both"] if deed.again and deed.relay else ["again"] if deed.again else ["relay"]
        self.verdict.recovery = way = self.draw.choice(ways)
        if self.draw.randrange(KILL_RECOVERY_ONE_IN) == 0:
            act, most = (_relay_once, RELAY_BOUNDARIES) if way == "relay" else (deed.act, boundaries)
            number = self.draw.randint(1, max(1, most))
            last = self._ended(Child(self.site.store, act, thread="main", number=number).end())
            self.verdict.recovery = f"{way}, killed once"
        if way != "relay":
            # Where nobody else is at work any more, who goes on must leave nothing to a relay: there may be none.
            alone = self.mode == "idle" and deed.plan is not None and self.draw.random() < 0.5
            if alone:
                self.site.wait_alone()
            self._again(deed)
            if alone and self.site.owed():
                self.verdict.unexpected.append("who went on with the action left a publication to a relay")
        if deed.relay:
            self._start(_relay)
        return last

    def _again(self, deed: Deed) -> None:
        act = deed.act
        if deed.plan is not None and deed.resume is not None and self.draw.random() < 0.5:
            act = deed.resume if self.site.state_of(deed.plan.id) else act
        ended = Child(self.site.store, act).end()
        if ended.error:
            self.verdict.unexpected.append(f"the recovery failed: {ended.error[-1500:]}")

    # ------------------------------------------------------------------------------------------------------- judging

    def _judge(self, deed: Deed, last: float) -> None:
        site = self.site
        if self._wait(lambda: site.owed() == 0 and not site.unfindable()):
            self.verdict.converged_ms = (time.monotonic() - last) * 1000
        if deed.again and deed.plan is not None and site.state_of(deed.plan.id) in {"", "running"}:
            self._again(deed)  # the operator comes back at last
            self._wait(lambda: site.owed() == 0 and not site.unfindable())
        paused_at = self.paused_at or self._paused_at(deed)
        doubled = {key: n for key, n in Counter(site.elements()).items() if n > 1}
        self._wait(lambda: not deed.holds(site))
        self.verdict.unexpected += deed.holds(site)
        if self.mode == "idle":
            self._start_workers()
        if paused_at is not None:
            time.sleep(0.02)  # workers get the time to take what they must not take
        late = judge.started_while_paused(site, deed, paused_at)
        deed.release(site)
        self._wait(lambda: site.unfinished(deed.exempt) == 0)
        if self.level == "L0":
            self._let_workers_end()
        judge.judge(
            self.verdict,
            Aftermath(
                site=site,
                deed=deed,
                level=self.level,
                rows=site.rows(),
                starts=site.starts(),
                paused_at=paused_at,
                left=site.unfinished(deed.exempt),
                doubled=doubled,
            ),
            late,
        )

    def _paused_at(self, deed: Deed) -> datetime | None:
        if not deed.pauses:
            return None
        found = self.site.sql("SELECT clock_timestamp() AS at FROM job_queues WHERE name = %s AND paused", deed.pauses)
        return found[0]["at"] if found else None

    def _wait(self, done: Callable[[], bool]) -> bool:
        """Wait for a condition while anything moves."""
        seen, since = None, time.monotonic()
        while not done():
            standing = self._standing()
            if standing != seen:
                seen, since = standing, time.monotonic()
            elif time.monotonic() - since > self.scene.patience:
                return False
            time.sleep(LOOK)
        return True

    def _standing(self) -> tuple[Any, ...]:
        counts = self.site.sql("SELECT status, count(*) AS n, sum(gen) AS g FROM jobs GROUP BY 1 ORDER BY 1")
        return (*((row["status"], row["n"], row["g"]) for row in counts), self.site.owed())

    # ------------------------------------------------------------------------------------------------------- helpers

    def _start(self, act: Callable[[Store], object]) -> Child:
        self.helpers.append(child := Child(self.site.store, act, watched=False))
        return child

    def _start_workers(self) -> None:
        site, level = self.site, self.level

        def act(store: Store) -> None:
            workers.work(level, store, site.settings, workers.Starts(site.starts_file))

        self.workers = [self._start(act) for _ in range(2 if self.mode == "live" else 1)]

    def _let_workers_end(self) -> None:
        """What an L0 worker runs twice is over only when the worker says so: its rows say "completed" in between."""
        self.site.redis.rpush(f"queue:{workers.QUEUES[-1]}", *[workers.STOP] * len(self.workers))
        for child in self.workers:
            self.helpers.remove(child)
            if error := child.end().error:
                self.verdict.unexpected.append(f"a worker ended: {error[-1500:]}")

    def _stop_helpers(self) -> None:
        for child in self.helpers:
            child.kill()
        for child in self.helpers:
            ended = child.end()
            if ended.error:
                self.verdict.unexpected.append(f"a worker or relay ended: {ended.error[-1500:]}")
        self.helpers.clear()


def _relay(store: Store) -> None:
    relay = Relay(store, calm_seconds=0)
    while True:
        relay.step(everything=True)
        time.sleep(0.01)


def _relay_once(store: Store) -> None:
    Relay(store, calm_seconds=0).step(everything=True)


def warm(site: Site) -> None:
    """What every case needs, done once in this process: a relay's step and a worker's job of ours."""
    site.reset()
    site.plant("waiting", 1)
    _relay_once(site.store)
    stop = threading.Event()
    Worker(site.store, home="mail", handlers=lambda job: stop.set()).run(stop)
    gc.collect()
    gc.freeze()
