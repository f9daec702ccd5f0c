"""The name of a queue as people type it; workbench and plans look it up here."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from queuemon.contract import Keys
from queuemon.errors import UnknownQueue


def queue_named(text: str, names: Collection[str], keys: Keys) -> str:
    """The bare name of an existing queue, from a name with or without its prefix; raises UnknownQueue."""
    bare = keys.queue_name(text)
    for candidate in (text, bare):
        if candidate in names:
            return candidate
    close = difflib.get_close_matches(bare[:200], names, n=3)
    listed = ", ".join(sorted(names)[:20]) + (" …" if len(names) > 20 else "")
    raise UnknownQueue(
        f"there is no queue {bare[:200]!r}",
        expected=f"one of {listed}" if names else "a row of job_queues, of which there are none",
        next_step=f"did you mean {' or '.join(close)}?" if close else "correct the name",
    )
