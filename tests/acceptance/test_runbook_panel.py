"""The panel of runbooks without a browser: forms judged, runs started, followed, stopped, found again and approved."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from queuemon import runbooks
from queuemon.errors import NotAllowed, UnknownRunbook
from queuemon.views.runbooks import Runbooks
from queuemon.workbench import Workbench
from tests.support.runbooks import Floor
from tests.support.terminal import HOSTILE
from tests.support.wait import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

MARKUP = "<img src=x onerror=alert(1)>{{7*7}}"


@pytest.fixture
def panels(floor: Floor) -> Iterator[Callable[[], Runbooks]]:
    """Makes panels, each as a cell that is run again makes it."""
    made: list[tuple[Workbench, Runbooks]] = []

    def make() -> Runbooks:
        wb = Workbench(floor.rig.settings)
        panel = Runbooks(wb)
        panel.said = []  # type: ignore[attr-defined]
        panel._told = lambda text, tone: panel.said.append((text, tone))  # type: ignore[attr-defined]
        made.append((wb, panel))
        return panel

    yield make
    for wb, panel in made:
        for run_id in list(panel._started):
            panel.stop(run_id)
        wait_until(lambda panel=panel: not panel._started, timeout=60, message="every run has ended")  # type: ignore[misc]
        panel.close()
        wb.close()


def ended(panel: Runbooks) -> dict[str, Any]:
    """The run on screen, once it has ended."""
    wait_until(
        lambda: panel.run.get("state", "running") != "running" and not panel._started, timeout=120,
        message=f"the run ends: {panel.run}",
    )  # fmt: skip
    return panel.run


def wait_long(floor: Floor) -> None:
    """A runbook whose step waits until it is stopped, and then puts something back."""
    from queuemon.runbooks import skeleton

    path = skeleton.write("wait-long", floor.folder / "runbooks")
    notebook = json.loads(path.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    back = "finally:\n    pathlib.Path('back').touch()"
    look = f"import pathlib, time\ntry:\n    print('begun')\n    time.sleep(600)\n{back}"
    sources = ['queue: str = "mail"  # queue\ndry_run: bool = True  # act', look, "pass", "pass", "pass", "pass"]
    for cell, source in zip(cells, sources, strict=True):
        cell["source"] = source
    path.write_text(json.dumps(notebook))


def test_a_form_is_filled_from_an_alert_judged_at_its_fields_and_starts_nothing_wrong(
    floor: Floor, panels: Callable[[], Runbooks]
) -> None:
    panel = panels()
    panel.tick()
    assert {book["name"] for book in panel.shelf} == {info.name for info in runbooks.list_runbooks()}
    panel.open("retry-failed", queue="mail", since="soon", nope=1)
    fields = {f["name"]: f for f in panel.book["fields"]}
    assert "dry_run" not in fields
    assert (fields["queue"]["input"], fields["canary"]["input"], fields["limit"]["input"]) == (
        "queue",
        "flag",
        "number",
    )
    assert (fields["wait_seconds"]["label"], fields["wait_seconds"]["unit"]) == ("wait", "seconds")
    assert panel.book["values"] | {"reason": ""} == panel.book["values"]
    assert (panel.book["values"]["queue"], panel.book["values"]["limit"]) == ("mail", "10000")
    assert panel.book["wet"] is False
    assert panel.book["errors"].keys() == {"since"}
    assert "nope" in panel.book["refused"]
    values = panel.book["values"] | {"queue": MARKUP, "limit": "many", "wait_seconds": "-1", "signature": "x"}
    panel.answer({"do": "start", "name": "retry-failed", "values": values, "wet": True})
    errors = panel.book["errors"]
    assert errors.keys() == {"queue", "limit", "wait_seconds", "signature", "since"}
    assert errors["limit"] == "Takes a whole number, 1 to 100,000."
    assert "there is no queue" in errors["queue"]
    assert panel.book["values"]["since"] == "soon", "what was typed stays"
    assert not panel.run
    assert not panel._started
    assert not (floor.folder / "runs").exists()
    with pytest.raises(UnknownRunbook):
        panel.open("nope")


def test_a_dry_run_then_a_wet_one_are_followed_and_kept(floor: Floor, panels: Callable[[], Runbooks]) -> None:
    floor.ended(3, "failed", error=MARKUP)
    panel = panels()
    panel.open("retry-failed", queue="mail")
    panel.start("retry-failed", panel.book["values"], wet=False)
    assert panel.run["starting"]
    assert not panel.book
    run = ended(panel)
    assert (run["state"], run["dry"], run["verdict"]) == ("done", True, "Nothing was changed. It would retry 3.")
    assert [s["state"] for s in run["steps"]] == ["done"] * 5
    assert floor.states() == {"failed": 3}
    assert any("queuemon jobs" in text for text in run["next"])
    panel.show_record(run["id"])
    assert MARKUP not in panel.record["html"]
    with floor.rig.worker(lambda job: None):
        panel.again(run["id"], wet=True)
        assert (panel.book["wet"], panel.book["values"]["queue"]) == (True, "mail")
        panel.start("retry-failed", panel.book["values"] | {"reason": MARKUP}, wet=True)
        run = ended(panel)
    assert run["verdict"] == "Done and verified: retry 3 of 3."
    assert floor.states() == {"completed": 3}
    assert [a["id"] for a in run["actions"]] == [str(r["id"]) for r in floor.sql("SELECT id FROM queuemon.actions")]
    panel.tick()
    assert [(r["dry"], r["state"], r["on"]) for r in panel.ran] == [
        (False, "done", "queue:mail"), (True, "done", "queue:mail"),
    ]  # fmt: skip


def test_a_cell_that_is_run_again_finds_the_run_starts_no_second_one_and_stops_it(
    floor: Floor, panels: Callable[[], Runbooks]
) -> None:
    wait_long(floor)
    first = panels()
    first.open("wait-long", queue="mail")
    first.start("wait-long", first.book["values"], wet=False)
    run_id = first.run["id"]
    running = lambda panel: any(s["state"] == "running" for s in panel.run.get("steps", ()))  # noqa: E731
    wait_until(lambda: running(first), timeout=90, message="the step is seen to run")
    assert [s["state"] for s in first.run["steps"]] == ["running", *["pending"] * 4], "the cells are told while it runs"
    first.close()
    second = panels()
    second.tick()
    assert [(r["id"], r["state"]) for r in second.ran] == [(run_id, "running")]
    second.open("wait-long", queue="mail")
    second.start("wait-long", second.book["values"], wet=False)
    refused = ended(second)
    assert refused["state"] == "failed"
    assert "another run of 'wait-long' is at work on mail" in refused["verdict"]
    second.open_run(run_id)
    wait_until(lambda: running(second), message="the other panel follows it too")
    second.stop(run_id)
    assert second.run["stopping"]
    wait_until(lambda: second.run["state"] == "stopped", timeout=60, message="it has stopped")
    assert (floor.folder / "back").exists(), "the step put back what it changed"
    assert second.run["steps"][0]["state"] == "stopped"
    assert second.run["steps"][0]["said"] == "begun"
    assert second.run["goOn"]
    wait_until(lambda: not first._started, message="its own panel knows too")


def test_nothing_is_run_for_real_where_the_workbench_is_read_only(floor: Floor, panels: Callable[[], Runbooks]) -> None:
    floor.ended(1, "failed")
    panel = panels()
    panel._workbench.settings = panel._workbench.settings.model_copy(update={"read_only": True})
    panel.open("retry-failed", queue="mail")
    panel.start("retry-failed", panel.book["values"], wet=True)
    assert "is refused" in panel.book["refused"]
    assert not panel._started
    write_record(floor.folder, "0badc0de", state="failed", parameters={"dry_run": False})
    with pytest.raises(NotAllowed):
        panel.resume("0badc0de")


def write_record(folder: Path, run_id: str, **facts: Any) -> None:
    """A record as another program may have left it."""
    told = {
        "id": run_id, "name": "retry-failed", "state": "done", "parameters": {}, "actor": f"{HOSTILE}/x",
        "started_at": "2026-10-03T14:00:00+00:00", "finished_at": None, "step": MARKUP, "error": MARKUP + HOSTILE,
    }  # fmt: skip
    path = folder / "runs" / "retry-failed" / f"20261003T140000Z-{run_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told | facts))


def test_records_of_any_content_are_listed_and_shown(floor: Floor, panels: Callable[[], Runbooks]) -> None:
    odd = [{"id": 5, "kind": HOSTILE, "state": None, "planned": "many"}, {"hash": [], "state": "unapproved"}]
    write_record(floor.folder, "aa", state="failed", actions=odd[:1], parameters={"queue": HOSTILE, "x": [1, None]})
    write_record(floor.folder, "bb", state="running", process={"host": "elsewhere", "pid": "x"})
    panel = panels()
    panel.tick()
    assert len(panel.ran) == 2
    for run_id in ("aa", "bb"):
        panel.open_run(run_id)
        assert panel.run["id"] == run_id
        assert "\x1b" not in json.dumps(panel.run, ensure_ascii=False)
    panel.close_run()
