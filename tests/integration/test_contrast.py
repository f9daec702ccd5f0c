"""`wb.explain` on real rows: the right jobs on each side, filters that select what was counted, hostile payloads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest

from queuemon.cli import run
from queuemon.config import Settings
from queuemon.errors import InvalidValue, StoreTimeout
from queuemon.filters import JobFilter
from queuemon.store import contrast
from queuemon.workbench import Workbench
from tests.support.planted import CAUSES, found_first, planted
from tests.support.proofs import Proof

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)
AGO = timedelta(hours=2)


@pytest.fixture
def wb(settings: Settings) -> Iterator[Workbench]:
    with Workbench(settings) as made:
        with psycopg.connect(settings.database_url.get_secret_value()) as connection:
            connection.execute("INSERT INTO job_queues (name) VALUES ('mail'), ('reports')")
        yield made


def job(n: int) -> UUID:
    return UUID(int=0x0199A700 << 96 | 0x7000 << 64 | 0x8000 << 48 | n)


def load(
    wb: Workbench,
    payloads: Sequence[Any],
    failed: Sequence[bool],
    *,
    worker: Sequence[str] | None = None,
    queue: str = "mail",
    first: int = 0,
    logged: bool = True,
) -> None:
    """Jobs that ran once in the last two hours: completed, or failed with a record of the attempt."""
    with (
        psycopg.connect(wb.settings.database_url.get_secret_value()) as connection,
        connection.cursor() as cursor,
    ):
        with cursor.copy(
            "COPY jobs (id, queue, payload, status, attempts, created_at, started_at, finished_at, worker_id)"
            " FROM STDIN"
        ) as copy:
            for n, (payload, bad) in enumerate(zip(payloads, failed, strict=True), first):
                at = NOW - AGO + timedelta(seconds=n % 7_000)
                text = payload if isinstance(payload, str) else json.dumps(payload)
                status = "failed" if bad else "completed"
                who = worker[n - first] if worker else f"w{n % 3}"
                copy.write_row(
                    (job(n), queue, text, status, 1, at, at + timedelta(seconds=1), at + timedelta(seconds=3), who)
                )
        if logged:
            cursor.execute(
                "INSERT INTO job_logs (job_id, queue, gen, attempt, status, worker_id, started_at, finished_at,"
                " signature) SELECT id, queue, 1, 1, 'failed', worker_id, started_at, finished_at, 'ab12' FROM jobs"
                " WHERE status = 'failed' AND NOT EXISTS (SELECT FROM job_logs WHERE job_id = jobs.id)"
            )


@pytest.mark.prove
def test_the_printed_filter_selects_exactly_the_jobs_in_postgresql(wb: Workbench, proof: Proof) -> None:
    names = list(CAUSES) if proof.full else ["a value in a range", "the length of a list", "presence of a key"]
    for name in names:
        world = planted(name, proof.seed, jobs=4_000 if proof.full else 1_500)  # a pair is rare
        load(wb, world.payloads, world.failed.tolist())
        answer = wb.explain()
        assert found_first(world, answer, at_least=0.85), (name, answer.findings)
        for finding in answer.findings:
            where = JobFilter.parse(finding.filter)
            assert wb.count(where).value == finding.jobs, finding
            assert wb.count(where & JobFilter.parse("status:failed")).value == finding.failing, finding
        with psycopg.connect(wb.settings.database_url.get_secret_value()) as connection:
            connection.execute("TRUNCATE jobs, job_logs")


def test_a_job_that_failed_on_one_worker_and_completed_on_another_counts_where_it_failed(wb: Workbench) -> None:
    workers = [f"w{n % 4}" for n in range(800)]
    load(wb, [{"n": n % 7} for n in range(800)], [w == "w3" for w in workers], worker=workers)
    with psycopg.connect(wb.settings.database_url.get_secret_value()) as connection:
        connection.execute(
            "UPDATE jobs SET status = 'completed', attempts = 2, worker_id = 'w0' WHERE status = 'failed'"
        )
    answer = wb.explain()
    assert (answer.failing, answer.succeeding) == (200, 600)
    assert answer.findings[0].filter == "worker:w3"
    assert not answer.findings[0].exact


def test_jobs_that_stand_failed_without_a_record_count_too(wb: Workbench) -> None:
    load(wb, [{"plan": f"p{n % 4}"} for n in range(800)], [n % 4 == 1 for n in range(800)], logged=False)
    assert [f.filter for f in wb.explain().findings] == ["payload.plan=p1"]


def test_a_filter_says_which_failures_and_what_a_job_is_narrows_both_sides(wb: Workbench) -> None:
    payloads = [{"plan": f"p{n % 4}", "region": f"r{n % 5}"} for n in range(2_000)]
    load(wb, payloads, [p["plan"] == "p1" and p["region"] == "r2" for p in payloads])
    load(wb, payloads, [False] * 2_000, queue="reports", first=5_000)
    answer = wb.explain("status:failed payload.plan=p1")
    assert (answer.failing, answer.succeeding) == (100, 400)
    assert [f.filter for f in answer.findings] == ["payload.region=r2"]
    assert answer.baseline == "payload.plan=p1"
    assert wb.explain(signature="ab12").findings[0].filter == "payload.plan=p1 payload.region=r2"
    assert wb.explain(signature="other").failing == 0
    assert wb.explain(queue="reports").verdict == "There is nothing to compare: no failing job was found."
    assert wb.explain("worker:w1 attempts>=1 error:null").baseline == "worker:w1"


def test_failures_that_nobody_has_signed_yet_are_not_called_none(wb: Workbench) -> None:
    load(wb, [{"n": n} for n in range(20)], [n % 2 == 0 for n in range(20)])
    with psycopg.connect(wb.settings.database_url.get_secret_value()) as connection:
        connection.execute("UPDATE job_logs SET signature = NULL")
    said = wb.explain(signature="ab12").verdict
    assert said.startswith("There is nothing to compare yet: 10 failed attempts of this time carry no signature")
    assert wb.explain(signature="ab12", queue="reports").verdict.endswith("no failing job was found.")
    assert wb.explain().failing == 10


def test_what_is_selected_is_of_the_queue_and_the_failures_that_were_asked_about(wb: Workbench) -> None:
    payloads = [{"plan": f"p{n % 4}"} for n in range(400)]
    failed = [p["plan"] == "p1" for p in payloads]
    load(wb, payloads, failed)
    load(wb, payloads, failed, queue="reports", first=5_000)
    answer = wb.explain(queue="reports", signature="ab12")
    [finding] = answer.findings
    assert answer.selection(finding) == "status:failed signature:ab12 queue:reports payload.plan=p1"
    assert wb.count(answer.selection(finding)).value == finding.failing == 100
    asked = wb.explain("status in (failed, expired)", queue="reports")
    assert asked.selection(asked.findings[0]) == "status in (failed, expired) queue:reports payload.plan=p1"


def test_the_window_says_which_failures(wb: Workbench) -> None:
    load(wb, [{"n": n % 5} for n in range(1_000)], [n % 5 == 0 for n in range(1_000)])
    assert wb.explain(since="1m").failing == 0
    with pytest.raises(InvalidValue, match="at most 31 days"):
        wb.explain(since="60d")


def test_beyond_the_bound_a_seeded_draw_keeps_the_rates(wb: Workbench) -> None:
    rng = np.random.default_rng(1)
    kinds = rng.integers(0, 4, 6_000)
    failed = (kinds == 2) & (rng.random(6_000) < 0.5)
    load(wb, [{"kind": f"k{k}"} for k in kinds], failed.tolist())
    window = {"since": NOW - AGO, "until": NOW, "queue": None, "seconds": 30.0}
    one, again, other = (
        contrast.read(wb.store.postgres, JobFilter.all(), limit=1_000, seed=seed, **window) for seed in (1, 1, 2)
    )
    assert one.table.equals(again.table)
    assert not one.table.equals(other.table)
    assert (one.failing_total, one.succeeding_total) == (int(failed.sum()), 6_000 - int(failed.sum()))
    assert 900 < one.table.num_rows - int(failed.sum()) < 1_100
    assert one.weight == pytest.approx(1_000 / (6_000 - failed.sum()))
    assert one.notes == (f"Of {6_000 - failed.sum():,} succeeding jobs 19 % were drawn, of each queue alike.",)


HOSTILE = [
    '{"a":' * 3_000 + "1" + "}" * 3_000,
    "[" * 3_000 + "]" * 3_000,
    json.dumps({"big": "x" * 2_000_000, "n": list(range(100_000))}),
    json.dumps({f"key-{n}": n for n in range(20_000)}),
    "1",
    "null",
    '"text"',
    "[]",
    json.dumps({"a": {"a": [1, {"b": 2}, None, "x"]}, "": 1, "odd key": {"'": "\u202e<script>"}}),
    '{"n": 123456789012345678901234567890, "m": 1e400, "k": -0.0}',
    '{"a": "$.x", "b": "\\"", "c": "%(x)s", "d": ":x", "e": "line\\nbreak,\\"quoted\\""}',
]


def test_hostile_payloads_break_nothing_and_explain_nothing_wrong(wb: Workbench) -> None:
    payloads = [*(HOSTILE[n % len(HOSTILE)] if n % 4 == 0 else {"plan": f"p{n % 5}", "%s": 1} for n in range(400))]
    failed = [isinstance(p, dict) and p["plan"] == "p3" for p in payloads]
    load(wb, payloads, failed)
    answer = wb.explain()
    assert answer.findings[0].filter == "payload.plan=p3"
    assert wb.count(answer.findings[0].filter).value == answer.findings[0].jobs == sum(failed)


def test_a_reading_that_takes_too_long_is_stopped(wb: Workbench) -> None:
    load(wb, [{"n": n} for n in range(2_000)], [n % 2 == 0 for n in range(2_000)])
    with pytest.raises(StoreTimeout):
        wb.explain(seconds=0.001)


def test_the_command_prints_the_answer_within_a_hundred_columns(
    wb: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(wb, [{"plan": f"p{n % 4}"} for n in range(800)], [n % 4 == 1 for n in range(800)])
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", wb.settings.database_url.get_secret_value())
    monkeypatch.setenv("QUEUEMON_REDIS_URL", wb.settings.redis_url.get_secret_value())
    assert run(["explain", "queue:mail", "status:failed"]) == 0
    out = capsys.readouterr().out
    assert "1. payload.plan=p1" in out
    assert "queuemon jobs 'queue:mail status:failed payload.plan=p1'" in out
    assert max(map(len, out.splitlines()[:-3])) <= 100
    assert run(["explain", "queue:mail", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][0]["failing"] == 200
    assert run(["explain", "queue:reports"]) == 4
    assert "no failing job was found" in capsys.readouterr().out
    assert run(["explain", "queue:nowhere"]) == 2


def test_values_that_are_masked_elsewhere_are_not_shown_here(wb: Workbench) -> None:
    payloads = [{"api_key": "canary-1" if n % 4 == 1 else "canary-2", "plan": f"p{n % 4}"} for n in range(800)]
    load(wb, payloads, [n % 4 == 1 for n in range(800)])
    answer = wb.explain()
    assert answer.findings[0].filter == "payload.plan=p1"
    assert "canary" not in repr(answer)
    assert "Not looked at, because secrets are masked: payload.api_key." in answer.notes


def test_a_path_whose_values_look_personal_is_not_looked_at_whatever_its_name(wb: Workbench) -> None:
    payloads = [
        {"to": f"canary-{n % 4}@example.com", "by": {"canary@example.com": n % 4}, "plan": f"p{n % 4}"}
        for n in range(800)
    ]
    load(wb, payloads, [n % 4 == 1 for n in range(800)])
    answer = wb.explain()
    assert answer.findings[0].filter == "payload.plan=p1"
    assert "canary" not in repr(answer)
    assert 'Not looked at, because secrets are masked: payload.by."••••••", payload.to' in " ".join(answer.notes)
