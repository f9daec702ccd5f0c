"""kill -9 of a runbook's runner, or of its kernel, at random moments; the run is started again: nothing is lost, and
nothing is done twice."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis

from queuemon.demo.stack import StackUrls
from tests.support.proofs import Proof
from tests.support.wait import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3600)]

QUEUE = "mail"
JOBS = 10_000
#: Lines of a run's progress, in their order.
STEPS = ("1/5 Look", "2/5 Look", "3/5 Plan")


def environment_of(urls: StackUrls, folder: Path) -> dict[str, str]:
    """Of a process on these stores, with small chunks: twenty of them."""
    toml = folder / "queuemon.toml"
    toml.write_text("[profiles.default]\nchunk_rows = 500\n")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("QUEUEMON_")}
    return clean | {
        "QUEUEMON_DATABASE_URL": urls.database_url, "QUEUEMON_REDIS_URL": urls.redis_url, "QUEUEMON_CONFIG": str(toml),
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def fill(urls: StackUrls) -> None:
    """Ten thousand failed jobs of generation 1, and nothing else."""
    redis.Redis.from_url(urls.redis_url).flushdb()
    with psycopg.connect(urls.database_url) as connection:
        connection.execute(
            "TRUNCATE jobs, job_logs, job_queues, queuemon.actions, queuemon.action_events, queuemon.action_chunks,"
            " queuemon.publications, queuemon.undo_jobs CASCADE"
        )
        connection.execute("INSERT INTO job_queues (name) VALUES (%s)", (QUEUE,))
        connection.execute(
            "INSERT INTO jobs (id, queue, payload, status, gen, attempts, max_attempts, finished_at)"
            " SELECT gen_random_uuid(), %s, jsonb_build_object('n', n), 'failed', 1, 1, 1, now()"
            " FROM generate_series(1, %s) AS n",
            (QUEUE, JOBS),
        )


@contextmanager
def half_fail_again(urls: StackUrls) -> Iterator[None]:
    """Somebody works meanwhile: every second job completes, the others fail again, and must not be retried again."""
    stop = threading.Event()

    def work() -> None:
        with psycopg.connect(urls.database_url, autocommit=True) as connection:
            while not stop.wait(0.05):
                connection.execute(
                    "UPDATE jobs SET status = CASE (payload->>'n')::int % 2 WHEN 0 THEN 'completed' ELSE 'failed' END,"
                    " attempts = 1, finished_at = now() WHERE status = 'waiting'"
                )

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Run:
    """A process of `queuemon runbook run`, or `resume`, whose output is read as it comes."""

    def __init__(self, folder: Path, environment: dict[str, str], *words: str) -> None:
        command = [sys.executable, "-m", "queuemon", "runbook", *words]
        self.out, self.folder = folder / "out.txt", folder
        with self.out.open("wb") as file:
            self.process = subprocess.Popen(command, env=environment, cwd=folder, stdout=file, stderr=subprocess.STDOUT)

    def said(self) -> str:
        return self.out.read_text("utf-8", "replace")

    def kernel(self) -> psutil.Process | None:
        """The kernel, once it is there."""
        try:
            children = psutil.Process(self.process.pid).children()
            return next((c for c in children if "queuemon.runbooks.kernel" in c.cmdline()), None)
        except psutil.Error:
            return None


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended."""
    return not process.is_running()


def reached(urls: StackUrls, run: Run, moment: str) -> bool:
    """Whether a run has come to a moment, or has ended."""
    if run.process.poll() is not None:
        return True
    if moment.isdigit():
        with psycopg.connect(urls.database_url) as connection:
            row = connection.execute("SELECT coalesce(sum(done), 0) FROM queuemon.actions").fetchone()
        return row is not None and row[0] >= int(moment)
    return f"✓ {moment}" in run.said() if moment else run.kernel() is not None


def books(urls: StackUrls) -> dict[str, Any]:
    """What an independent query finds: of the jobs, of what the chunks say they did, and of the list in Redis.

    A job that was done with before it was published is not published; none may be in the list twice.
    """
    with psycopg.connect(urls.database_url) as connection:
        jobs = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE gen < 2), count(*) FILTER (WHERE gen > 2),"
            " count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'failed') FROM jobs"
        ).fetchone()
        chunks = connection.execute(
            "SELECT count(*), count(DISTINCT id) FROM queuemon.action_chunks, unnest(done_ids) AS id"
        ).fetchone()
        actions = connection.execute("SELECT kind, state, planned, done FROM queuemon.actions").fetchall()
    elements = redis.Redis.from_url(urls.redis_url).lrange(f"queue:{QUEUE}", 0, -1)
    ids = [json.loads(element)["id"] for element in elements]  # type: ignore[union-attr]
    assert jobs is not None
    return {
        "jobs": jobs[0], "lost": jobs[1], "repeated": jobs[2], "completed": jobs[3], "failed": jobs[4],
        "done": chunks, "actions": actions, "twice in the list": len(ids) - len(set(ids)),
    }  # fmt: skip


@pytest.mark.prove
def test_a_run_that_is_killed_and_started_again_loses_nothing_and_repeats_nothing(
    urls: StackUrls, tmp_path: Path, proof: Proof
) -> None:
    environment = environment_of(urls, tmp_path)
    for case in proof.cases([f"moment {n}" for n in range(50)], sample=5):
        draw = random.Random(f"{proof.seed} {case}")
        moment = draw.choice(["", *STEPS, *(str(draw.randrange(1, JOBS)) for _ in range(6))])
        victim = draw.choice(["runner", "runner", "kernel"])
        fill(urls)
        run_id = case.replace(" ", "-")
        with half_fail_again(urls):
            words = ["-p", f"queue={QUEUE}", "-p", "wait_seconds=120", "--wet", "--run-id", run_id]
            first = Run(tmp_path, environment, "run", "retry-failed", *words)
            wait_until(
                partial(reached, urls, first, moment), timeout=240, message=f"{moment}: {first.said()}", interval=0.005
            )
            threading.Event().wait(draw.uniform(0, 0.2))  # no condition: the moment is to be any
            assert first.process.poll() is None, first.said()
            kernel = first.kernel()
            (kernel or first.process if victim == "kernel" else first.process).kill()
            first.process.wait(120)
            if kernel is not None:
                wait_until(partial(gone, kernel), timeout=30, message="the kernel ends with its runner")
            again = Run(tmp_path, environment, "resume", run_id)
            again.process.wait(600)
        told = f"{case}, {victim} at {moment or 'the start'}: {again.said()}"
        assert again.process.returncode == 1, told
        for word in ("completed", "failed"):
            assert f" {JOBS // 2:,} {word}" in again.said(), told
        assert books(urls) == {
            "jobs": JOBS, "lost": 0, "repeated": 0, "completed": JOBS // 2, "failed": JOBS // 2,
            "done": (JOBS, JOBS), "actions": [("retry", "done", JOBS, JOBS)], "twice in the list": 0,
        }, told  # fmt: skip
