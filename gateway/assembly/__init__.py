"""From a configuration to everything that runs in one process.

`gateway.assembly.gateway` puts the whole together; each other module makes one part of it. Nothing is started here.
"""
