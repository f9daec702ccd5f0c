"""Writes environment.yml from pyproject.toml, so that conda users get the same packages; called by tools/lock."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

HEADER = """\
# For conda and mamba: conda env create -f environment.yml && conda activate queuemon
# Made from pyproject.toml by `make lock`; a test compares the two.
name: queuemon
channels:
  - conda-forge
dependencies:
"""


def environment() -> str:
    """The text of environment.yml: Python from conda, every dependency from the package index, as in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requirements = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"], "--editable ."]
    lines = [f"  - python{project['project']['requires-python']}", "  - pip", "  - pip:"]
    # A JSON string is a YAML string: quotes and markers need no thought.
    lines += [f"      - {json.dumps(requirement)}" for requirement in requirements]
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(environment(), end="")
