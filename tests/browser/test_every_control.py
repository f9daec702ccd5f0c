"""That no control of the dashboard is left untried."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.controls import inventory, unused, uses


def test_every_control_of_every_screen_is_used_against_real_stores(request: pytest.FixtureRequest) -> None:
    """By the other tests of this folder, which make the record; fewer than all of them are not judged."""
    files = {item.path for item in request.session.items}
    if not files.issuperset(Path(__file__).parent.glob("test_*.py")):
        return
    assert unused(inventory(), list(uses())) == []
