"""The quarantine: elements are moved there raw, listed, made jobs of, or discarded; repair and the workbench use it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

from queuemon.actions.bulk import owes
from queuemon.actions.entries import Journal, result
from queuemon.contract import decode_element
from queuemon.drift import lists
from queuemon.drift.elements import TOMBSTONE_ID, cut, uuid_of
from queuemon.drift.held import digest_of
from queuemon.drift.model import Finding
from queuemon.engine.publisher import publish
from queuemon.errors import InvalidValue, StoreError
from queuemon.masking import MASK
from queuemon.model import ActionKind, ActionProgress, ActionResult, Breakdown, Plan
from queuemon.store import Store, audit, drift_reads, drift_repairs, numbers, outbox
from queuemon.store.audit import Entry
from queuemon.store.settling import Looks, settled

#: Elements of a quarantine that are listed, and within which one is searched.
LISTED: Final = 1_000

#: Bytes of an element that are shown.
SHOWN: Final = 2_000

#: Elements that may have been pushed between reading a window and taking something out of it.
SPAN: Final = 1_000


def tombstone(queue: str) -> str:
    """What stands in a list where an element was taken out: a job that no row is, which every claim refuses."""
    return json.dumps({"id": str(TOMBSTONE_ID), "gen": 0, "queue": queue}, separators=(",", ":"))


def set_aside(store: Store, meter: lists.Meter, queue: str, found: Sequence[Finding]) -> list[Finding]:
    """Move the elements of these findings (ghosts, poison) into the queue's quarantine; returns those that were moved.

    Each is searched window by window and taken out where it lies, if it is the same, byte for byte.
    """
    ghosts = {(f.job_id, f.gen): [] for f in found if f.number == 2}  # type: dict[Any, list[Finding]]
    poison = {f.key: [] for f in found if f.number == 13}  # type: dict[str, list[Finding]]
    for f in found:
        (ghosts[f.job_id, f.gen] if f.number == 2 else poison[f.key]).append(f)
    moved: list[Finding] = []
    ready: list[tuple[Finding, bytes, int]] = []
    for window in lists.windows(store, meter, store.redis.keys.queue_key(queue)):
        # One window late: the next one was laid against the elements of this one.
        moved += _take_out(store, queue, ready)
        ready = []
        parts = cut(window.raws, queue)
        for n, i, gen in zip(parts.at.tolist(), parts.ids, parts.gens.tolist(), strict=True):
            wanted = ghosts.get((UUID(bytes=i.tobytes()), gen if gen >= 0 else None))
            if wanted:
                ready.append((wanted.pop(), window.raws[n], window.depth + len(window.raws) - 1 - n))
        for n in parts.poison:
            same = poison.get(digest_of(window.raws[n]))
            if same:
                ready.append((same.pop(), window.raws[n], window.depth + len(window.raws) - 1 - n))
    return moved + _take_out(store, queue, ready)


def _take_out(store: Store, queue: str, ready: Sequence[tuple[Finding, bytes, int]]) -> list[Finding]:
    keys = store.redis.keys
    moved = []
    for finding, raw, depth in ready:
        names = [keys.queue_key(queue), keys.quarantine_key(queue)]
        span = SPAN if len(raw) < 10_000 else 10
        if store.redis.run("set_aside", names, [tombstone(queue), depth, span, raw]):
            moved.append(finding)
    return moved


# ------------------------------------------------------------------------------------------------------------ looking


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """An element that was set aside."""

    queue: str
    #: What it is named by: the beginning of the SHA-256 of its bytes.
    digest: str
    size: int
    #: Its beginning, with masks in the payload; hostile.
    text: str
    #: The job that it names, where it can be read.
    job_id: UUID | None
    #: Why it cannot be made a job of; empty where it can.
    why_not: str


def listed(store: Store, queue: str, *, limit: int = 100) -> tuple[Quarantined, ...]:
    """What lies in a queue's quarantine, the oldest first, at most 1,000."""
    if not 1 <= limit <= LISTED:
        raise InvalidValue(f"limit is {limit}", expected=f"1 to {LISTED:,}")
    return tuple(_described(store, queue, raw) for raw in _raws(store, queue, limit))


