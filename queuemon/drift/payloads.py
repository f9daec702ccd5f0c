"""Whether list elements carry the payload of their row: a deep look reads every element whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from queuemon.contract import decode_element
from queuemon.drift import lists
from queuemon.drift.elements import uuid_of
from queuemon.drift.model import Finding
from queuemon.store import Store, drift_reads

#: Where the publisher's element has its payload, word for word as PostgreSQL prints it.
_BEGINS: Final = b'", "payload" : '
_ENDS: Final = b', "attempts" : '

#: Characters of both payloads that a finding shows, masked.
EXCERPT: Final = 200

#: queue → (id, generation) → the element's bytes
Differing = Mapping[str, Mapping[tuple[UUID, int], bytes]]


def first(store: Store, meter: lists.Meter, queues: Sequence[str]) -> Differing:
    """Elements of waiting jobs, of their present generation, whose payload is not the row's."""
    return {queue: found for queue in queues if (found := _walk(store, meter, queue))}


def second(store: Store, meter: lists.Meter, differing: Differing) -> list[Finding]:
    """Those that still lie there and still differ, under the same generation."""
    findings = []

    def shown(text: str) -> str:
        return store.settings.masking.text(text[:EXCERPT]) + ("…" if len(text) > EXCERPT else "")

    for queue, before in differing.items():
        now = _walk(store, meter, queue)
        same = [key for key, raw in before.items() if now.get(key) == raw]
        texts = _texts(store, meter, [job_id for job_id, _ in same[:1_000]])
        for job_id, gen in same:
            here = _written(before[job_id, gen])
            detail = f"Redis {shown(here)}, PostgreSQL {shown(texts.get(job_id, '…'))}"
            findings.append(
                Finding(number=11, queue=queue, job_id=job_id, gen=gen, row="waiting", row_gen=gen, detail=detail)
            )
    return findings


def _walk(store: Store, meter: lists.Meter, queue: str) -> dict[tuple[UUID, int], bytes]:
    found: dict[tuple[UUID, int], bytes] = {}
    for window in lists.windows(store, meter, store.redis.keys.queue_key(queue)):
        found.update(_differing(store, meter, window.raws))
    return found


def _differing(store: Store, meter: lists.Meter, raws: Sequence[bytes]) -> dict[tuple[UUID, int], bytes]:
    mine: dict[UUID, tuple[int, bytes]] = {}
    for raw in raws:
        element = decode_element(raw)
        job_id = uuid_of(element.id) if element is not None else None
        if element is not None and job_id is not None and raw.lstrip().startswith(b"{"):
            mine[job_id] = (-1 if element.gen is None else element.gen, raw)
    if not mine:
        return {}

    def look() -> dict[UUID, tuple[int, str]]:
        with store.postgres.statement() as connection:
            return drift_reads.payloads(connection, store.tables, list(mine))

    rows = meter.postgres(look)
    unlike = [
        job_id
        for job_id, (gen, raw) in mine.items()
        if job_id in rows and gen in {-1, rows[job_id][0]} and _digest(_cut(raw)) != rows[job_id][1]
    ]
    if not unlike:
        return {}
    texts = _texts(store, meter, unlike)
    return {
        (job_id, rows[job_id][0]): mine[job_id][1]
        for job_id in unlike
        if job_id in texts and not _means_the_same(mine[job_id][1], texts[job_id])
    }


def _texts(store: Store, meter: lists.Meter, ids: Sequence[UUID]) -> dict[UUID, str]:
    def look() -> dict[UUID, str]:
        with store.postgres.statement() as connection:
            return drift_reads.payload_texts(connection, store.tables, ids)

    return meter.postgres(look) if ids else {}


def _cut(raw: bytes) -> bytes | None:
    """The payload's bytes in an element as the publisher writes it."""
    begin, end = raw.find(_BEGINS), raw.rfind(_ENDS)
    return raw[begin + len(_BEGINS) : end] if 0 < begin < end else None


def _written(raw: bytes) -> str:
    """The payload's text in an element, whoever wrote it and with whatever spaces."""
    if (cut := _cut(raw)) is not None:
        return cut.decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(raw)["payload"], ensure_ascii=False)
    except (ValueError, KeyError, TypeError, RecursionError):
        return raw.decode("utf-8", "replace")


def _digest(payload: bytes | None) -> str | None:
    return None if payload is None else hashlib.md5(payload, usedforsecurity=False).hexdigest()


def _means_the_same(raw: bytes, text: str) -> bool:
    """Whether the payloads are equal as JSON, numbers digit for digit; an element without one has nothing to differ."""
    try:
        element = _parsed(raw.decode("utf-8"))
        return "payload" not in element or element["payload"] == _parsed(text)
    except (ValueError, RecursionError):
        return False


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)
