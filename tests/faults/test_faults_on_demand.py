"""Faults on demand in a fleet: two gateways on one Redis, several workers, and how faults end when something dies."""

import os
import signal
from functools import partial

from tests.conftest import StartGateway
from tests.support.faults import KINDS, PATH, add, add_all, fault, listed, order, refusal, settings, untouched
from tests.support.gateway_process import GatewayProcess
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually


def struck(gateway: GatewayProcess) -> bool:
    return gateway.get("/proxy/ok").status == 503


def has(gateway: GatewayProcess, count: int) -> bool:
    return len(listed(gateway)) == count


def pair(start_gateway: StartGateway, stub: StubProcess, redis: RedisServer) -> tuple[GatewayProcess, GatewayProcess]:
    env = settings(stub, **redis.variables)
    one, two = start_gateway(env), start_gateway(env)
    eventually(lambda: one.get("/health").json()["checks"]["redis"]["replicas"] == 2, "both are there")
    return one, two


def test_the_fleet_has_it_and_ends_it(start_gateway: StartGateway, stub: StubProcess, redis: RedisServer) -> None:
    one, two = pair(start_gateway, stub, redis)
    made = add(one, "abort")
    eventually(lambda: struck(two), "the other gateway has it")
    assert [each["id"] for each in listed(two)] == [made["id"]]
    assert order(two, "DELETE", f"{PATH}/{made['id']}").json() == {"removed": 1}
    assert not struck(two)
    eventually(lambda: not struck(one), "the one that has set it has heard of its end")
    (over,) = one.wait_for_records(1, event="fault_ended")
    assert over["message"].endswith("it is gone from the store")


def test_one_upstream_at_a_time_in_the_whole_fleet(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer
) -> None:
    text = f"""
upstreams:
  pay: {{endpoints: ["{stub.url}"]}}
  orders: {{endpoints: ["{stub.url}"]}}
routes:
  - {{name: pay, prefix: /pay/, upstream: pay, strip_prefix: true}}
  - {{name: orders, prefix: /orders/, upstream: orders, strip_prefix: true}}
"""
    env = {name: value for name, value in settings(stub, **redis.variables).items() if name != "UPSTREAM_URL"}
    files = {"gateway.yaml": text}
    one, two = (start_gateway({**env, "GATEWAY_CONFIG": "gateway.yaml"}, files=files) for _ in range(2))
    add(one, "abort", upstream="pay")
    refused = order(two, "POST", PATH, fault("abort", upstream="orders"))
    assert refusal(refused) == (409, "faults_elsewhere")
    assert refused.json()["upstream"] == "pay"
    # Nor does a key that is written by hand.
    redis.execute("SET", "chaos:orders:error_rate", "1")
    two.wait_for_records(1, event="fault_keys_ignored", upstream="pay")
    assert two.get("/orders/ok").status == 200
    order(one, "DELETE", PATH)
    assert redis.execute("EXISTS", "chaos:orders:error_rate") == 0


def test_it_ends_when_the_gateway_that_set_it_is_killed(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer
) -> None:
    one, two = pair(start_gateway, stub, redis)
    add(one, "abort")
    eventually(lambda: struck(two), "the other gateway has it")
    order(two, "DELETE", PATH)
    add_all(one)
    eventually(lambda: {each["kind"] for each in listed(two)} == set(KINDS), "the other gateway has all kinds")
    workers = one.children()
    one.send_signal(signal.SIGKILL)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    eventually(lambda: listed(two) == [], "they are over without their gateway")
    assert untouched(two)
    ended = two.wait_for_records(1 + len(KINDS), event="fault_ended")[1:]
    assert all(each["message"].endswith(("its gateway is gone", "it is gone from the store")) for each in ended)


def test_it_ends_when_the_gateway_that_set_it_stops(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer
) -> None:
    one, two = pair(start_gateway, stub, redis)
    add(one, "abort")
    eventually(lambda: struck(two), "the other gateway has it")
    assert one.stop() == 0
    eventually(lambda: not struck(two), "it is over without its gateway")


def test_it_ends_when_redis_goes(start_gateway: StartGateway, stub: StubProcess, own_redis: RedisServer) -> None:
    one, two = pair(start_gateway, stub, own_redis)
    add(one, "abort")
    eventually(lambda: struck(two), "the other gateway has it")
    own_redis.kill()
    eventually(lambda: not struck(one) and not struck(two), "it is over without Redis")
    refused = order(one, "POST", PATH, fault("abort"))
    assert refusal(refused) == (503, "unavailable")
    own_redis.ensure_running()
    eventually(lambda: one.get("/health").json()["checks"]["redis"]["up"], "Redis is back")
    assert not struck(one)
    assert listed(one) == []


def test_all_workers_have_it_and_a_killed_worker_ends_its_own(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(settings(stub, WORKERS="3"))
    eventually(lambda: gateway.metric("gateway_replicas") == 3, "all workers are there")
    add(gateway, "abort")
    eventually(lambda: all(struck(gateway) for _ in range(12)), "every worker has it")
    for worker in gateway.children():
        os.kill(worker, signal.SIGKILL)
    eventually(lambda: gateway.get("/proxy/ok").status == 200, "it is over without the worker that set it")
    eventually(lambda: all(gateway.get("/proxy/ok").status == 200 for _ in range(12)), "in every worker")


def test_what_an_operator_writes_by_hand(start_gateway: StartGateway, stub: StubProcess, redis: RedisServer) -> None:
    env = {**settings(stub, **redis.variables), "FAULTS_MAX_PERCENT": "50", "FAULTS_MAX_DURATION_SECONDS": "30"}
    one, two = start_gateway(env), start_gateway(env)
    redis.execute("SET", "chaos:default:error_rate", "0.5")
    for gateway in (one, two):
        eventually(partial(has, gateway, 1), "the gateway has seen it")
        (found,) = listed(gateway)
        assert (found["kind"], found["percent"], found["source"]) == ("abort", 50.0, "key")
        assert found["reason"] == "chaos:default:error_rate"
        assert sum(struck(gateway) for _ in range(40)) == 20
    # A key without an end has got one.
    assert 0 < redis.execute("TTL", "chaos:default:error_rate") <= 30
    config = one.get("/chaos/config").json()
    assert config == {"upstream": "default", "error_rate": 0.5, "latency_ms": 0.0, "lock_contention_ms": 0.0}
    redis.execute("DEL", "chaos:default:error_rate")
    for gateway in (one, two):
        eventually(partial(has, gateway, 0), "the gateway has seen its end")
    redis.execute("SET", "chaos:default:latency_ms", "50")
    redis.execute("SET", "chaos:default:lock_contention_ms", "nonsense")
    eventually(lambda: len(listed(two)) == 1, "the gateway has seen it")
    assert "0.05 s later" in listed(two)[0]["does"]
    assert order(two, "DELETE", "/chaos/config").json()["latency_ms"] == 0.0
    assert redis.execute("EXISTS", "chaos:default:latency_ms") == 0
