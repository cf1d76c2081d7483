-- One record for each idempotency key that was claimed. `id` is the SHA-256 of route, client or tenant, and key.
-- state: running, finished, unknown. `content` is the SHA-256 of what the first request asked for, once it is known.
-- `head` and `body` are the answer that is repeated; `whole` is false where only its status was kept.
CREATE TABLE idempotency_records (
    id BYTEA PRIMARY KEY,
    route TEXT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    fence BIGINT NOT NULL,
    lease_until DOUBLE PRECISION NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL,
    size BIGINT NOT NULL DEFAULT 0,
    status BIGINT NOT NULL DEFAULT 0,
    whole BOOLEAN NOT NULL DEFAULT FALSE,
    content BYTEA,
    head BYTEA,
    body BYTEA
);
CREATE INDEX idempotency_records_expires ON idempotency_records (expires_at);
CREATE INDEX idempotency_records_created ON idempotency_records (created_at);
