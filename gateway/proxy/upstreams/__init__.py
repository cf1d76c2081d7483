"""The upstreams with their endpoints: load, health, faults on demand and certificates."""
