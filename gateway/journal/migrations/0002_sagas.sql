-- One row for each run of a workflow. state: running, succeeded, compensating, compensated, stuck.
-- `start_key` is the SHA-256 of route, client or tenant, and Idempotency-Key of whoever has started it.
-- A run is due when there is a next step to take: `due_at` is then not null.
CREATE TABLE saga_runs (
    id TEXT PRIMARY KEY,
    workflow TEXT NOT NULL,
    state TEXT NOT NULL,
    input BYTEA NOT NULL,
    correlation_id TEXT NOT NULL,
    start_key BYTEA UNIQUE,
    owner TEXT NOT NULL DEFAULT '',
    fence BIGINT NOT NULL DEFAULT 0,
    lease_until DOUBLE PRECISION NOT NULL DEFAULT 0,
    due_at DOUBLE PRECISION,
    reason TEXT NOT NULL DEFAULT '',
    created_at DOUBLE PRECISION NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION
);
CREATE INDEX saga_runs_due ON saga_runs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX saga_runs_state ON saga_runs (workflow, state);
CREATE INDEX saga_runs_ended ON saga_runs (ended_at) WHERE ended_at IS NOT NULL;

-- state: pending, running, done, failed, unknown, undoing, undone, undo_failed. `attempts` are those of the present
-- direction; `result` is what the step's templates may point to.
CREATE TABLE saga_steps (
    run_id TEXT NOT NULL REFERENCES saga_runs (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    status BIGINT NOT NULL DEFAULT 0,
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
