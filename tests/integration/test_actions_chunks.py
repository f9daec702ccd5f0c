"""Bulk actions go chunk by chunk: each id once, interrupted, shared, stopped, and with Redis away."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import and_, text

from queuemon import actions
from queuemon.config import Settings
from queuemon.engine.publisher import publish
from queuemon.model import ActionKind, ActionProgress
from queuemon.store import Store, changes, numbers
from queuemon.store.chunks import Order, chunks_of
from tests.support.actions import Desk


@pytest.mark.parametrize("target", ["filter", "selection"])
def test_chunks_cover_everything_once_in_keyset_order(desk: Desk, target: str) -> None:
    ids = sorted(desk.add("failed", 23) + desk.add("expired", 4))
    seen: list[ActionProgress] = []
    with Store(desk.settings.model_copy(update={"chunk_rows": 5})) as store:
        wanted = ids[::-1] if target == "selection" else "queue:mail status in (failed, expired)"
        plan = actions.plan(store, "retry", wanted)
        result = actions.apply(store, plan, reason="all", progress=seen.append)
    assert (result.done, result.state, result.summary) == (27, "done", "Retried 27 jobs.")
    chunks = desk.sql("SELECT * FROM queuemon.action_chunks ORDER BY n")
    assert [c["n"] for c in chunks] == list(range(6))
    assert [i for c in chunks for i in c["done_ids"]] == ids
    assert desk.listed() == [(str(i), 5) for i in ids], "oldest first, each once"
    assert [p.done for p in seen] == [5, 10, 15, 20, 25, 27]
    assert seen[-1].eta_seconds == 0
    assert seen[0].per_second > 0


class Halt(Exception):
    """What a crash between two chunks looks like from inside."""


@pytest.mark.parametrize("target", ["filter", "selection"])
@pytest.mark.parametrize("kind", ["retry", "delete"])
def test_an_action_that_was_interrupted_between_chunks_goes_on_from_its_cursor(
    desk: Desk, kind: str, target: str
) -> None:
    ids = desk.add("failed", 20)
    calls: list[ActionProgress] = []

    def crash(p: ActionProgress) -> None:
        calls.append(p)
        if len(calls) == 2:
            raise Halt

    with Store(desk.settings.model_copy(update={"chunk_rows": 4})) as store:
        plan = actions.plan(store, kind, ids if target == "selection" else "status:failed")
        with pytest.raises(Halt):
            actions.apply(store, plan, reason="", progress=crash)
        (record,) = actions.actions(store)
        assert (record.state, record.done) == ("running", 8)
        result = actions.apply(store, plan, reason="")
    assert (result.done, result.state, result.repeated) == (20, "done", False)
    assert desk.number("jobs WHERE status = 'waiting' AND gen = 5") == (20 if kind == "retry" else 0)
    assert desk.number("queuemon.action_chunks") == 5
    assert [e["event"] for e in desk.sql("SELECT event FROM queuemon.action_events ORDER BY id")] == [
        "started", "resumed", "finished",
    ]  # fmt: skip


def test_two_processes_that_apply_the_same_plan_at_once_share_the_work(desk: Desk) -> None:
    desk.add("failed", 400)
    with Store(desk.settings.model_copy(update={"chunk_rows": 7})) as store:
        plan = actions.plan(store, "retry", "status:failed")
        results: list[Any] = []
        threads = [
            threading.Thread(target=lambda: results.append(actions.apply(store, plan, reason=""))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert [r.done for r in results] == [400, 400]
    assert desk.number("jobs WHERE status = 'waiting' AND gen = 5") == 400
    assert len(desk.listed()) == 400
    assert desk.number("queuemon.action_events WHERE event = 'finished'") == 1


def test_stop_ends_an_action_between_two_chunks_and_says_how_far_it_came(desk: Desk) -> None:
    desk.add("failed", 12)
    stop = threading.Event()
    with Store(desk.settings.model_copy(update={"chunk_rows": 5})) as store:
        plan = actions.plan(store, "retry", "status:failed")
        result = actions.apply(store, plan, reason="", stop=stop, progress=lambda _: stop.set())
    assert (result.state, result.done) == ("stopped", 5)
    assert result.summary == "Stopped on request. Retried 5 of 12."
    assert desk.number("jobs WHERE status = 'failed'") == 7


def test_while_redis_is_away_an_action_is_done_and_publication_is_left_to_the_relay(
    desk: Desk, settings: Settings
) -> None:
    ids = desk.add("failed", 9)
    deaf = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1"), "chunk_rows": 3})
    with Store(deaf) as store:
        plan = actions.plan(store, "retry", ids)
        result = actions.apply(store, plan, reason="")
    assert (result.done, result.state, result.published) == (9, "done", False)
    assert result.summary == ("Retried 9 jobs. Redis did not take them: the relay will publish them when it does.")
    assert desk.number("queuemon.publications") == 3
    assert publish(desk.store).jobs == 9
    assert desk.listed() == [(str(i), 5) for i in ids]
    again = actions.apply(desk.store, plan, reason="")
    assert (again.repeated, again.published) == (True, False)


@pytest.mark.parametrize("control", [False, True])
def test_stale_statistics_do_not_make_each_chunk_read_every_job_in_its_state(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, control: bool
) -> None:
    """With the conditions of the statements left bare (`control`) they do."""
    if control:
        monkeypatch.setattr(changes, "fenced", and_)
    desk.sql("ALTER TABLE jobs SET (autovacuum_enabled = off)")
    desk.add("completed", 3_000)
    desk.sql("ANALYZE jobs")
    ids = desk.add("failed", 3_000)
    chunk = chunks_of(ids, after=None, chunk_rows=10)[3]
    with desk.store.postgres.begin() as connection:
        outcome = changes.change_chunk(
            connection, desk.store.tables, Order(kind=ActionKind.CLEAR_FAILED, cutoff=numbers.clock(connection)), chunk,
            action_id=uuid4(), also=None, keep_days=7, logged=False,
        )  # fmt: skip
        read = connection.execute(
            text("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'jobs'")
        ).scalar_one()
    assert outcome.done == 10
    assert (read > 2_000) is control, read


def test_who_goes_on_with_an_action_publishes_what_the_first_process_committed_and_did_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = desk.add("failed", 3)
    plan = actions.plan(desk.store, "retry", ids)
    with monkeypatch.context() as patch:
        patch.setattr("queuemon.actions.bulk.publish", _killed)
        with pytest.raises(KeyboardInterrupt):
            actions.apply(desk.store, plan, reason="")
    assert desk.listed() == []
    result = actions.apply(desk.store, plan, reason="")
    assert (result.done, result.published) == (3, True)
    assert desk.listed() == [(str(i), 5) for i in ids]
    assert desk.number("queuemon.publications") == 0


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
