"""Every runbook in its own scenario: dry it changes nothing, wet it does what it says, and its verification can fail.

What a wet run did is asked of both stores directly, not of the run. A dry run shares its scenario with the wet run, and
runs the same cells in this process, as do the runs whose verification fails: what a kernel, a record and an exit code
are for is in test_runbooks.py and test_runbook_runner.py.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest

from queuemon import runbooks
from queuemon.cli import run as queuemon
from queuemon.errors import InvalidValue, LimitExceeded, RunbookError, StoreUnavailable
from queuemon.model import ActionKind, ActionResult, Plan
from queuemon.runbooks import procedures
from queuemon.workbench import Workbench
from tests.support.runbooks import Floor, Gate
from tests.support.terminal import assert_one_sentence
from tests.support.wait import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def dry(floor: Floor, name: str, **parameters: Any) -> None:
    """A dry run changes nothing in either store."""
    before = floor.everything()
    floor.cells(name, **parameters)
    assert floor.everything() == before


def fails(floor: Floor, name: str, match: str, **parameters: Any) -> None:
    """The cells of a runbook end with a verification that has failed."""
    with pytest.raises(RunbookError, match=match):
        floor.cells(name, dry_run=False, **parameters)


# ---------------------------------------------------------------------------------------- prioritise-transactional

WAY = {"queue": "mail", "transactional": "urgent", "make_way": ["bulk"], "workers": 3, "drained_below": 5}

MOVED = """
SELECT (SELECT concurrency FROM job_queues WHERE name = 'mail') AS workers,
    (SELECT count(*) FROM job_queues WHERE paused) AS paused,
    (SELECT count(*) FROM queuemon.queue_pauses) AS holders
