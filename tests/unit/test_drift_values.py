"""Elements as arrays: what is cut out of raw bytes is what a worker reads, and similar ids have prints of their own."""

from __future__ import annotations

import json
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuemon.contract import decode_element
from queuemon.drift import payloads
from queuemon.drift.elements import Fingerprints, cut, uuid_of
from queuemon.drift.held import inside, outside

_names = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=20)


@given(st.uuids(), st.integers(0, 2**31 - 1), _names, st.sampled_from([(",", ":"), (", ", " : "), (", ", ": ")]))
def test_an_element_is_read_as_a_worker_reads_it(
    job_id: UUID, gen: int, queue: str, separators: tuple[str, str]
) -> None:
    raw = json.dumps(
        {"id": str(job_id), "gen": gen, "queue": queue, "payload": {"id": "other", "gen": 7}}, separators=separators
    ).encode()
    found = cut([raw, b"junk junk", raw], queue)
    assert [UUID(bytes=i.tobytes()) for i in found.ids] == [job_id, job_id]
    assert found.gens.tolist() == [gen, gen]
    assert found.poison == [1]


@given(
    st.lists(st.binary(max_size=80) | st.text(max_size=80).map(str.encode) | st.uuids().map(lambda u: str(u).encode()))
)
def test_whatever_lies_in_a_list_it_is_an_element_exactly_where_a_worker_finds_one(raws: list[bytes]) -> None:
    found = cut(raws, "mail") if raws else None
    readable = [n for n, raw in enumerate(raws) if (e := decode_element(raw)) is not None and uuid_of(e.id) is not None]
    assert (found.at.tolist() if found else []) == readable


@pytest.mark.parametrize("step", [1, 7919, 2**20])
def test_ids_that_differ_in_a_few_bits_have_fingerprints_of_their_own(step: int) -> None:
    n = 200_000
    raw = b"".join(((0x018BCFE568007000 + i << 64) | (0x8000 << 48) | i * step).to_bytes(16, "big") for i in range(n))
    ids = np.frombuffer(raw, dtype="V16")
    marks = Fingerprints(np.random.default_rng(1)).of(ids, np.ones(n, dtype=np.int64))
    assert len(np.unique(marks)) == n


def test_outside_is_the_opposite_of_inside() -> None:
    rng = np.random.default_rng(1)
    some, others = (rng.integers(0, 500, size=300, dtype=np.uint64) for _ in range(2))
    assert (outside(some, np.sort(others)) == ~inside(some, np.sort(others))).all()
    assert outside(some, np.sort(others)[:0]).all()


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b'{"id" : "x", "payload" : {"a": 1}, "attempts" : 0}', '{"a": 1}'),
        (b'{"id":"x","payload":{"a":[1,2]}}', '{"a": [1, 2]}'),
        (b'{"id": "x"}', '{"id": "x"}'),
        (b"\xff", "�"),
    ],
)
def test_the_payload_of_an_element_is_shown_whoever_wrote_it(raw: bytes, shown: str) -> None:
    assert payloads._written(raw) == shown
