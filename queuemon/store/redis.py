"""The Redis half: connections with timeouts, Lua scripts by name, and driver errors translated in one place."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis
from redis import exceptions as rx
from redis.backoff import NoBackoff
from redis.retry import Retry

from queuemon.config import Settings, redis_database
from queuemon.contract import Keys, decode_element
from queuemon.errors import NotAllowed, QueuemonError, StoreError, StoreTimeout, StoreUnavailable
from queuemon.model import RedisHalf, RedisPlace, RedisQueue

STORE = "redis"

#: Elements looked through at each end of a list when one job is searched.
SEARCH_WINDOW = 1_000

#: What Redis takes as an argument.
Argument = str | bytes | int | float


class Redis:
    """One pool of connections to fast dispatch; safe to share between threads. Answers are bytes."""

    def __init__(self, settings: Settings, *, application: str = "queuemon") -> None:
        self.settings = settings
        self.keys: Keys = settings.keys
        self.client: redis.Redis = _client(settings, application)

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Any:
        """Run `scripts/<script>.lua` atomically: EVALSHA, and EVAL when the server does not know it (yet or any more).

        A script must be safe to run twice with the same arguments: a lost reply is answered by calling again.
        """
        source, digest = _script(script)
        with translated(self.settings):
            try:
                return self.client.evalsha(digest, len(keys), *keys, *arguments)
            except rx.NoScriptError:
                return self.client.eval(source, len(keys), *keys, *arguments)

    def run_many(
        self, script: str, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]], *, per_trip: int = 20
    ) -> list[Any]:
        """Run a script once per (keys, arguments), `per_trip` of them per round trip; each call is atomic by itself."""
        source, digest = _script(script)
        answers: list[Any] = []
        with translated(self.settings):
            for first in range(0, len(calls), per_trip):
                some = calls[first : first + per_trip]
                pipe = self.client.pipeline(transaction=False)
                for keys, arguments in some:
                    pipe.evalsha(digest, len(keys), *keys, *arguments)
                for (keys, arguments), answer in zip(some, pipe.execute(raise_on_error=False), strict=True):
                    if isinstance(answer, rx.NoScriptError):
                        answers.append(self.client.eval(source, len(keys), *keys, *arguments))
                    elif isinstance(answer, Exception):
                        raise answer
                    else:
                        answers.append(answer)
        return answers

    @contextmanager
    def call(self) -> Iterator[redis.Redis]:
        """The client itself, with errors translated."""
        with translated(self.settings):
            yield self.client

    def half(self, names: Sequence[str]) -> RedisHalf:
        """Every named queue's list lengths, pause copy and quarantine, in one pipeline (200 queues: about 2 ms)."""
        with self.call() as client:
            pipe = client.pipeline(transaction=False)
            for name in names:
                pipe.llen(self.keys.queue_key(name))
                pipe.hmget(self.keys.paused_key(name), "paused", "epoch")
                pipe.llen(self.keys.quarantine_key(name))
                pipe.llen(self.keys.parked_key(name))
                pipe.llen(self.keys.sifted_key(name))
            pipe.info("server")
            pipe.info("memory")
            *answers, server, memory = pipe.execute()
        found = {}
        for n, name in enumerate(names):
            length, (paused, epoch), quarantined, parked, sifted = answers[5 * n : 5 * n + 5]
            found[name] = RedisQueue(
                name=name,
                length=int(length),
                paused=None if paused is None else paused == b"1",
                pause_epoch=int(epoch) if epoch is not None and epoch.isdigit() else None,
                quarantined=int(quarantined),
                parked=int(parked) + int(sifted),
            )
        version = server.get("valkey_version") or server.get("redis_version", "?")
        kind = "Valkey" if "valkey_version" in server else "Redis"
        return RedisHalf(queues=found, used_memory_bytes=int(memory.get("used_memory", 0)), server=f"{kind} {version}")

    def place(self, job_id: str, queue: str, worker_id: str | None) -> RedisPlace:
        """Where a job is: its marker, the hand of its worker, the first and last SEARCH_WINDOW of each list and
        of those set aside.

        A hint: elements move while one looks. Bounded by nine windows whatever the lists' lengths.
        """
        keys = self.keys
        lists = (
            ("list", keys.queue_key(queue)),
            ("parked", keys.sifted_key(queue)),
            ("parked", keys.parked_key(queue)),
            ("quarantine", keys.quarantine_key(queue)),
        )
        with self.call() as client:
            pipe = client.pipeline(transaction=False)
            pipe.hget(keys.marker_key(job_id), "gen")
            for _, key in lists:
                pipe.llen(key)
                pipe.lrange(key, 0, SEARCH_WINDOW - 1)
                pipe.lrange(key, -SEARCH_WINDOW, -1)
            if worker_id:
                pipe.lrange(keys.processing_key(worker_id, queue), 0, SEARCH_WINDOW - 1)
            marker, *answers = pipe.execute()
        gen = int(marker) if marker is not None and marker.isdigit() else None
        if worker_id and _index(answers.pop(), job_id) is not None:
            return RedisPlace(where="in hand", marker_gen=gen, worker_id=worker_id)
        longest = before = 0
        for n, (where, _) in enumerate(lists):
            length, head, tail = answers[3 * n : 3 * n + 3]
            # What a filter has passed comes before the rest of the parked list.
            before = before if where == "parked" else 0
            for elements, first in ((head, 0), (tail, max(0, length - len(tail)))):
                if (at := _index(elements, job_id, unreadable=where == "quarantine")) is None:
                    continue
                if where == "quarantine":
                    note = f"set aside, no worker takes it: see `queuemon quarantine list {shlex.quote(queue)}`"
                    return RedisPlace(where=where, marker_gen=gen, note=note)
                return RedisPlace(where=where, position=before + first + at, marker_gen=gen)
            before += length if where == "parked" else 0
            longest = longest if where == "quarantine" else max(longest, length)
        if longest > 2 * SEARCH_WINDOW:
            note = f"not among the first and last {SEARCH_WINDOW:,} of {longest:,} elements"
            return RedisPlace(where="unknown", marker_gen=gen, note=note)
        return RedisPlace(where="nowhere", marker_gen=gen)

    def close(self) -> None:
        """Give all connections back."""
        self.client.close()
        self.client.connection_pool.disconnect()


