-- One row for each run of a workflow. state: running, succeeded, compensating, compensated, stuck.
-- `definition` is the workflow as it was when the run began, `input` the JSON that has started it, `headers` what the
-- steps are told about the caller. A run is due when `due_at` has come; null while only an operator can go on with it,
-- and when it has ended. `deadline_at` bounds what is tried now; `events` counts its rows in saga_events.
CREATE TABLE saga_runs (
    id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    state TEXT NOT NULL,
    definition BYTEA NOT NULL,
    input BYTEA NOT NULL,
    headers BYTEA NOT NULL,
    correlation_id TEXT NOT NULL,
    cancelled BOOLEAN NOT NULL DEFAULT FALSE,
    reason TEXT NOT NULL DEFAULT '',
    events BIGINT NOT NULL DEFAULT 0,
    owner TEXT NOT NULL DEFAULT '',
    fence BIGINT NOT NULL DEFAULT 0,
    lease_until DOUBLE PRECISION NOT NULL DEFAULT 0,
    due_at DOUBLE PRECISION,
    deadline_at DOUBLE PRECISION NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION
);
CREATE INDEX saga_runs_due ON saga_runs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX saga_runs_open ON saga_runs (workflow, state) WHERE ended_at IS NULL;
CREATE INDEX saga_runs_ended ON saga_runs (ended_at) WHERE ended_at IS NOT NULL;

-- A step has a row from its first attempt on. state: running, done, failed, unknown, undoing, undone, undo_failed, or
-- pending again. `attempts` are those of the present direction; `result` is the JSON that it has answered with.
CREATE TABLE saga_steps (
    run_id TEXT NOT NULL REFERENCES saga_runs (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    status BIGINT NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    result BYTEA,
    updated_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (run_id, position)
);

CREATE TABLE saga_events (
    run_id TEXT NOT NULL REFERENCES saga_runs (id) ON DELETE CASCADE,
    sequence BIGINT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    kind TEXT NOT NULL,
    step TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run_id, sequence)
);
