"""The figures of every service as the control plane serves them: the fleet's, or this process's while it is alone.

Reading asks the store, when it answers. This gateway's own counts are published first, so the answer
contains them; the counts of others are in it at most half a second later. While the store is away the figures are this
process's own and say so (`scope` "process").

    reset     forgets the counts of a service in the whole fleet and closes its circuit everywhere; the recent errors
              stay: they happened
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import orjson

from gateway.telemetry.services.cells import HORIZON
from gateway.telemetry.services.errors import ErrorLog, ErrorRecord
from gateway.telemetry.services.rates import DEFAULT_WINDOW, Rate, Scope, rate


class Shared(Protocol):
    """The fleet's side (`gateway.fleet.figures.FleetFigures`). None means that the store did not answer."""

    async def read(self, services: Sequence[str], window: float) -> Sequence[tuple[Sequence[int], float | None]] | None:
        """For each service the count vector of the last `window` seconds and the seconds since its last error."""
        ...

    async def recent(self, count: int) -> Sequence[bytes] | None:
        """At most that many records of the fleet, as they were published, the latest publications first."""
        ...

    async def reset(self, service: str) -> bool:
        """Forget the service's counts everywhere, here included. False: the store did not answer, nothing is
        forgotten."""
        ...


class Recent(NamedTuple):
    """Newest first."""

    records: list[ErrorRecord]
    scope: Scope


class ResetResult(NamedTuple):
    """Whether the figures were forgotten, and the circuit closed, everywhere (or only here)."""

    figures: Scope
    circuit: Scope


class Figures:
    """What the control plane asks. `services` are the upstreams and the gateway itself, in the order of `errors`.

    `close_circuit(upstream)` closes a circuit: True everywhere, False only here. Services are looked up by their exact
    names; KeyError for any other.
    """

    def __init__(
        self,
        errors: ErrorLog,
        shared: Shared,
        close_circuit: Callable[[str], Awaitable[bool]] | None = None,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.services = tuple(errors.cells)
        self._errors = errors
        self._shared = shared
        self._close_circuit = close_circuit
        self._clock = clock
        self._monotonic = monotonic

    async def rate(self, service: str, window: float = DEFAULT_WINDOW) -> Rate:
        """The figures of one service over the last `window` seconds (at most `rates.HORIZON`)."""
        return (await self._rates((service,), window))[0]

    async def rates(self, window: float = DEFAULT_WINDOW) -> dict[str, Rate]:
        """Of every service by name, in one exchange with the store."""
        return {each.service: each for each in await self._rates(self.services, window)}

    async def recent(self, count: int, service: str | None = None, client: str = "") -> Recent:
        """The latest `count` errors, newest first; of one service only if it is named, and of clients that have
        `client` in their name."""
        # What is wanted may be anywhere among all of them.
        published = await self._shared.recent(self._errors.capacity if service is not None or client else count)
        if published is not None:
            return Recent(_parsed(published, count, service, client), "fleet")
        return Recent(self._errors.recent(count, service, client), "process")

    async def reset(self, service: str) -> ResetResult:
        """Forget the figures of a service and close its circuit. The gateway's own name has no circuit to close."""
        cells = self._errors.cells[service]
        everywhere = await self._shared.reset(service)
        if not everywhere:
            cells.reset()
        closed = everywhere
        if self._close_circuit is not None and service in self._errors.upstreams:
            closed = await self._close_circuit(service)
        return ResetResult("fleet" if everywhere else "process", "fleet" if closed else "process")

    async def _rates(self, services: Sequence[str], window: float) -> list[Rate]:
        cells = [self._errors.cells[service] for service in services]
        window = min(window, HORIZON)
        answers = await self._shared.read(services, window)
        if answers is not None:
            return [
                rate(service, window, counts, self._instant(age), "fleet")
                for service, (counts, age) in zip(services, answers, strict=True)
            ]
        now = self._monotonic()
        return [
            rate(
                each.name,
                window,
                each.counts(window, now),
                self._instant(None if each.last_error_at is None else now - each.last_error_at),
                "process",
            )
            for each in cells
        ]

    def _instant(self, age: float | None) -> float | None:
        return None if age is None or age > HORIZON else self._clock() - age


class Records:
    """The records of this process in the form in which the fleet shares them. `replica` is unique in the fleet, so
    that a record that was sent twice counts once."""

    __slots__ = ("_errors", "_replica")

    def __init__(self, errors: ErrorLog, replica: str) -> None:
        self._errors = errors
        self._replica = replica

    @property
    def recorded(self) -> int:
        """How many records have been made since the start, those no longer kept included."""
        return self._errors.recorded

    def unpublished(self, after: int, most: int) -> list[bytes]:
        """The records that follow the first `after` ones, oldest first. If there are more than `most`, only the newest
        of them."""
        records = self._errors.since(after, most)
        first = self._errors.recorded - len(records) + 1
        return [orjson.dumps((f"{self._replica}/{first + i}", *record)) for i, record in enumerate(records)]


def _parsed(entries: Sequence[bytes], count: int, service: str | None, client: str) -> list[ErrorRecord]:
    found: dict[str, ErrorRecord] = {}
    for entry in entries:
        try:
            identity, *fields = orjson.loads(entry)
            record = ErrorRecord(*fields)
        except (ValueError, TypeError):
            continue  # It was published by another version of the gateway.
        if record.fits(service, client):
            found.setdefault(identity, record)
    return sorted(found.values(), key=lambda record: record.time, reverse=True)[:count]
