"""What README and docs show exists: commands with their options, settings, filters, links, pictures."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

import queuemon.cli.app
from queuemon import config, runbooks
from queuemon.filters import JobFilter
from tests.support.requirements import missing
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


def test_every_notebook_is_listed_in_the_readme() -> None:
    (listed,) = re.findall(r"^\*\*\w+ notebooks\*\*.*?(?=\n\n)", README, re.MULTILINE | re.DOTALL)
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"`{path.stem}`" in listed, path.name


def scheduled() -> dict[str, str]:
    """The crontab and the units of systemd that the page on runbooks shows, by name."""
    found = {}
    for block in blocks((ROOT / "docs/runbooks.md").read_text(), ""):
        files = re.split(r"^# (crontab -e|/etc/systemd/system/\S+).*\n", block, flags=re.MULTILINE)[1:]
        found |= {Path(name).name.partition(" ")[0]: text for name, text in zip(files[::2], files[1::2], strict=True)}
    return found


def test_the_schedules_shown_are_understood_by_cron_and_systemd(tmp_path: Path) -> None:
    found = scheduled()
    assert found.keys() == {"crontab", "queuemon-retry.service", "queuemon-retry.timer"}
    (line,) = [line for line in found["crontab"].splitlines() if line.startswith(tuple("0123456789*"))]
    *fields, command = line.split(maxsplit=5)
    assert all(re.fullmatch(r"[\d*/,-]+", field) for field in fields), fields
    assert not re.search(r"(?<!\\)%", command), "cron takes a bare % for the end of the line"
    units = {name: text for name, text in found.items() if name != "crontab"}
    for text in (command.replace("\\%", "%"), units["queuemon-retry.service"].replace("%%", "%")):
        words = shlex.split(re.search(r"queuemon (runbook run .*?)(?:\s*>>|'?\n|$)", text)[1])  # type: ignore[index]
        info = runbooks.describe(words[2])
        given = dict(word.split("=", 1) for flag, word in itertools.pairwise(words) if flag == "-p")
        info.values(given)
        command = get_command(queuemon.cli.app.app).commands["runbook"].commands["run"]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
    for name, text in units.items():
        assert not re.search(r"(?<!%)%(?!%)", text), f"{name}: systemd takes a bare % for a specifier"
        (tmp_path / name).write_text(text)
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze", "apt-get install systemd")
    verify = ["systemd-analyze", "verify", *(str(tmp_path / name) for name in units)]
    ended = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


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
