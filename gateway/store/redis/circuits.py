"""Circuits shared through Redis, one hash each (`lua/circuit_ops/` says what is in it and decides everything).

`{prefix}:circuit-breaker` is the circuit of the upstream `default`, `{prefix}:circuit-breaker:{upstream}` that of any
other, `{prefix}:replicas` the list of live replicas.

No call touches two keys, so Redis Cluster may keep them on different nodes. The price is a second exchange after a
transition, which tells the other replicas about it at once. After a `sync` that is the next `sync`, which its answer
asks for: two exchanges in one call would take a Redis that is far away longer than the time limit of the call. When a
replica dies between the two, the others notice the transition with their next full reading, half a second later at
most.
"""

import itertools
import uuid
from collections.abc import Sequence
from typing import Any

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.outcome import Outcome
from gateway.store.port import CircuitReport, CircuitSnapshot, ProbeLease, StoreUnavailable, SyncAnswer
from gateway.store.redis.client import Arg, RedisClient, script

DEFAULT_UPSTREAM = "default"


def _keep(settings: BreakerSettings) -> int:
    """The seconds for which a circuit is kept after the last replica has looked at it.

    That is longer than anything in it can matter: when the key expires, an open circuit's own time is over as well.
    """
    return int(120 + 2 * settings.reset_timeout + settings.window_seconds)


class RedisCircuits:
    """The circuit part of the store port, for one replica. Raises only `StoreUnavailable`."""

    def __init__(self, client: RedisClient, prefix: str, replica: str) -> None:
        self._client = client
        self._prefix = prefix
        self._replica = replica
        self._replicas_key = f"{prefix}:replicas"
        self._script = script("circuit_ops")
        self._tokens = itertools.count(1)
        # A replica that was restarted under the same name must not take the leases of its former life for its own.
        self._life = uuid.uuid4().hex[:8]
        self._unanswered: list[tuple[str, str]] = []
        # Whether the other replicas have still to be told of what the last `sync` changed.
        self._untold = False

    def key(self, upstream: str) -> str:
        """The key of an upstream's circuit."""
        name = f"{self._prefix}:circuit-breaker"
        return name if upstream == DEFAULT_UPSTREAM else f"{name}:{upstream}"

    @property
    def time_limit(self) -> float:
        """See `Store.time_limit`."""
        return self._client.time_limit

    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer:
        """See `Store.sync`."""
        beat = ("beat", self._replica, int(self._untold))
        calls: list[tuple[Sequence[str], Sequence[Arg]]] = [((self._replicas_key,), beat)]
        calls += [((self.key(report.upstream),), self._arguments(report)) for report in reports]
        # A lease that was asked for while Redis hung may be granted when Redis wakes up, and then nobody uses it. Like
        # a lease whose outcome could not be told, it would keep the next probe waiting until it lapses.
        given_back = self._unanswered[:]
        for upstream, token in given_back:
            calls.append(((self.key(upstream),), ("settle", token, 0, Outcome.IGNORED.value, 0, 0, 120)))
        if len(calls) == 1:
            # This is what an idle replica mostly sends, and it is much cheaper than a pipeline with one call.
            replicas, version, epoch = await self._client.run(self._script, *calls[0], patient=True)
            self._untold = False
            return SyncAnswer(int(replicas), (), int(version), int(epoch))
        (replicas, version, epoch), *answers = await self._client.run_many(self._script, calls, patient=True)
        self._untold = any(answer[6] for answer in answers)
        del self._unanswered[: len(given_back)], answers[len(reports) :]
        snapshots = tuple(_snapshot(report.upstream, answer) for report, answer in zip(reports, answers, strict=True))
        return SyncAnswer(int(replicas), snapshots, int(version), int(epoch), self._untold)

    async def lease_probe(
        self, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot:
        """See `Store.lease_probe`."""
        token = f"{self._replica}/{self._life}/{next(self._tokens)}"
        try:
            answer = await self._ask(
                upstream, "lease", token, lease_time, settings.half_open_max_probes, _keep(settings)
            )
        except StoreUnavailable:
            self._unanswered.append((upstream, token))
            raise
        return ProbeLease(upstream, int(answer[2]), token) if answer[7] else _snapshot(upstream, answer)

    async def settle_probe(
        self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome, reached: bool = True
    ) -> CircuitSnapshot:
        """See `Store.settle_probe`."""
        try:
            answer = await self._ask(
                lease.upstream,
                "settle",
                lease.token,
                lease.generation,
                outcome.value,
                settings.half_open_success_threshold,
                settings.reset_timeout,
                _keep(settings),
                int(reached),
            )
        except StoreUnavailable:
            self._unanswered.append((lease.upstream, lease.token))
            raise
        return _snapshot(lease.upstream, answer)

    async def force(self, upstream: str, state: CircuitState | None, duration: float, cause: str) -> CircuitSnapshot:
        """See `Store.force`."""
        word = "" if state is None else state.value
        answer = await self._ask(upstream, "force", word, duration, cause, self._replica)
        return _snapshot(upstream, answer)

    async def reset(self, upstream: str) -> None:
        """See `Store.reset`."""
        await self._client.run(self._script, (self.key(upstream),), ("reset",))
        await self.announce()

    async def announce(self) -> None:
        """Tell every replica that something has changed which it should look at."""
        await self._client.run(self._script, (self._replicas_key,), ("beat", self._replica, 1))

    async def leave(self) -> None:
        """Say that this replica stops, so that it no longer counts as alive."""
        await self._client.run(self._script, (self._replicas_key,), ("leave", self._replica))

    async def _ask(self, upstream: str, *arguments: Arg) -> Any:
        answer = await self._client.run(self._script, (self.key(upstream),), arguments)
        if answer[6]:
            await self.announce()
        return answer

    def _arguments(self, report: CircuitReport) -> Sequence[Arg]:
        settings = report.settings
        return (
            "report",
            self._replica,
            report.generation,
            _keep(settings),
            settings.failure_threshold,
            settings.failure_rate_threshold,
            int(settings.slow_call_threshold is not None),
            settings.slow_call_rate_threshold,
            settings.minimum_calls,
            settings.reset_timeout,
            report.calls,
            report.failures,
            report.slow_calls,
            -1 if report.success_age is None else report.success_age,
            int(report.answered),
            -1 if report.unreached_age is None else report.unreached_age,
            report.unreached,
            -1 if report.reachable is None else int(report.reachable),
            *report.failure_ages,
        )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _snapshot(upstream: str, answer: Any) -> CircuitSnapshot:
    known, state, generation, failures, retry_after, cause, _changed, flag = answer
    return CircuitSnapshot(
        upstream,
        bool(known),
        CircuitState(_text(state)),
        int(generation),
        int(failures),
        float(retry_after),
        _text(cause),
        bool(flag & 1),
        bool(flag & 2),
    )
