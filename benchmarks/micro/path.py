"""Each stage of the path of a request, on the bytes that wrk and nginx exchange."""

import asyncio
import random
import time
from collections.abc import Iterator

from benchmarks.micro import callers
from benchmarks.micro.timing import Case
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.sections.upstreams.model import EndpointConfig, UpstreamConfig
from gateway.fleet.circuit import LocalCircuit
from gateway.policy.limit import ConcurrencyLimit
from gateway.policy.token_bucket import Decision, RateLimitPolicy
from gateway.proxy.answers.problem import Problem
from gateway.proxy.filters.rate_limit_fields import RateLimitFields
from gateway.proxy.requests.identity import Identification
from gateway.proxy.requests.ids import Ids
from gateway.proxy.routes.plan import Plan
from gateway.proxy.routes.router import Router
from gateway.proxy.routes.topology import Route
from gateway.proxy.upstreams.upstream import Upstream
from gateway.telemetry.log.access import AccessLog
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import LATENCY_BOUNDS, Histogram
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import LogPart, Record, RouteAccount
from gateway.telemetry.tracing.trace import Traces
from gateway.wire.client.resolver import Resolver
from gateway.wire.message import request as requests
from gateway.wire.message import response as responses
from gateway.wire.message.chunked import ChunkedDecoder, encode_chunk

_REQUEST_LINE = b"GET /proxy/ok HTTP/1.1"
_REQUEST_FIELDS = b"Host: 127.0.0.1:5000\r\n\r\n"
_BROWSER_FIELDS = (
    b"Host: shop.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, br\r\n"
    b"Referer: https://shop.example.com/cart\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    b"Connection: keep-alive\r\nX-Request-ID: 0af7651916cd43dd8448eb211c80319c\r\nSec-Fetch-Mode: cors\r\n\r\n"
)
_RESPONSE_LINE = b"HTTP/1.1 200 OK"
_RESPONSE_FIELDS = (
    b"Server: nginx/1.22.1\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: 261\r\nConnection: keep-alive\r\n\r\n"
)
_CHUNKED = b"105\r\n" + b"x" * 261 + b"\r\n0\r\n\r\n"
_REQUEST_ID = b"0af7651916cd43dd8448eb211c80319c"
_PEER = "203.0.113.7"
_NOW = 1_700_000_000.0


class _Routed:
    def __init__(self, config: RouteConfig) -> None:
        self.host = (config.host or "").encode()
        self.prefix = config.prefix.encode()


def cases() -> Iterator[tuple[str, Case]]:
    yield "request head: wrk", _request(_REQUEST_FIELDS)
    yield "request head: browser", _request(_BROWSER_FIELDS)
    yield "response head", _response()
    yield "route match: 1 route", _router(1)
    yield "route match: 1,000 routes", _router(1000)
    yield "plan and upstream head", _plan()
    yield "request id and traceparent", _ids()
    yield "rate limit fields", _rate_limit_fields()
    yield "problem: 429", _problem()
    yield "chunked body: decode", lambda: ChunkedDecoder().feed(_CHUNKED)
    yield "chunked body: encode", lambda: encode_chunk(b"x" * 261)
    histogram = Histogram(LATENCY_BOUNDS)
    yield "metric cell: histogram", lambda: histogram.observe(0.0042)
    yield "metrics of one exchange", _metrics()
    yield "access log line", _access_log()
    yield "access log line: refused", _refusal_log()
    yield from callers.cases()


def _request(block: bytes) -> Case:
    limits = requests.Limits()

    def parse() -> None:
        method, target, minor = requests.parse_request_line(_REQUEST_LINE)
        requests.check(requests.Request(method, target, minor, requests.parse_fields(block, limits)))

    return parse


def _response() -> Case:
    def parse() -> None:
        minor, status, phrase = responses.parse_status_line(_RESPONSE_LINE)
        responses.Response(status, phrase, minor, responses.parse_fields(_RESPONSE_FIELDS)).frame(to_head=False)

    return parse


def _router(count: int) -> Case:
    routed = [_Routed(RouteConfig(f"r{index}", f"/api/r{index}/", "default")) for index in range(count)]
    router = Router(routed)
    if router.match(b"shop.example.com", b"/api/r0/items/42?page=2") is not routed[0]:
        raise RuntimeError("the route that was to be found is another one")
    return lambda: router.match(b"shop.example.com", b"/api/r0/items/42?page=2")


def _rate_limit_fields() -> Case:
    fields = RateLimitFields(RateLimitPolicy("default", 50, 20.0), legacy=True)
    decision = Decision(True, 41.5, 0.0, 0.425)
    return lambda: fields.lines(decision)


def _problem() -> Case:
    detail = "the client has used up its 50 requests, 20 come back a second"
    problem = Problem("gateway", 429, "rate_limited", detail, retry_after=2)
    return lambda: problem.render(_REQUEST_ID, b"", _NOW, False)


def _metrics() -> Case:
    metrics = Metrics("gateway", ["proxy"], ["default"], "0", policies=["default"])
    decided, cells = metrics.rate_limit("default"), metrics.route("proxy")

    def count() -> None:
        decided[True] += 1
        metrics.attempts["default"].observe(0.0041)
        cells.exchange("GET", 200, 0.0042)

    return count


def _record(status: int, decisions: dict[str, str], reason: str) -> Record:
    known: dict[str, object] = {
        "client": _PEER,
        "method": "GET",
        "target": "/proxy/ok",
        "route": "proxy",
        "upstream": "default",
    }
    record = Record(RouteAccount("proxy", "default", RouteCells()), LogPart(known), _REQUEST_ID, _REQUEST_ID)
    record.endpoint = "" if reason else "127.0.0.1:5001"
    record.status = status
    record.bytes_out = 261
    record.log_decisions = decisions
    record.reason = reason
    return record


def _access_log() -> Case:
    lines: list[bytes] = []
    log = AccessLog(lines.append)
    record = _record(200, {"rate_limit": "allowed"}, "")

    def write() -> None:
        log.exchange(record, 0.0012, _NOW)
        lines.clear()

    return write


def _refusal_log() -> Case:
    lines: list[bytes] = []
    log = AccessLog(lines.append)
    record = _record(429, {"rate_limit": "limited"}, "rate_limited")
    end = log.prepare_refusal(record)

    def write() -> None:
        log.refusal(record, end, _NOW)
        lines.clear()

    return write


def _ids() -> Case:
    ids = Ids(random.Random(1))
    traces = Traces(ids.new, 1.0)
    return lambda: traces.traceparent(ids.new())


def _plan() -> Case:
    """Everything that follows from a head alone, the head for the upstream included; made once for each head."""
    config = UpstreamConfig("default", (EndpointConfig("127.0.0.1", 5001),), "127.0.0.1:5001")
    loop = asyncio.new_event_loop()
    upstream = Upstream(
        config,
        LocalCircuit("default", config.breaker),
        ConcurrencyLimit(config.bulkhead),
        loop,
        Resolver(config.dns_ttl),
        time.monotonic,
        random.Random(1),
    )
    loop.close()
    metrics = Metrics("gateway", ["proxy"], ["default"], "0")
    config_of_route = RouteConfig("proxy", "/proxy/", "default", strip_prefix=True)
    route = Route(config_of_route, upstream, (), 0, (), metrics.route("proxy"))
    origin = Identification((), "gateway").direct(_PEER, "http")
    request = requests.Request("GET", b"/proxy/ok", 1, requests.parse_fields(_REQUEST_FIELDS, requests.Limits()))
    requests.check(request)
    return lambda: Plan(request, route, origin, None)
