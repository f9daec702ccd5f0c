"""What PostgreSQL answers to a filter is what the language means (the oracle), for every operator and any payload."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine, select, update
from sqlalchemy.dialects.postgresql import asyncpg as dollars  # its placeholders are PREPARE's: $1, $2, …
from sqlalchemy.pool import NullPool

from queuemon.filters import JobFilter, path_text, quote
from queuemon.filters.fields import MAX_TERMS
from queuemon.schema.tables import TABLES, Mapped, build
from queuemon.store.filtering import conditions
from tests.support.filter_oracle import jsonb_text, matches
from tests.support.filter_strategies import filters

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 24, 14, 3, 5, 250_000, tzinfo=UTC)

#: Texts that mean something to SQL, LIKE, jsonpath, JSON or a shell, and ordinary ones.
TEXTS = [
    *(
        "a",
        "b",
        "email-sending",
        "email-sending:high",
        "queue:x",
        "w1",
        "w_1",
        "wx1",
        "17",
        "17.0",
        "0",
        "true",
        "null",
    ),
    *(
        "50%",
        "50 %",
        "a%b",
        "a_b",
        "a\\b",
        "\\",
        "%",
        "_",
        "\\%",
        "it's",
        'say "x"',
        "''; DROP TABLE jobs; --",
        "/* x */",
    ),
    *(
        "$.a ? (@ > 1)",
        "$$",
        "{}",
        "[]",
        "{a,b}",
        ":x",
        "%(x)s",
        "%s",
        "?",
        "line\nbreak",
        "tab\t",
        " ",
        "日本",
        "🙂",
        "\u202e",
    ),
    *(
        "Division by ZERO",
        "division by zero in MRR",
        "TimeoutError",
        "2026-10",
        "2026-11",
        "user@x.org",
        "(((a+)+)+)+$",
    ),
    *("12345678901234567", "12345678901234568", "1e5", "-3", "0.5", "007", "beta"),
]

#: Payloads of every shape; keys and values come back in the filters below.
PAYLOADS: list[Any] = [
    {},
    [],
    None,
    True,
    17,
    "17",
    ["beta", 17, None, True, {"a": 1}],
    {"campaign_id": 17},
    {"campaign_id": "17"},
    {"campaign_id": Decimal("17.0")},
    {"campaign_id": Decimal("17.5")},
    {"campaign_id": 12345678901234567},
    {"campaign_id": 12345678901234568},
    {"campaign_id": "12345678901234567"},
    {"campaign_id": None},
    {"campaign_id": True},
    {"campaign_id": "true"},
    {"campaign_id": "null"},
    {"campaign_id": [17]},
    {"campaign_id": {"campaign_id": 17}},
    {"campaign_id": Decimal("1E+40")},
    {"campaign_id": "1e5"},
    {"campaign_id": "-3"},
    {"campaign_id": "007"},
    {"month": "2026-10", "tags": ["beta", "vip"]},
    {"month": "2026-11", "tags": []},
    {"month": 202610, "tags": {"beta": 1}},
    {"tags": "beta"},
    {"tags": [17, "17", None, True, ["beta"]]},
    {"tags": [["beta"]]},
    {"user": {"email": "user@x.org", "age": 40}},
    {"user": {"email": "USER@X.ORG", "age": "40"}},
    {"user": [{"email": "user@x.org"}]},
    {"user": "user@x.org"},
    {"items": [{"sku": "a"}, {"sku": 17}]},
    {"items": {"0": {"sku": "a"}, "1": 17}},
    {"items": []},
    {"0": "a", "-1": "b", "007": 17},
    ["a", "b"],
    {"": 1, " ": {"": "a"}},
    {"odd key": {"x.y": 1}, "it's": "50%", '"': "\\", "$.a": "日本", "a_b": "🙂", "%": "%s"},
    {"a": {"b": {"c": {"d": [1, 2, {"e": "deep"}]}}}},
    {"empty": "", "space": " ", "line": "line\nbreak", "bell": "\x07", "lang": "\u202e"},
    {"a%b": "a%b", "a\\b": "a\\b"},
]

KEYS = [
    *(
        "campaign_id",
        "month",
        "tags",
        "user",
        "email",
        "age",
        "items",
        "sku",
        "0",
        "-1",
        "007",
        "",
        " ",
        "odd key",
        "x.y",
    ),
    *(
        "it's",
        '"',
        "$.a",
        "a_b",
        "%",
        "a",
        "b",
        "c",
        "d",
        "e",
        "empty",
        "line",
        "bell",
        "lang",
        "a%b",
        "a\\b",
        "nowhere",
    ),
]

PATHS = [
    *(
        ("campaign_id",),
        ("month",),
        ("tags",),
        ("tags", 0),
        ("tags", 4, 0),
        ("user", "email"),
        ("user", "age"),
        ("user", 0),
    ),
    *(
        ("items", 0, "sku"),
        ("items", 1),
        ("items", "0", "sku"),
        ("items", 1, "sku"),
        (0,),
        (1,),
        ("0",),
        ("-1",),
        ("007",),
    ),
    *(("",), (" ", ""), ("odd key", "x.y"), ("it's",), ('"',), ("$.a",), ("a", "b", "c", "d", 2, "e"), ("a", "b")),
    *(("bell",), ("lang",), ("line",), ("empty",), ("a%b",), ("a\\b",), ("nowhere", "at", "all")),
]


def dataset() -> list[dict[str, Any]]:
    """One job per payload, with the other columns going round at different lengths, missing values included."""
    statuses = ["waiting", "waiting", "active", "active", "completed", "failed", "failed", "expired"]
    offsets = [
        timedelta(0),
        timedelta(seconds=1),
        timedelta(hours=2),
        timedelta(days=1),
        timedelta(days=-1),
        timedelta(minutes=3),
    ]
    offsets += [timedelta(hours=14, minutes=3, seconds=5, microseconds=250_000), timedelta(microseconds=1)]
    jobs = []
    for n, payload in enumerate(PAYLOADS * 2):
        created = NOW - offsets[n % len(offsets)]
        started = None if n % 5 == 0 else created + offsets[(n // 2) % len(offsets)]
        jobs.append(
            {
                "id": UUID(int=(0x0199A700 + n % 7) << 96 | 0x7000 << 64 | 0x8000 << 48 | n),
                "queue": TEXTS[n % 5],
                "payload": payload,
                "status": statuses[n % len(statuses)],
                "attempts": n % 4,
                "max_attempts": 3,
                "gen": 1 + n % 3,
                "created_at": created,
                "updated_at": NOW - timedelta(seconds=25 + n % 10),
                "run_at": NOW + offsets[(n // 3) % len(offsets)],
                "expires_at": NOW + offsets[(n // 4) % len(offsets)],
                "started_at": started,
                "finished_at": None if n % 3 == 0 or started is None else started + offsets[(n // 5) % len(offsets)],
                "heartbeat_at": None if n % 2 else NOW - timedelta(seconds=29 + n % 3),
                "worker_id": None if n % 4 == 0 else TEXTS[n % len(TEXTS)],
                "error_type": None if n % 3 == 0 else TEXTS[(n * 3) % len(TEXTS)],
                "error_message": None
                if n % 6 == 0
                else f"x {TEXTS[(n * 7) % len(TEXTS)]}"
                if n % 2
                else TEXTS[n % len(TEXTS)],
                "signatures": {"ab12cd34"} if n % 5 == 1 else {"ab12cd34", "it's"} if n % 5 == 2 else set(),
            }
        )
    return jobs


JOBS = dataset()


def insert(connection: psycopg.Connection[Any], jobs: list[dict[str, Any]]) -> None:
    """The jobs, and for each signature a failed attempt."""
    columns = [c for c in jobs[0] if c != "signatures"]
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    for job in jobs:
        row = [jsonb_text(job[c]) if c == "payload" else job[c] for c in columns]
        connection.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})".encode(), row)
        for signature in sorted(job["signatures"]):
            connection.execute(
                "INSERT INTO job_logs (job_id, queue, gen, status, signature) VALUES (%s, %s, 1, 'failed', %s)",
                (job["id"], job["queue"], signature),
            )


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    made = create_engine(database.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool)
    yield made
    made.dispose()


@pytest.fixture
def connection(database: str, engine: Engine) -> Iterator[Connection]:
    """A connection to a database that holds JOBS."""
    with psycopg.connect(database) as plain:
        insert(plain, JOBS)
    with engine.connect() as made:
        yield made


def found(connection: Connection, text: str, *, now: datetime | None = NOW) -> set[int]:
    """Numbers of the jobs that match."""
    where = conditions(JobFilter.parse(text), TABLES, now=now)
    return {int(i) & 0xFFFF for i in connection.execute(select(TABLES.jobs.c.id).where(where)).scalars()}


def expected(where: JobFilter, jobs: list[dict[str, Any]] = JOBS) -> set[int]:
    return {n for n, job in enumerate(jobs) if matches(where, job, NOW)}


def payloads(numbers: set[int]) -> list[Any]:
    """The payloads of these jobs, each once."""
    return [p for n, p in enumerate(PAYLOADS) if n in numbers]


# ------------------------------------------------------------------------------------------------------ with the oracle


def test_postgresql_answers_what_the_language_means(connection: Connection) -> None:
    texts = st.sampled_from(TEXTS)
    ids = st.sampled_from([str(job["id"]) for job in JOBS[:20]])
    paths = st.sampled_from(PATHS) | st.lists(st.sampled_from(KEYS) | st.integers(0, 4), min_size=1, max_size=3).map(
        tuple
    )
    matched = 0

    @settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
    @given(filters(texts=texts, ids=ids, paths=paths, around=NOW))
    def agrees(where: JobFilter) -> None:
        nonlocal matched
        answer = found(connection, str(where))
        assert answer == expected(where)
        matched += 0 < len(answer) < len(JOBS)

    agrees()
    assert matched > 100, "most examples match everything or nothing: they prove little"


def test_postgresql_agrees_on_every_path_and_operator(connection: Connection) -> None:
    values = ["17", "'17'", "true", "null", "beta", "'%x.org'", "2026-10", "40", "12345678901234567", "a", "1e40", "-3"]
    for path in PATHS:
        for op in ("=", "!=", "<", ">=", "~", " has "):
            for value in values:
                if op in "<>=~" and op in {"<", ">="} and value in {"true", "null"}:
                    continue
                where = JobFilter.parse(f"{path_text(path)}{op}{value}")
                assert found(connection, str(where)) == expected(where), str(where)


def test_relative_times_without_a_given_now_follow_the_database(connection: Connection) -> None:
    connection.execute(
        update(TABLES.jobs).values(created_at=datetime.now(UTC) - timedelta(hours=1), run_at=datetime.now(UTC))
    )
    for text in (
        "age<2h",
        "age>59m",
        "created>now-61m",
        "created<=now",
        "run_at<now+1m",
        "expires<now or expires>=now",
    ):
        assert len(found(connection, text, now=None)) == len(JOBS), text
    for text in ("age>2h", "created<now-2h", "run_at>now+1m"):
        assert found(connection, text, now=None) == set(), text
    # An hour ago was today or yesterday; both ends of today's clock say so.
    both = found(connection, "created>=00:00", now=None) | found(connection, "created<00:00", now=None)
    assert len(both) == len(JOBS)


# -------------------------------------------------------------------------------------------------- said without oracle


def test_a_number_finds_numbers_and_the_string_and_a_quoted_one_the_string_alone(connection: Connection) -> None:
    assert payloads(found(connection, "payload.campaign_id=17")) == [
        {"campaign_id": 17},
        {"campaign_id": "17"},
        {"campaign_id": Decimal("17.0")},
    ]
    assert payloads(found(connection, "payload.campaign_id='17'")) == [{"campaign_id": "17"}]
    assert payloads(found(connection, "payload.campaign_id=12345678901234567")) == [
        {"campaign_id": 12345678901234567},
        {"campaign_id": "12345678901234567"},
    ]


def test_order_compares_numbers_and_never_fails_on_anything_else(connection: Connection) -> None:
    numbers = payloads(found(connection, "payload.campaign_id>=17 payload.campaign_id<18"))
    assert numbers == [
        {"campaign_id": 17},
        {"campaign_id": "17"},
        {"campaign_id": Decimal("17.0")},
        {"campaign_id": Decimal("17.5")},
    ]
    assert payloads(found(connection, "payload.month>=2026-10 payload.month<2026-11")) == [PAYLOADS[24]]


def test_strings_are_ordered_by_code_point_whatever_the_collation_of_the_database() -> None:
    condition = conditions(JobFilter.parse("payload.month<2026-10"), TABLES)
    assert 'COLLATE "C"' in str(condition.compile(dialect=dollars.dialect()))  # type: ignore[no-untyped-call]


def test_a_spelled_time_covers_its_day_or_minute(connection: Connection) -> None:
    at = ["13:59:59.999999", "14:00:00", "14:00:59.999999", "14:01:00"]
    for n, clock in enumerate(at):
        connection.execute(
            update(TABLES.jobs).where(TABLES.jobs.c.id == JOBS[n]["id"]).values(created_at=f"2020-01-02T{clock}Z")
        )
    older = "created<2021-01-01"
    for fixed in ("2020-01-02T14:00", "2020-01-02T15:00+01:00"):
        assert found(connection, f"created={fixed}") == {1, 2}
        assert found(connection, f"created<{fixed} {older}") == {0}
        assert found(connection, f"created<={fixed} {older}") == {0, 1, 2}
        assert found(connection, f"created>{fixed} {older}") == {3}
        assert found(connection, f"created>={fixed} {older}") == {1, 2, 3}
        assert found(connection, f"created!={fixed} {older}") == {0, 3}
    assert found(connection, "created:2020-01-02") == found(connection, "created<=2020-01-02") == {0, 1, 2, 3}
    assert found(connection, "created>2020-01-02 created<2021-01-01") == set()
    that_day = datetime(2020, 1, 2, 20, tzinfo=UTC)
    assert found(connection, "created=14:00", now=that_day) == {1, 2}
    assert found(connection, "created>now-6h created<now", now=that_day) == {2, 3}


def test_has_finds_members_of_lists_and_keys_of_objects_but_no_part_of_a_string(connection: Connection) -> None:
    tags = payloads(found(connection, "payload.tags has beta"))
    assert tags == [{"month": "2026-10", "tags": ["beta", "vip"]}, {"month": 202610, "tags": {"beta": 1}}]
    assert {"tags": [17, "17", None, True, ["beta"]]} in payloads(found(connection, "payload.tags has null"))
    assert {} not in payloads(found(connection, "payload has month"))
    assert ["beta", 17, None, True, {"a": 1}] in payloads(found(connection, "payload has beta"))


def test_an_index_walks_lists_and_a_quoted_one_keys_alone(connection: Connection) -> None:
    assert payloads(found(connection, "payload.items.0.sku=a")) == [PAYLOADS[34], PAYLOADS[35]]
    assert payloads(found(connection, 'payload.items."0".sku=a')) == [PAYLOADS[35]]
    assert payloads(found(connection, "payload.0=a")) == [PAYLOADS[37], ["a", "b"]]
    assert payloads(found(connection, "payload.-1=b")) == [PAYLOADS[37]]


def test_percent_is_a_wildcard_only_in_patterns_and_underscore_nowhere(connection: Connection) -> None:
    workers = lambda text: {JOBS[n]["worker_id"] for n in found(connection, text)}  # noqa: E731
    assert workers("worker~w_1") == {"w_1"}
    assert workers("worker~'w%1'") == {"w1", "w_1", "wx1"}
    assert workers(r"worker~'50\%'") == {"50%"}
    assert workers("worker~'\\\\\\\\'") >= {"\\", "a\\b"}
    assert workers("worker='%'") == {"%"}
    assert all("%" in JOBS[n]["error_message"] for n in found(connection, "error:'%'"))


def test_what_is_missing_does_not_match_and_its_negation_does(connection: Connection) -> None:
    without = {n for n, job in enumerate(JOBS) if job["worker_id"] is None}
    assert without
    assert not without & found(connection, "worker:w1")
    assert without <= found(connection, "worker!=w1")
    assert without <= found(connection, "not worker:w1")
    assert found(connection, "worker:null") == without
    assert found(connection, "worker in (null, w1)") == without | found(connection, "worker:w1")
    assert found(connection, "started<now or started>=now or started:null") == set(range(len(JOBS)))


def test_waiting_and_scheduled_part_the_waiting_and_stuck_is_part_of_active(connection: Connection) -> None:
    def stored(status: str) -> set[int]:
        return {n for n, job in enumerate(JOBS) if job["status"] == status}

    due, scheduled = found(connection, "status:waiting"), found(connection, "status:scheduled")
    assert due
    assert scheduled
    assert due | scheduled == found(connection, "status in (waiting, scheduled)") == stored("waiting")
    assert not due & scheduled
    stuck = found(connection, "status:stuck")
    assert stuck < found(connection, "status:active") == stored("active")
    assert found(connection, "status!=failed") == set(range(len(JOBS))) - stored("failed")


def test_a_word_finds_error_messages_and_ids_and_a_whole_id_that_job_alone(connection: Connection) -> None:
    one = JOBS[3]
    assert found(connection, str(one["id"])) == {3}
    assert found(connection, f"id:{one['id']}") == {3}
    assert found(connection, str(one["id"])[:8]) == found(connection, f"id~{str(one['id'])[:8]}") >= {3}
    assert found(connection, "0199a7") == set(range(len(JOBS)))
    assert {JOBS[n]["error_message"].lower() for n in found(connection, "'by ZERO'")} >= {"x division by zero in mrr"}


# ------------------------------------------------------------------------------------------------------------- hostile


@pytest.mark.parametrize(
    "hostile",
    [
        "'; DROP TABLE jobs; --",
        "' OR '1'='1",
        "\\' OR 1=1 --",
        "x') UNION SELECT pg_sleep(10) --",
        "%(param_1)s",
        "%s %d %%",
        ":param",
        "$1",
        '$.* ? (@ like_regex "(a+)+$")',
        '{"a": 1}',
        "{a,b}",
        "\\x00",
        "\\",
        "%",
        "_" * 200,
        "%" * 2_000,
        "(a+)+" * 100,
        "\u202e\x1b]8;;x\x07",
        "🙂" * 500,
    ],
)
def test_hostile_text_is_only_text(connection: Connection, hostile: str) -> None:
    quoted = quote(hostile)
    for field in (
        "queue",
        "worker",
        "error_type",
        "error",
        "payload.a",
        path_text((hostile,)),
        path_text((hostile, 0)),
    ):
        assert found(connection, f"{field}={quoted}") == expected(JobFilter.parse(f"{field}={quoted}"))
        assert found(connection, f"{field}~{quoted}") == expected(JobFilter.parse(f"{field}~{quoted}"))
        found(connection, f"{field} in ({quoted}, x)")
    for text in (
        f"signature:{quoted}",
        f"payload has {quoted}",
        f"payload.a has {quoted}",
        f"payload.a<{quoted}",
        quoted,
    ):
        assert found(connection, text) == expected(JobFilter.parse(text))


def test_the_largest_filters_are_answered(connection: Connection) -> None:
    widest = " or ".join(f"payload.k{n}~'%a%b%'" for n in range(MAX_TERMS))
    assert found(connection, widest) == set()
    deepest = "not (gen=1 " * 24 + "gen=1" + ")" * 24
    assert found(connection, deepest) == expected(JobFilter.parse(deepest))
    longest = path_text(tuple("k" * 400 for _ in range(20))) + "=1"
    assert found(connection, longest) == set()
    largest = "payload.campaign_id<" + "9" * 999
    assert found(connection, largest) == expected(JobFilter.parse(largest))


def test_a_deeply_nested_payload_and_a_long_string_do_no_harm(connection: Connection) -> None:
    deep = '{"a":' * 1_000 + "1" + "}" * 1_000
    long = json.dumps({"a": "x" * 1_000_000})
    for n, payload in enumerate((deep, long)):
        connection.exec_driver_sql(
            "INSERT INTO jobs (id, queue, payload) VALUES (%s, 'q', %s)", (UUID(int=0xFF00 + n), payload)
        )
    for text in ("payload.a.a.a has a", "payload~xxx", "payload.a~'%x%x%x%y'", "payload.a>5", "payload.a=1"):
        found(connection, f"queue:q {text}")
    assert found(connection, "queue:q payload.a.a.a has a") == {0xFF00}


# --------------------------------------------------------------------------------------------------------------- plans


def plan(connection: Connection, text: str, *, ordered: bool = True) -> str:
    """The generic plan of the prepared statement: the one that knows no parameter."""
    statement = select(TABLES.jobs.c.id).where(conditions(JobFilter.parse(text), TABLES, now=NOW))
    statement = statement.order_by(TABLES.jobs.c.id).limit(50) if ordered else statement
    compiled = statement.compile(dialect=dollars.dialect(), compile_kwargs={"render_postcompile": True})  # type: ignore[no-untyped-call]
    for setting in ("enable_seqscan = off", "plan_cache_mode = force_generic_plan"):
        connection.exec_driver_sql(f"SET {setting}")
    connection.exec_driver_sql(f"PREPARE filtered AS {str(compiled).replace('%', '%%')}")
    arguments = ", ".join(["NULL"] * len(compiled.positiontup or ()))
    rows = connection.exec_driver_sql(f"EXPLAIN EXECUTE filtered{f'({arguments})' if arguments else ''}")
    made = "\n".join(rows.scalars())
    connection.exec_driver_sql("DEALLOCATE filtered")
    assert re.search(r"\$\d", made) or arguments == "NULL", "this is no generic plan"
    return made


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("status:failed queue:a", "jobs_failed"),
        ("status:failed", "jobs_failed"),
        ("status:active queue:a", "jobs_active"),
        ("status:waiting queue:a", "jobs_waiting"),
        ("status:scheduled queue:a", "jobs_waiting"),
        ("status in (waiting, scheduled) queue:a", "jobs_waiting"),
        ("status:expired queue:a", "jobs_expired"),
        ("status:completed queue:a finished>now-1h", "jobs_completed"),
        ("id~0199a7", "jobs_pkey"),
        ("queue:a not status:completed", "BitmapOr"),
    ],
)
def test_the_partial_indexes_serve_prepared_statements_too(connection: Connection, text: str, index: str) -> None:
    assert index in plan(connection, text)


def test_equality_in_the_payload_is_served_by_a_gin_index(connection: Connection) -> None:
    connection.exec_driver_sql("CREATE INDEX payload_paths ON jobs USING gin (payload jsonb_path_ops)")
    for text in ("payload.campaign_id=17", "payload.user.email=user@x.org", "payload.campaign_id in (17, 18)"):
        assert "payload_paths" in plan(connection, text, ordered=False), text


def test_a_signature_is_looked_up_by_its_index(connection: Connection) -> None:
    assert "job_logs_" in plan(connection, "signature:ab12cd34")


# ----------------------------------------------------------------------------------------------------- other statements


def test_the_condition_serves_an_update_and_other_names_of_tables(database: str, connection: Connection) -> None:
    where = JobFilter.parse("status:failed signature:ab12cd34")
    changed = connection.execute(update(TABLES.jobs).where(conditions(where, TABLES, now=NOW)).values(gen=99))
    assert changed.rowcount == len(expected(where)) > 0

    connection.exec_driver_sql("CREATE TABLE tasks AS SELECT id, queue AS queue_name, status AS state FROM jobs")
    connection.exec_driver_sql("UPDATE tasks SET state = 'errored' WHERE state = 'failed'")
    renamed = build(_mapping())
    condition = conditions(JobFilter.parse("status:failed queue:a"), renamed, now=NOW)
    answer = connection.execute(select(renamed.jobs.c.id).where(condition)).scalars().all()
    assert {int(i) & 0xFFFF for i in answer} == expected(JobFilter.parse("status:failed queue:a"))


def _mapping() -> Mapped:
    from queuemon.contract import JobStatus

    columns: Mapping[str, str] = {"jobs.queue": "queue_name", "jobs.status": "state"}
    return Mapped(tables={"jobs": "tasks"}, columns=columns, statuses={JobStatus.FAILED: ("errored", "dead")})
