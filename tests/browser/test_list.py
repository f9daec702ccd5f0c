"""The job list in a real browser: suggestions in the filter box, columns out of payloads, exports."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from queuemon.views import exporter
from tests.support.axe import in_both_themes
from tests.support.engine import Rig
from tests.support.operator import fail, failed_jobs

SECRET = "canary@example.com"


def test_the_filter_box_suggests_by_keyboard_and_mouse_and_never_takes_what_is_typed(page: Page, rig: Rig) -> None:
    fail(rig, 2, month="2026-13", to={"region": "eu west", "email": SECRET})
    fail(rig, 1, month="2026-11", to={"region": "us-east"})
    failed_jobs(page, 3)
    box = page.get_by_role("combobox", name="Filter the jobs")
    offers = page.get_by_role("listbox", name="Suggestions for the filter")
    box.press_sequentially("err")
    expect(offers.get_by_role("option").first).to_contain_text("error:")
    box.press("ArrowDown")
    assert in_both_themes(page, ".qm-filter") == []
    box.press("ArrowDown")
    expect(offers.get_by_role("option", selected=True)).to_contain_text("error_type:")
    box.press("Enter")
    expect(box).to_have_value("error_type:")
    offers.get_by_role("option", name="error_type:ZeroDivisionError").click()
    expect(box).to_have_value("error_type:ZeroDivisionError ")
    box.press_sequentially("payload.mon")
    offers.get_by_role("option", name="payload.month=").click()
    box.press_sequentially("2026-13")
    box.press("Enter")
    expect(page.locator("tr.qm-job")).to_have_count(2)
    box.press_sequentially(" an")
    expect(offers).to_be_visible()
    box.press("Escape")
    expect(offers).to_be_hidden()
    box.press_sequentially("d")
    expect(box).to_have_value(re.compile("2026-13 and$"))
    rig.sql("UPDATE jobs SET status = 'completed' WHERE payload->>'month' = '2026-11'")
    expect(page.locator("[data-tab=failed]"), "a refresh").to_contain_text("2")
    expect(box).to_have_value(re.compile("2026-13 and$"))
    box.press("Enter")
    wrong = page.get_by_role("alert").filter(has_text="Expected")
    expect(wrong).to_contain_text("Expected:")
    expect(page.locator("tr.qm-job")).to_have_count(2)


def test_columns_come_from_the_payloads_and_every_export_holds_them_masked(
    page: Page, rig: Rig, tmp_path: Path
) -> None:
    fail(rig, 60, month="2026-13", to={"region": "eu west", "email": SECRET}, note="=HYPERLINK(1)")
    rig.sql("UPDATE jobs SET error_message = '=cmd', error_type = NULL")
    failed_jobs(page, 50)
    page.get_by_role("button", name="Columns from the payload").click()
    chosen = page.get_by_role("group", name="Columns from the payload")
    for name in ("to.region", "to.email", "note"):
        chosen.get_by_label(name, exact=True).check()
    assert in_both_themes(page, ".qm-columns") == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("columnheader", name="region")).to_be_visible()
    first = page.locator("tr.qm-job").first
    expect(first).to_contain_text("eu west")
    expect(first).to_contain_text("••••••")
    expect(page.locator("[data-qm=dashboard]")).not_to_contain_text("canary")

    def exported(item: str) -> tuple[str, str]:
        page.get_by_label("Export the jobs that match").first.click()
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=item).click()
        target = tmp_path / download.value.suggested_filename
        download.value.save_as(target)
        said = page.locator("[data-qm=export]")
        expect(said).to_contain_text(f"60 jobs saved as {target.name}")
        said.get_by_label("Close the export").click()
        return target.name, target.read_text()

    name, text = exported("CSV")
    assert re.fullmatch(r"mail-\d{8}T\d{6}Z\.csv", name)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 60
    assert {r["error_message"] for r in rows} == {"'=cmd"}
    assert {r["payload.note"] for r in rows} == {"'=HYPERLINK(1)"}
    assert {(r["payload.to.region"], r["payload.to.email"]) for r in rows} == {("eu west", "••••••")}
    assert "canary" not in text
    _, text = exported("JSON")
    found: list[dict[str, Any]] = json.loads(text)
    assert len(found) == 60
    assert found[0]["payload"]["to"] == {"region": "eu west", "email": "••••••"}
    assert (found[0]["attempts"], found[0]["error_message"], found[0]["error_type"]) == (1, "=cmd", None)


def test_what_is_too_large_for_a_page_stays_a_file_that_is_named(
    page: Page, rig: Rig, operator_lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(rig, 3, month="2026-13")
    failed_jobs(page, 3)
    operator_lab.run("from queuemon.views import exporter; exporter.DOWNLOAD = 10")
    assert exporter.DOWNLOAD > 10
    page.get_by_label("Export the jobs that match").first.click()
    page.get_by_role("menuitem", name="CSV").click()
    said = page.locator("[data-qm=export]")
    expect(said).to_contain_text("on the disk of the kernel")
    path = Path(said.locator("code").inner_text())
    assert path.parent == operator_lab.root
    assert path.name.endswith(".csv.gz")
    path.unlink()
