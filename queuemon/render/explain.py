"""An explanation as text, as static HTML and as a chart: how often jobs fail inside each condition, and outside."""

from __future__ import annotations

import html
import math
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from queuemon.analysis.explanation import Explanation, Finding
from queuemon.render.charts import FAILED, GRID, INK
from queuemon.render.html import Safe, el, join, table
from queuemon.render.text import clean, moment, number, percent

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Longest filter that is shown; the value itself holds it whole.
SHOWN: Final = 1_000
#: Characters of a bar in text.
BAR: Final = 20

LAST_ATTEMPT: Final = "counted at the first failed attempt; the filter asks the last attempt"


def ratio(finding: Finding) -> str:
    """The risk ratio with its interval: "23.7 (20.1–27.9)"; "only here" when nothing outside failed."""
    risk = finding.risk
    if math.isinf(risk.ratio):
        return f"only here (> {risk.low:,.3g})"
    return f"{risk.ratio:,.3g} ({risk.low:,.3g}–{risk.high:,.3g})"


def p_text(finding: Finding) -> str:
    """The corrected p in powers of ten: "p < 1e-99"."""
    exponent = math.floor(finding.log_p / math.log(10)) + 1
    return f"p < 1e{exponent}" if exponent < -2 else f"p = {finding.p_value:.2g}"


def bar(share: float) -> str:
    """A share as a bar of 20 characters."""
    filled = min(BAR, math.ceil(share * BAR)) if share else 0
    return "█" * filled + "░" * (BAR - filled)


def _compared(value: Explanation) -> str:
    window = f" from {moment(value.since)} to {moment(value.until)} UTC" if value.since else ""
    asked = f" matching {clean(value.where, SHOWN)}" if value.where else ""
    shared = f" matching {clean(value.baseline, SHOWN)}" if value.baseline else ""
    return (
        f"Compared: {value.failing:,} failing jobs{asked}, and {value.succeeding:,} of the same queues{shared} "
        f"that succeeded{window}."
    )


def _beside(finding: Finding) -> str:
    return ", ".join(f"{clean(c.filter, SHOWN)} ({c.correlation:.2f})" for c in finding.companions)


def command(value: Explanation, finding: Finding) -> str:
    """The command that lists the jobs under a condition, of those that were asked about; the failed ones by default."""
    return f"queuemon jobs {shlex.quote(value.selection(finding))}"


def text_lines(value: Explanation) -> Iterator[str]:
    """The answer for a terminal, at most 100 columns but for filters; nothing in it can steer one."""
    yield clean(value.verdict, SHOWN)
    for n, f in enumerate(value.findings, 1):
        yield ""
        yield f"{n}. {clean(f.filter, SHOWN)}" + (f"   [{clean(f.label)}]" if f.label else "")
        yield f"   inside  {bar(f.risk.inside)} {percent(f.risk.inside):>6} of {f.jobs:,} jobs failed"
        yield f"   outside {bar(f.risk.outside)} {percent(f.risk.outside):>6}"
        yield f"   {percent(f.support)} of the failing jobs; risk ratio {ratio(f)}; {p_text(f)}"
        if f.companions:
            yield f"   goes along with {_beside(f)}"
        if not f.exact:
            yield f"   {LAST_ATTEMPT}"
        yield f"   {clean(command(value, f), 2 * SHOWN)}"
    yield ""
    yield _compared(value)
    yield f"Tested: {value.tested:,} conditions on {value.attributes} attributes; p is corrected for all of them."
    yield from map(clean, value.notes)


def text(value: Explanation) -> str:
    """The answer as one text."""
    return "\n".join(text_lines(value))


def document(value: Explanation) -> Safe:
    """The answer as static HTML: verdict, table of findings with bars, what was compared."""
    parts = [el("p", el("strong", value.verdict))]
    if value.findings:
        rows = [
            (
                number(n),
                _condition(f),
                percent(f.support),
                _bar(f.risk.inside, FAILED),
                _bar(f.risk.outside, INK),
                ratio(f),
                p_text(f),
            )
            for n, f in enumerate(value.findings, 1)
        ]
        head = ("", "Condition", "Of the failing", "Fail inside", "Fail outside", "Risk ratio (95 %)", "p, corrected")
        parts.append(table(head, rows, right=(0, 2)))
    parts.append(el("p", _compared(value), class_="dim"))
    tested = f"Tested: {value.tested:,} conditions on {value.attributes} attributes."
    parts.append(el("p", " ".join([tested, *value.notes]), class_="dim"))
    return join(parts)


def _condition(f: Finding) -> Safe:
    parts = [el("code", clean(f.filter, SHOWN))]
    for note in (f.label, f"goes along with {_beside(f)}" if f.companions else "", "" if f.exact else LAST_ATTEMPT):
        if note:
            parts += [el("br"), el("span", note, class_="dim")]
    return join(parts)


def _bar(share: float, colour: str) -> Safe:
    width = f"display:inline-block;height:9px;width:{max(1, round(share * 120))}px;background:{colour};margin-right:6px"
    return join([el("span", style=width), el("span", percent(share))])


def figure(value: Explanation) -> go.Figure:
    """Two bars for each finding, the strongest on top: failure rate inside and outside."""
    import plotly.graph_objects as go

    findings = value.findings[::-1]
    # Plotly reads a little HTML in labels: escaped, it shows the text itself.
    labels = [html.escape(clean(f"{len(findings) - n}. {f.filter}", 70)) for n, f in enumerate(findings)]
    bars = [
        go.Bar(
            y=labels,
            x=[getattr(f.risk, side) for f in findings],
            name=name,
            orientation="h",
            marker={"color": colour},
            hovertemplate=f"%{{x:.1%}} fail {side}<extra></extra>",
        )
        for side, name, colour in (("outside", "Outside", INK), ("inside", "Inside", FAILED))
    ]
    made = go.Figure(bars)
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "automargin": True, "fixedrange": True}
    made.update_xaxes(**axis, tickformat=".0%", rangemode="tozero")
    made.update_yaxes(**axis)
    made.update_layout(
        template="none",
        barmode="group",
        height=110 + 60 * max(1, len(findings)),
        margin={"l": 20, "r": 12, "t": 34, "b": 30},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        title={
            "text": "How many of such jobs fail, and of all others",
            "font": {"size": 12},
            "x": 0,
            "xanchor": "left",
        },
        legend={
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 1.0,
            "yanchor": "bottom",
            "traceorder": "reversed",
        },
    )
    return made
