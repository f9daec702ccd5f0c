"""A job's payload as JSON that can be edited: secrets masked, put back afterwards, what changed shown line by line."""

from __future__ import annotations

import difflib
import json
import re
import threading
from collections.abc import Sequence
from typing import Any, Final

from traitlets import Dict, HasTraits

from queuemon.errors import InvalidValue, QueuemonError
from queuemon.masking import MASK, Masking, Sight, looks_secret
from queuemon.render.text import clean
from queuemon.views.confirm import Confirmation
from queuemon.workbench import Workbench

#: Characters of a payload that can be edited on the page; a larger one goes through the command line.
EDITABLE: Final = 100_000

#: Lines of a difference that are shown, and equal lines around each change.
DIFF_LINES: Final = 400
AROUND: Final = 3

#: What stands for a masked value: each has its number, so that it is found again wherever it is moved to.
_TOKEN: Final = re.compile(re.escape(MASK) + r"\((\d{1,6})\)")
_TOKEN_IN_JSON: Final = re.compile(r'(?<!\\)"' + re.escape(MASK) + r'\((\d{1,6})\)"')

#: What stands for a secret that was typed, where the difference is shown.
NEW_SECRET: Final = f"{MASK}(new)"

#: What would be invisible, or would reorder what is read: JSON has an escape for each of them.
_UNSAFE: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


class Editor(HasTraits):
    """The payload that is being edited."""

    #: {id, text, masked} or {id, error}; empty when none is. What is typed stays on the page.
    draft = Dict()

    def __init__(self, workbench: Workbench) -> None:
        super().__init__()
        self._workbench = workbench
        self._lock = threading.Lock()
        self._payload: tuple[str, Any] = ("", None)

    def open(self, job_id: str) -> None:
        """Read a job's payload as a draft."""
        with self._lock:
            self.draft = {"id": job_id, "loading": True}
        try:
            payload = self._workbench.job(job_id).job.payload
            text, secrets = draft_of(payload, self._workbench.settings.masking)
            found: dict[str, Any] = {"id": job_id, "text": text, "masked": len(secrets)}
        except QueuemonError as error:
            payload, found = None, {"id": job_id, "error": clean(str(error), 600)}
        with self._lock:
            if self.draft.get("id") == job_id:
                self._payload = (job_id, payload)
                self.draft = found

    def close(self) -> None:
        """Edit nothing."""
        with self._lock:
            self.draft, self._payload = {}, ("", None)

    def propose(self, confirmation: Confirmation, job_id: str, text: str) -> None:
        """The plan of a retry with the payload as it was typed, with what would change."""
        edited, payload = self._payload
        if edited != job_id:
            raise InvalidValue("this payload is no longer being edited", next_step="open it again")

        masking = self._workbench.settings.masking
        confirmation.propose_edit(
            job_id, lambda: (restored(text, payload, masking), difference(payload, text, masking))
        )


# ------------------------------------------------------------------------------------------------- values into text


def draft_of(payload: Any, masking: Masking) -> tuple[str, list[Any]]:
    """The payload as indented JSON with its secrets masked, and the secrets in the order of their numbers.

    Raises InvalidValue for what cannot be edited on a page: too long, nested too deeply, keys that are masked
    themselves, or no JSON at all.
    """
    secrets: list[Any] = []
    try:
        text = _pretty(_masked(payload, secrets, masking))
    except (RecursionError, ValueError):
        raise InvalidValue(
            "this payload is nested too deeply to edit, or holds numbers that JSON has no words for",
            next_step="use `queuemon edit ID --payload FILE`",
        ) from None
    if len(text) > EDITABLE:
        raise InvalidValue(
            f"this payload has {len(text):,} characters",
            expected=f"at most {EDITABLE:,} to edit it here",
            next_step="use `queuemon edit ID --payload FILE`",
        )
    return text, secrets


def restored(text: str, payload: Any, masking: Masking) -> str:
    """What was typed, with the masked values put back; raises InvalidValue where it is no JSON, and where a masked
    value would stand where it is not masked: looking at it is an action of its own."""
    typed = _parsed(text)
    _, secrets = draft_of(payload, masking)
    _check_hidden(typed, secrets, masking)

    def original(found: re.Match[str]) -> str:
        return json.dumps(_secret(secrets, found[1]))

    return _TOKEN_IN_JSON.sub(original, text)


