"""Settings: environment, queuemon.toml, defaults; every mistake is one sentence without a secret."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from queuemon import config
from queuemon.cli import run
from queuemon.config import Settings
from queuemon.engine.producer import Producer
from queuemon.engine.relay import Relay
from queuemon.engine.supervisor import Supervisor
from queuemon.engine.worker import Worker
from queuemon.errors import ConfigError, NotAllowed, StackError
from queuemon.store import Store
from queuemon.workbench import connect, resolve

DATABASE = "postgresql://ann:s3cret%2Fcanary@db.example:6543/app?sslmode=require"
REDIS = "rediss://:t0ken-canary@cache.example:6380/2"


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "CONFIG", "PROFILE", "READ_ONLY", "DEMO_DIR"):
        monkeypatch.delenv(f"QUEUEMON_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def write(text: str) -> None:
    Path("queuemon.toml").write_text(text, "utf-8")


def test_nothing_configured_means_the_embedded_demo_and_says_so() -> None:
    settings = config.load()
    assert (settings.embedded, settings.profile, settings.colour) == (True, "demo", "blue")
    with pytest.raises(StackError, match=r"no embedded demo is running.*queuemon demo up"):
        resolve(settings)
    with pytest.raises(StackError):
        connect()


def test_the_two_variables_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUEMON_DATABASE_URL", DATABASE)
    monkeypatch.setenv("QUEUEMON_REDIS_URL", REDIS)
    settings = config.load()
    assert (settings.embedded, settings.profile) == (False, "default")
    assert settings.database_url.get_secret_value() == DATABASE
    assert {"s3cret/canary", "t0ken-canary"} <= set(settings.secrets())
    assert "canary" not in repr(settings)
    assert "canary" not in str(settings)


def test_a_profile_sets_everything() -> None:
    write(
        f"""
        [profiles.prod]
        database_url = "{DATABASE}"
        redis_url = "{REDIS}"
        read_only = true
        scale_command = ["kubectl", "scale", "--replicas={{count}}", "deploy/{{queue}}"]
        [profiles.prod.thresholds]
        critical_waiting = 5000
        [profiles.prod.queues."email-sending"]
        critical_waiting = 20000
        [profiles.prod.keys]
        queue = "q:{{name}}"
        """
    )
    settings = config.load("prod")
    assert (settings.profile, settings.colour, settings.read_only) == ("prod", "red", True)
    assert settings.thresholds.critical_waiting == 5000
    assert settings.thresholds_of("email-sending").critical_waiting == 20000
    assert settings.thresholds_of("email-sending").warning_waiting == 100
    assert settings.thresholds_of("other").critical_waiting == 5000
    assert settings.keys.queue_key("x") == "q:x"
    assert config.load().profile == "prod", "the only profile needs no name"


@pytest.mark.parametrize(
    ("name", "colour"), [("prod", "red"), ("production", "red"), ("staging", "amber"), ("demo", "blue"), ("x", "grey")]
)
def test_a_badge_has_the_colour_of_the_profiles_name_unless_it_names_another(name: str, colour: str) -> None:
    stores = f"database_url = '{DATABASE}'\nredis_url = '{REDIS}'\n"
    write(f"[profiles.{name}]\n{stores}[profiles.other]\n{stores}colour = 'green'\n")
    assert config.load(name).colour == colour
    assert config.load("other").colour == "green"


# ---------------------------------------------------------------------------------- which stores, said by whom

OTHER_DATABASE, OTHER_REDIS = "postgresql://localhost/canary-elsewhere", "redis://localhost/5"
PROD = f"[profiles.prod]\ndatabase_url = '{DATABASE}'\nredis_url = '{REDIS}'\nread_only = true\ncolour = 'red'\n"
BARE = "[profiles.bare]\nlease_seconds = 7\n"


def stores(settings: Settings) -> tuple[str, str]:
    return settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()


def environment(monkeypatch: pytest.MonkeyPatch, database: str = "", redis: str = "", **more: str) -> None:
    for name, value in {"DATABASE_URL": database, "REDIS_URL": redis, **more}.items():
        monkeypatch.setenv(f"QUEUEMON_{name}", value)


@pytest.mark.parametrize(
    ("database", "redis"), [(OTHER_DATABASE, OTHER_REDIS), (OTHER_DATABASE, ""), ("", OTHER_REDIS), ("", "")]
)
def test_a_profile_that_the_caller_names_wins_over_whatever_the_environment_says(
    database: str, redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(PROD + BARE)
    environment(monkeypatch, database, redis, PROFILE="bare")
    assert stores(config.load("prod")) == (DATABASE, REDIS)
    with connect("prod") as wb:
        assert (wb.settings.profile, *stores(wb.settings)) == ("prod", DATABASE, REDIS)


def test_a_named_profile_without_stores_takes_both_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    write(PROD + BARE)
    environment(monkeypatch, OTHER_DATABASE, OTHER_REDIS)
    settings = config.load("bare")
    assert (settings.profile, settings.lease_seconds, *stores(settings)) == ("bare", 7, OTHER_DATABASE, OTHER_REDIS)
    environment(monkeypatch, PROFILE="bare")
    with pytest.raises(ConfigError, match=r"'bare' names no stores, and the environment does not"):
        config.load()


@pytest.mark.parametrize(
    ("database", "redis"), [(OTHER_DATABASE, OTHER_REDIS), (OTHER_DATABASE, ""), (DATABASE, REDIS)]
)
def test_a_profile_named_by_the_environment_is_not_set_aside_by_its_urls(
    database: str, redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(PROD + BARE)
    environment(monkeypatch, database, redis, PROFILE="prod")
    if database == DATABASE:
        assert stores(config.load()) == (DATABASE, REDIS), "both say the same"
        return
    with pytest.raises(
        ConfigError, match=r"QUEUEMON_PROFILE names the profile 'prod'.* and QUEUEMON_DATABASE_URL"
    ) as e:
        config.load()
    assert "canary" not in str(e.value)


def test_the_environment_names_other_stores_than_a_profile_nobody_named_and_wears_neither_its_name_nor_colour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(PROD)
    environment(monkeypatch, OTHER_DATABASE, OTHER_REDIS)
    settings = config.load()
    assert stores(settings) == (OTHER_DATABASE, OTHER_REDIS)
    assert (settings.profile, settings.colour, settings.read_only) == ("default", "grey", True)


@pytest.mark.parametrize("toml", [PROD, BARE, "[profiles.default]\nlease_seconds = 7\n", ""])
@pytest.mark.parametrize("half", ["DATABASE_URL", "REDIS_URL"])
def test_half_a_pair_in_the_environment_is_never_completed_from_elsewhere(
    half: str, toml: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(toml)
    monkeypatch.setenv(f"QUEUEMON_{half}", {"DATABASE_URL": OTHER_DATABASE, "REDIS_URL": OTHER_REDIS}[half])
    with pytest.raises(ConfigError, match=f"is not set, but QUEUEMON_{half} is.*one place"):
        config.load()


@pytest.mark.parametrize("half", ["database_url", "redis_url"])
def test_half_a_pair_in_a_named_profile_is_never_completed_from_the_environment(
    half: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(f"[profiles.half]\n{half} = '{ {'database_url': DATABASE, 'redis_url': REDIS}[half] }'\n")
    environment(monkeypatch, OTHER_DATABASE, OTHER_REDIS)
    with pytest.raises(ConfigError, match=f"of the profile 'half' is not set, but {half} of the profile 'half' is"):
        config.load("half")


def test_a_child_finds_the_stores_of_the_named_profile_and_gets_no_other_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    write(PROD + BARE)
    environment(monkeypatch, OTHER_DATABASE, OTHER_REDIS)
    for profile, expected in (("prod", (DATABASE, REDIS)), ("bare", (OTHER_DATABASE, OTHER_REDIS))):
        child = config.child_environment(profile)
        with monkeypatch.context() as there:
            for name in ("DATABASE_URL", "REDIS_URL"):
                there.delenv(f"QUEUEMON_{name}")
            for name, value in child.items():
                there.setenv(name, value)
            assert (config.load().profile, stores(config.load())) == (profile, expected)


def test_the_embedded_demo_never_wears_the_name_of_a_profile_that_nobody_named() -> None:
    write("[profiles.prod]\nlease_seconds = 7\n")
    settings = config.load()
    assert (settings.embedded, settings.profile, settings.colour, settings.lease_seconds) == (True, "demo", "blue", 7)


# ------------------------------------------------------------------------------------------------------ read-only


@pytest.mark.parametrize("word", ["y", "ja", "tru", "2", "None"])
def test_an_unknown_word_for_read_only_is_refused_rather_than_taken_for_no(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, READ_ONLY=word)
    with pytest.raises(ConfigError, match=rf"QUEUEMON_READ_ONLY is '{word.lower()}'.*1, true, yes, on"):
        config.load()


@pytest.mark.parametrize("word", ["1", "true", "YES", " on "])
def test_the_environment_is_named_where_it_made_the_settings_read_only(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(BARE)
    environment(monkeypatch, DATABASE, REDIS, READ_ONLY=word)
    settings = config.load()
    assert settings.read_only_reason == "QUEUEMON_READ_ONLY is set in the environment"
    with pytest.raises(NotAllowed, match=r"retry is refused: QUEUEMON_READ_ONLY.*unset QUEUEMON_READ_ONLY") as caught:
        settings.require_writable("retry")
    assert "profile" not in str(caught.value)


@pytest.mark.parametrize("word", ["", "0", "false", "no", "off", "1"])
def test_no_word_of_the_environment_makes_a_read_only_profile_writable(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(PROD)
    environment(monkeypatch, READ_ONLY=word)
    settings = config.load()
    assert settings.read_only_reason == "the profile 'prod' is read-only"
    with pytest.raises(NotAllowed, match="connect with an operator's profile"):
        settings.require_writable("retry")


@pytest.mark.parametrize(
    "make", [Producer, Relay, Supervisor, partial(Worker, home="mail", handlers=lambda _job: None)]
)
def test_nothing_of_the_engine_begins_with_read_only_settings(make: Callable[[Store], object]) -> None:
    settings = Settings(
        read_only=True, database_url=SecretStr("postgresql://127.0.0.1:1/x"), redis_url=SecretStr("redis://127.0.0.1:1")
    )
    with Store(settings) as store, pytest.raises(NotAllowed, match="is refused: the profile 'default' is read-only"):
        make(store)


@pytest.mark.parametrize(
    "words",
    [
        ("enqueue", "mail", "{}"),
        ("install",),
        ("relay",),
        ("worker", "mail", "--handlers", "queuemon.demo.workload:HANDLERS"),
        ("supervisor", "--handlers", "queuemon.demo.workload:HANDLERS"),
    ],
)
def test_no_command_that_writes_begins_with_read_only_settings(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment(monkeypatch, "postgresql://127.0.0.1:1/x", "redis://127.0.0.1:1", READ_ONLY="1")
    assert run(words) == 1
    assert "is refused: QUEUEMON_READ_ONLY is set" in capsys.readouterr().err


@pytest.mark.parametrize(
    "toml",
    [
        "[profiles.p.thresholds]\nwarning_waiting = 5000",
        "[profiles.p.thresholds]\ncritical_waiting = 50",
        "[profiles.p.queues.mail]\nwarning_waiting = 5000",
    ],
)
def test_a_warning_later_than_critical_is_refused(toml: str) -> None:
    write(toml)
    with pytest.raises(ConfigError, match=r"warning_waiting is [\d,]+, above critical_waiting"):
        config.load()


def test_a_queue_is_called_by_its_name_or_its_redis_key() -> None:
    write('[profiles.p.queues."queue:mail"]\nalert_depth = 5')
    assert config.load().thresholds_of("mail").alert_depth == 5
    assert config.load().thresholds_of("other").alert_depth == 10_000


def test_what_is_found_out_cannot_be_set() -> None:
    write("[profiles.p]\nembedded = true")
    with pytest.raises(ConfigError, match="'embedded' does not exist"):
        config.load()


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[profiles.prod", "is not TOML"),
        ("colour = 'red'", "holds colour beside its profiles"),
        ("[profiles]\nprod = 1", "something else"),
        (f"[profiles.p]\ndatabase_url = '{DATABASE}'", "redis_url of the profile 'p' is not set"),
        (
            f"[profiles.p]\ndatabase_url = 'mysql://u:canary@h/x'\nredis_url = '{REDIS}'",
            "database_url of the profile 'p' is not a URL",
        ),
        (f"[profiles.p]\ndatabase_url = 'postgresql://u:canary@h:port/x'\nredis_url = '{REDIS}'", "not a URL"),
        (
            f"[profiles.p]\ndatabase_url = '{DATABASE}'\nredis_url = 'redis://h/prod'",
            "redis_url of the profile 'p' is not a URL",
        ),
        (
            f"[profiles.p]\ndatabase_url = '{DATABASE}'\nredis_url = 'redis://h/0/99'",
            "redis_url of the profile 'p' is not a URL",
        ),
        (
            f"[profiles.p]\ndatabase_url = '{DATABASE}'\nredis_url = 'redis://h/?db=x'",
            "redis_url of the profile 'p' is not a URL",
        ),
        ("[profiles.p]\ncolor = 'red'", "setting 'color' does not exist"),
        ("[profiles.p]\ncolour = 'pink'", "setting 'colour' cannot be used"),
        ("[profiles.p]\nlease_seconds = -1", "setting 'lease_seconds' cannot be used"),
        ("[profiles.p]\nread_only = 'perhaps'", "setting 'read_only' cannot be used"),
        ("[profiles.p.thresholds]\nwarning = 1", "thresholds holds warning"),
        ("[profiles.p.thresholds]\nwarning_waiting = 'many'", "thresholds.warning_waiting is 'many'"),
        ("[profiles.p.thresholds]\nalert_failure_rate = 5", "which no rate exceeds"),
        ("[profiles.p.thresholds]\nalert_failure_rate = nan", "alert_failure_rate is nan"),
        ("[profiles.p.thresholds]\nalert_depth = inf", "alert_depth is inf"),
        ("[profiles.p.thresholds]\nalert_depth = 0.5", "alert_depth is 0.5"),
        ("[profiles.p.queues.mail]\nfailure_window_seconds = 60", "queues.mail holds failure_window_seconds"),
        ("[profiles.p.queues.mail]\nalert_publication_lag_seconds = 1", "one for all queues"),
        ("[profiles.p.queues]\nmail = 3", "queues.mail holds"),
        ("[profiles.p]\nkeys = 3", "setting 'keys' is not a table"),
        ("[profiles.p.keys]\nlist = 'x'", "unknown Redis keys"),
    ],
)
def test_every_mistake_is_one_sentence_that_says_what_next_and_holds_no_secret(toml: str, says: str) -> None:
    write(toml)
    with pytest.raises(ConfigError) as caught:
        config.load()
    message = str(caught.value)
    assert says in message
    assert "Next: " in message
    assert "canary" not in message
    assert "\n" not in message.replace(str(Path.cwd()), "")


def test_an_unknown_profile_is_answered_with_the_known_ones() -> None:
    write("[profiles.prod]\n[profiles.staging]\n")
    with pytest.raises(ConfigError, match=r"no profile 'prd'.*prod, staging"):
        config.load("prd")


def test_a_named_file_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUEMON_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigError, match=r"QUEUEMON_CONFIG names 'nowhere\.toml'"):
        config.load()


def test_settings_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings().read_only = True  # type: ignore[misc]
