"""Settings and profiles: the environment and queuemon.toml are read here and nowhere else.

A profile is a table `[profiles.NAME]`; `[profiles.NAME.queues."email-sending"]` sets a queue's thresholds. It is named
by the caller (`--profile`, `connect`), else by QUEUEMON_PROFILE, else it is `default` or the only one. Both stores come
from one place, never one from each: a profile that the caller named, or that QUEUEMON_PROFILE names while no URL is
set; else the two URLs of the environment; else the profile; else the embedded demo. README.md says the same.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote, urlsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from queuemon.contract import HEARTBEAT_SECONDS, LEASE_SECONDS, Keys, Thresholds
from queuemon.errors import ConfigError, NotAllowed
from queuemon.masking import Masking

#: Colours of the environment badge when a profile names none.
COLOURS: Final = {"prod": "red", "production": "red", "staging": "amber", "demo": "blue"}

CONFIG_FILE: Final = "queuemon.toml"

#: Names the run of a runbook, for its own kernel.
RUN_VARIABLE: Final = "QUEUEMON_RUNBOOK_RUN"

#: The file in which that kernel notes its plans and actions.
JOURNAL_VARIABLE: Final = "QUEUEMON_RUNBOOK_JOURNAL"

#: Set for that kernel where another role must approve its plans.
APPROVAL_VARIABLE: Final = "QUEUEMON_RUNBOOK_APPROVAL"

#: Variables of the environment whose values are taken for secrets, and the shortest such value.
_SECRET_VARIABLE: Final = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|ROUTING_?KEY", re.IGNORECASE
)
_SECRET_LENGTH: Final = 8

#: The settings that name the two stores, and the variables that do.
_URLS: Final = {"database_url": "QUEUEMON_DATABASE_URL", "redis_url": "QUEUEMON_REDIS_URL"}

_SCHEMES: Final = {"database_url": ("postgresql", "postgres"), "redis_url": ("redis", "rediss", "unix")}

#: Thresholds of what is measured for all queues at once.
_OF_ALL_QUEUES: Final = frozenset({"failure_window_seconds", "alert_publication_lag_seconds"})

#: What is found out here and cannot be set in a profile.
_FOUND: Final = frozenset({"embedded", "read_only_by_environment", "queue_thresholds"})

_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"", "0", "false", "no", "off"})


class Settings(BaseModel):
    """Everything that can be set, for one profile; frozen and passed down."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)

    #: Name of the profile, shown on the badge.
    profile: str = "default"
    #: Colour of the badge: red, amber, green, blue or grey.
    colour: Literal["red", "amber", "green", "blue", "grey"] = "grey"
    #: Refuse every change, whatever the database role may do: actions, enqueueing, `install`, relay, workers.
    read_only: bool = False
    #: True when QUEUEMON_READ_ONLY, not the profile, says so.
    read_only_by_environment: bool = False
    #: True when nothing was configured and the embedded demo is used.
    embedded: bool = False

    database_url: SecretStr = SecretStr("")
    redis_url: SecretStr = SecretStr("")
    #: Seconds to wait for a connection.
    connect_timeout_seconds: float = Field(default=3.0, gt=0)
    #: Bound of every read of a screen.
    statement_timeout_seconds: float = Field(default=5.0, gt=0)
    #: Bound of waiting for a row lock.
    lock_timeout_seconds: float = Field(default=2.0, gt=0)
    #: Bound of a Redis call.
    redis_timeout_seconds: float = Field(default=2.0, gt=0)

    heartbeat_seconds: float = Field(default=HEARTBEAT_SECONDS, gt=0)
    #: A job or worker whose last beat is older is taken for dead.
    lease_seconds: float = Field(default=LEASE_SECONDS, gt=0)
    #: First delay before the next attempt; doubles with each, up to the maximum.
    backoff_seconds: float = Field(default=2.0, ge=0)
    backoff_maximum_seconds: float = Field(default=600.0, ge=0)

    #: Days that copies of deleted and changed rows are kept for undo.
    undo_days: float = Field(default=7.0, ge=0)
    #: Days that job_logs, and finished actions, are kept; 0 keeps them for ever.
    log_days: float = Field(default=30.0, ge=0)
    #: Rows per chunk of a bulk action.
    chunk_rows: int = Field(default=2_000, ge=1, le=50_000)

    #: Repairs of drift in one action, and the share of a queue's jobs (in percent) that it may touch.
    drift_max_repairs: int = Field(default=1_000, ge=1, le=10_000)
    drift_max_percent: float = Field(default=10.0, gt=0, le=100)
    #: A repair stops when more than this share of its changes find something else than was seen.
    drift_breaker_share: float = Field(default=0.2, gt=0, le=1)
    #: Jobs per second at most when a lost list is published anew.
    drift_publish_rate: float = Field(default=2_000.0, gt=0)

    #: Keys of payloads that are masked beside those that look secret or personal, and keys that are not masked although
    #: they do (docs/masking.md). Without regard to case and separators; * and ? stand for any characters.
    mask_keys: tuple[str, ...] = Field(default=(), max_length=1_000)
    show_keys: tuple[str, ...] = Field(default=(), max_length=1_000)

    #: Plans of runbooks are approved by another database role before they are carried out.
    runbook_approval: bool = False

    #: Where `queuemon alerts watch` sends events (or QUEUEMON_PAGERDUTY_ROUTING_KEY): an Events API v2 integration;
    #: nowhere without. The host differs by service region.
    pagerduty_routing_key: SecretStr = SecretStr("")
    pagerduty_url: str = "https://events.pagerduty.com"
    #: Link to the dashboard that alerts carry.
    dashboard_url: str = ""

    #: What the workers do, where somebody knows: L0, L1 or L2 (docs/promises.md). `queuemon doctor` compares it with
    #: what the stores show; repairs go by the lower of both.
    worker_level: Literal["L0", "L1", "L2"] | None = None

    thresholds: Thresholds = Thresholds()
    #: Per queue, where they differ.
    queue_thresholds: Mapping[str, Thresholds] = Field(default_factory=dict)
    keys: Keys = Keys()

    #: Most workers that `scale` accepts for a queue.
    concurrency_limit: int = Field(default=1_000, ge=0)
    #: Command that scales workers run elsewhere; {queue} and {count} are filled in as single arguments.
    scale_command: tuple[str, ...] = ()

    def thresholds_of(self, queue: str) -> Thresholds:
        """The thresholds that hold for a queue; queuemon.toml may call it by its name or its Redis key."""
        found = self.queue_thresholds.get(queue) or self.queue_thresholds.get(f"queue:{queue}")
        return found or self.thresholds

    @property
    def masking(self) -> Masking:
        """What of payloads is hidden."""
        return Masking(hide=self.mask_keys, show=self.show_keys)

    @property
    def read_only_reason(self) -> str | None:
        """Who says that nothing may be changed; None where these settings allow it."""
        if not self.read_only:
            return None
        if self.read_only_by_environment:
            return "QUEUEMON_READ_ONLY is set in the environment"
        return f"the profile {self.profile!r} is read-only"

    def require_writable(self, what: str) -> None:
        """Raise NotAllowed for `what` ("enqueueing", "retry") where these settings are read-only."""
        if (why := self.read_only_reason) is not None:
            raise NotAllowed(
                f"{what} is refused: {why}",
                expected="settings that allow changes",
                next_step="unset QUEUEMON_READ_ONLY"
                if self.read_only_by_environment
                else "connect with an operator's profile",
            )

    def secrets(self) -> tuple[str, ...]:
        """The passwords in the two URLs and the routing key, to be searched for and blotted out of foreign messages."""
        key = self.pagerduty_routing_key.get_secret_value()
        found = [key] if key else []
        for url in (self.database_url, self.redis_url):
            for password in _passwords(url.get_secret_value()):
                found += [password, unquote(password)]
        return tuple(dict.fromkeys(found))


