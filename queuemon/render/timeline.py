"""The reconstructed past as a plotly figure, static escaped HTML and sparklines; screens and reports show these."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape
from typing import TYPE_CHECKING, Any, Final

from queuemon.analysis.timeline import Timeline, pauses
from queuemon.contract import Keys
from queuemon.render.charts import ARRIVED, COMPLETED, FAILED, GRID, INK
from queuemon.render.html import MAX_ROWS, Safe, el, join, table
from queuemon.render.text import clean, duration, moment, number, percent, told

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from queuemon.analysis.forecast import Forecast
    from queuemon.analysis.onset import Onset
    from queuemon.store.timeline import Happened

#: Depth, and what is yet to come of it.
DEPTH: Final = "#b07cd8"
BAND: Final = "rgba(176,124,216,0.22)"

#: Marks drawn into a figure at most, and the furthest that a forecast is drawn.
MARKS: Final = 40
AHEAD: Final = timedelta(hours=6)

#: How much of the time before the first change is seen, at least.
BEFORE: Final = timedelta(minutes=30)

_TITLES: Final = ("Waiting (due)", "Came due and started", "Failed attempts")
_BARS: Final = "▁▂▃▄▅▆▇█"


def figure(timeline: Timeline, *, onset: Onset | None = None, forecast: Forecast | None = None) -> go.Figure:
    """Depth, what came and went, and failures, one under the other on one axis of time (UTC), with deploys, actions and
    changes as vertical lines and pauses shaded. Ground and ink suit light and dark alike."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    per = f" per {duration(timeline.bucket_seconds)}"
    titles = (f"{_TITLES[0]}, UTC", _TITLES[1] + per, _TITLES[2] + per)
    made = make_subplots(
        rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.09, row_heights=[0.42, 0.33, 0.25], subplot_titles=titles
    )
    made.update_annotations(font={"size": 12, "color": INK}, x=0, xanchor="left", yshift=2)
    step = timedelta(seconds=timeline.bucket_seconds)
    # A depth holds at the end of its bucket; the last one may still be filling: as the end of a line of sums it would
    # look like a collapse.
    points, whole = timeline.points, timeline.whole
    ends = [min(p.at + step, timeline.clock) for p in points]

    def line(row: int, name: str, x: Sequence[datetime], y: Sequence[float], colour: str, **more: Any) -> None:
        hover = "%{y:,.0f} " + name.lower() + "<extra></extra>"
        style = {"color": colour, "width": 1.8}
        made.add_trace(go.Scatter(x=x, y=y, name=name, mode="lines", line=style, hovertemplate=hover, **more), row, 1)

    line(1, "Waiting", ends, [p.depth for p in points], DEPTH, fill="tozeroy", fillcolor="rgba(176,124,216,0.10)")
    if forecast is not None and forecast.outlooks and forecast.depth and not forecast.paused:
        made.add_trace(_band(forecast), 1, 1)
    starts = [p.at for p in whole]
    line(2, "Came due", starts, [p.due for p in whole], ARRIVED)
    line(2, "Started", starts, [p.started for p in whole], COMPLETED)
    failed = {"x": [p.at for p in points], "y": [p.failed + p.lost for p in points]}
    bars = {"marker": {"color": FAILED, "line": {"width": 0}}, "hovertemplate": "%{y:,} failed<extra></extra>"}
    made.add_trace(go.Bar(**failed, name="Failed", showlegend=False, **bars), 3, 1)
    _mark(made, timeline, onset)
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "tickfont": {"size": 11}}
    made.update_xaxes(**axis, showgrid=False, type="date", range=_focus(timeline, onset))
    made.update_yaxes(**axis, rangemode="tozero", nticks=4, tickformat=",.12~g")
    made.update_layout(
        template="none", autosize=True, height=520, margin={"l": 52, "r": 12, "t": 30, "b": 38},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", bargap=0.1, hovermode="x unified",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        hoverlabel={"bgcolor": "#1f2630", "font": {"color": "#e6edf3", "size": 12}, "bordercolor": "#1f2630"},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom", "font": {"size": 11}},
    )  # fmt: skip
    return made


def _band(forecast: Forecast) -> Any:
    """From the depth now to the earliest and the latest end of the backlog."""
    import plotly.graph_objects as go

    outlook, now, depth = forecast.outlooks[0], forecast.clock, forecast.depth
    far = now + AHEAD
    early = outlook.earliest if outlook.earliest is not None and outlook.earliest < far else far
    late = outlook.latest if outlook.latest is not None and outlook.latest < far else far
    # What is not gone at the edge of the figure stands there as high as a straight line would be; no end: level.
    at_early = 0.0 if early < far else depth * _left(outlook.earliest, now, far)
    at_late = 0.0 if late < far else depth * _left(outlook.latest, now, far)
    return go.Scatter(
        x=[now, early, late, now], y=[depth, at_early, at_late, depth], fill="toself", fillcolor=BAND, mode="lines",
        line={"width": 0}, name="Forecast (90 %)", hoverinfo="skip",
    )  # fmt: skip


def _left(end: datetime | None, now: datetime, far: datetime) -> float:
    return 1.0 if end is None else max(0.0, 1 - (far - now) / (end - now))


