"""`queuemon status`: the queues' numbers as a table, once or refreshed in place."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queuemon.cli.options import DONE, FAILED, PARTLY, Json, opened
from queuemon.cli.terminal import cell, console, plain, print_json, table, warn
from queuemon.contract import Health
from queuemon.model import HalfError, PostgresHalf, QueueStats, RedisHalf, RedisQueue, Snapshot

if TYPE_CHECKING:
    from rich.console import RenderableType

    from queuemon.contract import Keys
    from queuemon.workbench import Workbench

#: The columns of the specification, with health beside the name.
SPECIFIED = ("Queue Name", "Health", "Active Jobs", "Waiting", "Completed (last hour)", "Failed")

#: What helps beside them, the most helpful first.
HELPFUL = ("Workers", "Oldest", "Failure rate", "Scheduled", "In Redis", "Expired")

_STYLES = {Health.HEALTHY: "green", Health.WARNING: "yellow", Health.CRITICAL: "red", Health.UNKNOWN: "dim"}


def status(
    ctx: typer.Context,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between refreshes.")] = 5.0,
) -> None:
    """Every queue: active, waiting, completed in the last hour, failed, health, workers.

    Ends with 1 when PostgreSQL could not be read, with 3 when Redis alone could not. With --watch --json, one JSON
    document a line.
    """
    with opened(ctx) as wb:
        if watch:
            _watch(wb, interval, as_json)
            return
        snapshot = wb.snapshot()
        if as_json:
            print_json(document(snapshot, wb.settings.keys))
        else:
            _print(wb, snapshot)
        _say_errors(snapshot)
    raise typer.Exit(code_of(snapshot))


def code_of(snapshot: Snapshot) -> int:
    """What the command ends with."""
    if isinstance(snapshot.postgres, HalfError):
        return FAILED
    return PARTLY if isinstance(snapshot.redis, HalfError) else DONE


def _say_errors(snapshot: Snapshot) -> None:
    for half in (snapshot.postgres, snapshot.redis):
        if isinstance(half, HalfError):
            warn(half.message)


def _print(wb: Workbench, snapshot: Snapshot) -> None:
    out = console()
    if not isinstance(snapshot.postgres, HalfError):
        out.print(queue_table(snapshot, wb.settings.keys, width=out.width))
    out.print(cell(footer(wb, snapshot), limit=500, style="dim"))
    for text in warnings(snapshot):
        out.print(cell(f"! {text}", limit=500, style="yellow"))


def _watch(wb: Workbench, interval: float, as_json: bool) -> None:
    pause = threading.Event()
    if as_json:
        while True:
            print_json(document(wb.snapshot(), wb.settings.keys))
            pause.wait(interval)
    from rich.console import Group
    from rich.live import Live

    out = console()
    last: Snapshot | None = None
    # The alternate screen is redrawn in one write a refresh, so nothing flickers and the shell's history stays.
    with Live(console=out, screen=out.is_terminal, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            snapshot = wb.snapshot()
            parts: list[RenderableType] = []
            if isinstance(snapshot.postgres, PostgresHalf):
                last = snapshot
            if last is not None:
                stale = last is not snapshot
                parts.append(queue_table(last, wb.settings.keys, width=out.width, stale=stale))
                if stale:
                    age = (snapshot.taken_at - last.taken_at).total_seconds()
                    parts.append(cell(f"These numbers are {age:.0f} s old.", style="yellow"))
            for half in (snapshot.postgres, snapshot.redis):
                if isinstance(half, HalfError):
                    parts.append(cell(half.message, limit=500, style="red"))
            parts.append(cell(footer(wb, snapshot) + f" · every {interval:g} s, Ctrl-C ends", limit=500, style="dim"))
            parts += [cell(f"! {text}", limit=500, style="yellow") for text in warnings(snapshot)]
            live.update(Group(*parts), refresh=True)
            pause.wait(interval)


def queue_table(snapshot: Snapshot, keys: Keys, *, width: int, stale: bool = False) -> RenderableType:
    """The columns of the specification and health; beside them as many of the helpful ones as the width holds."""
    from queuemon.render.html import HEALTH
    from queuemon.render.text import ago, number, percent

    redis = snapshot.redis.queues if isinstance(snapshot.redis, RedisHalf) else {}
    now = snapshot.postgres.clock if isinstance(snapshot.postgres, PostgresHalf) else snapshot.taken_at
    rows = []
    for q in snapshot.queues:
        _, sign, word = HEALTH[q.health]
        colour = "" if stale else _STYLES[q.health]
        late = "red" if _late(q, now.timestamp()) and not stale else ""
        rows.append(
            [
                cell(keys.display(q.name), limit=80),
                cell(f"{sign} {word}{_pause_word(q, redis.get(q.name))}", style=colour),
                cell(number(q.active)),
                cell(number(q.waiting), style=colour if q.waiting else ""),
                cell(number(q.completed_last_hour)),
                cell(number(q.failed), style="red" if q.failed and not stale else ""),
                cell(f"{q.workers}/{q.queue.concurrency}"),
                cell(ago(q.oldest_waiting_at, now), style=late),
                cell(percent(q.failure_rate)),
                cell(number(q.scheduled)),
                cell(number(redis[q.name].elements if q.name in redis else None)),
                cell(number(q.expired)),
            ]
        )
    headings = _fitting([[c.cell_len for c in row] for row in rows], width)
    left, right = {"overflow": "fold"}, {"justify": "right", "no_wrap": True}
    made = table(*((heading, right if n > 1 else left) for n, heading in enumerate(headings)))
    for row in rows:
        made.add_row(*row[: len(headings)], style="dim" if stale else None)
    return made


def _fitting(lengths: Sequence[Sequence[int]], width: int) -> list[str]:
    """As many headings as fit beside each other; in two lines where that makes room for more."""
    content = [max(column, default=0) for column in zip(*lengths, strict=True)] or [0] * (len(SPECIFIED) + len(HELPFUL))
    for extra in range(len(HELPFUL), -1, -1):
        for split in ("", "\n"):
            headings = [h.replace(" ", split or " ", 1) if n else h for n, h in enumerate(SPECIFIED + HELPFUL[:extra])]
            widest = [max(map(len, h.split("\n"))) for h in headings]
            if sum(max(pair) + 2 for pair in zip(content, widest, strict=False)) <= width:
                return headings
    return headings


def _late(q: QueueStats, now: float) -> bool:
    """Whether the oldest waiting job has used up the queue's target time."""
    return q.oldest_waiting_at is not None and now - q.oldest_waiting_at.timestamp() > q.queue.target_seconds


