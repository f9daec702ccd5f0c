"""axe-core over what stands on a page: the violations that keep a person out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page


def violations(page: Page, where: str) -> list[str]:
    """Serious and critical violations within a selector, once it has come to rest; one line each."""
    from axe_playwright_python.sync_playwright import Axe

    page.locator(where).first.wait_for()
    page.wait_for_timeout(400)
    results: Any = Axe().run(page, context=where, options={"resultTypes": ["violations"]})
    return [
        f"{where}: {v['id']}: {node['html'][:160]}"
        for v in results.response["violations"]
        if v["impact"] in {"serious", "critical"}
        for node in v["nodes"]
    ]


def in_both_themes(page: Page, where: str) -> list[str]:
    """The violations in light and in dark, of a page that stays open; it is light again afterwards."""
    found = violations(page, where)
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    found += [f"dark {line}" for line in violations(page, where)]
    page.evaluate("document.body.dataset.jpThemeLight = 'true'")
    return found
