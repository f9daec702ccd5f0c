"""The command line's own promises: quick start, help, exit codes, one sentence per error, harmless terminals."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from typer.main import get_command

from queuemon.cli import run
from queuemon.cli.alerts import CHECK_EXIT_CODES
from queuemon.cli.app import app
from queuemon.cli.carry import code_of as action_code
from queuemon.cli.carry import print_plan, stoppable
from queuemon.cli.options import EXIT_CODES
from queuemon.cli.status import code_of, document, footer, queue_table, warnings
from queuemon.cli.terminal import console, facts, plain, print_json, say, warn
from queuemon.config import Settings
from queuemon.contract import JobStatus, Keys, Priority
from queuemon.errors import FilterError, InvalidValue, StoreUnavailable
from queuemon.model import (
    ActionKind,
    ActionRecord,
    ActionResult,
    Breakdown,
    HalfError,
    Job,
    Plan,
    PostgresHalf,
    Queue,
    QueueStats,
    RedisHalf,
    RedisQueue,
    Snapshot,
    WorkerInfo,
)
from queuemon.store import Store
from queuemon.workbench import Workbench
from tests.support.terminal import HOSTILE, assert_harmless, assert_one_sentence

NOW = datetime(2026, 10, 3, 14, 0, tzinfo=UTC)

HEAVY = ("pandas", "plotly", "IPython", "jupyter_client", "papermill", "sqlalchemy", "redis", "pydantic", "rich")


def commands() -> Iterator[tuple[list[str], Any]]:
    """Every command with the words that name it."""

    def walk(group: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, [*words, name])
            else:
                yield [*words, name], command

    return walk(get_command(app), [])


def stats(name: str = "email-sending", **changes: Any) -> QueueStats:
    """A queue's numbers."""
    queue = Queue(
        name=name,
        priority=Priority.NORMAL,
        paused=changes.pop("paused", False),
        pause_epoch=0,
        paused_at=None,
        target_seconds=60,
        concurrency=changes.pop("concurrency", 1),
        max_attempts=3,
    )
    numbers: dict[str, Any] = {
        "waiting": 0,
        "scheduled": 0,
        "active": 0,
        "completed": 0,
        "failed": 0,
        "expired": 0,
        "completed_last_hour": 0,
        "attempts_finished": 0,
        "attempts_failed": 0,
        "oldest_waiting_at": None,
        "workers": 1,
        "stuck": 0,
    }
    return QueueStats(queue=queue, **{**numbers, **changes})


def worker(kind: str) -> WorkerInfo:
    """A process that beats."""
    return WorkerInfo(id=f"{kind}-1", home="", host="h", pid=1, started_at=NOW, heartbeat_at=NOW, kind=kind, alive=True)


def snapshot(
    *queues: QueueStats, workers: tuple[str, ...] = ("worker", "relay", "supervisor"), **changes: Any
) -> Snapshot:
    """A snapshot of these queues."""
    redis = RedisHalf(
        queues={
            q.name: RedisQueue(name=q.name, length=7, paused=None, pause_epoch=None, quarantined=0) for q in queues
        },
        used_memory_bytes=0,
        server="Valkey 9",
    )
    postgres = PostgresHalf(
        queues=queues,
        workers=tuple(worker(kind) for kind in workers),
        clock=NOW,
        publications_due=0,
        publication_lag_seconds=0,
    )
    values: dict[str, Any] = {
        "taken_at": NOW,
        "postgres": postgres,
        "redis": redis,
        "postgres_at": NOW,
        "redis_at": NOW,
        "postgres_seconds": 0.002,
        "redis_seconds": 0.001,
    }
    return Snapshot(**{**values, **changes})


# ----------------------------------------------------------------------------------------------------------- start


