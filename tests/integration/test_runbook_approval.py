"""A plan is approved by another role than the one that acts, on a real PostgreSQL; the approvals only grow."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors as pg
from pydantic import SecretStr

from queuemon.config import Settings
from queuemon.demo.stack import StackUrls
from queuemon.errors import InvalidValue, NotAllowed
from queuemon.filters import JobFilter
from queuemon.runbooks import journal, selection, steps
from queuemon.schema import roles
from queuemon.workbench import Workbench

pytestmark = pytest.mark.integration


@pytest.fixture
def approver(urls: StackUrls, settings: Settings) -> Iterator[Workbench]:
    """A workbench with the rights of the approver, and nothing more."""
    name, password = f"approver_{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(urls.database_url, autocommit=True) as connection:
        connection.execute(roles.sql().encode())
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE queuemon_approver".encode())
    where = urls.database_url.rpartition("@")[2]
    changed = {"database_url": SecretStr(f"postgresql://{name}:{password}@{where}")}
    with Workbench(settings.model_copy(update=changed)) as wb:
        yield wb
    with psycopg.connect(urls.database_url, autocommit=True) as connection:
        connection.execute(f"DROP ROLE {name}".encode())


@pytest.fixture
def in_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Makes this process a fresh one that carries out a run whose plans must be approved."""

    def enter() -> None:
        journal._run.cache_clear()
        monkeypatch.setenv("QUEUEMON_RUNBOOK_RUN", "runbook retry-failed, run 1a2b")
        monkeypatch.setenv("QUEUEMON_RUNBOOK_JOURNAL", str(tmp_path / "journal.jsonl"))
        monkeypatch.setenv("QUEUEMON_RUNBOOK_APPROVAL", "1")

    enter()
    yield enter
    journal._run.cache_clear()


def fail_some(urls: StackUrls, number: int) -> None:
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("INSERT INTO job_queues (name) VALUES ('a') ON CONFLICT DO NOTHING")
        connection.cursor().executemany(
            "INSERT INTO jobs (id, queue, payload, status, attempts, max_attempts, finished_at)"
            " VALUES (%s, 'a', '{}', 'failed', 1, 1, now())",
            [(uuid4(),) for _ in range(number)],
        )


def attempt(wb: Workbench) -> bool | None:
    """Retry what stands failed; whether it was done before."""
    ids = selection.select(wb, JobFilter.parse("status:failed"), limit=100)
    result = steps.act(wb, selection.plan(wb, "retry", ids), dry_run=False, reason="")
    return result.repeated if result else None


def test_a_plan_waits_for_another_role_and_a_changed_plan_for_a_new_approval(
    settings: Settings, urls: StackUrls, approver: Workbench, in_run: Callable[[], None], tmp_path: Path
) -> None:
    fail_some(urls, 3)
    with Workbench(settings) as wb:
        with pytest.raises(NotAllowed, match=r"retry 3 .* is not approved.*runbook approve 1a2b"):
            attempt(wb)
        (note,) = journal.read(tmp_path / "journal.jsonl")
        wb.approve(note["hash"])
        in_run()
        with pytest.raises(NotAllowed, match="is not approved"):
            attempt(wb)  # one's own approval is none
        approver.approve(note["hash"], note="looked at it")
        fail_some(urls, 1)
        in_run()
        with pytest.raises(NotAllowed, match="retry 4"):
            attempt(wb)
        (changed,) = journal.read(tmp_path / "journal.jsonl")
        assert changed["hash"] != note["hash"]
        role = approver.approve(changed["hash"])
        in_run()
        assert attempt(wb) is False
        (done,) = journal.read(tmp_path / "journal.jsonl")
        assert (done["state"], done["done"], done["approved_by"]) == ("done", 4, role)
        in_run()
        assert attempt(wb) is True


def test_nobody_signs_for_another_takes_an_approval_back_or_approves_without_the_right(
    settings: Settings, urls: StackUrls, approver: Workbench
) -> None:
    with psycopg.connect(urls.database_url, autocommit=True) as connection:
        forged = "INSERT INTO queuemon.approvals (hash, role, os_user, note) VALUES (repeat('a', 64), 'boss', 'x', '')"
        connection.execute(forged)
        assert connection.execute("SELECT role = session_user FROM queuemon.approvals").fetchall() == [(True,)]
        for statement in ("UPDATE queuemon.approvals SET role = 'boss'", "DELETE FROM queuemon.approvals"):
            with pytest.raises(pg.InsufficientPrivilege, match="only added to"):
                connection.execute(statement)
        connection.execute("REVOKE INSERT ON queuemon.approvals FROM queuemon_approver")
    with pytest.raises(NotAllowed):
        approver.approve("b" * 64)
    with Workbench(settings) as wb, pytest.raises(InvalidValue, match="no plan's hash"):
        wb.approve("abc")
