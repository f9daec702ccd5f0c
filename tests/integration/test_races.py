"""Every statement that changes something, against another session that holds its row: it waits (or leaves the row
alone) and judges the row as it stands once the other one has committed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import queuemon.store
from tests.support.actions import Desk
from tests.support.races import jobs, trail, upkeep
from tests.support.races.race import Race

RACES = (*jobs.RACES, *trail.RACES, *upkeep.RACES)

#: Functions that change something and are raced by no case of their own, each with the reason.
UNRACED = {
    "arrivals._insert": "inserts under ids made here",
    "audit.note": "appends an event",
    "claims.due_again": "appends an outbox row",
    "outbox.add": "appends an outbox row",
    "upkeep._promise_everything": "appends outbox rows, publication of which is idempotent",
    "drift_repairs.note_chunk": "appends under a number that the held action's row guards",
    "drift_repairs.note_repairs": "appends an event",
    "erasing._add_to_chunk": "changes a chunk that the held action's row guards",
    "approvals.approve": "appends a row, which the server signs",
    "deploys.mark": "appends a mark",
    "signing.write": "writes what follows from texts that never change: who comes second writes the same",
    "demo.insert_rows": "loads a database that nobody else uses yet",
    "demo.add_deploy": "appends a mark",
    "demo.add_chunk": "loads a database that nobody else uses yet",
    "demo.delete_with_copies": "loads a database that nobody else uses yet",
}

_BUILDERS = {"insert", "update", "delete", "upsert"}
_SQL = re.compile(r"\b(INSERT INTO|DELETE FROM|UPDATE [\w.]+ SET|TRUNCATE )")


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.name)
def test_a_row_that_another_session_holds_is_judged_as_it_stands_afterwards(desk: Desk, race: Race) -> None:
    assert race.course(desk) == (race.gives, race.stands[1])


def test_every_statement_that_changes_something_is_raced() -> None:
    raced = {name for race in RACES for name in race.covers}
    changing = _changing()
    assert changing - raced - set(UNRACED) == set(), "neither raced nor named with a reason"
    assert raced - changing == set(), "raced, but changes nothing (any more)"
    assert set(UNRACED) - changing == set(), "named with a reason, but changes nothing (any more)"
    assert raced & set(UNRACED) == set(), "raced, so it needs no reason"


def _changing() -> set[str]:
    """All functions ("module.function") of the store that build a statement which changes rows."""
    root = Path(queuemon.store.__file__).parent
    found: set[str] = set()
    for path in root.rglob("*.py"):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        texts = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and _says_sql(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
            if any(_changes(node, texts) for statement in function.body for node in ast.walk(statement)):
                found.add(f"{module}.{function.name}")
    return found


def _changes(node: ast.AST, texts: set[str]) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in _BUILDERS
    return _says_sql(node) if isinstance(node, ast.Constant) else isinstance(node, ast.Name) and node.id in texts


def _says_sql(node: ast.AST) -> bool:
    return any(
        isinstance(n, ast.Constant) and isinstance(n.value, str) and bool(_SQL.search(n.value)) for n in ast.walk(node)
    )
