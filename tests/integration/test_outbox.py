"""The outbox through whole gateways, real sockets, and a journal in SQLite and in PostgreSQL."""

import base64
import hashlib
import hmac
import json
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.journal_gateways import KINDS, TOKEN, TOLERANT, gateway_with_journal, variables
from tests.support.plain_http import Answer
from tests.support.raw_http import RawClient
from tests.support.receiver import Receiver
from tests.support.waiting import eventually

OPERATOR = {"Authorization": f"Bearer {TOKEN}"}
SECRET = b"a secret of more than twenty-four bytes"
OUTBOX = "/api/resilience/outbox"
_numbers = count(1)

ROUTES: dict[str, dict[str, Any]] = {
    "hooks": {"deliver": {"enabled": True, "schedule": [0.3, 0.3], "jitter": 0}},
    "slow": {"deliver": {"enabled": True, "schedule": ["1h"]}},
    "ordered": {"deliver": {"enabled": True, "schedule": [0.3], "jitter": 0, "order_by": "X-Key", "concurrency": 8}},
    "signed": {"deliver": {"enabled": True, "secret_file": "secrets"}},
    "small": {"deliver": {"enabled": True, "max_message_bytes": 10}},
    "keyed": {"deliver": {"enabled": True}, "idempotency": {"mode": "required"}},
}


def configuration(url: str, routes: dict[str, dict[str, Any]], breaker: dict[str, Any] | None = None) -> str:
    upstream = {"endpoints": [url], "breaker": breaker or TOLERANT, "retry": {"max_attempts": 1}}
    shared = {"upstream": "receiver", "strip_prefix": True, "rate_limit": None}
    listed = [{"name": name, "prefix": f"/{name}", **shared, **settings} for name, settings in routes.items()]
    return yaml.safe_dump({"upstreams": {"receiver": upstream}, "routes": listed})


