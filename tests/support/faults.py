"""Faults on demand as an operator orders them, over HTTP with the standard library."""

import json
from typing import Any

from tests.support.fake_upstream import FakeUpstream
from tests.support.gateway_process import GatewayProcess
from tests.support.plain_http import Answer
from tests.support.stub_process import StubProcess

TOKEN = "a-token-of-32-characters-for-tests"
PATH = "/api/resilience/faults"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}", "X-Operator": "ann"}


def settings(stub: StubProcess | FakeUpstream, **more: str) -> dict[str, str]:
    """One attempt for each request, and no limit or circuit that a test of a fault would meet."""
    return {
        "FAULTS_ENABLED": "true",
        "FAULTS_MAX_PERCENT": "100",
        "ADMIN_TOKEN": TOKEN,
        "UPSTREAM_URL": stub.url,
        "RATE_LIMIT_ENABLED": "false",
        "RETRY_MAX_ATTEMPTS": "1",
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000",
        "CIRCUIT_BREAKER_WINDOW_SIZE": "10000",
        "CIRCUIT_BREAKER_MINIMUM_CALLS": "10000",
        "ALERT_MINIMUM_REQUESTS": "1000",
        **more,
    }


def order(gateway: GatewayProcess, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    sent = {**AUTHORIZED, **headers}
    if body is None:
        return gateway.request(method, path, headers=sent)
    return gateway.request(method, path, json.dumps(body).encode(), {**sent, "Content-Type": "application/json"})


def fault(kind: str, percent: float = 100, upstream: str = "default", **more: Any) -> dict[str, Any]:
    """A fault as it is asked for."""
    scope = {"upstream": upstream, **more.pop("scope", {})}
    return {"scope": scope, "kind": kind, "percent": percent, "duration": 60, "reason": "a drill", **more}


def add(gateway: GatewayProcess, kind: str, percent: float = 100, **more: Any) -> dict[str, Any]:
    """Set one; how it is shown."""
    answer = order(gateway, "POST", PATH, fault(kind, percent, **more))
    assert answer.status == 200, answer.body
    made: dict[str, Any] = answer.json()
    return made


def listed(gateway: GatewayProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.get(PATH).json()["faults"]
    return found


KINDS = ("delay", "abort", "reset", "connect_timeout", "truncate", "slow_body")


def add_all(gateway: GatewayProcess, **more: Any) -> None:
    """One of each kind, each for its share of the attempts."""
    for kind in KINDS:
        add(gateway, kind, 16, **more)


def untouched(gateway: GatewayProcess, count: int = 20) -> bool:
    """Whether so many requests in a row, a whole block of attempts, meet no fault."""
    answers = [gateway.get("/proxy/ok") for _ in range(count)]
    return all(each.status == 200 and "Proxy-Status" not in each.headers for each in answers)


def refusal(answer: Answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["reason"]
