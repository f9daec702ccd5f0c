"""Hard pauses: the list is parked with PostgreSQL's flag and given back with it, whoever dies or pushes in between."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from queuemon import actions
from queuemon.cli import run
from queuemon.contract import decode_element
from queuemon.drift import detect
from queuemon.drift.detect import VANISHED
from queuemon.drift.watch import Watch
from queuemon.engine.producer import Producer
from queuemon.engine.publisher import publish
from queuemon.engine.relay import Relay
from queuemon.engine.worker import Worker
from queuemon.errors import InvalidValue
from queuemon.store import Store, parking
from queuemon.store.pauses import PauseFlag
from queuemon.store.sieve import Sieve
from tests.support.actions import Desk
from tests.support.wait import wait_until

LIST, PARKED, SIFTED = "queue:mail", "queuemon:parked:mail", "queuemon:sifted:mail"
QUARANTINE = "queuemon:quarantine:mail"


def client(desk: Desk) -> Any:
    return desk.store.redis.client


def enqueue(desk: Desk, n: int) -> list[str]:
    """Jobs as a producer makes them; their ids in order."""
    producer = Producer(desk.store)
    return [str(producer.enqueue("mail", {"n": i})) for i in range(n)]


def ids(desk: Desk, *keys: str) -> list[str]:
    """The ids of some lists' elements, one list after the other."""
    raws = [raw for key in keys for raw in client(desk).lrange(key, 0, -1)]
    return [element.id for raw in raws if (element := decode_element(raw)) is not None]


def push(desk: Desk, names: Sequence[str]) -> None:
    """A producer of another make, which pushes to the list by itself."""
    client(desk).rpush(LIST, *(json.dumps({"id": name}) for name in names))


def away(desk: Desk) -> Store:
    """The same PostgreSQL with a Redis that does not answer."""
    return Store(desk.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))


def flag(paused: bool, epoch: int, *, hard: bool) -> PauseFlag:
    return PauseFlag(queue="mail", paused=paused, epoch=epoch, until=None, hard=hard)


def set_pause(desk: Desk, wanted: PauseFlag) -> Any:
    return desk.store.redis.run("set_pause", *parking.call(desk.store.redis.keys, wanted))


@contextmanager
def blind_worker(desk: Desk) -> Iterator[list[str]]:
    """A worker that knows of no flag (L0): takes from the list, and updates the row by its id."""
    taken: list[str] = []
    stop = threading.Event()
    own = redis.Redis.from_url(desk.settings.redis_url.get_secret_value())

    def work() -> None:
        while not stop.is_set():
            found: Any = own.blpop([LIST], timeout=0.1)
            if found is not None:
                name = json.loads(found[1])["id"]
                desk.sql("UPDATE jobs SET status = 'active', started_at = now() WHERE CAST(id AS text) = :id", id=name)
                taken.append(name)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield taken
    finally:
        stop.set()
        thread.join(20)
        own.close()
        assert not thread.is_alive()


# ------------------------------------------------------------------------------------------------ park and give back


def test_a_hard_pause_parks_the_list_and_its_end_gives_it_back_in_order(desk: Desk) -> None:
    before = enqueue(desk, 3)
    result = desk.act("pause", "mail", hard=True)
    assert (result.state, result.published) == ("done", True)
    assert (ids(desk, LIST), ids(desk, PARKED)) == ([], before)
    assert desk.flag()["hard"] == "1"
    assert [p.hard for p in actions.pauses(desk.store)] == [True]
    meanwhile = enqueue(desk, 2)
    assert (ids(desk, LIST), ids(desk, PARKED)) == ([], before + meanwhile), "what is published joins what is parked"
    desk.act("resume", "mail")
    assert (ids(desk, LIST), client(desk).exists(PARKED)) == (before + meanwhile, 0)
    assert "hard" not in desk.flag()
    after = enqueue(desk, 1)
    assert ids(desk, LIST) == before + meanwhile + after


