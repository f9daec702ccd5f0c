"""What `queuemon lab` and `queuemon serve` lay out and refuse, without a server."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from queuemon.errors import InvalidValue
from queuemon.views import launch

DASHBOARD = "notebooks/dashboard.ipynb"


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The notebooks of a version; tests may bring out another."""
    contents = {DASHBOARD: b"one", "runbooks/retry-failed.ipynb": b"retry"}
    monkeypatch.setattr(launch, "packaged", lambda: iter(sorted(contents.items())))
    return contents


def test_the_package_brings_the_dashboard_and_the_runbooks() -> None:
    names = [name for name, _ in launch.packaged()]
    assert DASHBOARD in names
    assert "runbooks/retry-failed.ipynb" in names


def test_every_notebook_opens_by_its_name_and_is_in_the_readme(tmp_path: Path) -> None:
    root = Path(launch.__file__).parents[2]
    readme = (root / "README.md").read_text("utf-8")
    launch.unpack(tmp_path)
    for name in (name for name, _ in launch.packaged() if name.startswith("notebooks/")):
        stem = Path(name).stem
        assert {launch._find(tmp_path, word) for word in (name, f"{stem}.ipynb", stem)} == {name}
        assert f"`{stem}`" in readme


def test_an_empty_folder_gets_every_notebook(tmp_path: Path, shipped: dict[str, bytes]) -> None:
    assert launch.unpack(tmp_path) == []
    assert {n: (tmp_path / n).read_bytes() for n in shipped} == shipped


def test_an_edited_notebook_is_kept_and_the_new_version_laid_beside_it(
    tmp_path: Path, shipped: dict[str, bytes]
) -> None:
    launch.unpack(tmp_path)
    (tmp_path / DASHBOARD).write_bytes(b"one, with notes")
    shipped[DASHBOARD] = b"two"
    said = launch.unpack(tmp_path)
    assert (tmp_path / DASHBOARD).read_bytes() == b"one, with notes"
    assert (tmp_path / "notebooks/dashboard.new.ipynb").read_bytes() == b"two"
    assert said == ["notebooks/dashboard.ipynb was edited and is kept; this version's is notebooks/dashboard.new.ipynb"]


def test_an_edit_of_the_current_version_needs_no_copy_beside_it(tmp_path: Path, shipped: dict[str, bytes]) -> None:
    launch.unpack(tmp_path)
    (tmp_path / DASHBOARD).write_bytes(b"one, with notes")
    assert launch.unpack(tmp_path) == []
    assert not (tmp_path / "notebooks/dashboard.new.ipynb").exists()


def test_a_copy_that_nobody_edited_is_brought_up_to_date(tmp_path: Path, shipped: dict[str, bytes]) -> None:
    launch.unpack(tmp_path)
    shipped[DASHBOARD] = b"two"
    assert launch.unpack(tmp_path) == []
    assert (tmp_path / DASHBOARD).read_bytes() == b"two"


def test_a_file_of_the_same_name_that_was_there_before_is_kept(tmp_path: Path, shipped: dict[str, bytes]) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / DASHBOARD).write_bytes(b"mine")
    assert len(launch.unpack(tmp_path)) == 1
    assert (tmp_path / DASHBOARD).read_bytes() == b"mine"


def test_a_deleted_copy_comes_back_and_a_broken_manifest_loses_no_edit(
    tmp_path: Path, shipped: dict[str, bytes]
) -> None:
    launch.unpack(tmp_path)
    (tmp_path / DASHBOARD).unlink()
    (tmp_path / "runbooks/retry-failed.ipynb").write_bytes(b"edited")
    (tmp_path / launch.MANIFEST).write_text("{")
    launch.unpack(tmp_path)
    assert (tmp_path / DASHBOARD).read_bytes() == b"one"
    assert (tmp_path / "runbooks/retry-failed.ipynb").read_bytes() == b"edited"
    assert DASHBOARD in json.loads((tmp_path / launch.MANIFEST).read_text())


def test_taking_the_new_version_over_ends_the_reminder(tmp_path: Path, shipped: dict[str, bytes]) -> None:
    launch.unpack(tmp_path)
    (tmp_path / DASHBOARD).write_bytes(b"edited")
    shipped[DASHBOARD] = b"two"
    assert launch.unpack(tmp_path)
    (tmp_path / DASHBOARD).write_bytes(b"two")
    assert launch.unpack(tmp_path) == []


def test_the_repository_itself_is_worked_in_directly() -> None:
    root = Path(launch.__file__).parents[2]
    assert launch.unpack(root) == []
    assert not (root / launch.MANIFEST).exists()


def test_a_taken_port_and_an_unknown_notebook_are_one_sentence_each(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InvalidValue, match="cannot be used"):
            launch.free_port(taken.getsockname()[1])
    with pytest.raises(InvalidValue, match=r"no notebook 'nope\.ipynb'"):
        launch.lab(tmp_path, "nope.ipynb")
    with pytest.raises(InvalidValue, match="light or dark"):
        launch.serve(tmp_path, theme="pink")


def test_a_saved_notebook_keeps_its_outputs_but_no_widget() -> None:
    text, widget = ({"output_type": "display_data", "data": {mime: ""}} for mime in ("text/plain", launch._WIDGET))
    stream = {"output_type": "stream", "text": "said"}
    cells = [{"cell_type": "markdown"}, {"cell_type": "code", "outputs": [text, widget, stream]}]
    launch.forget_widgets(model={"type": "notebook", "content": {"cells": cells}}, path="x.ipynb")
    assert cells[1]["outputs"] == [text, stream]
    launch.forget_widgets(model={"type": "file", "content": "text"}, path="x.txt")
    launch.forget_widgets(model={"type": "notebook", "content": None}, path="x.ipynb")
