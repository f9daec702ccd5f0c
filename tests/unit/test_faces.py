"""`queuemon.show()` has a face for every value that queuemon hands out, and nothing in any of them becomes markup."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import queuemon
from queuemon.contract import JobStatus
from queuemon.render.html import MAX_ROWS
from queuemon.render.shown import Charted
from tests.support import faces
from tests.support import fake_workbench as fake
from tests.unit.test_render import HOSTILE, read

PUBLIC = faces.public()


def named(kind: type) -> str:
    return f"{kind.__module__.removeprefix('queuemon.')}.{kind.__name__}"


def test_the_walk_finds_what_operators_get() -> None:
    found = {kind.__name__ for kind in PUBLIC}
    assert found >= {
        "Snapshot", "Plan", "ActionResult", "ActionProgress", "ActionRecord", "CanaryResult", "Job", "JobDetail",
        "JobPage", "JobOutcome", "Failures", "Explanation", "Timeline", "Onset", "Forecast", "Investigation", "Trend",
        "DriftReport", "DriftWatch", "Quarantined", "Check", "WorkerLevel", "Pause", "Deploy", "Count", "Queue",
        "RunResult", "PastRun", "RunbookInfo", "Outcome", "Drained",
    }  # fmt: skip


@pytest.mark.parametrize("kind", PUBLIC, ids=named)
def test_every_value_has_a_face_that_is_not_its_repr_and_stays_text(kind: type) -> None:
    for text in [*HOSTILE, "plain words", ""]:
        value = faces.made(kind, text)
        for shown in (queuemon.show(value), queuemon.show([value]), queuemon.show((value, value))):
            words = read(shown.html)
            for made in (words, repr(shown)):
                assert f"{kind.__name__}(" not in made
                assert " object at 0x" not in made
                assert "datetime.datetime(" not in made
                assert not set(made) & set("\x00\x1b\u202e")
                made.encode("utf-8")
            assert words.strip()
            for chart in shown.charts if isinstance(shown, Charted) else ():
                assert "<script" not in chart.to_json()
                assert "<img" not in chart.to_json()


def test_what_a_job_holds_under_a_secret_key_is_in_no_face() -> None:
    job = fake.job(payload={"password": "canary-4711"})
    for value in (job, [job], fake.detail(job), {"job": [job]}, faces.made(type(job), "x")):
        shown = queuemon.show(value)
        assert "canary-4711" not in shown.html + repr(shown)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((), "Nothing."),
        ({JobStatus.FAILED: 1_200, JobStatus.ACTIVE: 3}, "1,200"),
        (fake.Count(value=1_200), "1,200"),
        (pd.DataFrame({"queue": ["mail"], "n": [1_200]}), "1,200"),
        (pd.DataFrame(), "Nothing."),
        (fake.stats("email-sending"), "queue:email-sending"),
        (fake.snapshot().queues, "queue:email-sending"),
        (fake.drift_report({1: 3}), "lost: waiting in PostgreSQL"),
        ("a sentence", "a sentence"),
        (None, "–"),
    ],
)
def test_plain_answers_are_shown_in_words(value: Any, words: str) -> None:
    shown = queuemon.show(value)
    assert words in read(shown.html)
    assert words in repr(shown)


def test_what_is_cut_says_so() -> None:
    many = [fake.Breakdown(label=str(n), count=n) for n in range(MAX_ROWS + 5)]
    assert f"The first {MAX_ROWS} of {MAX_ROWS + 5}." in read(queuemon.show(many).html)


def test_a_shown_value_can_be_shown_again() -> None:
    once = queuemon.show(fake.snapshot())
    assert once.html in queuemon.show(once).html
