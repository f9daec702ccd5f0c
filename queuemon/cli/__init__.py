"""The command line: parse, call one function, print. `main` turns every error into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from queuemon.errors import QueuemonError

__all__ = ["main", "run"]

INTERRUPTED = 130


def main() -> None:
    """The program `queuemon`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's) and return its exit code; no exception leaves but SystemExit."""
    try:
        from typer.main import get_command

        from queuemon.cli.app import app

        ended = get_command(app).main(
            list(sys.argv[1:] if arguments is None else arguments), prog_name="queuemon", standalone_mode=False
        )
        sys.stdout.flush()
        return ended if isinstance(ended, int) else 0
    except QueuemonError as error:
        _explain(error)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away, which is no error of ours; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if hasattr(error, "format_message"):  # what typer says about the words of the command line
            return _misused(error)
        _unexpected(error)
        return 1


def _explain(error: QueuemonError) -> None:
    from queuemon.cli.terminal import warn
    from queuemon.render.text import clean

    _trace()
    warn(str(error))
    for note in getattr(error, "__notes__", ()):
        print(clean(note, 2_000, lines=True), file=sys.stderr)  # noqa: T201


def _misused(error: Exception) -> int:
    from queuemon.cli.terminal import warn

    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        print(context.get_help())  # noqa: T201
        return 2
    command = context.command_path if context is not None else "queuemon"
    words = error.format_message().replace("Value error, ", "").rstrip(".")  # type: ignore[attr-defined]
    warn(f"{words}{'' if words.endswith('?') else '.'} See `{command} --help`.")
    return int(getattr(error, "exit_code", 2))


def _unexpected(error: Exception) -> None:
    """A bug of ours: its type and place, but not its text, which may hold anything."""
    from queuemon.cli.terminal import warn

    _trace()
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "queuemon" in Path(f.filename).parts]
    place = f" in {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    warn(f"unexpected {type(error).__name__}{place}. This is a bug; QUEUEMON_DEBUG=1 shows the traceback.")


def _trace() -> None:
    from queuemon import config

    if config.debugging():
        traceback.print_exc()