def test_help_and_import_load_none_of_the_heavy_packages() -> None:
    program = (
        "import sys, queuemon; from queuemon.cli import run; assert run(['--help']) == 0;"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    started = time.perf_counter()
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    print(f"queuemon --help took {time.perf_counter() - started:.2f} s")
    assert ended.stderr.strip() == "[]"
    assert "black" not in ended.stdout
    assert "status" in ended.stdout


@pytest.mark.parametrize("words", [w for w, _ in commands()], ids=" ".join)
def test_every_command_explains_itself_and_the_exit_codes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Exit codes:" in shown
    codes = CHECK_EXIT_CODES if list(words) == ["alerts", "check"] else EXIT_CODES
    assert codes.split()[-1].rstrip(".") in shown
    usage, _, rest = shown.partition("\n\n")
    assert usage.startswith(f"Usage: queuemon {' '.join(words)}")
    assert len(rest.split("\n\n")[0].strip()) > 10


BULK = {
    "retry", "delete", "clear-failed", "run-now", "purge", "move", "rescue", "delete-stuck", "erase",
}  # fmt: skip
CHANGING = BULK | {"canary", "edit", "undo", "pause", "resume", "prioritise", "scale"}


def options_of(*words: str) -> set[str]:
    """The options of the command with these words."""
    return next({o for p in command.params for o in p.opts} for found, command in commands() if found == [*words])


def test_every_command_that_changes_jobs_or_queues_asks_for_yes_and_takes_a_reason() -> None:
    for name in CHANGING:
        assert {"--yes", "--reason", "--json"} <= options_of(name), name


def test_every_bulk_command_can_be_held_back_and_names_each_job() -> None:
    for name in BULK:
        assert {"--rate", "--results"} <= options_of(name), name


def test_going_on_with_an_action_keeps_its_first_reason() -> None:
    found = options_of("actions", "resume")
    assert {"--yes", "--json", "--rate", "--results"} <= found
    assert "--reason" not in found


def test_the_help_names_what_an_operator_looks_for(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (("canary",), ("--steps", "--success", "--max-errors", "--timeout", "queuemon actions resume ID")),
        (("pause",), ("--hard", "--holder", "--until", "running jobs finish")),
        (("pauses",), ("Who keeps which queue paused",)),
        (("undo",), ("last", "left alone and named")),
        (("erase",), ("cannot be undone",)),
        (("edit",), ("--payload", "kept for undo")),
        (("actions", "show"), ("--ids",)),
        (("rescue",), ("stopped beating",)),
    ):
        assert run([*words, "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        for text in told:
            assert text in shown, (words, text)


def test_every_command_that_shows_something_has_json() -> None:
    silent = {
        "lab",
        "serve",
        "relay",
        "worker",
        "supervisor",
        "exporter",
        "rules",
        "alertmanager",
        "grafana",
        "watch",
        "up",
        "down",
        "env",
        "scenario",
        "deploy",
        "bench",
    }
    for words, command in commands():
        if words[-1] not in silent:
            assert "--json" in {o for p in command.params for o in p.opts}, words


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Usage: queuemon" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    import queuemon

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"queuemon {queuemon.__version__}\n"


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "words",
    [
        ["jbs"],
        ["jobs", "--lmit", "3"],
        ["jobs", "--limit", "many"],
        ["retry"],
        ["runbook", "run"],
        ["prioritise", "email-sending", "urgent"],
        ["scale", "email-sending", "many"],
        ["status", "--interval", "0"],
        ["runbook", "rnu", "x"],
        ["job", HOSTILE, HOSTILE],
    ],
    ids=" ".join,
)
def test_wrong_words_are_one_sentence_and_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert_one_sentence(captured.err)
    assert "--help" in captured.err


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let every command that needs stores fail with an error."""

    def connect(profile: str | None = None) -> Any:
        raise error

    monkeypatch.setattr("queuemon.workbench.connect", connect)


def test_an_error_of_ours_is_its_sentence_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, StoreUnavailable("it is down", expected="a server", next_step="start it"))
    assert run(["status"]) == 1
    assert capsys.readouterr().err == "queuemon: it is down. Expected: a server. Next: start it.\n"
    raising(monkeypatch, InvalidValue("no"))
    assert run(["status"]) == 2


def test_a_bug_names_its_type_but_never_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, ZeroDivisionError("postgresql://u:hunter2@h/db"))
    assert run(["status"]) == 1
    err = capsys.readouterr().err
    assert_one_sentence(err, secrets=("hunter2",))
    assert "ZeroDivisionError" in err
    assert "QUEUEMON_DEBUG=1" in err


def test_debugging_adds_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("QUEUEMON_DEBUG", "1")
    raising(monkeypatch, ZeroDivisionError("oops"))
    assert run(["status"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert run(["status"]) == 130
    assert capsys.readouterr().err == ""


def test_a_reader_that_goes_away_is_no_error_to_speak_of() -> None:
    piped = f"{sys.executable} -m queuemon install --sql | head -c 10"
    ended = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, check=True)
    assert ended.stderr == ""


def test_a_filter_error_points_at_the_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from queuemon.cli.jobs import parsed

    with pytest.raises(FilterError) as caught:
        parsed(["queue:email-sending", "statu:failed"])
    text, caret = caught.value.__notes__[0].splitlines()
    assert text == "queue:email-sending statu:failed"
    assert caret == " " * len("queue:email-sending ") + "^"


# -------------------------------------------------------------------------------------------------- hostile text


def hostile_job() -> Job:
    """A job all of whose text is hostile."""
    return Job(
        id=uuid4(),
        queue=HOSTILE,
        status=JobStatus.FAILED,
        attempts=3,
        max_attempts=3,
        gen=1,
        created_at=NOW,
        updated_at=NOW,
        run_at=NOW,
        expires_at=NOW,
        worker_id=HOSTILE,
        error_type=HOSTILE,
        error_message=HOSTILE * 50,
    )


def test_a_hostile_queue_name_is_printed_literally(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(queue_table(snapshot(stats(HOSTILE, failed=11), stats("[red]x[/] :smile:")), Keys(), width=200))
    shown = capsys.readouterr().out
    assert_harmless(shown)
    assert "queue:[red]x[/] :smile:" in shown


def test_a_hostile_plan_is_printed_literally(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(
        id=uuid4(),
        kind=ActionKind.RETRY,
        target=HOSTILE,
        ids=None,
        cutoff=NOW,
        count=1,
        by_queue=(Breakdown(label=HOSTILE, count=1),),
        by_error=(Breakdown(label=HOSTILE * 100, count=1),),
        excluded=(Breakdown(label=HOSTILE, count=1),),
        sample=(hostile_job(),),
        effect=HOSTILE,
        warnings=(HOSTILE,),
        options={"until": HOSTILE},
    )
    print_plan(plan, Keys())
    assert_harmless(capsys.readouterr().out)


def test_text_json_and_facts_are_harmless_whatever_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    print_json({HOSTILE: [HOSTILE, hostile_job()]})
    console().print(facts([("Error", HOSTILE)]))
    assert_harmless(capsys.readouterr().out)


def test_json_holds_what_json_can_hold() -> None:
    deep: Any = "x"
    for _ in range(5_000):
        deep = [deep]
    value = {
        "nan": float("nan"),
        "when": NOW,
        "span": timedelta(seconds=90),
        "id": UUID(int=1),
        "kind": ActionKind.RETRY,
        "big": 12345678901234567890123,
        "deep": deep,
        "empty": [],
    }
    found = json.loads(json.dumps(plain(value), allow_nan=False))
    assert found["nan"] is None
    assert found["when"] == "2026-10-03T14:00:00+00:00"
    assert found["span"] == 90.0
    assert found["kind"] == "retry"
    assert found["big"] == 12345678901234567890123
    assert found["empty"] == []


# -------------------------------------------------------------------------------------------------------- snapshot


def test_status_ends_with_1_without_postgresql_and_with_3_without_redis() -> None:
    away = HalfError(message="away", kind="StoreUnavailable")
    assert code_of(snapshot(stats())) == 0
    assert code_of(snapshot(stats(), redis=away)) == 3
    assert code_of(snapshot(stats(), postgres=away)) == 1


def test_status_as_json_says_everything_once() -> None:
    found = document(snapshot(stats(waiting=1_001, failed=3, paused=True)), Keys())
    (queue,) = json.loads(json.dumps(found))["queues"]
    assert queue["queue"] == "queue:email-sending"
    assert queue["name"] == "email-sending"
    assert (queue["waiting"], queue["failed"], queue["paused"], queue["health"]) == (1_001, 3, True, "critical")
    assert queue["in_redis"] == 7
    assert found["errors"] == {}


def test_a_missing_half_is_named_in_the_json() -> None:
    away = HalfError(message="away", kind="StoreUnavailable")
    assert document(snapshot(stats(), redis=away), Keys())["errors"] == {"redis": "away"}


@pytest.mark.parametrize(
    ("shot", "word"),
    [
        (snapshot(), "no queue"),
        (snapshot(stats(waiting=5), workers=("relay", "supervisor")), "Nobody consumes"),
        (snapshot(stats(), workers=("worker", "supervisor")), "No relay"),
        (snapshot(stats(workers=0, concurrency=2), workers=("worker", "relay")), "desired number"),
        (snapshot(stats(stuck=3)), "3 active jobs"),
    ],
)
def test_status_warns_of_what_the_numbers_do_not_show(shot: Snapshot, word: str) -> None:
    (warning,) = warnings(shot)
    assert word in warning


@pytest.mark.parametrize("width", [80, 100, 120, 180])
def test_the_list_of_actions_shows_every_word_on_a_screen_of_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ActionRecord(
        id=uuid4(), kind=ActionKind.RETRY, target="queue:analytics:daily-aggregate status:failed", planned=50, done=45,
        skipped=5, state="done", actor="queuemon/ann", reason="fixed by #812", summary="Retried 45 of 50.",
        started_at=NOW, updated_at=NOW, finished_at=NOW, options={},
    )  # fmt: skip
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(Workbench, "actions", lambda self, limit: (record,))
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", "postgresql://127.0.0.1:1/x")
    monkeypatch.setenv("QUEUEMON_REDIS_URL", "redis://127.0.0.1:1")
    assert run(["actions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    for words in ("retry", "Retried 45 of 50.", "queuemon/ann: fixed by #812", str(record.id)):
        assert any(words in line for line in lines), words


def test_columns_without_csv_are_a_mistake_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["jobs", "--columns", "id"]) == 2
    assert "--columns is given without --csv" in capsys.readouterr().err


class Screen(io.TextIOWrapper):
    """A terminal that keeps what it was sent."""

    def __init__(self, *, terminal: bool) -> None:
        self.bytes = io.BytesIO()
        self.terminal = terminal
        super().__init__(self.bytes, encoding="utf-8")

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_csv_on_a_terminal_cannot_steer_it_and_in_a_pipe_is_exact(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = f"id,error\n1,{HOSTILE}\n2,fine\n".encode("utf-8", "replace")
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", "postgresql://127.0.0.1:1/x")
    monkeypatch.setenv("QUEUEMON_REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setattr(Workbench, "export_csv", lambda self, target, *args, **options: target.write(sent))
    screen = Screen(terminal=terminal)
    monkeypatch.setattr("sys.stdout", screen)
    assert run(["jobs", "--csv", "-"]) == 0
    screen.flush()
    shown = screen.bytes.getvalue()
    if terminal:
        assert_harmless(shown.decode())
        assert shown.decode().splitlines()[-1] == "2,fine"
    else:
        assert shown == sent


def test_a_name_that_an_error_quotes_cannot_break_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    warn("there is no queue. Expected: one of two\nlines, three")
    assert capsys.readouterr().err == "queuemon: there is no queue. Expected: one of two lines, three\n"


@pytest.mark.parametrize(("next_step", "ends"), [("did you mean x?", "did you mean x?"), ("look.", "Next: look.")])
def test_a_sentence_ends_once(next_step: str, ends: str) -> None:
    text = str(InvalidValue("a is b.", expected="c", next_step=next_step))
    assert text == f"a is b. Expected: c. Next: {next_step}"
    assert text.endswith(ends)


def test_elements_in_quarantine_are_counted_and_the_command_that_lists_them_is_named() -> None:
    whole = snapshot(stats("mail"), stats("two words"))
    assert isinstance(whole.redis, RedisHalf)
    queues = {
        name: replace(q, quarantined={"mail": 2, "two words": 1_200}[name]) for name, q in whole.redis.queues.items()
    }
    shot = replace(whole, redis=replace(whole.redis, queues=queues))
    (warning,) = warnings(shot)
    assert warning.startswith("1,202 elements of 2 queues are in quarantine")
    assert "`queuemon quarantine list 'two words'`" in warning
    assert [q["quarantined"] for q in document(shot, Keys())["queues"]] == [2, 1_200]


def test_a_half_that_was_not_read_took_no_time() -> None:
    wb: Any = SimpleNamespace(settings=Settings(profile="prod"))
    away = HalfError(message="away", kind="StoreUnavailable")
    assert footer(wb, snapshot()).endswith("PostgreSQL 2 ms · Valkey 9 1 ms")
    assert footer(wb, snapshot(postgres=away, redis=away)).endswith("PostgreSQL not read · Redis not read")


@pytest.mark.parametrize(("embedded", "says"), [(True, "run `queuemon demo up`"), (False, "check that it runs")])
def test_a_demo_that_does_not_answer_is_answered_with_the_command_that_starts_it(embedded: bool, says: str) -> None:
    settings = Settings(
        embedded=embedded,
        database_url=SecretStr("postgresql://127.0.0.1:1/x"),
        redis_url=SecretStr("redis://127.0.0.1:1"),
        connect_timeout_seconds=1,
    )
    with Store(settings) as store:
        shot = store.snapshot()
    for half in (shot.postgres, shot.redis):
        assert isinstance(half, HalfError)
        assert says in half.message


def test_a_healthy_system_has_no_warnings() -> None:
    assert warnings(snapshot(stats(waiting=5))) == []


def test_a_narrow_terminal_shows_the_columns_of_the_specification(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    console().print(queue_table(snapshot(stats(waiting=150)), Keys(), width=80))
    shown = capsys.readouterr().out
    for words in ("Queue Name", "Active", "Waiting", "Completed", "(last hour)", "Failed", "▲ warning"):
        assert words in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("width", [100, 120, 140, 160, 200])
def test_the_table_never_squeezes_names_or_numbers(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    five = [stats("analytics:daily-aggregate", waiting=1_234_567, failed=12_345, paused=width > 100), stats()]
    console().print(queue_table(snapshot(*five), Keys(), width=width))
    shown = capsys.readouterr().out
    for text in ("queue:analytics:daily-aggregate", "◆ critical", "1,234,567", "12,345"):
        assert text in shown
    assert "…" not in shown
    assert ("Redis" in shown) == (width >= 140)


# --------------------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize(
    ("state", "done", "skipped", "gone", "code"),
    [
        ("done", 12, 0, 0, 0),
        ("partly", 45, 3, 2, 3),
        ("done", 45, 3, 2, 3),
        ("stopped", 10, 0, 0, 3),
        ("stopped", 0, 0, 0, 3),
        ("refused", 0, 0, 0, 1),
        ("done", 0, 5, 0, 4),
        ("done", 0, 0, 5, 4),
    ],
)
def test_the_exit_code_says_how_much_was_done(state: str, done: int, skipped: int, gone: int, code: int) -> None:
    result = ActionResult(
        id=uuid4(),
        kind=ActionKind.RETRY,
        state=state,
        planned=50,
        done=done,
        skipped=(Breakdown(label="is running again", count=skipped),) if skipped else (),
        gone=gone,
        published=True,
        started_at=NOW,
        finished_at=NOW,
        reason="",
        summary="",
    )
    assert action_code(result) == code


@pytest.mark.parametrize(
    ("words", "filter_"),
    [
        (["status:failed", "error:division by zero"], 'status:failed error:"division by zero"'),
        (["status:failed", "payload.name=Jo Ann"], 'status:failed payload.name="Jo Ann"'),
        (["status:failed", "error:'two words'"], "status:failed error:'two words'"),
        (["status:failed error:x and attempts>2"], "status:failed error:x and attempts>2"),
        (["not", "(queue:a", "or", "queue:b)"], "not (queue:a or queue:b)"),
        ([], ""),
    ],
)
def test_values_that_the_shell_freed_from_their_quotes_get_them_back(words: list[str], filter_: str) -> None:
    from queuemon.cli.options import filter_text
    from queuemon.filters import JobFilter

    assert str(JobFilter.parse(filter_text(words))) == str(JobFilter.parse(filter_))


def test_a_long_error_never_costs_the_id_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    from queuemon.cli.terminal import cell, console, table

    made = table(("ID", {"no_wrap": True}), ("Error", {"ratio": 1, "no_wrap": True}))
    made.add_row(cell("01a20f40-6675-73d4-804f-913a4406c0f9"), cell("x" * 199))
    console().print(made)
    assert "01a20f40-6675-73d4-804f-913a4406c0f9" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_a_bulk_action_to_stop_and_the_second_interrupts(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stoppable() as stop:
        os.kill(os.getpid(), number)
        assert stop.wait(5)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
