"""The panel of runbooks in a browser: from a queue's menu to the verdict and the record, which can run nothing."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.support.axe import in_both_themes
from tests.support.engine import Rig
from tests.support.operator import MAIL, fail
from tests.support.wait import wait_until

MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}"

#: Milliseconds for a run: a process, its checks, a kernel.
RUN = 120_000


def test_a_runbook_is_opened_from_a_queue_judged_run_dry_and_its_record_shown(page: Page, rig: Rig) -> None:
    alerts: list[str] = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    fail(rig, 3, note=MARKUP)
    rig.sql("UPDATE jobs SET error_message = :m WHERE status = 'failed'", m=MARKUP)
    expect(page.get_by_label(f"Retry failed of {MAIL}", exact=True)).to_be_enabled()
    page.get_by_label(f"More actions on {MAIL}", exact=True).click()
    page.get_by_role("menuitem", name="Runbook retry-failed").click()
    form = page.locator("[data-qm=runbook-form]")
    start = page.locator("[data-qm=run-button]")
    expect(form.get_by_label("queue", exact=True)).to_have_value("mail")
    expect(start).to_have_text("Run dry")
    form.get_by_label("reason").fill(MARKUP)
    form.get_by_label("limit").fill("many")
    form.get_by_label("limit").press("Tab")
    expect(form.locator("[data-field=limit] .qm-wrong")).to_have_text("Takes a whole number, 1 to 100,000.")
    start.click()
    expect(start).to_be_enabled()
    assert in_both_themes(page, "[data-qm=runbook-form]") == []
    expect(form.get_by_label("reason")).to_have_value(MARKUP)
    form.get_by_label("limit").fill("100")
    start.click()
    run = page.locator("[data-qm=run]")
    page.locator("[data-qm=runbook]").get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Run again…").click()
    expect(form.get_by_label("limit")).to_have_value("100")
    start.click()
    expect(run.locator("[data-step]")).to_have_count(5, timeout=RUN)
    page.get_by_label("Close the runbook").click()
    expect(run).to_be_hidden()
    panel = page.locator(".qm-runbooks")
    panel.get_by_role("button", name="Runbooks").click()
    panel.get_by_role("button", name="Runs", exact=True).click()
    expect(panel.locator("[data-run]").first).to_have_attribute("data-state", "done", timeout=RUN)
    panel.locator("[data-run] .qm-link").first.click()
    expect(page.locator("[data-qm=verdict]")).to_have_text("Nothing was changed. It would retry 3.")
    expect(run.locator("[data-step-state=done]")).to_have_count(5)
    assert in_both_themes(page, "[data-qm=run]") == []
    assert in_both_themes(page, ".qm-runbooks") == []
    page.get_by_role("button", name="Show the record").click()
    record = page.frame_locator("iframe.qm-record")
    expect(record.get_by_text("retry-failed, run")).to_be_visible()
    assert page.locator("iframe.qm-record").get_attribute("sandbox") == ""
    assert record.locator("script, img").count() == 0
    page.get_by_role("button", name="Back to the run").click()
    step = run.get_by_role("button", name="3. Plan")
    step.click()
    expect(step).to_have_attribute("aria-expanded", "false")
    run.get_by_label("Copy the path").click()
    page.get_by_role("button", name="Run for real…").click()
    expect(start).to_have_text("Run for real")
    expect(form.get_by_label("limit")).to_have_value("100")
    page.keyboard.press("Escape")
    expect(form).to_be_hidden()
    wait_until(lambda: rig.count("failed") == 3, message="nothing was changed")
    assert alerts == []