def _passwords(url: str) -> list[str]:
    """As the URL spells them: beside the user's name, or asked for as libpq and redis-py do (`?password=…`)."""
    try:
        parts = urlsplit(url)
        asked = [word.partition("=") for word in parts.query.split("&")]
        return [p for p in (parts.password, *(value for name, _, value in asked if "password" in name.lower())) if p]
    except ValueError:
        return []


def demo_directory() -> Path:
    """Where the embedded demo keeps its data: QUEUEMON_DEMO_DIR, or the user's state folder."""
    named = os.environ.get("QUEUEMON_DEMO_DIR")
    return Path(named).expanduser() if named else Path(platformdirs.user_state_dir("queuemon")) / "demo"


def config_file() -> Path | None:
    """The queuemon.toml in force: QUEUEMON_CONFIG, the working folder's, or the user's; None where there is none."""
    named = os.environ.get("QUEUEMON_CONFIG")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"QUEUEMON_CONFIG names {str(path)!r}, which is no file",
                expected="the path of a queuemon.toml",
                next_step="correct or unset QUEUEMON_CONFIG",
            )
        return path
    for path in (Path.cwd() / CONFIG_FILE, Path(platformdirs.user_config_dir("queuemon")) / CONFIG_FILE):
        if path.is_file():
            return path
    return None


