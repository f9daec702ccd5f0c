"""The Grafana board, made from the names that the exporter exposes; `queuemon alerts grafana` prints it.

The JSON model is documented at https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_JOB: Final = 'job="$job"'
_CHOSEN: Final = _JOB + ',queue=~"$queue"'

#: Grafana's grid has 24 columns.
_COLUMNS: Final = 24

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: PromQL → legend, and how it is drawn."""

    title: str
    #: What it tells the reader.
    description: str
    #: PromQL → legend.
    lines: Mapping[str, str]
    #: A unit of Grafana's.
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12
    height: int = 8
    #: Value from which it is red; None: never.
    red_from: float | None = None
    #: Largest value of the axis; None: as large as it gets.
    largest: float | None = None
    #: Value → word.
    words: Mapping[str, str] = field(default_factory=dict)


def _max(metric: str, labels: str = _CHOSEN, *, by: str = "queue") -> str:
    """Any number of exporters over the same stores say the same: the largest."""
    return f"max by ({by}) (queuemon_{metric}{{{labels}}})" if by else f"max(queuemon_{metric}{{{labels}}})"


def _rate(metric: str, labels: str = _CHOSEN, *, by: str = "queue") -> str:
    return f"max by ({by}) (rate(queuemon_{metric}{{{labels}}}[$__rate_interval]))"


def _quantile(q: float, metric: str) -> str:
    return f"histogram_quantile({q}, {_rate(f'{metric}_bucket', by='queue, le')})"


_WAITING: Final = _CHOSEN + ',state="waiting"'
_FAILED: Final = _CHOSEN + ',state="failed"'

#: Left to right, line by line.
PANELS: Final[Sequence[Panel]] = (
    Panel(
        title="Stores", description="Whether PostgreSQL and Redis could be read.",
        lines={_max("up", _JOB, by="store"): "{{store}}"}, kind="stat", width=5, height=4,
        words={"0": "away", "1": "up"},
    ),
    Panel(
        title="Waiting", description="Jobs that are due now, of the chosen queues.",
        lines={f"sum({_max('jobs', _WAITING)})": "jobs"}, kind="stat", width=4, height=4,
    ),
    Panel(
        title="Failed", description="Jobs that stand failed now, of the chosen queues.",
        lines={f"sum({_max('jobs', _FAILED)})": "jobs"}, kind="stat",
        width=4, height=4,
    ),
    Panel(
        title="Drift", description="Differences between the stores that the continuous look has proven.",
        lines={f"sum({_max('drift', _JOB, by='class')})": "differences"}, kind="stat", width=4, height=4, red_from=1,
    ),
    Panel(
        title="Publication lag", description="How long the oldest job that is due has not been published to Redis.",
        lines={_max("publication_lag_seconds", _JOB, by=""): "lag"}, unit="s", kind="stat", width=4, height=4,
        red_from=60,
    ),
    Panel(
        title="Age of the numbers", description="How long ago the exporter read the stores.",
        lines={"time() - " + _max("snapshot_timestamp_seconds", _JOB, by=""): "age"}, unit="s", kind="stat", width=3,
        height=4, red_from=60,
    ),
    Panel(
        title="Depth", description="Waiting jobs that are due, by queue.",
        lines={_max("jobs", _WAITING): "{{queue}}"},
    ),
    Panel(
        title="Oldest waiting against target",
        description="Age of the oldest waiting job; 100 % is its queue's target.",
        lines={f"{_max('oldest_waiting_age_seconds')} / {_max('target_seconds')}": "{{queue}}"}, unit="percentunit",
        red_from=1,
    ),
    Panel(
        title="Throughput", description="Jobs completed per second.",
        lines={_rate("jobs_completed_total"): "{{queue}}"}, unit="ops",
    ),
    Panel(
        title="Arrivals", description="Jobs enqueued per second.",
        lines={_rate("jobs_created_total"): "{{queue}}"}, unit="ops",
    ),
    Panel(
        title="Failure ratio", description="Share of the attempts finished in the failure window that failed.",
        lines={_max("failure_ratio"): "{{queue}}"}, unit="percentunit", red_from=0.05,
    ),
    Panel(
        title="Share within target",
        description="Of the jobs completed, how many took no longer than the queue's target, from created to finished.",
        lines={f"{_rate('jobs_within_target_total')} / ({_rate('jobs_completed_total')} > 0)": "{{queue}}"},
        unit="percentunit", largest=1,
    ),
    Panel(
        title="Duration of attempts", description="Median, 95th and 99th percentile, from the histogram's buckets.",
        lines={_quantile(q, "job_duration_seconds"): f"{{{{queue}}}} p{q * 100:.0f}" for q in (0.5, 0.95, 0.99)},
        unit="s",
    ),
    Panel(
        title="Waiting time", description="How long jobs had been due when their attempt began.",
        lines={_quantile(q, "job_waiting_seconds"): f"{{{{queue}}}} p{q * 100:.0f}" for q in (0.5, 0.95)}, unit="s",
    ),
    Panel(
        title="Workers", description="Living worker processes at home in the queue, and how many are meant for it.",
        lines={_max("workers"): "{{queue}}", _max("workers_desired"): "{{queue}} meant"},
    ),
    Panel(
        title="Stuck, and expired per second",
        description="Active jobs without a heartbeat within the lease; and jobs that nobody processed in time.",
        lines={_max("stuck_jobs"): "{{queue}} stuck", _rate("jobs_expired_total"): "{{queue}} expired/s"},
    ),
    Panel(
        title="Publications due", description="How many jobs or batches committed and are not yet in Redis.",
        lines={_max("publications_due", _JOB, by=""): "publications"},
    ),
    Panel(
        title="Drift by class", description="The classes are described in the documentation of drift.",
        lines={_max("drift", _JOB, by="class") + " > 0": "class {{class}}"},
    ),
    Panel(
        title="Paused", description="Whether the queue is paused.",
        lines={_max("queue_paused"): "{{queue}}"}, kind="state-timeline", words={"0": "runs", "1": "paused"},
    ),
    Panel(
        title="Operators' actions",
        description="Actions in the audit trail that the time span added, by kind and state.",
        lines={f"delta({_max('actions', _JOB, by='kind, state')}[$__range:]) > 0": "{{kind}}, {{state}}"}, kind="stat",
    ),
)  # fmt: skip


