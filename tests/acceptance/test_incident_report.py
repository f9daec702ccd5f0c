"""The report of a scripted incident says what the script knows: times within a bucket, counts exact; on one page that
needs no network, runs nothing, and prints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from queuemon.contract import JobStatus
from queuemon.engine.signing import sign_attempts
from queuemon.errors import InvalidValue, UnknownQueue
from queuemon.workbench import Workbench
from tests.support import scripted
from tests.support.engine import Rig

if TYPE_CHECKING:
    from tests.support.jupyter import Watched

pytestmark = [pytest.mark.acceptance, pytest.mark.browser, pytest.mark.timeout(600)]

PICTURES = Path(__file__).resolve().parents[2] / "test-artifacts" / "incident"
HOSTILE = "<img src=x onerror=trap()><script>trap()</script>{{trap()}}"


def clock(rig: Rig) -> datetime:
    at: datetime = rig.sql("SELECT now() AS at")[0]["at"]
    return at


def test_the_report_says_what_the_script_knows(rig: Rig, tmp_path: Path, open_page: Callable[..., Watched]) -> None:
    rig.sql("UPDATE job_queues SET target_seconds = 120")
    script = scripted.play(rig.sql, clock(rig), error=f"order 17 is late {HOSTILE}")
    sign_attempts(rig.store)  # a relay does this all the time
    with Workbench(rig.settings) as wb:
        found = wb.incident(script.since, script.until)
        mail, beside = found.impacts
        assert (mail.queue, beside.queue, found.queue) == ("mail", "reports", "mail")
        assert (mail.arrived, mail.failed, mail.jobs_failed, mail.expired) == (
            script.arrived, len(script.failed), len(script.failed), script.expired,
        )  # fmt: skip
        assert mail.now == {JobStatus.COMPLETED: len(script.failed)}
        assert mail.completed == script.arrived - script.expired
        assert (mail.deepest, mail.deepest_at) == (script.deepest, script.at(scripted.RESUMED))
        assert mail.over_target_seconds == 60
        assert (beside.failed, beside.jobs_failed, beside.now) == (1, 1, {JobStatus.FAILED: 1})

        bucket = timedelta(seconds=found.investigation.timeline.bucket_seconds)
        assert found.began is not None
        assert found.ended is not None
        assert abs(found.began.at - script.at(scripted.BROKEN)) <= bucket
        assert abs(found.ended.at - script.at(scripted.FIXED)) <= bucket
        assert found.began.beside.endswith("after deploy mailer 9.1")
        assert found.investigation.finding is not None
        assert found.investigation.finding.filter == "payload.region=eu"
        assert [(h.kind, h.target, h.done) for h in found.happened if h.kind != "deploy"] == [
            ("pause", "mail", 1), ("resume", "mail", 1), ("retry", "queue:mail status:failed", len(script.failed)),
        ]  # fmt: skip
        assert {h.actor for h in found.happened} == {"ci", "ops/maria"}

        # What a report is asked that cannot be.
        with pytest.raises(UnknownQueue):
            wb.incident("2h", queue="nosuch")
        with pytest.raises(InvalidValue, match="empty"):
            wb.incident(script.until, script.since)
        quiet = wb.incident(script.at(-20), script.at(-10))
        assert (quiet.impacts, quiet.began, quiet.ended) == ((), None, None)

    page = tmp_path / "incident.html"
    said = command(rig, tmp_path, script, page)
    assert "2 queues were hit: 301 jobs failed in 301 attempts, 4 expired" in said
    assert "The failed attempts of 2 queues, counted anew, are the same." in said
    assert page.stat().st_size < 1_000_000
    PICTURES.mkdir(parents=True, exist_ok=True)
    for theme in ("light", "dark"):
        watched = open_page(width=1200, colour_scheme=theme)
        watched.page.add_init_script("window.trap = () => { window.sprung = true }")
        watched.page.context.set_offline(True)
        watched.page.goto(page.as_uri())
        text = watched.page.locator("body").inner_text()
        for words in (
            "mailer 9.1", "stop the bleeding", "ops/maria", "payload.region=eu", "TemplateError", "It ended at",
            "queuemon failures --queue mail --since", "queuemon timeline mail --bucket 60", "is late",
        ):  # fmt: skip
            assert words in text, words
        picture = watched.page.get_by_alt_text("Depth, flow and failures of queue:mail")
        assert picture.evaluate("image => image.naturalWidth") > 0
        assert watched.page.evaluate("window.sprung") is None
        assert watched.page.locator("script, iframe, [onerror], img:not([src^='data:'])").count() == 0
        assert (watched.outside, watched.errors) == ([], [])
        watched.page.screenshot(path=PICTURES / f"report-{theme}.png", full_page=True)
    watched.page.emulate_media(media="print")
    assert watched.page.pdf(path=PICTURES / "report.pdf").startswith(b"%PDF")


def command(rig: Rig, folder: Path, script: scripted.Script, page: Path) -> str:
    """What the real command says; its page is there."""
    settings = rig.settings
    words = [
        "report", "incident", "--from", f"{script.since:%Y-%m-%dT%H:%M}", "--to", f"{script.until:%Y-%m-%dT%H:%M}",
        "--output", str(page),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "QUEUEMON_DATABASE_URL": settings.database_url.get_secret_value(),
        "QUEUEMON_REDIS_URL": settings.redis_url.get_secret_value(),
    }
    done = subprocess.run(
        [sys.executable, "-m", "queuemon", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(page) in done.stdout
    return done.stdout
