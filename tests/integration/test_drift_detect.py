"""What a comparison of the stores finds: each kind of disagreement, and none of what only looks like one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from queuemon.config import Settings
from queuemon.drift import lists
from queuemon.drift.model import CLASSES, DriftReport
from queuemon.engine.ids import uuid7
from queuemon.store import outbox
from queuemon.workbench import Workbench
from tests.support.drift import Planter, mark_of

pytestmark = pytest.mark.integration


class Site:
    """A workbench over two stores with the queues `mail` and `reports`, and something to plant with."""

    def __init__(self, settings: Settings) -> None:
        self.wb = Workbench(settings.model_copy(update={"heartbeat_seconds": 0.1, "lease_seconds": 1.0}))
        self.plant = Planter(self.wb.store, "mail", "reports")
        self.redis: Any = self.wb.store.redis.client
        for name in ("mail", "reports"):
            self.plant.new_queue(name, paused=False)

    def look(self, *, deep: bool = False, queues: Any = None, progress: Any = None) -> DriftReport:
        return self.wb.drift(queues, deep=deep, wait_seconds=0.05, progress=progress)

    def counts(self, **options: Any) -> dict[int, int]:
        return {c.number: c.count for c in self.look(**options).classes if c.count}


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    made = Site(settings)
    yield made
    made.wb.close()


def test_two_stores_that_agree_show_nothing(site: Site) -> None:
    site.plant.healthy(2_500)
    site.plant.healthy(3, queue="reports")
    site.plant.rows(1, status="'completed'", finished_at="now()")
    report = site.look(deep=True)
    assert report.count == 0
    assert report.complete
    assert report.rows == 2_503
    assert report.summary == "PostgreSQL and Redis agree."


@pytest.mark.parametrize("number", sorted(CLASSES))
def test_each_kind_is_found_as_what_it_is_and_as_nothing_else(site: Site, number: int) -> None:
    site.plant.healthy(30)
    planted = site.plant.plant(number, 7)
    report = site.look(deep=number == 11)
    assert {c.number: c.count for c in report.classes if c.count} == {number: 7}
    assert {mark_of(f) for f in report.findings} == planted.marks
    assert report.of(number).sample
    assert report.of(number).looked


def test_all_kinds_at_once_are_told_apart(site: Site) -> None:
    site.plant.healthy(1_000)
    planted = {n: site.plant.plant(n, 5).marks for n in CLASSES}
    report = site.look(deep=True)
    assert {n: {mark_of(f) for f in report.findings if f.number == n} for n in CLASSES} == planted
    assert report.count == 5 * len(CLASSES)


def test_what_only_looks_lost_is_left_alone(site: Site) -> None:
    plant = site.plant
    plant.healthy(5)
    plant.rows(1, run_at="now() + interval '1 hour'")  # scheduled
    promised = plant.rows(2)
    with site.wb.store.postgres.begin() as connection:
        outbox.add(connection, site.wb.store.tables, promised)  # pending publication
    in_hand = plant.rows(1)
    plant.sql("INSERT INTO queuemon.workers (id, host, pid) VALUES ('w-alive', 'h', 1)")
    plant.sql("UPDATE queuemon.workers SET heartbeat_at = now() + interval '1 hour'")
    plant.push(in_hand, key=plant.keys.processing_key("w-alive", "mail"))
    plant.push(plant.rows(1), key=plant.keys.quarantine_key("mail"))
    running = plant.rows(
        1, status="'active'", attempts="1", worker_id="'w-alive'", started_at="now()", heartbeat_at="now()"
    )
    plant.push(running, key=plant.keys.processing_key("w-alive", "mail"))
    bare, old = plant.rows(2)
    site.redis.rpush(plant.key, str(bare), f'{{"jobId": "{old}"}}')  # other producers' elements
    assert site.counts(deep=True) == {}


def test_what_only_looks_overdue_or_paused_is_left_alone(site: Site) -> None:
    plant = site.plant
    plant.new_queue("held", paused=True)
    plant.push(plant.rows(2, queue="held", expires_at="now() - interval '1 hour'"), queue="held")  # a paused queue's
    plant.new_queue("fresh", paused=False)
    site.redis.delete(plant.keys.paused_key("fresh"))  # never paused, never copied
    assert site.counts() == {}


def test_an_element_of_a_deleted_job_is_known_to_have_ended(site: Site) -> None:
    ids = site.plant.healthy(3)
    site.wb.apply(site.wb.plan("delete", ids), reason="test")
    site.plant.healthy(1)
    report = site.look()
    assert {c.number: c.count for c in report.classes if c.count} == {3: 3}
    assert {f.row for f in report.findings} == {"deleted"}


def test_a_job_in_the_list_of_another_queue_is_misplaced_and_not_lost(site: Site) -> None:
    site.plant.plant(12, 20)
    assert site.counts() == {12: 20}


def test_a_list_that_holds_a_tenth_of_its_jobs_has_vanished(site: Site) -> None:
    site.plant.healthy(5)
    site.plant.rows(50)
    report = site.look()
    assert {c.number: (c.count, c.jobs) for c in report.classes if c.count} == {8: (1, 50)}


def test_motion_between_the_looks_is_no_drift(site: Site) -> None:
    """Everything found at the first look is put right before the second."""
    plant = site.plant
    lost, ghosts = plant.rows(5), [uuid7() for _ in range(5)]
    plant.healthy(20)
    for ghost in ghosts:
        site.redis.rpush(plant.key, f'{{"id": "{ghost}", "gen": 1}}')
    phases: list[str] = []

    def put_right(progress: Any) -> None:
        phases.append(progress.phase)
        if progress.phase == "waiting":
            plant.push(lost)
            for ghost in ghosts:
                site.redis.lrem(plant.key, 1, f'{{"id": "{ghost}", "gen": 1}}')

    report = site.wb.drift(wait_seconds=0, progress=put_right)
    assert report.count == 0
    assert (report.of(1).in_motion, report.of(2).in_motion) == (5, 5)
    assert phases == ["first look", "first look", "waiting", "second look"]


def test_pushes_and_pops_while_windows_are_read_neither_hide_nor_double_an_element(site: Site) -> None:
    plant = site.plant
    plant.healthy(4_000)
    ids = plant.plant(5, 3).marks
    stop = threading.Event()

    def rotate() -> None:  # what a busy queue does: elements leave at one end and others come at the other
        while not stop.is_set():
            plant.healthy(20)
            raws = site.redis.lrange(plant.key, 0, 9)
            gone = [raw[9:45].decode() for raw in raws]
            plant.sql("UPDATE jobs SET status = 'completed' WHERE id = ANY(CAST(:ids AS uuid[]))", ids=gone)
            site.redis.ltrim(plant.key, len(raws), -1)

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        for _ in range(3):
            report = site.look()
            assert {mark_of(f) for f in report.findings} == ids, report.summary
            assert report.count == 3
    finally:
        stop.set()
        thread.join()


def test_more_pushes_than_a_window_holds_hide_and_double_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    plant = site.plant
    ghosts = plant.plant(2, 1).marks
    plant.healthy(1_700)
    read, calls = lists._range, iter(range(1_000))

    def pushed_meanwhile(*arguments: Any) -> list[bytes]:
        if next(calls) in {1, 6}:
            plant.healthy(1_300)
        return read(*arguments)

    monkeypatch.setattr(lists, "_range", pushed_meanwhile)
    report = site.look(queues="mail")
    assert {mark_of(f) for f in report.findings} == ghosts, report.summary


def test_the_second_look_reads_where_what_looked_wrong_must_lie_by_now_and_the_ends(site: Site) -> None:
    plant = site.plant
    plant.healthy(10_000)
    for number in (3, 5, 13):
        plant.plant(number, 5)
    plant.healthy(10_000)
    plant.plant(1, 5)
    late = plant.rows(5)  # published between the looks: not lost

    def push(progress: Any) -> None:
        if progress.phase == "waiting":
            plant.healthy(1_500)
            plant.push(late)

    report = site.look(progress=push)
    assert {c.number: c.count for c in report.classes if c.count} == {1: 5, 3: 5, 5: 5, 13: 5}
    assert report.of(1).in_motion == 5
    assert report.elements < 1.6 * 20_000


def test_a_list_that_moved_in_an_unknown_way_is_read_whole_again(site: Site) -> None:
    plant = site.plant
    plant.healthy(3_000)
    plant.plant(3, 5)
    plant.healthy(3_000)

    def shift(progress: Any) -> None:
        if progress.phase == "waiting":
            site.redis.rpop(plant.key, 2_900)  # somebody takes from the wrong end

    report = site.look(progress=shift)
    assert report.of(3).count == 5
    assert report.elements > 6_000 + 3_000


def test_one_queue_is_looked_at_alone(site: Site) -> None:
    site.plant.plant(1, 3)
    assert site.counts(queues="queue:reports") == {}
    assert site.counts(queues=["mail"]) == {1: 3}


def test_a_stop_ends_the_look_and_the_report_says_so(site: Site) -> None:
    site.plant.plant(1, 3)
    stop = threading.Event()
    stop.set()
    report = site.wb.drift(wait_seconds=60, stop=stop)
    assert not report.complete
    assert report.of(1).count == 0
    assert "stopped before the end" in report.summary


def test_a_key_of_another_type_is_reported_and_ends_no_scan(site: Site) -> None:
    site.redis.set(site.plant.key, "not a list")
    site.plant.plant(1, 2)
    report = site.look()
    assert [f.detail for f in report.findings if f.number == 14] == ["queue:mail holds a string"]


def test_an_element_of_fifty_megabytes_is_found_and_shown_by_its_beginning(site: Site) -> None:
    site.redis.rpush(site.plant.key, b"x" * 50_000_000)
    site.plant.healthy(20)
    report = site.look()
    (finding,) = report.findings
    assert (finding.number, len(finding.raw), finding.detail) == (13, 120, "50,000,000 bytes")
