"""Nothing is lost or doubled in any order of events; and the machine that says so finds errors that are planted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis.errors import FlakyFailure
from sqlalchemy import text

from queuemon.actions import bulk
from queuemon.config import Settings
from queuemon.engine.publisher import push
from queuemon.store import changes, claims, outbox
from tests.support.machine import machine_over, run
from tests.support.mortal import AtOnce
from tests.support.promises import violations
from tests.support.proofs import Proof
from tests.support.world import World

pytestmark = pytest.mark.integration


@pytest.fixture
def world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Chunks of two jobs, so that an action of a few has several; nothing runs in a second thread."""
    monkeypatch.setattr(bulk, "ThreadPoolExecutor", AtOnce)
    made = World(settings.model_copy(update={"backoff_seconds": 0.0, "chunk_rows": 2}))
    yield made
    made.close()


@pytest.mark.prove
def test_nothing_is_lost_or_doubled_whatever_happens_in_whatever_order(world: World, proof: Proof) -> None:
    for case in proof.cases([f"seed {n}" for n in range(100)], sample=1):
        run(world, int(case.removeprefix("seed ")), examples=10, steps=30)


def found(world: World, pattern: str) -> bool:
    """Whether the machine fails for this reason, whether or not the failure comes again when it is replayed."""
    with pytest.raises((AssertionError, FlakyFailure)):
        run(world, 1, examples=100, steps=20)
    return any(re.search(pattern, wrong) for wrong in world.wrong)


def test_the_machine_finds_a_publication_that_is_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(*given: Any) -> list[Any]:
        real(*given)
        return []

    real = outbox.take
    monkeypatch.setattr(outbox, "take", forget)
    assert found(world, "nothing will bring it to a worker|for good")


def found_at_a_death(world: World) -> set[str]:
    """What is wrong after a retry that dies at each of its boundaries in turn: a search meets the one by luck alone."""
    wrong: set[str] = set()
    for death in range(25):
        machine: Any = machine_over(world)()
        machine.begin(failed=2, waiting=0)
        machine.act_on_jobs("retry", "reports", death, None)
        wrong |= set(violations(world))
    return wrong


def test_the_machine_finds_elements_that_are_pushed_before_the_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def push_first(connection: Any, t: Any, *given: Any, **named: Any) -> Any:
        outcome = real(connection, t, *given, **named)
        if outcome.publication is not None:
            push(world.wb.store, outbox.take(connection, t, [outcome.publication]))
        return outcome

    assert not found_at_a_death(world)
    real = changes.change_chunk
    monkeypatch.setattr(changes, "change_chunk", push_first)
    assert any(re.search("whose row has", wrong) for wrong in found_at_a_death(world))


def test_the_machine_finds_a_claim_that_asks_for_no_state(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def claim_anything(connection: Any, t: Any, *, job_id: Any, **given: Any) -> Any:
        connection.execute(text("UPDATE jobs SET status = 'waiting' WHERE id = :job"), {"job": job_id})
        return real(connection, t, job_id=job_id, **given)

    real = claims.claim
    monkeypatch.setattr(claims, "claim", claim_anything)
    assert found(world, r"started 2 times in generation")
