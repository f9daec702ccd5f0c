"""What a run has changed for its own time is taken back, whatever ends it; it goes on only as what it was begun."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from queuemon import runbooks
from queuemon.errors import InvalidValue, RunbookError
from queuemon.runbooks import record
from tests.support.runbooks import CANARIES, Floor
from tests.support.wait import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

WAY: dict[str, Any] = {"queue": "mail", "transactional": "urgent", "make_way": ["bulk"], "workers": 3}


def moved(floor: Floor) -> tuple[int, int]:
    """Workers meant for mail, and paused queues."""
    (row,) = floor.sql(
        "SELECT (SELECT concurrency FROM job_queues WHERE name = 'mail') AS workers,"
        " (SELECT count(*) FROM job_queues WHERE paused) AS paused"
    )
    return row["workers"], row["paused"]


def once(there: Callable[[], bool], then: Callable[[], object]) -> Callable[[], None]:
    """Waits for something, then does something."""

    def wait() -> None:
        wait_until(there, timeout=200, message="the run has made its changes")
        then()

    return wait


def kill_the_kernel() -> None:
    """As the system does that is out of memory."""
    for child in psutil.Process().children():
        if "queuemon.runbooks.kernel" in child.cmdline():
            child.kill()


def test_the_runner_takes_back_what_its_kernel_could_not_and_the_run_does_not_pretend_to_go_on(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = moved(floor)
    floor.plant.healthy(200)
    made_way = lambda: moved(floor) == (3, 1)  # noqa: E731
    with pytest.raises(RunbookError, match=r"the kernel ended.*its own time was taken back"):
        floor.meanwhile("prioritise-transactional", once(made_way, kill_the_kernel), dry_run=False, **WAY)
    assert moved(floor) == before
    assert [kind for kind, _, state in floor.actions() if state == "done"] == ["pause", "scale", "undo", "undo"]
    (kept,) = runbooks.history(floor.folder / "runs")
    assert (kept.state, [a["held"] for a in kept.actions]) == ("failed", [False, False])
    assert "taken back" in kept.error

    # Started again it would watch a queue for which nothing was done.
    monkeypatch.setenv("QUEUEMON_RUNBOOK_RUN", f"runbook {kept.name}, run {kept.id}")
    with pytest.raises(RunbookError, match="this run has taken back its pause"):
        floor.cells("prioritise-transactional", dry_run=False, **WAY)
    assert moved(floor) == before


def test_the_scan_of_every_test_of_runbooks_finds_a_secret_wherever_one_is(floor: Floor) -> None:
    """The control of what `floor` checks at the end of each test."""
    floor.plant.plant(6, 1)
    floor.cells("rescue-stuck", dry_run=False, reason=CANARIES["error"])
    (floor.folder / "runs").mkdir()
    left = floor.folder / "runs" / "record.html"
    left.write_text(f"<p>{CANARIES['payload']}</p>")
    command = [sys.executable, "-c", "input()", CANARIES["environment"]]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        floor.look_around()
        process.communicate(b"\n")
    found = [("process list", "environment"), ("queuemon.actions", "error"), ("record.html", "payload")]
    assert [leak for leak in floor.leaks() if leak[0] != "queuemon.action_events"] == found
    left.unlink()
    floor.seen.clear()
    floor.sql("TRUNCATE queuemon.actions CASCADE")


def test_a_run_whose_record_is_lost_acts_to_its_end_and_says_so(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    floor.plant.plant(6, 3)

    def full(path: Path, text: str) -> None:
        if path.suffix != ".json" or '"running"' not in text:
            raise OSError(28, "No space left on device")
        path.write_text(text)

    monkeypatch.setattr(record, "_replace", full)
    with pytest.raises(RunbookError, match=r"is done; its record cannot be written \(No space left on device\)"):
        floor.run("rescue-stuck", dry_run=False)
    assert floor.states() == {"waiting": 3}


def test_a_run_goes_on_with_the_parameters_and_on_the_database_that_it_was_begun_with(floor: Floor) -> None:
    given = {"queue": "mail", "error": "invalid token: CANARY-9"}
    result = floor.run("retry-failed", **given)
    facts = json.loads(result.record.read_text())
    assert facts["parameters"]["error"] == "invalid token: [hidden]"
    assert facts["database"]
    stopped = {**facts, "state": "stopped"}
    for changed, message in (
        (stopped, "-p error=…"),
        (
            {**stopped, "parameters": facts["parameters"] | {"error": ""}, "database": "jobs@1"},
            "another database, jobs@1",
        ),
    ):
        result.record.write_text(json.dumps(changed))
        with pytest.raises(InvalidValue, match=message):
            runbooks.resume(result.id, runs_dir=floor.folder / "runs")
    result.record.write_text(json.dumps(stopped))
    with pytest.raises(InvalidValue, match="started with another error"):
        runbooks.run("retry-failed", given | {"error": "x"}, runs_dir=floor.folder / "runs", run_id=result.id)
    result.record.write_text(json.dumps(facts))
    again = runbooks.run("retry-failed", given, runs_dir=floor.folder / "runs", run_id=result.id)
    assert again.repeated
