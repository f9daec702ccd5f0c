"""The engine's decisions that need no store."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from queuemon.config import Settings
from queuemon.contract import PUBLISH_BATCH, Keys, Priority
from queuemon.engine.handlers import MESSAGE_LIMIT, TRACE_LIMIT, Handlers, clean, failure_of, load_any
from queuemon.engine.ids import uuid7
from queuemon.engine.process import Backoff, this_process
from queuemon.engine.producer import encode_payload
from queuemon.engine.publisher import CALL_CHARACTERS, _batches
from queuemon.engine.reaper import _hand_pattern
from queuemon.engine.supervisor import worker_command
from queuemon.engine.worker import backoff_seconds, service_order
from queuemon.errors import ConfigError, InvalidValue
from queuemon.store.outbox import Publication


def test_ids_are_version_7_and_grow_also_across_threads() -> None:
    made: list[Any] = []

    def make() -> None:
        mine = [uuid7() for _ in range(2_000)]
        assert mine == sorted(mine)
        made.extend(mine)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8_000
    assert {i.version for i in made} == {7}
    assert {i.variant for i in made} == {"specified in RFC 4122"}


def test_an_id_carries_the_time_in_milliseconds() -> None:
    assert abs((uuid7().int >> 80) - time.time() * 1000) < 1_000


def test_ids_keep_their_order_when_the_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_900_000_000_000_000_000)
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_workers_serve_high_priority_first_then_their_home_then_the_others() -> None:
    queues = [
        ("z", Priority.NORMAL),
        ("low", Priority.LOW),
        ("b", Priority.NORMAL),
        ("rush", Priority.HIGH),
        ("alarm", Priority.HIGH),
    ]
    assert service_order(queues, "low") == ["alarm", "rush", "low", "b", "z"]
    assert service_order(queues, "z") == ["alarm", "rush", "z", "b", "low"]
    assert service_order(queues, "rush") == ["rush", "alarm", "b", "z", "low"]


def test_the_delay_before_the_next_attempt_doubles_up_to_the_maximum() -> None:
    settings = Settings(backoff_seconds=2, backoff_maximum_seconds=60)
    assert [backoff_seconds(n, settings, 1.0) for n in (1, 2, 3, 5, 6, 1_000_000)] == [2, 4, 8, 32, 60, 60]
    spread = {backoff_seconds(3, settings) for _ in range(100)}
    assert len(spread) > 50
    assert all(6 <= delay <= 10 for delay in spread)


def test_patience_with_a_store_grows_to_a_bound_and_starts_over() -> None:
    backoff = Backoff(first=0.1, longest=1.0)
    pauses = [backoff.next() for _ in range(50)]
    assert pauses[0] < 0.13
    assert max(pauses) <= 1.25
    backoff.reset()
    assert backoff.next() < 0.13


def test_a_failure_keeps_type_message_and_the_handlers_own_frames() -> None:
    def handler() -> None:
        raise ZeroDivisionError("Division by zero in MRR calculation")

    try:
        handler()
    except ZeroDivisionError as error:
        failure = failure_of(error)
    assert failure.error_type == "ZeroDivisionError"
    assert failure.message == "Division by zero in MRR calculation"
    assert "in handler" in failure.stack_trace
    assert failure.stack_trace.count("File ") == 1


def test_a_failure_of_another_language_brings_its_own_type_and_trace() -> None:
    error = RuntimeError("boom")
    error.queuemon_error_type = "TypeError"  # type: ignore[attr-defined]
    error.queuemon_stack_trace = "TypeError: boom\n    at render (/srv/mailer/render.js:10:3)"  # type: ignore[attr-defined]
    failure = failure_of(error)
    assert (failure.error_type, failure.message) == ("TypeError", "boom")
    assert failure.stack_trace.endswith("render.js:10:3)")


def test_a_failure_that_cannot_be_printed_is_still_a_failure() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    failure = failure_of(Mute())
    assert "cannot be shown" in failure.message
    assert failure.error_type.endswith("Mute")


def test_what_is_kept_of_a_failure_is_bounded_and_fits_postgresql() -> None:
    failure = failure_of(ValueError("a\0b\ud800c" + "x" * 100_000))
    assert "\0" not in failure.message
    assert failure.message.encode("utf-8")
    assert len(failure.message) <= MESSAGE_LIMIT
    assert len(failure.stack_trace) <= TRACE_LIMIT
    kept = clean("head" + "m" * 1_000_000 + "tail", MESSAGE_LIMIT)
    assert kept.startswith("head")
    assert kept.endswith("tail")


def test_handlers_are_found_by_name_then_by_pattern() -> None:
    def mail(_job: object) -> None: ...
    def other(_job: object) -> None: ...

    handlers = Handlers({"mail*": other, "mail:high": mail})
    assert handlers.find("mail:high") is mail
    assert handlers.find("mail:low") is other
    assert handlers.find("reports") is None
    assert Handlers.of(mail).find("anything") is mail


@pytest.mark.parametrize(
    "reference", ["", "nothing", "json:", ":dumps", "no.such.module:f", "json:nope", "json:__all__"]
)
def test_a_handler_that_cannot_be_loaded_is_named(reference: str) -> None:
    with pytest.raises(ConfigError):
        load_any(reference)


def test_a_handler_is_loaded_by_module_and_name() -> None:
    assert Handlers.of("json:dumps").find("any") is not None


@pytest.mark.parametrize(
    "payload",
    [float("nan"), float("inf"), {"a": object()}, {"a": "\0"}, {"\0": 1}, {"a": "\\\0"}, ["\ud800"], {1, 2}],
    ids=repr,
)
def test_a_payload_that_jsonb_cannot_hold_is_refused_before_it_is_sent(payload: object) -> None:
    with pytest.raises(InvalidValue):
        encode_payload(payload)


def test_a_payload_nested_too_deeply_is_refused() -> None:
    payload: list[Any] = []
    for _ in range(100_000):
        payload = [payload]
    with pytest.raises(InvalidValue):
        encode_payload(payload)


@pytest.mark.parametrize(
    "payload", [{}, [], None, 0, "", "\\u0000", {"a": "\\\\u0000"}, 12345678901234567890, "ü😀"], ids=repr
)
def test_any_other_json_value_is_a_payload(payload: object) -> None:
    import json

    assert json.loads(encode_payload(payload)) == payload


def _publication(size: int) -> Publication:
    return Publication(id=uuid7(), queue="q", gen=1, element="x" * size)


def test_a_call_of_the_publishing_script_holds_a_hundred_jobs_at_most_and_about_a_megabyte() -> None:
    small = [_publication(10) for _ in range(601)]
    assert [len(batch) for batch in _batches(small)] == [PUBLISH_BATCH] * 6 + [1]
    large = [_publication(CALL_CHARACTERS // 2) for _ in range(5)]
    assert [len(batch) for batch in _batches(large)] == [2, 2, 1]
    assert [p for batch in _batches(large) for p in batch] == large


def test_a_name_of_a_worker_holds_no_colon_and_is_never_used_twice() -> None:
    names = {this_process("worker", "mail").id for _ in range(100)}
    assert len(names) == 100
    assert not any(":" in name for name in names)


@pytest.mark.parametrize("queue", ["mail", "email-sending:high", "a:b:c", "with space", "new\nline", "*", "[x]"])
def test_the_hand_of_a_worker_is_recognised_for_any_queue_name(queue: str) -> None:
    keys = Keys()
    pattern, _ = _hand_pattern(keys)
    found = pattern.fullmatch(keys.processing_key("host-12-ab12cd", queue))
    assert found is not None
    assert (found["worker"], found["name"]) == ("host-12-ab12cd", queue)


def test_a_workers_command_takes_the_queue_as_one_argument_after_all_options() -> None:
    command = worker_command("app:HANDLERS", 30.0, "prod")
    assert command[-2:] == ["--", "{queue}"]
    assert command[command.index("--profile") + 1] == "prod"
    assert "--profile" not in worker_command("app:HANDLERS", 30.0)
