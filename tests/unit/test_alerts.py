"""The rules hold what the specification says, alerts live as Prometheus' do, no event is lost or sent for nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import SecretStr

from queuemon.alerting.pager import PagerAway, PagerDuty, PagerRefused
from queuemon.alerting.reading import Reader
from queuemon.alerting.rules import RULES, Hit, Rule, Seen, hits, rule_file
from queuemon.alerting.standing import Alert, advance
from queuemon.alerting.watch import Origin, Watch, alone, trigger
from queuemon.cli import run
from queuemon.cli.app import app
from queuemon.config import Settings
from queuemon.contract import Thresholds
from queuemon.errors import ConfigError, StackError
from queuemon.model import HalfError
from queuemon.runbooks import catalogue
from queuemon.store import Store
from queuemon.workbench import Workbench
from tests.support.pagerduty import Sink, sink
from tests.unit.test_metrics import reading, stats

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DEPTH = next(rule for rule in RULES if rule.name == "QueuemonQueueDepth")
ORIGIN = Origin(source="prod", dashboard_url="https://ops.example/dashboard")


def seen(*queues: Any, **halves: object) -> Seen:
    return Seen(snapshot=reading(*queues, **halves).snapshot)  # type: ignore[arg-type]


def names(of: Seen) -> set[tuple[str, str]]:
    return {
        (rule.name.removeprefix("Queuemon"), next(iter(hit.labels.values()), ""))
        for rule, found in hits(of)
        for hit in found or ()
    }


def calm(name: str = "email", **values: object) -> Any:
    return stats(name, **{"stuck": 0, "attempts_failed": 0, **values})


# ----------------------------------------------------------------------------------------------------------- rules


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"waiting": 10_000}, None),
        ({"waiting": 10_001}, "QueueDepth"),
        ({"attempts_finished": 100, "attempts_failed": 5}, None),
        ({"attempts_finished": 100, "attempts_failed": 6}, "FailureRate"),
        ({"attempts_finished": 19, "attempts_failed": 19}, None),
        ({"oldest_waiting_at": NOW - timedelta(seconds=301)}, "OldestWaiting"),
        ({"workers": 0, "active": 0}, "NoConsumer"),
        ({"workers": 0, "active": 1}, None),
        ({"stuck": 1}, "StuckJobs"),
    ],
)
def test_a_rule_holds_from_its_threshold_on(values: dict[str, object], rule: str | None) -> None:
    assert names(seen(calm(**values))) == ({(rule, "email")} if rule else set())


def test_a_queue_has_thresholds_of_its_own() -> None:
    deep = calm("bulk", waiting=50_000, thresholds=Thresholds(alert_depth=100_000))
    strict = calm("urgent", waiting=20, thresholds=Thresholds(alert_depth=10))
    assert names(seen(deep, strict)) == {("QueueDepth", "urgent")}


def test_a_pause_excuses_waiting_until_it_is_forgotten() -> None:
    paused = calm(workers=0, active=0, oldest_waiting_at=NOW - timedelta(hours=9))
    hour = replace(paused, queue=replace(paused.queue, paused=True, paused_at=NOW - timedelta(hours=1)))
    day = replace(paused, queue=replace(paused.queue, paused=True, paused_at=NOW - timedelta(hours=5)))
    assert names(seen(hour)) == set()
    assert names(seen(day)) == {("ForgottenPause", "email")}


def test_a_store_that_is_away_is_one_alert_and_ends_no_other() -> None:
    away = seen(postgres=HalfError(message="away", kind="StoreError"))
    assert names(away) == {("StoreDown", "postgresql")}
    unknown = {rule.name for rule, found in hits(away) if found is None}
    assert {"QueuemonQueueDepth", "QueuemonFailureRate", "QueuemonPublicationLag"} <= unknown
    standing = firing(calm(waiting=20_000))
    assert advance(standing, hits(away), NOW + timedelta(days=1)).standing.keys() >= standing.keys()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_names_a_runbook_and_commands_that_exist_and_parameters_that_it_takes(rule: Rule) -> None:
    book = catalogue.describe(rule.runbook)
    assert not rule.parameter or rule.parameter in {p.name for p in book.parameters}
    assert rule.keep_seconds > 0
    assert rule.summary
    named = re.findall(r"`queuemon ([a-z-]+)", rule.description)
    assert set(named) <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_the_rule_file_is_what_prometheus_reads() -> None:
    (group,) = yaml.safe_load(rule_file())["groups"]
    assert [r["alert"] for r in group["rules"]] == [rule.name for rule in RULES]
    for r in group["rules"]:
        assert set(r) == {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
        assert set(r["annotations"]) == {"summary", "description", "runbook", "runbook_command"}
        assert "{value}" not in str(r)
        assert "{queue}" not in str(r)


def test_a_hostile_name_stays_a_word_of_the_command_and_one_line_of_the_summary() -> None:
    name = "x'; rm -rf ~ #{value}\n" + "y" * 2_000
    alert = one(advance({}, [(DEPTH, [Hit(labels={"queue": name}, value=1.0)])], NOW).standing)
    assert "'\"'\"'; rm -rf ~" in alert.command
    event = trigger(alert, ORIGIN)
    assert "\n" not in event["payload"]["summary"]
    assert len(event["payload"]["summary"]) <= 1_024
    assert len(event["dedup_key"]) < 255
    assert "#(value)" in alert.summary


# -------------------------------------------------------------------------------------------------------- standing


def one(standing: Any) -> Alert:
    (alert,) = standing.values()
    return alert


def firing(*queues: Any) -> dict[str, Alert]:
    change = advance({}, hits(seen(*queues)), NOW)
    return dict(advance(change.standing, hits(seen(*queues)), NOW + timedelta(seconds=60)).standing)


def held(*values: bool, rule: Rule = DEPTH, step: float = 15.0) -> list[str]:
    """What becomes of an alert whose condition holds, or not, at looks so many seconds apart."""
    standing: Any = {}
    told = []
    for n, holds in enumerate(values):
        found = [Hit(labels={"queue": "email"}, value=20_000.0)] if holds else []
        change = advance(standing, [(rule, found)], NOW + timedelta(seconds=n * step))
        standing = change.standing
        told += ["fired"] * len(change.fired) + ["ended"] * len(change.ended)
    return told


def test_an_alert_fires_once_and_ends_once() -> None:
    assert held(*[True] * 4) == []
    assert held(*[True] * 30) == ["fired"]
    assert held(*[True] * 30, *[False] * 19) == ["fired"]
    assert held(*[True] * 30, *[False] * 21) == ["fired", "ended"]


def test_a_value_that_oscillates_around_the_threshold_pages_once() -> None:
    oscillating = [True] * 6 + [False, True, False, False, True] * 40
    assert held(*oscillating) == ["fired"]
    hasty = replace(DEPTH, for_seconds=0, keep_seconds=0)
    assert len(held(*oscillating, rule=hasty)) > 100  # what holds it back is what was taken away


def test_what_nobody_looked_at_for_long_has_not_held_meanwhile() -> None:
    change = advance({}, hits(seen(calm(waiting=20_000))), NOW)
    later = advance(change.standing, hits(seen(calm(waiting=20_000))), NOW + timedelta(hours=1))
    assert not later.fired
    assert one(later.standing).since == NOW + timedelta(hours=1)


# ----------------------------------------------------------------------------------------------------------- watch


class Incident:
    """A watch over what a test says holds, with PagerDuty's stand-in and a file that outlives it."""

    def __init__(self, file: Path, away: Sink) -> None:
        self.file, self.sink, self.said, self.now = file, away, [], NOW  # type: ignore[var-annotated]
        self.waiting = 0
        self.restart()

    def restart(self) -> None:
        self.watch = Watch(
            lambda: hits(seen(calm(waiting=self.waiting))), file=self.file, origin=ORIGIN,
            pager=PagerDuty(self.sink.routing_key, self.sink.url), say=self.said.append,
        )  # fmt: skip

    def minutes(self, number: float, *, waiting: int) -> None:
        self.waiting = waiting
        for _ in range(round(number * 4)):
            self.now += timedelta(seconds=15)
            self.watch.step(self.now)
            self.watch._retry_at = 0.0
            self.watch.deliver()


