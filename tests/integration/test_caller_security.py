"""What whole gateways do with credentials that are wrong, odd or meant to do harm, and where no credential ever shows.

docs/security.md has the table of what is tried here and elsewhere.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import count

import aiohttp
import pytest
import yaml

from tests.conftest import StartGateway
from tests.support.callers import FILE_KEY, QUIET_KEY, TOKEN, configuration, created, keys
from tests.support.gateway_process import GatewayProcess
from tests.support.keys import key
from tests.support.plain_http import Answer
from tests.support.processes import clean_environment
from tests.support.raw_http import RawClient
from tests.support.raw_response import RawResponse
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE

ADDRESSES = count(1)


def file_of(stub: StubProcess) -> str:
    made = configuration(stub)
    more = {"upstream": "orders", "strip_prefix": True, "rate_limit": None, "authentication": "api_key"}
    made["routes"] += [
        {"name": "pages", "prefix": "/pages", "cors": {"origins": ["https://shop.example"]}, **more},
        {"name": "chat", "prefix": "/chat", "websocket": True, **more},
    ]
    return yaml.safe_dump(made)


@pytest.fixture(scope="module")
def gateway(stub_process: StubProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("gateway")
    (directory / "gateway.yaml").write_text(file_of(stub_process))
    env = {"GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN, "TRUSTED_PROXIES": "127.0.0.1"}
    with GatewayProcess(env, directory) as process:
        yield process


def sent(
    gateway: GatewayProcess, *lines: bytes, target: bytes = b"/orders/echo", method: bytes = b"GET"
) -> RawResponse:
    """One request with these field lines, from an address that has all of its attempts."""
    at = next(ADDRESSES)
    head = [method + b" " + target + b" HTTP/1.1", b"Host: a", b"X-Forwarded-For: 10.1.%d.%d" % divmod(at, 256), *lines]
    with RawClient(gateway.port) as client:
        return client.request(b"\r\n".join(head) + b"\r\n\r\n", method.decode())


def reason(answer: RawResponse) -> str:
    return str(json.loads(answer.body)["reason"])


GOOD = FILE_KEY.encode()
OTHER = QUIET_KEY.encode()
WRONG = key("filekey00001", "B").encode()


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-API-Key: " + GOOD],
        [b"x-api-key:" + GOOD],
        [b"X-API-Key:  \t" + GOOD + b" \t "],
        [b"Authorization: Bearer " + GOOD],
        [b"authorization: bearer   " + GOOD + b"   "],
        [b"AUTHORIZATION: BEARER " + GOOD],
        # What is empty says nothing, and another scheme is the upstream's.
        [b"X-API-Key:", b"Authorization: Bearer " + GOOD],
        [b"Authorization: Basic dXNlcjpwdw==", b"X-API-Key: " + GOOD],
    ],
)
def test_a_good_key_passes_however_it_is_spelt(lines: list[bytes], gateway: GatewayProcess) -> None:
    assert sent(gateway, *lines).status == 200


@pytest.mark.parametrize(
    ("lines", "challenge"),
    [
        # Nothing that counts.
        ([], ""),
        ([b"X-API-Key:"], ""),
        ([b"Authorization:"], ""),
        ([b"Authorization: Bearer"], ""),
        ([b"Authorization: Bearer    "], ""),
        ([b"Authorization: Basic dXNlcjpwdw=="], ""),
        ([b"Authorization: Basic " + GOOD], ""),
        ([b"Authorization: " + GOOD], ""),
        ([b"Authorization: Bearer\t" + GOOD], ""),
        ([b"X_API_Key: " + GOOD], ""),
        ([b"Proxy-Authorization: Bearer " + GOOD], ""),
        ([b"Cookie: X-API-Key=" + GOOD], ""),
        ([b"X-API-Key: " + GOOD, b"Connection: X-API-Key"], ""),
        # Several: which one counts must not be a matter of opinion.
        ([b"X-API-Key: " + GOOD] * 2, "invalid_request"),
        ([b"X-API-Key: " + GOOD, b"x-api-key: " + OTHER], "invalid_request"),
        ([b"X-API-Key: " + GOOD, b"X-API-Key:"], "invalid_request"),
        ([b"Authorization: Bearer " + GOOD] * 2, "invalid_request"),
        ([b"Authorization: Basic dXNlcjpwdw==", b"Authorization: Bearer " + GOOD], "invalid_request"),
        ([b"X-API-Key: " + GOOD, b"Authorization: Bearer " + GOOD], "invalid_request"),
        ([b"X-API-Key: " + GOOD, b"Authorization: Bearer " + OTHER], "invalid_request"),
        # One that is wrong.
        ([b"X-API-Key: " + WRONG], "invalid_token"),
        ([b"X-API-Key: " + key("unknown00001").encode()], "invalid_token"),
        ([b"X-API-Key: " + GOOD + b", " + GOOD], "invalid_token"),
        ([b"X-API-Key: " + GOOD + b"," + OTHER], "invalid_token"),
        ([b"Authorization: Bearer " + GOOD + b", Bearer " + OTHER], "invalid_token"),
        ([b'X-API-Key: "' + GOOD + b'"'], "invalid_token"),
        ([b"X-API-Key: " + GOOD.upper()], "invalid_token"),
        ([b"X-API-Key: " + GOOD.replace(b"gw_", b"gw-")], "invalid_token"),
        ([b"X-API-Key: gw_filekey00001_" + "ä".encode() * 22], "invalid_token"),
        ([b"X-API-Key: \xff\xfe\x80"], "invalid_token"),
        ([b"X-API-Key: gw_filekey00001_*" + b"A" * 42], "invalid_token"),
        ([b"X-API-Key: gw_*_" + b"A" * 43], "invalid_token"),
        ([b"X-API-Key: gw_filekey00001:tags_" + b"A" * 43], "invalid_token"),
        ([b"X-API-Key: gw_" + b"a" * 33 + b"_" + b"A" * 43], "invalid_token"),
        ([b"X-API-Key: " + b"gw_" * 2000], "invalid_token"),
    ],
)
def test_anything_else_is_401_with_the_challenge_that_fits(
    lines: list[bytes], challenge: str, gateway: GatewayProcess
) -> None:
    answer = sent(gateway, *lines)
    assert (answer.status, reason(answer)) == (401, "unauthenticated")
    error = f', error="{challenge}"' if challenge else ""
    assert answer.get("WWW-Authenticate") == f'Bearer realm="gateway"{error}'
    assert b"gw_" not in answer.body


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"X-API-Key: " + b"A" * 100_000], 431),
        ([b"Authorization: Bearer " + b"A" * 100_000], 431),
        ([b"X-API-Key: " + GOOD + b"\x00"], 400),
        ([b"X-API-Key : " + GOOD], 400),
        ([b"X-API-Key: gw_filekey00001_", b" " + b"A" * 43], 400),
        ([b"X-API-Key: " + GOOD + b"\rX-Tenant: evil"], 400),
    ],
)
def test_what_is_no_field_at_all_or_too_long_is_refused_before_it_is_read(
    lines: list[bytes], status: int, gateway: GatewayProcess
) -> None:
    assert sent(gateway, *lines).status == status


@pytest.mark.parametrize("name", [b"api_key", b"access_token", b"X-API-Key", b"key"])
def test_a_key_in_the_query_does_not_count_and_its_secret_is_not_logged(name: bytes, gateway: GatewayProcess) -> None:
    secret = hashlib.sha256(name).hexdigest()[:43]
    answer = sent(gateway, target=b"/orders/echo?" + name + b"=gw_filekey00001_" + secret.encode())
    assert (answer.status, reason(answer)) == (401, "unauthenticated")
    logged = f"/orders/echo?{name.decode()}=gw_filekey00001_***"
    gateway.wait_for_records(target=logged)
    assert secret not in "".join(gateway.lines)


async def test_a_key_in_the_query_where_that_is_switched_on_goes_no_further(
    start_gateway: StartGateway, stub: StubProcess
) -> None:
    environment = {"GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN, "LOG_LEVEL": "debug"}
    environment |= {"API_KEY_QUERY": "api_key", "TRUSTED_PROXIES": "127.0.0.1"}
    gateway = start_gateway(environment, files={"gateway.yaml": file_of(stub)})
    seen = []

    def ask(target: bytes, *lines: bytes, method: bytes = b"GET") -> RawResponse:
        answer = sent(gateway, *lines, target=target, method=method)
        seen.append(answer.body)
        return answer

    key_in = b"api_key=" + GOOD
    for target, rest in (
        (b"/orders/echo?" + key_in, "/echo"),
        (b"/orders/echo?x=%41&" + key_in + b"&y", "/echo?x=%41&y"),
        (b"/orders/echo?%61PI_key=" + GOOD, "/echo"),
        (b"http://a/orders/echo?x&" + key_in, "/echo?x"),
    ):
        answer = ask(target, b"Referer: http://a/page?" + key_in)
        assert (answer.status, json.loads(answer.body)["target"]) == (200, rest)
        assert b"gw_" not in answer.body
        assert b"X-Consumer" in answer.body
    assert ask(b"/orders/ok?" + key_in, b"Max-Forwards: 0", method=b"TRACE").status == 200
    for target, lines, error in (
        (b"/orders/echo?" + key_in + b"&" + key_in, [], "invalid_request"),
        (b"/orders/echo?" + key_in, [b"X-API-Key: " + GOOD], "invalid_request"),
        (b"/orders/echo?" + key_in, [b"Authorization: Bearer " + GOOD], "invalid_request"),
        (b"/orders/echo?api_key=" + WRONG, [], "invalid_token"),
        (b"/orders/echo?api_key=%67w" + GOOD[2:], [], "invalid_token"),
        (b"/orders/echo?api_key=", [], ""),
        (b"/orders/echo?apikey=" + GOOD, [], ""),
    ):
        answer = ask(target, *lines)
        assert answer.status == 401
        said = f', error="{error}"' if error else ""
        assert answer.get("WWW-Authenticate") == f'Bearer realm="gateway"{said}'
    assert ask(b"/orders/fail?" + key_in).status == 500
    assert ask(b"/nowhere?" + key_in).status == 404
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{gateway.url}/chat/ws?api_key={FILE_KEY}") as socket,
    ):
        await socket.send_str("hello")
        assert await socket.receive_str(timeout=PATIENCE) == "hello"
    operator = {"Authorization": f"Bearer {TOKEN}"}
    paths = ("/metrics", "/api/resilience/errors/recent?count=1000", "/api/resilience/tenants", "/health")
    seen += [gateway.get(path, operator).body for path in paths]
    assert gateway.stop() == 0
    told = b"\n".join(seen).decode() + "\n".join(gateway.lines)
    assert [text.rsplit(b"_", 1)[1] for text in (GOOD, WRONG) if text.rsplit(b"_", 1)[1].decode() in told] == []
    assert '"target":"/orders/echo?x=%41&y"' in told


@pytest.mark.parametrize(
    "lines",
    [
        [b"X-Tenant: evil"],
        [b"X-Tenant: evil", b"X-Tenant: evil"],
        [b"x-tenant: evil", b"X_Tenant: evil", b"X.TENANT: evil", b"X~Tenant: evil"],
        [b"X-Consumer: evil", b"x_consumer: evil"],
        [b"X-Tenant: evil", b"Connection: close, X-Tenant"],
        [b"X-Tenant: evil", b"Connection: X_Tenant, X-Consumer"],
    ],
)
@pytest.mark.parametrize("route", [b"orders", b"open"])
def test_nobody_else_says_who_asks(route: bytes, lines: list[bytes], gateway: GatewayProcess) -> None:
    answer = sent(gateway, b"X-API-Key: " + GOOD, *lines, target=b"/" + route + b"/echo")
    assert answer.status == 200
    told = {(name.lower(), value) for name, value in json.loads(answer.body)["headers"] if "tenant" in name.lower()}
    assert told == ({("x-tenant", "acme")} if route == b"orders" else set())
    assert b"evil" not in answer.body


def test_trailers_tell_nothing_either(gateway: GatewayProcess) -> None:
    head = b"POST /orders/echo HTTP/1.1\r\nHost: a\r\nX-API-Key: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % GOOD
    with RawClient(gateway.port) as client:
        answer = client.request(head + b"1\r\nx\r\n0\r\nX-Tenant: evil\r\nX-API-Key: %b\r\n\r\n" % OTHER, "POST")
    assert answer.status == 200
    assert b"evil" not in answer.body
    assert b"quietkey" not in answer.body


def test_a_preflight_asks_for_no_key_and_what_follows_it_does(gateway: GatewayProcess) -> None:
    origin = b"Origin: https://shop.example"
    asked = (origin, b"Access-Control-Request-Method: GET", b"Access-Control-Request-Headers: x-api-key")
    preflight = sent(gateway, *asked, target=b"/pages/ok", method=b"OPTIONS")
    assert preflight.status == 204
    assert preflight.get("Access-Control-Allow-Headers") == "x-api-key"
    refused = sent(gateway, origin, target=b"/pages/ok")
    assert refused.status == 401
    assert refused.get("Access-Control-Allow-Origin") == "https://shop.example"
    assert sent(gateway, origin, b"X-API-Key: " + GOOD, target=b"/pages/ok").status == 200
    # What only looks like one has to show a key.
    assert sent(gateway, origin, target=b"/pages/ok", method=b"OPTIONS").status == 401
    assert sent(gateway, *asked, target=b"/orders/ok", method=b"OPTIONS").status == 401


async def test_a_websocket_needs_a_key_and_the_upstream_does_not_get_it(gateway: GatewayProcess) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{gateway.url}/chat/ws")
        assert refused.value.status == 401
        # Where pages put a token because they can set no field; it is no place for one here.
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{gateway.url}/chat/ws", protocols=("bearer", FILE_KEY))
        assert refused.value.status == 401
        assert FILE_KEY not in "".join(gateway.lines)
        async with session.ws_connect(f"{gateway.url}/chat/ws", headers={"X-API-Key": FILE_KEY}) as socket:
            await socket.send_str("hello")
            assert await socket.receive_str(timeout=PATIENCE) == "hello"


def test_a_trace_that_goes_no_further_shows_no_key(gateway: GatewayProcess) -> None:
    answer = sent(gateway, b"X-API-Key: " + GOOD, b"Max-Forwards: 0", method=b"TRACE")
    assert answer.status == 200
    assert b"gw_" not in answer.body


def test_no_output_of_a_gateway_has_a_key_or_its_hash(
    start_gateway: StartGateway, stub: StubProcess, redis: RedisServer
) -> None:
    environment = {"GATEWAY_CONFIG": "gateway.yaml", "ADMIN_TOKEN": TOKEN, "LOG_LEVEL": "debug", **redis.variables}
    gateway = start_gateway(environment, files={"gateway.yaml": file_of(stub)})
    _, stored = created(gateway, "batch", "--tenant", "acme")
    wrong = [f"gw_batchkey0001_{hashlib.sha256(bytes([at])).hexdigest()[:43]}" for at in range(3)]
    seen: list[str] = []

    def note(answer: Answer) -> None:
        seen.append(f"{answer.headers}\n{answer.body.decode()}")

    for text in (FILE_KEY, stored, *wrong):
        for target in ("/orders/echo", "/orders/fail", "/acme/ok", f"/orders/ok?api_key={text}", "/nowhere"):
            for headers in ({"X-API-Key": text}, {"Authorization": f"Bearer {text}"}):
                note(gateway.get(target, headers))
        note(gateway.get("/orders/ok", {"X-API-Key": f"{text}x"}))
    operator = {"Authorization": f"Bearer {TOKEN}"}
    for target in (
        *("/metrics", "/health", "/", "/dashboard", "/api/openapi.json", "/api/admin/keys", "/api/resilience/tenants"),
        *("/api/resilience/errors/recent?count=1000", "/api/resilience/metrics", "/api/resilience/alerts"),
        *("/api/resilience/explain?path=/orders/x&consumer=web", "/api/resilience/workers"),
    ):
        note(gateway.get(target, operator))
    # Somebody takes the whole key for its id.
    note(gateway.request("POST", f"/api/admin/keys/{stored}/revoke", headers=operator))
    seen.append(keys(gateway, "list").stdout)
    command = [sys.executable, "-m", "gateway", "routes"]
    env, directory = clean_environment(**environment), gateway.directory
    done = subprocess.run(command, env=env, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    seen.append(done.stdout + done.stderr)
    assert gateway.stop() == 0
    told = "\n".join([*seen, *gateway.lines])
    for text in (FILE_KEY, stored, *wrong):
        assert text.split("_", 2)[2] not in told
        assert hashlib.sha256(text.encode()).hexdigest() not in told
    assert "gw_batchkey0001_***" in told
    kept = str([redis.execute("HGETALL", name) for name in redis.execute("KEYS", "api-gateway:key:*")])
    assert hashlib.sha256(stored.encode()).hexdigest() in kept
    assert stored not in kept
