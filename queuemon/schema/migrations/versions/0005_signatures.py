"""What failure signatures need: indexes that answer by signature and by time alone, and the attempts still unsigned."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

FAILED = "WHERE kind = 'attempt' AND status = 'failed'"

STATEMENTS = (
    # by time, over all queues or one, without a look at the rows
    f"CREATE INDEX job_logs_failed_at ON job_logs (finished_at) INCLUDE (queue, signature, signature_version) {FAILED}",
    # attempts without a signature, or with one of an older version, at the low end
    f"CREATE INDEX job_logs_unsigned ON job_logs (coalesce(signature_version, 0), id) {FAILED}",
    # the jobs of a signature without a look at the rows
    "DROP INDEX job_logs_signature",
    "CREATE INDEX job_logs_signature ON job_logs (signature, finished_at) INCLUDE (job_id) WHERE signature IS NOT NULL",
)


def upgrade() -> None:
    """Add them."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take them away again."""
    op.execute("DROP INDEX job_logs_failed_at, job_logs_unsigned, job_logs_signature")
    op.execute("CREATE INDEX job_logs_signature ON job_logs (signature, finished_at) WHERE signature IS NOT NULL")