def _index(elements: Sequence[bytes], job_id: str, *, unreadable: bool = False) -> int | None:
    """The first of these elements that stands for a job, or that names it without being readable."""
    needle = job_id.encode()
    for n, raw in enumerate(elements):
        if needle in raw:
            element = decode_element(raw)
            if element.id == job_id if element is not None else unreadable:
                return n
    return None


@cache
def _script(name: str) -> tuple[str, str]:
    """Source and SHA-1 of a script of this package."""
    source = (resources.files("queuemon.store") / "scripts" / f"{name}.lua").read_text("utf-8")
    return source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def _client(settings: Settings, application: str) -> redis.Redis:
    """A client whose URL is taken apart here, so that no driver message can print a password."""
    return redis.Redis(**connection_arguments(settings), client_name=application.replace(" ", "-"))


def connection_arguments(settings: Settings) -> dict[str, Any]:
    """A Redis URL (redis, rediss, unix) as redis-py's keyword arguments, with our timeouts and no hidden retries."""
    parts = urlsplit(settings.redis_url.get_secret_value())
    options = dict(pair.partition("=")[::2] for pair in parts.query.split("&")) if parts.query else {}
    arguments: dict[str, Any] = {
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "socket_timeout": settings.redis_timeout_seconds,
        "socket_connect_timeout": settings.connect_timeout_seconds,
        "health_check_interval": 0,
        # One retry at once, on a connection that the server closed while it lay in the pool.
        "retry": Retry(NoBackoff(), 1, supported_errors=(rx.ConnectionError,)),
        "retry_on_error": [rx.ConnectionError],
        "protocol": 2,
    }
    arguments["db"] = redis_database(settings.redis_url.get_secret_value())
    if parts.scheme == "unix":
        arguments["unix_socket_path"] = unquote(parts.path)
    else:
        arguments["host"] = unquote(parts.hostname or "localhost")
        arguments["port"] = parts.port or 6379
        arguments["socket_keepalive"] = True
        if parts.scheme == "rediss":
            arguments["ssl"] = True
            arguments["ssl_cert_reqs"] = options.get("ssl_cert_reqs", "required")
            if "ssl_ca_certs" in options:
                arguments["ssl_ca_certs"] = unquote(options["ssl_ca_certs"])
    return arguments