@pytest.fixture
def incident(tmp_path: Path) -> Iterator[Incident]:
    with sink() as taking:
        yield Incident(tmp_path / "alerts.json", taking)


def actions(of: Sequence[dict[str, Any]]) -> list[str]:
    return [event["event_action"] for event in of]


def test_an_incident_is_one_trigger_and_one_resolve_in_pagerdutys_shape(incident: Incident) -> None:
    incident.minutes(3, waiting=5)
    incident.minutes(10, waiting=20_000)
    incident.minutes(10, waiting=5)
    assert actions(incident.sink.events) == ["trigger", "resolve"]
    assert incident.sink.refused == []
    (event,) = incident.sink.of("trigger")
    assert event["payload"]["summary"] == "prod: 20,000 jobs wait in email"
    assert event["payload"]["severity"] == "critical"
    assert event["payload"]["custom_details"]["runbook_command"] == (
        "queuemon runbook run prioritise-transactional -p queue=email"
    )
    assert event["links"] == [{"href": ORIGIN.dashboard_url, "text": "Dashboard"}]
    assert list(incident.sink.incidents.values()) == ["resolved"]


def test_restarts_and_an_outage_of_pagerduty_change_nothing_of_that(incident: Incident) -> None:
    incident.minutes(3, waiting=20_000)
    incident.restart()
    incident.minutes(3, waiting=20_000)
    incident.sink.broken = 503
    incident.minutes(10, waiting=5)
    assert actions(incident.sink.events) == ["trigger"]
    incident.restart()
    incident.minutes(2, waiting=20_000)  # a second incident, all of it while PagerDuty is away
    incident.restart()
    incident.minutes(10, waiting=5)
    incident.sink.broken = 0
    incident.minutes(1, waiting=5)
    assert actions(incident.sink.events) == ["trigger", "resolve"] * 2
    assert incident.watch.unsent == 0
    assert any("refused an event (HTTP 503)" in line for line in incident.said)
    assert "PagerDuty takes events again" in incident.said


