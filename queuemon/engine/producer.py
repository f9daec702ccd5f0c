"""The producer: commits jobs to PostgreSQL, then publishes them; applications, the demo and the tests use it."""

from __future__ import annotations

import difflib
import json
import logging
import re
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from queuemon.contract import EXPIRY
from queuemon.engine.ids import uuid7
from queuemon.engine.publisher import publish
from queuemon.errors import InvalidValue, StoreError, UnknownQueue
from queuemon.store import Store, arrivals, outbox
from queuemon.store.arrivals import NewJobs, Transaction
from queuemon.store.settling import Looks, settled

log = logging.getLogger(__name__)

#: Jobs per transaction of a batch.
BATCH = 1_000

#: After Redis was away, leave publication to the relay for this long instead of waiting for it with every job.
REST_SECONDS = 1.0

#: A NUL in a string (an escape that is not itself escaped), which jsonb cannot hold.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class Producer:
    """Enqueues jobs. What it returns has committed; while Redis is away the relay publishes it later.

    Safe to share between threads. A commit whose answer is lost is settled by looking for the job. Raises UnknownQueue,
    InvalidValue (payload, time or number), StoreError when PostgreSQL is away: at once where it was away before, and
    after some seconds where it was lost in that call; then nothing can be said about it. Made from read-only settings
    it raises NotAllowed at once, as the relay, the worker and the supervisor do.
    """

    def __init__(self, store: Store) -> None:
        store.settings.require_writable("enqueueing")
        self.store = store
        self._rest_until = 0.0

    def enqueue(
        self,
        queue: str,
        payload: Any,
        *,
        run_at: datetime | None = None,
        max_attempts: int | None = None,
        expires_after: timedelta | None = None,
    ) -> UUID:
        """Enqueue one job, due now or at `run_at`; it expires `expires_after` (24 h) after it first fell due."""
        new = _new(queue, [payload], run_at, max_attempts, expires_after)
        self._publish(self._committed(new))
        return new.ids[0]

    def enqueue_many(
        self,
        queue: str,
        payloads: Iterable[Any],
        *,
        run_at: datetime | None = None,
        max_attempts: int | None = None,
        expires_after: timedelta | None = None,
    ) -> list[UUID]:
        """Enqueue many jobs of one queue, 1,000 per transaction, each with one outbox row; returns ids in order."""
        ids: list[UUID] = []
        source = iter(payloads)
        while some := list(islice(source, BATCH)):
            new = _new(queue, some, run_at, max_attempts, expires_after)
            self._publish(self._committed(new))
            ids += new.ids
        return ids

    def enqueue_in(
        self,
        transaction: Transaction,
        queue: str,
        payload: Any,
        *,
        run_at: datetime | None = None,
        max_attempts: int | None = None,
        expires_after: timedelta | None = None,
    ) -> UUID:
        """Enqueue one job in the caller's transaction: it exists only if that commits, and the relay publishes it."""
        new = _new(queue, [payload], run_at, max_attempts, expires_after)
        self._insert(transaction, new)
        return new.ids[0]

    def _committed(self, new: NewJobs) -> list[int]:
        """Insert jobs in a transaction of their own; returns their outbox rows. Where its answer is lost, the ids,
        which were chosen before, say whether it has committed: if not, the same again."""
        looks = Looks()

        def once() -> list[int]:
            if looks.lost and (rows := self._found(new)) is not None:
                return rows
            own = self.store.postgres.statement() if len(new.ids) == 1 else self.store.postgres.begin()
            try:
                with own as connection:
                    return [self._insert(connection, new)]
            except StoreError:
                # The lost one may have committed while this one waited for its end.
                if looks.lost and (rows := self._found(new)) is not None:
                    return rows
                raise

        return settled(once, looks)

    def _found(self, new: NewJobs) -> list[int] | None:
        """The outbox rows that are left of jobs that exist; None where they do not."""
        with self.store.postgres.begin(read_only=True) as connection:
            if not arrivals.exists(connection, self.store.tables, new.ids[0]):
                return None
            return outbox.of_job(connection, self.store.tables, new.ids[0])

    def _insert(self, transaction: Transaction, new: NewJobs) -> int:
        row = arrivals.insert_jobs_in(transaction, self.store.tables, new)
        if row is None:
            raise self._unknown(new.queue)
        return row

    def _unknown(self, queue: str) -> UnknownQueue:
        with self.store.postgres.statement() as connection:
            names = arrivals.queue_names(connection, self.store.tables)
        close = difflib.get_close_matches(queue, names, n=3)
        return UnknownQueue(
            f"there is no queue {queue!r}",
            expected=f"one of {', '.join(names[:20]) or 'the rows of job_queues, of which there are none'}"
            + (" …" if len(names) > 20 else ""),
            next_step=f"did you mean {' or '.join(close)}?" if close else "correct the name, or add it to job_queues",
        )

    def _publish(self, rows: Sequence[int]) -> None:
        """The fast path. The job is safe already, so a store that is away is no error of the caller's."""
        if time.monotonic() < self._rest_until:
            return
        try:
            publish(self.store, outbox_ids=rows)
        except StoreError as error:
            self._rest_until = time.monotonic() + REST_SECONDS
            log.warning("publication is left to the relay: %s", error)


def _new(
    queue: str,
    payloads: Sequence[Any],
    run_at: datetime | None,
    max_attempts: int | None,
    expires_after: timedelta | None,
) -> NewJobs:
    if run_at is not None and run_at.utcoffset() is None:
        raise InvalidValue("run_at has no time zone", expected="an aware datetime", next_step="use datetime.now(UTC)")
    if max_attempts is not None and max_attempts < 1:
        raise InvalidValue(f"max_attempts is {max_attempts}", expected="1 or more")
    lifetime = EXPIRY if expires_after is None else expires_after
    if lifetime <= timedelta(0):
        raise InvalidValue(f"expires_after is {lifetime}", expected="more than nothing")
    return NewJobs(
        queue=queue,
        ids=[uuid7() for _ in payloads],
        payloads=[encode_payload(payload) for payload in payloads],
        run_at=run_at,
        max_attempts=max_attempts,
        expires_after_seconds=lifetime.total_seconds(),
    )


def encode_payload(payload: Any) -> str:
    """The payload as JSON that PostgreSQL can hold; raises InvalidValue saying what it cannot."""
    try:
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        reason = "a lone surrogate" if isinstance(error, UnicodeEncodeError) else str(error)[:200]
        raise InvalidValue(
            f"the payload cannot be written as JSON: {reason}",
            expected="dicts, lists, strings, finite numbers, booleans, None",
            next_step="convert dates and other objects to text first",
        ) from None
    if _NUL.search(text):
        raise InvalidValue(
            "the payload holds a NUL character", expected="text that jsonb can hold", next_step="remove U+0000"
        )
    return text
