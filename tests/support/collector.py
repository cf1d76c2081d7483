"""A collector of traces: it reads what it is sent with the official messages, and answers as it is told."""

import gzip
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.conformance.wire.upstream import Peer, Seen, ok
from tests.support.held_upstream import HeldUpstream
from tests.support.waiting import PATIENCE, eventually


class SeenSpan:
    """One span, with what its process says of itself."""

    def __init__(self, span: Span, resource: dict[str, Any]) -> None:
        self.span = span
        self.resource = resource
        self.name = span.name
        self.trace_id = span.trace_id.hex()
        self.span_id = span.span_id.hex()
        self.parent_id = span.parent_span_id.hex()
        self.kind = Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_")
        self.attributes = values(span.attributes)
        self.events = [(event.name, values(event.attributes)) for event in span.events]
        self.failed = span.status.code == 2
        self.seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name} {self.span_id} in {self.parent_id} {self.attributes}>"


def values(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pair: KeyValue
    for pair in pairs:
        assert pair.key not in found, f"{pair.key} twice"
        found[pair.key] = getattr(pair.value, str(pair.value.WhichOneof("value")))
    return found


class Collector(HeldUpstream):
    """`answers` are statuses for the next posts, 200 when there are none left; a tuple has header lines behind its
    status. While `gate` is not set, answers wait. `rejects` spans are rejected of each post. `posts` are the requests
    in their order."""

    def __init__(self, path: str = "/v1/traces") -> None:
        super().__init__(path)
        self.posts: list[Seen] = []
        self.answers: deque[int | tuple[int, bytes]] = deque()
        self.rejects = 0
        self._spans: list[SeenSpan] = []

    @property
    def spans(self) -> list[SeenSpan]:
        """Those of all posts that were taken."""
        with self.lock:
            return list(self._spans)

    def of(self, trace_id: str) -> list[SeenSpan]:
        return [each for each in self.spans if each.trace_id == trace_id]

    def wait_for(self, trace_id: str, count: int) -> list[SeenSpan]:
        """The spans of a trace, as soon as there are so many of them, in the order of their beginnings."""
        eventually(lambda: len(self.of(trace_id)) >= count, f"{count} spans of {trace_id}", PATIENCE)
        return sorted(self.of(trace_id), key=lambda each: each.span.start_time_unix_nano)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is answered meanwhile."""
        self.gate.clear()
        try:
            yield
        finally:
            self.gate.set()

    def note(self, seen: Seen) -> int | tuple[int, bytes]:
        self.posts.append(seen)
        return self.answers.popleft() if self.answers else 200

    def answer(self, peer: Peer, seen: Seen, noted: int | tuple[int, bytes]) -> None:
        status, line = noted if isinstance(noted, tuple) else (noted, b"X-None: 1")
        body = ExportTraceServiceResponse()
        if status == 200:
            self._take(gzip.decompress(seen.body) if seen.get("Content-Encoding") == "gzip" else seen.body)
            if self.rejects:
                body.partial_success.CopyFrom(ExportTracePartialSuccess(rejected_spans=self.rejects))
        peer.send(ok(body.SerializeToString(), b"Content-Type: application/x-protobuf", line, status=status))

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self.lock:
            for of_resource in request.resource_spans:
                resource = values(of_resource.resource.attributes)
                for of_scope in of_resource.scope_spans:
                    assert of_scope.scope.name == "gateway"
                    self._spans += [SeenSpan(span, resource) for span in of_scope.spans]
