"""Bodies that a JSON Schema must take, through whole gateways and real sockets."""

import gzip
import hashlib
import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.plain_http import Answer
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess

ORDER = {
    "type": "object",
    "required": ["sku", "quantity"],
    "additionalProperties": False,
    "properties": {
        "sku": {"type": "string", "pattern": "^[a-z]+-[0-9]+$"},
        "quantity": {"type": "integer", "minimum": 1, "maximum": 100},
        "note": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}
GOOD = b'{"sku": "abc-1", "quantity": 2}'
BAD = b'{"sku": "hunter2 secret", "quantity": 0}'
JSON = {"Content-Type": "application/json"}
LIMIT = 100_000

Start = Callable[..., GatewayProcess]


def settings(
    stub: StubProcess, more: dict[str, Any] | None = None, **validate: Any
) -> tuple[dict[str, str], dict[str, str]]:
    """The variables and the files of a gateway whose routes refuse, report, or look at nothing."""
    common = {"upstream": "orders", "strip_prefix": True, "rate_limit": None}
    rules = {"schema": "order.json", "max_body_bytes": LIMIT, **validate}
    api = {"openapi": "api.yaml", "max_body_bytes": LIMIT}
    document = {
        "upstreams": {"orders": {"endpoints": [stub.url], "breaker": {"failure_threshold": 1000}}},
        "routes": [
            {"name": "orders", "prefix": "/orders", **common, "validate": rules, **(more or {})},
            {"name": "reported", "prefix": "/reported", **common, "validate": rules | {"mode": "report"}},
            {"name": "open", "prefix": "/open", **common},
            {"name": "api", "prefix": "/api-of-orders", **common, "validate": api},
            {"name": "lenient", "prefix": "/lenient", **common, "validate": api | {"unknown_operation": "pass"}},
        ],
    }
    files = {
        "gateway.yaml": yaml.safe_dump(document),
        "order.json": json.dumps(ORDER),
        "exploding.json": json.dumps(EXPLODING),
        "api.yaml": yaml.safe_dump(API),
    }
    # Bodies are judged for as long as a busy machine takes.
    return {"GATEWAY_CONFIG": "gateway.yaml", "VALIDATION_TIMEOUT_MS": "20000"}, files


@pytest.fixture
def start(shared_gateway: StartGateway, stub: StubProcess) -> Start:
    """The gateway of the module with these variables and rules."""

    def started(env: dict[str, str] | None = None, **validate: Any) -> GatewayProcess:
        variables, files = settings(stub, **validate)
        return shared_gateway({**variables, **(env or {})}, files=files)

    return started


@pytest.fixture
def gateway(start: Start) -> GatewayProcess:
    return start()


@pytest.fixture
def strained(start: Start) -> GatewayProcess:
    """One with short times, which keeps no bodies for another attempt, and logs each mistake."""
    return start({"REQUEST_BODY_TIMEOUT_SECONDS": "1", "RETRY_BUFFER_BYTES": "0", "LOG_VALIDATION_ERRORS": "true"})


def post(gateway: GatewayProcess, body: bytes, target: str = "/orders/echo", **headers: str) -> Answer:
    fields = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return gateway.request("POST", target, body, fields)


def problem(answer: Answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["reason"]


def sha(answer: Answer) -> str:
    """Of the body that the upstream got."""
    assert answer.status == 200
    return str(json.loads(answer.body)["body_sha256"])


def outcome(word: str, route: str = "orders") -> str:
    return f'request_validation_total{{route="{route}",outcome="{word}"}}'


def test_what_the_schema_takes_reaches_the_upstream_as_it_came(gateway: GatewayProcess) -> None:
    answer = post(gateway, GOOD)
    assert answer.status == 200
    assert sha(answer) == hashlib.sha256(GOOD).hexdigest()


def test_a_body_that_the_schema_does_not_take_is_told_where_and_never_what(
    gateway: GatewayProcess, stub: StubProcess
) -> None:
    grown = gateway.growth()
    answer = post(gateway, BAD)
    assert problem(answer) == (422, "validation_failed")
    told = json.loads(answer.body)
    assert sorted((each["pointer"], each["detail"]) for each in told["errors"]) == [
        ("#/quantity", "must be at least 1"),
        ("#/sku", "must match ^[a-z]+-[0-9]+$"),
    ]
    assert b"hunter2" not in answer.body
    assert stub.requests("/echo") == 0
    assert grown(outcome("validation_failed")) == 1


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b'{"sku": "abc-1", "quantity": 2', 400, "body_malformed"),
        (b'{"sku": "abc-1", "quantity": 2, "quantity": 3}', 400, "body_malformed"),
        (b'{"sku": "abc-1", "quantity": 2, "\\u0071uantity": 3}', 400, "body_malformed"),
        (b"[" * 65 + b"]" * 65, 400, "body_malformed"),
        (b"[" * 40_000 + b"]" * 40_000, 400, "body_malformed"),
        (b'{"sku": "abc-\xff1", "quantity": 2}', 400, "body_malformed"),
        (b'\xef\xbb\xbf{"sku": "abc-1", "quantity": 2}', 400, "body_malformed"),
        (b'{"sku": "abc-1", "quantity": NaN}', 400, "body_malformed"),
        (b'{"sku": "abc-1", "quantity": 1e999}', 400, "body_malformed"),
        (b'{"sku": "abc-1", "quantity": ' + b"9" * 1000 + b"}", 400, "body_malformed"),
        (b'{"sku": "abc-1", "quantity": 99999999999999999999}', 422, "validation_failed"),
        (b"null", 422, "validation_failed"),
        (b"x" * (LIMIT + 1), 413, "body_too_large"),
    ],
)
def test_a_body_that_not_everybody_reads_alike_is_refused(
    body: bytes, status: int, reason: str, gateway: GatewayProcess
) -> None:
    assert problem(post(gateway, body)) == (status, reason)