def test_the_plan_says_what_a_hard_pause_cannot_stop(desk: Desk) -> None:
    desk.add("active", 2)
    plan = actions.plan(desk.store, "pause", "mail", hard=True)
    assert "2 running jobs will finish" in plan.effect
    assert plan.effect.endswith("the list is parked, out of the reach of workers that do not know the flag")
    popped, others = plan.warnings
    assert "cannot stop what workers have popped already, or pop before the list is parked" in popped
    assert "no relay is alive" in others
    assert plan.options == {"hard": True}
    with pytest.raises(InvalidValue, match="hard is 'perhaps'"):
        actions.plan(desk.store, "pause", "mail", hard="perhaps")


def test_a_worker_that_ignores_the_flag_takes_nothing_while_the_list_is_parked(desk: Desk) -> None:
    desk.act("pause", "mail", hard=True)
    made = enqueue(desk, 3)
    with blind_worker(desk) as taken:

        def waits() -> bool:
            return any(c["cmd"] == "blpop" for c in client(desk).client_list())

        wait_until(waits, message="it waits in its blocking pop")
        enqueue(desk, 1)
        wait_until(waits)
        assert client(desk).llen(PARKED) == 4
        assert taken == []
        desk.act("resume", "mail")
        wait_until(lambda: len(taken) == 4, message="a blocking pop wakes up when the list is given back")
        assert taken[:3] == made


def test_after_a_soft_pause_the_same_worker_goes_on_taking(desk: Desk) -> None:
    """The negative control."""
    desk.act("pause", "mail")
    made = enqueue(desk, 3)
    with blind_worker(desk) as taken:
        wait_until(lambda: len(taken) == 3)
    assert taken == made


def test_retries_and_elements_given_back_go_to_the_parked_list(desk: Desk) -> None:
    (waiting,) = enqueue(desk, 1)
    (failed,) = desk.add("failed")
    raw = client(desk).lindex(LIST, 0)
    client(desk).lmove(LIST, "queuemon:proc:w-1:mail", "LEFT", "RIGHT")
    desk.act("pause", "mail", hard=True)
    desk.act("retry", str(failed))
    assert ids(desk, LIST, PARKED) == [str(failed)]
    keys = desk.store.redis.keys
    names = [keys.processing_key("w-1", "mail"), LIST, keys.paused_key("mail"), PARKED, keys.wake]
    assert desk.store.redis.run("give_back", names, [raw]) == 1
    assert ids(desk, PARKED) == [waiting, str(failed)], "at the head, where it is taken next"
    assert client(desk).exists(LIST) == 0


def test_a_claim_refused_by_a_hard_pause_that_redis_does_not_know_yet_returns_its_element(desk: Desk) -> None:
    made = enqueue(desk, 2)
    silent = away(desk)
    actions.apply(silent, actions.plan(silent, "pause", "mail", hard=True), reason="")
    silent.close()
    worker, stop = Worker(desk.store, home="mail", handlers=lambda job: None), threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    try:
        wait_until(lambda: desk.flag().get("paused") == "1", message="the worker told Redis of the pause")
        wait_until(lambda: client(desk).llen(LIST) == 2, message="and gave the element back")
        Relay(desk.store).copy_flags()
        assert (ids(desk, LIST), ids(desk, PARKED)) == ([], made)
    finally:
        stop.set()
        thread.join(20)
    assert desk.number("jobs WHERE status = 'waiting'") == 2


# -------------------------------------------------------------------------------------------------------- holders


def test_the_list_stays_parked_while_any_holder_is_hard_and_the_queue_paused_while_any_is_left(desk: Desk) -> None:
    made = enqueue(desk, 2)
    desk.act("pause", "mail", holder="soft")
    assert ids(desk, LIST) == made
    desk.act("pause", "mail", holder="hard", hard=True)
    assert ids(desk, PARKED) == made
    other = actions.plan(desk.store, "pause", "mail", holder="third")
    assert any(w.startswith("hard holds it paused hard") for w in other.warnings)
    actions.apply(desk.store, other, reason="")
    assert ids(desk, PARKED) == made, "a soft pause beside it changes nothing"
    plan = actions.plan(desk.store, "resume", "mail", holder="hard")
    assert plan.effect == "hard lets go; queue:mail stays paused, and its parked list is given back"
    actions.apply(desk.store, plan, reason="")
    assert (ids(desk, LIST), desk.flag()["paused"]) == (made, "1")
    desk.act("resume", "mail")
    assert desk.flag()["paused"] == "0"


