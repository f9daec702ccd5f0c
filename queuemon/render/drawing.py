"""The timeline as a drawing for paper and for pages without scripts: SVG by matplotlib, its words as outlines.

No text of a job or an operator is in it: deploys and actions are numbers, which the report's table explains.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from queuemon.analysis.onset import Change
from queuemon.analysis.timeline import Timeline, pauses
from queuemon.render.charts import ARRIVED, COMPLETED, FAILED, INK
from queuemon.render.text import duration
from queuemon.render.timeline import DEPTH

#: Inches; the page shows it as wide as the text.
SIZE: Final = (10.0, 5.6)

#: Numbers that are drawn at most.
MARKS: Final = 40

_BEGAN: Final = "#b3261e"
_ENDED: Final = "#1b7f3b"


def timeline_svg(
    timeline: Timeline, marks: Sequence[tuple[datetime, int]], *, began: Change | None, ended: Change | None
) -> bytes:
    """Depth, what came and went, and failures, one under the other on one axis of time (UTC).

    `marks` are times with their numbers, `began` and `ended` the lines of the incident; pauses are shaded. The same
    values give the same bytes.
    """
    import matplotlib
    from matplotlib import dates
    from matplotlib.figure import Figure

    untyped: Any = dates
    rc_context: Any = matplotlib.rc_context

    step = timedelta(seconds=timeline.bucket_seconds)
    ends = [min(p.at + step, timeline.clock) for p in timeline.points]
    starts = [p.at for p in timeline.points]
    look: dict[str, Any] = {
        "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
        "font.size": 9, "axes.titlesize": 10, "svg.hashsalt": "queuemon", "text.parse_math": False,
        "timezone": "UTC",
    }  # fmt: skip
    out = io.BytesIO()
    with rc_context(look):
        figure = Figure(figsize=SIZE, layout="constrained")
        depth, flow, failed = figure.subplots(3, 1, sharex=True, height_ratios=(0.42, 0.33, 0.25))
        per = duration(timeline.bucket_seconds)
        depth.fill_between(ends, [p.depth for p in timeline.points], color=DEPTH, alpha=0.18, linewidth=0)
        depth.plot(ends, [p.depth for p in timeline.points], color=DEPTH, linewidth=1.4)
        depth.set_title("Waiting (due)", loc="left")
        flow.plot(starts, [p.due for p in timeline.points], color=ARRIVED, linewidth=1.3, label="came due")
        flow.plot(starts, [p.started for p in timeline.points], color=COMPLETED, linewidth=1.3, label="started")
        flow.set_title(f"Came due and started per {per}", loc="left")
        flow.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), frameon=False, ncols=2, fontsize=8)
        heights = [p.failed + p.lost for p in timeline.points]
        failed.bar(starts, heights, width=step * 0.9, align="edge", color=FAILED, linewidth=0)
        failed.set_title(f"Failed attempts per {per}", loc="left")
        _mark(timeline, (depth, flow, failed), marks, began, ended)
        for axes in (depth, flow, failed):
            axes.set_ylim(bottom=0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", alpha=0.25)
            axes.yaxis.set_major_formatter(lambda v, _: f"{v:,.12g}")
        first = timeline.window.since
        failed.set_xlim(first, max(first + step, min(timeline.window.until, timeline.clock)))
        places = untyped.AutoDateLocator(tz=UTC)
        failed.xaxis.set_major_locator(places)
        failed.xaxis.set_major_formatter(untyped.ConciseDateFormatter(places, tz=UTC))
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _mark(
    timeline: Timeline, rows: Sequence[Any], marks: Sequence[tuple[datetime, int]], began: Change | None,
    ended: Change | None,
) -> None:  # fmt: skip
    until = min(timeline.clock, timeline.window.until)
    for start, stop, queue in pauses(timeline.happened, until=until):
        if timeline.window.queue in {None, queue}:
            for axes in rows:
                axes.axvspan(start, stop, color=INK, alpha=0.13, linewidth=0)
    for at, n in marks[:MARKS]:
        for axes in rows:
            axes.axvline(at, color=INK, linewidth=0.8, linestyle=":")
        rows[0].annotate(
            str(n), (at, 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=7, color="white",
            bbox={"boxstyle": "circle,pad=0.25", "facecolor": INK, "linewidth": 0}, annotation_clip=False,
        )  # fmt: skip
    for change, colour in ((began, _BEGAN), (ended, _ENDED)):
        if change is not None:
            for axes in rows:
                axes.axvline(change.settled if change is ended else change.at, color=colour, linewidth=1.2)
