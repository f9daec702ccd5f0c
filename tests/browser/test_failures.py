"""What the screen says while something is away, with the age of the values, and that it recovers by itself.

One page over servers of its own, which the tests stop, freeze and start again one after the other.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from pydantic import SecretStr

from queuemon.config import Settings
from queuemon.demo.stack import Stack
from queuemon.schema.migrate import upgrade
from tests.support import jupyter
from tests.support.controls import note_uses
from tests.support.engine import Rig
from tests.support.jupyter import Server
from tests.support.operator import ANSWER, connecting, dashboard, fail
from tests.support.stores import private_folder
from tests.support.wait import wait_until

#: Of the page: what the servers are given, so that each story is short.
QUICK = {
    "statement_timeout_seconds": 1.0,
    "lock_timeout_seconds": 5.0,
    "redis_timeout_seconds": 1.0,
    "connect_timeout_seconds": 1.0,
}

#: The page's role, which may be refused something.
ROLE = (
    "CREATE ROLE watcher LOGIN PASSWORD 'watching'",
    "GRANT USAGE ON SCHEMA public, queuemon TO watcher",
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO watcher",
    "GRANT ALL ON ALL TABLES IN SCHEMA queuemon TO watcher",
    "GRANT ALL ON ALL SEQUENCES IN SCHEMA queuemon TO watcher",
)

PICTURES = Path(__file__).resolve().parents[2] / "test-artifacts" / "failures"


class Site:
    """Servers of their own, the rig that looks into them past the page, and the page."""

    def __init__(self, stack: Stack, lab: Server, page: Page) -> None:
        urls = stack.up()
        upgrade(urls.database_url)
        settings = Settings(
            profile="test", database_url=SecretStr(urls.database_url), redis_url=SecretStr(urls.redis_url)
        )
        self.stack, self.lab, self.page, self.rig = stack, lab, page, Rig(settings)
        for statement in ROLE:
            self.rig.sql(statement)
        fail(self.rig, 7)
        port = urls.database_url.rpartition(":")[2]
        self.setup = connecting(settings, **QUICK, database_url=f"postgresql://watcher:watching@127.0.0.1:{port}")

    def show(self) -> None:
        """Open the dashboard."""
        dashboard(self.lab, self.page, self.setup)
        expect(self.failed).to_have_text("7")

    @property
    def said(self) -> Locator:
        """The lines below the totals."""
        return self.page.locator(".qm-notes")

    @property
    def failed(self) -> Locator:
        """Failed jobs of the queue mail, as the table has them."""
        return self.page.locator("[data-queue=mail] [data-cell=failed]")

    def greyed(self) -> bool:
        """Whether the table says that its values are not the present."""
        return "qm-stale" in (self.page.locator(".qm-queues").get_attribute("class") or "")

    def picture(self, name: str) -> None:
        """Kept for whoever wants to look."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")

    def well(self) -> None:
        """Nothing is said any more, and the numbers move again."""
        expect(self.said).to_have_text(re.compile("^Both stores answer.$"))
        wait_until(lambda: not self.greyed(), message="nothing is greyed")
        before = int(self.failed.inner_text())
        fail(self.rig, 1)
        expect(self.failed).to_have_text(str(before + 1))

    @contextmanager
    def frozen(self, pid: int) -> Iterator[None]:
        """A server whose processes stand still: it takes every request and answers none, as over a half-open line."""
        main = psutil.Process(pid)
        stopped = [main, *main.children(recursive=True)]
        for process in stopped:
            process.suspend()
        try:
            yield
        finally:
            for process in stopped:
                if process.is_running():
                    process.resume()


