"""One signature per cause: what varies from job to job does not count, what tells causes apart does."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuemon.analysis.frames import TRACE_PART, read_trace, shortened
from queuemon.analysis.normalise import FORM_LIMIT, form_of
from queuemon.analysis.signatures import ID_LENGTH, Signature, sign, sign_all
from queuemon.demo import faults
from tests.support import corpus_a
from tests.support.grouping import Agreement, agreement


def signed(texts: Iterable[corpus_a.Labelled]) -> list[tuple[str, str]]:
    """(family, id) of each text."""
    return [(text.family, sign(text.error_type, text.message, text.stack_trace).id) for text in texts]


def shown(message: str, error_type: str = "Error") -> str:
    return sign(error_type, message, None).text


# ------------------------------------------------------------------------------------------------------------ corpus


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    texts = list(corpus_a.texts())
    assert len({text.family for text in texts}) == len(corpus_a.FAMILIES) >= 60
    assert min(sum(text.family == f.name for text in texts) for f in corpus_a.FAMILIES) >= 20


@pytest.mark.parametrize("seed", range(5))
def test_known_families_are_found(seed: int) -> None:
    found = agreement(signed(corpus_a.texts(seed)))
    assert found.precision >= 0.98
    assert found.recall >= 0.98


def test_every_fault_of_the_demo_is_one_signature() -> None:
    rng = random.Random(4)
    pairs = []
    for fault in faults.FAULTS:
        for n in range(25):
            payload = {
                "template": rng.choice(("newsletter-weekly", "spring-sale-v2", "password-reset")),
                "region": rng.choice(("eu-west", "us-east", "ap-south")),
                "account_id": n,
                "export": rng.choice(("contacts", "events-2026")),
                "recipient": {"email": f"user{n}@example.com", "user_id": n, "locale": rng.choice(("de-DE", "en-US"))},
                "month": f"2026-{1 + n % 12:02}",
                "plan": rng.choice(("starter", "growth")),
            }
            one = faults.occurrence(fault, payload, rng)
            pairs.append((fault.key, sign(one.error_type, one.message, one.trace).id))
    assert agreement(pairs) == Agreement(precision=1.0, recall=1.0)


def test_agreement_counts_pairs() -> None:
    assert agreement([("a", 1), ("a", 1), ("b", 2)]) == Agreement(precision=1.0, recall=1.0)
    assert agreement([("a", 1), ("a", 2)]) == Agreement(precision=1.0, recall=0.0)
    assert agreement([("a", 1), ("a", 1), ("b", 1)]) == Agreement(precision=1 / 3, recall=1.0)


# --------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("message", "form"),
    [
        ("job 0199f3c2-7d1e-7c55-9a41-2f6d1b0c9e77 failed", "job <id> failed"),
        ("took 1,204.5 ms, longer than 30 s", "took <number>, longer than <number>"),
        ("at 2026-11-24T14:03:07.123Z", "at <time>"),
        ("since 24 November 2026, 14:03 Uhr", "since <time>"),
        ("mail to jürgen+x@müller.example bounced", "mail to <email> bounced"),
        ("GET https://api.example.com/v1/users/12?x=y failed", "GET <url> failed"),
        ("connect ECONNREFUSED 10.0.0.7:5432", "connect ECONNREFUSED <host>"),
        ("connect ECONNREFUSED ::1:5432", "connect ECONNREFUSED <host>"),
        ("no route to 2001:db8::ff00:42:8329", "no route to <host>"),
        ("cannot open /srv/data/export.csv", "cannot open <path>"),
        ("cannot open C:\\data\\export.csv", "cannot open <path>"),
        ('invalid input syntax for type uuid: "n/a"', "invalid input syntax for type uuid: <text>"),
        ("ids [1, 2, 3] are unknown", "ids <number> are unknown"),
        ("<shop.Order object at 0x7f3a> is closed", "Order object is closed"),
        ("HTTP 503 after 12 s", "HTTP 503 after <number>"),
        ("550 5.1.1 <a@b.example>: User unknown", "550 5.1.1 <email>: User unknown"),
        ("exit code 137", "exit code 137"),
        ("SQLSTATE[40P01]: deadlock detected", "SQLSTATE[40P01]: deadlock detected"),
        ("ORA-00060: deadlock", "ORA-00060: deadlock"),
        ("[Errno 28] No space left on device", "[Errno 28] No space left on device"),
        ("returned 404 rows", "returned <number> rows"),
        ('column "discount" does not exist', "column 'discount' does not exist"),
        ("Der Kunde „Müller“ ist gesperrt", "Der Kunde <text> ist gesperrt"),
        ("テーブル「orders」が存在しません", "テーブル'orders'が存在しません"),
        ("処理１２３件が失敗", "処理<number>件が失敗"),
    ],
)  # fmt: skip
def test_parameters_are_replaced_and_meanings_kept(message: str, form: str) -> None:
    assert shown(message) == form


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("HTTP 502 Bad Gateway", "HTTP 504 Gateway Timeout"),
        ("Request failed with status code 401", "Request failed with status code 403"),
        ("550 5.7.1 rejected", "450 4.7.1 rejected"),
        ("[Errno 13] cannot write", "[Errno 28] cannot write"),
        ('column "a_b" does not exist', 'column "c_d" does not exist'),
        ("'Order' object has no attribute 'total'", "'Order' object has no attribute 'lines'"),
        ("exit code 137", "exit code 1"),
    ],
)
def test_other_meanings_are_other_signatures(one: str, other: str) -> None:
    assert sign("Error", one, None).id != sign("Error", other, None).id


def test_a_missing_key_is_named_and_a_missing_date_is_not() -> None:
    assert shown("'customer_id'", "KeyError") == "'customer_id'"
    assert shown("'2026-10'", "KeyError") == shown("'2026-11'", "KeyError") == "<text>"
    assert shown("'EUR'", "KeyError") == shown("'USD'", "KeyError")


def test_one_thing_or_several_is_the_same() -> None:
    assert sign("E", "1 row is invalid", None).id == sign("E", "27 rows is invalid", None).id


# -------------------------------------------------------------------------------------------------------------- frames

PYTHON = """Traceback (most recent call last):
  File "/srv/releases/20261101/app/worker.py", line 12, in run
    handler(job)
  File "/usr/lib/python3.11/json/__init__.py", line 346, in loads
    return decode(s)
  File "/srv/releases/20261101/app/billing.py", line {line}, in charge
    raise ValueError("x")
