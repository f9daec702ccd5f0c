"""What of a payload is hidden, judged by names and values; whole payloads, and JSON text that is cut anywhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuemon.masking import MASK, REVEALED, Masking, Sight, looks_secret
from queuemon.store.export import masked_rows

ADDRESS, CARD, JWT = "ada.lovelace@example.com", "4111 1111 1111 1111", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE"
HARMLESS = (
    "logo@2x.png", "@mention", "12345678-1234-1234-1234-123456789012", "1764161234567890123", "5500 0000 0000 0005",
    "2026-11-26T12:00:00Z", "v1.2.3", "https://example.com/a@b", "0199f3c2-7d1e-7c55-9a41-2f6d1b0c9e77", "eyJ", "a.b.c",
)  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        ADDRESS, f"write to {ADDRESS}, please", CARD, "4111111111111111", 4111111111111111, "3782-822463-10005", JWT,
        "login failed: password=hunter22", '{"user": "x", "password": "hunter22"}', "?api_key=abc123", "token='abc'",
        f"Bearer {JWT}", KEY, "GB82 WEST 1234 5698 7654 32", "GB82WEST12345698765432", "redis://u:pw@host/0",
        "AKIAIOSFODNN7EXAMPLE", "postgresql://app:hunter2@db.internal/app",
    ],
)  # fmt: skip
def test_values_that_look_secret_or_personal_are_found(value: Any) -> None:
    assert looks_secret(value)


@pytest.mark.parametrize("value", [*HARMLESS, True, None, 4111111111111112, 1.5, 10**18])
def test_values_that_merely_resemble_them_are_not(value: Any) -> None:
    assert not looks_secret(value)


@pytest.mark.parametrize(
    "key", ["email", "e-mail", "contactEmail", "e_mail_address", "phone", "phoneNumber", "mobile", "ssn", "iban",
            "card", "credit_card", "cardNumber", "dateOfBirth", "passport_no", "Authorization", "refresh_token"],
)  # fmt: skip
def test_keys_that_look_secret_or_personal_are_masked(key: str) -> None:
    assert Masking().masked({key: "x", "n": {key: [1, {"deep": True}]}}) == {
        key: MASK, "n": {key: [MASK, {"deep": MASK}]},
    }  # fmt: skip


@pytest.mark.parametrize(
    "key", ["email_template", "email_id", "mailbox", "cardinality", "telephony", "campaign", "span"]
)
def test_keys_of_everyday_are_not(key: str) -> None:
    assert Masking().masked({key: "x"}) == {key: "x"}


def test_settings_add_keys_and_take_some_out() -> None:
    chosen = Masking(hide=("customer*", "Vehicle-Plate"), show=("recipient.email", "email", "token_count"))
    payload = {"customerName": "x", "vehicle_plate": "y", "email": ADDRESS, "tokenCount": 3, "api_token": 1}
    assert chosen.masked(payload) == {
        "customerName": MASK, "vehicle_plate": MASK, "email": ADDRESS, "tokenCount": 3, "api_token": MASK,
    }  # fmt: skip


def test_a_key_that_is_itself_personal_is_masked_and_none_is_lost() -> None:
    assert Masking().masked({ADDRESS: 1, "bob@example.com": 2, "n": 3}) == {MASK: 1, f"{MASK}(2)": 2, "n": 3}


def test_paths_name_keys_and_never_a_value() -> None:
    payload = {
        "to": {"email": ADDRESS},
        "items": [{"card": CARD}, {"card": CARD}, {"note": f"from {ADDRESS}"}],
        ADDRESS: 1,
    }
    assert set(Masking().paths(payload)) == {"to.email", "items.card", "items.note", MASK}
    assert Masking().paths(ADDRESS) == ("the whole payload",)
    assert REVEALED.paths(payload) == ()


def test_revealed_hides_nothing() -> None:
    payload = {"email": ADDRESS, "token": "t"}
    assert REVEALED.masked(payload) == payload
    assert REVEALED.text(json.dumps(payload)) == json.dumps(payload)


SECRETS = (ADDRESS, CARD, JWT, "4111111111111111", "hunter2")
VALUES = st.sampled_from([*SECRETS, *HARMLESS, 1, 1.5, True, None, 'a "quoted" word', "a\\b", "\u202e", "line\nbreak"])
PAYLOADS = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["note", "to", "n", "list", 'quo"te', ADDRESS]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(payload=PAYLOADS, share=st.floats(0, 1))
def test_a_preview_shows_what_the_masked_payload_does_and_cut_anywhere_no_more(payload: Any, share: float) -> None:
    """A password without a look of its own stands under a key that has one."""
    whole = json.dumps({"password": "hunter2", "p": _without(payload)}, ensure_ascii=False)
    shown = Masking().text(whole)
    assert json.loads(shown) == Masking().masked(json.loads(whole)) or ADDRESS in whole  # equal keys become one mask
    for text in (shown, Masking().text(whole[: round(len(whole) * share)])):
        assert not [s for s in (*SECRETS, "lovelace@", "4111 1111 11", "41111111", JWT[:20]) if s in text]


def _without(payload: Any) -> Any:
    """The payload, its passwords out: nothing tells them by their looks."""
    return json.loads(json.dumps(payload).replace("hunter2", "x"))


def test_masking_the_text_keeps_every_other_character() -> None:
    text = '{"a": 1.50, "n": 123456789012345678901234567890, "x": [true, null], "t": "\\u0041\\"", "email": "q"}'
    assert Masking().text(text) == text.replace('"q"', f'"{MASK}"')


def test_cells_of_an_export_are_masked_and_the_others_stay_to_the_byte() -> None:
    lines = [
        b"id,payload,payload.to,payload.email,error\n",
        b'1,"{""email"": ""a"", ""n"": 1.50}",' + ADDRESS.encode() + b',x,"a ""quoted"",\n',
        b'line"\n',
        b'2,,"{""card"": 1, ""n"": [2]}",,""\n',
        b'3,5,"{no json ' + ADDRESS.encode() + b'",y,\xff\n',
    ]
    hidden = {1: None, 2: Sight.LOOK, 3: Sight.HIDE}
    assert b"".join(masked_rows(lines[:4], hidden, Masking())).decode() == (
        "id,payload,payload.to,payload.email,error\n"
        f'1,"{{""email"": ""{MASK}"", ""n"": 1.50}}","{MASK}","{MASK}","a ""quoted"",\nline"\n'
        f'2,,"{{""card"": ""{MASK}"", ""n"": [2]}}",,""\n'
    )
    assert (
        list(masked_rows([lines[0], lines[4]], hidden, Masking()))[1] == f'3,5,"{MASK}","{MASK}",'.encode() + b"\xff\n"
    )


@pytest.mark.parametrize("value", ["@" * 200_000, "eyJ-" * 50_000, "1 " * 100_000, "AA11 " * 40_000, "x@" * 100_000])
def test_no_text_makes_the_look_slow(value: str) -> None:
    looks_secret(value)  # quadratic patterns would take minutes and meet the timeout of the suite