@pytest.fixture(scope="module")
def site(browser: Browser, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all stories."""
    folder = private_folder()
    stack = Stack(folder / "stack", postgres_settings={"fsync": "off"})
    watched = jupyter.open_page(browser)
    note_uses(watched.page, request.node.nodeid)
    expect.set_options(timeout=ANSWER)
    try:
        with jupyter.lab(tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("home")) as lab:
            made = Site(stack, lab, watched.page)
            made.show()
            yield made
            made.rig.store.close()
    finally:
        expect.set_options(timeout=5_000)
        watched.page.close()
        stack.destroy()


def test_without_postgresql_the_last_values_stay_greyed_with_their_age_and_come_back(site: Site) -> None:
    before = site.failed.inner_text()
    psutil.Process(site.stack.status().postgres.pid).send_signal(signal.SIGINT)  # a fast shutdown
    expect(site.said).to_contain_text(re.compile(r"PostgreSQL at 127\.0\.0\.1:\d+ (cannot be reached|is starting up)"))
    expect(site.said).to_contain_text(re.compile(r"Showing values from \d+ s ago\."))
    assert site.greyed()
    assert site.failed.inner_text() == before, "no zero, and no blank"
    expect(site.page.locator("[data-qm=age]")).to_have_class(re.compile("qm-amber"))
    expect(site.said).not_to_contain_text("Redis")
    expect(site.page.locator(".qm-problem")).to_have_count(0)
    site.picture("postgresql-stopped")
    site.stack.up()
    site.rig.store.postgres.close()  # what its pool holds is of the server that was stopped
    site.well()


def test_without_redis_the_numbers_of_postgresql_go_on(site: Site) -> None:
    psutil.Process(site.stack.status().valkey.pid).kill()
    expect(site.said).to_contain_text(re.compile(r"Redis at 127\.0\.0\.1:\d+ cannot be reached"))
    expect(site.said).to_contain_text("List lengths are not current.")
    expect(site.said).not_to_contain_text("PostgreSQL")
    assert not site.greyed()
    before = int(site.failed.inner_text())
    fail(site.rig, 1)
    expect(site.failed).to_have_text(str(before + 1))
    site.picture("redis-stopped")
    site.stack.up()
    site.well()


def test_a_statement_that_takes_too_long_is_ended_and_said(site: Site) -> None:
    with psycopg.connect(site.rig.settings.database_url.get_secret_value()) as other:
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        expect(site.said).to_contain_text("PostgreSQL did not finish within 1 s and was asked to stop")
        expect(site.said).to_contain_text(re.compile(r"Showing values from \d+ s ago\."))
        assert site.greyed()
        site.picture("statement-timeout")
    site.well()


def test_a_right_that_is_missing_is_named(site: Site) -> None:
    site.rig.sql("REVOKE SELECT ON jobs FROM watcher")
    expect(site.said).to_contain_text("PostgreSQL says: permission denied for table jobs")
    expect(site.said).to_contain_text("connect with an operator's role")
    assert site.greyed()
    site.picture("permission-denied")
    site.rig.sql("GRANT SELECT ON jobs TO watcher")
    site.well()


def test_a_server_that_takes_requests_and_answers_none_does_not_hold_up_the_page(site: Site) -> None:
    with site.frozen(site.stack.status().postgres.pid):
        expect(site.said).to_contain_text(re.compile(r"PostgreSQL at .* (does not answer|cannot be reached)"))
        assert site.greyed()
        site.picture("postgresql-silent")
    site.well()
    with site.frozen(site.stack.status().valkey.pid):
        expect(site.said).to_contain_text(re.compile(r"Redis at .* did not answer within 1 s"))
        assert not site.greyed()
    site.well()


def test_a_kernel_that_was_restarted_is_said_and_the_cell_brings_the_dashboard_back(site: Site) -> None:
    site.lab.restart_kernel()
    expect(site.said).to_contain_text("The kernel has not answered for", timeout=60_000)
    expect(site.said).to_contain_text("run the cell of this dashboard again")
    assert site.greyed()
    site.picture("kernel-restarted")
    jupyter.run_all(site.page)
    site.page.get_by_label("Refresh every").select_option("1", timeout=60_000)
    site.well()


def test_the_cell_run_ten_times_leaves_one_poller(site: Site) -> None:
    for _ in range(10):
        site.page.click(".lm-MenuBar-itemLabel:text-is('Run')")
        site.page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
        expect(site.page.locator("[data-qm=dashboard] [data-queue=mail]")).to_be_visible()
    code = "import threading; print(sum(t.name == 'queuemon-poller' for t in threading.enumerate()))"
    wait_until(lambda: int(site.lab.run(code)) == 1, message="one poller is left")
    site.page.get_by_label("Refresh every").select_option("1")
    site.well()


def test_a_notebook_that_was_shut_down_leaves_no_connection(site: Site) -> None:
    connected = "SELECT count(*) AS n FROM pg_stat_activity WHERE usename = 'watcher'"
    assert site.rig.sql(connected)[0]["n"] > 0
    site.lab.forget_kernels()
    wait_until(lambda: site.rig.sql(connected)[0]["n"] == 0, timeout=20, message="its connections have ended")
