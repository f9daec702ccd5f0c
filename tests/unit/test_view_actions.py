"""The states of actions on the page: audit, runs, edited payloads, pauses, drift; values in, traits out, no browser."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from queuemon.config import Settings
from queuemon.contract import JobStatus
from queuemon.drift.aside import Quarantined
from queuemon.drift.model import CLASSES, WatchLine
from queuemon.errors import InvalidValue, StoreUnavailable
from queuemon.masking import Masking
from queuemon.model import ActionKind, CanaryProgress, JobOutcome, Pause, RedisHalf, RedisQueue
from queuemon.views.audit import ROWS, Audit
from queuemon.views.confirm import Confirmation
from queuemon.views.drift import Drift
from queuemon.views.editor import NEW_SECRET, Editor, difference, draft_of, restored
from queuemon.views.inspector import Inspector
from queuemon.views.runs import Runs, progress_values
from queuemon.views.state import Board
from tests.support import fake_workbench as fake
from tests.support.wait import wait_until

MRR = "analytics:daily-aggregate"


@pytest.fixture
def bench() -> fake.FakeWorkbench:
    made = fake.FakeWorkbench()
    made.jitter = False
    return made


@pytest.fixture
def board() -> Board:
    return Board(Settings(profile="demo", colour="blue", embedded=True))


def retried(bench: fake.FakeWorkbench, reason: str = "fixed") -> UUID:
    """An action of twelve jobs."""
    return bench.apply(bench.plan("retry", f"queue:{MRR} status:failed"), reason=reason).id


# ------------------------------------------------------------------------------------------------------- long actions


def test_a_long_action_says_how_far_it_is_and_stops_after_its_chunk(bench: fake.FakeWorkbench) -> None:
    bench.pace = threading.Semaphore(1)
    runs = Runs()
    confirmation = Confirmation(bench, runs)  # type: ignore[arg-type]
    confirmation.propose("retry", f"queue:{MRR} status:failed")
    plan_id, results = confirmation.plan["id"], []
    worker = threading.Thread(target=lambda: results.append(confirmation.apply(plan_id, reason="", typed="")))
    worker.start()
    wait_until(lambda: runs.running.get(plan_id, {}).get("text"), message="the first chunk is told")
    assert runs.running[plan_id]["text"] == "10 of 12 at 10/s, 20 s left"
    assert runs.running[plan_id]["share"] == 83
    confirmation.cancel()
    assert plan_id in runs.running, "closing the dialog lets it go on"
    runs.stop(plan_id)
    assert runs.running[plan_id]["stopping"]
    bench.pace.release()
    worker.join(5)
    assert results[0].state == "stopped"
    assert runs.running == {}


def test_a_stopped_action_is_offered_to_be_resumed_and_goes_on_from_there(
    bench: fake.FakeWorkbench, board: Board
) -> None:
    plan, stop = bench.plan("retry", f"queue:{MRR} status:failed"), threading.Event()
    result = bench.apply(plan, progress=lambda _: stop.set(), stop=stop)
    board.accept_activity(bench.actions())
    board.announce_result(result)
    assert board.toast["resume"] == str(plan.id)
    assert board.activity[0]["resumable"]

    confirmation = Confirmation(bench)  # type: ignore[arg-type]
    confirmation.propose_resume(str(plan.id))
    shown = confirmation.plan
    assert shown["title"] == "Resume: retry of 12 jobs?"
    assert "2 are left" in shown["effect"]
    done = confirmation.apply(shown["id"], reason="", typed="", rate=5)
    assert done is not None
    assert (done.state, done.done, bench.rate) == ("done", 12, 5)


def test_an_interrupted_action_is_named_in_the_strip(bench: fake.FakeWorkbench, board: Board) -> None:
    plan, stop = bench.plan("retry", f"queue:{MRR} status:failed"), threading.Event()
    bench.apply(plan, progress=lambda _: stop.set(), stop=stop)
    bench.records = [replace(r, state="running", finished_at=None, interrupted=True) for r in bench.records]
    board.accept_activity(bench.actions())
    (notice,) = board.strip["interrupted"]
    assert "An action was interrupted: retry of" in notice["text"]
    assert "10 of 12" in notice["text"]
    board.accept_activity(())
    assert board.strip["interrupted"] == []


def test_an_action_that_nobody_moves_on_can_be_stopped_and_says_how_far_it_came(
    bench: fake.FakeWorkbench, board: Board
) -> None:
    plan, stop = bench.plan("retry", f"queue:{MRR} status:failed"), threading.Event()
    bench.apply(plan, progress=lambda _: stop.set(), stop=stop)
    board.accept_activity(bench.actions())
    assert "stoppable" not in board.activity[0]
    assert not Runs().stop(str(plan.id))

    bench.records = [replace(r, state="running", finished_at=None, interrupted=True) for r in bench.records]
    board.accept_activity(bench.actions())
    assert (board.activity[0]["stoppable"], board.activity[0]["resumable"]) == (True, True)
    record = bench.stop_action(plan.id)
    board.accept_activity(bench.actions())
    board.announce_stop(record)
    assert "stoppable" not in board.activity[0]
    assert (board.toast["text"], board.toast["tone"]) == ("Stopped on request. 10 of 12.", "partly")
    assert board.toast["resume"] == str(plan.id)


def test_to_stop_what_has_ended_meanwhile_is_explained(bench: fake.FakeWorkbench, board: Board) -> None:
    ended = retried(bench)
    board.accept_activity(bench.actions())
    board.announce_stop(bench.stop_action(ended))
    assert board.toast["text"] == "It had ended already (done): nothing was stopped. Retry: 12 of 12."


def test_a_canary_tells_its_step_and_what_became_of_its_jobs() -> None:
    numbers = {"planned": 31, "done": 6, "skipped": 0, "per_second": 1.0, "eta_seconds": 25.0}
    found = progress_values(
        CanaryProgress(id=uuid4(), step=2, steps=3, completed=4, failed=1, running=1, **numbers)  # type: ignore[arg-type]
    )
    assert found["text"] == "step 2 of 3: 6 of 31 sent"
    assert found["canary"] == {"step": 2, "steps": 3, "sent": 6, "completed": 4, "failed": 1, "running": 1}


# ----------------------------------------------------------------------------------------------------------- undo


def test_what_can_be_taken_back_says_so_in_the_snackbar_the_activity_and_its_details(
    bench: fake.FakeWorkbench, board: Board
) -> None:
    result = bench.apply(bench.plan("retry", f"queue:{MRR} status:failed"), reason="fixed")
    board.accept_activity(bench.actions())
    board.announce_result(result)
    audit = Audit(bench)  # type: ignore[arg-type]
    audit.open(str(result.id))
    assert board.toast["undo"] == board.activity[0]["id"] == audit.action["id"] == str(result.id)
    assert board.toast["undoUntil"] == board.activity[0]["undoUntil"] == audit.action["undoUntil"]

    bench.apply(bench.plan("undo", str(result.id)))
    board.accept_activity(bench.actions())
    audit.refresh()
    assert "undoUntil" not in board.activity[1]
    assert audit.action["undoneBy"] == board.activity[0]["id"]


# ---------------------------------------------------------------------------------------------------------- audit


def test_outcomes_come_page_by_page_and_by_kind(bench: fake.FakeWorkbench) -> None:
    action = retried(bench)
    ids = sorted(uuid4() for _ in range(2 * ROWS + 5))
    bench.became[action] = [
        JobOutcome(
            job_id=i, outcome="skipped" if n % 20 == 0 else "done", why="is running again" if n % 20 == 0 else ""
        )
        for n, i in enumerate(ids)
    ]
    audit = Audit(bench)  # type: ignore[arg-type]
    audit.open(str(action))
    seen = [row["id"] for row in audit.outcomes["rows"]]
    while audit.outcomes["after"]:
        audit.turn(True)
        seen += [row["id"] for row in audit.outcomes["rows"]]
    assert seen == [str(i) for i in ids]
    assert audit.outcomes["number"] == 3
    audit.turn(False)
    assert audit.outcomes["number"] == 2
    audit.only("skipped")
    assert [row["why"] for row in audit.outcomes["rows"]] == ["is running again"] * 3
    audit.only("gone")
    assert audit.outcomes["rows"] == []


def test_an_action_that_is_unknown_is_one_sentence(bench: fake.FakeWorkbench) -> None:
    audit = Audit(bench)  # type: ignore[arg-type]
    audit.open("nonsense")
    assert "there is no action nonsense" in audit.action["error"]
    audit.close()
    assert (audit.action, audit.outcomes) == ({}, {})


def test_a_payload_never_shows_in_the_details_of_its_edit(bench: fake.FakeWorkbench) -> None:
    job = bench.jobs_of[MRR][0]
    done = bench.apply(bench.plan("edit", str(job.id), payload=json.dumps({"api_token": "canary-4711"})))
    audit = Audit(bench)  # type: ignore[arg-type]
    audit.open(str(done.id))
    assert "canary-4711" not in json.dumps([audit.action, audit.outcomes])


# --------------------------------------------------------------------------------------------------- edited payloads


PAYLOAD = {"month": "2026-10", "auth": {"api_token": "canary-4711", "user": "u"}, "n": 12345678901234567890, "x": [1.5]}


def test_a_draft_masks_secrets_and_gives_them_back_wherever_they_are_moved_to() -> None:
    text, secrets = draft_of(PAYLOAD, Masking())
    assert "canary-4711" not in text
    assert secrets == ["canary-4711", "u"]
    assert json.loads(restored(text, PAYLOAD, Masking())) == PAYLOAD
    moved = text.replace('"month": "2026-10"', '"other_token": "••••••(1)"')
    assert json.loads(restored(moved, PAYLOAD, Masking()))["other_token"] == "canary-4711"


def test_what_is_masked_cannot_be_edited_into_view() -> None:
    text, _ = draft_of(PAYLOAD, Masking())
    with pytest.raises(InvalidValue, match="would be shown under 'copy'"):
        restored(text.replace('"month": "2026-10"', '"copy": ["••••••(1)"]'), PAYLOAD, Masking())
    payload = {"to": "ada@example.com", "cards": [4111111111111111], "n": 1}
    text, secrets = draft_of(payload, Masking())
    assert secrets == ["ada@example.com", 4111111111111111]
    assert json.loads(restored(text.replace('"to"', '"cc"'), payload, Masking())) == {
        "cc": "ada@example.com", "cards": [4111111111111111], "n": 1,
    }  # fmt: skip
    with pytest.raises(InvalidValue, match="queuemon edit"):
        draft_of({"ada@example.com": 1}, Masking())


def test_what_is_typed_reaches_the_plan_to_the_letter() -> None:
    text, _ = draft_of(PAYLOAD, Masking())
    typed = text.replace("1.5", "1.50").replace("12345678901234567890", "98765432109876543210")
    assert "1.50" in restored(typed, PAYLOAD, Masking())
    assert "98765432109876543210" in restored(typed, PAYLOAD, Masking())


@pytest.mark.parametrize("typed", ["{", "", "{'a': 1}", '{"a": "••••••(9)"}', "[" * 5_000])
def test_what_is_no_payload_is_refused_in_a_sentence(typed: str) -> None:
    with pytest.raises(InvalidValue):
        restored(typed, PAYLOAD, Masking())


def test_a_text_that_looks_like_a_mask_comes_back_as_itself() -> None:
    payload = {"note": "••••••(1)", "token": "secret"}
    assert json.loads(restored(draft_of(payload, Masking())[0], payload, Masking())) == payload
    quoted = {"note": 'he said "••••••(1)"', "token": "secret"}
    assert json.loads(restored(draft_of(quoted, Masking())[0], quoted, Masking())) == quoted


def test_what_reorders_reading_is_written_as_its_escape_and_means_the_same() -> None:
    payload = {"\u202egnp": "a\u0085b\ud800", "😀": "ü"}
    text, _ = draft_of(payload, Masking())
    assert "\u202e" not in text
    assert "\\u202egnp" in text
    assert "😀" in text
    assert json.loads(text) == payload


@pytest.mark.parametrize("payload", [{"a": "x" * 200_000}, float("inf")])
def test_what_cannot_be_edited_here_names_the_way_that_can(payload: Any) -> None:
    with pytest.raises(InvalidValue, match="queuemon edit"):
        draft_of(payload, Masking())


def test_the_difference_shows_what_changes_and_no_secret_old_or_new() -> None:
    text, _ = draft_of(PAYLOAD, Masking())
    typed = text.replace("2026-10", "2026-11").replace('"••••••(1)"', '"canary-0815"')
    lines = difference(PAYLOAD, typed, Masking())
    assert ("-", '  "month": "2026-10",') in lines
    assert ("+", '  "month": "2026-11",') in lines
    assert ("+", f'    "api_token": "{NEW_SECRET}",') in lines
    assert "canary" not in json.dumps(lines)
    assert difference(PAYLOAD, text, Masking()) == []


def test_an_edit_is_planned_with_its_difference_and_refused_in_its_form(bench: fake.FakeWorkbench) -> None:
    editor, confirmation = Editor(bench), Confirmation(bench)  # type: ignore[arg-type]
    job = bench.jobs_of[MRR][0]
    editor.open(str(job.id))
    assert editor.draft["masked"] == 1
    editor.propose(confirmation, str(job.id), editor.draft["text"].replace("enterprise", "nonsense"))
    assert "makes no sense" in confirmation.plan["refused"]
    assert "id" not in confirmation.plan
    editor.propose(confirmation, str(job.id), editor.draft["text"].replace("enterprise", "startup"))
    assert ["+", '  "customer_segment": "startup",'] in confirmation.plan["diff"]
    confirmation.apply(confirmation.plan["id"], reason="by hand", typed="")
    ((plan, reason),) = bench.applied
    assert json.loads(plan.options["payload"])["api_token"] == "canary-4711"
    assert reason == "by hand"
    editor.close()
    with pytest.raises(InvalidValue):
        editor.propose(confirmation, str(job.id), "{}")


# --------------------------------------------------------------------------------------------------- stuck and paused


def test_a_stuck_job_says_who_holds_it_and_since_when(bench: fake.FakeWorkbench, board: Board) -> None:
    silent = fake.job(MRR, JobStatus.ACTIVE, heartbeat_at=fake.utc(300), error_type=None, error_message=None)
    fresh = replace(silent, id=uuid4(), heartbeat_at=fake.utc(2))
    bench.jobs_of[MRR] = [silent, fresh]
    bench.queue_stats[MRR] = replace(bench.queue_stats[MRR], stuck=1)
    board.accept(bench.snapshot())
    inspector = Inspector(bench, board)  # type: ignore[arg-type]
    inspector.open(MRR, "active")
    assert [row["state"] for row in inspector.page["rows"]] == ["stuck", "active"]
    assert inspector.page["rows"][0]["worker"] == "worker-1"
    assert inspector.details["counts"]["stuck"] == 1
    inspector.open_job(str(silent.id))
    assert silent.heartbeat_at is not None
    assert inspector.job["silent"] == silent.heartbeat_at.timestamp()
    assert inspector.job["can"]["rescue"]
    inspector.open_job(str(fresh.id))
    assert not inspector.job["can"]["rescue"]


def test_a_paused_queue_names_its_holders(bench: fake.FakeWorkbench, board: Board) -> None:
    bench.queue_stats[MRR] = fake.stats(MRR, paused=True)
    board.accept(bench.snapshot())
    assert board.paused
    held = {"queue": MRR, "since": fake.utc(60), "until": None, "action_id": None}
    board.accept_pauses([Pause(holder="a", reason="<b>", hard=True, **held), Pause(holder="b", reason="", **held)])  # type: ignore[arg-type]
    row = next(r for r in board.rows if r["name"] == MRR)
    assert [h["holder"] for h in row["held"]] == ["a", "b"]
    assert row["hard"]


def test_other_options_make_another_plan_in_the_same_dialog(bench: fake.FakeWorkbench) -> None:
    confirmation = Confirmation(bench)  # type: ignore[arg-type]
    confirmation.propose("pause", "email-sending")
    first = confirmation.plan
    confirmation.adjust({"hard": True, "holder": "billing"})
    assert confirmation.plan["dialog"] == first["dialog"]
    assert confirmation.plan["id"] != first["id"]
    assert confirmation.plan["given"] == {"hard": True, "holder": "billing"}
    assert "cannot stop" in confirmation.plan["warnings"][0]
    assert confirmation.apply(first["id"], reason="", typed="") is None, "only what is shown can be confirmed"
    confirmation.adjust({"hard": False, "turn": 2})
    assert confirmation.plan["given"] == {"holder": "billing"}
    assert confirmation.plan["turn"] == 2, "the page confirms no plan of an older question"


# ---------------------------------------------------------------------------------------------------------- drift


def test_a_close_look_shows_the_kinds_that_were_found(bench: fake.FakeWorkbench) -> None:
    bench.drifted = {1: 12, 4: 3}
    drift = Drift(bench)  # type: ignore[arg-type]
    drift.look()
    assert [(c["name"], c["count"], c["harmless"]) for c in drift.report["classes"]] == [
        ("lost", "12 jobs", False),
        ("stale", "3 elements", True),
    ]
    assert (drift.report["count"], drift.report["harmful"], drift.report["clean"]) == (15, 12, 13)
    assert drift.looking == {}
    json.dumps(drift.report, allow_nan=False)


def test_a_close_look_runs_once_and_can_be_stopped(bench: fake.FakeWorkbench) -> None:
    bench.pace = threading.Semaphore(2)
    drift = Drift(bench)  # type: ignore[arg-type]
    thread = threading.Thread(target=drift.look)
    thread.start()
    wait_until(lambda: "First look" in drift.looking.get("text", ""), message="it looks")
    drift.look()
    drift.stop()
    assert drift.looking["stopping"]
    bench.pace.release()
    thread.join(5)
    assert drift.report["complete"] is False
    assert drift.looking == {}


def test_a_close_look_that_fails_can_be_repeated(bench: fake.FakeWorkbench) -> None:
    drift = Drift(bench)  # type: ignore[arg-type]
    real = bench.drift

    def down(**_: Any) -> Any:
        raise StoreUnavailable("Redis is away", store="redis")

    bench.drift = down  # type: ignore[method-assign, assignment]
    with pytest.raises(StoreUnavailable):
        drift.look()
    bench.drift = real  # type: ignore[method-assign]
    drift.look()
    assert drift.report["count"] == 0


def test_the_continuous_look_is_mirrored_and_rests_between_ticks(bench: fake.FakeWorkbench) -> None:
    drift = Drift(bench)  # type: ignore[arg-type]
    drift.tick()
    assert (drift.watch["lines"], drift.watch["proven"], drift.watch["share"]) == ([], 0, 100)
    bench.signs = [
        WatchLine(number=10, title=CLASSES[10].title, queue=MRR, count=1, proven=True, since=fake.utc(), detail="<b>")
    ]
    before = drift.watch
    drift.tick()
    assert drift.watch is before
    drift._ticked = -1_000.0
    drift.tick()
    assert drift.watch["lines"][0]["queue"] == f"queue:{MRR}"
    assert drift.watch["proven"] == 1


def test_every_kind_has_a_verb_for_its_button() -> None:
    from queuemon.views.confirm import VERBS

    assert set(VERBS) == set(ActionKind)


def test_a_repair_is_planned_from_what_was_found_and_nothing_else(bench: fake.FakeWorkbench) -> None:
    bench.drifted = {1: 12, 4: 3, 14: 1}
    drift, confirmation = Drift(bench), Confirmation(bench)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        drift.propose_repair(confirmation, [])
    drift.look()
    assert [(c["number"], c["repairable"]) for c in drift.report["classes"]] == [(1, True), (4, False), (14, False)]
    asked: list[tuple[Any, Any]] = []
    real = bench.plan

    def plan(kind: ActionKind, target: Any, **options: Any) -> Any:
        asked.append((target, options))
        return real(kind, target, **options)

    bench.plan = plan  # type: ignore[method-assign]
    drift.propose_repair(confirmation, [1])
    drift.propose_repair(confirmation, [])
    assert asked == [(drift.found, {"classes": [1]}), (drift.found, {})]
    assert confirmation.plan["title"] == "Repair 1 finding?"
    assert confirmation.plan["typed"] == ""


def test_the_quarantine_is_read_when_its_numbers_change(bench: fake.FakeWorkbench) -> None:
    raw = {"queue": MRR, "size": 9, "text": "<b>\ufffd\x00</b>", "job_id": None, "why_not": "it names no job"}
    bench.aside = [Quarantined(digest="abc", **raw)]  # type: ignore[arg-type]
    drift = Drift(bench)  # type: ignore[arg-type]

    def redis(n: int) -> RedisHalf:
        listed = RedisQueue(name=MRR, length=0, paused=None, pause_epoch=None, quarantined=n)
        return RedisHalf(queues={MRR: listed}, used_memory_bytes=1, server="x")

    drift.read_quarantine(redis(1))
    (shown,) = drift.quarantine
    assert (shown["digest"], shown["whyNot"], shown["text"]) == ("abc", "it names no job", "<b>\ufffd⟨U+0000⟩</b>")
    before = drift.quarantine
    drift.read_quarantine(redis(1))
    assert drift.quarantine is before
    bench.aside = []
    drift.read_quarantine(redis(0))
    assert drift.quarantine == []


def test_to_discard_what_was_set_aside_asks_for_its_number_and_to_adopt_does_not(bench: fake.FakeWorkbench) -> None:
    confirmation = Confirmation(bench)  # type: ignore[arg-type]
    confirmation.propose("adopt", MRR, {"digests": ["abc"], "discard": True})
    shown = confirmation.plan
    assert (shown["title"], shown["button"]) == ("Discard 1 quarantined element for good?", "Discard")
    assert (shown["typed"], shown["destructive"]) == ("1", True)
    confirmation.propose("adopt", MRR, {"digests": ["abc"]})
    assert confirmation.plan["title"] == "Make jobs of 1 quarantined element?"
    assert confirmation.plan["typed"] == ""
