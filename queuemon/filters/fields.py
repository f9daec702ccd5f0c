"""The words of the filter language (fields, operators, states) and its bounds, for parser, printer and compiler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from queuemon.contract import JobStatus

#: Bounds of one filter; beyond them it is refused with a FilterError.
MAX_LENGTH: Final = 10_000
MAX_TERMS: Final = 200  # each value of a list counts
MAX_DEPTH: Final = 50  # parentheses and `not`, one inside the other
MAX_PATH: Final = 20  # keys and indexes of a payload path
MAX_NUMBER: Final = 1_000  # digits of a number, and its exponent
MAX_INTEGER: Final = 2**31 - 1  # what attempts, max_attempts and gen can hold
MAX_SPAN_MS: Final = 36_500 * 86_400_000  # a hundred years


class Op(StrEnum):
    """How a field and its value are compared; `:` is read as the field's natural match."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    LIKE = "~"
    CONTAINS = ":"  # only of `error`; elsewhere `:` is EQ
    IN = "in"
    HAS = "has"


class Kind(StrEnum):
    """What a field holds, and with it which operators and values it takes."""

    ID = "id"
    QUEUE = "queue"
    STATUS = "status"
    WORD = "word"
    TEXT = "text"
    SIGNATURE = "signature"
    NUMBER = "whole number"
    MOMENT = "time"
    SPAN = "duration"
    PAYLOAD = "JSON"
    LENGTH = "number of members"


_ORDER = (Op.LT, Op.LE, Op.GT, Op.GE)

OPERATORS: Final[Mapping[Kind, tuple[Op, ...]]] = {
    Kind.ID: (Op.EQ, Op.NE, Op.LIKE, Op.IN),
    Kind.QUEUE: (Op.EQ, Op.NE, Op.LIKE, Op.IN),
    Kind.STATUS: (Op.EQ, Op.NE, Op.IN),
    Kind.WORD: (Op.EQ, Op.NE, Op.LIKE, Op.IN),
    Kind.TEXT: (Op.CONTAINS, Op.EQ, Op.NE, Op.LIKE, Op.IN),
    Kind.SIGNATURE: (Op.EQ, Op.NE, Op.IN),
    Kind.NUMBER: (Op.EQ, Op.NE, *_ORDER, Op.IN),
    Kind.MOMENT: (Op.EQ, Op.NE, *_ORDER),
    Kind.SPAN: _ORDER,
    Kind.PAYLOAD: (Op.EQ, Op.NE, *_ORDER, Op.LIKE, Op.IN, Op.HAS),
    Kind.LENGTH: (Op.EQ, Op.NE, *_ORDER, Op.IN),
}

#: `payload` without a path.
ROOT_OPERATORS: Final = (Op.LIKE, Op.HAS)

