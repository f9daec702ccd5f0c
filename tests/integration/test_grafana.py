"""The board: Prometheus understands every expression, and each names only what the exporter exposes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from queuemon.alerting.exporter import serving
from queuemon.alerting.grafana import board
from queuemon.alerting.rules import RULES
from queuemon.workbench import Workbench
from tests.support.counted import parsed
from tests.support.engine import Rig
from tests.support.prometheus import judged, page_of

pytestmark = pytest.mark.integration

#: What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$__range": "3h", "$queue": "mail|bulk", "$job": "queuemon"}


def _expressions(board: Any) -> Iterator[str]:
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (annotation["expr"] for annotation in board["annotations"]["list"])
    for variable in board["templating"]["list"]:
        found = re.match(r"label_values\((.*), \w+\)", variable.get("query", ""))
        if found:
            yield found[1]


def _filled(expr: str) -> str:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    expressions = [_filled(expr) for expr in _expressions(board())]
    rules = [{"record": f"board:{n}", "expr": expr} for n, expr in enumerate(expressions)]
    file = tmp_path / "board.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(expressions)} rules found" in judged("promtool", "check", "rules", file)


def test_board_and_rules_name_only_metrics_and_labels_that_the_exporter_exposes(rig: Rig) -> None:
    rig.producer.enqueue("mail", {})
    rig.sql(
        "INSERT INTO job_logs (job_id, queue, kind, gen, status, finished_at, started_at, due_at, duration_ms)"
        " SELECT gen_random_uuid(), 'mail', 'attempt', 1, 'failed', now(), now(), now(), 5 FROM generate_series(1, 20)"
    )
    rig.relay().fold()
    with (
        Workbench(rig.store.settings) as wb,
        serving(wb, host="127.0.0.1", port=0, seconds=60) as port,
    ):
        wb.pause("mail", reason="an action to count")
        page = parsed(page_of(port))
    exposed: dict[str, set[str]] = {}
    for name, labels in page:
        exposed.setdefault(name, set()).update(label for label, _ in labels)
    for expr in [*_expressions(board()), *(rule.expr for rule in RULES)]:
        for name, chosen in re.findall(r"(queuemon_\w+)(?:\{(.*?)\})?", expr):
            assert name in exposed, expr
            assert set(re.findall(r"(\w+)=~?\"", chosen)) <= exposed[name] | {"job"}, expr
        for by in re.findall(r"by \((.*?)\)", expr):
            known = set().union(*(exposed[name] for name in re.findall(r"queuemon_\w+", expr)))
            assert set(by.split(", ")) <= known | {"job"}, expr


def test_panels_do_not_overlap_and_every_one_says_what_it_shows() -> None:
    panels = board()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["description"].endswith(".")
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for a, b in combinations([panel["gridPos"] for panel in panels], 2):
        assert (
            a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        )  # fmt: skip
    assert json.loads(json.dumps(board())) == board()
