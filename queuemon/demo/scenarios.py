"""Incidents to practise on, made with real jobs and real workers; `queuemon demo scenario NAME` and `deploy NAME`.

Each returns when its state is really there, with a text of what to look at and what heals it. They touch a database
that `demo` marked as its own, and no other.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Final

from queuemon import config
from queuemon.config import Settings
from queuemon.contract import Health
from queuemon.demo import deploys, lifecycle, payloads, victims
from queuemon.demo.host import command
from queuemon.demo.queues import ANALYTICS, EMAIL, HIGH, LOW, QUEUES
from queuemon.engine.producer import Producer
from queuemon.errors import InvalidValue, NotAllowed, StackError
from queuemon.model import QueueStats
from queuemon.store import changes, demo
from queuemon.workbench import Workbench

Say = Callable[[str], None]

#: How many wait in `email-sending` on Black Friday.
BACKLOG: Final = 5_000
#: Exports of 2 to 4 seconds that hog the workers meanwhile.
EXPORTS: Final = 600
#: Workers per queue on Black Friday: somebody gave them to the exports.
BLACK_FRIDAY_WORKERS: Final = {EMAIL: 1, LOW: 4}
#: Aggregates of closed plans that fail.
MRR_JOBS: Final = 12
#: Campaign e-mails sent to show the bad template, and how many of them must have failed.
TEMPLATE_JOBS, TEMPLATE_FAILURES = 400, 20
#: Jobs waiting when Redis forgets everything.
LOST_JOBS: Final = 400
#: Jobs on which a scenario waits fail after so many attempts, so that nobody waits long.
FEW_ATTEMPTS: Final = 2
#: Standing failures a quiet queue may keep.
TOLERATED: Final = 4

_REASON: Final = "demo scenario"


class Stage:
    """What a scenario works with."""

    def __init__(self, settings: Settings, say: Say, directory: Path | None = None) -> None:
        self.workbench = Workbench(settings, application="queuemon demo scenario")
        self.store = self.workbench.store
        self.producer = Producer(self.store)
        self.rng = Random()
        self.say = say
        self._directory = (directory or config.demo_directory()).expanduser().absolute()

    def command(self, words: str) -> str:
        """A command of `queuemon demo` for this demo."""
        return command(words, self._directory)

    def check(self) -> None:
        """Refuse any database but a demo's."""
        with self.store.postgres.begin() as connection:
            if not demo.is_demo(connection):
                raise NotAllowed(
                    "this database is not marked as a demo, and scenarios break things",
                    expected="the embedded demo",
                    next_step=self.command("up"),
                )

    def queue(self, name: str) -> QueueStats:
        """A queue's numbers now."""
        found = self.workbench.snapshot().queue(name)
        if found is None:
            raise StackError(f"PostgreSQL does not tell about {name}", next_step=self.command("up"))
        return found

    def until(self, condition: Callable[[], bool], what: str, *, seconds: float = 60.0) -> None:
        """Wait for a condition; StackError when it does not come."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise StackError(
                    f"not within {seconds:g} s: {what}",
                    expected="the demo's relay, supervisor and producer at work",
                    next_step=f"{self.command('status')}, and {self.command('up')} to heal it",
                )
            time.sleep(0.1)

    def enqueue(self, queue: str, make: payloads.Maker, n: int, *, max_attempts: int | None = None) -> None:
        """Enqueue n jobs of a kind."""
        at = datetime.now(UTC)
        self.producer.enqueue_many(queue, (make(self.rng, at) for _ in range(n)), max_attempts=max_attempts)

    def scale(self, numbers: Mapping[str, int]) -> None:
        """Set the workers meant for queues, as the company's other tools would (it is no operator's action)."""
        with self.store.postgres.begin() as connection:
            for queue, n in numbers.items():
                changes.set_concurrency(connection, self.store.tables, queue, n)

    def note(self, key: str, value: str) -> None:
        """Keep a word in the database: the `surge` that the producer follows, the last `scenario` for `demo status`."""
        with self.store.postgres.begin() as connection:
            demo.set_state(connection, key, value)

    def clear_failed(self, queue: str) -> None:
        """Make room: what stood failed before must not be mixed up with the scenario's failures."""
        if self.queue(queue).failed:
            self.workbench.apply(self.workbench.plan("clear-failed", f"queue:{queue} status:failed"), reason=_REASON)


