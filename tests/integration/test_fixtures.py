"""The fixtures keep what they promise."""

import psycopg
import pytest
import redis

from queuemon.config import Settings

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("round_", [1, 2])
def test_every_test_gets_a_migrated_database_without_jobs(database: str, round_: int) -> None:
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
        connection.execute("INSERT INTO job_queues (name) VALUES ('mine')")


@pytest.mark.parametrize("round_", [1, 2])
def test_every_test_gets_an_empty_redis(redis_url: str, round_: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("mine", round_)


def test_settings_lead_to_both_stores(settings: Settings) -> None:
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        assert client.ping()
