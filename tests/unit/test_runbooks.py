"""What runbooks say about themselves, and which parameters are refused before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from queuemon import runbooks
from queuemon.cli import run
from queuemon.contract import JobStatus
from queuemon.errors import InvalidValue, LimitExceeded, QueuemonError, RunbookError, UnknownRunbook
from queuemon.filters import JobFilter
from queuemon.runbooks import steps
from queuemon.runbooks.catalogue import parse_parameters
from queuemon.runbooks.steps import Outcome
from tests.support.terminal import HOSTILE

DECLARED = """
queue: str  # queue to act on
limit: int = 10  # at most
share: float = 0.5
errors: list[str] = []  # which
dry_run: bool = True  # change nothing
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a runbook into ./runbooks of a private working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runbooks").mkdir()

    def make(
        name: str = "fix-it", parameters: str = DECLARED, prose: str = "# Fix it\n## When to use\nNow.\n## Act"
    ) -> Path:
        cells = [
            {"cell_type": "markdown", "metadata": {}, "source": [prose]},
            {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [parameters], "outputs": []},
        ]
        path = tmp_path / "runbooks" / f"{name}.ipynb"
        path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
        return path

    return make


# ------------------------------------------------------------------------------------------------------- catalogue


def test_a_runbook_tells_its_title_use_parameters_and_steps(write: Write) -> None:
    write()
    info = runbooks.describe("fix-it")
    assert (info.title, info.when, info.steps) == ("Fix it", "Now.", ("When to use", "Act"))
    assert [(p.name, p.type, p.required, p.default, p.help) for p in info.parameters] == [
        ("queue", "str", True, None, "queue to act on"),
        ("limit", "int", False, 10, "at most"),
        ("share", "float", False, 0.5, ""),
        ("errors", "list[str]", False, [], "which"),
        ("dry_run", "bool", False, True, "change nothing"),
    ]


def test_runbooks_of_the_working_folder_win_over_the_packages_own(write: Write) -> None:
    write("retry-failed", prose="# Mine")
    assert runbooks.describe("retry-failed").title == "Mine"
    assert [info.name for info in runbooks.list_runbooks()].count("retry-failed") == 1


def test_every_runbook_of_the_repository_has_the_steps_and_a_dry_run_by_default() -> None:
    for info in runbooks.list_runbooks():
        assert info.steps == ("When to use", "Look", "Plan", "Act", "Verify", "Undo / next"), info.name
        assert info.when
        (dry_run,) = [p for p in info.parameters if p.name == "dry_run"]
        assert (dry_run.type, dry_run.default) == ("bool", True)
        assert all(p.help for p in info.parameters)


def test_the_table_of_symptoms_names_every_runbook() -> None:
    folder = Path(runbooks.__file__).parents[2] / "runbooks"
    table = (folder / "README.md").read_text()
    for path in folder.glob("*.ipynb"):
        assert f"[{path.stem}]({path.name})" in table


def test_an_unknown_runbook_is_answered_with_the_nearest(write: Write) -> None:
    write()
    with pytest.raises(UnknownRunbook, match=r"did you mean 'fix-it'\?$"):
        runbooks.describe("fix-itt")


@pytest.mark.parametrize("name", ["../fix-it", "fix-it.ipynb", "", "/etc/passwd", HOSTILE])
def test_a_name_is_never_a_path(write: Write, name: str) -> None:
    write()
    with pytest.raises(UnknownRunbook, match="there is no runbook"):
        runbooks.describe(name)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"cells": [{}]}', "\x00", '{"cells": 3}'])
def test_a_broken_notebook_is_one_sentence(write: Write, text: str) -> None:
    write().write_text(text)
    with pytest.raises(RunbookError, match="cannot be read"):
        runbooks.describe("fix-it")


@pytest.mark.parametrize(
    "source",
    [
        "queue = 'x'",
        "queue: set = {1}",
        "queue: str = f()",
        "limit: int = 'x'",
        "limit: int = 1.5",
        "import os",
        "queue: str = (",
        "a.b: str = 'x'",
    ],
)
def test_a_parameters_cell_holds_typed_literals_and_nothing_else(source: str) -> None:
    with pytest.raises(RunbookError, match="parameters cell"):
        parse_parameters(source, "fix-it")


# ------------------------------------------------------------------------------------------------------ parameters


def values(**given: object) -> dict[str, Any]:
    """The typed parameters of DECLARED."""
    info = runbooks.RunbookInfo(
        name="fix-it", title="", when="", parameters=parse_parameters(DECLARED, "x"), steps=(), path=Path()
    )
    return info.values(given)


def test_words_become_values_of_their_type() -> None:
    found = values(queue="a", limit="20", share="1e-3", errors="x, y", dry_run="no")
    assert found == {"queue": "a", "limit": 20, "share": 0.001, "errors": ["x", "y"], "dry_run": False}
    assert values(queue="a", errors='["x, y"]')["errors"] == ["x, y"]


