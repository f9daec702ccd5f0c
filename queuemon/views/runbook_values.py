"""Runbooks, their forms and their runs as plain values for the page: texts are cleaned here, Vue escapes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from queuemon.contract import Keys
from queuemon.errors import QueuemonError
from queuemon.render.text import clean, duration
from queuemon.runbooks import catalogue
from queuemon.runbooks.catalogue import RunbookInfo
from queuemon.runbooks.execution import TIMEOUT_SECONDS
from queuemon.runbooks.parameters import Parameter
from queuemon.runbooks.past import PastRun
from queuemon.runbooks.progress import StepProgress

#: Characters of what a cell said that are shown; the record has it all.
SAID: Final = 1_500

#: Endings of a parameter's name that say its unit.
UNITS: Final = {"_seconds": "seconds", "_percent": "%", "_days": "days", "_hours": "hours"}


def listed(info: RunbookInfo) -> dict[str, str]:
    """A runbook in the list."""
    return {
        "name": info.name,
        "title": clean(info.title, 120),
        "use": clean(info.when.partition("\n")[0], 300),
    }


def form_values(info: RunbookInfo, *, approval: bool) -> dict[str, Any]:
    """A runbook and its parameters, without values."""
    return {
        "name": info.name,
        "title": clean(info.title, 120),
        "when": [clean(part, 1_000) for part in info.when.split("\n\n") if part.strip()],
        "steps": [clean(step, 60) for step in info.steps],
        "limit": duration(info.timeout_seconds or TIMEOUT_SECONDS),
        "approval": info.approval or approval,
        "fields": [field_values(p) for p in info.parameters if p.name != "dry_run"],
    }


def field_values(p: Parameter) -> dict[str, Any]:
    """A field of the form."""
    unit = next((unit for ending, unit in UNITS.items() if p.name.endswith(ending)), "")
    ending = next((ending for ending in UNITS if p.name.endswith(ending)), "")
    return {
        "name": p.name,
        "label": clean(p.name.removesuffix(ending).replace("_", " "), 80),
        "unit": unit,
        "help": clean(p.help, 300),
        "takes": clean(p.expected, 200),
        "input": input_of(p),
        "choices": [clean(choice, 80) for choice in p.choices],
        "required": p.required or (p.kind == "queue" and not p.optional and not p.many),
    }


def input_of(p: Parameter) -> str:
    """How a parameter is asked for."""
    if p.type == "bool":
        return "flag"
    if p.kind == "queue":
        return "queues" if p.many else "queue"
    if p.choices:
        return "choices" if p.many else "choice"
    return "number" if p.type in {"int", "float"} else "list" if p.many else "text"


def shown(p: Parameter, value: object, keys: Keys) -> Any:
    """A value as the form holds it: a flag, a list of names, or text."""
    if p.type == "bool":
        return value is True or (isinstance(value, str) and value.strip().lower() in {"true", "yes", "on", "1"})
    if p.many:
        given = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
        names = [keys.queue_name(str(item)) if p.kind == "queue" else str(item) for item in given]
        return names if input_of(p) in {"queues", "choices"} else ", ".join(names)
    if p.kind == "queue" and value:
        return keys.queue_name(str(value))
    return "" if value is None else _number(value)


def field_error(error: QueuemonError) -> str:
    """What is wrong with a field, under it: the field itself says which one."""
    found = "" if error.found.startswith("parameter ") and " is " in error.found else f"{error.found}. "
    return clean(f"{found}Takes {error.expected}." if not found else f"{found}Expected: {error.expected}.", 300)


def run_row(run: PastRun, keys: Keys) -> dict[str, Any]:
    """One line of the history."""
    return {
        "id": run.id,
        "name": clean(run.name, 80),
        "at": run.started_at.timestamp(),
        "dry": run.dry_run,
        "on": about(run.parameters, keys),
        "parameters": parameters_text(run.parameters),
        "actor": clean(run.actor, 80),
        "took": None if run.seconds is None else duration(round(run.seconds, 1)),
        "state": state_of(run),
        "tone": tone_of(run),
        "verdict": verdict(run),
    }


def about(parameters: Mapping[str, Any], keys: Keys) -> str:
    """The queues that a run is about; empty for all."""
    named = [parameters.get("queue"), *(parameters.get("queues") or [])]
    return clean(", ".join(keys.display(str(name)) for name in named if name), 200)


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Parameters in a line."""
    return clean("  ".join(f"{k}={v!r}" for k, v in parameters.items() if k != "dry_run"), 600)


