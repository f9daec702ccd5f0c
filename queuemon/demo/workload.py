"""The demo's live load: the producer of all five queues, and the handlers that its worker processes run.

Workers load `queuemon.demo.workload:HANDLERS`; the producer is `python -m queuemon.demo.workload`. Both read the two
URLs from the environment.
"""

from __future__ import annotations

import argparse
import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Final

from queuemon import config
from queuemon.demo import deploys, faults, payloads
from queuemon.demo.queues import ANALYTICS, BY_NAME, EMAIL, QUEUES
from queuemon.engine.handlers import JobInHand
from queuemon.engine.process import Backoff, log_to_stderr, stop_on_signals
from queuemon.engine.producer import Producer
from queuemon.errors import QueuemonError
from queuemon.store import Store, demo

log = logging.getLogger(__name__)

#: Arrivals are gathered for so long, so that a surge is inserted in batches.
TICK_SECONDS: Final = 0.1
#: How often the producer looks whether a surge is on.
LOOK_SECONDS: Final = 1.0
#: Arrivals missed while a store was away are dropped beyond this age.
LATE_SECONDS: Final = 2.0


# -------------------------------------------------------------------------------------------------------- producer


class Arrivals:
    """When which queue gets its next job: regular with some jitter, so that even the quietest queue moves on screen."""

    def __init__(self, rates: Mapping[str, float], rng: Random, now: float) -> None:
        self.rng = rng
        self._rates = dict(rates)
        self._next = {queue: now + rng.random() / rate for queue, rate in rates.items() if rate > 0}

    def set_rates(self, rates: Mapping[str, float], now: float) -> None:
        """Change the rates; queues whose rate stays keep their appointments."""
        for queue, rate in rates.items():
            if rate != self._rates.get(queue):
                self._rates[queue] = rate
                self._next.pop(queue, None)
                if rate > 0:
                    self._next[queue] = now + self.rng.random() / rate

    def due(self, now: float) -> dict[str, int]:
        """How many jobs each queue gets now; what is much too late is dropped."""
        found: dict[str, int] = {}
        for queue, at in self._next.items():
            moment = max(at, now - LATE_SECONDS)
            while moment <= now:
                found[queue] = found.get(queue, 0) + 1
                moment += (0.6 + 0.8 * self.rng.random()) / self._rates[queue]
            self._next[queue] = moment
        return found


def produce(store: Store, stop: threading.Event, *, rate: float = 1.0, seed: int = 7) -> None:
    """Enqueue into all queues until told to stop, at `rate` times the usual rates; waits for stores that are away."""
    rng, producer, backoff = Random(f"{seed}:live"), Producer(store), Backoff()
    arrivals = Arrivals(_rates("", rate), rng, time.monotonic())
    surge, look_at = "", 0.0
    while not stop.is_set():
        now = time.monotonic()
        try:
            if now >= look_at:
                surge, look_at = _surge(store), now + LOOK_SECONDS
                arrivals.set_rates(_rates(surge, rate), now)
            for queue, n in arrivals.due(now).items():
                make = payloads.black_friday if (surge, queue) == ("black-friday", EMAIL) else payloads.MAKERS[queue]
                at = datetime.now(UTC)
                producer.enqueue_many(queue, [make(rng, at) for _ in range(n)])
            backoff.reset()
            stop.wait(TICK_SECONDS)
        except QueuemonError as error:
            log.warning("the producer waits: %s", error)
            stop.wait(backoff.next())


#: Surge → queue → jobs per second, where they differ from the usual.
SURGES: Final[Mapping[str, Mapping[str, float]]] = {"black-friday": {EMAIL: 27.0}}


def _rates(surge: str, factor: float) -> dict[str, float]:
    return {q.name: SURGES.get(surge, {}).get(q.name, q.rate * factor) for q in QUEUES}


def _surge(store: Store) -> str:
    with store.postgres.statement() as connection:
        return str(demo.state(connection, "surge") or "")


# -------------------------------------------------------------------------------------------------------- handlers


class ServiceError(Exception):
    """A failure of one of the demo's services, with the trace that the service printed."""

    def __init__(self, failure: faults.Failure) -> None:
        super().__init__(failure.message)
        self.queuemon_error_type = failure.error_type
        self.queuemon_stack_trace = failure.trace


def handle(job: JobInHand) -> None:
    """Run a job of any demo queue: take its time, then fail where its payload meets a bug, or by bad luck.

    Luck never takes the last attempt, so failures do not pile up in a demo that is left alone.
    """
    queue, rng = BY_NAME[job.queue], Random(f"{job.id}:{job.gen}")
    payload = job.payload if isinstance(job.payload, dict) else {}
    try:
        seconds = payloads.duration_ms(queue, payload, rng) / 1_000
    except (KeyError, TypeError):  # a payload that somebody else enqueued
        seconds = queue.duration_ms / 1_000
    job.cancelled.wait(seconds)
    fault = _BUGS.get(job.queue, _no_bug)(payload)
    if fault is None and job.attempt < job.max_attempts and rng.random() < queue.failure_rate:
        fault = faults.draw(job.queue, rng)
    if fault is not None:
        raise ServiceError(faults.occurrence(fault, payload, rng))


def _mrr(payload: payloads.Payload) -> faults.Fault | None:
    """A plan that nobody subscribes to, divided by its subscribers."""
    suspect = payload.get("metric") == "mrr" and payload.get("active_subscriptions") == 0
    return faults.MRR if suspect and deploys.live(_store(), deploys.MRR) else None


def _template(payload: payloads.Payload) -> faults.Fault | None:
    """A template that misses a helper in one region."""
    suspect = (payload.get("template"), payload.get("region")) == (payloads.BAD_TEMPLATE, payloads.BAD_REGION)
    return faults.TEMPLATE if suspect and deploys.live(_store(), deploys.TEMPLATE) else None


def _no_bug(_payload: payloads.Payload) -> faults.Fault | None:
    return None


_BUGS: Final[Mapping[str, Callable[[payloads.Payload], faults.Fault | None]]] = {ANALYTICS: _mrr, EMAIL: _template}

#: What the demo's workers load.
HANDLERS: Final = {queue.name: handle for queue in QUEUES}


@cache
def _store() -> Store:
    """The worker's own look at the deploys; asked only for jobs that a bug would hit."""
    return Store(config.load(), application="queuemon demo handler")


def main() -> None:
    """The producer's process."""
    parser = argparse.ArgumentParser(prog="python -m queuemon.demo.workload", description="The demo's producer.")
    parser.add_argument("--rate", type=float, default=1.0, help="times the usual rates")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    log_to_stderr()
    stop = stop_on_signals()
    with Store(config.load(), application="queuemon demo producer") as store:
        produce(store, stop, rate=arguments.rate, seed=arguments.seed)


if __name__ == "__main__":
    main()