def test_killed_between_the_answer_and_its_note_the_same_incident_is_meant_again(
    incident: Incident, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = incident.watch._remember

    def dies(memory: Any) -> None:
        if len(memory.unsent) < incident.watch.unsent:
            raise KeyboardInterrupt
        real(memory)

    monkeypatch.setattr(incident.watch, "_remember", dies)
    with pytest.raises(KeyboardInterrupt):
        incident.minutes(5, waiting=20_000)
    incident.restart()
    incident.minutes(1, waiting=20_000)
    assert actions(incident.sink.events) == ["trigger", "trigger"]
    assert len(incident.sink.incidents) == 1


def test_an_acknowledged_incident_stays_acknowledged_while_the_alert_goes_on(incident: Incident) -> None:
    incident.minutes(3, waiting=20_000)
    (key,) = incident.sink.incidents
    incident.sink.incidents[key] = "acknowledged"
    incident.minutes(60, waiting=30_000)
    assert incident.sink.incidents == {key: "acknowledged"}
    assert len(incident.sink.events) == 1


def test_a_damaged_file_is_set_aside_and_what_fires_is_found_again(incident: Incident) -> None:
    incident.minutes(3, waiting=20_000)
    incident.file.write_text('{"version": 1, "standing": [{')
    incident.restart()
    incident.minutes(3, waiting=20_000)
    assert (incident.file.parent / "alerts.json.damaged").exists()
    assert len(incident.sink.incidents) == 1
    assert any("found again" in line for line in incident.said)


def test_what_fired_by_a_rule_that_is_gone_is_resolved(incident: Incident) -> None:
    incident.minutes(3, waiting=20_000)
    content = json.loads(incident.file.read_text())
    (key,) = incident.sink.incidents
    incident.watch = Watch(
        lambda: [], file=incident.file, origin=ORIGIN, rules=[],
        pager=PagerDuty(incident.sink.routing_key, incident.sink.url), say=incident.said.append,
    )  # fmt: skip
    incident.minutes(1, waiting=0)
    assert content["standing"]
    assert incident.sink.incidents == {key: "resolved"}


def test_a_clock_that_is_set_back_ends_nothing_and_holds_up_nothing(incident: Incident) -> None:
    incident.minutes(0.5, waiting=20_000)
    incident.now -= timedelta(hours=2)
    incident.minutes(1, waiting=20_000)
    assert actions(incident.sink.events) == ["trigger"], "it was pending"
    incident.now -= timedelta(hours=2)
    incident.minutes(3, waiting=20_000)
    incident.minutes(1, waiting=5)
    assert actions(incident.sink.events) == ["trigger"]
    incident.now -= timedelta(hours=2)
    incident.minutes(6, waiting=5)
    assert actions(incident.sink.events) == ["trigger", "resolve"], "it was about to end"


def test_a_clock_that_is_set_back_holds_up_nothing_on_the_page() -> None:
    deep = hits(seen(calm(waiting=20_000)))
    change = advance({}, list(deep), NOW)
    for seconds in (0, 30, 60):
        now = NOW - timedelta(hours=2) + timedelta(seconds=seconds)
        change = advance(change.standing, hits(seen(calm(waiting=20_000))), now)
    assert [alert.rule for alert in change.fired] == [DEPTH]


_LINE = {"rule": DEPTH.name, "labels": {"queue": "email"}, "value": 1, "since": NOW.isoformat(),
         "held_at": NOW.isoformat(), "firing_since": None}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 100_000,
        "\x00",
        json.dumps({"version": 2, "standing": [], "unsent": []}),
        json.dumps({"version": 1, "standing": [], "unsent": [{}]}),
        json.dumps({"version": 1, "standing": [], "unsent": [{"event_action": "resolve", "dedup_key": []}]}),
        json.dumps({"version": 1, "standing": [_LINE | {"since": "2026-11-26T12:00:00"}], "unsent": []}),
        json.dumps({"version": 1, "standing": [_LINE | {"labels": None}], "unsent": []}),
    ],
    ids=["empty", "deep", "binary", "another version", "no event", "no key", "no time zone", "no labels"],
)
def test_whatever_stands_in_the_file_the_watch_pages(incident: Incident, content: str) -> None:
    incident.file.write_text(content)
    incident.restart()
    incident.minutes(3, waiting=20_000)
    assert actions(incident.sink.events) == ["trigger"]
    assert (incident.file.parent / "alerts.json.damaged").read_text() == content


