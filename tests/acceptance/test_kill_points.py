"""kill -9 at every boundary of every store call of every action and of the relay: nothing is lost, nothing runs twice.

A seeded sample in every run, every point with `make prove`. Two lanes of real processes over real stores.
"""

from __future__ import annotations

import itertools
import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from queuemon import actions
from queuemon.errors import UnknownAction
from queuemon.model import ActionKind
from queuemon.store import Store
from tests.support.kills import tally
from tests.support.kills.case import Name, Verdict
from tests.support.kills.controls import CONTROLS
from tests.support.kills.duties import DUTIES, duty_names
from tests.support.kills.lane import SCENES, Lanes
from tests.support.kills.scenes import ACTIONS, PENDING
from tests.support.proofs import Proof
from tests.support.stores import TEMPLATE, Servers, private_folder

pytestmark = pytest.mark.acceptance

#: Kills of a scene in every run.
SAMPLE = 5
#: Kills of a negative control in every run; more where the first ones hit nothing that matters.
CONTROL_SAMPLES = (14, 50, 120)

PROVEN = [scene.name for kind, scene in ACTIONS.items() if kind not in PENDING] + [s.name for s in DUTIES.values()]


@dataclass(kw_only=True)
class Findings:
    """The verdicts of this run, and of earlier ones of the same proof."""

    #: Where a proof in full keeps them.
    file: Path | None
    verdicts: list[Verdict] = field(default_factory=list)
    scenes: set[str] = field(default_factory=set)

    def add(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        if self.file is not None:
            with self.file.open("a") as file:
                file.write(json.dumps(verdict.plain()) + "\n")


@pytest.fixture(scope="module")
def findings(proofs_folder: Path | None) -> Findings:
    """What all tests of this file found together."""
    file = proofs_folder / "kill-points.jsonl" if proofs_folder is not None else None
    earlier = file.read_text().splitlines() if file is not None and file.exists() else []
    return Findings(file=file, verdicts=[Verdict(**json.loads(line)) for line in earlier])


@pytest.fixture(scope="module")
def lanes(servers: Servers) -> Iterator[Lanes]:
    """Two lanes, each with a database and a Redis database of its own."""
    folder = private_folder()
    names = [f"kills_{secrets.token_hex(6)}" for _ in range(2)]
    for name in names:
        servers.execute(f"CREATE DATABASE {{}} TEMPLATE {TEMPLATE}", name)
    numbers = itertools.count(REDIS_FIRST)
    lanes = Lanes([(servers.database_url(name), servers.redis_url(next(numbers))) for name in names], folder)
    try:
        yield lanes
    finally:
        lanes.close()
        for name in names:
            servers.execute("DROP DATABASE {} WITH (FORCE)", name)
        shutil.rmtree(folder, ignore_errors=True)


#: Redis databases of the lanes; each is emptied before each case.
REDIS_FIRST = 62


@pytest.mark.prove
@pytest.mark.parametrize("name", PROVEN)
def test_a_kill_anywhere_loses_nothing_and_starts_no_generation_twice(
    lanes: Lanes, proof: Proof, findings: Findings, name: str
) -> None:
    cases = [str(case) for case in lanes.points(SCENES[name])]
    wrong = []
    for verdict in lanes.run([Name.of(case) for case in proof.chosen(cases, sample=SAMPLE)]):
        findings.add(verdict)
        found = verdict.lost + verdict.unexpected
        if Name.of(verdict.case).level != "L0":
            found += verdict.duplicated
        if found:
            wrong.append("\n  ".join([f"{verdict.case} ({', '.join(verdict.points)}; {verdict.recovery})", *found[:5]]))
        else:
            proof.held(verdict.case)
    findings.scenes.add(name)
    assert not wrong, f"{len(wrong)} cases\n" + "\n".join(wrong[:20])


@pytest.mark.prove
@pytest.mark.usefixtures("lanes")  # so that it stays with the tests whose sums it prints
def test_the_sums_of_all_kills(findings: Findings, proof: Proof, capsys: pytest.CaptureFixture[str]) -> None:
    if findings.scenes != set(PROVEN):
        pytest.skip("only a part of the scenes was run")
    with capsys.disabled():
        print(f"\n\n{tally.by_scene(findings.verdicts)}\n\n{tally.table(findings.verdicts)}")
        print(f"\nat L0, each with its cause:\n{tally.causes(findings.verdicts)}")
    assert sum(v.kills for v in findings.verdicts) >= (5_000 if proof.full else 100)
    assert not any(v.lost for v in findings.verdicts if not proof.full)


@pytest.mark.prove
@pytest.mark.parametrize("name", list(CONTROLS))
def test_the_harness_sees_what_another_protocol_loses_or_doubles(
    lanes: Lanes, proof: Proof, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [str(case) for case in lanes.points(CONTROLS[name])]
    verdicts: list[Verdict] = []
    for sample in CONTROL_SAMPLES:
        verdicts = list(lanes.run([Name.of(case) for case in proof.chosen(cases, sample=sample)]))
        if any(v.lost or v.duplicated or v.unexpected for v in verdicts):
            break
    with capsys.disabled():
        print(f"\n  {tally.control(name, verdicts)}")
    assert any(v.lost or v.duplicated or v.unexpected for v in verdicts)


def test_every_kind_of_action_has_a_scene(desk_store: Store) -> None:
    assert set(ACTIONS) | PENDING == set(ActionKind)
    for kind in PENDING:  # as soon as it can be planned it needs a scene
        with pytest.raises(UnknownAction):
            actions.plan(desk_store, kind, "status:failed")


def test_every_duty_of_the_relay_has_a_scene(desk_store: Store) -> None:
    assert set(duty_names(desk_store)) == set(DUTIES)


@pytest.fixture
def desk_store(settings) -> Iterator[Store]:  # type: ignore[no-untyped-def]
    """A store on the test's own databases."""
    with Store(settings) as store:
        yield store
