"""Gateways whose callers have API keys, and their callers."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.keys import key, sha256
from tests.support.plain_http import Answer
from tests.support.processes import clean_environment
from tests.support.stub_process import StubProcess

TOKEN = "correct-horse-battery-staple"
FILE_KEY, QUIET_KEY = key("filekey00001"), key("quietkey0001")


def configuration(stub: StubProcess, **tiers: Mapping[str, object]) -> dict[str, Any]:
    keys = {"web": FILE_KEY, "quiet": QUIET_KEY}
    return {
        "upstreams": {"orders": {"endpoints": [stub.url], "breaker": {"failure_threshold": 1000}}},
        "rate_limits": {"small": {"capacity": 10, "refill_rate": 0.001}},
        "tiers": {"free": {}, **tiers},
        "tenants": {"acme": {"tier": "free"}, "umbrella": {"tier": "free"}},
        "consumers": {
            name: {
                "tenant": "acme" if name == "web" else "umbrella",
                "scopes": ["read"],
                "keys": [{"id": text.split("_")[1], "sha256": sha256(text)}],
            }
            for name, text in keys.items()
        },
        "routes": [
            {"name": "orders", "prefix": "/orders", "upstream": "orders", "strip_prefix": True, "rate_limit": None}
            | {"authentication": "api_key"},
            {"name": "acme", "prefix": "/acme", "upstream": "orders", "strip_prefix": True, "rate_limit": None}
            | {"authentication": ["api_key"], "allow": {"tenants": ["acme"], "scopes": ["read"]}},
            {"name": "open", "prefix": "/open", "upstream": "orders", "strip_prefix": True, "rate_limit": None},
        ],
    }


def ask(gateway: GatewayProcess, text: str | None = FILE_KEY, target: str = "/orders/echo", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return gateway.get(target, {**({"X-API-Key": text} if text else {}), **fields})


def keys(gateway: GatewayProcess, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = clean_environment(GATEWAY_URL=gateway.url, ADMIN_TOKEN=TOKEN)
    command = [sys.executable, "-m", "gateway", "keys", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def created(gateway: GatewayProcess, *arguments: str) -> tuple[str, str]:
    done = keys(gateway, "create", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    made = json.loads(done.stdout)
    return made["id"], made["key"]


def problem(answer: Answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["reason"]


def echoed(answer: Answer) -> dict[str, list[str]]:
    assert answer.status == 200
    found: dict[str, list[str]] = {}
    for name, value in json.loads(answer.body)["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found