def difference(payload: Any, text: str, masking: Masking) -> list[tuple[str, str]]:
    """The lines before (-) and after (+), with a few equal ones around; secrets masked on both sides."""
    before, _ = draft_of(payload, masking)
    after = _pretty(_hidden(_parsed(text), masking))
    lines: list[tuple[str, str]] = []
    groups = difflib.SequenceMatcher(None, old := before.splitlines(), new := after.splitlines(), autojunk=False)
    for number, group in enumerate(groups.get_grouped_opcodes(AROUND)):
        if number:
            lines.append(("", "…"))
        for word, i, j, k, m in group:
            if word == "equal":
                lines += [(" ", line) for line in old[i:j]]
            else:
                lines += [("-", line) for line in old[i:j]] + [("+", line) for line in new[k:m]]
    shown = [(sign, clean(line, 2_000)) for sign, line in lines[:DIFF_LINES]]
    return [*shown, ("", f"… {len(lines) - DIFF_LINES:,} more lines")] if len(lines) > DIFF_LINES else shown


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        said = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "a number"
        raise InvalidValue(f"the payload is no JSON ({said})", expected="JSON") from None
    except RecursionError:
        raise InvalidValue("the payload is nested too deeply", expected="JSON of a few hundred levels") from None


def _pretty(value: Any) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}", text)


def _secret(secrets: Sequence[Any], number: str) -> Any:
    if not 1 <= int(number) <= len(secrets):
        raise InvalidValue(
            f"{MASK}({number}) stands for no value of this payload",
            expected=f"{MASK}(1) to {MASK}({len(secrets)}), or a value",
            next_step="type the value",
        )
    return secrets[int(number) - 1]


def _check_hidden(
    value: Any, secrets: Sequence[Any], masking: Masking, key: str = "", sight: Sight = Sight.LOOK
) -> None:
    if isinstance(value, dict):
        for k, v in value.items():
            _check_hidden(v, secrets, masking, k, masking.below(k, sight))
    elif isinstance(value, list):
        for v in value:
            _check_hidden(v, secrets, masking, key, sight)
    elif isinstance(value, str) and (token := _TOKEN.fullmatch(value)):
        secret = _secret(secrets, token[1])
        if not masking.hides(secret, sight) and not (isinstance(secret, str) and _TOKEN.fullmatch(secret)):
            raise InvalidValue(
                f"what is masked would be shown under {clean(key, 60)!r}",
                expected="a key that is masked too",
                next_step="reveal it in the job's details, and type it",
            )


def _masked(value: Any, secrets: list[Any], masking: Masking, sight: Sight = Sight.LOOK) -> Any:
    """The value with a numbered token for each secret, which goes into `secrets`."""
    if isinstance(value, dict):
        if any(map(looks_secret, value)):
            raise InvalidValue(
                "this payload has keys that look secret or personal themselves",
                expected="keys that may be shown",
                next_step="use `queuemon edit ID --payload FILE`",
            )
        return {k: _masked(v, secrets, masking, masking.below(k, sight)) for k, v in value.items()}
    if isinstance(value, list):
        return [_masked(v, secrets, masking, sight) for v in value]
    # A text that looks like a token is treated as a secret, so that it comes back as what it is.
    if masking.hides(value, sight) or (isinstance(value, str) and _TOKEN.fullmatch(value)):
        secrets.append(value)
        return f"{MASK}({len(secrets)})"
    return value


def _hidden(value: Any, masking: Masking, sight: Sight = Sight.LOOK) -> Any:
    """What was typed as it may be shown: tokens as they are, every other secret hidden."""
    if isinstance(value, dict):
        return {masking.name(k): _hidden(v, masking, masking.below(k, sight)) for k, v in value.items()}
    if isinstance(value, list):
        return [_hidden(v, masking, sight) for v in value]
    token = _TOKEN.fullmatch(value) if isinstance(value, str) else None
    return NEW_SECRET if masking.hides(value, sight) and token is None else value
