"""From a configuration to everything that runs in one process.

`gateway.py` puts the whole together, and `lifecycle.py` starts, drains and stops it. Each other module makes one part,
and starts nothing.
"""
