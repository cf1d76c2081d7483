"""Which Redis, from the `REDIS_*` variables: one server (URL or parts), sentinels, a cluster, or none.

Exactly one way may be used. Parts beside a URL must agree with what the URL says. A setting of a way that is not used
is a problem, because nothing would read it. A password without a server, for example, must not quietly mean the
embedded store.
"""

from typing import TypeVar

from gateway.config.building.file_checks import check_authorities
from gateway.config.building.place import Place
from gateway.config.declaring import addresses
from gateway.config.problems import shown
from gateway.config.sections.redis.model import RedisConfig
from gateway.config.sections.redis.settings import Redis

_Value = TypeVar("_Value")

_WAYS = ("url", "host", "sentinels", "cluster_nodes")
_SENTINEL_ONLY = ("master_name", "sentinel_username", "sentinel_password")
_UNREAD = {
    None: ("port", "db", "username", "password", "tls", "tls_ca_file", *_SENTINEL_ONLY),
    "url": _SENTINEL_ONLY,
    "host": _SENTINEL_ONLY,
    "sentinels": ("port",),
    "cluster_nodes": ("port", "db", *_SENTINEL_ONLY),
}
_NEEDS_A_WAY = "only with one of REDIS_URL, REDIS_HOST, REDIS_SENTINELS, REDIS_CLUSTER_NODES"


def redis_config(redis: Redis, place: Place) -> RedisConfig | None:
    """The domain type, or None for the embedded store. Problems go to `place`."""
    ways = [way for way in _WAYS if getattr(redis, way)]
    stated = addresses.redis_url(redis.url) if redis.url else addresses.RedisUrl()
    if stated.host is not None and redis.host == stated.host:
        ways.remove("host")
    way = ways[0] if ways else None
    for other in ways[1:]:
        place.report((other,), getattr(redis, other), f"not together with {place.name((ways[0],))}")
    for unread in _UNREAD[way]:
        value = getattr(redis, unread)
        if value != Redis.model_fields[unread].default:
            place.report((unread,), value, _unread_reason(unread, way, place))

    port = _agreed(redis.port, stated.port, "port", redis, place)
    db = _agreed(redis.db, stated.db, "db", redis, place)
    username = _agreed(redis.username, stated.username, "username", redis, place)
    password = _agreed(redis.password, stated.password, "password", redis, place)
    tls = _agreed(redis.tls, stated.tls, "tls", redis, place)
    if username and not password:
        named = "username" if redis.username else "url"
        place.report((named,), getattr(redis, named), "a user only together with a password")
    if redis.sentinel_username and not redis.sentinel_password:
        place.report(("sentinel_username",), redis.sentinel_username, "only together with REDIS_SENTINEL_PASSWORD")
    if redis.tls_ca_file and way is not None and not tls:
        place.report(("tls_ca_file",), redis.tls_ca_file, "only with REDIS_TLS=true or a rediss:// URL")
    check_authorities(redis.tls_ca_file, ("tls_ca_file",), place)
    if way is None:
        return None
    if way == "sentinels" and redis.master_name is None:
        place.report(("sentinels",), redis.sentinels, "only together with REDIS_SENTINEL_MASTER")
    return RedisConfig(
        mode="sentinel" if way == "sentinels" else "cluster" if way == "cluster_nodes" else "single",
        addresses=_addresses(redis, stated.host or redis.host, port),
        db=db,
        username=username,
        password=password,
        tls=tls,
        tls_verify=redis.tls_verify,
        tls_ca_file=redis.tls_ca_file,
        master_name=redis.master_name,
        sentinel_username=redis.sentinel_username,
        sentinel_password=redis.sentinel_password,
        timeout=redis.timeout,
        timeout_max=max(redis.timeout, redis.timeout_max),
        key_prefix=redis.key_prefix,
    )


def _unread_reason(field: str, way: str | None, place: Place) -> str:
    if way is None:
        return _NEEDS_A_WAY
    if way == "cluster_nodes" and field == "db":
        return "0: a cluster has only that database"
    if field in _SENTINEL_ONLY:
        return "only together with REDIS_SENTINELS"
    return f"not together with {place.name((way,))}, which has its own ports"


def _agreed(own: _Value, in_url: _Value | None, part: str, redis: Redis, place: Place) -> _Value:
    """What the URL says of a part, else what the part's own variable says; they must not differ."""
    if in_url is None:
        return own
    if part in redis.model_fields_set and own != in_url:
        told = shown(in_url, secret=part == "password")
        place.report((part,), own, f"not other than what REDIS_URL says, which is {told}")
    return in_url


def _addresses(redis: Redis, host: str | None, port: int) -> tuple[tuple[str, int], ...]:
    if host is not None:
        return ((host, port),)
    default_port = 26379 if redis.sentinels else 6379
    return tuple(addresses.host_port(node, default_port, "") for node in redis.sentinels or redis.cluster_nodes)