def _raws(store: Store, queue: str, limit: int = LISTED) -> list[bytes]:
    with store.redis.call() as client:
        raws: Any = client.lrange(store.redis.keys.quarantine_key(queue), 0, limit - 1)
    return list(raws)


def _described(store: Store, queue: str, raw: bytes) -> Quarantined:
    job_id, why = None, ""
    try:
        job_id = _job_of(store, queue, raw)[0]
    except InvalidValue as error:
        why = error.found
        element = decode_element(raw)
        job_id = uuid_of(element.id) if element is not None else None
    return Quarantined(
        queue=queue, digest=digest_of(raw)[:16], size=len(raw), text=shown(store, raw), job_id=job_id, why_not=why
    )


def _job_of(store: Store, queue: str, raw: bytes) -> tuple[UUID, str, int]:
    """(id, payload's JSON, generation) of an element that can be made a job of; raises InvalidValue, which says why."""
    element = decode_element(raw)
    job_id = uuid_of(element.id) if element is not None else None
    if element is None or job_id is None or job_id == TOMBSTONE_ID:
        raise InvalidValue("it names no job", expected="an element with a UUID")
    if element.queue is not None and element.queue != queue:
        raise InvalidValue(f"it names the queue {element.queue!r}", expected=f"an element of {queue!r}")
    payload = _payload(raw)
    with store.postgres.begin(read_only=True) as connection:
        if drift_reads.rows_of(connection, store.tables, [job_id]):
            raise InvalidValue("a job with its id exists", expected="an id without a row")
    return job_id, payload, min(element.gen or 0, 2**31 - 10)


def _payload(raw: bytes) -> str:
    try:
        value = json.loads(raw.decode("utf-8"), parse_float=_Verbatim, parse_int=_Verbatim)
    except (ValueError, RecursionError):
        raise InvalidValue("it carries no payload", expected="JSON with a payload") from None
    if not isinstance(value, dict) or "payload" not in value:
        raise InvalidValue("it carries no payload", expected="JSON with a payload")
    text = _written(value["payload"])
    if "\\u0000" in text:
        raise InvalidValue("its payload holds a NUL, which PostgreSQL cannot", expected="text without NUL")
    return text


class _Verbatim(str):
    """A number as it was written, digit for digit."""

    __slots__ = ()


def _written(value: Any) -> str:
    match value:
        case _Verbatim():
            return str(value)
        case dict():
            return "{" + ",".join(f"{json.dumps(k)}:{_written(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_written, value)) + "]"
        case float():  # NaN and infinities, which JSON does not know
            raise InvalidValue("its payload holds a number that JSON does not know", expected="JSON")
        case _:
            return json.dumps(value)


# -------------------------------------------------------------------------------------------------------- adopting


def plan(
    store: Store, queue: str, *, digests: Sequence[str] | None = None, discard: bool = False,
    action_id: UUID | None = None,
) -> Plan:  # fmt: skip
    """Make jobs of quarantined elements (all that can be, or those named), or discard those named, which nothing else
    does. Raises InvalidValue for a name that nothing carries."""
    there = listed(store, queue, limit=LISTED)
    if discard and not digests:
        raise InvalidValue("nothing was named", expected="the names of the elements to discard")
    names = {q.digest for q in there}
    for digest in digests or ():
        if digest not in names:
            raise InvalidValue(
                f"nothing in quarantine is called {digest[:40]!r}", expected="a name from `queuemon quarantine list`"
            )
    chosen = [q for q in there if digests is None or q.digest in digests]
    possible = [q for q in chosen if discard or not q.why_not]
    left: dict[str, int] = {}
    for q in chosen:
        if q not in possible:
            left[q.why_not] = left.get(q.why_not, 0) + 1
    verb = "discards for good" if discard else "makes jobs of"
    with store.postgres.begin(read_only=True) as connection:
        clock = numbers.clock(connection)
    return Plan(
        id=action_id or uuid4(), kind=ActionKind.ADOPT, target=queue, ids=None, cutoff=clock, count=len(possible),
        by_queue=(Breakdown(label=queue, count=len(possible)),) if possible else (),
        excluded=tuple(Breakdown(label=why, count=n) for why, n in sorted(left.items())),
        effect=f"{verb} {len(possible):,} quarantined elements" if possible else "changes nothing",
        warnings=("what is discarded cannot be brought back",) if discard and possible else (),
        options={"discard": discard, "digests": [q.digest for q in possible]},
    )  # fmt: skip


