"""Which controls the templates have, and which of them a browser test has used against real stores.

A page notes what a click, a key or a choice has reached: the part of the screen, the kind of control, and its name as a
screen reader says it. The templates say what there is. `python -m tests.support.controls` prints both side by side.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from playwright.sync_api import Page

REPOSITORY: Final = Path(__file__).resolve().parents[2]
TEMPLATES: Final = REPOSITORY / "queuemon" / "views" / "templates"
RECORD: Final = REPOSITORY / "test-artifacts" / "controls.jsonl"

#: Where on the page the controls of a template stand.
ROOTS: Final = {
    "action": "[data-qm=action]",
    "activity": ".qm-activity",
    "alerts": "[data-qm=alerts]",
    "confirm": "[data-qm=confirm]",
    "dashboard": ".qm-which",
    "details": ".qm-details, .qm-columns",
    "drift": ".qm-drift",
    "form": "[data-qm=form]",
    "insight": ".qm-insight",
    "job": "[data-qm=job]",
    "menu": ".qm-menu[role=menu]",  # its items are those of the other templates
    "messages": "[data-qm=messages]",
    "queues": ".qm-queues",
    "runbook": "[data-qm=runbook]",
    "runbooks": ".qm-runbooks",
    "strip": ".qm-strip",
}

#: Controls that no page of one operator can offer, and what tries them.
ELSEWHERE: Final = {
    ("runbook", "Go\\ on"): "asks for a run that broke off: tests/acceptance/test_runbook_kill.py",
    ("runbook", "Approve\\ the\\ plan"): "asks for a second role: tests/acceptance/test_runbook_approval.py",
}

_NOTE: Final = """(roots) => {
  const seen = new Set();
  const note = (event) => {
    const control = event.target.closest?.('button, input, select, textarea, [role=menuitem]');
    const found = control && Object.entries(roots).map(([name, root]) => [name, control.closest(root)])
      .filter(([, root]) => root).sort((a, b) => (a[1].contains(b[1]) ? 1 : -1))[0];
    if (!found || control.disabled) return;
    const said = [control.getAttribute('aria-label'), control.labels?.[0]?.innerText, control.innerText, control.title];
    const name = said.find((text) => text)?.replace(/\\s+/g, ' ').trim() || '';
    const kind = control.getAttribute('role') === 'menuitem' ? 'menuitem' : control.localName;
    const key = JSON.stringify([found[0], kind, name]);
    if (!seen.has(key)) { seen.add(key); window.queuemonUsed(key); }
  };
  for (const kind of ['click', 'input', 'change']) document.addEventListener(kind, note, true);
}"""


def note_uses(page: Page, by: str) -> None:
    """Let this page tell which controls are used, from its next document on; `by` is the test."""
    RECORD.parent.mkdir(exist_ok=True)

    def used(key: str) -> None:
        with RECORD.open("a") as file:
            file.write(json.dumps({"used": json.loads(key), "by": by}) + "\n")

    page.expose_function("queuemonUsed", used)
    page.add_init_script(f"({_NOTE})({json.dumps(ROOTS)})")


@dataclass(frozen=True, kw_only=True)
class Control:
    """One control of a template; `name` is a pattern of what it may be called."""

    template: str
    line: int
    tag: str
    name: str

    @property
    def vague(self) -> bool:
        """Whether its name comes from the data alone."""
        return not re.search(r"\w", self.name.replace(".*", ""))

    def fits(self, template: str, tag: str, name: str) -> bool:
        """Whether what was used is this."""
        here = tag == "menuitem" == self.tag or (template == self.template and tag == self.tag)
        return here and re.fullmatch(self.name, name, re.DOTALL) is not None


@dataclass
class _Reader(HTMLParser):
    """Finds the controls of one template."""

    template: str
    controls: list[Control] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: tuple[str, int, dict[str, str]] | None = None
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A control begins; what has no end is told at once."""
        given = {name: value or "" for name, value in attrs}
        if tag == "component" and given.get(":is") == "qm.menu":
            self._tell("button", {"aria-label": given.get("label", ""), ":aria-label": given.get(":label", "")}, "")
        elif tag in {"input", "select"}:
            self._tell(tag, given, "")
        elif tag in {"button", "textarea"}:
            self._open, self._text = (tag, self.getpos()[0], given), []

    def handle_data(self, data: str) -> None:
        """What a button says."""
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        """A control ends."""
        if self._open and tag == self._open[0]:
            self._tell(tag, self._open[2], " ".join("".join(self._text).split()), self._open[1])
            self._open = None

    def _tell(self, tag: str, given: dict[str, str], text: str, line: int = 0) -> None:
        if given.get("aria-hidden") == "true" or given.get(":aria-label") == "label":
            return
        if given.get("aria-label"):
            name = re.escape(given["aria-label"])
        elif given.get(":aria-label"):
            name = _pattern_of_code(given[":aria-label"])
        else:
            name = "".join(
                _pattern_of_code(part[2:-2]) if part.startswith("{{") else re.escape(part)
                for part in re.split(r"(\{\{.*?\}\})", text)
            )
        self.controls.append(Control(template=self.template, line=line or self.getpos()[0], tag=tag, name=name or ".*"))


