"""Runs the levels of checks and tests and ends with the counts; for `make test` and `make lint`.

Two lanes run side by side: much of what the acceptance and browser levels do is waiting for servers and clocks; a third
only makes the others wait for a core. A level that fails does not hide the next ones. The last line is 'N passed, N
failed, N skipped'; the exit code is 0 only without failures.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ARTIFACTS = ROOT / "test-artifacts"

CHECKS = {
    "format": ["ruff", "format", "--check", "."],
    "style": ["ruff", "check", "."],
    "types": ["mypy"],
    "imports": ["lint-imports", "--no-cache"],  # its cache overlooks new imports
    "notebooks": ["python", "-m", "tools.notebooks"],
}


@dataclass(frozen=True, kw_only=True)
class Level:
    """One row of the final table: some pytest arguments and the time they may take."""

    name: str
    arguments: Sequence[str]
    #: A level that takes longer hangs: it is ended and counts as failed.
    limit_seconds: int = 900
    #: Whether an embedded stack runs meanwhile, named in the environment.
    stack: bool = False
    #: Levels of one lane run one after the other, beside those of the other lanes.
    lane: int = 0


#: Integration tests of what brings its own servers, or needs none: once is enough.
OWN_SERVERS = tuple(
    f"tests/integration/test_{name}.py"
    for name in ("stack", "processes", "demo_history", "grafana", "prometheus_rules")
)

LEVELS = [
    Level(name="unit", arguments=["tests/unit"]),
    Level(name="acceptance", arguments=["tests/acceptance"], limit_seconds=2700),
    Level(
        name="integration-embedded", arguments=["tests/integration", "--stores=embedded"], limit_seconds=1800, lane=1
    ),
    Level(
        name="integration-debian",
        # Every commit of every action is lost on both pairs; that its request is lost and not its answer, on one.
        arguments=[
            "tests/integration",
            *(f"--ignore={path}" for path in OWN_SERVERS),
            "--stores=debian",
            "-k",
            "not (loses_any_one_of_its_commits and REQUEST)",
        ],
        limit_seconds=1800,
    ),
    Level(
        name="kills-debian",
        arguments=[
            "tests/acceptance/test_kill_points.py",
            "--stores=debian",
            "-k",
            "kill_anywhere and ([debian-retry] or [debian-repair] or [debian-erase] or restore)",
        ],
        limit_seconds=600,
    ),
    Level(name="browser", arguments=["tests/browser"], limit_seconds=2700, lane=1),
    Level(
        name="notebooks",
        arguments=["--nbval-lax", "--nbval-current-env", "--nbval-sanitize-with=tests/notebooks.cfg", "notebooks"],
        stack=True,
    ),
]


@dataclass(kw_only=True)
class Count:
    """What came of one level."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def run(
    command: Sequence[str], *, environment: Mapping[str, str], limit_seconds: int, output: IO[bytes] | None = None
) -> int:
    """The exit code; output passes through, or goes to a file. Its process group ends with it, at the limit (code
    124), or on Ctrl-C."""
    program = subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
    )
    try:
        return program.wait(limit_seconds)
    except subprocess.TimeoutExpired:
        return 124
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                program.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def lint(environment: Mapping[str, str]) -> Count:
    """Every check of CHECKS, each counted as one."""
    count = Count(name="lint")
    for name, command in CHECKS.items():
        print(f"-- {name}: {' '.join(command)}", flush=True)
        if run(command, environment=environment, limit_seconds=300) == 0:
            count.passed += 1
        else:
            count.failed += 1
            count.notes.append(name)
    return count


def test(level: Level, environment: Mapping[str, str], output: IO[bytes] | None) -> Count:
    """One pytest run, counted from its JUnit file; a run that ends early or finds no test counts as a failure."""
    count = Count(name=level.name)
    report = ARTIFACTS / f"{level.name}.xml"
    report.unlink(missing_ok=True)
    command = ["python", "-m", "pytest", "-q", f"--junit-xml={report}", *level.arguments]
    code = run(command, environment=environment, limit_seconds=level.limit_seconds, output=output)
    if report.exists():
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                count.failed += 1
            elif case.find("skipped") is not None:
                count.skipped += 1
            else:
                count.passed += 1
    if code == 124 and count.passed:
        count.passed -= 1  # the report lists the test that hung as if it had passed
    if code and not count.failed:
        count.failed += 1
        reasons = {124: f"stopped after {level.limit_seconds} s", 5: "no test found", 4: "wrong usage"}
        count.notes.append(reasons.get(code, f"exit code {code}"))
    return count


