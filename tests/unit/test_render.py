"""What is shown is what is there: text, payload trees, charts and static HTML over hostile values."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from uuid import uuid4

import comm
import pytest

import queuemon
from queuemon.errors import InvalidValue, StoreUnavailable, UnknownQueue
from queuemon.masking import MASK, Masking
from queuemon.model import ActionKind, Breakdown, HalfError, Plan, Trend, TrendPoint
from queuemon.render import charts, html
from queuemon.render.payload import MAX_CHILDREN, MAX_ROWS, tree
from queuemon.render.text import ago, clean, duration, percent
from tests.support import fake_workbench as fake

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<svg onload=alert(1)>",
    "</td></tr></table><style>@import 'x'</style>",
    "<base href=//evil><form action=//evil>",
    '<a data-commandlinker-command="x" href="javascript:alert(1)">x</a>',
    "{{constructor.constructor('alert(1)')()}}",
    "$\\href{javascript:alert(1)}{x}$",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    "\x1b]52;c;aGVsbG8=\x07\x1b[2J",
    "a\x00b\r\nc",
    "\u202eexe.txt",
    "\ud800",
]

ALLOWED = {
    "div", "style", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "span", "b", "br", "h4", "details",
    "summary", "strong",
}  # fmt: skip


class Strict(HTMLParser):
    """Refuses every element and attribute that the builder does not use on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":  # a drawing: as an image it can run nothing and fetch nothing
            given = dict(attrs)
            assert set(given) == {"alt", "src"}, attrs
            assert re.fullmatch(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+", given["src"] or "")
            return
        assert tag in ALLOWED, tag
        assert {name for name, _ in attrs} <= {"class", "style", "scope"}, attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(markup: str) -> str:
    """The text of HTML that holds nothing but what the builder makes."""
    parser = Strict()
    parser.feed(markup)
    parser.close()
    return "".join(parser.text)


# ------------------------------------------------------------------------------------------------------------ text


def test_unprintable_and_reordering_characters_are_named() -> None:
    assert clean("a\x00b\x1b[2J\u202ec\ud800") == "a⟨U+0000⟩b⟨U+001B⟩[2J⟨U+202E⟩c⟨U+D800⟩"


def test_long_text_is_cut_and_says_how_long_it_was() -> None:
    assert clean("x" * 50_000, 10) == "xxxxxxxxxx… (50,000 characters)"


def test_line_breaks_stay_only_where_they_are_wanted() -> None:
    assert clean("a\r\nb\tc") == "a b c"
    assert clean("a\r\nb\tc", lines=True) == "a\nb\tc"


@pytest.mark.parametrize("text", HOSTILE)
def test_cleaned_text_can_be_sent_to_a_page(text: str) -> None:
    clean(text).encode("utf-8")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (59, "59 s"),
        (200, "3 min 20 s"),
        (7_500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
        (-5, "−5 s"),
    ],
)
def test_durations_read_in_their_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_ages_and_shares_read_as_people_say_them() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert ago(now - timedelta(seconds=4), now) == "4 s ago"
    assert ago(now + timedelta(minutes=2), now) == "in 2 min"
    assert (ago(None, now), percent(None)) == ("–", "–")
    assert (percent(0.004), percent(0.37), percent(0.0)) == ("0.4 %", "37 %", "0 %")


# --------------------------------------------------------------------------------------------------------- payload


def test_the_tree_lists_the_payload_in_reading_order() -> None:
    rows = tree({"month": "2026-10", "filters": {"regions": ["eu", 1, None, True]}})
    assert [(r.depth, r.key, r.kind, r.text) for r in rows] == [
        (0, "", "object", "2 keys"),
        (1, "month", "string", "2026-10"),
        (1, "filters", "object", "1 key"),
        (2, "regions", "array", "4 items"),
        (3, "0", "string", "eu"),
        (3, "1", "number", "1"),
        (3, "2", "null", "null"),
        (3, "3", "boolean", "true"),
    ]


@pytest.mark.parametrize("payload", [None, 1, "text", [], {}, True, 1.5])
def test_a_payload_that_is_no_object_is_shown_too(payload: Any) -> None:
    assert len(tree(payload)) == 1


def test_a_payload_ten_thousand_levels_deep_is_cut_without_recursion() -> None:
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    rows = tree(deep)
    assert len(rows) < 40
    assert "too deep" in rows[-1].text


def test_a_million_keys_and_a_string_of_fifty_megabytes_stay_small() -> None:
    wide = tree({f"key-{n}": n for n in range(1_000_000)})
    assert len(wide) == MAX_CHILDREN + 2
    assert wide[-1].text == f"{1_000_000 - MAX_CHILDREN:,} more"
    assert len(tree("x" * 50_000_000)[0].text) < 3_000
    bushy = tree([[list(range(100)) for _ in range(100)] for _ in range(100)])
    assert len(bushy) == MAX_ROWS + 1


def test_numbers_that_no_json_reader_can_hold_are_shown_as_text() -> None:
    rows = tree({"nan": float("nan"), "inf": float("inf"), "big": 12345678901234567890123, "huge": 10**5_000})
    assert [r.text for r in rows[1:4]] == ["nan", "inf", "12345678901234567890123"]
    assert rows[4].text.startswith("an integer of about 5,0")
    json.dumps([r.text for r in rows], allow_nan=False)


