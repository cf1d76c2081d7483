"""Sagas through whole gateways, real sockets, and a journal in SQLite and in PostgreSQL."""

import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import StartGateway
from tests.support.gateway_process import GatewayProcess
from tests.support.journal_gateways import KINDS, TOKEN, TOLERANT, gateway_with_journal, variables
from tests.support.participants import LOST, UNAUTHORIZED, Participants
from tests.support.plain_http import Answer
from tests.support.waiting import eventually

OPERATOR = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
SAGAS = "/api/resilience/sagas"
ORDER = {"order": {"id": "o 1", "amount": 10.5, "items": [{"sku": "a"}, {"sku": "b"}]}}


def undo(name: str, **more: Any) -> dict[str, Any]:
    return {"method": "DELETE", "path": f"/undo/{name}?run={{/run/id}}", **more}


def step(name: str, **more: Any) -> dict[str, Any]:
    retry = {"max_attempts": 3, "base_delay": "50ms", "max_delay": "100ms"}
    shared = {"name": name, "upstream": "participants", "path": f"/do/{name}", "retry": retry, "timeout": "5s"}
    return {**shared, **({} if more.get("pivot") else {"compensate": undo(name)}), **more}


CHECKOUT: dict[str, Any] = {
    "steps": [
        step(
            "reserve",
            path="/do/reserve?order={/input/order/id}",
            body={"sku": "{/input/order/items/1/sku}", "text": "for {/input/order/id}", "all": "{/input/order/items}"},
        ),
        step("pay", headers={"X-Amount": "{/input/order/amount}"}, body={"for": "{/results/reserve/id}"}),
        step("ship", pivot=True),
    ],
    "answer": {"reservation": "{/results/reserve/id}", "run": "{/run/id}"},
}
PLAIN: dict[str, Any] = {"steps": [step("reserve"), step("pay"), step("ship")]}
QUICK: dict[str, Any] = {**PLAIN, "completion_deadline": "1s", "deadline": "2s"}
BOUND: dict[str, Any] = {**CHECKOUT, "completion_deadline": "1s", "deadline": "1s"}
SMALL: dict[str, Any] = {**CHECKOUT, "max_input_bytes": 200, "max_result_bytes": 20}
DEEP: dict[str, Any] = {**CHECKOUT, "answer": {"of": {"reservation": "{/results/reserve/id}"}}}
WORKFLOWS = {"checkout": CHECKOUT, "plain": PLAIN, "quick": QUICK, "bound": BOUND, "small": SMALL, "deep": DEEP}


def configuration(url: str, workflows: dict[str, Any], *, keys: bool = True, **upstream: Any) -> str:
    shared = {"endpoints": [url], "breaker": TOLERANT, "retry": {"max_attempts": 1}, **upstream}
    upstreams = {"participants": {**shared, "honours_idempotency_key": keys}}
    routes = [{"name": name, "prefix": f"/{name}", "workflow": name, "rate_limit": None} for name in workflows]
    keyed = {
        **routes[0],
        "name": "keyed",
        "prefix": "/keyed",
        "idempotency": {"mode": "required", "on_unknown": "retry"},
    }
    return yaml.safe_dump({"upstreams": upstreams, "workflows": workflows, "routes": [*routes, keyed]})


@pytest.fixture(scope="module")
def shared() -> Iterator[Participants]:
    with Participants() as running:
        yield running


@pytest.fixture
def participants(shared: Participants) -> Participants:
    shared.answers.clear()
    shared.usual.clear()
    shared.results.clear()
    shared.gate.set()
    return shared


