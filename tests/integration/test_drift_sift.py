"""Zombies, stale elements and duplicates are filtered out of a parked list: exactly those, and nothing is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest

from queuemon.config import Settings
from queuemon.drift import repair, sifting
from queuemon.drift.model import CLASSES
from queuemon.engine.ids import uuid7
from queuemon.errors import LimitExceeded
from queuemon.model import ActionResult, Plan
from queuemon.store.sieve import Sieve
from queuemon.workbench import Workbench
from tests.support.drift import Planter

pytestmark = pytest.mark.integration

FILTERED = sorted(n for n, c in CLASSES.items() if c.claim_drops)
LIST, PARKED, SIFTED = "queue:mail", "queuemon:parked:mail", "queuemon:sifted:mail"
QUARANTINE = "queuemon:quarantine:mail"


class Site:
    """A workbench over two stores whose workers do not claim, with the queues `mail` and `reports`."""

    def __init__(self, settings: Settings) -> None:
        self.wb = Workbench(settings.model_copy(update={"worker_level": "L0"}))
        self.plant = Planter(self.wb.store, "mail", "reports")
        self.redis: Any = self.wb.store.redis.client
        for name in ("mail", "reports"):
            self.plant.new_queue(name, paused=False)

    def pause(self) -> None:
        self.wb.pause("mail", hard=True, reason="test")

    def plan(self, **options: Any) -> Plan:
        return self.wb.plan("repair", None, wait_seconds=0.0, **options)

    def repair(self, **options: Any) -> ActionResult:
        return self.wb.apply(self.plan(**options), reason="test")

    def counts(self) -> dict[int, int]:
        return {c.number: c.count for c in self.wb.drift(wait_seconds=0.0).classes if c.count}

    def raws(self, *keys: str) -> list[bytes]:
        return [raw for key in keys for raw in self.redis.lrange(key, 0, -1)]

    def events(self, action_id: UUID) -> list[dict[str, Any]]:
        rows = self.plant.sql(
            "SELECT detail FROM queuemon.action_events WHERE action_id = :id AND event = 'repaired' ORDER BY id",
            id=action_id,
        )
        return [repair for row in rows for repair in row["detail"]["repairs"]]


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    made = Site(settings)
    yield made
    made.wb.close()


def ids_of(raws: Sequence[bytes]) -> list[str]:
    return [json.loads(raw)["id"] for raw in raws]


@pytest.mark.parametrize("number", FILTERED)
def test_what_workers_without_a_claim_would_run_is_taken_out_of_the_parked_list(site: Site, number: int) -> None:
    site.plant.healthy(300)
    before = site.raws(LIST)
    site.plant.plant(number, 6)
    planted = site.raws(LIST)[len(before) :]
    after = site.plant.healthy(300)
    late = site.raws(LIST)[-len(after) :]
    site.pause()
    result = site.repair()
    assert (result.state, result.done) == ("done", 6), result.summary
    own = {3: [], 4: planted[6:], 5: planted[:6]}[number]
    assert site.raws(SIFTED, PARKED, LIST) == [*before, *own, *late]
    assert site.raws(QUARANTINE) == []
    events = site.events(result.id)
    assert sorted(e["before"]["element"].encode() for e in events) == sorted(
        {3: planted, 4: planted[:6]}.get(number, own)
    )
    assert {(e["class"], e["queue"], e["after"]) for e in events} == {(number, "mail", "taken out")}
    assert all(e["before"]["row"] in {"completed", "waiting"} for e in events)
    assert site.counts() == {}
    site.wb.resume("mail", reason="test")
    assert site.raws(LIST) == [*before, *own, *late]


def test_where_the_list_is_not_parked_the_plan_says_what_to_do_next(site: Site) -> None:
    site.plant.plant(3, 4)
    site.plant.plant(5, 2)
    plan = site.plan()
    assert plan.count == 0
    assert [(b.label, b.count) for b in plan.excluded] == [("needs a hard pause: workers here do not claim", 6)]
    assert plan.warnings == (
        "to take zombies, stale elements and duplicates out, run `queuemon pause mail --hard`, then repair, then"
        " `queuemon resume mail`",
    )
    assert site.plan(classes=[1]).warnings == ()


def test_of_a_parked_list_ghosts_and_poison_go_to_quarantine_and_lost_jobs_come_back(site: Site) -> None:
    site.plant.healthy(20)
    for number in (1, 2, 13):
        site.plant.plant(number, 4)
    planted = site.raws(LIST)[20:]
    site.pause()
    result = site.repair()
    assert (result.state, result.done) == ("done", 12), result.summary
    assert sorted(site.raws(QUARANTINE)) == sorted(planted)
    assert len(site.raws(PARKED)) == 24
    assert site.counts() == {}


def test_elements_of_deleted_jobs_and_of_running_ones_are_taken_out(site: Site) -> None:
    deleted, running = site.plant.healthy(3), site.plant.healthy(3)
    site.wb.apply(site.wb.plan("delete", deleted), reason="test")
    site.plant.sql(
        "UPDATE jobs SET status = 'active', heartbeat_at = now() WHERE id = ANY(CAST(:ids AS uuid[]))", ids=running
    )
    site.pause()
    result = site.repair()
    assert result.done == 6, result.summary
    assert {e["before"]["row"] for e in site.events(result.id)} == {"deleted", "active"}
    assert site.raws(PARKED, QUARANTINE) == []


# --------------------------------------------------------------------------------------------- between look and filter


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Something happens once, after the repair has looked for the last time and before it filters."""
    take_out = sifting.take_out

    def late(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(repair.sifting, "take_out", take_out)
        act()
        return take_out(*args, **options)

    monkeypatch.setattr(repair.sifting, "take_out", late)


@pytest.mark.parametrize("number", [3, 4, 5])
def test_an_element_whose_row_waits_again_under_its_generation_is_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As a tool that knows no generations would put it back."""
    site.plant.healthy(5)
    if number == 4:
        ids = site.plant.rows(3, gen="3")
        site.plant.push(ids, gen=2)
        site.plant.push(ids)
        site.redis.rpop(LIST, 3)
    else:
        ids = site.plant.healthy(3)
        state = "completed" if number == 3 else "active"
        times = "finished_at = now()" if number == 3 else "heartbeat_at = now()"
        site.plant.sql(f"UPDATE jobs SET status = '{state}', {times} WHERE id = ANY(CAST(:ids AS uuid[]))", ids=ids)
    site.pause()
    before = site.raws(PARKED)
    plan = site.plan(classes=[number])
    assert plan.count == 3
    back = "UPDATE jobs SET status = 'waiting', gen = :gen, finished_at = NULL WHERE id = ANY(CAST(:ids AS uuid[]))"
    gen = 2 if number == 4 else 1
    meanwhile(monkeypatch, lambda: site.plant.sql(back, ids=ids[:2], gen=gen))
    result = site.wb.apply(plan, reason="test")
    assert result.done == 1, result.summary
    assert [UUID(i) for i in ids_of(site.raws(PARKED))] == [UUID(i) for i in ids_of(before) if UUID(i) != ids[2]]
    assert site.raws(QUARANTINE) == []


def test_an_element_whose_row_is_being_changed_is_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [UUID(i) for i in sorted(site.plant.plant(3, 3).marks)]
    site.pause()
    plan = site.plan()
    with site.wb.store.postgres.begin() as connection:
        from sqlalchemy import text

        changing = text("UPDATE jobs SET status = 'waiting' WHERE id = :id")
        meanwhile(monkeypatch, lambda: connection.execute(changing, {"id": ids[1]}))
        result = site.wb.apply(plan, reason="test")
    assert result.done == 2
    assert [(b.label, b.count) for b in result.skipped] == [(repair.CHANGED, 1)]
    assert ids_of(site.raws(PARKED)) == [str(ids[1])]


def test_of_a_generation_that_waits_the_first_element_stays_whatever_moves_meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's filter joins the list, so that what was kept already comes by again."""
    first = site.plant.healthy(1)
    site.plant.healthy(400)
    site.plant.push(first)
    site.pause()
    plan, cut, cuts = site.plan(), Sieve.cut, []

    def disturbed(self: Sieve, taken: Sequence[int]) -> bool:
        done = cut(self, taken)
        cuts.append(done)
        if len(cuts) == 3:
            monkeypatch.setattr(Sieve, "cut", cut)
            other = Sieve(site.wb.store.redis, "mail")
            for _ in other.windows():
                other.cut(())
            monkeypatch.setattr(Sieve, "cut", disturbed)
        return done

    monkeypatch.setattr(Sieve, "cut", disturbed)
    result = site.wb.apply(plan, reason="test")
    assert (result.state, result.done) == ("done", 1), result.summary
    assert False in cuts
    assert len(site.raws(PARKED)) == 401
    assert ids_of(site.raws(PARKED))[0] == str(first[0])
    assert site.counts() == {}


def test_a_filter_that_others_disturb_again_and_again_ends(site: Site) -> None:
    site.plant.healthy(900)
    site.pause()
    sieve = Sieve(site.wb.store.redis, "mail")

    def filtered() -> None:
        for _ in sieve.windows():
            sieve.cut(())
            site.redis.rpush(SIFTED, "x")

    before = site.raws(PARKED)
    with pytest.raises(LimitExceeded, match="was moved"):
        filtered()
    assert [raw for raw in site.raws(SIFTED, PARKED) if raw != b"x"] == before


def test_a_list_that_was_given_back_meanwhile_is_left_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.plant.plant(3, 4)
    before = site.raws(LIST)
    site.pause()
    plan = site.plan()
    meanwhile(monkeypatch, lambda: site.wb.resume("mail", reason="test"))
    result = site.wb.apply(plan, reason="test")
    assert (result.done, [(b.label, b.count) for b in result.skipped]) == (0, [(repair.UNPARKED, 4)])
    assert site.raws(LIST) == before


# -------------------------------------------------------------------------------------------------- budgets, breaker


def test_budgets_bound_a_filter(site: Site) -> None:
    site.plant.healthy(50)
    site.plant.plant(3, 30)
    site.pause()
    assert site.plan(max_repairs=7).count == 7
    assert site.repair(max_repairs=7).done == 7
    assert len(site.raws(PARKED)) == 73
    assert site.plan(max_percent=0.1).count == 23  # a queue's share never bounds a repair to fewer than a hundred


def test_the_breaker_ends_a_filter_and_what_it_left_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [UUID(i) for i in sorted(site.plant.plant(3, 600).marks)]
    site.pause()
    plan = site.plan(max_percent=100)
    assert plan.count == 600
    back = "UPDATE jobs SET status = 'waiting', finished_at = NULL WHERE id = ANY(CAST(:ids AS uuid[]))"
    meanwhile(monkeypatch, lambda: site.plant.sql(back, ids=ids[40:300]))
    result = site.wb.apply(plan, reason="test")
    assert result.state == "stopped"
    assert "The circuit breaker stopped it" in result.summary
    left = {b.label: b.count for b in result.skipped}
    assert left[repair.LEFT] > 0
    assert result.done + sum(left.values()) == 600
    assert len(site.raws(SIFTED, PARKED)) == 600 - result.done
    assert site.redis.exists(SIFTED) == 0  # the list is one again


# ------------------------------------------------------------------------------------------------------- killed


@pytest.mark.parametrize("when", ["filtering", "recording", "putting away"])
def test_a_filter_that_was_killed_goes_on_and_its_record_is_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    twice = site.plant.healthy(8)
    site.plant.healthy(192)
    for number in FILTERED:
        site.plant.plant(number, 20 if number != 5 else 12)
    site.plant.push(twice)
    site.pause()
    plan = site.plan()
    assert plan.count == 60

    class Killed(BaseException):
        pass

    calls = []

    def dying(*_args: Any, **_options: Any) -> Any:
        raise Killed

    def dying_later(self: Sieve, taken: Sequence[int]) -> bool:
        calls.append(taken)
        if len(calls) > 4:
            raise Killed
        return cut(self, taken)

    cut = Sieve.cut
    with monkeypatch.context() as patch:
        match when:
            case "filtering":
                patch.setattr(Sieve, "cut", dying_later)
            case "recording":
                patch.setattr(repair.drift_repairs, "note_repairs", dying)
            case "putting away":
                patch.setattr(repair.sifting, "put_away", dying)
        with pytest.raises(Killed):
            site.wb.apply(plan, reason="test")
    there = site.raws(SIFTED, PARKED, QUARANTINE)
    assert len(there) == 200 + 20 + 40 + 24 + 8
    assert site.raws(QUARANTINE)
    result = site.wb.resume_action(plan.id)
    assert (result.state, result.done) == ("done", 60), result.summary
    events = site.events(plan.id)
    assert len(events) == 60
    gone = Counter(there) - Counter(site.raws(SIFTED, PARKED))
    assert Counter(e["before"]["element"].encode() for e in events) == gone
    assert site.raws(QUARANTINE) == []
    assert len(site.raws(PARKED)) == 232
    assert site.counts() == {}


def test_what_no_row_explains_any_more_stays_in_quarantine(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = site.plant.plant(3, 4).marks
    raws = site.raws(LIST)
    site.pause()
    plan = site.plan()
    forget = "DELETE FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))"
    meanwhile(monkeypatch, lambda: site.plant.sql(forget, ids=sorted(ids)))
    result = site.wb.apply(plan, reason="test")
    assert result.done == 4
    assert site.raws(QUARANTINE) == raws
    assert {json.dumps(e["after"]) for e in site.events(result.id)} == {'{"quarantine": "mail"}'}


def test_a_bare_id_of_a_job_that_has_ended_is_taken_out(site: Site) -> None:
    ended, waiting = site.plant.rows(1, status="'completed'", finished_at="now()"), site.plant.rows(1)
    site.redis.rpush(LIST, str(ended[0]), f'{{"jobId": "{waiting[0]}"}}', f'{{"jobId": "{ended[0]}"}}', str(uuid7()))
    site.pause()
    result = site.repair()
    assert result.done == 3
    assert site.raws(PARKED) == [f'{{"jobId": "{waiting[0]}"}}'.encode()]
    assert len(site.raws(QUARANTINE)) == 1
