"""The store port over the channel to the supervisor: what Redis is to the replicas of many hosts, for the workers of
one.

A call ends within its time limit, with an answer or `StoreUnavailable`; `gateway.policy.time_limit` says how the limit
follows what the supervisor usually takes. `take` and `sync` are patient (see `gateway.store.port`). A channel that is
lost stays lost: the supervisor is gone, and every call fails at once.
"""

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from gateway.alarm import Alarm
from gateway.ipc.channel import CallFailed, Channel, ChannelLost
from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.faults import Fault
from gateway.policy.lease.ask import Ask, Grant
from gateway.policy.outcome import Outcome
from gateway.policy.time_limit import TimeLimit
from gateway.store.faults import ChaosKey, ChaosSetting, SharedFault, fault_of, plain
from gateway.store.port import (
    CircuitReport,
    CircuitSnapshot,
    EndpointOut,
    FigureDelta,
    FigureSum,
    ProbeLease,
    StoreUnavailable,
    SyncAnswer,
)
from gateway.store.served import encoding

LEAST: Final = 0.25
MOST: Final = 0.5
"""The time limit follows what the supervisor usually takes, within these. The least is longer than that of Redis: a
supervisor that is gone is noticed by its channel, at once, so what is late here is mostly a machine that is busy. To go
on without the store then would cost the exactness of limits and save nothing."""
PATIENCE: Final = 1.0
FIGURES_LIMIT: Final = 0.5
MOST_SUMMED: Final = 16
"""Services in one call, so that the supervisor serves others in between."""


class _Calls:
    """Calls over one channel, bounded and translated."""

    def __init__(self, channel: Channel, least: float, most: float) -> None:
        self._channel = channel
        self.limit = TimeLimit(least, most)
        self._closed = False

    async def ask(self, operation: str, body: Any = None, *, patient: bool = False) -> Any:
        """The answer of the supervisor. Raises only `StoreUnavailable`."""
        if self._closed:
            raise StoreUnavailable("the embedded store is closed")
        bound = max(PATIENCE, self.limit.seconds) if patient else self.limit.seconds
        started = time.monotonic()
        answer = self._channel.call(operation, body)
        alarm = Alarm(asyncio.get_running_loop(), bound, partial(_give_up, answer))
        try:
            found = await answer
        except ChannelLost as exc:
            raise StoreUnavailable("the supervisor is gone") from exc
        except CallFailed as exc:
            raise StoreUnavailable("the embedded store has refused a call") from exc
        except TimeoutError as exc:
            raise StoreUnavailable(f"the embedded store did not answer within {bound * 1000:.0f} ms") from exc
        finally:
            alarm.cancel()
        self.limit.record(time.monotonic() - started)
        return found

    def close(self) -> None:
        """Later calls fail. The channel is not closed: it belongs to the worker."""
        self._closed = True


