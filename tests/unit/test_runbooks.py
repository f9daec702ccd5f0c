"""What runbooks say about themselves, and which parameters are refused before anything runs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from queuemon import runbooks
from queuemon.cli import run
from queuemon.contract import JobStatus
from queuemon.errors import InvalidValue, LimitExceeded, QueuemonError, RunbookError, UnknownRunbook
from queuemon.filters import JobFilter
from queuemon.model import ActionKind, Plan
from queuemon.runbooks import advice, journal, lint, past, selection, skeleton, steps
from queuemon.runbooks.parameters import parse_parameters
from queuemon.runbooks.secrets import BLOT, Blotter
from queuemon.runbooks.steps import Outcome
from tests.support.fake_workbench import snapshot, stats, utc
from tests.support.terminal import HOSTILE, assert_harmless
from tools import notebooks

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


def test_every_runbook_of_the_repository_keeps_the_conventions() -> None:
    folder = Path(runbooks.__file__).parents[2] / "runbooks"
    for path in sorted(folder.glob("*.ipynb")):
        assert lint.check(path) == (), path.name


def test_a_new_runbook_keeps_the_conventions_and_never_replaces_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["runbook", "new", "drain-queue"]) == 0
    path = tmp_path / "runbooks" / "drain-queue.ipynb"
    assert run(["runbook", "check", str(path)]) == 0
    assert notebooks.text(notebooks.clean(json.loads(path.read_text()))) == path.read_text()
    assert runbooks.describe("drain-queue").title == "Drain queue"
    before = path.read_text()
    capsys.readouterr()
    for name, says in (("drain-queue", "exists already"), ("../x-y", "cannot be"), ("drain", "cannot be")):
        assert run(["runbook", "new", name]) == 2
        assert says in capsys.readouterr().err
    assert path.read_text() == before


def broken(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> tuple[str, ...]:
    """The complaints about a skeleton whose cells were changed."""
    skeleton.write("drain-queue", path)
    file = path / "drain-queue.ipynb"
    notebook = json.loads(file.read_text())
    change(notebook["cells"])
    file.write_text(json.dumps(notebook))
    return lint.checked(file)


def code(cells: list[dict[str, Any]], number: int, source: str) -> None:
    """Replace the source of a code cell."""
    [cell for cell in cells if cell["cell_type"] == "code"][number]["source"] = source


DRY = "dry_run: bool = True  # change nothing\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda cells: code(cells, 0, "limit: int = 1\n" + DRY), "parameter limit is not explained"),
        (lambda cells: code(cells, 0, "limit = 1\n" + DRY), "no typed parameter"),
        (lambda cells: code(cells, 0, "n: int = 1  # n"), "declare `dry_run: bool = True"),
        (lambda cells: code(cells, 0, "dry_run: bool = False  # act"), "declare `dry_run: bool = True"),
        (lambda cells: code(cells, 0, 'api_token: str = ""  # of the mailer\n' + DRY), "sounds like a secret"),
        (lambda cells: code(cells, 1, "for i in range(3):\n    print(i)"), "holds a for"),
        (lambda cells: code(cells, 1, "x = 1\n" * 9), "has 9 lines, at most 8"),
        (lambda cells: code(cells, 1, "x ="), "is not Python"),
        (lambda cells: code(cells, 4, "wb.retry(jobs) if not dry_run else None"), "calls wb.retry"),
        (lambda cells: code(cells, 4, "runbooks.act(wb, plan, reason=reason)"), "without asking for dry_run"),
        (lambda cells: cells.pop(), "its steps are When to use → Look → Plan → Act → Verify: use"),
        (lambda cells: cells.pop(-2), "no code cell stands under `## Verify`"),
        (lambda cells: cells[1].update(outputs=[{"output_type": "stream", "text": "x"}]), "cell 2 has outputs"),
        (lambda cells: cells[1].update(metadata={}), "0 cells are tagged `parameters`"),
        (lambda cells: cells.insert(4, cells.pop(1)), "it stands right under `## When to use`"),
        (lambda cells: cells[0].update(source="## When to use"), "it has no title"),
    ],
)
def test_what_breaks_a_convention_is_named(
    change: Callable[[list[dict[str, Any]]], object], says: str, tmp_path: Path
) -> None:
    complaints = broken(tmp_path, change)
    assert any(says in complaint for complaint in complaints), complaints


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


@pytest.mark.parametrize(
    ("line", "given", "takes"),
    [
        ("n: int = 5  # how many [1..10]", {"1": 1, "10": 10, "0": None, "11": None}, "a whole number, 1 to 10"),
        ("n: float = 0  # share [..1]", {"-3": -3.0, "1": 1.0, "1.01": None}, "a number, 1 or less"),
        ("n: int = 1_000  # at most [1_000..]", {"1000": 1000, "999": None}, "a whole number, 1,000 or more"),
        ('n: str = "low"  # priority [high|normal|low]', {"high": "high", "": None, "x": None}, "one of high"),
        ("n: list[str] = []  # which [a | b]", {"a,b": ["a", "b"], "a,c": None}, "some of a, b"),
        ('n: str = "mail"  # which [queue]', {"x": "x", "": None}, "the name of a queue"),
        ('n: str = ""  # which [queue]', {"x": "x", "": ""}, "the name of a queue, or nothing"),
        (
            "n: list[str] = []  # which [queue except x]",
            {"a,b": ["a", "b"], '[""]': None},
            "the name of a queue, or sev",
        ),
        (
            'n: str = ""  # since [moment]',
            {"2h": "2h", "2026-10-03": "2026-10-03", "": "", "soon": None, "2h) or (x": None},
            "an age such as 2h",
        ),
        ('n: str = "2h"  # since [moment]', {"": None, "2026-10-03 14:03": "2026-10-03 14:03"}, "an age such as 2h"),
        ('n: str = "2h"  # since [moment or nothing]', {"": ""}, "an age such as 2h"),
        (
            'n: str = "30m"  # until [end]',
            {"2h": "2h", "2020-01-01": None, "": None, "30 minutes": None},
            "a duration such",
        ),
        (
            'n: str = ""  # cause [signature]',
            {"0" * 16: "0" * 16, "": "", "ab": None, "g" * 16: None},
            "a signature of 16",
        ),
    ],
)
def test_a_value_out_of_its_bounds_is_refused(line: str, given: dict[str, Any], takes: str) -> None:
    (parameter,) = parse_parameters(line, "x")
    assert "[" not in parameter.help
    assert parameter.expected.startswith(takes)
    for text, value in given.items():
        if value is not None:
            assert parameter.value(text) == value
        else:
            with pytest.raises(InvalidValue, match="parameter 'n' is") as caught:
                parameter.value(text)
            assert takes in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "n: int = 11  # [1..10]",
        "n: bool = True  # [0..1]",
        "n: int = 1  # [a..b]",
        "n: int = 1  # [1|2]",
        "n: int = 1  # [queue]",
        'n: str = "x"  # [signature]',
    ],
)
def test_bounds_that_a_parameter_cannot_have_are_told_to_its_author(line: str) -> None:
    with pytest.raises(RunbookError, match="parameters cell"):
        parse_parameters(line, "x")


# ----------------------------------------------------------------------------------------------------------- steps


class Applied:
    """Stands for a Workbench that plans, and is told to apply; it knows the actions that were begun."""

    def __init__(self) -> None:
        self.reason = ""
        self.applied: list[Plan] = []

    def plan(self, kind: str, target: Any, *, action_id: UUID | None = None, **options: Any) -> Plan:
        ids = None if isinstance(target, str) else tuple(target)
        return planned(id=action_id or uuid4(), kind=ActionKind(kind), target=str(target), ids=ids, options=options)

    def begun(self, *ids: UUID) -> Plan | None:
        return next((plan for plan in self.applied if plan.id in ids), None)

    def apply(self, plan: Plan, *, reason: str) -> Any:
        self.reason = reason
        repeated = any(plan.id == other.id for other in self.applied)
        self.applied.append(plan)
        return SimpleNamespace(id=plan.id, state="done", done=plan.count, skipped=(), gone=0, repeated=repeated)

    def jobs(self, where: object, *, limit: int, after: str | None) -> Any:
        return SimpleNamespace(jobs=[SimpleNamespace(id=uuid4()) for _ in range(3)], after=None)


def planned(**given: Any) -> Plan:
    facts = {"id": uuid4(), "kind": ActionKind.RETRY, "target": "3 jobs", "ids": None, "count": 3}
    return Plan(**{"cutoff": datetime(2026, 10, 3, 14, tzinfo=UTC), **facts, **given})


@pytest.fixture
def in_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Makes this process a fresh one that carries out a run."""

    def enter(run_id: str = "1a2b3c4d", name: str = "retry-failed") -> None:
        journal._run.cache_clear()
        monkeypatch.setenv("QUEUEMON_RUNBOOK_RUN", f"runbook {name}, run {run_id}")
        monkeypatch.setenv("QUEUEMON_RUNBOOK_JOURNAL", str(tmp_path / "journal.jsonl"))

    yield enter
    journal._run.cache_clear()