@pytest.fixture(scope="module", params=KINDS)
def gateway(
    request: pytest.FixtureRequest, shared: Participants, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """Two workers, which share nothing but the journal."""
    files = {"gateway.yaml": configuration(shared.url, WORKFLOWS)}
    with gateway_with_journal(request, tmp_path_factory, files) as running:
        yield running


def start(gateway: GatewayProcess, workflow: str, given: Any = ORDER, **headers: str) -> Answer:
    fields = {"Content-Type": "application/json", **{key.replace("_", "-"): value for key, value in headers.items()}}
    return gateway.request("POST", f"/{workflow}", json.dumps(given).encode(), fields)


def started(gateway: GatewayProcess, workflow: str, given: Any = ORDER) -> str:
    answer = start(gateway, workflow, given)
    assert answer.status == 202, answer.body
    return str(answer.json()["id"])


def saga(gateway: GatewayProcess, run: str) -> Any:
    answer = gateway.get(f"{SAGAS}/{run}")
    assert answer.status == 200, answer.body
    return answer.json()


def becomes(gateway: GatewayProcess, run: str, state: str) -> Any:
    eventually(lambda: saga(gateway, run)["state"] == state, f"{state}: {saga(gateway, run)}")
    return saga(gateway, run)


def states(shown: Any) -> list[str]:
    return [each["state"] for each in shown["steps"]]


def order(gateway: GatewayProcess, run: str, what: str, **members: Any) -> Answer:
    body = json.dumps({"reason": "a test", **members}).encode()
    return gateway.request("POST", f"{SAGAS}/{run}/{what}", body, OPERATOR)


def test_a_client_that_waits_gets_the_outcome(gateway: GatewayProcess, participants: Participants) -> None:
    answer = start(gateway, "checkout", Prefer="respond-async, wait=20", X_Correlation_ID="correlation-7")
    assert answer.status == 200, answer.body
    told = answer.json()
    run = told["id"]
    assert (told["status"], told["workflow"], told["answer"]["run"]) == ("succeeded", "checkout", run)
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert answer.headers["Location"] == told["statusUrl"] == f"{SAGAS}/{run}"
    assert participants.lines(run) == [
        b"POST /do/reserve?order=o%201 HTTP/1.1",
        b"POST /do/pay HTTP/1.1",
        b"POST /do/ship HTTP/1.1",
    ]
    sent = [each for each in participants.seen if run in (each[0].get("Idempotency-Key") or "")]
    assert [seen.get("Idempotency-Key") for seen, _ in sent] == [
        f'"{run}.{name}.do"' for name in ("reserve", "pay", "ship")
    ]
    assert {seen.get("X-Correlation-ID") for seen, _ in sent} == {"correlation-7"}
    assert json.loads(sent[0][1]) == {"sku": "b", "text": "for o 1", "all": ORDER["order"]["items"]}
    assert sent[1][0].get("X-Amount") == "10.5"
    assert json.loads(sent[1][1]) == {"for": told["answer"]["reservation"]}
    assert [participants.of(run, name) for name in ("reserve", "pay", "ship")] == [(1, 0)] * 3
    shown = saga(gateway, run)
    assert states(shown) == ["done"] * 3
    assert shown["events"][0]["kind"] == "started"
    assert shown["events"][-1]["kind"] == "succeeded"
    assert "o 1" not in json.dumps(shown)


def test_without_waiting_the_answer_is_where_to_look(gateway: GatewayProcess, participants: Participants) -> None:
    answer = start(gateway, "plain", None)
    assert answer.status == 202
    assert answer.json()["status"] == "running"
    shown = becomes(gateway, answer.json()["id"], "succeeded")
    assert shown["endedTime"] is not None


def test_what_was_done_is_undone_when_a_step_fails(gateway: GatewayProcess, participants: Participants) -> None:
    participants.answers["/do/ship"].append(422)
    answer = start(gateway, "plain", Prefer="wait=20")
    assert answer.status == 409
    run = answer.json()["id"]
    told = answer.json()
    assert (told["status"], told["failedStep"], told["detail"]) == ("compensated", "ship", "ship: answered 422")
    assert participants.lines(run)[3:] == [
        f"DELETE /undo/pay?run={run} HTTP/1.1".encode(),
        f"DELETE /undo/reserve?run={run} HTTP/1.1".encode(),
    ]
    assert states(saga(gateway, run)) == ["undone", "undone", "failed"]
    gateway.wait_for_records(event="saga_step_failed", saga_id=run)
    gateway.wait_for_records(event="saga_compensated", saga_id=run)


def test_an_answer_that_is_lost_is_asked_for_again_with_the_same_key(
    gateway: GatewayProcess, participants: Participants
) -> None:
    participants.answers["/do/pay"].extend([LOST, 503, (429, b"Retry-After: 0")])
    run = started(gateway, "plain", None)
    becomes(gateway, run, "succeeded")
    assert participants.of(run, "pay") == (1, 0)
    assert participants.attempts[f"{run}.pay.do"] >= 2


def test_what_nobody_knows_is_undone(gateway: GatewayProcess, participants: Participants) -> None:
    participants.answers["/do/pay"].extend([503, 503, 503])
    run = started(gateway, "plain", None)
    shown = becomes(gateway, run, "compensated")
    assert states(shown) == ["undone", "undone", "pending"]
    assert shown["steps"][1]["attempts"] == 1
    assert participants.attempts[f"{run}.pay.do"] == 3


def test_a_refusal_that_comes_before_the_key_proves_nothing_of_an_attempt_without_answer(
    gateway: GatewayProcess, participants: Participants
) -> None:
    participants.answers["/do/pay"].extend([LOST, UNAUTHORIZED])
    run = started(gateway, "plain", None)
    assert states(becomes(gateway, run, "compensated")) == ["undone", "undone", "pending"]
    assert participants.of(run, "pay") == (1, 1)


def test_a_compensation_is_tried_until_it_works(gateway: GatewayProcess, participants: Participants) -> None:
    participants.answers["/do/pay"].append(400)
    participants.answers["/undo/reserve"].extend([500, 404, 500])
    run = started(gateway, "plain", None)
    assert becomes(gateway, run, "compensated")["reason"] == "pay: answered 400"
    assert participants.attempts[f"{run}.reserve.undo"] == 4
    told = gateway.wait_for_records(event="compensation_failed", saga_id=run)
    assert told[0]["message"].startswith("Failed to compensate saga step reserve of ")
    assert "compensation_failed" in told[0]["message"]


def test_a_compensation_that_does_not_work_in_time_needs_an_operator(
    gateway: GatewayProcess, participants: Participants
) -> None:
    participants.usual["/do/pay"] = 400
    participants.usual["/undo/reserve"] = 500
    run = started(gateway, "quick", None)
    shown = becomes(gateway, run, "stuck")
    assert states(shown) == ["undo_failed", "failed", "pending"]
    assert shown["reason"] == "reserve: answered 500"
    assert (
        gateway.request("POST", f"{SAGAS}/{run}/retry", b'{"reason": "x"}', {"Content-Type": "application/json"}).status
        == 401
    )
    assert order(gateway, run, "cancel").status == 409
    gateway.wait_for_metric('saga_runs{workflow="quick",state="stuck"}', 1.0)
    participants.usual.clear()
    assert order(gateway, run, "retry").json()["state"] == "compensating"
    becomes(gateway, run, "compensated")
    assert participants.of(run, "reserve") == (1, 1)
    gateway.wait_for_records(event="admin_action", action=f"retry saga {run}")


def test_an_operator_skips_what_was_seen_to_by_hand(gateway: GatewayProcess, participants: Participants) -> None:
    participants.usual["/do/ship"] = 400
    participants.usual["/undo/pay"] = 500
    run = started(gateway, "quick", None)
    becomes(gateway, run, "stuck")
    participants.usual.clear()
    assert order(gateway, run, "skip").status == 200
    shown = becomes(gateway, run, "compensated")
    assert states(shown) == ["undone", "undone", "failed"]
    assert participants.of(run, "pay") == (1, 0)
    assert participants.of(run, "reserve") == (1, 1)


def test_an_operator_comes_between_attempts_that_follow_each_other_closely(
    gateway: GatewayProcess, participants: Participants
) -> None:
    participants.usual["/do/pay"] = 400
    participants.usual["/undo/reserve"] = 500
    run = started(gateway, "plain", None)
    eventually(lambda: participants.attempts[f"{run}.reserve.undo"] > 12, "many attempts")
    eventually(lambda: order(gateway, run, "skip").status == 200, "the order is carried out")
    assert states(becomes(gateway, run, "compensated"))[0] == "undone"
    assert participants.of(run, "reserve") == (1, 0)


def test_an_operator_ends_a_run(gateway: GatewayProcess, participants: Participants) -> None:
    participants.usual["/do/ship"] = 503
    run = started(gateway, "bound")
    shown = becomes(gateway, run, "stuck")
    assert states(shown) == ["done", "done", "unknown"]
    assert order(gateway, run, "resolve", outcome="lost").status == 400
    answer = order(gateway, run, "resolve", outcome="succeeded")
    assert (answer.status, answer.json()["state"], answer.json()["reason"]) == (200, "succeeded", "a test")
    assert order(gateway, run, "resolve", outcome="succeeded").status == 409


def test_a_pivot_that_did_not_happen_is_cancelled(gateway: GatewayProcess, participants: Participants) -> None:
    participants.usual["/do/ship"] = 503
    run = started(gateway, "bound")
    becomes(gateway, run, "stuck")
    assert order(gateway, run, "cancel").json()["state"] == "compensating"
    assert states(becomes(gateway, run, "compensated")) == ["undone", "undone", "failed"]


def test_a_run_is_cancelled_while_a_step_is_under_way(gateway: GatewayProcess, participants: Participants) -> None:
    participants.gate.clear()
    run = started(gateway, "plain", None)
    eventually(lambda: participants.attempts[f"{run}.reserve.do"] == 1, "under way")
    answer = order(gateway, run, "cancel")
    assert (answer.status, answer.json()["cancelled"]) == (200, True)
    participants.gate.set()
    shown = becomes(gateway, run, "compensated")
    assert states(shown) == ["undone", "pending", "pending"]
    assert shown["reason"] == "a test"


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        (b'{"order": {"id": "x"}}', "step reserve, body.all: /input/order/items points nowhere"),
        (b'{"order": {"id": "x", "items": [1, {"sku": 2}]}}', "/input/order/amount points nowhere"),
        (
            b'{"order": {"id": "x", "items": [1, {"sku": 2}], "amount": "a\\r\\nX: y"}}',
            "step pay, headers.X-Amount: a value for a header field",
        ),
    ],
)
def test_an_input_that_lacks_something_is_refused(
    gateway: GatewayProcess, participants: Participants, given: bytes, detail: str
) -> None:
    answer = gateway.request("POST", "/checkout", given)
    assert (answer.status, answer.json()["reason"]) == (422, "saga_input_invalid")
    assert detail in answer.json()["detail"]


