"""Runs the scale_command of a profile, for workers that other machinery starts and stops; `scale` calls it."""

from __future__ import annotations

import re
import subprocess
from typing import Final

from queuemon.actions.entries import cleaned

#: A scale_command that runs longer is stopped.
COMMAND_SECONDS: Final = 30.0

#: Characters kept of what a scale_command printed.
OUTPUT_LENGTH: Final = 4_000


def run_command(command: tuple[str, ...], queue: str, count: int, secrets: tuple[str, ...]) -> tuple[str, str]:
    """Run a scale_command without a shell, {queue} and {count} filled in; returns (what failed or "", its output)."""
    values = {"{queue}": queue, "{count}": str(count)}
    arguments = [re.sub(r"\{(?:queue|count)\}", lambda m: values[m[0]], part) for part in command]
    try:
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return f"did not end within {COMMAND_SECONDS:g} s and was stopped", _output(error.output, secrets)
    except (OSError, ValueError) as error:
        return f"could not be run ({type(error).__name__})", ""
    failure = f"ended with exit code {done.returncode}" if done.returncode else ""
    return failure, _output(done.stdout, secrets)


def _output(raw: bytes | None, secrets: tuple[str, ...]) -> str:
    printed = cleaned((raw or b"").decode("utf-8", "replace"))
    for secret in secrets:
        printed = printed.replace(secret, "***")
    return printed[:OUTPUT_LENGTH].strip()
