"""Taking an action back: what comes back as it was, what has moved on since, and that it happens once."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from queuemon import actions
from queuemon.actions import turns
from queuemon.engine.publisher import publish
from queuemon.errors import InvalidValue, UnknownAction
from queuemon.model import ActionKind, ActionResult
from queuemon.store import Store, claims
from queuemon.workbench import Workbench
from tests.support.actions import Desk
from tests.support.engine import Rig

pytestmark = pytest.mark.integration

KEPT = (
    "queue", "payload", "status", "attempts", "created_at", "run_at", "started_at", "finished_at", "heartbeat_at",
    "worker_id", "error_type", "error_message",
)  # fmt: skip


def rows(desk: Desk, ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    """What an undo restores of the jobs."""
    return {i: {name: row[name] for name in KEPT} for i in ids if (row := desk.job(i)) is not None}


def counted(desk: Desk) -> bool:
    """Whether the counters say what the rows say."""
    truth = {
        (r["queue"], r["state"]): r["n"]
        for r in desk.sql(
            "SELECT queue, CASE WHEN status IN ('waiting', 'active') THEN 'open' ELSE status END AS state,"
            " count(*) AS n FROM jobs GROUP BY 1, 2"
        )
    }
    known = {
        (r["queue"], r["state"]): int(r["n"])
        for r in desk.sql(
            "SELECT queue, state, sum(n) AS n FROM (SELECT queue, becomes AS state, n FROM queuemon.job_deltas"
            " WHERE becomes IS NOT NULL UNION ALL SELECT queue, was, -n FROM queuemon.job_deltas WHERE was IS NOT NULL)"
            " AS change GROUP BY 1, 2 HAVING sum(n) <> 0"
        )
    }
    return truth == known


def claim(desk: Desk, job_id: UUID, gen: int) -> Any:
    """A worker's claim, in a transaction of its own."""
    with desk.store.postgres.begin() as connection:
        return claims.claim(connection, desk.store.tables, job_id=job_id, gen=gen, worker_id="w-2")


@pytest.mark.parametrize("kind", ["retry", "delete", "clear-failed", "edit"])
def test_failed_jobs_stand_as_they_did_before(desk: Desk, kind: str) -> None:
    ids = desk.add("failed", 1 if kind == "edit" else 25)
    before = rows(desk, ids)
    more = {"payload": '{"n": 12345678901234567890}'} if kind == "edit" else {}
    first = desk.act(kind, ids if kind != "clear-failed" else "queue:mail", **more)
    assert first.done == len(ids)
    assert rows(desk, ids) != before
    record = actions.action(desk.store, first.id)
    assert record.undoable_until is not None
    result = desk.act("undo", first.id)
    assert (result.state, result.done, result.skipped, result.gone) == ("done", len(ids), (), 0)
    assert rows(desk, ids) == before
    gens = {desk.job(i)["gen"] for i in ids}
    assert gens == ({6} if kind in {"retry", "edit"} else {5}), "an element of an older generation is stale"
    undone, undo = actions.action(desk.store, first.id), actions.action(desk.store, result.id)
    assert (undone.undone_by, undone.undoable_until) == (undo.id, None)
    assert (undo.kind, undo.undo_of, undo.undoable_until) == (ActionKind.UNDO, first.id, None)
    assert {o.outcome for o in actions.outcomes(desk.store, result.id)} == {"done"}
    assert [log["kind"] for log in desk.logs(ids[0])][-1] == "undo"
    assert counted(desk)
    with pytest.raises(InvalidValue, match="did that already"):
        actions.plan(desk.store, "undo", first.id)
    with pytest.raises(InvalidValue, match="do the action itself again"):
        actions.plan(desk.store, "undo", result.id)


