"""Signs failed attempts that have no signature, or one of an older normaliser; the relay does it, a batch at a time."""

from __future__ import annotations

from typing import Final

from queuemon.analysis.frames import TRACE_PART
from queuemon.analysis.normalise import MESSAGE_PART
from queuemon.analysis.signatures import NORMALISER_VERSION, sign_all
from queuemon.store import Store, signing, upkeep

#: Attempts per batch: about 0.2 s.
BATCH: Final = 1_000

#: Advisory lock: one relay at a time signs.
_LOCK: Final = 0x7369676E


def sign_attempts(store: Store, *, limit: int = BATCH) -> int:
    """Sign the newest attempts that are unsigned; returns how many. Nothing to do costs one look at an index."""
    with store.postgres.begin() as connection:
        if not upkeep.try_lock(connection, _LOCK):
            return 0
        found = signing.unsigned(
            connection, store.tables, version=NORMALISER_VERSION, limit=limit, parts=(MESSAGE_PART, TRACE_PART)
        )
        signatures = sign_all((row.error_type, row.message, row.stack_trace) for row in found)
        signed = [(row.id, signature.id) for row, signature in zip(found, signatures, strict=True)]
        signing.write(connection, store.tables, signed, version=NORMALISER_VERSION)
    return len(found)