def _focus(timeline: Timeline, onset: Onset | None) -> tuple[datetime, datetime] | None:
    """What is seen at first: the changes with as much again before them, and at least half an hour. None: all of it, as
    after a double click on the chart."""
    until = min(timeline.clock, timeline.window.until)
    if not onset or not onset.changes:
        return None
    first = onset.changes[0].at
    low = first - max(until - first, BEFORE)
    return (low, until) if low > timeline.window.since else None


def _mark(made: Any, timeline: Timeline, onset: Onset | None) -> None:
    for start, stop, _ in pauses(timeline.happened, until=min(timeline.clock, timeline.window.until)):
        made.add_vrect(x0=start, x1=stop, fillcolor="rgba(128,140,155,0.14)", line_width=0, layer="below")
    low, high = _focus(timeline, onset) or (timeline.window.since, timeline.window.until)
    shown = [h for h in timeline.happened if low <= h.at <= high]
    for n, h in enumerate(shown[-MARKS:]):
        dash = "solid" if h.kind == "deploy" else "dot"
        side = "left" if h.at < low + 0.7 * (high - low) else "right"
        made.add_vline(x=h.at, line={"color": INK, "width": 1, "dash": dash}, opacity=0.7)
        made.add_annotation(
            x=h.at, y=1.0 - 0.05 * (n % 3), yref="paper", text=escape(label(h)), showarrow=False, xanchor=side,
            yanchor="top", font={"size": 10, "color": INK}, textangle=0,
        )  # fmt: skip
    for change in onset.changes if onset else ():
        made.add_vline(x=change.at, line={"color": FAILED, "width": 1.4, "dash": "dash"}, opacity=0.9)


def label(happened: Happened) -> str:
    """A deploy or action in a few words."""
    done = f" {happened.done:,}" if happened.done and happened.kind not in {"pause", "resume"} else ""
    return clean(happened.target, 40) if happened.kind == "deploy" else f"{clean(happened.kind, 20)}{done}"


def html(timeline: Timeline, keys: Keys, *, onset: Onset | None = None) -> Safe:
    """The window's sentences, what happened, and its buckets (the newest 200) as tables; works without a script."""
    title = keys.display(timeline.window.queue) if timeline.window.queue else "all queues"
    span = f"{moment(timeline.window.since)} to {moment(timeline.window.until)} UTC, buckets of"
    parts = [el("p", el("code", title), f", {span} {duration(timeline.bucket_seconds)}")]
    parts += [el("p", told(s)) for s in (onset.sentences if onset else ())]
    parts += [el("p", note, class_="bad") for note in timeline.notes]
    if timeline.happened:
        rows = [
            (moment(h.at), h.kind, el("code", clean(h.target)), clean(h.actor), clean(h.why), number(h.done))
            for h in timeline.happened[-MAX_ROWS:]
        ]
        parts.append(table(("When (UTC)", "What", "Which", "Who", "Why", "Jobs"), rows, right=(5,)))
    head = ("From (UTC)", "Waiting", "Arrived", "Came due", "Started", "Completed", "Failed", "Rate", "Wait", "Longest")
    buckets = [
        (
            moment(p.at), number(p.depth), number(p.arrived), number(p.due), number(p.started), number(p.completed),
            number(p.failed), percent(p.failure_rate), _span(p.wait_seconds), _span(p.longest_wait_seconds),
        )
        for p in timeline.points[-MAX_ROWS:]
    ]  # fmt: skip
    parts.append(el("details", el("summary", "Every bucket"), table(head, buckets, right=range(1, 10))))
    return join(parts)


def text(timeline: Timeline, keys: Keys, *, width: int = 60) -> str:
    """Three sparklines with their extremes, in plain text."""
    title = clean(keys.display(timeline.window.queue), 80) if timeline.window.queue else "all queues"
    first, last = timeline.window.since, timeline.window.until
    head = (
        f"{title}, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, buckets of {duration(timeline.bucket_seconds)}"
    )
    series = (
        ("Waiting", [p.depth for p in timeline.points], max),
        ("Arrived", [p.arrived for p in timeline.whole], sum),
        ("Started", [p.started for p in timeline.whole], sum),
        ("Failed", [p.failed + p.lost for p in timeline.points], sum),
    )
    lines = [head]
    for name, values, together in series:
        most, total = max(values, default=0), sum(values)
        told = f"now {values[-1] if values else 0:,}, at most {most:,}" if together is max else f"{total:,} in all"
        lines.append(f"{name:<8} {sparkline(merged(values, width, together))}  {told}")
    return "\n".join(lines)


def merged(values: Sequence[float], width: int, together: Any) -> list[float]:
    """The values in at most `width` groups of neighbours, each group put together."""
    each = max(1, -(-len(values) // width))
    return [together(values[n : n + each]) for n in range(0, len(values), each)]


def sparkline(values: Sequence[float]) -> str:
    """One character per value, from ▁ for nothing to █ for the most."""
    most = max(values, default=0)
    scale = (len(_BARS) - 1) / most if most > 0 else 0.0
    # Anything above nothing is seen.
    return "".join(_BARS[max(v > 0, round(v * scale))] for v in values)


def _span(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)
