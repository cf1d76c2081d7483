-- One row for each message that is to reach its target. state: queued, sending, delivered, dead.
-- `published` is true once it was delivered. A message is due when `due_at` has come; null when nothing more is done.
-- Of those with one `order_key` (target included) one at a time is sent, in the order of `created_at` and `id`.
-- `blocked` ones wait behind another one of their key. The content comes last: SQLite reads a row from its front.
CREATE TABLE outbox_events (
    id TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    published BOOLEAN NOT NULL DEFAULT FALSE,
    blocked BOOLEAN NOT NULL DEFAULT FALSE,
    order_key TEXT,
    owner TEXT NOT NULL DEFAULT '',
    fence BIGINT NOT NULL DEFAULT 0,
    lease_until DOUBLE PRECISION NOT NULL DEFAULT 0,
    due_at DOUBLE PRECISION,
    created_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION,
    attempts BIGINT NOT NULL DEFAULT 0,
    status BIGINT NOT NULL DEFAULT 0,
    size BIGINT NOT NULL,
    correlation_id TEXT NOT NULL,
    error TEXT NOT NULL DEFAULT '',
    method TEXT NOT NULL,
    path BYTEA NOT NULL,
    headers BYTEA NOT NULL,
    body BYTEA NOT NULL
);
CREATE INDEX outbox_events_due ON outbox_events (target, due_at, id) WHERE due_at IS NOT NULL AND NOT blocked;
CREATE INDEX outbox_events_pending ON outbox_events (created_at, due_at) WHERE NOT published;
CREATE INDEX outbox_events_order ON outbox_events (order_key, created_at, id)
    WHERE order_key IS NOT NULL AND due_at IS NOT NULL;
CREATE INDEX outbox_events_under_way ON outbox_events (order_key) WHERE order_key IS NOT NULL AND owner <> '';
CREATE INDEX outbox_events_ended ON outbox_events (state, ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX outbox_events_range ON outbox_events (state, created_at, id) WHERE due_at IS NULL;
