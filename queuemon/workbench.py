"""`connect()` and the `Workbench`: the one place where the parts are wired; every surface holds one of these."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, cast
from uuid import UUID

from pydantic import SecretStr

from queuemon import config
from queuemon.config import Settings
from queuemon.contract import JobStatus, Priority
from queuemon.errors import InvalidValue, LimitExceeded, NotAllowed, StackError, UnknownJob
from queuemon.filters import JobFilter
from queuemon.model import (
    ActionKind,
    ActionProgress,
    ActionRecord,
    ActionResult,
    CanaryProgress,
    CanaryResult,
    Check,
    Count,
    JobDetail,
    JobOutcome,
    JobPage,
    Pause,
    Plan,
    Queue,
    RedisPlace,
    Snapshot,
    Trend,
    WorkerLevel,
)
from queuemon.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from queuemon.actions.applying import Carrier
    from queuemon.analysis.attributes import Column
    from queuemon.analysis.durations import Durations
    from queuemon.analysis.explanation import Explanation
    from queuemon.analysis.failures import Failures
    from queuemon.analysis.forecast import Forecast
    from queuemon.analysis.incident import Incident
    from queuemon.analysis.investigation import Investigation
    from queuemon.analysis.onset import Onset
    from queuemon.analysis.timeline import Timeline
    from queuemon.analysis.window import When
    from queuemon.drift.aside import Quarantined
    from queuemon.drift.model import DriftProgress, DriftReport
    from queuemon.drift.watch import Watch
    from queuemon.masking import Masking, Sight
    from queuemon.store.deploys import Deploy

#: Columns of `frame` when none are named.
FRAME_COLUMNS = ("id", "queue", "status", "attempts", "created_at", "finished_at", "error_type", "error_message")

#: Name of the file in the demo's folder that holds its two URLs (readable by its owner alone).
DEMO_URLS = "urls.json"


def connect(profile: str | None = None) -> Workbench:
    """A Workbench for a profile of queuemon.toml, the two environment variables, or the running embedded demo.

    Connects to nothing yet: a store that is away shows in the first read. Raises ConfigError for settings that cannot
    be used, StackError when nothing is configured and no demo runs.
    """
    return Workbench(resolve(config.load(profile)))


def resolve(settings: Settings) -> Settings:
    """The settings with the embedded demo's URLs filled in, when nothing was configured."""
    if not settings.embedded or settings.database_url.get_secret_value():
        return settings
    path = config.demo_directory() / DEMO_URLS
    try:
        urls = json.loads(path.read_text("utf-8"))
        found = {key: SecretStr(urls[key]) for key in ("database_url", "redis_url")}
    except (OSError, ValueError, KeyError, TypeError):
        raise StackError(
            "nothing is configured and no embedded demo is running",
            expected="QUEUEMON_DATABASE_URL and QUEUEMON_REDIS_URL, a queuemon.toml, or the demo",
            next_step="run `queuemon demo up`, or set the two URLs",
        ) from None
    return settings.model_copy(update=found)