ValueError: x
"""


def test_a_line_number_a_release_and_a_library_do_not_count() -> None:
    one = sign("ValueError", "x", PYTHON.format(line=10))
    moved = PYTHON.format(line=99).replace("/srv/releases/20261101", "/app").replace("line 346", "line 999")
    assert one == sign("ValueError", "x", moved)
    assert one.frames == ("worker.py:run", "billing.py:charge")


def test_another_function_is_another_cause() -> None:
    one, other = PYTHON.format(line=1), PYTHON.format(line=1).replace("in charge", "in refund")
    assert sign("ValueError", "x", one).id != sign("ValueError", "x", other).id


def test_a_node_trace_is_read() -> None:
    trace = """TypeError: x
    at Object.main (eval at make (/a/node_modules/h.js:2:3), <anonymous>:1:2)
    at render (/srv/dist/render/index.js:63:20)
    at new Mailer (file:///srv/dist/mailer.mjs:1:2)
    at process.processTicksAndRejections (node:internal/process/task_queues:90:21)
    at async run (/srv/dist/run.js:1:2) {
  code: 'X'
}"""
    assert read_trace(trace).frames == ("run.js:run", "mailer.mjs:Mailer", "render/index.js:render")


def test_a_java_trace_and_its_root_cause_are_read() -> None:
    trace = """com.acme.JobFailed: charge failed
\tat com.acme.Billing.charge(Billing.java:10)
\tat java.base/java.lang.Thread.run(Thread.java:833)
Caused by: java.net.SocketTimeoutException: Read timed out
\tat com.acme.Http.get(Http.java:3)
\t... 2 more"""
    found = read_trace(trace)
    assert found.frames == ("Billing:charge",)
    assert (found.cause_type, found.cause_message) == ("java.net.SocketTimeoutException", "Read timed out")


def test_a_recursion_is_the_same_wherever_it_is_cut() -> None:
    frame = '  File "/app/tree.py", line 1, in {}\n    x\n'
    head, cycle = "Traceback (most recent call last):\n", [frame.format("walk"), frame.format("visit")]
    deep, shifted = head + "".join(cycle * 40), head + cycle[1] + "".join(cycle * 55)
    assert sign("RecursionError", "m", deep).id == sign("RecursionError", "m", shifted).id


def test_no_trace_has_no_frames() -> None:
    assert sign("E", "m", None).frames == sign("E", "m", "  \n").frames == sign("E", "m", "no trace here").frames == ()


def test_a_worker_that_puts_all_into_the_message_is_understood() -> None:
    one = sign(None, PYTHON.format(line=3), None)
    assert (one.error_type, one.text, one.frames) == ("ValueError", "x", ("worker.py:run", "billing.py:charge"))
    assert one.id == sign("ValueError", "x", PYTHON.format(line=3)).id
    assert sign(None, "ValueError: x", None).id == sign("ValueError", "x", None).id


# ----------------------------------------------------------------------------------------------------------- stability


def test_the_ids_are_the_same_in_another_process() -> None:
    script = (
        "from tests.support import corpus_a; from queuemon.analysis.signatures import sign\n"
        "print(*[sign(t.error_type, t.message, t.stack_trace).id for t in corpus_a.texts(7, 2)])"
    )
    root = Path(__file__).resolve().parents[2]
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root,
        env={"PYTHONHASHSEED": "99", "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert answer.stdout.split() == [found for _, found in signed(corpus_a.texts(7, 2))]


def test_an_id_is_short_and_safe_in_a_filter() -> None:
    found = sign("E", "anything", None).id
    assert len(found) == ID_LENGTH
    assert set(found) <= set("0123456789abcdef")


def test_what_repeats_is_looked_at_once_and_comes_out_in_order() -> None:
    attempts = [("E", "a", None), ("E", "b", None), ("E", "a", None)]
    found = list(sign_all(attempts))
    assert found[0] is found[2]
    assert [one.text for one in found] == ["a", "b", "a"]


@settings(max_examples=300)
@given(st.none() | st.text(), st.none() | st.text(), st.none() | st.text())
def test_any_text_has_a_signature(error_type: str | None, message: str | None, trace: str | None) -> None:
    found = sign(error_type, message, trace)
    assert isinstance(found, Signature)
    assert len(found.text) <= FORM_LIMIT * 8
    assert found == sign(error_type, message, trace)


HOSTILE = [
    "a", "1", "'", '"', "{", "{'a':", "(", "a.", "a-", "/a", "a/", "@", "a@", "=", "a=", "<", "<a ", "«", "x y ", "\\",
    "\n", "1.", "at ", "::", "user ", "Command '[", "٣", "\ue000", "\uf8ff", "http://", "a'", "Caused by: ", '  File "',
    "    at a (", "Aa+/", "\u0301",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_megabyte_of_anything_is_read_within_the_bound(piece: str) -> None:
    # A pattern that backtracks without bound would run into the test's timeout.
    text = piece * (1_000_000 // len(piece))
    for tail in ("", "!", "'", "\n"):
        sign("E" * 1_000_000, text + tail, text + tail)
        form_of((text + tail)[:3_000])


def test_a_text_cut_in_sql_is_not_cut_again() -> None:
    long = "a" * TRACE_PART + "b" * 10 + "c" * TRACE_PART
    once = shortened(long, TRACE_PART)
    assert len(once) == 2 * TRACE_PART + 1
    assert shortened(once, TRACE_PART) == once
