"""The machinery of long proofs: samples are repeatable, full runs go on where they stopped."""

from __future__ import annotations

from pathlib import Path

from tests.support.proofs import Proof

CASES = [f"case {number}" for number in range(100)]


def test_a_sample_is_small_and_the_same_for_the_same_seed() -> None:
    first = list(Proof(seed=1, kept=None).cases(CASES, sample=10))
    assert len(set(first)) == 10
    assert first == list(Proof(seed=1, kept=None).cases(CASES, sample=10))
    assert first != list(Proof(seed=2, kept=None).cases(CASES, sample=10))


def test_a_full_run_goes_on_with_the_case_that_did_not_hold(tmp_path: Path) -> None:
    proof = Proof(seed=1, kept=tmp_path / "proven.txt")
    for case in proof.cases(CASES, sample=10):
        if case == "case 40":
            break
    assert list(proof.cases(CASES, sample=10)) == CASES[40:]
    assert list(proof.cases(CASES, sample=10)) == []
