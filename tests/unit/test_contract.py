"""The contract in values: health, elements, keys, transitions, settings."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuemon.contract import (
    DELETABLE,
    ENGINE_TRANSITIONS,
    RETRYABLE,
    TERMINAL,
    Health,
    JobStatus,
    Keys,
    Priority,
    Thresholds,
    decode_element,
    encode_element,
    health,
)


@pytest.mark.parametrize(
    ("waiting", "failed", "expected"),
    [
        (0, 0, Health.HEALTHY),
        (99, 10, Health.HEALTHY),
        (100, 0, Health.WARNING),
        (1000, 10, Health.WARNING),
        (1001, 0, Health.CRITICAL),
        (0, 11, Health.CRITICAL),
        (None, 0, Health.UNKNOWN),
        (0, None, Health.UNKNOWN),
    ],
)
def test_health_is_what_the_specification_says_at_every_edge(waiting: int, failed: int, expected: Health) -> None:
    assert health(waiting, failed) is expected


def test_thresholds_are_settings() -> None:
    assert health(150, 0, Thresholds(warning_waiting=200)) is Health.HEALTHY


def test_terminal_states_move_only_by_an_operators_hand() -> None:
    for status in JobStatus:
        assert status.terminal == (ENGINE_TRANSITIONS[status] == frozenset())
    assert RETRYABLE < TERMINAL
    assert JobStatus.ACTIVE not in DELETABLE


def test_priorities_rank_high_first() -> None:
    assert sorted(Priority, key=lambda p: p.rank) == [Priority.HIGH, Priority.NORMAL, Priority.LOW]


@pytest.mark.parametrize("name", ["email-sending:high", "{id}", "x:paused", "a b\n", "queue:queue:x", "*", "{worker}"])
def test_a_queue_name_survives_its_key_whatever_it_is(name: str) -> None:
    keys = Keys()
    assert keys.queue_key(name) == f"queue:{name}"
    assert keys.queue_name(keys.queue_key(name)) == name


def test_bare_names_are_names() -> None:
    assert Keys().queue_name("email-sending:high") == "email-sending:high"


def test_elements_of_all_three_shapes_are_read() -> None:
    ours = decode_element(encode_element({"id": "a-1", "gen": 3, "queue": "q", "payload": {"n": 12345678901234567890}}))
    assert ours is not None
    assert (ours.id, ours.gen, ours.queue) == ("a-1", 3, "q")
    for raw in ('{"jobId": "a-1"}', "a-1", b"a-1\n", b' {"id":"a-1","gen":"7"}'):
        element = decode_element(raw)
        assert element is not None
        assert (element.id, element.gen) == ("a-1", None)
    number = decode_element('{"id": 17}')
    assert number is not None
    assert number.id == "17"


@pytest.mark.parametrize(
    "rest",
    ["[" * 3_000 + "]" * 3_000 + "}", '{"n":' * 3_000 + "1" + "}" * 3_001, "1" * 5_000 + "}", '"cut off'],
    ids=["deep lists", "deep objects", "a number of 5,000 digits", "cut off"],
)
@pytest.mark.parametrize(
    ("head", "gen"),
    [
        ('{"id" : "a-1", "gen" : 7, "queue" : "q", "payload" : ', 7),  # as PostgreSQL writes it
        ('{"id":"a-1","gen":7,"queue":"q","payload":', 7),
        ('{"id":"a-1","payload":', None),
        (' { "jobId": "a-1", "payload":', None),
    ],
)
def test_an_element_is_read_by_its_head_where_its_payload_is_beyond_a_decoder(
    head: str, gen: int | None, rest: str
) -> None:
    element = decode_element((head + rest).encode())
    assert element is not None
    assert (element.id, element.gen) == ("a-1", gen)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff\xfe",
        "{}",
        '{"id": null}',
        '{"id": true}',
        '{"id": ["x"]}',
        "[1]",
        '{"id": "a b"}',
        "{" * 100_000,
        '"quoted"',
        "x" * 300,
        '{"id": "' + "x" * 300 + '"}',
        '{"id": "a-1", "gen": 99999999999}',  # no row has such a generation
        '{"id": "a-1", "gen": 99999999999, "payload": ' + "[" * 5_000,
        '{"payload": ' + "[" * 5_000 + "]" * 5_000 + ', "id": "a-1"}',
        '{"id": "a b", "payload": ' + "[" * 5_000,
    ],
)
def test_poison_is_named_and_never_raises(raw: bytes | str) -> None:
    assert decode_element(raw) is None


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_element_whatever_raises(raw: bytes | str) -> None:
    decode_element(raw)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=5))
def test_elements_are_json_on_one_line(payload: dict[str, object]) -> None:
    text = encode_element({"id": "a", "payload": payload})
    assert json.loads(text)["payload"] == payload
    assert "\n" not in text
