"""The wheel alone, without repository and make: installed into an empty environment, it opens the same workbench."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.empty import Place, empty_place, running_lab
from tests.support.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
#: Everything that is not Python and still belongs into the wheel.
DATA = {".lua", ".vue", ".mako", ".typed", ".j2", ".ipynb", ".json", ".css"}

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment that holds the wheel and what it asks for, in the locked versions."""
    folder = tmp_path_factory.mktemp("wheel") / "venv"
    subprocess.run([BIN / "uv", "venv", "--quiet", "--python", sys.executable, folder], check=True)
    command = [
        BIN / "uv",
        "pip",
        "install",
        "--quiet",
        "--system-certs",
        "--python",
        folder,
        "--constraint",
        ROOT / "requirements.lock",
        wheel,
    ]
    subprocess.run(command, check=True)
    return folder / "bin"


@pytest.fixture
def place(installed: Path) -> Iterator[Place]:
    """Somewhere else than the repository, with the installed command on the PATH."""
    with empty_place(f"{installed}:/usr/bin:/bin") as place:
        yield place


def test_the_wheel_holds_everything_that_the_package_needs(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "queuemon"
    expected = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and (path.suffix == ".py" or path.suffix in DATA)
    }
    for folder in ("notebooks", "runbooks"):
        files = list((ROOT / folder).glob("*.ipynb"))
        assert files, f"no notebook in {folder}/"
        expected |= {f"queuemon/data/{folder}/{path.name}" for path in files}
    assert expected - inside == set()
    assert {name for name in expected if name.endswith((".lua", ".vue", "py.typed"))}


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    strangers = [
        name
        for name in zipfile.ZipFile(wheel).namelist()
        if not re.match(r"queuemon(-[\d.]+\.dist-info)?/", name) or "__pycache__" in name or "checkpoint" in name
    ]
    assert strangers == []


def test_the_command_helps_without_a_home_or_a_configuration(place: Place, installed: Path) -> None:
    answer = place.run(installed / "queuemon", "--help")
    assert answer.returncode == 0, answer.stderr
    assert all(word in answer.stdout for word in ("lab", "status", "runbook", "demo"))
    assert list(place.folder.iterdir()) == []


def test_lab_opens_the_notebooks_and_keeps_an_edited_one(place: Place, installed: Path) -> None:
    command = [str(installed / "queuemon"), "lab", "--no-browser"]
    with running_lab(place, command, timeout=60):
        copied = {path.name: path for path in place.folder.rglob("*.ipynb")}
    assert set(copied) >= {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    notes = json.loads(copied["dashboard.ipynb"].read_text())
    notes["cells"].append({"cell_type": "markdown", "id": "notes", "metadata": {}, "source": ["my own notes"]})
    copied["dashboard.ipynb"].write_text(json.dumps(notes))

    with running_lab(place, command, timeout=60):
        assert "my own notes" in copied["dashboard.ipynb"].read_text()

    down = place.run(installed / "queuemon", "demo", "down")
    assert down.returncode == 0, down.stderr
    wait_until(lambda: not place.processes(), timeout=15, message="nothing keeps running")
