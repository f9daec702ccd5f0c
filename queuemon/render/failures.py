"""Failures by cause: the stacked chart, the static table, and a trend in a few characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from queuemon.analysis.failures import Cause, Failures
from queuemon.contract import Keys
from queuemon.render import html
from queuemon.render.charts import GRID, INK
from queuemon.render.text import clean, duration, moment, number, percent

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Okabe and Ito's palette without black and yellow: apart for colour-blind eyes, legible on light and dark ground.
COLOURS: Final = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
#: Beside colour: patterns, so that two neighbours are told apart without it.
PATTERNS: Final = ("", "/", "", "\\", "", "x")
REST: Final = "#8a94a3"

_BARS: Final = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[int], width: int) -> str:
    """A trend in `width` characters, each as high as its part of the time; a space where nothing was."""
    edges = [round(n * len(values) / width) for n in range(width + 1)]
    sums = [sum(values[a:b]) for a, b in pairwise(edges)]
    most = max(sums, default=0)
    return "".join(" " if not n else _BARS[min(7, n * 8 // (most + 1))] for n in sums)


def title_of(cause: Cause, limit: int = 60) -> str:
    """A cause in one short line of plain text."""
    return clean(f"{cause.error_type}: {cause.text}" if cause.error_type else cause.text, limit) or "(no message)"


def failures_figure(found: Failures) -> go.Figure:
    """Failed attempts over time, stacked: the six causes with most, and all that remain. Ground and ink suit light and
    dark alike; names are plain text."""
    import plotly.graph_objects as go

    figure = go.Figure()
    shown, x = found.causes[: len(COLOURS)], list(found.buckets)
    for n, cause in enumerate(shown):
        figure.add_trace(_bar(x, cause.trend, short(cause), COLOURS[n], PATTERNS[n]))
    rest = [sum(column) for column in zip(*(c.trend for c in found.causes[len(COLOURS) :]), strict=True)]
    if any(rest):
        figure.add_trace(_bar(x, rest, "Other causes", REST, ""))
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "tickfont": {"size": 11}}
    figure.update_xaxes(**axis, showgrid=False, type="date", fixedrange=True)
    figure.update_yaxes(**axis, rangemode="tozero", nticks=4, fixedrange=True, tickformat=",.12~g")
    legend = 19 * len(figure.data)
    figure.update_layout(
        template="none", barmode="stack", bargap=0.1, height=270 + legend,
        margin={"l": 48, "r": 12, "t": 34, "b": 52 + legend, "autoexpand": False},
        title={
            "text": f"Failed attempts per {duration(found.bucket_seconds)} by cause, UTC",
            "font": {"size": 12}, "x": 0.01,
        },
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        hoverlabel={"bgcolor": "#1f2630", "font": {"color": "#e6edf3", "size": 12}, "bordercolor": "#1f2630"},
        legend={
            "yref": "container", "y": 0.01, "yanchor": "bottom", "x": 0, "font": {"size": 11},
            "traceorder": "normal",
        },
        showlegend=True,
    )  # fmt: skip
    return figure


def short(cause: Cause) -> str:
    """A cause in one line, for a legend or a tooltip."""
    title = title_of(cause, 1_000)
    return title if len(title) <= 110 else f"{title[:109]}…"


def _bar(x: Sequence[Any], y: Sequence[int], name: str, colour: str, pattern: str) -> Any:
    import plotly.graph_objects as go

    return go.Bar(
        x=x, y=list(y), name=literal(name), hovertemplate="%{y:,} %{fullData.name}<extra></extra>",
        marker={"color": colour, "line": {"width": 0}, "pattern": {"shape": pattern, "solidity": 0.25}},
    )  # fmt: skip


def literal(text: str) -> str:
    """Text that plotly neither takes for markup nor for a link nor for mathematics."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "＄")


def failures_html(found: Failures, keys: Keys) -> html.Safe:
    """The causes as a table, with what the numbers are worth."""
    where = keys.display(found.window.queue) if found.window.queue else "all queues"
    head_line = html.el(
        "p", html.el("b", f"{found.attempts} failed attempts"), ", ", html.el("code", where),
        f", {moment(found.window.since)} to {moment(found.window.until)} UTC",
    )  # fmt: skip
    notes = [html.el("p", note, class_="dim") for note in found.notes]
    if not found.causes:
        return html.join([head_line, html.el("p", "No attempt failed in this time.", class_="dim"), *notes])
    if found.others:
        notes.insert(0, html.el("p", f"And {number(found.others)} attempts of other causes.", class_="dim"))
    everywhere = found.window.queue is None
    rows = [_row(c, keys, everywhere=everywhere) for c in found.causes]
    head = [name for name in _COLUMNS if everywhere or name != "Queues"]
    return html.join([head_line, html.table(head, rows, right=(1, 2, 4)), *notes])


def _row(c: Cause, keys: Keys, *, everywhere: bool) -> tuple[object, ...]:
    said = [html.el("b", clean(c.error_type)), html.el("br"), html.el("span", clean(c.text))]
    if c.new_since:
        said += [html.el("br"), html.el("b", f"New since {clean(c.new_since)}")]
    said += [html.el("br"), html.el("code", c.filter, class_="dim")]
    queues = clean(", ".join(keys.display(name) for name, _ in c.queues))
    return (
        html.join(said),
        str(c.attempts),
        html.el("span", percent(c.share), class_="nw"),
        html.el("code", sparkline(c.trend, 15), class_="nw"),
        str(c.standing),
        html.el("span", moment(c.first_seen), class_="nw"),
        html.el("span", moment(c.last_seen), class_="nw"),
        *([queues] if everywhere else []),
    )


_COLUMNS: Final = (
    "Error, and the filter of its jobs that stand failed", "Attempts", "Share", "Trend", "Standing failed",
    "First seen (UTC)", "Last seen (UTC)", "Queues",
)  # fmt: skip


def failures_text(found: Failures) -> str:
    """The causes in plain text, a line each."""
    lines = [f"{found.attempts} failed attempts"]
    lines += [f"{c.signature}  {c.attempts!s:>9}  {percent(c.share):>6}  {title_of(c, 120)}" for c in found.causes]
    return "\n".join([*lines, *found.notes])
