"""What a cold client costs the store, worker and supervisor together: both ends of a channel in this thread.

The bytes go from hand to hand, without a socket; a call carries a batch of asks, as under load, or one.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from benchmarks.micro.timing import Case
from gateway.ipc.channel import Reply
from gateway.policy.lease.ask import Ask
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.served import encoding
from gateway.store.served.server import StoreServer

_POLICY = RateLimitPolicy("default", 100, 10.0)
_BATCH = 128


def cases() -> Iterator[tuple[str, Case]]:
    yield "embedded store: take for 128 new clients", _take(_BATCH)
    yield "embedded store: take for 1 new client", _take(1)
    yield "embedded store: the buckets of these 128 alone", _buckets()


def _take(count: int) -> Case:
    serve = StoreServer().serve_for("0-1")
    clients = iter(range(1 << 40))
    answers: list[bytes] = []

    def send(_kind: int, number: int, operation: str, body: Any) -> None:
        answers.append(orjson.dumps([2, number, operation, body]))

    def take() -> None:
        asks = [Ask(_POLICY, f"203.0.113.{next(clients)}", 1) for _ in range(count)]
        _, number, operation, body = orjson.loads(orjson.dumps([1, 7, "take", encoding.asks_body(asks)]))
        serve(operation, body, Reply(send, number))
        if len(encoding.grants_of(orjson.loads(answers.pop())[3])) != count:
            raise RuntimeError("not as many grants as asks")

    return take


def _buckets() -> Case:
    buckets = StoreServer().shared.buckets
    clients = iter(range(1 << 40))
    return lambda: buckets.take("0-1", [Ask(_POLICY, f"203.0.113.{next(clients)}", 1) for _ in range(_BATCH)])
