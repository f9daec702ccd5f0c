"""Texts that try to run, wherever the page shows a text: none runs; where a place is unsafe, the trap tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import plotly
import pytest
from playwright.sync_api import Page

import queuemon
from queuemon.render.shown import Charted
from tests.support import faces, jupyter
from tests.support.hostile import PAYLOADS, TRAP
from tests.support.jupyter import Watched
from tests.support.operator import notebook

SETUP = """
import time
from tests.support import fake_workbench as fake
from tests.support.hostile import PAYLOADS, Injector
import queuemon
wb = fake.FakeWorkbench()
name = "analytics:daily-aggregate"
wb.queue_stats[name] = fake.stats(name, failed=12, waiting=1, stuck=1, paused=True)
held = dict(since=fake.utc(), until=None, action_id=None, hard=True)
wb.holders = [fake.Pause(queue=name, holder="maria", reason="month end", **held)]
sign = dict(queue=name, count=1, proven=True, since=fake.utc(), detail="seen twice")
wb.signs = [fake.WatchLine(number=13, title=fake.CLASSES[13].title, **sign)]
wb.drifted = {13: 1}
wb.aside = [fake.Quarantined(queue=name, digest="ab12", size=9, text="not json", job_id=None, why_not="names no job")]
done = wb.apply(wb.plan("retry", "queue:warmup:process status:failed"), reason="fixed")
wb.became[done.id] = [fake.JobOutcome(job_id=fake.uuid4(), outcome="skipped", why="is running again")]
d = queuemon.show(wb)
d
"""

#: A place that takes a text for markup.
UNSAFE = """
import ipyvuetify, traitlets
class Unsafe(ipyvuetify.VuetifyTemplate):
    template = traitlets.Unicode("<template><div v-html='text'></div></template>").tag(sync=True)
    text = traitlets.Unicode("safe").tag(sync=True)
unsafe = Unsafe()
unsafe
"""

#: Opens everything that can stand open together, then stops the refresh.
OPEN = """
d.inspector.open(name, "failed")
d.inspector.find_paths()
d.inspector.choose_columns([["month"], ["customer", "tier"]])
d.inspector.reload()
d.inspector.open_job(d.page["rows"][0]["id"])
d.confirmation.propose("delete", [d.page["rows"][0]["id"]])
d.drift.look()
d.trouble.guard("planning", lambda: 1 / 0)
d.audit.open(str(done.id))
d.toast = {**d.toast, "text": "Retried 12 of 12.", "id": str(done.id)}
d.poller.stop()
time.sleep(1)
injector = Injector(d)
"""

#: The marks that stand in the page: in texts, in fields, and in what is read on hovering or aloud.
MARKS = """() => {
  const found = new Set();
  const read = (text) => { for (const m of (text || '').matchAll(/«(\\d+)»/g)) found.add(m[1]); };
  for (const e of document.querySelectorAll('.qm, .qm *, .v-overlay-container, .v-overlay-container *')) {
    for (const n of e.childNodes) if (n.nodeType === 3) read(n.data);
    for (const a of e.attributes) read(a.value);
    if ('value' in e) read(String(e.value));
  }
  return found.size;
}"""

#: Whether a text has reached the page, as text or within an attribute.
WRITTEN = """(text) => {
  const read = document.querySelector('.qm').textContent, start = text.slice(0, 12);
  return read.includes(start) || [...document.querySelectorAll('.qm [title]')].some((e) => e.title.includes(start));
}"""

#: Elements that only a text of ours could have brought in.
BROUGHT = """() => [...document.querySelectorAll('.qm, .v-overlay-container')].flatMap(
  (root) => [...root.querySelectorAll(
  'img, script, iframe, base, math, noscript, form[action], a[href^="javascript:"]'
  + ', [onerror], [onload], [onfocus], [onmouseover], [ontoggle]'
)]).map((e) => e.outerHTML.slice(0, 200))"""


#: Draws each chart in the place of the one before; a link in one stays.
DRAW = """async (all) => {
  for (const c of all) {
    await Plotly.newPlot('chart', c.data, c.layout);
    if (document.querySelector('#chart svg a')) return;
  }
}"""


@pytest.fixture
def trapped(open_page: Callable[..., Watched]) -> Page:
    """A page with the trap."""
    page = open_page().page
    page.add_init_script(TRAP)
    return page


def test_no_text_runs_in_any_place_of_the_dashboard(tmp_path: Path, trapped: Page) -> None:
    (tmp_path / "work").mkdir()
    page = trapped
    with jupyter.lab(tmp_path / "work", tmp_path / "home") as lab:
        page.goto(lab.lab_url(notebook(tmp_path / "work", SETUP, UNSAFE)))
        jupyter.run_all(page)
        page.locator("[data-qm=dashboard] [data-queue]").first.wait_for(timeout=60_000)
        page.get_by_role("button", name="Drift", exact=True).click()
        with lab.running() as run:
            run(OPEN)
            page.locator("[data-qm=action]").wait_for()
            places = seen = 0
            for number, payload in enumerate(PAYLOADS):
                for reasons in (False, True):
                    put = int(run(f"print(injector.inject(PAYLOADS[{number}], reasons={reasons}))"))
                    page.wait_for_function(WRITTEN, arg=payload)
                    if not number:
                        places, seen = places + put, seen + int(page.evaluate(MARKS))
                    assert page.evaluate("window.ran") == [], payload
                    assert page.evaluate(BROUGHT) == [], payload
            print(f"{len(PAYLOADS)} texts × {places} places of the dashboard ({seen} different ones seen): 0 executed")
            assert places >= 150
            assert seen >= 60

            # The same trap over two places that are unsafe on purpose.
            run(f"unsafe.text = {PAYLOADS[1]!r}")
            page.wait_for_function("window.ran.length > 0")
            page.evaluate("window.ran = []")
            mustache = next(text for text in PAYLOADS if "''.constructor" in text)
            run(f"unsafe.template = {f'<template><div>{mustache}</div></template>'!r}")
            page.wait_for_function("window.ran.length > 0")


def test_no_text_runs_in_any_static_face_or_chart(trapped: Page) -> None:
    page = trapped
    page.goto("about:blank")
    values = [faces.made(kind, payload) for payload in PAYLOADS for kind in faces.public()]
    made = [queuemon.show(value) for one in values for value in (one, [one, one])]
    drawn = [json.loads(c.to_json()) for m in made if isinstance(m, Charted) for c in m.charts]
    page.set_content("<main>" + "".join(m.html for m in made) + "</main><div id=chart></div>")
    page.add_script_tag(path=Path(plotly.__file__).parent / "package_data" / "plotly.min.js")
    page.evaluate(DRAW, drawn)
    assert page.evaluate("window.ran") == []
    found = page.locator(
        "img:not([src^='data:image/svg+xml;base64,']), main script, iframe, base, form, math, #chart svg a,"
        " a[href^='javascript:']"
    )
    assert found.evaluate_all("all => all.map((e) => e.outerHTML.slice(0, 200))") == []
    print(f"{len(PAYLOADS)} texts × {len(made) // len(PAYLOADS)} faces, {len(drawn)} charts: 0 executed")
    assert len(drawn) >= 4 * len(PAYLOADS)

    # The same trap, and a place that is unsafe on purpose.
    page.evaluate("(all) => all.forEach((text) => document.body.insertAdjacentHTML('beforeend', text))", list(PAYLOADS))
    page.wait_for_function("window.ran.length >= 5")
