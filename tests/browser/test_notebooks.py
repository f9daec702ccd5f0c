"""The notebooks of the package as pages without code, on real stores: they show what they promise, axe is content."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from queuemon.workbench import Workbench
from tests.support import jupyter
from tests.support.axe import violations
from tests.support.engine import Rig
from tests.support.jupyter import REPOSITORY, Server, Watched
from tests.support.operator import MAIL, confirm, fail

PATIENCE = 90_000

#: The colour that the dashboard stands on.
GROUND = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 27, 34)"}

#: The chart stands; plotly's renderer alone cannot keep a picture of it in Voilà's output.
NO_PICTURE = "pageerror: r.setData is not a function"


@pytest.fixture
def voila(rig: Rig, tmp_path: Path) -> Iterator[Server]:
    """A Voilà on the notebooks of the package, over the rig's stores."""
    shutil.copytree(REPOSITORY / "notebooks", tmp_path / "work", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    env = {
        "JUPYTER_PATH": str(REPOSITORY / "queuemon" / "views" / "jupyter"),
        "QUEUEMON_DATABASE_URL": rig.settings.database_url.get_secret_value(),
        "QUEUEMON_REDIS_URL": rig.settings.redis_url.get_secret_value(),
    }
    expect.set_options(timeout=PATIENCE)
    with jupyter.voila(tmp_path / "work", tmp_path / "home", template="queuemon", env=env) as server:
        yield server
    expect.set_options(timeout=5_000)


def dashboard(page: Page) -> None:
    """All of it, down to a job."""
    page.get_by_label(f"View details of {MAIL}").click()
    page.locator(".qm-charts .main-svg").first.wait_for()
    page.locator("tr.qm-job").first.click()
    expect(page.get_by_role("dialog", name="Job details")).to_contain_text("ZeroDivisionError")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Job details")).to_be_hidden()


def queues(page: Page) -> None:
    """The queue is open with its charts and jobs, which can be saved; another can be chosen; below stand its tables."""
    expect(page.get_by_label("Queue", exact=True)).to_have_value("mail")
    expect(page.locator("tr.qm-job")).to_have_count(3)
    page.locator(".qm-charts .main-svg").first.wait_for()
    page.get_by_label("Export the jobs that match").first.click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="CSV").click()
    assert Path(download.value.path()).read_text().count("2026-10") == 3
    page.get_by_label("Queue", exact=True).select_option("bulk")
    expect(page.locator(".qm-details")).to_have_attribute("aria-label", "Details of queue:bulk")
    assert page.locator(".qm-queue-table").count() == 0
    expect(page.get_by_text("0 failed attempts").first).to_be_visible()


def failures(page: Page) -> None:
    """By cause, when it changed, and what separates the jobs."""
    expect(page.get_by_text("failed attempts", exact=False).first).to_be_visible()
    expect(page.get_by_role("heading", name="Why these jobs and not others")).to_be_visible()


def drift(page: Page) -> None:
    """The panel stands open and alone; the close look and the plan are values."""
    expect(page.get_by_role("button", name="Drift", exact=True)).to_have_attribute("aria-expanded", "true")
    page.get_by_role("button", name="Look closely", exact=True).click()
    expect(page.locator(".qm-drift-foot")).to_contain_text("Read ")
    assert page.locator(".qm-queue-table, .qm-activity").count() == 0
    expect(page.get_by_text("Plan: repair")).to_be_visible()


def activity(page: Page) -> None:
    """An action is undone from the list; pauses and the trail are values."""
    expect(page.locator("[data-action=pause]")).to_contain_text("month end")
    assert page.locator(".qm-queue-table, .qm-drift").count() == 0
    page.get_by_label("Undo the pause").click()
    confirm(page, "over")
    expect(page.locator("[data-action=undo]")).to_be_visible()


def test_each_notebook_is_a_page_without_code(voila: Server, rig: Rig, open_page: Callable[..., Watched]) -> None:
    fail(rig, 3, month="2026-10")
    with Workbench(rig.settings) as wb:
        wb.pause("bulk", reason="month end")
    found: list[str] = []
    looks = ((dashboard, "dark"), (queues, "light"), (failures, "dark"), (drift, "dark"), (activity, "light"))
    for look, theme in looks:
        watched = open_page(colour_scheme=theme)
        page: Page = watched.page
        page.set_default_timeout(PATIENCE)
        page.goto(voila.voila_url(f"{look.__name__}.ipynb", theme=theme))
        page.locator("[data-qm=dashboard], .queuemon").first.wait_for()
        page.get_by_role("heading", name="Notes").wait_for()
        look(page)
        ground = page.locator(".qm").evaluate_all("all => all.map((e) => getComputedStyle(e).backgroundColor)")
        assert set(ground) <= {GROUND[theme]}
        assert page.get_by_text("import queuemon").count() == 0
        assert page.locator("[data-mime-type*=error], [data-mime-type*=stderr]").count() == 0
        found += violations(page, "#rendered_cells")
        assert watched.outside == []
        assert [error for error in watched.errors if error != NO_PICTURE] == []
    assert found == []
