"""What a terminal test asserts: nothing that reached the terminal may steer it, and errors are one sentence."""

from __future__ import annotations

import re

#: What an operator's terminal must never receive from a job's text.
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

#: Text as hostile as a job's can be, for payloads, errors and names.
HOSTILE = "\x1b]52;c;Zm9v\x07\x1b[31m[bold red]x[/]\r\u202egnp.exe :smile: \x9b2J\ud800"


def assert_harmless(text: str) -> None:
    """No escape sequence, carriage return, bidi control or surrogate in it."""
    found = STEERING.search(text)
    assert found is None, f"{found[0]!r} at {found.start()}: {text[max(0, found.start() - 40) : found.end() + 40]!r}"


def assert_one_sentence(err: str, *, secrets: tuple[str, ...] = ()) -> None:
    """stderr holds one line of ours (and perhaps a filter with a caret under it), no traceback, no secret."""
    lines = err.splitlines()
    assert lines, "nothing was said"
    assert lines[0].startswith("queuemon: "), err
    assert len(lines) == 1 or (len(lines) == 3 and lines[2].strip() == "^"), err
    assert len(lines[0]) < 700, err
    assert "Traceback" not in err
    for secret in secrets:
        assert secret not in err, "a secret was printed"
    assert_harmless(err)
