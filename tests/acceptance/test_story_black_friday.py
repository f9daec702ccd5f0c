"""Black Friday: an operator sees a backlog of 5,000, makes way for it, and watches it go; in a real browser."""

from __future__ import annotations

from collections import Counter

import pytest
from playwright.sync_api import expect

from tests.support.story import ANSWER, REFRESHED, Story, colour
from tests.support.wait import wait_until

HIGH, EMAIL, LOW = "email-sending:high", "email-sending", "email-sending:low"
WHY = "Black Friday: campaign mail first"

pytestmark = [pytest.mark.acceptance, pytest.mark.browser, pytest.mark.timeout(600)]

NOT_TRIED = "SELECT id FROM jobs WHERE queue = %s AND status = 'waiting' AND attempts = 0 AND run_at <= now()"

#: Counted by the triggers when a job arrives, and by looking at the rows, both for the time since the story began.
LEDGER = """
SELECT queue, (
    SELECT coalesce(sum(n), 0)::int FROM (
        SELECT n FROM queuemon.minutes m WHERE m.queue = q.queue AND kind = 'arrived' AND minute >= %(since)s
        UNION ALL
        SELECT n FROM queuemon.job_deltas d WHERE d.queue = q.queue AND arrived >= %(since)s
    ) AS arrival
), (
    SELECT coalesce(jsonb_object_agg(status, n), '{}') FROM (
        SELECT status, count(*) AS n FROM jobs j WHERE j.queue = q.queue AND created_at >= %(since)s GROUP BY status
    ) AS state
) FROM (SELECT name AS queue FROM job_queues) AS q
"""


def test_black_friday(story: Story) -> None:
    company, page = story.company, story.page
    expect(story.row(EMAIL)).to_have_attribute("data-health", "healthy")
    story.picture("quiet")
    # From the next full minute on, so that the counters per minute and the rows speak of the same jobs.
    ((began, since),) = company.sql("SELECT now(), date_trunc('minute', now()) + interval '1 minute'")
    company.queuemon("demo", "scenario", "black-friday")

    # Urgent mail is processed normally; the campaign is red with 5,000 waiting.
    wait_until(lambda: story.number(EMAIL, "waiting") >= 5_000, timeout=REFRESHED, message="5,000 wait on the screen")
    expect(story.row(EMAIL)).to_have_attribute("data-health", "critical")
    assert colour(story.row(EMAIL).get_by_text("critical")) == "red"
    done = story.number(HIGH, "done")
    wait_until(lambda: story.number(HIGH, "done") != done, timeout=REFRESHED, message="urgent mail is sent")
    expect(story.row(HIGH)).to_have_attribute("data-health", "healthy")
    assert colour(story.row(HIGH).get_by_text("healthy")) == "green"
    assert story.number(HIGH, "waiting") < 100
    story.picture("five-thousand-waiting")

    # Exports make way.
    page.get_by_role("button", name=f"Pause queue:{LOW}", exact=True).click()
    story.confirm(f"Pause queue:{LOW}?", "Pause", reason=WHY, picture="pause-exports")
    expect(story.row(LOW).get_by_text("paused")).to_be_visible(timeout=1_000 * REFRESHED)
    wait_until(lambda: story.number(LOW, "active") == 0, timeout=REFRESHED, message="the running exports have ended")
    story.picture("exports-paused")
    backlog = [i for (i,) in company.sql(NOT_TRIED, [EMAIL])]
    exports = [i for (i,) in company.sql(NOT_TRIED, [LOW])]
    assert len(backlog) >= 5_000
    assert exports

    # More hands for the campaign.
    page.get_by_role("button", name=f"Workers of queue:{EMAIL}", exact=True).click()
    form = page.get_by_role("dialog", name="Workers", exact=True)
    form.get_by_label("Worker processes").fill("8")
    story.picture("eight-workers")
    form.get_by_role("button", name="Review").click()
    story.confirm(f"Scale queue:{EMAIL} to 8 workers?", "Scale workers", reason=WHY, picture="scale-plan")
    expect(story.row(EMAIL)).to_contain_text("8/8", timeout=1_000 * REFRESHED)
    story.picture("eight-at-work")

    # The backlog clears, on the screen.
    wait_until(lambda: story.number(EMAIL, "waiting") < 2_500, timeout=400, interval=0.5, message="half of it is gone")
    story.picture("half-way")
    wait_until(lambda: story.number(EMAIL, "waiting") < 100, timeout=400, interval=0.5, message="the backlog is gone")
    expect(story.row(EMAIL)).to_have_attribute("data-health", "healthy")
    assert colour(story.row(EMAIL).get_by_text("healthy")) == "green"
    story.picture("backlog-gone")
    held = company.sql("SELECT id FROM jobs WHERE id = ANY(%s) AND status = 'waiting' AND attempts = 0", [exports])
    assert len(held) == len(exports), "an export ran although its queue is paused"

    # Exports again.
    page.get_by_role("button", name=f"Resume queue:{LOW}", exact=True).click()
    story.confirm(f"Resume queue:{LOW}?", "Resume", reason="backlog is gone", picture="resume-exports")
    expect(story.row(LOW).get_by_text("paused")).to_be_hidden(timeout=1_000 * REFRESHED)
    wait_until(lambda: story.number(LOW, "active") > 0, timeout=REFRESHED, message="exports run again")
    story.picture("exports-resumed")

    # PostgreSQL, asked directly: nothing is lost, nothing ran twice, and it is known who did what and why.
    for queue, created, states in company.sql(LEDGER, {"since": since}):
        assert set(states) <= {"completed", "failed", "waiting", "active", "expired"}
        assert created == sum(states.values()), f"{queue}: {created} created, but {states}"
    states = Counter(s for (s,) in company.sql("SELECT status FROM jobs WHERE id = ANY(%s)", [backlog]))
    assert states.total() == len(backlog)
    assert states["completed"] > len(backlog) - 100, states
    runs = company.sql(
        "SELECT job_id FROM job_logs WHERE kind = 'attempt' AND status = 'completed' AND job_id = ANY(%s)", [backlog]
    )
    assert len(runs) == len(set(runs)) == states["completed"]
    actions = company.sql(
        "SELECT kind, target, state, reason FROM queuemon.actions WHERE started_at >= %s ORDER BY started_at", [began]
    )
    assert actions == [
        ("pause", LOW, "done", WHY),
        ("scale", EMAIL, "done", WHY),
        ("resume", LOW, "done", "backlog is gone"),
    ]
    for reason in (WHY, "backlog is gone"):
        expect(page.get_by_label("Activity").get_by_text(reason).first).to_be_attached(timeout=1_000 * ANSWER)
    assert story.watched.errors == []
    assert story.watched.outside == []