@contextmanager
def translated(settings: Settings) -> Iterator[None]:
    """Driver errors become ours: found, expected, what to do next, and never a URL or a password."""
    try:
        yield
    except QueuemonError:
        raise
    except rx.RedisError as error:
        raise _from_driver(error, settings) from None


def _from_driver(error: rx.RedisError, settings: Settings) -> QueuemonError:
    where = _where(settings)
    words = str(error)
    if isinstance(error, rx.AuthenticationError) or words.startswith(("NOAUTH", "WRONGPASS")):
        return StoreUnavailable(
            f"Redis at {where} refused the user name or password",
            expected="credentials it accepts",
            next_step="correct QUEUEMON_REDIS_URL or the profile",
            store=STORE,
        )
    if isinstance(error, rx.NoPermissionError) or words.startswith("NOPERM"):
        return NotAllowed(
            "Redis does not allow this user to do that",
            expected="an ACL user with rights on the queues' keys",
            next_step="connect with an operator's user",
        )
    if isinstance(error, rx.TimeoutError):
        return StoreTimeout(
            f"Redis at {where} did not answer within {settings.redis_timeout_seconds:g} s",
            expected="an answer in time",
            next_step="check the server's load and the network",
            store=STORE,
        )
    if isinstance(error, rx.BusyLoadingError):
        return StoreUnavailable(
            f"Redis at {where} is loading its data",
            expected="a server that answers",
            next_step="wait a moment",
            store=STORE,
        )
    if isinstance(error, rx.ConnectionError) and "ssl" in words.lower():
        return StoreUnavailable(
            f"Redis at {where} and this side do not agree on TLS",
            expected="a certificate that is trusted here, and rediss:// only for a port that speaks TLS",
            next_step="check the scheme of QUEUEMON_REDIS_URL, and name the authority with ?ssl_ca_certs=FILE",
            store=STORE,
        )
    if isinstance(error, rx.ConnectionError):
        return StoreUnavailable(
            f"Redis at {where} cannot be reached",
            expected="a running server",
            next_step="run `queuemon demo up`, which starts what of the demo does not run"
            if settings.embedded
            else "check that it runs and that QUEUEMON_REDIS_URL or the profile names it",
            store=STORE,
        )
    if isinstance(error, rx.OutOfMemoryError) or words.startswith("OOM"):
        return StoreError(
            "Redis has reached maxmemory and accepts no writes",
            expected="room for the queues",
            next_step="raise maxmemory; what committed is published when it accepts again",
            store=STORE,
        )
    if words.startswith("WRONGTYPE"):
        return StoreError(
            "a key of the contract holds another type in Redis",
            expected="lists at queue:{name}, hashes at job:{id}",
            next_step="find out who else writes these keys",
            store=STORE,
        )
    if "DB index" in words:
        return StoreError(
            f"Redis at {where} has no database {connection_arguments(settings)['db']}",
            expected="the number of a database that the server has: 0 to 15 unless it is configured otherwise",
            next_step="correct the number at the end of QUEUEMON_REDIS_URL or of the profile's redis_url",
            store=STORE,
        )
    return StoreError(
        f"Redis at {where} refused a command ({type(error).__name__}: {_reply_code(words)})",
        expected="a server that knows the commands of Redis 7",
        next_step="run `queuemon doctor`",
        store=STORE,
    )


def _reply_code(words: str) -> str:
    """The first word of a server's error, by convention its kind (ERR, READONLY); the rest may hold anything."""
    first = words.split(" ", 1)[0]
    return first if first.isalpha() and first.isupper() and len(first) <= 20 else "no code"


def _where(settings: Settings) -> str:
    """host:port or socket of the server, which is safe to print."""
    arguments = connection_arguments(settings)
    return cast(str, arguments.get("unix_socket_path")) or f"{arguments['host']}:{arguments['port']}"
