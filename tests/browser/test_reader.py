"""Somebody who may only read, at a production database, in a real browser: all of it can be looked at, nothing done."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from queuemon import actions
from queuemon.config import COLOURS
from tests.support.engine import Rig
from tests.support.jupyter import Server, Watched
from tests.support.operator import ANSWER, MAIL, connecting, dashboard, fail, failed_jobs

WHY = re.compile(r"the database role 'reader_\w+' has the rights of a reader")


@pytest.fixture
def page(operator_lab: Server, rig: Rig, open_page: Callable[..., Watched]) -> Iterator[Page]:
    """The dashboard of a person whose role may SELECT, at a production database."""
    role = f"reader_{uuid4().hex[:8]}"
    rig.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'canary'")
    rig.sql(f"GRANT USAGE ON SCHEMA queuemon TO {role}")
    rig.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public, queuemon TO {role}")
    scheme, _, rest = rig.settings.database_url.get_secret_value().partition("://")
    url = f"{scheme}://{role}:canary@{rest.rpartition('@')[2]}"
    watched = open_page()
    expect.set_options(timeout=ANSWER)
    setup = connecting(rig.settings, database_url=url, profile="production", colour=COLOURS["production"])
    dashboard(operator_lab, watched.page, setup)
    yield watched.page
    operator_lab.forget_kernels()
    expect.set_options(timeout=5_000)
    rig.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :role", role=role)
    rig.sql(f"DROP OWNED BY {role}")
    rig.sql(f"DROP ROLE {role}")
    assert watched.errors == []


def test_a_reader_sees_where_it_is_and_why_each_button_is_off(page: Page, rig: Rig) -> None:
    jobs = fail(rig, 3, month="2026-13", to={"email": "canary@example.com"})
    actions.apply(rig.store, actions.plan(rig.store, "prioritise", "mail", priority="high"), reason="month end")
    strip = page.locator(".qm-strip")
    expect(strip.get_by_text("production")).to_have_css("background-color", "rgb(200, 50, 42)")
    expect(strip.get_by_text("read-only")).to_have_attribute("title", WHY)

    def off(button: Any) -> None:
        expect(button).to_be_disabled()
        expect(button).to_have_attribute("title", WHY)

    expect(page.locator("[data-queue=mail] [data-cell=failed]")).to_have_text("3")
    for name in ("Pause", "Retry failed of", "Clear failed of", "Priority of", "Workers of"):
        off(page.get_by_label(f"{name} {MAIL}", exact=True))
    page.get_by_label(f"More actions on {MAIL}", exact=True).click()
    for item in page.locator(".qm-menu").get_by_role("menuitem").filter(has_not_text="Runbook").all():
        off(item)
    page.keyboard.press("Escape")
    off(page.locator("[data-action=prioritise]").get_by_role("button", name="Undo"))

    failed_jobs(page, 3)
    off(page.get_by_role("toolbar", name="Actions on jobs").get_by_role("button", name="Retry"))
    page.locator("tr.qm-job").first.click()
    job = page.get_by_role("dialog", name="Job details")
    expect(job.get_by_role("tree", name="Payload")).to_contain_text("email:••••••")
    for name in ("Retry Job", "Delete Job", "Reveal 1 masked…"):
        off(job.get_by_role("button", name=name))
    assert rig.count("failed") == len(jobs)
