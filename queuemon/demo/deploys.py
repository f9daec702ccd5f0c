"""The bugs that scenarios ship and the deploys that heal them; the demo's handlers ask here how their code behaves.

The last deploy mark decides: a bug is live from the mark that brought it to the mark of its fix.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from queuemon.store import Store, demo

#: A deploy waits so long for attempts on the old code; what a dead worker holds is not waited for any longer.
ROLLING_SECONDS: Final = 8.0


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A bug, by the names of two deploys."""

    #: The deploy that brought it, and what its author thought it was.
    shipped: str
    note: str
    #: The deploy that heals it.
    fix: str
    fix_note: str


MRR: Final = Bug(
    shipped="analytics 2026.47.0",
    note="MRR per plan: average revenue per account",
    fix="mrr-fix",
    fix_note="MRR of a plan without active subscriptions is 0",
)
TEMPLATE: Final = Bug(
    shipped="spring-sale-v2 rev 9",
    note="VAT notice in the footer for eu-west",
    fix="template-fix",
    fix_note="helper vatNotice is part of the bundle",
)
BUGS: Final = (MRR, TEMPLATE)
FIXES: Final = {bug.fix: bug for bug in BUGS}


def live(store: Store, bug: Bug) -> bool:
    """Whether the bug is in the code that runs now."""
    with store.postgres.statement() as connection:
        return demo.latest_deploy(connection, store.tables, (bug.shipped, bug.fix)) == bug.shipped


def ship(store: Store, bug: Bug) -> None:
    """Deploy the bug, unless it is live."""
    if not live(store, bug):
        with store.postgres.begin() as connection:
            demo.add_deploy(connection, store.tables, bug.shipped, bug.note)


def heal(store: Store, bug: Bug) -> None:
    """Deploy the fix; returns when the attempts that began before it have ended, as after a rolling restart."""
    with store.postgres.begin() as connection:
        at = demo.add_deploy(connection, store.tables, bug.fix, bug.fix_note)
    deadline = time.monotonic() + ROLLING_SECONDS
    while time.monotonic() < deadline:
        with store.postgres.statement() as connection:
            if demo.running_since_before(connection, store.tables, at) == 0:
                return
        time.sleep(0.05)
