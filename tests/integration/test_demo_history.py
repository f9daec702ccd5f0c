"""The demo's history: a week of believable jobs, the same for the same seed, and green at its end."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from queuemon.config import Settings
from queuemon.contract import Health
from queuemon.demo import history
from queuemon.demo.history import History
from queuemon.demo.incident import Incident
from queuemon.demo.queues import BY_NAME, EMAIL, HIGH, QUEUES
from queuemon.store import Store, demo
from queuemon.workbench import Workbench
from tests.support.stores import TEMPLATE, Servers

pytestmark = pytest.mark.integration

END = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def loaded(servers: Servers) -> Iterator[Settings]:
    """Settings on a database with the history of seed 7; the tests only read it."""
    name = f"history_{secrets.token_hex(6)}"
    servers.execute(f"CREATE DATABASE {{}} TEMPLATE {TEMPLATE}", name)
    settings = Settings(database_url=SecretStr(servers.database_url(name)), redis_url=SecretStr(servers.urls.redis_url))
    with Store(settings) as store:
        started = time.monotonic()
        result = history.load(store, 7)
        print(f"\n{result.jobs:,} jobs and {result.logs:,} attempts loaded in {time.monotonic() - started:.1f} s")
    yield settings
    servers.execute("DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture
def ask(loaded: Settings) -> Iterator[Any]:
    """Runs a query on the loaded history, returns all rows."""
    with psycopg.connect(loaded.database_url.get_secret_value()) as connection:
        yield lambda query, *values: connection.execute(query, values).fetchall()


def _first_days(seed: int, end: datetime, days: int = 1) -> list[str]:
    blocks = History(seed, end).blocks()
    return [line for _ in range(days) for block in [next(blocks)] for _, line in (*block.jobs, *block.logs)]


def test_the_same_seed_and_end_give_the_same_rows() -> None:
    first = _first_days(7, END)
    assert len(first) > 40_000
    assert first == _first_days(7, END)


def test_another_seed_gives_other_rows() -> None:
    assert _first_days(7, END) != _first_days(8, END)


def test_a_week_later_the_same_seed_gives_as_many_rows() -> None:
    later = _first_days(7, END + timedelta(days=7))
    assert abs(len(later) - len(_first_days(7, END))) <= 5


def test_there_are_at_least_200_000_jobs_over_seven_days_in_all_five_queues(ask: Any) -> None:
    [(jobs, first, last)] = ask("SELECT count(*), min(created_at), max(created_at) FROM jobs")
    assert jobs >= 200_000
    assert timedelta(days=6, hours=23) < last - first <= timedelta(days=7)
    assert {q for (q,) in ask("SELECT DISTINCT queue FROM jobs")} == {q.name for q in QUEUES}


def test_ids_carry_the_time_of_creation(ask: Any) -> None:
    [(wrong,)] = ask(
        "SELECT count(*) FROM jobs WHERE ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint"
        " NOT BETWEEN extract(epoch FROM created_at) * 1000 - 2 AND extract(epoch FROM created_at) * 1000 + 2"
    )
    assert wrong == 0
    assert ask("SELECT DISTINCT substr(id::text, 15, 1) FROM jobs") == [("7",)]
    assert {v for (v,) in ask("SELECT DISTINCT substr(id::text, 20, 1) FROM jobs")} == set("89ab")


def test_days_have_busy_and_quiet_hours(ask: Any) -> None:
    rows = ask(
        "SELECT count(*) FROM jobs WHERE created_at BETWEEN now() - interval '6 days' AND now() - interval '1 day'"
        " GROUP BY (extract(epoch FROM now() - created_at)::int %% 86400) / 3600"
    )
    hours = sorted(n for (n,) in rows)
    assert len(hours) == 24
    assert hours[-1] > 4 * hours[0]


def test_the_last_minutes_run_at_the_rates_of_the_live_workload() -> None:
    made = History(7, END)
    for queue in QUEUES:
        assert made.rate(queue, END.timestamp()) == pytest.approx(queue.rate)
        assert made.rate(queue, END.timestamp() - 86_400 * 4) < queue.rate


def test_weekends_are_quieter() -> None:
    made, queue = History(7, END), BY_NAME[EMAIL]
    saturday, thursday = (END - timedelta(days=n) for n in (4, 6))
    assert made.rate(queue, saturday.timestamp()) < 0.6 * made.rate(queue, thursday.timestamp())


def test_every_attempt_is_logged_and_gives_the_job_its_end(ask: Any) -> None:
    [(wrong,)] = ask(
        "SELECT count(*) FROM jobs j WHERE status IN ('completed', 'failed') AND NOT EXISTS ("
        " SELECT FROM job_logs l WHERE l.job_id = j.id AND l.gen = j.gen AND l.attempt = j.attempts"
        " AND l.status = j.status AND l.finished_at = j.finished_at AND l.worker_id = j.worker_id"
        " AND l.error_type IS NOT DISTINCT FROM j.error_type)"
    )
    assert wrong == 0
    [(retried,)] = ask("SELECT count(*) FROM jobs WHERE attempts > 1 AND status = 'completed'")
    assert retried > 1_000
    [(backwards,)] = ask("SELECT count(*) FROM job_logs WHERE finished_at < started_at OR finished_at > now()")
    assert backwards == 0


def test_failures_have_traces_of_python_and_node_with_several_frames(ask: Any) -> None:
    rows = ask("SELECT error_type, min(stack_trace), count(*) FROM job_logs WHERE status = 'failed' GROUP BY 1")
    assert len(rows) >= 8
    python = [trace for _, trace, _ in rows if trace.startswith("Traceback (most recent call last):\n")]
    node = [trace for _, trace, _ in rows if "\n    at " in trace]
    assert len(python) >= 5
    assert len(node) >= 3
    assert len(python) + len(node) == len(rows)
    for trace in python:
        assert trace.count('\n  File "/srv/') >= 2, "own frames"
        assert "/usr/local/lib/python3" in trace or "analytics/currency.py" in trace
    for trace in node:
        assert trace.count("\n    at ") >= 5
        assert "/srv/" in trace


def test_about_one_attempt_in_a_hundred_fails_on_an_ordinary_day(ask: Any) -> None:
    [(rate,)] = ask("SELECT avg((status = 'failed')::int) FROM job_logs WHERE finished_at > now() - interval '1 day'")
    assert 0.004 < rate < 0.02


def test_one_incident_multiplied_the_failures_for_35_minutes(ask: Any, loaded: Settings) -> None:
    [(deployed,)] = ask("SELECT at FROM queuemon.deploy_marks WHERE name = 'mailer 2026.45.0'")
    during = (
        "SELECT avg((status = 'failed')::int), count(*) FROM job_logs"
        " WHERE queue = %s AND kind = 'attempt' AND started_at >= %s AND started_at < %s"
    )
    minutes = lambda n: deployed + timedelta(minutes=n)  # noqa: E731
    for queue in (EMAIL, HIGH):
        [(before, _)] = ask(during, queue, minutes(-600), minutes(2))
        [(broken, attempts)] = ask(during, queue, minutes(2), minutes(26 if queue == EMAIL else 37))
        [(after, _)] = ask(during, queue, minutes(45), minutes(600))
        assert attempts > 100
        assert broken > 20 * before
        assert after < 0.03
    assert Incident(deployed=deployed).deployed.weekday() < 5


def test_the_incident_was_repaired_by_actions_that_the_audit_trail_tells(ask: Any) -> None:
    kinds = ask("SELECT kind, state, done, reason FROM queuemon.actions ORDER BY started_at")
    assert [k for k, *_ in kinds] == ["pause", "resume", "retry", "clear-failed"]
    assert all(state == "done" and done > 0 and reason for _, state, done, reason in kinds)
    chunks = dict(
        ask("SELECT a.kind, c.done_ids FROM queuemon.action_chunks c JOIN queuemon.actions a ON a.id = c.action_id")
    )
    [(healed,)] = ask(
        "SELECT count(*) FROM jobs WHERE id = ANY(%s) AND status = 'completed' AND gen = 4 AND attempts >= 1",
        chunks["retry"],
    )
    assert healed >= 0.9 * len(chunks["retry"])
    assert ask("SELECT count(*) FROM jobs WHERE id = ANY(%s)", chunks["clear-failed"]) == [(0,)]
    [(copies,)] = ask("SELECT count(*) FROM queuemon.undo_jobs WHERE job_id = ANY(%s)", chunks["clear-failed"])
    assert copies == len(chunks["clear-failed"])
    [(events,)] = ask("SELECT count(*) FROM queuemon.action_events")
    assert events == 8


def test_counters_equal_the_rows(ask: Any, loaded: Settings) -> None:
    rows = {(q, s): n for q, s, n in ask("SELECT queue, status, count(*) FROM jobs GROUP BY 1, 2")}
    with Store(loaded) as store:
        for q in store.snapshot().queues:
            for status in ("completed", "failed", "expired", "active"):
                assert getattr(q, status) == rows.get((q.name, status), 0), (q.name, status)
            assert q.waiting + q.scheduled == rows.get((q.name, "waiting"), 0)
    attempts = ask("SELECT status, count(*) FROM job_logs WHERE kind = 'attempt' GROUP BY 1 ORDER BY 1")
    minutes = ask("SELECT kind, sum(n) FROM queuemon.minutes WHERE kind LIKE 'attempt-%%' GROUP BY 1 ORDER BY 1")
    assert [(f"attempt-{s}", n) for s, n in attempts] == [(k, int(n)) for k, n in minutes]
    arrived = ask("SELECT sum(n) FROM queuemon.minutes WHERE kind = 'arrived'")
    [(cleared,)] = ask("SELECT done FROM queuemon.actions WHERE kind = 'clear-failed'")
    assert int(arrived[0][0]) == sum(rows.values()) + cleared


def test_every_queue_is_green_with_a_few_failures_standing(loaded: Settings) -> None:
    with Store(loaded) as store:
        queues = store.snapshot().queues
    assert {q.health for q in queues} == {Health.HEALTHY}
    assert {q.name: q.failed for q in queues if q.failed} == history.STANDING
    assert sum(q.scheduled for q in queues) == history.SCHEDULED


def test_the_history_is_loaded_once(loaded: Settings) -> None:
    with Store(loaded) as store:
        assert history.load(store, 7) is None
        with store.postgres.begin() as connection:
            assert demo.state(connection, "history")["seed"] == 7


def test_the_week_is_reconstructed_to_the_job_and_the_minute(loaded: Settings, ask: Any) -> None:
    [(end,)] = ask("SELECT (value ->> 'end')::timestamptz FROM queuemon.demo_state WHERE key = 'history'")
    made, begin, minute = History(7, end), end - timedelta(days=7), timedelta(minutes=1)
    counts = {kind: Counter[int]() for kind in ("arrived", "started", "completed", "failed", "due")}
    at = lambda text: (datetime.fromisoformat(text) - begin) // minute  # noqa: E731
    for block in made.blocks():
        for _, line in block.jobs:
            counts["arrived"][at(line.split("\t")[5])] += 1
        for _, line in block.logs:
            fields = dict(zip(history.LOG_COLUMNS, line.rstrip("\n").split("\t"), strict=True))
            counts["due"][at(fields["due_at"])] += 1
            counts["started"][at(fields["started_at"])] += 1
            counts[fields["status"]][at(fields["finished_at"])] += 1
    for _, _, line in made.scheduled():
        counts["arrived"][at(line.split("\t")[5])] += 1
    incident = made.incident
    with Workbench(loaded) as wb:
        points = wb.timeline(since=begin, until=end, bucket=60).points
        mail = wb.timeline(EMAIL, incident.at(20), incident.at(60), bucket=60)
    assert len(points) == 7 * 24 * 60
    for kind, counted in counts.items():
        assert [getattr(p, kind) for p in points] == [counted[m] for m in range(len(points))], kind
    depth = 0
    for m, point in enumerate(points):
        depth += counts["due"][m] - counts["started"][m]
        assert point.depth == depth, point.at
    assert mail.depth_before < 5
    assert max(p.depth for p in mail.points) > 100, "the pause of the incident"
    assert [h.kind for h in mail.happened] == ["pause", "deploy", "resume", "retry", "clear-failed"]
