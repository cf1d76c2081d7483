"""Which calls of the store in Redis may answer late (see `gateway.store.port`)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.lease.ask import Ask
from gateway.policy.outcome import Outcome
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.port import CircuitReport, EndpointOut, ProbeLease, Store
from gateway.store.redis import RedisStore
from gateway.store.redis.buckets import RedisBuckets
from gateway.store.redis.circuits import RedisCircuits
from gateway.store.redis.client import Arg, RedisClient, Script
from gateway.store.redis.endpoints import RedisEndpoints

SETTINGS = BreakerSettings()
POLICY = RateLimitPolicy("default", 10, 1.0)
CHANGED = [1, b"half_open", b"7", 0, b"0", b"", 1, 1]
"""A circuit that the call has changed."""

ANSWERS: dict[str, Any] = {"beat": [1, 1, 1], "report": CHANGED, "settle": CHANGED, "lease": CHANGED, "force": CHANGED}


class Client:
    """Notes for each exchange whether its answer may be late."""

    clustered = False

    def __init__(self) -> None:
        self.patient: list[bool] = []

    async def run(self, script: Script, keys: Sequence[Any], args: Sequence[Arg], *, patient: bool = False) -> Any:
        self.patient.append(patient)
        if script.name == "take":
            return [0] * 8
        return [] if args[0] == "list" else ANSWERS.get(str(args[0]), 1)

    async def run_many(
        self, script: Script, calls: Sequence[tuple[Sequence[Any], Sequence[Arg]]], *, patient: bool = False
    ) -> list[Any]:
        self.patient.append(patient)
        return [ANSWERS[str(args[0])] for _, args in calls]


def store_of(client: Client) -> Store:
    store = RedisStore.__new__(RedisStore)
    redis = cast(RedisClient, client)
    store._client = redis
    store._buckets = RedisBuckets(redis, "p", "a")
    store._circuits = RedisCircuits(redis, "p", "a")
    store._endpoints = RedisEndpoints(redis, "p")
    return store


REPORT = CircuitReport("default", SETTINGS, 1, 3, 3, 0, (0.0,), None)
LEASE = ProbeLease("default", 7, "a/b/1")
CALLS: dict[str, tuple[Callable[[Store], Awaitable[object]], list[bool]]] = {
    "take": (lambda store: store.take([Ask(POLICY, "c", 1)]), [True]),
    "sync": (lambda store: store.sync([]), [True]),
    "sync that changes": (lambda store: store.sync([REPORT]), [True]),
    "endpoints_out": (lambda store: store.endpoints_out(), [True]),
    "lease_probe": (lambda store: store.lease_probe("default", SETTINGS, 1.0), [False, False]),
    "settle_probe": (lambda store: store.settle_probe(LEASE, SETTINGS, Outcome.SUCCESS), [False, False]),
    "force": (lambda store: store.force("default", CircuitState.FORCED_OPEN, 1.0, "x"), [False, False]),
    "reset": (lambda store: store.reset("default"), [False, False]),
    "take_out": (lambda store: store.take_out(EndpointOut("a", "b:1", "drained", 1.0, "")), [False, False]),
    "bring_back": (lambda store: store.bring_back("a", "b:1"), [False, False]),
}


@pytest.mark.parametrize("name", CALLS)
async def test_only_some_calls_may_answer_late_and_all_others_say_so_in_time(name: str) -> None:
    call, patient = CALLS[name]
    client = Client()
    await call(store_of(client))
    assert client.patient == patient
