"""Approval through the command line, as two database roles: who runs does not approve, and what changes waits anew."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from queuemon.demo.stack import StackUrls
from queuemon.schema import roles
from tests.support.terminal import assert_one_sentence

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


class Desk:
    """Two operators at one folder of runs, each with a profile of their own."""

    def __init__(self, urls: StackUrls, folder: Path) -> None:
        self.urls, self.folder = urls, folder
        self.roles = {"runner": "queuemon_operator", "second": "queuemon_approver"}
        self.names = {who: f"{who}_{secrets.token_hex(4)}" for who in self.roles}
        where, lines = urls.database_url.rpartition("@")[2], []
        with psycopg.connect(urls.database_url, autocommit=True) as connection:
            connection.execute(roles.sql().encode())
            for who, name in self.names.items():
                password = secrets.token_hex(8)
                connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE {self.roles[who]}".encode())
                lines += [
                    f"[profiles.{who}]", f'database_url = "postgresql://{name}:{password}@{where}"',
                    f'redis_url = "{urls.redis_url}"', f"runbook_approval = {json.dumps(who == 'runner')}",
                ]  # fmt: skip
            connection.execute("INSERT INTO job_queues (name) VALUES ('mail')")
        (folder / "queuemon.toml").write_text("\n".join(lines))

    def fail(self, number: int) -> None:
        with psycopg.connect(self.urls.database_url) as connection:
            connection.cursor().executemany(
                "INSERT INTO jobs (id, queue, payload, status, attempts, max_attempts, finished_at)"
                " VALUES (%s, 'mail', '{}', 'failed', 1, 1, now())",
                [(uuid4(),) for _ in range(number)],
            )

    def left(self) -> int:
        """Jobs that stand failed."""
        with psycopg.connect(self.urls.database_url) as connection:
            ((n,),) = connection.execute("SELECT count(*) FROM jobs WHERE status = 'failed'").fetchall()
        return int(n)

    def queuemon(self, who: str, *words: str) -> tuple[int, str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("QUEUEMON_")}
        done = subprocess.run(
            [sys.executable, "-m", "queuemon", "--profile", who, "runbook", *words],
            cwd=self.folder,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    def close(self) -> None:
        with psycopg.connect(self.urls.database_url, autocommit=True) as connection:
            for name in self.names.values():
                connection.execute(f"DROP OWNED BY {name}".encode())
                connection.execute(f"DROP ROLE {name}".encode())


@pytest.fixture
def desk(urls: StackUrls, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(urls, tmp_path)
    yield made
    made.close()


def test_one_role_runs_and_another_approves_this_very_plan(desk: Desk) -> None:
    desk.fail(3)
    code, _, err = desk.queuemon("runner", "run", "clear-failed", "-p", "queue=mail", "--wet", "--run-id", "tidy")
    assert code == 1
    assert_one_sentence(err)
    assert "is not approved" in err
    assert "queuemon runbook approve tidy" in err
    assert desk.left() == 3
    assert "waits for approval" in desk.queuemon("second", "history")[1]

    # Nothing without --yes, nothing by the runner, under whatever role it puts on; nothing by one that may only read.
    code, out, _ = desk.queuemon("second", "approve", "tidy")
    assert (code, "Nothing is approved yet" in out) == (0, True)
    code, _, err = desk.queuemon("runner", "approve", "tidy", "--yes")
    assert code == 1 or "is not approved" in desk.queuemon("runner", "resume", "tidy")[2], err
    with psycopg.connect(desk.urls.database_url, autocommit=True) as connection:
        ((hash_,),) = [(json.loads(p.read_text())["actions"][0]["hash"],) for p in desk.folder.rglob("*-tidy.json")]
        connection.execute(f"GRANT queuemon_approver TO {desk.names['runner']}".encode())
    own = (desk.folder / "queuemon.toml").read_text().partition('database_url = "')[2].partition('"')[0]
    with psycopg.connect(own, autocommit=True) as connection:
        connection.execute("SET ROLE queuemon_approver")
        signed = "INSERT INTO queuemon.approvals (hash, role, os_user, note) VALUES (%s, 'boss', '', '') RETURNING role"
        assert connection.execute(signed, (hash_,)).fetchall() == [(desk.names["runner"],)]
    code, _, err = desk.queuemon("runner", "resume", "tidy")
    assert (code, "is not approved" in err) == (1, True)

    # What was approved is what is done: one job more, and it waits again.
    assert desk.queuemon("second", "approve", "tidy", "--yes", "--note", "seen")[0] == 0
    desk.fail(1)
    code, _, err = desk.queuemon("runner", "resume", "tidy")
    assert (code, "clear-failed 4" in err) == (1, True)
    assert desk.left() == 4
    code, out, _ = desk.queuemon("second", "approve", "tidy", "--yes")
    assert (code, f"Approved as {desk.names['second']}." in out) == (0, True)
    code, out, err = desk.queuemon("runner", "resume", "tidy")
    assert (code, err) == (0, "")
    assert desk.left() == 0
    with psycopg.connect(desk.urls.database_url) as connection:
        rows = connection.execute("SELECT kind, state, done FROM queuemon.actions").fetchall()
    assert rows == [("clear-failed", "done", 4)]
    newest = max(desk.folder.rglob("*-tidy.json"))
    assert json.loads(newest.read_text())["actions"][0]["approved_by"] == desk.names["second"]