def state_of(run: PastRun) -> str:
    """The state of a run in words."""
    return "waits for approval" if run.unapproved else clean(run.state, 20)


def tone_of(run: PastRun) -> str:
    """Whether that is good, partly, bad, or still open."""
    if run.unapproved:
        return "partly"
    return {"done": "good", "failed": "bad", "running": "open"}.get(run.state, "partly")


def verdict(run: PastRun) -> str:
    """How a run ended, in a sentence."""
    did = run.did
    if run.unapproved:
        return f"Refused at {run.step}: it {did}, and waits for another role's approval of this very plan."
    match run.state:
        case "running":
            return ""
        case "done" if run.dry_run:
            return f"Nothing was changed. It {did}." if did else "Nothing was changed, and nothing would be."
        case "done":
            return f"Done and verified: {did}." if did else "Done and verified; there was nothing to do."
        case "failed":
            end = "" if run.error.endswith((".", "?")) else "."
            return clean(f"Failed at {run.step}: {run.error}{end}" + (f" It did: {did}." if did else ""), 1_000)
        case "stopped":
            return "Stopped on request." + (f" It did: {did}." if did else "")
    return "Its process is gone without a word." + (f" It did: {did}." if did else "")


def starting(run_id: str, info: RunbookInfo, values: Mapping[str, Any], keys: Keys) -> dict[str, Any]:
    """A run that has no record yet."""
    return {
        "id": run_id, "name": info.name, "title": clean(info.title, 120), "state": "running", "starting": True,
        "dry": bool(values.get("dry_run", False)), "on": about(values, keys), "steps": [], "actions": [], "verdict": "",
        "tone": "open", "parameters": parameter_rows(values),
    }  # fmt: skip


def run_values(run: PastRun, steps: tuple[StepProgress, ...], keys: Keys) -> dict[str, Any]:
    """The run that is open."""
    try:
        info: RunbookInfo | None = catalogue.describe(run.name)
    except QueuemonError:
        info = None
    return {
        "id": run.id,
        "name": clean(run.name, 80),
        "title": clean(info.title if info else run.name, 120),
        "state": state_of(run),
        "running": run.state == "running",
        "tone": tone_of(run),
        "dry": run.dry_run,
        "on": about(run.parameters, keys),
        "parameters": parameter_rows(run.parameters),
        "actor": clean(run.actor, 80),
        "started": run.started_at.timestamp(),
        "finished": run.finished_at.timestamp() if run.finished_at else None,
        "verdict": verdict(run),
        "steps": [step_values(s) for s in steps],
        "actions": [action_values(a) for a in run.actions],
        "goOn": run.can_go_on,
        "waits": bool(run.unapproved),
        "next": [clean(part, 1_000) for part in (info.next if info else "").split("\n\n") if part.strip()],
        "html": clean(str(run.html), 400) if run.html.exists() else "",
        "notebook": clean(str(run.notebook), 400),
    }


def action_values(a: Mapping[str, Any]) -> dict[str, str]:
    """An action of a run, as its record notes it."""
    found = {name: clean(str(a.get(name) or ""), 64) for name in ("id", "kind", "state", "hash")}
    return found | {"by": clean(str(a.get("approved_by") or ""), 80)}


def parameter_rows(parameters: Mapping[str, Any]) -> list[list[str]]:
    """The parameters that were given something, each with its value."""
    told = {k: v for k, v in parameters.items() if k != "dry_run" and v not in ("", [], None)}
    return [[clean(k.replace("_", " "), 80), clean(_plain(v), 300)] for k, v in told.items()]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else _number(value)


def _number(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def step_values(s: StepProgress) -> dict[str, Any]:
    """One cell of the run."""
    return {
        "cell": s.cell,
        "name": clean(s.step, 60),
        "state": s.state,
        "took": duration(round(s.seconds, 1)) if s.state in {"done", "failed"} else "",
        "said": clean(s.said, SAID, lines=True),
    }
