"""Python hooks as clients, upstreams and operators see them: what they change, what they refuse, and what becomes of
those that fail."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh, ok
from tests.support.gateway_process import GatewayProcess
from tests.support.plain_http import Answer
from tests.support.processes import clean_environment
from tests.support.raw_http import RawClient

CODE = Path(__file__).resolve().parents[1] / "support/hooks.py"
TOKEN = "a-token-of-the-administrator"
ASKED = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a2V5\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Inside: 1\r\n\r\n"


class Place:
    """A gateway with hooks in front of two upstreams, which the tests program path by path."""

    def __init__(self, gateway: GatewayProcess, a: ProgrammedUpstream, b: ProgrammedUpstream) -> None:
        self.gateway = gateway
        self.a = a
        self.b = b

    def get(self, target: str, **fields: str) -> Answer:
        return self.gateway.get(target, {name.replace("_", "-"): value for name, value in fields.items()})

    def log_of(self, answer: Answer) -> dict[str, Any]:
        found = self.gateway.wait_for_records(request_id=answer.headers["X-Request-ID"], status=answer.status)
        return found[0]

    def decided(self, answer: Answer) -> str | None:
        told: str | None = self.log_of(answer)["decisions"].get("hooks")
        return told

    def calls(self, route: str, hook: str, on: str, outcome: str) -> float:
        series = f'hook_calls_total{{route="{route}",hook="{hook}",on="{on}",outcome="{outcome}"}}'
        return self.gateway.metric(series)


def routes() -> list[dict[str, Any]]:
    def route(name: str, *hooks: object, **more: object) -> dict[str, Any]:
        return {"name": name, "prefix": f"/{name}", "upstream": "a", "strip_prefix": True, "hooks": list(hooks), **more}

    skipping = {"use": "my_hooks:Does", "name": "does", "on_failure": "skip"}
    return [
        route("shows", "my_hooks:Shows", websocket=True),
        route("does", "my_hooks:does", websocket=True),
        route("skips", skipping),
        route("both", {"use": "my_hooks:does", "name": "first"}, {"use": "my_hooks:Shows", "name": "second"}),
        route("off", skipping),
        route("counts", "my_hooks:Counts", fallback={"upstream": "b"}),
        route("last", "my_hooks:Does", fallback={"response": {"status": 203}, "stale_if_error": "5m"}),
        route(
            *("edits", "my_hooks:does"),
            request_headers={"set": {"X-Of-Route": "route"}},
            response_headers={"set": {"X-Of-Route": "route"}},
            upstream="edited",
        ),
        route("keyed", "my_hooks:Counts", idempotency={"mode": "optional"}),
        route("keyed-does", "my_hooks:does", idempotency={"mode": "optional"}),
        route("valid", "my_hooks:does", validate={"openapi": "api.json"}),
        route("copied", "my_hooks:does", mirror={"upstream": "shadow", "percent": 100}),
        route("later", "my_hooks:does", deliver={"enabled": True}),
        {
            **route("split", "my_hooks:does", split={"to": SPLIT, "sticky": "field", "field": "X-Group"}),
            "upstream": None,
        },
    ]


SPLIT = [{"upstream": "a", "weight": 1}, {"upstream": "b", "weight": 1}]
API = {
    "openapi": "3.1.0",
    "info": {"title": "a", "version": "1"},
    "paths": {
        "/known": {
            "get": {
                "parameters": [{"name": "X-Number", "in": "header", "required": True, "schema": {"type": "integer"}}],
                "responses": {},
            }
        }
    },
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        a, b = (stack.enter_context(ProgrammedUpstream()) for _ in "ab")
        directory = tmp_path_factory.mktemp("gateway")
        (directory / "my_hooks.py").write_text(CODE.read_text())
        (directory / "api.json").write_text(json.dumps(API))
        retry = {"max_attempts": 3, "base_delay": 0.01, "budget_ratio": 1}
        entries: dict[str, Any] = {
            name: {"endpoints": [f"127.0.0.1:{each.port}"], "retry": retry} for name, each in (("a", a), ("b", b))
        }
        entries["shadow"] = entries["b"]
        entries["edited"] = {**entries["a"], "request_headers": {"set": {"X-Of-Upstream": "upstream"}}}
        (directory / "gateway.yaml").write_text(yaml.safe_dump({"upstreams": entries, "routes": routes()}))
        env = {**plain(a.url), "GATEWAY_CONFIG": "gateway.yaml", "JOURNAL_URL": f"sqlite:///{directory}/journal.db"}
        env |= {"ADMIN_TOKEN": TOKEN, "WORKERS": "1"}
        # A busy machine makes any call slow; what is slow here is so on purpose.
        env |= {"HOOKS_SLOW_SECONDS": "1s", "HOOKS_FAILURES": "1000000", "HOOKS_WINDOW_SECONDS": "1h"}
        del env["UPSTREAM_URL"]
        gateway = stack.enter_context(GatewayProcess(env, directory))
        yield Place(gateway, a, b)


def problem(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = answer.json()
    return told


def test_a_hook_sees_the_request_and_the_upstream_gets_its_changes(place: Place) -> None:
    path = fresh()
    answer = place.gateway.get(f"/shows{path}?q=%2f&r", {"X-Mine": "1", "Host": "a.test:80"})
    seen = place.a.only(path)
    assert seen.get("X-Shown") == f"GET|/shows{path}|q=%2f&r|a.test:80|http|127.0.0.1|shows"
    assert "x-mine" in (seen.get("X-Names") or "")
    assert seen.get("X-Mine") == "1"
    assert seen.get("X-Request-ID") == answer.headers["X-Request-ID"]
    assert place.decided(answer) == "my_hooks:Shows changed, my_hooks:Shows changed"


def test_a_hook_sees_the_answer_and_the_client_gets_its_changes(place: Place) -> None:
    place.a.on(path := fresh(), ok(b"body", b"X-Inside: secret", b"X-Out: 1", status=404))
    answer = place.get(f"/shows{path}")
    assert (answer.status, answer.body) == (404, b"body")
    assert answer.headers["X-Answer"] == f"404|a|/shows{path}|{place.a.only(path).get('X-Shown')}"
    assert "X-Inside" not in answer.headers
    assert answer.headers["X-Out"] == "1"


def test_the_same_head_twice_on_a_connection_is_two_requests(place: Place) -> None:
    with RawClient(place.gateway.port) as client:
        for expected in (b"1 1", b"2 2", b"3 3"):
            response = client.request(b"GET /counts/same HTTP/1.1\r\nHost: a\r\n\r\n")
            assert response.get("X-Counts") == expected.decode()


def test_a_refusal_is_a_problem_and_nothing_is_sent(place: Place) -> None:
    answer = place.get(f"/does{(path := fresh())}", X_Do="refuse 402")
    told = problem(answer)
    assert (answer.status, told["status"], told["reason"], told["code"]) == (402, 402, "hook_refused", "wished")
    assert (told["detail"], told["type"]) == ("as you wish", "urn:problem:gateway:hook_refused")
    assert (answer.headers["X-Wish"], answer.headers["Retry-After"]) == ("granted", "7")
    assert 'error=http_request_denied; details="hook_refused"' in (answer.headers["Proxy-Status"] or "")
    assert place.a.requests(path) == []
    record = place.log_of(answer)
    assert (record["reason"], record["decisions"]["hooks"]) == ("hook_refused", "my_hooks:does refused")
    assert place.calls("does", "my_hooks:does", "request", "refused") >= 1


def test_a_hook_behind_another_sees_what_that_has_changed(place: Place) -> None:
    answer = place.get(f"/both{(path := fresh())}", X_Do=f"path /both{path}/changed")
    seen = place.a.only(f"{path}/changed")
    assert (seen.get("X-Shown") or "").split("|")[1] == f"/both{path}/changed"
    assert place.decided(answer) == "first changed, second changed, second changed"


@pytest.mark.parametrize(
    ("does", "line"),
    [
        ("path /does/else", "GET /else?a=1 HTTP/1.1"),
        ("path /does", "GET /?a=1 HTTP/1.1"),
        ("query b=2", "GET {path}?b=2 HTTP/1.1"),
        ("query ", "GET {path} HTTP/1.1"),
    ],
)
def test_path_and_query_are_changed_as_if_the_client_had_sent_them(does: str, line: str, place: Place) -> None:
    path = fresh()
    assert place.get(f"/does{path}?a=1", X_Do=does, X_Mine=path).status == 200
    seen = [each for each in place.a.seen if each.get("X-Mine") == path]
    assert [each.line.decode() for each in seen] == [line.format(path=path)]


WRONG = [
    "raise key",
    "exit 3",
    "return 1",
    "refuse 200",
    "set X-A=a\\r\\nX-B: b",
    "set Connection=close",
    "set transfer_encoding=chunked",
    "set Content-Length=1",
    "set Host=b",
    "set X-Tenant=acme",
    "set X_Forwarded_For=192.0.2.1",
    "set X-Request-ID=1",
    "set Sec-WebSocket-Protocol=a",
    "path /elsewhere",
    "path /does/../x",
    "path /does/a b",
    "query a b",
]


@pytest.mark.parametrize("does", WRONG)
def test_what_a_hook_must_not_do_is_a_failure_of_it(does: str, place: Place) -> None:
    answer = place.get(f"/does{(path := fresh())}", X_Do=does)
    assert (answer.status, problem(answer)["reason"]) == (500, "hook_failed")
    assert place.a.requests(path) == []
    outcome = "raised" if does.partition(" ")[0] in {"raise", "exit"} else "invalid"
    assert place.decided(answer) == f"my_hooks:does {outcome}"
    skipped = place.get(f"/skips{path}", X_Do=does.replace("/does", "/skips"))
    assert skipped.status == 200
    assert place.a.only(path).get("X-Do") == does.replace("/does", "/skips")
    assert place.decided(skipped) == f"does {outcome}"


def stream(peer: Peer, seen: Seen) -> None:
    """An answer whose body does not come before the head."""
    peer.read_body(seen)
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Inside: 1\r\n\r\n")
    peer.send(b"5\r\nabcde\r\n0\r\n\r\n")


@pytest.mark.parametrize("answers", [ok(b"whole"), stream], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "does", ["raise key", "return 1", "answer Connection=close", "answer Retry-After=1", "answer A=\n"]
)
def test_an_answer_for_which_a_hook_fails_is_not_given(does: str, answers: Any, place: Place) -> None:
    place.a.on(path := fresh(), answers)
    does = does.replace("\n", "\u00e9")  # a value that cannot be sent, and that can be in a request
    answer = place.gateway.request("GET", f"/does{path}", headers={"X-Do-Later": does})
    assert (answer.status, problem(answer)["reason"]) == (500, "hook_failed")
    assert len(place.a.requests(path)) == 1
    assert "X-Inside" not in answer.headers
    place.gateway.wait_for_metric("http_requests_in_flight", 0)
    # The next one on that route, perhaps on the same connection to the upstream, is as any other.
    assert place.get(f"/does{fresh()}").body == b"ok\n"


@pytest.mark.parametrize("answers", [ok(b"whole"), stream], ids=["whole", "streamed"])
def test_an_answer_passes_where_a_hook_is_to_be_skipped(answers: Any, place: Place) -> None:
    place.a.on(path := fresh(), answers)
    answer = place.get(f"/skips{path}", X_Do_Later="raise key")
    assert (answer.status, answer.body) == (200, b"whole" if answers is not stream else b"abcde")
    assert place.decided(answer) == "does raised"


def test_a_request_with_retries_is_asked_about_once(place: Place) -> None:
    place.a.on(path := fresh(), ok(status=503), ok(status=503), ok(b"at last"))
    first = (place.get("/counts/same").headers["X-Counts"] or "").split()
    answer = place.get(f"/counts{path}")
    assert answer.body == b"at last"
    assert len(place.a.requests(path)) == 3
    assert answer.headers["X-Counts"] == f"{int(first[0]) + 1} {int(first[1]) + 1}"


def test_a_fallback_gets_the_changed_request_and_its_answer_is_the_one_asked_about(place: Place) -> None:
    path = fresh()
    place.a.on(path, ok(status=503))
    first = (place.get("/counts/same").headers["X-Counts"] or "").split()
    answer = place.get(f"/counts{path}")
    assert len(place.b.requests(path)) == 1
    assert answer.headers["X-Counts"] == f"{int(first[0]) + 1} {int(first[1]) + 1}"


def test_changes_reach_the_upstream_of_a_fallback(place: Place) -> None:
    """The fixed response is none of an upstream, and no hook is asked about it."""
    place.a.on(path := fresh(), ok(status=503))
    answer = place.get(f"/last{path}", X_Do="set X-New=1", X_Do_Later="raise key")
    assert answer.status == 203
    assert place.a.requests(path)[0].get("X-New") == "1"
    assert place.decided(answer) == "my_hooks:Does changed"


def test_what_a_hook_adds_to_an_answer_decides_whether_it_is_kept(place: Place) -> None:
    """With a cookie it is for one client, and no other one gets it when the upstream is away."""
    path = fresh()
    place.a.on(path, ok(b"for one"), ok(status=503))
    assert place.get(f"/last{path}", X_Do_Later="answer Set-Cookie=a=b").headers["Set-Cookie"] == "a=b"
    assert place.get(f"/last{path}", X_Do_Later="answer Set-Cookie=a=b").status == 203


def test_a_last_good_answer_is_for_requests_of_which_hooks_make_the_same(place: Place) -> None:
    path = fresh()
    place.a.on(path, ok(b"for one"), ok(status=503))
    assert place.get(f"/last{path}", X_Do="set X-Plan=one").body == b"for one"
    assert place.get(f"/last{path}", X_Do="set X-Plan=two").status == 203
    assert place.get(f"/last{path}").status == 203
    assert place.get(f"/last{path}", X_Do="set X-Plan=one").body == b"for one"
    # What on_response has changed may have been changed for one client.
    path = fresh()
    place.a.on(path, ok(b"for one"), ok(status=503))
    assert place.get(f"/last{path}", X_Do_Later="answer X-Plan=one").body == b"for one"
    assert place.get(f"/last{path}", X_Do_Later="answer X-Plan=one").status == 203


def test_the_order_is_route_then_hooks_then_upstream(place: Place) -> None:
    answer = place.get(f"/edits{(path := fresh())}", X_Do="set X-Of-Route=hook", X_Do_Later="answer X-Of-Route=hook")
    assert place.a.only(path).all("X-Of-Route") == ["hook"]
    assert answer.headers["X-Of-Route"] == "route"
    place.get(f"/edits{(path := fresh())}", X_Do="set X-Of-Upstream=hook")
    assert place.a.only(path).all("X-Of-Upstream") == ["upstream"]


def test_a_body_goes_with_the_changed_head(place: Place) -> None:
    path = fresh()
    answer = place.gateway.request("POST", f"/does{path}", b"x" * 200_000, {"X-Do": "set X-New=1"})
    seen = place.a.only(path)
    assert (answer.status, seen.body, seen.get("X-New")) == (200, b"x" * 200_000, "1")


def test_interim_answers_are_nobodys_business(place: Place) -> None:
    place.a.on(path := fresh(), b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Inside: 1\r\n\r\n" + ok())
    with RawClient(place.gateway.port) as client:
        client.send(b"GET /shows%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
        octets, _ = client.read_rest()
    assert b"103 Early Hints\r\nLink: </a>\r\nX-Inside: 1\r\n\r\n" in octets
    assert octets.count(b"X-Answer:") == 1


def switch(peer: Peer, _seen: Seen) -> None:
    peer.send(SWITCH)
    peer.send(peer.exactly(4))
    peer.wait_for_end()


def test_a_websocket_is_one_request_and_one_answer(place: Place) -> None:
    place.a.on(path := fresh(), switch)
    with RawClient(place.gateway.port) as client:
        client.send(b"GET /shows%b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (path.encode(), ASKED))
        response = client.read_response()
        assert (response.status, response.get("X-Inside")) == (101, None)
        assert (response.get("X-Answer") or "").startswith("101|a|")
        client.send(b"ping")
        client.finish_sending()
        octets, _ = client.read_rest()
        assert octets.startswith(b"ping")
    assert (place.a.only(path).get("X-Shown") or "").startswith("GET|/shows")
    assert place.a.only(path).get("Upgrade") == "websocket"
    place.gateway.wait_for_metric("http_requests_in_flight", 0)


@pytest.mark.parametrize(("does", "status"), [("X-Do: refuse 403", 403), ("X-Do-Later: raise key", 500)])
def test_a_websocket_that_a_hook_does_not_let_pass(does: str, status: int, place: Place) -> None:
    ended: list[str] = []

    def hold(peer: Peer, _seen: Seen) -> None:
        peer.send(SWITCH)
        ended.append(peer.wait_for_end())

    place.a.on(path := fresh(), hold)
    with RawClient(place.gateway.port) as client:
        head = f"GET /does{path} HTTP/1.1\r\nHost: a\r\n{does}\r\n".encode()
        assert client.request(head + ASKED + b"\r\n").status == status
    if status == 500:
        place.gateway.wait_until(lambda: bool(ended), "ending the connection to the upstream")
    place.gateway.wait_for_metric('websocket_connections_active{route="does"}', 0)
    place.gateway.wait_for_metric("http_requests_in_flight", 0)


def test_an_answer_that_is_repeated_for_a_key_is_asked_about_once(place: Place) -> None:
    path = fresh()
    headers = {"Idempotency-Key": path}
    first, second = (place.gateway.request("POST", f"/keyed{path}", b"x", headers) for _ in range(2))
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["X-Counts"] == first.headers["X-Counts"]
    assert len(place.a.requests(path)) == 1
    # The repetition was a request, too.
    third = place.gateway.request("POST", f"/keyed{path}/other", b"x").headers["X-Counts"] or ""
    asked, answered = map(int, (first.headers["X-Counts"] or "").split())
    assert third == f"{asked + 2} {answered + 1}"


@pytest.mark.parametrize("answers", [ok(b"whole"), stream], ids=["whole", "streamed"])
def test_of_an_answer_that_was_not_given_nothing_is_kept(answers: Any, place: Place) -> None:
    place.a.on(path := fresh(), answers)
    headers = {"Idempotency-Key": path, "X-Do-Later": "raise key"}
    assert place.gateway.request("POST", f"/keyed-does{path}", b"x", headers).status == 500
    again = place.gateway.request("POST", f"/keyed-does{path}", b"x", headers)
    # The upstream has acted on it, and nobody can tell the client what came of it.
    assert (again.status, problem(again)["reason"]) == (409, "idempotency_outcome_unknown")
    assert len(place.a.requests(path)) == 1


def test_validation_judges_what_the_upstream_would_get(place: Place) -> None:
    assert place.get("/valid/known").status == 422
    assert place.get("/valid/known", X_Do="set X-Number=7").status == 200
    assert place.get("/valid/known", X_Do="set X-Number=seven", X_Number="7").status == 422
    assert place.get("/valid/unknown").status == 404
    assert place.get("/valid/unknown", X_Number="7", X_Do="path /valid/known").status == 200


def test_a_request_that_is_delivered_later_is_kept_as_changed(place: Place) -> None:
    path = fresh()
    answer = place.gateway.request("POST", f"/later{path}", b"x", {"X-Do": "set X-New=1", "X-Do-Later": "raise key"})
    assert answer.status == 202
    place.a.wait_for(path)
    assert place.a.only(path).get("X-New") == "1"
    # What the upstream says to the gateway's own request is no answer for a client.
    assert place.calls("later", "my_hooks:does", "response", "raised") == 0
    assert place.gateway.request("POST", f"/later{path}", b"x", {"X-Do": "refuse 403"}).status == 403


def test_a_split_by_a_field_takes_the_one_that_a_hook_has_set(place: Place) -> None:
    path = fresh()
    for number in range(20):
        answer = place.get(f"/split{path}", X_Group=str(number), X_Do="set X-Group=one", X_Do_Later="answer X-A=1")
        assert answer.headers["X-A"] == "1"
    assert sorted(len(each.requests(path)) for each in (place.a, place.b)) == [0, 20]
    chosen = next(each for each in (place.a, place.b) if each.requests(path))
    assert {each.get("X-Group") for each in chosen.requests(path)} == {"one"}


def test_a_copy_for_a_shadow_is_of_the_changed_request(place: Place) -> None:
    path = fresh()
    assert place.get(f"/copied{path}", X_Do="set X-New=1", X_Do_Later="answer X-A=1").status == 200
    place.b.wait_for(path)
    assert place.b.only(path).get("X-New") == "1"
    # Its answer is nobody's.
    assert place.calls("copied", "my_hooks:does", "response", "changed") == 1
    assert place.gateway.get(f"/copied{path}", {"X-Do": "set X-Gateway-Mirror=a"}).status == 500


def test_early_refusals_and_answers_of_the_gateway_ask_no_hook(place: Place) -> None:
    before = place.calls("does", "my_hooks:does", "request", "passed")
    assert place.gateway.request("TRACE", "/does/a", headers={"Max-Forwards": "0"}).status == 200
    assert place.get("/does/../a").status == 400
    assert place.calls("does", "my_hooks:does", "request", "passed") == before


def test_a_slow_call_is_counted_and_told_and_its_result_counts(place: Place) -> None:
    series = 'hook_slow_calls_total{route="does",hook="my_hooks:does",on="request"}'
    before = place.gateway.metric(series)
    assert place.get(f"/does{fresh()}", X_Do="sleep 1.1").status == 200
    assert place.gateway.metric(series) == before + 1
    assert place.gateway.metric('hook_duration_seconds_count{route="does",hook="my_hooks:does",on="request"}') >= 1


def test_failures_are_told_in_the_log_but_not_each_of_them(place: Place) -> None:
    for _ in range(20):
        place.get(f"/off{fresh()}", X_Do="raise told")
    (first,) = place.gateway.wait_for_records(event="hook_failed", route="off")[:1]
    assert first["message"].startswith("hook does of route off has raised KeyError: 'told' (my_hooks.py:")
    assert len(place.gateway.log_records(event="hook_failed", route="off")) <= 5
    assert place.calls("off", "does", "request", "raised") == 20
    assert place.gateway.metric('hook_switched_off{route="off",hook="does"}') == 0.0


def test_explain_names_hooks_and_calls_none(place: Place) -> None:
    before = place.calls("does", "my_hooks:does", "request", "passed")
    asked = "/api/resilience/explain?path=/does/x"
    explained = place.gateway.get(asked, {"Authorization": f"Bearer {TOKEN}"}).json()
    step = next(each for each in explained["steps"] if each["policy"] == "hooks")
    assert (step["decision"], step["reason"]) == ("none", None)
    assert step["detail"].endswith("what they say is not known before: my_hooks:does.")
    assert place.calls("does", "my_hooks:does", "request", "passed") == before


def test_a_debug_answer_says_what_hooks_have_done(place: Place) -> None:
    answer = place.get(f"/shows{fresh()}", X_Gateway_Debug=TOKEN)
    told = json.loads(answer.headers["X-Gateway-Debug"] or "")
    decided = next(each["decision"] for each in told["gates"] if each["gate"] == "hooks")
    assert decided == "my_hooks:Shows changed, my_hooks:Shows changed"


def test_a_trace_has_what_hooks_have_done(place: Place) -> None:
    """It has every decision of the log as an event (tests/unit/test_spans.py)."""
    answer = place.get(f"/shows{fresh()}")
    assert "hooks" in place.log_of(answer)["decisions"]


# What becomes of code that changes, and of code that does not end.

FIRST = """
class Greets:
    def on_request(self, head):
        from gateway.hooks import RequestChanges
        if head.query == "for-ever":
            while True:
                pass
        return RequestChanges(set={"X-Greeting": "first"})