def test_the_arrival_of_a_job_that_comes_back_counts_once(desk: Desk) -> None:
    desk.add("failed", 30)
    arrived = "SELECT sum(n) AS n FROM queuemon.job_deltas WHERE arrived IS NOT NULL"
    before = desk.sql(arrived)
    desk.act("undo", desk.act("delete", "status:failed").id)
    assert desk.sql(arrived) == before


def test_a_retry_that_a_worker_took_stays_with_it_and_the_rest_goes_back(desk: Desk) -> None:
    ids = desk.add("failed", 4)
    first = desk.act("retry", ids)
    assert claim(desk, ids[0], 5)
    desk.act("delete", ids[1])
    plan = actions.plan(desk.store, "undo", first.id)
    assert plan.count == 2
    assert {b.label: b.count for b in plan.excluded} == {"is running": 1, "was deleted": 1}
    result = actions.apply(desk.store, plan, reason="wrong ones")
    assert result.summary == "Took back 2 of 4. 2 were skipped: 1 is running, 1 was deleted."
    assert desk.job(ids[0])["status"] == "active"
    assert {desk.job(i)["status"] for i in ids[2:]} == {"failed"}
    assert actions.apply(desk.store, plan, reason="").repeated


def test_an_undo_that_meets_a_claim_waits_for_it_and_leaves_the_job_alone(desk: Desk) -> None:
    ids = desk.add("failed", 2)
    first = desk.act("retry", ids)
    plan = actions.plan(desk.store, "undo", first.id)
    assert plan.count == 2
    t = desk.store.tables
    result: ActionResult = desk.while_held(
        lambda connection: claims.claim(connection, t, job_id=ids[0], gen=5, worker_id="w-2"),
        lambda: actions.apply(desk.store, plan, reason=""),
    )
    assert (result.done, [b.label for b in result.skipped]) == (1, ["is running"])
    assert desk.job(ids[0])["worker_id"] == "w-2"


def test_an_insert_of_the_same_id_wins_over_the_copy(desk: Desk) -> None:
    ids = desk.add("failed", 2)
    first = desk.act("delete", ids)
    plan = actions.plan(desk.store, "undo", first.id)
    result: ActionResult = desk.while_held(
        lambda connection: connection.execute(
            text("INSERT INTO jobs (id, queue, payload, gen) VALUES (:id, 'mail', '{\"new\": 1}', 1)"), {"id": ids[0]}
        ),
        lambda: actions.apply(desk.store, plan, reason=""),
    )
    assert (result.done, [b.label for b in result.skipped]) == (1, ["exists again"])
    assert desk.job(ids[0])["payload"] == {"new": 1}


def test_a_deleted_waiting_job_is_really_run_again(rig: Rig) -> None:
    done: list[UUID] = []
    with Workbench(rig.settings) as wb:
        job_id = rig.producer.enqueue("mail", {"n": 1})
        publish(rig.store)
        deleted = wb.apply(wb.plan("delete", job_id))
        assert deleted.done == 1
        # As a worker does that meets the element of a deleted job: it drops it; the marker of that generation is left.
        rig.redis.delete(rig.keys.queue_key("mail"))
        assert rig.redis.exists(rig.keys.marker_key(str(job_id)))
        assert wb.undo().done == 1
        with rig.worker(lambda job: done.append(job.id)):
            rig.until("completed", 1)
    assert len(done) == 1


def test_what_waited_has_the_time_before_it_that_was_left_and_scheduled_jobs_stay_scheduled(desk: Desk) -> None:
    (waiting,), (later,) = desk.add("waiting"), desk.add("scheduled")
    run_at = desk.job(later)["run_at"]
    first = desk.act("delete", [waiting, later])
    desk.sql(
        "UPDATE queuemon.undo_jobs SET row = jsonb_set(row, '{expires_at}', to_jsonb(now() - interval '1 hour'))"
        " WHERE job_id = :id",
        id=waiting,
    )
    desk.sql("UPDATE queuemon.actions SET started_at = now() - interval '2 hours' WHERE id = :id", id=first.id)
    desk.act("undo", first.id)
    left = "SELECT extract(epoch FROM expires_at - now()) AS s FROM jobs WHERE id = :id"
    assert 3_500 < desk.sql(left, id=waiting)[0]["s"] <= 3_601
    assert desk.job(later)["run_at"] == run_at
    publish(desk.store)
    assert [i for i, _ in desk.listed()] == [str(waiting)]


