"""Builds plotly figures from values; the dashboard, reports and executed runbooks show the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from queuemon.model import Trend, TrendPoint
from queuemon.render.text import duration

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Legible on light and on dark ground, and apart for colour-blind eyes (Okabe and Ito's hues, toned down).
ARRIVED: Final = "#5b8def"
COMPLETED: Final = "#2ea26f"
FAILED: Final = "#e5534b"
INK: Final = "#7d8896"
GRID: Final = "rgba(128,140,155,0.18)"

#: The traces of `trend_figure`, in order.
TRACES: Final = ("Arrived", "Completed", "Failed attempts")


def trend_data(trend: Trend | None) -> tuple[dict[str, Any], ...]:
    """The x and y of each trace of `trend_figure`."""
    points: Sequence[TrendPoint] = trend.points if trend else ()
    # The last bucket is still filling: as the end of a line it would look like a collapse. Failures are shown at once.
    whole = points[:-1]
    return (
        {"x": [p.at for p in whole], "y": [p.arrived for p in whole]},
        {"x": [p.at for p in whole], "y": [p.completed for p in whole]},
        {"x": [p.at for p in points], "y": [p.failed for p in points]},
    )


def titles(trend: Trend | None) -> tuple[str, str]:
    """What stands above the two charts."""
    per = f" per {duration(trend.bucket_seconds)}, UTC" if trend else ""
    return f"Throughput{per}", f"Failed attempts{per}"


def trend_figure(trend: Trend | None) -> go.Figure:
    """Throughput above, failures below, on one time axis. Ground and ink suit light and dark alike."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    base = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.17,
        row_heights=[0.58, 0.42],
        subplot_titles=titles(trend),
    )
    arrived, completed, failed = trend_data(trend)
    line = {"width": 1.8, "shape": "linear"}
    base.add_trace(
        go.Scatter(
            **arrived,
            name=TRACES[0],
            mode="lines",
            line={**line, "color": ARRIVED},
            hovertemplate="%{y:,} arrived<extra></extra>",
        ),
        row=1,
        col=1,
    )
    base.add_trace(
        go.Scatter(
            **completed,
            name=TRACES[1],
            mode="lines",
            line={**line, "color": COMPLETED},
            fill="tozeroy",
            fillcolor="rgba(46,162,111,0.12)",
            hovertemplate="%{y:,} completed<extra></extra>",
        ),
        row=1,
        col=1,
    )
    base.add_trace(
        go.Bar(
            **failed,
            name=TRACES[2],
            marker={"color": FAILED, "line": {"width": 0}},
            showlegend=False,
            hovertemplate="%{y:,} failed<extra></extra>",
        ),
        row=2,
        col=1,
    )
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "tickfont": {"size": 11}, "automargin": False}
    base.update_xaxes(**axis, showgrid=False, type="date", fixedrange=True)
    base.update_yaxes(**axis, rangemode="tozero", nticks=4, fixedrange=True, tickformat=",d")
    base.update_annotations(font={"size": 12, "color": INK}, x=0, xanchor="left", yshift=2)
    base.update_layout(
        template="none",
        autosize=True,
        height=310,
        margin={"l": 44, "r": 12, "t": 26, "b": 38},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        hovermode="x unified",
        hoverlabel={"bgcolor": "#1f2630", "font": {"color": "#e6edf3", "size": 12}, "bordercolor": "#1f2630"},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom", "font": {"size": 11}},
        bargap=0.15,
    )
    return base


def living(figure: go.Figure) -> go.FigureWidget:
    """A figure as a widget whose values can be changed in place, with what the page needs to draw it (5 MB, once).

    plotly makes itself known to the page empty and sends its values after; a page that draws in between shows bare
    axes for ever (plotly/plotly.py, issue 4998). Here it is made known with its values.
    """
    widget = _late()(figure)
    widget._config = {"responsive": True, "displayModeBar": False, "displaylogo": False}
    widget.open()
    return widget


@cache
def _late() -> Any:
    import plotly.graph_objects as go

    class LateFigureWidget(go.FigureWidget):  # type: ignore[misc]
        """Opens its comm once it holds its values."""

        def open(self) -> None:
            if self._widget_layout:
                super().open()

    return LateFigureWidget