def test_a_body_that_lies_about_its_type_is_refused_and_never_decoded(
    gateway: GatewayProcess, stub: StubProcess
) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    lies: list[tuple[bytes, dict[str, str]]] = [
        (GOOD, {"Content_Type": "text/plain"}),
        (GOOD, {"Content-Type": "text/plain"}),
        (GOOD, {"Content-Type": "application/json; charset=utf-16"}),
        (GOOD, {"Content-Type": "application/x-www-form-urlencoded"}),
        (bomb, {**JSON, "Content-Encoding": "gzip"}),
        (GOOD, {**JSON, "Content_Encoding": "gzip"}),
        (GOOD, {**JSON, "Content-Encoding": "identity, gzip"}),
        (GOOD, {**JSON, "Content_Type": "text/xml"}),
    ]
    for body, headers in lies:
        answer = gateway.request("POST", "/orders/echo", body, headers)
        assert problem(answer) == (415, "unsupported_media_type"), headers
    for headers in ({"Content-Type": "application/merge-patch+json"}, {**JSON, "Content-Encoding": "identity"}):
        assert gateway.request("POST", "/orders/echo", GOOD, headers).status == 200
    assert stub.requests("/echo") == 2


def test_who_must_have_a_body_and_who_need_not(gateway: GatewayProcess) -> None:
    assert gateway.get("/orders/ok").status == 200
    assert gateway.request("HEAD", "/orders/ok").status == 200
    assert gateway.request("DELETE", "/orders/echo").status == 200
    assert problem(gateway.request("POST", "/orders/echo")) == (400, "body_malformed")
    assert problem(gateway.request("POST", "/orders/echo", b"", JSON)) == (400, "body_malformed")
    assert problem(gateway.request("DELETE", "/orders/echo", BAD, JSON)) == (422, "validation_failed")


