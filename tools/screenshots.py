"""Takes the pictures of every screen, light and dark: a private demo in trouble, in JupyterLab and as web pages.

`make screenshots` writes docs/screens/{light,dark}/NAME.png; names behind it (`python -m tools.screenshots job drift`)
take those alone, `--into FOLDER` writes elsewhere.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.support.jupyter import chromium, open_page
from tests.support.story import Company, new_company, open_dashboard, wait_for_charts

SCREENS: Final = Path(__file__).resolve().parent.parent / "docs" / "screens"
ANALYTICS: Final = "queue:analytics:daily-aggregate"
MAIL: Final = "queue:email-sending"

Theme = Literal["light", "dark"]
THEMES: Final[dict[Theme, str]] = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
#: Milliseconds for whatever appears, also on a machine that does something else meanwhile.
PATIENCE: Final = 90_000
#: Bytes of one picture at most: a clone carries them all.
LARGEST: Final = 120_000
#: Notebooks that are pictured as web pages: name, what must be there, and how many charts.
PAGES: Final = (
    ("dashboard", "[data-qm=dashboard] [data-queue]", 0),
    ("queues", ".qm-charts .main-svg", 3),
    ("failures", ".queuemon table", 2),
    ("drift", "[data-qm=drift-state]", 0),
    ("activity", "[data-action]", 0),
    ("investigate", ".queuemon table", 2),
)


class Camera:
    """Takes the pictures that were asked for."""

    def __init__(self, folder: Path, wanted: list[str]) -> None:
        self.folder, self.wanted = folder, wanted

    def wants(self, *names: str) -> bool:
        """Whether one of these is to be taken."""
        return not self.wanted or any(name in self.wanted for name in names)

    def take(self, page: Page, theme: Theme, name: str) -> None:
        """Write one picture, in few colours, with the mouse out of the way."""
        if not self.wants(name):
            return
        page.mouse.move(1, 1)
        page.wait_for_timeout(400)  # dialogs and menus have come to rest
        shot = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
        path = self.folder / theme / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        few = shot.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.FLOYDSTEINBERG)
        few.save(path, optimize=True)
        size = path.stat().st_size
        print(f"{path.parent.name}/{path.name} {size:,} bytes")
        assert size <= LARGEST, f"{path} is larger than {LARGEST:,} bytes"


def choose_theme(company: Company, theme: Theme) -> None:
    """Set JupyterLab's theme, as its settings menu does."""
    folder = company.place.base / "home/.jupyter/lab/user-settings/@jupyterlab/apputils-extension"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "themes.jupyterlab-settings").write_text(json.dumps({"theme": THEMES[theme]}))


@contextmanager
def dashboard(company: Company, browser: Browser, theme: Theme) -> Iterator[Page]:
    """JupyterLab on the dashboard, without its file browser."""
    choose_theme(company, theme)
    with company.lab() as url:
        page = open_page(browser, width=1400, height=900, colour_scheme=theme).page
        page.set_default_timeout(PATIENCE)
        open_dashboard(page, url)
        files = page.locator("#jp-left-stack")
        if files.is_visible():  # JupyterLab remembers that they were put away
            page.keyboard.press("Control+b")
            files.wait_for(state="hidden")
        yield page
        page.close()


