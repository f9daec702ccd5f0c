"""One run of a runbook on a queue at a time, and the plan of an action that was begun, on a real PostgreSQL."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

from queuemon.config import Settings
from queuemon.demo.stack import StackUrls
from queuemon.errors import RunbookError
from queuemon.store import runs
from queuemon.workbench import Workbench

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody was killed here: do not wait."""
    monkeypatch.setattr(runs, "WAIT_MS", 20)


def test_a_second_run_on_the_queue_is_refused_and_told_who_is_at_work(settings: Settings) -> None:
    with Workbench(settings) as first, Workbench(settings) as second:
        with runs.alone(first.store.postgres, "fix-it", ["a", "b"], "runbook fix-it, run 1a2b"):
            for queues in (["a"], ["b", "c"]):
                with (
                    pytest.raises(RunbookError, match=r"on [ab] \(runbook fix-it, run 1a2b, as \w+\)"),
                    runs.alone(second.store.postgres, "fix-it", queues, "x"),
                ):
                    pass
            with (
                runs.alone(second.store.postgres, "fix-it", ["c"], "x"),
                runs.alone(second.store.postgres, "other", ["a"], "x"),
            ):
                pass
        with runs.alone(second.store.postgres, "fix-it", ["a"], "x"):
            pass


def test_runs_without_a_queue_are_alone_too(settings: Settings) -> None:
    with (
        Workbench(settings) as wb,
        runs.alone(wb.store.postgres, "fix-it", [], "x"),
        pytest.raises(RunbookError, match="'fix-it' is at work"),
        runs.alone(wb.store.postgres, "fix-it", [], "y"),
    ):
        pass


def test_a_run_on_all_queues_and_one_on_a_named_queue_exclude_each_other(settings: Settings) -> None:
    for at_work, refused in (([], ["a"]), (["a"], [])):
        with (
            Workbench(settings) as wb,
            runs.alone(wb.store.postgres, "fix-it", at_work, "runbook fix-it, run 1a2b"),
            pytest.raises(RunbookError, match=r"at work \(runbook fix-it, run 1a2b"),
            runs.alone(wb.store.postgres, "fix-it", refused, "y"),
        ):
            pass


def test_a_session_that_is_cut_leaves_no_lock(settings: Settings, urls: StackUrls) -> None:
    cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE '%run cut'"
    with (
        Workbench(settings) as wb,
        Workbench(settings) as other,
        runs.alone(wb.store.postgres, "fix-it", ["a"], "runbook fix-it, run cut"),
        psycopg.connect(urls.database_url, autocommit=True) as connection,
    ):
        assert connection.execute(cut).fetchall() == [(True,)]
        with runs.alone(other.store.postgres, "fix-it", ["a"], "x"):
            pass


def test_a_begun_action_is_planned_as_it_was_frozen(settings: Settings, urls: StackUrls) -> None:
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("INSERT INTO job_queues (name) VALUES ('a')")
        ids = [uuid4() for _ in range(3)]
        connection.cursor().executemany(
            "INSERT INTO jobs (id, queue, payload, status, attempts, max_attempts, finished_at)"
            " VALUES (%s, 'a', '{}', 'failed', 1, 1, now())",
            [(i,) for i in ids],
        )
    with Workbench(settings) as wb:
        action_id = uuid4()
        assert wb.begun(action_id) is None
        first = wb.apply(wb.plan("retry", ids, action_id=action_id))
        plan = wb.begun(uuid4(), action_id)
        assert plan is not None
        assert (plan.id, plan.ids, plan.count) == (action_id, tuple(ids), 3)
        assert "nothing is repeated" in plan.effect
        again = wb.apply(plan)
        assert (again.repeated, again.done) == (True, first.done)
