"""What the timeline needs to be exact: since when a job had been due, and what actions did to the depths."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE job_logs ADD COLUMN due_at timestamptz",
    # Log rows come in the order of time: a few blocks of summary find a window among millions.
    "CREATE INDEX job_logs_finished ON job_logs USING brin (finished_at)"
    " WITH (pages_per_range = 32, autosummarize = on)",
    "ALTER TABLE queuemon.action_chunks ADD COLUMN depths jsonb",
    "CREATE INDEX action_chunks_depths ON queuemon.action_chunks (at) WHERE depths IS NOT NULL",
)


def upgrade() -> None:
    """Add them."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take them away again."""
    op.execute("DROP INDEX queuemon.action_chunks_depths")
    op.execute("ALTER TABLE queuemon.action_chunks DROP COLUMN depths")
    op.execute("DROP INDEX job_logs_finished")
    op.execute("ALTER TABLE job_logs DROP COLUMN due_at")
