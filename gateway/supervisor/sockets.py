"""The listening sockets of the service. The supervisor opens them, and they outlive every worker.

Each worker has sockets of its own (SO_REUSEPORT), so that the kernel spreads new connections over the workers. Closing
such a socket drops the connections that the kernel has already queued on it; a socket that is handed on to the next
worker loses none. When there are fewer workers than before, the sockets that are left over go to those that stay.

A socket is bound when its worker is started, and listens when the worker is ready: a client that is connected before
would wait, and what was opened for workers that do not come would take the connections along.

A port that another program listens on must be an error although SO_REUSEPORT would share it with a program of the same
user. So each address is bound once without it first, which fails while anybody listens there.

With socket activation (systemd's `LISTEN_FDS`, sd_listen_fds(3)) the sockets are given, and all workers share them.
"""

import contextlib
import socket
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Final

from gateway.ipc.socket_purposes import ADMIN, LISTENER
from gateway.syntax import hosts

BACKLOG: Final = 4096
FIRST_GIVEN: Final = 3

Address = tuple[str, int]
Addresses = Mapping[str, Address]
"""By purpose (`gateway.ipc.socket_purposes`)."""


class GivenUnusable(Exception):
    """A socket of the service manager is none that can be served on. The message is the reason, for the operator."""


class Sockets:
    """All listening sockets, by address and then by slot. In one slot there is a socket for each address that a host
    name stands for."""

    def __init__(self) -> None:
        self._bound: dict[Address, list[list[socket.socket]]] = {}
        self._given: dict[str, list[socket.socket]] = {}
        self._purposes: dict[str, Address] = {}

    def take_given(self, environ: MutableMapping[str, str], pid: int) -> None:
        """Take the sockets that the service manager has opened, if there are any for this process. A socket that is
        named `admin` is for the control plane's own port, all others are for requests. Raises `GivenUnusable`."""
        count = environ.pop("LISTEN_FDS", "")
        meant = environ.pop("LISTEN_PID", "") == str(pid)
        given_names = environ.pop("LISTEN_FDNAMES", "").split(":")
        if not meant or not count:
            return
        if not (count.isascii() and count.isdigit()):
            raise GivenUnusable(f"LISTEN_FDS is no number of sockets: {count!r}")
        for at in range(int(count)):
            sock = _given(FIRST_GIVEN + at)
            sock.setblocking(False)
            sock.set_inheritable(False)
            purpose = ADMIN if given_names[at : at + 1] == [ADMIN] else LISTENER
            self._given.setdefault(purpose, []).append(sock)

    @property
    def addresses(self) -> dict[str, Address]:
        """What is listened on now, by purpose."""
        return dict(self._purposes)

    @property
    def lasting(self) -> list[str]:
        """The purposes whose sockets the service manager keeps: they must be as they were when the gateway ends."""
        return list(self._given)

    def arrange(self, addresses: Addresses, slots: int) -> "Arrangement":
        """Have sockets for these addresses in that many slots. Those that exist stay as they are, the others do not
        listen yet.

        Raises OSError with the address as its `filename`; then nothing has changed.
        """
        opened: list[tuple[Address, list[socket.socket]]] = []
        for purpose, address in addresses.items():
            if purpose in self._given:
                continue
            there = len(self._bound.get(address, ()))
            try:
                if not there:
                    _require_free(*address)
                # One after the other, so that those which were opened before one fails are known.
                opened.extend((address, _open(*address)) for _ in range(slots - there))
            except OSError as error:
                for _, sockets in opened:
                    _close(sockets)
                raise _named(error, address) from error
        for address, sockets in opened:
            self._bound.setdefault(address, []).append(sockets)
        return Arrangement(self, dict(addresses), opened)

    def of(self, addresses: Addresses, slot: int, slots: int) -> dict[str, list[socket.socket]]:
        """The sockets by purpose for the worker in `slot` (from 0) of that many: its own, and a share of those that
        are left over from when there were more workers."""
        found = {}
        for purpose, address in addresses.items():
            if purpose in self._given:
                found[purpose] = self._given[purpose]
                continue
            sets = self._bound[address]
            found[purpose] = [sock for at in range(slot, len(sets), slots) for sock in sets[at]]
        return found

    def own(self, addresses: Addresses, slot: int, slots: int) -> dict[str, list[socket.socket]]:
        """Those of `of` on which no other worker listens: all but the given ones."""
        found = self.of(addresses, slot, slots)
        return {purpose: sockets for purpose, sockets in found.items() if purpose not in self._given}

    def settle(self, addresses: Addresses) -> None:
        """Keep these addresses only."""
        self._purposes = dict(addresses)
        for address in [each for each in self._bound if each not in addresses.values()]:
            for sockets in self._bound.pop(address):
                _close(sockets)

    def withdraw(self, opened: Iterable[tuple[Address, list[socket.socket]]]) -> None:
        """Close sockets that were opened for an arrangement that did not come to be."""
        for address, sockets in opened:
            sets = self._bound[address]
            sets.remove(sockets)
            if not sets:
                del self._bound[address]
            _close(sockets)

    def close(self) -> None:
        """Close all of them. Connections that nobody has accepted are reset."""
        for sets in self._bound.values():
            for sockets in sets:
                _close(sockets)
        for sockets in self._given.values():
            _close(sockets)
        self._bound.clear()
        self._given.clear()

    def dump(self) -> dict[str, object]:
        """Their descriptors as plain data, for this process after an exec. They stay open over it."""
        bound = [
            [host, port, [[sock.fileno() for sock in sockets] for sockets in sets]]
            for (host, port), sets in self._bound.items()
        ]
        given = {purpose: [sock.fileno() for sock in sockets] for purpose, sockets in self._given.items()}
        for sock in self._all():
            sock.set_inheritable(True)
        return {"bound": bound, "given": given, "purposes": {key: list(value) for key, value in self.addresses.items()}}

    @classmethod
    def restored(cls, dumped: Mapping[str, object]) -> "Sockets":
        """The sockets whose descriptors were dumped."""
        sockets = cls()
        bound, given, purposes = dumped["bound"], dumped["given"], dumped["purposes"]
        assert isinstance(bound, list)  # noqa: S101 - our own dump
        assert isinstance(given, dict)  # noqa: S101
        assert isinstance(purposes, dict)  # noqa: S101
        for host, port, sets in bound:
            sockets._bound[host, port] = [[socket.socket(fileno=fd) for fd in fds] for fds in sets]
        for purpose, fds in given.items():
            sockets._given[purpose] = [socket.socket(fileno=fd) for fd in fds]
        sockets._purposes = {purpose: (host, port) for purpose, (host, port) in purposes.items()}
        for sock in sockets._all():
            sock.set_inheritable(False)
        return sockets

    def _all(self) -> list[socket.socket]:
        bound = [sock for sets in self._bound.values() for sockets in sets for sock in sockets]
        return bound + [sock for sockets in self._given.values() for sock in sockets]


