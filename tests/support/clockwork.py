"""A database whose `now()` is what the test says: hours of a job system's life in seconds."""

from __future__ import annotations

from datetime import datetime

import psycopg

#: Schemas named before pg_catalog are searched first, so every statement of the product calls these two.
_CLOCK = """
CREATE SCHEMA clockwork;
CREATE TABLE clockwork.clock (at timestamptz NOT NULL);
INSERT INTO clockwork.clock VALUES (pg_catalog.now());
CREATE FUNCTION clockwork.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM clockwork.clock';
CREATE FUNCTION clockwork.clock_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM clockwork.clock';
"""


class Clockwork:
    """The clock of one database; sessions that open after it was made go by it."""

    def __init__(self, url: str, at: datetime) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute(_CLOCK)
        name = self._connection.info.dbname
        self._connection.execute(f'ALTER DATABASE "{name}" SET search_path = clockwork, pg_catalog, public')
        self.set(at)

    def set(self, at: datetime) -> None:
        """It is now `at`."""
        self._connection.execute("UPDATE clockwork.clock SET at = %s", (at,))
        self.at = at

    def close(self) -> None:
        """Let the database go."""
        self._connection.close()