def head(length: str, *lines: str, target: str = "/orders/echo") -> bytes:
    fields = (f"POST {target} HTTP/1.1", "Host: a", "Content-Type: application/json", length, *lines)
    return "".join(f"{field}\r\n" for field in (*fields, "")).encode()


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_chunked_and_slow_bodies_are_held_until_they_are_whole(gateway: GatewayProcess, stub: StubProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(head("Transfer-Encoding: chunked")).send(chunked(GOOD[:5], GOOD[5:20], GOOD[20:]))
        answer = client.read_response("POST")
        assert json.loads(answer.body)["body_sha256"] == hashlib.sha256(GOOD).hexdigest()
        client.send(head("Transfer-Encoding: chunked")).send(chunked(BAD[:5], BAD[5:]))
        assert client.read_response("POST").status == 422
        # The connection goes on, because the whole body was read.
        client.send(head(f"Content-Length: {len(GOOD)}")).send_slowly(GOOD[:-1], 0.002)
        assert stub.requests("/echo") == 1
        assert client.send(GOOD[-1:]).read_response("POST").status == 200
        client.send(head("Transfer-Encoding: chunked")).send(
            b"ffff\r\n" + b"x" * 0xFFFF + b"\r\nffff\r\n" + b"x" * 0xFFFF
        )
        assert client.read_response("POST").status == 413


def test_a_body_that_is_wanted_is_asked_for_and_one_that_is_not_is_not(gateway: GatewayProcess) -> None:
    with RawClient(gateway.port) as client:
        client.send(head(f"Content-Length: {len(GOOD)}", "Expect: 100-continue"))
        assert client.socket.recv(100).startswith(b"HTTP/1.1 100 ")
        assert client.send(GOOD).read_response("POST").status == 200
    with RawClient(gateway.port) as client:
        # It is refused by its length, so no 100 is sent, and the connection ends: the client may send the body or not.
        client.send(head(f"Content-Length: {LIMIT + 1}", "Expect: 100-continue"))
        answer = client.read_response("POST")
        assert (answer.status, answer.interim) == (413, [])
        assert client.fate() == "closed"


def test_a_body_that_drips_ends_with_408_and_costs_no_upstream(strained: GatewayProcess, stub: StubProcess) -> None:
    with RawClient(strained.port) as client:
        client.send(head("Content-Length: 1000"))
        client.send(b'{"sku": ')
        assert client.read_response("POST").status == 408
    assert stub.requests("/echo") == 0


def test_report_lets_everything_pass_and_counts_it(gateway: GatewayProcess) -> None:
    grown = gateway.growth()
    large = b'{"note": "' + b"x" * (2 * LIMIT) + b'"}'
    target = "/reported/echo"
    assert post(gateway, BAD, target).status == 200
    assert post(gateway, b"{", target).status == 200
    assert post(gateway, GOOD, target, Content_Type="text/plain").status == 200
    assert sha(post(gateway, large, target)) == hashlib.sha256(large).hexdigest()
    with RawClient(gateway.port) as client:
        # Larger than what is held, and nobody can know before it has come.
        client.send(head("Transfer-Encoding: chunked", target=target))
        for at in range(0, len(large), 30_000):
            piece = large[at : at + 30_000]
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\n\r\n")
        assert json.loads(client.read_response("POST").body)["body_sha256"] == hashlib.sha256(large).hexdigest()
    for word, count in {
        "validation_failed": 1,
        "body_malformed": 1,
        "unsupported_media_type": 1,
        "body_too_large": 2,
        "valid": 0,
    }.items():
        assert grown(outcome(word, "reported")) == count
    assert grown('validation_errors_total{route="reported",reason="body_too_large",mode="report"}') == 2


def test_validation_that_is_not_strict_refuses_nothing(start: Start) -> None:
    gateway = start({"VALIDATION_STRICT_MODE": "false"})
    grown = gateway.growth()
    assert post(gateway, BAD).status == 200
    assert grown(outcome("validation_failed")) == 1


def test_the_log_says_validation_failed_and_on_request_what_and_where(strained: GatewayProcess) -> None:
    post(strained, BAD)
    (each,) = strained.wait_for_records(event="invalid_request")
    assert each["message"].startswith("validation failed")
    assert sorted(each["errors"]) == ["#/quantity must be at least 1", "#/sku must match ^[a-z]+-[0-9]+$"]
    (summed,) = strained.wait_for_records(event="validation_failed")
    assert (summed["count"], summed["reasons"]) == (1, {"validation_failed": 1})
    (access,) = strained.wait_for_records(reason="validation_failed", status=422)
    assert access["decisions"]["validation"] == "validation_failed"
    strained.stop()
    assert not any("hunter2" in line for line in strained.lines)


def test_a_route_without_validation_takes_everything(gateway: GatewayProcess) -> None:
    assert post(gateway, BAD, "/open/echo").status == 200


def test_a_held_body_can_be_sent_again(strained: GatewayProcess, stub: StubProcess) -> None:
    for prefix, attempts in (("/open", 1), ("/orders", 3)):
        stub.reset_stats()
        assert strained.request("PUT", f"{prefix}/fault/close", GOOD, JSON).status == 502
        assert stub.requests("/fault/close") == attempts


# Two members of each level are looked at again in each alternative: 2 to the power of the depth.
EXPLODING = {
    "$defs": {
        "e": {
            "anyOf": [
                {"properties": {"of": {"$ref": "#/$defs/e"}, "kind": {"const": kind}}, "required": ["kind"]}
                for kind in ("and", "or")
            ]
        }
    },
    "$ref": "#/$defs/e",
}


def exploding(depth: int, innermost: bytes) -> bytes:
    return b'{"kind": "or", "of": ' * depth + innermost + b"}" * depth


def judging_processes(gateway: GatewayProcess) -> list[int]:
    """The pids of what the workers have started."""
    lists = [Path(f"/proc/{pid}/task/{pid}/children").read_text() for pid in gateway.children()]
    return [int(pid) for each in lists for pid in each.split()]


def test_large_bodies_are_judged_in_a_process_of_their_own(start_gateway: StartGateway, stub: StubProcess) -> None:
    variables, files = settings(stub)
    gateway = start_gateway(variables, files=files)
    large = json.dumps({"sku": "abc-1", "quantity": 2, "note": "x" * 60_000}).encode()
    assert sha(post(gateway, large)) == hashlib.sha256(large).hexdigest()
    assert problem(post(gateway, large.replace(b"abc-1", b"ABC-1"))) == (422, "validation_failed")
    assert problem(post(gateway, large[:-1])) == (400, "body_malformed")
    (judging,) = judging_processes(gateway)
    os.kill(judging, signal.SIGKILL)
    gateway.wait_until(lambda: post(gateway, large).status == 200, "judging again", 60.0)
    (another,) = judging_processes(gateway)
    assert another != judging
    gateway.stop()
    assert not Path(f"/proc/{another}").exists()


def test_a_body_that_takes_too_long_holds_up_nobody(start: Start) -> None:
    gateway = start({"VALIDATION_TIMEOUT_MS": "2000"}, schema="exploding.json")
    assert post(gateway, exploding(3, b'{"kind": "and"}')).status == 200
    assert problem(post(gateway, exploding(3, b'{"kind": "xor"}'))) == (422, "validation_failed")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, gateway, exploding(60, b'{"kind": "xor"}'))
        others = [post(gateway, GOOD, "/open/echo").status for _ in range(20)]
        answer = slow.result()
    assert others == [200] * 20
    assert problem(answer) == (503, "validation_unavailable")
    assert answer.headers["Retry-After"] == "1"
    # The next one finds a new process.
    gateway.wait_until(lambda: post(gateway, exploding(2, b'{"kind": "and"}')).status == 200, "judging again", 60.0)
    gateway.wait_until(lambda: len(judging_processes(gateway)) == 1, "rid of the old process", 60.0)


