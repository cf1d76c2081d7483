"""Hedged requests as clients, upstreams and operators see them: who answers, what becomes of the other attempt, and
when there is none."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, PeerGone, ProgrammedUpstream, Seen, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.plain_http import Answer
from tests.support.raw_http import RawClient
from tests.support.waiting import PATIENCE, eventually

TOKEN = "correct-horse-battery-staple"
AS_OPERATOR = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
BAD = ok(b"no\n", status=503)
LATE = "250ms"
# Longer than that, and so hedged wherever it may be.
SLOW = 0.8
Part = Callable[[Peer, Seen], None]


def answers(octets: bytes, after: threading.Event | None = None) -> Part:
    """Answer, at once or when something has happened."""

    def part(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        if after is not None:
            assert after.wait(PATIENCE)
        peer.send(octets)

    return part


def breaks(after: threading.Event | None = None) -> Part:
    """Answer with what is no HTTP. A reset could be that of a pooled connection, which is no attempt."""
    return answers(b"nonsense\r\n\r\n", after)


def resets(peer: Peer, seen: Seen) -> None:
    peer.read_body(seen)
    peer.reset()


class Silent:
    """Says nothing until the gateway ends the connection; `ended` is how it did."""

    def __init__(self) -> None:
        self.ended = ""

    def __call__(self, peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        self.ended = peer.wait_for_end()


class Turns:
    """What the endpoints of an upstream do with the requests for one path, in the order in which these come, whichever
    endpoint each goes to. `came[n]` is set as soon as the request number n is there."""

    def __init__(self, *parts: Part) -> None:
        self.parts = parts
        self.came = [threading.Event() for _ in range(4)]
        self.heads: list[bytes] = []
        self.ports: list[int] = []
        self._lock = threading.Lock()

    def __call__(self, peer: Peer, seen: Seen) -> None:
        with self._lock:
            number = len(self.heads)
            self.heads.append(seen.head)
            self.ports.append(peer.socket.getsockname()[1])
        if number < len(self.came):
            self.came[number].set()
        self.parts[min(number, len(self.parts) - 1)](peer, seen)


class Place:
    """A gateway in front of upstreams with two endpoints, which the tests program path by path."""

    def __init__(self, gateway: GatewayProcess, first: ProgrammedUpstream, second: ProgrammedUpstream) -> None:
        self.gateway = gateway
        self.endpoints = (first, second)

    def turns(self, path: str, *parts: Part) -> Turns:
        made = Turns(*parts)
        for each in self.endpoints:
            each.on(path, made)
        return made

    def log_of(self, answer: Answer) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.gateway.wait_for_line(f'"{answer.headers["X-Request-ID"]}"'))
        return record

    def results(self, route: str, result: str, upstream: str = "pair") -> str:
        return f'hedges_total{{route="{route}",upstream="{upstream}",result="{result}"}}'

    def not_made(self, route: str, reason: str, upstream: str = "pair") -> str:
        return f'hedges_not_made_total{{route="{route}",upstream="{upstream}",reason="{reason}"}}'

    def nothing_is_held(self, upstream: str = "pair") -> None:
        """No place of a bulkhead, and no attempt of an endpoint, is left behind."""
        self.gateway.wait_for_metric(f'gateway_upstream_in_flight{{upstream="{upstream}"}}', 0)
        for each in self.endpoints:
            series = f'gateway_endpoint_in_flight{{upstream="{upstream}",endpoint="127.0.0.1:{each.port}"}}'
            self.gateway.wait_for_metric(series, 0)


def routes() -> list[dict[str, Any]]:
    def route(name: str, upstream: str = "pair", after: str | None = LATE, **more: object) -> dict[str, Any]:
        hedge = {} if after is None else {"hedge": {"after": after, "min_after": "20ms", "min_observations": 20}}
        return {"name": name, "prefix": f"/{name}", "upstream": upstream, "strip_prefix": True, **hedge, **more}

    return [
        *[route(name) for name in ("hedged", "held", "asking", "methods", "leaving")],
        route("patient", after="30s"),
        route("plain", after=None),
        route("measured", after="p95"),
        route("unknown", after="p95"),
        route("thrifty", "thrifty"),
        route("narrow", "narrow"),
        route("few", "few"),
        route("short", "short"),
        route("tripping", "tripping"),
        route("once", "once"),
        route("alone", "alone"),
        route("saved", fallback={"upstream": "spare", "on": ["5xx", 404]}),
        route("kept", idempotency={"mode": "optional", "methods": ["PUT"]}, websocket=True),
        {**route("shared"), "split": {"to": [{"upstream": "pair"}, {"upstream": "alone", "weight": 0}]}},
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(ProgrammedUpstream()) for _ in range(2))
        spare = stack.enter_context(ProgrammedUpstream())
        both = [f"127.0.0.1:{each.port}" for each in (first, second)]
        retry = {"max_attempts": 3, "base_delay": 0.01, "budget_ratio": 1, "budget_min_per_second": 100}
        usual: dict[str, Any] = {"endpoints": both, "balance": "round_robin", "retry": retry}
        thrifty = {**retry, "budget_ratio": 0, "budget_min_per_second": 0}
        breaker = {"failure_threshold": 1, "reset_timeout": "500ms", "half_open_success_threshold": 1}
        entries: dict[str, Any] = {
            "pair": usual,
            "thrifty": {**usual, "retry": thrifty},
            "narrow": {**usual, "bulkhead": {"limit": 1, "max_queue": 0}},
            "few": {**usual, "endpoints": both[:1], "max_connections": 1},
            "short": {**usual, "timeouts": {"attempt": "1500ms", "total": "2s"}},
            "tripping": {**usual, "retry": {"max_attempts": 1}, "breaker": breaker},
            "once": {**usual, "retry": {"max_attempts": 1}},
            "alone": {**usual, "endpoints": both[:1]},
            "spare": {"endpoints": [f"127.0.0.1:{spare.port}"]},
        }
        directory = tmp_path_factory.mktemp("gateway")
        shared = [
            {key: value for key, value in each.items() if "split" not in each or key != "upstream"} for each in routes()
        ]
        (directory / "gateway.yaml").write_text(yaml.safe_dump({"upstreams": entries, "routes": shared}))
        env = {**plain(first.url), "GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN, "WORKERS": "1"}
        env["JOURNAL_URL"] = f"sqlite:///{directory}/journal.db"
        del env["UPSTREAM_URL"]
        gateway = stack.enter_context(GatewayProcess(env, directory))
        yield Place(gateway, first, second)


def test_a_late_request_is_sent_to_the_other_endpoint_and_the_first_good_answer_counts(place: Place) -> None:
    silent = Silent()
    turns = place.turns(path := fresh(), silent, answers(ok(b"second\n")))
    answer = place.gateway.get(f"/hedged{path}?q=1", {"X-Gateway-Debug": TOKEN})
    assert (answer.status, answer.body) == (200, b"second\n")
    assert len(set(turns.ports)) == 2
    assert turns.heads[0].split(b"\r\n")[0] == turns.heads[1].split(b"\r\n")[0] == f"GET {path}?q=1 HTTP/1.1".encode()
    eventually(lambda: silent.ended in {"closed", "reset"}, "the connection of the first attempt is closed")
    record = place.log_of(answer)
    assert (record["attempts"], record["decisions"]["hedge"]) == (2, "won")
    assert record["endpoint"] == f"127.0.0.1:{turns.ports[1]}"
    assert record["upstream_ms"] <= record["duration_ms"]
    debug = json.loads(answer.headers["X-Gateway-Debug"])
    assert [(each["outcome"], each.get("hedge", False)) for each in debug["attempts"]] == [
        ("superseded", False),
        ("200", True),
    ]
    # A timer of 250 ms counts from the beginning of the loop's turn, which may be some milliseconds before.
    assert debug["attempts"][1]["start_ms"] >= 200.0
    place.gateway.wait_for_metric(place.results("hedged", "won"), 1)
    place.nothing_is_held()


def test_the_first_attempt_may_still_be_the_one_that_answers(place: Place) -> None:
    silent = Silent()
    came = threading.Event()
    turns = place.turns(path := fresh(), answers(ok(b"first\n"), came), silent)
    turns.came[1] = came
    answer = place.gateway.get(f"/held{path}", {"X-Gateway-Debug": TOKEN})
    assert (answer.status, answer.body) == (200, b"first\n")
    eventually(lambda: silent.ended in {"closed", "reset"}, "the connection of the hedge is closed")
    record = place.log_of(answer)
    assert (record["attempts"], record["decisions"]["hedge"]) == (2, "lost")
    assert record["endpoint"] == f"127.0.0.1:{turns.ports[0]}"
    debug = json.loads(answer.headers["X-Gateway-Debug"])
    assert [each["outcome"] for each in debug["attempts"]] == ["200", "superseded"]
    place.gateway.wait_for_metric(place.results("held", "lost"), 1)
    place.nothing_is_held()


def test_a_quick_answer_is_not_hedged(place: Place) -> None:
    turns = place.turns(path := fresh(), answers(ok(b"quick\n")))
    for _ in range(5):
        answer = place.gateway.get(f"/patient{path}")
        assert answer.body == b"quick\n"
        assert "hedge" not in place.log_of(answer)["decisions"]
    assert len(turns.heads) == 5


@pytest.mark.parametrize("failing", [answers(BAD), answers(ok(status=429)), answers(ok(status=500)), breaks(), resets])
def test_where_the_hedge_fails_the_first_attempt_is_waited_for(place: Place, failing: Part) -> None:
    failed = threading.Event()

    def second(peer: Peer, seen: Seen) -> None:
        failing(peer, seen)
        failed.set()

    place.turns(path := fresh(), answers(ok(b"first\n"), failed), second)
    answer = place.gateway.get(f"/hedged{path}")
    assert (answer.status, answer.body) == (200, b"first\n")
    record = place.log_of(answer)
    assert record["decisions"]["hedge"] == "lost"
    assert record["attempts"] == 2 or failing is resets
    place.nothing_is_held()
    # The 429 has asked for a second without hedges.
    eventually(lambda: _held_off(place, "hedged") == 0.0, "hedges are made again")


@pytest.mark.parametrize("failing", [BAD, None], ids=["503", "nonsense"])
def test_where_the_first_attempt_fails_the_hedge_is_waited_for(place: Place, failing: bytes | None) -> None:
    failed, came = threading.Event(), threading.Event()

    def first(peer: Peer, seen: Seen) -> None:
        (breaks(came) if failing is None else answers(failing, came))(peer, seen)
        failed.set()

    turns = place.turns(path := fresh(), first, answers(ok(b"second\n"), failed))
    turns.came[1] = came
    answer = place.gateway.get(f"/hedged{path}")
    assert (answer.status, answer.body) == (200, b"second\n")
    record = place.log_of(answer)
    assert (record["attempts"], record["decisions"]["hedge"]) == (2, "won")
    assert record["upstream_ms"] <= record["duration_ms"]
    place.nothing_is_held()


def test_when_both_have_failed_the_usual_rules_say_what_follows(place: Place) -> None:
    came, failed = threading.Event(), threading.Event()

    def second(peer: Peer, seen: Seen) -> None:
        breaks()(peer, seen)
        failed.set()

    def first(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        assert failed.wait(PATIENCE)
        peer.send(BAD)

    turns = place.turns(path := fresh(), first, second, answers(ok(b"third\n")))
    turns.came[1] = came
    answer = place.gateway.get(f"/hedged{path}")
    assert (answer.status, answer.body) == (200, b"third\n")
    record = place.log_of(answer)
    assert (record["attempts"], record["decisions"]["hedge"]) == (3, "failed")
    place.nothing_is_held()


def test_a_hedge_counts_as_an_attempt(place: Place) -> None:
    """Three attempts are allowed: the first, its hedge, one retry, and no more."""
    came = threading.Event()
    turns = place.turns(path := fresh(), breaks(came), answers(BAD, came), answers(BAD))
    turns.came[1] = came
    answer = place.gateway.get(f"/hedged{path}")
    assert answer.status == 503
    assert (place.log_of(answer)["attempts"], len(turns.heads)) == (3, 3)
    place.nothing_is_held()


def test_a_request_that_is_never_retried_may_be_hedged(place: Place) -> None:
    place.turns(path := fresh(), Silent(), answers(ok(b"second\n")))
    assert place.gateway.get(f"/once{path}").body == b"second\n"
    place.nothing_is_held("once")


def test_a_single_endpoint_is_asked_twice_over_two_connections(place: Place) -> None:
    silent = Silent()
    place.turns(path := fresh(), silent, answers(ok(b"second\n")))
    assert place.gateway.get(f"/alone{path}").body == b"second\n"
    assert len({seen.connection for seen in place.endpoints[0].requests(path)}) == 2
    eventually(lambda: bool(silent.ended), "the first connection is closed")


def test_head_is_hedged(place: Place) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    turns = place.turns(path := fresh(), Silent(), answers(head))
    answer = place.gateway.request("HEAD", f"/methods{path}")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "5", b"")
    assert [each.split(b" ")[0] for each in turns.heads] == [b"HEAD", b"HEAD"]
    place.nothing_is_held()


@pytest.mark.parametrize(
    ("method", "body", "fields"),
    [
        ("POST", b"x", {}),
        ("POST", b"", {}),
        ("PUT", b"x", {}),
        ("DELETE", None, {}),
        ("OPTIONS", None, {}),
        ("GET", b"x", {}),
        ("GET", None, {"Connection": "Upgrade", "Upgrade": "h2c"}),
        ("GET", None, {"Idempotency-Key": "k"}),
    ],
)
def test_no_other_request_is_hedged(place: Place, method: str, body: bytes | None, fields: dict[str, str]) -> None:
    turns = place.turns(path := fresh(), _slow(SLOW, ok(b"slow\n")))
    answer = place.gateway.request(method, f"/kept{path}", body, fields)
    assert (answer.status, answer.body) == (200, b"slow\n")
    assert len(turns.heads) == 1
    assert "hedge" not in place.log_of(answer)["decisions"]


def test_without_the_setting_nothing_is_hedged_or_counted(place: Place) -> None:
    turns = place.turns(path := fresh(), _slow(SLOW, ok(b"slow\n")))
    answer = place.gateway.get(f"/plain{path}")
    assert answer.body == b"slow\n"
    assert len(turns.heads) == 1
    assert 'route="plain",upstream="pair",result' not in place.gateway.get("/metrics").body.decode()


def test_a_spent_budget_makes_no_hedge(place: Place) -> None:
    turns = place.turns(path := fresh(), _slow(SLOW, ok(b"slow\n")))
    answer = place.gateway.get(f"/thrifty{path}")
    assert (answer.body, len(turns.heads)) == (b"slow\n", 1)
    assert place.log_of(answer)["decisions"]["hedge"] == "budget"
    place.gateway.wait_for_metric(place.not_made("thrifty", "budget", "thrifty"), 1)


def test_a_full_bulkhead_makes_no_hedge_and_refuses_nobody_for_it(place: Place) -> None:
    turns = place.turns(path := fresh(), _slow(SLOW, ok(b"slow\n")))
    answer = place.gateway.get(f"/narrow{path}")
    assert (answer.body, len(turns.heads)) == (b"slow\n", 1)
    place.gateway.wait_for_metric(place.not_made("narrow", "bulkhead", "narrow"), 1)
    assert place.gateway.metric('bulkhead_rejections_total{downstream="narrow"}') == 0


def test_without_a_free_connection_there_is_no_hedge(place: Place) -> None:
    turns = place.turns(path := fresh(), _slow(SLOW, ok(b"slow\n")))
    answer = place.gateway.get(f"/few{path}")
    assert (answer.body, len(turns.heads)) == (b"slow\n", 1)
    place.gateway.wait_for_metric(place.not_made("few", "connections", "few"), 1)


def test_a_hedge_ends_with_the_deadline_of_its_request(place: Place) -> None:
    first, second = Silent(), Silent()
    turns = place.turns(path := fresh(), first, second)
    began = time.monotonic()
    answer = place.gateway.get(f"/short{path}")
    took = time.monotonic() - began
    assert answer.status == 504
    assert took < 20.0, "far below the time limits of other upstreams"
    eventually(lambda: bool(first.ended and second.ended), "both connections are closed")
    assert len(turns.heads) <= 3
    assert place.log_of(answer)["decisions"]["hedge"] == "failed"
    place.nothing_is_held("short")


def test_a_client_that_leaves_ends_both_attempts(place: Place) -> None:
    first, second = Silent(), Silent()
    turns = place.turns(path := fresh(), first, second)
    with RawClient(place.gateway.port) as client:
        client.send(b"GET /leaving%b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        assert turns.came[1].wait(PATIENCE)
    eventually(lambda: bool(first.ended and second.ended), "both connections are closed")
    place.gateway.wait_for_metric(place.results("leaving", "abandoned"), 1)
    (record,) = place.gateway.wait_for_records(route="leaving")
    assert (record["status"], record["reason"], record["attempts"]) == (499, "client_closed", 2)
    place.nothing_is_held()


def test_a_streamed_answer_arrives_whole_whoever_gives_it(place: Place) -> None:
    piece = bytes(range(256)) * 256
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for first_wins in (False, True):
        came = threading.Event()

        def streams(peer: Peer, seen: Seen, came: threading.Event = came, waits: bool = first_wins) -> None:
            peer.read_body(seen)
            assert not waits or came.wait(PATIENCE)
            peer.send(head)
            for _ in range(16):
                time.sleep(0.01)
                peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            peer.send(b"0\r\n\r\n")

        silent = Silent()
        turns = place.turns(path := fresh(), *((streams, silent) if first_wins else (silent, streams)))
        turns.came[1] = came
        answer = place.gateway.get(f"/hedged{path}")
        assert answer.body == piece * 16
        eventually(lambda quiet=silent: bool(quiet.ended), "the other connection is closed")  # type: ignore[misc]
        assert place.log_of(answer)["decisions"]["hedge"] == ("lost" if first_wins else "won")
    place.nothing_is_held()


def test_what_a_beaten_attempt_says_later_reaches_nobody(place: Place) -> None:
    """The next requests of the client, and of the endpoint, get what is meant for them."""
    over = threading.Event()

    def too_late(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </wrong>\r\n\r\n")
        assert over.wait(PATIENCE)
        peer.send(ok(b"too late\n"))
        raise PeerGone("said")

    place.turns(path := fresh(), too_late, answers(ok(b"second\n")))
    place.turns(other := fresh(), answers(ok(b"other\n")))
    with RawClient(place.gateway.port) as client:
        client.send(b"GET /hedged%b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        answer = client.read_response()
        while answer.status == 103:
            answer = client.read_response()
        assert answer.body == b"second\n"
        over.set()
        for _ in range(6):
            client.send(b"GET /hedged%b HTTP/1.1\r\nHost: a\r\n\r\n" % other.encode())
            assert client.read_response().body == b"other\n"
    place.nothing_is_held()


def test_a_probe_is_never_hedged_and_nor_is_anything_while_the_circuit_is_not_closed(place: Place) -> None:
    place.turns(bad := fresh(), answers(ok(b"no\n", status=500)))
    turns = place.turns(path := fresh(), _slow(SLOW, ok(b"slow\n")))
    assert place.gateway.get(f"/tripping{bad}").status == 500
    assert place.gateway.get(f"/tripping{path}").status == 503
    found: list[Answer] = []

    def probed() -> bool:
        found.append(place.gateway.get(f"/tripping{path}"))
        return found[-1].status == 200

    eventually(probed, "a probe was let through")
    assert len(turns.heads) == 1
    assert "hedge" not in place.log_of(found[-1])["decisions"]
    place.nothing_is_held("tripping")


def test_a_beaten_attempt_is_no_failure_of_circuit_or_endpoint(place: Place) -> None:
    for _ in range(8):
        place.turns(path := fresh(), Silent(), answers(ok(b"second\n")))
        assert place.gateway.get(f"/tripping{path}").body == b"second\n"
    assert place.gateway.metric('circuit_breaker_state{upstream="tripping"}') == 1
    place.nothing_is_held("tripping")


def test_an_upstream_that_asks_for_time_gets_no_hedges(place: Place) -> None:
    place.turns(asks := fresh(), answers(ok(b"later\n", b"Retry-After: 30", status=429)))
    assert place.gateway.get(f"/asking{asks}").status == 429
    turns = place.turns(path := fresh(), _slow(SLOW, ok(b"slow\n")))
    answer = place.gateway.get(f"/asking{path}")
    assert (answer.body, len(turns.heads)) == (b"slow\n", 1)
    assert place.log_of(answer)["decisions"]["hedge"] == "pushback"
    place.gateway.wait_for_metric(place.not_made("asking", "pushback"), 1)
    assert 0.0 < _held_off(place, "asking") <= 30.0


def test_p95_is_believed_once_enough_is_known(place: Place) -> None:
    turns = place.turns(path := fresh(), _slow(SLOW, ok(b"slow\n")))
    assert place.gateway.get(f"/measured{path}").body == b"slow\n"
    assert len(turns.heads) == 1, "nothing is known yet"
    place.turns(quick := fresh(), answers(ok()))
    for _ in range(60):
        assert place.gateway.get(f"/measured{quick}").status == 200
    eventually(lambda: _explained(place, "measured")["figures"].get("after", 0.0) > 0.0, "enough is known")
    place.turns(path := fresh(), Silent(), answers(ok(b"second\n")))
    assert place.gateway.get(f"/measured{path}").body == b"second\n"
    after = place.gateway.metric('hedge_after_seconds{route="measured",upstream="pair"}')
    assert 0.02 <= after < 30.0


def test_a_fallback_is_asked_when_both_attempts_came_to_nothing(place: Place) -> None:
    came, failed = threading.Event(), threading.Event()

    def second(peer: Peer, seen: Seen) -> None:
        answers(ok(b"nothing here\n", status=404))(peer, seen)
        failed.set()

    turns = place.turns(path := fresh(), answers(ok(b"nothing here\n", status=404), failed), second)
    turns.came[1] = came
    answer = place.gateway.get(f"/saved{path}")
    assert (answer.status, answer.body) == (200, b"ok\n")
    record = place.log_of(answer)
    assert (record["attempts"], record["decisions"]["hedge"]) == (3, "failed")
    assert record["decisions"]["fallback"] == "spare: 4xx"
    place.nothing_is_held()


def test_a_good_answer_of_either_attempt_keeps_the_fallback_out(place: Place) -> None:
    place.turns(path := fresh(), Silent(), answers(ok(b"second\n")))
    answer = place.gateway.get(f"/saved{path}")
    assert answer.body == b"second\n"
    assert "fallback" not in place.log_of(answer)["decisions"]
    place.nothing_is_held()


def test_a_split_hedges_at_the_upstream_that_was_chosen(place: Place) -> None:
    place.turns(path := fresh(), Silent(), answers(ok(b"second\n")))
    assert place.gateway.get(f"/shared{path}").body == b"second\n"
    place.gateway.wait_for_metric(place.results("shared", "won"), 1)
    place.nothing_is_held()


def test_an_explanation_says_when(place: Place) -> None:
    told = _explained(place, "unknown")
    assert told["detail"] == "It is not sent twice before 20 answers of the last minute are known."
    assert told["figures"] == {"observations": 0, "held_off": 0.0}
    told = _explained(place, "hedged")
    assert "after 0.25 s" in told["detail"]
    assert _explained(place, "hedged", "POST")["detail"] == "A POST is never sent twice at the same time."


def _slow(seconds: float, octets: bytes) -> Part:
    def part(peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        time.sleep(seconds)
        peer.send(octets)

    return part


def _explained(place: Place, route: str, method: str = "GET") -> dict[str, Any]:
    answer = place.gateway.get(f"/api/resilience/explain?path=/{route}/x&method={method}", AS_OPERATOR)
    assert answer.status == 200, answer.body
    told = json.loads(answer.body)
    found: list[dict[str, Any]] = [each for each in told["steps"] if each["policy"] == "hedge"]
    return found[0]


def _held_off(place: Place, route: str) -> float:
    held: float = _explained(place, route)["figures"]["held_off"]
    return held
