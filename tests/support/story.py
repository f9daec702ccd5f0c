"""An operator's day with the real command, demo and browser: for the stories, and for the pictures of the README.

Fixtures: `company` (the demo, quiet), `story` (a page of JupyterLab on its dashboard, a picture of every step).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.empty import Place, empty_place, running_lab

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.support.jupyter import Watched

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "test-artifacts" / "stories"

#: What a person waits for at most, in seconds: for a click's answer, and for a number that the next refreshes bring.
ANSWER, REFRESHED = 30.0, 60.0

_BIN = Path(sys.executable).parent


@dataclass(frozen=True, kw_only=True)
class Company:
    """The demo of a user who has nothing else, and that user's command line."""

    place: Place

    def queuemon(self, *words: str) -> str:
        """Run the real command to its end; returns what it printed."""
        done = self.place.run("queuemon", *words)
        assert done.returncode == 0, f"queuemon {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def sql(self, statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Ask PostgreSQL directly, past everything that is under test."""
        url = re.search(r"QUEUEMON_DATABASE_URL='?([^'\n]+)", self.queuemon("demo", "env"))
        assert url is not None
        with psycopg.connect(url[1]) as connection:
            return connection.execute(statement, parameters).fetchall()

    @contextmanager
    def lab(self, *words: str) -> Iterator[str]:
        """A running `queuemon lab`; yields the URL that it printed."""
        with running_lab(self.place, ["queuemon", *(words or ("lab",)), "--no-browser"], timeout=120) as url:
            yield url


@contextmanager
def new_company() -> Iterator[Company]:
    """A Company whose demo has not been started yet; it is stopped and deleted at the end."""
    with empty_place(f"{_BIN}:/usr/bin:/bin") as place:
        company = Company(place=place)
        try:
            yield company
        finally:
            company.queuemon("demo", "down")


@dataclass(kw_only=True)
class Story:
    """What an operator does and sees, step by step."""

    name: str
    watched: Watched
    company: Company
    steps: int = field(default=0)

    @property
    def page(self) -> Page:
        """The browser's page."""
        return self.watched.page

    def picture(self, what: str) -> None:
        """Keep what is on the screen now, as the next step."""
        folder = PICTURES / self.name
        if self.steps == 0:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("*.png"):
                old.unlink()
        self.steps += 1
        self.page.screenshot(path=folder / f"{self.steps:02}-{what}.png", animations="disabled")

    def row(self, queue: str) -> Locator:
        """A queue's row in the table."""
        return self.page.locator(f"[data-queue='{queue}']")

    def number(self, queue: str, column: str) -> int:
        """A number in the table, as it is printed: active, waiting, done or failed."""
        return int(self.row(queue).locator(f"[data-cell={column}]").inner_text().replace(",", ""))

    def confirm(self, title: str, button: str, *, reason: str, picture: str) -> None:
        """Read the plan that has come up, give the reason, confirm; returns when the dialog has gone."""
        dialog = self.page.get_by_role("dialog", name=title, exact=True)
        dialog.get_by_label("Reason").fill(reason, timeout=1_000 * ANSWER)
        self.picture(picture)
        dialog.get_by_role("button", name=button, exact=True).click()
        dialog.wait_for(state="hidden", timeout=1_000 * ANSWER)


def open_dashboard(page: Page, url: str) -> None:
    """Open the notebook, run it, and wait until the queues are there."""
    from tests.support.jupyter import run_all

    page.goto(url)
    run_all(page)
    page.locator("[data-qm=dashboard] [data-queue]").first.wait_for(timeout=1_000 * REFRESHED)


def wait_for_charts(page: Page) -> None:
    """Wait until the charts of the open queue are drawn over their whole width."""
    page.wait_for_function(
        """() => {
            const charts = document.querySelector(".qm-charts"), drawn = charts?.querySelector(".main-svg");
            return drawn && drawn.getBoundingClientRect().width > 0.9 * charts.getBoundingClientRect().width;
        }""",
        timeout=1_000 * REFRESHED,
    )


def colour(element: Locator) -> str:
    """The colour of an element's text as a person calls it: red, yellow or green."""
    red, green, blue = map(int, re.findall(r"\d+", element.evaluate("e => getComputedStyle(e).color"))[:3])
    if green > max(red, blue):
        return "green"
    return "yellow" if green > (red + blue) / 2 else "red"


@pytest.fixture(scope="session")
def _company() -> Iterator[Company]:
    """The demo's data, with its history, for all stories of the session."""
    with new_company() as company:
        yield company


@pytest.fixture
def company(_company: Company) -> Iterator[Company]:
    """The running demo, everything green; its processes end with the test."""
    _company.queuemon("demo", "up")
    _company.queuemon("demo", "scenario", "quiet")
    yield _company
    _company.queuemon("demo", "down")


@pytest.fixture
def story(request: pytest.FixtureRequest, company: Company, open_page: Callable[..., Watched]) -> Iterator[Story]:
    """JupyterLab on the dashboard of the company, as `queuemon lab` opens it; a picture of each end, good or bad."""
    name = request.path.stem.removeprefix("test_story_")
    with company.lab() as url:
        told = Story(name=name, watched=open_page(width=1400, height=900), company=company)
        try:
            open_dashboard(told.page, url)
            yield told
        finally:
            told.picture("end")
