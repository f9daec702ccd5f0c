"""The charts of a queue's details on one axis of time: depth, what came and went, failures by cause, how long jobs
took; with deploys, operator actions, pauses and the change it began with drawn across all four."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from queuemon.analysis.durations import Durations
from queuemon.analysis.failures import Cause, Failures
from queuemon.analysis.onset import Onset
from queuemon.analysis.timeline import Timeline, pauses
from queuemon.render.charts import ARRIVED, COMPLETED, FAILED, GRID, INK, living
from queuemon.render.failures import COLOURS, PATTERNS, REST, literal, short
from queuemon.render.text import clean, duration
from queuemon.render.timeline import DEPTH, label

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Most points of a curve, and most marks.
POINTS: Final = 180
MARKS: Final = 40
#: Of the width of the charts that a letter of a name takes.
WIDTH: Final = 0.0075

#: p50, p95, p99: one hue, ever darker and thinner, so that they are told apart without colour.
TOOK: Final = (("p50", "#3f9a8c", 2.2, "solid"), ("p95", "#3f9a8c", 1.4, "dash"), ("p99", "#3f9a8c", 1.0, "dot"))

#: Where each of the four charts is drawn, from the top.
_DOMAINS: Final = ((0.79, 1.0), (0.53, 0.72), (0.27, 0.46), (0.0, 0.20))
#: Steps of the axis of durations, in seconds.
_STEPS: Final = (
    0.1,
    0.25,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1_800,
    3_600,
    7_200,
    21_600,
    43_200,
    86_400,
)
_HEIGHT: Final = 480
_MARGIN: Final = {"l": 56, "r": 14, "t": 46, "b": 40}


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What the charts of a queue show; what could not be read is None and leaves its chart empty."""

    timeline: Timeline
    onset: Onset | None = None
    failures: Failures | None = None
    durations: Durations | None = None


def figure(curves: Curves, *, live: bool = False) -> go.Figure:
    """The four charts; with `live` a FigureWidget for `update`. Ground and ink suit light and dark alike."""
    import plotly.graph_objects as go

    made = go.Figure([*_lines(go), *_bars(go), *_took(go)])
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "tickfont": {"size": 11}, "fixedrange": True}
    for n, domain in enumerate(_DOMAINS):
        row, last = "" if n == 0 else str(n + 1), n == len(_DOMAINS) - 1
        x = {"type": "date", "showgrid": False, "showticklabels": last, "anchor": f"y{row}", "domain": [0, 1]}
        made.update_layout({f"xaxis{row}": {**axis, **x, **({} if n == 0 else {"matches": "x"})}})
        ticks = {"tickformat": ",.12~g"} if not last else {}
        y = {"domain": list(domain), "anchor": f"x{row}", "rangemode": "tozero", "nticks": 4, **ticks}
        made.update_layout({f"yaxis{row}": {**axis, **y}})
    made.update_layout(
        template="none", autosize=True, height=_HEIGHT, margin=_MARGIN, showlegend=False, barmode="stack", bargap=0.08,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hovermode="x",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        hoverlabel={"bgcolor": "#1f2630", "font": {"color": "#e6edf3", "size": 12}, "bordercolor": "#1f2630"},
    )  # fmt: skip
    update(made, curves)
    return living(made) if live else made


def update(made: Any, curves: Curves) -> None:
    """New values into a `figure`, a living one too: in place and in one message; nothing is rebuilt."""
    data, layout = _values(curves), _layout(curves)
    with made.batch_update():
        for trace, values in zip(made.data, data, strict=True):
            trace.update(values, overwrite=False)
        made.layout.xaxis.range = layout["range"]
        made.layout.shapes = layout["shapes"]
        made.layout.annotations = layout["annotations"]
        made.layout.yaxis4.update(_ticks(curves.durations))


# ------------------------------------------------------------------------------------------------- traces, empty


def _lines(go: Any) -> list[Any]:
    def line(name: str, row: str, colour: str, **more: Any) -> Any:
        return go.Scatter(
            name=name, xaxis=f"x{row}", yaxis=f"y{row}", mode="lines", line={"color": colour, "width": 1.8},
            hovertemplate=f"%{{y:,.0f}} {name}<extra></extra>", **more,
        )  # fmt: skip

    return [
        line("waiting", "", DEPTH, fill="tozeroy", fillcolor="rgba(176,124,216,0.12)"),
        line("arrived", "2", ARRIVED),
        line("completed", "2", COMPLETED, fill="tozeroy", fillcolor="rgba(46,162,111,0.12)"),
    ]


