"""List elements as arrays: ids and generations are cut out of the raw bytes, without reading their JSON; scans use it.

An element that looks exactly as the publisher writes it is recognised by its first bytes, a thousand at once; whatever
looks different is read one by one, as a worker reads it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from queuemon.contract import decode_element

Array = npt.NDArray[Any]

#: What a worker drops without a word (it claims by id, and no row has this one): stands where an element was taken out.
TOMBSTONE_ID: Final = UUID(int=0)

#: How PostgreSQL's json_build_object and a compact JSON writer begin an element: before the id, the generation, the
#: queue's name, and after it.
_LAYOUTS: Final = ((b'{"id" : "', b'", "gen" : ', b', "queue" : ', b","), (b'{"id":"', b'","gen":', b',"queue":', b","))

_ID_LENGTH: Final = 36
_HYPHENS: Final = (8, 13, 18, 23)
_HEX: Final = np.full(256, 255, dtype=np.uint8)
_HEX[[*b"0123456789abcdef"]] = range(16)
_HEX[[*b"ABCDEF"]] = range(10, 16)
_NIBBLES: Final = np.array([n for n in range(_ID_LENGTH) if n not in _HYPHENS])
_GEN_DIGITS: Final = 9


@dataclass(kw_only=True)
class Cut:
    """A window's elements; the arrays name those with a job's id, in the order of the list."""

    #: Positions in the window of the elements with an id.
    at: Array
    #: Their ids, 16 bytes each.
    ids: Array
    #: Their generations; -1 where the element names none.
    gens: Array
    #: Positions of those that nobody can read, or whose id cannot be a job's.
    poison: list[int] = field(default_factory=list)


def cut(raws: Sequence[bytes], queue: str) -> Cut:
    """Ids and generations of a window of a queue's list."""
    n = len(raws)
    ids, gens, known = np.zeros((n, 16), dtype=np.uint8), np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=bool)
    name = json.dumps(queue, ensure_ascii=False).encode()
    for layout in _LAYOUTS:
        rest = np.flatnonzero(~known)
        if not len(rest) or (layout is not _LAYOUTS[0] and not _begins(raws, rest, layout[0])):
            continue
        some = raws if len(rest) == n else [raws[i] for i in rest.tolist()]
        here, found_ids, found_gens = _fast(some, name, layout)
        where = rest[here]
        ids[where], gens[where], known[where] = found_ids[here], found_gens[here], True
    poison = []
    for i in np.flatnonzero(~known).tolist():
        element = decode_element(raws[i])
        job_id = uuid_of(element.id) if element is not None else None
        if element is None or job_id is None:
            poison.append(i)
            continue
        ids[i] = np.frombuffer(job_id.bytes, dtype=np.uint8)
        gens[i] = -1 if element.gen is None or not -1 < element.gen < 2**62 else element.gen
        known[i] = True
    at = np.flatnonzero(known)
    return Cut(at=at, ids=np.ascontiguousarray(ids[at]).view("V16").reshape(-1), gens=gens[at], poison=poison)


def uuid_of(text: str) -> UUID | None:
    """An id that a row of `jobs` can have."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _begins(raws: Sequence[bytes], rest: Array, prefix: bytes) -> bool:
    return any(raws[i].startswith(prefix) for i in rest[:50].tolist())


def _fast(raws: Sequence[bytes], name: bytes, layout: tuple[bytes, bytes, bytes, bytes]) -> tuple[Array, Array, Array]:
    """(which elements have exactly this layout, all ids, all generations)."""
    before, middle, between, after = layout
    tail = between + name + after
    start = len(before)
    gen_at = start + _ID_LENGTH + len(middle)
    width = gen_at + _GEN_DIGITS + len(tail)
    head = np.array([raw[:width] for raw in raws], dtype=f"S{width}").view(np.uint8).reshape(len(raws), width)
    fine = np.fromiter((raw[-1:] == b"}" for raw in raws), dtype=bool, count=len(raws))
    fine &= _same(head, 0, before) & _same(head, start + _ID_LENGTH, middle)
    for hyphen in _HYPHENS:
        fine &= head[:, start + hyphen] == ord("-")
    nibbles = _HEX[head[:, start + _NIBBLES]]
    fine &= (nibbles < 16).all(axis=1)
    ids = (nibbles[:, 0::2] << 4) | (nibbles[:, 1::2] & 15)
    gens, digits = np.zeros(len(raws), dtype=np.int64), np.zeros(len(raws), dtype=np.int64)
    more = np.ones(len(raws), dtype=bool)
    for n in range(_GEN_DIGITS):
        digit = head[:, gen_at + n] - np.uint8(ord("0"))
        more &= digit < 10
        if not more.any():
            break
        gens = np.where(more, gens * 10 + digit, gens)
        digits += more
    for length in np.unique(digits):
        here = digits == length
        fine &= ~here | (_same(head, gen_at + int(length), tail) if length else np.zeros(len(raws), dtype=bool))
    return fine, ids, gens


def _same(head: Array, at: int, expected: bytes) -> Array:
    wanted = np.frombuffer(expected, dtype=np.uint8)
    same: Array = (head[:, at : at + len(wanted)] == wanted).all(axis=1)
    return same


class Fingerprints:
    """64 bits for an id and its generation, with a salt of its own: the next comparison cannot err on the same job."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._salt = rng.integers(1, 2**63, size=3, dtype=np.uint64)

    def of(self, ids: Array, gens: Array) -> Array:
        """The fingerprints of ids (16 bytes each) with their generations."""
        halves = np.ascontiguousarray(ids).view(np.uint64).reshape(-1, 2)
        mixed = _mix(halves[:, 0] ^ self._salt[0])
        mixed = _mix(mixed + (halves[:, 1] ^ self._salt[1]))
        return _mix(mixed + (gens.astype(np.uint64) ^ self._salt[2]))


def _mix(x: Array) -> Array:
    """The finaliser of SplitMix64: every bit of the input moves every bit of the output."""
    x = x ^ (x >> np.uint64(30))
    x = x * np.uint64(0xBF58476D1CE4E5B9)
    x = x ^ (x >> np.uint64(27))
    x = x * np.uint64(0x94D049BB133111EB)
    found: Array = x ^ (x >> np.uint64(31))
    return found