def test_a_state_that_is_a_folder_or_cannot_be_set_aside_is_refused_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(file: Path) -> None:
        Watch(lambda: [], file=file, origin=ORIGIN, pager=None, say=print)

    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(StackError, match=r"cannot be read \(Is a directory\).*--state"):
        begin(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    def read_only(self: Path, target: Path) -> None:
        raise OSError(30, "Read-only file system")

    damaged = tmp_path / "alerts.json"
    damaged.write_text("{")
    monkeypatch.setattr(Path, "replace", read_only)
    with pytest.raises(StackError, match=r"cannot be set aside \(Read-only file system\)"):
        begin(damaged)


@pytest.mark.parametrize("name", ["a.lock", "a.new", "a.damaged", "a"])
def test_a_file_is_never_its_own_companion(tmp_path: Path, name: str) -> None:
    """`--state a.lock` was emptied by its own lock at every start."""
    file, said = tmp_path / name, []
    for _ in range(2):
        with alone(file):
            watch = Watch(lambda: hits(seen(calm(waiting=20_000))), file=file, origin=ORIGIN, pager=None,
                          say=said.append)  # fmt: skip
            assert len(watch._memory.standing) == len(said)
            watch.step(NOW)
            said.append("known")
        assert json.loads(file.read_text())["standing"]


def test_one_watch_for_each_file(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "a.json"),
        pytest.raises(StackError, match="another process watches"),
        alone(tmp_path / "a.json"),
    ):
        pass


def test_a_full_disk_stops_no_page(incident: Incident, monkeypatch: pytest.MonkeyPatch) -> None:
    incident.watch._file = Path("/dev/full/alerts.json")
    incident.minutes(3, waiting=20_000)
    assert actions(incident.sink.events) == ["trigger"]
    assert sum("cannot be written" in line for line in incident.said) == 1


def test_an_event_that_is_refused_holds_back_no_other_alert(incident: Incident) -> None:
    incident.minutes(3, waiting=20_000)
    broken = {"event_action": "trigger", "dedup_key": "another", "payload": {}}
    incident.watch._memory = replace(incident.watch._memory, unsent=[broken])
    incident.minutes(10, waiting=5)
    assert actions(incident.sink.events) == ["trigger", "resolve"]
    assert incident.watch.unsent == 1
    assert set(incident.sink.refused) == {"payload: []"}


def test_what_begins_to_fire_while_another_event_is_refused_is_sent_at_once(
    incident: Incident, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"event_action": "trigger", "dedup_key": "another", "payload": {}}
    incident.watch._memory = replace(incident.watch._memory, unsent=[broken])
    incident.watch.deliver()
    incident.waiting = 20_000
    for seconds in (0, 30, 60):
        incident.watch.step(NOW + timedelta(seconds=seconds))
    incident.watch._retry_at = float("inf")  # the refused one is not tried again yet
    incident.watch.deliver()
    assert (actions(incident.sink.events), incident.sink.refused) == (["trigger"], ["payload: []"])


def test_an_event_that_was_taken_is_not_sent_again_whatever_the_answer_says(incident: Incident) -> None:
    incident.sink.broken = 202  # an answer without the key
    incident.minutes(3, waiting=20_000)
    assert incident.watch.unsent == 0


