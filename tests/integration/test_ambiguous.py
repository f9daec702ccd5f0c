"""Requests and answers lost on the way to PostgreSQL and Redis, each in turn: nothing is doubled, nothing is lost."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from queuemon.actions import bulk
from queuemon.config import Settings
from queuemon.contract import decode_element, encode_element
from queuemon.engine.publisher import publish
from queuemon.errors import StoreError, StoreUnavailable
from queuemon.model import ActionResult, JobOutcome, Plan
from queuemon.store import Store, outbox
from queuemon.workbench import Workbench
from tests.support.actions import Desk
from tests.support.engine import Rig
from tests.support.proxy import Fault, Proxy
from tests.support.wait import wait_until

pytestmark = pytest.mark.integration

JOBS = 25
LOST = (Fault.ANSWER, Fault.REQUEST)


@pytest.fixture
def postgres(settings: Settings) -> Iterator[Proxy]:
    """What stands between the client and PostgreSQL."""
    with Proxy.to(settings.database_url.get_secret_value()) as proxy:
        yield proxy


@pytest.fixture
def fast(settings: Settings) -> Iterator[Proxy]:
    """What stands between the client and Redis."""
    with Proxy.to(settings.redis_url.get_secret_value()) as proxy:
        yield proxy


@pytest.fixture
def far(settings: Settings, postgres: Proxy, fast: Proxy) -> Settings:
    """Settings of a client behind both proxies; chunks are ten jobs."""
    return settings.model_copy(
        update={
            "database_url": SecretStr(postgres.url), "redis_url": SecretStr(fast.url), "chunk_rows": 10,
            "statement_timeout_seconds": 0.5, "redis_timeout_seconds": 0.5,
        }
    )  # fmt: skip


@pytest.fixture
def wb(far: Settings, desk: Desk) -> Iterator[Workbench]:
    """An operator behind both proxies; `desk` looks at the same stores directly."""
    with Workbench(far) as made:
        assert not made.read_only  # what it asks once it has asked
        yield made


def clear(desk: Desk) -> None:
    """No jobs, no actions, no pauses."""
    desk.sql(
        "TRUNCATE jobs, queuemon.actions, queuemon.action_events, queuemon.action_chunks, queuemon.publications,"
        " queuemon.queue_pauses, queuemon.undo_jobs CASCADE"
    )
    desk.sql("UPDATE job_queues SET paused = false, priority = 'normal', concurrency = 1")
    desk.store.redis.client.flushdb()


def gens(desk: Desk) -> Counter[tuple[str, str, int]]:
    """How many jobs there are per queue, state and generation."""
    rows = desk.sql("SELECT queue, status, gen, count(*) AS n FROM jobs GROUP BY 1, 2, 3")
    return Counter({(r["queue"], r["status"], r["gen"]): r["n"] for r in rows})


def published(desk: Desk, queue: str = "mail") -> None:
    """Each job of a queue is in its list once, in its generation, and nothing is left to publish."""
    assert desk.number("queuemon.publications") == 0
    rows = desk.sql("SELECT id, gen FROM jobs WHERE queue = :q AND status = 'waiting'", q=queue)
    assert sorted(desk.listed(queue)) == sorted((str(r["id"]), r["gen"]) for r in rows)


def _retry(desk: Desk, wb: Workbench) -> Plan:
    desk.add("failed", JOBS)
    return wb.plan("retry", "queue:mail status:failed")


def _retried(desk: Desk) -> None:
    assert gens(desk) == {("mail", "waiting", 5): JOBS}
    published(desk)


def _delete(desk: Desk, wb: Workbench) -> Plan:
    return wb.plan("delete", desk.add("failed", JOBS))


def _deleted(desk: Desk) -> None:
    assert desk.number("jobs") == 0
    assert desk.number("queuemon.undo_jobs") == JOBS


def _move(desk: Desk, wb: Workbench) -> Plan:
    desk.add("waiting", JOBS)
    return wb.plan("move", "queue:mail", to="reports")


def _moved(desk: Desk) -> None:
    assert gens(desk) == {("reports", "waiting", 5): JOBS}
    published(desk, "reports")


def _run_now(desk: Desk, wb: Workbench) -> Plan:
    desk.add("scheduled", JOBS)
    return wb.plan("run-now", "queue:mail")


def _undo(desk: Desk, wb: Workbench) -> Plan:
    with Workbench(desk.settings) as near:
        done = near.apply(near.plan("delete", desk.add("failed", JOBS)))
    return wb.plan("undo", done.id)


def _undone(desk: Desk) -> None:
    assert gens(desk) == {("mail", "failed", 5): JOBS}


def _pause(desk: Desk, wb: Workbench) -> Plan:
    return wb.plan("pause", "mail")


def _paused(desk: Desk) -> None:
    assert desk.number("queuemon.queue_pauses") == 1
    assert desk.flag()["paused"] == "1"


def _resume(desk: Desk, wb: Workbench) -> Plan:
    desk.add("waiting", JOBS)
    with Workbench(desk.settings) as near:
        near.pause("mail", reason="test")
    desk.sql("UPDATE job_queues SET paused_at = now() - interval '1 hour' WHERE name = 'mail'")
    return wb.plan("resume", "mail")


def _resumed(desk: Desk) -> None:
    assert desk.number("queuemon.queue_pauses") == 0
    assert desk.flag()["paused"] == "0"
    # From an hour to two, not to three: each deadline was moved once.
    moved = "expires_at BETWEEN now() + interval '110 minutes' AND now() + interval '121 minutes'"
    assert desk.number(f"jobs WHERE {moved}") == JOBS


def _scale(desk: Desk, wb: Workbench) -> Plan:
    return wb.plan("scale", "mail", concurrency=7)


def _scaled(desk: Desk) -> None:
    assert desk.number("job_queues WHERE name = 'mail' AND concurrency = 7") == 1


def _prioritise(desk: Desk, wb: Workbench) -> Plan:
    return wb.plan("prioritise", "mail", priority="high")


def _prioritised(desk: Desk) -> None:
    assert desk.number("job_queues WHERE name = 'mail' AND priority = 'high'") == 1


def _pause_hard(desk: Desk, wb: Workbench) -> Plan:
    publish_all(desk, desk.add("waiting", JOBS))
    return wb.plan("pause", "mail", hard=True)


def _parked(desk: Desk) -> None:
    _paused(desk)
    assert desk.flag()["hard"] == "1"
    parked = desk.store.redis.client.lrange("queuemon:parked:mail", 0, -1)
    assert (len(parked), desk.listed("mail")) == (JOBS, [])


def _resume_hard(desk: Desk, wb: Workbench) -> Plan:
    publish_all(desk, desk.add("waiting", JOBS))
    with Workbench(desk.settings) as near:
        near.pause("mail", reason="test", hard=True)
    desk.sql("UPDATE job_queues SET paused_at = now() - interval '1 hour' WHERE name = 'mail'")
    return wb.plan("resume", "mail")


def _given_back(desk: Desk) -> None:
    _resumed(desk)
    published(desk)


def publish_all(desk: Desk, ids: list[UUID]) -> None:
    """Promise and publish jobs, as their producer does."""
    with desk.store.postgres.begin() as connection:
        outbox.add(connection, desk.store.tables, ids)
    publish(desk.store)


def _edit(desk: Desk, wb: Workbench) -> Plan:
    return wb.plan("edit", desk.add("failed")[0], payload='{"n": 12345678901234568}')


def _edited(desk: Desk) -> None:
    assert gens(desk) == {("mail", "waiting", 5): 1}
    assert desk.sql("SELECT payload::text AS p FROM jobs")[0]["p"] == '{"n": 12345678901234568}'
    published(desk)


def _erase(desk: Desk, wb: Workbench) -> Plan:
    return wb.plan("erase", desk.add("failed", JOBS))


def _erased(desk: Desk) -> None:
    assert (desk.number("jobs"), desk.number("queuemon.undo_jobs")) == (0, 0)


def _adopt(desk: Desk, wb: Workbench) -> Plan:
    for n in range(3):
        raw = encode_element({"id": str(uuid4()), "gen": 4, "queue": "mail", "payload": {"n": n}})
        desk.store.redis.client.rpush("queuemon:quarantine:mail", raw)
    return wb.plan("adopt", "mail")


def _adopted(desk: Desk) -> None:
    assert gens(desk) == {("mail", "waiting", 5): 3}
    # A commit that was heard of late leaves an element whose job exists, which the list says.
    assert desk.store.redis.client.llen("queuemon:quarantine:mail") <= 1
    published(desk)


def _repair(desk: Desk, wb: Workbench) -> Plan:
    publish_all(desk, desk.add("waiting", JOBS))
    desk.add("waiting", 8)  # lost
    return wb.plan("repair", "mail", wait_seconds=0.0)


def _repaired(desk: Desk) -> None:
    assert gens(desk) == {("mail", "waiting", 4): JOBS, ("mail", "waiting", 5): 8}
    published(desk)


def _sift(desk: Desk, wb: Workbench) -> Plan:
    publish_all(desk, desk.add("waiting", JOBS))
    for job_id in desk.add("completed", 5):
        raw = encode_element({"id": str(job_id), "gen": 4, "queue": "mail", "payload": {}})
        desk.store.redis.client.rpush("queue:mail", raw)
    with Workbench(desk.settings) as near:
        near.pause("mail", reason="test", hard=True)
        return wb.plan("repair", near.drift("mail", level="L0", wait_seconds=0.0))


def _sifted(desk: Desk) -> None:
    client = desk.store.redis.client
    assert client.llen("queuemon:parked:mail") + client.llen("queuemon:sifted:mail") == JOBS
    assert client.llen("queuemon:quarantine:mail") == 0
    rows = desk.sql("SELECT detail FROM queuemon.action_events WHERE event = 'repaired'")
    assert sum(len(row["detail"]["repairs"]) for row in rows) == 5


Before = Callable[[Desk, Workbench], Plan]
After = Callable[[Desk], None]
KINDS: dict[str, tuple[Before, After]] = {
    "retry": (_retry, _retried),
    "delete": (_delete, _deleted),
    "move": (_move, _moved),
    "run-now": (_run_now, _retried),
    "undo": (_undo, _undone),
    "pause": (_pause, _paused),
    "resume": (_resume, _resumed),
    "scale": (_scale, _scaled),
    "prioritise": (_prioritise, _prioritised),
    "hard pause": (_pause_hard, _parked),
    "end of a hard pause": (_resume_hard, _given_back),
    "edit": (_edit, _edited),
    "erase": (_erase, _erased),
    "adopt": (_adopt, _adopted),
    "repair": (_repair, _repaired),
    "repair of a parked list": (_sift, _sifted),
}

#: How many are done, where it is not every job.
NUMBERS = {
    "pause": 1, "resume": 1, "scale": 1, "prioritise": 1, "hard pause": 1, "end of a hard pause": 1, "edit": 1,
    "adopt": 3, "repair": 8, "repair of a parked list": 5,
}  # fmt: skip
#: Those that tell their caller what became of each job.
TELLING = {"retry", "delete", "move", "run-now", "undo", "erase", "edit"}


def settled(desk: Desk, wb: Workbench, plan: Plan, result: ActionResult, number: int) -> None:
    """The action was done by itself and once, and applying its plan again returns the first result."""
    assert (result.state, result.done, result.repeated, result.published) == ("done", number, False, True)
    again = wb.apply(plan)
    assert (again.state, again.done, again.repeated) == ("done", number, True)
    assert again.summary == result.summary
    assert desk.number("queuemon.actions WHERE id = :id", id=plan.id) == 1
    assert desk.number("queuemon.action_events WHERE action_id = :id AND event = 'finished'", id=plan.id) == 1
    chunks = desk.sql("SELECT unnest(done_ids) AS id FROM queuemon.action_chunks WHERE action_id = :id", id=plan.id)
    assert len(chunks) == len({c["id"] for c in chunks})


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize("kind", KINDS)
def test_an_action_that_loses_any_one_of_its_commits_settles_by_itself(
    desk: Desk, wb: Workbench, postgres: Proxy, kind: str, fault: Fault
) -> None:
    before, after = KINDS[kind]
    number = NUMBERS.get(kind, JOBS)
    for n in itertools.count():
        clear(desk)
        plan = before(desk, wb)
        postgres.lose(b"COMMIT", after=n, fault=fault)
        told: list[JobOutcome] = []
        result = wb.apply(plan, outcomes=told.extend)
        lost = postgres.struck.is_set()
        postgres.count(b"COMMIT")
        settled(desk, wb, plan, result, number)
        after(desk)
        assert len(told) == len({o.job_id for o in told}) == (number if kind in TELLING else 0)
        if not lost:
            break  # it has no more commits than those that were lost one by one
    assert n > 1


@pytest.mark.parametrize(
    "kind",
    [
        "retry",
        "move",
        "pause",
        "hard pause",
        "end of a hard pause",
        "edit",
        "adopt",
        "repair",
        "repair of a parked list",
    ],
)
def test_an_action_that_loses_an_answer_of_redis_publishes_each_job_once(
    desk: Desk, wb: Workbench, fast: Proxy, kind: str
) -> None:
    before, after = KINDS[kind]
    number = NUMBERS.get(kind, JOBS)
    plan = before(desk, wb)
    fast.count(b"EVALSHA")
    wb.apply(plan)
    calls = fast.seen
    assert calls > 0
    for fault in LOST:
        for n in range(calls):
            clear(desk)
            plan = before(desk, wb)
            fast.lose(b"EVALSHA", after=n, fault=fault)
            result = wb.apply(plan)
            assert fast.struck.is_set()
            settled(desk, wb, plan, result, number)
            after(desk)


def test_a_commit_that_is_never_answered_is_settled_when_time_is_up(desk: Desk, wb: Workbench, postgres: Proxy) -> None:
    plan = _retry(desk, wb)
    # The commits: of the entry, of the look for ids, of the first chunk.
    postgres.lose(b"COMMIT", after=2, fault=Fault.SILENCE)
    result = wb.apply(plan)
    assert postgres.struck.is_set()
    settled(desk, wb, plan, result, JOBS)
    _retried(desk)


def test_a_publication_that_is_never_answered_is_left_to_the_relay_and_repeats_nothing(
    desk: Desk, wb: Workbench, fast: Proxy
) -> None:
    plan = _retry(desk, wb)
    fast.lose(b"EVALSHA", fault=Fault.SILENCE)
    result = wb.apply(plan)
    assert fast.struck.is_set()
    assert (result.state, result.done, result.published) == ("done", JOBS, False)
    publish(desk.store)
    _retried(desk)


def test_what_a_run_before_the_loss_left_to_the_relay_is_not_called_published(
    desk: Desk, wb: Workbench, postgres: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis fails for the first chunks, then the connection to PostgreSQL is lost, then both are well."""
    monkeypatch.setattr(bulk, "AHEAD", 0)
    wb.settings = wb.store.settings = wb.settings.model_copy(update={"chunk_rows": 3})
    plan = _retry(desk, wb)
    real = bulk.publish

    def fails(*_args: Any, **_options: Any) -> Any:
        monkeypatch.setattr(bulk, "publish", real)
        raise StoreUnavailable("Redis is away", store="redis")

    def lose(progress: Any) -> None:
        if progress.done == 18:
            postgres.lose(b"COMMIT")

    monkeypatch.setattr(bulk, "publish", fails)
    result = wb.apply(plan, progress=lose)
    assert postgres.struck.is_set()
    assert desk.number("queuemon.publications") > 0
    assert (result.state, result.done, result.published) == ("done", JOBS, False)
    assert "Redis" in result.summary
    publish(desk.store)
    _retried(desk)


