"""Measures layout shift in the page as a browser does: what moved though no hand asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

_WATCH = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const of = entry.sources.map((s) => s.node && (s.node.nodeType === 1 ? s.node : s.node.parentElement));
      const ours = of.filter((e) => e && e.isConnected && e.closest('.qm, .qm-card'));
      if (ours.length && !entry.hadRecentInput) window.shifts.push([entry.value, ours[0].outerHTML.slice(0, 120)]);
    }
  }).observe({ type: 'layout-shift' });
}"""


def watch_shifts(page: Page) -> None:
    """Begin to note every shift of the dashboard that no click or key has brought about."""
    page.evaluate(_WATCH)


def shifts(page: Page) -> list[Any]:
    """(share of the view, what moved) of every shift since `watch_shifts`."""
    found: list[Any] = page.evaluate("window.shifts")
    return found
