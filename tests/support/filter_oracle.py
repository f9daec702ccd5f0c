"""What a filter means, said a second time in plain Python: the tests compare PostgreSQL's answer with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from queuemon.filters import JobFilter
from queuemon.filters.fields import FIELDS, Kind, Op
from queuemon.filters.tree import And, At, Clock, Constant, Node, Not, Now, Number, Or, Search, Span, Term, Text, Value

MISSING = object()


def matches(where: JobFilter, job: Mapping[str, Any], now: datetime, lease_seconds: float = 30.0) -> bool:
    """`job` has the logical columns of `jobs` (payload decoded with Decimal for fractions) and `signatures`, a set."""
    return _node(where.root, job, now, timedelta(seconds=lease_seconds))


def _node(node: Node, job: Mapping[str, Any], now: datetime, lease: timedelta) -> bool:
    match node:
        case And(parts=parts):
            return all(_node(p, job, now, lease) for p in parts)
        case Or(parts=parts):
            return any(_node(p, job, now, lease) for p in parts)
        case Not(inner=inner):
            return not _node(inner, job, now, lease)
        case Search(text=text):
            word = text.strip().lower()
            if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", word):
                return str(job["id"]) == word
            return _contains(job["error_message"], text) or (
                bool(re.fullmatch(r"[0-9a-f-]+", word)) and str(job["id"]).startswith(word)
            )
        case Term(op=Op.NE):
            return not _node(Term(node.field, Op.EQ, node.values, node.path), job, now, lease)
        case Term(op=Op.IN):
            return any(_node(Term(node.field, Op.EQ, (v,), node.path), job, now, lease) for v in node.values)
    value, field = node.values[0], FIELDS[node.field]
    match field.kind:
        case Kind.STATUS:
            return value.text in _words(job, now, lease)
        case Kind.SIGNATURE:
            return value.text in job["signatures"]
        case Kind.LENGTH:
            inside = _inside(job["payload"], node.path)
            if not isinstance(inside, list):
                return False
            wanted = int(value.text)
            return len(inside) == wanted if node.op is Op.EQ else _ordered(len(inside), node.op, wanted)
        case Kind.PAYLOAD:
            return _payload(_inside(job["payload"], node.path), node.op, value)
        case Kind.SPAN:
            later = now if field.columns[0] == "now" else job[field.columns[0]]
            earlier = job[field.columns[1]]
            return later is not None and earlier is not None and _ordered(later - earlier, node.op, value.delta)
    stored = job[field.columns[0]]
    if field.name == "hour":
        stored = None if stored is None else stored.astimezone(UTC).hour
    if isinstance(value, Constant):
        return stored is None
    if stored is None:
        return False
    match field.kind:
        case Kind.NUMBER:
            return stored == int(value.text) if node.op is Op.EQ else _ordered(stored, node.op, int(value.text))
        case Kind.MOMENT:
            return _moment(stored, node.op, value, now)
        case Kind.ID if node.op is Op.LIKE:
            return str(stored).startswith(value.text)
    match node.op:
        case Op.CONTAINS:
            return _contains(stored, value.text)
        case Op.LIKE:
            return _like(stored, value.text)
        case _:
            return str(stored) == value.text


def _words(job: Mapping[str, Any], now: datetime, lease: timedelta) -> set[str]:
    status = job["status"]
    if status == "waiting":
        return {"scheduled" if job["run_at"] > now else "waiting"}
    beat = job["heartbeat_at"] or job["started_at"] or job["updated_at"]
    return {status, "stuck"} if status == "active" and beat < now - lease else {status}


def _ordered(left: Any, op: Op, right: Any) -> bool:
    return {Op.LT: left < right, Op.LE: left <= right, Op.GT: left > right, Op.GE: left >= right}[op]


def _moment(stored: datetime, op: Op, value: At | Clock | Now, now: datetime) -> bool:
    match value:
        case Now(shift_milliseconds=shift):
            start, last = now + timedelta(milliseconds=shift), timedelta()
        case Clock(since_midnight=since, precision=precision):
            start, last = (
                datetime.combine(now.astimezone(UTC).date(), datetime.min.time(), UTC) + since,
                precision.value,
            )
        case At(start=start, precision=precision):
            last = precision.value
    if last:
        last -= timedelta(microseconds=1)
    return {
        Op.EQ: start <= stored <= start + last,
        Op.LT: stored < start,
        Op.LE: stored <= start + last,
        Op.GT: stored > start + last,
        Op.GE: stored >= start,
    }[op]


def _contains(stored: str | None, text: str) -> bool:
    return stored is not None and text.lower() in stored.lower()


def _like(stored: str, pattern: str) -> bool:
    parts = re.findall(r"\\[%\\]|.", pattern, re.DOTALL)
    made = "".join(".*" if p == "%" else re.escape(p[-1] if len(p) == 2 else p) for p in parts)
    if "%" not in parts:
        made = f".*{made}.*"
    return re.fullmatch(made, stored, re.DOTALL | re.IGNORECASE) is not None


# ------------------------------------------------------------------------------------------------------------ payload


def _inside(payload: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        if isinstance(payload, dict) and str(part) in payload:
            payload = payload[str(part)]
        elif isinstance(payload, list) and isinstance(part, int) and part < len(payload):
            payload = payload[part]
        else:
            return MISSING
    return payload


def _equal(stored: Any, value: Value) -> bool:
    if isinstance(stored, str):
        return stored == value.text
    if isinstance(value, Constant):
        return stored is {"true": True, "false": False, "null": None}[value.text]
    number = isinstance(stored, int | Decimal) and not isinstance(stored, bool)
    return number and isinstance(value, Number) and Decimal(stored) == Decimal(value.text)


def _payload(stored: Any, op: Op, value: Value) -> bool:
    if stored is MISSING:
        return False
    match op:
        case Op.EQ:
            return _equal(stored, value)
        case Op.HAS:
            members = stored if isinstance(stored, list) else []
            return any(_equal(m, value) for m in members) or (isinstance(stored, dict) and value.text in stored)
        case Op.LIKE:
            return stored is not None and _like(stored if isinstance(stored, str) else jsonb_text(stored), value.text)
    if isinstance(value, Text):
        return isinstance(stored, str) and _ordered(stored, op, value.text)
    if isinstance(stored, str) and re.fullmatch(r"-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,100})?", stored):
        stored = Decimal(stored)
    if isinstance(stored, bool) or not isinstance(stored, int | Decimal):
        return False
    return _ordered(Decimal(stored), op, Decimal(value.text))


def jsonb_text(value: Any) -> str:
    """JSON as PostgreSQL prints a jsonb: keys by length, then bytes; numbers without exponent."""
    match value:
        case dict():
            keys = sorted(value, key=lambda k: (len(k.encode()), k.encode()))
            return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {jsonb_text(value[k])}" for k in keys) + "}"
        case list():
            return "[" + ", ".join(map(jsonb_text, value)) + "]"
        case bool() | None | str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return format(value, "f") if isinstance(value, Decimal) else str(value)


def span_of(value: Value) -> timedelta:
    """A duration's length."""
    assert isinstance(value, Span)
    return value.delta