# ------------------------------------------------------------------------------------------------------- scenarios


def quiet(stage: Stage) -> str:
    """Everything green again: bugs fixed, queues resumed, workers and rates as usual, backlogs and failures gone."""
    wb = stage.workbench
    stage.note("surge", "")
    for bug in deploys.BUGS:
        if deploys.live(stage.store, bug):
            deploys.heal(stage.store, bug)
    stage.scale({q.name: q.concurrency for q in QUEUES})
    for q in wb.snapshot().queues:
        if q.waiting >= q.thresholds.warning_waiting:
            stage.say(f"Deleting {q.waiting:,} waiting jobs of {q.name} …")
            wb.apply(wb.plan("delete", f"queue:{q.name} status:waiting"), reason=_REASON)
        if q.queue.paused:
            wb.resume(q.name, reason=_REASON)
        if q.failed > TOLERATED:
            wb.retry(f"queue:{q.name} status:failed", reason=_REASON)

    def green() -> bool:
        queues = wb.snapshot().queues
        return bool(queues) and all(
            q.health is Health.HEALTHY and q.failed <= TOLERATED and not q.queue.paused and not q.stuck for q in queues
        )

    stage.until(green, "every queue is green", seconds=120)
    return "Quiet: every queue is green."


def black_friday(stage: Stage) -> str:
    """5,000 waiting in email-sending while bulk exports hog the workers."""
    stage.scale(BLACK_FRIDAY_WORKERS)
    stage.enqueue(LOW, payloads.big_export, EXPORTS)
    hogs = BLACK_FRIDAY_WORKERS[LOW]
    stage.until(lambda: stage.queue(LOW).active >= hogs, f"{hogs} workers are busy with exports")
    stage.note("surge", "black-friday")
    while (missing := BACKLOG - stage.queue(EMAIL).waiting) > 0:
        stage.enqueue(EMAIL, payloads.black_friday, missing + 100)
    return (
        f"Black Friday: {BACKLOG:,} e-mails wait in {EMAIL} and more come in than its one worker can send, while"
        f" {hogs} workers write exports for {LOW}. {HIGH} is processed normally.\n"
        f"Look at: the dashboard, or queuemon status --watch.\n"
        f"Heals it: queuemon pause {LOW}; queuemon scale {EMAIL} 8; with the backlog gone, queuemon resume {LOW}."
    )


def mrr_bug(stage: Stage) -> str:
    """Twelve failures in analytics:daily-aggregate: a division by zero."""
    stage.clear_failed(ANALYTICS)
    deploys.ship(stage.store, deploys.MRR)
    stage.enqueue(ANALYTICS, payloads.closed_plan, MRR_JOBS, max_attempts=FEW_ATTEMPTS)
    stage.until(lambda: stage.queue(ANALYTICS).failed == MRR_JOBS, f"{MRR_JOBS} jobs have failed in {ANALYTICS}")
    return (
        f"MRR bug: {MRR_JOBS} jobs of {ANALYTICS} failed with ZeroDivisionError"
        f" since the deploy {deploys.MRR.shipped!r}.\n"
        f"Look at: queuemon jobs 'queue:{ANALYTICS} status:failed', and the trace of one.\n"
        f"Heals it: {stage.command(f'deploy {deploys.MRR.fix}')};"
        f" then queuemon retry 'queue:{ANALYTICS} status:failed'."
    )


def bad_template(stage: Stage) -> str:
    """Failures of one template in one region, among many that look alike."""
    deploys.ship(stage.store, deploys.TEMPLATE)
    stage.enqueue(EMAIL, payloads.campaign, TEMPLATE_JOBS, max_attempts=FEW_ATTEMPTS)

    def failed() -> int:
        return stage.workbench.count(f'queue:{EMAIL} status:failed error:"Missing helper"').value

    stage.until(
        lambda: failed() >= TEMPLATE_FAILURES, f"{TEMPLATE_FAILURES} jobs with the bad template have failed in {EMAIL}"
    )
    return (
        f"Bad template: e-mails of {EMAIL} fail since the deploy {deploys.TEMPLATE.shipped!r}, and go on failing.\n"
        f"Look at: queuemon jobs 'queue:{EMAIL} status:failed': what do they share that the others do not?\n"
        f"Heals it: {stage.command(f'deploy {deploys.TEMPLATE.fix}')};"
        f" then queuemon retry 'queue:{EMAIL} status:failed'."
    )


