"""The reconstructed past is what happened, to the job and the minute: against a record kept while it happened."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from queuemon.analysis.timeline import Timeline
from queuemon.cli import run
from queuemon.config import Settings
from queuemon.engine.producer import Producer
from queuemon.errors import InvalidValue, LimitExceeded, UnknownQueue
from queuemon.model import ActionKind
from queuemon.store import claims, upkeep
from queuemon.store.claims import Claimed, Failure, Lease
from queuemon.workbench import Workbench
from tests.support.clockwork import Clockwork

pytestmark = pytest.mark.integration

START = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
QUEUES = ("mail", "reports")
NO = Failure(error_type="ValueError", message="no", stack_trace="")


class Life:
    """Hours of a job system under a clock that the test moves: every step is the product's own statement, and what it
    did is written down here at once."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.rng = Random(seed)
        self.clock = Clockwork(settings.database_url.get_secret_value(), START)
        self.wb = Workbench(settings)
        self.store, self.t = self.wb.store, self.wb.store.tables
        self.producer = Producer(self.store)
        self.sql("INSERT INTO job_queues (name, max_attempts) VALUES ('mail', 2), ('reports', 3)")
        #: What happened: (queue, kind) → minute → how often.
        self.record: dict[tuple[str, str], Counter[int]] = {}
        #: Seconds waited by the jobs that started in a minute.
        self.waits: dict[int, list[float]] = {}
        #: Depth at the end of each minute, looked at when it ended.
        self.depth: dict[str, list[int]] = {queue: [] for queue in QUEUES}
        #: Minutes of which a start is known, but no longer its wait: the job was deleted while it was stuck.
        self.unknown: set[int] = set()
        self.done: Counter[str] = Counter()

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        with self.store.postgres.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result) if result.returns_rows else []

    @property
    def minute(self) -> int:
        return (self.clock.at - START) // MINUTE

    def note(self, queue: str, kind: str, n: int = 1) -> None:
        self.record.setdefault((queue, kind), Counter())[self.minute] += n

    def count(self, queue: str | None, kind: str, minutes: int) -> list[int]:
        rows = [c for (q, k), c in self.record.items() if k == kind and queue in {None, q}]
        return [sum(c[m] for c in rows) for m in range(minutes)]

    def ids(self, condition: str, n: int) -> list[UUID]:
        found = [row[0] for row in self.sql(f"SELECT id FROM jobs WHERE {condition} ORDER BY id")]
        return self.rng.sample(found, min(n, len(found)))

    def live(self, minutes: int, *, steps: int) -> None:
        """Let so many minutes pass with random steps at random moments in each."""
        for _ in range(minutes):
            begin = START + len(self.depth["mail"]) * MINUTE
            for at in sorted(self.rng.uniform(0.001, 59.999) for _ in range(steps)):
                self.clock.set(begin + timedelta(seconds=at))
                self.step()
            end = begin + MINUTE
            self.clock.set(end - timedelta(microseconds=1))
            found = dict(
                map(tuple, self.sql("SELECT queue, count(*) FROM jobs WHERE status = 'waiting' AND run_at < :end"
                                    " GROUP BY queue", end=end))
            )  # fmt: skip
            for queue in QUEUES:
                self.depth[queue].append(found.get(queue, 0))

    def step(self) -> None:
        """One thing happens."""
        kinds = (
            (self.enqueue, 34), (self.claim, 26), (self.end, 28), (self.lapse, 2), (self.expire, 3), (self.retry, 4),
            (self.move, 3), (self.delete, 4), (self.undo, 4), (self.run_now, 2), (self.rescue, 1),
            (self.delete_stuck, 1), (self.pause, 1),
        )  # fmt: skip
        chosen = self.rng.choices([k for k, _ in kinds], [n for _, n in kinds])[0]
        chosen()
        self.done[chosen.__name__] += 1

    def enqueue(self) -> None:
        queue, n = self.rng.choice(QUEUES), self.rng.choice((1, 1, 2, 3, 60))
        later = self.clock.at + timedelta(seconds=self.rng.uniform(1, 1_200)) if self.rng.random() < 0.2 else None
        short = self.rng.random() < 0.2
        self.producer.enqueue_many(
            queue, [{}] * n, run_at=later, **({"expires_after": timedelta(minutes=9)} if short else {})
        )
        self.note(queue, "arrived", n)

    def claim(self) -> None:
        for job_id in self.ids("status = 'waiting' AND run_at <= clockwork.now()", self.rng.choice((1, 5, 40))):
            [(queue, run_at)] = self.sql("SELECT queue, run_at FROM jobs WHERE id = :id", id=job_id)
            with self.store.postgres.statement() as connection:
                answer = claims.claim(connection, self.t, job_id=job_id, gen=None, worker_id="w-1")
            if isinstance(answer, Claimed):
                self.note(queue, "started")
                self.waits.setdefault(self.minute, []).append((self.clock.at - run_at).total_seconds())

    def end(self) -> None:
        for job_id in self.ids("status = 'active'", self.rng.choice((1, 5, 40))):
            [(queue, gen)] = self.sql("SELECT queue, gen FROM jobs WHERE id = :id", id=job_id)
            lease, luck = Lease(job_id=job_id, gen=gen, worker_id="w-1"), self.rng.random()
            with self.store.postgres.statement() as connection:
                if luck < 0.6:
                    assert claims.complete(connection, self.t, lease).status is not None
                    self.note(queue, "completed")
                elif luck < 0.95:
                    assert claims.fail(connection, self.t, lease, NO, backoff_seconds=150).status is not None
                    self.note(queue, "failed")
                else:
                    assert claims.hand_back(connection, self.t, lease).status is not None

    def lapse(self) -> None:
        before = dict(map(tuple, self.sql("SELECT id, queue FROM jobs WHERE status = 'active'")))
        with self.store.postgres.statement() as connection:
            upkeep.expire_leases(connection, self.t, lease_seconds=240)
        self._lost(before)

    def _lost(self, before: dict[UUID, str]) -> None:
        still = {row[0] for row in self.sql("SELECT id FROM jobs WHERE status = 'active'")}
        for job_id in before.keys() - still:
            self.note(before[job_id], "lost")

    def expire(self) -> None:
        before = dict(map(tuple, self.sql("SELECT id, queue FROM jobs WHERE status = 'waiting'")))
        with self.store.postgres.statement() as connection:
            upkeep.expire_jobs(connection, self.t)
        for (job_id,) in self.sql("SELECT id FROM jobs WHERE status = 'expired'"):
            if job_id in before:
                self.note(before[job_id], "expired")

    def act(self, kind: ActionKind, condition: str, n: int, **options: Any) -> None:
        ids = self.ids(condition, n)
        if ids:
            assert self.wb.apply(self.wb.plan(kind, ids, **options)).done == len(ids)

    def retry(self) -> None:
        self.act(ActionKind.RETRY, "status IN ('failed', 'expired')", 30)

    def move(self) -> None:
        to = self.rng.choice(QUEUES)
        states = "('waiting', 'failed', 'expired')"
        self.act(ActionKind.MOVE, f"queue <> '{to}' AND status IN {states}", 20, to=to)

    def delete(self) -> None:
        kind = self.rng.choice((ActionKind.DELETE, ActionKind.DELETE, ActionKind.ERASE))
        self.act(kind, "status <> 'active'", 15)

    def run_now(self) -> None:
        self.act(ActionKind.RUN_NOW, "status = 'waiting' AND run_at > clockwork.now()", 10)

    def rescue(self) -> None:
        before = dict(map(tuple, self.sql("SELECT id, queue FROM jobs WHERE status = 'active'")))
        self.act(ActionKind.RESCUE, "status = 'active' AND heartbeat_at < clockwork.now() - interval '31 s'", 5)
        self._lost(before)

    def delete_stuck(self) -> None:
        stuck = "SELECT started_at FROM jobs WHERE status = 'active'"
        self.unknown |= {(row[0] - START) // MINUTE for row in self.sql(stuck)}
        self.act(ActionKind.DELETE_STUCK, "status = 'active' AND heartbeat_at < clockwork.now() - interval '31 s'", 5)

    def undo(self) -> None:
        undoable = [a for a in self.wb.actions(10) if a.undoable_until is not None and a.kind.bulk]
        if undoable:
            self.wb.undo(self.rng.choice(undoable).id)

    def pause(self) -> None:
        queue = self.rng.choice(QUEUES)
        paused = self.sql("SELECT paused FROM job_queues WHERE name = :name", name=queue)[0][0]
        (self.wb.resume if paused else self.wb.pause)(queue)


@pytest.fixture
def life(settings: Settings) -> Iterator[Life]:
    made = Life(settings, seed=20)
    yield made
    made.wb.close()
    made.clock.close()


def check(life: Life, minutes: int) -> Timeline:
    """Every curve, of each queue and of all, against the record; returns the timeline of all."""
    for queue in (*QUEUES, None):
        found = life.wb.timeline(queue, START, bucket=60)
        points = found.points[:minutes]
        assert len(points) == minutes
        depth = [sum(d) for d in zip(*(life.depth[q] for q in QUEUES if queue in {None, q}), strict=True)]
        assert [p.depth for p in points] == depth, queue
        for kind in ("arrived", "started", "completed", "failed", "lost", "expired"):
            assert [getattr(p, kind) for p in points] == life.count(queue, kind, minutes), (queue, kind)
        assert found.notes == ()
    for line in found.by_queue:
        assert list(line.depth[:minutes]) == life.depth[line.queue]
    for minute, waits in life.waits.items():
        if minute < minutes and minute not in life.unknown:
            assert found.points[minute].longest_wait_seconds == pytest.approx(max(waits), abs=1e-5)
            assert found.points[minute].wait_seconds == pytest.approx(sum(waits) / len(waits), abs=1e-5)
    return found


def test_every_minute_is_what_it_was_through_retries_moves_deletes_expiries_and_undo(life: Life) -> None:
    life.live(30, steps=12)
    check(life, 30)
    life.live(30, steps=12)
    assert min(life.done[name] for name in ("retry", "move", "delete", "undo", "expire", "lapse", "pause")) >= 5
    assert sum(sum(c.values()) for (_, kind), c in life.record.items() if kind == "expired") >= 10
    seen = check(life, 60)
    assert max(p.depth for p in seen.points) > 200
    # The past does not hang on copies, nor on the rows of jobs that have ended.
    life.sql("DELETE FROM queuemon.undo_jobs")
    life.sql("DELETE FROM jobs WHERE status IN ('completed', 'failed', 'expired')")
    check(life, 60)


def test_longer_buckets_hold_the_sums_of_the_minutes_and_the_last_depth(life: Life) -> None:
    life.live(20, steps=8)
    fine, coarse = life.wb.timeline(since=START, bucket=60), life.wb.timeline(since=START, bucket=300)
    for n, point in enumerate(coarse.points):
        minutes = fine.points[5 * n : 5 * n + 5]
        assert point.depth == minutes[-1].depth
        for kind in ("arrived", "due", "started", "completed", "failed", "left"):
            assert getattr(point, kind) == sum(getattr(p, kind) for p in minutes)
    later = life.wb.timeline(since=START + 7 * MINUTE, until=START + 12 * MINUTE, bucket=60)
    assert [replace(p, wait_seconds=None) for p in later.points] == [
        replace(p, wait_seconds=None) for p in fine.points[7:12]
    ]
    assert later.depth_before == fine.points[6].depth
    assert not later.filling
    assert fine.filling


def test_deploys_and_actions_stand_beside_the_curves(life: Life) -> None:
    life.sql("INSERT INTO queuemon.deploy_marks (name, at) VALUES ('api 1', :at)", at=START + MINUTE)
    life.clock.set(datetime.now(UTC))  # the trail goes by the server's own clock
    life.wb.pause("mail", reason="look")
    life.clock.set(datetime.now(UTC) + MINUTE)
    told = life.wb.timeline("mail", since=START).happened
    assert [(h.kind, h.target, h.why) for h in told] == [("deploy", "api 1", ""), ("pause", "mail", "look")]
    assert [h.kind for h in life.wb.timeline("reports", since=START).happened] == ["deploy"]


def test_what_cannot_be_known_is_said(life: Life) -> None:
    life.live(3, steps=5)
    life.sql(
        "INSERT INTO job_logs (job_id, queue, gen, attempt, status, started_at, finished_at)"
        " VALUES (gen_random_uuid(), 'mail', 1, 1, 'completed', :at, :at)", at=START + MINUTE,
    )  # fmt: skip
    assert ["1 attempts do not say since when" in note for note in life.wb.timeline(since=START).notes] == [True]
    life.sql("INSERT INTO queuemon.minutes VALUES ('mail', 'attempt-failed', :at, 3)", at=START - MINUTE)
    notes = life.wb.timeline(since=START - MINUTE).notes
    assert any("The oldest log row is of 2026-11-25 08:0" in note for note in notes)


def test_windows_that_mean_nothing_are_refused(life: Life) -> None:
    life.clock.set(datetime.now(UTC))
    for since, until in (("-1h", None), ("soon", None), ("1h", "2h"), ("40d", None)):
        with pytest.raises(InvalidValue):
            life.wb.timeline(since=since, until=until)
    with pytest.raises(InvalidValue):
        life.wb.timeline(bucket=90)
    with pytest.raises(LimitExceeded):
        life.wb.timeline(since="30d", bucket=60)
    with pytest.raises(UnknownQueue):
        life.wb.timeline("nowhere")


def _incident(life: Life) -> None:
    """Two hours of mail: a deploy breaks a third of it at 08:40, and at 09:20 far more comes than is served."""
    life.sql(
        "INSERT INTO job_logs (job_id, queue, gen, attempt, status, worker_id, due_at, started_at, finished_at)"
        " SELECT gen_random_uuid(), 'mail', 1, 1,"
        "  CASE WHEN n % 100 < CASE WHEN m >= 40 THEN 33 ELSE 1 END THEN 'failed' ELSE 'completed' END, 'w-' || n % 4,"
        "  at + n * interval '0.2 s', at + n * interval '0.2 s', at + n * interval '0.2 s'"
        " FROM generate_series(0, 119) AS m, generate_series(0, 199) AS n,"
        " LATERAL (SELECT CAST(:start AS timestamptz) + m * interval '1 minute' AS at) AS t",
        start=START,
    )
    life.sql(
        "INSERT INTO jobs (id, queue, run_at, created_at) SELECT gen_random_uuid(), 'mail', at, at"
        " FROM generate_series(80, 119) AS m, generate_series(1, 30) AS n,"
        " LATERAL (SELECT CAST(:start AS timestamptz) + m * interval '1 minute' AS at) AS t",
        start=START,
    )
    life.sql("INSERT INTO queuemon.deploy_marks (name, at) VALUES ('2026.10.3', :at)", at=START + 38 * MINUTE)
    life.clock.set(START + 120 * MINUTE)


def test_the_onset_is_told_with_the_deploy_before_it(life: Life) -> None:
    _incident(life)
    rate, depth = life.wb.onset("mail", since=START).changes
    assert rate.sentence == "failures rose from 1.0 % to 33 % at 08:40, 2 min after deploy 2026.10.3"
    assert abs(depth.at - (START + 80 * MINUTE)) <= 2 * MINUTE
    assert depth.what == "depth"
    assert life.wb.onset(timeline=life.wb.timeline("reports", since=START)).changes == ()


def test_a_backlog_is_forecast_at_the_present_rate_and_with_other_crews(life: Life) -> None:
    _incident(life)
    found = life.wb.forecast("queue:mail", [8, 4])
    assert found.depth == 40 * 30
    assert found.arrivals_per_second == pytest.approx(230 / 60, rel=0.03)
    assert found.service_per_second == pytest.approx(200 / 60, rel=0.03)
    assert found.workers == pytest.approx(4, rel=0.05)
    now, eight, four = found.outlooks
    assert now.never
    assert four.never
    assert eight.latest is not None
    assert eight.latest - life.clock.at < timedelta(minutes=15)
    life.wb.pause("mail")
    assert "the queue is paused" in life.wb.forecast("mail").sentence
    assert life.wb.forecast("reports").sentence == "nothing waits"
    for workers in (0, [1] * 21, 10_000):
        with pytest.raises(InvalidValue):
            life.wb.forecast("mail", workers)


def test_the_commands_say_and_print_the_same(life: Life, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    _incident(life)
    settings = life.wb.settings
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("QUEUEMON_REDIS_URL", settings.redis_url.get_secret_value())
    assert run(["timeline", "mail", "--since", START.isoformat()]) == 0
    told = capsys.readouterr().out
    assert "Failures rose from 1.0 % to 33 % at 08:40, 2 min after deploy 2026.10.3." in told
    assert "▁" in told
    assert run(["timeline", "--since", START.isoformat(), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["points"][-1]["depth"] == 1_200
    assert values["changes"][0]["sentence"].startswith("failures rose")
    assert run(["forecast", "mail", "--workers", "8"]) == 0
    told = capsys.readouterr().out
    assert "Never at the present rate" in told
    assert "with 8 workers 10:0" in told
    assert run(["forecast", "mail", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outlooks"][0]["never"] is True
    assert run(["timeline", "nowhere"]) == 2
    assert run(["timeline", "--since", "soon"]) == 2
