"""Approvals of plans, by another role than the one that acts: only ever added to, whoever has which rights."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE queuemon.approvals (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash     text NOT NULL CHECK (hash ~ '^[0-9a-f]{64}$'),
    role     text NOT NULL DEFAULT '',
    os_user  text NOT NULL,
    note     text NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
)
""",
    "CREATE INDEX approvals_hash ON queuemon.approvals (hash, at)",
    # Who approves, and when, is the server's word: nobody can write another's name.
    """
CREATE FUNCTION queuemon.approval_is_signed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.role := session_user;
    NEW.at := clock_timestamp();
    RETURN NEW;
END $$
""",
    """
CREATE TRIGGER approval_is_signed BEFORE INSERT ON queuemon.approvals
    FOR EACH ROW EXECUTE FUNCTION queuemon.approval_is_signed()
""",
    """
CREATE FUNCTION queuemon.approvals_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'queuemon.approvals is only added to' USING ERRCODE = 'insufficient_privilege';
END $$
""",
    """
CREATE TRIGGER approvals_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON queuemon.approvals
    FOR EACH STATEMENT EXECUTE FUNCTION queuemon.approvals_stay()
""",
)


def upgrade() -> None:
    """Add them."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Take them away again."""
    op.execute("DROP TABLE queuemon.approvals")
    op.execute("DROP FUNCTION queuemon.approval_is_signed()")
    op.execute("DROP FUNCTION queuemon.approvals_stay()")