def redis_loss(stage: Stage) -> str:
    """FLUSHALL with jobs waiting."""
    stage.enqueue(EMAIL, payloads.campaign, LOST_JOBS)
    with stage.store.redis.call() as client:
        client.flushall()
    return (
        f"Redis loss: FLUSHALL while about {stage.queue(EMAIL).waiting} jobs waited; PostgreSQL still has every one.\n"
        f"Look at: {EMAIL}: its depth, and the length of its list in Redis.\n"
        "Heals it: the relay, by itself: it publishes again what is waiting and in no list."
    )


def worker_crash(stage: Stage) -> str:
    """kill -9 of workers with jobs in hand."""
    stage.enqueue(LOW, payloads.big_export, 3)
    killed: list[victims.Victim] = []

    def struck() -> bool:
        killed.extend(victims.kill_workers_with_jobs(stage.store, LOW, limit=2 - len(killed)))
        return bool(killed)

    stage.until(struck, "a worker has a job in hand")
    jobs = ", ".join(str(v.job_id) for v in killed)
    lease = stage.store.settings.lease_seconds
    return (
        f"Worker crash: kill -9 of {len(killed)} worker(s) with a job in hand: {jobs}.\n"
        f"Look at: queuemon job {killed[0].job_id}: active, without a heartbeat.\n"
        f"Heals it: by itself. The supervisor starts new workers; after the lease of {lease:g} s the jobs wait again."
    )


SCENARIOS: Final[Mapping[str, Callable[[Stage], str]]] = {
    "quiet": quiet,
    "black-friday": black_friday,
    "mrr-bug": mrr_bug,
    "bad-template": bad_template,
    "redis-loss": redis_loss,
    "worker-crash": worker_crash,
}


def check(name: str) -> None:
    """Raise InvalidValue for a scenario that does not exist."""
    _known("scenario", name, SCENARIOS)


def start(
    name: str,
    directory: Path | None = None,
    *,
    settings: Settings | None = None,
    say: Say = lambda _text: None,
) -> str:
    """Bring a scenario about and return what to look at and what heals it; returns when its state is there.

    `settings` may name a database that `demo` has marked; otherwise it is the running demo's. Raises InvalidValue for
    an unknown name, NotAllowed for a database that is no demo, StackError when the demo's processes do not follow.
    """
    scene = SCENARIOS[_known("scenario", name, SCENARIOS)]
    with _stage(directory, settings, say) as stage:
        text = scene(stage)
        stage.note("scenario", name)
        return text


def deploy(name: str, directory: Path | None = None, *, settings: Settings | None = None) -> str:
    """Deploy a fix, as a deploy mark that the demo's handlers obey at once. Raises as `start` does."""
    bug = deploys.FIXES[_known("deploy", name, deploys.FIXES)]
    with _stage(directory, settings, lambda _text: None) as stage:
        deploys.heal(stage.store, bug)
        return f"Deployed {name}: {bug.fix_note}. What failed before stays failed until it is retried."


@contextmanager
def _stage(directory: Path | None, settings: Settings | None, say: Say) -> Iterator[Stage]:
    stage = Stage(settings or lifecycle.settings_of(directory), say, directory)
    with stage.workbench:
        stage.check()
        yield stage


def _known(what: str, name: str, names: Iterable[str]) -> str:
    if name in names:
        return name
    close = difflib.get_close_matches(name, list(names), n=1)
    raise InvalidValue(
        f"there is no {what} {name!r}",
        expected=f"one of {', '.join(names)}",
        next_step=f"did you mean {close[0]}?" if close else f"queuemon demo {what} {next(iter(names))}",
    )
