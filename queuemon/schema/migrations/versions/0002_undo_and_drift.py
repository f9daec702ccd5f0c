"""What undo, resuming and hard pauses need: values as they were before, and indexes to find actions by."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE queuemon.actions ADD COLUMN before jsonb NOT NULL DEFAULT '{}'",
    "CREATE INDEX actions_undo ON queuemon.actions (undo_of) WHERE undo_of IS NOT NULL",
    "CREATE INDEX actions_running ON queuemon.actions (updated_at) WHERE state = 'running'",
    "ALTER TABLE queuemon.queue_pauses ADD COLUMN hard boolean NOT NULL DEFAULT false",
)


def upgrade() -> None:
    """Add them."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take them away again."""
    op.execute("ALTER TABLE queuemon.queue_pauses DROP COLUMN hard")
    op.execute("DROP INDEX queuemon.actions_running, queuemon.actions_undo")
    op.execute("ALTER TABLE queuemon.actions DROP COLUMN before")
