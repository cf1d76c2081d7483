"""The store in Redis: a single server, behind sentinels, or a cluster."""

from gateway.store.redis.store import RedisStore

__all__ = ["RedisStore"]
