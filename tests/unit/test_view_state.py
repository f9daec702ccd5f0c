"""The dashboard's states, driven by values and read as traits; no browser, no kernel, no store."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from queuemon.config import Settings
from queuemon.contract import JobStatus, Keys
from queuemon.errors import InvalidValue, StoreUnavailable
from queuemon.model import ActionKind, HalfError, Plan
from queuemon.render import html
from queuemon.views.confirm import Confirmation
from queuemon.views.dashboard import Dashboard
from queuemon.views.inspector import Inspector
from queuemon.views.jobs import PAGE, job_values
from queuemon.views.poller import Poller
from queuemon.views.state import NOBODY_CONSUMES, Board, parted
from tests.support import fake_workbench as fake
from tests.support.wait import wait_until

DOWN = HalfError(message="PostgreSQL at db:5432 cannot be reached.", kind="StoreUnavailable")


def board(**changes: Any) -> Board:
    return Board(Settings(**({"profile": "demo", "colour": "blue", "embedded": True} | changes)))


def watched(state: Any, name: str) -> list[Any]:
    """The values a trait takes from now on."""
    seen: list[Any] = []
    state.observe(lambda change: seen.append(change["new"]), names=[name])
    return seen


# ----------------------------------------------------------------------------------------------------------- board


def test_before_the_first_snapshot_nothing_is_claimed() -> None:
    found = board()
    assert found.rows == []
    assert found.strip["totals"] is None
    assert found.strip["snapshots"] == 0


def test_a_row_carries_the_six_columns_and_the_health_of_the_specification() -> None:
    found = board()
    found.accept(fake.snapshot())
    by_name = {row["name"]: row for row in found.rows}
    row = by_name["email-sending"]
    assert row["title"] == "queue:email-sending"
    assert (row["active"], row["waiting"], row["done"], row["failed"]) == (8, 5_000, 18_233, 2)
    assert {name: row["health"] for name, row in by_name.items()} == {
        "email-sending:high": "healthy",
        "email-sending": "critical",
        "analytics:daily-aggregate": "critical",
        "warmup:process": "warning",
        "email-sending:low": "healthy",
    }


def test_the_cell_that_made_a_queue_red_is_named() -> None:
    found = board()
    found.accept(fake.snapshot())
    hot = {row["name"]: row.get("hot") for row in found.rows}
    assert hot["email-sending"] == {"waiting": "qm-red"}
    assert hot["analytics:daily-aggregate"] == {"failed": "qm-red"}
    assert hot["warmup:process"] == {"waiting": "qm-amber"}


def test_a_paused_queue_shows_its_health_and_that_it_is_paused() -> None:
    found = board()
    found.accept(fake.snapshot(fake.stats("email-sending", paused=True)))
    assert found.rows[0]["health"] == "critical"
    assert found.rows[0]["paused"] is True


def test_totals_sum_up_and_count_each_health() -> None:
    found = board()
    found.accept(fake.snapshot())
    totals = found.strip["totals"]
    assert totals["waiting"] == sum(row["waiting"] for row in found.rows)
    assert (totals["critical"], totals["warning"], totals["healthy"], totals["unknown"]) == (2, 1, 2, 0)


def test_when_postgresql_fails_the_last_values_stay_with_their_age_and_the_error() -> None:
    found = board()
    found.accept(first := fake.snapshot())
    rows = found.rows
    found.accept(fake.snapshot(postgres=DOWN))
    assert found.rows == rows
    assert found.strip["postgres"] == {"at": first.postgres_at.timestamp(), "error": DOWN.message}
    assert found.strip["redis"]["error"] == ""


def test_when_redis_fails_the_numbers_of_postgresql_go_on() -> None:
    found = board()
    found.accept(fake.snapshot())
    found.accept(
        fake.snapshot(fake.stats("email-sending", waiting=7), redis=HalfError(message="Redis is away.", kind="X"))
    )
    assert [row["waiting"] for row in found.rows] == [7]
    assert found.strip["redis"]["error"] == "Redis is away."
    assert found.strip["postgres"]["error"] == ""


def test_an_error_goes_when_the_store_is_back() -> None:
    found = board()
    found.accept(fake.snapshot(postgres=DOWN))
    found.accept(fake.snapshot())
    assert found.strip["postgres"]["error"] == ""
    assert len(found.rows) == 5


def test_unchanged_values_send_nothing() -> None:
    found = board()
    taken = fake.snapshot()
    found.accept(taken)
    rows = watched(found, "rows")
    found.accept(replace(taken))
    assert rows == []


def test_nobody_consumes_is_said_only_where_jobs_wait() -> None:
    found = board()
    half = fake.postgres_half(
        fake.stats("email-sending"),
        fake.stats("idle"),
        fake.stats("email-sending:low", paused=True),
        workers=(fake.worker("supervisor"), fake.worker("relay"), fake.worker(alive=False)),
    )
    found.accept(fake.snapshot(postgres=half))
    warned = {row["name"]: row.get("warn", []) for row in found.rows}
    assert warned["email-sending"] == [NOBODY_CONSUMES]
    assert warned["idle"] == []
    assert warned["email-sending:low"] == []


@pytest.mark.parametrize(
    ("workers", "scale_command", "warns"),
    [
        ((fake.worker(),), (), True),
        ((fake.worker(), fake.worker("supervisor")), (), False),
        ((fake.worker(), fake.worker("supervisor", alive=False)), (), True),
        ((fake.worker(),), ("scale", "{queue}", "{count}"), False),
    ],
)
def test_a_wish_for_workers_that_nobody_follows_is_said(workers: Any, scale_command: Any, warns: bool) -> None:
    found = board(scale_command=scale_command)
    found.accept(
        fake.snapshot(postgres=fake.postgres_half(fake.stats("email-sending", concurrency=9), workers=workers))
    )
    assert bool(found.rows[0].get("warn")) is warns


def test_a_missing_relay_is_said_once_publications_are_late() -> None:
    found = board()
    late = {"publications_due": 40, "publication_lag_seconds": 60.0}
    found.accept(fake.snapshot(postgres=fake.postgres_half(workers=(fake.worker(),), **late)))
    assert "no relay is alive" in found.strip["notices"][0]
    found.accept(fake.snapshot(postgres=fake.postgres_half(**late)))
    assert found.strip["notices"] == []


def test_the_age_turns_amber_after_two_missed_refreshes_of_the_chosen_interval() -> None:
    found = board()
    assert found.strip["amberAfter"] == 11
    found.set_interval(30)
    assert (found.strip["interval"], found.strip["amberAfter"]) == (30, 61)
    found.set_interval(0)
    assert found.strip["amberAfter"] == 0
    found.set_interval(0.001)
    assert found.interval == 5.0


def test_read_only_is_said_from_the_start_and_when_the_role_turns_out_to_be() -> None:
    assert "read-only" in board(read_only=True).strip["readOnly"]
    found = board()
    assert found.strip["readOnly"] == ""
    found.set_read_only("the role queuemon_reader may not update jobs")
    assert "queuemon_reader" in found.strip["readOnly"]


def test_two_hundred_queues_stay_below_fifty_kilobytes_a_tick() -> None:
    found = board()
    found.accept(fake.snapshot(*[fake.stats(f"tenant-{n:03}:email-sending", waiting=n * 40) for n in range(200)]))
    assert len(json.dumps([found.rows, found.strip])) < 50_000


def test_hostile_names_arrive_as_what_they_are() -> None:
    found = board()
    name = "<img src=x onerror=alert(1)>\u202egnp"
    found.accept(fake.snapshot(fake.stats(name)))
    assert found.rows[0]["name"] == name
    assert found.rows[0]["title"] == "queue:<img src=x onerror=alert(1)>⟨U+202E⟩gnp"


# ------------------------------------------------------------------------------------------------------- inspector


@pytest.fixture
def bench() -> fake.FakeWorkbench:
    made = fake.FakeWorkbench()
    made.jitter = False
    return made


@pytest.fixture
def inspector(bench: fake.FakeWorkbench) -> Inspector:
    found = board()
    found.accept(bench.snapshot())
    return Inspector(bench, found)  # type: ignore[arg-type]


def test_opening_a_queue_reads_its_page_and_its_counts(inspector: Inspector) -> None:
    inspector.open("analytics:daily-aggregate", "failed")
    assert inspector.details["title"] == "queue:analytics:daily-aggregate"
    assert inspector.details["counts"]["failed"] == 12
    assert len(inspector.page["rows"]) == 12
    assert inspector.page["matching"] == {"value": 12, "text": "12"}


def test_paging_goes_by_cursor_and_back(inspector: Inspector) -> None:
    inspector.open("email-sending", "waiting")
    first = [row["id"] for row in inspector.page["rows"]]
    assert len(first) == PAGE
    inspector.turn(True)
    assert inspector.page["first"] == PAGE + 1
    assert not set(first) & {row["id"] for row in inspector.page["rows"]}
    inspector.turn(False)
    assert [row["id"] for row in inspector.page["rows"]] == first
    inspector.turn(False)
    assert inspector.page["number"] == 1


def test_a_filter_that_does_not_parse_is_answered_beside_its_box_and_the_page_stays(inspector: Inspector) -> None:
    inspector.open("analytics:daily-aggregate", "failed")
    inspector.ask(status="failed", text="statuss:failed")
    assert "statuss" in inspector.page["error"]
    assert inspector.page["position"] == 0
    assert len(inspector.page["rows"]) == 12
    inspector.ask(status="failed", text="")
    assert inspector.page["error"] == ""


def test_a_refresh_changes_values_in_place_but_never_pushes_other_jobs_in(
    bench: fake.FakeWorkbench, inspector: Inspector
) -> None:
    name = "analytics:daily-aggregate"
    inspector.open(name, "all")
    before = [row["id"] for row in inspector.page["rows"]]
    bench.jobs_of[name][0] = replace(bench.jobs_of[name][0], status=JobStatus.COMPLETED)
    inspector.refresh()
    assert inspector.page["rows"][0]["state"] == "completed"
    assert not inspector.page["changed"]
    bench.jobs_of[name].insert(0, fake.job(name))
    inspector.refresh()
    assert [row["id"] for row in inspector.page["rows"]] == before
    assert inspector.page["changed"]
    inspector.reload()
    assert [row["id"] for row in inspector.page["rows"]][1:] == before
    assert not inspector.page["changed"]


def test_an_overtaken_answer_is_dropped(bench: fake.FakeWorkbench, inspector: Inspector) -> None:
    inspector.open("email-sending", "waiting")
    release, asked = threading.Event(), threading.Event()
    real = bench.jobs

    def slow(where: object, **options: Any) -> Any:
        if "status:failed" in str(where):
            asked.set()
            release.wait(5)
        return real(where, **options)

    bench.jobs = slow  # type: ignore[method-assign]
    first = threading.Thread(target=lambda: inspector.ask(status="failed", text=""))
    first.start()
    assert asked.wait(5)
    inspector.ask(status="waiting", text="")
    newer = inspector.page
    release.set()
    first.join(5)
    assert inspector.page == newer


def test_closing_the_details_drops_what_is_still_being_read(inspector: Inspector) -> None:
    inspector.open("email-sending", "waiting")
    inspector.close()
    inspector.refresh()
    inspector.ask(status="failed", text="")
    assert (inspector.details, inspector.page) == ({}, {})


def test_a_job_without_a_record_of_its_attempts_shows_its_last_error_all_the_same(bench: fake.FakeWorkbench) -> None:
    target = bench.jobs_of["analytics:daily-aggregate"][0]
    found = replace(bench.job(str(target.id)), attempts=())
    values = job_values(found, Keys())
    assert values["history"] == []
    assert values["noHistory"] == "No record of its attempts: purged, or never written."
    assert "Division by zero in MRR calculation" in values["error"]
    shown = str(html.detail(found, Keys()))
    assert "No record of its attempts" in shown
    assert "Division by zero in MRR calculation" in shown
    fresh = replace(found, job=replace(found.job, attempts=0))
    assert job_values(fresh, Keys())["noHistory"] == "No attempt yet."


def test_a_job_shows_its_facts_attempts_payload_and_what_may_be_done(
    bench: fake.FakeWorkbench, inspector: Inspector
) -> None:
    target = bench.jobs_of["analytics:daily-aggregate"][0]
    inspector.open_job(str(target.id))
    found = inspector.job
    assert (found["id"], found["title"], found["state"]) == (
        str(target.id),
        "queue:analytics:daily-aggregate",
        "failed",
    )
    assert [a["name"] for a in found["history"]] == ["Enqueue", "Attempt 1", "Attempt 2", "Attempt 3"]
    assert "Division by zero in MRR calculation" in found["history"][-1]["message"]
    assert "monthly_recurring_revenue" in found["history"][-1]["trace"]
    assert found["can"] == {
        "retry": True,
        "delete": True,
        "runNow": False,
        "move": True,
        "rescue": False,
    }
    assert "canary-4711" not in json.dumps(found)
    json.dumps(found, allow_nan=False)


def test_a_job_deleted_while_it_is_open_stays_on_screen_and_says_so(
    bench: fake.FakeWorkbench, inspector: Inspector
) -> None:
    target = bench.jobs_of["analytics:daily-aggregate"].pop(0)
    bench.jobs_of["analytics:daily-aggregate"].append(target)
    inspector.open_job(str(target.id))
    bench.jobs_of["analytics:daily-aggregate"].remove(target)
    inspector.refresh()
    assert "there is no job" in inspector.job["gone"]
    assert inspector.job["state"] == "failed"


def test_an_unknown_job_is_one_sentence(inspector: Inspector) -> None:
    inspector.open_job("nonsense")
    assert "there is no job" in inspector.job["gone"]


# ---------------------------------------------------------------------------------------------------- confirmation


def test_a_plan_is_shown_before_anything_happens(bench: fake.FakeWorkbench) -> None:
    confirmation = Confirmation(bench)  # type: ignore[arg-type]
    confirmation.propose("retry", "queue:analytics:daily-aggregate status:failed")
    shown = confirmation.plan
    assert shown["title"] == "Retry 12 jobs?"
    assert shown["count"] == 12
    assert shown["excluded"] == [["is running now", 1]]
    assert len(shown["sample"]) == 5
    assert shown["typed"] == ""
    assert bench.applied == []


def test_applying_hands_on_exactly_the_plan_that_was_shown_with_its_reason(bench: fake.FakeWorkbench) -> None:
    confirmation = Confirmation(bench)  # type: ignore[arg-type]
    confirmation.propose("retry", "queue:analytics:daily-aggregate status:failed")
    result = confirmation.apply(confirmation.plan["id"], reason=" fixed by #812 ", typed="")
    assert result is not None
    assert [(str(p.id), r) for p, r in bench.applied] == [(str(result.id), "fixed by #812")]
    assert confirmation.plan == {}


def test_a_plan_runs_once_and_an_old_one_never(bench: fake.FakeWorkbench) -> None:
    confirmation = Confirmation(bench)  # type: ignore[arg-type]
    confirmation.propose("pause", "email-sending")
    old = confirmation.plan["id"]
    confirmation.propose("pause", "email-sending:low")
    assert confirmation.apply(old, reason="", typed="") is None
    current = confirmation.plan["id"]
    assert confirmation.apply(current, reason="", typed="") is not None
    assert confirmation.apply(current, reason="", typed="") is None
    assert len(bench.applied) == 1


def test_what_destroys_needs_its_typed_count(bench: fake.FakeWorkbench) -> None:
    confirmation = Confirmation(bench)  # type: ignore[arg-type]
    confirmation.propose("clear-failed", "analytics:daily-aggregate")
    assert confirmation.plan["typed"] == "12"
    with pytest.raises(InvalidValue, match="12"):
        confirmation.apply(confirmation.plan["id"], reason="", typed="21")
    assert bench.applied == []
    assert confirmation.apply(confirmation.plan["id"], reason="", typed=" 12 ") is not None


def test_a_plan_that_fails_closes_the_confirmation_and_raises(bench: fake.FakeWorkbench) -> None:
    confirmation = Confirmation(bench)  # type: ignore[arg-type]

    def down(plan: Plan, **_: Any) -> Any:
        raise StoreUnavailable("PostgreSQL is away", store="postgresql")

    bench.apply = down  # type: ignore[method-assign]
    confirmation.propose("pause", "email-sending")
    with pytest.raises(StoreUnavailable):
        confirmation.apply(confirmation.plan["id"], reason="", typed="")
    assert confirmation.plan == {}


def test_a_cancelled_plan_does_not_come_back_when_its_reading_ends(bench: fake.FakeWorkbench) -> None:
    confirmation = Confirmation(bench)  # type: ignore[arg-type]
    release, asked = threading.Event(), threading.Event()
    real = bench.plan

    def slow(kind: ActionKind, target: Any, **options: Any) -> Plan:
        asked.set()
        release.wait(5)
        return real(kind, target, **options)

    bench.plan = slow  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: confirmation.propose("pause", "email-sending"))
    thread.start()
    assert asked.wait(5)
    confirmation.cancel()
    release.set()
    thread.join(5)
    assert confirmation.plan == {}


def test_of_two_plans_the_later_click_wins(bench: fake.FakeWorkbench) -> None:
    confirmation = Confirmation(bench)  # type: ignore[arg-type]
    release, asked = threading.Event(), threading.Event()
    real = bench.plan

    def slow(kind: ActionKind, target: Any, **options: Any) -> Plan:
        if target == "email-sending":
            asked.set()
            release.wait(5)
        return real(kind, target, **options)

    bench.plan = slow  # type: ignore[method-assign]
    thread = threading.Thread(target=lambda: confirmation.propose("pause", "email-sending"))
    thread.start()
    assert asked.wait(5)
    confirmation.propose("pause", "email-sending:low")
    release.set()
    thread.join(5)
    assert confirmation.plan["title"] == "Pause queue:email-sending:low?"


# ---------------------------------------------------------------------------------------------------------- poller


def test_the_poller_never_overlaps_itself_and_stops() -> None:
    running, most, calls = [0], [0], [0]

    def work() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        calls[0] += 1
        threading.Event().wait(0.01)
        running[0] -= 1

    poller = Poller(work, interval=0.001)
    poller.start()
    for _ in range(20):
        poller.refresh()
    wait_until(lambda: calls[0] >= 5, message="five calls")
    poller.stop()
    assert poller.join(5)
    after = calls[0]
    assert most[0] == 1
    assert calls[0] == after


def test_with_the_interval_off_it_reads_only_on_request() -> None:
    calls = threading.Semaphore(0)
    poller = Poller(lambda: calls.release() and None, interval=0)  # type: ignore[func-returns-value]
    poller.start()
    assert calls.acquire(timeout=5)
    assert not calls.acquire(timeout=0.1)
    poller.refresh()
    assert calls.acquire(timeout=5)
    poller.stop()
    assert poller.join(5)


def test_an_abandoned_dashboard_rests_and_wakes_with_its_page() -> None:
    calls = threading.Semaphore(0)
    poller = Poller(lambda: calls.release() and None, interval=0.01, abandoned_seconds=0.2)  # type: ignore[func-returns-value]
    poller.start()
    while calls.acquire(timeout=0.5):
        pass
    assert poller.running
    poller.seen()
    assert calls.acquire(timeout=5)
    poller.stop()
    assert poller.join(5)


def test_times_are_sent_as_seconds_since_1970() -> None:
    found = board()
    oldest = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    found.accept(fake.snapshot(fake.stats("email-sending", oldest_waiting_at=oldest)))
    assert found.rows[0]["oldest"] == oldest.timestamp()


def test_a_queue_that_is_shown_alone_has_its_jobs_and_its_charts(bench: fake.FakeWorkbench) -> None:
    shown = Dashboard(bench, interval=0, queue="email-sending")  # type: ignore[arg-type]
    try:
        wait_until(lambda: shown.figure is not None and shown.page.get("rows"), message="its charts and jobs are there")
        assert (shown.part, shown.details["queue"]) == ("queue", "email-sending")
    finally:
        shown.close()


def test_the_rows_go_to_the_page_in_two_parts_that_no_order_can_mix_up() -> None:
    places: dict[str, int] = {}
    rows = [{"name": name, "health": "healthy", "waiting": n, "oldest": None} for n, name in enumerate("abc", 1)]

    def put_together(rows: list[dict[str, Any]], numbers: list[Any]) -> dict[str, int]:
        return {row["name"]: numbers[row["at"]][numbers[0]["waiting"]] for row in rows if numbers[row["at"]]}

    still, numbers = parted(rows, places)
    assert put_together(still, numbers) == {"a": 1, "b": 2, "c": 3}
    assert all("waiting" not in row for row in still)
    moved = [{**row, "waiting": row["waiting"] + 10} for row in reversed(rows)]
    turned, after = parted(moved, places)
    assert put_together(turned, after) == put_together(still, after) == {"a": 11, "b": 12, "c": 13}
    # One goes and another comes: for as long as the old rows stand beside the new numbers, nothing is mixed up.
    fewer = [rows[0], {**rows[1], "name": "new", "waiting": 7}]
    left, fresh = parted(fewer, places)
    assert put_together(turned, fresh) == {"a": 1}
    assert put_together(left, fresh) == {"a": 1, "new": 7}
    again, reused = parted([*fewer, {**rows[2], "waiting": 9, "name": "later"}], places)
    assert put_together(left, reused) == {"a": 1, "new": 7}
    assert put_together(again, reused) == {"a": 1, "new": 7, "later": 9}
    assert len(reused) == 5, "the place of one that has gone is taken again"
    assert parted([], {}) == ([], [reused[0]])


class Interrupted(Inspector):
    """Somebody turns the page in the moment in which a refresh looks which question it answers."""

    turned: threading.Thread | None = None
    armed = False

    @property
    def _question(self) -> int:
        if self.armed:
            self.armed = False
            self.turned = threading.Thread(target=self.turn, args=(True,))
            self.turned.start()
            self.turned.join(0.5)
        return self.asked

    @_question.setter
    def _question(self, number: int) -> None:
        self.asked = number


def test_a_page_that_is_asked_for_while_a_refresh_begins_does_not_give_way_to_the_one_before() -> None:
    workbench = fake.FakeWorkbench()
    inspector = Interrupted(workbench, board())  # type: ignore[arg-type]
    inspector.open("email-sending", "waiting")
    inspector.armed = True
    inspector.refresh()
    assert inspector.turned is not None
    inspector.turned.join(10)
    assert (inspector.page["number"], inspector.page["first"]) == (2, PAGE + 1)
