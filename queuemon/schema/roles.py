"""The rights of a reader and of an operator, as SQL and as Redis ACL lines; `queuemon install --roles` prints them."""

from __future__ import annotations

from queuemon.contract import Keys
from queuemon.schema.tables import OWN_SCHEMA, TABLES, Tables

READER = "queuemon_reader"
OPERATOR = "queuemon_operator"
APPROVER = "queuemon_approver"


def sql(tables: Tables = TABLES) -> str:
    """Idempotent statements that create the roles; run them as the owner of the tables, with the right to do so.

    The reader may only read, under timeouts. The operator may do what actions need, and only append to the audit
    trail's events. The approver may read, and approve plans of runbooks. None gets a password here.
    """
    application = ", ".join(t.fullname for t in (tables.job_queues, tables.jobs, tables.job_logs))
    added_to = (tables.action_events, tables.approvals)
    own = [t for t in tables.metadata.sorted_tables if t.schema == OWN_SCHEMA and t not in added_to]
    writable = ", ".join(t.fullname for t in own)
    lines = [f"-- {READER} sees everything, {OPERATOR} also acts. Give each a password: \\password {READER}"]
    for role, statement, lock, idle in (
        (READER, "15s", "2s", "30s"), (OPERATOR, "60s", "5s", "60s"), (APPROVER, "15s", "2s", "30s"),
    ):  # fmt: skip
        lines += [
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN NOINHERIT; EXCEPTION WHEN duplicate_object THEN NULL; END $$;",
            f"ALTER ROLE {role} SET statement_timeout = '{statement}';",
            f"ALTER ROLE {role} SET lock_timeout = '{lock}';",
            f"ALTER ROLE {role} SET idle_in_transaction_session_timeout = '{idle}';",
            f"GRANT USAGE ON SCHEMA {OWN_SCHEMA} TO {role};",
            f"GRANT SELECT ON {application} TO {role};",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {OWN_SCHEMA} TO {role};",
        ]
    lines += [
        f"GRANT INSERT, UPDATE, DELETE ON {application} TO {OPERATOR};",
        f"GRANT INSERT, UPDATE, DELETE ON {writable} TO {OPERATOR};",
        f"GRANT INSERT ON {tables.action_events.fullname} TO {OPERATOR};",
        f"GRANT INSERT ON {tables.approvals.fullname} TO {APPROVER};",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {OWN_SCHEMA} TO {OPERATOR};",
    ]
    return "\n".join(lines) + "\n"


def acl(keys: Keys | None = None) -> str:
    """The two Redis users as ACL commands with a place for the password."""
    templates = keys or Keys()
    patterns = " ".join(
        "~" + template.replace("{name}", "*").replace("{id}", "*").replace("{worker}", "*")
        for template in (
            templates.queue,
            templates.marker,
            templates.processing,
            templates.paused,
            templates.parked,
            templates.sifted,
            templates.quarantine,
            templates.wake,
            templates.epoch,
        )
    )
    read = "+@read +@connection +info +time +acl|whoami"
    return (
        f"ACL SETUSER {READER} on >PASSWORD {patterns.replace('~', '%R~')} {read}\n"
        f"ACL SETUSER {OPERATOR} on >PASSWORD {patterns} {read} +@write +@scripting -@dangerous +info +acl|whoami\n"
    )
