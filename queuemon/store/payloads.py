"""Values out of payloads beside a page of jobs, and the paths that stand there: the chosen columns of the job list."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Text, cast, func, select

from queuemon.masking import looks_secret
from queuemon.schema.tables import Tables
from queuemon.store.chunks import among

#: Jobs and bytes of a payload that are looked through for paths; keys one inside the other, and paths found, at most.
LOOKED_AT: Final = 50
SMALL_BYTES: Final = 20_000
DEPTH: Final = 4
PATHS: Final = 80
KEY_LENGTH: Final = 80

#: Characters of a value that travel.
VALUE: Final = 400


def paths(connection: Connection, t: Tables, ids: Sequence[UUID]) -> tuple[tuple[str, ...], ...]:
    """Paths of keys in the payloads of some of these jobs, those in most jobs first; lists are not entered.

    Large payloads are passed over, and keys that look like personal data themselves.
    """
    rows = connection.execute(
        select(cast(t.jobs.c.payload, Text)).where(
            among(t, ids[:LOOKED_AT]), func.pg_column_size(t.jobs.c.payload) <= SMALL_BYTES
        )
    ).scalars()
    found: Counter[tuple[str, ...]] = Counter()
    for text in rows:
        try:
            found.update(_walk(json.loads(text), ()))
        except (ValueError, RecursionError):
            continue
    return tuple(path for path, _ in found.most_common(PATHS))


def _walk(value: Any, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(value, dict):
        return
    for key, inner in list(value.items())[:PATHS]:
        if not key or "." in key or len(key) > KEY_LENGTH or looks_secret(key):
            continue
        path = (*above, key)
        if isinstance(inner, dict) and len(path) < DEPTH:
            yield from _walk(inner, path)
        else:
            yield path


def values(
    connection: Connection, t: Tables, ids: Sequence[UUID], chosen: Sequence[Sequence[str]]
) -> dict[UUID, tuple[str | None, ...]]:
    """The first characters of what stands under these paths, as text (an object or list as JSON); None for nothing."""
    picked = [
        func.left(func.jsonb_extract_path_text(t.jobs.c.payload, *path, type_=Text), VALUE).label(f"value{n}")
        for n, path in enumerate(chosen)
    ]
    rows = connection.execute(select(t.jobs.c.id, *picked).where(among(t, ids)))
    return {row[0]: tuple(row[1:]) for row in rows}
