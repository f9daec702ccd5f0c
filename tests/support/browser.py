"""Fixtures for tests with a real Chromium: `browser`, and `open_page` for pages of any size in light or dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.controls import note_uses
from tests.support.requirements import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.support.jupyter import Watched


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Per module, since playwright keeps an event loop running in this thread while it lives."""
    try:
        from tests.support.jupyter import CHROMIUM, chromium
    except ImportError:
        missing("playwright", "pip install playwright")
    if not Path(CHROMIUM).exists():
        missing(CHROMIUM, "apt-get install chromium")
    with chromium() as running:
        yield running


@pytest.fixture
def open_page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Watched]]:
    """Opens pages: `open_page(width=1400, height=900, colour_scheme="dark")`; they are closed after the test."""
    from tests.support import jupyter

    opened: list[Watched] = []

    def open_one(**arguments: object) -> Watched:
        opened.append(jupyter.open_page(browser, **arguments))  # type: ignore[arg-type]
        note_uses(opened[-1].page, request.node.nodeid)
        return opened[-1]

    yield open_one
    for watched in opened:
        watched.page.close()
