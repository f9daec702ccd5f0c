"""`queuemon failures` and `queuemon deploy`, on real stores."""

from __future__ import annotations

import json

import psycopg
import pytest

from queuemon.cli import run
from tests.support.stores import StackUrls
from tests.unit.test_render import HOSTILE

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def connected(urls: StackUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line talks to the test's own stores, on a screen of 100 columns."""
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", urls.database_url)
    monkeypatch.setenv("QUEUEMON_REDIS_URL", urls.redis_url)
    monkeypatch.setenv("COLUMNS", "100")


def fails(urls: StackUrls, message: str, times: int = 1) -> None:
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("INSERT INTO job_queues (name) VALUES ('mail') ON CONFLICT DO NOTHING")
        for _ in range(times):
            connection.execute(
                "INSERT INTO job_logs (job_id, queue, gen, status, error_type, error_message)"
                " VALUES (gen_random_uuid(), 'mail', 1, 'failed', 'Boom', %s)",
                (message.encode("utf-8", "replace").decode().replace("\0", ""),),
            )


@pytest.mark.parametrize("columns", [80, 100])
def test_causes_are_listed_within_the_screen(
    urls: StackUrls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    fails(urls, "order 17 of customer Anna is late since 2026-11-24", 3)
    for text in HOSTILE:
        fails(urls, text)
    assert run(["failures", "--queue", "mail", "--since", "2h"]) == 0
    shown = capsys.readouterr().out
    listed = [line for line in shown.splitlines() if line.startswith(("Boom", "    "))]
    assert len(listed) >= 4
    assert max(map(len, listed)) <= columns
    assert "Boom: order <number>" in shown
    assert "last 20" in shown
    assert "queue:mail (3)" in shown
    assert "queuemon jobs 'queue:mail status:failed signature:" in shown
    assert not set(shown) & set("\x1b\x00\u202e\r")


def test_json_and_nothing_at_all(urls: StackUrls, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["failures"]) == 4
    assert "No attempt failed" in capsys.readouterr().out
    fails(urls, "x 1", 2)
    assert run(["failures", "--json", "--limit", "1"]) == 0
    (cause,) = json.loads(capsys.readouterr().out)["causes"]
    assert (cause["text"], cause["attempts"]["value"]) == ("x <number>", 2)
    assert run(["failures", "--since", "soon"]) == 2


def test_a_deploy_is_marked_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["deploy", "list"]) == 4
    assert run(["deploy", "mark", "mailer 2026.47", "--at", "10m", "--note", "a \x1b[2J note"]) == 0
    assert "Marked the deploy mailer 2026.47 at " in capsys.readouterr().out
    assert run(["deploy", "mark", "mailer 2026.48", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "mailer 2026.48"
    assert run(["deploy", "list", "--json"]) == 0
    assert [deploy["name"] for deploy in json.loads(capsys.readouterr().out)] == ["mailer 2026.48", "mailer 2026.47"]
    assert run(["deploy", "list"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert run(["deploy", "mark", " "]) == 2
    assert run(["deploy", "mark", "mailer 2099", "--at", "2099-01-01"]) == 2
    assert "lies in the future" in capsys.readouterr().err


def test_investigate_tells_the_story_of_a_queue_in_lines(urls: StackUrls, capsys: pytest.CaptureFixture[str]) -> None:
    fails(urls, "order 17 of customer Anna is late since 2026-11-24", 3)
    assert run(["investigate", "queue:mail"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()] == ["Queue", "Began", "Error", "In", "Backlog"]
    assert "Boom: order <number>" in shown
    assert run(["investigate", "mail", "--since", "2h", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["queue"] == "queue:mail"
    assert told["cause"]["attempts"]["value"] == 3
    assert told["filter"].startswith("queue:mail status:failed signature:")
    assert run(["investigate", "no-such-queue"]) == 2
    assert "no-such-queue" in capsys.readouterr().err