def test_what_is_no_json_or_too_large_is_refused(gateway: GatewayProcess, participants: Participants) -> None:
    answer = gateway.request("POST", "/checkout", b"{")
    assert (answer.status, answer.json()["reason"]) == (400, "body_malformed")
    answer = gateway.request("POST", "/small", b" " * 201)
    assert (answer.status, answer.json()["reason"]) == (413, "body_too_large")
    assert gateway.get("/checkout").status == 405


def test_a_result_that_is_too_large_is_not_kept(gateway: GatewayProcess, participants: Participants) -> None:
    participants.results["/do/reserve"] = json.dumps({"id": "x" * 30}).encode()
    run = started(gateway, "small", {"order": {"id": "x", "items": [1, {"sku": 2}], "amount": 1}})
    shown = becomes(gateway, run, "compensated")
    assert states(shown) == ["undone", "failed", "pending"]
    assert "/results/reserve/id points nowhere" in shown["reason"]
    assert participants.attempts[f"{run}.pay.do"] == 0


def test_an_input_that_is_nested_too_deeply_is_refused(gateway: GatewayProcess, participants: Participants) -> None:
    given = b'{"order": {"id": "x", "amount": 1, "items": [1, {"sku": 2}, %b1%b]}}' % (b"[" * 300, b"]" * 300)
    answer = gateway.request("POST", "/checkout", given)
    assert (answer.status, answer.json()["reason"]) == (422, "saga_input_invalid")
    assert answer.json()["detail"] == "the input is nested deeper than 200 levels"


