"""A worker that takes one step at a time, for tests that interleave workers with everything else in one thread."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from queuemon.contract import decode_element
from queuemon.engine.ids import uuid7
from queuemon.engine.process import Hold
from queuemon.engine.worker import Worker
from queuemon.store import Store, claims, workers
from queuemon.store.claims import Claimed, Failure, Lease

FAILURE = Failure(error_type="ValueError", message="no", stack_trace="")


@dataclass(kw_only=True)
class Seen:
    """What workers have seen."""

    #: How often each generation of a job was started.
    starts: Counter[tuple[UUID, int]] = field(default_factory=Counter)
    #: (queue, element) of all that was taken.
    elements: list[tuple[str, bytes]] = field(default_factory=list)


class Hand:
    """The statements and scripts are the real worker's."""

    def __init__(self, store: Store, home: str, seen: Seen) -> None:
        self.store, self.seen = store, seen
        self.worker = Worker(store, home=home, handlers=lambda _: None)
        self.worker.process = workers.Process(
            id=f"w-{uuid7().hex[-12:]}", kind="worker", home=home, host="here", pid=1
        )  # fmt: skip
        self.element: tuple[str, bytes] | None = None
        self.job: Claimed | None = None
        self.beat()

    @property
    def lease(self) -> Lease:
        """What the claimed job is held by."""
        assert self.job is not None
        return Lease(job_id=self.job.id, gen=self.job.gen, worker_id=self.worker.id)

    def beat(self) -> None:
        """Say that it lives."""
        with self.store.postgres.statement() as connection:
            workers.beat(connection, self.store.tables, self.worker.process, self.lease if self.job else None)

    def pop(self) -> None:
        """Take an element in hand, if there is one."""
        if self.element is None:
            self.worker._refresh()
            self.element = self.worker._pop()
            if self.element is not None:
                self.seen.elements.append(self.element)

    def claim(self) -> None:
        """Claim what is in hand; a refused element is put away, one that means nothing is set aside."""
        if self.element is None or self.job is not None:
            return
        queue, raw = self.element
        element = decode_element(raw)
        if element is None:
            keys = self.store.redis.keys
            hand = keys.processing_key(self.worker.id, queue)
            self.store.redis.run("quarantine", [hand, keys.quarantine_key(queue)], [raw])
            self.element = None
            return
        with self.store.postgres.statement() as connection:
            answer = claims.claim(
                connection, self.store.tables, job_id=UUID(element.id), gen=element.gen, worker_id=self.worker.id
            )
        if isinstance(answer, Claimed):
            self.job = answer
            self.seen.starts[answer.id, answer.gen] += 1
        else:
            self.worker._put_away(queue, raw, UUID(element.id), element.gen or 0, answer)
            self.element = None

    def end(self, *, well: bool) -> None:
        """Write the outcome of the job in hand, and empty the hand."""
        if self.job is None or self.element is None:
            return
        with self.store.postgres.statement() as connection:
            if well:
                claims.complete(connection, self.store.tables, self.lease)
            else:
                claims.fail(connection, self.store.tables, self.lease, FAILURE, backoff_seconds=0.0)
        self._empty()

    def give_back(self) -> None:
        """What a worker that is stopped does with a job that does not end."""
        if self.job is None:
            return
        self.worker._hand_back(Hold(lease=self.lease, cancelled=threading.Event()), threading.Event())
        self._empty()

    def work(self, *, well: bool = True) -> bool:
        """Take a job, run it, write its outcome; whether there was an element."""
        self.pop()
        there = self.element is not None
        self.claim()
        self.end(well=well)
        return there

    def _empty(self) -> None:
        assert self.job is not None
        assert self.element is not None
        self.worker._empty_hand(*self.element, self.job.id, self.job.gen)
        self.element = self.job = None
