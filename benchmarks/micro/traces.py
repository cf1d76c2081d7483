"""What traces cost an exchange: on the event loop, and on the thread that encodes spans."""

import random
import time
from collections.abc import Iterator

from benchmarks.micro.timing import Case
from gateway.identity.masking import masked
from gateway.proxy.requests.ids import Ids
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import LogPart, Record, RouteAccount
from gateway.telemetry.tracing.spans import SpanEncoder
from gateway.telemetry.tracing.trace import Traces
from gateway.telemetry.tracing.tracer import FinishedExchange, Tracer

_HEAD = (
    b"GET /ok HTTP/1.1\r\nHost: 127.0.0.1:5001\r\nVia: 1.1 gateway\r\nX-Forwarded-For: 203.0.113.7\r\n"
    b"X-Request-ID: 0af7651916cd43dd8448eb211c80319c\r\ntraceparent: %b\r\n\r\n"
)
_BATCH = 64
_ENDPOINT = "127.0.0.1:5001"


def cases() -> Iterator[tuple[str, Case]]:
    yield "trace: not sampled", _noted(0.0)
    yield "trace: one attempt, sampled", _noted(1.0)
    yield f"trace: {_BATCH} x two spans encoded", _encoded()


def _exchange(traces: Traces, tracer: Tracer, record: Record, own_id: bytes, now: float) -> None:
    """What the path of a request does in addition where there is an endpoint."""
    if not traces.samples(own_id, None):
        traces.unsampled(own_id, None)
        tracer.keeps(record, 1, 0.001, now)
        return
    trace = traces.begin(own_id, None, [])
    trace.attempt("default", _ENDPOINT, _HEAD % trace.traceparent, now, probe=False)
    trace.settled(now, now, answered=True)
    tracer.export(record, trace, "GET", 0.001, now)


def _noted(ratio: float) -> Case:
    ids = Ids(random.Random(1))
    traces = Traces(ids.new, ratio, exported=True)
    made: list[FinishedExchange] = []
    tracer = Tracer(traces, made.append, masked, kept_a_second=10, slow=1.0)
    own_id, record = ids.new(), _record()

    def once() -> None:
        _exchange(traces, tracer, record, own_id, 100.0)
        made.clear()

    return once


def _encoded() -> Case:
    """A batch, as the thread makes it."""
    ids = Ids(random.Random(1))
    made: list[FinishedExchange] = []
    traces = Traces(ids.new, 1.0, exported=True)
    tracer = Tracer(traces, made.append, masked, kept_a_second=10, slow=1.0)
    for _ in range(_BATCH):
        _exchange(traces, tracer, _record(), ids.new(), time.monotonic())
    encoder = SpanEncoder({"service.name": "gateway"}, {"default": "http"}, "0")

    def encode() -> None:
        encoder.request([encoder.encode(each) for each in made])

    return encode


def _record() -> Record:
    known: dict[str, object] = {"client": "203.0.113.7", "method": "GET", "target": "/proxy/ok"}
    part = LogPart(known, "http", b"shop.example.com")
    record = Record(RouteAccount("proxy", "default", RouteCells(), "/proxy/"), part, b"0af76519", b"0af76519")
    record.status = 200
    record.bytes_out = 261
    record.log_decisions = {"rate_limit": "allowed"}
    return record
