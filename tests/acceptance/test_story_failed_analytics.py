"""Failed analytics: an operator finds out why twelve jobs failed, and has them run again once it is fixed."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from queuemon.demo import deploys
from queuemon.demo.queues import EMAIL
from tests.support.story import ANSWER, REFRESHED, Story, colour, wait_for_charts
from tests.support.wait import wait_until

ANALYTICS = "analytics:daily-aggregate"
TITLE = f"queue:{ANALYTICS}"
ERROR = "Division by zero in MRR calculation"
WHY = "mrr-fix is out"

pytestmark = [pytest.mark.acceptance, pytest.mark.browser, pytest.mark.timeout(600)]


def listed(details: Locator) -> set[str]:
    """Ids of the jobs on the page of the list."""
    return set(details.locator("tr[data-job]").evaluate_all("rows => rows.map(r => r.dataset.job)"))


def shared(details: Locator, error: str, deploy: str, conditions: set[str]) -> None:
    """Read the cards: the cause, new since its deploy; what its jobs share; and make just these the list."""
    answer = 1_000 * REFRESHED
    cause = details.locator("[data-cause]", has_text=error)
    expect(cause).to_contain_text(f"new since deploy {deploy}", timeout=answer)
    expect(details.locator("[data-qm=onset]")).to_contain_text(f"after deploy {deploy}.", timeout=answer)
    cause.get_by_role("button", name="What do they share").click()
    finding = details.locator("[data-finding='1']")
    expect(finding).to_be_visible(timeout=answer)
    assert set(finding.locator("code").inner_text().split()) == conditions
    expect(finding).to_contain_text("100 % of the failing")
    finding.get_by_role("button", name="Only these").click()
    expect(details.get_by_role("tab", name="Failed")).to_have_attribute("aria-selected", "true", timeout=answer)
    cause.get_by_role("button", name="Only these").click()
    expect(details.get_by_label("Filter the jobs")).to_have_value(f"signature:{cause.get_attribute('data-cause')}")


def test_failed_analytics(story: Story) -> None:
    company, page = story.company, story.page
    answer = 1_000 * ANSWER
    ((began,),) = company.sql("SELECT now()")
    company.queuemon("demo", "scenario", "mrr-bug")
    failed = [
        i for (i,) in company.sql("SELECT id FROM jobs WHERE queue = %s AND status = 'failed' ORDER BY id", [ANALYTICS])
    ]
    assert len(failed) == 12

    # Twelve have failed.
    wait_until(lambda: story.number(ANALYTICS, "failed") == 12, timeout=REFRESHED, message="12 failed on the screen")
    expect(story.row(ANALYTICS)).to_have_attribute("data-health", "critical")
    assert colour(story.row(ANALYTICS).get_by_text("critical")) == "red"
    story.picture("twelve-failed")
    page.get_by_role("button", name=f"View details of {TITLE}", exact=True).click()
    details = page.get_by_role("region", name=f"Details of {TITLE}")
    tab = details.get_by_role("tab", name="Failed 12")
    tab.click(timeout=answer)
    jobs = details.locator("tr[data-job]")
    expect(jobs).to_have_count(12, timeout=answer)
    assert listed(details) == {str(i) for i in failed}
    wait_for_charts(page)
    story.picture("failed-jobs")

    # The cards above them say which error, since which deploy, and what those jobs share, and lead to just these jobs.
    shared(details, ERROR, deploys.MRR.shipped, {"payload.active_subscriptions=0"})
    expect(details.get_by_role("button", name="Retry all 12 matching")).to_be_visible(timeout=answer)
    expect(jobs).to_have_count(12)
    story.picture("only-these")
    details.locator(".qm-charts").scroll_into_view_if_needed()
    story.picture("why")
    details.get_by_role("button", name="Clear the filter").click()
    details.get_by_role("button", name="Put the answer away").click()

    # The first of them says why.
    first = jobs.first.get_attribute("data-job")
    jobs.first.click()
    job = page.get_by_role("dialog", name="Job details")
    expect(job).to_contain_text(ERROR, timeout=answer)
    expect(job.locator("[data-qm=job-id]")).to_have_text(str(first))
    expect(job.locator("[data-qm=job-status]")).to_have_text("failed")
    trace = job.get_by_label("Stack trace of").first
    expect(trace).to_be_visible()
    expect(trace).to_contain_text("analytics/metrics/mrr.py")
    expect(trace).to_contain_text("ZeroDivisionError")
    payload = job.get_by_role("tree", name="Payload")
    expect(payload).to_contain_text("active_subscriptions")
    story.picture("job-details")
    payload.scroll_into_view_if_needed()
    story.picture("payload")
    job.get_by_role("button", name="Close the job").click()
    expect(job).to_be_hidden()

    # The fix goes out, and all twelve run again.
    company.queuemon("demo", "deploy", "mrr-fix")
    details.get_by_role("button", name="Retry all 12 matching").click()
    story.confirm("Retry 12 jobs?", "Retry 12 jobs", reason=WHY, picture="retry-plan")
    expect(page.locator(".qm-toast").get_by_text("Retried 12 jobs.")).to_be_visible(timeout=answer)
    story.picture("retried")
    wait_until(lambda: story.number(ANALYTICS, "failed") == 0, timeout=REFRESHED, message="none failed on the screen")
    expect(story.row(ANALYTICS)).to_have_attribute("data-health", "healthy", timeout=answer)

    # All twelve are complete, on the screen …
    details.get_by_role("tab", name="Completed").click()
    box = details.get_by_label("Filter the jobs")
    box.fill("payload.metric=mrr payload.active_subscriptions=0")

    def completed() -> set[str]:
        box.press("Enter")
        expect(details.get_by_role("table")).to_have_attribute("aria-busy", "false", timeout=answer)
        return listed(details)

    wait_until(
        lambda: completed() == {str(i) for i in failed}, timeout=REFRESHED, interval=1.0, message="all 12 are complete"
    )
    expect(details.get_by_text("12 jobs match")).to_be_visible()
    for chip in jobs.locator(".qm-chip").all():
        assert (chip.inner_text(), colour(chip)) == ("completed", "green")
    assert colour(story.row(ANALYTICS).get_by_text("healthy")) == "green"
    story.picture("all-complete")
    jobs.last.click()
    expect(job.locator("[data-qm=job-status]")).to_have_text("completed", timeout=answer)
    expect(job).to_contain_text(ERROR)  # the evidence survives the retry
    story.picture("a-completed-job")

    # … and in PostgreSQL, asked directly.
    rows = company.sql("SELECT id, status, attempts, gen > 1 FROM jobs WHERE id = ANY(%s) ORDER BY id", [failed])
    assert rows == [(i, "completed", 1, True) for i in failed]
    attempts = company.sql(
        "SELECT job_id, array_agg(status ORDER BY id) FROM job_logs"
        " WHERE job_id = ANY(%s) AND kind = 'attempt' GROUP BY 1 ORDER BY 1",
        [failed],
    )
    assert attempts == [(i, ["failed", "failed", "completed"]) for i in failed]
    actions = company.sql(
        "SELECT kind, planned, done, gone, state, reason FROM queuemon.actions WHERE started_at >= %s", [began]
    )
    assert actions[-1] == ("retry", 12, 12, 0, "done", WHY)

    # Another day, another deploy: two conditions at once.
    company.queuemon("demo", "scenario", "bad-template")
    page.keyboard.press("Escape")
    page.get_by_role("button", name=f"View details of queue:{EMAIL}", exact=True).click()
    mail = page.get_by_role("region", name=f"Details of queue:{EMAIL}", exact=True)
    both = {"payload.template=spring-sale-v2", "payload.region=eu-west"}
    shared(mail, "Missing helper", deploys.TEMPLATE.shipped, both)
    story.picture("bad-template")
    assert story.watched.errors == []
    assert story.watched.outside == []
