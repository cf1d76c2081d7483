"""Fallbacks as clients, upstreams and operators see them: who is asked, when, with what, and how it is told."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, framed, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.plain_http import Answer
from tests.support.ports import free_port
from tests.support.raw_http import RawClient
from tests.support.waiting import eventually, stands_still

JSON = {"Content-Type": "application/json"}
FORCE = b'{"duration": 60, "reason": "a test"}'
BAD = ok(b"no\n", status=503)


def reset(peer: Peer, seen: Seen) -> None:
    peer.read_body(seen)
    peer.reset()


def silence(peer: Peer, _seen: Seen) -> None:
    peer.wait_for_end()


class Place:
    """A gateway in front of three upstreams, `a`, `b` and `c`, which the tests program path by path."""

    def __init__(self, gateway: GatewayProcess, upstreams: dict[str, ProgrammedUpstream]) -> None:
        self.gateway = gateway
        self.a, self.b, self.c = (upstreams[name] for name in "abc")

    def asked(self, path: str) -> tuple[int, int, int]:
        """How many requests for the path each upstream has got."""
        return len(self.a.requests(path)), len(self.b.requests(path)), len(self.c.requests(path))

    def log_of(self, answer: Answer) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.gateway.wait_for_line(f'"{answer.headers["X-Request-ID"]}"'))
        return record

    def count(self, route: str, to: str, cause: str) -> float:
        return self.gateway.metric(f'fallback_requests_total{{route="{route}",to="{to}",cause="{cause}"}}')


def routes() -> list[dict[str, Any]]:
    def route(name: str, first: str, **fallback: object) -> dict[str, Any]:
        return {
            "name": name,
            "prefix": f"/{name}",
            "upstream": first,
            "strip_prefix": True,
            "fallback": fallback,
        }

    fixed = {"status": 200, "body": '{"items": []}', "content_type": "application/json"}
    return [
        route("one", "a", upstream="b"),
        route("chain", "a", upstream=["b", "c"]),
        route("limited", "a", upstream="b", on=[429]),
        route("picky", "a", upstream="b", on=["timeout"]),
        route("anything", "a", upstream="b", non_idempotent=True),
        route("dead", "nowhere", upstream="b"),
        route("deads", "nowhere", upstream=["nobody", "c"]),
        route("narrow", "narrow", upstream="b"),
        route("tripping", "tripping", upstream="b"),
        route("retrying", "retrying", upstream="b"),
        route("fixed", "a", response=fixed),
        route("last", "nowhere", upstream="nobody", response=fixed),
        route("slow", "a", upstream=["b", "c"], after="300ms"),
        route("keyed", "honouring", upstream=["also_honouring", "c"]),
        route("based", "a", upstream="based"),
        {**route("sockets", "nowhere", upstream="b"), "websocket": True},
        route("adaptive", "adapting", upstream="adapting_too"),
        route("queue", "nowhere", upstream="queued"),
        {"name": "queued", "prefix": "/queued", "upstream": "queued"},
        route("stale", "a", stale_if_error="5m", stale_max_bytes="64KiB"),
        route("everything", "a", upstream="b", stale_if_error="5m", response={"status": 203}),
        route("forced", "forced", upstream=["forced_too", "c"]),
        route("forced-answered", "forced", upstream="forced_too", response={"status": 203}),
        route("forced-refused", "forced", upstream="forced_too"),
        {
            **route("promised", "a", response={"status": 203}, on=["5xx", "unreachable", 429]),
            "idempotency": {"mode": "optional"},
        },
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        upstreams = {name: stack.enter_context(ProgrammedUpstream()) for name in "abc"}
        at = {name: f"127.0.0.1:{each.port}" for name, each in upstreams.items()}
        # The silence of an upstream is to be short, and the time of a slow machine long enough for any other answer.
        quick = {"timeouts": {"attempt": "1500ms", "total": "20s"}}
        entries: dict[str, Any] = {name: {"endpoints": [at[name]], **quick} for name in "abc"}
        entries |= {name: {"endpoints": [f"127.0.0.1:{free_port()}"], **quick} for name in ("nowhere", "nobody")}
        entries["narrow"] = {"endpoints": [at["a"]], "bulkhead": {"limit": 1, "max_queue": 0}}
        bulkhead = {"limit": 1, "max_queue": 5, "queue_timeout": "30s"}
        entries["queued"] = {"endpoints": [at["b"]], "bulkhead": bulkhead}
        adaptive = {"bulkhead": {"adaptive": {"mode": "enforce"}}}
        entries |= {
            "adapting": {"endpoints": [at["a"]], **adaptive},
            "adapting_too": {"endpoints": [at["b"]], **adaptive},
        }
        breaker = {"failure_threshold": 1, "reset_timeout": "1s", "half_open_success_threshold": 1}
        entries["tripping"] = {"endpoints": [at["a"]], "breaker": breaker}
        retry = {"max_attempts": 3, "base_delay": 0.01, "statuses": [429, 503], "budget_ratio": 1}
        entries["retrying"] = {"endpoints": [at["a"]], "retry": retry}
        entries["honouring"] = {"endpoints": [at["a"]], "honours_idempotency_key": True}
        entries["also_honouring"] = {"endpoints": [at["b"]], "honours_idempotency_key": True}
        entries |= {name: {"endpoints": [at["a"]]} for name in ("forced", "forced_too")}
        entries["based"] = {"endpoints": [at["b"]], "base_path": "/v2", "authority": "b.test"}
        directory = tmp_path_factory.mktemp("gateway")
        (directory / "gateway.yaml").write_text(yaml.safe_dump({"upstreams": entries, "routes": routes()}))
        env = {**plain(upstreams["a"].url), "GATEWAY_CONFIG": "gateway.yaml"}
        env["JOURNAL_URL"] = f"sqlite:///{directory}/journal.db"
        del env["UPSTREAM_URL"]
        gateway = stack.enter_context(GatewayProcess(env, directory))
        yield Place(gateway, upstreams)


def test_an_upstream_that_answers_is_the_only_one_asked(place: Place) -> None:
    answer = place.gateway.get(f"/one{(path := fresh())}")
    assert answer.status == 200
    assert "Proxy-Status" not in answer.headers
    assert place.asked(path) == (1, 0, 0)
    assert "fallback" not in place.log_of(answer)["decisions"]


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (BAD, "5xx"),
        (ok(status=500), "5xx"),
        (reset, "unreachable"),
        (silence, "timeout"),
        (b"no\r\n", "protocol_error"),
    ],
    ids=["503", "500", "reset", "silence", "nonsense"],
)
def test_what_one_does_not_answer_the_next_one_does(failure: Any, cause: str, place: Place) -> None:
    place.a.on(path := fresh(), failure)
    place.b.on(path, ok(b"from b", b"X-From: b"))
    before = place.count("one", "b", cause)
    answer = place.gateway.get(f"/one{path}?q=%2f")
    assert (answer.status, answer.body, answer.headers["X-From"]) == (200, b"from b", "b")
    assert answer.headers["Proxy-Status"] == (
        f'gateway; next-hop="b"; received-status=200; details="fallback: {cause}"'
    )
    assert place.b.only(path).line == b"GET %b?q=%%2f HTTP/1.1" % path.encode()
    # A reset on a pooled connection is repeated once before it counts.
    assert place.asked(path)[1:] == (1, 0)
    assert place.count("one", "b", cause) == before + 1
    record = place.log_of(answer)
    assert (record["status"], record["upstream"], record["attempts"]) == (200, "a", 2)
    assert record["endpoint"] == f"127.0.0.1:{place.b.port}"
    assert record["decisions"]["fallback"] == f"b: {cause}"


def test_a_refused_connection(place: Place) -> None:
    answer = place.gateway.request("POST", f"/dead{(path := fresh())}", b"body")
    assert answer.status == 200
    assert place.b.only(path).body == b"body"
    assert place.log_of(answer)["decisions"]["fallback"] == "b: unreachable"


def test_each_upstream_is_asked_once_and_in_order(place: Place) -> None:
    path = fresh()
    for upstream in (place.a, place.b):
        upstream.on(path, BAD)
    place.c.on(path, ok(b"c"))
    answer = place.gateway.get(f"/chain{path}")
    assert answer.body == b"c"
    assert place.asked(path) == (1, 1, 1)
    assert place.log_of(answer)["decisions"]["fallback"] == "b: 5xx, c: 5xx"
    assert 'next-hop="c"' in (answer.headers["Proxy-Status"] or "")


def test_without_another_one_the_last_answer_is_the_clients(place: Place) -> None:
    path = fresh()
    for upstream, name in ((place.a, b"a"), (place.b, b"b"), (place.c, b"c")):
        upstream.on(path, ok(name, status=503))
    answer = place.gateway.get(f"/chain{path}")
    assert (answer.status, answer.body) == (503, b"c")
    assert place.asked(path) == (1, 1, 1)


def test_the_last_refusal_is_the_clients(place: Place) -> None:
    place.c.on(path := fresh(), silence)
    answer = place.gateway.get(f"/deads{path}")
    assert (answer.status, json.loads(answer.body)["reason"]) == (504, "upstream_timeout")
    assert place.log_of(answer)["decisions"]["fallback"] == "nobody: unreachable, c: unreachable"


def test_other_conditions_are_no_reason(place: Place) -> None:
    place.a.on(path := fresh(), BAD)
    assert place.gateway.get(f"/picky{path}").status == 503
    assert place.asked(path) == (1, 0, 0)


@pytest.mark.parametrize("status", [400, 401, 404, 429])
def test_what_is_about_the_request_is_no_reason_unless_it_is_named(status: int, place: Place) -> None:
    place.a.on(path := fresh(), ok(status=status))
    assert place.gateway.get(f"/one{path}").status == status
    assert place.asked(path) == (1, 0, 0)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_429_says_that_nothing_was_done(method: str, place: Place) -> None:
    place.a.on(path := fresh(), ok(b"", b"Retry-After: 20", status=429))
    answer = place.gateway.request(method, f"/limited{path}", b"body" if method == "POST" else None)
    assert answer.status == 200
    assert place.b.only(path).body == (b"body" if method == "POST" else b"")
    assert place.log_of(answer)["decisions"]["fallback"] == "b: 429"


@pytest.mark.parametrize("failure", [BAD, reset, silence], ids=["503", "reset", "silence"])
def test_a_post_that_was_sent_goes_to_nobody_else(failure: Any, place: Place) -> None:
    place.a.on(path := fresh(), failure)
    assert place.gateway.request("POST", f"/one{path}", b"x").status in {502, 503, 504}
    assert place.asked(path) == (1, 0, 0)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_post_that_was_sent_goes_on_where_that_is_wanted(chunked: bool, place: Place) -> None:
    place.a.on(path := fresh(), BAD)
    body = bytes(range(256)) * 200
    with RawClient(place.gateway.port) as client:
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
        sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
        head = b"POST /anything%b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (path.encode(), framing)
        assert client.request(head + sent).status == 200
    assert place.b.only(path).body == body


def test_a_body_too_large_to_be_kept_is_sent_once(place: Place) -> None:
    place.a.on(path := fresh(), BAD)
    assert place.gateway.request("PUT", f"/one{path}", b"x" * 70_000).status == 503
    assert place.asked(path) == (1, 0, 0)


def test_the_rest_of_a_body_goes_to_who_is_asked_next(place: Place) -> None:
    """The first upstream has refused the connection before the body has come."""
    with RawClient(place.gateway.port) as client:
        path = fresh()
        client.send(b"PUT /dead%b HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" % path.encode())
        client.send(b"x" * 50_000)
        place.b.wait_for(path)
        client.send(b"y" * 50_000)
        assert client.read_response().status == 200
    assert place.b.only(path).body == b"x" * 50_000 + b"y" * 50_000


def test_a_key_counts_while_everybody_honours_it(place: Place) -> None:
    path = fresh()
    for upstream in (place.a, place.b, place.c):
        upstream.on(path, BAD)
    assert place.gateway.request("POST", f"/keyed{path}", b"x", {"Idempotency-Key": "k"}).status == 503
    assert place.asked(path) == (1, 1, 0)
    assert place.b.only(path).get("Idempotency-Key") == "k"


def test_retries_come_before_the_fallback(place: Place) -> None:
    place.a.on(path := fresh(), BAD)
    answer = place.gateway.get(f"/retrying{path}")
    assert answer.status == 200
    assert place.asked(path) == (3, 1, 0)
    assert place.log_of(answer)["attempts"] == 4


@pytest.mark.parametrize(("seconds", "attempts"), [(b"0", 3), (b"1", 1), (b"3600", 1)])
def test_who_asks_for_time_is_not_waited_for(seconds: bytes, attempts: int, place: Place) -> None:
    place.a.on(path := fresh(), ok(b"", b"Retry-After: " + seconds, status=503))
    assert place.gateway.get(f"/retrying{path}").status == 200
    assert place.asked(path) == (attempts, 1, 0)


def test_a_full_bulkhead_before_anything_was_asked(place: Place) -> None:
    release = threading.Event()

    def hold(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        release.wait(30)
        peer.send(ok())

    place.a.on(held := fresh(), hold)
    first = threading.Thread(target=place.gateway.get, args=(f"/narrow{held}",))
    first.start()
    try:
        place.a.wait_for(held)
        answer = place.gateway.get(f"/narrow{(path := fresh())}")
        assert answer.status == 200
        assert place.asked(path) == (0, 1, 0)
        assert place.log_of(answer)["decisions"]["fallback"] == "b: bulkhead_full"
    finally:
        release.set()
        first.join()
    # Whatever was taken on the way was given back.
    assert place.gateway.get(f"/narrow{(path := fresh())}").status == 200
    assert place.asked(path) == (1, 0, 0)
    place.gateway.wait_for_metric("http_requests_in_flight", 0)


def test_an_open_circuit_is_probed_by_a_request_and_closes(place: Place) -> None:
    place.a.on(path := fresh(), BAD, BAD, ok(b"a is back"))
    place.b.on(path, ok(b"b"))
    assert place.gateway.get(f"/tripping{path}").body == b"b"
    answer = place.gateway.get(f"/tripping{path}")
    assert (answer.status, answer.body) == (200, b"b")
    assert place.log_of(answer)["decisions"]["fallback"] == "b: circuit_open"
    assert place.asked(path) == (1, 2, 0)
    # A probe that fails goes on like any request; the circuit opens again.
    ends = time.monotonic() + 30
    while len(place.a.requests(path)) < 2 and time.monotonic() < ends:
        assert place.gateway.get(f"/tripping{path}").body == b"b"
        time.sleep(0.05)
    place.gateway.wait_until(lambda: place.gateway.get(f"/tripping{path}").body == b"a is back", "probing the first")
    assert place.gateway.get(f"/tripping{fresh()}").status == 200


def test_the_first_has_its_time_and_no_more(place: Place) -> None:
    place.a.on(path := fresh(), silence)
    begun = time.monotonic()
    answer = place.gateway.get(f"/slow{path}")
    assert answer.status == 200
    assert time.monotonic() - begun >= 0.3
    assert place.log_of(answer)["decisions"]["fallback"] == "b: timeout"


def test_a_fixed_response_where_no_upstream_is_left(place: Place) -> None:
    answer = place.gateway.get(f"/last{fresh()}")
    assert (answer.status, answer.body) == (200, b'{"items": []}')
    assert answer.headers["Content-Type"] == "application/json"
    assert (answer.headers["Proxy-Status"] or "").endswith('; details="fallback: unreachable"')
    assert "error=" in (answer.headers["Proxy-Status"] or "")
    record = place.log_of(answer)
    assert record["decisions"]["fallback"] == "nobody: unreachable, response: unreachable"
    assert place.count("last", "response", "unreachable") == 1


def test_a_fixed_response_in_place_of_an_answer(place: Place) -> None:
    place.a.on(path := fresh(), BAD)
    answer = place.gateway.request("POST", f"/fixed{path}", b"x")
    assert (answer.status, answer.body) == (200, b'{"items": []}')
    assert place.asked(path) == (1, 0, 0)
    head = place.gateway.request("HEAD", f"/fixed{path}")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "13")


def test_every_upstream_has_its_own_path_and_name(place: Place) -> None:
    place.a.on(path := fresh(), BAD)
    assert place.gateway.get(f"/based{path}").status == 200
    seen = place.b.only(f"/v2{path}")
    assert seen.get("Host") == "b.test"
    assert (seen.get("traceparent"), seen.get("X-Request-ID")) == (
        place.a.only(path).get("traceparent"),
        place.a.only(path).get("X-Request-ID"),
    )


def test_a_redirect_of_the_fallback_is_translated(place: Place) -> None:
    place.a.on(path := fresh(), BAD)
    place.b.on(f"/v2{path}", ok(b"", b"Location: http://b.test/v2/there", status=302))
    answer = place.gateway.get(f"/based{path}")
    assert answer.headers["Location"] == f"http://127.0.0.1:{place.gateway.port}/based/there"


def test_a_client_that_leaves_while_the_second_is_asked(place: Place) -> None:
    place.a.on(path := fresh(), BAD)
    place.b.on(path, silence)
    with RawClient(place.gateway.port) as client:
        client.send(b"GET /one%b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        place.b.wait_for(path)
    (record,) = place.gateway.wait_for_records(target=f"/one{path}")
    assert (record["status"], record["reason"]) == (499, "client_closed")
    place.gateway.wait_for_metric("http_requests_in_flight", 0)


def test_explain_says_where_a_request_would_go(place: Place) -> None:
    def explained(path: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(place.gateway.get(f"/api/resilience/explain?path={path}").body)
        return answer

    told = explained("/one/x")
    assert (told["outcome"], told["forwarded"]["upstream"]) == ("forwarded", "a")
    step = told["steps"][-1]
    assert (step["policy"], step["decision"], step["figures"]["upstreams"]) == ("fallback", "none", "b")
    assert "5xx it goes on to b." in step["detail"]
    for name in ("forced", "forced_too"):
        path = f"/api/resilience/circuit-breakers/{name}/force-open"
        assert place.gateway.request("POST", path, FORCE, JSON).status == 200
    told = explained("/forced/x")
    assert (told["outcome"], told["forwarded"]["upstream"], told["refusal"]) == ("forwarded", "c", None)
    assert told["steps"][-1]["detail"] == "It goes on to c (circuit_open)."
    told = explained("/forced-answered/x")
    assert (told["outcome"], told["refusal"]) == ("answered", None)
    told = explained("/forced-refused/x")
    assert (told["outcome"], told["refusal"]["reason"]) == ("refused", "circuit_open")
    assert place.gateway.get("/forced/x").status == 200
    assert place.gateway.get("/forced-answered/x").status == 203
    assert place.gateway.get("/forced-refused/x").status == 503


def test_a_key_is_told_of_no_answer_but_an_upstreams(place: Place) -> None:
    """What the fallback says is not what the request has led to."""
    key = {"Idempotency-Key": fresh("key")}
    place.a.on(path := fresh(), reset, ok(b"done"))
    assert place.gateway.request("POST", f"/promised{path}", b"x", key).status == 203
    again = place.gateway.request("POST", f"/promised{path}", b"x", key)
    assert (again.status, json.loads(again.body)["reason"]) == (409, "idempotency_outcome_unknown")
    assert place.asked(path) == (1, 0, 0)
    key = {"Idempotency-Key": fresh("key")}
    place.a.on(path := fresh(), ok(b"", status=429), ok(b"done"))
    assert place.gateway.request("POST", f"/promised{path}", b"x", key).status == 203
    # In the words of the upstream nothing was done, so the key is free again.
    answer = place.gateway.request("POST", f"/promised{path}", b"x", key)
    assert (answer.status, answer.body) == (200, b"done")


def test_the_last_good_answer_while_there_is_none(place: Place) -> None:
    place.a.on(path := fresh(), ok(b"good", b"Date: Sun, 29 Nov 2026 10:00:00 GMT", b"X-A: b", b"Age: 5"), BAD)
    assert place.gateway.get(f"/stale{path}").body == b"good"
    answer = place.gateway.get(f"/stale{path}")
    assert (answer.status, answer.body, answer.headers["X-A"]) == (200, b"good", "b")
    assert answer.headers.get_all("Date") == ["Sun, 29 Nov 2026 10:00:00 GMT"]
    assert int(answer.headers["Age"] or "") >= 5
    assert answer.headers["Cache-Status"] == 'gateway; fwd=stale; fwd-status=503; detail="stale-if-error"'
    assert answer.headers["Proxy-Status"] == 'gateway; details="fallback: 5xx"'
    assert place.log_of(answer)["decisions"]["fallback"] == "stale: 5xx"
    assert place.count("stale", "stale", "5xx") == 1
    assert place.gateway.metric('fallback_stale_entries{route="stale"}') == 1
    assert place.gateway.metric('fallback_stale_bytes{route="stale"}') > 0
    # Of another target nothing is known; a HEAD and a POST ask for something else.
    assert place.gateway.get(f"/stale{path}?other").status == 503
    assert place.gateway.request("HEAD", f"/stale{path}").status == 503
    assert place.gateway.request("POST", f"/stale{path}", b"x").status == 503


def test_an_answer_in_pieces_is_kept_whole_or_not_at_all(place: Place) -> None:
    chunks = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"2\r\ncd\r\n0\r\n\r\n")
    place.a.on(path := fresh(), framed(*chunks, delay=0.1), reset)
    assert place.gateway.get(f"/stale{path}").body == b"abcd"
    assert place.gateway.get(f"/stale{path}").body == b"abcd"
    place.a.on(path := fresh(), framed(*chunks[:1]), reset)
    with RawClient(place.gateway.port) as client:
        client.send(b"GET /stale%b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        client.read_rest()
    assert place.gateway.get(f"/stale{path}").status == 502
    large = ok(b"x" * 9000)
    place.a.on(path := fresh(), large, BAD)
    assert len(place.gateway.get(f"/stale{path}").body) == 9000
    assert place.gateway.get(f"/stale{path}").status == 503


def test_what_is_gathered_of_answers_on_their_way_is_bounded_and_given_back(place: Place) -> None:
    def held() -> float:
        return place.gateway.metric('fallback_stale_bytes{route="stale"}')

    def begins(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1b58\r\n" + b"x" * 7000 + b"\r\n")
        peer.wait_for_end()

    before = held()
    place.a.on(path := fresh(), begins)
    with ExitStack() as stack:
        for _ in range(14):
            client = stack.enter_context(RawClient(place.gateway.port))
            client.send(b"GET /stale%b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        eventually(lambda: place.gateway.metric('gateway_upstream_in_flight{upstream="a"}') >= 14, "all are under way")
        eventually(lambda: held() >= before + 9 * 7000, "gathered")
        assert stands_still(held) == before + 9 * 7000, "64 KiB, and no more"
    eventually(lambda: held() == before, "given back")


def test_no_answer_of_one_client_goes_to_another(place: Place) -> None:
    place.a.on(path := fresh(), ok(b"yours"), BAD)
    assert place.gateway.get(f"/stale{path}", {"Cookie": "session=1"}).body == b"yours"
    for headers in ({}, {"Cookie": "session=1"}, {"Cookie": "session=2"}):
        assert place.gateway.get(f"/stale{path}", headers).status == 503


def test_a_last_good_answer_comes_after_other_upstreams_and_before_the_fixed_one(place: Place) -> None:
    place.a.on(path := fresh(), ok(b"a"), BAD)
    place.b.on(path, ok(b"b"), BAD)
    assert [place.gateway.get(f"/everything{path}").body for _ in range(3)] == [b"a", b"b", b"a"]
    place.a.on(path := fresh(), BAD)
    place.b.on(path, BAD)
    assert place.gateway.get(f"/everything{path}").status == 203


def test_a_request_waits_at_the_bulkhead_of_the_next_and_its_client_may_leave(place: Place) -> None:
    release = threading.Event()

    def hold(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        release.wait(30)
        peer.send(ok())

    place.b.on(held := fresh(), hold)
    first = threading.Thread(target=place.gateway.get, args=(f"/queue{held}",))
    first.start()

    def queued() -> int:
        told = json.loads(place.gateway.get("/api/resilience/explain?path=/queued/x").body)
        figures = next(step["figures"] for step in told["steps"] if step["policy"] == "bulkhead")
        return int(figures["queued"])

    try:
        place.b.wait_for(held)
        with RawClient(place.gateway.port) as leaves, RawClient(place.gateway.port) as stays:
            leaves.send(b"GET /queue%b HTTP/1.1\r\nHost: a\r\n\r\n" % (left := fresh()).encode())
            stays.send(b"PUT /queue%b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo" % (path := fresh()).encode())
            place.gateway.wait_until(lambda: queued() == 2, "letting two wait")
            leaves.close()
            place.gateway.wait_until(lambda: queued() == 1, "forgetting who left")
            release.set()
            place.b.wait_for(path)
            stays.send(b"dy")
            assert stays.read_response().status == 200
        assert place.b.only(path).body == b"body"
        assert not place.b.requests(left)
    finally:
        release.set()
        first.join()
    place.gateway.wait_for_metric("http_requests_in_flight", 0)


def test_an_early_answer_that_is_passed_over_leaves_the_rest_of_the_body_to_the_next(place: Place) -> None:
    def hasty(peer: Peer, _seen: Seen) -> None:
        peer.exactly(1000)
        peer.send(ok(b"no", status=503))
        peer.wait_for_end()

    place.a.on(path := fresh(), hasty)
    with RawClient(place.gateway.port) as client:
        client.send(b"PUT /one%b HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n" % path.encode())
        client.send(b"x" * 1000)
        place.b.wait_for(path)
        client.send(b"y" * 1000)
        assert client.read_response().status == 200
    assert place.b.only(path).body == b"x" * 1000 + b"y" * 1000


def test_a_websocket_goes_to_who_is_there(place: Place) -> None:
    def switch(peer: Peer, _seen: Seen) -> None:
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        peer.send(peer.exactly(4))
        peer.wait_for_end()

    place.b.on(path := fresh(), switch)
    asked = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a2V5\r\n\r\n"
    with RawClient(place.gateway.port) as client:
        client.send(b"GET /sockets%b HTTP/1.1\r\nHost: a\r\n%b" % (path.encode(), asked))
        assert client.read_response().status == 101
        client.send(b"ping")
        place.b.wait_for(path)
        client.finish_sending()
        octets, _ = client.read_rest()
        assert octets.startswith(b"ping")
    assert place.b.only(path).get("Upgrade") == "websocket"
    place.gateway.wait_for_metric("http_requests_in_flight", 0)


def test_the_control_plane_lists_fallbacks(place: Place) -> None:
    told = {
        each["route"]: each["fallback"]
        for each in json.loads(place.gateway.get("/api/resilience/routes").body)["routes"]
    }
    on = ["circuit_open", "timeout", "unreachable", "protocol_error", "bulkhead_full", "5xx"]
    assert told["everything"] == {"upstreams": ["b"], "on": on, "staleIfError": 300.0, "response": 203}
    assert told["limited"] == {"upstreams": ["b"], "on": ["429"], "staleIfError": 0.0, "response": None}
    assert told["queued"] is None


def test_the_next_upstream_has_an_adaptive_limit_of_its_own(place: Place) -> None:
    place.a.on(path := fresh(), BAD)
    assert place.gateway.get(f"/adaptive{path}").status == 200
    assert place.asked(path) == (1, 1, 0)
    place.gateway.wait_for_metric("http_requests_in_flight", 0)
