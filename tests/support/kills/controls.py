"""Negative controls: the same retry and move as other tools do them, and ours with a part taken out; each must fail.

They prove that the harness sees what it looks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from queuemon import actions
from queuemon.contract import encode_element
from queuemon.engine.publisher import publish
from queuemon.model import ActionKind, Plan
from queuemon.store import Store, changes
from tests.support.kills.scene import MODES, Deed, Scene
from tests.support.kills.site import Site

CHUNK = 6

_FAILED = text("SELECT id, gen FROM jobs WHERE queue = 'mail' AND status = 'failed' ORDER BY id")

_WAIT_AGAIN = text("""
UPDATE jobs SET status = 'waiting', attempts = 0, gen = gen + 1, run_at = now(), started_at = NULL, finished_at = NULL,
    heartbeat_at = NULL, worker_id = NULL, expires_at = now() + interval '1 day'
WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'failed'
""")

#: The status is tested, but not on the row under its lock: a job that was claimed since the sub-query's snapshot
#: waits again while it runs.
_MOVE_BY_SUBQUERY = text("""
WITH moved AS (
    UPDATE jobs SET queue = 'reports', status = 'waiting', gen = gen + 1
    WHERE id IN (SELECT id FROM jobs WHERE queue = 'mail' AND status = 'waiting' ORDER BY id LIMIT 10)
    RETURNING id
)
INSERT INTO queuemon.publications (job_ids) SELECT array_agg(id) FROM moved HAVING count(*) > 0 RETURNING id
""")


def _failed(store: Store) -> list[Sequence[Any]]:
    """What stands failed, in chunks."""
    with store.postgres.begin() as connection:
        rows = list(connection.execute(_FAILED))
    return [rows[n : n + CHUNK] for n in range(0, len(rows), CHUNK)]


def _push(store: Store, rows: Sequence[Any]) -> None:
    """Push each job's next generation, as a tool without markers does."""
    elements = [encode_element({"id": str(i), "gen": gen + 1, "queue": "mail", "payload": {}}) for i, gen in rows]
    with store.redis.call() as client:
        client.rpush("queue:mail", *elements)


def _commit(store: Store, rows: Sequence[Any]) -> None:
    with store.postgres.begin() as connection:
        connection.execute(_WAIT_AGAIN, {"ids": [row[0] for row in rows]})


def _commit_then_push(store: Store) -> None:
    for rows in _failed(store):
        _commit(store, rows)
        _push(store, rows)


def _push_then_commit(store: Store) -> None:
    for rows in _failed(store):
        _push(store, rows)
        _commit(store, rows)


def _move_by_subquery(store: Store) -> None:
    moved = True
    while moved:
        with store.postgres.begin() as connection:
            moved = connection.execute(_MOVE_BY_SUBQUERY).first() is not None
    publish(store)


def _some_failed(site: Site, act: Any) -> Deed:
    site.plant("failed", 12)
    site.plant("waiting", 3)
    return Deed(act=act, relay=False)


def _many_waiting(site: Site, _variant: str) -> Deed:
    site.plant("waiting", 200)
    return Deed(act=_move_by_subquery)


def _without_outbox(site: Site, _variant: str) -> Deed:
    """Our own retry, whose chunks forget their row in the outbox; what was interrupted has nobody to finish it."""
    site.plant("failed", 12)
    plan = actions.plan(site.store, ActionKind.RETRY, "queue:mail")
    return Deed(act=lambda store: _forgetful(store, plan), plan=plan)


def _forgetful(store: Store, plan: Plan) -> None:
    change_chunk = changes.change_chunk

    def forgets(connection: Any, *args: Any, **options: Any) -> Any:
        outcome = change_chunk(connection, *args, **options)
        rows = connection.execute(
            text("DELETE FROM queuemon.publications WHERE id = :id RETURNING job_ids"), {"id": outcome.publication}
        ).all()
        promised.extend(job_id for row in rows for job_id in row[0])
        return outcome

    promised: list[Any] = []
    changes.change_chunk = forgets
    try:
        actions.apply(store, plan, reason="negative control")
        with store.postgres.begin() as connection:
            connection.execute(text("INSERT INTO queuemon.publications (job_ids) VALUES (:ids)"), {"ids": promised})
        publish(store)
    finally:
        changes.change_chunk = change_chunk


CONTROLS = {
    scene.name: scene
    for scene in (
        Scene(
            name="commit then push, without recovery",
            prepare=lambda site, _: _some_failed(site, _commit_then_push), modes=MODES, patience=1.0,
        ),
        Scene(
            name="push then commit",
            prepare=lambda site, _: _some_failed(site, _push_then_commit), modes=MODES, levels=("L0", "L1"),
            patience=1.0,
        ),
        Scene(
            name="status tested in a sub-query", prepare=_many_waiting, modes=("live",), levels=("L1",),
            patience=3.0,
        ),
        Scene(name="our retry without its outbox row", prepare=_without_outbox, modes=("idle",), patience=1.0),
    )
}  # fmt: skip
