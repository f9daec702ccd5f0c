"""Takes the pictures of the README: a private demo in trouble, in JupyterLab and as a web page; `make screenshots`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page

from tests.support.jupyter import chromium, open_page
from tests.support.story import Company, new_company, open_dashboard, wait_for_charts

DOCS = Path(__file__).resolve().parent.parent / "docs"
ANALYTICS = "queue:analytics:daily-aggregate"

Theme = Literal["light", "dark"]
THEMES: dict[Theme, str] = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
#: Milliseconds for whatever appears, also on a machine that does something else meanwhile.
PATIENCE = 90_000


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
        open_dashboard(page, url)
        files = page.locator("#jp-left-stack")
        if files.is_visible():  # JupyterLab remembers that they were put away
            page.keyboard.press("Control+b")
            files.wait_for(state="hidden")
        yield page
        page.close()


def take(page: Page, name: str) -> None:
    """Write one picture, with the mouse out of the way."""
    page.mouse.move(1, 1)
    page.screenshot(path=DOCS / name, animations="disabled")
    print(f"docs/{name}")


def details(page: Page) -> None:
    """Open the failed jobs of the analytics queue, with their charts."""
    page.get_by_role("button", name=f"View details of {ANALYTICS}", exact=True).click()
    page.get_by_role("tab", name="Failed").click(timeout=PATIENCE)
    page.locator("tr[data-job]").nth(11).wait_for(timeout=PATIENCE)
    wait_for_charts(page)


def main() -> None:
    """Bring up the demo with two incidents, and picture it from all sides."""
    with new_company() as company, chromium() as browser:
        company.queuemon("demo", "up")
        company.queuemon("demo", "scenario", "mrr-bug")
        company.queuemon("demo", "scenario", "black-friday")
        with dashboard(company, browser, "light") as page:
            take(page, "dashboard-light.png")
            details(page)
            take(page, "queue-details.png")
            page.locator("tr[data-job]").first.click()
            page.get_by_label("Stack trace of").first.wait_for(timeout=PATIENCE)
            take(page, "job-details.png")
        with dashboard(company, browser, "dark") as page:
            take(page, "dashboard-dark.png")
        with company.lab("serve") as url:
            page = open_page(browser, width=1400, height=900).page
            page.goto(url)
            page.locator("[data-qm=dashboard] [data-queue]").first.wait_for(timeout=PATIENCE)
            take(page, "web-page.png")


if __name__ == "__main__":
    main()
