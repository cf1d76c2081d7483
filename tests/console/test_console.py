"""The console in a real browser: what an operator sees and does, and that everybody can.

One browser serves the whole module. Every test looks at what the page has complained of.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import StartGateway
from tests.support.browser import Browser, browsing
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

TOKEN = "correct-horse-battery-staple"
ROW = 'tr[data-key="row-orders"]'
CIRCUIT = f"{ROW} .pill"
VIEWS = ("services", "errors", "routes", "limits", "explain", "configuration")
FILE = """\
upstreams:
  orders: {{endpoints: ["127.0.0.1:{port}"], breaker: {{reset_timeout: 600}}}}
  catalog: {{endpoints: ["127.0.0.1:{port}"]}}
routes:
  - {{name: orders, prefix: /orders, upstream: orders, strip_prefix: true}}
  - {{name: catalog, prefix: /catalog, upstream: catalog, strip_prefix: true, rate_limit: none}}
"""


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    yield window
    assert window.complaints() == []
    window.open("about:blank")
    window.size(1440, 900)
    window.theme("light")


def started(start_gateway: StartGateway, stub: StubProcess, **env: str) -> GatewayProcess:
    files = {"gateway.yaml": FILE.format(port=stub.port)}
    common = {"GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN, "RETRY_MAX_ATTEMPTS": "1"}
    return start_gateway({**common, **env}, files=files)


def state_of(gateway: GatewayProcess) -> dict[str, object]:
    found: dict[str, object] = gateway.get("/api/resilience/circuit-breakers/orders").json()
    return found


def test_a_trip_is_seen_with_what_to_do_and_the_errors_that_led_to_it(
    browser: Browser, start_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = started(start_gateway, stub)
    browser.open(f"{gateway.url}/console")
    browser.wait(CIRCUIT, "closed")
    browser.wait("#problems", "Nothing is wrong")
    for _ in range(6):
        gateway.get("/orders/fail")
    browser.wait(CIRCUIT, "open")
    browser.wait("#problems", "The circuit of orders is open")
    browser.wait("#problems", "Check that upstream")
    browser.wait('.card[data-key="card-orders"].Unhealthy .pill', "open")
    # What hurts comes first.
    assert browser.run("return document.querySelector('table.services tbody tr').dataset.key") == "row-orders"
    browser.wait('[data-key="hour-orders"] .changes', "consecutive failures")
    browser.click("#tabs button", "Errors")
    browser.wait("table.errors", "answered 500")
    browser.type('input[data-filter="errors.reason"]', "circuit_open")
    eventually(lambda: "answered 500" not in browser.text("table.errors"), "filtered")
    browser.click("table.errors .unfold", "circuit_open")
    browser.wait("table.errors .detail", "is being left alone")
    browser.click("table.errors .detail button", "Explain")
    browser.wait(".verdict", "It would be")


def test_operators_see_the_errors_of_one_client(
    browser: Browser, start_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = started(start_gateway, stub, TRUSTED_PROXIES="127.0.0.1")
    for client in ("192.0.2.7", "192.0.2.8"):
        gateway.get("/orders/fail", {"X-Forwarded-For": client})
    gateway.get("/catalog/fail", {"X-Forwarded-For": "192.0.2.7"})
    browser.open(f"{gateway.url}/console#errors")
    browser.wait("table.errors", "catalog")
    eventually(lambda: len(browser.all("table.errors tbody tr")) == 3, "all of them")
    assert "192.0.2" not in browser.text("body"), "the stream does not say who"
    browser.type('input[data-filter="errors.client"]', "192.0.2.7\n")
    browser.type('dialog input[name="token"]', TOKEN)
    browser.click('dialog button[type="submit"]')
    eventually(lambda: len(browser.all("table.errors tbody tr")) == 2, "those of the client")
    browser.click("table.errors .unfold", "upstream_status")
    browser.wait("table.errors .detail", "192.0.2.7")
    assert browser.violations() == []


def test_a_circuit_is_held_and_released_and_the_token_is_kept_nowhere(
    browser: Browser, start_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = started(start_gateway, stub)
    browser.open(f"{gateway.url}/console")
    browser.click(f"{ROW} .unfold")
    browser.click('[data-key="detail-orders"] button', "Force open")
    browser.type('dialog input[name="token"]', "not-the-token-at-all")
    browser.click('dialog button[type="submit"]')
    browser.type('dialog input[name="reason"]', "a drill in a browser")
    browser.click('dialog button[type="submit"]')
    # It was the wrong one: the dialog asks again, and the order goes on with the right one.
    browser.wait("dialog", "The token is wrong")
    browser.type('dialog input[name="token"]', TOKEN)
    browser.click('dialog button[type="submit"]')
    browser.wait(".toast", "held open")
    assert state_of(gateway)["forced"] is True
    assert state_of(gateway)["cause"] == "a drill in a browser"
    browser.wait(CIRCUIT, "held open")
    browser.wait("#problems", "held open by an operator (a drill in a browser)")
    browser.click('[data-key="detail-orders"] button', "Release")
    browser.click('dialog button[type="submit"]')
    browser.wait(".toast", "released")
    eventually(lambda: state_of(gateway)["forced"] is False, "released")
    browser.wait(CIRCUIT, "closed")
    browser.click('[data-key="detail-orders"] button', "Drain")
    browser.type('dialog input[name="reason"]', "a new disk")
    browser.click('dialog button[type="submit"]')
    browser.wait('[data-key="detail-orders"] .inner', "drained for")
    kept = "[document.cookie, {...localStorage}, {...sessionStorage}, location.href]"
    assert TOKEN not in browser.run(f"return JSON.stringify({kept})")
    (record,) = gateway.wait_for_records(logger="gateway.audit", action="force-open")
    assert record["reason"] == "a drill in a browser"
    browser.click("#top button", "Sign out")
    browser.click("#tabs button", "Configuration")
    browser.wait("dialog", "ADMIN_TOKEN")


def test_a_reload_shows_first_what_would_change(
    browser: Browser, start_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = started(start_gateway, stub)
    browser.open(f"{gateway.url}/console#configuration")
    browser.type('dialog input[name="token"]', TOKEN)
    browser.click('dialog button[type="submit"]')
    browser.wait("table.settings", "gateway.yaml:")
    assert TOKEN not in browser.text("body")
    file = gateway.directory / "gateway.yaml"
    file.write_text(file.read_text().replace("reset_timeout: 600", "reset_timeout: 601"))
    browser.click("#top button", "Reload")
    browser.wait(".diff", "601")
    browser.click("dialog button.danger", "Reload")
    browser.wait(".toast", "The configuration is in effect")
    # Its worker has ended, and the page is with the next one.
    eventually(lambda: not browser.text("#connection"), "connected again")
    browser.click("#tabs button", "Routes")
    browser.wait('[data-key="chain-orders"]', "601")


def test_it_survives_the_end_and_the_return_of_the_gateway(
    browser: Browser, start_gateway: StartGateway, stub: StubProcess
) -> None:
    port = str(free_port())
    gateway = started(start_gateway, stub, PORT=port)
    browser.open(f"{gateway.url}/console")
    browser.wait(CIRCUIT, "closed")
    gateway.kill()
    browser.wait("#connection", "Trying again")
    browser.wait("#connection", "The figures are those of")
    again = started(start_gateway, stub, PORT=port, SERVICE_NAME="again")
    browser.wait("#top h1", "again")
    eventually(lambda: not browser.text("#connection"), "connected again")
    for _ in range(6):
        again.get("/orders/fail")
    browser.wait(CIRCUIT, "open")


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (1440, "dark"), (390, "light")])
def test_axe_finds_nothing_in_any_view(
    width: int, theme: str, browser: Browser, start_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = started(start_gateway, stub)
    browser.size(width, 844)
    browser.theme(theme)
    browser.open(f"{gateway.url}/console#configuration")
    browser.type('dialog input[name="token"]', TOKEN)
    assert browser.violations() == []
    browser.click('dialog button[type="submit"]')
    for path in ("/orders/fail",) * 6 + ("/catalog/ok", "/nowhere"):
        gateway.get(path)
    browser.click("#tabs button", "Services")
    browser.wait(CIRCUIT, "open")
    browser.click(f"{ROW} .unfold")
    found = {}
    for view in VIEWS:
        browser.run("location.hash = arguments[0]", view)
        browser.wait('#tabs [aria-current="page"]', view.capitalize())
        if view == "errors":
            browser.click("table.errors .unfold", "")
        if view == "explain":
            browser.click("form button", "Explain")
            browser.wait(".verdict")
        if view == "routes":
            browser.wait(".chain")
        if found_here := browser.violations():
            found[view] = found_here
    assert found == {}
    # Nothing is wider than the page: what is wide scrolls in a place of its own.
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")


def test_with_console_auth_the_page_asks_before_it_shows_anything(
    browser: Browser, start_gateway: StartGateway, stub: StubProcess
) -> None:
    gateway = started(start_gateway, stub, CONSOLE_AUTH="token")
    browser.open(f"{gateway.url}/console")
    browser.wait("dialog", "tells only operators")
    assert "orders" not in browser.text("main")
    browser.type('dialog input[name="token"]', TOKEN)
    browser.click('dialog button[type="submit"]')
    browser.wait(CIRCUIT, "closed")


def test_it_is_used_with_a_keyboard_alone(browser: Browser, start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = started(start_gateway, stub)
    browser.open(f"{gateway.url}/console")
    browser.wait(CIRCUIT, "closed")
    body = browser.all("body")[0]
    body.send_keys("3")
    browser.wait('#tabs [aria-current="page"]', "Routes")
    browser.wait(".chain", "orders")
    body.send_keys("/")
    assert browser.run("return document.activeElement.dataset.filter") == "routes"
    browser.type('input[data-filter="routes"]', "catalog")
    eventually(lambda: "orders" not in browser.text("#main .chains"), "filtered")
    # What was typed, and the focus, stay while the page draws itself anew.
    assert browser.run("return document.activeElement.value") == "catalog"


DRILL = """\
upstreams:
  orders: {{endpoints: ["127.0.0.1:{port}"], bulkhead: {{limit: 50, adaptive: {{mode: enforce, initial: 20}}}}}}
  second: {{endpoints: ["127.0.0.1:{port}"]}}
  shadow: {{endpoints: ["127.0.0.1:{port}"]}}
