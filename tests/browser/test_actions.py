"""What an operator does on the page, step by step, with real stores and workers behind it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from queuemon.engine.handlers import JobInHand
from queuemon.model import ActionProgress
from queuemon.workbench import Workbench
from tests.support.drift import Planter
from tests.support.engine import Rig
from tests.support.operator import MAIL, confirm, fail, failed_jobs, retry_slowly, said
from tests.support.wait import wait_until


def test_a_retry_is_taken_back_from_the_snackbar(page: Page, rig: Rig) -> None:
    fail(rig, 3)
    failed_jobs(page, 3)
    page.get_by_role("button", name="Retry all 3 matching").click()
    confirm(page, "wrong queue")
    expect(said(page)).to_contain_text("Retried 3")
    assert rig.count("waiting") == 3
    page.locator(".qm-toast-undo").click()
    expect(page.locator("[data-qm=plan-title]")).to_contain_text("Undo")
    confirm(page, "that was the wrong one")
    wait_until(lambda: rig.count("failed") == 3, message="they stand failed again")
    expect(page.locator("[data-action=retry]")).to_contain_text("undone")
    page.locator("[data-action=retry] .qm-link").click()
    details = page.locator("[data-qm=action]")
    expect(details).to_contain_text("wrong queue")
    expect(details.locator("[data-outcome=done]")).to_have_count(3)
    details.get_by_role("button", name="by another action").click()
    expect(details).to_contain_text("that was the wrong one")
    page.keyboard.press("Escape")
    expect(details).to_be_hidden()


def test_a_long_action_goes_on_without_its_dialog_is_stopped_and_resumed(page: Page, rig: Rig) -> None:
    fail(rig, 60)
    failed_jobs(page, 50)
    dialog = retry_slowly(page, 60, "carefully")
    expect(dialog.get_by_role("progressbar")).to_be_visible()
    dialog.get_by_role("button", name="Continue in the background").click()
    expect(dialog).to_be_hidden()
    line = page.locator("[data-action=retry]")
    expect(line.locator(".qm-run-line")).to_contain_text("of 60 at")
    line.locator(".qm-link").click()
    details = page.locator("[data-qm=action]")
    details.get_by_role("button", name="Stop", exact=True).click()
    expect(details.locator("[data-qm=action-state]")).to_have_text("stopped")
    done = rig.count("waiting")
    assert 0 < done < 60
    expect(said(page)).to_contain_text("Stopped on request")
    details.get_by_role("button", name="Resume…").click()
    expect(page.locator("[data-qm=plan-title]")).to_have_text("Resume: retry of 60 jobs?")
    expect(dialog).to_contain_text(f"{60 - done} are left")
    dialog.locator("[data-qm=confirm-button]").click()
    wait_until(lambda: rig.count("waiting") == 60, message="the rest is retried")
    expect(details.locator("[data-qm=action-state]")).to_have_text("done")


def test_an_action_whose_process_died_is_stopped_and_taken_back(page: Page, rig: Rig) -> None:
    fail(rig, 25)
    with Workbench(rig.settings.model_copy(update={"chunk_rows": 10})) as other:

        def crash(_: ActionProgress) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            other.apply(other.plan("retry", "queue:mail status:failed"), reason="fixed", progress=crash)
    line = page.locator("[data-action=retry]")
    expect(line).to_contain_text("running: 10 of 25")
    rig.sql("UPDATE queuemon.actions SET updated_at = now() - interval '1 minute'")
    expect(line).to_contain_text("interrupted at 10 of 25")
    expect(page.locator("[data-qm=interrupted]")).to_contain_text("An action was interrupted")
    line.get_by_role("button", name=re.compile("^Stop the retry")).click()
    expect(said(page)).to_contain_text("Stopped on request. Retried 10 of 25.")
    expect(page.locator("[data-qm=interrupted]")).to_have_count(0)
    expect(line.get_by_role("button", name=re.compile("^Stop the retry"))).to_have_count(0)
    expect(line.get_by_role("button", name=re.compile("^Resume the retry"))).to_be_visible()
    line.locator(".qm-link").click()
    details = page.locator("[data-qm=action]")
    expect(details.locator("[data-qm=action-state]")).to_have_text("stopped")
    details.get_by_role("button", name="Undo…").click()
    confirm(page, "all of it back")
    wait_until(lambda: rig.count("failed") == 25, message="what was done is taken back")


def test_a_stuck_job_is_shown_with_its_worker_and_rescued(page: Page, rig: Rig) -> None:
    (job,) = fail(rig, 1)
    rig.sql(
        "UPDATE jobs SET status = 'active', attempts = 1, max_attempts = 3, worker_id = 'box-7', finished_at = NULL,"
        " error_type = NULL, started_at = now() - interval '9 minutes', heartbeat_at = now() - interval '5 minutes'"
        " WHERE id = :id",
        id=job,
    )
    expect(page.locator("[data-queue=mail]")).to_contain_text("1 stuck")
    page.get_by_label(f"View details of {MAIL}", exact=True).click()
    page.locator("[data-tab=stuck]").click()
    expect(page.locator("tr.qm-job")).to_contain_text(re.compile(r"box-7, silent for 5 min"))
    page.locator("tr.qm-job").click()
    expect(page.locator("[data-qm=stuck]")).to_contain_text("box-7 has been silent for 5 min")
    page.get_by_role("button", name="Rescue Job").click()
    expect(page.locator("[data-qm=confirm]")).to_contain_text("may run twice")
    confirm(page, "box-7 was replaced")
    expect(page.locator("[data-qm=job-status]")).to_have_text("waiting")
    assert rig.job(job)["worker_id"] is None


def test_a_canary_stops_at_the_failures_that_it_was_told_to(page: Page, rig: Rig) -> None:
    fail(rig, 12)

    def broken(job: JobInHand) -> None:
        raise ZeroDivisionError("still")

    page.get_by_label(f"More actions on {MAIL}", exact=True).click()
    page.get_by_role("menuitem", name="Retry failed as a canary").click()
    form = page.locator("[data-qm=form]")
    form.get_by_label("Jobs per step").fill("2, 5")
    form.get_by_label("Most failed jobs").fill("2")
    form.get_by_role("button", name="Review").click()
    dialog = confirm(page, "is it fixed?")
    expect(dialog.locator("[data-qm=canary]")).to_contain_text(re.compile(r"Running\s*2"))
    with rig.worker(broken):
        expect(said(page)).to_contain_text("stopped: 2 failed jobs (the limit is 2)")
    assert rig.count("failed") == 12
    expect(page.locator("[data-action=canary]")).to_contain_text("2 of 12 retried")


def test_a_pause_has_holders_who_let_go_one_by_one(page: Page, rig: Rig) -> None:
    rig.producer.enqueue_many("mail", [{"n": n} for n in range(3)])
    page.get_by_label(f"Pause {MAIL}", exact=True).click()
    dialog = page.locator("[data-qm=confirm]")
    dialog.get_by_role("button", name="2 h").click()
    dialog.get_by_text("Advanced", exact=True).click()
    dialog.get_by_label("Held by").fill("billing")
    dialog.get_by_label("Held by").press("Tab")
    expect(dialog).to_contain_text("until 20")
    confirm(page, "month end")
    expect(page.locator("[data-queue=mail]")).to_contain_text("paused")
    page.get_by_label(f"More actions on {MAIL}", exact=True).click()
    page.get_by_role("menuitem", name="Hold the pause, too").click()
    expect(dialog).to_contain_text("billing holds it paused")
    confirm(page, "me too")
    page.get_by_label(f"View details of {MAIL}", exact=True).click()
    holders = page.locator("[data-qm=holders] .qm-holder")
    expect(holders).to_have_count(2)
    expect(holders.first).to_contain_text("billing")
    expect(holders.first).to_contain_text("month end")
    page.get_by_label("Let go of the pause of billing").click()
    confirm(page, "done")
    expect(holders).to_have_count(1)
    assert page.locator("[data-queue=mail]").get_attribute("data-paused") == "true"


def test_drift_is_noticed_found_closely_and_repaired(page: Page, rig: Rig) -> None:
    panel = page.locator(".qm-drift")
    state = panel.locator("[data-qm=drift-state]")
    expect(state).to_contain_text("The stores agree")
    plant = Planter(rig.store, "mail", "reports")
    lost = plant.rows(3)
    rig.redis.rpush(plant.key, "no job at all")
    expect(state).to_contain_text("The stores disagree")
    panel.get_by_role("button", name="Look closely", exact=True).click()
    expect(panel.locator("[data-drift='1']")).to_contain_text("3 jobs")
    expect(panel.locator("[data-drift='13']")).to_contain_text("1 element")
    panel.get_by_label("Show where: lost").click()
    expect(panel.get_by_label(f"Open job {lost[0]}")).to_be_visible()
    panel.get_by_role("button", name="Repair…", exact=True).click()
    expect(page.locator("[data-qm=plan-title]")).to_have_text("Repair 4 findings?")
    confirm(page, "Redis was flushed")
    wait_until(lambda: {i for i, _ in rig.listed("mail")} >= set(map(str, lost)), message="they are published")
    expect(panel.locator("[data-quarantine]")).to_contain_text("no job at all")
    expect(state).to_contain_text("The stores agree")
    panel.get_by_label("Discard").click()
    confirm(page, "nobody knows it", typed="1")
    expect(panel.locator("[data-quarantine]")).to_have_count(0)


def test_what_is_masked_is_revealed_for_a_reason_and_until_the_job_is_closed(page: Page, rig: Rig) -> None:
    (job,) = fail(rig, 1, month="2026-13", to={"email": "canary@example.com"}, note="card 4111 1111 1111 1111")
    rig.sql("UPDATE jobs SET error_type = NULL")
    failed_jobs(page, 1)
    expect(page.locator("tr.qm-job")).to_contain_text("2026-13")
    dashboard = page.locator("[data-qm=dashboard]")
    expect(dashboard).not_to_contain_text("canary@")
    expect(dashboard).not_to_contain_text("4111 1111")
    page.locator("tr.qm-job").click()
    details = page.get_by_role("dialog", name="Job details")
    tree = details.get_by_role("tree", name="Payload")
    expect(tree).to_contain_text("email:••••••")
    expect(tree).not_to_contain_text("4111")

    details.get_by_role("button", name="Reveal 2 masked").click()
    dialog = page.locator("[data-qm=confirm]")
    expect(dialog).to_contain_text("to.email, note")
    expect(dialog.locator("[data-qm=confirm-button]")).to_be_disabled()
    confirm(page, "ticket 4711: which address bounced")
    expect(tree).to_contain_text("canary@example.com")
    expect(tree).to_contain_text("4111 1111 1111 1111")
    expect(page.locator(".qm-activity")).to_contain_text("ticket 4711")
    (row,) = rig.sql("SELECT kind, target, reason, state, options FROM actions")
    assert row["options"] == {"keys": ["to.email", "note"]}
    assert (row["kind"], row["target"], row["state"]) == ("reveal", str(job), "done")

    rig.sql('UPDATE jobs SET payload = payload || \'{"pin": "canary-0815"}\'')
    expect(tree, "another secret was not asked for").to_contain_text("email:••••••")
    expect(details).not_to_contain_text("canary-0815")
    rig.sql("UPDATE jobs SET payload = payload - 'pin'")
    expect(tree).to_contain_text("canary@example.com")
    seek = details.get_by_label("Search the payload")
    seek.fill("canary@")
    expect(tree.get_by_role("treeitem")).to_have_text([re.compile("3 keys"), re.compile("to:"), re.compile("email:")])
    seek.press("Escape")
    expect(tree).to_contain_text("2026-13")
    details.get_by_role("button", name="Mask again").click()
    expect(tree).to_contain_text("email:••••••")
    details.get_by_role("button", name="Close the job").click()


def test_a_payload_is_edited_and_the_job_runs_again(page: Page, rig: Rig) -> None:
    (job,) = fail(rig, 1, month="2026-13", api_token="canary-4711", big=12345678901234567890)
    failed_jobs(page, 1)
    page.locator("tr.qm-job").click()
    page.get_by_label("More actions on this job").click()
    page.get_by_role("menuitem", name="Edit the payload and retry").click()
    form = page.locator("[data-qm=form]")
    box = form.get_by_label("Payload as JSON")
    expect(box).to_have_value(re.compile("2026-13"))
    assert "canary-4711" not in box.input_value()
    draft = box.input_value()
    box.fill(draft.replace("2026-13", '2026-12"'))
    expect(form).to_contain_text("Not valid JSON")
    expect(form.get_by_role("button", name="Review")).to_be_disabled()
    box.fill(draft.replace("2026-13", "2026-12"))
    form.get_by_role("button", name="Review").click()
    difference = page.get_by_role("region", name="Payload before and after")
    expect(difference.locator(".qm-minus")).to_contain_text("2026-13")
    expect(difference.locator(".qm-plus")).to_contain_text("2026-12")
    confirm(page, "there is no month 13")
    expect(page.locator("[data-qm=job-status]")).to_have_text("waiting")
    (row,) = rig.sql("SELECT payload, status, attempts FROM jobs WHERE id = :id", id=job)
    assert row["payload"] == {"month": "2026-12", "api_token": "canary-4711", "big": 12345678901234567890}
    assert (row["status"], row["attempts"]) == ("waiting", 0)
    expect(page.locator("[data-qm=dashboard]")).not_to_contain_text("canary-4711")
