"""`queuemon alerts watch` over real stores: killed and started again, with PagerDuty away in between."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from queuemon.alerting import rules
from tests.support.engine import Rig
from tests.support.pagerduty import Sink, sink
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

#: The rules with other times: what is tested lasts minutes otherwise.
HASTY = """
import dataclasses, sys
from queuemon.alerting import rules
for rule in rules.RULES:
    object.__setattr__(rule, "for_seconds", 2)
    object.__setattr__(rule, "keep_seconds", 2)
from queuemon.cli import main
sys.exit(main())
"""


@contextmanager
def watching(rig: Rig, taking: Sink, state: Path) -> Iterator[subprocess.Popen[str]]:
    """The real command; it is killed at the end."""
    settings = rig.settings
    environment = {
        **os.environ,
        "QUEUEMON_DATABASE_URL": settings.database_url.get_secret_value(),
        "QUEUEMON_REDIS_URL": settings.redis_url.get_secret_value(),
        "QUEUEMON_PAGERDUTY_ROUTING_KEY": taking.routing_key,
        "QUEUEMON_CONFIG": str(state.parent / "queuemon.toml"),
    }
    (state.parent / "queuemon.toml").write_text(
        f'[profiles.prod]\npagerduty_url = "{taking.url}"\ndashboard_url = "https://ops.example/"\n'
        "[profiles.prod.thresholds]\nalert_depth = 50\n"
    )
    command = [sys.executable, "-c", HASTY, "--profile", "prod", "alerts", "watch", "--interval", "1", "--state"]
    with subprocess.Popen(
        [*command, str(state)], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        assert "watching every 1 s" in process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def deep(rig: Rig, number: int) -> None:
    rig.sql("DELETE FROM jobs")
    rig.sql(
        "INSERT INTO jobs (id, queue, payload) SELECT gen_random_uuid(), 'mail', '{}' FROM generate_series(1, :n)",
        n=number,
    )
    rig.sql("UPDATE job_queues SET target_seconds = 100000")


def depth(taking: Sink, action: str) -> int:
    """Events of the depth's alert."""
    return sum(rules.RULES[0].name in event["dedup_key"] for event in taking.of(action))


def test_kill_9_and_an_outage_of_pagerduty_lose_and_double_nothing(rig: Rig, tmp_path: Path) -> None:
    state = tmp_path / "alerts.json"
    with sink() as taking:
        deep(rig, 60)
        with watching(rig, taking, state):
            wait_until(lambda: depth(taking, "trigger") == 1, timeout=30, message="it pages")
            # Killed before it has noted that, it would page again, into the same incident.
            wait_until(lambda: '"unsent": []' in state.read_text(), message="it has noted that")
        with watching(rig, taking, state):  # killed, and started again: it still fires
            taking.broken = 503
            deep(rig, 0)
            wait_until(lambda: '"resolve"' in state.read_text(), timeout=30, message="the end waits to be delivered")
        taking.broken = 0
        with watching(rig, taking, state) as process:
            wait_until(lambda: depth(taking, "resolve") == 1, timeout=30, message="the end is delivered")
            process.terminate()
            assert process.wait(20) == 0
            assert process.stdout is not None
            said = process.stdout.read()
        assert taking.routing_key not in said
        assert taking.routing_key not in state.read_text()
        assert (depth(taking, "trigger"), depth(taking, "resolve")) == (1, 1)
        assert taking.refused == []
        (event,) = [e for e in taking.of("trigger") if rules.RULES[0].name in e["dedup_key"]]
        assert event["payload"]["summary"] == "prod: 60 jobs wait in mail"
        assert event["client_url"] == "https://ops.example/"