def _give_up(answer: "asyncio.Future[Any]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


class ServedStore:
    """The store port for the replica at this end of the channel. Raises only `StoreUnavailable`."""

    def __init__(self, channel: Channel, least: float = LEAST, most: float = MOST) -> None:
        self._calls = _Calls(channel, least, most)
        self._ask = self._calls.ask
        self._tokens = itertools.count(1)
        # A replica that begins anew under the same name must not take the leases of its former life for its own.
        self._life = uuid.uuid4().hex[:8]
        self._unanswered: list[tuple[str, str]] = []

    @property
    def time_limit(self) -> float:
        """See `Store.time_limit`."""
        return self._calls.limit.seconds

    async def take(self, asks: Sequence[Ask]) -> Sequence[Grant]:
        """See `Store.take`."""
        return encoding.grants_of(await self._ask("take", encoding.asks_body(asks), patient=True))

    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer:
        """See `Store.sync`."""
        # A lease whose answer did not come in time may have been granted all the same, and nobody uses it.
        given_back = self._unanswered[:]
        rows = [encoding.report_row(report) for report in reports]
        replicas, version, epoch, snapshots = await self._ask("sync", (rows, given_back), patient=True)
        del self._unanswered[: len(given_back)]
        return SyncAnswer(replicas, tuple(map(encoding.snapshot_of, snapshots)), version, epoch)

    async def lease_probe(
        self, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot:
        """See `Store.lease_probe`."""
        token = f"{self._life}/{next(self._tokens)}"
        try:
            answer = await self._ask("lease_probe", (upstream, encoding.settings_row(settings), lease_time, token))
        except StoreUnavailable:
            self._unanswered.append((upstream, token))
            raise
        return ProbeLease(upstream, answer[0], token) if len(answer) == 1 else encoding.snapshot_of(answer)

    async def settle_probe(
        self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome, reached: bool = True
    ) -> CircuitSnapshot:
        """See `Store.settle_probe`."""
        body = (lease.upstream, lease.generation, lease.token, encoding.settings_row(settings), outcome.value, reached)
        try:
            return encoding.snapshot_of(await self._ask("settle_probe", body))
        except StoreUnavailable:
            self._unanswered.append((lease.upstream, lease.token))
            raise

    async def force(self, upstream: str, state: CircuitState | None, duration: float, cause: str) -> CircuitSnapshot:
        """See `Store.force`."""
        word = None if state is None else state.value
        return encoding.snapshot_of(await self._ask("force", (upstream, word, duration, cause)))

    async def reset(self, upstream: str) -> None:
        """See `Store.reset`."""
        await self._ask("reset", upstream)

    async def take_out(self, out: EndpointOut) -> None:
        """See `Store.take_out`."""
        await self._ask("take_out", tuple(out))

    async def bring_back(self, upstream: str, endpoint: str) -> bool:
        """See `Store.bring_back`."""
        return bool(await self._ask("bring_back", (upstream, endpoint)))

    async def endpoints_out(self) -> Sequence[EndpointOut]:
        """See `Store.endpoints_out`."""
        return [EndpointOut(*row) for row in await self._ask("endpoints_out")]

    async def add_usage(self, day: str, sequence: int, used: Mapping[str, int]) -> Mapping[str, int]:
        """See `UsageStore.add_usage`."""
        sums: dict[str, int] = await self._ask("add_usage", (day, sequence, used), patient=True)
        return sums

    async def add_fault(self, fault: Fault, duration: float, lease: float) -> str:
        """See `FaultStore.add_fault`."""
        return str(await self._ask("add_fault", (plain(fault), duration, lease)))

    async def renew_faults(self, ids: Sequence[str], lease: float) -> None:
        """See `FaultStore.renew_faults`."""
        await self._ask("renew_faults", (ids, lease))

    async def drop_faults(self, ids: Sequence[str] | None) -> int:
        """See `FaultStore.drop_faults`."""
        return int(await self._ask("drop_faults", ids))

    async def faults(self) -> Sequence[SharedFault]:
        """See `FaultStore.faults`."""
        rows = [(fault_of(data), left, lease) for data, left, lease in await self._ask("faults", patient=True)]
        return [SharedFault(fault, left, lease) for fault, left, lease in rows if fault is not None]

    async def chaos(self, upstreams: Sequence[str], most: float) -> Sequence[ChaosKey]:
        """See `FaultStore.chaos`: there are no keys without Redis."""
        return ()

    async def drop_chaos(self, keys: Sequence[tuple[str, ChaosSetting]]) -> int:
        """See `FaultStore.drop_chaos`: there are no keys without Redis."""
        return 0

    async def close(self) -> None:
        """Leave the fleet, as far as the supervisor can be told so."""
        with contextlib.suppress(StoreUnavailable):
            await self._ask("leave")
        self._calls.close()


class ServedFigures:
    """The figures part of the store port. No request waits for a figure, so its time limit is longer."""

    def __init__(self, channel: Channel) -> None:
        self._calls = _Calls(channel, FIGURES_LIMIT, FIGURES_LIMIT)
        self._ask = self._calls.ask

    async def add_figures(self, deltas: Sequence[FigureDelta]) -> dict[str, int]:
        """See `FigureStore.add_figures`."""
        found: dict[str, int] = await self._ask("add_figures", [delta[:] for delta in deltas])
        return found

    async def sum_figures(self, services: Sequence[str], window: float, width: int) -> Sequence[FigureSum]:
        """See `FigureStore.sum_figures`."""
        found: list[FigureSum] = []
        for start in range(0, len(services), MOST_SUMMED):
            rows = await self._ask("sum_figures", (services[start : start + MOST_SUMMED], window, width))
            found += [FigureSum(tuple(counts), last) for counts, last in rows]
        return found

    async def reset_figures(self, service: str) -> None:
        """See `FigureStore.reset_figures`."""
        await self._ask("reset_figures", service)

    async def add_records(self, records: Sequence[bytes], keep: int) -> None:
        """See `FigureStore.add_records`."""
        await self._ask("add_records", ([record.decode() for record in records], keep))

    async def records(self, count: int) -> Sequence[bytes]:
        """See `FigureStore.records`."""
        return [record.encode() for record in await self._ask("records", count)]

    async def close(self) -> None:
        """See `FigureStore.close`."""
        self._calls.close()
