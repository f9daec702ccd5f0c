"""Through the controls that no other story touches, on real stores: each does what it says; cancelled, nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from playwright.sync_api import Locator, Page, expect
from sqlalchemy import text

from tests.support.drift import Planter
from tests.support.engine import Rig
from tests.support.operator import MAIL, confirm, fail, failed_jobs, retry_slowly, said

#: Milliseconds for a run: a process, its checks, a kernel.
RUN = 120_000


def cancel(page: Page, title: str) -> None:
    """Look at a plan and leave it."""
    dialog = page.locator("[data-qm=confirm]")
    expect(dialog.locator("[data-qm=plan-title]")).to_have_text(title)
    dialog.get_by_role("button", name=re.compile("^(Cancel|Close)$")).click()
    expect(dialog).to_be_hidden()


def leave(page: Page) -> None:
    """Look at a form and leave it."""
    form = page.locator("[data-qm=form]")
    expect(form).to_be_visible()
    form.get_by_role("button", name="Cancel").click()
    expect(form).to_be_hidden()


def choose(page: Page, menu: str, item: str) -> None:
    """Choose from a menu."""
    page.get_by_label(menu, exact=True).click()
    page.get_by_role("menuitem", name=item).click()


def stuck(rig: Rig) -> UUID:
    """A job whose worker has been silent for long."""
    (job,) = fail(rig, 1, month="2026-11")
    rig.sql(
        "UPDATE jobs SET status = 'active', max_attempts = 3, worker_id = 'box-7', finished_at = NULL,"
        " error_type = NULL, started_at = now() - interval '9 minutes', heartbeat_at = now() - interval '5 minutes'"
        " WHERE id = :id",
        id=job,
    )
    return job


def scheduled(rig: Rig, number: int) -> None:
    """Jobs of the queue mail that are to run in an hour."""
    rig.sql(
        "INSERT INTO jobs (id, queue, payload, run_at)"
        " SELECT gen_random_uuid(), 'mail', '{}', now() + interval '1 hour' FROM generate_series(1, :n)",
        n=number,
    )


def attempted(rig: Rig, jobs: list[UUID], *, status: str = "failed") -> None:
    """One attempt of each of these jobs, a minute ago."""
    error = (
        ("ZeroDivisionError", "division by zero", "Traceback: mail.py line 7") if status == "failed" else (None,) * 3
    )
    rig.sql(
        "INSERT INTO job_logs (job_id, queue, attempt, gen, started_at, finished_at, status, error_type,"
        " error_message, stack_trace) SELECT id, queue, 1, gen, created_at, finished_at, :status, :type,"
        " :message, :trace FROM jobs WHERE id = ANY(:jobs)",
        jobs=jobs, status=status, type=error[0], message=error[1], trace=error[2],
    )  # fmt: skip


def everything(rig: Rig) -> list[tuple[object, ...]]:
    """All that an action could have changed."""
    return [tuple(row) for row in rig.sql("SELECT id, queue, status, gen, run_at FROM jobs ORDER BY id")]


def test_every_action_on_a_queue_shows_its_plan_and_leaves_all_as_it_was_when_cancelled(page: Page, rig: Rig) -> None:
    rig.sql("INSERT INTO job_queues (name) SELECT 'tenant-' || n FROM generate_series(1, 12) AS n")
    fail(rig, 3)
    stuck(rig)
    scheduled(rig, 2)
    rig.producer.enqueue_many("mail", [{"n": n} for n in range(4)])
    page.get_by_label("Find a queue").fill("MAI")
    expect(page.locator("[data-queue]")).to_have_count(1)
    row = page.locator("[data-queue=mail]")
    expect(row).to_contain_text("1 stuck")
    page.get_by_label("Refresh every").select_option("0")
    page.get_by_label("Refresh now").click()
    before = everything(rig)
    more = f"More actions on {MAIL}"
    choose(page, more, "Retry failed as a canary")
    form = page.locator("[data-qm=form]")
    form.get_by_label("Share that must complete").fill("80")
    form.get_by_label("Jobs per step").fill("1, 2")
    form.get_by_role("button", name="Review").click()
    cancel(page, "Retry 3 jobs as a canary?")
    choose(page, more, "Move failed to another queue")
    leave(page)
    choose(page, more, "Move waiting to another queue")
    form.get_by_role("radio", name="queue:reports").check()
    form.get_by_role("button", name="Review").click()
    cancel(page, "Move 4 jobs to queue:reports?")
    choose(page, more, "Run scheduled now")
    cancel(page, "Run 2 jobs now?")
    choose(page, more, "Rescue stuck")
    cancel(page, "Rescue 1 stuck job?")
    choose(page, more, "Erase failed for good")
    cancel(page, "Erase 3 jobs for good?")
    page.get_by_label(f"Retry failed of {MAIL}", exact=True).click()
    cancel(page, "Retry 3 jobs?")
    page.get_by_label(f"Priority of {MAIL}", exact=True).click()
    form.get_by_role("radio", name="high").check()
    form.get_by_role("button", name="Review").click()
    cancel(page, f"Set the priority of {MAIL} to high?")
    page.get_by_label(f"Workers of {MAIL}", exact=True).click()
    form.get_by_label("Worker processes").fill("3")
    form.get_by_role("button", name="Review").click()
    cancel(page, f"Scale {MAIL} to 3 workers?")
    page.get_by_label(f"Pause {MAIL}", exact=True).click()
    end = page.get_by_label("Another end of the pause")
    end.fill("45m")
    end.press("Tab")
    expect(page.locator("[data-qm=confirm]")).to_contain_text("until 20")
    cancel(page, f"Pause {MAIL}?")
    assert everything(rig) == before
    assert rig.sql("SELECT count(*) AS n FROM actions")[0]["n"] == 0
    page.get_by_label("Find a queue").fill("")
    page.get_by_role("button", name="Failed").first.click()
    expect(page.locator("[data-queue]").first).to_have_attribute("data-queue", "mail")


def test_the_list_is_turned_picked_from_and_renewed(page: Page, rig: Rig) -> None:
    jobs = fail(rig, 60, month="2026-11")
    failed_jobs(page, 50)
    page.get_by_label("Older jobs").click()
    expect(page.locator("tr.qm-job")).to_have_count(10)
    page.get_by_label("Newer jobs").click()
    expect(page.locator("tr.qm-job")).to_have_count(50)
    first = page.locator("tr.qm-job").first
    newest = first.get_attribute("data-job")
    page.get_by_label(f"Select job {newest}").check()
    page.get_by_role("button", name="Clear selection").click()
    page.get_by_label(f"Select job {newest}").check()
    page.get_by_role("button", name="Delete selected").click()
    cancel(page, "Delete 1 job?")
    rows = "More actions on the selection"
    choose(page, rows, "Move to another queue")
    leave(page)
    choose(page, rows, "Erase for good")
    cancel(page, "Erase 1 job for good?")
    page.get_by_role("button", name="Clear selection").click()
    rows = "More actions on all that match"
    choose(page, rows, "Retry as a canary")
    leave(page)
    choose(page, rows, "Delete…")
    cancel(page, "Delete 60 jobs?")
    (late,) = fail(rig, 1, month="2026-12")
    assert late > jobs[-1]
    page.get_by_role("button", name="List has changed").click()
    expect(first).to_have_attribute("data-job", str(late))
    box = page.get_by_label("Filter the jobs")
    box.fill("payload.month=2026-12")
    box.press("Enter")
    expect(page.locator("tr.qm-job")).to_have_count(1)
    page.get_by_label("Clear the filter").click()
    expect(page.locator("tr.qm-job")).to_have_count(50)
    scheduled(rig, 2)
    job = stuck(rig)
    page.locator("[data-tab=scheduled]").click()
    page.get_by_role("button", name="Run now all 2").click()
    cancel(page, "Run 2 jobs now?")
    page.locator("[data-tab=stuck]").click()
    page.get_by_role("button", name="Rescue all 1").click()
    cancel(page, "Rescue 1 stuck job?")
    choose(page, rows, "Delete stuck")
    cancel(page, "Delete 1 stuck job?")
    page.get_by_label(f"Open job {job}").click()
    page.get_by_role("button", name="Delete Stuck Job").click()
    cancel(page, "Delete 1 stuck job?")
    page.get_by_label("Close the job").click()
    page.get_by_role("button", name="24 h", exact=True).click()
    expect(page.get_by_role("button", name="24 h", exact=True)).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Close the details").click()
    expect(page.locator(".qm-details")).to_be_hidden()


@contextmanager
def held(rig: Rig, table: str) -> Iterator[None]:
    """Nobody reads the table meanwhile."""
    with rig.store.postgres.begin() as connection:
        connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


def copied(page: Page) -> str:
    """What lies on the clipboard."""
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_a_job_is_looked_at_from_all_sides_and_its_action_by_outcome(page: Page, rig: Rig) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    (job,) = fail(rig, 1, to={"region": "eu west"}, month="2026-11")
    attempted(rig, [job])
    failed_jobs(page, 1)
    page.get_by_label(f"Open job {job}").click()
    details = page.get_by_role("dialog", name="Job details")
    details.get_by_label("Copy the id").click()
    assert copied(page) == str(job)
    trace = details.get_by_text("Traceback: mail.py line 7")
    expect(trace).to_be_visible()
    details.get_by_role("button", name="Hide stack trace").click()
    expect(trace).to_be_hidden()
    tree = details.get_by_role("tree", name="Payload")
    details.get_by_role("button", name="Collapse all").click()
    expect(tree).not_to_contain_text("eu west")
    details.get_by_role("button", name="Expand all").click()
    details.get_by_label("Collapse to").click()
    expect(tree).not_to_contain_text("eu west")
    details.get_by_label("Expand to").click()
    expect(tree).to_contain_text("eu west")
    details.get_by_role("button", name="Copy", exact=True).click()
    assert "eu west" in copied(page)
    choose(page, "More actions on this job", "Move to another queue")
    leave(page)
    choose(page, "More actions on this job", "Erase for good")
    cancel(page, "Erase 1 job for good?")
    details.get_by_role("button", name="Delete Job").click()
    cancel(page, "Delete 1 job?")
    details.get_by_role("button", name="Retry Job").click()
    cancel(page, "Retry 1 job?")
    rig.sql("UPDATE jobs SET status = 'waiting', run_at = now() + interval '1 hour', finished_at = NULL, attempts = 0")
    details.get_by_role("button", name="Run Now").click()
    cancel(page, "Run 1 job now?")
    details.get_by_label("Close the job").click()

    rig.sql("DELETE FROM jobs")
    fail(rig, 130)
    expect(page.locator("[data-tab=failed]")).to_contain_text("130")
    page.get_by_label(f"Retry failed of {MAIL}", exact=True).click()
    confirm(page, "all of them")
    expect(said(page)).to_contain_text("Retried 130")
    said(page).get_by_role("button", name="Details").click()
    action = page.locator("[data-qm=action]")
    outcomes = action.locator("[data-outcome]")
    expect(outcomes.first).to_be_visible()
    shown = outcomes.count()
    action.get_by_label("More outcomes").click()
    expect(action).to_contain_text("page 2")
    action.get_by_label("Previous outcomes").click()
    expect(outcomes).to_have_count(shown)
    outcomes.first.get_by_label("Open job").click()
    details.get_by_label("Close the job").click()
    action.get_by_role("button", name="skipped").click()
    expect(outcomes).to_have_count(0)
    action.get_by_role("button", name="Undo…").click()
    confirm(page, "none of them")
    expect(said(page)).to_contain_text("130")
    action.get_by_label("Close the action").click()
    page.locator("[data-action=undo] .qm-link").click()
    action.get_by_role("button", name="an earlier action").click()
    expect(action).to_contain_text("all of them")
    action.get_by_label("Close the action").click()
    fold = page.locator(".qm-activity").get_by_role("button", name="Activity")
    fold.click()
    expect(page.locator("[data-action]")).to_have_count(0)
    fold.click()


def test_why_it_fails_is_asked_narrowed_down_and_put_away(page: Page, rig: Rig) -> None:
    attempted(rig, fail(rig, 40, month="2026-11"))
    well = fail(rig, 40, month="2026-12")
    rig.sql("UPDATE jobs SET status = 'completed', error_type = NULL WHERE id = ANY(:ids)", ids=well)
    rig.sql("UPDATE jobs SET started_at = created_at")
    attempted(rig, well, status="completed")
    rig.relay().sign()
    failed_jobs(page, 40)
    causes = page.locator("[data-qm=causes]")
    causes.get_by_role("button", name="Example of division by zero").click()
    page.get_by_label("Close the job").click()
    causes.get_by_role("button", name="Only these: division by zero").click()
    expect(page.get_by_label("Filter the jobs")).to_have_value(re.compile("signature"))
    answer = page.locator("[data-qm=contrast]")
    causes.get_by_role("button", name="What do they share: division by zero").click()
    finding = answer.locator("[data-finding='1']")
    expect(finding).to_contain_text("2026-11")
    answer.get_by_role("button", name=re.compile("^Only these: ")).first.click()
    expect(page.get_by_label("Filter the jobs")).to_have_value(re.compile("2026-11"))
    expect(page.locator("tr.qm-job")).to_have_count(40)
    answer.get_by_label("Put the answer away").click()
    expect(answer).to_be_hidden()
    with held(rig, "job_logs"):
        causes.get_by_role("button", name="What do they share?", exact=True).click()
        answer.get_by_role("button", name="Stop").click()
        expect(answer).to_be_hidden()
    with held(rig, "jobs"):
        page.get_by_label("Export the jobs that match").first.click()
        page.get_by_role("menuitem", name="JSON").click()
        page.locator("[data-qm=export]").get_by_role("button", name="Stop").click()
    page.locator("[data-qm=export]").get_by_label("Close the export").click()
    causes.get_by_role("button", name="What do they share?", exact=True).click()
    expect(finding).to_contain_text("2026-11")
    answer.get_by_label("Put the answer away").click()


def test_alerts_runbooks_and_drift_lead_on(page: Page, rig: Rig) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    stuck(rig)
    bell = page.locator("[data-qm=bell]")
    expect(bell).to_contain_text("pending")
    bell.click()
    alerts = page.get_by_role("dialog", name="Alerts", exact=True)
    alerts.get_by_label("Copy the command for QueuemonStuckJobs").first.click()
    assert "rescue-stuck" in copied(page)
    alerts.get_by_label("Close the alerts").click()
    bell.click()
    alerts.get_by_label("Open the runbook of QueuemonStuckJobs").first.click()
    runbook = page.locator("[data-qm=runbook]")
    expect(runbook).to_contain_text("Take stuck jobs from workers that are gone")
    expect(runbook.get_by_label("queue", exact=True)).to_have_value("mail")
    runbook.get_by_label("queue", exact=True).select_option("reports")
    runbook.get_by_role("radio", name="For real").click()
    expect(page.locator("[data-qm=run-button]")).to_have_text("Run for real")
    runbook.get_by_role("button", name="Cancel").click()
    panel = page.locator(".qm-runbooks")
    panel.get_by_role("button", name="Runbooks").click()
    panel.get_by_label("Open the runbook clear-failed").click()
    runbook.get_by_label("Close the runbook").click()
    (job,) = fail(rig, 1)
    panel.get_by_label("Open the runbook clear-failed").click()
    runbook.get_by_label("queue", exact=True).select_option("mail")
    runbook.get_by_label("reason", exact=True).fill("sent by hand")
    runbook.get_by_role("radio", name="For real").click()
    page.locator("[data-qm=run-button]").click()
    runbook.get_by_role("button", name="done, details").click(timeout=RUN)
    action = page.locator("[data-qm=action]")
    expect(action).to_contain_text("sent by hand")
    action.get_by_label("Close the action").click()
    runbook.get_by_label("Close the runbook").click()
    assert rig.sql("SELECT id FROM jobs WHERE id = :id", id=job) == []
    (lost,) = Planter(rig.store, "mail", "reports").rows(1)
    drift = page.locator(".qm-drift")
    drift.get_by_role("button", name="Look closely", exact=True).click()
    drift.get_by_role("button", name="Stop").click()
    expect(drift).to_contain_text("It was stopped before its end")
    choose(page, "More ways to look for drift", "Look closely, and compare payloads")
    one: Locator = drift.get_by_role("button", name=re.compile("^Repair: ")).first
    one.click()
    cancel(page, "Repair 1 finding?")
    drift.get_by_label(re.compile("^Show where: lost")).click()
    drift.get_by_label(f"Open job {lost}").click()
    page.get_by_label("Close the job").click()
    fold = drift.get_by_role("button", name="Drift", exact=True)
    fold.click()
    expect(drift.locator(".qm-drift-body")).to_have_count(0)
    fail(rig, 1)
    retry = page.get_by_label(f"Retry failed of {MAIL}", exact=True)
    expect(retry).to_be_enabled()
    rig.sql("ALTER TABLE jobs RENAME TO elsewhere")
    retry.click()
    problem = page.locator(".qm-problem").first
    problem.get_by_label("Copy the error").click()
    assert "does not exist" in copied(page)
    problem.get_by_label("Dismiss the error").click()
    rig.sql("ALTER TABLE elsewhere RENAME TO jobs")


def test_what_was_stopped_or_broke_off_goes_on_from_wherever_it_is_offered(page: Page, rig: Rig) -> None:
    fail(rig, 60)
    failed_jobs(page, 50)
    dialog = retry_slowly(page, 60, "carefully")
    dialog.get_by_role("button", name="Stop", exact=True).click()
    expect(said(page)).to_contain_text("Stopped on request")
    said(page).get_by_role("button", name="Resume").click()
    cancel(page, "Resume: retry of 60 jobs?")
    page.get_by_label(re.compile("^Resume the retry of ")).click()
    cancel(page, "Resume: retry of 60 jobs?")
    # Its process has died, and that of another.
    rig.sql(
        "UPDATE queuemon.actions SET state = 'running', finished_at = NULL, updated_at = now() - interval '1 minute'"
    )
    rig.sql(
        "INSERT INTO queuemon.actions (id, kind, target, options, cutoff, planned, done, skipped, gone, state, reason,"
        " actor, summary, before, started_at, updated_at) SELECT gen_random_uuid(), kind, target, options, cutoff,"
        " planned, done, skipped, gone, state, reason, actor, summary, before, started_at, updated_at"
        " FROM queuemon.actions"
    )
    notes = page.locator("[data-qm=interrupted]")
    expect(notes.first).to_be_visible()
    page.get_by_role("button", name=re.compile("^Show all 2")).click()
    expect(notes).to_have_count(2)
    notes.first.get_by_role("button", name="Details").click()
    action = page.locator("[data-qm=action]")
    expect(action.locator("[data-qm=action-state]")).to_have_text("interrupted")
    action.get_by_label("Close the action").click()
    notes.first.get_by_role("button", name="Resume").click()
    cancel(page, "Resume: retry of 60 jobs?")
