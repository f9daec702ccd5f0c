"""The filter language: what parses to what, what is refused and how, and that printing and parsing agree."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from queuemon.contract import JobStatus
from queuemon.errors import FilterError
from queuemon.filters import JobFilter, path_text, pointer, quote, reference, suggest
from queuemon.filters.fields import FIELDS, MAX_LENGTH, MAX_TERMS, STATUSES
from queuemon.filters.tree import And, At, Constant, Not, Now, Number, Op, Or, Precision, Search, Span, Term, Text
from tests.support.filter_strategies import DOCS, filters, sentences

#: The machine that runs the tests may be busy: how long an example takes says nothing.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

EVERY_STATUS = frozenset(JobStatus)


def parse(text: str) -> JobFilter:
    return JobFilter.parse(text)


def refusal(text: str) -> FilterError:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert caught.value.position is not None
    return caught.value


# ------------------------------------------------------------------------------------------------------------ meaning


def term(field: str, op: str, *values: object, path: tuple[str | int, ...] = ()) -> Term:
    return Term(field, Op(op), tuple(Text(v) if isinstance(v, str) else v for v in values), path)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("queue:analytics:daily-aggregate", term("queue", "=", "analytics:daily-aggregate")),
        ("queue:email-sending:high", term("queue", "=", "email-sending:high")),
        ("queue:queue:email-sending", term("queue", "=", "email-sending")),
        ("queue:'queue:email-sending:low'", term("queue", "=", "email-sending:low")),
        ("queue = email-sending", term("queue", "=", "email-sending")),
        ("queue~'email%'", term("queue", "~", "email%")),
        ("Status:FAILED", term("status", "=", "failed")),
        ("error:'division by zero'", term("error", ":", "division by zero")),
        ("error_message:timeout", term("error", ":", "timeout")),
        ("error='exactly this'", term("error", "=", "exactly this")),
        ("worker:null", term("worker", "=", Constant("null"))),
        ("worker:'null'", term("worker", "=", "null")),
        ("queue:null", term("queue", "=", "null")),
        ("attempts>=03", term("attempts", ">=", Number("3"))),
        ("age<1h30m", term("age", "<", Span(5_400_000))),
        ("duration > 250ms", term("duration", ">", Span(250))),
        ("created>=now-2h", term("created", ">=", Now(-7_200_000))),
        ("run_at>now+1d", term("run_at", ">", Now(86_400_000))),
        ("started<=now", term("started", "<=", Now())),
        ("created:2026-11-24", term("created", "=", At(datetime(2026, 11, 24, tzinfo=UTC), Precision.DAY))),
        (
            "created>=2026-11-24T14:03+01:00",
            term("created", ">=", At(datetime(2026, 11, 24, 13, 3, tzinfo=UTC), Precision.MINUTE)),
        ),
        (
            "created<'2026-11-24 14:03:05.5Z'",
            term("created", "<", At(datetime(2026, 11, 24, 14, 3, 5, 500_000, tzinfo=UTC), Precision.EXACT)),
        ),
        ("payload.month=2026-10", term("payload", "=", "2026-10", path=("month",))),
        ("payload.campaign_id=17", term("payload", "=", Number("17"), path=("campaign_id",))),
        ("payload.campaign_id='17'", term("payload", "=", "17", path=("campaign_id",))),
        ("payload.Flag:true", term("payload", "=", Constant("true"), path=("Flag",))),
        ("payload.items.0.sku=x", term("payload", "=", "x", path=("items", 0, "sku"))),
        ('payload.items."0".007=x', term("payload", "=", "x", path=("items", "0", "007"))),
        ('payload."odd key".x=1', term("payload", "=", Number("1"), path=("odd key", "x"))),
        ("payload.tags has beta", term("payload", "has", "beta", path=("tags",))),
        ("payload has campaign_id", term("payload", "has", "campaign_id")),
        ("payload.tags length >= 3", term("length", ">=", Number("3"), path=("tags",))),
        ("payload length in (1, 2)", term("length", "in", Number("1"), Number("2"))),
        ("hour:2", term("hour", "=", Number("2"))),
        ("payload.user.email~'%@x.org'", term("payload", "~", "%@x.org", path=("user", "email"))),
        ("queue in (a, queue:b , 'c d')", term("queue", "in", "a", "b", "c d")),
        ("queue in (a, a)", term("queue", "=", "a")),
        ("queue not in (a, b)", Not(term("queue", "in", "a", "b"))),
        ("timeout", Search("timeout")),
        ("0199a7c2-6b1e", Search("0199a7c2-6b1e")),
        ("'status:failed'", Search("status:failed")),
        (r"'it\'s \u00e9 \\ 50\%'", Search("it's é \\ 50\\%")),
        ("not not gen>1", term("gen", ">", Number("1"))),
    ],
)
def test_a_condition_means(text: str, expected: object) -> None:
    assert parse(text).root == expected


def test_or_binds_weaker_than_side_by_side_and_not_stronger() -> None:
    a, b, c = (term("gen", "=", Number(n)) for n in "123")
    assert parse("gen=1 gen=2 or not gen=3").root == Or((And((a, b)), Not(c)))
    assert parse("gen=1 and (gen=2 OR gen=3)").root == And((a, Or((b, c))))
    assert parse("not (gen=1 gen=2)").root == Not(And((a, b)))
    assert parse("(gen=1 (gen=2 gen=3))").root == And((a, b, c))


def test_the_empty_filter_matches_every_job() -> None:
    assert parse("  \n") == JobFilter.all()
    assert str(JobFilter.all()) == ""
    assert JobFilter.all().matches_all
    assert not parse("gen=1").matches_all
    assert JobFilter.all() & parse("gen=1") == parse("gen=1")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("status=failed AND queue = 'queue:a:b'", "status:failed queue:a:b"),
        ("queue:'a b'", "queue:'a b'"),
        ("queue:queue:queue:x", "queue:queue:queue:x"),
        ("error = x or (age<90m wait>1w)", "error=x or age<1h30m wait>7d"),
        ("(gen=1 or gen=2) not (gen=3)", "(gen=1 or gen=2) not gen=3"),
        ("created>=2026-11-24T14:03+01:00", "created>=2026-11-24T13:03"),
        ('payload.\'a\'."b c".3:"x"', 'payload.a."b c".3=x'),
        ("payload.n='17'", "payload.n='17'"),
        ("payload.a.b LENGTH:3", "payload.a.b length=3"),
        ("'\u202egnp' error:'\x1b[31m'", r"'\u202egnp' error:'\u001b[31m'"),
    ],
)
def test_the_canonical_text_is(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical
    assert str(parse(canonical)) == canonical


# ------------------------------------------------------------------------------------------------------- for any input


@given(filters())
@patient
def test_printing_and_parsing_again_gives_the_same_filter(where: JobFilter) -> None:
    text = str(where)
    assert parse(text) == where
    assert text.isprintable()


@given(sentences())
@settings(patient, max_examples=200)
def test_every_sentence_of_the_documented_grammar_parses(sentence: str) -> None:
    where = parse(sentence)
    assert parse(str(where)) == where


SIGNS = ": = != < <= > >= ~ in has ( ) , ' \" \\ . not and or payload. payload.a now- 14:03 2h 2026-11-24 true null 17"
ODD = ["1e9999", "%", "\\u", "é", "\0", "\ud800", " ", "\n", "İ", "٣", "9" * 50]
PIECES = st.sampled_from([*FIELDS, *STATUSES, *SIGNS.split(), *ODD])


@given(st.text() | st.lists(PIECES, max_size=15).map("".join) | st.lists(PIECES, max_size=15).map(" ".join))
@settings(patient, max_examples=500)
@example("created<9999-12-31T23:59+00:00")
@example("created=1000-01-01T00:00+14:00")
@example("created<now-" + "9" * 15 + "w")
@example("payload.x=1e" + "9" * 4000)
@example("payload.x=" + "9" * 9000)
@example("attempts=" + "9" * 9000)
@example("age<" + "9w" * 4000)
@example("id~-")
@example("(" * 9_999)
@example("not " * 2_000)
def test_any_text_parses_or_is_refused_with_a_position(text: str) -> None:
    error = None
    try:
        where = parse(text)
    except FilterError as refused:
        error = refused
    if error is None:
        assert parse(str(where)) == where
    else:
        assert error.position is not None
        assert 0 <= error.position <= len(text)
        assert str(error).isprintable()
        assert len(str(error)) < 600


@given(filters(), filters())
@patient
def test_a_conjunction_prints_and_parses(one: JobFilter, other: JobFilter) -> None:
    assert parse(str(one & other)) == one & other
    assert one & one == one


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@patient
def test_a_quoted_text_is_read_as_it_was(text: str) -> None:
    assert parse(f"error={quote(text)}").root == term("error", "=", text)
    assert parse(path_text(("k", text, 3)) + "=1").root == term("payload", "=", Number("1"), path=("k", text, 3))
    assert JobFilter.of(queue=text).queues() == {text}
    assert parse(str(JobFilter.of(queue=text))).queues() == {text}


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("statsu:failed", 0, 'no field "statsu"|write status'),
        ("gen=1 erorr_type:x", 6, 'column 7 .*no field "erorr_type"|write error_type'),
        ("foo in (a)", 0, 'no field "foo"'),
        ("status:faild", 7, 'no status "faild".*waiting, scheduled, active|write status:failed'),
        ("status in (failed, complete)", 19, "write status:completed"),
        ("failed", 0, "status:failed"),
        ("status failed", 0, '"status" stands without a comparison'),
        ("length>3", 0, '"length" stands without a path.*payload.tags length>=3'),
        ("payload.tags length~3", 19, "length cannot be compared with ~"),
        ("payload.tags length>x", 20, 'length cannot be "x".*a whole number'),
        ("status>failed", 6, "status cannot be compared with >"),
        ("age=2h", 3, "age cannot be compared with =.*Expected: < <= > >="),
        ("created>2h", 8, "created>now-2h|age<2h"),
        ("created>yesterday", 8, "2026-11-24T14:03"),
        ("created>2026-02-30", 8, 'created cannot be "2026-02-30"'),
        ("created>now-2x", 12, '"2x" is no duration'),
        ("age<30", 4, "30s for seconds"),
        ("attempts=many", 9, "whole number"),
        ("attempts=9999999999", 9, "too large"),
        ("id:0199", 3, "id~0199"),
        ("id~xyz", 3, "no id begins with"),
        ("payload=3", 7, "payload.key=value"),
        ("payload.", 8, "a key is missing"),
        ("payload.a..b=1", 10, "a key is missing"),
        ("payload.x<null", 10, "null has no order"),
        ("payload." + ".".join("a" * 21) + "=1", 48, "at most 20 keys"),
        ("queue:", 6, "a value is missing after :"),
        ("queue: and gen=1", 7, 'a value is missing before "and"'),
        ("queue in a", 9, "a list is missing"),
        ("queue in ()", 10, "a value is missing in the list"),
        ("queue in (a b)", 12, '"b" follows a value'),
        ("queue in (a,", 12, "a value is missing in the list"),
        ("queue in (a", 9, "never closed"),
        ("queue:(a or b)", 6, r"queue in \(a, b\)"),
        ("status:failed,expired", 13, r"field in \(a, b\)"),
        ("error:can't", 9, "quotes"),
        ("error:'never", 6, "never closed"),
        ("error=='x'", 5, "== is no operator here.*Expected: ="),
        ("error!~x", 5, "not field~value"),
        ("gen=1 && gen=2", 6, "Expected: and"),
        ("a || b", 2, "Expected: or"),
        ("!gen=1", 0, "Expected: not"),
        ("-status:failed", 0, ""),
        ("(gen=1", 0, "never closed"),
        ("gen=1)", 5, "nothing opened"),
        ("()", 0, "empty"),
        ("gen=1 or", 8, "a condition is missing"),
        ("or gen=1", 0, '"or" stands where a condition belongs'),
        ("error has x", 6, "error cannot be compared with has"),
        ("''", 0, "empty"),
        ("x\0", 1, r"U\+0000"),
        ("error:'\\ud800'", 7, "no character"),
    ],
)
def test_a_mistake_is_answered_with_its_place_and_what_belongs_there(text: str, position: int, says: str) -> None:
    if text == "-status:failed":  # a word that begins with a sign is a search, with its colon
        assert parse(text).root == Search("-status:failed")
        return
    error = refusal(text)
    assert error.position == position
    for pattern in says.split("|"):
        assert re.search(pattern, str(error)), str(error)


def test_the_bounds_are_kept_and_named() -> None:
    assert "10,000" in str(refusal("x" * (MAX_LENGTH + 1)))
    assert parse("gen in (" + ",".join(map(str, range(MAX_TERMS))) + ")")
    assert "200" in str(refusal("gen in (" + ",".join(map(str, range(MAX_TERMS + 1))) + ")"))
    assert "200" in str(refusal(" or ".join(["gen=1"] * 201)))
    assert parse("(" * 50 + "gen=1" + ")" * 50)
    assert "50" in str(refusal("(" * 51 + "gen=1" + ")" * 51))
    assert refusal("not (" * 26 + "gen=1" + ")" * 26).position == 125


def test_filters_put_together_keep_the_bounds() -> None:
    many = parse("gen in (" + ",".join(map(str, range(150))) + ")")
    other = parse("attempts in (" + ",".join(map(str, range(150))) + ")")
    with pytest.raises(FilterError, match="at most 200"):
        many & other


def test_a_refusal_shows_nothing_unprintable() -> None:
    error = refusal("error:'\x1b]8;;http://x\x07' status:\x1b\u202e")
    assert str(error).isprintable()
    assert pointer("\x1b[31m statsu:x", 6).isascii() is False
    assert "\x1b" not in pointer("\x1b[31m statsu:x", 6)


def test_the_pointer_stands_under_the_mistake() -> None:
    text = "x" * 100 + " statsu:failed"
    line, caret = pointer(text, 101).splitlines()
    assert line[caret.index("^") :].startswith("statsu")
    assert pointer("gen=x", 4) == "gen=x\n    ^"


# --------------------------------------------------------------------------------------------------------- what it pins


@pytest.mark.parametrize(
    ("text", "queues"),
    [
        ("", None),
        ("status:failed", None),
        ("queue:a status:failed", {"a"}),
        ("queue in (a, b) queue in (b, c)", {"b"}),
        ("queue:a or queue:b", {"a", "b"}),
        ("queue:a or status:failed", None),
        ("not queue:a", None),
        ("queue!=a", None),
        ("queue~a", None),
    ],
)
def test_the_queues_it_is_limited_to(text: str, queues: set[str] | None) -> None:
    assert parse(text).queues() == queues


@pytest.mark.parametrize(
    ("text", "statuses"),
    [
        ("", EVERY_STATUS),
        ("status:failed", {JobStatus.FAILED}),
        ("status:scheduled", {JobStatus.WAITING}),
        ("status:stuck", {JobStatus.ACTIVE}),
        ("status!=completed", EVERY_STATUS - {JobStatus.COMPLETED}),
        ("not status in (completed, failed)", EVERY_STATUS - {JobStatus.COMPLETED, JobStatus.FAILED}),
        ("not status:waiting", EVERY_STATUS),
        ("status:failed status:expired", set()),
        ("status:failed or status:expired", {JobStatus.FAILED, JobStatus.EXPIRED}),
        ("status:failed or queue:a", EVERY_STATUS),
    ],
)
def test_the_stored_states_in_which_a_job_can_match(text: str, statuses: set[JobStatus]) -> None:
    assert parse(text).statuses() == statuses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (None, None)),
        ("queue:a", ("a", None)),
        ("status:failed", (None, JobStatus.FAILED)),
        ("status:failed queue:a", ("a", JobStatus.FAILED)),
        ("queue:a status in (waiting, scheduled)", ("a", JobStatus.WAITING)),
        ("queue:a status:active", ("a", JobStatus.ACTIVE)),
        ("queue:a status:waiting", None),
        ("status:stuck", None),
        ("queue:a queue:b", None),
        ("status:failed status:expired", None),
        ("queue:a gen=1", None),
        ("queue in (a, b)", None),
        ("queue:a or status:failed", None),
    ],
)
def test_a_filter_that_counters_can_answer_is_recognised(
    text: str, expected: tuple[str | None, JobStatus | None] | None
) -> None:
    assert parse(text).queue_and_status() == expected


def test_a_filter_is_made_of_a_queue_and_a_state() -> None:
    assert JobFilter.of(queue="a b", status=JobStatus.FAILED) == parse("queue:'a b' status:failed")
    assert JobFilter.of(status="stuck") == parse("status:stuck")
    assert JobFilter.of() == JobFilter.all()
    with pytest.raises(FilterError):
        JobFilter.of(status="faild")


# -------------------------------------------------------------------------------------------------------- suggestions


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("sta", ["status:", "started>="]),
        ("status:f", ["status:failed"]),
        ("gen=1 status:", [f"gen=1 status:{s}" for s in STATUSES]),
        ("fai", ["status:failed"]),
        ("queue:ema", ["queue:email-sending", "queue:email-sending:high"]),
        ("queue:queue:ema", ["queue:email-sending", "queue:email-sending:high"]),
        ("queue:od", ["queue:'odd queue'"]),
        ("queue:'odd", ["queue:'odd queue'"]),
        ("queue in (email-sending, war", ["queue in (email-sending, warmup:process"]),
        ("status in (", [f"status in ({s}" for s in STATUSES]),
        ("payload.ca", ["payload.campaign_id="]),
        ("age<", ["age<1m", "age<15m"]),
        ("created>=now-1", ["created>=now-15m", "created>=now-1h", "created>=now-1d"]),
        ("attempts", ["attempts:", "attempts=", "attempts!="]),
        ("gen=1 o", ["gen=1 or "]),
        ("(no", ["(not "]),
        ("error:'sta", []),
        ("worker:w", ["worker:w1"]),
    ],
)
def test_the_box_suggests(text: str, first: list[str]) -> None:
    queues = ["email-sending", "email-sending:high", "odd queue", "warmup:process"]
    made = suggest(text, queues=queues, values={"worker": ["w1"]}, payload_keys=["campaign_id"])
    assert made[: len(first)] == first
    assert bool(made) == bool(first)


def test_a_suggestion_completes_the_word_at_the_cursor_and_leaves_the_rest() -> None:
    assert suggest("status:fa queue:a", 9)[0] == "status:failed queue:a"


@given(st.text() | st.lists(PIECES, max_size=8).map("".join), st.integers(-3, 40))
@patient
def test_suggestions_never_fail(text: str, cursor: int) -> None:
    for made in suggest(text, cursor, queues=["a", "b c"]):
        assert made != text


def test_a_suggested_value_parses() -> None:
    for made in suggest("queue:", queues=["a", "it's", "b c", "\x1b", "x:y"]):
        assert parse(made).queues() is not None


# -------------------------------------------------------------------------------------------------------- documentation


def test_the_documented_table_of_fields_is_the_real_one() -> None:
    assert reference() in DOCS.read_text()


def test_every_documented_example_parses() -> None:
    block = re.search(r"```text\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert block is not None
    for text in [*block[1].strip().splitlines(), *(field.example for field in FIELDS.values())]:
        assert parse(str(parse(text))) == parse(text)


def test_importing_the_language_loads_no_database_and_no_parser_library() -> None:
    heavy = ("sqlalchemy", "psycopg", "lark", "pydantic")
    code = f"import sys, queuemon.filters; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parsing_the_largest_filter_is_quick() -> None:
    text = " or ".join(f"payload.k{n}~'{'a' * 20}%'" for n in range(MAX_TERMS))
    begun = datetime.now(UTC)
    parse(text)
    assert datetime.now(UTC) - begun < timedelta(seconds=1)