def _pattern_of_code(code: str) -> str:
    """What the expression may evaluate to: its texts as alternatives, anything for its values."""
    if "`" not in code:
        if "||" in code and "?" not in code:
            return ".*"
        texts = [t for t in re.findall(r"'([^']*)'", re.sub(r"[=!]==? '[^']*'", "", code)) if re.search(r"\w", t)]
        return "(?:" + "|".join(map(re.escape, texts)) + ").*" if texts else ".*"
    pattern = ""
    for part in re.split(r"(\$\{.*?\})", code.split("`")[1]):
        pattern += _pattern_of_code(part[2:-1]).removesuffix(".*") or ".*" if part.startswith("${") else re.escape(part)
    return pattern


def inventory() -> list[Control]:
    """Every control of every template, and every item of its menus."""
    found: list[Control] = []
    for path in sorted(path for path in TEMPLATES.glob("*.vue") if path.stem != "menu"):
        markup, _, script = path.read_text().partition("</template>\n\n<script>")
        reader = _Reader(path.stem)
        reader.feed(markup)
        found += reader.controls
        found += [
            Control(template=path.stem, line=markup.count("\n", 0, m.start()) + 1, tag="menuitem", name=_text(m[1]))
            for m in re.finditer(r"\{ title: ('[^']*'|`[^`]*`)[^}]*icon:", markup + script)
        ]
    return found


def _text(literal: str) -> str:
    return _pattern_of_code(literal) if literal[0] == "`" else re.escape(literal[1:-1])


def uses() -> Iterator[tuple[str, str, str]]:
    """What tests on real stores have used: template, kind, name."""
    for line in RECORD.read_text().splitlines():
        noted = json.loads(line)
        module = REPOSITORY / noted["by"].partition("::")[0]
        if "fake_workbench" not in module.read_text():
            template, tag, name = noted["used"]
            yield template, tag, name


def unused(controls: Iterable[Control], used: Iterable[tuple[str, str, str]]) -> list[Control]:
    """The controls that nothing of `used` was; one that says the name goes before one that may say anything."""
    left = [control for control in controls if (control.template, control.name) not in ELSEWHERE]
    for kind in dict.fromkeys(used):
        fitting = [control for control in controls if control.fits(*kind)]
        told = [control for control in fitting if not control.vague] or fitting
        left = [control for control in left if control not in told]
    return left


def main() -> None:
    """Print how many controls there are, and which nobody has used."""
    controls = inventory()
    left = unused(controls, list(uses()))
    for control in left:
        print(f"{control.template}.vue:{control.line}: {control.tag} {control.name}")
    used = len(controls) - len(left) - len(ELSEWHERE)
    print(f"{used} of {len(controls)} controls used in a browser against real stores; {len(ELSEWHERE)} tried elsewhere")


if __name__ == "__main__":
    main()
