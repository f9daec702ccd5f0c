"""Failures by cause: a million attempts signed and grouped, and read from PostgreSQL, each against the bare minimum."""

from __future__ import annotations

import random
import time
from collections import Counter

from sqlalchemy import text

from bench.measure import compare
from queuemon.analysis.signatures import NORMALISER_VERSION, Texts, sign, sign_all
from queuemon.demo import faults
from queuemon.workbench import Workbench

ATTEMPTS, DISTINCT = 1_000_000, 50_000

_ROWS = """
INSERT INTO job_logs (job_id, queue, gen, attempt, status, finished_at, error_type, error_message, signature,
                      signature_version)
SELECT gen_random_uuid(), (ARRAY['email-sending', 'warmup:process', 'analytics:daily-aggregate'])[1 + i % 3], 1, 1,
       CASE WHEN i % 10 < :tenths THEN 'failed' ELSE 'completed' END, now() - i * interval '80 ms', 'Error',
       'Order ' || i || ' is late', md5((i % 300)::text)::char(12), :version
FROM generate_series(1, CAST(:total AS bigint)) AS i
"""

_BARE = """
SELECT signature, count(*), min(finished_at), max(finished_at) FROM job_logs
WHERE kind = 'attempt' AND status = 'failed' AND finished_at > now() - interval '24 h' GROUP BY 1
"""


def texts() -> list[Texts]:
    """A million failed attempts of the demo's faults, with 50,000 distinct messages, in random order."""
    rng = random.Random(11)
    distinct: list[Texts] = []
    for n in range(DISTINCT):
        payload = {"account_id": n, "campaign_id": f"cmp-{n}", "recipient": {"email": f"user{n}@example.com"}}
        one = faults.occurrence(rng.choice(faults.FAULTS), payload, rng)
        message = f"{one.message} (order {n})"
        distinct.append((one.error_type, message, one.trace.replace(one.message, message)))
    return [distinct[n] if n < DISTINCT else rng.choice(distinct) for n in range(ATTEMPTS)]


def group() -> None:
    """Sign and count, and beside it count raw texts alone."""
    attempts = texts()

    def ours() -> int:
        sign.__globals__["_forms"].cache_clear()
        sign.__globals__["_read_trace"].cache_clear()
        return len(Counter(signature.id for signature in sign_all(attempts)))

    started = time.perf_counter()
    found = ours()
    seconds = time.perf_counter() - started
    print(f"{ATTEMPTS:,} attempts, {len(set(attempts)):,} distinct: {found} signatures in {seconds:.2f} s")
    compare("the same, median", ours, "raw texts counted", lambda: len(Counter(attempts)), rounds=3)


def run(wb: Workbench, total: int) -> None:
    """Group in memory; then read a window of `total` attempts of which a tenth, and then nine tenths, failed."""
    group()
    for tenths in (1, 9):
        with wb.store.postgres.begin(seconds=0) as connection:
            connection.execute(text("TRUNCATE job_logs"))
            connection.execute(text(_ROWS), {"total": total, "version": NORMALISER_VERSION, "tenths": tenths})
        with wb.store.postgres.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SET statement_timeout = 0"))
            connection.execute(text("VACUUM (ANALYZE) job_logs"))
            connection.invalidate()

        def bare() -> None:
            with wb.store.postgres.begin(seconds=60) as connection:
                connection.execute(text(_BARE)).all()

        name = f"failures, 24 h, {total:,} attempts, {tenths * 10} % failed"
        compare(name, lambda: wb.failures(since="24h"), "bare GROUP BY signature", bare, rounds=5)
