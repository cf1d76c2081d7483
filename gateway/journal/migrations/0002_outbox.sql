-- One row for each message that is to reach its target. state: queued, sending, delivered, dead.
-- `published` is true once it was delivered. A message is due when `due_at` has come; null when nothing more is done.
-- Of those with one `order_key` (target included) one at a time is sent, in the order of their ids, which grow.
CREATE TABLE outbox_events (
    id TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    published BOOLEAN NOT NULL DEFAULT FALSE,
    order_key TEXT,
    method TEXT NOT NULL,
    path BYTEA NOT NULL,
    headers BYTEA NOT NULL,
    body BYTEA NOT NULL,
    size BIGINT NOT NULL,
    correlation_id TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    status BIGINT NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    owner TEXT NOT NULL DEFAULT '',
    fence BIGINT NOT NULL DEFAULT 0,
    lease_until DOUBLE PRECISION NOT NULL DEFAULT 0,
    due_at DOUBLE PRECISION,
    created_at DOUBLE PRECISION NOT NULL,
    ended_at DOUBLE PRECISION
);
CREATE INDEX outbox_events_due ON outbox_events (target, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_events_pending ON outbox_events (created_at) WHERE NOT published;
CREATE INDEX outbox_events_order ON outbox_events (order_key, id) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_events_ended ON outbox_events (ended_at) WHERE ended_at IS NOT NULL;
