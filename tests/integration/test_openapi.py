"""The OpenAPI document: it describes what is served, all of it, and nothing is answered that it does not describe."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.stub_process import StubProcess

# Who the clients are, and how the gateway is configured; of `explain` and of errors, what is about customers.
FOR_OPERATORS = {f"/api/resilience/{name}" for name in ("clients", "configuration", "explain", "errors/recent")}
TOKEN = "correct-horse-battery-staple"

needs_schemathesis = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None and os.environ.get("CI", "").lower() != "true",
    reason="schemathesis is not installed",
)


@pytest.fixture(scope="module")
def gateway(stub_process: StubProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    env = {"UPSTREAM_URL": stub_process.url, "ADMIN_TOKEN": TOKEN, "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3"}
    env |= {"FAULTS_ENABLED": "true"}
    directory = tmp_path_factory.mktemp("gateway")
    delivering = "{name: hooks, prefix: /hooks, upstream: default, deliver: {enabled: true}}"
    step = "{name: one, upstream: default, path: /ok, compensate: none}"
    starting = "{name: runs, prefix: /runs, workflow: w}"
    text = f"workflows: {{w: {{steps: [{step}]}}}}\nroutes: [{delivering}, {starting}]\n"
    (directory / "gateway.yaml").write_text(text)
    env |= {"IDEMPOTENCY_MODE": "optional", "GATEWAY_CONFIG": "gateway.yaml"}
    with GatewayProcess(env, directory) as process:
        # Something to be told of.
        for path in ("/proxy/ok", "/proxy/fail", "/proxy/fail", "/proxy/fail", "/proxy/ok", "/nowhere"):
            process.get(path)
        assert process.request("POST", "/hooks/ok", b"{}").status == 202
        assert process.request("POST", "/runs", b"{}").status == 202
        yield process


@pytest.fixture(scope="module")
def document(gateway: GatewayProcess) -> Any:
    return gateway.get("/api/openapi.json").json()


def test_it_lists_what_the_runbook_needs(document: Any) -> None:
    operations = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert document["openapi"].startswith("3.1.")
    assert operations >= {
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/api/resilience/health"),
        ("GET", "/api/resilience/circuit-breakers"),
        ("GET", "/api/resilience/circuit-breakers/{service}"),
        ("GET", "/api/resilience/metrics"),
        ("GET", "/api/resilience/metrics/{service}"),
        ("GET", "/api/resilience/metrics/{service}/error-rate"),
        ("GET", "/api/resilience/errors/recent"),
        ("GET", "/api/resilience/alerts"),
        ("GET", "/api/resilience/explain"),
        ("GET", "/api/resilience/live"),
        ("GET", "/api/resilience/history"),
        ("GET", "/api/resilience/routes"),
        ("GET", "/api/resilience/clients"),
        ("GET", "/api/resilience/configuration"),
        ("POST", "/api/resilience/metrics/{service}/reset"),
        ("POST", "/api/admin/cleanup/alerts"),
        ("GET", "/api/resilience/idempotency"),
        ("POST", "/api/admin/cleanup/idempotency"),
        ("GET", "/api/resilience/outbox"),
        ("GET", "/api/resilience/outbox/{message}"),
        ("POST", "/api/resilience/outbox/{message}/replay"),
        ("POST", "/api/resilience/outbox/replay"),
        ("GET", "/api/resilience/sagas"),
        ("GET", "/api/resilience/sagas/{saga}"),
        *(("POST", f"/api/resilience/sagas/{{saga}}/{what}") for what in ("cancel", "retry", "skip", "resolve")),
        ("GET", "/api/resilience/faults"),
        ("POST", "/api/resilience/faults"),
        ("DELETE", "/api/resilience/faults"),
        ("GET", "/api/resilience/faults/{fault}"),
        ("DELETE", "/api/resilience/faults/{fault}"),
        ("GET", "/chaos/config"),
        ("PUT", "/chaos/config"),
        ("DELETE", "/chaos/config"),
        ("GET", "/api/test/failure-injection"),
        ("POST", "/api/test/circuit-breaker/open"),
        ("GET", "/api/test/success"),
    }


def test_what_changes_something_asks_for_the_token(document: Any) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            # What `explain` and errors say of customers alone is for operators: the empty requirement is the rest.
            asked = [each for each in operation.get("security", []) if each]
            assert bool(asked) == (method != "get" or path in FOR_OPERATORS or path.startswith("/api/test/")), path


def test_without_a_token_none_is_asked_for(start_gateway: StartGateway, stub: StubProcess) -> None:
    paths = start_gateway({"UPSTREAM_URL": stub.url}).get("/api/openapi.json").json()["paths"]
    assert not any(operation.get("security") for methods in paths.values() for operation in methods.values())


def test_every_reference_has_its_schema(document: Any) -> None:
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= set(document["components"]["schemas"])
    operation_ids = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(operation_ids) == len(set(operation_ids))


def test_the_page_needs_nothing_from_elsewhere(gateway: GatewayProcess) -> None:
    answer = gateway.get("/api/docs")
    page = answer.body.decode()
    assert answer.headers["Content-Type"].startswith("text/html")
    assert re.findall(r"https?://|//[a-z]+\.", page) == []
    assert re.findall(r"<(?:script|style)[^>]+>|\son[a-z]+=|\sstyle=", page) == []
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def schemathesis(gateway: GatewayProcess, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Everything it generates is the same in every run."""
    return subprocess.run(
        [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("run", f"{gateway.url}/api/openapi.json", "--seed", "1", "--no-color", *arguments),
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.mark.long
@needs_schemathesis
def test_schemathesis_finds_nothing(gateway: GatewayProcess, tmp_path: Path) -> None:
    # Requests that must be refused for want of a token would use up the tries of this peer: see the next test.
    done = schemathesis(
        gateway,
        tmp_path,
        *("--header", f"Authorization: Bearer {TOKEN}", "--max-examples", "20"),
        *("--checks", "all", "--exclude-checks", "ignored_auth,missing_required_header"),
        # Each of these that is well formed starts new workers (tests/integration/test_workers.py), and those of
        # `/api/test` answer with the failure that they are asked for (tests/integration/test_fault_safety.py).
        *("--exclude-path-regex", "^/api/(admin/(reload|upgrade)|test/.*)$"),
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    # What failed at the upstream is counted in lines of its own.
    wrong = [line for line in gateway.log_records() if line.get("level") in {"ERROR", "CRITICAL"}]
    assert [line for line in wrong if line["logger"] != "gateway.errors"] == []


@needs_schemathesis
def test_schemathesis_gets_nowhere_without_the_token(gateway: GatewayProcess, tmp_path: Path) -> None:
    done = schemathesis(
        gateway,
        tmp_path,
        *(word for method in ("POST", "PUT", "DELETE") for word in ("--include-method", method)),
        # After the first few tries each one is refused with 429, whatever it holds: made-up bodies add nothing here.
        *("--phases", "coverage", "--checks", "ignored_auth"),
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
