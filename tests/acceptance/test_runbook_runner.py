"""The runner as a process: its time limit, one run at a time, a run that is done, and records without a secret."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from queuemon.config import Settings
from queuemon.demo.stack import StackUrls
from queuemon.runbooks import skeleton
from queuemon.store import runs
from queuemon.workbench import Workbench
from tests.support.terminal import assert_one_sentence
from tests.support.wait import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

#: Planted where a run can see them.
CANARIES = ("CANARY-ENV-1a2b", "CANARY-PAYLOAD-3c4d", "CANARY-ERROR-5e6f", "CANARY-BEARER-7a8b")


def environment_of(urls: StackUrls) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("QUEUEMON_")}
    return clean | {
        "QUEUEMON_DATABASE_URL": urls.database_url, "QUEUEMON_REDIS_URL": urls.redis_url,
        "MAILER_API_TOKEN": CANARIES[0], "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def write(folder: Path, name: str, look: str, verify: str = "pass") -> None:
    """A runbook whose steps are these lines."""
    path = skeleton.write(name, folder / "runbooks")
    notebook = json.loads(path.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    sources = ['queue: str = "mail"  # queue\ndry_run: bool = True  # act', look, "pass", "pass", "pass", verify]
    for cell, source in zip(cells, sources, strict=True):
        cell["source"] = source
    path.write_text(json.dumps(notebook))


def queuemon(folder: Path, urls: StackUrls, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "queuemon", "runbook", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment_of(urls), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def facts(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "runs" / name).glob("*.json"))]


@pytest.fixture
def mail(urls: StackUrls) -> StackUrls:
    """A queue with a failed job full of secrets."""
    payload = {"to": "a@b.example", "smtp": {"password": CANARIES[1]}, "api_key": CANARIES[1]}
    message = f"401 for https://ops:{CANARIES[2]}@mail.example/: Authorization: Bearer {CANARIES[3]}"
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("INSERT INTO job_queues (name) VALUES ('mail')")
        connection.execute(
            "INSERT INTO jobs (id, queue, payload, status, attempts, max_attempts, finished_at, error_type,"
            " error_message) VALUES (gen_random_uuid(), 'mail', %s, 'failed', 1, 1, now(), 'Refused', %s)",
            (json.dumps(payload), message),
        )
    return urls


def test_no_secret_is_left_in_any_artefact_nor_on_the_terminal(
    mail: StackUrls, settings: Settings, tmp_path: Path
) -> None:
    look = (
        "import os, queuemon\nwb = queuemon.connect()\nprint(dict(os.environ))\nprint(wb.settings.database_url."
        "get_secret_value())\njob = wb.job(wb.jobs('status:failed').jobs[0].id).job\n"
        "print(job.payload, job.error_message)\nqueuemon.show(wb.job(job.id))"
    )
    verify = "raise ValueError(str(os.environ) + wb.settings.database_url.get_secret_value() + job.error_message)"
    write(tmp_path, "leak-all", look, verify)
    code, out, err = ended(queuemon(tmp_path, mail, "run", "leak-all"))
    assert code == 1
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".html", ".ipynb"}
    everything = "".join(path.read_text() for path in files) + out + err
    assert everything.count("[hidden]") > 20
    for secret in (*settings.secrets(), *CANARIES):
        assert secret not in everything, secret
    assert "a@b.example" in everything, "what is no secret is still there"
    (told,) = facts(tmp_path, "leak-all")
    assert told["versions"].keys() == {"queuemon", "python", "papermill", "postgresql", "schema", "runbook"}
    with psycopg.connect(mail.database_url) as connection:
        ((role,),) = connection.execute("SELECT session_user").fetchall()
    assert told["actor"].startswith(f"{role}/")
    code, _, err = ended(queuemon(tmp_path, mail, "run", "retry-failed", "-p", f"queue=mail-{CANARIES[0]}"))
    assert code == 2
    assert CANARIES[0] not in err
    assert_one_sentence(err)


def test_a_run_that_takes_too_long_is_interrupted_puts_things_back_and_says_so(mail: StackUrls, tmp_path: Path) -> None:
    look = (
        "import pathlib, time\ntry:\n    print('begun')\n    time.sleep(600)\n"
        "finally:\n    pathlib.Path('back').write_text('')"
    )
    write(tmp_path, "wait-long", look)
    code, _, err = ended(queuemon(tmp_path, mail, "run", "wait-long", "--timeout", "8s", "--run-id", "slow"))
    assert code == 1
    assert_one_sentence(err)
    assert "failed at 'Look': the time limit of the run, 8 s, was reached" in err
    assert (tmp_path / "back").exists()
    (told,) = facts(tmp_path, "wait-long")
    assert (told["id"], told["state"], told["step"]) == ("slow", "failed", "Look")
    notebook = (tmp_path / "runs" / "wait-long" / told["notebook"]).read_text()
    assert "begun" in notebook


def test_a_run_that_is_terminated_puts_things_back_and_can_go_on_and_one_that_is_done_is_not_repeated(
    mail: StackUrls, settings: Settings, tmp_path: Path
) -> None:
    look = (
        "import pathlib, time\nif not pathlib.Path('seen').exists():\n    pathlib.Path('seen').write_text('')\n"
        "    try:\n        time.sleep(600)\n    finally:\n        pathlib.Path('back').write_text('')"
    )
    write(tmp_path, "wait-long", look)
    process = queuemon(tmp_path, mail, "run", "wait-long", "--run-id", "twice")
    wait_until((tmp_path / "seen").exists, timeout=240, message="the step has begun")
    with Workbench(settings) as wb, pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "WAIT_MS", 20)
        with pytest.raises(Exception, match="run twice"), runs.alone(wb.store.postgres, "wait-long", ["mail"], "x"):
            pass
    process.send_signal(signal.SIGTERM)
    code, _, err = ended(process)
    assert code == 130, err
    assert (tmp_path / "back").exists()
    code, out, err = ended(queuemon(tmp_path, mail, "resume", "twice"))
    assert (code, err) == (0, "")
    code, out, err = ended(queuemon(tmp_path, mail, "run", "wait-long", "--run-id", "twice"))
    assert (code, err) == (0, "")
    assert "nothing is repeated" in out
    assert [told["state"] for told in facts(tmp_path, "wait-long")] == ["stopped", "done"]
    code, _, err = ended(queuemon(tmp_path, mail, "run", "wait-long", "--run-id", "twice", "--wet"))
    assert code == 2
    assert "was started with another dry_run" in err
