"""A drain forecast as a plotly figure and static HTML: when the backlog is gone, now and with other workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuemon.analysis.forecast import Forecast, Outlook
from queuemon.contract import Keys
from queuemon.render.charts import ARRIVED, GRID, INK
from queuemon.render.html import Safe, el, join, table
from queuemon.render.text import moment, percent

if TYPE_CHECKING:
    import plotly.graph_objects as go


def who(outlook: Outlook) -> str:
    """With how many workers: "as now", "8 workers"."""
    if outlook.workers is None:
        return "as now"
    return f"{outlook.workers} worker{'' if outlook.workers == 1 else 's'}"


def html(value: Forecast, keys: Keys) -> Safe:
    """The sentence, and a row per outlook."""
    said = el("p", el("code", keys.display(value.queue)), f": {value.sentence}")
    if not value.depth or value.paused:
        return said
    rows = [
        (
            who(o), f"{value.arrivals_per_second:.2g}", f"{o.service_per_second:.2g}", moment(o.earliest),
            moment(o.likely), moment(o.latest), percent(o.chance),
        )
        for o in value.outlooks
    ]  # fmt: skip
    head = ("Workers", "Arrivals/s", "Service/s", "Earliest (UTC)", "Likely", "Latest", "Gone within a day")
    return join([said, table(head, rows, right=(1, 2, 6))])


def figure(value: Forecast) -> go.Figure:
    """From the earliest to the latest end (90 %) of each outlook, with the likely one; those without an end say so."""
    import plotly.graph_objects as go

    made = go.Figure()
    names = [who(o) for o in value.outlooks]
    for o, name in zip(value.outlooks, names, strict=True):
        if o.earliest is None:
            made.add_annotation(x=value.clock, y=name, text="never", showarrow=False, xanchor="left", xshift=6)
            continue
        ends = [o.earliest, o.latest or o.likely or o.earliest]
        line = {"color": ARRIVED, "width": 10}
        made.add_trace(go.Scatter(x=ends, y=[name, name], mode="lines", line=line, hovertemplate="%{x}<extra></extra>"))
        if o.likely is not None:
            mark = {"color": INK, "size": 11, "symbol": "line-ns-open", "line": {"width": 3}}
            made.add_trace(go.Scatter(x=[o.likely], y=[name], mode="markers", marker=mark, hoverinfo="skip"))
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "automargin": True, "fixedrange": True}
    made.add_vline(x=value.clock, line={"color": INK, "width": 1, "dash": "dot"})
    made.update_xaxes(**axis, type="date")
    made.update_yaxes(**axis, categoryorder="array", categoryarray=names[::-1])
    made.update_layout(
        template="none", height=110 + 34 * len(names), margin={"l": 20, "r": 12, "t": 34, "b": 30}, showlegend=False,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        title={"text": "The backlog is gone, UTC (90 %)", "font": {"size": 12}, "x": 0.01},
    )  # fmt: skip
    return made