def test_a_job_whose_queue_has_gone_stays_away_and_says_so(desk: Desk) -> None:
    ids = desk.add("failed", 2) + desk.add("failed", queue="reports")
    first = desk.act("delete", ids)
    desk.sql("DELETE FROM job_queues WHERE name = 'reports'")
    result = desk.act("undo", first.id)
    assert result.done == 2
    assert {b.label: b.count for b in result.skipped} == {"has no queue any more": 1}


def test_moved_jobs_go_back_unless_they_started_there(desk: Desk) -> None:
    waiting, failed = desk.add("waiting", 3), desk.add("failed", 1)
    first = desk.act("move", waiting + failed, to="reports")
    publish(desk.store)
    assert claim(desk, waiting[0], 5)
    result = desk.act("undo", first.id)
    assert (result.done, [b.label for b in result.skipped]) == (3, ["is running"])
    assert {desk.job(i)["queue"] for i in waiting[1:] + failed} == {"mail"}
    publish(desk.store)
    assert {i for i, gen in desk.listed() if gen == 6} == {str(i) for i in waiting[1:]}
    assert counted(desk)


def test_stuck_jobs_that_were_deleted_come_back_stuck(desk: Desk) -> None:
    (job_id,) = desk.add("active")
    desk.sql("UPDATE jobs SET heartbeat_at = now() - interval '1 hour', started_at = now() - interval '1 hour'")
    first = desk.act("delete-stuck", "status:stuck")
    desk.act("undo", first.id)
    row = desk.job(job_id)
    assert (row["status"], row["worker_id"], row["gen"]) == ("active", "w-1", 5)


class Killed(BaseException):
    """As if the process had died."""


