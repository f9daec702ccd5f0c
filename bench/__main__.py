"""`make bench` or `python -m bench [reads] [writers] [drift] [retry] [timeline] [failures] [explain] [scrape]
[screen]`; `screen` runs only where it is named."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

import psutil
from pydantic import SecretStr

from bench import drift, explain, failures, reads, retry, scrape, timeline, writers
from queuemon.config import Settings
from queuemon.demo.stack import Stack
from queuemon.workbench import Workbench

_POSTGRES = {"shared_buffers": "2GB", "max_wal_size": "8GB", "work_mem": "64MB", "maintenance_work_mem": "1GB"}


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    """Start PostgreSQL and Valkey in a folder that goes away again, measure, stop."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        help="reads, writers, drift, retry, timeline, failures, explain, scrape (default: all); or screen",
    )
    parser.add_argument(
        "--sizes", default="10000,1000000,10000000", type=_numbers, help="numbers of jobs, smallest first"
    )
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs of the writers' measurement")
    parser.add_argument("--jobs", type=int, default=100_000, help="failed jobs of the retry")
    parser.add_argument("--elements", type=int, default=1_000_000, help="list elements and waiting rows of drift")
    parser.add_argument("--minutes", type=float, default=30, help="how long screen watches the page's memory")
    parser.add_argument("--queues", default="5,200", type=_numbers, help="numbers of queues of screen")
    parser.add_argument("--dir", default=None, help="where the servers' data goes (10 M jobs need about 12 GB)")
    options = parser.parse_args()
    known = {"reads", "writers", "drift", "retry", "timeline", "failures", "explain", "scrape", "screen"}
    unknown = set(options.what) - known
    if unknown:
        parser.error(
            f"unknown: {', '.join(sorted(unknown))}; expected reads, writers, drift, retry, timeline, failures,"
            " explain, scrape or screen"
        )
    wanted = options.what or ["explain", "drift", "retry", "timeline", "failures", "reads", "scrape", "writers"]
    if "explain" in wanted:  # values alone
        explain.run()
        wanted = [what for what in wanted if what != "explain"]
    if not wanted:
        return
    with tempfile.TemporaryDirectory(prefix="queuemon-bench-", dir=options.dir) as folder:
        Path(folder).chmod(0o711)  # as root, the servers run under an account without rights
        stack = Stack(Path(folder) / "stack", postgres_settings=_POSTGRES)
        urls = stack.up()
        settings = Settings(
            profile="bench",
            database_url=SecretStr(urls.database_url),
            redis_url=SecretStr(urls.redis_url),
            statement_timeout_seconds=30,
            redis_timeout_seconds=30,
        )
        print(f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.machine()}")
        try:
            with Workbench(settings, application="queuemon-bench") as workbench:
                workbench.install()
                if "drift" in wanted:
                    drift.run(workbench.store, options.elements)
                if "retry" in wanted:
                    retry.run(workbench.store, urls.database_url, options.jobs)
                if "writers" in wanted:
                    writers.run(workbench.store, urls.database_url, pairs=options.pairs)
                if "timeline" in wanted:
                    timeline.run(workbench, options.elements)
                if "failures" in wanted:
                    failures.run(workbench, options.elements)
                if "reads" in wanted:
                    reads.run(workbench, options.sizes)
                if "scrape" in wanted:
                    scrape.run(workbench, urls.database_url, options.sizes[-1])
                if "screen" in wanted:
                    from bench import screen  # wants a browser

                    given = {"minutes": options.minutes, "queues": options.queues}
                    screen.run(workbench, urls.database_url, urls.redis_url, options.sizes[-1], **given)
        finally:
            stack.destroy()


if __name__ == "__main__":
    main()
