"""The words of plans and results."""

from __future__ import annotations

from itertools import product

import pytest

from queuemon.actions import text
from queuemon.contract import JobStatus
from queuemon.model import ActionKind, Breakdown, Count
from queuemon.store.chunks import Standing

BULK = [kind for kind in ActionKind if kind.bulk]


def summary(kind: ActionKind, planned: int, done: int, skipped: dict[str, int] | None = None, gone: int = 0) -> str:
    return text.bulk_summary(
        kind, planned=planned, done=done, skipped=skipped or {}, gone=gone, stopped=False, published=True
    )


def test_a_result_says_how_many_were_done_and_why_the_others_were_not() -> None:
    assert (
        summary(ActionKind.RETRY, 50, 45, {"is running again": 3}, gone=2)
        == "Retried 45 of 50. 5 were skipped: 3 are running again, 2 were deleted."
    )


@pytest.mark.parametrize(
    ("kind", "one", "many", "none"),
    [
        (ActionKind.RETRY, "Retried 1 job.", "Retried 1,200 jobs.", "Retried none of 2."),
        (ActionKind.DELETE, "Deleted 1 job.", "Deleted 1,200 jobs.", "Deleted none of 2."),
        (ActionKind.CLEAR_FAILED, "Cleared 1 job.", "Cleared 1,200 jobs.", "Cleared none of 2."),
        (ActionKind.RUN_NOW, "Made 1 job due now.", "Made 1,200 jobs due now.", "Made none of 2 due now."),
    ],
)
def test_every_kind_has_its_words_for_none_one_and_many(kind: ActionKind, one: str, many: str, none: str) -> None:
    assert summary(kind, 1, 1) == one
    assert summary(kind, 1_200, 1_200) == many
    assert summary(kind, 2, 0) == none
    assert summary(kind, 0, 0) == "There was nothing to do."


def test_a_single_job_that_was_refused_is_spoken_of_as_one() -> None:
    assert summary(ActionKind.RETRY, 1, 0, {"is running again": 1}) == "The job was not retried: it is running again."
    assert summary(ActionKind.DELETE, 1, 0, gone=1) == "The job was not deleted: it was deleted already."
    assert summary(ActionKind.RUN_NOW, 2, 1, {"is due already": 1}) == (
        "Made 1 of 2 due now. 1 was skipped: 1 is due already."
    )


def test_a_stopped_action_and_one_that_redis_did_not_hear_of_say_so() -> None:
    words = {"planned": 9, "done": 4, "skipped": {}, "gone": 0}
    assert text.bulk_summary(ActionKind.RETRY, **words, stopped=True, published=True) == (  # type: ignore[arg-type]
        "Stopped on request. Retried 4 of 9."
    )
    assert text.bulk_summary(ActionKind.RETRY, **words, stopped=False, published=False) == (  # type: ignore[arg-type]
        f"Retried 4 of 9. {text.REDIS_SILENT}."
    )


def test_there_is_a_reason_for_every_kind_and_every_standing_and_it_has_a_plural() -> None:
    for kind, status, due, later in product(BULK, JobStatus, (False, True), (False, True)):
        reason = text.why_not(kind, Standing(status=status, due=due, later=later))
        many = text.plural(reason)
        assert reason
        assert not many.startswith(("is ", "was ", "has ")), many
    assert text.plural("no longer exists") == "no longer exist"


@pytest.mark.parametrize(
    ("status", "later", "words"),
    [
        (JobStatus.ACTIVE, True, "is running again"),
        (JobStatus.ACTIVE, False, "is running"),
        (JobStatus.WAITING, True, "is waiting already"),
        (JobStatus.COMPLETED, True, "completed meanwhile"),
        (JobStatus.COMPLETED, False, "is completed"),
        (JobStatus.FAILED, True, "failed again meanwhile"),
    ],
)
def test_a_retry_says_what_happened_since(status: JobStatus, later: bool, words: str) -> None:
    assert text.why_not(ActionKind.RETRY, Standing(status=status, due=True, later=later)) == words


def test_reasons_are_ordered_by_number_then_by_name() -> None:
    assert text.breakdown({"b": 1, "a": 1, "c": 5, "none": 0}) == (
        Breakdown(label="c", count=5),
        Breakdown(label="a", count=1),
        Breakdown(label="b", count=1),
    )


def test_a_removal_says_what_goes_and_what_is_kept() -> None:
    parts = (Breakdown(label="completed", count=1_000), Breakdown(label="failed", count=234))
    assert text.removal_effect(Count(value=1_234), parts, 7) == (
        "removes 1,234 jobs (1,000 completed, 234 failed); copies are kept for 7 days"
    )
    assert text.removal_effect(Count(value=1), parts[:1], 0) == "removes 1 job; no copies are kept"
