"""The numbers of an incident report hold when they are asked for again, by the commands that it prints."""

from __future__ import annotations

import html
import json
import re
import shlex
from typing import Any

import pytest

from queuemon.cli import run
from queuemon.contract import Keys
from queuemon.engine.signing import sign_attempts
from queuemon.render import incident as rendered
from queuemon.runbooks import verify_counts
from queuemon.runbooks.reported import SETTLED
from queuemon.workbench import Workbench
from tests.support.engine import Rig

pytestmark = pytest.mark.integration

#: An attempt a minute for three days, of which a fourth fail, and all of one hour.
PLAY = """
WITH minutes AS (
    SELECT gen_random_uuid() AS id, now() - n * interval '1 minute' - interval '7 seconds' AS at,
        n % 4 = 0 OR n BETWEEN 600 AND 660 AS bad
    FROM generate_series(1, 4200) AS n
), added AS (
    INSERT INTO jobs (id, queue, payload, status, attempts, created_at, run_at, started_at, finished_at)
    SELECT id, 'mail', jsonb_build_object('region', CASE WHEN bad THEN 'eu' ELSE 'us' END),
        CASE WHEN bad THEN 'failed' ELSE 'completed' END, 1, at, at, at, at + interval '1 second' FROM minutes
)
INSERT INTO job_logs (job_id, queue, gen, attempt, kind, status, due_at, started_at, finished_at, error_type,
    error_message)
SELECT id, 'mail', 1, 1, 'attempt', CASE WHEN bad THEN 'failed' ELSE 'completed' END, at, at, at + interval '1 second',
    CASE WHEN bad THEN 'TemplateError' END, CASE WHEN bad THEN 'template helper is missing' END FROM minutes
"""


@pytest.mark.parametrize(("since", "until"), [("50m", ""), ("20h", "1h"), ("2d", "")])
def test_every_number_can_be_had_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], since: str, until: str
) -> None:
    rig.sql(PLAY)
    sign_attempts(rig.store)
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", rig.settings.database_url.get_secret_value())
    monkeypatch.setenv("QUEUEMON_REDIS_URL", rig.settings.redis_url.get_secret_value())
    with Workbench(rig.settings) as wb:
        found = wb.incident(since, until or None, "mail")
        said = verify_counts(wb, found).text
    counted = found.clock - found.window.until >= SETTLED
    assert said.startswith("The failed attempts of 1 queues, counted anew" if counted else "Not counted again")
    page = str(rendered.html(found, Keys()))
    commands = dict.fromkeys(html.unescape(code) for code in re.findall(r"Again: <code>(.*?)</code>", page))
    again: dict[str, Any] = {}
    for words in map(shlex.split, commands):
        capsys.readouterr()
        assert run([*words[1:], "--json"]) in {0, 4}, words
        again[words[1]] = json.loads(capsys.readouterr().out)
    (mail,) = found.impacts
    curve, failures = again["timeline"]["points"], again["failures"]
    for name in ("arrived", "completed", "failed"):
        assert sum(point[name] for point in curve) == getattr(mail, name), name
    assert failures["attempts"]["value"] == found.investigation.failures.attempts.value
    if (explained := found.investigation.explanation) is not None:
        assert (again["explain"]["failing"], again["explain"]["succeeding"]) == (
            explained.failing,
            explained.succeeding,
        )
