"""Settings: environment, queuemon.toml, defaults; every mistake is one sentence without a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from queuemon import config
from queuemon.config import Settings
from queuemon.errors import ConfigError, StackError
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


def test_a_profile_sets_everything_and_the_environment_beats_it(monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setenv("QUEUEMON_REDIS_URL", "redis://localhost/5")
    assert config.load("prod").redis_url.get_secret_value() == "redis://localhost/5"


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[profiles.prod", "is not TOML"),
        ("colour = 'red'", "holds colour beside its profiles"),
        ("[profiles]\nprod = 1", "something else"),
        (f"[profiles.p]\ndatabase_url = '{DATABASE}'", "QUEUEMON_REDIS_URL is not set"),
        (
            f"[profiles.p]\ndatabase_url = 'mysql://u:canary@h/x'\nredis_url = '{REDIS}'",
            "QUEUEMON_DATABASE_URL is not a URL",
        ),
        (f"[profiles.p]\ndatabase_url = 'postgresql://u:canary@h:port/x'\nredis_url = '{REDIS}'", "not a URL"),
        (f"[profiles.p]\ndatabase_url = '{DATABASE}'\nredis_url = 'redis://h/prod'", "QUEUEMON_REDIS_URL is not a URL"),
        (f"[profiles.p]\ndatabase_url = '{DATABASE}'\nredis_url = 'redis://h/0/99'", "QUEUEMON_REDIS_URL is not a URL"),
        (
            f"[profiles.p]\ndatabase_url = '{DATABASE}'\nredis_url = 'redis://h/?db=x'",
            "QUEUEMON_REDIS_URL is not a URL",
        ),
        ("[profiles.p]\ncolor = 'red'", "setting 'color' does not exist"),
        ("[profiles.p]\ncolour = 'pink'", "setting 'colour' cannot be used"),
        ("[profiles.p]\nlease_seconds = -1", "setting 'lease_seconds' cannot be used"),
        ("[profiles.p]\nread_only = 'perhaps'", "setting 'read_only' cannot be used"),
        ("[profiles.p.thresholds]\nwarning = 1", "thresholds holds warning"),
        ("[profiles.p.thresholds]\nwarning_waiting = 'many'", "thresholds.warning_waiting is 'many'"),
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