"""


def moved(floor: Floor) -> tuple[int, int, int]:
    """Workers meant for mail, paused queues, holders of pauses."""
    (row,) = floor.sql(MOVED)
    return row["workers"], row["paused"], row["holders"]


def test_prioritise_transactional_drains_the_queue_while_exports_wait_and_puts_all_back(floor: Floor) -> None:
    before = moved(floor)
    mail, exports = floor.plant.healthy(40), floor.plant.healthy(6, queue="bulk")
    dry(floor, "prioritise-transactional", **WAY)
    with contextlib.ExitStack() as hands:

        def work() -> None:
            wait_until(lambda: moved(floor) == (3, 1, 1), timeout=60, message="exports make way")
            for home in ("bulk", "mail"):
                hands.enter_context(floor.rig.worker(lambda job: None, home=home))

        result = floor.meanwhile("prioritise-transactional", work, dry_run=False, reason="Black Friday", **WAY)
        floor.rig.until("completed", 46)
    assert result.state == "done"
    assert moved(floor) == before
    kinds = [kind for kind, _, state in floor.actions() if state == "done"]
    assert kinds == ["pause", "scale", "undo", "undo"]
    (held,) = floor.sql("SELECT started_at AS since, (SELECT max(started_at) FROM queuemon.actions) AS until FROM"
                        " queuemon.actions WHERE kind = 'pause'")  # fmt: skip
    ran = "SELECT count(*) AS n FROM jobs WHERE id = ANY(CAST(:ids AS uuid[])) AND started_at BETWEEN :since AND :until"
    assert floor.sql(ran, ids=exports, **held)[0]["n"] == 0
    assert floor.sql(ran, ids=mail, **held)[0]["n"] > 40 - WAY["drained_below"]  # type: ignore[operator]
    assert "Black Friday" in floor.sql("SELECT reason FROM queuemon.actions WHERE kind = 'pause'")[0]["reason"]


def test_prioritise_transactional_that_does_not_drain_fails_and_puts_all_back(floor: Floor) -> None:
    before = moved(floor)
    floor.plant.healthy(20)
    fails(floor, "prioritise-transactional", "20 still wait in mail", wait_seconds=0.5, **WAY)
    assert moved(floor) == before
    assert [kind for kind, _, _ in floor.actions()] == ["pause", "scale", "undo", "undo"]
    assert floor.states() == {"waiting": 20}


def test_prioritise_transactional_that_is_stopped_puts_all_back(floor: Floor) -> None:
    before = moved(floor)
    floor.plant.healthy(20)
    made_way = lambda: moved(floor) == (3, 1, 1)  # noqa: E731
    floor.cut_short("prioritise-transactional", made_way, dry_run=False, **WAY)
    assert moved(floor) == before


def test_a_change_that_fails_takes_back_those_before_it(floor: Floor) -> None:
    before = moved(floor)
    floor.plant.healthy(20)
    gone = lambda: floor.sql("DELETE FROM job_queues WHERE name = 'bulk'")  # noqa: E731
    with pytest.raises(RunbookError, match="no longer exists"):
        floor.cells(
            "prioritise-transactional", dry_run=False, after={"Plan": gone}, **WAY | {"make_way": ["reports", "bulk"]}
        )
    assert moved(floor) == before
    assert [(kind, state) for kind, _, state in floor.actions()][-1] == ("undo", "done")


def test_a_change_whose_answer_is_lost_is_taken_back_too(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: Workbench, plan: Plan, **options: Any) -> ActionResult:
        result = apply(self, plan, **options)
        if plan.kind is ActionKind.SCALE:
            raise StoreUnavailable("the connection was lost")
        return result

    before, apply = moved(floor), Workbench.apply
    monkeypatch.setattr(Workbench, "apply", lost)
    with pytest.raises(StoreUnavailable):
        floor.cells("prioritise-transactional", dry_run=False, **WAY)
    assert moved(floor) == before
    assert [kind for kind, _, _ in floor.actions()] == ["pause", "scale", "undo", "undo"]


def test_late_transactional_mail_fails_the_run(floor: Floor) -> None:
    floor.plant.rows(1, queue="urgent", run_at="now() - interval '3 hours'")
    fails(floor, "prioritise-transactional", "the oldest job of urgent has waited 3", **WAY)
    assert moved(floor)[1:] == (0, 0)


def test_what_somebody_else_changed_meanwhile_is_left_to_them(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = procedures._watched

    def scaled(*args: Any, **options: Any) -> procedures.Drained:
        floor.sql("UPDATE job_queues SET concurrency = 9 WHERE name = 'mail'")
        return watched(*args, **options)

    monkeypatch.setattr(procedures, "_watched", scaled)
    floor.cells("prioritise-transactional", dry_run=False, **WAY)
    assert moved(floor) == (9, 0, 0)


def test_a_paused_queue_and_one_that_would_make_way_for_itself_are_refused(floor: Floor) -> None:
    with pytest.raises(InvalidValue, match="mail would make way for itself"):
        floor.cells("prioritise-transactional", **WAY | {"make_way": ["mail"]})
    floor.sql("UPDATE job_queues SET paused = true WHERE name = 'mail'")
    with pytest.raises(InvalidValue, match="mail is paused"):
        floor.cells("prioritise-transactional", **WAY)


# ----------------------------------------------------------------------------------------------------- clear-failed


def test_clear_failed_removes_what_matches_and_keeps_a_copy(floor: Floor) -> None:
    gone, kept = floor.ended(8, "failed"), floor.ended(3, "failed", error="other")
    dry(floor, "clear-failed", queue="mail", error="boom")
    floor.run("clear-failed", queue="mail", error="boom", dry_run=False)
    assert {row["id"] for row in floor.sql("SELECT id FROM jobs")} == set(kept)
    assert {row["job_id"] for row in floor.sql("SELECT job_id FROM queuemon.undo_jobs")} == set(gone)
    assert [(kind, state) for kind, _, state in floor.actions()] == [("clear-failed", "done")]


def test_clear_failed_fails_when_the_jobs_come_back_or_the_copy_has_gone(floor: Floor) -> None:
    floor.ended(8, "failed")

    def back():
        return floor.rig.sql(
            "INSERT INTO jobs SELECT (jsonb_populate_record(NULL::jobs, row)).* FROM queuemon.undo_jobs"
        )

    fails(floor, "clear-failed", "8 failed", queue="mail", after={"Act": back})
    floor.sql("TRUNCATE queuemon.undo_jobs")
    purged = lambda: floor.sql("TRUNCATE queuemon.undo_jobs")  # noqa: E731
    fails(floor, "clear-failed", "no copy", queue="mail", after={"Act": purged})


# ----------------------------------------------------------------------------------------------------- rescue-stuck


def test_rescue_stuck_gives_jobs_back_and_fails_those_without_attempts(floor: Floor) -> None:
    stuck = floor.plant.plant(6, 3).marks
    long_ago = dict.fromkeys(("started_at", "heartbeat_at"), "now() - interval '1 hour'")
    (used_up,) = floor.plant.rows(1, status="'active'", attempts="3", max_attempts="3", worker_id="'w'", **long_ago)
    dry(floor, "rescue-stuck")
    floor.run("rescue-stuck", dry_run=False)
    found = {str(row["id"]): row for row in floor.sql("SELECT * FROM jobs")}
    assert {key for key, row in found.items() if row["status"] == "waiting" and row["gen"] == 2} == stuck
    assert found[str(used_up)]["status"] == "failed"
    assert {job_id for job_id, _ in floor.listed()} == stuck


def test_rescue_stuck_fails_when_a_job_is_stuck_again(floor: Floor) -> None:
    floor.plant.plant(6, 3)
    again = lambda: floor.sql(  # noqa: E731
        "UPDATE jobs SET status = 'active', worker_id = 'w', heartbeat_at = now() - interval '1 hour'"
        " WHERE id = (SELECT min(id::text)::uuid FROM jobs)"
    )
    fails(floor, "rescue-stuck", "1 of 3 jobs are stuck again", after={"Act": again})
    floor.plant.plant(6, 2)
    with pytest.raises(LimitExceeded):
        floor.cells("rescue-stuck", limit=1)


# ----------------------------------------------------------------------------------------------------- repair-drift


def test_repair_drift_publishes_what_is_lost_and_sets_aside_what_means_nothing(floor: Floor) -> None:
    lost = floor.plant.plant(1, 3).marks
    floor.plant.plant(2, 2)
    floor.plant.plant(13, 1)
    floor.plant.healthy(4)
    dry(floor, "repair-drift")
    floor.run("repair-drift", dry_run=False)
    rows = {(str(row["id"]), row["gen"]) for row in floor.sql("SELECT id, gen FROM jobs WHERE status = 'waiting'")}
    assert floor.listed() == sorted(rows)
    assert {job_id for job_id, gen in rows if gen == 2} == lost
    assert floor.redis.llen("queuemon:quarantine:mail") == 3


def test_repair_drift_keeps_to_the_classes_and_fails_when_the_trouble_comes_back(floor: Floor) -> None:
    floor.plant.plant(1, 3)
    floor.plant.plant(2, 2)
    floor.cells("repair-drift", dry_run=False, classes=["2"])
    assert floor.redis.llen("queuemon:quarantine:mail") == 2
    assert floor.listed() == []
    fails(
        floor,
        "repair-drift",
        "3 disagreements",
        wait_seconds=0.0,
        after={"Act": lambda: floor.redis.delete("queue:mail")},
    )
    with pytest.raises(InvalidValue, match="some of 1, 2, 3"):
        floor.cells("repair-drift", classes=["all"])


# --------------------------------------------------------------------------------------------------- replay-expired


def test_replay_expired_runs_those_of_the_window_alone(floor: Floor) -> None:
    floor.ended(5, "expired")
    old = floor.ended(2, "expired", ago="3 days")
    dry(floor, "replay-expired", queue="mail")
    with floor.rig.worker(lambda job: None):
        floor.run("replay-expired", queue="mail", dry_run=False)
    assert floor.states() == {"completed": 5, "expired": 2}
    assert {row["id"] for row in floor.sql("SELECT id FROM jobs WHERE status = 'expired'")} == set(old)


def test_replay_expired_fails_when_nobody_takes_them(floor: Floor) -> None:
    floor.ended(5, "expired")
    fails(floor, "replay-expired", "5 waiting.*within 0 s", queue="mail", wait_seconds=0.0)


# -------------------------------------------------------------------------------------------------- drain-and-pause

REST = {"queues": ["mail", "bulk"], "until": "30m"}


def test_drain_and_pause_waits_for_the_running_jobs_and_leaves_the_queues_paused(floor: Floor) -> None:
    gate = Gate()
    floor.plant.healthy(3)
    dry(floor, "drain-and-pause", **REST)
    with floor.rig.worker(gate):
        wait_until(lambda: floor.states().get("active") == 1, message="a job runs")

        def finish() -> None:
            wait_until(lambda: moved(floor)[1:] == (2, 2), timeout=60, message="both queues are paused")
            gate.open.set()

        floor.meanwhile("drain-and-pause", finish, dry_run=False, **REST)
        assert floor.states() == {"completed": 1, "waiting": 2}
    held = floor.sql("SELECT queue, holder, until > now() + interval '20 minutes' AS ends FROM queuemon.queue_pauses")
    assert sorted((row["queue"], row["holder"], row["ends"]) for row in held) == [
        ("bulk", "deploy", True), ("mail", "deploy", True),
    ]  # fmt: skip
    assert floor.redis.hget("queuemon:paused:mail", "paused") == b"1"


@pytest.mark.parametrize("resume", [True, False])
def test_drain_and_pause_fails_when_a_job_does_not_finish(floor: Floor, resume: bool) -> None:
    floor.plant.rows(1, status="'active'", worker_id="'w'", started_at="now()", heartbeat_at="now() + interval '1 h'")
    fails(floor, "drain-and-pause", "mail: 1 still run", wait_seconds=0.1, resume_on_failure=resume, **REST)
    assert moved(floor)[1:] == ((0, 0) if resume else (2, 2))


# ---------------------------------------------------------------------------------------------------- rebuild-redis


def test_rebuild_redis_brings_back_every_waiting_job_once(floor: Floor) -> None:
    floor.plant.healthy(30)
    floor.plant.healthy(15, queue="reports")
    floor.redis.flushdb()
    later = floor.plant.rows(2, run_at="now() + interval '1 hour'")
    dry(floor, "rebuild-redis")
    floor.run("rebuild-redis", dry_run=False)
    for queue in ("mail", "reports"):
        rows = floor.sql("SELECT id, gen FROM jobs WHERE queue = :q AND run_at <= now()", q=queue)
        assert floor.listed(queue) == sorted((str(row["id"]), row["gen"]) for row in rows)
    assert not {str(i) for i in later} & {job_id for job_id, _ in floor.listed()}


def test_rebuild_redis_goes_on_in_rounds_and_fails_when_redis_loses_it_again(floor: Floor) -> None:
    floor.plant.healthy(5)
    floor.plant.rows(4)
    fails(floor, "rebuild-redis", "disagreements are left", wait_seconds=0.0, after={"Act": floor.redis.flushdb})
    wb = floor.cells("rebuild-redis")["wb"]
    plan = wb.plan("repair", None, wait_seconds=0.0, classes=runbooks.LOSS, max_repairs=4)
    assert runbooks.repair(wb, plan, dry_run=False, reason="", rounds=1, classes=runbooks.LOSS) is not None
    runbooks.repair(wb, wb.plan("repair", None, wait_seconds=0.0, max_repairs=4), dry_run=False, reason="", rounds=9)
    assert len(floor.listed()) == 9


# ----------------------------------------------------------------------------------------------------- retry-failed


def test_retry_failed_takes_the_signature_and_the_window_alone(floor: Floor) -> None:
    wanted, other = floor.ended(3, "failed"), floor.ended(2, "failed")
    old = floor.ended(2, "failed", ago="3 hours")
    for ids, signature in ((wanted + old, "0" * 16), (other, "1" * 16)):
        floor.sql(
            "INSERT INTO job_logs (job_id, queue, gen, attempt, kind, status, signature, finished_at)"
            " SELECT id, 'mail', 1, 1, 'attempt', 'failed', :s, now() FROM unnest(CAST(:ids AS uuid[])) AS id",
            ids=ids, s=signature,
        )  # fmt: skip
    with floor.rig.worker(lambda job: None):
        floor.cells("retry-failed", queue="mail", signature="0" * 16, since="1h", dry_run=False)
        floor.cells("retry-failed", queue="mail", until="2h", since="2020-01-01", error="nothing", dry_run=False)
    done = {row["id"] for row in floor.sql("SELECT id FROM jobs WHERE status = 'completed'")}
    assert done == set(wanted)
    for bad in ("yesterday", "2h) or (status:failed"):
        with pytest.raises(InvalidValue, match="since' is"):
            floor.cells("retry-failed", queue="mail", since=bad)


def test_retry_failed_takes_the_error_alone_refuses_too_many_and_fails_when_nobody_takes_them(floor: Floor) -> None:
    floor.ended(5, "failed")
    floor.cells("retry-failed", queue="mail", error="nothing like it", dry_run=False)
    with pytest.raises(LimitExceeded, match="more than 4 jobs match"):
        floor.cells("retry-failed", queue="mail", limit=4, dry_run=False)
    assert floor.states() == {"failed": 5}
    fails(floor, "retry-failed", "5 waiting.*within 0.1 s", queue="mail", wait_seconds=0.1)
    assert floor.states() == {"waiting": 5}


def test_a_canary_that_fails_stops_the_run_and_leaves_the_rest(floor: Floor) -> None:
    floor.ended(30, "failed")

    def broken(job: object) -> None:
        raise ValueError("still")

    with floor.rig.worker(broken):
        fails(floor, "retry-failed", "verification failed", queue="mail", canary=True)
    (row,) = floor.sql("SELECT count(*) AS n FROM job_logs WHERE kind = 'attempt'")
    assert row["n"] == 1
    assert floor.states() == {"failed": 30}
    assert floor.actions()[0][::2] == ("canary", "stopped")


# ---------------------------------------------------------------------------------------------------- weekly-health


def test_weekly_health_only_reads_and_says_what_wants_doing(floor: Floor) -> None:
    floor.plant.healthy(3)
    floor.ended(2, "expired")
    before = floor.everything()
    floor.run("weekly-health", fail_when_urgent=False)
    assert floor.everything() == before
    assert "queuemon runbook run replay-expired -p queue=mail" in floor.record("weekly-health")


def test_weekly_health_fails_over_what_cannot_wait_and_still_changes_nothing(floor: Floor) -> None:
    floor.ended(11, "failed")
    floor.plant.plant(6, 2)
    before = floor.everything()
    fails(floor, "weekly-health", "findings cannot wait")
    assert floor.everything() == before


# -------------------------------------------------------------------------------------------------- incident-report


def test_incident_report_only_reads_and_fails_when_a_second_count_differs(floor: Floor) -> None:
    floor.ended(5, "failed", ago="10 minutes")
    floor.sql(
        "INSERT INTO job_logs (job_id, queue, gen, attempt, kind, status, started_at, finished_at, error_type,"
        " error_message) SELECT id, queue, gen, 1, 'attempt', 'failed', finished_at, finished_at, error_type,"
        " error_message FROM jobs"
    )
    before = floor.everything()
    asked = {"since": "1h", "until": "5m", "dry_run": False}
    floor.run("incident-report", **asked)
    html = floor.record("incident-report")
    for words in ("5 jobs failed in 5 attempts", "Authorization", "[hidden]", "counted anew, are the same"):
        assert words in html, words
    assert floor.everything() == before
    forget = lambda: floor.sql("DELETE FROM job_logs WHERE id = (SELECT max(id) FROM job_logs)")  # noqa: E731
    with pytest.raises(RunbookError, match="5 failed attempts reported, 4 found now"):
        floor.cells("incident-report", after={"Act": forget}, **asked)


# ---------------------------------------------------------------------------------------------------------- the table


def test_the_table_of_symptoms_lists_what_there_is_and_nothing_else() -> None:
    folder = runbooks.describe("retry-failed").path.parent
    listed = re.findall(r"\| \[([a-z-]+)\]\(\1\.ipynb\) \|$", (folder / "README.md").read_text("utf-8"), re.MULTILINE)
    assert set(listed) == {path.stem for path in folder.glob("*.ipynb")}


# -------------------------------------------------------------------------------------------------- wrong parameters

NAMES = [info.name for info in runbooks.list_runbooks()]


@pytest.mark.parametrize("name", NAMES)
def test_wrong_parameters_end_with_2_and_one_sentence_before_anything_runs(
    floor: Floor, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    info = runbooks.describe(name)
    wrong = ["nope=1", "dry_run=perhaps", "queue"]
    if number := next((p.name for p in info.parameters if p.type in {"int", "float"}), ""):
        wrong += [f"{number}=many", f"{number}=-1"]
    of_kind = {"queue": ["nope", "a,b"], "moment": ["soon"], "end": ["soon", "2020-01-01"], "signature": ["ab12"]}
    wrong += [f"{p.name}={text}" for p in info.parameters for text in of_kind.get(p.kind, ())]
    wrong += [f"{p.name}=17" for p in info.parameters if p.choices]
    wrong += [f"{p.name}=urgent,bulk" for p in info.parameters if p.apart]
    there = {p.name: "urgent" for p in info.parameters if p.kind == "queue" and not p.optional}
    for given in wrong:
        others = [w for q, text in there.items() if q != given.partition("=")[0] for w in ("-p", f"{q}={text}")]
        assert queuemon(["runbook", "run", name, "-p", given, *others]) == 2, given
        assert_one_sentence(capsys.readouterr().err)
    assert not (floor.folder / "runs").exists()
