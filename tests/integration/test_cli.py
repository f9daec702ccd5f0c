"""Every command of the command line against real stores."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis

from queuemon.cli import run
from queuemon.demo.stack import StackUrls
from queuemon.schema import migrate
from tests.support.terminal import HOSTILE, assert_harmless
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

MAIL, LOW, ANALYTICS = "email-sending", "email-sending:low", "analytics:daily-aggregate"

Run = Callable[..., tuple[int, str, str]]
Jobs = Callable[..., list[UUID]]


@pytest.fixture
def queuemon(
    urls: StackUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command line on three queues; returns code, stdout and stderr, none of which may steer a terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", urls.database_url)
    monkeypatch.setenv("QUEUEMON_REDIS_URL", urls.redis_url)
    with psycopg.connect(urls.database_url) as connection:
        connection.cursor().executemany("INSERT INTO job_queues (name) VALUES (%s)", [(MAIL,), (LOW,), (ANALYTICS,)])

    def call(*words: str) -> tuple[int, str, str]:
        code = run(words)
        captured = capsys.readouterr()
        assert_harmless(captured.out)
        assert_harmless(captured.err)
        return code, captured.out, captured.err

    return call


@pytest.fixture
def jobs(urls: StackUrls, queuemon: Run) -> Jobs:
    """Inserts jobs and returns their ids."""

    def make(n: int, queue: str = ANALYTICS, status: str = "failed", payload: Any = None) -> list[UUID]:
        ids = [uuid4() for _ in range(n)]
        error = "Division by zero" + HOSTILE.encode("utf-8", "ignore").decode()
        with psycopg.connect(urls.database_url) as connection:
            connection.cursor().executemany(
                "INSERT INTO jobs (id, queue, payload, status, attempts, error_type, error_message, finished_at)"
                " VALUES (%s, %s, %s, %s, 3, 'ZeroDivisionError', %s, now())",
                [(i, queue, json.dumps(payload or {"month": "2026-10"}), status, error) for i in ids],
            )
        return ids

    return make


def statuses(urls: StackUrls) -> dict[str, int]:
    """Jobs by status."""
    with psycopg.connect(urls.database_url) as connection:
        return dict(connection.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall())


# ------------------------------------------------------------------------------------------------------------- see


def test_status_prints_the_columns_of_the_specification_and_the_redis_names(queuemon: Run, jobs: Jobs) -> None:
    jobs(12)
    code, out, _ = queuemon("status")
    assert code == 0
    for column in ("Queue Name", "Active Jobs", "Waiting", "Completed (last hour)", "Failed"):
        assert column in out
    (line,) = [line for line in out.splitlines() if "queue:analytics:daily-aggregate" in line]
    assert "critical" in line
    assert re.search(r"\b12\b", line)


def test_status_as_json_can_be_read_by_a_program(queuemon: Run, jobs: Jobs) -> None:
    jobs(3, MAIL, "waiting")
    _, out, _ = queuemon("status", "--json")
    found = {q["name"]: q for q in json.loads(out)["queues"]}
    assert set(found) == {MAIL, LOW, ANALYTICS}
    assert found[MAIL]["waiting"] == 3
    assert found[MAIL]["health"] == "healthy"


def test_jobs_pages_through_all_and_says_when_nothing_matches(queuemon: Run, jobs: Jobs) -> None:
    ids = {str(i) for i in jobs(5)}
    seen: set[str] = set()
    after: list[str] = []
    while True:
        code, out, _ = queuemon("jobs", f"queue:{ANALYTICS}", "status:failed", "--limit", "2", "--json", *after)
        assert code == 0
        page = json.loads(out)
        seen |= {job["id"] for job in page["jobs"]}
        if page["after"] is None:
            break
        after = ["--after", page["after"]]
    assert seen == ids
    assert queuemon("jobs", "status:completed")[:2] == (4, "No job matches.\n")


def test_jobs_in_a_table_show_hostile_errors_literally(queuemon: Run, jobs: Jobs) -> None:
    jobs(1)
    code, out, _ = queuemon("jobs")
    assert code == 0
    assert "ZeroDivisionError: Division by zero" in out
    assert "⟨U+001B⟩" in out


def test_jobs_as_csv_go_to_a_file(queuemon: Run, jobs: Jobs, tmp_path: Path) -> None:
    ids = {str(i) for i in jobs(3)}
    assert queuemon("jobs", "--csv", "out.csv", "--columns", "id,status,payload.month")[0] == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert {row["id"] for row in rows} == ids
    assert {row["payload.month"] for row in rows} == {"2026-10"}


def test_what_is_masked_is_shown_for_a_reason_alone_and_the_audit_trail_knows(
    queuemon: Run, jobs: Jobs, urls: StackUrls, tmp_path: Path
) -> None:
    secrets = {"email": "canary@example.com", "note": "card 4111 1111 1111 1111", "api_token": "canary-4711"}
    (job,) = jobs(1, payload={"month": "2026-10", "to": secrets})
    export = ("--csv", "out.csv", "--columns", "id,payload,payload.to.email,payload.month")

    def shown(*words: str) -> str:
        code, out, error = queuemon(*words)
        assert code == 0, error
        return out

    for words in (("job", str(job)), ("job", str(job), "--json"), ("jobs", "--json"), ("jobs", *export)):
        text = shown(*words) + ((tmp_path / "out.csv").read_text() if "--csv" in words else "")
        assert "canary" not in text
        assert "4111" not in text
        assert "2026-10" in text
    for words in (("job", str(job)), ("jobs", *export)):
        assert queuemon(*words, "--reveal")[0] == 2, "no reason, no reveal"
    assert json.loads(queuemon("actions", "--json")[1]) == {"actions": []}

    why = ("--reveal", "--reason", "ticket 4711")
    assert "canary-4711" in shown("job", str(job), *why)
    assert json.loads(shown("job", str(job), "--json", *why))["job"]["payload"]["to"] == secrets
    shown("jobs", *export, *why)
    (row,) = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))
    assert json.loads(row["payload"])["to"] == secrets
    assert row["payload.to.email"] == "canary@example.com"
    trail = shown("actions", "--json")
    assert "canary" not in trail
    assert [(a["kind"], a["reason"], a["state"], a["options"]["keys"]) for a in json.loads(trail)["actions"]] == [
        ("reveal", "ticket 4711", "done", ["payload", "payload.to.email", "payload.month"]),
        *[("reveal", "ticket 4711", "done", ["to.note", "to.email", "to.api_token"])] * 2,
    ]
    assert {a["target"] for a in json.loads(trail)["actions"][1:]} == {str(job)}
    assert "reveal" not in shown("timeline", "--json"), "looking changes nothing, and explains nothing"


def test_a_job_shows_its_history_payload_and_place(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    (job,) = jobs(1, payload={HOSTILE.encode("utf-8", "ignore").decode(): ["<b>", 1]})
    with psycopg.connect(urls.database_url) as connection:
        connection.execute(
            "INSERT INTO job_logs (job_id, queue, gen, attempt, status, error_type, stack_trace, duration_ms)"
            " VALUES (%s, %s, 1, 1, 'failed', 'ZeroDivisionError', %s, 12)",
            (job, ANALYTICS, "Traceback\n  File x\x1b[2J"),
        )
    code, out, _ = queuemon("job", str(job))
    assert code == 0
    for text in (str(job), "queue:analytics:daily-aggregate", "attempt 1: failed", "    Traceback", '"<b>"', "nowhere"):
        assert text in out
    code, out, _ = queuemon("job", str(job), "--json")
    assert json.loads(out)["job"]["id"] == str(job)


def test_doctor_warns_of_missing_processes_and_ends_with_0(queuemon: Run) -> None:
    code, out, _ = queuemon("doctor", "--json")
    found = {c["name"]: c["state"] for c in json.loads(out)["checks"]}
    assert code == 0
    assert found["relay"] == "warn"
    assert "fail" not in found.values()
    assert {"PostgreSQL", "schema version", "indexes", "counters", "Redis", "Redis eviction"} <= set(found)
    assert queuemon("doctor")[0] == 0


def test_doctor_sees_a_pause_flag_that_differs_and_a_list_that_will_expire(queuemon: Run, urls: StackUrls) -> None:
    with redis.Redis.from_url(urls.redis_url) as client:
        client.hset(f"queuemon:paused:{MAIL}", mapping={"paused": 1, "epoch": 9})
        client.rpush(f"queue:{LOW}", "x")
        client.expire(f"queue:{LOW}", 60)
    _, out, _ = queuemon("doctor", "--json")
    found = {c["name"]: c for c in json.loads(out)["checks"]}
    assert MAIL in found["pause flags"]["found"]
    assert LOW in found["Redis time to live"]["found"]


def test_doctor_sees_a_key_of_another_type(queuemon: Run, urls: StackUrls) -> None:
    with redis.Redis.from_url(urls.redis_url) as client:
        client.set(f"queue:{ANALYTICS}", "no list")
    code, out, _ = queuemon("doctor", "--json")
    found = {c["name"]: c for c in json.loads(out)["checks"]}
    assert code == 1
    assert found["Redis lists"]["state"] == "fail"


# ---------------------------------------------------------------------------------------------------------- set up


def test_install_may_be_repeated_and_prints_its_statements(queuemon: Run, servers: Any) -> None:
    assert queuemon("install")[1].startswith("Nothing to do")
    code, out, _ = queuemon("install", "--sql")
    assert code == 0
    assert "CREATE TABLE job_queues" in out
    assert json.loads(queuemon("install", "--json")[1]) == {"before": migrate.newest(), "after": migrate.newest()}


def test_install_makes_an_empty_database_ready(
    queuemon: Run, servers: Any, urls: StackUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"empty_{uuid4().hex[:8]}"
    servers.execute("CREATE DATABASE {}", name)
    try:
        monkeypatch.setenv("QUEUEMON_DATABASE_URL", servers.database_url(name))
        assert queuemon("status")[0] == 1
        assert queuemon("install")[:2] == (0, f"Installed: the schema stands at version {migrate.newest()} (new).\n")
        assert queuemon("status")[0] == 0
    finally:
        servers.execute("DROP DATABASE {} WITH (FORCE)", name)


def test_the_printed_statements_make_the_same_schema(
    queuemon: Run, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, script, _ = queuemon("install", "--sql")
    name = f"printed_{uuid4().hex[:8]}"
    servers.execute("CREATE DATABASE {}", name)
    try:
        with psycopg.connect(servers.database_url(name), autocommit=True) as connection:
            connection.execute(script.encode())
            with pytest.raises(psycopg.errors.RaiseException, match="is installed in this database already"):
                connection.execute(script.encode())
        monkeypatch.setenv("QUEUEMON_DATABASE_URL", servers.database_url(name))
        assert queuemon("install")[1].startswith("Nothing to do")
        assert queuemon("status")[0] == 0
    finally:
        servers.execute("DROP DATABASE {} WITH (FORCE)", name)


def test_the_printed_roles_can_be_run_twice_and_hold_no_password(queuemon: Run, urls: StackUrls) -> None:
    code, out, _ = queuemon("install", "--roles")
    assert code == 0
    assert "ACL SETUSER queuemon_reader" in out
    with psycopg.connect(urls.database_url, autocommit=True) as connection:
        for _ in range(2):
            connection.execute(out.encode())
        may = connection.execute(
            "SELECT has_table_privilege('queuemon_operator', 'queuemon.action_events', 'INSERT'),"
            " has_table_privilege('queuemon_operator', 'queuemon.action_events', 'UPDATE'),"
            " has_table_privilege('queuemon_operator', 'queuemon.action_events', 'DELETE'),"
            " has_table_privilege('queuemon_reader', 'jobs', 'UPDATE')"
        ).fetchone()
    assert may == (True, False, False, False)


def test_enqueue_commits_and_publishes_a_job(queuemon: Run, urls: StackUrls) -> None:
    code, out, _ = queuemon("enqueue", f"queue:{MAIL}", '{"month": "2026-10"}')
    assert code == 0
    job = UUID(out.strip())
    _, shown, _ = queuemon("job", str(job), "--json")
    detail = json.loads(shown)
    assert detail["job"]["payload"] == {"month": "2026-10"}
    assert detail["redis"]["where"] == "list"


# ------------------------------------------------------------------------------------------------------------- fix


def test_without_yes_the_plan_is_printed_and_nothing_changes(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    jobs(12)
    for command in ("retry", "delete", "clear-failed"):
        code, out, _ = queuemon(command, f"queue:{ANALYTICS}", "status:failed")
        assert code == 0, command
        assert f"Plan: {command} 12 jobs" in out
        assert "Nothing was changed. Add --yes to do this." in out
    for words in (("pause", MAIL), ("prioritise", MAIL, "high"), ("scale", MAIL, "4")):
        code, out, _ = queuemon(*words)
        assert code == 0
        assert f"Plan: {words[0]} queue:email-sending" in out
        assert "Add --yes" in out
    assert statuses(urls) == {"failed": 12}
    assert queuemon("actions")[0] == 4, "nothing to audit"


def test_with_yes_failed_jobs_wait_again_and_the_reason_is_audited(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    jobs(12)
    code, out, _ = queuemon("retry", f"queue:{ANALYTICS} status:failed", "--yes", "--reason", f"fixed {HOSTILE[:20]}")
    assert code == 0
    assert "Retried 12" in out
    assert statuses(urls) == {"waiting": 12}
    code, out, _ = queuemon("actions", "--json")
    (action,) = json.loads(out)["actions"]
    assert (action["kind"], action["done"], action["state"]) == ("retry", 12, "done")
    assert action["reason"].startswith("fixed")
    assert queuemon("actions")[0] == 0


def test_ids_are_a_selection(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    first, second, *_ = jobs(5)
    code, out, _ = queuemon("delete", str(first), str(second), "--yes", "--json")
    assert code == 0
    assert json.loads(out)["result"]["done"] == 2
    assert statuses(urls) == {"failed": 3}


def test_a_selection_of_which_some_cannot_be_changed_is_partly_done(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    (failed,), (done,) = jobs(1), jobs(1, status="completed")
    code, out, _ = queuemon("retry", str(failed), str(done), str(uuid4()), "--yes")
    assert code in {0, 3}, out
    assert statuses(urls) == {"waiting": 1, "completed": 1}


def test_nothing_that_matches_is_exit_code_4(queuemon: Run, jobs: Jobs) -> None:
    jobs(1, status="completed")
    for more in ((), ("--yes",)):
        assert queuemon("retry", "status:failed", *more)[0] == 4
        assert queuemon("clear-failed", ANALYTICS, *more)[0] == 4


@pytest.mark.parametrize("target", [ANALYTICS, f"queue:{ANALYTICS}", f"queue:{ANALYTICS} error:'by zero'"])
def test_clear_failed_takes_a_queue_or_a_filter_and_only_failed_jobs(
    target: str, queuemon: Run, jobs: Jobs, urls: StackUrls
) -> None:
    jobs(2)
    jobs(1, status="completed")
    jobs(1, queue=MAIL)
    assert queuemon("clear-failed", target, "--yes")[0] == 0
    assert statuses(urls) == {"completed": 1, "failed": 1}


def test_queues_are_paused_resumed_prioritised_and_scaled(queuemon: Run, urls: StackUrls) -> None:
    def queue() -> dict[str, Any]:
        return next(q for q in json.loads(queuemon("status", "--json")[1])["queues"] if q["name"] == LOW)

    assert queuemon("pause", LOW, "--until", "2h", "--reason", "Black Friday", "--yes")[0] == 0
    assert queue()["paused"] is True
    assert "(paused)" in queuemon("status")[1]
    assert queuemon("resume", f"queue:{LOW}", "--yes")[0] == 0
    assert queue()["paused"] is False
    assert queuemon("prioritise", LOW, "high", "--yes")[0] == 0
    assert queue()["priority"] == "high"
    assert queuemon("scale", LOW, "7", "--yes")[0] == 0
    assert queue()["concurrency"] == 7
    _, out, _ = queuemon("actions", "--json")
    assert [a["kind"] for a in json.loads(out)["actions"]] == ["scale", "prioritise", "resume", "pause"]


def test_run_now_makes_scheduled_jobs_due(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    (job,) = jobs(1, status="waiting")
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("UPDATE jobs SET run_at = now() + interval '1 hour' WHERE id = %s", (job,))
    assert queuemon("run-now", str(job), "--yes")[0] == 0
    assert json.loads(queuemon("status", "--json")[1])["queues"][0]["scheduled"] == 0


# ------------------------------------------------------------------------------------------------ more of the fixing


def queue_of(urls: StackUrls, job: UUID) -> str:
    """The queue a job stands in."""
    with psycopg.connect(urls.database_url) as connection:
        row = connection.execute("SELECT queue FROM jobs WHERE id = %s", (job,)).fetchone()
    assert row is not None
    return str(row[0])


def get_stuck(urls: StackUrls, *ids: UUID) -> None:
    """Let a worker take jobs and fall silent."""
    with psycopg.connect(urls.database_url) as connection:
        connection.execute(
            "UPDATE jobs SET status = 'active', attempts = 1, worker_id = 'gone-1', finished_at = NULL,"
            " error_type = NULL, error_message = NULL, started_at = now() - interval '1 hour',"
            " heartbeat_at = now() - interval '1 hour' WHERE id = ANY(%s)",
            (list(ids),),
        )


def test_jobs_are_moved_to_another_queue(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    first, second = jobs(1), jobs(1, status="waiting")
    code, out, _ = queuemon("move", f"queue:{ANALYTICS}", "--to", f"queue:{MAIL}")
    assert (code, "Plan: move 2 jobs" in out, f"to queue:{MAIL}" in out) == (0, True, True)
    assert queue_of(urls, first[0]) == ANALYTICS
    code, out, _ = queuemon("move", f"queue:{ANALYTICS}", "--to", MAIL, "--yes", "--reason", "the right queue")
    assert (code, "Moved 2" in out) == (0, True)
    assert {queue_of(urls, job) for job in first + second} == {MAIL}
    assert queuemon("move", str(first[0]), "--to", "nowhere", "--yes")[0] == 2
    assert queuemon("move", str(first[0]))[0] == 2, "where it goes has to be said"


def test_purge_deletes_what_waits_and_nothing_else(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    jobs(3, MAIL, "waiting")
    jobs(1, MAIL)
    jobs(1, LOW, "waiting")
    code, out, _ = queuemon("purge", MAIL, "--yes", "--reason", "sent twice")
    assert (code, "Purged 3" in out) == (0, True)
    assert statuses(urls) == {"failed": 1, "waiting": 1}
    assert queuemon("purge", MAIL, "--yes")[0] == 4


def test_stuck_jobs_are_rescued_or_deleted_and_others_left_alone(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    first, second = jobs(1, MAIL), jobs(1, LOW)
    get_stuck(urls, *first, *second)
    code, out, _ = queuemon("rescue")
    assert (code, "Plan: rescue 2 jobs" in out, "may run twice" in out) == (0, True, True)
    code, out, _ = queuemon("rescue", f"queue:{MAIL}", "--yes", "--reason", "the machine is gone")
    assert (code, "Rescued 1" in out) == (0, True)
    assert statuses(urls) == {"waiting": 1, "active": 1}
    assert queuemon("delete-stuck", str(second[0]), "--yes")[0] == 0
    assert statuses(urls) == {"waiting": 1}
    assert queuemon("rescue", "--yes")[0] == 4


def test_a_canary_ends_with_3_when_its_jobs_do_not_come_back(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    jobs(4)
    code, out, _ = queuemon("canary", "status:failed", "--steps", "1,5")
    assert (code, "Plan: canary 4 jobs" in out) == (0, True)
    words = ("canary", "status:failed", "--steps", "1,5", "--timeout", "300ms", "--yes", "--json", "--reason", "fixed?")
    code, out, _ = queuemon(*words)
    result = json.loads(out)["result"]
    assert (code, result["state"], result["done"], result["running"]) == (3, "stopped", 1, 1)
    assert "still running after" in result["why"]
    assert statuses(urls) == {"failed": 3, "waiting": 1}
    for wrong in (("--steps", "1,x"), ("--success", "lots"), ("--timeout", "soon"), ("--max-errors", "0")):
        assert queuemon("canary", "status:failed", *wrong)[0] == 2, wrong


def test_an_action_is_shown_with_what_became_of_each_job(queuemon: Run, jobs: Jobs) -> None:
    ids = {str(i) for i in jobs(3)}
    assert queuemon("actions", "show", "last")[0] == 2, "there is none yet"
    assert queuemon("retry", "status:failed", "--yes", "--reason", "fixed")[0] == 0
    code, out, _ = queuemon("actions", "show", "last", "--ids")
    assert code == 0
    facts, _, listed = out.partition("\n\n")
    assert "fixed" in facts
    assert {row[0] for row in csv.reader(io.StringIO(listed.strip()))} == ids
    code, out, _ = queuemon("actions", "show", "last", "--ids", "--json")
    documents = [json.loads(line) for line in out.splitlines()]
    assert documents[0]["action"]["done"] == 3
    assert {d["job_id"] for d in documents[1:]} == ids
    assert {d["outcome"] for d in documents[1:]} == {"done"}
    assert queuemon("actions", "show", str(uuid4()))[0] == 2


def test_the_outcome_of_every_job_is_written_while_it_runs(queuemon: Run, jobs: Jobs, tmp_path: Path) -> None:
    (failed,), (done,) = jobs(1), jobs(1, status="completed")
    wanted = {str(failed): "done", str(done): "skipped"}
    assert queuemon("retry", *wanted, "--yes", "--results", "out.csv")[0] == 3
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert {row["job_id"]: row["outcome"] for row in rows} == wanted
    other, stranger = str(jobs(1)[0]), str(uuid4())
    code, out, err = queuemon("delete", other, stranger, "--yes", "--results", "-")
    assert code == 3
    assert {row["job_id"]: row["outcome"] for row in csv.DictReader(io.StringIO(out))} == {
        other: "done",
        stranger: "gone",
    }
    assert "Deleted 1 of 2" in err, "what is said goes to stderr"
    assert queuemon("retry", str(jobs(1)[0]), "--yes", "--results", "no/such/folder.csv")[0] == 2


def test_a_rate_is_more_than_nothing(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    jobs(4)
    assert queuemon("retry", "status:failed", "--yes", "--rate", "0")[0] == 2
    assert statuses(urls) == {"failed": 4}
    assert queuemon("retry", "status:failed", "--yes", "--rate", "1000")[0] == 0
    assert statuses(urls) == {"waiting": 4}


def test_erased_jobs_leave_no_copy(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    first, second = jobs(2)
    assert queuemon("delete", str(first), "--yes")[0] == 0
    code, out, _ = queuemon("erase", str(second))
    assert (code, "cannot be undone" in out) == (0, True)
    assert queuemon("erase", str(first), str(second), "--yes", "--reason", "asked to forget")[0] == 0
    assert statuses(urls) == {}
    with psycopg.connect(urls.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM queuemon.undo_jobs").fetchone() == (0,)
    assert queuemon("undo", "last", "--yes")[0] in {2, 4}, "nothing is left to bring back"


def test_holders_of_a_pause_are_listed_and_let_go_one_by_one(queuemon: Run, urls: StackUrls) -> None:
    assert queuemon("pauses")[:2] == (4, "No queue is paused.\n")
    assert queuemon("pause", MAIL, "--holder", "billing", "--reason", "month end", "--yes")[0] == 0
    assert queuemon("pause", MAIL, "--holder", "oncall", "--until", "2h", "--yes")[0] == 0
    code, out, _ = queuemon("pauses")
    assert code == 0
    assert "billing" in out
    assert "month end" in out
    held = json.loads(queuemon("pauses", "--json")[1])["pauses"]
    assert {p["holder"]: p["until"] is None for p in held} == {"billing": True, "oncall": False}
    assert queuemon("resume", MAIL, "--holder", "billing", "--yes")[0] == 0
    assert [p["holder"] for p in json.loads(queuemon("pauses", "--json")[1])["pauses"]] == ["oncall"]
    assert queuemon("resume", MAIL, "--yes")[0] == 0
    assert queuemon("pauses")[0] == 4


def test_an_action_is_taken_back_and_the_undo_is_an_action_too(queuemon: Run, jobs: Jobs, urls: StackUrls) -> None:
    ids = jobs(3)
    assert queuemon("undo", "--yes")[0] == 2, "there is nothing to undo yet"
    assert queuemon("delete", "status:failed", "--yes")[0] == 0
    assert statuses(urls) == {}
    code, out, _ = queuemon("undo", "last")
    assert (code, "Add --yes" in out, statuses(urls)) == (0, True, {})
    code, out, _ = queuemon("undo", "last", "--yes", "--reason", "the wrong ones")
    assert code == 0, out
    assert statuses(urls) == {"failed": 3}
    assert {str(i) for i in ids} == {j["id"] for j in json.loads(queuemon("jobs", "--json")[1])["jobs"]}
    undone, deleted = json.loads(queuemon("actions", "--json")[1])["actions"]
    assert (undone["kind"], undone["undo_of"]) == ("undo", deleted["id"])
    assert deleted["undone_by"] == undone["id"]
    assert "done, undone" in queuemon("actions")[1]
    assert queuemon("undo", deleted["id"], "--yes")[0] in {2, 4}, "it has been undone"


def test_a_payload_is_replaced_from_a_file_or_the_command_line(
    queuemon: Run, jobs: Jobs, urls: StackUrls, tmp_path: Path
) -> None:
    (job,) = jobs(1, payload={"month": "2026-13"})
    (tmp_path / "new.json").write_text('{"month": "2026-12", "big": 12345678901234567890}')
    code, out, _ = queuemon("edit", str(job), "--payload", "new.json")
    assert (code, "Add --yes" in out) == (0, True)
    assert queuemon("edit", str(job), "--payload", "new.json", "--yes", "--reason", "no month 13")[0] == 0
    shown = json.loads(queuemon("job", str(job), "--json")[1])["job"]
    assert (shown["status"], shown["payload"]) == ("waiting", {"month": "2026-12", "big": 12345678901234567890})
    assert queuemon("edit", str(job), "--payload", '{"a": 1}', "--yes")[0] == 4, "it waits already"
    for wrong in ("{", "no-such-file.json"):
        assert queuemon("edit", str(jobs(1)[0]), "--payload", wrong, "--yes")[0] == 2


def test_a_hard_pause_parks_the_list_and_says_what_it_cannot_stop(queuemon: Run, urls: StackUrls) -> None:
    assert queuemon("enqueue", MAIL, "{}")[0] == 0
    code, out, _ = queuemon("pause", MAIL, "--hard")
    assert (code, "!" in out) == (0, True)
    assert queuemon("pause", MAIL, "--hard", "--yes")[0] == 0
    with redis.Redis.from_url(urls.redis_url) as client:
        assert client.llen(f"queue:{MAIL}") == 0
        assert json.loads(queuemon("pauses", "--json")[1])["pauses"][0]["hard"] is True
        assert queuemon("resume", MAIL, "--yes")[0] == 0
        assert client.llen(f"queue:{MAIL}") == 1


# ----------------------------------------------------------------------------------------------------- real terminal


def test_status_watch_redraws_in_place_until_ctrl_c(queuemon: Run, jobs: Jobs) -> None:
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "queuemon", "status", "--watch", "--interval", "0.2"]
    environment = {**os.environ, "COLUMNS": "140", "LINES": "40", "TERM": "xterm-256color"}
    shown = b""

    def read() -> bytes:
        nonlocal shown
        while select.select([main], [], [], 0)[0]:
            try:
                shown += os.read(main, 65_536)
            except OSError:
                break
        return shown

    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        try:
            wait_until(lambda: b"healthy" in read(), timeout=30, message="the table is drawn")
            jobs(11)
            wait_until(lambda: b"critical" in read(), timeout=10, message="the numbers change")
            process.send_signal(signal.SIGINT)
            deadline = time.monotonic() + 10
            while process.poll() is None and time.monotonic() < deadline:
                read()
                time.sleep(0.02)
            assert process.wait(1) == 130
            read()
        finally:
            process.kill()
            os.close(main)
    text = shown.decode()
    assert text.count("\x1b[?1049h") == 1, "the alternate screen keeps the shell's history"
    assert "\x1b[?1049l" in text
    assert "\x1b[2J" not in text.split("\x1b[?1049h")[1].split("\x1b[H", 2)[-1], "a refresh never clears: no flicker"
    assert "Traceback" not in text


def test_status_watch_as_json_is_one_document_a_line(queuemon: Run) -> None:
    command = [sys.executable, "-m", "queuemon", "status", "--watch", "--json", "--interval", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert all(len(json.loads(line)["queues"]) == 3 for line in lines)