def child_environment(profile: str | None = None) -> dict[str, str]:
    """The environment for a process of ours that must find the same stores: this one's, and the profile by name.

    URLs that the profile sets aside are left out: beside QUEUEMON_PROFILE they would contradict it.
    """
    path = config_file()
    own = (_profiles(path) if path else {}).get(profile or "", {})
    dropped = set(_URLS.values()) if any(own.get(key) for key in _URLS) else set()
    return {
        **{name: value for name, value in os.environ.items() if name not in dropped},
        **({"QUEUEMON_PROFILE": profile} if profile else {}),
        **({"QUEUEMON_CONFIG": str(path.resolve())} if path else {}),
    }


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment for a process of ours that must find the stores of these settings, and change no more than they.

    The profile's where that leads to the same stores; for settings that were made by hand their URLs themselves.
    """
    for profile in (None, settings.profile):
        try:
            found = load(profile)
        except ConfigError:
            continue
        same = all(getattr(found, key) == getattr(settings, key) for key in (*_URLS, "read_only"))
        if same or (found.embedded and settings.embedded):
            return child_environment(profile)
    environment = {name: value for name, value in child_environment().items() if name != "QUEUEMON_PROFILE"}
    urls = {variable: getattr(settings, key).get_secret_value() for key, variable in _URLS.items()}
    return environment | urls | {"QUEUEMON_READ_ONLY": "1" if settings.read_only else "0"}


def profile_in_environment() -> str:
    """The profile that QUEUEMON_PROFILE names; empty where it names none."""
    return os.environ.get("QUEUEMON_PROFILE", "")


def runbook_run() -> str:
    """Which run of which runbook this process is ("runbook retry-failed, run 1a2b3c4d"); empty outside of one."""
    return os.environ.get(RUN_VARIABLE, "")


def runbook_journal() -> Path | None:
    """Where this process notes its plans and actions for the run's record; None outside of a run."""
    named = os.environ.get(JOURNAL_VARIABLE)
    return Path(named) if named else None


def runbook_approval() -> bool:
    """Whether another role must approve the plans of this process's run."""
    return os.environ.get(APPROVAL_VARIABLE, "") not in {"", "0"}


def environment_secrets() -> tuple[str, ...]:
    """The values of variables that are called like secrets, so that they can be blotted out of a record."""
    found = [value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name)]
    return tuple(dict.fromkeys(value for value in found if len(value) >= _SECRET_LENGTH))


def debugging() -> bool:
    """Whether QUEUEMON_DEBUG asks for tracebacks."""
    return os.environ.get("QUEUEMON_DEBUG", "") not in {"", "0"}