def board() -> Json:
    """The board as Grafana imports it; it asks for the data source, and shows all queues at first."""
    return {
        "uid": "queuemon",
        "title": "queuemon: background jobs",
        "tags": ["queuemon"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one crosshair over all panels
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [*_variables()]},
        "annotations": {"list": [_firing()]},
        "panels": [*_placed()],
    }


def _variables() -> Iterator[Json]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    yield _asked("job", "Exporter", "label_values(queuemon_up, job)")
    every = {"multi": True, "includeAll": True, "allValue": ".*"}
    current = {"selected": True, "text": ["All"], "value": ["$__all"]}
    yield _asked("queue", "Queue", f"label_values(queuemon_jobs{{{_JOB}}}, queue)") | every | {"current": current}


def _asked(name: str, label: str, query: str) -> Json:
    return {
        "name": name, "label": label, "type": "query", "datasource": _SOURCE, "query": query, "definition": query,
        "refresh": 2, "sort": 1,
    }  # fmt: skip


def _firing() -> Json:
    return {
        "name": "Alerts that fire", "datasource": _SOURCE, "enable": True, "iconColor": "red",
        "expr": 'ALERTS{alertname=~"Queuemon.*",alertstate="firing",job=~"$job|"}', "titleFormat": "{{alertname}}",
        "textFormat": "{{queue}}{{store}}{{class}}", "useValueForTime": False, "step": "30s",
    }  # fmt: skip


def _placed() -> Iterator[Json]:
    """The panels with their places; a line ends where the next panel does not fit."""
    x = y = line = 0
    for number, panel in enumerate(PANELS, 1):
        if x + panel.width > _COLUMNS:
            x, y, line = 0, y + line, 0
        yield _drawn(panel, number) | {"gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height}}
        x, line = x + panel.width, max(line, panel.height)


def _drawn(panel: Panel, number: int) -> Json:
    red = [] if panel.red_from is None else [{"color": "red", "value": panel.red_from}]
    calm = "text" if panel.red_from is None else "green"
    words = [{"type": "value", "options": {value: {"text": word} for value, word in panel.words.items()}}]
    defaults: Json = {
        "unit": panel.unit,
        "min": 0,
        "mappings": words if panel.words else [],
        "thresholds": {"mode": "absolute", "steps": [{"color": calm, "value": None}, *red]},
    }
    options: Json = {}
    if panel.largest is not None:
        defaults["max"] = panel.largest
    match panel.kind:
        case "timeseries":
            options = {
                "legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
            defaults["color"] = {"mode": "palette-classic"}
            defaults["custom"] = {
                "fillOpacity": 8,
                "showPoints": "never",
                "thresholdsStyle": {"mode": "off" if panel.red_from is None else "line"},
            }
        case "stat":
            options = {"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
            defaults["color"] = {"mode": "thresholds"}
    return {
        "id": number, "type": panel.kind, "title": panel.title, "description": panel.description,
        "datasource": _SOURCE, "options": options, "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + n), "datasource": _SOURCE, "expr": expr, "legendFormat": legend, "range": True}
            for n, (expr, legend) in enumerate(panel.lines.items())
        ],
    }  # fmt: skip