def test_a_result_that_is_nested_too_deeply_for_a_step_ends_the_run(
    gateway: GatewayProcess, participants: Participants
) -> None:
    participants.results["/do/reserve"] = b'{"id": %b1%b}' % (b"[" * 300, b"]" * 300)
    shown = becomes(gateway, started(gateway, "checkout"), "compensated")
    assert shown["reason"] == "pay: no request can be made of it: a value for JSON is nested too deeply"


def test_an_answer_that_is_nested_too_deeply_is_left_out(gateway: GatewayProcess, participants: Participants) -> None:
    """A step can just be told of it, and the answer of the workflow, which puts it deeper, cannot."""
    participants.results["/do/reserve"] = b'{"id": %b1%b}' % (b"[" * 253, b"]" * 253)
    for _ in range(4):
        # Each of the workers has one: whoever waits next is told all the same.
        answer = start(gateway, "deep", Prefer="wait=20")
        assert (answer.status, answer.json()["status"], answer.json()["answer"]) == (200, "succeeded", None)


def test_with_a_key_a_run_begins_once(gateway: GatewayProcess, participants: Participants) -> None:
    key = f"key-{time.time_ns()}"
    first = start(gateway, "keyed", Idempotency_Key=key, Prefer="wait=20")
    assert first.status == 200
    again = start(gateway, "keyed", Idempotency_Key=key)
    assert (again.status, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert again.json()["id"] == first.json()["id"]
    assert start(gateway, "keyed", {"order": {}}, Idempotency_Key=key).status == 422
    assert participants.of(first.json()["id"], "pay") == (1, 0)


def test_what_the_control_plane_tells(gateway: GatewayProcess, participants: Participants) -> None:
    made = [started(gateway, "plain", None) for _ in range(3)]
    for each in made:
        becomes(gateway, each, "succeeded")
    page = gateway.get(f"{SAGAS}?workflow=plain&state=succeeded&count=2").json()
    assert [each["id"] for each in page["sagas"]] == made[:0:-1]
    rest = gateway.get(f"{SAGAS}?workflow=plain&state=succeeded&count=1&before={page['nextPage']}").json()
    assert rest["sagas"][0]["id"] == made[0]
    assert gateway.get(f"{SAGAS}/saga_{'0' * 26}").status == 404
    assert gateway.get(f"{SAGAS}/nonsense").status == 404
    assert gateway.get(f"{SAGAS}?state=lost").status == 400
    assert order(gateway, made[0], "skip").status == 409
    explained = gateway.get("/api/resilience/explain?path=/plain&method=POST").json()
    assert [each["decision"] for each in explained["steps"] if each["policy"] == "workflow"] == ["allow"]
    assert explained["forwarded"] is None
    assert gateway.metric('saga_runs_total{workflow="plain",outcome="succeeded"}') >= 3
    assert gateway.metric('saga_step_attempts_total{workflow="plain",step="pay",outcome="done"}') >= 3
    assert gateway.metric('saga_requests_total{route="plain",outcome="accepted"}') >= 3


def test_an_open_circuit_postpones_without_spending_an_attempt(
    start_gateway: StartGateway, participants: Participants
) -> None:
    breaker = {"failure_threshold": 1, "minimum_calls": 1, "reset_timeout": 2}
    only = {"steps": [step("reserve", retry={"max_attempts": 2, "base_delay": "50ms"})]}
    files = {"gateway.yaml": configuration(participants.url, {"only": only}, breaker=breaker)}
    gateway = start_gateway(variables(WORKERS="1"), files=files)
    participants.answers["/do/reserve"].append(503)
    run = started(gateway, "only", None)
    held = 'saga_step_attempts_total{workflow="only",step="reserve",outcome="held_back"}'
    gateway.wait_until(lambda: gateway.metric(held) >= 1, "held back")
    assert saga(gateway, run)["state"] == "running"
    shown = becomes(gateway, run, "succeeded")
    assert shown["steps"][0]["attempts"] == 2
    assert participants.attempts[f"{run}.reserve.do"] == 2


def test_without_keys_a_post_that_may_have_happened_is_not_sent_again(
    start_gateway: StartGateway, participants: Participants
) -> None:
    files = {"gateway.yaml": configuration(participants.url, {"plain": PLAIN}, keys=False)}
    gateway = start_gateway(variables(WORKERS="1"), files=files)
    participants.answers["/do/pay"].append(LOST)
    run = started(gateway, "plain", None)
    assert states(becomes(gateway, run, "compensated")) == ["undone", "undone", "pending"]
    assert participants.attempts[f"{run}.pay.do"] == 1


def test_at_the_limit_no_more_runs_begin(start_gateway: StartGateway, participants: Participants) -> None:
    files = {"gateway.yaml": configuration(participants.url, {"plain": PLAIN})}
    gateway = start_gateway(variables(WORKERS="1", SAGA_MAX_OPEN="2", SAGA_CONCURRENCY="1"), files=files)
    participants.gate.clear()
    made = [started(gateway, "plain", None) for _ in range(2)]
    answer = start(gateway, "plain")
    assert (answer.status, answer.json()["reason"]) == (503, "saga_full")
    assert int(answer.headers["Retry-After"]) >= 5
    participants.gate.set()
    for each in made:
        becomes(gateway, each, "succeeded")
    gateway.wait_until(lambda: start(gateway, "plain").status == 202, "taking runs again")


def test_no_more_runs_are_carried_out_at_once_than_may_be(
    start_gateway: StartGateway, participants: Participants
) -> None:
    """Also where they come at the same time: those that the journal keeps in one commit."""
    files = {"gateway.yaml": configuration(participants.url, {"plain": PLAIN})}
    gateway = start_gateway(variables(WORKERS="1", SAGA_CONCURRENCY="2", RATE_LIMIT_ENABLED="false"), files=files)
    participants.gate.clear()
    blocker = sqlite3.connect(gateway.directory / "var" / "journal.db", isolation_level=None)
    with ThreadPoolExecutor(8) as pool:
        blocker.execute("BEGIN IMMEDIATE")
        starting = [pool.submit(started, gateway, "plain", None) for _ in range(8)]
        # Nothing shows how many wait for the journal. If fewer do, less is tested, and it passes all the same.
        time.sleep(0.5)
        blocker.close()
        made = [each.result() for each in starting]
    eventually(lambda: sum(saga(gateway, each)["underWay"] for each in made) == 2, "two at once")
    assert sum(participants.attempts[f"{each}.reserve.do"] for each in made) <= 2
    participants.gate.set()
    for each in made:
        becomes(gateway, each, "succeeded")


def test_a_gateway_that_stops_ends_its_step_and_leaves_the_run_to_others(
    start_gateway: StartGateway, participants: Participants
) -> None:
    files = {"gateway.yaml": configuration(participants.url, {"plain": PLAIN})}
    gateway = start_gateway(variables(WORKERS="1"), files=files)
    participants.gate.clear()
    run = started(gateway, "plain", None)
    eventually(lambda: participants.attempts[f"{run}.reserve.do"] == 1, "under way")
    gateway.send_signal(signal.SIGTERM)
    gateway.wait_for_line("draining: ")
    participants.gate.set()
    gateway.wait()
    assert participants.attempts[f"{run}.pay.do"] == 0
    again = start_gateway(variables(f"sqlite:///{gateway.directory}/var/journal.db"), files=files)
    becomes(again, run, "succeeded")
    assert participants.attempts[f"{run}.reserve.do"] == 1


def test_a_gateway_without_workflows_has_none_of_it(start_gateway: StartGateway, participants: Participants) -> None:
    plain = {
        "upstreams": {"a": {"endpoints": [participants.url]}},
        "routes": [{"name": "a", "prefix": "/", "upstream": "a"}],
    }
    gateway = start_gateway(variables(), files={"gateway.yaml": yaml.safe_dump(plain)})
    assert gateway.get(SAGAS).status == 404
    assert "\nsaga_" not in gateway.get("/metrics").body.decode()
    assert not (Path(gateway.directory) / "var").exists()


def test_an_upstream_that_is_left_alone_for_long_makes_no_events(
    start_gateway: StartGateway, participants: Participants
) -> None:
    breaker = {"failure_threshold": 1, "minimum_calls": 1, "reset_timeout": 5}
    only = {"steps": [step("reserve"), step("pay")]}
    files = {"gateway.yaml": configuration(participants.url, {"only": only}, breaker=breaker)}
    gateway = start_gateway(variables(WORKERS="1"), files=files)
    participants.answers["/do/reserve"].append(503)
    other = started(gateway, "only", None)
    eventually(lambda: participants.attempts[f"{other}.reserve.do"] == 1, "tried")
    held = 'saga_step_attempts_total{workflow="only",step="reserve",outcome="held_back"}'
    gateway.wait_until(lambda: gateway.metric(held) >= 1, "held back")
    run = started(gateway, "only", None)
    gateway.wait_until(lambda: gateway.metric(held) >= 2, "held back, too")
    eventually(lambda: "circuit_open" in (saga(gateway, run)["reason"] or ""), "told why")
    assert "attempt_failed" in [each["kind"] for each in becomes(gateway, other, "succeeded")["events"]]
    shown = becomes(gateway, run, "succeeded")
    kinds = [each["kind"] for each in shown["events"]]
    assert kinds == ["started", "step_done", "step_done", "succeeded"]


def test_runs_that_the_configuration_has_forgotten_are_seen_and_can_be_ended(
    start_gateway: StartGateway, participants: Participants, tmp_path: Path
) -> None:
    journal = f"sqlite:///{tmp_path}/journal.db"
    before = configuration(participants.url, {"plain": PLAIN})
    participants.gate.clear()
    first = start_gateway(variables(journal, WORKERS="1"), files={"gateway.yaml": before})
    runs = [started(first, "plain", None) for _ in range(2)]
    first.kill()
    participants.gate.set()

    def orphaned(gateway: GatewayProcess) -> list[float]:
        lines = gateway.get("/metrics").body.decode().splitlines()
        return [float(line.split()[-1]) for line in lines if line.startswith('saga_orphaned_runs{workflow="plain"}')]

    # No route has a workflow any more.
    upstreams = {"other": {"endpoints": [participants.url]}}
    keyed = {"name": "a", "prefix": "/a", "upstream": "other", "idempotency": {"mode": "optional"}}
    without = yaml.safe_dump({"upstreams": upstreams, "routes": [keyed]})
    second = start_gateway(variables(journal, WORKERS="1"), files={"gateway.yaml": without})
    second.wait_until(lambda: orphaned(second) == [2.0], "counting them")
    assert len(second.wait_for_records(event="saga_orphaned", workflow="plain")) == 1
    assert [each["orphaned"] for each in second.get(SAGAS).json()["sagas"]] == [True, True]
    with sqlite3.connect(tmp_path / "journal.db", timeout=60) as connection:
        # Instead of waiting until the leases of the dead have ended.
        connection.execute("UPDATE saga_runs SET lease_until = 0")
    connection.close()
    assert order(second, runs[0], "resolve", outcome="compensated").json()["state"] == "compensated"
    assert second.metric('saga_runs_total{workflow="plain",outcome="compensated"}') == 1.0
    second.kill()

    # Another workflow has a route, and the upstream of this one is gone.
    other = {"steps": [{"name": "s", "upstream": "other", "path": "/", "compensate": "none"}]}
    routed = {"name": "b", "prefix": "/b", "workflow": "other"}
    with_other = yaml.safe_dump({"upstreams": upstreams, "workflows": {"other": other}, "routes": [routed]})
    third = start_gateway(variables(journal, WORKERS="1"), files={"gateway.yaml": with_other})
    (told,) = third.wait_for_records(event="saga_upstream_missing", workflow="plain")
    assert (told["saga_id"], told["upstream"]) == (runs[1], "participants")
    eventually(lambda: not saga(third, runs[1])["underWay"], "waiting")
    assert "upstream participants is not in the configuration" in saga(third, runs[1])["reason"]
    third.wait_until(lambda: orphaned(third) == [1.0], "counting it")
    assert order(third, runs[1], "resolve", outcome="compensated").status == 200
    third.wait_until(lambda: not orphaned(third), "counting none")