@pytest.mark.parametrize("reason", ["fixed by #812", ""])
def test_the_audit_trail_gets_the_run_and_the_filter_behind_the_reason(
    reason: str, in_run: Callable[..., None]
) -> None:
    wb: Any = Applied()
    where = JobFilter.parse("queue:mail status:failed")
    steps.act(wb, planned(), dry_run=False, reason=reason, where=where)
    assert wb.reason == f"{reason} (jobs of {where})".strip()
    steps.act(wb, planned(), dry_run=False, reason=reason)
    assert wb.reason == reason
    in_run()
    steps.act(wb, planned(), dry_run=False, reason=reason, where=where)
    assert wb.reason == f"{reason} (runbook retry-failed, run 1a2b3c4d; jobs of {where})".strip()


def carried_out(wb: Any, *, both: bool = True) -> list[Any]:
    """A runbook that retries what it selected, then pauses, by a plan of `plan` and by one of the workbench."""
    ids = selection.select(wb, JobFilter.parse("status:failed"), limit=10)
    done = [steps.act(wb, selection.plan(wb, "retry", ids), dry_run=False, reason="")]
    if both:
        done.append(steps.act(wb, selection.plan(wb, "pause", "mail"), dry_run=False, reason=""))
        done.append(steps.act(wb, wb.plan("pause", "other"), dry_run=False, reason=""))
    return done


