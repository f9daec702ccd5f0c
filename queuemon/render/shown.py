"""Values as a notebook shows them: a plotly chart where there is one, and below it the same as static HTML.

The chart is data for JupyterLab's own renderer: it needs no kernel, no script in the page and nothing from elsewhere;
where that renderer is missing (a record, another viewer) the tables alone are read.
"""

from __future__ import annotations

import json
from typing import Any, Final

from queuemon.analysis.explanation import Explanation
from queuemon.analysis.failures import Failures
from queuemon.analysis.forecast import Forecast
from queuemon.analysis.onset import Onset
from queuemon.analysis.timeline import Timeline
from queuemon.contract import Keys
from queuemon.model import Trend
from queuemon.render.html import KEYS, Safe, Static, join, static_parts

PLOTLY: Final = "application/vnd.plotly.v1+json"


class Charted(Static):
    """Static HTML that a notebook shows below its charts."""

    def __init__(self, body: Safe, text: str, charts: list[Any]) -> None:
        super().__init__(body, text)
        #: Plotly figures.
        self.charts = charts

    def _ipython_display_(self) -> None:
        from IPython.display import publish_display_data

        publish: Any = publish_display_data
        for chart in self.charts:
            # No HTML beside it: a viewer without plotly shows nothing here, and the table below.
            publish({PLOTLY: _bundle(chart), "text/html": "", "text/plain": "(a chart)"})
        publish({"text/html": self.html, "text/plain": self.text})


def _bundle(chart: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(chart.to_json())
    return {**made, "config": {"responsive": True, "displayModeBar": False, "displaylogo": False}}


def shown(values: tuple[Any, ...], keys: Keys = KEYS) -> Static:
    """Values one under the other, each with its chart. A Timeline takes the Onset and the Forecast beside it into its
    own."""
    parts = [static_parts(value, keys) for value in values]
    body, text = join(part for part, _ in parts), "\n\n".join(text for _, text in parts)
    charts = [c for c in (_chart(value, values) for value in values) if c is not None]
    return Charted(body, text, charts) if charts else Static(body, text)


def _chart(value: Any, beside: tuple[Any, ...]) -> Any:
    from queuemon.render import charts, explain, failures, forecast, timeline

    onset = next((v for v in beside if isinstance(v, Onset)), None)
    future = next((v for v in beside if isinstance(v, Forecast)), None)
    drawn = any(isinstance(v, Timeline) for v in beside)
    match value:
        case Timeline():
            return timeline.figure(value, onset=onset, forecast=future)
        case Forecast() if value.depth and value.outlooks and not value.paused and not drawn:
            return forecast.figure(value)
        case Failures() if value.causes:
            return failures.failures_figure(value)
        case Explanation() if value.findings:
            return explain.figure(value)
        case Trend() if value.points:
            return charts.trend_figure(value)
    return None
