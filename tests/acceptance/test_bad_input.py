"""Whatever is wrong, the command line answers with one clear sentence, the exit code, no traceback and no secret."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest

from queuemon.cli import run
from queuemon.config import Settings
from queuemon.demo.stack import StackUrls
from queuemon.schema import roles
from tests.support.terminal import HOSTILE, assert_harmless, assert_one_sentence

pytestmark = pytest.mark.acceptance

CANARY = "hunter2-canary"
QUEUE = "analytics:daily-aggregate"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command line that must be refused."""

    words: str | list[str]
    #: What the sentence holds, in any case.
    says: str
    code: int = 2


def cases(*found: Case) -> pytest.MarkDecorator:
    """One test per case, named by its words."""
    names = [
        "-".join(re.findall(r"[\w:]+", " ".join(c.words) if isinstance(c.words, list) else c.words))[:60] for c in found
    ]
    return pytest.mark.parametrize("case", found, ids=names)


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and a configuration of the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("QUEUEMON_CONFIG", "QUEUEMON_PROFILE", "QUEUEMON_DEBUG", "QUEUEMON_READ_ONLY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QUEUEMON_DEMO_DIR", str(tmp_path / "demo"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def configured(urls: StackUrls, monkeypatch: pytest.MonkeyPatch) -> StackUrls:
    """Both URLs in the environment, one queue with two jobs in the database."""
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", urls.database_url)
    monkeypatch.setenv("QUEUEMON_REDIS_URL", urls.redis_url)
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("INSERT INTO job_queues (name) VALUES (%s)", (QUEUE,))
    return urls


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Callable[[Case], None]:
    """Checks the answer to a case."""

    def check(case: Case) -> None:
        words = case.words.split() if isinstance(case.words, str) else case.words
        code = run(words)
        captured = capsys.readouterr()
        secrets: tuple[str, ...] = (CANARY,)
        if "settings" in request.fixturenames:
            secrets += request.getfixturevalue("settings").secrets()
        assert_one_sentence(captured.err, secrets=secrets)
        for secret in secrets:
            assert secret not in captured.out
        assert case.says.lower() in captured.err.lower(), captured.err
        assert code == case.code, captured.err

    return check


# ------------------------------------------------------------------------------------------- names, ids and values


@cases(
    Case(words="jobs queue:analytics:daily-agregate", says=f"did you mean {QUEUE}"),
    Case(words="pause nope", says="there is no queue 'nope'"),
    Case(words="resume queue:nope", says="there is no queue 'nope'"),
    Case(words="scale nope 3", says="there is no queue 'nope'"),
    Case(words="prioritise nope high", says="there is no queue 'nope'"),
    Case(words="clear-failed nope", says="there is no queue 'nope'"),
    Case(words="clear-failed queue:nope", says="there is no queue 'nope'"),
    Case(words="clear-failed no:such:queue", says="there is no queue 'no:such:queue'"),
    Case(words="retry queue:nope", says="there is no queue 'nope'"),
    Case(words=["pause", HOSTILE], says="there is no queue"),
    Case(words="enqueue nope {}", says="there is no queue 'nope'"),
    Case(words="job 1234", says="is not an id"),
    Case(words=["job", HOSTILE], says="is not an id"),
    Case(words=["job", "x" * 5_000], says="is not an id"),
    Case(words="retry 1234-abcd", says="'1234-abcd' is not an id"),
    Case(words="delete 0199f3c2-7d1e-7c55-9a41-2f6d1b0c9e7", says="is not an id"),
    Case(words=f"job {uuid4()}", says="there is no job"),
    Case(words="jobs statu:failed", says='no field "statu"'),
    Case(words="jobs status:faild", says="faild"),
    Case(words=["jobs", "error:'division by"], says="column"),
    Case(words=["jobs", "attempts > many"], says="many"),
    Case(words=["jobs", "("], says="column"),
    Case(words=["jobs", HOSTILE], says="column"),
    Case(words="retry statu:failed", says='no field "statu"'),
    Case(words=["retry", ""], says="every job"),
    Case(words=["delete", "  "], says="every job"),
    Case(words="jobs --limit 0", says="limit is 0"),
    Case(words="jobs --limit 1001", says="1 to 1000"),
    Case(words="jobs --after nonsense", says="cursor"),
    Case(words="jobs --sort payload", says="cannot be sorted"),
    Case(words="jobs --csv x.csv --columns nope", says="no column 'nope'"),
    Case(words="jobs --csv no/such/folder/x.csv", says="cannot be written"),
    Case(words=f"scale {QUEUE} -- -1", says="expected"),
    Case(words=f"scale {QUEUE} 1000000000000", says="expected"),
    Case(words=f"pause {QUEUE} --until yesterday", says="expected"),
    Case(words=["enqueue", QUEUE, "{broken"], says="not json"),
    Case(words=["enqueue", QUEUE, "[" * 100_000], says="not json"),
    Case(words="runbook describe nope", says="there is no runbook"),
    Case(words=f"runbook run retry-failed -p queu={QUEUE}", says="did you mean 'queue'"),
    Case(words="runbook run retry-failed -p limit=many", says="a whole number"),
    Case(words="runbook run retry-failed -p dry_run=perhaps", says="true or false"),
    Case(words="runbook run retry-failed -p queue", says="no parameter"),
    Case(words=f"runbook run retry-failed -p reason=redis://:{CANARY}@h/0", says="no secret"),
    Case(words="runbook run retry-failed --wet -p dry_run=true", says="both"),
    Case(words=f"runbook run retry-failed -p queue={QUEUE} --runs-dir /proc/nope", says="cannot be written"),
    Case(words="demo scenario nope", says="scenario"),
    Case(words="demo deploy nope", says="deploy"),
)
def test_a_question_that_cannot_be_answered(
    case: Case, configured: StackUrls, settings: Settings, refused: Callable[[Case], None]
) -> None:
    refused(case)


# ------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("database", "redis", "says"),
    [
        (f"mysql://ops:{CANARY}@db/prod", "redis://h/0", "QUEUEMON_DATABASE_URL is not a URL"),
        (f"ops:{CANARY}@db/prod", "redis://h/0", "QUEUEMON_DATABASE_URL is not a URL"),
        (f"postgresql://ops:{CANARY}@db:port/prod", "redis://h/0", "QUEUEMON_DATABASE_URL is not a URL"),
        (f"postgresql://ops:{CANARY}[@db/prod", "redis://h/0", "QUEUEMON_DATABASE_URL is not a URL"),
        ("postgresql://h/prod", f"http://:{CANARY}@h", "QUEUEMON_REDIS_URL is not a URL"),
        ("postgresql://h/prod", "", "QUEUEMON_REDIS_URL is not set"),
        ("", f"redis://:{CANARY}@h", "QUEUEMON_DATABASE_URL is not set"),
    ],
)
def test_a_url_that_cannot_be_used(
    database: str, redis: str, says: str, refused: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", database)
    monkeypatch.setenv("QUEUEMON_REDIS_URL", redis)
    refused(Case(words="status", says=says))


def test_nothing_configured_and_no_demo_running(
    refused: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QUEUEMON_DATABASE_URL", raising=False)
    monkeypatch.delenv("QUEUEMON_REDIS_URL", raising=False)
    refused(Case(words="status", says="run `queuemon demo up`, or set the two URLs", code=1))
    refused(Case(words="demo env", says="demo up", code=1))


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        ("[profiles.staging]\n", "--profile prod status", "there is no profile 'prod'"),
        ("[profiles.prod\n", "--profile prod status", "is not TOML"),
        ("colour = 'red'\n", "status", "beside its profiles"),
        ("[profiles.prod]\ncolor = 'red'\n", "--profile prod status", "'color' does not exist"),
        ("[profiles.prod]\ncolour = 'pink'\n", "--profile prod status", "'colour' cannot be used"),
        ("[profiles.prod]\nlease_seconds = -1\n", "--profile prod status", "'lease_seconds' cannot be used"),
        ("[profiles.prod.thresholds]\nwaiting = 3\n", "--profile prod status", "thresholds"),
        (f"[profiles.prod]\ndatabase_url = 'postgresql://u:{CANARY}@h/d'\n", "--profile prod status", "REDIS_URL"),
    ],
)
def test_a_queuemon_toml_that_cannot_be_used(
    text: str, words: str, says: str, refused: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("QUEUEMON_DATABASE_URL", raising=False)
    monkeypatch.delenv("QUEUEMON_REDIS_URL", raising=False)
    (tmp_path / "queuemon.toml").write_text(text)
    refused(Case(words=words, says=says))


def test_a_read_only_profile_refuses_every_action(
    configured: StackUrls, refused: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUEMON_READ_ONLY", "1")
    for words in (["pause", QUEUE, "--yes", "--reason", "x"], ["enqueue", QUEUE, "{}"], ["install"]):
        refused(Case(words=words, says="QUEUEMON_READ_ONLY is set", code=1))


# ---------------------------------------------------------------------------------------------------------- stores


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken, but where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def replaced(url: str, **parts: str | int | None) -> str:
    """A URL with another user, password, port or database."""
    old = urlsplit(url)
    user, password = parts.get("user", old.username), parts.get("password", old.password)
    login = f"{user or ''}{f':{password}' if password else ''}"
    name = parts.get("name", old.path.lstrip("/"))
    return f"{old.scheme}://{f'{login}@' if login else ''}{old.hostname}:{parts.get('port', old.port)}/{name}"


def test_a_wrong_password_for_postgresql(
    configured: StackUrls, settings: Settings, refused: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", replaced(configured.database_url, password=CANARY))
    for words in ("jobs", f"pause {QUEUE}", "install"):
        refused(Case(words=words, says="refused the user name or password", code=1))


def test_a_database_that_does_not_exist(
    configured: StackUrls, settings: Settings, refused: Callable[[Case], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", replaced(configured.database_url, name="nope"))
    refused(Case(words="jobs", says="no such database", code=1))


def test_postgresql_is_down(
    configured: StackUrls,
    settings: Settings,
    closed_port: int,
    refused: Callable[[Case], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", replaced(configured.database_url, port=closed_port))
    for words in ("status", "jobs", f"job {uuid4()}", "actions", f"retry queue:{QUEUE}", "install"):
        refused(Case(words=words, says="cannot be reached", code=1))


def test_redis_is_down_or_refuses_the_password_and_the_table_is_still_printed(
    configured: StackUrls,
    settings: Settings,
    closed_port: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for url, says in (
        (replaced(configured.redis_url, port=closed_port), "cannot be reached"),
        (replaced(configured.redis_url, user="nobody", password=CANARY), "refused the user name or password"),
    ):
        monkeypatch.setenv("QUEUEMON_REDIS_URL", url)
        assert run(["status"]) == 3
        captured = capsys.readouterr()
        assert f"queue:{QUEUE}" in captured.out
        assert says in captured.err
        assert_one_sentence(captured.err, secrets=(CANARY, *settings.secrets()))
        assert run(["jobs"]) == 4, "a look at the jobs needs no Redis"
        capsys.readouterr()


@pytest.mark.parametrize(
    "statement",
    ["DROP TABLE jobs CASCADE", "ALTER TABLE jobs DROP COLUMN run_at CASCADE", "DROP SCHEMA queuemon CASCADE"],
)
def test_a_missing_table_or_column(
    statement: str, configured: StackUrls, settings: Settings, refused: Callable[[Case], None]
) -> None:
    with psycopg.connect(configured.database_url) as connection:
        connection.execute(statement)  # type: ignore[call-overload]
    for words in ("status", f"retry queue:{QUEUE} status:failed"):
        refused(Case(words=words, says="run `queuemon install`", code=1))


def test_doctor_names_what_is_missing(configured: StackUrls, capsys: pytest.CaptureFixture[str]) -> None:
    with psycopg.connect(configured.database_url) as connection:
        connection.execute("DROP INDEX jobs_failed; ALTER TABLE jobs DROP COLUMN run_at CASCADE")
        connection.execute("ALTER TABLE jobs DISABLE TRIGGER USER")
    assert run(["doctor", "--json"]) == 1
    found = {c["name"]: c for c in json.loads(capsys.readouterr().out)["checks"]}
    assert "jobs.run_at" in found["tables and columns"]["found"]
    assert "jobs_failed" in found["indexes"]["found"]
    assert found["counters"]["state"] == "fail"


def test_a_reader_may_look_but_not_act(
    configured: StackUrls,
    settings: Settings,
    refused: Callable[[Case], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with psycopg.connect(configured.database_url, autocommit=True) as connection:
        connection.execute(roles.sql().encode())
        connection.execute(f"ALTER ROLE {roles.READER} PASSWORD '{CANARY}'".encode())
    reader = replaced(configured.database_url, user=roles.READER, password=CANARY)
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", reader)
    assert run(["status"]) == 0
    assert run(["doctor"]) == 0
    assert "rights of a reader" in capsys.readouterr().out
    refused(Case(words=f"pause {QUEUE} --yes --reason x", says="rights of a reader", code=1))
    refused(Case(words=["enqueue", QUEUE, "{}"], says="permission denied", code=1))


# -------------------------------------------------------------------------------------------------------- payloads


@pytest.mark.parametrize(
    "payload", ["[1, 2]", "3", '"text"', "null", "true", "[]", '{"a": {"b": [' + "[" * 200 + "]" * 200 + "]}}"]
)
def test_a_payload_that_is_no_object_is_shown_as_it_is(
    payload: str, configured: StackUrls, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(configured.database_url) as connection:
        job = uuid4()
        connection.execute("INSERT INTO jobs (id, queue, payload) VALUES (%s, %s, %s::jsonb)", (job, QUEUE, payload))
    for words in (["job", str(job)], ["job", str(job), "--json"], ["jobs", "payload.a=1"], ["jobs"]):
        assert run(words) in {0, 4}
        captured = capsys.readouterr()
        assert captured.err == ""
        assert_harmless(captured.out)


# ------------------------------------------------------------------------------------------------- real processes


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["jbs"], 2),
        (["jobs", "statu:failed"], 2),
        (["jobs", "queue:nope"], 2),
        (["job", str(uuid4())], 2),
        (["jobs"], 4),
    ],
    ids=["command", "filter", "queue", "job", "nothing"],
)
def test_a_real_process_ends_with_the_same_code(words: list[str], code: int, configured: StackUrls) -> None:
    ended = subprocess.run([sys.executable, "-m", "queuemon", *words], capture_output=True, text=True, check=False)
    assert ended.returncode == code
    if code != 4:
        assert_one_sentence(ended.stderr)
