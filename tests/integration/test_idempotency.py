"""Idempotency keys through whole gateways, real sockets, and a journal in SQLite and in PostgreSQL."""

import contextlib
import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import yaml

from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, framed, ok
from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.journal_gateways import upgraded
from tests.support.keys import key as api_key
from tests.support.keys import sha256
from tests.support.plain_http import Answer
from tests.support.postgres_server import PostgresServer
from tests.support.raw_http import RawClient
from tests.support.waiting import eventually

_numbers = count(1)
WEB, APP, OTHER = api_key("webkey000001"), api_key("appkey000001"), api_key("otherkey0001")
# Their consumers are of no tenant.
LONE, ALONE = api_key("lonekey00001"), api_key("alonekey0001")
ROUTES: dict[str, dict[str, object]] = {
    "orders": {"mode": "optional"},
    "strict": {"mode": "required", "methods": ["POST", "PUT"]},
    "retry": {"mode": "optional", "on_unknown": "retry"},
    "wait": {"mode": "optional", "wait": 30},
    "small": {"mode": "optional", "max_response_bytes": 100},
    "large": {"mode": "optional", "wait": 30, "max_response_bytes": 16_777_216},
    "plain": {"mode": "off"},
}


def configuration(url: str) -> dict[str, object]:
    return {
        "upstreams": {
            "orders": {
                "endpoints": [url],
                "breaker": {"failure_threshold": 10_000, "minimum_calls": 1000, "window_size": 1000},
                "timeouts": {"attempt": 60, "total": 120, "connect": 30},
            },
            "honours": {"endpoints": [url], "honours_idempotency_key": True, "retry": {"max_attempts": 1}},
            # Nobody listens there.
            "nobody": {"endpoints": ["127.0.0.1:1"], "breaker": {"failure_threshold": 10_000}},
        },
        "tiers": {"free": {}},
        "tenants": {"acme": {"tier": "free"}, "umbrella": {"tier": "free"}},
        "consumers": {
            name: {"tenant": tenant, "keys": [{"id": text.split("_")[1], "sha256": sha256(text)}]}
            for name, tenant, text in (("web", "acme", WEB), ("app", "acme", APP), ("other", "umbrella", OTHER))
        }
        | {
            name: {"keys": [{"id": text.split("_")[1], "sha256": sha256(text)}]}
            for name, text in (("lone", LONE), ("alone", ALONE))
        },
        "routes": [
            {"name": name, "prefix": f"/{name}", "upstream": "orders", "strip_prefix": True, "rate_limit": None}
            | {"idempotency": settings}
            for name, settings in ROUTES.items()
        ]
        + [
            {"name": "away", "prefix": "/away", "upstream": "nobody", "rate_limit": None}
            | {"idempotency": {"mode": "optional"}},
            {"name": "honoured", "prefix": "/honoured", "upstream": "honours", "strip_prefix": True}
            | {"rate_limit": None, "idempotency": {"mode": "optional"}},
            {"name": "hosts", "prefix": "/hosts", "upstream": "orders", "strip_prefix": True, "preserve_host": True}
            | {"rate_limit": None, "idempotency": {"mode": "optional"}},
            {"name": "limited", "prefix": "/limited", "upstream": "orders", "strip_prefix": True, "max_body_bytes": 10}
            | {"rate_limit": None, "idempotency": {"mode": "optional"}},
        ]
        + [
            {"name": scope, "prefix": f"/{scope}", "upstream": "orders", "strip_prefix": True, "rate_limit": None}
            | {"authentication": "api_key", "idempotency": {"mode": "optional", "scope": scope}}
            for scope in ("client", "tenant")
        ],
    }