def test_a_run_that_is_started_again_meets_its_actions_and_the_jobs_they_froze(in_run: Callable[..., None]) -> None:
    wb = Applied()
    in_run()
    carried_out(wb, both=False)  # killed behind the first action
    in_run()
    again = carried_out(wb)
    assert [result.repeated for result in again] == [True, False, False]
    assert wb.applied[1].ids == wb.applied[0].ids, "what matches now is not asked for again"
    in_run()
    assert [result.repeated for result in carried_out(wb)] == [True, True, True]
    in_run("another")
    assert [result.repeated for result in carried_out(wb)] == [False, False, False]
    in_run(name="clear-failed")
    assert [result.repeated for result in carried_out(wb)] == [False, False, False]


def test_two_equal_steps_of_a_run_are_two_actions(in_run: Callable[..., None]) -> None:
    in_run()
    wb: Any = Applied()
    ids = selection.select(wb, JobFilter.parse("status:failed"), limit=10)
    plans = [selection.plan(wb, "retry", ids), selection.plan(wb, "retry", ids), selection.plan(wb, "pause", "a")]
    plans += [selection.plan(wb, "pause", "a"), selection.plan(wb, "pause", "b")]
    assert len({plan.id for plan in plans if plan}) == 5


def test_outside_of_a_run_every_plan_has_an_id_of_its_own() -> None:
    wb: Any = Applied()
    assert [result.repeated for _ in range(2) for result in carried_out(wb)] == [False] * 6


def test_what_a_run_plans_and_does_is_noted_for_its_record(in_run: Callable[..., None], tmp_path: Path) -> None:
    in_run()
    wb: Any = Applied()
    plan = selection.plan(wb, "pause", "mail")
    assert plan is not None
    steps.act(wb, plan, dry_run=True, reason="")
    notes = tmp_path / "journal.jsonl"
    (first,) = journal.read(notes)
    assert (first["id"], first["kind"], first["planned"], first["state"]) == (str(plan.id), "pause", 3, "planned")
    assert first["hash"] == selection.fingerprint("retry-failed", plan)
    with notes.open("a") as file:
        file.write('{"id": "cut by a ki')
    assert journal.read(notes) == [first]


