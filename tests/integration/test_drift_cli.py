"""`queuemon drift` and `queuemon quarantine` on real stores: what they print, what they end with, what they change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queuemon.cli import run
from queuemon.config import Settings
from queuemon.store import Store
from tests.support.drift import Planter
from tests.support.terminal import assert_harmless

pytestmark = pytest.mark.integration


@pytest.fixture
def plant(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Planter]:
    profile = tmp_path / "queuemon.toml"
    profile.write_text('[profiles.default]\nworker_level = "L2"\n')
    monkeypatch.setenv("QUEUEMON_CONFIG", str(profile))
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("QUEUEMON_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setattr("queuemon.drift.detect.WAIT_SECONDS", 0.05)
    with Store(settings) as store:
        made = Planter(store, "mail", "reports")
        for name in ("mail", "reports"):
            made.new_queue(name, paused=False)
        yield made


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int) -> str:
    assert run(words) == code
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *words: str, code: int) -> Any:
    return json.loads(said(capsys, *words, "--json", code=code))


def test_drift_says_what_it_found_and_repairs_with_yes(plant: Planter, capsys: pytest.CaptureFixture[str]) -> None:
    plant.healthy(40)
    assert "PostgreSQL and Redis agree" in said(capsys, "drift", code=0)
    plant.plant(1, 3)
    plant.plant(13, 4)
    plant.plant(3, 2)
    found = said(capsys, "drift", code=3)
    assert_harmless(found)
    assert "lost" in found
    assert "poison" in found
    made = document(capsys, "drift", code=3)
    assert (made["count"], made["harmful"]) == (9, 7)
    dry = said(capsys, "drift", "--repair", code=0)
    assert "Nothing was changed. Add --yes" in dry
    assert document(capsys, "drift", code=3)["harmful"] == 7
    one = document(capsys, "drift", "--repair", "--class", "13", "--max-repairs", "2", "--yes", code=0)
    assert one["result"]["done"] == 2
    assert "Repaired 5 of 5" in said(capsys, "drift", "--repair", "--yes", code=0)
    assert document(capsys, "drift", code=0)["count"] == 2
    assert "nothing was changed" in said(capsys, "drift", "--repair", "--yes", code=4)


def test_where_workers_do_not_claim_a_repair_asks_for_a_hard_pause_and_filters_then(
    plant: Planter, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "queuemon.toml").write_text('[profiles.default]\nworker_level = "L0"\n')
    plant.healthy(20)
    for number in (3, 4, 5):
        plant.plant(number, 2)
    asked = " ".join(said(capsys, "drift", "--repair", code=4).split())
    assert "needs a hard pause: workers here do not claim" in asked
    assert "run `queuemon pause mail --hard`, then repair, then `queuemon resume mail`" in asked
    said(capsys, "pause", "mail", "--hard", "--yes", "--reason", "drift", code=0)
    assert "Repaired 6 of 6" in said(capsys, "drift", "--repair", "--yes", code=0)
    said(capsys, "resume", "mail", "--yes", code=0)
    assert document(capsys, "drift", code=0)["count"] == 0


def test_quarantine_is_listed_adopted_and_discarded(plant: Planter, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Nothing is in quarantine" in said(capsys, "quarantine", "list", "mail", code=4)
    plant.plant(2, 1)
    plant.plant(13, 1)
    said(capsys, "drift", "--repair", "--yes", code=0)
    assert_harmless(said(capsys, "quarantine", "list", "queue:mail", code=0))
    listed = document(capsys, "quarantine", "list", "mail", code=0)
    assert sorted(q["why_not"] for q in listed) == ["", "it names no job"]
    assert "Adopted 1 of 1" in said(capsys, "quarantine", "adopt", "mail", "--yes", code=0)
    (junk,) = document(capsys, "quarantine", "list", "mail", code=0)
    assert run(["quarantine", "discard", "mail", junk["digest"], "--yes"]) == 2
    assert "say --confirm 1" in capsys.readouterr().err
    discarded = said(capsys, "quarantine", "discard", "mail", junk["digest"], "--yes", "--confirm", "1", code=0)
    assert "Discarded 1 of 1" in discarded
    said(capsys, "quarantine", "list", "mail", code=4)


def test_a_class_that_is_no_number_is_a_usage_error(plant: Planter, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["drift", "--repair", "--class", "lost"]) == 2
    assert "expected" in capsys.readouterr().err.lower()