@contextmanager
def embedded_stack(environment: Mapping[str, str], output: IO[bytes] | None) -> Iterator[dict[str, str]]:
    """The environment with the URLs of a private embedded stack, which is gone afterwards."""
    folder = tempfile.mkdtemp(prefix="queuemon-")
    queuemon = str(BIN / "queuemon")
    try:
        subprocess.run([queuemon, "demo", "up", "--dir", folder], check=True, env=environment, stdout=output)
        exports = subprocess.run(
            [queuemon, "demo", "env", "--dir", folder], check=True, env=environment, capture_output=True, text=True
        )
        shell = f"{exports.stdout}\nenv -0"
        listing = subprocess.run(["/bin/sh", "-c", shell], check=True, env=environment, capture_output=True, text=True)
        yield dict(line.split("=", 1) for line in listing.stdout.split("\0") if "=" in line)
    finally:
        subprocess.run([queuemon, "demo", "down", "--dir", folder], check=False, env=environment, stdout=output)
        shutil.rmtree(folder, ignore_errors=True)


def level_count(level: Level, environment: Mapping[str, str], output: IO[bytes] | None) -> Count:
    """The count of one level, with its stack where it wants one."""
    started = time.monotonic()
    try:
        with embedded_stack(environment, output) if level.stack else nullcontext(environment) as surroundings:
            count = test(level, surroundings, output)
    except subprocess.CalledProcessError as error:
        count = Count(name=level.name, failed=1, notes=[f"the embedded stack did not start: {error}"])
    count.seconds = time.monotonic() - started
    return count


def lane_counts(levels: Sequence[Level], environment: Mapping[str, str], *, alone: bool) -> list[Count]:
    """The counts of the levels of a lane. Beside other lanes a level's output is printed when it has ended, whole."""
    counts = []
    for level in levels:
        if alone:
            print(f"\n==== {level.name}", flush=True)
            counts.append(level_count(level, environment, None))
            continue
        with (ARTIFACTS / f"{level.name}.log").open("w+b") as output:
            counts.append(level_count(level, environment, output))
            output.seek(0)
            print(f"\n==== {level.name}\n{output.read().decode(errors='replace')}", flush=True)
    return counts


def table(counts: Sequence[Count], seconds: float) -> str:
    """The closing lines: a row per level, the time, and the totals."""
    rows = [f"{'level':<22}{'passed':>8}{'failed':>8}{'skipped':>8}{'seconds':>9}"]
    for count in counts:
        row = f"{count.name:<22}{count.passed:>8}{count.failed:>8}{count.skipped:>8}{count.seconds:>9.1f}"
        rows.append("  ".join([row, *count.notes]))
    passed, failed, skipped = (
        sum(getattr(count, name) for count in counts) for name in ("passed", "failed", "skipped")
    )
    minutes, rest = divmod(round(seconds), 60)
    return "\n".join([*rows, "", f"{minutes} min {rest} s", f"{passed} passed, {failed} failed, {skipped} skipped"])


def main(names: Sequence[str]) -> int:
    """Run the named levels, or all; a name stands for every level that begins with it."""
    known = ["lint", *(level.name for level in LEVELS)]
    if unknown := [name for name in names if not any(level.startswith(name) for level in known)]:
        print(f"No level {', '.join(unknown)}: there are {', '.join(known)}.", file=sys.stderr)
        return 2
    wanted = [level for level in known if not names or level.startswith(tuple(names))]
    # Started in the background, it may have been told to ignore Ctrl-C; tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ARTIFACTS.mkdir(exist_ok=True)
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    started = time.monotonic()
    counts = []
    if "lint" in wanted:
        print("\n==== lint", flush=True)
        count = lint(environment)
        count.seconds = time.monotonic() - started
        counts.append(count)
    chosen = [level for level in LEVELS if level.name in wanted]
    lanes = [[level for level in chosen if level.lane == lane] for lane in sorted({level.lane for level in chosen})]
    if len(lanes) > 1:
        print(f"\nThe levels run in {len(lanes)} lanes; each prints its output when it has ended.", flush=True)
    with ThreadPoolExecutor(max(1, len(lanes))) as pool:
        for found in pool.map(lambda lane: lane_counts(lane, environment, alone=len(lanes) == 1), lanes):
            counts += found
    print(f"\n{table(counts, time.monotonic() - started)}", flush=True)
    return 1 if any(count.failed for count in counts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
