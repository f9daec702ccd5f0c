"""Long proofs: a seeded sample in every run, all their cases with `make prove`, which goes on where it stopped.

A proof is a test marked `prove` that walks its cases through the `proof` fixture:

    @pytest.mark.prove
    def test_no_job_is_lost_wherever_the_process_dies(proof):
        for case in proof.cases([f"{process} at {point}" for …], sample=20):
            …
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Proof:
    """How much of a proof this run does."""

    #: Of the sample, and for whatever else a proof draws. QUEUEMON_TEST_SEED chooses another one.
    seed: int
    #: Where the proven cases of this test are kept; None means that this run does a sample.
    kept: Path | None

    @property
    def full(self) -> bool:
        """Whether every case is to be proven."""
        return self.kept is not None

    def cases(self, cases: Sequence[str], *, sample: int) -> Iterator[str]:
        """The cases to prove now: a sample, or all that are not proven yet. Asking for the next one says: it held."""
        for case in self.chosen(cases, sample=sample):
            yield case
            self.held(case)

    def chosen(self, cases: Sequence[str], *, sample: int) -> list[str]:
        """The same at once, for proofs that run several cases side by side and say themselves which `held`."""
        if self.kept is None:
            return random.Random(self.seed).sample(cases, min(sample, len(cases)))
        proven = set(self.kept.read_text().splitlines()) if self.kept.exists() else set()
        return [case for case in cases if case not in proven]

    def held(self, case: str) -> None:
        """Remember that a case is proven of the present code."""
        if self.kept is not None:
            with self.kept.open("a") as file:
                file.write(f"{case}\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--proofs",
        metavar="FOLDER",
        help="run proofs in full and keep in FOLDER what is proven of the present code",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In full a proof takes as long as it takes: limits that files set for their samples would end it."""
    if config.getoption("--proofs") is not None:
        for item in items:
            item.add_marker(pytest.mark.timeout(0), append=False)


def code_digest() -> str:
    """Changes with every file of the package and of the tests: what was proven of other code is not proven."""
    digest = hashlib.sha256()
    for folder in ("queuemon", "tests"):
        for path in sorted((_ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(str(path.relative_to(_ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@pytest.fixture(scope="session")
def proofs_folder(request: pytest.FixtureRequest) -> Path | None:
    """The folder for what is proven of the present code; None when this run does samples."""
    chosen = request.config.getoption("--proofs")
    if chosen is None:
        return None
    folder = Path(chosen) / code_digest()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def proof(request: pytest.FixtureRequest, proofs_folder: Path | None) -> Proof:
    """See `Proof`.."""
    seed = int(os.environ.get("QUEUEMON_TEST_SEED", "1"))
    kept = None
    if proofs_folder is not None:
        kept = proofs_folder / (re.sub(r"[^\w.-]+", "_", request.node.nodeid) + ".txt")
    return Proof(seed=seed, kept=kept)