def secrets() -> str:
    return "".join(f"whsec_{base64.b64encode(each).decode()}\n" for each in (SECRET, SECRET[::-1]))


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="module", params=KINDS)
def gateway(
    request: pytest.FixtureRequest, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """Two workers, which share nothing but the journal."""
    files = {"gateway.yaml": configuration(receiver.url, ROUTES), "secrets": secrets()}
    with gateway_with_journal(request, tmp_path_factory, files) as running:
        yield running


@pytest.fixture
def body() -> bytes:
    """One that nobody else sends."""
    return b'{"number":%d,"at":%d}' % (next(_numbers), time.time_ns())


def send(gateway: GatewayProcess, route: str, body: bytes, **headers: str) -> str:
    """The id of the message that was taken."""
    answer = gateway.request("POST", f"/{route}/in?a=1", body, {key.replace("_", "-"): headers[key] for key in headers})
    assert answer.status == 202, answer.body
    return str(answer.json()["id"])


def message(gateway: GatewayProcess, message_id: str) -> Any:
    answer = gateway.get(f"{OUTBOX}/{message_id}")
    assert answer.status == 200, answer.body
    return answer.json()


def becomes(gateway: GatewayProcess, message_id: str, state: str) -> Any:
    eventually(lambda: message(gateway, message_id)["state"] == state, f"{state}: {message(gateway, message_id)}")
    return message(gateway, message_id)


def replay(gateway: GatewayProcess, message_id: str) -> Answer:
    return gateway.request("POST", f"{OUTBOX}/{message_id}/replay", None, OPERATOR)


def test_a_message_is_delivered_once_when_all_is_well(gateway: GatewayProcess, receiver: Receiver, body: bytes) -> None:
    answer = gateway.request(
        "POST",
        "/hooks/in?a=1",
        body,
        {
            "Content-Type": "application/json",
            "Authorization": "Bearer secret",
            "Cookie": "a=b",
            "X-API-Key": "secret",
            "X-Own": "1",
            "webhook-id": "forged",
            "Webhook_Id": "forged",
            "WEBHOOK.TIMESTAMP": "1",
            "Idempotency-Key": "mine",
            "Idempotency_Key": "mine",
            "X_API_Key": "secret",
            "X-Correlation-ID": "correlation-7",
        },
    )
    assert answer.status == 202
    told = answer.json()
    assert answer.headers["Location"] == told["statusUrl"] == f"{OUTBOX}/{told['id']}"
    done = becomes(gateway, told["id"], "delivered")
    assert (done["attempts"], done["lastStatus"], done["lastError"]) == (1, 200, None)
    assert (done["target"], done["size"], done["correlationId"]) == ("hooks", len(body), "correlation-7")
    assert receiver.attempts[told["id"]] == 1
    ((seen, _),) = [each for each in receiver.seen if each[0].get("webhook-id") == told["id"]]
    assert seen.line == b"POST /in?a=1 HTTP/1.1"
    assert seen.body == body
    assert seen.get("Idempotency-Key") == f'"{told["id"]}"'
    # As a receiver behind CGI reads them.
    names = [name.lower().replace("_", "-").replace(".", "-") for name, _ in seen.fields]
    once = ("webhook-id", "webhook-timestamp", "idempotency-key")
    assert [names.count(each) for each in (*once, "x-api-key")] == [1, 1, 1, 0]
    assert (seen.get("Content-Type"), seen.get("X-Own")) == ("application/json", "1")
    assert seen.get("X-Correlation-ID") == "correlation-7"
    assert seen.get("X-Forwarded-For") == "127.0.0.1"
    assert {name: seen.get(name) for name in ("Authorization", "Cookie", "X-API-Key", "webhook-signature")} == {
        "Authorization": None,
        "Cookie": None,
        "X-API-Key": None,
        "webhook-signature": None,
    }


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_are_delivered_too(gateway: GatewayProcess, receiver: Receiver, method: str) -> None:
    answer = gateway.request(method, "/hooks/in")
    becomes(gateway, answer.json()["id"], "delivered")
    assert any(seen.line.startswith(method.encode()) for seen, _ in receiver.seen)


def test_what_has_an_answer_to_wait_for_is_not_taken(gateway: GatewayProcess) -> None:
    answer = gateway.get("/hooks/in")
    assert (answer.status, answer.headers["Allow"]) == (405, "DELETE, PATCH, POST, PUT")


def test_a_failed_attempt_is_made_again(gateway: GatewayProcess, receiver: Receiver, body: bytes) -> None:
    receiver.answers.extend([500, 302])
    made = send(gateway, "hooks", body)
    done = becomes(gateway, made, "delivered")
    assert (done["attempts"], receiver.attempts[made]) == (3, 3)
    gateway.wait_for_records(event="outbox_failed", message_id=made, status=500)
    gateway.wait_for_records(event="outbox_delivered", message_id=made, attempt=3)


def test_a_message_is_given_up_after_its_schedule_and_delivered_again_when_told_to(
    gateway: GatewayProcess, receiver: Receiver, body: bytes
) -> None:
    receiver.answers.extend([500, 500, 503])
    made = send(gateway, "hooks", body)
    dead = becomes(gateway, made, "dead")
    assert (dead["attempts"], dead["lastStatus"], dead["nextAttemptIn"]) == (3, 503, None)
    assert "503" in dead["lastError"]
    assert gateway.request("POST", f"{OUTBOX}/{made}/replay").status == 401
    assert replay(gateway, made).status == 200
    assert becomes(gateway, made, "delivered")["attempts"] == 1
    assert receiver.attempts[made] == 4
    gateway.wait_for_records(event="admin_action", action=f"replay message {made}")


def test_410_is_the_end(gateway: GatewayProcess, receiver: Receiver, body: bytes) -> None:
    receiver.answers.append(410)
    assert becomes(gateway, send(gateway, "hooks", body), "dead")["attempts"] == 1


def test_retry_after_is_a_floor(gateway: GatewayProcess, receiver: Receiver, body: bytes) -> None:
    receiver.answers.append((503, b"Retry-After: 3600"))
    made = send(gateway, "hooks", body)
    eventually(lambda: message(gateway, made)["attempts"] == 1, "tried")
    waiting = message(gateway, made)
    assert waiting["state"] == "queued"
    assert 3000 < waiting["nextAttemptIn"] <= 3600
    assert replay(gateway, made).status == 200
    becomes(gateway, made, "delivered")


def test_a_range_is_delivered_again(gateway: GatewayProcess, receiver: Receiver, body: bytes) -> None:
    since = time.time() - 60
    receiver.answers.extend([410, 410])
    made = [send(gateway, "slow", body) for _ in range(2)]
    for each in made:
        becomes(gateway, each, "dead")

    def ask(**members: object) -> Answer:
        headers = {**OPERATOR, "Content-Type": "application/json"}
        return gateway.request("POST", f"{OUTBOX}/replay", json.dumps(members).encode(), headers)

    assert ask(since=since, until=since).json() == {"replayed": 0}
    assert ask(since=since).status == 400
    assert ask(since=since, until=time.time() + 60, target="nobody").json() == {"replayed": 0}
    assert ask(since=since, until=time.time() + 60, target="slow").json() == {"replayed": 2}
    for each in made:
        becomes(gateway, each, "delivered")


def test_messages_of_one_key_go_one_by_one_in_order(gateway: GatewayProcess, receiver: Receiver) -> None:
    own = [f"key-{next(_numbers)}-{time.time_ns()}" for _ in range(2)]
    receiver.answers.extend([500])
    made = [send(gateway, "ordered", f"{key} {number}".encode(), X_Key=key) for number in range(8) for key in own]
    for each in made:
        becomes(gateway, each, "delivered")
    for key in own:
        came = [body for body in receiver.each_once if body.startswith(f"{key} ".encode())]
        assert came == [f"{key} {number}".encode() for number in range(8)]
        assert receiver.most[key] == 1


def test_a_dead_message_lets_the_next_one_of_its_key_go(gateway: GatewayProcess, receiver: Receiver) -> None:
    key = f"key-{next(_numbers)}-{time.time_ns()}"
    receiver.answers.append(410)
    first = send(gateway, "ordered", b"first", X_Key=key)
    second = send(gateway, "ordered", b"second", X_Key=key)
    becomes(gateway, first, "dead")
    becomes(gateway, second, "delivered")


def test_signatures_are_those_of_standard_webhooks(gateway: GatewayProcess, receiver: Receiver, body: bytes) -> None:
    made = send(gateway, "signed", body)
    becomes(gateway, made, "delivered")
    ((seen, came),) = [each for each in receiver.seen if each[0].get("webhook-id") == made]
    stamp = seen.get("webhook-timestamp") or ""
    assert abs(int(stamp) - time.time()) < 300
    signed = f"{made}.{stamp}.".encode() + came
    expected = [
        "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        for secret in (SECRET, SECRET[::-1])
    ]
    assert (seen.get("webhook-signature") or "").split(" ") == expected


@pytest.mark.parametrize("chunked", [False, True])
def test_what_is_too_large_is_refused(gateway: GatewayProcess, chunked: bool) -> None:
    with RawClient(gateway.port) as client:
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 11"
        sent = b"b\r\n01234567890\r\n0\r\n\r\n" if chunked else b"01234567890"
        client.send(b"POST /small/in HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (framing, sent))
        answer = client.read_response()
    assert answer.status == 413
    assert json.loads(answer.body)["reason"] == "body_too_large"
    becomes(gateway, send(gateway, "small", b"0123456789"), "delivered")


def test_with_a_key_a_request_is_taken_once(gateway: GatewayProcess, receiver: Receiver, body: bytes) -> None:
    key = f"key-{time.time_ns()}"
    first = gateway.request("POST", "/keyed/in", body, {"Idempotency-Key": key})
    again = gateway.request("POST", "/keyed/in", body, {"Idempotency-Key": key})
    assert (first.status, again.status) == (202, 202)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.headers["Location"], again.body) == (first.headers["Location"], first.body)
    becomes(gateway, first.json()["id"], "delivered")
    assert receiver.bodies.count(body) == 1
    assert gateway.request("POST", "/keyed/in", body + b" ", {"Idempotency-Key": key}).status == 422


def test_what_the_control_plane_tells(gateway: GatewayProcess, receiver: Receiver, body: bytes) -> None:
    receiver.gate.clear()
    try:
        made = [send(gateway, "hooks", body) for _ in range(3)]
        eventually(lambda: message(gateway, made[0])["state"] == "sending", "sending")
        assert replay(gateway, made[0]).status == 409
        page = gateway.get(f"{OUTBOX}?target=hooks&count=2").json()
        assert [each["id"] for each in page["messages"]] == made[:0:-1]
        assert page["pending"] >= 3
        rest = gateway.get(f"{OUTBOX}?target=hooks&count=2&before={page['nextPage']}").json()
        assert rest["messages"][0]["id"] == made[0]
        assert body.decode() not in json.dumps([page, rest])
    finally:
        receiver.gate.set()
    for each in made:
        becomes(gateway, each, "delivered")
    assert gateway.get(f"{OUTBOX}/msg_{'0' * 26}").status == 404
    assert gateway.get(f"{OUTBOX}/nonsense").status == 404
    assert gateway.get(f"{OUTBOX}?state=lost").status == 400
    explained = gateway.get("/api/resilience/explain?path=/hooks/in&method=POST").json()
    assert [step["decision"] for step in explained["steps"] if step["policy"] == "deliver"] == ["allow"]
    assert (explained["outcome"], explained["forwarded"]["path"]) == ("answered", "/in")
    assert "endpoints" not in {step["policy"] for step in explained["steps"]}
    gateway.wait_for_metric("outbox_pending", 0.0)
    assert gateway.metric('outbox_attempts_total{target="hooks",outcome="delivered"}') >= 3
    assert gateway.metric('outbox_requests_total{route="hooks",outcome="accepted"}') >= 3


def test_an_open_circuit_spends_no_attempts(start_gateway: StartGateway, receiver: Receiver, body: bytes) -> None:
    receiver.usual = 500
    breaker = {"failure_threshold": 1, "minimum_calls": 1, "reset_timeout": 3}
    routes = {"hooks": {"deliver": {"enabled": True, "schedule": [0.1], "jitter": 0, "concurrency": 1}}}
    try:
        gateway = start_gateway(
            variables(WORKERS="1"), files={"gateway.yaml": configuration(receiver.url, routes, breaker)}
        )
        first = send(gateway, "hooks", body)
        eventually(lambda: message(gateway, first)["attempts"] == 1, "tried")
        made = [send(gateway, "hooks", body) for _ in range(10)]
        held = 'outbox_attempts_total{target="hooks",outcome="held_back"}'
        gateway.wait_until(lambda: gateway.metric(held) >= 1, "held back")
        receiver.usual = 200
        for each in made:
            assert becomes(gateway, each, "delivered")["attempts"] == 1
    finally:
        receiver.usual = 200


@pytest.mark.parametrize("limit", [{"OUTBOX_MAX_PENDING": "3"}, {"OUTBOX_MAX_BYTES": "2KiB"}])
def test_a_full_outbox_refuses(
    start_gateway: StartGateway, receiver: Receiver, body: bytes, limit: dict[str, str]
) -> None:
    """Three messages of about 700 bytes."""
    body = body.ljust(600)
    receiver.gate.clear()
    routes = {"hooks": {"deliver": {"enabled": True}}, "plain": {}}
    files = {"gateway.yaml": configuration(receiver.url, routes)}
    try:
        gateway = start_gateway(variables(WORKERS="1", **limit), files=files)
        for _ in range(3):
            send(gateway, "hooks", body)
        answer = gateway.request("POST", "/hooks/in", body)
        assert (answer.status, answer.json()["reason"]) == (503, "outbox_full")
        assert int(answer.headers["Retry-After"]) >= 5
        told = gateway.get(OUTBOX).json()
        assert 1800 < told["pendingBytes"] == sum(each["bytes"] for each in told["targets"])
        gateway.wait_for_metric("outbox_pending_bytes", told["pendingBytes"])
    finally:
        receiver.gate.set()
    gateway.wait_until(lambda: gateway.request("POST", "/hooks/in", body).status == 202, "taking messages again")
    assert gateway.request("POST", "/plain/in", body).status == 200


def test_a_gateway_that_stops_finishes_its_deliveries_and_begins_no_more(
    start_gateway: StartGateway, receiver: Receiver, body: bytes
) -> None:
    receiver.gate.clear()
    routes = {"hooks": {"deliver": {"enabled": True, "concurrency": 1}}}
    files = {"gateway.yaml": configuration(receiver.url, routes)}
    try:
        gateway = start_gateway(variables(WORKERS="1"), files=files)
        first = send(gateway, "hooks", body)
        eventually(lambda: receiver.attempts[first] == 1, "under way")
        second = send(gateway, "hooks", body)
        gateway.send_signal(signal.SIGTERM)
        gateway.wait_for_line("draining: ")
    finally:
        receiver.gate.set()
    gateway.wait()
    assert (receiver.attempts[first], receiver.attempts[second]) == (1, 0)
    again = start_gateway(variables(f"sqlite:///{gateway.directory}/var/journal.db"), files=files)
    assert becomes(again, second, "delivered")["attempts"] == 1
    assert message(again, first)["state"] == "delivered"


def test_a_gateway_that_delivers_nothing_has_none_of_it(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = start_gateway(variables(), files={"gateway.yaml": configuration(receiver.url, {"plain": {}})})
    assert gateway.get(OUTBOX).status == 404
    assert "\noutbox_" not in gateway.get("/metrics").body.decode()
    assert not (Path(gateway.directory) / "var").exists()
