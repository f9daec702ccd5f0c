"""Twenty refreshes: nothing a person has open, typed, chosen or scrolled to is taken away or moved.

They come four a second, which is four times as often as anybody can choose; `make prove` watches for a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support import jupyter
from tests.support.jupyter import Server, Watched
from tests.support.layout import shifts, watch_shifts
from tests.support.operator import notebook
from tests.support.proofs import Proof
from tests.support.wait import wait_until

MRR = "queue:analytics:daily-aggregate"
REFRESHES = 20

#: Seconds between two of them.
EVERY = 0.25

SETUP = """
from dataclasses import replace
from tests.support import fake_workbench as fake
import queuemon
wb = fake.FakeWorkbench()
"""

#: Numbers grow by a digit, health changes, a warning comes and goes: all that a refresh brings in life.
LIFE = """
import threading
look = wb.snapshot
def lively():
    n = wb.snapshots
    for name in ("email-sending:high", "warmup:process"):
        wb.queue_stats[name] = fake.stats(name, waiting=7 if n % 2 else 1_234_567, active=n % 3 * 111, stuck=n % 2)
    return look()
wb.snapshot = lively
"""


@pytest.fixture
def board(operator_lab: Server, open_page: Callable[..., Watched]) -> Iterator[Page]:
    """The dashboard over values that change with every one of its refreshes, four a second."""
    watched = open_page()
    name = notebook(operator_lab.root, SETUP + LIFE, "board = queuemon.show(wb)\nboard")
    watched.page.goto(operator_lab.lab_url(name))
    jupyter.run_all(watched.page)
    watched.page.wait_for_selector("[data-qm=dashboard] [data-queue]", timeout=60_000)
    operator_lab.run(f"board.poller.set_interval({EVERY})")
    yield watched.page
    operator_lab.forget_kernels()
    assert watched.errors == []


def refreshed(lab: Server, times: int = REFRESHES) -> None:
    """Wait for so many refreshes."""
    with lab.running() as run:
        before = int(run("print(wb.snapshots)"))
        wait_until(
            lambda: int(run("print(wb.snapshots)")) >= before + times, timeout=240, interval=0.3, message="refreshes"
        )


def state(page: Page) -> dict[str, Any]:
    """What a person sees and has done: order, selection, text, scroll, focus, and whether nodes are still the same."""
    found: dict[str, Any] = page.evaluate(
        """() => ({
          order: [...document.querySelectorAll('[data-queue]')].map((r) => r.dataset.queue),
          jobs: [...document.querySelectorAll('tr.qm-job')].map((r) => r.dataset.job),
          picked: [...document.querySelectorAll('tr.qm-job input:checked')].map((i) => i.value),
          filter: document.querySelector('[aria-label="Filter the jobs"]')?.value,
          scroll: document.querySelector('.jp-WindowedPanel-outer').scrollTop,
          focus: document.activeElement.getAttribute('aria-label'),
          caret: document.activeElement.selectionStart ?? null,
          marked: document.querySelectorAll('[data-mark]').length,
        })"""
    )
    return found


def mark(page: Page, *selectors: str) -> None:
    """Mark elements: one that is made anew has lost its mark."""
    for selector in selectors:
        page.locator(selector).first.evaluate("e => { e.dataset.mark = 'same'; }")


@pytest.mark.prove
def test_sort_page_selection_half_a_filter_and_scroll_survive(board: Page, operator_lab: Server, proof: Proof) -> None:
    page = board
    page.get_by_role("button", name="Failed", exact=True).click()
    page.get_by_label("View details of queue:email-sending", exact=True).click()
    page.wait_for_selector(".qm-charts .main-svg", timeout=60_000)
    page.locator("[data-cause]").first.wait_for(timeout=30_000)
    page.get_by_role("button", name="What do they share?", exact=True).click()
    page.locator("[data-finding]").wait_for()
    page.get_by_label("Older jobs").click()
    expect(page.locator(".qm-pager")).to_contain_text("51–100")
    page.locator("tr.qm-job input").nth(1).check()
    page.locator("tr.qm-job input").nth(3).check()
    box = page.get_by_label("Filter the jobs")
    box.fill("error:Divi")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    mark(page, "tr.qm-job", "[data-queue]", ".main-svg", "[data-cause]", "[data-finding]")
    page.wait_for_timeout(600)
    watch_shifts(page)
    before = state(page)
    assert before["picked"]
    assert before["caret"] == 1
    refreshed(operator_lab, round(60 / EVERY) if proof.full else REFRESHES)
    assert state(page) == before
    expect(page.locator(".qm-pager")).to_contain_text("51–100")
    assert shifts(page) == []


def test_an_open_confirmation_survives_with_all_that_was_typed(board: Page, operator_lab: Server) -> None:
    page = board
    page.get_by_label(f"Clear failed of {MRR}").click()
    dialog = page.locator("[data-qm=confirm]")
    dialog.get_by_label("Reason").fill("half a sen")
    dialog.get_by_text("Advanced", exact=True).click()
    dialog.get_by_label("Jobs per second at most").fill("25")
    dialog.get_by_label("Typed count").fill("1")
    mark(page, "[data-qm=confirm]", "[data-qm=confirm] input")
    page.wait_for_timeout(400)
    watch_shifts(page)
    before = state(page), dialog.bounding_box()
    refreshed(operator_lab)
    assert (state(page), dialog.bounding_box()) == before
    assert dialog.get_by_label("Reason").input_value() == "half a sen"
    assert dialog.get_by_label("Typed count").input_value() == "1"
    assert dialog.get_by_label("Jobs per second at most").input_value() == "25"
    assert shifts(page) == []


def test_an_open_job_keeps_its_folded_payload_and_its_scroll(board: Page, operator_lab: Server) -> None:
    page = board
    page.get_by_label(f"View details of {MRR}").click()
    page.wait_for_selector(".qm-charts .main-svg", timeout=60_000)
    page.locator("tr.qm-job").first.click()
    job = page.locator("[data-qm=job]")
    job.get_by_role("button", name="Collapse filters").click()
    job.get_by_role("button", name="Show stack trace").first.click()
    job.locator(".qm-modal-body").evaluate("e => { e.scrollTop = 90; }")
    mark(page, "[data-qm=job]", ".qm-trace", ".qm-tree-row")
    page.wait_for_timeout(400)
    watch_shifts(page)
    before = state(page)
    refreshed(operator_lab)
    assert state(page) == before
    assert job.locator(".qm-modal-body").evaluate("e => e.scrollTop") == 90
    expect(job.locator(".qm-trace")).to_have_count(2)
    expect(job.get_by_role("tree")).not_to_contain_text("min_seats")
    assert shifts(page) == []


def test_an_open_menu_stays_open_where_it_is(board: Page, operator_lab: Server) -> None:
    page = board
    page.get_by_label(f"More actions on {MRR}", exact=True).click()
    item = page.get_by_role("menuitem", name="Erase failed for good")
    page.wait_for_timeout(400)
    mark(page, ".qm-menu")
    at = item.bounding_box()
    refreshed(operator_lab)
    assert item.bounding_box() == at
    expect(page.locator(".qm-menu[data-mark]")).to_be_visible()


def test_a_sorted_table_keeps_its_order_under_the_hand_and_sorts_anew_when_it_has_left(
    board: Page,
    operator_lab: Server,
) -> None:
    page = board
    page.get_by_role("button", name="Waiting", exact=True).click()
    order = state(page)["order"]
    operator_lab.run(
        "wb.snapshot = look\nwb.queue_stats['email-sending:low'] = fake.stats('email-sending:low', waiting=9_999_999)\n"
    )
    row = page.locator("[data-queue='email-sending:low'] [data-cell=waiting]")
    expect(row).to_have_text("9,999,999", timeout=10_000)
    assert state(page)["order"] == order
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(5, 5)
    wait_until(lambda: state(page)["order"][0] == "email-sending:low", message="the order follows the numbers")


def test_a_store_that_goes_and_comes_back_moves_nothing(board: Page, operator_lab: Server) -> None:
    page = board
    page.wait_for_timeout(500)
    watch_shifts(page)
    operator_lab.run(
        "from queuemon.model import HalfError\n"
        "wb.postgres_error = HalfError(message='PostgreSQL is away. ' * 20, kind='X')\n"
        "wb.redis_error = HalfError(message='Redis is away.', kind='X')"
    )
    expect(page.get_by_role("button", name="Show all 2")).to_be_visible(timeout=20_000)
    operator_lab.run("wb.postgres_error = wb.redis_error = None")
    expect(page.get_by_text("Both stores answer.")).to_be_visible(timeout=20_000)
    assert shifts(page) == []
