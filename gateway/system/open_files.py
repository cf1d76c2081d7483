"""The limit of open files (`ulimit -n`), and what it leaves of the connections that were configured."""

import contextlib
import logging
import resource

# What is open besides the connections of clients and to upstreams: Redis, logs, connections that wait for a place.
_OTHER_FILES = 256

log = logging.getLogger("gateway")


def connections_that_fit(max_connections: int, outgoing: int) -> tuple[int, int]:
    """How many client connections there is room for, at most `max_connections`, and how many more may wait for a place.
    Raises the limit as far as it goes.

    There are at most `outgoing` connections to upstreams, idle ones included. Clients get what those leave, or half of
    the room if that is more: then a connection may find no file (`gateway.wire.client.pool.ConnectFailure.LOCAL`).
    """
    limit = _raised(max_connections + outgoing + _OTHER_FILES)
    other = min(_OTHER_FILES, limit // 2)
    room = limit - other
    fitting = min(max_connections, max(1, room - outgoing, room // 2))
    if fitting < max_connections:
        log.info(
            "at most %d client connections, as no more than %d files may be open (ulimit -n); MAX_CONNECTIONS is %d",
            *(fitting, limit, max_connections),
        )
    return fitting, max(1, other // 2)


def _raised(wanted: int) -> int:
    """The limit of open files, raised as far as may be: at least `wanted`, or all there is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    # "Unlimited" may be refused, and then mean no more than OPEN_MAX (macOS).
    for limit in (wanted, 10_240) if hard == resource.RLIM_INFINITY else (hard,):
        if limit > soft:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
                return limit
    return soft
