"""What fails is grouped by cause: counted exactly, signed or not, with what an operator asks next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from queuemon.analysis.failures import BUCKETS, slices
from queuemon.analysis.signatures import NORMALISER_VERSION, sign
from queuemon.analysis.window import Window
from queuemon.config import Settings
from queuemon.engine.signing import sign_attempts
from queuemon.errors import InvalidValue, NotAllowed, UnknownQueue
from queuemon.model import Certainty
from queuemon.store import failures as rows
from queuemon.workbench import Workbench

pytestmark = pytest.mark.integration


class Bench:
    """A workbench with two queues, and failed attempts as any worker may write them."""

    def __init__(self, settings: Settings) -> None:
        self.wb = Workbench(settings)
        self.now: datetime = self.sql("SELECT now() AS at")[0]["at"]
        for name in ("mail", "reports"):
            self.sql("INSERT INTO job_queues (name) VALUES (:name)", name=name)

    def sql(self, statement: str, **parameters: Any) -> list[Any]:
        with self.wb.store.postgres.begin() as connection:
            result = connection.execute(text(statement), parameters)
            return list(result.mappings()) if result.returns_rows else []

    def fails(
        self, message: str, *, ago: timedelta, queue: str = "mail", signed: bool = True, standing: bool = False
    ) -> UUID:
        job = uuid4()
        signature = sign("Boom", message, None).id if signed else None
        self.sql(
            "INSERT INTO job_logs (job_id, queue, gen, status, finished_at, error_type, error_message, signature,"
            " signature_version) VALUES (:job, :queue, 1, 'failed', :at, 'Boom', :message, :signature, :version)",
            job=job, queue=queue, at=self.now - ago, message=message, signature=signature,
            version=NORMALISER_VERSION if signed else None,
        )  # fmt: skip
        self.sql(
            "INSERT INTO jobs (id, queue, payload, status, attempts, expires_at)"
            " VALUES (:job, :queue, '{}', :status, 1, now() + interval '1 day')",
            job=job, queue=queue, status="failed" if standing else "completed",
        )  # fmt: skip
        return job


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    made = Bench(settings)
    yield made
    made.wb.close()


HOUR = timedelta(hours=1)


def test_causes_come_with_what_an_operator_asks_next(bench: Bench) -> None:
    for n in range(3):
        bench.fails(f"order {n} is late", ago=n * HOUR + timedelta(minutes=5), standing=n < 2)
    last = bench.fails("HTTP 503", ago=timedelta(minutes=1), queue="reports")
    bench.fails("order 9 is late", ago=50 * HOUR)
    found = bench.wb.failures()
    assert (found.attempts.value, found.others, found.notes, found.unsigned) == (4, 0, (), 0)
    first, second = found.causes
    assert (first.error_type, first.text, first.attempts.value, first.share) == (
        "Boom",
        "order <number> is late",
        3,
        0.75,
    )
    assert first.first_seen == bench.now - 50 * HOUR  # before the window
    assert first.last_seen == bench.now - timedelta(minutes=5)
    assert first.queues == (("mail", 3),)
    assert (first.standing.value, first.standing.certainty) == (2, Certainty.EXACT)
    assert (sum(first.trend), len(first.trend)) == (3, BUCKETS)
    assert second.example == last
    assert bench.wb.count(first.filter).value == 2


@pytest.mark.parametrize("limit", [1, 20])
def test_what_is_not_signed_yet_is_grouped_all_the_same(bench: Bench, limit: int) -> None:
    bench.fails("order 1 is late", ago=HOUR)
    job = bench.fails("order 2 is late", ago=2 * HOUR, signed=False, standing=True)
    only = bench.fails("disk full", ago=3 * HOUR, signed=False, standing=True)
    before = bench.wb.failures(limit=limit)
    assert [(c.text, c.attempts.value) for c in before.causes] == [("order <number> is late", 2), ("disk full", 1)][
        :limit
    ]
    assert before.unsigned == 2
    assert "2 attempts have no stored signature yet" in before.notes[0]
    assert [c.standing.value for c in before.causes] == [1, 1][:limit]
    assert not any(c.signed for c in before.causes)
    assert before.causes[-1].example in {job, only, before.causes[0].example}
    assert before.others == (1 if limit == 1 else 0)
    sign_attempts(bench.wb.store)
    after = bench.wb.failures(limit=limit)
    assert (after.notes, after.unsigned) == ((), 0)
    assert all(c.signed for c in after.causes)
    assert [(c.signature, c.attempts, c.trend) for c in after.causes] == [
        (c.signature, c.attempts, c.trend) for c in before.causes
    ]


def test_one_queue_and_one_window_are_looked_at_alone(bench: Bench) -> None:
    bench.fails("a", ago=HOUR)
    bench.fails("b", ago=HOUR, queue="reports")
    bench.fails("c", ago=5 * HOUR)
    assert [c.text for c in bench.wb.failures("queue:mail", "2h").causes] == ["a"]
    assert [c.text for c in bench.wb.failures(None, "6h", "2h").causes] == ["c"]
    assert bench.wb.failures("mail", "2h").causes[0].filter.startswith("queue:mail status:failed signature:")
    assert bench.wb.failures("mail", "10m").causes == ()


def test_what_began_after_a_deploy_says_so(bench: Bench) -> None:
    bench.fails("old", ago=20 * HOUR)
    bench.wb.mark_deploy("mailer 2", at="3h", note="new layout")
    bench.fails("old", ago=HOUR)
    bench.fails("fresh", ago=2 * HOUR)
    found = {c.text: c.new_since for c in bench.wb.failures().causes}
    assert found == {"old": None, "fresh": "mailer 2"}
    (deploy,) = bench.wb.deploys()
    assert (deploy.name, deploy.note) == ("mailer 2", "new layout")
    assert abs(deploy.at - (bench.now - 3 * HOUR)) < timedelta(minutes=5)


def test_beyond_the_cap_a_stratified_sample_is_read_and_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    signature = sign("Boom", "x", None).id
    bench.sql(
        "INSERT INTO job_logs (job_id, queue, gen, status, finished_at, error_type, error_message, signature,"
        " signature_version) SELECT gen_random_uuid(), 'mail', 1, 'failed', now() - n * interval '4 s', 'Boom', 'x',"
        " CASE WHEN n % 2 = 0 THEN :signature END, CASE WHEN n % 2 = 0 THEN :version ELSE 0 END"
        " FROM generate_series(1, 20000) AS n",
        signature=signature, version=NORMALISER_VERSION,
    )  # fmt: skip
    monkeypatch.setattr(rows, "UNSIGNED", 1_000)
    found = bench.wb.failures()
    assert found.attempts.value == 20_000
    assert found.causes[0].attempts.value == pytest.approx(20_000, rel=0.02)
    assert found.causes[0].attempts.certainty is Certainty.ESTIMATED
    monkeypatch.setattr(rows, "ATTEMPTS", 4_000)
    found = bench.wb.failures()
    assert found.attempts.certainty is Certainty.ESTIMATED
    assert found.attempts.value == pytest.approx(20_000, rel=0.1)
    assert "estimates from" in found.notes[0]
    assert [c.signature for c in found.causes] == [signature]


def test_slices_lie_in_their_part_of_the_window_and_are_the_same_again() -> None:
    window = Window(since=datetime(2026, 11, 1, tzinfo=UTC), until=datetime(2026, 11, 2, tzinfo=UTC))
    found = slices(window, 0.1)
    assert found == slices(window, 0.1) != slices(window, 0.1, seed=8)
    assert sum((b - a for a, b in found), timedelta()) / window.length == pytest.approx(0.1, rel=1e-3)
    assert all(a[1] <= b[0] for a, b in pairwise(found))
    assert (found[0][0] >= window.since, found[-1][1] <= window.until) == (True, True)
    assert slices(window, 1) == [(window.since, window.until)]


def test_questions_that_cannot_be_answered_are_refused(bench: Bench) -> None:
    for wrong in ({"limit": 0}, {"limit": 201}, {"since": "40d"}, {"since": "1h", "until": "2h"}):
        with pytest.raises(InvalidValue):
            bench.wb.failures(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownQueue):
        bench.wb.failures("nope")
    for name in ("", " ", "x" * 201, "a\0b"):
        with pytest.raises(InvalidValue):
            bench.wb.mark_deploy(name)


def test_a_read_only_profile_marks_no_deploy(settings: Settings) -> None:
    with Workbench(settings.model_copy(update={"read_only": True})) as wb, pytest.raises(NotAllowed):
        wb.mark_deploy("x")


def test_the_counts_come_from_the_index_alone(bench: Bench) -> None:
    bench.sql(
        "INSERT INTO job_logs (job_id, queue, gen, status, finished_at, signature, signature_version)"
        " SELECT gen_random_uuid(), 'mail', 1, CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'completed' END,"
        " now() - n * interval '1 s', 'ab', 1 FROM generate_series(1, 40000) AS n"
    )
    engine = bench.wb.store.postgres.engine
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE) job_logs"))
        plan = connection.execute(
            text(
                "EXPLAIN SELECT signature, queue, count(*) FROM job_logs WHERE kind = 'attempt' AND status = 'failed'"
                " AND finished_at >= now() - interval '1 h' AND finished_at < now() GROUP BY 1, 2"
            )
        )
        assert "Index Only Scan using job_logs_failed_at" in "\n".join(row[0] for row in plan)


def test_the_value_is_json_and_a_frame(bench: Bench) -> None:
    from queuemon.cli.terminal import plain

    bench.fails("x", ago=HOUR)
    found = bench.wb.failures()
    assert json.loads(json.dumps(plain(found)))["causes"][0]["text"] == "x"
    assert list(found.to_frame()["attempts"]) == [1]
