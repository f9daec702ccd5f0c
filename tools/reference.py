"""Writes docs/cli.md from the commands' own help; called by `make docs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from typer.main import get_command

from queuemon.cli.app import app

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "cli.md"

HEADER = """\
# The command line

Made from the commands' own help by `make docs`; `queuemon COMMAND --help` says the same.

- A FILTER is the [filter language](filter.md); several words are one filter.
  Quote it, or the shell takes `<` and quotes for itself.
- A QUEUE is its name, with or without the prefix `queue:`.
- `--profile NAME` before the command picks a profile of queuemon.toml.
- A command that changes jobs or queues prints its plan and changes nothing until `--yes`.
- Exit codes: 0 done, 1 failed, 2 usage, 3 partly done, 4 nothing matched.
"""


def leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its words."""
    commands: Mapping[str, Any] = getattr(command, "commands", {})
    for name, child in commands.items():
        yield from leaves(child, (*path, name))
    if not commands and not command.hidden:
        yield path, command


def word(argument: Any) -> str:
    """An argument as the usage line shows it."""
    name = argument.metavar or argument.name.upper()
    name += "…" if argument.nargs == -1 and "…" not in name else ""
    return name if argument.required else f"[{name}]"


def usage(path: tuple[str, ...], command: Any) -> str:
    """The command with its arguments."""
    return " ".join([*path, *(word(p) for p in command.params if p.param_type_name == "argument")])


def entry(path: tuple[str, ...], command: Any) -> str:
    """One command: its line, its sentence, its options."""
    lines = [f"## `{usage(path, command)}`", "", command.help.strip(), ""]
    for option in command.params:
        if option.param_type_name == "option" and not option.hidden:
            lines.append(f"- `{', '.join([*option.opts, *option.secondary_opts])}` – {option.help}")
    return "\n".join(lines).strip()


def document() -> str:
    """The text of docs/cli.md."""
    entries = [entry(path, command) for path, command in leaves(get_command(app), ("queuemon",))]
    return "\n\n".join([HEADER.strip(), *entries]) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