def test_the_same_holder_s_later_pause_without_hard_gives_the_list_back_and_says_so(desk: Desk) -> None:
    made = enqueue(desk, 1)
    desk.act("pause", "mail", holder="me", hard=True)
    plan = actions.plan(desk.store, "pause", "mail", holder="me")
    assert "me parked the list; this pause, without hard, gives it back" in plan.warnings
    actions.apply(desk.store, plan, reason="")
    assert (ids(desk, LIST), desk.flag()["paused"]) == (made, "1")


def test_a_hard_pause_past_its_end_is_given_back_by_the_relay(desk: Desk) -> None:
    made = enqueue(desk, 2)
    desk.act("pause", "mail", hard=True, until="1h")
    relay = Relay(desk.store)
    relay.end_pauses()
    assert ids(desk, PARKED) == made, "its end has not come"
    desk.sql("UPDATE queuemon.queue_pauses SET until = now() - interval '1 second'")
    relay.end_pauses()
    assert (ids(desk, LIST), client(desk).exists(PARKED)) == (made, 0)
    assert desk.flag()["paused"] == "0"


def test_taking_a_hard_pause_back_gives_the_list_back_and_taking_a_resume_back_parks_it_again(desk: Desk) -> None:
    made = enqueue(desk, 2)
    paused = desk.act("pause", "mail", hard=True)
    desk.act("undo", paused.id)
    assert (ids(desk, LIST), client(desk).exists(PARKED)) == (made, 0)
    desk.act("pause", "mail", hard=True)
    resumed = desk.act("resume", "mail")
    assert ids(desk, LIST) == made
    desk.act("undo", resumed.id)
    assert (ids(desk, LIST), ids(desk, PARKED)) == ([], made)


# -------------------------------------------------------------------------------------------------- what may go wrong


def test_a_pause_cut_short_between_the_stores_is_finished_by_the_relay(desk: Desk) -> None:
    made = enqueue(desk, 2)
    silent = away(desk)
    result = actions.apply(silent, actions.plan(silent, "pause", "mail", hard=True), reason="")
    assert (result.state, result.published) == ("done", False)
    assert "the list is not parked yet" in result.summary
    assert ids(desk, LIST) == made
    Relay(desk.store).copy_flags()
    assert (ids(desk, LIST), ids(desk, PARKED)) == ([], made)
    actions.apply(silent, actions.plan(silent, "resume", "mail"), reason="")
    silent.close()
    assert ids(desk, PARKED) == made
    Relay(desk.store).copy_flags()
    assert (ids(desk, LIST), client(desk).exists(PARKED)) == (made, 0)


def test_a_late_hard_pause_cannot_overtake_the_resume_nor_a_late_resume_the_pause(desk: Desk) -> None:
    made = enqueue(desk, 2)
    desk.act("pause", "mail", hard=True)
    desk.act("resume", "mail")
    assert set_pause(desk, flag(True, 1, hard=True)) == 0
    assert (ids(desk, LIST), client(desk).exists(PARKED)) == (made, 0)
    desk.act("pause", "mail", hard=True)
    assert set_pause(desk, flag(False, 2, hard=False)) == 0
    assert (ids(desk, LIST), ids(desk, PARKED)) == ([], made)


def test_what_others_push_to_a_parked_list_is_parked_behind_the_rest(desk: Desk) -> None:
    made = enqueue(desk, 2)
    desk.act("pause", "mail", hard=True)
    relay = Relay(desk.store)
    relay.copy_flags()
    push(desk, ["a", "b"])
    relay.park()
    assert (ids(desk, LIST), ids(desk, PARKED)) == ([], [*made, "a", "b"])
    push(desk, [f"n{i}" for i in range(2_500)])
    relay.park()
    assert client(desk).llen(LIST) == 0
    assert ids(desk, PARKED) == [*made, "a", "b", *(f"n{i}" for i in range(2_500))]


def test_a_relay_that_has_not_heard_of_the_resume_does_not_park_again(desk: Desk) -> None:
    desk.act("pause", "mail", hard=True)
    relay = Relay(desk.store)
    relay.copy_flags()
    desk.act("resume", "mail")
    push(desk, ["a"])
    relay.park()
    assert ids(desk, LIST) == ["a"]


