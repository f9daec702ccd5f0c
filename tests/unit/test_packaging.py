"""What a clone and a wheel promise: one list of dependencies, a lock with hashes, clean notebooks, a light import."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import queuemon
from tools import notebooks
from tools.environment import environment

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
DEVELOPMENT = [Requirement(line) for line in PROJECT["dependency-groups"]["dev"]]
LOCK = (ROOT / "requirements.lock").read_text()
#: Loaded only when something is drawn, framed or run.
HEAVY = ("pandas", "numpy", "plotly", "IPython", "ipykernel", "ipywidgets", "ipyvuetify", "jupyterlab", "notebook")
HEAVY += ("nbformat", "nbclient", "nbconvert", "papermill", "voila", "pyarrow")


def locked() -> dict[str, list[tuple[str, int]]]:
    """Package → its pinned versions (several where markers tell them apart), each with its number of hashes."""
    pins: dict[str, list[tuple[str, int]]] = {}
    for block in re.split(r"\n(?=[^ ])", LOCK.strip()):
        requirement, *hashes = block.replace("\\\n", "").split("--hash=")
        match = re.fullmatch(r"([\w.-]+)(?:\[[^]]*])?==([^ ;]+)(?: ;.*)?", requirement.strip())
        assert match, f"not a pin: {requirement}"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", text.strip()) for text in hashes)
        pins.setdefault(canonicalize_name(match[1]), []).append((match[2], len(hashes)))
    return pins


def tracked_files() -> list[Path]:
    """The files in git, or without git every file that a clone would have."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout: nothing says which files belong to it")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).exists()]


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a new interpreter has loaded after a statement."""
    script = (
        f"import json, sys\n{statement}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_environment_yml_names_what_pyproject_names() -> None:
    declared = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert f"python{PROJECT['project']['requires-python']}" in declared
    (packages,) = [entry["pip"] for entry in declared if isinstance(entry, dict)]
    assert packages.pop() == "--editable ."
    assert [Requirement(line) for line in packages] == [*RUNTIME, *DEVELOPMENT]
    assert (ROOT / "environment.yml").read_text() == environment()


def test_every_pin_of_the_lock_has_hashes_and_none_has_an_address() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^(-|@)", LOCK, re.MULTILINE)
    bare = [name for name, pins in locked().items() for _, hashes in pins if not hashes]
    assert bare == []


@pytest.mark.parametrize("requirement", [*RUNTIME, *DEVELOPMENT], ids=lambda requirement: requirement.name)
def test_the_lock_satisfies_pyproject(requirement: Requirement) -> None:
    pins = locked().get(canonicalize_name(requirement.name), [])
    assert pins, f"{requirement.name} is not locked: run make lock"
    assert all(requirement.specifier.contains(version) for version, _ in pins)


@pytest.mark.parametrize("requirement", RUNTIME, ids=lambda requirement: requirement.name)
def test_every_dependency_states_the_oldest_release_that_works(requirement: Requirement) -> None:
    assert [specifier.operator for specifier in requirement.specifier] == [">="]


def test_the_public_names_are_these() -> None:
    assert queuemon.__all__ == ["__version__", "connect", "show"]
    assert all(hasattr(queuemon, name) for name in queuemon.__all__)


def test_the_version_is_the_one_of_pyproject_and_the_changelog() -> None:
    assert queuemon.__version__ == PROJECT["project"]["version"]
    assert f"## {queuemon.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("statement", ["import queuemon", "import queuemon.cli"])
def test_importing_loads_no_notebook_machinery(statement: str) -> None:
    assert modules_after(statement) & set(HEAVY) == set()


def test_the_first_paint_of_the_dashboard_waits_for_nothing_it_does_not_need() -> None:
    loaded = modules_after("import queuemon.views.dashboard")
    assert "ipyvuetify" in loaded
    assert loaded & {"alembic", "mako", "plotly", "pandas", "papermill"} == set()


@pytest.mark.parametrize("path", notebooks.paths(), ids=lambda path: path.name)
def test_notebooks_are_clean(path: Path) -> None:
    assert list(notebooks.complaints(path)) == []


def test_a_notebook_with_an_output_is_refused_and_cleaned(tmp_path: Path) -> None:
    cell = {
        "cell_type": "code",
        "source": ["1 + 1"],
        "metadata": {"execution": {"started": "now"}},
        "execution_count": 3,
    }
    dirty = {"cells": [cell | {"outputs": [{"output_type": "stream", "text": ["/home/me"]}]}], "metadata": {}}
    path = tmp_path / "dirty.ipynb"
    path.write_text(notebooks.text(dirty))
    assert list(notebooks.complaints(path)) == ["cell 1 has outputs: clear them", "is not clean: run make format"]
    path.write_text(notebooks.text(notebooks.clean(dirty)))
    assert list(notebooks.complaints(path)) == []


def test_no_file_names_a_place_on_the_machine_of_its_author() -> None:
    home = re.compile(rb"(?<![\w/.])/(?:home|Users|root)/\w|" + re.escape(str(ROOT).encode()) + rb"(?![\w])")
    found = []
    for path in tracked_files():
        if path.suffix == ".png" or ROOT / "tests" in path.parents:
            continue
        if match := home.search(path.read_bytes()):
            found.append(f"{path.relative_to(ROOT)}: {match.group().decode()}")
    assert found == []


def imported_by_the_package() -> set[str]:
    """The top-level modules of others that the package imports, anywhere in it."""
    names = set()
    for path in (ROOT / "queuemon").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - {"queuemon"} - sys.stdlib_module_names


def test_every_import_is_a_declared_dependency() -> None:
    packages = packages_distributions()
    found = {canonicalize_name(name) for module in imported_by_the_package() for name in packages.get(module, [module])}
    assert found - {canonicalize_name(requirement.name) for requirement in RUNTIME} == set()


def test_every_dependency_is_used() -> None:
    #: Programs that are started, and what plotly's widget needs to be one.
    not_imported = {"jupyterlab", "voila", "anywidget"}
    packages = packages_distributions()
    source = "\n".join(path.read_text() for path in (ROOT / "queuemon").rglob("*.py"))
    used = {canonicalize_name(name) for module in packages if module in source for name in packages[module]}
    assert {canonicalize_name(requirement.name) for requirement in RUNTIME} - used <= not_imported
