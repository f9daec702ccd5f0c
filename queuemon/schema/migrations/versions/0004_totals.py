"""Totals that only grow, for counters and histograms of a metrics system."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE queuemon.totals (
    queue    text NOT NULL,
    measure  text NOT NULL,
    bucket   smallint NOT NULL,
    n        bigint NOT NULL,
    seconds  double precision NOT NULL,
    PRIMARY KEY (queue, measure, bucket)
)
"""


def upgrade() -> None:
    """Add them; they begin at zero."""
    op.execute(TABLE)


def downgrade() -> None:
    """Take them away again."""
    op.execute("DROP TABLE queuemon.totals")
