"""Splits as clients, upstreams and operators see them: who is asked, what that composes with, and how it is told."""

import json
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.live_stream import listening
from tests.support.plain_http import Answer
from tests.support.raw_http import RawClient
from tests.support.waiting import eventually

JSON = {"Content-Type": "application/json"}
TOKEN = "correct-horse-battery-staple"
AS_OPERATOR = {**JSON, "Authorization": f"Bearer {TOKEN}"}
BAD = ok(b"no\n", status=503)
TO = [{"upstream": "stable", "weight": 3}, {"upstream": "canary", "weight": 1}]
ONLY_CANARY = [{"upstream": "stable", "weight": 0}, {"upstream": "canary", "weight": 1}]


class Place:
    """A gateway in front of a stable and a canary upstream, which the tests program path by path."""

    def __init__(self, gateway: GatewayProcess, stable: ProgrammedUpstream, canary: ProgrammedUpstream) -> None:
        self.gateway = gateway
        self.stable = stable
        self.canary = canary

    def asked(self, path: str) -> tuple[int, int]:
        return len(self.stable.requests(path)), len(self.canary.requests(path))

    def log_of(self, answer: Answer) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.gateway.wait_for_line(f'"{answer.headers["X-Request-ID"]}"'))
        return record

    def explained(self, query: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.gateway.get(f"/api/resilience/explain?{query}", AS_OPERATOR).body)
        return told


