"""The filter language (docs/filter.md): `JobFilter.parse`; the same words in Python, CLI, dashboard and runbooks."""

from __future__ import annotations

from dataclasses import dataclass

from queuemon.contract import JobStatus
from queuemon.filters.fields import MAX_DEPTH, MAX_LENGTH, MAX_TERMS, PARTS, Op, reference
from queuemon.filters.parser import parse as _parse
from queuemon.filters.printer import path_text, printed, quote
from queuemon.filters.suggest import suggest
from queuemon.filters.tree import And, Node, Term, Text, both, depth, possible_queues, possible_states, states, terms
from queuemon.filters.values import refused

__all__ = ["JobFilter", "path_text", "pointer", "quote", "reference", "suggest"]


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs are meant; `str()` is its canonical text, which parses to an equal filter.

    Times relative to now stay relative; they are fixed when the filter is turned into a statement.
    """

    root: Node

    def __post_init__(self) -> None:
        """Keep the bounds also where filters are put together."""
        for name, value, bound in (
            ("conditions", terms(self.root), MAX_TERMS),
            ("levels of nesting", depth(self.root), MAX_DEPTH),
            ("characters in canonical text", len(str(self)), MAX_LENGTH),
        ):
            if value > bound:
                raise refused(f"there are {value:,} {name}", 0, expected=f"at most {bound:,}")

    @classmethod
    def parse(cls, text: str) -> JobFilter:
        """Read a filter; the empty text matches every job. Raises FilterError, which carries the position."""
        return cls(root=_parse(text))

    @classmethod
    def all(cls) -> JobFilter:
        """Every job."""
        return cls(root=And(()))

    @classmethod
    def of(cls, *, queue: str | None = None, status: JobStatus | str | None = None) -> JobFilter:
        """The jobs of a queue (bare name), in a state, or both; `status` is a status word of the language."""
        made: list[Node] = []
        if queue is not None:
            made.append(Term("queue", Op.EQ, (Text(queue),)))
        if status is not None:
            made.append(_parse(f"status:{status}"))
        return cls(root=both(*made))

    def __str__(self) -> str:
        return printed(self.root)

    def __and__(self, other: JobFilter) -> JobFilter:
        return JobFilter(root=both(self.root, other.root))

    @property
    def matches_all(self) -> bool:
        """Whether it excludes nothing."""
        return self.root == And(())

    def queues(self) -> frozenset[str] | None:
        """The bare names of the queues it is limited to; None when it is not."""
        return possible_queues(self.root)

    def statuses(self) -> frozenset[JobStatus]:
        """The stored states in which a job can match."""
        possible = possible_states(self.root)
        return frozenset(status for status, parts in PARTS.items() if parts & possible)

    def queue_and_status(self) -> tuple[str | None, JobStatus | None] | None:
        """(queue, state), each or both None, when the filter is exactly that; else None. For counters.

        `status:waiting` leaves scheduled jobs out, so it is no whole stored state; `status in (waiting, scheduled)` is.
        """
        queue: str | None = None
        status: JobStatus | None = None
        for part in self.root.parts if isinstance(self.root, And) else (self.root,):
            whole = next((s for s, parts in PARTS.items() if parts == states(part)), None)
            if whole is not None and status is None:
                status = whole
            elif isinstance(part, Term) and part.field == "queue" and part.op is Op.EQ and queue is None:
                value = part.values[0]
                queue = value.text if isinstance(value, Text) else None
            else:
                return None
        return queue, status


def pointer(text: str, position: int, width: int = 76) -> str:
    """Two lines for a terminal: the part of the filter around a position, and a caret under it."""
    start = max(0, min(position - width // 2, len(text) - width))
    part = text[start : start + width]
    safe = "".join(c if c.isprintable() else "�" for c in part)
    return f"{safe}\n{' ' * (position - start)}^"
