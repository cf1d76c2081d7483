"""Whose fault it is that a connection did not come about, or was lost: one table of errno, for whoever has to judge.

A fault of this host (`LOCAL`) says nothing about the upstream and is held against nobody: its circuit, its endpoints
and their health checks do not count it. A fault of the network counts as a failure without a connection, because it
may lie on either side; the other replicas are asked before it trips the fleet (gateway/store/memory/circuit.py). Only
what the peer itself did is the upstream's own fault.

The meanings are those of connect(2), ip(7) and tcp(7) of Linux:

- EADDRNOTAVAIL: every local port towards this address and port is taken. It also comes where the host has no address
  of the family at all, which `gateway.wire.client.connect` tells apart and reports as EAFNOSUPPORT.
- EACCES, EPERM: a rule of this host forbids it (a `prohibit` route, a packet filter, cgroup BPF). EINVAL comes from a
  `blackhole` route.
- EAFNOSUPPORT: this host does not have the family. It is a missing way, like ENETUNREACH: another address or endpoint
  may well be reached.
- ENETUNREACH, EHOSTUNREACH: no route here, or a router far away says that there is none. The two cannot be told apart.
- ECONNABORTED, EPIPE, ECONNRESET: the peer, or what stands in front of it, ended the connection.
"""

import errno
import socket
import ssl
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class Fault(Enum):
    """Who has to answer for a connection that did not come about or was lost."""

    LOCAL = "local"
    NETWORK = "network"
    UPSTREAM = "upstream"


LACKS: frozenset[int] = frozenset(
    {
        errno.EADDRINUSE,
        errno.EADDRNOTAVAIL,
        errno.EAGAIN,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOSR,
    }
)
"""This host has run out of something: what was tried meanwhile proves nothing about anybody."""

FAULTS: Final[Mapping[int, Fault]] = MappingProxyType(
    {
        **dict.fromkeys(LACKS, Fault.LOCAL),
        errno.EACCES: Fault.LOCAL,
        errno.EPERM: Fault.LOCAL,
        errno.EINVAL: Fault.LOCAL,
        errno.EAFNOSUPPORT: Fault.NETWORK,
        errno.EPROTONOSUPPORT: Fault.NETWORK,
        errno.EHOSTDOWN: Fault.NETWORK,
        errno.EHOSTUNREACH: Fault.NETWORK,
        errno.ENETDOWN: Fault.NETWORK,
        errno.ENETRESET: Fault.NETWORK,
        errno.ENETUNREACH: Fault.NETWORK,
        errno.ENONET: Fault.NETWORK,
        errno.EPROTO: Fault.NETWORK,
        errno.ETIMEDOUT: Fault.NETWORK,
        errno.ECONNABORTED: Fault.UPSTREAM,
        errno.ECONNREFUSED: Fault.UPSTREAM,
        errno.ECONNRESET: Fault.UPSTREAM,
        errno.ENOTCONN: Fault.UPSTREAM,
        errno.EPIPE: Fault.UPSTREAM,
        errno.ESHUTDOWN: Fault.UPSTREAM,
    }
)

_WHY: Final = {
    errno.EMFILE: "no more files may be open",
    errno.ENFILE: "no more files may be open on this host",
    errno.EADDRNOTAVAIL: "no local port is left",
    errno.EADDRINUSE: "no local port is left",
    errno.EAGAIN: "no local port is left",
    errno.ENOBUFS: "this host has no memory left for a connection",
    errno.ENOMEM: "this host has no memory left for a connection",
    errno.ENOSR: "this host has no memory left for a connection",
}


def fault_of(error: BaseException | None) -> Fault:
    """Whose fault `error` is. What is in no table is the network's: nobody is known to have done it."""
    if isinstance(error, ssl.SSLError):  # its errno is not of the system: 1 is no EPERM
        return Fault.UPSTREAM
    if isinstance(error, socket.gaierror):
        # A name that could not be looked up for want of a file is chained to what the system said.
        cause = error.__cause__
        lacking = isinstance(cause, OSError) and not isinstance(cause, socket.gaierror) and fault_of(cause)
        return Fault.LOCAL if lacking is Fault.LOCAL or _of_memory(error) or _of_memory(cause) else Fault.NETWORK
    if isinstance(error, MemoryError):
        return Fault.LOCAL
    number = error.errno if isinstance(error, OSError) else None
    return FAULTS.get(number, Fault.NETWORK) if number is not None else Fault.NETWORK


def why_not(error: BaseException) -> str:
    """What this host lacked or forbade, in words for a client; for an error whose fault is local."""
    cause = error.__cause__ if isinstance(error, socket.gaierror) and error.__cause__ is not None else error
    number = cause.errno if isinstance(cause, OSError) else errno.ENOMEM
    return _WHY.get(number or 0, "this host does not allow the connection")


def _of_memory(error: BaseException | None) -> bool:
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_MEMORY