@pytest.mark.parametrize(
    "key",
    ["password", "dbPassword", "api_key", "apiKey", "X-Authorization", "accessToken", "client_secret", "cvv", "IBAN"],
)
def test_values_under_keys_that_look_secret_are_masked(key: str) -> None:
    rows = tree({key: "canary-4711", "nested": {key: {"inner": "canary-4711"}}})
    assert Masking().hides_key(key)
    assert "canary-4711" not in str(rows)
    assert MASK in [r.text for r in rows]


@pytest.mark.parametrize("key", ["passenger", "compass", "keyboard", "month", "tokyo", "author", "pinned", "monkey"])
def test_harmless_keys_are_not_masked(key: str) -> None:
    assert not Masking().hides_key(key)


# ------------------------------------------------------------------------------------------------------------ html


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_job_becomes_markup(text: str) -> None:
    job = fake.job(
        queue=text, error_type=text, error_message=text, preview=text, payload={text: [text]}, worker_id=text
    )
    plan = Plan(
        id=uuid4(),
        kind=ActionKind.RETRY,
        target=text,
        ids=None,
        cutoff=fake.utc(),
        count=1,
        by_error=(Breakdown(label=text, count=1),),
        sample=(job,),
        effect=text,
        warnings=(text,),
    )
    page = fake.FakeWorkbench().jobs()
    for value in (
        fake.snapshot(fake.stats(text)),
        fake.snapshot(postgres=HalfError(message=text, kind="X"), redis=HalfError(message=text, kind="X")),
        fake.detail(job),
        plan,
        type(page)(jobs=(job,), after=None, before=None, filter=text, clock=fake.utc()),
        StoreUnavailable(text),
        [text],
        {text: text},
    ):
        shown = queuemon.show(value)
        read(shown._repr_html_())
        assert "\x1b" not in repr(shown)
        repr(shown).encode("utf-8")


def test_the_queue_table_prints_the_six_columns_in_order_and_the_word_of_the_health() -> None:
    text = read(queuemon.show(fake.snapshot())._repr_html_())
    columns = ["Queue Name", "Active Jobs", "Waiting", "Completed (last hour)", "Failed"]
    positions = [text.index(name) for name in columns]
    assert positions == sorted(positions)
    assert "queue:email-sending" in text
    assert "critical" in text


def test_a_snapshot_whose_postgresql_failed_says_so_in_both_forms() -> None:
    shown = queuemon.show(fake.snapshot(postgres=HalfError(message="PostgreSQL is away.", kind="X")))
    assert "PostgreSQL is away." in shown._repr_html_()
    assert "PostgreSQL is away." in repr(shown)


def test_an_attribute_cannot_be_broken_out_of() -> None:
    read(html.el("p", "x", class_='"><script>alert(1)</script>'))


def test_a_workbench_outside_a_notebook_is_shown_by_its_snapshot() -> None:
    shown = queuemon.show(fake.FakeWorkbench())
    assert "queue:analytics:daily-aggregate" in repr(shown)


def test_a_part_of_the_dashboard_outside_a_notebook_is_shown_by_its_values() -> None:
    wb = fake.FakeWorkbench()
    wb.apply(wb.plan("pause", "email-sending:low"), reason="month end")
    assert "No sign of drift." in repr(queuemon.show(wb, part="drift"))
    assert "pause email-sending:low" in repr(queuemon.show(wb, part="activity"))
    shown = repr(queuemon.show(wb, queue="email-sending"))
    assert "queue:email-sending" in shown
    assert "analytics" not in shown
    for wrong in ({"part": "nope"}, {"part": "drift", "queue": "email-sending"}):
        with pytest.raises(InvalidValue, match="one of drift, activity"):
            queuemon.show(wb, **wrong)
    with pytest.raises(UnknownQueue):
        queuemon.show(wb, queue="nope")


# ---------------------------------------------------------------------------------------------------------- charts


def trend(points: int) -> Trend:
    start = datetime(2026, 11, 24, tzinfo=UTC)
    return Trend(
        queue="email-sending",
        bucket_seconds=60,
        points=tuple(
            TrendPoint(at=start + timedelta(minutes=n), arrived=n, completed=2 * n, failed=n % 3) for n in range(points)
        ),
    )


def test_the_figure_shows_whole_buckets_of_throughput_and_every_failure() -> None:
    figure = charts.trend_figure(trend(5))
    assert [t.name for t in figure.data] == list(charts.TRACES)
    assert [list(t.y) for t in figure.data] == [[0, 1, 2, 3], [0, 2, 4, 6], [0, 1, 2, 0, 1]]


def test_a_living_figure_reaches_the_page_with_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    make = comm.create_comm
    monkeypatch.setattr(comm, "create_comm", lambda **given: opened.append(given) or make(**given))
    figure = charts.living(charts.trend_figure(trend(5)))
    state = next(given["data"]["state"] for given in opened if "_widget_data" in given.get("data", {}).get("state", {}))
    assert [t["name"] for t in state["_widget_data"]] == list(charts.TRACES)
    assert state["_widget_layout"]["height"] == 310
    assert state["_config"]["displayModeBar"] is False
    figure.close()