def routes() -> list[dict[str, Any]]:
    def route(name: str, to: list[dict[str, Any]], sticky: str = "none", **more: object) -> dict[str, Any]:
        split: dict[str, object] = {"to": to, "sticky": sticky}
        if sticky == "field":
            split["field"] = "X-User"
        return {"name": name, "prefix": f"/{name}", "strip_prefix": True, "split": split, **more}

    def canary(name: str) -> list[dict[str, Any]]:
        return [{"upstream": "stable", "weight": 0}, {"upstream": name, "weight": 1}]

    return [
        route("turns", TO),
        route("each", TO),
        route("client", TO, "client"),
        route("field", [{"upstream": "stable"}, {"upstream": "canary"}], "field"),
        route("canary", ONLY_CANARY, websocket=True),
        route("saved", ONLY_CANARY, fallback={"upstream": "stable"}),
        route("open", canary("opened")),
        route("open-saved", canary("opened"), fallback={"upstream": "stable"}),
        route("saved-stable", [{"upstream": "stable"}], fallback={"upstream": "stable"}),
        route("retrying", canary("retrying")),
        route("adaptive", [{"upstream": "stable"}, {"upstream": "adapting"}]),
        route("kept", [{"upstream": "stable"}, {"upstream": "canary"}], idempotency={"mode": "required"}),
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        stable, canary = (stack.enter_context(ProgrammedUpstream()) for _ in range(2))
        at = [f"127.0.0.1:{canary.port}"]
        retry = {"max_attempts": 3, "base_delay": 0.01, "statuses": [503], "budget_ratio": 1}
        entries: dict[str, Any] = {
            "stable": {"endpoints": [f"127.0.0.1:{stable.port}"]},
            "canary": {"endpoints": at, "base_path": "/v2", "authority": "v2.test"},
            "opened": {"endpoints": at},
            "retrying": {"endpoints": at, "retry": {**retry, "non_idempotent": True}},
            "adapting": {"endpoints": at, "bulkhead": {"adaptive": {"mode": "enforce"}}},
        }
        directory = tmp_path_factory.mktemp("gateway")
        (directory / "gateway.yaml").write_text(yaml.safe_dump({"upstreams": entries, "routes": routes()}))
        env = {**plain(stable.url), "GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN, "WORKERS": "1"}
        env["JOURNAL_URL"] = f"sqlite:///{directory}/journal.db"
        del env["UPSTREAM_URL"]
        gateway = stack.enter_context(GatewayProcess(env, directory))
        yield Place(gateway, stable, canary)


def test_each_upstream_gets_its_part_and_the_log_and_the_metrics_say_which(place: Place) -> None:
    path = fresh()
    logged = Counter(place.log_of(place.gateway.get(f"/each{path}"))["upstream"] for _ in range(20))
    assert logged == {"stable": 15, "canary": 5}
    assert (len(place.stable.requests(path)), len(place.canary.requests(f"/v2{path}"))) == (15, 5)
    assert {seen.get("Host") for seen in place.canary.requests(f"/v2{path}")} == {"v2.test"}
    place.gateway.wait_for_metric('split_requests_total{route="each",upstream="stable"}', 15)
    place.gateway.wait_for_metric('split_requests_total{route="each",upstream="canary"}', 5)
    assert place.gateway.metric('gateway_split_share_ratio{route="each",upstream="canary"}') == 0.25


def test_one_connection_is_no_client_that_stays(place: Place) -> None:
    path = fresh()
    with RawClient(place.gateway.port) as client:
        for _ in range(8):
            client.send(b"GET /turns%b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
            assert client.read_response().status == 200
    assert (len(place.stable.requests(path)), len(place.canary.requests(f"/v2{path}"))) == (6, 2)


def test_a_client_stays_and_explain_says_where(place: Place) -> None:
    foreseen = place.explained("path=/client/x&client=127.0.0.1")
    name = foreseen["forwarded"]["upstream"]
    step = next(step for step in foreseen["steps"] if step["policy"] == "split")
    assert step["detail"] == f"Of the requests go 0.75 to stable, 0.25 to canary. This one goes to {name}."
    answers = [place.gateway.get(f"/client{fresh()}") for _ in range(6)]
    assert {place.log_of(answer)["upstream"] for answer in answers} == {name}


def test_what_nobody_can_foresee_is_explained_for_the_heaviest(place: Place) -> None:
    told = place.explained("path=/turns/x")
    step = next(step for step in told["steps"] if step["policy"] == "split")
    assert step["detail"].endswith("What follows is about stable.")
    assert told["forwarded"]["upstream"] == "stable"


def test_the_value_of_a_field_decides(place: Place) -> None:
    names = {}
    for user in "abcdefgh":
        answers = [place.gateway.get(f"/field{fresh()}", {"X-User": user}) for _ in range(3)]
        (names[user],) = {place.log_of(answer)["upstream"] for answer in answers}
    assert set(names.values()) == {"stable", "canary"}


def test_operators_see_the_split(place: Place) -> None:
    listed = json.loads(place.gateway.get("/api/resilience/routes", AS_OPERATOR).body)["routes"]
    route = next(each for each in listed if each["route"] == "turns")
    assert route["split"] == {"weights": {"stable": 3, "canary": 1}, "sticky": "none"}
    assert route["endpoints"] == [f"127.0.0.1:{place.stable.port}", f"127.0.0.1:{place.canary.port}"]
    settings = {gate["gate"]: gate["settings"] for gate in route["gates"]}
    assert settings["split"] == {"stable.weight": 3, "canary.weight": 1, "sticky": "none"}
    assert {"stable.limit", "canary.limit"} <= set(settings["bulkhead"])


def test_a_debug_answer_has_the_upstream_that_was_chosen(place: Place) -> None:
    answer = place.gateway.get(f"/canary{fresh()}", {"X-Gateway-Debug": TOKEN})
    told = json.loads(answer.headers["X-Gateway-Debug"] or "")
    assert told["upstream"] == told["attempts"][0]["upstream"] == "canary"
    assert {"gate": "split", "decision": "passed"} in told["gates"]


def test_a_failing_canary_is_not_covered_up_without_a_fallback(place: Place) -> None:
    place.canary.on(f"/v2{(path := fresh())}", BAD)
    answer = place.gateway.get(f"/canary{path}")
    assert answer.status == 503
    assert place.log_of(answer)["upstream"] == "canary"
    assert place.asked(path) == (0, 0)


def test_what_went_to_the_canary_is_counted_there_alone(place: Place) -> None:
    place.canary.on(f"/v2{(path := fresh())}", BAD)
    before = [
        place.gateway.metric(f'split_responses_total{{route="canary",upstream="{name}",status="5xx"}}')
        for name in ("stable", "canary")
    ]
    with listening(place.gateway) as stream:
        stream.until(lambda live: live["windowSeconds"] > 0)
        assert {place.gateway.get(f"/canary{path}").status for _ in range(5)} == {503}
        assert {place.gateway.get(f"/each{fresh()}").status for _ in range(8)} == {200}
        services = stream.until(lambda live: live["routes"]["each"]["requests"] >= 1)["services"]
        parts = stream.document["routes"]["canary"]["split"]
    assert services["canary"]["failed"] == parts["canary"]["failed"] > 0
    assert 0 < services["canary"]["errorRate"] < 1, "a quarter of the others went there, and well"
    assert services["stable"]["requests"] > 0
    assert services["stable"]["failed"] == parts["stable"]["requests"] == 0
    after = [
        place.gateway.metric(f'split_responses_total{{route="canary",upstream="{name}",status="5xx"}}')
        for name in ("stable", "canary")
    ]
    assert (after[0], after[1]) == (before[0], before[1] + 5)


def test_a_failing_canary_falls_back_to_the_stable_version(place: Place) -> None:
    place.canary.on(f"/v2{(path := fresh())}", BAD)
    answer = place.gateway.request("PUT", f"/saved{path}", b"a body")
    assert answer.status == 200
    assert 'next-hop="stable"' in (answer.headers["Proxy-Status"] or "")
    assert place.stable.only(path).body == place.canary.only(f"/v2{path}").body == b"a body"
    record = place.log_of(answer)
    assert (record["upstream"], record["decisions"]["fallback"]) == ("canary", "stable: 5xx")


def test_an_open_circuit_of_the_canary_refuses_or_goes_on_to_the_fallback(place: Place) -> None:
    force = b'{"duration": 60, "reason": "a test"}'
    order = "/api/resilience/circuit-breakers/opened/force-open"
    assert place.gateway.request("POST", order, force, AS_OPERATOR).status == 200
    refused = place.gateway.get(f"/open{fresh()}")
    assert (refused.status, json.loads(refused.body)["reason"]) == (503, "circuit_open")
    assert place.log_of(refused)["upstream"] == "opened"
    assert place.gateway.get(f"/open-saved{(path := fresh())}").status == 200
    assert place.asked(path) == (1, 0)
    told = place.explained("path=/open/x")
    assert (told["outcome"], told["refusal"]["reason"]) == ("refused", "circuit_open")
    told = place.explained("path=/saved-stable/x")
    assert "nobody else is left" in told["steps"][-1]["detail"]
    assert place.explained("path=/open-saved/x")["forwarded"]["upstream"] == "stable"


def test_retries_are_made_at_the_same_upstream_with_the_whole_body(place: Place) -> None:
    place.canary.on(path := fresh(), BAD, BAD, ok())
    answer = place.gateway.request("POST", f"/retrying{path}", b"a body")
    assert answer.status == 200
    assert place.log_of(answer)["attempts"] == 3
    assert [seen.body for seen in place.canary.requests(path)] == [b"a body"] * 3


def test_one_of_them_may_have_an_adaptive_limit(place: Place) -> None:
    path = fresh()
    assert [place.gateway.get(f"/adaptive{path}").status for _ in range(4)] == [200] * 4
    assert place.asked(path) == (2, 2)
    place.gateway.wait_for_metric('gateway_upstream_in_flight{upstream="adapting"}', 0)


def test_a_repeated_key_gets_the_first_answer_whichever_version_has_given_it(place: Place) -> None:
    path = fresh()
    keys = [{"Idempotency-Key": f"key-{number}{path}"} for number in range(4)]
    first = [place.gateway.request("POST", f"/kept{path}", b"x", key).body for key in keys]
    again = [place.gateway.request("POST", f"/kept{path}", b"x", key).body for key in keys]
    assert first == again
    assert (len(place.stable.requests(path)), len(place.canary.requests(f"/v2{path}"))) == (2, 2)


def test_a_websocket_goes_to_the_upstream_that_was_chosen(place: Place) -> None:
    def switch(peer: Peer, _seen: Seen) -> None:
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        peer.send(peer.exactly(4))
        peer.wait_for_end()

    place.canary.on(f"/v2{(path := fresh())}", switch)
    asked = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a2V5\r\n\r\n"
    with RawClient(place.gateway.port) as client:
        client.send(b"GET /canary%b HTTP/1.1\r\nHost: a\r\n%b" % (path.encode(), asked))
        assert client.read_response().status == 101
        client.send(b"ping")
        place.canary.wait_for(f"/v2{path}")
        client.finish_sending()
        octets, _ = client.read_rest()
        assert octets.startswith(b"ping")
    place.gateway.wait_for_metric("http_requests_in_flight", 0)
    place.gateway.wait_for_metric('gateway_upstream_in_flight{upstream="canary"}', 0)


def test_redirects_of_each_upstream_are_translated(place: Place) -> None:
    place.canary.on(f"/v2{(path := fresh())}", ok(b"", b"Location: http://v2.test/v2/login", status=302))
    assert place.gateway.get(f"/canary{path}").headers["Location"] == f"{place.gateway.url}/canary/login"


def test_a_reload_moves_clients_to_the_canary_alone_and_loses_no_request(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stable, canary = (stack.enter_context(ProgrammedUpstream()) for _ in range(2))
        for number, upstream in enumerate((stable, canary)):
            for user in range(40):
                upstream.on(f"/u/{user}", ok(b"%d" % number))
        at = {"stable": stable.port, "canary": canary.port}

        def write(*weights: int) -> None:
            to = [{"upstream": name, "weight": weight} for name, weight in zip(at, weights, strict=True)]
            split = {"to": to, "sticky": "field", "field": "X-User"}
            upstreams = {name: {"endpoints": [f"127.0.0.1:{port}"]} for name, port in at.items()}
            file = {"upstreams": upstreams, "routes": [{"name": "u", "prefix": "/u", "split": split}]}
            (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(file))

        write(90, 10)
        env = {**plain(stable.url), "GATEWAY_CONFIG": "gateway.yaml", "DRAIN_TIMEOUT_SECONDS": "20"}
        del env["UPSTREAM_URL"]
        gateway = stack.enter_context(GatewayProcess(env, tmp_path))
        answers: list[tuple[int, int, bytes]] = []
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                for user in range(40):
                    answer = gateway.get(f"/u/{user}", {"X-User": f"user-{user}"})
                    answers.append((user, answer.status, answer.body))

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            eventually(lambda: len(answers) >= 80, "answers before")
            pid = gateway.worker
            write(50, 50)
            gateway.send_signal(signal.SIGHUP)
            eventually(lambda: pid not in gateway.children(), "the new worker alone")
            done = len(answers)
            eventually(lambda: len(answers) >= done + 80, "answers afterwards")
        finally:
            over.set()
            thread.join()
        assert {status for _, status, _ in answers} == {200}
        moved = 0
        for user in range(40):
            got = [body for who, _, body in answers if who == user]
            # Once to the canary, and never back.
            assert got == sorted(got)
            moved += got[0] != got[-1]
        assert 0 < moved < 40
