"""Reads stack traces of Python, Node, Java, .NET, Ruby, PHP and Go: whose frames they are, and what was the root cause.

A frame is `file:function` without its line, folder or release, so that a deploy or another machine changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: Frames that identify a failure: the innermost ones of the application's own code.
MAX_FRAMES: Final = 8

#: Characters of a trace that are read: so many from its beginning, and from its end.
TRACE_PART: Final = 16_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """What a trace tells about the cause."""

    #: The application's own frames, the innermost last; empty where the trace shows none.
    frames: tuple[str, ...] = ()
    #: Type and message of the exception at the bottom of the chain, where there is a chain; else "".
    cause_type: str = ""
    cause_message: str = ""
    #: Type and message of the exception that left, where the trace names it; else "".
    error_type: str = ""
    message: str = ""


def shortened(text: str, part: int) -> str:
    """The first and the last `part` characters, one line apart; the same again when it is already so short."""
    return text if len(text) <= 2 * part + 1 else f"{text[:part]}\n{text[-part:]}"


# One pattern per language, each tried on one line alone and without nested repetition: linear in the line's length.
_PYTHON: Final = re.compile(r'[\s|+-]*File "([^"]{1,500})", line \d+(?:, in (\S{1,200}))?')
_PLACE: Final = re.compile(r"(.+?):\d+(?::\d+)?\Z")
_JAVA: Final = re.compile(r"\s*at (?:[\w.@-]{1,100}/)*([\w.$<>/]{1,400})\.([\w$<>]{1,200})\(([^()]{0,200})\)")
_DOTNET: Final = re.compile(r"\s*at ([\w.`<>\[\]]{1,400})\([^)]{0,500}\) in (.{1,500}):line \d+")
_RUBY: Final = re.compile(r"\s*(?:from )?([^\s:][^:]{0,500}):\d+:in [`'‘]([^'’]{1,200})['’]")
_PHP: Final = re.compile(r"\s*#\d+ ([^()]{1,500})\(\d+\): ([\w\\:>-]{1,200})\(")
_GO: Final = re.compile(r"\s+(/[^\s:]{1,500}\.go):\d+ \+0x")

_TITLE: Final = re.compile(
    r"\s*(?:Caused by: |\[cause\]: |Uncaught |Unhandled exception\. |Exception in thread \"[^\"]{0,100}\" )?"
    r"([A-Za-z_][\w.$\\]{0,199}?)(?:: ?(.*))?\Z"
)

#: Where code comes from others: the language's own library and installed packages.
_FOREIGN: Final = re.compile(
    r"site-packages|dist-packages|/lib/python\d|[/\\]Lib[/\\]|<frozen |<string>|<stdin>|<template>"
    r"|node_modules|^node:|^internal/|^<anonymous>|webpack/bootstrap|^native$"
    r"|/gems/|/lib/ruby/|/vendor/|/usr/local/go/|/usr/lib/go|/pkg/mod/"
)
_FOREIGN_CLASS: Final = re.compile(
    r"(?:java|javax|jakarta|jdk|sun|com\.sun|kotlin|kotlinx|scala|groovy|clojure|akka|play\.api"
    r"|org\.(?:springframework|apache|hibernate|eclipse|junit|jboss|postgresql|mariadb|slf4j|glassfish|quartz|jooq|redisson)"
    r"|io\.(?:netty|grpc|micrometer|lettuce|vertx|micronaut|quarkus|undertow|reactivex)|reactor|rx|feign|okhttp3|okio|retrofit2"
    r"|redis\.clients|com\.(?:zaxxer|mysql|fasterxml|amazonaws|rabbitmq|microsoft|oracle)|com\.google\.(?:common|api|cloud|gson)"
    r"|software\.amazon|System|Microsoft|Npgsql|StackExchange|Dapper|Polly|Hangfire)\."
)
#: Files whose name says nothing without their folder.
_COMMON_NAMES: Final = frozenset(
    {"__init__.py", "__main__.py", "index.js", "index.ts", "index.mjs", "main.go", "mod.rs"}
)
_HASHED: Final = re.compile(r"[.-][0-9A-Fa-f]{6,64}(?=\.)|\d+")
_GENERATED: Final = re.compile(r"\$\$.*|\d+")

_CHAINS: Final = ("The above exception was the direct cause", "During handling of the above exception")


def read_trace(text: str) -> Trace:
    """The own frames and the root cause of a trace, which may be empty, cut, or anything else; never raises."""
    if not text or text.isspace():
        return Trace()
    lines = shortened(text, TRACE_PART).splitlines()
    return _python(lines) if any(_PYTHON.match(line) for line in lines) else _others(lines)


def _python(lines: list[str]) -> Trace:
    """The last traceback of the chain is the one that left; the first is the root cause when it is a direct one."""
    blocks: list[list[str]] = [[]]
    direct = True
    for line in lines:
        if line.startswith(_CHAINS):
            direct = direct and line.startswith(_CHAINS[0])
            blocks.append([])
        else:
            blocks[-1].append(line)
    error_type, message = _python_title(blocks[-1])
    cause = _python_title(blocks[0]) if len(blocks) > 1 and direct else ("", "")
    frames = [frame for line in blocks[-1] if (frame := _python_frame(line))]
    return Trace(
        frames=_innermost(frames), error_type=error_type, message=message, cause_type=cause[0], cause_message=cause[1]
    )


def _python_frame(line: str) -> str:
    found = _PYTHON.match(line)
    if found is None or _FOREIGN.search(found[1]):
        return ""
    return f"{_file(found[1])}:{found[2] or ''}"


def _python_title(lines: list[str]) -> tuple[str, str]:
    """`Type: message` after the frames; the message may go on over several lines."""
    last = max((n for n, line in enumerate(lines) if line.startswith(" ")), default=-1)
    for n in range(last + 1, len(lines)):
        if lines[n].strip() and (found := _TITLE.match(lines[n])):
            return found[1], "\n".join([found[2] or "", *lines[n + 1 :]]).strip()
    return "", ""


def _others(lines: list[str]) -> Trace:
    """Traces that begin with the innermost frame and name their causes below."""
    frames: list[str] = []
    cause = title = ("", "")
    caused = False
    for n, line in enumerate(lines):
        if not caused and (frame := _frame(line)) is not None:
            if frame:
                frames.append(frame)
        elif line.lstrip().startswith(("Caused by: ", "[cause]: ")):
            caused = True
            if found := _TITLE.match(line.rstrip(" {")):
                cause = (found[1], found[2] or "")
        elif n == 0 and (found := _TITLE.match(line)):
            title = (found[1], found[2] or "")
    return Trace(
        frames=_innermost(frames[::-1]),
        error_type=title[0],
        message=title[1],
        cause_type=cause[0],
        cause_message=cause[1],
    )


def _frame(line: str) -> str | None:
    """The frame that a line holds: "" for one of others' code, None for a line that is no frame."""
    for read in (_dotnet, _java, _node, _ruby_or_php, _go):
        if (frame := read(line)) is not None:
            return frame
    return None


