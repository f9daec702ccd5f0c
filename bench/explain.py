"""The contrast over 200,000 jobs with 20 attributes, pairs included, against a bare counting of all pairs."""

from __future__ import annotations

import json
import time
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.measure import compare
from queuemon.analysis.attributes import Column, Measure
from queuemon.analysis.contrast import explain
from queuemon.analysis.intervals import Scale

JOBS = 200_000


def jobs(rng: np.random.Generator, *, hidden: bool) -> tuple[NDArray[np.bool_], list[Column | Measure]]:
    """Half failing, half succeeding jobs: 10 attributes of 3 to 300 values, 5 numbers, a list, ids, and clocks.

    The cause is a pair, and one value of another attribute; `hidden` leaves it out.
    """
    columns: list[Column | Measure] = []
    failed = rng.random(JOBS) < 0.5
    cardinalities = (3, 4, 5, 8, 12, 20, 40, 80, 150, 300)
    codes = [np.minimum(rng.zipf(1.4, JOBS) - 1, c - 1) if c > 20 else rng.integers(0, c, JOBS) for c in cardinalities]
    if not hidden:
        hit = ((codes[4] == 3) & (codes[2] == 1)) | (codes[3] == 5)
        failed = np.where(hit, rng.random(JOBS) < 0.9, rng.random(JOBS) < 0.4)
    for n, (c, held) in enumerate(zip(cardinalities, codes, strict=True)):
        texts = [json.dumps(f"value-{k}") for k in range(c)]
        columns.append(Column(field="payload", path=(f"a{n}",), codes=held, texts=texts, presence=True))
    for n in range(3):
        held, texts = pd.factorize(pd.Series(rng.lognormal(8, 2, JOBS).round(2)).astype(str))
        columns.append(Column(field="payload", path=(f"n{n}",), codes=held, texts=list(texts), presence=True))
    lists = [json.dumps([f"t{k}" for k in range(8) if n >> k & 1]) for n in range(256)]
    columns.append(Column(field="payload", path=("tags",), codes=rng.integers(0, 256, JOBS), texts=lists))
    columns.append(
        Column(field="payload", path=("id",), codes=np.arange(JOBS), texts=[f'"id-{n:x}"' for n in range(JOBS)])
    )
    for field, texts in (("queue", ['"a"', '"b"', '"c"']), ("worker", [f'"w{n}"' for n in range(12)])):
        columns.append(Column(field=field, codes=rng.integers(0, len(texts), JOBS), texts=texts))
    columns.append(Column(field="hour", codes=rng.integers(0, 24, JOBS), texts=[str(n) for n in range(24)]))
    columns.append(Measure(field="wait", values=np.floor(rng.exponential(60_000, JOBS)), scale=Scale.SPAN))
    columns.append(Measure(field="started", values=np.floor(1.8e9 + 86_400 * rng.random(JOBS)), scale=Scale.MOMENT))
    return failed, columns


def run() -> None:
    """With a cause to find, and with none (every pair has to be looked at)."""
    rng = np.random.default_rng(1)
    for hidden, name in ((False, "with two causes"), (True, "with no cause")):
        failed, columns = jobs(rng, hidden=hidden)
        bare_codes = [rng.integers(0, 32, JOBS) for _ in columns]

        def counted(codes: list[NDArray[np.int64]] = bare_codes, labels: NDArray[np.bool_] = failed) -> None:
            for a, b in combinations(codes, 2):
                np.bincount((a * 32 + b) * 2 + labels, minlength=2_048)

        def ours(labels: NDArray[np.bool_] = failed, given: list[Column | Measure] = columns) -> None:
            explain(labels, given)

        started = time.process_time()
        answer = explain(failed, columns)
        spent = time.process_time() - started
        print(f"{answer.verdict} {[f.filter for f in answer.findings]} {spent:.2f} s of CPU")
        compare(
            f"explain {JOBS:,} jobs × {len(columns)}, {name}",
            ours,
            "counting all pairs of 32 values",
            counted,
            rounds=5,
        )
