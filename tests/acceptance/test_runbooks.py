"""The runbook retry-failed, end to end: dry run, run, failed verification, and the record that each leaves."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from queuemon.config import Settings
from queuemon.demo.stack import StackUrls
from queuemon.engine.handlers import JobInHand
from queuemon.engine.worker import Worker
from queuemon.store import Store
from tests.support.terminal import HOSTILE, assert_harmless, assert_one_sentence
from tests.support.wait import wait_until

pytestmark = pytest.mark.acceptance

QUEUE = "analytics:daily-aggregate"
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture
def failed(urls: StackUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackUrls:
    """Twelve failed jobs with hostile errors, in a working folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", urls.database_url)
    monkeypatch.setenv("QUEUEMON_REDIS_URL", urls.redis_url)
    message = (MARKUP + HOSTILE).encode("utf-8", "ignore").decode()
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("INSERT INTO job_queues (name) VALUES (%s)", (QUEUE,))
        connection.cursor().executemany(
            "INSERT INTO jobs (id, queue, payload, status, attempts, max_attempts, finished_at, error_type,"
            " error_message) VALUES (%s, %s, %s, 'failed', 1, 1, now(), 'ZeroDivisionError', %s)",
            [(uuid4(), QUEUE, json.dumps({MARKUP: MARKUP}), message) for _ in range(12)],
        )
    return urls


