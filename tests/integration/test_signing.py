"""Every failed attempt gets its signature: from our worker at once, from the relay for all others."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.dialects import postgresql

from queuemon.analysis.frames import TRACE_PART
from queuemon.analysis.normalise import MESSAGE_PART
from queuemon.analysis.signatures import NORMALISER_VERSION, sign
from queuemon.engine import signing
from queuemon.engine.handlers import JobInHand
from queuemon.store import signing as statements
from tests.support.engine import Rig, rig

pytestmark = pytest.mark.integration

__all__ = ["rig"]


def attempt(
    rig: Rig, message: str, *, trace: str | None = None, status: str = "failed", version: int | None = None
) -> int:
    """The log row of an attempt that somebody else's worker wrote."""
    return int(
        rig.sql(
            "INSERT INTO job_logs (job_id, queue, gen, status, error_type, error_message, stack_trace, signature,"
            " signature_version) VALUES (:job, 'mail', 1, :status, 'E', :message, :trace, :signature, :version)"
            " RETURNING id",
            job=uuid4(), status=status, message=message, trace=trace, version=version,
            signature="old" if version is not None else None,
        )[0]["id"]
    )  # fmt: skip


def signature(rig: Rig, row: int) -> tuple[str | None, int | None]:
    found = rig.sql("SELECT signature, signature_version FROM job_logs WHERE id = :id", id=row)[0]
    return found["signature"], found["signature_version"]


def test_our_worker_signs_with_the_attempt(rig: Rig) -> None:
    def handler(job: JobInHand) -> None:
        raise ValueError(f"no such customer {job.id}")

    first, second = (rig.producer.enqueue("mail", {}, max_attempts=1) for _ in range(2))
    with rig.worker(handler):
        rig.until("failed", 2)
    rows = [row for job in (first, second) for row in rig.logs(_id(job)) if row["kind"] == "attempt"]
    assert len({row["signature"] for row in rows}) == 1
    for row in rows:
        expected = sign(row["error_type"], row["error_message"], row["stack_trace"])
        assert (row["signature"], row["signature_version"]) == (expected.id, NORMALISER_VERSION)
        assert "test_signing.py:handler" in expected.frames
    assert signing.sign_attempts(rig.store) == 0


def _id(job: object) -> UUID:
    return job if isinstance(job, UUID) else job.id  # type: ignore[attr-defined,no-any-return]


def test_the_relay_signs_what_others_wrote_the_newest_first_in_bounded_steps(rig: Rig) -> None:
    rows = [attempt(rig, f"order {n} is late") for n in range(5)]
    assert signing.sign_attempts(rig.store, limit=2) == 2
    signed = (sign("E", "order 1 is late", None).id, NORMALISER_VERSION)
    assert [signature(rig, row) for row in rows] == [(None, None)] * 3 + [signed] * 2
    assert rig.relay().sign() is False
    assert {signature(rig, row) for row in rows} == {signed}


def test_the_relay_signs_again_what_an_older_version_signed(rig: Rig) -> None:
    old, newer = attempt(rig, "x", version=0), attempt(rig, "x", version=NORMALISER_VERSION + 1)
    assert signing.sign_attempts(rig.store) == 1
    assert signature(rig, old) == (sign("E", "x", None).id, NORMALISER_VERSION)
    assert signature(rig, newer) == ("old", NORMALISER_VERSION + 1)


def test_only_failed_attempts_are_signed(rig: Rig) -> None:
    row = attempt(rig, "x", status="completed")
    assert signing.sign_attempts(rig.store) == 0
    assert signature(rig, row) == (None, None)


def test_a_long_text_is_signed_as_the_worker_would(rig: Rig) -> None:
    message = "late order 7: " + "ü" * (3 * MESSAGE_PART)
    trace = (
        '  File "/app/x.py", line 1, in y\n' + "é" * (3 * TRACE_PART) + '\n  File "/app/z.py", line 3, in last\nE: x'
    )
    row = attempt(rig, message, trace=trace)
    signing.sign_attempts(rig.store)
    assert signature(rig, row)[0] == sign("E", message, trace).id


def test_nothing_to_sign_is_seen_in_the_index_alone(rig: Rig) -> None:
    with rig.store.postgres.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO job_logs (job_id, queue, gen, status, error_message, signature, signature_version)"
            " SELECT gen_random_uuid(), 'mail', 1, 'failed', 'x', 'ab', %(v)s FROM generate_series(1, 20000)",
            {"v": NORMALISER_VERSION},
        )
        connection.exec_driver_sql("ANALYZE job_logs")
    with rig.store.postgres.begin() as connection:
        logs = rig.store.tables.job_logs
        statement = (
            select(logs.c.id)
            .where(statements.failed(rig.store.tables), statements.version_of(rig.store.tables) < NORMALISER_VERSION)
            .order_by(statements.version_of(rig.store.tables).desc(), logs.c.id.desc())
            .limit(10)
        )
        sql = str(statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True}))
        plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {sql}"))
    assert "job_logs_unsigned" in plan