def test_values_of_the_right_type_stay() -> None:
    assert values(queue="a", limit=20, share=1, errors=["x"], dry_run=False)["share"] == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "ten"),
        ("limit", "1.5"),
        ("limit", True),
        ("limit", "9" * 5000),
        ("share", "nan"),
        ("share", "inf"),
        ("dry_run", "maybe"),
        ("dry_run", 1),
        ("dry_run", ""),
        ("errors", "[1]"),
        ("errors", "[broken"),
        ("errors", 3),
        ("queue", 3),
        ("queue", "\ud800"),
    ],
)
def test_a_mistyped_parameter_is_refused_with_what_was_expected(name: str, value: object) -> None:
    with pytest.raises(InvalidValue, match=f"parameter '{name}'") as caught:
        values(**{"queue": "a", name: value})
    assert "Expected: " in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("describe nope", "there is no runbook"),
        ("run nope", "there is no runbook"),
        ("run fix-it", "needs queue"),
        ("run fix-it -p queue=a -p limitt=3", "did you mean 'limit'?\n"),
        ("run fix-it -p queue=a -p queue=b", "'queue' is given twice"),
        ("run fix-it -p queue=a -p limit=-5", "Expected: a whole number, 0 or more"),
        ("run fix-it -p queue=a -p share=-0.1", "Expected: a number, 0 or more"),
    ],
)
def test_what_is_asked_wrongly_is_a_mistake_of_usage(
    write: Write, words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    assert run(["runbook", *words.split()]) == 2
    assert says in capsys.readouterr().err


class Applied:
    """Stands for a Workbench that is only told to apply."""

    reason = ""

    def apply(self, plan: Any, *, reason: str) -> None:
        self.reason = reason


@pytest.mark.parametrize("reason", ["fixed by #812", ""])
def test_the_audit_trail_gets_the_run_and_the_filter_behind_the_reason(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wb: Any = Applied()
    plan: Any = SimpleNamespace(count=12)
    where = JobFilter.parse("queue:mail status:failed")
    steps.act(wb, plan, dry_run=False, reason=reason, where=where)
    assert wb.reason == f"{reason} (jobs of {where})".strip()
    monkeypatch.setenv("QUEUEMON_RUNBOOK_RUN", "runbook retry-failed, run 1a2b3c4d")
    steps.act(wb, plan, dry_run=False, reason=reason, where=where)
    assert wb.reason == f"{reason} (runbook retry-failed, run 1a2b3c4d; jobs of {where})".strip()
    monkeypatch.delenv("QUEUEMON_RUNBOOK_RUN")
    steps.act(wb, plan, dry_run=False, reason=reason)
    assert wb.reason == reason


def test_an_unknown_parameter_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidValue, match="did you mean 'limit'"):
        values(queue="a", limitt=3)


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(InvalidValue, match="needs queue"):
        values()


def test_a_password_is_no_parameter() -> None:
    with pytest.raises(InvalidValue, match="profile") as caught:
        values(queue="postgresql://ops:hunter2@db/prod")
    assert "hunter2" not in str(caught.value)


def test_nothing_is_written_when_a_parameter_is_refused(write: Write, tmp_path: Path) -> None:
    write()
    with pytest.raises(QueuemonError):
        runbooks.run("fix-it", {"queue": "a", "limit": "x"}, runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


# ----------------------------------------------------------------------------------------------------------- steps


class Settling:
    """A workbench whose jobs settle after some looks."""

    def __init__(self, *found: dict[JobStatus, int]) -> None:
        self.found = list(found)

    def statuses_of(self, ids: object) -> dict[JobStatus, int]:
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]


def verify(wb: Settling, total: int, seconds: float = 5.0) -> Outcome | None:
    return steps.verify_completed(wb, object(), [None] * total, seconds=seconds)  # type: ignore[arg-type, list-item]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once."""
    monkeypatch.setattr(steps, "INTERVAL", 0.001)


def test_the_verification_waits_until_all_have_completed() -> None:
    wb = Settling({JobStatus.WAITING: 2}, {JobStatus.ACTIVE: 1, JobStatus.COMPLETED: 1}, {JobStatus.COMPLETED: 2})
    outcome = verify(wb, 2)
    assert outcome is not None
    assert outcome.settled
    assert repr(outcome) == "Of 2 jobs after 0 s: 2 completed."


def test_a_job_that_failed_again_fails_the_verification() -> None:
    with pytest.raises(RunbookError, match="1 completed, 1 failed"):
        verify(Settling({JobStatus.COMPLETED: 1, JobStatus.FAILED: 1}), 2)


def test_jobs_still_waiting_when_the_time_is_up_fail_the_verification() -> None:
    with pytest.raises(RunbookError, match=r"within 0.01 s.*do workers run"):
        verify(Settling({JobStatus.WAITING: 2}), 2, seconds=0.01)


def test_a_deleted_job_is_told_but_does_not_fail_the_verification() -> None:
    outcome = verify(Settling({JobStatus.COMPLETED: 1}), 2)
    assert outcome is not None
    assert "1 deleted" in repr(outcome)


class Pages:
    """A workbench with pages of jobs."""

    def __init__(self, jobs: int) -> None:
        self.left = jobs

    def jobs(self, where: object, *, limit: int, after: str | None) -> Any:
        n = min(limit, self.left)
        self.left -= n
        job = type("J", (), {"id": None})
        return type("P", (), {"jobs": [job] * n, "after": "x" if self.left else None})


def test_a_selection_is_read_page_by_page_and_refused_beyond_its_limit() -> None:
    assert len(steps.select(Pages(2_500), None, limit=2_500)) == 2_500  # type: ignore[arg-type]
    with pytest.raises(LimitExceeded, match="more than 2,499"):
        steps.select(Pages(2_500), None, limit=2_499)  # type: ignore[arg-type]