def walk(page: Page, take: Callable[[str], None]) -> None:
    """Through every screen of the dashboard, as an operator would."""
    page.locator(".qm-trail").first.wait_for()
    take("dashboard")
    page.get_by_role("button", name=f"View details of {ANALYTICS}", exact=True).click()
    page.get_by_role("tab", name="Failed").click()
    page.locator("tr[data-job]").nth(11).wait_for()
    wait_for_charts(page)
    page.wait_for_timeout(600)  # it scrolls
    page.locator(".qm-details").evaluate("details => details.scrollIntoView()")
    take("queue-details")
    page.locator("[data-qm=causes] .qm-mini", has_text="Share?").first.click()
    page.locator("[data-qm=contrast]").get_by_role("button", name="Put the answer away").wait_for()
    page.locator("[data-qm=causes]").evaluate("causes => causes.scrollIntoView()")
    take("why")
    page.get_by_role("button", name="Put the answer away").click()
    page.get_by_role("tab", name="Failed").evaluate("tabs => tabs.scrollIntoView({ block: 'center' })")
    take("jobs")
    look_through(page, take)
    page.get_by_label("Filter the jobs").fill("error:'division by zero' payload.month")
    page.get_by_label("Filter the jobs").press("Enter")
    page.get_by_role("alert").first.wait_for()
    take("filter-error")
    page.get_by_role("button", name="Clear the filter").click()
    page.locator("tr[data-job] input").nth(1).check()
    page.locator("tr[data-job] input").nth(2).check()
    take("selection")
    page.get_by_role("button", name="Clear selection").click()
    page.locator("tr[data-job]").first.click()
    page.get_by_label("Stack trace of").first.wait_for()
    take("job-details")
    leave(page)
    page.get_by_label(f"Clear failed of {ANALYTICS}", exact=True).click()
    page.get_by_label("Typed count").wait_for()
    take("confirm")
    leave(page)
    page.get_by_label(f"More actions on {ANALYTICS}", exact=True).click()
    page.get_by_role("menuitem").first.wait_for()
    take("menu")
    page.keyboard.press("Escape")
    page.get_by_label(f"Workers of {MAIL}", exact=True).click()
    page.locator("[data-qm=form]").wait_for()
    take("form")
    leave(page)


def look_through(page: Page, take: Callable[[str], None]) -> None:
    """What helps with a long list: suggestions, columns out of the payloads, export."""
    page.get_by_label("Filter the jobs").press_sequentially("error_type:")
    page.get_by_role("listbox").get_by_role("option").first.wait_for()
    take("suggestions")
    page.get_by_label("Filter the jobs").press("Escape")
    columns = page.get_by_role("button", name="Columns from the payload")
    columns.click()
    chosen = page.get_by_role("group", name="Columns from the payload").get_by_role("checkbox")
    chosen.nth(0).check()
    chosen.nth(1).check()
    page.locator("tr[data-job]").first.wait_for()
    take("columns")
    columns.click()
    page.get_by_label("Export the jobs that match").first.click()
    page.get_by_role("menuitem", name="CSV").wait_for()
    take("export")
    page.keyboard.press("Escape")
    columns.click()
    chosen.nth(0).uncheck()
    chosen.nth(0).uncheck()
    columns.click()


def reveal(page: Page, take: Callable[[str], None]) -> None:
    """A payload that is masked, the plan of its reveal, and what it shows then."""
    page.get_by_role("button", name=f"View details of {MAIL}", exact=True).click()
    page.get_by_role("tab", name="Failed").click()
    page.locator("tr[data-job]").first.click()
    button = page.locator("[data-qm=job]").get_by_role("button", name="Reveal")
    button.scroll_into_view_if_needed()
    page.locator("[data-qm=job] .qm-tree").evaluate("tree => tree.scrollIntoView({ block: 'end' })")
    take("masked")
    button.click()
    page.locator("[data-qm=confirm]").get_by_label("Reason").fill("the customer asks whether it was sent")
    take("reveal")
    page.locator("[data-qm=confirm-button]").click()
    page.locator("[data-qm=job]").get_by_role("button", name="Mask again").wait_for()
    page.locator("[data-qm=job] .qm-tree").evaluate("tree => tree.scrollIntoView({ block: 'end' })")
    take("revealed")
    leave(page)


