"""Every screen, dialog and menu through axe-core, light and dark: no violation that is serious."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.support import jupyter
from tests.support.axe import violations
from tests.support.jupyter import Watched
from tests.support.operator import notebook

MRR = "queue:analytics:daily-aggregate"

SETUP = """
from tests.support import fake_workbench as fake
import queuemon
wb = fake.FakeWorkbench()
sign = dict(queue="email-sending", count=3, proven=True, since=fake.utc(40), detail="")
wb.signs = [fake.WatchLine(number=1, title=fake.CLASSES[1].title, **sign)]
wb.queue_stats["warmup:process"] = fake.stats("warmup:process", stuck=2)
wb.apply(wb.plan("pause", "email-sending:low"), reason="month end")
wb.apply(wb.plan("retry", "queue:warmup:process status:failed"), reason="fixed")
"""

BOARD = "[data-qm=dashboard]"


class Checked:
    """The violations found so far, one line each."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.found: list[str] = []

    def look(self, where: str) -> None:
        """Check what stands within a selector, once it has come to rest."""
        self.found += violations(self.page, where)

    def leave(self) -> None:
        """Close what is open."""
        self.page.keyboard.press("Escape")
        self.page.wait_for_timeout(400)


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_axe_finds_nothing_serious_on_any_screen(tmp_path: Path, open_page: Callable[..., Watched], theme: str) -> None:
    (tmp_path / "work").mkdir()
    name = notebook(tmp_path / "work", SETUP, "queuemon.show(wb)")
    with jupyter.lab(tmp_path / "work", tmp_path / "home", theme=f"JupyterLab {theme}") as lab:
        page = open_page(colour_scheme=theme.lower()).page
        page.goto(lab.lab_url(name))
        jupyter.run_all(page)
        page.locator(f"{BOARD} [data-queue]").first.wait_for(timeout=60_000)
        checked = Checked(page)
        checked.look(BOARD)

        page.get_by_label(f"View details of {MRR}").click()
        page.wait_for_selector(".qm-charts .main-svg", timeout=60_000)
        page.locator("[data-tab=failed]").click()
        page.locator("tr.qm-job").nth(11).wait_for()
        page.get_by_role("button", name="What do they share?", exact=True).click()
        page.locator("[data-finding]").wait_for()
        checked.look(BOARD)
        page.get_by_role("button", name="Drift", exact=True).click()
        page.locator("[data-sign]").wait_for()
        page.locator("tr.qm-job input").first.check()
        checked.look(BOARD)

        page.locator("tr.qm-job").first.click()
        page.get_by_label("Stack trace of").first.wait_for()
        checked.look("[data-qm=job]")
        page.get_by_role("button", name="Delete Job").click()
        page.get_by_label("Typed count").wait_for()
        checked.look("[data-qm=confirm]")
        checked.leave()
        checked.leave()

        page.get_by_label("Pause queue:email-sending", exact=True).click()
        page.locator("[data-qm=confirm]").get_by_text("Advanced", exact=True).click()
        page.get_by_label("Hard pause").check()
        checked.look("[data-qm=confirm]")
        checked.leave()
        for form in ("Priority", "Workers"):
            page.get_by_label(f"{form} of queue:email-sending", exact=True).click()
            checked.look("[data-qm=form]")
            checked.leave()
        page.get_by_label(f"More actions on {MRR}", exact=True).click()
        checked.look(".qm-menu")
        page.get_by_role("menuitem", name="Retry failed as a canary").click()
        checked.look("[data-qm=form]")
        checked.leave()
        page.locator("[data-action=retry] .qm-link").click()
        page.locator("[data-outcome]").first.wait_for()
        checked.look("[data-qm=action]")
        checked.leave()

        lab.run("def broken(*a, **k): raise RuntimeError('kaputt')\nwb.plan = broken")
        page.get_by_label("Pause queue:email-sending", exact=True).click()
        page.locator(".qm-problem").wait_for()
        checked.look("[data-qm=messages]")
        lab.run("wb.read_only_reason = 'the role may only read'")
        page.get_by_label("Refresh now").click()
        page.locator(".qm-strip").get_by_text("read-only").wait_for()
        checked.look(BOARD)
    assert checked.found == []


def test_axe_sees_a_button_without_a_name(open_page: Callable[..., Watched]) -> None:
    page = open_page().page
    page.set_content("<main><h1>x</h1><div id=it><button></button></div></main>")
    checked = Checked(page)
    checked.look("#it")
    assert len(checked.found) == 1
    assert "button-name" in checked.found[0]