def test_an_undo_that_is_killed_goes_on_from_its_cursor(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = desk.add("failed", 50)
    before = rows(desk, ids)
    first = desk.act("delete", "status:failed")
    with Store(desk.settings.model_copy(update={"chunk_rows": 10})) as store:
        plan = actions.plan(store, "undo", "last")
        assert plan.target == str(first.id)
        change, times = turns._change_back, iter(range(3))

        def dying(*arguments: Any) -> Any:
            if next(times, None) is None:
                raise Killed
            return change(*arguments)

        monkeypatch.setattr(turns, "_change_back", dying)
        with pytest.raises(Killed):
            actions.apply(store, plan, reason="")
        assert len(rows(desk, ids)) == 30
        monkeypatch.setattr(turns, "_change_back", change)
        result = actions.resume_action(store, plan.id)
        assert (result.done, result.state) == (50, "done")
        assert [o.job_id for o in actions.outcomes(store, plan.id)] == sorted(ids)
    assert rows(desk, ids) == before


def test_copies_that_were_purged_are_said(desk: Desk) -> None:
    ids = desk.add("failed", 3)
    first = desk.act("delete", ids)
    plan = actions.plan(desk.store, "undo", first.id)
    desk.sql("DELETE FROM queuemon.undo_jobs WHERE job_id = :id", id=ids[0])
    result = actions.apply(desk.store, plan, reason="")
    assert result.summary == "Took back 2 of 3. 1 was skipped: 1 has no copy any more."
    desk.act("delete", ids[1:])
    desk.sql("UPDATE queuemon.undo_jobs SET kept_until = now()")
    with pytest.raises(UnknownAction, match="no action that can be taken back"):
        actions.plan(desk.store, "undo", "last")


def test_what_cannot_be_taken_back_says_why(desk: Desk) -> None:
    with pytest.raises(UnknownAction):
        actions.plan(desk.store, "undo", "last")
    with pytest.raises(UnknownAction):
        actions.plan(desk.store, "undo", uuid4())
    with pytest.raises(InvalidValue, match="is not an action"):
        actions.plan(desk.store, "undo", "yesterday")
    desk.add("scheduled")
    for kind, target, why in (
        ("run-now", "status:scheduled", "nothing was kept"),
        ("retry", "status:failed", "changed"),
    ):
        with pytest.raises(InvalidValue, match=why):
            actions.plan(desk.store, "undo", desk.act(kind, target).id)


# ------------------------------------------------------------------------------------------------------------ queues


def queue(desk: Desk) -> tuple[Any, ...]:
    """How the queue stands."""
    (row,) = desk.sql("SELECT priority, concurrency, paused FROM job_queues WHERE name = 'mail'")
    return (row["priority"], row["concurrency"], row["paused"])


@pytest.mark.parametrize(
    ("kind", "options", "other"),
    [("prioritise", {"priority": "low"}, {"priority": "high"}), ("scale", {"concurrency": 7}, {"concurrency": 3})],
)
def test_a_queue_is_set_back_unless_somebody_set_it_since(
    desk: Desk, kind: str, options: dict[str, Any], other: dict[str, Any]
) -> None:
    before = queue(desk)
    first = desk.act(kind, "mail", **options)
    assert queue(desk) != before
    assert desk.act("undo", "last").state == "done"
    assert queue(desk) == before
    assert actions.action(desk.store, first.id).undone_by
    second = desk.act(kind, "mail", **options)
    plan = actions.plan(desk.store, "undo", second.id)
    desk.act(kind, "mail", **other)
    now = queue(desk)
    assert actions.plan(desk.store, "undo", second.id).count == 0
    refused = actions.apply(desk.store, plan, reason="")
    assert (refused.state, "since" in refused.summary) == ("refused", True)
    assert queue(desk) == now


def test_a_pause_is_taken_back_and_the_deadlines_move(desk: Desk) -> None:
    (job_id,) = desk.add("waiting")
    first = desk.act("pause", "mail", holder="me")
    desk.act("pause", "mail", holder="you")
    deadline = desk.job(job_id)["expires_at"]
    assert "stays paused" in desk.act("undo", first.id).summary
    assert queue(desk)[2] is True
    desk.sql("UPDATE job_queues SET paused_at = now() - interval '1 hour' WHERE name = 'mail'")
    assert "runs again" in desk.act("undo", "last").summary
    assert queue(desk)[2] is False
    assert desk.flag()["paused"] == "0"
    assert (desk.job(job_id)["expires_at"] - deadline).total_seconds() > 3_500


def test_a_pause_that_replaced_an_earlier_one_of_its_holder_gives_it_back(desk: Desk) -> None:
    desk.act("pause", "mail", holder="me", reason="the first")
    second = desk.act("pause", "mail", holder="me", reason="the second", until="1h")
    desk.act("undo", second.id)
    (held,) = actions.pauses(desk.store)
    assert (held.holder, held.reason, held.until) == ("me", "the first", None)
    assert desk.flag()["paused"] == "1"


def test_a_resume_is_taken_back_for_all_who_held_the_queue(desk: Desk) -> None:
    first = desk.act("pause", "mail", holder="me", reason="one", until="2h")
    desk.act("pause", "mail", holder="you", reason="two")
    resumed = desk.act("resume", "mail")
    assert queue(desk)[2] is False
    assert desk.act("undo", resumed.id).state == "done"
    assert {(p.holder, p.reason) for p in actions.pauses(desk.store)} == {("me", "one"), ("you", "two")}
    assert (queue(desk)[2], desk.flag()["paused"]) == (True, "1")
    desk.act("undo", first.id)
    assert {p.holder for p in actions.pauses(desk.store)} == {"you"}
