"""How the dashboard behaves in a real Chromium, in JupyterLab and Voilà, over made-up values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support import jupyter
from tests.support.jupyter import Server, Watched
from tests.support.operator import notebook
from tests.support.wait import wait_until

SETUP = """
from tests.support import fake_workbench as fake
import queuemon
wb = fake.FakeWorkbench()
"""

MRR = "queue:analytics:daily-aggregate"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A JupyterLab for all tests of this file."""
    folder = tmp_path_factory.mktemp("lab")
    with jupyter.lab(folder, tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture
def dashboard(lab: Server, open_page: Callable[..., Watched]) -> Iterator[Callable[..., Watched]]:
    """Opens a notebook that shows the dashboard of a fake Workbench; `setup` may change the values first."""

    def open_one(setup: str = "", **arguments: Any) -> Watched:
        name = notebook(lab.root, SETUP + setup, "queuemon.show(wb)")
        watched = open_page(**arguments)
        watched.page.goto(lab.lab_url(name))
        jupyter.run_all(watched.page)
        watched.page.wait_for_selector("[data-qm=dashboard] [data-queue]", timeout=60_000)
        return watched

    yield open_one
    lab.forget_kernels()


def cell(page: Page, queue: str, name: str) -> str:
    """A number of the queue table as it is printed."""
    return page.locator(f"[data-queue='{queue}'] [data-cell={name}]").inner_text()


def refreshed(page: Page, lab: Server) -> None:
    """Wait for two more refreshes."""
    before = int(lab.run("print(wb.snapshots)"))
    wait_until(lambda: int(lab.run("print(wb.snapshots)")) >= before + 2, timeout=20, interval=0.3)
    page.wait_for_timeout(200)


def test_the_five_queues_show_their_six_columns_and_the_numbers_move(dashboard: Any, lab: Server) -> None:
    watched = dashboard()
    page: Page = watched.page
    head = page.locator(".qm-queue-table thead th").all_inner_texts()
    assert head == ["Queue Name", "Active Jobs", "Waiting", "Completed (last hour)", "Failed", "Actions"]
    assert page.locator("[data-queue]").count() == 5
    assert page.locator("[data-queue='email-sending'] code").inner_text() == "queue:email-sending"
    assert cell(page, "email-sending", "waiting") == "5,000"
    for queue, word in (
        ("email-sending:high", "healthy"),
        ("warmup:process", "warning"),
        ("email-sending", "critical"),
    ):
        row = page.locator(f"[data-queue='{queue}']")
        expect(row).to_have_attribute("data-health", word)
        expect(row.locator(".qm-chip").first).to_have_text(word)
        expect(row.locator(".qm-chip .mdi").first).to_be_visible()
    expect(page.get_by_text("embedded demo — nothing configured")).to_be_visible()
    expect(page.get_by_title("Profile", exact=True)).to_have_css("background-color", "rgb(37, 99, 201)")
    page.get_by_label("Refresh every").select_option("1")
    before = cell(page, "email-sending", "done")
    wait_until(lambda: cell(page, "email-sending", "done") != before, timeout=15, message="the numbers move")
    assert watched.outside == []
    assert watched.errors == []


#: Half a minute passes from one refresh to the next; one backlog grows meanwhile, and one shrinks.
MOVING = """
from dataclasses import replace
from datetime import timedelta
from queuemon.config import Settings
wb = fake.FakeWorkbench(Settings(profile="staging", colour="amber", embedded=True))
taken, start = wb.snapshot, fake.utc()
def moving():
    now = taken()
    waiting = {"email-sending": 5_000 + 500 * wb.snapshots, "analytics:daily-aggregate": 9_000 - 300 * wb.snapshots}
    queues = tuple(replace(q, waiting=max(0, waiting.get(q.name, q.waiting))) for q in now.queues)
    clock = start + timedelta(seconds=30 * wb.snapshots)
    return replace(now, postgres=replace(now.postgres, queues=queues, clock=clock))
wb.snapshot = moving
"""


def test_each_row_has_the_trail_of_its_backlog_and_says_how_fast_it_grows_or_when_it_clears(dashboard: Any) -> None:
    page: Page = dashboard(MOVING, width=1600).page
    page.get_by_label("Refresh every").select_option("1")
    grows, clears = page.locator("[data-queue=email-sending]"), page.locator(f"[data-queue='{MRR[6:]}']")
    expect(grows.locator("[data-qm=pace]")).to_have_text("backlog grows 1,000/min", timeout=20_000)
    expect(clears.locator("[data-qm=pace]")).to_have_text(re.compile(r"^backlog clears in \d+ (min|s)$"))
    at_most = re.compile("^Waiting over the last .* as this page saw it; at most [0-9,]+$")

    def heights(row: Locator) -> list[float]:
        """Of the trail, the oldest first; counted from above, where 1 is the most that waited."""
        points = row.get_by_role("img", name=at_most).locator("polyline").get_attribute("points")
        assert points is not None
        return [float(point.split(",")[1]) for point in points.split()]

    wait_until(lambda: heights(clears)[-1] > heights(clears)[0] == 1, message="the trail shows that it shrinks")
    wait_until(lambda: heights(grows)[0] > heights(grows)[-1] == 1, message="the trail shows that it grows")
    badge = page.get_by_title("Profile", exact=True)
    expect(badge).to_have_text("staging")
    expect(badge).to_have_css("background-color", "rgb(168, 108, 0)")


def test_a_refresh_takes_nothing_away_from_the_person(dashboard: Any, lab: Server) -> None:
    page: Page = dashboard().page
    page.get_by_label("Refresh every").select_option("1")
    page.get_by_role("button", name="Waiting").click()
    order = page.locator("[data-queue]").evaluate_all("rows => rows.map(r => r.dataset.queue)")
    assert order[0] == "email-sending"
    page.get_by_label(f"View details of {MRR}").click()
    page.locator("[data-tab=failed]").click()
    expect(page.locator("tr.qm-job")).to_have_count(12)
    jobs = page.locator("tr.qm-job").evaluate_all("rows => rows.map(r => r.dataset.job)")
    page.locator("tr.qm-job input").nth(1).check()
    page.locator("tr.qm-job input").nth(3).check()
    box = page.get_by_label("Filter the jobs")
    box.fill("error:Divi")
    box.press("End")
    page.locator("tr.qm-job").first.evaluate("row => { row.dataset.mark = 'same'; }")
    scroll = page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop")

    refreshed(page, lab)

    assert page.locator("[data-queue]").evaluate_all("rows => rows.map(r => r.dataset.queue)") == order
    assert box.input_value() == "error:Divi"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Filter the jobs"
    assert page.locator("tr.qm-job").evaluate_all("rows => rows.map(r => r.dataset.job)") == jobs
    assert page.locator("tr.qm-job input:checked").count() == 2
    assert page.locator("tr.qm-job").first.get_attribute("data-mark") == "same"
    assert page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop") == scroll

    page.get_by_label(f"Open job {jobs[0]}").click()
    page.get_by_role("button", name="Delete Job").click()
    page.get_by_label("Reason").fill("half a sen")
    page.get_by_label("Typed count").fill("1")
    refreshed(page, lab)
    assert page.get_by_label("Reason").input_value() == "half a sen"
    assert page.get_by_label("Typed count").input_value() == "1"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Typed count"


def test_from_a_queue_to_a_job_to_its_retry(dashboard: Any, lab: Server) -> None:
    watched = dashboard()
    page: Page = watched.page
    page.get_by_label(f"View details of {MRR}").click()
    page.wait_for_selector(".qm-charts .js-plotly-plot .main-svg", timeout=60_000)
    page.locator("[data-tab=failed]").click()
    expect(page.locator("tr.qm-job")).to_have_count(12)
    page.locator("tr.qm-job").first.click()
    job = page.get_by_role("dialog", name="Job details")
    expect(job).to_contain_text("Division by zero in MRR calculation")
    expect(job).to_contain_text("monthly_recurring_revenue")
    expect(job.get_by_role("tree")).to_contain_text("customer_segment")
    expect(job).not_to_contain_text("canary-4711")
    job.get_by_role("button", name="Collapse filters").click()
    expect(job.get_by_role("tree")).not_to_contain_text("min_seats")
    job.get_by_role("button", name="Retry Job").click()
    page.locator("[data-qm=confirm]").get_by_label("Reason").fill("fixed by #812")
    page.locator("[data-qm=confirm-button]").click()
    expect(page.locator(".qm-toast")).to_contain_text("Retry: 1 of 1.")
    expect(page.locator("[data-qm=job-status]")).to_have_text("waiting")
    expect(job.get_by_role("button", name="Retry Job")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(job).to_be_hidden()
    expect(page.locator("tr.qm-job")).to_have_count(11)
    expect(page.locator("[data-action=retry]")).to_contain_text("fixed by #812")
    assert json.loads(lab.run("import json; print(json.dumps([r for _, r in wb.applied]))")) == ["fixed by #812"]
    assert watched.errors == []


def test_the_cards_say_why_and_lead_to_the_jobs(dashboard: Any, lab: Server) -> None:
    watched = dashboard("import threading\nwb.gates['explain'] = threading.Event()\n")
    page: Page = watched.page
    page.get_by_label(f"View details of {MRR}").click()
    causes, contrast = page.locator("[data-qm=causes]"), page.locator("[data-qm=contrast]")
    expect(causes.locator("[data-cause]")).to_contain_text("Division by zero in MRR calculation", timeout=30_000)
    expect(causes).to_contain_text("36 failed attempts")
    expect(causes).to_contain_text("new since deploy analytics 2026.47.0")
    expect(page.locator("[data-qm=onset]")).to_contain_text("1 min after deploy analytics 2026.47.0.")
    expect(page.locator("[data-qm=forecast]")).to_contain_text("Never with 2 workers")
    box, matching = page.get_by_label("Filter the jobs"), page.get_by_role("button", name="Retry all 12 matching")

    causes.get_by_role("button", name="Only these: Division by zero").click()
    expect(box).to_have_value("signature:000000000001")
    expect(page.locator("[data-tab=failed]")).to_have_attribute("aria-selected", "true")
    expect(matching).to_be_in_viewport()
    causes.get_by_role("button", name="Example of Division by zero").click()
    expect(page.get_by_role("dialog", name="Job details")).to_contain_text("ZeroDivisionError")
    page.get_by_role("button", name="Close the job").click()

    causes.get_by_role("button", name="What do they share: Division by zero").click()
    expect(contrast.get_by_role("status")).to_contain_text("Comparing")
    contrast.get_by_role("button", name="Stop").click()
    expect(contrast).to_be_hidden()
    lab.run("wb.gates.pop('explain').set()")
    causes.get_by_role("button", name="What do they share?", exact=True).click()
    expect(contrast.locator("[data-finding='1']")).to_contain_text("payload.active_subscriptions=0", timeout=10_000)
    expect(contrast).to_contain_text("One condition explains 100 % of the 12 failing jobs.")
    expect(contrast).to_contain_text("10 % were drawn")
    contrast.get_by_role("button", name="Only these: payload.active_subscriptions=0").click()
    expect(box).to_have_value("payload.active_subscriptions=0")
    lab.run("wb.condition = ''")
    causes.get_by_role("button", name="What do they share?", exact=True).click()
    expect(contrast).to_contain_text("Nothing separates the 12 failing jobs")

    page.get_by_role("button", name="15 min", exact=True).click()
    expect(page.locator(".qm-charts")).to_have_attribute("aria-label", re.compile("over the last 15 min"))
    wait_until(lambda: "per 30 s" in page.locator(".qm-charts").inner_text(), timeout=20, message="the other window")
    lab.run("from queuemon.errors import StoreTimeout; wb.failing['failures'] = StoreTimeout('too slow', store='x')")
    page.get_by_role("button", name="24 h", exact=True).click()
    expect(causes).to_contain_text("too slow.", timeout=20_000)
    expect(causes.locator("[data-cause]")).to_contain_text("Division by zero")
    assert watched.errors == []


def test_escape_closes_what_is_open_wherever_in_it_the_hand_was(dashboard: Any) -> None:
    page: Page = dashboard().page
    page.get_by_label(f"View details of {MRR}").click()
    page.locator("tr.qm-job").first.click()
    job = page.get_by_role("dialog", name="Job details")
    # Neither text takes the focus: it goes to the frame around the dialog.
    job.get_by_role("heading", name="Job details").click()
    page.keyboard.press("Escape")
    expect(job).to_be_hidden()
    page.get_by_label(f"Clear failed of {MRR}").click()
    title = page.locator("[data-qm=confirm] [data-qm=plan-title]")
    title.click()
    page.keyboard.press("Escape")
    expect(title).to_be_hidden()


@pytest.mark.parametrize("place", ["page", "dialog"])
def test_escape_closes_a_dialog_in_the_very_moment_in_which_it_opens(dashboard: Any, place: str) -> None:
    page: Page = dashboard().page
    page.get_by_label(f"View details of {MRR}").click()
    page.locator("tr.qm-job").first.wait_for()
    page.evaluate(
        """(place) => {
          new MutationObserver((_, observer) => {
            const dialog = document.querySelector('.v-overlay--active [role=dialog]');
            if (!dialog) return;
            observer.disconnect();
            const escape = new KeyboardEvent('keydown', { key: 'Escape', bubbles: true });
            (place === 'dialog' ? dialog : document.body).dispatchEvent(escape);
            window.pressed = true;
          }).observe(document.body, { subtree: true, childList: true, attributes: true });
        }""",
        place,
    )
    page.locator("tr.qm-job").first.click()
    page.wait_for_function("window.pressed")
    expect(page.get_by_role("dialog", name="Job details")).to_be_hidden()


def test_what_destroys_asks_for_the_count_and_a_reason(dashboard: Any) -> None:
    page: Page = dashboard().page
    page.get_by_label(f"Clear failed of {MRR}").click()
    confirm = page.locator("[data-qm=confirm]")
    expect(confirm.locator("[data-qm=plan-title]")).to_have_text("Clear 12 jobs that stand failed?")
    button = page.locator("[data-qm=confirm-button]")
    expect(button).to_be_disabled()
    confirm.get_by_label("Reason").fill("superseded")
    expect(button).to_be_disabled()
    confirm.get_by_label("Typed count").fill("11")
    expect(button).to_be_disabled()
    confirm.get_by_label("Typed count").fill("12")
    expect(button).to_be_enabled()
    page.keyboard.press("Escape")
    expect(confirm).to_be_hidden()
    assert cell(page, "analytics:daily-aggregate", "failed") == "12"


def test_pause_priority_and_workers_go_through_their_plan(dashboard: Any, lab: Server) -> None:
    page: Page = dashboard().page
    low, button = "queue:email-sending:low", page.locator("[data-qm=confirm-button]")
    page.get_by_label(f"Pause {low}").click()
    expect(page.locator("[data-qm=plan-title]")).to_have_text(f"Pause {low}?")
    page.get_by_label("Reason").fill("Black Friday")
    button.click()
    expect(page.locator("[data-queue='email-sending:low']")).to_have_attribute("data-paused", "true")
    expect(page.get_by_label(f"Resume {low}")).to_be_visible()

    page.get_by_label("Workers of queue:email-sending", exact=True).click()
    page.get_by_label("Worker processes").fill("16")
    page.get_by_role("button", name="Review").click()
    expect(page.locator("[data-qm=plan-title]")).to_have_text("Scale queue:email-sending to 16 workers?")
    button.click()
    expect(page.locator("[data-queue='email-sending']")).to_contain_text("8/16")

    page.get_by_label("Priority of queue:email-sending", exact=True).click()
    page.get_by_role("radio", name="High", exact=True).check()
    page.get_by_role("button", name="Review").click()
    button.click()
    expect(page.locator("[data-queue='email-sending'] .qm-tags")).to_contain_text("high")
    kinds = lab.run("print([p.kind.value for p, _ in wb.applied])").strip()
    assert kinds == "['pause', 'scale', 'prioritise']"


def test_a_click_is_answered_while_a_cell_runs(dashboard: Any, lab: Server) -> None:
    page: Page = dashboard().page
    page.wait_for_timeout(1_000)  # JupyterLab asks for its subshell when the first widget opens
    lab.run(
        "import threading; answered = threading.Event(); plan = wb.plan\n"
        "def planned(*a, **k):\n    answered.set(); return plan(*a, **k)\n"
        "wb.plan = planned"
    )
    with lab.busy_with("assert answered.wait(60), 'the click waited for the cell'"):
        page.get_by_label("Pause queue:email-sending:low").click()
        expect(page.locator("[data-qm=plan-title]")).to_have_text("Pause queue:email-sending:low?", timeout=40_000)


def test_a_store_that_is_away_greys_the_values_and_says_why(dashboard: Any, lab: Server) -> None:
    watched = dashboard()
    page: Page = watched.page
    page.get_by_label("Refresh every").select_option("1")
    lab.run(
        "from queuemon.model import HalfError; wb.postgres_error = HalfError(message='PostgreSQL is away.', kind='X')"
    )
    expect(page.get_by_text("PostgreSQL is away.")).to_be_visible(timeout=10_000)
    expect(page.locator(".qm-queues")).to_have_class(re.compile("qm-stale"))
    assert cell(page, "email-sending", "waiting") == "5,000"
    expect(page.locator("[data-qm=age]")).to_have_class(re.compile("qm-amber"), timeout=10_000)
    lab.run("wb.postgres_error = None; wb.redis_error = HalfError(message='Redis is away.', kind='X')")
    expect(page.get_by_text("Redis is away.")).to_be_visible(timeout=10_000)
    expect(page.locator(".qm-queues")).not_to_have_class(re.compile("qm-stale"))
    expect(page.locator("[data-qm=age]")).not_to_have_class(re.compile("qm-amber"))
    lab.run("wb.redis_error = None")
    expect(page.get_by_text("Redis is away.")).to_be_hidden(timeout=10_000)


def scrolled(page: Page) -> float:
    """How far the notebook is scrolled."""
    return float(page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop"))


def in_view(page: Page, wanted: Locator) -> bool:
    """Whether the whole of it can be seen without scrolling."""
    box, size = wanted.bounding_box(), page.viewport_size
    return bool(box and size and box["y"] >= 0 and box["y"] + box["height"] <= size["height"])


def test_a_failed_click_is_answered_in_view_moves_nothing_and_is_marked_when_the_store_answers_again(
    dashboard: Any, lab: Server
) -> None:
    page: Page = dashboard(width=900, height=700).page
    page.get_by_label("Refresh every").select_option("1")
    page.get_by_label(f"View details of {MRR}").click()
    page.locator("tr.qm-job").first.wait_for()
    page.wait_for_selector(".qm-charts .main-svg", timeout=60_000)
    page.locator("[data-tab=failed]").click()
    expect(page.locator("tr.qm-job")).to_have_count(12)
    page.locator("tr.qm-job input").last.check()
    lab.run(
        "from queuemon.errors import StoreUnavailable\nplan = wb.plan\n"
        "def away(*a, **k): raise StoreUnavailable('PostgreSQL <b>is away</b>', store='postgresql')\nwb.plan = away"
    )
    button = page.get_by_role("button", name="Retry selected")
    button.scroll_into_view_if_needed()
    before, at = button.bounding_box(), scrolled(page)
    assert at > 100
    button.click()
    problem = page.locator(".qm-problem")
    expect(problem).to_contain_text("Planning failed")
    expect(problem).to_contain_text("PostgreSQL <b>is away</b>")
    assert in_view(page, problem)
    assert (button.bounding_box(), scrolled(page)) == (before, at)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    problem.get_by_label("Copy the error").click()
    wait_until(lambda: "<b>is away</b>" in page.evaluate("navigator.clipboard.readText()"), message="it is copied")
    expect(problem).to_contain_text("PostgreSQL answers again")
    lab.run("wb.plan = plan")
    button.click()
    expect(page.locator("[data-qm=plan-title]")).to_have_text("Retry 1 job?")
    # The dialog keeps the focus in itself, except for what is said over it.
    problem.get_by_label("Dismiss the error").focus()
    page.keyboard.press("Enter")
    expect(problem).to_be_hidden()


def test_a_refresh_that_works_again_takes_its_problem_off_the_screen(dashboard: Any, lab: Server) -> None:
    page: Page = dashboard().page
    page.get_by_label("Refresh every").select_option("1")
    lab.run("actions = wb.actions\ndef broken(**k): raise RuntimeError('<b>kaputt</b>')\nwb.actions = broken")
    problem = page.locator(".qm-problem")
    expect(problem).to_contain_text("RuntimeError: <b>kaputt</b>", timeout=10_000)
    lab.run("wb.actions = actions")
    expect(problem).to_be_hidden(timeout=10_000)


def test_times_are_utc_and_say_so_with_the_readers_own_beside_them(dashboard: Any) -> None:
    page: Page = dashboard(timezone="Asia/Kathmandu").page
    page.get_by_label(f"View details of {MRR}").click()
    page.locator("[data-tab=failed]").click()
    created = page.locator("tr.qm-job").first.locator("td[title*=UTC]")
    tip = created.get_attribute("title") or ""
    utc, here = tip.splitlines()
    assert utc.endswith(" UTC")
    assert here.endswith("here (GMT+05:45)")
    between = datetime.fromisoformat(here[:19]) - datetime.fromisoformat(utc[:19])
    assert between == timedelta(hours=5, minutes=45)
    page.locator("tr.qm-job").first.click()
    job = page.get_by_role("dialog", name="Job details")
    shown = job.locator(".qm-fact", has_text=utc)
    expect(shown).to_have_attribute("title", tip)
    for line in job.locator(".qm-t-line .qm-dim").all_inner_texts():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", line)


def test_read_only_disables_every_action_and_says_why(dashboard: Any) -> None:
    page: Page = dashboard("wb.read_only_reason = 'the role may only read'\n").page
    expect(page.locator(".qm-strip").get_by_text("read-only")).to_be_visible(timeout=10_000)
    for name in ("Pause", "Retry failed of", "Clear failed of", "Priority of", "Workers of"):
        button = page.get_by_label(f"{name} {MRR}")
        expect(button).to_be_disabled()
        assert "the role may only read" in (button.get_attribute("title") or "")
    page.get_by_label(f"View details of {MRR}").click()
    page.locator("tr.qm-job").first.click()
    expect(page.get_by_role("button", name="Retry Job")).to_be_disabled()


#: What a FakeWorkbench is asked waits, as long as its name is in `held`.
HELD = """
import time
held = {"snapshot", "actions", "jobs", "job", "plan"}
def waiting(name, read):
    def asked(*args, **kwargs):
        while name in held:
            time.sleep(0.02)
        return read(*args, **kwargs)
    return asked
for name in tuple(held):
    setattr(wb, name, waiting(name, getattr(wb, name)))
"""

#: Everything within a place that Tab can reach, in the order of the document.
TABBABLE = """(where) => {
    const kinds = 'button, input, select, textarea, summary, a[href], [tabindex]';
    const seen = (e) => e.checkVisibility({ visibilityProperty: true });
    const all = [...document.querySelector(where).querySelectorAll(kinds)];
    window.tabbable = all.filter((e) => !e.disabled && e.tabIndex >= 0 && seen(e));
    return window.tabbable.length;
}"""

#: Which of them has the focus, with its name, and whether one can see it.
FOCUSED = """() => {
    const e = document.activeElement, s = getComputedStyle(e);
    const drawn = (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== 'none';
    const name = (e.ariaLabel || e.innerText || e.outerHTML).slice(0, 60);
    return [window.tabbable.indexOf(e), name + (drawn ? '' : ' (unseen)')];
}"""


def test_what_is_being_read_is_a_skeleton_and_never_an_empty_list(
    lab: Server, open_page: Callable[..., Watched]
) -> None:
    page = open_page().page
    page.goto(lab.lab_url(notebook(lab.root, SETUP + HELD, "queuemon.show(wb)")))
    jupyter.run_all(page)
    strip, activity = page.locator(".qm-strip"), page.locator(".qm-activity")
    expect(page.locator(".qm-queue-table .qm-skeleton").first).to_be_visible(timeout=60_000)
    expect(activity).to_contain_text("Reading…")
    strip.locator("[data-qm=bell]").click()
    expect(page.locator("[data-qm=alerts] [aria-label=Reading]")).to_be_visible()
    page.keyboard.press("Escape")
    lab.run("held.difference_update(['snapshot', 'actions'])")
    expect(page.locator("[data-queue]").first).to_be_visible()
    expect(activity).to_contain_text("No operator has acted yet")

    page.get_by_label(f"View details of {MRR}").click()
    expect(page.locator(".qm-jobs .qm-skeleton").first).to_be_visible()
    lab.run("held.discard('jobs')")
    page.locator("tr.qm-job").first.click()
    job = page.get_by_role("dialog", name="Job details")
    expect(job.get_by_label("Loading")).to_be_visible()
    lab.run("held.discard('job')")
    job.get_by_role("button", name="Retry Job").click()
    expect(page.locator("[data-qm=confirm]").get_by_label("Reading")).to_be_visible()
    lab.run("held.clear()")
    expect(page.locator("[data-qm=confirm-button]")).to_be_visible()
    lab.forget_kernels()


def test_tab_reaches_everything_in_the_order_it_is_read_and_shows_where_it_is(dashboard: Any) -> None:
    page: Page = dashboard().page
    page.get_by_label(f"View details of {MRR}").click()
    page.locator("tr.qm-job").nth(11).wait_for()
    for shown in ("[data-cause]", ".qm-charts .main-svg"):  # what comes later could be reached, too
        page.locator(shown).first.wait_for(timeout=60_000)
    expect(page.locator("[data-qm=forecast]")).to_contain_text("Never with 2 workers")
    for where in ("[data-qm=dashboard]", "[data-qm=job]"):
        if where == "[data-qm=job]":
            page.locator("tr.qm-job").first.click()
            expect(page.get_by_role("button", name="Retry Job")).to_be_visible()
        count = page.evaluate(TABBABLE, where)
        assert count > 8
        page.evaluate("() => window.tabbable[0].focus()")
        page.keyboard.press("Tab")
        page.keyboard.press("Shift+Tab")
        seen = [page.evaluate(FOCUSED)]
        for _ in range(count - 1):
            page.keyboard.press("Tab")
            seen.append(page.evaluate(FOCUSED))
        assert [name for n, (found, name) in enumerate(seen) if found != n] == []
        assert [name for _, name in seen if name.endswith("(unseen)")] == []


def test_running_the_cell_again_stops_the_old_dashboard(dashboard: Any, lab: Server) -> None:
    page: Page = dashboard().page
    for _ in range(2):
        page.click(".lm-MenuBar-itemLabel:text-is('Run')")
        page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
        page.wait_for_selector("[data-qm=dashboard] [data-queue]", timeout=30_000)
    code = "import threading; print(sum(t.name == 'queuemon-poller' for t in threading.enumerate()))"
    wait_until(lambda: int(lab.run(code)) == 1, message="one poller is left")


def test_the_keys_of_a_person_in_the_dashboard_do_not_reach_the_notebook(dashboard: Any) -> None:
    page: Page = dashboard().page
    cells = page.locator(".jp-Cell").count()
    page.get_by_label("Refresh now").focus()
    for key in ("d", "d", "a", "b", "x"):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert page.locator(".jp-Cell").count() == cells
    page.get_by_label(f"View details of {MRR}").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".qm-details")).to_be_visible()

    # The whole way to a change on the keyboard; Enter confirms on the button alone, Escape leaves.
    page.get_by_label("Pause queue:email-sending:low").focus()
    page.keyboard.press("Enter")
    confirm = page.locator("[data-qm=confirm]")
    expect(confirm.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("by hand")
    page.keyboard.press("Enter")
    expect(confirm).to_be_visible()
    page.keyboard.press("Escape")
    expect(confirm).to_be_hidden()
    expect(page.get_by_label("Pause queue:email-sending:low")).to_be_focused()
    page.keyboard.press("Enter")
    expect(confirm.get_by_label("Reason")).to_be_focused()
    for _ in range(3):  # what is advanced, cancel, confirm
        page.keyboard.press("Tab")
    expect(page.locator("[data-qm=confirm-button]")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("[data-queue='email-sending:low']")).to_have_attribute("data-paused", "true")


HOSTILE = """
name = "<img/src=x/onerror=window.pwned=1>{{constructor.constructor(`window.pwned=2`)()}}"
wb.queue_stats[name] = fake.stats(name, failed=1, waiting=1, stuck=1, paused=True)
bad = "<script>window.pwned=3</script>$\\\\href{javascript:window.pwned=4}{x}$\\u202e"
wb.jobs_of[name] = [fake.job(name, error_type=bad, error_message=bad, preview=bad, payload={bad: [bad]}, worker_id=bad)]
held = dict(since=fake.utc(), until=None, action_id=None, hard=True)
wb.holders = [fake.Pause(queue=name, holder=bad, reason=bad, **held)]
wb.signs = [fake.WatchLine(number=13, title=bad, queue=name, count=1, proven=True, since=fake.utc(), detail=bad)]
wb.drifted = {13: 1}
wb.condition = "payload.x='<img src=x onerror=window.pwned=5>{{7*7}}'"
wb.happened = (fake.Happened(at=fake.utc(60), kind=bad, target=bad, actor=bad, why=bad),)
done = wb.apply(wb.plan("retry", "queue:warmup:process status:failed"), reason=bad)
wb._update(done.id, target=name, actor=bad, summary=bad, options={"to": bad, "of": bad})
wb.became[done.id] = [fake.JobOutcome(job_id=fake.uuid4(), outcome="skipped", why=bad)]
"""


def test_hostile_text_stays_text_everywhere(dashboard: Any) -> None:
    watched = dashboard(HOSTILE)
    page: Page = watched.page
    row = page.locator("[data-queue^='<img']")
    expect(row.locator("code")).to_contain_text("{{constructor.constructor(")
    row.get_by_role("button", name=re.compile("^View details")).click()
    cause = page.locator("[data-cause]")
    expect(cause).to_contain_text("<script>window.pwned=3</script>", timeout=30_000)
    cause.get_by_role("button", name=re.compile("^What do they share")).click()
    expect(page.locator("[data-finding]")).to_contain_text("<img src=x onerror=window.pwned=5>{{7*7}}")
    page.locator(".qm-charts .main-svg").first.wait_for(timeout=60_000)
    expect(page.locator(".qm-charts")).to_contain_text("<script>window.pwned")
    page.locator(".qm-charts .bars path").last.hover(force=True)
    page.locator("tr.qm-job").first.click()
    expect(page.get_by_role("dialog", name="Job details")).to_contain_text("<script>window.pwned=3</script>")
    page.get_by_role("button", name="Delete Job").click()
    expect(page.locator("[data-qm=confirm]")).to_contain_text("<script>window.pwned=3</script>")
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("[data-qm=confirm]")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("[data-qm=holders]")).to_contain_text("<script>window.pwned=3</script>", timeout=10_000)
    row.get_by_label(re.compile("^More actions")).click()
    page.get_by_role("menuitem", name="Move failed").click()
    expect(page.locator("[data-qm=form]")).to_contain_text("{{constructor.constructor(")
    expect(page.locator("[data-qm=form] input").first).to_be_focused()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Drift", exact=True).click()
    expect(page.locator("[data-sign]")).to_contain_text("<script>window.pwned=3</script>")
    page.get_by_role("button", name="Look closely", exact=True).click()
    expect(page.locator("[data-drift]")).to_be_visible()
    page.locator("[data-action=retry] .qm-link").click()
    expect(page.locator("[data-outcome]")).to_contain_text("<script>window.pwned=3</script>")
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None
    assert page.locator("[data-qm=dashboard] img, .v-overlay-container img, [data-qm=dashboard] script").count() == 0


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (900, 700), (610, 700)])
def test_nothing_spills_over_at_either_size(dashboard: Any, width: int, height: int) -> None:
    page: Page = dashboard(width=width, height=height).page
    if width < 900:
        page.keyboard.press("Control+b")
        expect(page.locator("#jp-left-stack")).to_be_hidden()
    page.get_by_label(f"View details of {MRR}").click()
    page.wait_for_selector("tr.qm-job")
    page.wait_for_selector(".qm-charts .main-svg", timeout=60_000)
    page.wait_for_timeout(500)
    wide = page.evaluate(
        """() => { const q = document.querySelector('[data-qm=dashboard]');
        const edge = q.getBoundingClientRect().right + 1;
        return [...q.querySelectorAll('button, code, span, td, .main-svg')]
          .filter(e => e.offsetParent && e.getBoundingClientRect().right > edge && !e.closest('.qm-cut, .qm-hidden'))
          .map(e => e.outerHTML.slice(0, 120)); }"""
    )
    assert wide == []
    assert page.evaluate("(e => e.scrollWidth - e.clientWidth)(document.querySelector('.jp-WindowedPanel-outer'))") <= 0
    page.locator("tr.qm-job").first.click()
    dialog = page.get_by_role("dialog", name="Job details")
    expect(dialog).to_be_visible()
    box = dialog.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
