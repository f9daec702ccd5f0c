"""Repairs: what was found is put right, nothing else is, within budgets, once, and after a crash to its end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from queuemon.config import Settings
from queuemon.drift import repair
from queuemon.drift.model import CLASSES
from queuemon.engine.ids import uuid7
from queuemon.errors import InvalidValue
from queuemon.model import ActionResult, Plan
from queuemon.workbench import Workbench
from tests.support.drift import Planter

pytestmark = pytest.mark.integration

REPAIRABLE = sorted(n for n, c in CLASSES.items() if c.repairable and not c.claim_drops)


class Site:
    """A workbench over two stores with the queues `mail` and `reports`."""

    def __init__(self, settings: Settings) -> None:
        self.wb = Workbench(
            settings.model_copy(update={"heartbeat_seconds": 0.1, "lease_seconds": 1.0, "worker_level": "L2"})
        )
        self.plant = Planter(self.wb.store, "mail", "reports")
        self.redis: Any = self.wb.store.redis.client
        for name in ("mail", "reports"):
            self.plant.new_queue(name, paused=False)

    def plan(self, target: Any = None, **options: Any) -> Plan:
        return self.wb.plan("repair", target, wait_seconds=0.0, **options)

    def repair(self, **options: Any) -> ActionResult:
        return self.wb.apply(self.plan(**options), reason="test")

    def counts(self, **options: Any) -> dict[int, int]:
        return {c.number: c.count for c in self.wb.drift(wait_seconds=0.0, **options).classes if c.count}

    def everything(self) -> tuple[Any, ...]:
        rows = self.plant.sql("SELECT * FROM jobs ORDER BY id")
        lists = {k: self.redis.lrange(k, 0, -1) for k in sorted(self.redis.scan_iter(match="queue:*"))}
        return rows, lists

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


@pytest.mark.parametrize("number", REPAIRABLE)
def test_each_kind_is_repaired_and_then_there_is_nothing_more_to_repair(site: Site, number: int) -> None:
    healthy = site.plant.healthy(30)
    before = {row["id"]: row for row in site.plant.sql("SELECT * FROM jobs")}
    site.plant.plant(number, 6)
    deep = number == 11
    plan = site.plan(deep=deep)
    assert plan.count == 6
    assert [b.count for b in plan.by_error] == [6]
    result = site.wb.apply(plan, reason="test")
    assert (result.state, result.done, result.published) == ("done", 6, True), result.summary
    left = site.counts(deep=deep)
    # What is left are old elements, which every claim refuses.
    assert set(left) <= {7: {3}, 8: {4}, 11: {4}, 12: {4}}.get(number, set())
    again = site.plan(deep=deep)
    assert again.count == 0
    assert site.wb.apply(again).done == 0
    assert len(site.events(result.id)) == 6
    assert all(e["class"] == number and e["before"] and e["after"] for e in site.events(result.id))
    after = {row["id"]: row for row in site.plant.sql("SELECT * FROM jobs")}
    assert {i: after[i] for i in healthy} == {i: before[i] for i in healthy}
    assert site.wb.apply(plan).repeated


def test_a_plan_changes_nothing(site: Site) -> None:
    for number in CLASSES:
        site.plant.plant(number, 2)
    before = site.everything()
    site.plan(deep=True)
    assert site.everything() == before


def test_what_workers_that_claim_drop_is_left_to_them(site: Site) -> None:
    for number in (3, 4, 5):
        site.plant.plant(number, 4)
    plan = site.plan()
    assert plan.count == 0
    assert [(b.label, b.count) for b in plan.excluded] == [("is harmless: workers that claim drop it", 12)]


def test_where_nobody_knows_what_workers_do_nothing_is_called_harmless(site: Site) -> None:
    site.plant.plant(3, 4)
    site.wb.settings = site.wb.store.settings = site.wb.settings.model_copy(update={"worker_level": None})
    plan = site.plan()
    assert plan.count == 0
    assert [(b.label, b.count) for b in plan.excluded] == [("needs a hard pause: workers here do not claim", 4)]


def test_lost_jobs_come_back_under_a_generation_above_the_marker_and_old_markers_do_not_stop_them(site: Site) -> None:
    site.plant.healthy(50)
    ids = site.plant.rows(5)
    for job_id in ids:
        site.redis.hset(site.plant.keys.marker_key(str(job_id)), mapping={"gen": 7, "queue": "mail"})
    assert site.repair().done == 5
    rows = site.plant.sql("SELECT id, gen FROM jobs WHERE id = ANY(CAST(:ids AS uuid[]))", ids=ids)
    assert {row["gen"] for row in rows} == {8}
    assert site.counts() == {}


def test_ghosts_and_poison_lie_in_quarantine_byte_for_byte(site: Site) -> None:
    site.plant.healthy(1_500)
    raws = [b"\xff\x00 binary", f'{{"id": "{uuid7()}", "gen": 3, "payload": 1.10}}'.encode()]
    site.redis.rpush(site.plant.key, *raws)
    site.plant.healthy(1_500)
    assert site.repair().done == 2
    assert sorted(site.redis.lrange("queuemon:quarantine:mail", 0, -1)) == sorted(raws)
    assert site.redis.llen(site.plant.key) == 3_002
    assert site.counts() == {}


def test_a_job_that_was_claimed_since_the_plan_is_left_to_its_worker(site: Site) -> None:
    site.plant.healthy(50)
    ids = site.plant.rows(6)
    plan = site.plan()
    site.plant.sql(
        "UPDATE jobs SET status = 'active', worker_id = 'w', started_at = now(), heartbeat_at = now() WHERE id = :id",
        id=ids[0],
    )
    site.plant.push([ids[1]])
    result = site.wb.apply(plan)
    assert (result.state, result.done) == ("partly", 4)
    assert [(b.label, b.count) for b in result.skipped] == [(repair.RIGHT_ALREADY, 2)]


def test_budgets_bound_a_repair(site: Site) -> None:
    site.plant.healthy(500)
    site.plant.rows(150)
    plan = site.plan(max_repairs=40)
    assert (plan.count, plan.excluded[0].label) == (40, "is beyond the budget of 40 repairs")
    assert site.wb.apply(plan).done == 40
    plan = site.plan(max_percent=1)  # never fewer than a hundred
    assert (plan.count, plan.excluded[0].count) == (100, 10)
    with pytest.raises(InvalidValue, match="only reported"):
        site.plan(classes=[14])
    with pytest.raises(InvalidValue, match="no class 17"):
        site.plan(classes=[17])


def test_the_breaker_opens_when_jobs_change_under_the_repair(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.plant.healthy(800)
    site.plant.rows(250)
    plan = site.plan(max_repairs=250, max_percent=100)
    look = repair._Repair._look_again

    def and_then_all_change(self: Any) -> Any:
        found = look(self)
        site.plant.sql("UPDATE jobs SET gen = gen + 1")
        return found

    monkeypatch.setattr(repair._Repair, "_look_again", and_then_all_change)
    result = site.wb.apply(plan)
    assert (result.state, result.done) == ("stopped", 0)
    assert "circuit breaker" in result.summary
    assert "100 of 100 stood differently" in result.summary


def test_the_breaker_opens_when_the_drift_grows(site: Site) -> None:
    site.plant.healthy(1_500)
    site.plant.rows(5)
    plan = site.plan()
    site.plant.rows(300)
    result = site.wb.apply(plan)
    assert (result.state, result.done) == ("stopped", 0)
    assert "the drift grows: 305 now, 5 when it was planned" in result.summary


def test_a_repair_that_was_killed_goes_on_from_its_cursor(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.plant.healthy(900)
    site.plant.rows(230)
    site.plant.plant(13, 20)
    plan = site.plan(max_repairs=1_000, max_percent=100)
    assert plan.count == 250
    calls = iter(range(100))

    class Killed(BaseException):
        pass

    publish = repair.publish

    def die_in_the_second_chunk(*args: Any, **options: Any) -> Any:
        if next(calls) == 1:
            raise Killed
        return publish(*args, **options)

    monkeypatch.setattr(repair, "publish", die_in_the_second_chunk)
    with pytest.raises(Killed):
        site.wb.apply(plan, reason="test")
    monkeypatch.undo()
    result = site.wb.apply(plan, reason="test")
    assert (result.state, result.done) == ("done", 250)
    publish(site.wb.store)  # what the crash left is the relay's
    assert site.counts() == {}
    gens = site.plant.sql("SELECT gen, count(*) AS n FROM jobs GROUP BY gen ORDER BY gen")
    assert [(row["gen"], row["n"]) for row in gens] == [(1, 900), (2, 230)]


def test_a_lost_list_of_any_size_is_published_anew_whatever_the_share(site: Site) -> None:
    site.plant.rows(2_500)
    plan = site.plan()
    assert (plan.count, plan.by_error[0].label[:1]) == (1, "8")
    assert any("published anew" in warning for warning in plan.warnings)
    assert site.wb.apply(plan).done == 1
    assert site.redis.llen(site.plant.key) == 2_500
    assert site.counts() == {}


def test_a_read_only_profile_repairs_nothing(site: Site) -> None:
    site.plant.plant(9, 1)
    plan = site.plan()
    reader = Workbench(site.wb.settings.model_copy(update={"read_only": True}))
    with reader, pytest.raises(Exception, match="read-only"):
        reader.apply(plan)
    assert site.counts() == {9: 1}


# ------------------------------------------------------------------------------------------------------ quarantine


def test_a_quarantined_element_becomes_a_job_with_its_payload_digit_for_digit(site: Site) -> None:
    job_id = uuid7()
    raw = (
        f'{{"id":"{job_id}","gen":4,"queue":"mail","payload":{{"n":12345678901234567,"f":1.10,"e":[],"t":"\\u00e9"}}}}'
    )
    site.redis.rpush("queuemon:quarantine:mail", raw, b"\x1b[2Jjunk")
    first, second = site.wb.quarantine("queue:mail")
    assert (first.job_id, first.why_not) == (job_id, "")
    assert (second.job_id, second.why_not) == (None, "it names no job")
    plan = site.wb.plan("adopt", "mail")
    assert (plan.count, [b.label for b in plan.excluded]) == (1, ["it names no job"])
    result = site.wb.apply(plan, reason="test")
    assert (result.state, result.done, result.summary) == ("done", 1, "Adopted 1 of 1.")
    (row,) = site.plant.sql("SELECT status, gen, payload::text AS payload FROM jobs")
    assert (row["status"], row["gen"]) == ("waiting", 5)
    assert json.loads(row["payload"], parse_float=str) == {"n": 12345678901234567, "f": "1.10", "e": [], "t": "é"}
    assert site.redis.lrange("queuemon:quarantine:mail", 0, -1) == [b"\x1b[2Jjunk"]
    assert site.counts() == {}
    assert site.wb.apply(plan).repeated


def test_an_adopted_job_starts_in_no_generation_in_which_it_ran_before_it_was_deleted(site: Site) -> None:
    [job] = site.plant.rows(1, status="'failed'", gen="4", finished_at="now()")
    site.plant.push([job], gen=1)
    site.wb.apply(site.wb.plan("delete", [job]), reason="test")
    [raw] = site.plant.redis.lrange("queue:mail", 0, -1)
    site.plant.redis.rpush("queuemon:quarantine:mail", raw)
    site.wb.apply(site.wb.plan("adopt", "mail"), reason="test")
    assert [row["gen"] for row in site.plant.sql("SELECT gen FROM jobs")] == [5]


def test_an_adoption_that_is_stopped_goes_on_when_it_is_resumed(site: Site) -> None:
    elements = [json.dumps({"id": str(uuid7()), "gen": 1, "queue": "mail", "payload": {}}) for _ in range(3)]
    site.plant.redis.rpush("queuemon:quarantine:mail", *elements)
    stop = threading.Event()
    stopped = site.wb.apply(site.wb.plan("adopt", "mail"), stop=stop, progress=lambda _: stop.set())
    assert (stopped.state, stopped.done) == ("stopped", 1)
    done = site.wb.resume_action(stopped.id)
    assert (done.state, done.done) == ("done", 3)


def test_an_element_whose_job_exists_is_not_adopted(site: Site) -> None:
    site.plant.push(site.plant.healthy(1), key="queuemon:quarantine:mail")
    (found,) = site.wb.quarantine("mail")
    assert found.why_not == "a job with its id exists"
    assert site.wb.plan("adopt", "mail").count == 0


def test_a_deep_look_the_quarantine_and_the_record_show_payloads_masked(site: Site) -> None:
    secret = '{"to": "canary@example.com", "token": "canary", "n": 1}'
    site.plant.plant(11, 1)
    site.plant.sql(f"UPDATE jobs SET payload = '{secret}'")
    report = site.wb.drift(wait_seconds=0.0, deep=True)
    (finding,) = [f for f in report.findings if f.number == 11]
    assert '"n": 1' in finding.detail
    assert "canary" not in finding.detail
    element = f'{{"id": "{uuid7()}", "gen": 1, "queue": "mail", "payload": {secret}, "attempts": 0}}'
    site.redis.rpush("queuemon:quarantine:mail", element, "poison canary@example.com")
    found = site.wb.quarantine("mail")
    assert '"n": 1' in found[0].text
    assert "canary" not in f"{found!r}"
    plan = site.wb.plan("adopt", "mail", digests=[found[0].digest])
    assert site.wb.apply(plan, reason="test").done == 1
    assert "canary" not in str(site.events(plan.id))
    (adopted,) = site.plant.sql("SELECT payload->>'token' AS token FROM jobs WHERE payload->>'n' = '1' LIMIT 1")
    assert adopted["token"] == "canary", "what is masked is the text alone"


def test_discarding_is_asked_for_by_name(site: Site) -> None:
    site.redis.rpush("queuemon:quarantine:mail", b"junk", b"more")
    with pytest.raises(InvalidValue, match="nothing was named"):
        site.wb.plan("adopt", "mail", discard=True)
    junk, _ = site.wb.quarantine("mail")
    plan = site.wb.plan("adopt", "mail", discard=True, digests=[junk.digest])
    assert site.wb.apply(plan, reason="test").summary == "Discarded 1 of 1."
    assert site.redis.lrange("queuemon:quarantine:mail", 0, -1) == [b"more"]
    (event,) = site.events(plan.id)
    assert event["before"]["raw"] == "junk"
    assert site.wb.apply(replace(plan)).repeated
