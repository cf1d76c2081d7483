"""Mirrors: what a shadow gets, that clients feel nothing of it whatever it does, and what is counted."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.keys import key, sha256
from tests.support.ports import free_port
from tests.support.raw_http import RawClient
from tests.support.waiting import eventually

JSON = {"Content-Type": "application/json"}
FORCE = b'{"duration": 60, "reason": "a test"}'
BAD = ok(b"no\n", status=503)
SWITCHES = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
ASKED = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a2V5\r\n"


def reset(peer: Peer, seen: Seen) -> None:
    peer.read_body(seen)
    peer.reset()


class Held:
    """An answer that comes when it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def __call__(self, peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        self.release.wait(60.0)
        peer.send(ok())


class Place:
    """A gateway in front of a main and a shadow upstream, which the tests program path by path."""

    def __init__(self, gateway: GatewayProcess, main: ProgrammedUpstream, shadow: ProgrammedUpstream) -> None:
        self.gateway = gateway
        self.main = main
        self.shadow = shadow

    def outcomes(self, route: str, outcome: str, upstream: str = "shadow") -> str:
        return f'mirror_requests_total{{route="{route}",upstream="{upstream}",outcome="{outcome}"}}'

    def dropped(self, route: str, reason: str, upstream: str = "shadow") -> str:
        return f'mirror_dropped_total{{route="{route}",upstream="{upstream}",reason="{reason}"}}'

    def figures_when(self, series: str, value: float) -> dict[str, float]:
        """All metrics, as soon as this series has the value. They are read together: a scrape may be a moment old."""
        found: dict[str, float] = {}

        def there() -> bool:
            lines = self.gateway.get("/metrics").body.decode().splitlines()
            found.update((line.rpartition(" ")[0], float(line.rpartition(" ")[2])) for line in lines if line[:1] != "#")
            return found[series] == value

        eventually(there, f"{series} {value}")
        return found

    def not_copied(self, path: str) -> bool:
        """Whether the shadow has no request for this path, now that it has one that came later."""
        self.gateway.get(f"/all{(later := fresh())}")
        self.shadow.wait_for(later)
        return not self.shadow.requests(path)

    def copied_once(self, path: str) -> Seen:
        """The only copy for this path, now that the shadow has one that came later."""
        self.shadow.wait_for(path)
        self.not_copied(path)
        return whole(self.shadow.only(path))


def whole(copy: Seen) -> Seen:
    """The copy, when its body has come too."""
    eventually(lambda: copy.whole, "the body of a copy")
    return copy


def routes() -> list[dict[str, Any]]:
    def route(name: str, main: str = "main", mirror: dict[str, Any] | None = None, **more: object) -> dict[str, Any]:
        copied = {"upstream": "shadow", **(mirror or {})}
        return {"name": name, "prefix": f"/{name}", "upstream": main, "strip_prefix": True, "mirror": copied, **more}

    changes = {"set": {"X-Team": "blue"}, "remove": ["X-Secret"]}
    return [
        route("all", request_headers=changes, websocket=True),
        route("quarter", mirror={"percent": 25}),
        route("reads", mirror={"methods": ["GET", "HEAD"]}),
        route("one", mirror={"max_in_flight": 1}),
        route("small", mirror={"max_body_bytes": 1000, "max_answer_bytes": 1000}),
        *[route(name) for name in ("held", "incomplete", "early")],
        *[route(f"wrong-{number}", "quiet") for number in range(5)],
        route("reused", mirror={"upstream": "reused"}),
        route("trickling", mirror={"upstream": "impatient"}),
        route("dead", "quiet", mirror={"upstream": "nowhere"}),
        route("tripped", mirror={"upstream": "tripped"}),
        route("based", mirror={"upstream": "based"}),
        route("impatient", mirror={"upstream": "impatient"}),
        route("forced", "forced", fallback={"upstream": "main"}),
        route("retrying", "retrying"),
        route("kept", idempotency={"mode": "required"}),
        route("known", authentication=["api_key"], rate_limit=None),
    ]


KEY = key("abcdefgh")
CONSUMERS = {"web": {"keys": [{"id": "abcdefgh", "sha256": sha256(KEY)}]}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        main, shadow = (stack.enter_context(ProgrammedUpstream()) for _ in range(2))
        first, second = ([f"127.0.0.1:{each.port}"] for each in (main, shadow))
        retry = {"max_attempts": 3, "base_delay": 0.01, "statuses": [503], "budget_ratio": 1}
        entries: dict[str, Any] = {
            "main": {"endpoints": first},
            "quiet": {"endpoints": first},
            "forced": {"endpoints": first},
            "retrying": {"endpoints": first, "retry": retry},
            "shadow": {"endpoints": second},
            "reused": {"endpoints": second},
            "tripped": {"endpoints": second},
            "nowhere": {"endpoints": [f"127.0.0.1:{free_port()}"]},
            "based": {"endpoints": second, "base_path": "/v2", "authority": "v2.test"},
            "impatient": {"endpoints": second, "timeouts": {"attempt": "300ms", "total": "400ms"}},
        }
        entries["based"]["request_headers"] = {"set": {"Authorization": "of the shadow"}}
        directory = tmp_path_factory.mktemp("gateway")
        file = {"upstreams": entries, "routes": routes(), "consumers": CONSUMERS}
        (directory / "gateway.yaml").write_text(yaml.safe_dump(file))
        env = {**plain(main.url), "GATEWAY_CONFIG": "gateway.yaml", "WORKERS": "1"}
        env["JOURNAL_URL"] = f"sqlite:///{directory}/journal.db"
        del env["UPSTREAM_URL"]
        gateway = stack.enter_context(GatewayProcess(env, directory))
        yield Place(gateway, main, shadow)


def test_the_shadow_gets_what_the_upstream_gets_and_a_mark(place: Place) -> None:
    path = fresh()
    given = {"Authorization": "Bearer abc", "Cookie": "a=b", "X-Secret": "s", "Content-Type": "text/x"}
    answer = place.gateway.request("POST", f"/all{path}?q=1", b"a body", given)
    assert answer.status == 200
    (copy,), (own,) = place.shadow.wait_for(path), place.main.requests(path)
    whole(copy)
    assert (copy.line, copy.body) == (own.line, own.body) == (f"POST {path}?q=1 HTTP/1.1".encode(), b"a body")
    assert (own.get("X-Gateway-Mirror"), copy.get("X-Gateway-Mirror")) == (None, "all")
    assert copy.get("Host") == f"127.0.0.1:{place.shadow.port}"
    assert copy.get("X-Request-ID") == answer.headers["X-Request-ID"]
    left = {"host", "x-gateway-mirror"}
    assert [each for each in copy.fields if each[0].lower() not in left] == [
        each for each in own.fields if each[0].lower() not in left
    ]
    assert (copy.get("X-Team"), copy.get("X-Secret"), copy.get("Authorization")) == ("blue", None, "Bearer abc")


def test_the_shadow_has_a_path_an_authority_and_a_key_of_its_own(place: Place) -> None:
    path = fresh()
    assert place.gateway.get(f"/based{path}", {"Authorization": "of the client"}).status == 200
    (copy,) = place.shadow.wait_for(f"/v2{path}")
    assert (copy.get("Host"), copy.get("Authorization")) == ("v2.test", "of the shadow")
    assert place.main.only(path).get("Authorization") == "of the client"


def test_who_asks_is_told_to_the_shadow_too_and_the_key_is_not(place: Place) -> None:
    path = fresh()
    assert place.gateway.get(f"/known{path}", {"X-API-Key": KEY}).status == 200
    (copy,) = place.shadow.wait_for(path)
    assert (copy.get("X-Consumer"), copy.get("X-API-Key")) == ("web", None)
    path = fresh()
    assert place.gateway.get(f"/known{path}").status == 401
    assert place.not_copied(path)


def test_who_sends_the_mark_is_not_copied_and_the_upstream_does_not_get_it(place: Place) -> None:
    for name in ("X-Gateway-Mirror", "x-gateway_mirror"):
        path = fresh()
        assert place.gateway.get(f"/all{path}", {name: "all"}).status == 200
        assert place.not_copied(path)
        assert place.main.only(path).get(name) is None


def test_a_share_is_exact(place: Place) -> None:
    path = fresh()
    for _ in range(12):
        assert place.gateway.get(f"/quarter{path}").status == 200
    place.shadow.wait_for(path, 3)
    place.not_copied(path)
    assert len(place.shadow.requests(path)) == 3
    place.gateway.wait_for_metric(place.outcomes("quarter", "2xx"), 3)


def test_only_the_methods_that_were_named_are_copied(place: Place) -> None:
    path = fresh()
    assert place.gateway.request("POST", f"/reads{path}", b"x").status == 200
    assert place.gateway.request("HEAD", f"/reads{path}").status == 200
    assert place.gateway.get(f"/reads{path}").status == 200
    place.shadow.wait_for(path, 2)
    place.not_copied(path)
    assert [seen.line.split()[0] for seen in place.shadow.requests(path)] == [b"HEAD", b"GET"]


def test_a_client_does_not_wait_for_the_shadow(place: Place) -> None:
    place.shadow.on(path := fresh(), held := Held())
    with RawClient(place.gateway.port) as client:
        for _ in range(3):
            client.send(b"GET /held%b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
            assert client.read_response().status == 200
    place.shadow.wait_for(path, 3)
    figures = place.figures_when('mirror_in_flight{route="held",upstream="shadow"}', 3)
    # They are no requests of clients.
    assert figures["http_requests_in_flight"] == 0
    held.release.set()
    place.gateway.wait_for_metric('mirror_in_flight{route="held",upstream="shadow"}', 0)


def test_beyond_the_bound_there_are_no_copies_and_this_is_counted(place: Place) -> None:
    held = Held()
    place.shadow.on(path := fresh(), held)
    assert place.gateway.get(f"/one{path}").status == 200
    place.shadow.wait_for(path)
    for _ in range(3):
        assert place.gateway.get(f"/one{path}").status == 200
    place.gateway.wait_for_metric(place.dropped("one", "in_flight"), 3)
    held.release.set()
    place.gateway.wait_for_metric('mirror_in_flight{route="one",upstream="shadow"}', 0)
    assert place.gateway.get(f"/one{path}").status == 200
    place.shadow.wait_for(path, 2)
    assert len(place.main.requests(path)) == 5


@pytest.mark.parametrize(
    ("route", "upstream", "answer", "outcome"),
    [
        ("dead", "nowhere", None, "upstream_unreachable"),
        ("wrong-0", "shadow", reset, "upstream_unreachable"),
        ("wrong-1", "shadow", b"nonsense\r\n\r\n", "upstream_protocol_error"),
        ("wrong-2", "shadow", SWITCHES, "upstream_protocol_error"),
        ("wrong-3", "shadow", BAD, "5xx"),
        ("wrong-4", "shadow", ok(status=404), "4xx"),
    ],
)
def test_what_the_shadow_does_wrong_is_counted_for_the_mirror_alone(
    place: Place, route: str, upstream: str, answer: Any, outcome: str
) -> None:
    path = fresh()
    if answer is not None:
        place.shadow.on(path, answer)
    assert place.gateway.request("PUT", f"/{route}{path}", b"x" * 500).status == 200
    figures = place.figures_when(place.outcomes(route, outcome, upstream), 1)
    answered = {series: count for series, count in figures.items() if series.startswith("http_requests_total{")}
    of_route = {series: count for series, count in answered.items() if f'route="{route}"' in series}
    # One request, and a good one.
    assert {series.partition('status="')[2][:3]: count for series, count in of_route.items() if count} == {"200": 1}
    of_upstream = [series for series in figures if 'to_service="quiet"' in series]
    assert sum(figures[series] for series in of_upstream) == 0
    # 1 is closed.
    assert figures['circuit_breaker_state{upstream="quiet"}'] == 1


def test_a_shadow_that_never_answers_has_the_time_of_its_upstream(place: Place) -> None:
    place.shadow.on(path := fresh(), held := Held())
    series = place.outcomes("impatient", "upstream_timeout", "impatient")
    assert place.gateway.get(f"/impatient{path}").status == 200
    place.gateway.wait_for_metric(series, 1)
    held.release.set()


def test_an_answer_that_trickles_is_given_up_in_time(place: Place) -> None:
    def trickle(peer: Peer, _seen: Seen) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        peer.wait_for_end()

    place.shadow.on(path := fresh(), trickle)
    assert place.gateway.get(f"/trickling{path}").status == 200
    place.gateway.wait_for_metric(place.outcomes("trickling", "upstream_timeout", "impatient"), 1)


def test_a_large_answer_is_broken_off(place: Place) -> None:
    place.shadow.on(path := fresh(), ok(b"x" * 1_000_000))
    assert place.gateway.get(f"/small{path}").body == b"ok\n"
    place.gateway.wait_for_metric(place.outcomes("small", "2xx"), 1)


def test_connections_to_the_shadow_are_used_again(place: Place) -> None:
    # More than a piece of it, and less than is read.
    place.shadow.on(path := fresh(), ok(b"x" * 200_000))
    for count in range(1, 4):
        assert place.gateway.get(f"/reused{path}").status == 200
        place.gateway.wait_for_metric(place.outcomes("reused", "2xx", "reused"), count)
    assert len({seen.connection for seen in place.shadow.requests(path)}) == 1


def test_a_large_body_is_not_copied_however_it_comes(place: Place) -> None:
    path = fresh()
    assert place.gateway.request("POST", f"/small{path}", b"x" * 1001).status == 200
    place.gateway.wait_for_metric(place.dropped("small", "body_too_large"), 1)
    with RawClient(place.gateway.port) as client:
        head = f"POST /small{path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        client.send(head + b"258\r\n" + b"x" * 600 + b"\r\n")
        client.send(b"258\r\n" + b"y" * 600 + b"\r\n0\r\n\r\n")
        assert client.read_response().status == 200
    place.gateway.wait_for_metric(place.dropped("small", "body_too_large"), 2)
    assert [len(seen.body) for seen in place.main.requests(path)] == [1001, 1200]
    assert place.not_copied(path)


def test_a_body_in_chunks_with_trailers_is_copied_when_it_is_whole(place: Place) -> None:
    path = fresh()
    arrived = threading.Event()

    def read(peer: Peer, seen: Seen) -> None:
        assert peer.until(b"first\r\n")
        arrived.set()
        peer.read_body(seen)
        peer.send(ok())

    place.main.on(path, read)
    with RawClient(place.gateway.port) as client:
        head = f"POST /all{path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n".encode()
        client.send(head + b"5\r\nfirst\r\n")
        # The copy holds nothing up.
        assert arrived.wait(60.0)
        assert place.shadow.requests(path) == []
        client.send(b"6\r\nsecond\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert client.read_response().status == 200
    copy = place.copied_once(path)
    assert copy.body == b"firstsecond"
    assert copy.get("Transfer-Encoding") == "chunked"


def test_who_waits_for_100_is_copied_without_waiting(place: Place) -> None:
    path = fresh()
    with RawClient(place.gateway.port) as client:
        client.send(f"PUT /all{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n".encode())
        place.main.wait_for(path)
        answer = client.send(b"body").read_response()
        assert (answer.status, [each.status for each in answer.interim]) == (200, [100])
    copy = place.copied_once(path)
    assert (copy.body, copy.get("Expect")) == (b"body", None)


def test_a_request_that_never_becomes_whole_is_not_copied(place: Place) -> None:
    path = fresh()
    with RawClient(place.gateway.port) as client:
        client.send(f"PUT /incomplete{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc".encode())
        place.main.wait_for(path)
    place.gateway.wait_for_metric(place.dropped("incomplete", "incomplete"), 1)
    assert place.not_copied(path)


def test_an_early_answer_ends_the_copy(place: Place) -> None:
    def early(peer: Peer, _seen: Seen) -> None:
        peer.send(ok(b"", status=413))
        peer.wait_for_end()

    place.main.on(path := fresh(), early)
    with RawClient(place.gateway.port) as client:
        client.send(f"PUT /early{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc".encode())
        assert client.read_response().status == 413
        client.send(b"defghi")
    place.gateway.wait_for_metric(place.dropped("early", "incomplete"), 1)
    assert place.not_copied(path)


def test_a_client_that_leaves_has_its_whole_request_copied(place: Place) -> None:
    place.main.on(path := fresh(), held := Held())
    with RawClient(place.gateway.port) as client:
        client.send(f"PUT /all{path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".encode())
        place.main.wait_for(path)
    assert place.copied_once(path).body == b"abc"
    held.release.set()


def test_a_websocket_is_not_copied(place: Place) -> None:
    def switch(peer: Peer, _seen: Seen) -> None:
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        peer.wait_for_end()

    place.main.on(path := fresh(), switch)
    with RawClient(place.gateway.port) as client:
        client.send(b"GET /all%b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path.encode(), ASKED))
        assert client.read_response().status == 101
    assert place.not_copied(path)


def test_attempts_and_fallbacks_are_not_copied_again(place: Place) -> None:
    place.main.on(path := fresh(), BAD, BAD, ok())
    assert place.gateway.request("PUT", f"/retrying{path}", b"x").status == 200
    assert len(place.main.requests(path)) == 3
    place.main.on(other := fresh(), BAD, ok())
    assert place.gateway.request("PUT", f"/forced{other}", b"x").status == 200
    assert place.copied_once(path).body == place.copied_once(other).body == b"x"


def test_what_the_upstream_does_not_get_is_not_copied(place: Place) -> None:
    order = "/api/resilience/circuit-breakers/forced/force-open"
    assert place.gateway.request("POST", order, FORCE, JSON).status == 200
    assert place.gateway.get(f"/forced{(path := fresh())}").status == 200
    assert place.not_copied(path)


def test_an_open_circuit_of_the_shadow_drops_copies(place: Place) -> None:
    order = "/api/resilience/circuit-breakers/tripped/force-open"
    assert place.gateway.request("POST", order, FORCE, JSON).status == 200
    assert place.gateway.get(f"/tripped{(path := fresh())}").status == 200
    place.gateway.wait_for_metric(place.dropped("tripped", "circuit_open", "tripped"), 1)
    assert place.shadow.requests(path) == []


def test_an_answer_that_is_given_again_is_not_copied_again(place: Place) -> None:
    path = fresh()
    named = {"Idempotency-Key": f"key{path}"}
    answers = [place.gateway.request("POST", f"/kept{path}", b"x", named).body for _ in range(2)]
    assert answers[0] == answers[1]
    copy = place.copied_once(path)
    assert copy.body == b"x"
    assert copy.get("Idempotency-Key") == named["Idempotency-Key"]


def test_operators_see_the_mirror(place: Place) -> None:
    listed = json.loads(place.gateway.get("/api/resilience/routes").body)["routes"]
    mirrors = {each["route"]: each["mirror"] for each in listed}
    assert mirrors["reads"] == {"upstream": "shadow", "percent": 100.0, "methods": ["GET", "HEAD"]}
    told = json.loads(place.gateway.get("/api/resilience/explain?path=/quarter/x").body)
    step = next(step for step in told["steps"] if step["policy"] == "mirror")
    assert step["detail"] == "A copy of 25 % goes to shadow."


def test_the_end_of_the_gateway_does_not_wait_for_copies(tmp_path: Path) -> None:
    with ExitStack() as stack:
        main, shadow = (stack.enter_context(ProgrammedUpstream()) for _ in range(2))
        at = {"main": main.port, "shadow": shadow.port}
        upstreams = {name: {"endpoints": [f"127.0.0.1:{port}"]} for name, port in at.items()}
        route = {"name": "m", "prefix": "/m", "upstream": "main", "mirror": {"upstream": "shadow"}}
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump({"upstreams": upstreams, "routes": [route]}))
        # Longer than the test waits for the end, all of them.
        env = {**plain(main.url), "GATEWAY_CONFIG": "gateway.yaml", "DRAIN_TIMEOUT_SECONDS": "300"}
        env |= {"UPSTREAM_TIMEOUT": "300", "UPSTREAM_TOTAL_TIMEOUT": "300", "UPSTREAM_IDLE_TIMEOUT": "300"}
        del env["UPSTREAM_URL"]
        ended: list[str] = []
        gone = threading.Event()

        def hang(peer: Peer, _seen: Seen) -> None:
            ended.append(peer.wait_for_end(120.0))
            gone.set()

        shadow.on("/m", hang)
        gateway = stack.enter_context(GatewayProcess(env, tmp_path))
        assert gateway.get("/m").status == 200
        shadow.wait_for("/m")
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(120.0) == 0
        assert gone.wait(60.0)
        assert len(ended) == 1
