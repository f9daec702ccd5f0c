"""What an operator does to a whole queue, to stuck jobs and to what lies in quarantine, with real stores behind it."""

from __future__ import annotations

import json
import threading

from playwright.sync_api import Page, expect

from queuemon.engine.handlers import JobInHand
from queuemon.engine.ids import uuid7
from queuemon.engine.publisher import publish
from tests.support.engine import Rig
from tests.support.operator import MAIL, confirm, fail, failed_jobs, said
from tests.support.wait import wait_until

PARKED = "queuemon:parked:mail"


def menu(page: Page, item: str) -> None:
    """Choose from the further actions of the queue mail."""
    page.get_by_label(f"More actions on {MAIL}", exact=True).click()
    page.get_by_role("menuitem", name=item).click()


def test_a_hard_pause_says_what_it_cannot_stop_parks_the_list_and_gives_it_back(page: Page, rig: Rig) -> None:
    rig.producer.enqueue_many("mail", [{"n": n} for n in range(4)])
    publish(rig.store)
    begun, may_end = threading.Event(), threading.Event()

    def slow(job: JobInHand) -> None:
        begun.set()
        may_end.wait(60)

    row = page.locator("[data-queue=mail]")
    with rig.worker(slow):
        assert begun.wait(20)
        before = rig.listed("mail")
        page.get_by_label(f"Pause {MAIL}", exact=True).click()
        dialog = page.locator("[data-qm=confirm]")
        dialog.get_by_text("Advanced", exact=True).click()
        box = dialog.get_by_label("Hard pause")
        at = box.bounding_box()
        box.check()
        expect(dialog).to_contain_text("it cannot stop what workers have popped already")
        assert box.bounding_box() == at
        confirm(page, "the workers ignore the flag")
        expect(said(page)).to_contain_text("Paused")
        expect(row).to_contain_text("hard pause")
        wait_until(lambda: rig.redis.exists(rig.keys.queue_key("mail")) == 0, message="the list is out of reach")
        assert rig.redis.llen(PARKED) == len(before) == 3
        page.get_by_label(f"View details of {MAIL}", exact=True).click()
        holder = page.locator("[data-qm=holders]")
        expect(holder).to_contain_text("hard: the list is parked (3 elements)")
        expect(holder).to_contain_text("the workers ignore the flag")
        expect(row.locator("[data-cell=waiting]")).to_have_text("3")
        may_end.set()  # what ran already runs to its end
        rig.until("completed", 1)
        assert rig.count("waiting") == 3
        page.get_by_label(f"Resume {MAIL}", exact=True).click()
        expect(page.locator("[data-qm=confirm]")).to_contain_text("its parked list is given back")
        confirm(page, "they are replaced")
        expect(row).to_have_attribute("data-paused", "false")
        expect(holder).to_be_hidden()
        rig.until("completed", 4)
    assert rig.redis.exists(PARKED) == 0


def test_failed_jobs_are_moved_to_another_queue(page: Page, rig: Rig) -> None:
    jobs = fail(rig, 3)
    menu(page, "Move failed to another queue")
    form = page.locator("[data-qm=form]")
    expect(form.get_by_role("button", name="Review")).to_be_disabled()
    expect(form.get_by_role("radio", name=MAIL, exact=True)).to_have_count(0)
    form.get_by_role("radio", name="queue:reports").check()
    form.get_by_role("button", name="Review").click()
    expect(page.locator("[data-qm=plan-title]")).to_have_text("Move 3 jobs to queue:reports?")
    confirm(page, "mail is being repaired")
    expect(said(page)).to_contain_text("Moved 3")
    expect(page.locator("[data-queue=mail] [data-cell=failed]")).to_have_text("0")
    assert {rig.job(job)["queue"] for job in jobs} == {"reports"}


def test_what_waits_is_purged_only_for_the_typed_count_and_comes_back_from_the_activity(page: Page, rig: Rig) -> None:
    rig.producer.enqueue_many("mail", [{"n": n} for n in range(12)])
    expect(page.locator("[data-queue=mail] [data-cell=waiting]")).to_have_text("12")
    menu(page, "Purge waiting")
    dialog = page.locator("[data-qm=confirm]")
    expect(page.locator("[data-qm=plan-title]")).to_have_text("Purge 12 jobs that wait?")
    dialog.get_by_label("Reason").fill("sent by hand")
    dialog.get_by_label("Typed count").fill("11")
    expect(dialog.locator("[data-qm=confirm-button]")).to_be_disabled()
    confirm(page, "sent by hand", typed="12")
    expect(said(page)).to_contain_text("12")
    wait_until(lambda: rig.count("waiting") == 0, message="nothing waits")
    page.get_by_label("Close the message").click()
    line = page.locator("[data-action=purge]")
    line.get_by_role("button", name="Undo the purge").click()
    expect(page.locator("[data-qm=plan-title]")).to_contain_text("Undo")
    confirm(page, "they were not sent")
    wait_until(lambda: rig.count("waiting") == 12, message="they wait again")
    expect(line).to_contain_text("undone")