def test_an_event_that_is_too_large_holds_back_no_other(incident: Incident) -> None:
    incident.sink.broken = 413
    with pytest.raises(PagerRefused):
        PagerDuty(incident.sink.routing_key, incident.sink.url).send({"event_action": "resolve", "dedup_key": "x"})


def test_the_command_names_the_profile_that_was_asked_for(tmp_path: Path) -> None:
    """On another machine, in another shell, the default profile may be another environment."""
    said: list[str] = []
    watch = Watch(lambda: hits(seen(calm(waiting=20_000))), file=tmp_path / "a.json", pager=None, say=said.append,
                  origin=replace(ORIGIN, profile="prod eu"))  # fmt: skip
    for seconds in (0, 30, 60):
        change = watch.step(NOW + timedelta(seconds=seconds))
    command = "queuemon --profile 'prod eu' runbook run prioritise-transactional -p queue=email"
    assert said[0].endswith(command)
    event = trigger(change.fired[0], watch._origin)
    assert event["payload"]["custom_details"]["runbook_command"] == command
    (rule, *_) = yaml.safe_load(rule_file(profile="prod eu"))["groups"][0]["rules"]
    assert rule["annotations"]["runbook_command"].startswith("queuemon --profile 'prod eu' runbook run prio")


@pytest.mark.parametrize(
    ("of", "ended"),
    [
        (seen(calm()), 0),
        (seen(calm(stuck=1)), 1),
        (seen(calm(stuck=1, waiting=20_000)), 2),
        (seen(postgres=HalfError(message="away", kind="StoreError")), 2),
        (replace(seen(calm(stuck=1)), drift=None), 3),
        (ConfigError("no stores"), 3),
    ],
    ids=["nothing", "a warning", "both", "a store is away", "drift unknown", "an error"],
)
def test_check_ends_with_the_most_severe_as_nagios_understands_it(
    of: Seen | ConfigError, ended: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def look(self: Reader) -> Seen:
        if isinstance(of, ConfigError):
            raise of
        return of

    monkeypatch.setenv("QUEUEMON_DATABASE_URL", "postgresql://127.0.0.1:1/x")
    monkeypatch.setenv("QUEUEMON_REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setattr(Reader, "seen", look)
    assert run(["alerts", "check", *([] if ended == 3 else ["--no-drift"])]) == ended
    shown = capsys.readouterr()
    assert ("no stores" in shown.err) == isinstance(of, ConfigError)


@pytest.mark.parametrize("half", ["postgres", "redis"])
def test_nobody_waits_twice_for_a_store_that_is_away(half: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape has ten seconds; a look for drift would wait for the same store anew."""
    settings = Settings(
        database_url=SecretStr("postgresql://127.0.0.1:1/x"), redis_url=SecretStr("redis://127.0.0.1:1"),
        statement_timeout_seconds=60,
    )  # fmt: skip
    away = reading(calm(), **{half: HalfError(message="away", kind="StoreTimeout")}).snapshot
    limits: list[float] = []

    def snapshot(self: Store) -> Any:
        limits.append(self.postgres._shorter(None) or 60.0)
        return away

    monkeypatch.setattr(Store, "snapshot", snapshot)
    with Workbench(settings) as workbench:
        reader = Reader(workbench)
        assert reader.seen().drift is None
        assert reader.read().drift is None
    assert limits == [5.0, 5.0]


@pytest.mark.parametrize(("status", "words"), [(400, "routing key"), (403, "routing key"), (500, "sent again")])
def test_no_message_holds_the_routing_key(status: int, words: str) -> None:
    with sink("secret-routing-key-0123456789abcd") as refusing:
        refusing.broken = status
        with pytest.raises(PagerAway, match=words) as caught:
            PagerDuty(refusing.routing_key, refusing.url).send({"event_action": "resolve", "dedup_key": "x"})
    assert refusing.routing_key[-4:] not in str(caught.value)


def test_pagerduty_that_cannot_be_reached_is_said() -> None:
    with pytest.raises(PagerAway, match="cannot be reached"):
        PagerDuty("k" * 32, "https://127.0.0.1:9").send({"event_action": "resolve", "dedup_key": "x"})


def test_a_url_without_tls_is_refused() -> None:
    with pytest.raises(ConfigError, match="https"):
        PagerDuty("k" * 32, "http://events.pagerduty.com")