def test_a_resume_while_others_push_goes_in_bounded_steps_and_may_die_in_between(desk: Desk) -> None:
    made = enqueue(desk, 3)
    desk.act("pause", "mail", hard=True)
    pushed = [f"n{i}" for i in range(2_500)]
    push(desk, pushed)
    desk.sql("DELETE FROM queuemon.queue_pauses")
    desk.sql("UPDATE job_queues SET paused = false, pause_epoch = 2, paused_at = NULL WHERE name = 'mail'")
    assert set_pause(desk, flag(False, 2, hard=False)) == 2, "more is left than one call moves"
    assert client(desk).llen(LIST) == 1_500
    # Whoever resumed dies here. Nothing is lost or out of order, and publications still go behind what is parked.
    assert ids(desk, PARKED, LIST) == [*made, *pushed]
    assert desk.flag()["hard"] == "1"
    late = enqueue(desk, 1)
    assert ids(desk, PARKED)[-1:] == late
    Relay(desk.store).copy_flags()
    assert client(desk).exists(PARKED) == 0
    found = ids(desk, LIST)
    assert found == [*made, *pushed[:1_000], *late, *pushed[1_000:]]
    assert desk.flag()["paused"] == "0"


def test_a_parked_list_that_nobody_holds_any_more_is_given_back(desk: Desk) -> None:
    """The flag was lost, the parked list was not."""
    made = enqueue(desk, 2)
    desk.act("pause", "mail", hard=True)
    desk.act("resume", "mail")
    client(desk).rename(LIST, PARKED)
    push(desk, ["a"])
    Relay(desk.store).copy_flags()
    assert (ids(desk, LIST), client(desk).exists(PARKED)) == ([*made, "a"], 0)


