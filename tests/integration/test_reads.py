"""What the screens read is what the rows say."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import text

from queuemon.config import Settings
from queuemon.contract import Health, JobStatus
from queuemon.errors import InvalidValue, LimitExceeded, StoreError, UnknownJob, UnknownQueue
from queuemon.model import Certainty, HalfError, PostgresHalf, RedisHalf
from queuemon.store import Store, rollups
from queuemon.workbench import Workbench

STATES = ("waiting", "active", "completed", "failed", "expired")


@pytest.fixture
def workbench(settings: Settings) -> Iterator[Workbench]:
    with Workbench(settings) as wb:
        run(
            wb,
            "INSERT INTO job_queues (name, priority, concurrency) VALUES ('mail', 'normal', 2), ('urgent', 'high', 1)",
        )
        yield wb


def run(wb: Workbench, statement: str, **parameters: object) -> None:
    with wb.store.postgres.begin() as connection:
        connection.execute(text(statement), parameters)


def insert(
    wb: Workbench, status: str, number: int = 1, *, queue: str = "mail", run_at: str = "now()", **columns: str
) -> None:
    extra = "".join(f", {name}" for name in columns)
    values = "".join(f", {value}" for value in columns.values())
    run(
        wb,
        f"INSERT INTO jobs (id, queue, status, run_at{extra})"
        f" SELECT gen_random_uuid(), :queue, :status, {run_at}{values} FROM generate_series(1, :number)",
        queue=queue,
        status=status,
        number=number,
    )


def test_a_snapshot_counts_every_state_and_keeps_scheduled_apart_from_waiting(workbench: Workbench) -> None:
    insert(workbench, "waiting", 7)
    insert(workbench, "waiting", 3, run_at="now() + interval '1 hour'")
    insert(workbench, "active", 2, heartbeat_at="now()")
    insert(workbench, "active", 1, heartbeat_at="now() - interval '5 minutes'")
    insert(workbench, "completed", 4, finished_at="now() - interval '10 minutes'")
    insert(workbench, "completed", 5, finished_at="now() - interval '3 hours'")
    insert(workbench, "failed", 11)
    insert(workbench, "expired", 6)

    snapshot = workbench.snapshot()
    assert isinstance(snapshot.postgres, PostgresHalf)
    assert isinstance(snapshot.redis, RedisHalf)
    assert [q.name for q in snapshot.queues] == ["urgent", "mail"], "most urgent first"
    q = snapshot.queue("mail")
    assert q is not None
    assert (q.waiting, q.scheduled, q.active, q.completed, q.failed, q.expired) == (7, 3, 3, 9, 11, 6)
    assert (q.completed_last_hour, q.stuck, q.certainty) == (4, 1, Certainty.EXACT)
    assert q.health is Health.CRITICAL, "more than ten stand failed"
    assert q.oldest_waiting_at is not None
    other = snapshot.queue("urgent")
    assert other is not None
    assert (other.waiting, other.health) == (0, Health.HEALTHY)


@pytest.mark.parametrize("fold", [False, True])
def test_numbers_are_the_same_before_and_after_the_deltas_are_folded(workbench: Workbench, fold: bool) -> None:
    insert(workbench, "waiting", 40)
    insert(workbench, "completed", 8, finished_at="now() - interval '59 minutes 59 seconds'")
    insert(workbench, "completed", 8, finished_at="now() - interval '61 minutes'")
    run(
        workbench,
        "INSERT INTO job_logs (job_id, queue, gen, status) SELECT gen_random_uuid(), 'mail', 1,"
        " CASE WHEN i % 4 = 0 THEN 'failed' ELSE 'completed' END FROM generate_series(1, 40) i",
    )
    run(
        workbench,
        "INSERT INTO job_logs (job_id, queue, gen, kind, status)"
        " VALUES (gen_random_uuid(), 'mail', 1, 'retry', 'waiting')",
    )
    if fold:
        with workbench.store.postgres.begin() as connection:
            assert rollups.fold_counts(connection, workbench.store.tables) > 0
            assert rollups.fold_attempts(connection, workbench.store.tables) == 40
        with workbench.store.postgres.begin() as connection:
            assert rollups.fold_counts(connection, workbench.store.tables) == 0, "folding twice adds nothing"
            assert rollups.fold_attempts(connection, workbench.store.tables) == 0
    q = workbench.snapshot().queue("mail")
    assert q is not None
    assert (q.waiting, q.completed, q.completed_last_hour) == (40, 16, 8)
    assert (q.attempts_finished, q.attempts_failed, q.failure_rate) == (40, 10, 0.25)
    trend = workbench.trends("mail", hours=2)
    assert sum(p.arrived for p in trend.points) == 56
    assert sum(p.failed for p in trend.points) == 10
    assert sum(p.completed for p in trend.points) == 16


def test_attempts_of_a_transaction_that_is_still_open_are_folded_once_it_commits(workbench: Workbench) -> None:
    late = "INSERT INTO job_logs (job_id, queue, gen, status) VALUES (gen_random_uuid(), 'mail', 1, 'failed')"
    with workbench.store.postgres.begin() as open_one:
        open_one.execute(text(late))
        run(workbench, late)
        with workbench.store.postgres.begin() as connection:
            assert rollups.fold_attempts(connection, workbench.store.tables) == 0, "the horizon is the open transaction"
        q = workbench.snapshot().queue("mail")
        assert q is not None
        assert q.attempts_finished == 1
    with workbench.store.postgres.begin() as connection:
        assert rollups.fold_attempts(connection, workbench.store.tables) == 2
    q = workbench.snapshot().queue("mail")
    assert q is not None
    assert q.attempts_finished == 2


STEP = st.tuples(
    st.sampled_from(["insert", "update", "delete", "move", "fold"]),
    st.sampled_from(STATES),
    st.sampled_from(STATES),
    st.integers(1, 4),
    st.booleans(),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=12))
def test_the_counters_mirror_the_rows_whatever_is_done_to_them(workbench: Workbench, steps: list[tuple]) -> None:
    run(workbench, "TRUNCATE jobs")
    for kind, a, b, number, bulk in steps:
        with workbench.store.postgres.begin() as connection:
            connection.execute(text("SELECT set_config('queuemon.bulk', :on, true)"), {"on": "on" if bulk else ""})
            match kind:
                case "insert":
                    connection.execute(
                        text(
                            "INSERT INTO jobs (id, queue, status, finished_at) SELECT gen_random_uuid(), 'mail', :a,"
                            " now() - make_interval(mins => i * 37) FROM generate_series(1, :n) i"
                        ),
                        {"a": a, "n": number},
                    )
                case "update":
                    connection.execute(
                        text(
                            "UPDATE jobs SET status = :b, finished_at = now() WHERE id IN"
                            " (SELECT id FROM jobs WHERE status = :a LIMIT :n)"
                        ),
                        {"a": a, "b": b, "n": number},
                    )
                case "move":
                    connection.execute(
                        text(
                            "UPDATE jobs SET queue = 'urgent', status = :b WHERE id IN (SELECT id FROM jobs LIMIT :n)"
                        ),
                        {"b": b, "n": number},
                    )
                case "delete":
                    connection.execute(
                        text("DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE status = :a LIMIT :n)"),
                        {"a": a, "n": number},
                    )
                case _:
                    rollups.fold_counts(connection, workbench.store.tables)
    snapshot = workbench.snapshot()
    with workbench.store.postgres.begin() as connection:
        truth = {
            (queue, status): (n, hour)
            for queue, status, n, hour in connection.execute(
                text(
                    "SELECT queue, status, count(*), count(*) FILTER (WHERE finished_at > now() - interval '1 hour')"
                    " FROM jobs GROUP BY 1, 2"
                )
            )
        }
    for q in snapshot.queues:
        found = (q.waiting + q.scheduled, q.active, q.completed, q.failed, q.expired)
        assert found == tuple(truth.get((q.name, s), (0, 0))[0] for s in STATES)
        assert q.completed_last_hour == truth.get((q.name, "completed"), (0, 0))[1]


def test_paging_forth_and_back_visits_every_job_once(workbench: Workbench) -> None:
    insert(workbench, "failed", 23)
    insert(workbench, "completed", 9)
    seen: list[UUID] = []
    pages = []
    page = workbench.jobs("status:failed", limit=5)
    assert page.before is None
    while True:
        pages.append([j.id for j in page.jobs])
        seen += pages[-1]
        if page.after is None:
            break
        page = workbench.jobs("status:failed", limit=5, after=page.after)
    assert len(seen) == len(set(seen)) == 23
    assert seen == sorted(seen, reverse=True)
    for expected in reversed(pages[:-1]):
        assert page.before is not None
        page = workbench.jobs("status:failed", limit=5, before=page.before)
        assert [j.id for j in page.jobs] == expected
    assert page.before is None


@pytest.mark.parametrize("sort", ["created", "finished", "run_at", "attempts"])
@pytest.mark.parametrize("descending", [True, False])
def test_every_sort_order_pages_through_all_jobs(workbench: Workbench, sort: str, descending: bool) -> None:
    insert(workbench, "failed", 13, finished_at="now() - make_interval(secs => 1)", attempts="2")
    found, after = [], None
    while True:
        page = workbench.jobs("", limit=4, after=after, sort=sort, descending=descending)
        found += [j.id for j in page.jobs]
        after = page.after
        if after is None:
            break
    assert len(found) == len(set(found)) == 13


def test_a_cursor_of_another_sort_order_or_of_nonsense_is_refused(workbench: Workbench) -> None:
    insert(workbench, "failed", 3)
    cursor = workbench.jobs("", limit=1).after
    assert cursor is not None
    with pytest.raises(InvalidValue, match="cursor does not belong"):
        workbench.jobs("", after=cursor, sort="finished")
    for nonsense in ("x", "", "' OR 1=1 --", "W10", "💥"):
        with pytest.raises(InvalidValue, match="cursor does not belong"):
            workbench.jobs("", after=nonsense)
    with pytest.raises(InvalidValue, match="limit is 0"):
        workbench.jobs("", limit=0)
    with pytest.raises(InvalidValue, match="cannot be sorted"):
        workbench.jobs("", sort="payload; DROP TABLE jobs")


def test_a_job_shows_its_attempts_its_events_and_the_bulk_actions_that_took_it(workbench: Workbench) -> None:
    job, action = uuid4(), uuid4()
    run(
        workbench,
        "INSERT INTO jobs (id, queue, payload, status) VALUES (:id, 'mail', '[1, {\"a\": null}]', 'failed')",
        id=job,
    )
    run(
        workbench,
        "INSERT INTO job_logs (job_id, queue, gen, attempt, status, error_type, stack_trace, finished_at) VALUES"
        " (:id, 'mail', 1, 1, 'failed', 'E', 'trace', now() - interval '2 hours'),"
        " (:id, 'mail', 1, 2, 'failed', 'E', 't', now())",
        id=job,
    )
    run(
        workbench,
        "INSERT INTO queuemon.actions (id, kind, target, cutoff, planned, actor)"
        " VALUES (:a, 'retry', '', now(), 1, 'me')",
        a=action,
    )
    run(
        workbench,
        "INSERT INTO queuemon.action_chunks (action_id, n, first_id, last_id, done_ids, at)"
        " VALUES (:a, 0, '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff',"
        " ARRAY[CAST(:id AS uuid)], now() - interval '1 hour')",
        a=action,
        id=job,
    )
    detail = workbench.job(str(job))
    assert detail.job.payload == [1, {"a": None}]
    assert [(a.kind, a.attempt) for a in detail.attempts] == [("attempt", 1), ("retry", None), ("attempt", 2)]
    assert detail.attempts[1].action_id == action
    assert detail.redis.where == "nowhere"


def test_a_job_is_found_in_its_list_by_position_and_by_marker(workbench: Workbench) -> None:
    job = uuid4()
    run(workbench, "INSERT INTO jobs (id, queue) VALUES (:id, 'mail')", id=job)
    with workbench.store.redis.call() as client:
        client.rpush("queue:mail", str(uuid4()), b"\xff\x00poison", f'{{"id":"{job}","gen":1}}')
        client.hset(f"job:{job}", mapping={"gen": "1"})
    place = workbench.job(job).redis
    assert (place.where, place.position, place.marker_gen) == ("list", 2, 1)


def test_a_database_that_redis_does_not_have_is_said_with_its_number(settings: Settings) -> None:
    url = urlsplit(settings.redis_url.get_secret_value())
    wrong = settings.model_copy(update={"redis_url": SecretStr(urlunsplit(url._replace(path="/4711")))})
    with Store(wrong) as store, pytest.raises(StoreError, match=r"has no database 4711.*Next: correct the number"):
        store.redis.half(())


@pytest.mark.parametrize("rest", ['"gen":1,"payload":{}}', '"gen":99999999999}', '"payload":['])
def test_a_job_whose_element_was_set_aside_says_so_and_where_to_look(workbench: Workbench, rest: str) -> None:
    job = uuid4()
    run(workbench, "INSERT INTO jobs (id, queue) VALUES (:id, 'mail')", id=job)
    with workbench.store.redis.call() as client:
        # Another element that only mentions it, and what was set aside.
        client.rpush("queuemon:quarantine:mail", f'{{"id":"{uuid4()}","payload":"{job}"}}')
        assert workbench.job(job).redis.where == "nowhere"
        client.rpush("queuemon:quarantine:mail", b"\xff", f'{{"id":"{job}",{rest}')
    place = workbench.job(job).redis
    assert (place.where, place.position) == ("quarantine", None)
    assert "queuemon quarantine list mail" in place.note


def test_a_payload_nested_thousands_deep_harms_neither_its_page_nor_its_details(workbench: Workbench) -> None:
    job = uuid4()
    deep = "[" * 5000 + "]" * 5000
    run(
        workbench, "INSERT INTO jobs (id, queue, payload) VALUES (:id, 'mail', CAST(:deep AS jsonb))", id=job, deep=deep
    )
    assert len(workbench.jobs("").jobs[0].preview) == 200
    payload = workbench.job(job).job.payload
    assert payload.startswith("nested too deeply")
    assert len(payload) < 300


def test_unknown_and_malformed_names_get_one_clear_sentence(workbench: Workbench) -> None:
    with pytest.raises(UnknownJob, match="there is no job"):
        workbench.job(uuid4())
    with pytest.raises(InvalidValue, match="is not an id"):
        workbench.job("'; DROP TABLE jobs; --")
    with pytest.raises(UnknownQueue, match="did you mean mail"):
        workbench.queue_name("queue:mial")
    assert workbench.queue_name("queue:mail") == "mail"
    with pytest.raises(LimitExceeded):
        workbench.frame("", limit=0)
    with pytest.raises(InvalidValue, match="no column 'nope'"):
        workbench.frame("", columns=["nope"])
    with pytest.raises(InvalidValue, match="no column is named"):
        workbench.frame("", columns=[])


def test_a_frame_has_typed_columns_and_payload_fields_as_text(workbench: Workbench) -> None:
    run(
        workbench,
        "INSERT INTO jobs (id, queue, status, payload, error_message) VALUES"
        " (gen_random_uuid(), 'mail', 'failed', '{\"a\": {\"b\": 17}}', E'two\\nlines, \"quoted\"'),"
        " (gen_random_uuid(), 'mail', 'waiting', '[]', NULL)",
    )
    frame = workbench.frame("", columns=["queue", "attempts", "created_at", "payload.a.b", "error_message"])
    assert len(frame) == 2
    assert str(frame["created_at"].dtype).startswith("datetime64[us, UTC")
    assert str(frame["attempts"].dtype) == "int64"
    assert set(frame["payload.a.b"].dropna()) == {"17"}
    assert set(frame["error_message"].dropna()) == {'two\nlines, "quoted"'}
    target = io.BytesIO()
    workbench.export_csv(target, "status:failed", columns=["queue"])
    assert target.getvalue() == b"queue\nmail\n"


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("@SUM(1)", "'@SUM(1)"),
        ("+cmd|x", "'+cmd|x"),
        ("-1+1", "'-1+1"),
        ("\t=1", "'\t=1"),
        ("-17.5", "-17.5"),
        ("1=1", "1=1"),
    ],
)
def test_a_csv_holds_no_formulas_and_a_frame_the_text_itself(workbench: Workbench, found: str, written: str) -> None:
    run(
        workbench,
        "INSERT INTO jobs (id, queue, status, payload, error_message)"
        " VALUES (gen_random_uuid(), 'mail', 'failed', jsonb_build_object('a', CAST(:found AS text)), :found)",
        found=found,
    )
    columns = ["error_message", "payload.a", "attempts"]
    target = io.BytesIO()
    workbench.export_csv(target, "", columns=columns)
    assert list(csv.reader(io.StringIO(target.getvalue().decode())))[1:] == [[written, written, "0"]]
    frame = workbench.frame("", columns=columns)
    assert list(frame["error_message"]) == list(frame["payload.a"]) == [found]


def test_counts_come_from_the_counters_or_are_capped_and_say_so(workbench: Workbench) -> None:
    insert(workbench, "failed", 12)
    insert(workbench, "waiting", 3)
    assert workbench.count("").value == 15
    assert workbench.count("queue:mail status:failed").value == 12
    assert workbench.count("status:failed attempts=0").value == 12
    assert workbench.status_counts("queue:mail")[JobStatus.FAILED] == 12


def test_each_half_of_a_snapshot_fails_alone_and_says_why(settings: Settings) -> None:
    wrong = SecretStr("redis://:s3cret-canary@127.0.0.1:1/0")
    with Workbench(settings.model_copy(update={"redis_url": wrong})) as wb:
        run(wb, "INSERT INTO job_queues (name) VALUES ('mail')")
        snapshot = wb.snapshot()
        assert snapshot.queue("mail") is not None
        assert isinstance(snapshot.redis, HalfError)
        assert "cannot be reached" in snapshot.redis.message
        assert "s3cret" not in snapshot.redis.message
    wrong = SecretStr("postgresql://u:s3cret-canary@127.0.0.1:1/x")
    with Workbench(settings.model_copy(update={"database_url": wrong})) as wb:
        snapshot = wb.snapshot()
        assert isinstance(snapshot.postgres, HalfError)
        assert "s3cret" not in snapshot.postgres.message
        assert isinstance(snapshot.redis, RedisHalf)
        assert snapshot.queues == ()


def test_a_reader_is_told_why_it_may_not_act(settings: Settings) -> None:
    with Workbench(settings) as wb:
        assert wb.read_only_reason is None
    with Workbench(settings.model_copy(update={"read_only": True})) as wb:
        assert wb.read_only
        assert "read-only" in str(wb.read_only_reason)


def test_times_are_aware_and_utc(workbench: Workbench) -> None:
    insert(workbench, "failed", 1)
    job = workbench.jobs("").jobs[0]
    assert job.created_at.utcoffset() == datetime.now(UTC).utcoffset()
