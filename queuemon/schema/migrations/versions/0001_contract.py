"""The contract: queues, jobs, logs, and queuemon's own schema with counters kept by statement triggers."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPLICATION = """
CREATE TABLE job_queues (
    name            text PRIMARY KEY CHECK (name <> ''),
    priority        text NOT NULL DEFAULT 'normal' CHECK (priority IN ('high', 'normal', 'low')),
    paused          boolean NOT NULL DEFAULT false,
    pause_epoch     bigint NOT NULL DEFAULT 0,
    paused_at       timestamptz,
    target_seconds  double precision NOT NULL DEFAULT 300 CHECK (target_seconds > 0),
    concurrency     integer NOT NULL DEFAULT 1 CHECK (concurrency >= 0),
    max_attempts    integer NOT NULL DEFAULT 3 CHECK (max_attempts > 0),
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE jobs (
    id              uuid PRIMARY KEY,
    queue           text NOT NULL,
    payload         jsonb NOT NULL DEFAULT '{}',
    status          text NOT NULL DEFAULT 'waiting'
                    CHECK (status IN ('waiting', 'active', 'completed', 'failed', 'expired')),
    attempts        integer NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    gen             integer NOT NULL DEFAULT 1,
    max_attempts    integer NOT NULL DEFAULT 3,
    run_at          timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL DEFAULT now() + interval '24 hours',
    started_at      timestamptz,
    finished_at     timestamptz,
    heartbeat_at    timestamptz,
    worker_id       text,
    error_type      text,
    error_message   text
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE INDEX jobs_waiting   ON jobs (queue, run_at, id) WHERE status = 'waiting';
CREATE INDEX jobs_expiring  ON jobs (expires_at) WHERE status = 'waiting';
CREATE INDEX jobs_active    ON jobs (queue, id) WHERE status = 'active';
CREATE INDEX jobs_failed    ON jobs (queue, id) WHERE status = 'failed';
CREATE INDEX jobs_failed_id ON jobs (id) WHERE status = 'failed';
CREATE INDEX jobs_expired   ON jobs (queue, id) WHERE status = 'expired';
CREATE INDEX jobs_completed ON jobs (queue, finished_at, id) WHERE status = 'completed';

CREATE TABLE job_logs (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id             uuid NOT NULL,
    queue              text NOT NULL,
    kind               text NOT NULL DEFAULT 'attempt',
    gen                integer NOT NULL,
    attempt            integer,
    action_id          uuid,
    status             text NOT NULL,
    worker_id          text,
    started_at         timestamptz,
    finished_at        timestamptz NOT NULL DEFAULT now(),
    duration_ms        double precision,
    error_type         text,
    error_message      text,
    stack_trace        text,
    signature          text,
    signature_version  smallint,
    detail             jsonb,
    txid               xid8 NOT NULL DEFAULT pg_current_xact_id()
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02);

CREATE INDEX job_logs_job       ON job_logs (job_id, id);
CREATE INDEX job_logs_txid      ON job_logs (txid);
CREATE INDEX job_logs_failures  ON job_logs (queue, finished_at) WHERE kind = 'attempt' AND status = 'failed';
CREATE INDEX job_logs_signature ON job_logs (signature, finished_at) WHERE signature IS NOT NULL;
"""

OWN = """
CREATE TABLE queuemon.actions (
    id           uuid PRIMARY KEY,
    kind         text NOT NULL,
    target       text NOT NULL,
    options      jsonb NOT NULL DEFAULT '{}',
    ids          uuid[],
    cutoff       timestamptz NOT NULL,
    cursor       uuid,
    planned      bigint NOT NULL,
    done         bigint NOT NULL DEFAULT 0,
    skipped      jsonb NOT NULL DEFAULT '{}',
    gone         bigint NOT NULL DEFAULT 0,
    state        text NOT NULL DEFAULT 'running',
    reason       text NOT NULL DEFAULT '',
    actor        text NOT NULL,
    summary      text NOT NULL DEFAULT '',
    undo_of      uuid,
    started_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);
CREATE INDEX actions_recent ON queuemon.actions (started_at DESC);

CREATE TABLE queuemon.action_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action_id  uuid NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    event      text NOT NULL,
    actor      text NOT NULL,
    detail     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX action_events_action ON queuemon.action_events (action_id, id);

CREATE TABLE queuemon.action_chunks (
    action_id  uuid NOT NULL,
    n          integer NOT NULL,
    first_id   uuid NOT NULL,
    last_id    uuid NOT NULL,
    done_ids   uuid[] NOT NULL,
    skipped    jsonb NOT NULL DEFAULT '{}',
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (action_id, n)
);
CREATE INDEX action_chunks_range ON queuemon.action_chunks (first_id, last_id);

CREATE TABLE queuemon.queue_pauses (
    queue      text NOT NULL,
    holder     text NOT NULL,
    reason     text NOT NULL DEFAULT '',
    since      timestamptz NOT NULL DEFAULT now(),
    until      timestamptz,
    action_id  uuid,
    PRIMARY KEY (queue, holder)
);

CREATE TABLE queuemon.undo_jobs (
    action_id   uuid NOT NULL,
    job_id      uuid NOT NULL,
    row         jsonb NOT NULL,
    kept_until  timestamptz NOT NULL,
    PRIMARY KEY (action_id, job_id)
);
CREATE INDEX undo_jobs_job ON queuemon.undo_jobs (job_id);
CREATE INDEX undo_jobs_kept ON queuemon.undo_jobs (kept_until);

CREATE TABLE queuemon.publications (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_ids     uuid[] NOT NULL,
    due_at      timestamptz NOT NULL DEFAULT now(),
    created_at  timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX publications_due ON queuemon.publications (due_at, id);

CREATE TABLE queuemon.workers (
    id            text PRIMARY KEY,
    kind          text NOT NULL DEFAULT 'worker',
    home          text NOT NULL DEFAULT '',
    host          text NOT NULL,
    pid           integer NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT now(),
    heartbeat_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE queuemon.job_counts (
    queue   text NOT NULL,
    status  text NOT NULL,
    n       bigint NOT NULL,
    PRIMARY KEY (queue, status)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE queuemon.job_deltas (
    queue     text NOT NULL,
    was       text,
    becomes   text,
    n         bigint NOT NULL,
    arrived   timestamptz,
    finished  timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE queuemon.minutes (
    queue   text NOT NULL,
    kind    text NOT NULL,
    minute  timestamptz NOT NULL,
    n       bigint NOT NULL,
    PRIMARY KEY (queue, kind, minute)
) WITH (fillfactor = 70);
CREATE INDEX minutes_recent ON queuemon.minutes (minute);

CREATE TABLE queuemon.rollup_state (
    name  text PRIMARY KEY,
    txid  xid8 NOT NULL,
    at    timestamptz NOT NULL DEFAULT now()
);
INSERT INTO queuemon.rollup_state (name, txid) VALUES ('attempts', '0');

CREATE TABLE queuemon.deploy_marks (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name   text NOT NULL,
    at     timestamptz NOT NULL DEFAULT now(),
    actor  text NOT NULL DEFAULT current_user,
    note   text NOT NULL DEFAULT ''
);

CREATE TABLE queuemon.alert_state (
    key     text PRIMARY KEY,
    state   text NOT NULL,
    since   timestamptz NOT NULL DEFAULT now(),
    detail  jsonb NOT NULL DEFAULT '{}'
);
"""

# The counters mirror the rows: jobs per queue and state, arrivals and completions per minute. Writers only append (no
# counter row is shared, so nobody waits); the relay folds the deltas into job_counts and minutes. What is waiting and
# what is active count as one state, "open": the active ones are few and stand in an index of their own, so a claim
# and a back-off cost nothing here. Row triggers serve single rows (less than half the cost of transition tables there);
# a transaction that changes thousands says SET LOCAL queuemon.bulk = 'on' and is counted by statement.
# SECURITY DEFINER: the application needs no right on our schema. A list, because the bodies contain semicolons.
_HEAD = "RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$"
_ROWS = "coalesce(current_setting('queuemon.bulk', true), '') <> 'on'"
_BULK = "current_setting('queuemon.bulk', true) = 'on'"


def _state(row: str) -> str:
    """The counted state of a row variable or alias."""
    return f"CASE WHEN {row}status IN ('waiting', 'active') THEN 'open' ELSE {row}status END"


def _finished(row: str) -> str:
    """When a row was completed; NULL for every other state."""
    return f"CASE WHEN {row}status = 'completed' THEN {row}finished_at END"


COUNTERS = [
    f"""
CREATE FUNCTION queuemon.count_row() {_HEAD}
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO queuemon.job_deltas (queue, becomes, n, arrived, finished)
        VALUES (NEW.queue, {_state("NEW.")}, 1, NEW.created_at, {_finished("NEW.")});
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO queuemon.job_deltas (queue, was, n, finished)
        VALUES (OLD.queue, {_state("OLD.")}, 1, {_finished("OLD.")});
    ELSIF OLD.queue = NEW.queue AND (OLD.status <> 'completed' OR NEW.status <> 'completed') THEN
        INSERT INTO queuemon.job_deltas (queue, was, becomes, n, finished)
        VALUES (NEW.queue, {_state("OLD.")}, {_state("NEW.")}, 1, coalesce({_finished("NEW.")}, {_finished("OLD.")}));
    ELSE
        INSERT INTO queuemon.job_deltas (queue, was, becomes, n, finished)
        VALUES (OLD.queue, {_state("OLD.")}, NULL, 1, {_finished("OLD.")}),
               (NEW.queue, NULL, {_state("NEW.")}, 1, {_finished("NEW.")});
    END IF;
    RETURN NULL;
END $$
""",
    f"""
CREATE FUNCTION queuemon.count_inserted() {_HEAD}
BEGIN
    INSERT INTO queuemon.job_deltas (queue, becomes, n, arrived, finished)
    SELECT queue, {_state("")}, count(*), date_trunc('minute', created_at), date_trunc('minute', {_finished("")})
    FROM new_rows GROUP BY 1, 2, 4, 5;
    RETURN NULL;
END $$
""",
    f"""
CREATE FUNCTION queuemon.count_updated() {_HEAD}
BEGIN
    INSERT INTO queuemon.job_deltas (queue, becomes, n, finished)
    SELECT queue, state, sum(n), finished FROM (
        SELECT queue, {_state("")} AS state, 1 AS n, date_trunc('minute', {_finished("")}) AS finished FROM new_rows
        UNION ALL
        SELECT queue, {_state("")}, -1, date_trunc('minute', {_finished("")}) FROM old_rows
    ) AS change
    GROUP BY 1, 2, 4 HAVING sum(n) <> 0;
    RETURN NULL;
END $$
""",
    f"""
CREATE FUNCTION queuemon.count_deleted() {_HEAD}
BEGIN
    INSERT INTO queuemon.job_deltas (queue, was, n, finished)
    SELECT queue, {_state("")}, count(*), date_trunc('minute', {_finished("")})
    FROM old_rows GROUP BY 1, 2, 4;
    RETURN NULL;
END $$
""",
    f"""
CREATE FUNCTION queuemon.count_truncated() {_HEAD}
BEGIN
    DELETE FROM queuemon.job_deltas;
    DELETE FROM queuemon.job_counts;
    DELETE FROM queuemon.minutes WHERE kind = 'completed';
    RETURN NULL;
END $$
""",
    f"""
CREATE TRIGGER queuemon_count_insert AFTER INSERT ON jobs
FOR EACH ROW WHEN ({_ROWS}) EXECUTE FUNCTION queuemon.count_row()
""",
    f"""
CREATE TRIGGER queuemon_count_update AFTER UPDATE ON jobs
FOR EACH ROW WHEN (
    (OLD.queue <> NEW.queue OR {_state("OLD.")} <> {_state("NEW.")}
     OR (NEW.status = 'completed' AND OLD.finished_at IS DISTINCT FROM NEW.finished_at)) AND {_ROWS}
) EXECUTE FUNCTION queuemon.count_row()
""",
    f"""
CREATE TRIGGER queuemon_count_delete AFTER DELETE ON jobs
FOR EACH ROW WHEN ({_ROWS}) EXECUTE FUNCTION queuemon.count_row()
""",
    f"""
CREATE TRIGGER queuemon_count_bulk_insert AFTER INSERT ON jobs REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT WHEN ({_BULK}) EXECUTE FUNCTION queuemon.count_inserted()
""",
    f"""
CREATE TRIGGER queuemon_count_bulk_update AFTER UPDATE ON jobs REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT WHEN ({_BULK}) EXECUTE FUNCTION queuemon.count_updated()
""",
    f"""
CREATE TRIGGER queuemon_count_bulk_delete AFTER DELETE ON jobs REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT WHEN ({_BULK}) EXECUTE FUNCTION queuemon.count_deleted()
""",
    """
CREATE TRIGGER queuemon_count_truncate AFTER TRUNCATE ON jobs
FOR EACH STATEMENT EXECUTE FUNCTION queuemon.count_truncated()
""",
]


def upgrade() -> None:
    """Create everything."""
    for script in (APPLICATION, OWN):
        for statement in script.split(";"):
            if statement.strip():
                op.execute(statement.strip())
    for statement in COUNTERS:
        op.execute(statement.strip())


def downgrade() -> None:
    """Refuse: the jobs are not ours to drop."""
    raise NotImplementedError("There is no way back from the first migration: it would drop the jobs.")
