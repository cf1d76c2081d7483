"""The outbox: a request is kept in the journal, answered with 202, and reaches its target at least once.

The messages are in the journal (`gateway.journal.outbox`). The gate that takes them is `gateway.proxy.gates.deliver`;
`relay` sends them, signed as `signing` says.
"""
