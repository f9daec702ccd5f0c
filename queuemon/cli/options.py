"""The options that commands share, and the session they run in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from queuemon.workbench import Workbench

#: What a command ends with.
DONE, FAILED, USAGE, PARTLY, NOTHING = 0, 1, 2, 3, 4

EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 usage, 3 partly done, 4 nothing matched."

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it. Without, the plan is printed and nothing changes.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit trail.", show_default=False)]
Reveal = Annotated[
    bool, typer.Option("--reveal", help="Show what is masked; needs --reason, and is kept in the audit trail.")
]
Rate = Annotated[
    float | None, typer.Option("--rate", min=0.01, metavar="N", help="Jobs per second at most.", show_default=False)
]
Results = Annotated[
    str | None,
    typer.Option(
        "--results", metavar="FILE|-",
        help="Each job's outcome while it runs, as CSV, or JSON lines in a file called *.jsonl.", show_default=False,
    ),
]  # fmt: skip
Filter = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILTER", help="Which jobs, such as: queue:email-sending status:failed age<2h"),
]
Target = Annotated[list[str], typer.Argument(metavar="FILTER|ID…", help="A filter, or ids of jobs.")]
Queue = Annotated[str, typer.Argument(metavar="QUEUE", help="With or without the prefix queue:.")]
Directory = Annotated[
    Path | None, typer.Option("--dir", help="Folder of the demo's data (default: the user's state folder).")
]


@dataclass(frozen=True, kw_only=True)
class Session:
    """What was said before the command's name."""

    profile: str | None


def profile_of(ctx: typer.Context) -> str | None:
    """The profile named with --profile."""
    session = ctx.find_object(Session)
    return session.profile if session else None


def named_profile(ctx: typer.Context) -> str:
    """The profile that somebody has named, here or in QUEUEMON_PROFILE; empty where nobody has."""
    from queuemon.config import profile_in_environment

    return profile_of(ctx) or profile_in_environment()


def filter_text(words: Sequence[str] | None) -> str:
    """The filter that a shell has cut into words: a value that it freed from its quotes gets them back."""
    from queuemon.filters import quote

    def whole(word: str) -> str:
        found = _FREED.fullmatch(word) if len(words or ()) > 1 else None
        return f"{found[1]}{quote(found[2])}" if found else word

    return " ".join(whole(word) for word in words or ())


#: `error:division by zero`, as one word of a command line that has several.
_FREED = re.compile(r"""([A-Za-z_][\w.]*(?::|!=|<=|>=|=|<|>|~))([^'"()]*\s[^'"()]*)""")


@contextmanager
def opened(ctx: typer.Context) -> Iterator[Workbench]:
    """The Workbench of the profile, closed at the end."""
    from queuemon import workbench

    with workbench.connect(profile_of(ctx)) as wb:
        yield wb
