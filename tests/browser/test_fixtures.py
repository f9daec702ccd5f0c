"""The browser fixtures keep what they promise."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 900)])
def test_a_page_has_the_size_and_colour_scheme_that_were_asked_for(
    open_page: Callable[..., Any], scheme: str, width: int
) -> None:
    page = open_page(width=width, height=700, colour_scheme=scheme).page
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
    assert page.evaluate("innerWidth") == width


def test_a_page_is_refused_everything_outside_this_machine(open_page: Callable[..., Any]) -> None:
    watched = open_page()
    watched.page.set_content("<img src='http://example.org/a.png'>")
    assert watched.outside == ["http://example.org/a.png"]