def test_after_flushall_the_parked_queue_is_restored_to_its_parked_list(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = enqueue(desk, 3)
    relay = Relay(desk.store)
    relay.step(everything=True)
    desk.act("pause", "mail", hard=True)
    client(desk).flushdb()
    run = desk.store.redis.run

    def publishing_first(script: str, *arguments: Any) -> Any:
        if script == "ready":
            publish(desk.store)  # another relay is quicker than the rest of this restoration
            assert (client(desk).exists(LIST), client(desk).llen(PARKED)) == (0, 3)
        return run(script, *arguments)

    monkeypatch.setattr(desk.store.redis, "run", publishing_first)
    relay.restore()
    assert client(desk).exists(LIST) == 0
    assert sorted(ids(desk, PARKED)) == sorted(made)
    desk.act("resume", "mail")
    assert sorted(ids(desk, LIST)) == sorted(made)


def test_a_list_with_a_time_to_live_is_parked_without_one(desk: Desk) -> None:
    enqueue(desk, 1)
    client(desk).expire(LIST, 60)
    desk.act("pause", "mail", hard=True)
    assert client(desk).ttl(PARKED) == -1


def test_a_key_that_is_no_list_is_left_alone_and_the_pause_holds(desk: Desk) -> None:
    client(desk).set(LIST, "no list")
    result = desk.act("pause", "mail", hard=True)
    assert not result.published
    assert desk.flag()["paused"] == "1"
    assert client(desk).get(LIST) == b"no list"


def test_one_queue_that_cannot_be_parked_does_not_keep_the_others(desk: Desk) -> None:
    client(desk).set(LIST, "no list")
    silent = away(desk)
    for queue in ("mail", "reports"):
        actions.apply(silent, actions.plan(silent, "pause", queue, hard=True), reason="")
    silent.close()
    with pytest.raises(Exception, match="another type"):
        Relay(desk.store).copy_flags()
    assert desk.flag("reports")["hard"] == "1"


# ----------------------------------------------------------------------------------------------------------- looks


def test_a_parked_list_is_counted_and_its_jobs_are_found(desk: Desk) -> None:
    made = enqueue(desk, 3)
    desk.act("pause", "mail", hard=True)
    listed = desk.store.redis.half(["mail"]).queues["mail"]
    assert (listed.length, listed.parked, listed.elements) == (0, 3, 3)
    place = desk.store.redis.place(made[1], "mail", None)
    assert (place.where, place.position) == ("parked", 1)


def test_parked_jobs_are_no_drift(desk: Desk) -> None:
    Producer(desk.store).enqueue_many("mail", ({} for _ in range(VANISHED)))
    desk.act("pause", "mail", hard=True)
    report = detect.compare(desk.store, ["mail"], wait_seconds=0.0)
    assert [c.number for c in report.classes if c.count] == []
    desk.sql("DELETE FROM job_queues WHERE name = 'reports'")
    assert Watch(desk.store).tick().lines == ()
    client(desk).rename(PARKED, "elsewhere")
    assert [line.number for line in Watch(desk.store).tick().lines] == [8], "the negative control"


def test_the_command_line_parks_a_list_and_shows_what_is_parked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", desk.settings.database_url.get_secret_value())
    monkeypatch.setenv("QUEUEMON_REDIS_URL", desk.settings.redis_url.get_secret_value())
    (job_id, *_) = enqueue(desk, 3)
    assert run(["pause", "mail", "--hard", "--yes", "--reason", "blind workers"]) == 0
    assert "it cannot stop what workers have popped already" in " ".join(capsys.readouterr().out.split())
    assert client(desk).llen(PARKED) == 3
    assert run(["status"]) == 0
    assert "(paused, 3 parked)" in " ".join(capsys.readouterr().out.split())
    assert run(["status", "--json"]) == 0
    (shown,) = (q for q in json.loads(capsys.readouterr().out)["queues"] if q["queue"] == LIST)
    assert (shown["in_redis"], shown["parked"]) == (3, 3)
    assert run(["job", job_id]) == 0
    assert "parked, position 0 from the head" in " ".join(capsys.readouterr().out.split())


# ---------------------------------------------------------------------------------------------------------- filter


#: Chooses of a window's elements those to take out, by their places.
Choose = Callable[[Sequence[bytes]], Sequence[int]]


def sift(desk: Desk, choose: Choose) -> int:
    """Filter the queue `mail`; returns how many were taken out."""
    sieve, n = Sieve(desk.store.redis, "mail"), 0
    for window in sieve.windows():
        chosen = choose(window.raws)
        n += len(chosen) if sieve.cut(chosen) else 0
    return n


def dropping(names: set[str]) -> Choose:
    def choose(window: Sequence[bytes]) -> list[int]:
        return [n for n, raw in enumerate(window) if json.loads(raw)["id"] in names]

    return choose


def test_a_parked_list_is_filtered_in_order(desk: Desk) -> None:
    push(desk, [f"n{i}" for i in range(1_000)])
    desk.act("pause", "mail", hard=True)
    gone = {f"n{i}" for i in range(0, 1_000, 3)}
    assert sift(desk, dropping(gone)) == len(gone)
    left = [f"n{i}" for i in range(1_000) if f"n{i}" not in gone]
    assert (ids(desk, PARKED), client(desk).exists(SIFTED)) == (left, 0)
    desk.act("resume", "mail")
    assert ids(desk, LIST) == left


def test_a_filter_that_drops_everything_leaves_no_list(desk: Desk) -> None:
    push(desk, ["a", "b"])
    desk.act("pause", "mail", hard=True)
    assert sift(desk, lambda window: range(len(window))) == 2
    assert client(desk).exists(PARKED, SIFTED, LIST) == 0
    assert sift(desk, lambda window: range(len(window))) == 0
    desk.act("resume", "mail")
    assert client(desk).exists(LIST) == 0


@pytest.mark.parametrize("then", ["resume", "filter again", "publish"])
def test_a_filter_killed_between_any_two_windows_loses_nothing(desk: Desk, then: str) -> None:
    names = [f"n{i}" for i in range(400)]
    gone = {f"n{i}" for i in range(0, 400, 2)}
    left = [name for name in names if name not in gone]
    windows = 0
    while True:
        client(desk).flushdb()
        push(desk, names)
        desk.act("pause", "mail", hard=True)
        windows += 1
        done = _killed_after(desk, windows, dropping(gone))
        # The two together, the sifted part first, hold all that was not dropped.
        there = ids(desk, SIFTED, PARKED)
        assert sorted([*there, *ids(desk, QUARANTINE)]) == sorted(names)
        assert [name for name in there if name not in gone] == left
        late: list[str] = []
        if then == "publish":
            late = enqueue(desk, 1)
        elif then == "filter again":
            sift(desk, dropping(gone))
            there = left
        desk.act("resume", "mail")
        assert ids(desk, LIST) == there + late
        assert client(desk).exists(SIFTED, PARKED) == 0
        if done:
            break
    assert windows > 4


def _killed_after(desk: Desk, windows: int, choose: Choose) -> bool:
    """Filter, and die when the next window is looked at; whether it came to its end before that."""
    seen = 0

    class Killed(Exception):
        pass

    def look(window: Sequence[bytes]) -> Sequence[int]:
        nonlocal seen
        seen += 1
        if seen > windows:
            raise Killed
        return choose(window)

    try:
        sift(desk, look)
    except Killed:
        return False
    return True


def test_a_window_that_changed_before_it_was_written_is_looked_at_again(desk: Desk) -> None:
    push(desk, ["a", "b", "c"])
    desk.act("pause", "mail", hard=True)
    looks = []

    def choose(window: Sequence[bytes]) -> list[int]:
        if not looks:
            client(desk).lpush(PARKED, json.dumps({"id": "back"}))  # a worker gives an element back
        looks.append(len(window))
        return dropping({"b"})(window)

    assert sift(desk, choose) == 1
    assert looks == [3, 4]
    assert ids(desk, PARKED) == ["back", "a", "c"]


def test_what_is_published_while_a_filter_runs_is_looked_at_and_stays_last(desk: Desk) -> None:
    push(desk, [f"n{i}" for i in range(300)])
    desk.act("pause", "mail", hard=True)
    late: list[str] = []

    def choose(window: Sequence[bytes]) -> list[int]:
        if not late:
            late.extend(enqueue(desk, 1))
        return []

    assert sift(desk, choose) == 0
    assert ids(desk, PARKED) == [*(f"n{i}" for i in range(300)), *late]


def test_only_a_parked_list_is_filtered(desk: Desk) -> None:
    push(desk, ["a"])
    with pytest.raises(InvalidValue, match="is not parked"):
        sift(desk, lambda window: range(len(window)))
    desk.act("pause", "mail", hard=True)

    def choose(window: Sequence[bytes]) -> range:
        desk.act("resume", "mail")
        return range(len(window))

    with pytest.raises(InvalidValue, match="is not parked"):
        sift(desk, choose)
    assert ids(desk, LIST) == ["a"]


# ----------------------------------------------------------------------------------------------------------- size


def test_no_call_grows_with_the_list(desk: Desk) -> None:
    """100,000 elements are parked, filtered, joined by others' 5,000 and given back; prints the longest calls."""
    n, own = 100_000, client(desk)
    for first in range(0, n, 10_000):
        push(desk, [f"{i:036}" for i in range(first, first + 10_000)])
    before = own.config_get("slowlog-*")
    own.config_set("slowlog-log-slower-than", 0)
    own.config_set("slowlog-max-len", 20_000)
    longest: dict[str, int] = {}
    try:
        for step, act in {
            "park": lambda: desk.act("pause", "mail", hard=True),
            "filter": lambda: sift(desk, lambda window: range(0, len(window), 10)),
            "push": lambda: push(desk, [f"late{i}" for i in range(5_000)]),
            "give back": lambda: desk.act("resume", "mail"),
        }.items():
            own.slowlog_reset()
            act()
            calls = [e for e in own.slowlog_get(20_000) if e["command"].upper().startswith((b"EVAL", b"LRANGE"))]
            longest[step] = max((e["duration"] for e in calls), default=0)
    finally:
        for name, value in before.items():
            own.config_set(name, value)
    left = ids(desk, LIST)
    assert len(left) == own.llen(LIST)
    assert left[-5_000:] == [f"late{i}" for i in range(5_000)]
    assert left[:-5_000] == sorted(left[:-5_000])
    assert own.exists(PARKED, SIFTED) == 0
    print(f"\nlongest call, microseconds: {longest}")