def test_the_fingerprint_of_a_plan_is_of_what_it_does_and_not_of_when_it_was_made() -> None:
    plan = planned(ids=(UUID(int=1), UUID(int=2)), options={"until": "2026-10-03T16:00:00+00:00"})
    later = replace(
        plan, id=uuid4(), ids=(UUID(int=2), UUID(int=1)), cutoff=datetime(2026, 10, 3, 15, tzinfo=UTC),
        options={"until": "2026-10-03T17:00:00+00:00"},
    )  # fmt: skip
    same = selection.fingerprint("retry-failed", plan)
    assert selection.fingerprint("retry-failed", later) == same
    others = [
        replace(plan, ids=(UUID(int=1), UUID(int=3))), replace(plan, count=4), replace(plan, kind=ActionKind.DELETE),
        replace(plan, target="x"), replace(plan, options={}), replace(plan, cutoff=later.cutoff),
    ]  # fmt: skip
    assert same not in {selection.fingerprint("retry-failed", other) for other in others}
    assert selection.fingerprint("clear-failed", plan) != same


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


def test_a_text_is_bounded_before_anything_looks_for_a_password_in_it() -> None:
    for name, value in {"queue": "x" * 10**6, "errors": ["x" * 10**6]}.items():
        with pytest.raises(InvalidValue, match=f"parameter '{name}' is too long.*at most 4,000 characters"):
            values(**{"queue": "a", name: value})
    with pytest.raises(InvalidValue, match=r"too long.*1,000 texts"):
        values(queue="a", errors=["x"] * 1_001)
    with pytest.raises(InvalidValue, match="URL with a password"):
        values(queue="a", errors=["x", "redis://:hunter2@cache"])


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
    assert len(selection.select(Pages(2_500), None, limit=2_500)) == 2_500  # type: ignore[arg-type]
    with pytest.raises(LimitExceeded, match="more than 2,499"):
        selection.select(Pages(2_500), None, limit=2_499)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- advice


def test_what_a_queue_is_called_is_no_command_of_the_shell() -> None:
    name = "a; touch x $(id)"
    hit = stats(name, failed=1, expired=1, stuck=1, waiting=1, oldest_waiting_at=utc(3600))
    paused = stats(name, paused=True)
    found = advice.advise(snapshot(hit, paused), [], None)
    said = [a.next_step.partition(" once ")[0].partition(", if ")[0] for a in found]
    assert {shlex.split(step)[-1] for step in said} == {name, f"queue={name}"}
    assert len(said) == 5


# --------------------------------------------------------------------------------------------------------- records


def test_known_secrets_are_blotted_out_however_they_are_spelt() -> None:
    secret = "p&s\"s'w<rd"
    blotter = Blotter([secret, "abc"])
    spelt = [secret, "p&amp;s&quot;s&#x27;w&lt;rd", "p%26s%22s%27w%3Crd", json.dumps(secret), repr(secret)]
    for text in spelt:
        assert blotter.holds(text)
        hidden = blotter.text(f"x {text} y")
        assert BLOT in hidden
        assert "w<rd" not in hidden
        assert "rd" not in hidden
    assert blotter.text("abc") == "abc", "three letters are a word"


@pytest.mark.parametrize(
    "text",
    [
        '{"password": "CANARY-9"}', "{'api_key': 'CANARY-9'}", "token=CANARY-9&x=1", "Authorization: Bearer CANARY-9",
        "&quot;client_secret&quot;: &quot;CANARY-9&quot;", "postgresql://ops:CANARY-9@db/prod",
        r'{\"token\": \"CANARY-9\"}',
        "smtp.password: CANARY-9", '"accessKey":"CANARY-9 with spaces"', "{&#34;cookie&#34;:&#34;CANARY-9&#34;}",
    ],
)  # fmt: skip
def test_what_stands_behind_a_telling_name_is_blotted_out(text: str) -> None:
    hidden = Blotter([]).text(f"before {text} after")
    assert "CANARY" not in hidden
    assert hidden.startswith("before ")
    assert hidden.endswith(" after")


