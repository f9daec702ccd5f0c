"""Texts that try to run in a page, and the way to put them wherever the dashboard shows a text.

Each calls `alert`, which `TRAP` replaces: what ran is in `window.ran`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queuemon.views.dashboard import Dashboard

TRAP = "window.ran = []; window.alert = (what) => { window.ran.push(String(what)); };"

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<img/src=x/onerror=alert(1)>",
    "<svg onload=alert(1)></svg>",
    "</td></tr></table><style>@import 'x'</style><img src=x onerror=alert(1)>",
    "</textarea></title></style></script><img src=x onerror=alert(1)>",
    "<base href=//evil><form action=//evil><input autofocus onfocus=alert(1)>",
    '<a data-commandlinker-command="x" href="javascript:alert(1)">x</a>',
    "javascript:alert(1)",
    '" autofocus onfocus=alert(1) onmouseover=alert(1) x="',
    "' onmouseover=alert(1) style='position:fixed;inset:0' x='",
    "{{constructor.constructor('alert(1)')()}}",
    "{{ ''.constructor.constructor('alert(1)')() }}",
    "{{ $el.ownerDocument.defaultView.alert(1) }}",
    "$\\href{javascript:alert(1)}{x}$ $$\\unicode{<img src=x onerror=alert(1)>}$$",
    "&lt;img src=x onerror=alert(1)&gt; &amp;lt;script&amp;gt;alert(1)",
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<details open ontoggle=alert(1)>x</details>",
    "__proto__",
    "\x1b]52;c;aGVsbG8=\x07\u202eexe.txt",
)

#: Words that the page compares, not shows: another would only hide what is to be seen.
WORDS = frozenset(
    {"kind", "state", "status", "health", "priority", "colour", "busy", "level", "outcome", "only", "typed", "key"}
)
#: Texts that stand empty until something fails.
REASONS = frozenset({"error", "readOnly", "refused", "why", "noHistory", "slowed"})


class Injector:
    """Puts a text into every place of a dashboard, which must not be refreshed meanwhile."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard
        names = [n for n in dashboard.trait_names(sync=True) if n not in {"components", "css", "events", "methods"}]
        found = {name: getattr(dashboard, name) for name in names if not name.startswith("_")}
        self._values = {n: copy.deepcopy(v) for n, v in found.items() if isinstance(v, dict | list)}

    def inject(self, payload: str, *, reasons: bool = False) -> int:
        """Put the text in; with `reasons` where the reasons of failures stand. Returns in how many places.

        Each text ends in a mark, «n»: equal ones in the same, so that what belongs together stays so.
        """
        self._marks: dict[str, int] = {}
        self._places = 0
        for name, value in self._values.items():
            setattr(self._dashboard, name, self._with(value, "", payload, reasons))
        return self._places

    def _with(self, value: Any, key: str, payload: str, reasons: bool) -> Any:
        if isinstance(value, dict):
            return {k: self._with(v, k, payload, reasons) for k, v in value.items()}
        if isinstance(value, list):
            return [self._with(v, key, payload, reasons) for v in value]
        if not isinstance(value, str) or key in WORDS or (key in REASONS) != reasons or not (value or reasons):
            return value
        self._places += 1
        mark = self._marks.setdefault(value or f"{key} {self._places}", len(self._marks))
        return f"{payload}«{mark}»"