#: Kinds whose equality is printed with `:`.
WORDLIKE: Final = frozenset({Kind.ID, Kind.QUEUE, Kind.STATUS, Kind.WORD, Kind.SIGNATURE})


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of the language over one or two logical columns of `jobs`."""

    name: str
    kind: Kind
    #: Logical column; of a duration, the later and the earlier one ("now" is the clock).
    columns: tuple[str, ...]
    #: Whether `null` may stand as value.
    nullable: bool = False
    help: str
    example: str


def _fields(*fields: Field) -> Mapping[str, Field]:
    return {f.name: f for f in fields}


def _moment(name: str, column: str, help_text: str, example: str, *, nullable: bool = False) -> Field:
    return Field(name=name, kind=Kind.MOMENT, columns=(column,), nullable=nullable, help=help_text, example=example)


FIELDS: Final[Mapping[str, Field]] = _fields(
    Field(
        name="id",
        kind=Kind.ID,
        columns=("id",),
        help="the job's id; `~` takes its first characters",
        example="id~0199a7",
    ),
    Field(
        name="queue",
        kind=Kind.QUEUE,
        columns=("queue",),
        help="name of the queue, with or without `queue:` before it",
        example="queue:email-sending:high",
    ),
    Field(
        name="status",
        kind=Kind.STATUS,
        columns=("status",),
        help="the state, as the screens show it",
        example="status:failed",
    ),
    Field(
        name="error",
        kind=Kind.TEXT,
        columns=("error_message",),
        nullable=True,
        help="the error message; `:` finds a part of it in any case, `=` the whole",
        example="error:'division by zero'",
    ),
    Field(
        name="error_type",
        kind=Kind.WORD,
        columns=("error_type",),
        nullable=True,
        help="class of the error",
        example="error_type:ZeroDivisionError",
    ),
    Field(
        name="worker",
        kind=Kind.WORD,
        columns=("worker_id",),
        nullable=True,
        help="the worker that has or last had the job",
        example="worker:w1",
    ),
    Field(
        name="signature",
        kind=Kind.SIGNATURE,
        columns=(),
        help="signature of a failed attempt, the last or an earlier one",
        example="signature:ab12cd34",
    ),
    Field(
        name="attempts",
        kind=Kind.NUMBER,
        columns=("attempts",),
        help="attempts begun since the last retry",
        example="attempts>=3",
    ),
    Field(
        name="max_attempts",
        kind=Kind.NUMBER,
        columns=("max_attempts",),
        help="attempts allowed",
        example="max_attempts=1",
    ),
    Field(
        name="gen",
        kind=Kind.NUMBER,
        columns=("gen",),
        help="generation: one more at every re-publish",
        example="gen>1",
    ),
    _moment("created", "created_at", "when the job was created", "created>=2026-11-24T14:03"),
    _moment("updated", "updated_at", "when its row last changed", "updated>=14:03"),
    _moment("started", "started_at", "when its last attempt began", "started<now-10m", nullable=True),
    Field(
        name="hour",
        kind=Kind.NUMBER,
        columns=("started_at",),
        help="hour of the day, 0 to 23 UTC, in which its last attempt began",
        example="hour in (2, 3)",
    ),
    _moment("finished", "finished_at", "when it completed, failed or expired", "finished=2026-11-24", nullable=True),
    _moment("run_at", "run_at", "when it falls or fell due", "run_at>now+1h"),
    _moment("expires", "expires_at", "when it expires unless it has run", "expires<now+30m"),
    Field(name="age", kind=Kind.SPAN, columns=("now", "created_at"), help="now − created", example="age<2h"),
    Field(
        name="wait",
        kind=Kind.SPAN,
        columns=("started_at", "created_at"),
        help="started − created",
        example="wait>1h30m",
    ),
    Field(
        name="duration",
        kind=Kind.SPAN,
        columns=("finished_at", "started_at"),
        help="finished − started",
        example="duration>30s",
    ),
    Field(
        name="payload",
        kind=Kind.PAYLOAD,
        columns=("payload",),
        nullable=True,
        help='a value inside the payload: `payload.key.0."odd key"`; without a path only `~` and `has`',
        example="payload.month=2026-10",
    ),
    Field(
        name="length",
        kind=Kind.LENGTH,
        columns=("payload",),
        help="members of a list inside the payload; stands behind its path",
        example="payload.tags length>=3",
    ),
)

#: Other spellings: the names of the columns.
ALIASES: Final[Mapping[str, str]] = {
    "error_message": "error",
    "worker_id": "worker",
    "created_at": "created",
    "updated_at": "updated",
    "started_at": "started",
    "finished_at": "finished",
    "expires_at": "expires",
}


class State(StrEnum):
    """Disjoint parts of the five states; a status word names one or two of them."""

    DUE = "due"
    SCHEDULED = "scheduled"
    RUNNING = "running"  # active, and its worker beats
    STUCK = "stuck"  # active, and its worker's last beat is older than the lease
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"


#: Status word → the parts it names.
STATUSES: Final[Mapping[str, frozenset[State]]] = {
    "waiting": frozenset({State.DUE}),
    "scheduled": frozenset({State.SCHEDULED}),
    "active": frozenset({State.RUNNING, State.STUCK}),
    "stuck": frozenset({State.STUCK}),
    "completed": frozenset({State.COMPLETED}),
    "failed": frozenset({State.FAILED}),
    "expired": frozenset({State.EXPIRED}),
}

#: Which parts make up the stored state.
PARTS: Final[Mapping[JobStatus, frozenset[State]]] = {
    JobStatus.WAITING: frozenset({State.DUE, State.SCHEDULED}),
    JobStatus.ACTIVE: frozenset({State.RUNNING, State.STUCK}),
    JobStatus.COMPLETED: frozenset({State.COMPLETED}),
    JobStatus.FAILED: frozenset({State.FAILED}),
    JobStatus.EXPIRED: frozenset({State.EXPIRED}),
}


def operator_texts(field: Field, *, root: bool = False) -> tuple[str, ...]:
    """The operators that a field takes, as they are typed; `root` is `payload` without a path."""
    allowed = ROOT_OPERATORS if root else OPERATORS[field.kind]
    natural = (":",) if Op.EQ in allowed and Op.CONTAINS not in allowed else ()
    return (*natural, *(op.value for op in allowed))


def reference() -> str:
    """The table of fields in docs/filter.md, as Markdown."""
    rows = ["| field | what it is | operators | for example |", "|---|---|---|---|"]
    for field in FIELDS.values():
        operators = " ".join(f"`{op}`" for op in operator_texts(field))
        rows.append(f"| `{field.name}` | {field.help} | {operators} | `{field.example}` |")
    return "\n".join(rows)
