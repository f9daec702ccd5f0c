"""An explanation is shown alike as text, HTML and chart, and whatever its filters hold can steer none of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from queuemon.analysis.explanation import Companion, Explanation, Finding
from queuemon.analysis.separation import risk
from queuemon.render import explain
from queuemon.render.html import static

FINDING = Finding(
    filter="payload.template=spring payload.region=eu-west",
    label="",
    failing=237,
    jobs=335,
    support=0.88,
    risk=risk(237, 335, 270, 4_000),
    log_p=-486.0,
    exact=True,
    companions=(Companion(filter="payload.campaign=c1", correlation=0.98),),
)
ANSWER = Explanation(
    failing=270, succeeding=3_730, attributes=12, tested=183_737, findings=(FINDING,), covered=0.88,
    where="queue:mail", baseline="queue:mail", notes=("Of 9 jobs 5 were drawn.",),
)  # fmt: skip
HOSTILE = "payload.x='<img src=x onerror=alert(1)>{{7*7}}\x1b[31m\u202e'"


def test_the_text_says_rates_ratio_and_the_next_command_within_a_hundred_columns() -> None:
    text = explain.text(ANSWER)
    for part in (
        "One condition explains 88 % of the 270 failing jobs.",
        "inside  ███████████████░░░░░   71 % of 335 jobs failed",
        "outside █░░░░░░░░░░░░░░░░░░░  0.9 %",
        "88 % of the failing jobs; risk ratio 78.6 (55.6–111); p < 1e-211",
        "goes along with payload.campaign=c1 (0.98)",
        "queuemon jobs 'status:failed queue:mail payload.template=spring payload.region=eu-west'",
        "Of 9 jobs 5 were drawn.",
    ):
        assert part in text, text
    assert all(len(line) <= 100 for line in text.splitlines() if not line.startswith("Compared")), text


def test_what_never_fails_elsewhere_and_what_asks_the_last_attempt_are_said() -> None:
    only = replace(FINDING, risk=risk(30, 60, 30, 1_000), exact=False, label="deploy 2026.10.3")
    text = explain.text(replace(ANSWER, findings=(only,)))
    assert math.isinf(only.risk.ratio)
    assert "risk ratio only here (> " in text
    assert explain.LAST_ATTEMPT in text
    assert "[deploy 2026.10.3]" in text


@pytest.mark.parametrize("field", ["filter", "label", "companion", "where", "note"])
def test_hostile_words_are_shown_literally(field: str) -> None:
    finding, answer = FINDING, ANSWER
    match field:
        case "companion":
            finding = replace(FINDING, companions=(Companion(filter=HOSTILE, correlation=0.9),))
        case "where":
            answer = replace(ANSWER, where=HOSTILE)
        case "note":
            answer = replace(ANSWER, notes=(HOSTILE,))
        case _:
            finding = replace(FINDING, **{field: HOSTILE})
    shown = static(replace(answer, findings=(finding,)))
    assert "<img" not in shown.html
    assert not {"\x1b", "\u202e"} & set(shown.html + shown.text)
    labels = explain.figure(replace(answer, findings=(finding,))).data[0].y
    assert not any("<" in label for label in labels)


def test_the_chart_has_two_bars_for_each_finding_and_stands_empty_without() -> None:
    figure = explain.figure(replace(ANSWER, findings=(FINDING, FINDING)))
    assert [(bar.name, len(bar.x)) for bar in figure.data] == [("Outside", 2), ("Inside", 2)]
    assert figure.data[1].x[0] == pytest.approx(237 / 335)
    assert len(explain.figure(replace(ANSWER, findings=())).data[0].x) == 0


def test_a_ready_command_keeps_a_quoted_value_whole() -> None:
    quoted = replace(FINDING, filter="payload.x='it\\'s'")
    assert (
        explain.command(ANSWER, quoted)
        == "queuemon jobs 'status:failed queue:mail payload.x='\"'\"'it\\'\"'\"'s'\"'\"''"
    )