def test_failed_jobs_are_erased_for_good_and_no_undo_is_offered(page: Page, rig: Rig) -> None:
    fail(rig, 2, email="canary@example.org")
    failed_jobs(page, 2)
    page.get_by_role("checkbox", name="Select all jobs of this page").check()
    page.get_by_label("More actions on the selection").click()
    page.get_by_role("menuitem", name="Erase for good").click()
    dialog = page.locator("[data-qm=confirm]")
    expect(page.locator("[data-qm=plan-title]")).to_have_text("Erase 2 jobs for good?")
    expect(dialog).to_contain_text("cannot be undone")
    confirm(page, "asked for by the customer", typed="2")
    expect(said(page)).to_contain_text("Erased 2")
    expect(page.locator(".qm-toast-undo")).to_have_count(0)
    expect(page.locator("[data-action=erase]").get_by_role("button", name="Undo")).to_have_count(0)
    assert rig.sql("SELECT count(*) AS n FROM jobs")[0]["n"] == 0
    expect(page.locator(".qm-details")).to_contain_text("No failed jobs in this queue.")


def test_a_stuck_job_is_deleted_and_its_late_worker_is_named(page: Page, rig: Rig) -> None:
    (job,) = fail(rig, 1)
    rig.sql(
        "UPDATE jobs SET status = 'active', max_attempts = 3, worker_id = 'box-7', finished_at = NULL,"
        " error_type = NULL, started_at = now() - interval '9 minutes', heartbeat_at = now() - interval '5 minutes'"
        " WHERE id = :id",
        id=job,
    )
    expect(page.locator("[data-queue=mail]")).to_contain_text("1 stuck")
    menu(page, "Delete stuck")
    expect(page.locator("[data-qm=plan-title]")).to_have_text("Delete 1 stuck job?")
    confirm(page, "it can only hang", typed="1")
    wait_until(lambda: rig.sql("SELECT count(*) AS n FROM jobs")[0]["n"] == 0, message="it is deleted")
    expect(page.locator("[data-queue=mail]")).not_to_contain_text("stuck")


def test_an_element_in_quarantine_is_adopted_as_a_job(page: Page, rig: Rig) -> None:
    name = str(uuid7())
    rig.redis.rpush(rig.keys.queue_key("mail"), json.dumps({"id": name, "payload": {"n": 1}}))
    panel = page.locator(".qm-drift")
    expect(panel.locator("[data-qm=drift-state]")).to_contain_text("The stores disagree")
    panel.get_by_role("button", name="Look closely", exact=True).click()
    panel.get_by_role("button", name="Repair…", exact=True).click()
    confirm(page, "another program pushed it")
    aside = panel.locator("[data-quarantine]")
    expect(aside).to_contain_text(f"names the job {name}")
    panel.get_by_role("button", name="Adopt").click()
    expect(page.locator("[data-qm=plan-title]")).to_have_text("Make jobs of 1 quarantined element?")
    confirm(page, "it is a job of ours")
    expect(aside).to_have_count(0)
    wait_until(lambda: rig.count("waiting") == 1, message="it is a job now")
    assert str(rig.sql("SELECT id FROM jobs")[0]["id"]) == name


def test_the_failed_jobs_of_one_queue_are_cleared_and_nobody_elses(page: Page, rig: Rig) -> None:
    ids = fail(rig, 3)
    (other,) = fail(rig, 1)
    rig.sql("UPDATE jobs SET queue = 'bulk', error_message = 'the mail bounced' WHERE id = :id", id=other)
    page.get_by_label(f"Clear failed of {MAIL}", exact=True).click()
    expect(page.locator("[data-qm=plan-title]")).to_have_text("Clear 3 jobs that stand failed?")
    expect(confirm(page, "superseded", typed="3")).to_be_hidden()
    expect(said(page)).to_contain_text("Cleared 3 jobs.")
    assert rig.sql("SELECT id FROM jobs WHERE id = ANY(:ids)", ids=ids) == []
    assert rig.job(other).status == "failed"