def answer(page: Page, take: Callable[[str], None]) -> None:
    """What fires, and the runbook that answers it, from the form to the verdict of its dry run."""
    page.locator(".jp-WindowedPanel-outer").evaluate("panel => panel.scrollTo(0, 0)")
    page.locator("[data-qm=bell]").click()
    page.locator("[data-qm=alerts] article").first.wait_for()
    take("alerts")
    leave(page)
    page.get_by_label(f"More actions on {ANALYTICS}", exact=True).click()
    page.get_by_role("menuitem", name="Runbook retry-failed").click()
    page.locator("[data-qm=runbook-form]").get_by_label("queue", exact=True).wait_for()
    take("runbook-form")
    page.locator("[data-qm=run-button]").click()
    page.locator("[data-qm=verdict]").get_by_text("It would retry").wait_for()
    take("runbook-run")
    leave(page)


def act(page: Page, take: Callable[[str], None]) -> None:
    """An action with its undo, its record, and a close look for drift."""
    page.get_by_label(f"Pause {MAIL}:low", exact=True).click()
    page.locator("[data-qm=confirm]").get_by_label("Reason").fill("the provider is slow")
    page.locator("[data-qm=confirm-button]").click()
    page.locator(".qm-toast").wait_for()
    page.get_by_label("Close the details").click()
    take("undo")
    page.get_by_label("Close the message").click()
    page.get_by_role("button", name="Drift", exact=True).click()
    page.get_by_role("button", name="Look closely", exact=True).click()
    page.locator(".qm-drift").get_by_role("button", name="Stop", exact=True).wait_for()
    page.get_by_role("button", name="Look closely", exact=True).wait_for()
    page.locator(".qm-drift").evaluate("panel => panel.scrollIntoView({ block: 'end' })")
    take("drift")
    page.get_by_role("button", name="Drift", exact=True).click()
    page.locator("[data-action] .qm-link").first.click()
    page.locator("[data-qm=action]").wait_for()
    take("action")
    leave(page)
    page.get_by_label(f"Resume {MAIL}:low", exact=True).click()
    page.locator("[data-qm=confirm-button]").click()
    page.locator(".qm-toast").wait_for()
    page.get_by_label("Close the message").click()


def leave(page: Page) -> None:
    """Close the dialog that is open."""
    page.keyboard.press("Escape")
    page.wait_for_timeout(400)


def narrow(page: Page, take: Callable[[str], None]) -> None:
    """The dashboard in a small window."""
    page.set_viewport_size({"width": 900, "height": 700})
    page.locator("[data-qm=dashboard]").evaluate("dashboard => dashboard.scrollIntoView()")
    page.wait_for_timeout(600)
    take("narrow")


@contextmanager
def web_page(company: Company, browser: Browser, theme: Theme, which: tuple[str, str, int]) -> Iterator[Page]:
    """A notebook as a page without code."""
    name, there, charts = which
    with company.lab("serve", name, "--theme", theme) as url:
        page = open_page(browser, width=1400, height=900, colour_scheme=theme).page
        page.goto(url, timeout=PATIENCE)
        page.locator(there).first.wait_for(timeout=PATIENCE)
        if charts:
            page.locator(".main-svg").nth(charts).wait_for(timeout=PATIENCE)
        page.wait_for_timeout(1_500)
        yield page
        page.close()


def main() -> None:
    """Bring up the demo with two incidents, and picture it from all sides."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("names", nargs="*", help="only these")
    asked.add_argument("--into", type=Path, default=SCREENS)
    given = asked.parse_args()
    camera = Camera(given.into, given.names)
    with new_company() as company, chromium() as browser:
        company.queuemon("demo", "up")
        company.queuemon("demo", "scenario", "mrr-bug")
        company.queuemon("demo", "scenario", "black-friday")
        themes: tuple[Theme, ...] = ("light", "dark")
        for theme in themes:
            with dashboard(company, browser, theme) as page:
                for go in (walk, reveal, answer, act, narrow):
                    go(page, lambda name: camera.take(page, theme, name))  # noqa: B023 - called here
            for which in PAGES:
                if camera.wants(f"page-{which[0]}"):
                    with web_page(company, browser, theme, which) as page:
                        camera.take(page, theme, f"page-{which[0]}")


if __name__ == "__main__":
    main()
