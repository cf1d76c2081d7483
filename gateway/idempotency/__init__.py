"""Idempotency keys: a request that is repeated with its key is carried out once, and answered twice.

After draft-ietf-httpapi-idempotency-key-header-07. The records are in the journal (`gateway.journal.idempotency`).
"""
