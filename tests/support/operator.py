"""An operator at the dashboard of real stores, in a real browser: what the tests of actions stand on.

Fixtures: `operator_lab` (a JupyterLab per module), `page` (the dashboard of the rig's stores, refreshed every second).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import nbformat
import pytest

from queuemon.config import Settings
from queuemon.engine.ids import uuid7
from tests.support.engine import Rig

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tests.support.jupyter import Server, Watched

MAIL = "queue:mail"

#: Milliseconds for what a click brings about, on a machine that does something else meanwhile.
ANSWER = 20_000


def notebook(folder: Path, *cells: str, name: str = "dashboard.ipynb") -> str:
    """A notebook of code cells; returns its name."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = nbformat.v4.new_notebook(metadata=kernel, cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbformat.write(made, folder / name)
    return name


@pytest.fixture(scope="module")
def operator_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A JupyterLab for all tests of a file."""
    from tests.support import jupyter

    with jupyter.lab(tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("home")) as server:
        yield server


def connecting(settings: Settings, **changes: Any) -> str:
    """The cell that makes `wb` from these settings; ten jobs are a chunk."""
    values = settings.model_dump(include={"profile", "lease_seconds", "heartbeat_seconds", "backoff_seconds"})
    values |= {"database_url": settings.database_url.get_secret_value(), "chunk_rows": 10}
    values |= {"redis_url": settings.redis_url.get_secret_value(), **changes}
    return (
        "import queuemon\nfrom queuemon.config import Settings\nfrom queuemon.workbench import Workbench\n"
        f"wb = Workbench(Settings(**{values!r}))"
    )


def dashboard(lab: Server, page: Page, setup: str, *, name: str = "dashboard.ipynb") -> None:
    """Show the dashboard of `wb` in a notebook of this name, refreshed every second."""
    from tests.support import jupyter

    page.set_default_timeout(ANSWER)
    page.goto(lab.lab_url(notebook(lab.root, setup, "queuemon.show(wb)", name=name)))
    jupyter.run_all(page)
    page.get_by_label("Refresh every").select_option("1", timeout=60_000)


@pytest.fixture
def page(operator_lab: Server, rig: Rig, open_page: Callable[..., Watched]) -> Iterator[Page]:
    """The dashboard of the rig's stores, refreshed every second; ten jobs are a chunk."""
    from playwright.sync_api import expect

    watched = open_page()
    expect.set_options(timeout=ANSWER)
    dashboard(operator_lab, watched.page, connecting(rig.settings))
    yield watched.page
    operator_lab.forget_kernels()
    expect.set_options(timeout=5_000)
    assert watched.outside == []
    assert watched.errors == []


def fail(rig: Rig, number: int, **payload: Any) -> list[UUID]:
    """Jobs of the queue mail that stand failed, in the order of their ids."""
    ids = sorted(uuid7() for _ in range(number))
    rig.sql(
        "INSERT INTO jobs (id, queue, payload, status, attempts, max_attempts, gen, created_at, finished_at,"
        " error_type) SELECT id, 'mail', CAST(:payload AS jsonb), 'failed', 1, 1, 3, now() - interval '1 hour',"
        " now() - interval '1 minute', 'ZeroDivisionError' FROM unnest(CAST(:ids AS uuid[])) AS id",
        ids=ids,
        payload=json.dumps(payload),
    )
    return ids


def failed_jobs(page: Page, number: int) -> None:
    """Open the failed jobs of the queue mail."""
    from playwright.sync_api import expect

    page.get_by_label(f"View details of {MAIL}", exact=True).click()
    page.locator("[data-tab=failed]").click()
    expect(page.locator("tr.qm-job")).to_have_count(number)


def retry_slowly(page: Page, number: int, reason: str) -> Locator:
    """Retry all failed jobs that are listed, eight a second; returns the dialog."""
    page.get_by_role("button", name=f"Retry all {number} matching").click()
    dialog = page.locator("[data-qm=confirm]")
    dialog.get_by_text("Advanced", exact=True).click()
    dialog.get_by_label("Jobs per second at most").fill("8")
    return confirm(page, reason)


def confirm(page: Page, reason: str, *, typed: str = "") -> Locator:
    """Give the reason and confirm; returns the dialog."""
    dialog = page.locator("[data-qm=confirm]")
    dialog.get_by_label("Reason").fill(reason)
    if typed:
        dialog.get_by_label("Typed count").fill(typed)
    dialog.locator("[data-qm=confirm-button]").click()
    return dialog


def said(page: Page) -> Locator:
    """The snackbar."""
    return page.locator(".qm-toast")
