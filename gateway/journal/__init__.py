"""The journal: the one place that does not lose what the gateway has said yes to.

    operation   what is asked of it: steps of SQL, all of which happen or none (`port.py`)
    backends    `sqlite.py` (a file, for the workers of one host) and `postgresql.py` (for a fleet)
    schema      numbered files in `migrations/`, one for each step of each capability (`schema.py`)
    consumer    takes records that are due, and works on each of them (`consumer.py`)
    leases      who works on a record, until when; a late owner changes nothing (`leases.py`)

An operation is written once and runs on both backends, and the same conformance tests hold both to it. When the call
for an operation returns, its effect is durable: SQLite has synced the file, PostgreSQL has answered the commit.

What is kept belongs to the capabilities. Each has its own tables, its own migrations and a file of operations here.
Nothing on the path of a request touches the journal unless its route asks for it.
"""
