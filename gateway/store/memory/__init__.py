"""The store in the memory of one process: the reference that the Redis store is held to, and the embedded store."""

from gateway.store.memory.store import MemoryStore, SharedMemory

__all__ = ["MemoryStore", "SharedMemory"]
