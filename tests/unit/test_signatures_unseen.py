"""The half of the corpus that was written without sight of the normaliser, and was not used to tune it."""

from __future__ import annotations

from queuemon.analysis.signatures import sign
from tests.support.corpus_b import MAKERS, VARIANTS, corpus
from tests.support.grouping import agreement


def test_unseen_failures_are_grouped_by_their_cause() -> None:
    found = agreement((cause, sign(*failure).id) for cause, failure in corpus())
    assert len(MAKERS) >= 30
    assert VARIANTS >= 20
    assert found.precision >= 0.98
    assert found.recall >= 0.98