API = {
    "openapi": "3.0.3",
    "info": {"title": "orders", "version": "1"},
    "paths": {
        "/echo": {
            "post": {
                "parameters": [
                    {"name": "dry", "in": "query", "schema": {"type": "boolean"}},
                    {
                        "name": "X-Region",
                        "in": "header",
                        "required": True,
                        "schema": {"type": "string", "enum": ["eu", "us"]},
                    },
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Order"}},
                        "application/x-www-form-urlencoded": {"schema": {"$ref": "#/components/schemas/Order"}},
                        "text/plain": {"schema": {"type": "string"}},
                    },
                },
            }
        },
        "/echo/{id}": {
            "get": {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}]}
        },
    },
    "components": {
        "schemas": {
            "Order": {
                "type": "object",
                "required": ["id", "quantity"],
                "properties": {
                    "id": {"type": "integer", "readOnly": True},
                    "quantity": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
                    "note": {"type": "string", "nullable": True},
                },
            }
        }
    },
}


def test_an_openapi_document_says_what_requests_must_be(gateway: GatewayProcess, stub: StubProcess) -> None:
    grown = gateway.growth()
    target = "/api-of-orders/echo"
    region = {"X_Region": "eu"}
    assert post(gateway, b'{"quantity": 1, "note": null}', target, **region).status == 200
    assert (
        post(gateway, b"quantity=1&note=a+b", target, Content_Type="application/x-www-form-urlencoded", **region).status
        == 200
    )
    assert post(gateway, b"anything", target, Content_Type="text/plain", **region).status == 200
    large = json.dumps({"quantity": 0, "note": "x" * 60_000}).encode()
    for body, fields, errors in (
        (b'{"quantity": 0}', region, [{"detail": "must be more than 0", "pointer": "#/quantity"}]),
        (large, region, [{"detail": "must be more than 0", "pointer": "#/quantity"}]),
        (b'{"quantity": 1}', {}, [{"detail": "is missing", "in": "header", "parameter": "X-Region"}]),
        (
            b'{"quantity": 1}',
            {"X_Region": "hunter2"},
            [{"detail": "must be one of: eu, us", "in": "header", "parameter": "X-Region"}],
        ),
    ):
        answer = post(gateway, body, target, **fields)
        assert problem(answer) == (422, "validation_failed")
        assert json.loads(answer.body)["errors"] == errors
    answer = post(gateway, b'{"quantity": 1}', f"{target}?dry=maybe", **region)
    assert json.loads(answer.body)["errors"] == [
        {"detail": "must be of type boolean", "in": "query", "parameter": "dry"}
    ]
    assert problem(post(gateway, b"<a/>", target, Content_Type="application/xml", **region)) == (
        415,
        "unsupported_media_type",
    )
    assert problem(gateway.request("POST", target, headers={"X-Region": "eu"})) == (400, "body_malformed")
    assert gateway.get(f"{target}/5").status == 200
    assert problem(gateway.get(f"{target}/five")) == (422, "validation_failed")
    assert stub.requests("/echo") + stub.requests("/echo/5") == 4
    assert grown(outcome("unseen", "api")) == 1


