"""Every failed attempt and every refusal as a record: the latest in a ring, all of them in the cells of `rates`.

Where a failed attempt led to a refusal (`upstream_timeout` and the like), the attempt has a record and the refusal has
none. A refusal belongs to the upstream of its route, or to the gateway itself where it concerns none: no route, a
malformed request, a full gateway, a gateway that stops.

Recording costs about a microsecond and waits for nothing. On the way of a request that succeeds there is one cell.

A record has the client as limits count it, which only operators are told. Left out on purpose: paths and bodies. The
access log has paths under the same request id.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from gateway.reasons import GATEWAY_REASONS, UPSTREAM_REASONS
from gateway.telemetry.services.categories import category_of_reason
from gateway.telemetry.services.cells import ServiceCells

LIMIT_REASONS: Final = ("rate_limited", "overloaded", "bulkhead_full", "circuit_open")
"""What the policies refuse with: every upstream has a count of these from the start."""

_OF_CLIENTS: Final = frozenset({"client_closed", "bad_request"})


class ErrorRecord(NamedTuple):
    """`time` in seconds since the epoch. `status` is the upstream's or the refusal's, None when there was no answer.
    `attempt` counts from 1; 0 is a refusal before any. `counts` tells an error of the service (`rates.Rate.errors`)
    from a refusal with a 4xx status (`rates.Rate.refused`). `client` is empty where it is not known."""

    time: float
    request_id: str
    correlation_id: str
    service: str
    category: str
    reason: str
    status: int | None
    attempt: int
    message: str
    counts: bool
    client: str = ""

    def fits(self, service: str | None, client: str) -> bool:
        """Whether it is of this service, None for any, and of a client that has `client` in its name."""
        return (service is None or self.service == service) and client in self.client


class ErrorLog:
    """The records of this process, newest `capacity` of them. `service` is the gateway's own name.

    `on_record` is called with each one, at once, and must not wait (`log.files` has one that writes lines).
    """

    __slots__ = (
        "_clock",
        "_failures",
        "_kinds",
        "_monotonic",
        "_on_record",
        "_records",
        "cells",
        "recorded",
        "service",
        "upstreams",
    )

    def __init__(
        self,
        service: str,
        upstreams: Iterable[str],
        *,
        capacity: int = 1000,
        on_record: Callable[[ErrorRecord], None] | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        now = monotonic()
        self.service = service
        self.upstreams = tuple(upstreams)
        self.cells = {name: ServiceCells(name, now) for name in dict.fromkeys((*self.upstreams, service))}
        """Of every service by name; the gateway's own comes last unless an upstream has the same name."""
        self.recorded = 0
        """Records so far, those that have left the ring included."""
        self._kinds: dict[tuple[str, str, int], Kind] = {}
        self._failures: dict[tuple[str, str, str], tuple[int, str]] = {}
        # As they come, with the ids as bytes. Only a record that is looked at becomes an `ErrorRecord`.
        self._records: deque[_Raw] = deque(maxlen=capacity)
        self._on_record = on_record
        self._clock = clock
        self._monotonic = monotonic

    def __repr__(self) -> str:
        return f"<ErrorLog {len(self._records)} of {self.recorded} records>"

    @property
    def capacity(self) -> int:
        """How many records are kept."""
        return self._records.maxlen or 0

    def attempt_failed(
        self,
        service: str,
        category: str,
        reason: str,
        status: int | None,
        attempt: int,
        request_id: bytes,
        correlation_id: bytes,
        message: str,
        client: str = "",
    ) -> None:
        """One attempt at the upstream `service` came to nothing, or was answered with a 5xx."""
        self.cells[service].error(self._monotonic(), category)
        kind = service, category, reason
        known = self._failures.get(kind)
        self._failures[kind] = (known[0] + 1 if known is not None else 1), message
        told = (service, category, reason, status, attempt, True)
        self._keep((self._clock(), request_id, correlation_id, message, client, told))

    def kind(self, service: str, reason: str, status: int) -> "Kind":
        """What `refused` needs for refusals that answer in place of the upstream `service` ("": none)."""
        kind = self._kinds.get((service, reason, status))
        if kind is None:
            cells = self.cells[self.service if not service or reason in GATEWAY_REASONS else service]
            kind = self._kinds[service, reason, status] = Kind(cells, reason, status)
        return kind

    def refused(
        self,
        kind: "Kind",
        request_id: bytes,
        correlation_id: bytes,
        message: str,
        now: float,
        wall: float,
        client: str = "",
    ) -> None:
        """A request is over because the gateway answered it itself. Nothing is recorded where a failed attempt has a
        record already. `now` is monotonic, `wall` in seconds since the epoch. HOT."""
        if kind.told is None:
            kind.cells.failed_request(now)
            return
        if kind.failed:
            kind.cells.failed_refusal(now, kind.category)
        else:
            kind.cells.refusal(now, kind.category)
        kind.seen += 1
        # `_keep`, in place: one call less for each refusal.
        raw = wall, request_id, correlation_id, message, client, kind.told
        self.recorded += 1
        self._records.append(raw)
        if self._on_record is not None:
            self._on_record(_record(raw))

    def over(self, service: str, reason: str, failed: bool, now: float) -> None:
        """A request for `service` ("": none) is over. It was not refused, but it did not simply end well: it has a
        `reason` (`upstream_truncated`, `client_closed`, ...), or it `failed` with an answer that counts as a failure of
        the upstream. Requests that ended well go to `cells[service].request`."""
        cells = self.cells[self.service if not service or reason in GATEWAY_REASONS else service]
        if reason not in _OF_CLIENTS and (failed or reason == "upstream_truncated"):
            cells.failed_request(now)
        else:
            cells.request(now)

    def take_failures(self) -> dict[tuple[str, str, str], tuple[int, str]]:
        """How many attempts have failed since the last call, by service, category and reason, with the last message of
        each."""
        taken, self._failures = self._failures, {}
        return taken

    def take_refusals(self) -> Iterator[tuple[str, str, str, int]]:
        """Service, category, reason and number of the refusals with a 5xx status since the last call."""
        for kind in self._kinds.values():
            new, kind.taken = kind.seen - kind.taken, kind.seen
            if new and kind.told is not None and kind.told[5]:
                service, category, reason = kind.told[:3]
                yield service, category, reason, new

    def refusals(self) -> Iterator[tuple[tuple[str, str], int]]:
        """How many requests for each upstream ("": for none) the gateway has refused since the start, by reason. What
        led to a refusal after a failed attempt is not in it: it has been counted as that attempt."""
        counts = dict.fromkeys([(name, reason) for name in self.upstreams for reason in LIMIT_REASONS], 0)
        for (service, reason, _), kind in self._kinds.items():
            if kind.told is not None:
                counts[service, reason] = counts.get((service, reason), 0) + kind.seen
        yield from counts.items()

    def recent(self, count: int, service: str | None = None, client: str = "") -> list[ErrorRecord]:
        """At most `count` records, newest first; of one service only if it is named, and of clients that have `client`
        in their name."""
        newest = map(_record, reversed(self._records))
        return list(islice((each for each in newest if each.fits(service, client)), count))

    def since(self, recorded: int, most: int) -> list[ErrorRecord]:
        """The records that follow the first `recorded` ones, oldest first. If there are more than `most`, only the
        newest of them."""
        count = min(self.recorded - recorded, most)
        return self.recent(count)[::-1]

    def _keep(self, raw: "_Raw") -> None:
        self.recorded += 1
        self._records.append(raw)
        if self._on_record is not None:
            self._on_record(_record(raw))