def carry_out(
    store: Store,
    journal: Journal,
    entry: Entry,
    *,
    progress: Callable[[ActionProgress], None] | None,
    stop: threading.Event | None,
) -> ActionResult:
    """Carry an entered action of kind "adopt" out, element by element.

    The row and its outbox row commit, then the element leaves the quarantine; a crash in between leaves an element
    whose job exists, which the list says.
    """
    queue, discard = entry.record.target, entry.record.options["discard"]
    published, stopped, resumed = True, False, entry.cursor is not None
    at = entry.cursor.int if entry.cursor is not None else 0
    for n, digest in enumerate(entry.record.options["digests"]):
        if n < at or not entry.running:
            continue
        if stopped := stop is not None and stop.is_set():
            break
        raw = next((r for r in _raws(store, queue) if digest_of(r)[:16] == digest), None)
        publication: int | None = None
        with journal.turn(entry) as (connection, held):
            if not held.running or (held.cursor.int if held.cursor else 0) != n:
                entry = held
                continue
            name = UUID(digest + "0" * 16)
            why, job_id = ("is in quarantine no longer", None) if raw is None else ("", name)
            if raw is not None and not discard:
                why, job_id, publication = _adopt(connection, store, queue, raw)
            ids = [job_id] if not why and job_id is not None else []
            drift_repairs.note_chunk(connection, store.tables, entry.record.id, ids)
            if ids:
                before = {"quarantine": digest, "raw": shown(store, raw or b"")}
                after = "discarded" if discard else "waiting"
                noted = {"queue": queue, "job": job_id, "before": before, "after": after}
                actor = audit.actor(journal.user)
                drift_repairs.note_repairs(connection, store.tables, entry.record.id, actor, [noted])
            entry = journal.advance(
                connection, held, cursor=UUID(int=n + 1), done=len(ids), skipped={name: why} if why else None
            )
        if raw is not None and ids:
            with store.redis.call() as client:
                client.lrem(store.redis.keys.quarantine_key(queue), 1, raw)  # type: ignore[arg-type]
        if progress is not None:
            r = entry.record
            progress(
                ActionProgress(
                    id=r.id, planned=r.planned, done=r.done, skipped=r.skipped, per_second=0.0, eta_seconds=None
                )
            )
        if publication is not None:
            try:
                settled(partial(publish, store, outbox_ids=[publication]), Looks(under_way=True))
            except StoreError:
                published = False
    published = published and not (resumed and owes(store, entry))
    with journal.turn(entry) as (connection, held):
        if not held.running:
            return journal.repeated(connection, held)
        record = held.record
        verb = "Discarded" if discard else "Adopted"
        why = "".join(f" {n:,} {reason_}." for reason_, n in held.skipped.items())
        state = "done" if record.done >= record.planned else "partly" if record.done else "refused"
        state = "stopped" if stopped else state
        summary = f"{'Stopped on request. ' * stopped}{verb} {record.done:,} of {record.planned:,}.{why}"
        ended = journal.end(connection, held, state=state, summary=summary, published=published)
        return result(ended, published=published)


def _adopt(connection: Any, store: Store, queue: str, raw: bytes) -> tuple[str, UUID | None, int | None]:
    """(why not, id, outbox row)."""
    try:
        job_id, payload, gen = _job_of(store, queue, raw)
    except InvalidValue as error:
        return error.found, None, None
    floor = lists.markers(store, lists.Meter(), [str(job_id)]).get(str(job_id), 0)
    made = drift_repairs.adopt(
        connection, store.tables, job_id=job_id, queue=queue, payload=payload, above=max(gen, floor)
    )
    if not made:
        return "a job with its id exists", None, None
    return "", job_id, outbox.add(connection, store.tables, [job_id])


def shown(store: Store, raw: bytes) -> str:
    """The beginning of an element as text that PostgreSQL can keep, with masks where a list of jobs has them."""
    masking = store.settings.masking
    text = raw[:SHOWN].decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    return masking.text(text) if text.lstrip()[:1] in {"{", "["} else MASK if masking.hides(text) else text
