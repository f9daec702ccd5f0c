"""The continuous look: what it proves by seeing it twice, what it only suspects, and what it forgets again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from queuemon.config import Settings
from queuemon.drift.model import DriftWatch
from queuemon.store import Store
from queuemon.workbench import Workbench
from tests.support.drift import Planter

pytestmark = pytest.mark.integration


class Site:
    """A watch over two stores with the queues `mail` and `reports`."""

    def __init__(self, settings: Settings) -> None:
        self.wb = Workbench(settings)
        self.plant = Planter(self.wb.store, "mail", "reports")
        self.redis: Any = self.wb.store.redis.client
        for name in ("mail", "reports"):
            self.plant.new_queue(name, paused=False)
        self.watch = self.wb.drift_watch()

    def tick(self, n: int = 1) -> DriftWatch:
        """The value of the last of n ticks."""
        for _ in range(n - 1):
            self.watch.tick()
        return self.watch.tick()


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    made = Site(settings)
    yield made
    made.wb.close()


def seen(value: DriftWatch) -> dict[tuple[int, bool], int]:
    found: dict[tuple[int, bool], int] = {}
    for line in value.lines:
        found[line.number, line.proven] = found.get((line.number, line.proven), 0) + line.count
    return found


def test_two_stores_that_agree_show_nothing_however_often_it_looks(site: Site) -> None:
    site.plant.healthy(2_500)
    value = site.tick(6)
    assert (value.lines, value.error, value.ticks) == ((), "", 6)
    assert value.rounds >= 1
    assert value.milliseconds > 0


@pytest.mark.parametrize("number", [2, 3, 4, 5, 12, 13])
def test_elements_that_agree_with_no_row_are_suspected_at_first_and_then_proven(site: Site, number: int) -> None:
    site.plant.healthy(20)
    site.plant.plant(number, 5)
    assert seen(site.tick()) == {(number, False): 5}
    assert seen(site.tick()) == {(number, True): 5}


@pytest.mark.parametrize("number", [6, 7, 9, 10])
def test_signs_are_proven_by_the_second_tick(site: Site, number: int) -> None:
    site.plant.plant(number, 4)
    assert seen(site.tick()) == {(number, False): 4}
    assert seen(site.tick()) == {(number, True): 4}


def test_a_list_that_vanished_is_suspected_until_a_comparison_proves_it(site: Site) -> None:
    site.plant.plant(8, 1)
    value = site.tick(3)
    assert seen(value) == {(8, False): 12}
    assert (value.proven, value.suspected) == (0, 12)
    assert value.lines[0].since < value.taken_at


def test_what_was_put_right_is_forgotten(site: Site) -> None:
    site.plant.healthy(3)
    site.plant.plant(13, 2)
    site.plant.plant(9, 1)
    assert site.tick(2).proven == 3
    site.redis.persist("queue:mail-ttl-0")
    site.redis.ltrim(site.plant.key, 0, 2)
    assert site.tick(8).lines == ()


def test_the_window_passes_through_lists_of_any_length(site: Site) -> None:
    site.plant.healthy(1_500)
    site.plant.plant(2, 1)
    site.plant.healthy(2_500)
    values = [site.tick() for _ in range(8)]
    assert [value.error for value in values] == [""] * 8
    assert {(2, True): 1} in [seen(value) for value in values]
    assert 0 < values[0].coverage < 0.5


def test_a_store_that_is_away_is_said_and_the_last_lines_stay(site: Site) -> None:
    site.plant.plant(9, 1)
    before = site.tick(2)
    away = site.wb.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    with Store(away) as store:
        site.watch.store = store
        value = site.tick()
    assert "cannot be reached" in value.error
    assert value.lines == before.lines