@pytest.mark.timeout(60)  # hours, where a word is looked at from each of its letters
@pytest.mark.parametrize(
    "text",
    ["x" * 10**6, "password" * 10**5, "token='" * 10**5, "secret" + " " * 10**6, "https://" + "a:" * 10**6],
    ids=["word", "names", "quotes", "spaces", "colons"],
)
def test_a_megabyte_without_a_space_is_no_longer_to_look_through_than_any_other(text: str) -> None:
    blotter = Blotter(["CANARY-9-known"])
    assert blotter.text(f"{text} api_key=CANARY-9 CANARY-9-known").endswith(f" api_key={BLOT} {BLOT}")


def test_the_values_of_a_record_are_blotted_out_and_other_text_stays() -> None:
    facts = {"error": "ok", "parameters": {"note": "token: abc"}, "list": ["x", {"password": "p"}], "n": 3}
    found = Blotter([]).value(facts)
    assert found == {
        "error": "ok", "parameters": {"note": f"token: {BLOT}"}, "list": ["x", {"password": BLOT}], "n": 3,
    }  # fmt: skip


def write_record(folder: Path, stem: str, **facts: Any) -> None:
    path = folder / "runs" / "fix-it" / f"{stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {
        "id": stem.partition("-")[2], "name": "fix-it", "state": "done", "parameters": {"queue": "a", "dry_run": True},
        "actor": "ops/ann", "started_at": "2026-10-03T14:00:00+00:00", "finished_at": "2026-10-03T14:00:07+00:00",
    }  # fmt: skip
    path.write_text(json.dumps({**given, **facts}))


def test_the_history_is_read_from_the_records_newest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(tmp_path, "20261003T140000Z-aaa", actions=[{"kind": "retry", "planned": 12, "state": "planned"}])
    write_record(tmp_path, "20261003T150000Z-bbb", state="failed", step="Verify", error=HOSTILE, parameters={})
    write_record(tmp_path, "20261003T160000Z-ccc", state="running", finished_at=None, process=past.this_process())
    gone = {**past.this_process(), "since": 1.0}
    write_record(tmp_path, "20261003T170000Z-ddd", state="running", finished_at=None, process=gone)
    (tmp_path / "runs" / "fix-it" / "20261003T180000Z-eee.json").write_text("{broken")
    assert run(["runbook", "history", "--runs-dir", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert_harmless(out)
    found = runbooks.history(tmp_path / "runs")
    assert [(r.id, r.state) for r in found] == [
        ("ddd", "interrupted"), ("ccc", "running"), ("bbb", "failed"), ("aaa", "done"),
    ]  # fmt: skip
    assert "would retry 12" in out
    assert found[3].seconds == 7
    assert [r.id for r in runbooks.history(tmp_path / "runs", limit=1)] == ["ddd"]
    assert past.get("bbb", tmp_path / "runs").state == "failed"
    with pytest.raises(UnknownRunbook, match="no record"):
        past.get("zzz", tmp_path / "runs")


@pytest.mark.parametrize("name", ["../x", "", "-x", "a/b", "a b", "*", "x" * 65])
def test_a_run_is_never_called_like_a_path(name: str) -> None:
    with pytest.raises(InvalidValue, match="cannot be a run's id"):
        past.find(name)


def test_a_page_that_cannot_be_written_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for output in (tmp_path, tmp_path / "nope" / "x.html"):
        assert run(["report", "incident", "--from", "2h", "--output", str(output)]) == 2
        assert "the page cannot be written" in capsys.readouterr().err


def test_a_secret_in_a_parameter_is_not_printed_either(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    monkeypatch.setenv("MAILER_API_TOKEN", "CANARY-ENV-1a2b")
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", "postgresql://ops@127.0.0.1:1/x?password=CANARY-URL-9z")
    monkeypatch.setenv("QUEUEMON_REDIS_URL", "redis://127.0.0.1:1")
    assert run(["runbook", "run", "fix-it", "-p", "queue=CANARY-ENV-1a2b", "-p", "errors=CANARY-URL-9z"]) != 0
    said = "".join(capsys.readouterr())
    assert "queue = '[hidden]'" in said
    assert "CANARY" not in said


def test_a_time_limit_is_a_time(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write()
    for words, says in (("0s", "timeout is 0"), ("3d", "timeout is"), ("soon", "is no duration"), ("5", "5s for")):
        assert run(["runbook", "run", "fix-it", "-p", "queue=a", "--timeout", words]) == 2
        assert says in capsys.readouterr().err
