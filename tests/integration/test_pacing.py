"""A bulk action while PostgreSQL is really slow, or another session holds rows: smaller chunks, pauses, counts kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from queuemon import actions
from queuemon.actions.pacing import FLOOR_ROWS, PAUSE_SECONDS, POSTGRES_SLOW, ROWS_HELD
from queuemon.errors import RowHeld
from queuemon.model import ActionProgress
from queuemon.store import Store
from tests.support.actions import Desk

pytestmark = pytest.mark.integration

#: Every row that is changed takes 5 ms more: 200 of them a second, 50 of them as long as a chunk may hold its rows.
SLOW = (
    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM pg_sleep(0.005); RETURN coalesce(NEW, OLD); END $$",
    "CREATE TRIGGER slow BEFORE UPDATE OR DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION slow()",
)


@pytest.fixture
def store(desk: Desk) -> Iterator[Store]:
    """Stores with chunks of 200 jobs."""
    with Store(desk.settings.model_copy(update={"chunk_rows": 200})) as made:
        yield made


class Waits(threading.Event):
    """A stop that nobody asks for (or, with `during`, in the first pause): remembers the waits, and does not wait."""

    def __init__(self, *, during: bool = False) -> None:
        super().__init__()
        self.during = during
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return bool(timeout) and self.during


def sizes(desk: Desk) -> list[int]:
    """Jobs of each chunk."""
    return [r["size"] for r in desk.sql("SELECT cardinality(done_ids) AS size FROM queuemon.action_chunks ORDER BY n")]


@pytest.mark.parametrize("kind", ["retry", "delete"])
def test_while_postgresql_is_slow_chunks_are_small_with_pauses_between_and_every_job_is_counted(
    desk: Desk, store: Store, kind: str
) -> None:
    ids, seen, waits = desk.add("failed", 220), list[ActionProgress](), Waits()
    for statement in SLOW:
        desk.sql(statement)
    result = actions.apply(
        store, actions.plan(store, kind, "queue:mail status:failed"), reason="", progress=seen.append, stop=waits
    )
    assert (result.done, result.state, result.skipped, result.gone) == (220, "done", (), 0)
    assert sizes(desk) == [FLOOR_ROWS] * 4 + [20]
    assert seen[0].done == 0, "it says so before the first chunk is through"
    assert [p.done for p in seen[1:]] == [50, 100, 150, 200, 220]
    assert seen[0].slowed == f"{POSTGRES_SLOW}: {FLOOR_ROWS} jobs at a time"
    # On a machine that does something else, Redis may really be slow now and then as well.
    assert all(p.slowed.endswith(f" is slow: {FLOOR_ROWS} jobs at a time") for p in seen[:-1])
    assert waits.seconds[0] == 0
    assert all(0 < s <= PAUSE_SECONDS for s in waits.seconds[1:])
    assert desk.number("queuemon.undo_jobs") == 220
    if kind == "retry":
        assert desk.listed() == [(str(i), 5) for i in ids]


def test_once_postgresql_is_fast_again_so_is_the_action(desk: Desk, store: Store) -> None:
    desk.add("failed", 1_000)
    for statement in SLOW:
        desk.sql(statement)

    def repair(p: ActionProgress) -> None:
        if p.done == 2 * FLOOR_ROWS:
            desk.sql("DROP TRIGGER slow ON jobs")

    plan = actions.plan(store, "retry", "status:failed")
    assert actions.apply(store, plan, reason="", progress=repair, stop=Waits()).done == 1_000
    chunks = sizes(desk)
    assert chunks[:2] == [FLOOR_ROWS] * 2
    assert max(chunks) > FLOOR_ROWS
    assert sum(chunks) == 1_000


def test_stop_is_obeyed_in_a_pause_and_the_action_goes_on_from_there(desk: Desk, store: Store) -> None:
    desk.add("failed", 120)
    for statement in SLOW:
        desk.sql(statement)
    plan = actions.plan(store, "retry", "status:failed")
    first = actions.apply(store, plan, reason="", stop=Waits(during=True))
    assert (first.state, first.done) == ("stopped", 0), "in the pause after the chunk that was cancelled"
    desk.sql("DROP TRIGGER slow ON jobs")
    assert actions.resume_action(store, plan.id).done == 120
    assert len(desk.listed()) == 120


def test_while_another_session_holds_a_row_no_other_row_is_kept_locked_for_its_sake(desk: Desk, store: Store) -> None:
    ids, refused = sorted(desk.add("failed", 200)), list[int]()
    plan = actions.plan(store, "retry", ids)
    with desk.store.postgres.begin() as connection:
        connection.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": ids[120]})
        holder = connection.connection

        def look(p: ActionProgress) -> None:
            if not p.slowed.startswith(ROWS_HELD) or refused.count(100) == 2:
                return
            refused.append(p.done)
            with store.postgres.begin() as other:
                free = other.execute(text("SELECT count(*) FROM (SELECT 1 FROM jobs FOR UPDATE SKIP LOCKED) AS free"))
                assert free.scalar_one() == 199
            if refused.count(100) == 2:
                holder.rollback()

        result = actions.apply(store, plan, reason="", progress=look, stop=Waits())
    assert (result.done, result.state) == (200, "done")
    assert {0, 100} <= set(refused)
    assert sizes(desk)[:2] == [FLOOR_ROWS] * 2
    assert sum(sizes(desk)) == 200
    assert len(desk.listed()) == 200


def test_who_holds_a_row_for_too_long_ends_it_with_a_sentence_and_it_can_be_resumed(desk: Desk) -> None:
    ids = desk.add("failed", 3)
    with Store(desk.settings.model_copy(update={"lock_timeout_seconds": 0.05})) as hasty:
        plan = actions.plan(hasty, "retry", ids)
        with desk.store.postgres.begin() as connection:
            connection.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE"), {"id": ids[1]})
            with pytest.raises(RowHeld, match="another session holds a row"):
                actions.apply(hasty, plan, reason="")
        assert actions.resume_action(hasty, plan.id).done == 3
