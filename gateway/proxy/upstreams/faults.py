"""The faults of one upstream at the moment, as its attempts meet them (`gateway.proxy.forward.faulty`).

`Upstream.faults` is None while there are none, so that an attempt then costs one look at an attribute.
"""

import random
import re
import zlib
from collections.abc import Sequence
from typing import Final

from gateway.fleet.faults import Active
from gateway.fleet.link import Link
from gateway.policy.faults import Cap, Fault, FaultKind, Strikes
from gateway.proxy.ticket import Ticket

_SLICES: Final = 10_000
_LINES: Final = re.MULTILINE | re.IGNORECASE


class FaultCounts:
    """Attempts that were struck, by upstream and kind."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[tuple[str, FaultKind], int] = {}

    def add(self, upstream: str, kind: FaultKind) -> None:
        """One more."""
        self.counts[upstream, kind] = self.counts.get((upstream, kind), 0) + 1


class Armed:
    """One fault, ready to strike. `line` is what an answer that it has touched is marked with: `Proxy-Status` (RFC
    9209), whose `details` name the fault."""

    __slots__ = ("_field", "_strikes", "fault", "line", "until")

    def __init__(self, fault: Fault, until: float, via_name: str, rng: random.Random) -> None:
        self.fault = fault
        self.until = until
        self.line = f'Proxy-Status: {via_name}; details="fault {fault.name}"\r\n'.encode()
        self._strikes = Strikes(fault.percent, rng)
        self._field = re.compile(rb"^%b:[ \t]*([^\r\n]*)" % re.escape(fault.header.encode()), _LINES)

    def strikes(self, ticket: Ticket, endpoint: str, now: float) -> bool:
        """Whether an attempt for this request is struck. Only those that the fault is for are counted."""
        fault = self.fault
        if now >= self.until or (fault.route and fault.route != ticket.account.name):
            return False
        if (fault.endpoint and fault.endpoint != endpoint) or (fault.header and not self._picks(ticket)):
            return False
        return self._strikes.strikes()

    def _picks(self, ticket: Ticket) -> bool:
        """Whether the client is one of those that it is for. The same ones as long as the fault lasts, everywhere."""
        found = self._field.search(ticket.request.fields.lines)
        if found is None:
            return False
        place = zlib.crc32(self.fault.id.encode() + b" " + found[1].strip()) % _SLICES
        return place < self.fault.clients * _SLICES / 100


class UpstreamFaults:
    """What the attempts at one upstream meet. Together the faults strike no more than `most_percent` of them, and none
    while the store is away. An attempt is struck by one fault at most."""

    __slots__ = ("_armed", "_cap", "_counts", "_link", "_rng", "_via_name")

    def __init__(self, link: Link, most_percent: float, via_name: str, counts: FaultCounts, rng: random.Random) -> None:
        self._link = link
        self._cap = Cap(most_percent)
        self._via_name = via_name
        self._counts = counts
        self._rng = rng
        self._armed: list[Armed] = []

    def __repr__(self) -> str:
        return f"<UpstreamFaults {' '.join(each.fault.name for each in self._armed)}>"

    @property
    def met(self) -> list[Fault]:
        """The faults that attempts may meet now."""
        return [each.fault for each in self._armed] if self._link.up else []

    def set(self, active: Sequence[Active]) -> None:
        """These are the faults from now on. One that goes on keeps its count of attempts."""
        known = {each.fault: each for each in self._armed}
        self._armed = []
        for fault, until, _ in active:
            armed = known.get(fault)
            if armed is None:
                armed = Armed(fault, until, self._via_name, self._rng)
            armed.until = until
            self._armed.append(armed)

    def strike(self, ticket: Ticket, endpoint: str, now: float) -> Armed | None:
        """The fault that strikes an attempt, None for none."""
        if not self._link.up:
            return None
        self._cap.seen()
        for each in self._armed:
            if each.strikes(ticket, endpoint, now) and self._cap.take():
                return each
        return None

    def injected(self, fault: Fault) -> None:
        """An attempt has met the fault."""
        self._counts.add(fault.upstream, fault.kind)
