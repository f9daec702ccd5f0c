"""An Arrow table of both sides as columns of the contrast; knows the names that the store gives them, and no store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from queuemon.analysis.attributes import Column, Measure
from queuemon.analysis.intervals import Scale

if TYPE_CHECKING:
    import pyarrow as pa


def columns(
    table: pa.Table,
    paths: Sequence[tuple[str, ...]],
    presence: Sequence[bool],
    *,
    without: Collection[str] = (),
    hidden: Callable[[tuple[str, ...]], bool] = lambda path: False,
) -> Iterator[Column | Measure]:
    """`queue`, `worker`, `attempts`, `hour`, `wait`, `started`, and paths as `p0`, `p1`, …; no field of `without`.

    Of `hidden` paths nothing is looked at: their values must not be shown.
    """
    for name in ("queue", "worker", "attempts", "hour"):
        if name not in without:
            yield _coded(table, name, name)
    for name, scale in (("wait", Scale.SPAN), ("started", Scale.MOMENT)):
        if name not in without:
            values = table.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
            yield Measure(field=name, values=values, scale=scale)
    for n, (path, asked) in enumerate(zip(paths, presence, strict=True)):
        if not hidden(path):
            yield _coded(table, f"p{n}", "payload", path, presence=asked)


def _coded(table: pa.Table, name: str, field: str, path: tuple[str, ...] = (), *, presence: bool = False) -> Column:
    made = table.column(name).unify_dictionaries().combine_chunks()
    if hasattr(made, "chunks"):  # an empty table has no chunk
        made = made.chunk(0) if made.num_chunks else None
    if made is None:
        return Column(field=field, path=path, codes=np.zeros(0, dtype=np.intp), texts=())
    codes = made.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Column(field=field, path=path, codes=codes, texts=made.dictionary.to_pylist(), presence=presence)