class Workbench:
    """Everything an operator can see and do, over one pair of stores. Safe to share between threads."""

    def __init__(self, settings: Settings, *, application: str = "queuemon") -> None:
        self.settings = settings
        self.store = Store(settings, application=application)

    # ------------------------------------------------------------------------------------------------------- see

    def snapshot(self) -> Snapshot:
        """Every queue's numbers now; each half has its own time and may fail alone. Never raises for a store away."""
        return self.store.snapshot()

    def queues(self) -> tuple[Queue, ...]:
        """All queues, most urgent first."""
        from queuemon.store import numbers

        with self.store.postgres.begin(read_only=True) as connection:
            return numbers.queues(connection, self.store.tables)

    def queue_name(self, text: str) -> str:
        """The bare name of an existing queue, from a name with or without its prefix; raises UnknownQueue."""
        from queuemon.store.names import queue_named

        return queue_named(text, [q.name for q in self.queues()], self.settings.keys)

    def reddest(self) -> str:
        """The bare name of the queue that is worst off; raises InvalidValue where there is none to choose from."""
        from queuemon.analysis import investigation

        return investigation.reddest(self.snapshot())

    def jobs(
        self,
        where: str | JobFilter = "",
        *,
        limit: int = 50,
        after: str | None = None,
        before: str | None = None,
        sort: str = "created",
        descending: bool = True,
    ) -> JobPage:
        """A page of jobs matching a filter, newest first; `after` and `before` are cursors of another page."""
        from queuemon.store import jobs

        wanted = self._filter(where)
        with self.store.postgres.statement() as connection:
            return jobs.page(
                connection,
                self.store.tables,
                self.settings,
                wanted,
                limit=limit,
                after=after,
                before=before,
                sort=sort,
                descending=descending,
            )

    def job(self, job_id: UUID | str) -> JobDetail:
        """A job, every attempt at it, and where it is in Redis (a hint). Raises UnknownJob, InvalidValue."""
        from queuemon.errors import QueuemonError
        from queuemon.store import jobs, numbers

        key = parse_id(job_id)
        with self.store.postgres.begin(read_only=True) as connection:
            job = jobs.job(connection, self.store.tables, key)
            if job is None:
                raise UnknownJob(
                    f"there is no job {key}",
                    expected="the id of a job that stands in `jobs`",
                    next_step="a deleted job is listed under `queuemon actions`",
                )
            attempts = jobs.history(connection, self.store.tables, key)
            clock = numbers.clock(connection)
        try:
            place = self.store.redis.place(str(key), job.queue, job.worker_id)
        except QueuemonError as error:
            place = RedisPlace(where="unknown", note=str(error))
        return JobDetail(job=job, attempts=attempts, redis=place, clock=clock, masking=self.settings.masking)

    def reveal(self, job_id: UUID | str, *, reason: str) -> JobDetail:
        """A job as `job` returns it, with nothing masked: an action that is entered in the audit trail first (who, why,
        which keys; never a value). Raises UnknownJob, InvalidValue (no reason), NotAllowed."""
        from dataclasses import replace

        from queuemon.masking import REVEALED

        self.apply(self.plan(ActionKind.REVEAL, job_id), reason=reason)
        return replace(self.job(job_id), masking=REVEALED)

    def payload_paths(self, ids: Sequence[UUID]) -> tuple[tuple[str, ...], ...]:
        """Paths of keys that stand in the payloads of these jobs, those in most of them first; at most 80."""
        from queuemon.store import payloads

        with self.store.postgres.begin(read_only=True) as connection:
            return payloads.paths(connection, self.store.tables, ids)

    def payload_values(self, ids: Sequence[UUID], paths: Sequence[Sequence[str]]) -> dict[UUID, tuple[str, ...]]:
        """What stands under these paths in each job, as text (its first 400 characters), masked; "" for nothing."""
        from queuemon.store import payloads

        masking = self.settings.masking
        with self.store.postgres.begin(read_only=True) as connection:
            found = payloads.values(connection, self.store.tables, ids, paths)
        return {
            job: tuple(masking.at(path, value) for path, value in zip(paths, values, strict=True))
            for job, values in found.items()
        }

    def count(self, where: str | JobFilter = "") -> Count:
        """How many jobs match: exact up to a named cap, beyond it "at least"."""
        from queuemon.store import jobs

        with self.store.postgres.begin(read_only=True) as connection:
            return jobs.count(connection, self.store.tables, self.settings, self._filter(where))

    def status_counts(self, queue: str | None = None) -> dict[JobStatus, int]:
        """Jobs by state, of one queue or all; exact."""
        from queuemon.store import numbers

        with self.store.postgres.begin(read_only=True) as connection:
            name = self.settings.keys.queue_name(queue) if queue else None
            return numbers.status_counts(connection, self.store.tables, name)

    def statuses_of(self, ids: Sequence[UUID]) -> dict[JobStatus, int]:
        """How the jobs with these ids stand now, by state; those that no longer exist are in none."""
        from queuemon.store import outcomes

        with self.store.postgres.begin(read_only=True) as connection:
            return outcomes.statuses_of(connection, self.store.tables, ids)

    def frame(
        self,
        where: str | JobFilter = "",
        *,
        columns: Sequence[str] = FRAME_COLUMNS,
        limit: int = 1_000_000,
        seconds: float = 60.0,
    ) -> pd.DataFrame:
        """The matching jobs, newest first, as a pandas DataFrame; `columns` may hold `payload.PATH` (text).

        Raises InvalidValue for an unknown column, LimitExceeded above ten million rows, StoreTimeout after `seconds`.
        """
        from queuemon.store import export

        self._check_limit(limit)
        table = export.read_arrow(self.store.postgres, self._filter(where), columns, limit, seconds=seconds)
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def export_csv(
        self,
        target: IO[bytes],
        where: str | JobFilter = "",
        *,
        columns: Sequence[str] = FRAME_COLUMNS,
        limit: int = 1_000_000,
        seconds: float = 60.0,
        masked: bool = True,
    ) -> None:
        """The matching jobs, newest first, streamed as CSV; an apostrophe disarms what a spreadsheet would run.

        What is masked on screens is masked in it, too, unless `masked` is False: then ask whether that should stand in
        the audit trail (`apply(plan("reveal", where, columns=…), reason=…)`), as the command line does.
        """
        from queuemon.masking import REVEALED
        from queuemon.store import export

        self._check_limit(limit)
        export.write_csv(
            self.store.postgres, self._filter(where), columns, limit, target, seconds=seconds,
            masking=self.settings.masking if masked else REVEALED,
        )  # fmt: skip

    def export_json(
        self,
        target: IO[bytes],
        where: str | JobFilter = "",
        *,
        columns: Sequence[str] = FRAME_COLUMNS,
        limit: int = 1_000_000,
        seconds: float = 60.0,
        masked: bool = True,
    ) -> None:
        """The same as one JSON array of objects, times in ISO 8601, payloads as they are."""
        from queuemon.masking import REVEALED
        from queuemon.store import export

        self._check_limit(limit)
        export.write_json(
            self.store.postgres, self._filter(where), columns, limit, target, seconds=seconds,
            masking=self.settings.masking if masked else REVEALED,
        )  # fmt: skip

    def trends(self, queue: str | None = None, *, hours: float = 6.0, bucket_seconds: int | None = None) -> Trend:
        """Arrivals, completions and failed attempts over the last hours, of one queue or all."""
        from queuemon.store import trends

        if not 0 < hours <= 24 * 31:
            raise InvalidValue(f"hours is {hours}", expected="more than 0, at most 744")
        # About 120 points whatever the window, in whole minutes.
        bucket = bucket_seconds or max(60, round(hours * 3600 / 120 / 60) * 60)
        if bucket < 60 or bucket % 60:
            raise InvalidValue(f"bucket_seconds is {bucket}", expected="whole minutes, 60 or more")
        name = self.settings.keys.queue_name(queue) if queue else None
        with self.store.postgres.begin(read_only=True) as connection:
            return trends.trend(connection, self.store.tables, queue=name, hours=hours, bucket_seconds=bucket)

    def failures(
        self,
        queue: str | None = None,
        since: When = "24h",
        until: When | None = None,
        *,
        limit: int = 20,
    ) -> Failures:
        """The failed attempts of a window by cause, those with most attempts first, each with its filter.

        `since` and `until` are times, ages ("2h") or text ("14:03", UTC), at most 31 days back. Exact up to a million
        attempts, beyond that a sample that `notes` speaks of. Raises InvalidValue, UnknownQueue, StoreTimeout.
        """
        from queuemon.analysis import failure_reading

        name = self.queue_name(queue) if queue else None
        return failure_reading.failures(self.store, since, until, queue=name, limit=limit)

    def deploys(self, *, limit: int = 50) -> tuple[Deploy, ...]:
        """The deploys that were marked, the newest first."""
        from queuemon.store import deploys

        with self.store.postgres.begin(read_only=True) as connection:
            return deploys.marks(connection, self.store.tables, limit=limit)

    def mark_deploy(self, name: str, *, at: When | None = None, note: str = "") -> Deploy:
        """Note that a release went out, now or `at` a time, as `failures` takes it; charts and failures tell before
        from after by it."""
        from queuemon.analysis.window import moment
        from queuemon.store import deploys, numbers

        self._may_act("marking a deploy")
        with self.store.postgres.begin() as connection:
            now = numbers.clock(connection)
            when = None if at is None else moment(at, now=now, name="at")
            if when is not None and when > now + timedelta(minutes=1):
                raise InvalidValue(f"at is {when:%Y-%m-%d %H:%M} UTC, which lies in the future", expected="a time past")
            return deploys.mark(connection, self.store.tables, name, at=when, note=note)

    def timeline(
        self,
        queue: str | None = None,
        since: When = "6h",
        until: When | None = None,
        *,
        bucket: int | None = None,
    ) -> Timeline:
        """Depth, arrivals, starts, completions, failures and waits of the past, of one queue or all, reconstructed from
        the jobs' clocks; with the deploys and operator actions beside them.

        `since` and `until` are times, ages ("2h") or text ("14:03", UTC), at most 31 days back; `bucket` is in whole
        minutes, given in seconds. Exact at the ends of buckets. Raises InvalidValue, UnknownQueue, StoreTimeout.
        """
        from queuemon.analysis import timeline as curves
        from queuemon.analysis.window import window
        from queuemon.store import timeline as counting

        name, t = self.queue_name(queue) if queue else None, self.store.tables
        with self.store.postgres.begin(seconds=counting.SECONDS) as connection:
            now = counting.clock(connection)
            wanted = window(since, until, now=now, longest=counting.LONGEST, queue=name)
            cells = curves.grid(wanted, bucket)
            reading = counting.read(
                connection, t, now=now, since=cells.first, step=cells.step, buckets=cells.buckets, queue=name
            )
            happened = counting.happened(connection, t, since=wanted.since, until=wanted.until)
        return curves.reconstruct(reading, wanted, cells, happened)

    def durations(self, queue: str | None = None, since: When = "6h", until: When | None = None) -> Durations:
        """How long the jobs took that completed, from created to done: the middle, and the slowest 5 % and 1 %, over
        time; with the queue's target. Beyond 30,000 jobs from a part of the time, evenly spread.

        `since` and `until` as `timeline` takes them. Raises InvalidValue, UnknownQueue, StoreTimeout.
        """
        from queuemon.analysis import durations as over_time
        from queuemon.analysis.window import window
        from queuemon.store import durations as reading
        from queuemon.store import numbers
        from queuemon.store.timeline import LONGEST

        t, target = self.store.tables, None
        name = self.queue_name(queue) if queue else None
        with self.store.postgres.begin(seconds=reading.SECONDS, read_only=True) as connection:
            wanted = window(since, until, now=numbers.clock(connection), longest=LONGEST, queue=name)
            if name is not None:
                target = next(q.target_seconds for q in numbers.queues(connection, t) if q.name == name)
            most = reading.completed(connection, t, queue=name, since=wanted.since, until=wanted.until)
            share = min(1.0, reading.JOBS / max(1, most))
            found = reading.quantiles(connection, t, list(over_time.slices(wanted, share)), queue=name)
        return over_time.durations(wanted, found, target_seconds=target, share=share)

    def onset(
        self,
        queue: str | None = None,
        since: When = "6h",
        until: When | None = None,
        *,
        timeline: Timeline | None = None,
    ) -> Onset:
        """When failure rate and depth changed within a window, of one queue or all, and which deploys and actions lie
        just before: "failures rose from 0.4 % to 37 % at 14:03, 2 min after deploy 2026.10.3".

        Of a `timeline` that was read already, its own changes. Raises what `timeline` raises.
        """
        from queuemon.analysis import onset

        return onset.find(timeline or self.history(queue, since, until))

    def history(self, queue: str | None = None, since: When = "6h", until: When | None = None) -> Timeline:
        """`timeline` in the buckets that changes are looked for in: a minute for windows up to eight hours."""
        from queuemon.analysis import onset
        from queuemon.analysis.window import window
        from queuemon.store import timeline as counting

        with self.store.postgres.begin(read_only=True) as connection:
            now = counting.clock(connection)
        length = window(since, until, now=now, longest=timedelta(days=32)).length
        return self.timeline(queue, since, until, bucket=onset.bucket(length))

    def forecast(self, queue: str, workers: int | Sequence[int] | None = None) -> Forecast:
        """When a queue's backlog will be gone: as it is now, and with other numbers of workers.

        From what came and went in the minutes since conditions last changed (at most two hours), the rhythm of arrivals
        of up to seven days, and what each worker did. Raises UnknownQueue, InvalidValue.
        """
        from queuemon.analysis import forecast as outlook
        from queuemon.store import backlog, numbers

        others = (workers,) if isinstance(workers, int) else tuple(workers or ())
        if any(not 0 < n <= self.settings.concurrency_limit for n in others) or len(others) > 20:
            raise InvalidValue(
                f"workers is {workers}", expected=f"1 to {self.settings.concurrency_limit:,} each, at most 20"
            )
        name, t = self.queue_name(queue), self.store.tables
        seen = self.timeline(name, timedelta(minutes=outlook.LOOK_BACK + 1), bucket=60)
        came = [p.due - p.left for p in seen.whole]
        went = [p.started + p.expired for p in seen.whole]
        minutes = outlook.present(came, went).minutes
        with self.store.postgres.begin(read_only=True) as connection:
            days = backlog.known_days(connection, t, name, until=seen.clock, most=7)
            past = backlog.arrivals(connection, t, name, until=seen.clock, days=days)
            ended = backlog.served_by(connection, t, name, since=seen.clock - timedelta(minutes=minutes))
            paused = next(q.paused for q in numbers.queues(connection, t) if q.name == name)
        return outlook.forecast(
            name, seen.points[-1].depth, came, went, clock=seen.clock, workers=outlook.crew(ended), others=others,
            rhythm=outlook.rhythm(past, days=days), paused=paused,
        )  # fmt: skip

    def explain(
        self,
        where: str | JobFilter = "",
        *,
        signature: str | None = None,
        since: When = "24h",
        until: When | None = None,
        queue: str | None = None,
        seed: int = 0,
        seconds: float = 60.0,
    ) -> Explanation:
        """What the failing jobs that match a filter (and a signature) share that the succeeding ones do not.

        Failing: an attempt failed in the window. They are compared with the completed jobs of the same queues and
        window; conditions on what a job is (payload, queue, created, worker) narrow both sides. At most 100,000 jobs of
        each side are read, beyond that a draw by `seed`. Raises InvalidValue, UnknownQueue, StoreTimeout.
        """
        from dataclasses import replace

        from queuemon.analysis.attributes import Column
        from queuemon.analysis.columns import columns
        from queuemon.analysis.contrast import explain
        from queuemon.analysis.window import window
        from queuemon.filters import quote
        from queuemon.filters.tree import fields
        from queuemon.masking import Sight
        from queuemon.store import contrast, numbers

        wanted = self._filter(where)
        if signature is not None:
            wanted = wanted & JobFilter.parse(f"signature:{quote(signature)}")
        name = self.queue_name(queue) if queue else None
        if name is not None and wanted.queues() != frozenset({name}):
            wanted = wanted & JobFilter.of(queue=name)
        with self.store.postgres.statement() as connection:
            now = numbers.clock(connection)
        chosen = window(since, until, now=now, longest=contrast.LONGEST, queue=name)
        sides = contrast.read(
            self.store.postgres, wanted, since=chosen.since, until=chosen.until, queue=name, seed=seed, seconds=seconds
        )
        masking = self.settings.masking
        sights = {path: masking.sight(path) for path in sides.paths}
        every = list(
            columns(
                sides.table, sides.paths, sides.presence, without=sides.chosen_by,
                hidden=lambda path: sights[path] is Sight.HIDE,
            )
        )  # fmt: skip
        given = [c for c in every if not (isinstance(c, Column) and _tells(c, masking, sights))]
        secret = [path for path in sides.paths if path not in {c.path for c in given}]
        answer = explain(
            sides.table.column("failed").to_numpy(zero_copy_only=False).astype(bool),
            given,
            deploy_marks=() if "started" in sides.chosen_by else sides.deploys,
            weight=sides.weight,
        )
        unsigned = 0
        if not answer.failing and "signature" in fields(wanted.root):
            unsigned = self.failures(name, chosen.since, chosen.until).unsigned
        return replace(
            answer, where=str(wanted), unsigned=unsigned, baseline=sides.shared, since=chosen.since, until=chosen.until,
            notes=(*sides.notes, *_unseen(secret, masking), *answer.notes),
        )  # fmt: skip

    def explain_cause(
        self,
        queue: str,
        signature: str | None = None,
        *,
        began: datetime | None = None,
        since: When = "6h",
        until: When | None = None,
        seconds: float = 60.0,
    ) -> Explanation:
        """`explain` for the failing jobs of a queue, or of one signature of it, since the trouble `began`: what ran
        before has not been through it. Where too few have succeeded since, those of the whole window stand in."""
        from dataclasses import replace

        from queuemon.analysis import investigation

        asked: dict[str, Any] = {"signature": signature, "queue": queue, "until": until, "seconds": seconds}
        found = self.explain(since=began or since, **asked)
        if began is None or found.succeeding >= investigation.ENOUGH:
            return found
        wider = self.explain(f"started>='{began:%Y-%m-%dT%H:%M:%S}'", since=since, **asked)
        note = f"Only {found.succeeding:,} have succeeded since it began: earlier ones stand in."
        return replace(wider, notes=(note, *wider.notes))

    def investigate(self, queue: str | None = None, since: When = "6h", until: When | None = None) -> Investigation:
        """From "something is red" to the cause, of a queue or the reddest one: when it began and after what, the error
        that most attempts failed by since, what the jobs that failed so share, and what becomes of the backlog.

        The window must reach back beyond the beginning. Raises what `timeline`, `failures` and `explain` raise.
        """
        from queuemon.analysis import investigation

        snapshot = self.snapshot()
        name = self.queue_name(queue) if queue else investigation.reddest(snapshot)
        seen = self.history(name, since, until)
        onset = self.onset(timeline=seen)
        change, end = investigation.began(onset), investigation.ended(onset)
        start = change.at if change else seen.window.since
        failures, explanation = self.failures(name, start, until), None
        if failures.causes:
            # What ran after the end has been through it as little as what ran before.
            explanation = self.explain_cause(
                name, failures.causes[0].signature, began=change.at if change else None, since=seen.window.since,
                until=end.at if end else until,
            )  # fmt: skip
        return investigation.Investigation(
            stats=snapshot.queue(name), timeline=seen, onset=onset, failures=failures, explanation=explanation,
            forecast=self.forecast(name),
        )  # fmt: skip

    def incident(self, since: When, until: When | None = None, queue: str | None = None) -> Incident:
        """What an incident was: which queues it hit and how badly, when and after what it began, its errors, what the
        jobs that failed share, who did what, when it ended. Explains `queue`, or the one that was hit worst.

        `since` and `until` as `timeline` takes them, made wider to whole buckets that are over; begin well before the
        trouble. Reads each of the 20 queues with most events: seconds for a window of hours. Raises what `investigate`
        raises.
        """
        from queuemon.analysis import incident, investigation
        from queuemon.analysis.window import window
        from queuemon.store import hit
        from queuemon.store import timeline as counting

        asked, t = self.queue_name(queue) if queue else None, self.store.tables
        with self.store.postgres.begin(seconds=hit.SECONDS, read_only=True) as connection:
            now = counting.clock(connection)
            given = window(since, until, now=now, longest=counting.LONGEST, queue=asked)
            wanted = incident.whole_buckets(given, now, longest=counting.LONGEST)
            jobs = hit.jobs_hit(connection, t, since=wanted.since, until=wanted.until)
        first, last = wanted.since, wanted.until
        together = self.timeline(None, first, last)
        deepest = {q.queue: max(q.depth, default=0) for q in together.by_queue}
        known = {q.name: q.target_seconds for q in self.queues()}
        order = sorted(known, key=lambda n: (n != asked, -(jobs[n].jobs if n in jobs else 0), -deepest.get(n, 0), n))
        impacts = []
        for name in order[: incident.QUEUES]:
            seen = self.history(name, first, last)
            began = investigation.began(self.onset(timeline=seen))
            impacts.append(incident.impact(seen, known[name], jobs.get(name), began))
        worst = incident.worst_first(impacts)
        explained = asked or (worst[0].queue if worst else order[0] if order else None)
        return incident.Incident(
            window=wanted, impacts=worst, others=len(order) - len(impacts),
            investigation=self.investigate(explained, first, last), happened=together.happened, clock=now,
        )  # fmt: skip

    def drift(
        self,
        queues: str | Sequence[str] | None = None,
        *,
        deep: bool = False,
        wait_seconds: float | None = None,
        level: str | None = None,
        progress: Callable[[DriftProgress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> DriftReport:
        """Where PostgreSQL and Redis disagree, looked at twice with a pause between (default: 2 s, or as long as
        workers need to beat). `deep` compares payloads and counts completed jobs too; `level` is the workers', which
        says what they drop by themselves (default: what `worker_level` finds, L0 where nothing shows). Reads alone."""
        from queuemon.drift import detect

        names = [queues] if isinstance(queues, str) else queues
        chosen = None if names is None else [self.queue_name(name) for name in names]
        return detect.compare(
            self.store, chosen, deep=deep, wait_seconds=wait_seconds, level=level or self.worker_level().assumed,
            progress=progress, stop=stop,
        )  # fmt: skip

    def quarantine(self, queue: str, *, limit: int = 100) -> tuple[Quarantined, ...]:
        """The elements of a queue that were set aside, the oldest first; their bytes are hostile."""
        from queuemon.drift import aside

        return aside.listed(self.store, self.queue_name(queue), limit=limit)

    def drift_watch(self) -> Watch:
        """A continuous, cheap look for drift: call its `tick()` every few seconds; it returns a `DriftWatch`."""
        from queuemon.drift.watch import Watch

        return Watch(self.store)

    # ------------------------------------------------------------------------------------------------------- fix

    @property
    def read_only(self) -> bool:
        """Whether this workbench refuses every action."""
        return self.read_only_reason is not None

    @property
    def read_only_reason(self) -> str | None:
        """Why it refuses: the settings, or the rights of the database role; None when it may act."""
        if (why := self.settings.read_only_reason) is not None:
            return why
        if self._role_reason is None:
            from queuemon.errors import QueuemonError
            from queuemon.store import rights

            try:
                with self.store.postgres.begin(read_only=True) as connection:
                    self._role_reason = (rights.refusal(connection, self.store.tables),)
            except QueuemonError:
                return None  # PostgreSQL is away: nothing is known, and nothing can be done anyway
        return self._role_reason[0]

    #: What the rights of the role said, once known.
    _role_reason: tuple[str | None] | None = None

    def plan(self, kind: ActionKind | str, target: Any, **options: Any) -> Plan:
        """What an action would do, by reading alone. `target`: a filter, a job id, ids, or a queue's name; of a repair
        a report of `drift()`, or queues (None: all), which are compared first."""
        from queuemon import actions

        if kind == ActionKind.REPAIR:
            return self._plan_repair(target, **options)
        if kind == ActionKind.ADOPT:
            from queuemon.drift import aside

            return aside.plan(self.store, self.queue_name(target), **options)
        if kind == ActionKind.REVEAL:
            from queuemon.actions import revealing

            if "columns" in options:
                return revealing.plan_export(self.store, self._filter(target), self.count(target), **options)
            return revealing.plan_job(self.store, self.job(target), **options)
        if kind == ActionKind.CANARY:
            own: dict[str, Any] = {
                name: options.pop(name) for name in ("steps", "success", "max_errors", "timeout") if name in options
            }
            return actions.canary.plan(self.store, actions.plan(self.store, ActionKind.RETRY, target, **options), own)
        return actions.plan(self.store, kind, target, **options)

    def _plan_repair(self, target: DriftReport | str | Sequence[str] | None, **options: Any) -> Plan:
        from queuemon.drift import planning
        from queuemon.drift.model import DriftReport

        deep = bool(options.pop("deep", False))
        wait = options.pop("wait_seconds", None)
        report = target if isinstance(target, DriftReport) else self.drift(target, deep=deep, wait_seconds=wait)
        return planning.plan(self.store, report, **options)

    def apply(
        self,
        plan: Plan,
        *,
        reason: str = "",
        progress: Callable[[ActionProgress], None] | None = None,
        stop: threading.Event | None = None,
        rate: float | None = None,
        outcomes: Callable[[Sequence[JobOutcome]], None] | None = None,
    ) -> ActionResult:
        """Do what a plan says to those jobs whose state still matches; the same plan again changes nothing.

        `rate` is the most jobs per second; `outcomes` is told what became of each job while it runs.
        """
        from queuemon import actions

        self._may_act(plan.kind.value)
        return actions.apply(
            self.store, plan, reason=reason, progress=progress, stop=stop, rate=rate, outcomes=outcomes,
            others=self._others() if plan.kind in {ActionKind.REPAIR, ActionKind.ADOPT} else None,
        )  # fmt: skip

    def resume_action(
        self,
        action_id: UUID | str,
        *,
        progress: Callable[[ActionProgress], None] | None = None,
        stop: threading.Event | None = None,
        rate: float | None = None,
        outcomes: Callable[[Sequence[JobOutcome]], None] | None = None,
    ) -> ActionResult:
        """Go on with an action that was interrupted or stopped, from where its last chunk committed.

        A canary that was stopped counts its failures, and the share that completes, anew from there.
        """
        from queuemon import actions

        self._may_act("resuming")
        return actions.resume_action(
            self.store, parse_id(action_id), progress=progress, stop=stop, rate=rate, outcomes=outcomes,
            others=self._others(),
        )  # fmt: skip

    def stop_action(self, action_id: UUID | str) -> ActionRecord:
        """End an action that runs, whoever runs it, or whose process died; it can be resumed or taken back."""
        from queuemon import actions

        self._may_act("stopping")
        return actions.stop_action(self.store, parse_id(action_id))

    def _may_act(self, what: str) -> None:
        self.settings.require_writable(what)
        if (why := self.read_only_reason) is not None:
            raise NotAllowed(
                f"{what} is refused: {why}",
                expected="a profile and a role that may act",
                next_step="connect with an operator's profile",
            )

    @staticmethod
    def _others() -> Mapping[ActionKind, Carrier]:
        """Kinds that a room above the actions carries out."""
        from queuemon.drift import aside, repair

        return {ActionKind.REPAIR: repair.carry_out, ActionKind.ADOPT: aside.carry_out}

    def retry(self, where: str | JobFilter | UUID | Sequence[UUID], *, reason: str = "") -> ActionResult:
        """Plan and apply in one: failed and expired jobs run again with fresh attempts."""
        return self.apply(self.plan("retry", where), reason=reason)

    def pause(
        self,
        queue: str,
        *,
        reason: str = "",
        until: str | datetime | None = None,
        holder: str | None = None,
        hard: bool = False,
    ) -> ActionResult:
        """No claim begun after this succeeds; running jobs finish. `hard` also parks the list, for workers that do not
        know the flag; the plan says what that cannot stop. Each `holder` (default: you) has a pause of its own."""
        named = {} if holder is None else {"holder": holder}
        return self.apply(self.plan("pause", queue, until=until, hard=hard, **named), reason=reason)

    def resume(self, queue: str, *, reason: str = "") -> ActionResult:
        """Deadlines are extended by the time paused, then the queue runs on."""
        return self.apply(self.plan("resume", queue), reason=reason)

    def set_priority(self, queue: str, priority: Priority | str, *, reason: str = "") -> ActionResult:
        """Order in which workers serve the queue: high, normal or low."""
        return self.apply(self.plan("prioritise", queue, priority=priority), reason=reason)

    def scale(self, queue: str, concurrency: int, *, reason: str = "") -> ActionResult:
        """How many worker processes are meant for the queue."""
        return self.apply(self.plan("scale", queue, concurrency=concurrency), reason=reason)

    def canary(
        self,
        where: str | JobFilter | UUID | Sequence[UUID],
        *,
        steps: Sequence[int] = (1, 5, 25, 125, 625),
        success: float = 0.9,
        max_errors: int = 3,
        timeout: float = 600.0,
        reason: str = "",
        action_id: UUID | None = None,
        progress: Callable[[CanaryProgress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> CanaryResult:
        """Retry the first of `steps` jobs, wait for their result, then the next, while the share that completes holds.

        The last of `steps` is repeated until all are retried. It stops at `max_errors` failed jobs, on `stop`, and
        when the jobs of a step take longer than `timeout` seconds. Each step is a retry that can be undone.
        """
        plan = self.plan(
            ActionKind.CANARY, where, action_id=action_id, steps=tuple(steps), success=success, max_errors=max_errors,
            timeout=timeout,
        )  # fmt: skip
        heard = cast("Callable[[ActionProgress], None] | None", progress)
        return cast(CanaryResult, self.apply(plan, reason=reason, progress=heard, stop=stop))

    def undo(self, action_id: UUID | str = "last", *, reason: str = "") -> ActionResult:
        """Take an action back ("last": the newest that can be); what has moved on since is left alone and named."""
        return self.apply(self.plan(ActionKind.UNDO, action_id), reason=reason)

    def actions(self, limit: int = 50) -> tuple[ActionRecord, ...]:
        """The audit trail, newest first."""
        from queuemon import actions

        return actions.actions(self.store, limit=limit)

    def action(self, action_id: UUID | str) -> ActionRecord:
        """One entry of the audit trail; raises UnknownAction, InvalidValue."""
        from queuemon import actions

        return actions.action(self.store, parse_id(action_id))

    def approve(self, fingerprint: str, *, note: str = "") -> str:
        """Approve a plan by its SHA-256, as the role that is logged in, for a day; returns the role."""
        from queuemon.actions.entries import cleaned, os_user
        from queuemon.store import approvals

        if len(fingerprint) != 64 or not set(fingerprint) <= set("0123456789abcdef"):
            raise InvalidValue(
                f"{fingerprint[:70]!r} is no plan's hash", expected="64 hexadecimal digits",
                next_step="see the record of the run: `queuemon runbook history --json`",
            )  # fmt: skip
        self.settings.require_writable("approving")
        with self.store.postgres.begin() as connection:
            return approvals.approve(
                connection, self.store.tables, fingerprint, os_user=os_user(), note=cleaned(note)[:1_000]
            )

    def approved_by(self, fingerprint: str) -> str | None:
        """Which other database role has approved a plan within a day; None when none has."""
        from queuemon.store import approvals

        with self.store.postgres.begin(read_only=True) as connection:
            return approvals.approved_by(connection, self.store.tables, fingerprint)

    def role(self) -> str:
        """PostgreSQL's role that this workbench is logged in as."""
        from queuemon.store import approvals

        with self.store.postgres.begin(read_only=True) as connection:
            return approvals.role(connection)

    def begun(self, *action_ids: UUID) -> Plan | None:
        """The plan of the first of these actions that was begun; applying it goes on, or returns what it did."""
        from queuemon import actions

        return actions.begun(self.store, action_ids)

    def outcomes(
        self, action_id: UUID | str, *, after: UUID | None = None, limit: int = 1_000
    ) -> tuple[JobOutcome, ...]:
        """What an action did to each job, in the order of their ids; `after` is the last id of the page before."""
        from queuemon import actions

        return actions.outcomes(self.store, parse_id(action_id), after=after, limit=limit)

    def pauses(self) -> tuple[Pause, ...]:
        """Who keeps which queue paused, the longest first."""
        from queuemon import actions

        return actions.pauses(self.store)

    # ----------------------------------------------------------------------------------------------------- set up

    def install(self) -> tuple[str | None, str]:
        """Bring the database to this version's schema; returns the versions (before, after). Raises NotAllowed."""
        from queuemon.schema import migrate
        from queuemon.store.postgres import translated

        self.settings.require_writable("installing")
        with translated(self.settings):
            return migrate.upgrade_engine(self.store.postgres.engine)

    def worker_level(self) -> WorkerLevel:
        """What the workers at hand do (L0, L1, L2), with the evidence from both stores and the promise that holds."""
        from queuemon.store import discipline

        return discipline.find(self.store)

    def doctor(self) -> tuple[Check, ...]:
        """What is right and wrong with this system, each with what to do."""
        from queuemon.store import doctor

        return doctor.checks(self.store)

    def close(self) -> None:
        """Give all connections back."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Workbench {self.settings.profile!r}{' (embedded demo)' if self.settings.embedded else ''}>"

    @staticmethod
    def _filter(where: str | JobFilter) -> JobFilter:
        return where if isinstance(where, JobFilter) else JobFilter.parse(where)

    @staticmethod
    def _check_limit(limit: int) -> None:
        from queuemon.store.export import EXPORT_LIMIT

        if not 1 <= limit <= EXPORT_LIMIT:
            raise LimitExceeded(f"limit is {limit:,}", expected=f"1 to {EXPORT_LIMIT:,}", next_step="narrow the filter")


def _tells(column: Column, masking: Masking, sights: Mapping[Any, Sight]) -> bool:
    """Whether some of what stands most often at a path of the payload is masked; an object is never told itself."""
    sight = sights.get(column.path)
    often = (text for text in column.frequent(500) if not text.startswith("{"))
    return sight is not None and any(masking.hides(text, sight) for text in often)


def _unseen(paths: Sequence[tuple[str, ...]], masking: Masking) -> list[str]:
    """The note on paths whose values are masked."""
    from queuemon.filters import path_text

    named = ", ".join(path_text(tuple(str(masking.name(key)) for key in path)) for path in paths[:5]) + (
        ", …" if len(paths) > 5 else ""
    )
    return [f"Not looked at, because secrets are masked: {named}."] if paths else []


def parse_id(text: UUID | str) -> UUID:
    """A job's or action's id; raises InvalidValue for anything that is not a UUID."""
    if isinstance(text, UUID):
        return text
    try:
        return UUID(text.strip())
    except (ValueError, AttributeError):
        shown = text if isinstance(text, str) and len(text) <= 60 else str(text)[:57] + "…"
        raise InvalidValue(
            f"{shown!r} is not an id", expected="a UUID such as 0199f3c2-7d1e-7c55-9a41-2f6d1b0c9e77"
        ) from None