routes:
  - {{name: orders, prefix: /orders, upstream: orders, strip_prefix: true, fallback: {{upstream: second}}}}
  - {{name: hooks, prefix: /hooks, upstream: second, strip_prefix: true, deliver: {{enabled: true, schedule: [1h]}}}}
  - name: shared
    prefix: /shared
    split: {{to: [{{upstream: orders, weight: 1}}, {{upstream: second, weight: 3}}]}}
    mirror: {{upstream: shadow, percent: 10}}
"""
HEDGED = """\
upstreams: {{search: {{endpoints: ["127.0.0.1:{port}", "localhost:{port}"], retry: {{max_attempts: 1}}}}}}
routes:
  - {{name: search, prefix: /search, upstream: search, strip_prefix: true, hedge: {{after: 20ms}}}}
  - {{name: learns, prefix: /learns, upstream: search, strip_prefix: true, hedge: {{after: p95}}}}
"""


def test_hedges_are_told_of_each_route_with_what_came_of_them(
    browser: Browser, start_gateway: StartGateway, stub: StubProcess
) -> None:
    files = {"gateway.yaml": HEDGED.format(port=stub.port)}
    gateway = start_gateway({"GATEWAY_CONFIG": "gateway.yaml", "WORKERS": "1"}, files=files)
    browser.open(f"{gateway.url}/console")
    browser.wait("#problems", "Nothing is wrong")
    browser.click('tr[data-key="row-search"] .unfold')
    browser.wait('[data-key="pair-hedges of learns"]', "none")
    assert gateway.get("/search/slow?seconds=0.2").status == 200
    browser.wait('[data-key="pair-hedges of search"]', "0.2/s")
    assert browser.violations() == []
    browser.click("#tabs button", "Routes")
    browser.wait('[data-key="chain-search"]', "Hedgeafter 20 ms")
    browser.wait('[data-key="chain-learns"]', "Hedgetoo little is known")
    assert browser.violations() == []


def test_trouble_on_purpose_is_a_banner_that_ends_it_and_fallbacks_and_work_are_told(
    browser: Browser, start_gateway: StartGateway, stub: StubProcess
) -> None:
    env = {"FAULTS_ENABLED": "true", "FAULTS_MAX_PERCENT": "100", "JOURNAL_URL": "sqlite:///journal.db"}
    env |= {"ADMIN_TOKEN": TOKEN, "GATEWAY_CONFIG": "gateway.yaml", "RETRY_MAX_ATTEMPTS": "1"}
    files = {"gateway.yaml": DRILL.format(port=stub.port)}
    gateway = start_gateway({**env, "ALERT_MINIMUM_REQUESTS": "1000"}, files=files)
    browser.open(f"{gateway.url}/console")
    browser.wait("#problems", "Nothing is wrong")
    browser.wait(f"{ROW} td.load", "0 / ~20")
    browser.wait(".work", "0 messages to be delivered")
    assert browser.all(".faults") == []
    asked: dict[str, Any] = {
        "scope": {"upstream": "orders", "route": "orders"},
        "kind": "abort",
        "percent": 100,
        "duration": 500,
    }
    asked["reason"] = "<img src=x onerror=document.title=1>"
    body, json_type = json.dumps(asked).encode(), {"Content-Type": "application/json"}
    made = gateway.request("POST", "/api/resilience/faults", body, {"Authorization": f"Bearer {TOKEN}", **json_type})
    assert made.status == 200, made.body
    browser.wait(".faults", "orders: the answer is a 503, for 100 % of the attempts on route orders")
    browser.wait(".faults .left", "left")
    browser.wait(".faults", "Why: <img src=x onerror=document.title=1> (token)")
    assert browser.all(".faults img") == []
    gateway.request("POST", "/hooks/fail", b"{}")
    browser.wait(".work", "1 message to be delivered, the oldest for")
    # A fallback is told of while it is in use: over the last five seconds.
    assert {gateway.get("/orders/ok").status for _ in range(5)} == {200}
    browser.wait(".notices", "orders: its fallback is in use (second")
    browser.click(f"{ROW} .unfold")
    browser.wait('[data-key="detail-orders"]', "20 of at most 50")
    browser.wait('[data-key="detail-orders"] tr[data-key="shared"]', "0 of 0")
    assert browser.violations() == []
    browser.click("#tabs button", "Routes")
    browser.wait('[data-key="chain-orders"]', "last good answer")
    browser.wait('[data-key="chain-shared"] .upstream', "Upstream, 25 %orders")
    browser.wait('[data-key="chain-shared"] .upstream', "Upstream, 75 %second")
    browser.wait('[data-key="chain-shared"]', "Mirrorshadow")
    assert browser.violations() == []
    browser.click(".faults button", "End it")
    browser.type('dialog input[name="token"]', TOKEN)
    browser.click('dialog button[type="submit"]')
    browser.wait("dialog", "No attempt meets it any more")
    browser.click('dialog button[type="submit"]')
    browser.wait(".toast", "the fault is over")
    browser.gone(".faults")
    assert gateway.get("/api/resilience/faults").json()["count"] == 0