@contextmanager
def worker(settings: Settings, handle: Any) -> Iterator[None]:
    """A worker in a thread, for as long as the block runs."""
    stop = threading.Event()
    with Store(settings) as store:
        thread = threading.Thread(target=Worker(store, home=QUEUE, handlers=handle).run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(20)


def queuemon(*words: str) -> subprocess.CompletedProcess[str]:
    """A real process."""
    command = [sys.executable, "-m", "queuemon", "runbook", "run", "retry-failed", "-p", f"queue={QUEUE}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def counts(urls: StackUrls) -> dict[str, int]:
    """Jobs by status."""
    with psycopg.connect(urls.database_url) as connection:
        return dict(connection.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall())


def record_of(folder: Path) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """The only run's result, HTML and notebook."""
    (result,) = (folder / "runs" / "retry-failed").glob("*.json")
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{12}", result.stem)
    html = result.with_suffix(".html").read_text("utf-8")
    return json.loads(result.read_text()), html, json.loads(result.with_suffix(".ipynb").read_text())


class Inert(HTMLParser):
    """Finds whatever could run, or be fetched, in a page."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "iframe", "object", "embed", "link", "base", "form", "svg", "math"}, tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in {"src", "href", "srcset", "action", "style"}:
                assert not re.match(r"\s*(\w+:)?//|\s*javascript:|.*url\(", value or ""), value

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            assert "url(" not in data
            assert "@import" not in data


def assert_inert(html: str) -> None:
    """The HTML holds no script, no code, and wants nothing from anywhere."""
    assert "default-src 'none'" in html
    Inert().feed(html)
    assert "queuemon.connect" not in html, "code cells are hidden"


def test_a_dry_run_looks_and_plans_and_changes_nothing(failed: StackUrls, settings: Settings, tmp_path: Path) -> None:
    ended = queuemon()
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert_harmless(ended.stdout)
    for step in ("1/5 Look", "3/5 Plan", "4/5 Act", "5/5 Verify"):
        assert f"✓ {step}  " in ended.stdout
    assert "    Plan: retry 12 jobs" in ended.stdout
    assert "    Dry run: nothing was changed." in ended.stdout
    assert counts(failed) == {"failed": 12}
    result, html, notebook = record_of(tmp_path)
    assert (result["state"], result["error"]) == ("done", "")
    assert result["parameters"]["dry_run"] is True
    assert_inert(html)
    assert "Dry run: nothing was changed" in html
    assert MARKUP not in html
    assert "retry 12 jobs" in html
    assert "&lt;script&gt;" in html
    assert "widgets" not in notebook["metadata"]
    everything = "".join(path.read_text() for path in (tmp_path / "runs").rglob("*.*"))
    for secret in settings.secrets():
        assert secret not in everything + ended.stdout
    assert str(tmp_path) not in json.dumps(notebook)


def test_a_run_retries_and_ends_well_when_all_have_completed(
    failed: StackUrls, settings: Settings, tmp_path: Path
) -> None:
    with worker(settings, lambda job: None):
        ended = queuemon("--wet", "-p", "reason=fixed by #812")
    assert ended.returncode == 0, ended.stderr
    assert counts(failed) == {"completed": 12}
    assert "    Retried 12 jobs." in ended.stdout
    assert "12 completed." in ended.stdout
    result, html, _ = record_of(tmp_path)
    assert result["state"] == "done"
    assert_inert(html)
    assert "12 completed" in html
    with psycopg.connect(failed.database_url) as connection:
        rows = connection.execute("SELECT kind, done, reason FROM queuemon.actions").fetchall()
    ((kind, done, reason),) = rows
    assert (kind, done) == ("retry", 12)
    assert reason.startswith(f"fixed by #812 (runbook retry-failed, run {result['id']}; jobs of queue:{QUEUE}")
    assert "status:failed" in reason


def test_jobs_that_fail_again_fail_the_run_and_the_record_says_so(
    failed: StackUrls, settings: Settings, tmp_path: Path
) -> None:
    def broken(job: JobInHand) -> None:
        raise ZeroDivisionError("still")

    with worker(settings, broken):
        ended = queuemon("--wet")
    assert ended.returncode == 1
    assert_one_sentence(ended.stderr, secrets=settings.secrets())
    assert "verification failed: Of 12 jobs" in ended.stderr
    assert "12 failed" in ended.stderr
    result, html, notebook = record_of(tmp_path)
    assert (result["state"], result["step"]) == ("failed", "Verify")
    assert_inert(html)
    assert "verification failed" in html
    assert any(output["output_type"] == "error" for cell in notebook["cells"] for output in cell.get("outputs", ()))


def test_an_unknown_queue_is_answered_with_those_there_are_before_anything_starts(
    failed: StackUrls, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "queuemon", "runbook", "run", "retry-failed", "-p", "queue=nope"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert ended.returncode == 2
    assert not (tmp_path / "runs").exists()
    assert_one_sentence(ended.stderr)
    assert "there is no queue 'nope'" in ended.stderr
    assert QUEUE in ended.stderr


def test_ctrl_c_leaves_a_record_that_says_stopped(failed: StackUrls, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "queuemon", "runbook", "run", "retry-failed", "-p", f"queue={QUEUE}", "--wet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: counts(failed) == {"waiting": 12}, timeout=60, message="the jobs were retried")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert record_of(tmp_path)[0]["state"] == "stopped"


def test_a_runbook_of_ones_own_runs_in_this_interpreter(failed: StackUrls, tmp_path: Path) -> None:
    (tmp_path / "runbooks").mkdir()
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ['text: str = ""  # any'], "outputs": []},
        {
            "cell_type": "code",
            "metadata": {},
            "source": ["import sys\nprint(sys.executable)\nprint(ascii(text))"],
            "outputs": [],
        },
    ]
    for n, cell in enumerate(cells):
        cell |= {"id": f"c{n}", "execution_count": None}
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "runbooks" / "show-it.ipynb").write_text(json.dumps(notebook))
    odd = "a\"b'c\\d\n{e}\u202e" + MARKUP
    command = [sys.executable, "-m", "queuemon", "runbook", "run", "show-it", "-p", f"text={odd}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert ended.returncode == 0, ended.stderr
    (result,) = (tmp_path / "runs" / "show-it").glob("*.ipynb")
    printed = "".join(json.loads(result.read_text())["cells"][-1]["outputs"][0]["text"]).splitlines()
    assert printed == [sys.executable, ascii(odd)]
    assert_inert(result.with_suffix(".html").read_text())


def test_a_kernel_that_dies_is_one_sentence_and_leaves_a_record(failed: StackUrls, tmp_path: Path) -> None:
    (tmp_path / "runbooks").mkdir()
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["n: int = 1  # any"], "outputs": []},
        {"cell_type": "markdown", "metadata": {}, "source": ["## Look"]},
        {"cell_type": "code", "metadata": {}, "source": ["import os\nos._exit(9)"], "outputs": []},
    ]
    for n, cell in enumerate(cells):
        cell["id"] = f"c{n}"
        if cell["cell_type"] == "code":
            cell["execution_count"] = None
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "runbooks" / "die.ipynb").write_text(json.dumps(notebook))
    command = [sys.executable, "-m", "queuemon", "runbook", "run", "die"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert ended.returncode == 1
    assert_one_sentence(ended.stderr)
    assert "the kernel ended" in ended.stderr
    (result,) = (tmp_path / "runs" / "die").glob("*.json")
    assert json.loads(result.read_text())["step"] == "Look"
    assert {p.suffix for p in result.parent.iterdir()} == {".json", ".html", ".ipynb"}
