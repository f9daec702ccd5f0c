"""Looking at what is masked in payloads, as an action: planned, given a reason, entered in the audit trail, then done.

It changes no job. What is kept are names of keys, never a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from queuemon.actions import text
from queuemon.actions.entries import Journal, result
from queuemon.errors import InvalidValue
from queuemon.filters import JobFilter
from queuemon.model import ActionKind, ActionResult, Count, JobDetail, Plan
from queuemon.store import Store, numbers
from queuemon.store.audit import Entry


def plan_job(store: Store, detail: JobDetail) -> Plan:
    """What a reveal of one job's payload would show; raises InvalidValue where nothing of it is masked."""
    keys = detail.masking.paths(detail.job.payload)
    if not keys:
        raise InvalidValue(
            f"nothing is masked in the payload of job {detail.job.id}", expected="a payload with masked values"
        )
    return Plan(
        id=uuid4(), kind=ActionKind.REVEAL, target=str(detail.job.id), ids=(detail.job.id,), cutoff=detail.clock,
        count=1, effect=f"shows what is masked under {_listed(keys)}; the audit trail keeps who, why and which keys, "
        "never a value", options={"keys": list(keys)},
    )  # fmt: skip


def plan_export(store: Store, where: JobFilter, count: Count, *, columns: Sequence[str]) -> Plan:
    """What an export of a filter's jobs that masks nothing would show."""
    keys = [name for name in columns if name == "payload" or name.startswith("payload.")]
    if not keys:
        raise InvalidValue("none of these columns is masked", expected="payload, or payload.PATH among the columns")
    with store.postgres.begin(read_only=True) as connection:
        now = numbers.clock(connection)
    return Plan(
        id=uuid4(), kind=ActionKind.REVEAL, target=str(where), ids=None, cutoff=now, count=count.value,
        certainty=count.certainty, effect=f"writes {_listed(keys)} of {count} jobs as they are",
        options={"keys": keys, "export": True},
    )  # fmt: skip


def _listed(keys: Sequence[str]) -> str:
    more = len(keys) - 6
    return ", ".join(keys[:6]) + (f" and {text.counted(more, 'other key')}" if more > 0 else "")


def check_reason(reason: str) -> None:
    """Raises InvalidValue without a reason."""
    if not reason.strip():
        raise InvalidValue("no reason is given", expected="why the masked values are looked at", next_step="say why")


def carry_out(journal: Journal, entry: Entry) -> ActionResult:
    """Enter in the audit trail that masked values are shown; whoever asked shows them afterwards."""
    with journal.turn(entry) as (connection, held):
        if not held.running:
            return journal.repeated(connection, held)
        noted = journal.advance(connection, held, done=held.record.planned)
        jobs = text.counted(noted.record.planned)
        return result(journal.end(connection, noted, state="done", summary=f"Revealed what is masked of {jobs}."))