def _bars(go: Any) -> list[Any]:
    styles = [*zip(COLOURS, PATTERNS, strict=True), (REST, "")]
    return [
        go.Bar(
            xaxis="x3", yaxis="y3", hovertemplate="%{y:,} %{fullData.name}<extra></extra>",
            marker={"color": colour, "line": {"width": 0}, "pattern": {"shape": pattern, "solidity": 0.25}},
        )
        for colour, pattern in styles
    ]  # fmt: skip


def _took(go: Any) -> list[Any]:
    return [
        go.Scatter(
            name=name, xaxis="x4", yaxis="y4", mode="lines+markers", marker={"size": 3},
            line={"color": colour, "width": width, "dash": dash},
            hovertemplate=f"{name} %{{customdata}}<extra></extra>",
        )
        for name, colour, width, dash in TOOK
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- their values


def _values(curves: Curves) -> list[dict[str, Any]]:
    seen = curves.timeline
    each = max(1, -(-len(seen.points) // POINTS))
    step = seen.bucket_seconds * each
    begins = seen.points[0].at if seen.points else seen.window.since
    whole = len(seen.whole) // each

    def sums(name: str) -> Any:
        # The bucket that is filling is left out: as the end of a line of sums it would look like a collapse.
        counts = np.fromiter((getattr(p, name) for p in seen.points[: whole * each]), dtype=np.int32)
        return counts.reshape(-1, each).sum(axis=1, dtype=np.int32)

    grid: dict[str, Any] = {"x0": _stamp(begins), "dx": step * 1000}
    ends = [min(len(seen.points), n + each) - 1 for n in range(0, len(seen.points), each)]
    depth = np.fromiter((seen.points[n].depth for n in ends), dtype=np.int32)
    found: list[dict[str, Any]] = [
        # A depth holds at the end of its bucket.
        {**grid, "x0": _stamp(begins + timedelta(seconds=step)), "y": depth},
        {**grid, "y": sums("arrived")},
        {**grid, "y": sums("completed")},
    ]
    return [*found, *_failed(curves.failures), *_durations(curves.durations)]


def _failed(found: Failures | None) -> list[dict[str, Any]]:
    """The causes with most attempts, in the order of the list beside it, and all others as the last."""
    shown: Sequence[Cause] = found.causes[: len(COLOURS)] if found else ()
    middle: dict[str, Any] = {"dx": found.bucket_seconds * 1000, "width": found.bucket_seconds * 920} if found else {}
    if found:
        middle["x0"] = _stamp(found.window.since + timedelta(seconds=found.bucket_seconds / 2))

    def bars(y: Any, name: str) -> dict[str, Any]:
        return {**middle, "y": y, "name": name}

    nothing = np.zeros(0, dtype=np.int32)
    made = [bars(np.array(c.trend, dtype=np.int32), literal(short(c))) for c in shown]
    made += [bars(nothing, "") for _ in range(len(COLOURS) - len(made))]
    trends = [c.trend for c in found.causes[len(COLOURS) :]] if found else []
    rest = np.array(trends, dtype=np.int32).sum(axis=0, dtype=np.int32) if trends else nothing
    return [*made, bars(rest, "of other causes")]


def _durations(found: Durations | None) -> list[dict[str, Any]]:
    if found is None:
        return [{"y": np.zeros(0, dtype=np.float32), "customdata": []} for _ in TOOK]
    middle = found.window.since + timedelta(seconds=found.bucket_seconds / 2)
    grid = {"x0": _stamp(middle), "dx": found.bucket_seconds * 1000}
    made = []
    for name, *_ in TOOK:
        values = [getattr(p, name) for p in found.points]
        y = np.array([np.nan if v is None else v for v in values], dtype=np.float32)
        made.append({**grid, "y": y, "customdata": ["" if v is None else duration(v) for v in values]})
    return made


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")


# ------------------------------------------------------------------------------------------- titles, marks, pauses


def titles(curves: Curves) -> tuple[str, str, str, str]:
    """What stands above each chart, its colours named in words; of plotly's markup only what is made here."""
    seen, failures, took = curves.timeline, curves.failures, curves.durations
    each = max(1, -(-len(seen.points) // POINTS))
    target = ""
    if took and took.target_seconds:
        target = f", <span style='color:{FAILED}'>target {duration(took.target_seconds)}</span>"
    part = f" (from {took.share:.0%} of the time)" if took and took.share < 1 else ""
    return (
        f"<span style='color:{DEPTH}'>Waiting</span>, UTC",
        f"<span style='color:{ARRIVED}'>Arrived</span> and <span style='color:{COMPLETED}'>completed</span>"
        f" per {duration(seen.bucket_seconds * each)}",
        f"Failed attempts by cause{f' per {duration(failures.bucket_seconds)}' if failures else ''}",
        f"From created to done: p50 ——, p95 – –, p99 · · ·{target}{part}",
    )


def _layout(curves: Curves) -> dict[str, Any]:
    seen = curves.timeline
    low, high = seen.window.since, min(seen.window.until, seen.clock)
    shapes: list[dict[str, Any]] = []
    across = {"type": "line", "xref": "x", "yref": "paper", "y0": 0, "y1": 1}
    for start, stop, _ in pauses(seen.happened, until=high):
        ends = {"x0": _stamp(max(start, low)), "x1": _stamp(stop)}
        box = {"type": "rect", "layer": "below", "line": {"width": 0}, "fillcolor": "rgba(128,140,155,0.16)"}
        shapes.append({**across, **box, **ends})
    happened = [h for h in seen.happened if low <= h.at <= high][-MARKS:]
    words = [
        {
            "text": text, "x": 0, "xref": "paper", "xanchor": "left", "y": domain[1], "yref": "paper",
            "yanchor": "bottom", "showarrow": False, "font": {"size": 12, "color": INK},
        }
        for text, domain in zip(titles(curves), _DOMAINS, strict=True)
    ]  # fmt: skip
    taken: list[list[tuple[float, float]]] = [[], []]
    for h in reversed(happened):
        deploy = h.kind == "deploy"
        pen = {"color": INK, "width": 1.2 if deploy else 1, "dash": "solid" if deploy else "dot"}
        shapes.append({**across, "x0": _stamp(h.at), "x1": _stamp(h.at), "line": pen, "opacity": 0.75})
        text, place = _brief(label(h)), (h.at - low) / (high - low)
        left = place < 0.7
        span = (place, place + WIDTH * len(text)) if left else (place - WIDTH * len(text), place)
        # The newest names first, on two lines; one that would lie on another is left out: its line stays.
        level = next((k for k, held in enumerate(taken) if all(span[1] < a or b < span[0] for a, b in held)), None)
        if level is not None:
            taken[level].append(span)
            words.append(
                {
                    "text": literal(text), "x": _stamp(h.at), "xref": "x", "yref": "paper", "y": 1,
                    "yshift": 16 + 13 * level, "xanchor": "left" if left else "right", "yanchor": "bottom",
                    "showarrow": False, "font": {"size": 10, "color": INK},
                    "hovertext": literal(clean(f"{h.kind} {h.target}", 120)),
                }
            )  # fmt: skip
    for change in curves.onset.changes if curves.onset else ():
        pen = {"color": FAILED, "width": 1.4, "dash": "dash"}
        shapes.append({**across, "x0": _stamp(change.at), "x1": _stamp(change.at), "line": pen})
    took = curves.durations
    if took and took.target_seconds and _near(took):
        pen = {"color": FAILED, "width": 1.2, "dash": "dash"}
        line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y4", "line": pen}
        shapes.append({**line, "y0": took.target_seconds, "y1": took.target_seconds})
    return {"range": [_stamp(low), _stamp(high)], "shapes": shapes, "annotations": words}


def _brief(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:29]}…"


def _ticks(took: Durations | None) -> dict[str, Any]:
    """Marks on the axis of durations, in the units in which people say them."""
    most = max((p.p99 or 0.0 for p in took.points), default=0.0) if took else 0.0
    step = next((n for n in _STEPS if most / n <= 4), most / 3 or 1.0)
    values = [n * step for n in range(5) if n * step <= max(most, step)]
    return {"tickvals": values, "ticktext": [duration(v) for v in values]}


def _near(took: Durations) -> bool:
    """Whether the slowest come near the target: far below it, the line would flatten them into the ground."""
    return max((p.p99 or 0.0 for p in took.points), default=0.0) > (took.target_seconds or 0.0) / 5