def variables(journal: str) -> dict[str, str]:
    return {"GATEWAY_CONFIG": "gateway.yaml", "JOURNAL_URL": journal, "JOURNAL_TIMEOUT_SECONDS": "30", "WORKERS": "2"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def gateway(
    request: pytest.FixtureRequest, upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """Two workers, which share nothing but the journal."""
    journal = "sqlite:///var/journal.db"
    if request.param == "postgresql":
        journal = upgraded(request.getfixturevalue("postgres_server").new_database())
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "gateway.yaml").write_text(yaml.safe_dump(configuration(upstream.url)))
    with GatewayProcess(variables(journal), directory) as running:
        running.wait_until(lambda: running.metric("gateway_journal_up") == 1.0, "with a journal")
        yield running


@pytest.fixture
def key() -> str:
    """One that nobody has used."""
    return f"key-{next(_numbers)}-{time.time_ns()}"


@pytest.fixture
def path(upstream: ProgrammedUpstream) -> str:
    """A path of this test's own, that is answered with 201 and another body each time."""
    own = f"/{next(_numbers)}-{time.time_ns()}"
    numbers = count(1)
    upstream.on(own, lambda peer, seen: answered(peer, seen, b"answer %d" % next(numbers)))
    return own


def answered(peer: Peer, seen: Seen, body: bytes) -> None:
    peer.read_body(seen)
    lines = (b"Content-Type: text/plain", b"Location: /orders/1", b"Set-Cookie: a=b", b"X-Own: 1", b"RateLimit: x")
    peer.send(ok(body, *lines, status=201))


def post(gateway: GatewayProcess, target: str, key: str | None, body: bytes = b"a=1", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        fields["Idempotency-Key"] = key
    return gateway.request("POST", target, body, fields)


def reason(answer: Answer) -> str:
    return str(answer.json()["reason"])


def held(upstream: ProgrammedUpstream, path: str, answer: bytes | None = None) -> threading.Event:
    """The answers for this path wait for the event."""
    go = threading.Event()

    def hold(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        assert go.wait(60)
        peer.send(answer or ok(b"held"))

    upstream.on(path, hold)
    return go


# A repetition gets the answer of the first request.


def test_a_repetition_gets_the_first_answer(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    first = post(gateway, f"/orders{path}", key)
    again = post(gateway, f"/orders{path}", f'"{key}"')
    assert (first.status, first.body) == (201, b"answer 1")
    assert (again.status, again.body) == (201, b"answer 1")
    assert first.headers["Idempotent-Replayed"] is None
    assert again.headers["Idempotent-Replayed"] == "true"
    assert upstream.only(path).get("Idempotency-Key") == key


def test_a_repetition_has_its_own_id_and_nothing_of_the_first_exchange_alone(
    gateway: GatewayProcess, path: str, key: str
) -> None:
    first, again = post(gateway, f"/orders{path}", key), post(gateway, f"/orders{path}", key)
    for name in ("Content-Type", "Location", "X-Own", "Content-Length"):
        assert again.headers.get_all(name) == first.headers.get_all(name), name
    assert first.headers["Set-Cookie"] == "a=b"
    assert again.headers["Set-Cookie"] is None
    assert again.headers["RateLimit"] is None
    assert len(again.headers.get_all("X-Request-ID", [])) == len(again.headers.get_all("Date", [])) == 1
    assert again.headers["X-Request-ID"] != first.headers["X-Request-ID"]


def test_what_the_upstream_has_said_to_pages_of_other_origins_is_said_again(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    upstream.on(path, ok(b"for a page", b"Access-Control-Allow-Origin: https://app.example", b"Vary: Origin"))
    for _ in range(2):
        answer = post(gateway, f"/orders{path}", key, Origin="https://app.example")
        assert answer.headers.get_all("Access-Control-Allow-Origin") == ["https://app.example"]


@pytest.mark.parametrize("body", [b"", b"x" * 300_000])
def test_bodies_of_any_size_are_compared_and_kept_nowhere(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str, body: bytes
) -> None:
    assert post(gateway, f"/orders{path}", key, body).body == b"answer 1"
    assert post(gateway, f"/orders{path}", key, body).body == b"answer 1"
    other = body[:-1] + b"y" if body else b"y"
    assert post(gateway, f"/orders{path}", key, other).status == 422
    assert upstream.only(path).body == body


def test_a_body_in_chunks_is_the_same_request(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    assert post(gateway, f"/orders{path}", key, b"abcdef").status == 201
    head = f"POST /orders{path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with RawClient(gateway.port) as client:
        client.send(head.encode())
        client.send(b"2\r\nab\r\n")
        client.send(b"4\r\ncdef\r\n0\r\n\r\n")
        assert client.read_response("POST").get("Idempotent-Replayed") == "true"
    upstream.only(path)


@pytest.mark.parametrize("status", [200, 204, 302, 400, 404, 409, 422])
def test_answers_that_say_what_happened_are_kept(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str, status: int
) -> None:
    upstream.on(path, ok(b"" if status == 204 else b"said", status=status), ok(b"never"))
    assert [post(gateway, f"/orders{path}", key).status for _ in range(2)] == [status] * 2
    upstream.only(path)


@pytest.mark.parametrize("status", [401, 408, 421, 425, 429])
def test_after_an_answer_that_says_that_nothing_was_done_the_request_may_come_again(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str, status: int
) -> None:
    upstream.on(path, ok(b"", status=status), ok(b"done"))
    assert [post(gateway, f"/orders{path}", key).status for _ in range(3)] == [status, 200, 200]
    assert len(upstream.requests(path)) == 2


def test_a_conflict_of_an_upstream_that_honours_keys_is_no_final_answer(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    """It may say that the first request is still under way there. Its own answer to that one comes later."""
    upstream.on(path, ok(b"busy", status=409), ok(b"done"), ok(b"never"))
    answers = [post(gateway, f"/honoured{path}", key) for _ in range(3)]
    assert [(each.status, each.body) for each in answers] == [(409, b"busy"), (200, b"done"), (200, b"done")]
    assert len(upstream.requests(path)) == 2


def test_an_answer_in_pieces_is_kept_as_a_whole(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    pieces = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"3\r\ndef\r\n", b"0\r\n\r\n")
    upstream.on(path, framed(*pieces, close=False, delay=0.05), ok(b"never"))
    assert [post(gateway, f"/orders{path}", key).body for _ in range(2)] == [b"abcdef"] * 2


def test_an_answer_up_to_the_end_of_its_connection_is_kept(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    upstream.on(path, framed(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd", delay=0.05), ok(b"never"))
    assert [post(gateway, f"/orders{path}", key).body for _ in range(2)] == [b"abcd"] * 2


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_of_an_answer_that_is_too_large_only_the_status_is_kept(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str, kind: str
) -> None:
    body = b"x" * 50_000
    if kind == "chunked":
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        upstream.on(path, framed(head, b"%x\r\n%b\r\n" % (len(body), body), b"0\r\n\r\n", close=False, delay=0.02))
    else:
        upstream.on(path, ok(body))
    assert post(gateway, f"/small{path}", key).body == body
    again = post(gateway, f"/small{path}", key)
    assert (again.status, reason(again)) == (409, "idempotency_answer_not_kept")
    assert again.json()["original_status"] == 200
    upstream.only(path)


# Conflicts.


@pytest.mark.parametrize("what", ["body", "target", "method", "content type"])
def test_another_request_with_the_key_is_refused(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str, what: str
) -> None:
    assert post(gateway, f"/orders{path}", key, Content_Type="a/b").status == 201
    headers = {"Idempotency-Key": key, "Content-Type": "a/c" if what == "content type" else "a/b"}
    answer = gateway.request(
        "PATCH" if what == "method" else "POST",
        f"/orders{path}{'?x' if what == 'target' else ''}",
        b"a=2" if what == "body" else b"a=1",
        headers,
    )
    assert (answer.status, reason(answer)) == (422, "idempotency_key_reused")
    upstream.only(path)


def test_a_repetition_that_comes_too_early_is_told_to_come_again(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    go = held(upstream, path)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, gateway, f"/orders{path}", key)
        upstream.wait_for(path)
        early = post(gateway, f"/orders{path}", key)
        assert (early.status, reason(early)) == (409, "idempotency_key_in_progress")
        assert int(early.headers["Retry-After"]) >= 1
        go.set()
        assert first.result().status == 200
    assert post(gateway, f"/orders{path}", key).headers["Idempotent-Replayed"] == "true"


def test_a_repetition_may_wait_for_the_first_answer(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    go = held(upstream, path)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(post, gateway, f"/wait{path}", key)
        upstream.wait_for(path)
        others = [pool.submit(post, gateway, f"/wait{path}", key) for _ in range(8)]
        time.sleep(0.3)
        assert not any(each.done() for each in others)
        go.set()
        assert first.result().body == b"held"
        assert {each.result().body for each in others} == {b"held"}
    upstream.only(path)


def test_many_at_once_with_one_key_are_carried_out_once(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: post(gateway, f"/wait{path}", key), range(48)))
    assert {(each.status, each.body) for each in answers} == {(201, b"answer 1")}
    upstream.only(path)


# Bad keys, and no key.


def test_a_key_that_is_missing_where_it_must_be_there_is_refused(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str
) -> None:
    answer = post(gateway, f"/strict{path}", None)
    assert (answer.status, reason(answer)) == (400, "idempotency_key_missing")
    assert gateway.request("PATCH", f"/strict{path}", b"x").status == 201
    assert gateway.request("GET", f"/strict{path}").status == 201
    assert [seen.line.split()[0] for seen in upstream.requests(path)] == [b"PATCH", b"GET"]


@pytest.mark.parametrize("bad", ["", '"', "a b", "x" * 256, "ä"])
def test_a_malformed_key_is_refused(gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, bad: str) -> None:
    answer = gateway.request("POST", f"/orders{path}", b"x", {"Idempotency-Key": bad})
    assert (answer.status, reason(answer)) == (400, "idempotency_key_malformed")
    assert upstream.requests(path) == []


def test_two_keys_are_none(gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str) -> None:
    with RawClient(gateway.port) as client:
        client.send(
            f"POST /orders{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
            "Idempotency-Key: a\r\nIdempotency-Key: a\r\n\r\n".encode()
        )
        assert client.read_response("POST").status == 400
    assert upstream.requests(path) == []


def test_without_a_key_and_on_other_routes_every_request_is_carried_out(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    assert [post(gateway, f"/orders{path}", None).body for _ in range(2)] == [b"answer 1", b"answer 2"]
    assert [post(gateway, f"/plain{path}", key).body for _ in range(2)] == [b"answer 3", b"answer 4"]


# Whose keys.


def test_routes_share_no_keys(gateway: GatewayProcess, path: str, key: str) -> None:
    assert post(gateway, f"/orders{path}", key).body == b"answer 1"
    assert post(gateway, f"/retry{path}", key).body == b"answer 2"


def test_consumers_share_no_keys_and_those_of_a_tenant_may(gateway: GatewayProcess, path: str, key: str) -> None:
    bodies = {
        (route, who): post(gateway, f"/{route}{path}", key, X_API_Key=secret).body
        for route in ("client", "tenant")
        for who, secret in (("web", WEB), ("app", APP), ("other", OTHER), ("web again", WEB))
    }
    assert bodies["client", "web"] == bodies["client", "web again"]
    assert len({bodies["client", who] for who in ("web", "app", "other")}) == 3
    assert bodies["tenant", "web"] == bodies["tenant", "app"]
    assert bodies["tenant", "web"] != bodies["tenant", "other"]


def test_consumers_of_no_tenant_share_no_keys(gateway: GatewayProcess, path: str, key: str) -> None:
    bodies = [post(gateway, f"/tenant{path}", key, X_API_Key=secret).body for secret in (LONE, ALONE, LONE)]
    assert bodies == [b"answer 1", b"answer 2", b"answer 1"]


def test_another_host_is_another_request_where_the_upstream_is_told_of_it(
    gateway: GatewayProcess, path: str, key: str
) -> None:
    hosts = ("a.test", "A.test:80", "b.test")
    assert [post(gateway, f"/hosts{path}", key, Host=host).status for host in hosts] == [201, 201, 422]
    assert [post(gateway, f"/orders{path}", key, Host=host).status for host in hosts] == [201, 201, 201]


# Unknown outcomes, and requests that come to nothing.


@pytest.mark.parametrize("how", ["5xx", "truncated", "no answer"])
def test_an_outcome_that_is_not_known_blocks_the_key(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str, how: str
) -> None:
    upstream.on(path, unknown(how), ok(b"second"))
    broken(lambda: post(gateway, f"/orders{path}", key))
    again = settled(gateway, f"/orders{path}", key)
    assert (again.status, reason(again)) == (409, "idempotency_outcome_unknown")
    upstream.only(path)


@pytest.mark.parametrize("how", ["5xx", "truncated", "no answer"])
def test_or_lets_the_next_request_try(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str, how: str
) -> None:
    upstream.on(path, unknown(how), ok(b"second"))
    broken(lambda: post(gateway, f"/retry{path}", key))
    assert [settled(gateway, f"/retry{path}", key).body for _ in range(2)] == [b"second"] * 2
    assert len(upstream.requests(path)) == 2


def settled(gateway: GatewayProcess, target: str, key: str) -> Answer:
    """The answer once the request before is no longer under way: a client may see its end before the journal has it."""
    answers: list[Answer] = []

    def ended() -> bool:
        answers.append(post(gateway, target, key))
        return b"idempotency_key_in_progress" not in answers[-1].body

    eventually(ended, "over, the request before")
    return answers[-1]


def unknown(how: str) -> bytes | Callable[[Peer, Seen], None]:
    if how == "5xx":
        return ok(b"", status=500)
    if how == "truncated":
        return framed(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", delay=0.05)
    return framed()


def broken(send: Callable[[], Answer]) -> None:
    """A request whose answer is bad, or none."""
    with contextlib.suppress(http.client.IncompleteRead):
        assert send().status >= 500


def test_a_request_that_was_never_sent_gives_its_key_back(gateway: GatewayProcess, key: str) -> None:
    answers = [post(gateway, "/away", key) for _ in range(2)]
    assert [(each.status, reason(each)) for each in answers] == [(502, "upstream_unreachable")] * 2


def test_a_body_that_is_too_large_gives_its_key_back(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    head = f"POST /limited{path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with RawClient(gateway.port) as client:
        client.send(head.encode() + b"14\r\n01234567890123456789\r\n0\r\n\r\n")
        assert client.read_response("POST").status == 413
    # The refusal may go out while the claim is still on its way to the journal; it is taken back when it comes.
    eventually(lambda: post(gateway, f"/limited{path}", key, b"short").status == 201, "given back")


def test_a_request_that_the_upstream_refuses_half_way_gives_its_key_back(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    def refuse(peer: Peer, seen: Seen) -> None:
        peer.send(ok(b"too large", b"Connection: close", status=413))
        peer.wait_for_end()

    upstream.on(path, refuse, ok(b"done"))
    head = f"POST /wait{path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nContent-Length: 1000000\r\n\r\n"
    with RawClient(gateway.port) as client:
        client.send(head.encode() + b"01234")
        assert client.read_response("POST").status == 413
    assert post(gateway, f"/wait{path}", key).body == b"done"


def test_half_a_request_gives_its_key_back(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    head = f"POST /wait{path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nContent-Length: 10\r\n\r\n"
    with RawClient(gateway.port) as client:
        client.send(head.encode() + b"01234")
        upstream.wait_for(path)
    eventually(lambda: post(gateway, f"/wait{path}", key, b"0123456789").status == 201, "carried out")
    assert upstream.requests(path)[-1].whole


def test_a_client_is_asked_for_its_body_when_the_key_is_claimed(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    head = (
        f"POST /orders{path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nContent-Length: 3\r\n"
        "Expect: 100-continue\r\n\r\n"
    ).encode()
    for replayed in (None, "true"):
        with RawClient(gateway.port) as client:
            client.send(head)
            client.send(b"a=1")
            answer = client.read_response("POST")
            assert (answer.status, answer.get("Idempotent-Replayed")) == (201, replayed)
    go = held(upstream, path)
    other = head.replace(key.encode(), f"{key}-2".encode())
    with ThreadPoolExecutor(1) as pool, RawClient(gateway.port) as client:
        first = pool.submit(post, gateway, f"/orders{path}", f"{key}-2")
        upstream.wait_for(path, 2)
        client.send(other)
        early = client.read_response("POST")
        assert (early.status, early.interim) == (409, [])
        go.set()
        first.result()


# Clients that leave.


@pytest.mark.parametrize("streamed", [False, True])
def test_a_request_goes_on_when_its_client_leaves(
    gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str, key: str, streamed: bool
) -> None:
    go = threading.Event()

    def slowly(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        if streamed:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
        assert go.wait(60)
        peer.send(b"56789" if streamed else ok(b"0123456789"))

    upstream.on(path, slowly)
    with RawClient(gateway.port) as client:
        client.send(
            f"POST /wait{path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nContent-Length: 3\r\n\r\na=1".encode()
        )
        upstream.wait_for(path)
        if streamed:
            client.socket.recv(1000)
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(post, gateway, f"/wait{path}", key)
        time.sleep(0.2)
        go.set()
        assert again.result().body == b"0123456789"
        assert again.result().headers["Idempotent-Replayed"] == "true"
    upstream.only(path)


def test_an_answer_that_its_client_takes_too_slowly_is_kept(
    start_gateway: StartGateway, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    # More than the kernels' buffers take.
    body = b"x" * 16_000_000
    upstream.on(path, ok(body))
    gateway = start_one(start_gateway, upstream, "sqlite:///journal.db", CLIENT_IDLE_TIMEOUT_SECONDS="1")
    with RawClient(gateway.port) as client:
        client.send(
            f"POST /large{path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nContent-Length: 3\r\n\r\na=1".encode()
        )
        upstream.wait_for(path)
        again = post(gateway, f"/large{path}", key)
        assert (again.status, len(again.body), again.headers["Idempotent-Replayed"]) == (200, len(body), "true")
    upstream.only(path)


def test_without_a_key_it_ends(gateway: GatewayProcess, upstream: ProgrammedUpstream, path: str) -> None:
    ended: list[str] = []

    def wait(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        ended.append(peer.wait_for_end())

    upstream.on(path, wait)
    with RawClient(gateway.port) as client:
        client.send(f"POST /wait{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=1".encode())
        upstream.wait_for(path)
    eventually(lambda: ended != [], "ended")


# The journal away, full, cleaned.


def start_one(start_gateway: StartGateway, upstream: ProgrammedUpstream, journal: str, **more: str) -> GatewayProcess:
    files = {"gateway.yaml": yaml.safe_dump(configuration(upstream.url))}
    return start_gateway({**variables(journal), "WORKERS": "1", **more}, files=files)


def test_without_the_journal_requests_with_keys_are_refused_and_nothing_else(
    start_gateway: StartGateway, upstream: ProgrammedUpstream, own_postgres: PostgresServer, path: str, key: str
) -> None:
    journal = upgraded(own_postgres.new_database())
    gateway = start_one(start_gateway, upstream, journal, JOURNAL_TIMEOUT_SECONDS="5")
    assert post(gateway, f"/orders{path}", key).status == 201
    own_postgres.stop()
    refused = post(gateway, f"/orders{path}", f"{key}-2")
    assert (refused.status, reason(refused)) == (503, "journal_unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert post(gateway, f"/orders{path}", None).status == 201
    assert gateway.metric("gateway_journal_up") == 0.0
    gateway.wait_for_records(1, event="journal_failed")
    own_postgres.start()
    gateway.wait_for_metric("gateway_journal_up", 1.0)
    assert post(gateway, f"/orders{path}", key).headers["Idempotent-Replayed"] == "true"
    assert post(gateway, f"/orders{path}", f"{key}-2").status == 201


def test_or_they_pass_without_the_promise(
    start_gateway: StartGateway, upstream: ProgrammedUpstream, tmp_path: Path, path: str, key: str
) -> None:
    (tmp_path / "file").write_text("no database, and long enough for one" * 100)
    gateway = start_gateway(
        {
            "UPSTREAM_URL": upstream.url,
            "JOURNAL_URL": f"sqlite:///{tmp_path}/file",
            "IDEMPOTENCY_MODE": "required",
            "IDEMPOTENCY_ON_STORE_FAILURE": "open",
            "RATE_LIMIT_ENABLED": "false",
        }
    )
    assert [post(gateway, f"/proxy{path}", key).body for _ in range(2)] == [b"answer 1", b"answer 2"]
    assert gateway.metric('idempotency_requests_total{route="proxy",outcome="unprotected"}') == 2
    records = gateway.log_records(route="proxy")
    assert all(each["decisions"].get("idempotency") == "unprotected" for each in records)


def test_records_are_bounded_and_the_oldest_go_first(
    start_gateway: StartGateway, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    gateway = start_one(start_gateway, upstream, "sqlite:///journal.db", IDEMPOTENCY_MAX_RECORDS="40")

    def kept(number: int) -> bool:
        # On a busy machine new ones may come faster than the oldest go: full for that moment.
        answer = post(gateway, f"/orders{path}", f"{key}-{number}")
        assert answer.status == 201 or reason(answer) == "idempotency_full"
        return answer.status == 201

    for number in range(60):
        gateway.wait_until(partial(kept, number), "kept")
    gateway.wait_until(lambda: gateway.metric("idempotency_evicted_total") > 0, "making room")
    gateway.wait_until(lambda: gateway.metric("idempotency_records") <= 40, "bounded")
    assert post(gateway, f"/orders{path}", f"{key}-59").headers["Idempotent-Replayed"] == "true"
    assert post(gateway, f"/orders{path}", f"{key}-0").headers["Idempotent-Replayed"] is None


def test_where_nothing_can_be_deleted_new_keys_are_refused_and_known_ones_answered(
    start_gateway: StartGateway, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    gateway = start_one(start_gateway, upstream, "sqlite:///journal.db", IDEMPOTENCY_MAX_RECORDS="3")
    upstream.on(path, ok(b"", status=500))
    for number in range(3):
        assert post(gateway, f"/orders{path}", f"{key}-{number}").status == 500
    # Records are counted now and then. Until then a new key is taken, and one that was taken is known from then on.
    more = (f"{key}-x{number}" for number in count())
    gateway.wait_until(lambda: post(gateway, f"/orders{path}", next(more)).status == 503, "full")
    refused = post(gateway, f"/orders{path}", f"{key}-y")
    assert (refused.status, reason(refused)) == (503, "idempotency_full")
    assert reason(post(gateway, f"/orders{path}", f"{key}-0")) == "idempotency_outcome_unknown"


def test_no_key_is_ever_written_down(start_gateway: StartGateway, upstream: ProgrammedUpstream, path: str) -> None:
    secret = "a-key-that-nobody-may-read-anywhere"
    gateway = start_one(start_gateway, upstream, "sqlite:///journal.db", LOG_LEVEL="DEBUG")
    for _ in range(2):
        assert post(gateway, f"/orders{path}", secret).status == 201
    assert post(gateway, f"/orders{path}", secret, b"other").status == 422
    files = [each.read_bytes() for each in gateway.directory.glob("journal.db*")]
    assert files
    assert not any(secret.encode() in each for each in files)
    assert secret not in gateway.output
    assert secret not in gateway.get("/api/resilience/errors/recent").body.decode()


def test_it_survives_a_restart(
    start_gateway: StartGateway, upstream: ProgrammedUpstream, tmp_path: Path, path: str, key: str
) -> None:
    journal = f"sqlite:///{tmp_path}/journal.db"
    first = start_one(start_gateway, upstream, journal)
    assert post(first, f"/orders{path}", key).body == b"answer 1"
    first.stop()
    assert post(start_one(start_gateway, upstream, journal), f"/orders{path}", key).body == b"answer 1"


def test_a_gateway_that_stops_finishes_what_its_client_has_left(
    start_gateway: StartGateway, upstream: ProgrammedUpstream, tmp_path: Path, path: str, key: str
) -> None:
    journal = f"sqlite:///{tmp_path}/journal.db"
    go = held(upstream, path)
    gateway = start_one(start_gateway, upstream, journal)
    with RawClient(gateway.port) as client:
        client.send(
            f"POST /orders{path} HTTP/1.1\r\nHost: a\r\nIdempotency-Key: {key}\r\nContent-Length: 3\r\n\r\na=1".encode()
        )
        upstream.wait_for(path)
    gateway.wait_for_metric("gateway_client_closed_total", 1.0)
    threading.Timer(1.0, go.set).start()
    assert gateway.stop() == 0
    again = post(start_one(start_gateway, upstream, journal), f"/orders{path}", key)
    assert (again.body, again.headers["Idempotent-Replayed"]) == (b"held", "true")


# The control plane.


def test_the_records_are_counted_and_no_key_is_told(
    start_gateway: StartGateway, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    gateway = start_one(start_gateway, upstream, "sqlite:///journal.db", IDEMPOTENCY_MAX_RECORDS="100")
    post(gateway, f"/orders{path}", key)
    upstream.on(path, ok(b"", status=500))
    post(gateway, f"/retry{path}", key)
    answer = gateway.get("/api/resilience/idempotency")
    told = answer.json()
    assert key not in answer.body.decode()
    assert (told["records"], told["maxRecords"], told["maxBytes"]) == (2, 100, 268_435_456)
    assert [(each["route"], each["state"], each["records"]) for each in told["routes"]] == [
        ("orders", "finished", 1),
        ("retry", "unknown", 1),
    ]
    assert told["bytes"] == told["routes"][0]["bytes"] > len(b"answer 1")
    assert gateway.get("/health").json()["checks"]["journal"]["status"] == "healthy"


def test_what_is_over_is_deleted_when_an_operator_says_so(
    start_gateway: StartGateway, upstream: ProgrammedUpstream, path: str, key: str
) -> None:
    gateway = start_one(start_gateway, upstream, "sqlite:///journal.db")
    for number in range(5):
        post(gateway, f"/orders{path}", f"{key}-{number}")
    clean = gateway.request("POST", "/api/admin/cleanup/idempotency")
    assert (clean.status, clean.json()) == (200, {"removed": 0})
    with contextlib.closing(sqlite3.connect(gateway.directory / "journal.db")) as file, file:
        file.execute("UPDATE idempotency_records SET expires_at = 0 WHERE rowid % 2 = 0")
        over = file.execute("SELECT count(*) FROM idempotency_records WHERE expires_at = 0").fetchone()[0]
    assert over > 0
    assert gateway.request("POST", "/api/admin/cleanup/idempotency").json() == {"removed": over}
    assert gateway.get("/api/resilience/idempotency").json()["records"] == 5 - over
    audit = gateway.wait_for_records(2, event="admin_action", action="cleanup-idempotency")
    assert audit[1]["after"] == {"removed": over}


def test_without_the_journal_the_control_plane_says_so(
    start_gateway: StartGateway, upstream: ProgrammedUpstream, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no database, and long enough for one" * 100)
    gateway = start_one(start_gateway, upstream, f"sqlite:///{tmp_path}/file")
    for method, target in (
        ("GET", "/api/resilience/idempotency"),
        ("POST", "/api/admin/cleanup/idempotency"),
    ):
        answer = gateway.request(method, target)
        assert (answer.status, reason(answer)) == (503, "journal_unavailable")
    health = gateway.get("/health").json()
    assert health["checks"]["journal"]["status"] == "degraded"
    assert any("not a database" in each for each in health["reasons"])


def test_a_gateway_without_keys_has_none_of_it(start_gateway: StartGateway, upstream: ProgrammedUpstream) -> None:
    gateway = start_gateway({"UPSTREAM_URL": upstream.url})
    assert gateway.get("/api/resilience/idempotency").status == 404
    assert gateway.get("/health").json()["checks"]["journal"] == {"status": "disabled"}
    assert "gateway_journal" not in gateway.get("/metrics").body.decode()
    assert not (gateway.directory / "var").exists()


def test_an_explanation_has_the_gate(gateway: GatewayProcess) -> None:
    steps = gateway.get("/api/resilience/explain?method=POST&path=/strict/x").json()["steps"]
    found = {each["policy"]: each for each in steps}
    assert "without it is refused with 400" in found["idempotency"]["detail"]
    order = [each["policy"] for each in steps]
    assert order.index("rate_limit") < order.index("idempotency") < order.index("replay") < order.index("bulkhead")


def test_what_becomes_of_requests_is_counted(gateway: GatewayProcess, path: str, key: str) -> None:
    def counted(outcome: str) -> float:
        return gateway.metric(f'idempotency_requests_total{{route="orders",outcome="{outcome}"}}')

    before = {outcome: counted(outcome) for outcome in ("new", "replayed", "reused", "malformed")}
    conflicts = gateway.metric('idempotency_conflicts_total{route="orders"}')
    post(gateway, f"/orders{path}", key)
    post(gateway, f"/orders{path}", key)
    post(gateway, f"/orders{path}", key, b"other")
    post(gateway, f"/orders{path}", "a b")
    eventually(lambda: all(counted(outcome) == value + 1 for outcome, value in before.items()), "counted", timeout=30)
    assert gateway.metric('idempotency_conflicts_total{route="orders"}') == conflicts + 1


def test_the_log_says_what_was_replayed(gateway: GatewayProcess, path: str, key: str) -> None:
    post(gateway, f"/orders{path}", key)
    again = post(gateway, f"/orders{path}", key)
    request_id = again.headers["X-Request-ID"]
    record = gateway.wait_for_records(1, request_id=request_id)[0]
    assert (record["status"], record["attempts"], record["decisions"]["idempotency"]) == (201, 0, "replayed")
    assert json.dumps(record).count(key) == 0


def test_a_damaged_record_is_answered_in_time_and_stops_nobody(
    start_gateway: StartGateway, upstream: ProgrammedUpstream
) -> None:
    """SQLite keeps anything in any column."""

    def answer(peer: Peer, seen: Seen) -> None:
        peer.exactly(1)
        peer.send(ok(b"made"))

    upstream.on("/made", answer)
    gateway = start_gateway(
        {"UPSTREAM_URL": upstream.url, "IDEMPOTENCY_MODE": "optional", "RATE_LIMIT_ENABLED": "false"}
    )

    def made(key: str) -> Answer:
        return gateway.request("POST", "/proxy/made", b"x", {"Idempotency-Key": key})

    with contextlib.closing(sqlite3.connect(gateway.directory / "var" / "journal.db", timeout=30)) as journal:
        for number, (column, value) in enumerate(
            [
                ("status", "many"),
                ("status", 0),
                ("head", "text"),
                ("body", 7),
                ("content", 7),
                ("state", "odd"),
                ("size", "x"),
            ]
        ):
            assert made(f"k-{number}").status == 200
            newest = "(SELECT max(created_at) FROM idempotency_records)"
            journal.execute(f"UPDATE idempotency_records SET {column} = ? WHERE created_at = {newest}", (value,))  # noqa: S608 - of this test
            journal.commit()
            again = made(f"k-{number}")
            whole = column == "size"
            assert (again.status, again.headers.get("Idempotent-Replayed")) == ((200, "true") if whole else (409, None))
    counted = gateway.get("/api/resilience/idempotency")
    assert (counted.status, counted.json()["records"]) == (200, 7)
