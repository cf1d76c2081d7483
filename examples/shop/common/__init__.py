"""What the four services have in common: settings, database, HTTP, idempotency keys, chaos."""