def test_where_postgresql_stays_away_the_error_comes_and_the_same_plan_goes_on_later(
    desk: Desk, wb: Workbench, postgres: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queuemon.store.settling.PAUSES", (0.0, 0.0, 0.0))
    plan = _retry(desk, wb)
    seen: list[int] = []

    def cut(progress: Any) -> None:
        seen.append(progress.done)
        postgres.close()

    with pytest.raises(StoreError):
        wb.apply(plan, progress=cut)
    assert seen == [10]
    with Workbench(desk.settings) as near:
        result = near.apply(plan)
    assert (result.state, result.done, result.repeated) == ("done", JOBS, False)
    publish(desk.store)
    _retried(desk)


def test_a_canary_that_loses_any_one_of_its_commits_retries_each_job_once(
    desk: Desk, wb: Workbench, postgres: Proxy
) -> None:
    def run(after: int) -> ActionResult:
        clear(desk)
        plan = wb.plan("canary", desk.add("failed", 3), steps=(1, 2), timeout=20.0)
        postgres.lose(b"COMMIT", after=after)

        def complete(_: object) -> None:
            desk.sql("UPDATE jobs SET status = 'completed', finished_at = now() WHERE status = 'waiting'")

        return wb.apply(plan, progress=complete)

    assert run(after=1_000_000).done == 3
    for n in range(0, postgres.seen, 3):
        result = run(after=n)
        assert (result.state, result.done, result.repeated) == ("done", 3, False)
        assert gens(desk) == {("mail", "completed", 5): 3}


# ----------------------------------------------------------------------------------------------------------- engine


@pytest.fixture
def engine(rig: Rig, postgres: Proxy, fast: Proxy) -> Iterator[Rig]:
    """The engine behind both proxies, on the stores at which `rig` looks directly."""
    through = {"database_url": SecretStr(postgres.url), "redis_url": SecretStr(fast.url)}
    timeouts = {"statement_timeout_seconds": 0.5, "redis_timeout_seconds": 0.5}
    behind = object.__new__(Rig)
    behind.settings = rig.settings.model_copy(update={**through, **timeouts})
    behind.store = Store(behind.settings)
    behind.producer = type(rig.producer)(behind.store)
    yield behind
    behind.store.close()


@pytest.mark.parametrize("fault", Fault)
def test_a_producer_whose_insert_loses_its_answer_has_made_one_job(
    rig: Rig, engine: Rig, postgres: Proxy, fault: Fault
) -> None:
    postgres.lose(b"INSERT INTO jobs", fault=fault)
    job_id = engine.producer.enqueue("mail", {"n": 1})
    assert postgres.struck.is_set()
    assert rig.count("waiting") == 1
    assert rig.listed("mail") == [(str(job_id), 1)]
    assert rig.outbox() == 0


@pytest.mark.parametrize("fault", Fault)
def test_a_batch_that_loses_its_commit_is_there_as_a_whole_and_once(
    rig: Rig, engine: Rig, postgres: Proxy, fault: Fault
) -> None:
    postgres.lose(b"COMMIT", after=1, fault=fault)  # the first one is the new session's
    ids = engine.producer.enqueue_many("mail", range(100))
    assert postgres.struck.is_set()
    assert rig.count("waiting") == 100
    assert rig.listed("mail") == [(str(i), 1) for i in ids]


def test_a_producer_whose_postgresql_stays_away_says_so(
    rig: Rig, engine: Rig, postgres: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queuemon.store.settling.PAUSES", (0.0, 0.0))
    engine.producer.enqueue("mail", {"n": 1})
    postgres.close()
    with pytest.raises(StoreError):
        engine.producer.enqueue("mail", {"n": 2})
    assert rig.count("waiting") == 1


@pytest.mark.parametrize("fault", Fault)
def test_a_producer_whose_publication_loses_its_answer_has_published_once(
    rig: Rig, engine: Rig, fast: Proxy, fault: Fault
) -> None:
    fast.lose(b"EVALSHA", fault=fault)
    ids = engine.producer.enqueue_many("mail", range(600))
    assert fast.struck.is_set()
    publish(rig.store)
    assert rig.listed("mail") == [(str(i), 1) for i in ids]
    assert rig.outbox() == 0


@pytest.mark.parametrize("fault", Fault)
def test_a_publication_that_loses_its_commit_is_repeated_and_pushes_nothing_twice(
    rig: Rig, engine: Rig, postgres: Proxy, fault: Fault
) -> None:
    with rig.store.postgres.begin() as connection:
        ids = [rig.producer.enqueue_in(connection, "mail", n) for n in range(50)]
    postgres.lose(b"COMMIT", after=1, fault=fault)
    with pytest.raises(StoreError):
        publish(engine.store)
    assert postgres.struck.is_set()

    def published() -> bool:  # rows that the lost transaction still holds are passed over until the server ends it
        publish(rig.store)
        return rig.outbox() == 0

    wait_until(published)
    assert rig.listed("mail") == [(str(i), 1) for i in ids]


#: A worker's statements, each known by words of its own.
WORKERS = {
    "claim": b"taken AS", "outcome": b"ended AS", "pop": b"EVALSHA",
}  # fmt: skip


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize("what", WORKERS)
@pytest.mark.parametrize("fails", [False, True])
def test_a_worker_that_loses_an_answer_starts_no_generation_twice_and_finishes_every_job(
    rig: Rig, engine: Rig, postgres: Proxy, fast: Proxy, what: str, fault: Fault, fails: bool
) -> None:
    starts: Counter[tuple[UUID, int]] = Counter()

    def handle(job: Any) -> None:
        starts[job.id, job.gen] += 1
        if fails and job.attempt == 1:
            raise ValueError("once")

    ids = rig.producer.enqueue_many("mail", range(3))
    proxy = fast if what == "pop" else postgres
    proxy.lose(WORKERS[what], fault=fault)
    relay = rig.relay()
    with engine.worker(handle):

        def over() -> bool:
            relay.step()
            return rig.count("completed") == 3

        wait_until(over, timeout=30, message="all are completed")
        assert proxy.struck.is_set()
        wait_until(lambda: rig.in_hand() == 0, message="nothing is left in hand")
    assert rig.listed("mail") == []
    assert set(starts.values()) == {1}
    assert {job for job, _ in starts} == set(ids)
    logs = rig.sql("SELECT job_id, gen, count(*) AS n FROM job_logs WHERE kind = 'attempt' GROUP BY 1, 2")
    assert {row["n"] for row in logs} == {1}


# -------------------------------------------------------------------------------------------------- negative controls


def test_a_statement_without_an_id_doubles_through_the_same_proxy(rig: Rig, postgres: Proxy) -> None:
    def insert() -> None:
        with psycopg.connect(postgres.url) as connection:
            connection.execute(
                "INSERT INTO jobs (id, queue, payload, status, run_at, expires_at)"
                " VALUES (%s, 'mail', %s, 'waiting', now(), now() + interval '1 day')",
                (uuid4(), Jsonb({})),
            )

    postgres.lose(b"COMMIT")
    with suppress(psycopg.OperationalError):
        insert()
    assert postgres.struck.is_set()
    insert()
    assert rig.count("waiting") == 2


def test_a_push_without_a_marker_doubles_through_the_same_proxy(rig: Rig, fast: Proxy) -> None:
    element = b'{"id": "%s", "gen": 1}' % str(uuid4()).encode()
    fast.lose(b"RPUSH")
    client = redis.Redis.from_url(fast.url)
    with suppress(redis.ConnectionError):
        client.rpush("queue:mail", element)
    client.rpush("queue:mail", element)
    client.close()
    assert fast.struck.is_set()
    elements: Any = rig.redis.lrange("queue:mail", 0, -1)
    assert len({(e.id, e.gen) for raw in elements if (e := decode_element(raw))}) == 1
    assert len(elements) > 1
