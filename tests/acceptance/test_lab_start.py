"""How long a person waits for the workbench; prints the figures and asserts what appears, not how fast."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.story import REFRESHED, Company
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.support.jupyter import Watched

pytestmark = [pytest.mark.acceptance, pytest.mark.browser, pytest.mark.timeout(600)]

#: Queue → its four numbers as they are printed.
NUMBERS = """rows => Object.fromEntries(rows.map(
    r => [r.dataset.queue, [...r.querySelectorAll('[data-cell]')].map(c => c.innerText).join(' ')]))"""


def numbers(page: Page) -> dict[str, str]:
    """What the table of queues shows now; empty before there is one."""
    found: dict[str, str] = page.locator("[data-qm=dashboard] [data-queue]").evaluate_all(NUMBERS)
    return found


def test_from_the_command_to_numbers_that_move(
    company: Company, open_page: Callable[..., Watched], capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.support.jupyter import run_all

    said = {}
    with ExitStack() as stack:
        for name, before in (("the demo is down, its data there", ["demo", "down"]), ("the demo is up", [])):
            stack.close()
            if before:
                company.queuemon(*before)
            began = time.monotonic()
            url = stack.enter_context(company.lab())
            said[f"queuemon lab → URL that answers, {name}"] = time.monotonic() - began

        page = open_page(width=1400, height=900).page
        began = time.monotonic()
        page.goto(url)
        page.locator("#jp-main-statusbar", has_text=re.compile(r"\| Idle")).wait_for(timeout=120_000)
        said["URL → notebook with its kernel"] = time.monotonic() - began

        began = time.monotonic()
        run_all(page)
        first = wait_until(lambda: numbers(page), timeout=REFRESHED, message="the queues are on the screen")
        said["Run All → five queues"] = time.monotonic() - began
        assert len(first) == 5

        def moved() -> set[str]:
            return {queue for queue, shown in numbers(page).items() if shown != first[queue]}

        wait_until(moved, timeout=REFRESHED, message="a number has changed")
        said["Run All → numbers change"] = time.monotonic() - began
        wait_until(lambda: len(moved()) == 5, timeout=2 * REFRESHED, message="numbers of all five queues have changed")
        said["Run All → those of all five have"] = time.monotonic() - began
    with capsys.disabled():
        print("\n" + "\n".join(f"{seconds:6.1f} s  {what}" for what, seconds in said.items()))