def load(profile: str | None = None) -> Settings:
    """The settings in force; `profile` (or QUEUEMON_PROFILE) names a table of queuemon.toml.

    Raises ConfigError for an unknown profile, a profile named beside other URLs in the environment, an unknown or
    mistyped setting, half a pair of URLs, or a URL of the wrong kind. No message holds a URL.
    """
    path = config_file()
    profiles = _profiles(path) if path else {}
    named = profile if profile is not None else os.environ.get("QUEUEMON_PROFILE") or None
    table = named
    if named is None:
        table = "default" if "default" in profiles else next(iter(profiles)) if len(profiles) == 1 else None
    elif named not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        raise ConfigError(
            f"there is no profile {named!r}",
            expected=f"one of the profiles of {path or CONFIG_FILE}: {known}",
            next_step=f"add a table [profiles.{named}] to {CONFIG_FILE}, or leave the profile out",
        )
    values: dict[str, Any] = dict(profiles.get(table or "", {}))
    _choose_stores(values, table, named=named, by_caller=profile is not None)
    if routing_key := os.environ.get("QUEUEMON_PAGERDUTY_ROUTING_KEY"):
        values["pagerduty_routing_key"] = routing_key
    embedded = not values.get("database_url")
    if embedded and named is None:
        values["profile"] = "demo"
    forced = _word("QUEUEMON_READ_ONLY") and not values.get("read_only")
    if forced:
        values["read_only"] = True
    settings = _build(table or ("demo" if embedded else "default"), values, embedded=embedded, forced=forced)
    if embedded and named not in {None, "demo"}:
        raise ConfigError(
            f"the profile {named!r} names no stores, and the environment does not either",
            expected="database_url and redis_url in the profile, or both URLs in the environment",
            next_step=f"add both to [profiles.{named}] in {CONFIG_FILE}; leave the profile out for the embedded demo",
        )
    return settings


def _choose_stores(values: dict[str, Any], table: str | None, *, named: str | None, by_caller: bool) -> None:
    """Put both stores into `values` (or none: the demo), from the profile or from the environment, never from both."""
    own = {key: values.pop(key) for key in _URLS if values.get(key)}
    given = {key: os.environ[variable] for key, variable in _URLS.items() if os.environ.get(variable)}
    if named is not None and own:
        others = [_URLS[key] for key in given if given[key] != own.get(key)]
        if others and not by_caller:
            raise ConfigError(
                f"QUEUEMON_PROFILE names the profile {named!r}, which has stores of its own, and {' and '.join(others)}"
                f" {'names another' if len(others) == 1 else 'name others'}",
                expected="one of the two",
                next_step=f"unset QUEUEMON_PROFILE or {' and '.join(others)}, or say --profile {named}",
            )
        given = {}
    if given and own:
        # The name and the colour are those of the stores that the profile describes, which are not used.
        values["profile"] = "default"
        values.pop("colour", None)
    for key, url in (given or own).items():
        words = {k: v if given else f"{k} of the profile {table!r}" for k, v in _URLS.items()}
        missing = next((k for k in _URLS if k not in (given or own)), None)
        if missing is not None:
            raise ConfigError(
                f"{words[missing]} is not set, but {words[key]} is",
                expected="both stores from one place: the profile, or the environment",
                next_step=f"set {words[missing]}" + (f", or unset {words[key]}" if given else ""),
            )
        _check_url(url, _SCHEMES[key], words[key])
        values[key] = url


def _word(variable: str) -> bool:
    """A yes or no of the environment; raises ConfigError for any other word."""
    text = os.environ.get(variable, "").strip().lower()
    if text not in _TRUE | _FALSE:
        raise ConfigError(
            f"{variable} is {text[:40]!r}", expected="1, true, yes, on, or 0, false, no, off",
            next_step=f"correct or unset {variable}",
        )  # fmt: skip
    return text in _TRUE