"""


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, ProgrammedUpstream]]:
    """A gateway whose hook the tests write anew."""
    with ProgrammedUpstream() as upstream:
        directory = tmp_path_factory.mktemp("gateway")
        (directory / "greetings.py").write_text(FIRST)
        route = {"name": "a", "prefix": "/a", "upstream": "a", "hooks": ["greetings:Greets"]}
        entries = {"a": {"endpoints": [f"127.0.0.1:{upstream.port}"]}}
        (directory / "gateway.yaml").write_text(yaml.safe_dump({"upstreams": entries, "routes": [route]}))
        env = {**plain(upstream.url), "GATEWAY_CONFIG": "gateway.yaml", "WORKERS": "1", "WORKER_STALL_SECONDS": "3"}
        del env["UPSTREAM_URL"]
        with GatewayProcess(env, directory) as gateway:
            yield gateway, upstream


def greeting(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> str | None:
    path = fresh()
    assert gateway.get(f"/a{path}").status == 200
    return upstream.only(f"/a{path}").get("X-Greeting")


def reload(gateway: GatewayProcess, body: bytes = b"") -> Answer:
    return gateway.request("POST", "/api/admin/reload", body, {"Content-Type": "application/json"})


def test_a_reload_takes_new_code_and_refuses_what_cannot_be_loaded(
    changing: tuple[GatewayProcess, ProgrammedUpstream],
) -> None:
    gateway, upstream = changing
    file = gateway.directory / "greetings.py"
    assert greeting(gateway, upstream) == "first"
    file.write_text("class Greets:\n    def on_request(self) -> None: ...\n")
    wrong = (
        'gateway.yaml:3 routes[0].hooks[0]: hook "greetings:Greets" of route "a":'
        " on_request does not take one argument; allowed: on_request(self, head)"
    )
    for body in (b'{"dryRun": true}', b""):
        answer = reload(gateway, body)
        assert (answer.status, answer.json()["problems"]) == (409, [wrong])
    checked = subprocess.run(
        [sys.executable, "-m", "gateway", "check"],
        cwd=gateway.directory, env=clean_environment(GATEWAY_CONFIG="gateway.yaml"), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stdout) == (1, f"{wrong}\n")
    assert greeting(gateway, upstream) == "first"
    # As long as before, and perhaps within the same second.
    file.write_text(FIRST.replace("first", "other"))
    (difference,) = reload(gateway, b'{"dryRun": true}').json()["differences"]
    assert difference.startswith("routes.a.hooks.greetings:Greets.code: ")
    assert reload(gateway).status == 200
    gateway.wait_until(lambda: greeting(gateway, upstream) == "other", "running the new code")


def test_a_hook_that_does_not_end_is_named_and_ended_with_its_worker(
    changing: tuple[GatewayProcess, ProgrammedUpstream],
) -> None:
    gateway, upstream = changing
    with RawClient(gateway.port) as client:
        client.send(b"GET /a/x?for-ever HTTP/1.1\r\nHost: a\r\n\r\n")
        record = json.loads(gateway.wait_for_line("has given no sign of life", 60.0))
    frame = next(line for line in str(record["stacks"]).replace("\\n", "\n").splitlines() if "greetings.py" in line)
    assert frame.endswith("in on_request")
    gateway.wait_until(lambda: gateway.get("/livez").status == 200, "serving again", 60.0)
    assert greeting(gateway, upstream) is not None