def test_operations_that_nobody_describes_are_refused_or_pass(gateway: GatewayProcess) -> None:
    grown = gateway.growth()
    assert problem(gateway.get("/api-of-orders/ok")) == (404, "unknown_operation")
    answer = gateway.get("/api-of-orders/echo")
    assert (problem(answer), answer.headers["Allow"]) == ((405, "unknown_operation"), "POST")
    assert gateway.request("HEAD", "/api-of-orders/echo/5").status == 200
    assert gateway.get("/lenient/ok").status == 200
    assert grown(outcome("unseen", "lenient")) == 1
    assert grown(outcome("unknown_operation", "lenient")) == 0


def test_an_invalid_request_does_not_claim_its_idempotency_key(start_gateway: StartGateway, stub: StubProcess) -> None:
    variables, files = settings(stub, {"idempotency": {"mode": "optional"}})
    gateway = start_gateway({**variables, "JOURNAL_URL": "sqlite:///journal.db"}, files=files)
    key = {"Idempotency_Key": '"k-1"'}
    assert problem(post(gateway, BAD, **key)) == (422, "validation_failed")
    first = post(gateway, GOOD, **key)
    assert sha(first) == hashlib.sha256(GOOD).hexdigest()
    assert post(gateway, GOOD, **key).body == first.body
    assert stub.requests("/echo") == 1
