"""Two operators, each with a page and a kernel: what one does the other sees, and what collides is explained."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.engine import Rig
from tests.support.jupyter import Server, Watched
from tests.support.operator import ANSWER, MAIL, confirm, connecting, dashboard, fail, failed_jobs, retry_slowly, said
from tests.support.wait import wait_until

Two = tuple[Page, Page]


@pytest.fixture
def two(operator_lab: Server, rig: Rig, open_page: Callable[..., Watched]) -> Iterator[Two]:
    """The dashboards of two kernels over the same stores."""
    expect.set_options(timeout=ANSWER)
    watched = [open_page(), open_page()]
    for name, each in zip(("ann.ipynb", "ben.ipynb"), watched, strict=True):
        dashboard(operator_lab, each.page, connecting(rig.settings), name=name)
    assert len(operator_lab.get("/api/kernels")) == 2
    yield watched[0].page, watched[1].page
    errors = [error for each in watched for error in each.errors]  # a page whose kernel goes has some
    operator_lab.forget_kernels()
    expect.set_options(timeout=5_000)
    assert errors == []


def test_both_see_what_either_does_and_of_two_that_collide_one_is_done_and_one_explained(two: Two, rig: Rig) -> None:
    ann, ben = two

    # What one does, the other sees with the next refresh: the pause, its reason, its record.
    ann.get_by_label(f"Pause {MAIL}", exact=True).click()
    confirm(ann, "month end")
    expect(ben.locator("[data-queue=mail]")).to_have_attribute("data-paused", "true")
    expect(ben.locator("[data-action=pause]")).to_contain_text("month end")
    ben.get_by_label(f"Resume {MAIL}", exact=True).click()
    confirm(ben, "is over")
    expect(ann.locator("[data-queue=mail]")).to_have_attribute("data-paused", "false")
    expect(ann.locator("[data-action=resume]")).to_contain_text("is over")

    # Both plan to retry the same three: the second finds them retried.
    fail(rig, 3)
    for page in two:
        failed_jobs(page, 3)
        page.get_by_role("button", name="Retry all 3 matching").click()
        expect(page.locator("[data-qm=plan-title]")).to_have_text("Retry 3 jobs?")
    confirm(ann, "ann was first")
    expect(said(ann)).to_contain_text("Retried 3")
    confirm(ben, "ben was second")
    expect(said(ben)).to_contain_text(re.compile(r"Retried none of 3.*3 no longer match"))
    assert {row["gen"] for row in rig.sql("SELECT gen FROM jobs")} == {4}, "each was retried once"
    expect(ann.locator("[data-action=retry]")).to_have_count(2)

    # One takes the retry back while the other clears what stands failed: the plan of before finds nothing.
    ann.locator("[data-action=retry]", has_text="ann was first").get_by_label(re.compile("^Undo")).click()
    expect(ann.locator("[data-qm=plan-title]")).to_contain_text("Undo")
    ben.locator("[data-action=retry]", has_text="ann was first").get_by_label(re.compile("^Undo")).click()
    expect(ben.locator("[data-qm=plan-title]")).to_contain_text("Undo")
    confirm(ann, "too early")
    wait_until(lambda: rig.count("failed") == 3, message="they stand failed again")
    confirm(ben, "too early, says ben")
    expect(ben.locator(".qm-toast, .qm-problem").first).to_contain_text(re.compile("undone|taken back|none of 3"))
    assert rig.count("failed") == 3

    # What runs in one kernel is stopped from the other.
    fail(rig, 60)
    failed_jobs(ann, 50)
    retry_slowly(ann, 63, "carefully")
    line = ben.locator("[data-action=retry]", has_text="carefully")
    expect(line).to_contain_text("running: ")
    line.get_by_label(re.compile("^Stop the retry")).click()
    expect(said(ben)).to_contain_text("Stopped on request")
    expect(said(ann)).to_contain_text("Stopped on request")
    assert 0 < rig.count("waiting") < 63