def footer(wb: Workbench, snapshot: Snapshot) -> str:
    """Where the numbers come from and how old they are."""
    from queuemon.render.text import moment

    badge = "embedded demo" if wb.settings.embedded else wb.settings.profile

    def read(half: PostgresHalf | RedisHalf | HalfError, name: str, seconds: float) -> str:
        return f"{name} not read" if isinstance(half, HalfError) else f"{name} {seconds * 1000:.0f} ms"

    redis = snapshot.redis.server if isinstance(snapshot.redis, RedisHalf) else "Redis"
    parts = [
        badge,
        f"{moment(snapshot.taken_at)} UTC",
        read(snapshot.postgres, "PostgreSQL", snapshot.postgres_seconds),
    ]
    return " · ".join([*parts, read(snapshot.redis, redis, snapshot.redis_seconds)])


def warnings(snapshot: Snapshot) -> list[str]:
    """What the operator must know beside the numbers."""
    half = snapshot.postgres
    if isinstance(half, HalfError):
        return []
    redis = snapshot.redis.queues if isinstance(snapshot.redis, RedisHalf) else {}
    alive = {w.kind for w in half.workers if w.alive}
    found = []
    if not half.queues:
        found.append("There is no queue: insert rows into job_queues, or run `queuemon demo up`.")
    waiting = sum(q.waiting for q in half.queues if not q.queue.paused)
    if "worker" not in alive and waiting:
        found.append(f"Nobody consumes: no worker runs, {waiting:,} jobs wait.")
    if "relay" not in alive:
        found.append("No relay runs: retries, scheduled jobs and expiry wait (`queuemon relay`).")
    short = [q.name for q in half.queues if q.workers < q.queue.concurrency]
    if short and "supervisor" not in alive:
        found.append(f"Nobody follows the desired number of workers of {len(short)} queues (`queuemon supervisor`).")
    stuck = sum(q.stuck for q in half.queues)
    if stuck:
        found.append(f"{stuck:,} active jobs have no heartbeat within the lease; a relay gives them back.")
    if aside := [q for q in redis.values() if q.quarantined]:
        found.append(
            f"{sum(q.quarantined for q in aside):,} elements of {len(aside)} queues are in quarantine, which no worker"
            f" takes (`queuemon quarantine list {shlex.quote(max(aside, key=lambda q: q.quarantined).name)}`)."
        )
    return found


def _pause_word(q: QueueStats, listed: RedisQueue | None) -> str:
    """How a queue is paused; a parked list is not empty, it is out of every worker's reach."""
    parts = ["paused"] if q.queue.paused else []
    if listed is not None and listed.parked:
        parts.append(f"{listed.parked:,} parked")
    return f" ({', '.join(parts)})" if parts else ""


def document(snapshot: Snapshot, keys: Keys) -> dict[str, Any]:
    """The snapshot as JSON: one object per queue, and each half's error where it could not be read."""
    postgres, redis = snapshot.postgres, snapshot.redis
    listed = redis.queues if isinstance(redis, RedisHalf) else {}
    queues = []
    for q in snapshot.queues:
        numbers = plain(q)
        settings = numbers.pop("queue")
        numbers.pop("thresholds")
        entry = {"queue": keys.display(q.name), **settings, "health": q.health.value, **numbers}
        entry["failure_rate"] = q.failure_rate
        entry["in_redis"] = listed[q.name].elements if q.name in listed else None
        entry["parked"] = listed[q.name].parked if q.name in listed else None
        entry["quarantined"] = listed[q.name].quarantined if q.name in listed else None
        queues.append(entry)
    return {
        "taken_at": plain(snapshot.taken_at),
        "queues": queues,
        "workers": plain(postgres.workers) if isinstance(postgres, PostgresHalf) else [],
        "publications_due": postgres.publications_due if isinstance(postgres, PostgresHalf) else None,
        "warnings": warnings(snapshot),
        "errors": {
            name: half.message
            for name, half in (("postgresql", postgres), ("redis", redis))
            if isinstance(half, HalfError)
        },
    }