def _build(name: str, values: dict[str, Any], *, embedded: bool, forced: bool) -> Settings:
    known = ", ".join(sorted(set(Settings.model_fields) - _FOUND | {"queues"}))
    if odd := sorted(_FOUND & values.keys()):
        raise ConfigError(
            f"profile {name!r}: setting {odd[0]!r} does not exist",
            expected=f"one of: {known}",
            next_step=f"correct {CONFIG_FILE}",
        )
    base = _thresholds(values.pop("thresholds", {}), Thresholds(), "thresholds")
    for queue, table in _table(dict(values), "queues").items():
        if odd := sorted(_OF_ALL_QUEUES & set(table if isinstance(table, dict) else ())):
            raise ConfigError(
                f"queues.{queue} holds {odd[0]}, which is one for all queues",
                expected=f"it in [profiles.{name}.thresholds]",
                next_step=f"correct {CONFIG_FILE}",
            )
    per_queue = {
        queue: _thresholds(table, base, f"queues.{queue}") for queue, table in _table(values, "queues").items()
    }
    keys = _table(values, "keys")
    try:
        return Settings(
            **{
                "profile": name,
                "colour": COLOURS.get(str(values.get("profile", name)), "grey"),
                "embedded": embedded,
                "read_only_by_environment": forced,
                "thresholds": base,
                "queue_thresholds": per_queue,
                "keys": Keys(**keys),
                **values,
            }
        )
    except TypeError:
        raise ConfigError(
            f"profile {name!r} sets unknown Redis keys",
            expected=f"keys.* among {', '.join(f.name for f in fields(Keys))}",
            next_step=f"correct {CONFIG_FILE}",
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        raise ConfigError(
            f"profile {name!r}: setting {where!r} {'does not exist' if unknown else 'cannot be used'}",
            expected=f"one of: {known}" if unknown else first["msg"],
            next_step=f"correct {CONFIG_FILE}",
        ) from None


def _table(values: dict[str, Any], key: str) -> dict[str, Any]:
    table = values.pop(key, {})
    if not isinstance(table, dict):
        raise ConfigError(
            f"setting {key!r} is not a table", expected=f"[profiles.NAME.{key}]", next_step=f"correct {CONFIG_FILE}"
        )
    return table


def _thresholds(table: object, base: Thresholds, where: str) -> Thresholds:
    known = {f.name: type(getattr(base, f.name)) for f in fields(Thresholds)}
    if not isinstance(table, dict) or not set(table) <= set(known):
        odd = ", ".join(sorted(set(table) - set(known))) if isinstance(table, dict) else repr(type(table).__name__)
        raise ConfigError(
            f"{where} holds {odd}", expected=f"thresholds among {', '.join(known)}", next_step=f"correct {CONFIG_FILE}"
        )
    for key, value in table.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ConfigError(
                f"{where}.{key} is {value!r}", expected="a number, 0 or more", next_step=f"correct {CONFIG_FILE}"
            )
        if known[key] is int and value != int(value):
            raise ConfigError(
                f"{where}.{key} is {value!r}", expected="a whole number", next_step=f"correct {CONFIG_FILE}"
            )
        if key == "alert_failure_rate" and value > 1:
            raise ConfigError(
                f"{where}.{key} is {value!r}, which no rate exceeds", expected="a share from 0 to 1: 0.05 is 5 %",
                next_step=f"correct {CONFIG_FILE}",
            )  # fmt: skip
    found = replace(base, **{key: known[key](value) for key, value in table.items()})
    if found.warning_waiting > found.critical_waiting:
        raise ConfigError(
            f"{where}: warning_waiting is {found.warning_waiting}, above critical_waiting, {found.critical_waiting}",
            expected="a warning before it is critical; what is not set here comes from the profile or the default",
            next_step=f"set both in {CONFIG_FILE}",
        )
    return found


def _check_url(value: object, schemes: tuple[str, ...], where: str) -> None:
    try:
        parts = urlsplit(str(value))
        _ = parts.port
        fine = parts.scheme.split("+")[0] in schemes
        if "redis" in schemes:
            _ = redis_database(str(value))
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError(
            f"{where} is not a URL that can be used here (it is not shown: it may hold a password)",
            expected=f"{schemes[0]}://user:password@host:port/{'number' if 'redis' in schemes else 'name'}",
            next_step="correct it; special characters in the password are written as %XX",
        )


def redis_database(url: str) -> int:
    """The number of the logical database that a Redis URL names, 0 without one; raises ValueError for anything else."""
    parts = urlsplit(url)
    named = dict(pair.partition("=")[::2] for pair in parts.query.split("&")).get("db", "")
    path = "" if parts.scheme == "unix" else parts.path.strip("/")
    return int(path or named or "0")


def _profiles(path: Path) -> dict[str, dict[str, Any]]:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({type(error).__name__})", expected="a UTF-8 TOML file", next_step="correct it"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}", expected="a TOML file", next_step="correct it") from None
    profiles = document.pop("profiles", {})
    if document or not isinstance(profiles, dict) or not all(isinstance(t, dict) for t in profiles.values()):
        raise ConfigError(
            f"{path} holds {', '.join(sorted(document)) or 'something else'} beside its profiles",
            expected="nothing but tables [profiles.NAME]",
            next_step="move the settings into a profile",
        )
    return profiles