# The fields of `ErrorRecord` from `service` on, without the message.
_Told = tuple[str, str, str, int | None, int, bool]
_Raw = tuple[float, bytes, bytes, str, str, _Told]


class Kind:
    """What all refusals of a service with one reason and status have in common. `failed` says that they count as
    failures. `told` is what their records have in common; it is None where the failed attempt before has the record.
    `seen` is the number of them, of which `take_refusals` has told `taken`."""

    __slots__ = ("category", "cells", "failed", "seen", "taken", "told")

    def __init__(self, cells: ServiceCells, reason: str, status: int) -> None:
        # A request that is not understood is its sender's failure, whatever the status says (501 among them).
        self.failed = failed = status >= 500 and reason != "bad_request"
        category = category_of_reason(reason)
        self.cells = cells
        self.category = category
        self.seen = self.taken = 0
        self.told = None if reason in UPSTREAM_REASONS else (cells.name, category, reason, status, 0, failed)


def _record(raw: _Raw) -> ErrorRecord:
    time, request_id, correlation_id, message, client, (service, category, reason, status, attempt, counts) = raw
    return ErrorRecord(
        time,
        request_id.decode("ascii", "backslashreplace"),
        correlation_id.decode("ascii", "backslashreplace"),
        service,
        category,
        reason,
        status,
        attempt,
        message,
        counts,
        client,
    )
