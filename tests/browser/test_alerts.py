"""Alerts on the strip: what fires, for how long, and the runbook one click away; hostile names stay text."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.support.axe import in_both_themes
from tests.support.engine import Rig
from tests.support.operator import MAIL

HOSTILE = "<img src=x onerror=trap()>"


def test_a_deep_queue_fires_names_its_runbook_and_ends(page: Page, rig: Rig) -> None:
    bell = page.locator("[data-qm=bell]")
    expect(bell).to_have_text("no alerts")
    height = page.locator("[data-qm=dashboard] .qm-strip").bounding_box()
    rig.sql("INSERT INTO job_queues (name) VALUES (:name)", name=HOSTILE)
    for name in ("mail", HOSTILE):
        rig.sql(
            "INSERT INTO jobs (id, queue, payload) SELECT gen_random_uuid(), :name, '{}'"
            " FROM generate_series(1, 10001)",
            name=name,
        )
    expect(bell).to_contain_text("pending")
    bell.click()
    dialog = page.get_by_role("dialog", name="Alerts", exact=True)
    deep = dialog.locator("[data-alert=QueuemonQueueDepth]", has_text="10,001 jobs wait in mail")
    expect(deep).to_contain_text("fires when it lasts 1 min")
    expect(deep).to_contain_text("queuemon runbook run prioritise-transactional -p queue=mail")
    expect(dialog).to_contain_text(f"10,001 jobs wait in {HOSTILE}")
    assert page.evaluate("document.querySelectorAll('[data-qm=alerts] img').length") == 0
    assert in_both_themes(page, "[data-qm=alerts]") == []
    deep.get_by_label("View details of mail", exact=True).click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_label(f"Details of {MAIL}", exact=True)).to_be_visible()
    assert page.locator("[data-qm=dashboard] .qm-strip").bounding_box() == height
    rig.sql("DELETE FROM jobs")
    expect(bell).to_have_text("no alerts")


def test_a_job_without_a_worker_is_pending_first_and_escape_closes_the_list(page: Page, rig: Rig) -> None:
    rig.sql("INSERT INTO jobs (id, queue, payload, status, started_at, heartbeat_at) VALUES (gen_random_uuid(), 'mail',"
            " '{}', 'active', now() - interval '1 day', now() - interval '1 day')")  # fmt: skip
    bell = page.locator("[data-qm=bell]")
    expect(bell).to_have_text("1 alert pending")
    bell.click()
    dialog = page.get_by_role("dialog", name="Alerts", exact=True)
    expect(dialog.locator("[data-alert=QueuemonStuckJobs]")).to_contain_text("rescue-stuck -p queue=mail")
    bell.evaluate("bell => bell.focus()")  # as in the moment before the focus comes into the dialog
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
