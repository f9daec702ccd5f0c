"""What README and docs show exists: commands with their options, settings, filters, links, pictures."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import queuemon.cli.app
from queuemon import config
from queuemon.filters import JobFilter
from tools import reference

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language ("" for none)."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shown_commands() -> list[str]:
    """Every command line that a document shows, without the comment behind it."""
    found = set()
    for document in DOCUMENTS:
        lines = [line for block in blocks(document.read_text(), "(?:sh|bash|)") for line in block.splitlines()]
        found |= {line.partition("  # ")[0].strip() for line in lines if re.match(r"\s*queuemon \S", line)}
    return sorted(found)


@pytest.mark.parametrize("line", shown_commands())
def test_every_command_shown_exists_with_its_options(line: str) -> None:
    words = shlex.split(line)[1:]
    command = get_command(queuemon.cli.app.app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    assert not getattr(command, "commands", {}), f"{words} names no command"
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("block", blocks(README, "toml"))
def test_the_settings_shown_are_settings(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "queuemon.toml"
    file.write_text(block)
    monkeypatch.setenv("QUEUEMON_CONFIG", str(file))
    for name in re.findall(r"^\[profiles\.(\w+)\]", block, re.MULTILINE):
        assert config.load(name).profile == name


def test_the_filters_shown_can_be_read() -> None:
    shown = re.findall(r'wb\.(?:jobs|frame)\("([^"]*)"', README) + re.findall(
        r"queuemon (?:jobs|retry) '([^']*)'", README
    )
    assert len(shown) >= 4
    for text in shown:
        JobFilter.parse(text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_pictures_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    prose = re.sub(r"^```.*?^```$|`[^`\n]+`", "", text, flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose) + re.findall(r'src(?:set)?="([^"]+)"', prose)
    missing = [target for target in targets if "://" not in target and not (document.parent / target).exists()]
    assert missing == []


def test_the_command_reference_is_what_the_commands_say() -> None:
    assert reference.DOCUMENT.read_text() == reference.document(), "run make docs"