def _dotnet(line: str) -> str | None:
    found = _DOTNET.match(line)
    return found and _of_class(*found[1].rpartition(".")[::2])


def _java(line: str) -> str | None:
    found = _JAVA.match(line)
    # A Node frame has a path where a Java frame has `File.java:12`, "Native Method" or "Unknown Source".
    if found is None or "/" in found[3] or "\\" in found[3] or found[3].startswith("node:"):
        return None
    return _of_class(found[1].rpartition("/")[2], found[2])


def _of_class(name: str, method: str) -> str:
    if _FOREIGN_CLASS.match(f"{name}."):
        return ""
    return f"{_GENERATED.sub('', name.rpartition('.')[2])}:{_GENERATED.sub('', method)}"


def _node(line: str) -> str | None:
    stripped = line.strip().removesuffix(" {")
    if not stripped.startswith("at ") or line.startswith("at "):
        return None
    call, _, place = stripped[3:].removeprefix("async ").removeprefix("new ").rpartition(" ")
    if not place.startswith("(") and call:
        call, place = "", f"{call} {place}"
    found = _PLACE.match(place.strip("()"))
    if found is None or _FOREIGN.search(found[1]) or "eval at" in line:
        return ""
    return f"{_file(found[1])}:{call.partition(' [as ')[0]}"


def _ruby_or_php(line: str) -> str | None:
    found = _RUBY.match(line) or _PHP.match(line)
    if found is None:
        return None
    if _FOREIGN.search(found[1]):
        return ""
    return f"{_file(found[1])}:{found[2].rpartition(' in ')[2]}"


def _go(line: str) -> str | None:
    found = _GO.match(line)
    if found is None:
        return None
    return "" if _FOREIGN.search(found[1]) else f"{_file(found[1])}:"


def _file(path: str) -> str:
    """The file's name without what a build or a release adds; with its folder where the name alone says nothing."""
    folder, _, name = path.replace("\\", "/").rpartition("/")
    shown = _HASHED.sub("", name)
    return f"{_HASHED.sub('', folder.rpartition('/')[2])}/{shown}" if name in _COMMON_NAMES else shown


def _innermost(frames: list[str]) -> tuple[str, ...]:
    """The last frames; of a recursion, which may be cut anywhere, the frames that take part, in no order of calls."""
    unique = tuple(dict.fromkeys(frames))
    if len(unique) < len(frames):
        repeated = tuple(sorted(frame for frame in unique if frames.count(frame) > 2))
        if repeated:
            return repeated[:MAX_FRAMES]
    return unique[-MAX_FRAMES:]