class Arrangement:
    """Sockets for workers that are being started: to be settled when they serve, or withdrawn when they do not."""

    def __init__(
        self, sockets: Sockets, addresses: dict[str, Address], opened: list[tuple[Address, list[socket.socket]]]
    ) -> None:
        self.addresses = addresses
        self._sockets = sockets
        self._opened = opened

    def listen(self) -> None:
        """The new workers are ready: the kernel may accept for them. Raises OSError with the address as its `filename`
        when another program listens there by now."""
        for address, sockets in self._opened:
            try:
                for sock in sockets:
                    sock.listen(BACKLOG)
            except OSError as error:
                raise _named(error, address) from error

    def settle(self) -> None:
        """The new workers serve; addresses that nobody needs any more are closed."""
        self._sockets.settle(self.addresses)

    def withdraw(self) -> None:
        """The new workers do not come: close what was opened for them."""
        self._sockets.withdraw(self._opened)


def _require_free(host: str, port: int) -> None:
    """Raise OSError if anybody listens at the address."""
    for family, address, dual in _places(host, port):
        with _bound(family, address, dual=dual, shared=False):
            pass


def _given(number: int) -> socket.socket:
    """The socket with this descriptor, for TCP and with a port of its own. Raises `GivenUnusable`."""
    try:
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise GivenUnusable(
            f"LISTEN_FDS: descriptor {number} is no socket that can be used: {error.strerror}"
        ) from error
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise GivenUnusable(f"LISTEN_FDS: descriptor {number} is no socket for TCP (ListenStream= with a port)")
    why = _cannot_listen(sock)
    if why:
        sock.detach()
        raise GivenUnusable(f"LISTEN_FDS: descriptor {number} cannot listen: {why}")
    return sock


def _cannot_listen(sock: socket.socket) -> str:
    """Why nobody could connect to it, empty where somebody can. To listen would not fail: the kernel chooses a port."""
    if not sock.getsockname()[1]:
        return "it has no port"
    try:
        sock.getpeername()
    except OSError:
        return ""
    return "it is a connection (Accept=no is needed)"


def _named(error: OSError, address: Address) -> OSError:
    """With the address as its `filename`."""
    host, port = address
    return OSError(error.errno, error.strerror, hosts.written(host or "*", port))


def _open(host: str, port: int) -> list[socket.socket]:
    """Bound sockets. An empty host is every address of both families. Raises OSError."""
    sockets: list[socket.socket] = []
    try:
        for family, address, dual in _places(host, port):
            sockets.append(_bound(family, address, dual=dual, shared=True))
    except OSError:
        _close(sockets)
        raise
    return sockets


def _places(host: str, port: int) -> list[tuple[int, Address, bool]]:
    """Family, address, and whether one socket takes both families."""
    if not host:
        if socket.has_dualstack_ipv6():
            return [(socket.AF_INET6, ("::", port), True)]
        return [(socket.AF_INET, ("0.0.0.0", port), False)]  # noqa: S104 - what an empty host asks for
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    places = dict.fromkeys((int(family), (str(address[0]), int(address[1]))) for family, _, _, _, address in found)
    return [(family, address, False) for family, address in places]


def _bound(family: int, address: Address, *, dual: bool, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared and hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind(address)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        with contextlib.suppress(OSError):
            sock.close()
