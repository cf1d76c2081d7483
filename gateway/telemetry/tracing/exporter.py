"""Sends spans to a collector: OTLP over HTTP, in protobuf (https://opentelemetry.io/docs/specs/otlp/#otlphttp).

`put` appends to a queue. A thread with an event loop of its own takes a batch from it every `delay` seconds, or as soon
as a batch is full, encodes it and posts it. It encodes a few exchanges at a time, and lets the thread that serves
requests have the interpreter in between.

    200                              exported; what the collector says it has rejected counts as failed
    429, 502, 503, 504, no answer    the same batch again: after what `Retry-After` says, else after a delay uniform in
                                     [0, min(MAX_DELAY, BASE_DELAY * 2^n)); given up after `PATIENCE` seconds
    everything else                  failed: the same batch would not be taken later either

While a batch is repeated the queue fills; beyond its capacity spans are dropped and counted.
"""

import asyncio
import contextlib
import gzip
import logging
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from gateway.telemetry.tracing.spans import SpanEncoder
from gateway.telemetry.tracing.tracer import FinishedExchange

log = logging.getLogger("gateway.traces")

BASE_DELAY: Final = 0.5
MAX_DELAY: Final = 10.0
PATIENCE: Final = 30.0
_AGAIN: Final = frozenset({429, 502, 503, 504})
_AT_ONCE: Final = 16
_LONGEST_ANSWER: Final = 65_536


@dataclass(frozen=True, slots=True)
class Collector:
    """Where spans go. `timeout` in seconds bounds one attempt. `ca_file` has the certificates for `https`, None means
    those of the system. `headers` may hold credentials."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout: float = 10.0
    compress: bool = False
    ca_file: str | None = None


class Exporter:
    """`capacity` and `batch` are numbers of spans, `delay` is in seconds.

    `exported`, `dropped` (there was no room), `failed` (the collector did not take them) count spans, `retries` further
    attempts at a batch.
    """

    def __init__(
        self,
        collector: Collector,
        encoder: SpanEncoder,
        rng: random.Random,
        *,
        capacity: int,
        batch: int,
        delay: float,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.exported = 0
        self.dropped = 0
        self.failed = 0
        self.retries = 0
        self._collector = collector
        self._encoder = encoder
        self._rng = rng
        self._capacity = capacity
        self._batch = batch
        self._delay = delay
        self._patience = patience
        self._clock = clock
        self._queue: deque[FinishedExchange] = deque()
        # Each is written by one thread alone: what was put, and what was taken.
        self._put = 0
        self._taken = 0
        self._ring_at = batch
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._closing = False
        self._works = True

    def __repr__(self) -> str:
        return f"<Exporter {self.waiting} waiting, {self.exported} exported>"

    @property
    def waiting(self) -> int:
        """Spans in the queue."""
        return self._put - self._taken

    def put(self, finished: FinishedExchange) -> None:
        """Queue the spans of an exchange. Waits for nothing. Called on one thread. HOT."""
        spans = finished.spans
        if self._put - self._taken + spans > self._capacity or self._closing:
            self.dropped += spans
            return
        self._queue.append(finished)
        self._put += spans
        if self._put >= self._ring_at:
            self._ring_at = self._put + self._batch
            self._ring()

    def start(self) -> None:
        """Begin to send."""
        # An address that cannot be read fails the start, not the thread.
        context = ssl.create_default_context(cafile=self._collector.ca_file)
        self._thread = threading.Thread(target=self._run, args=(context,), name="traces", daemon=True)
        self._thread.start()

    async def stop(self, grace: float) -> None:
        """Send what is waiting, for `grace` seconds at most, and end. What could not be sent counts as dropped."""
        thread, self._thread = self._thread, None
        self._closing = True
        if thread is None:
            return
        self._ring()
        await asyncio.to_thread(thread.join, grace)
        if thread.is_alive():
            loop, task = self._loop, self._task
            if loop is not None and task is not None:
                with contextlib.suppress(RuntimeError):  # it has ended meanwhile
                    loop.call_soon_threadsafe(task.cancel)
            await asyncio.to_thread(thread.join, 1.0)
        self.dropped += self.waiting
        self._queue.clear()
        self._taken = self._put

    def _ring(self) -> None:
        loop, bell = self._loop, self._bell
        if loop is not None and bell is not None:
            with contextlib.suppress(RuntimeError):  # the thread has ended
                loop.call_soon_threadsafe(bell.set)

    # Within the thread.

    def _run(self, context: ssl.SSLContext) -> None:
        # Not the loop of the requests, whose factory may be another one.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner, contextlib.suppress(asyncio.CancelledError):
            runner.run(self._serve(context))

    async def _serve(self, context: ssl.SSLContext) -> None:
        self._task = asyncio.current_task()
        bell = self._bell = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        timeout = aiohttp.ClientTimeout(total=self._collector.timeout)
        connector = aiohttp.TCPConnector(limit=1, ssl=context)
        # A proxy that the environment names is not used for the gateway's own traffic.
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session:
            while True:
                if not self._closing:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._delay):
                            await bell.wait()
                    bell.clear()
                closing = self._closing
                while batch := self._take():
                    await self._export(session, batch)
                if closing:
                    return

    def _take(self) -> list[FinishedExchange]:
        """At most a batch of spans, but one exchange at least, if there is any."""
        taken: list[FinishedExchange] = []
        spans = 0
        queue = self._queue
        while queue and (not taken or spans + queue[0].spans <= self._batch):
            each = queue.popleft()
            spans += each.spans
            taken.append(each)
        self._taken += spans
        return taken

    async def _export(self, session: aiohttp.ClientSession, batch: list[FinishedExchange]) -> None:
        spans = sum(each.spans for each in batch)
        try:
            body = await self._encoded(batch)
            rejected = await self._delivered(session, body)
        except asyncio.CancelledError:
            self.failed += spans
            raise
        except Exception:
            # One batch that cannot be encoded must not end the thread.
            self.failed += spans
            log.exception("spans could not be encoded")
            return
        rejected = spans if rejected is None else min(rejected, spans)
        self.failed += rejected
        self.exported += spans - rejected

    async def _encoded(self, batch: list[FinishedExchange]) -> bytes:
        spans = []
        for index, each in enumerate(batch, 1):
            spans.append(self._encoder.encode(each))
            if index % _AT_ONCE == 0:
                await asyncio.sleep(0)
        body = self._encoder.request(spans)
        return gzip.compress(body, 1) if self._collector.compress else body

    async def _delivered(self, session: aiohttp.ClientSession, body: bytes) -> int | None:
        """How many spans the collector has rejected, None where it has taken nothing."""
        end = self._clock() + self._patience
        tried = 0
        while True:
            wait: float | None = None
            try:
                status, wait, rejected = await self._post(session, body)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                # Only the class of the error: its text may name what the address holds.
                cause, again = type(error).__name__, True
            else:
                if 200 <= status < 300:
                    self._said(works=True, cause="")
                    return rejected
                cause, again = f"status {status}", status in _AGAIN
            self._said(works=False, cause=cause)
            if wait is None:
                wait = self._rng.uniform(0.0, min(MAX_DELAY, BASE_DELAY * 2.0**tried))
            tried += 1
            if not again or self._clock() + wait > end:
                return None
            self.retries += 1
            await asyncio.sleep(wait)

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> tuple[int, float | None, int]:
        """The status, `Retry-After` in seconds where there is one, and how many spans were rejected."""
        headers = {"Content-Type": "application/x-protobuf", "User-Agent": "gateway-traces"}
        if self._collector.compress:
            headers["Content-Encoding"] = "gzip"
        headers.update(self._collector.headers)
        async with session.post(self._collector.url, data=body, headers=headers, allow_redirects=False) as response:
            answer = await response.content.read(_LONGEST_ANSWER)
            after = response.headers.get("Retry-After", "")
            wait = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else None
            return response.status, wait, _rejected(answer)

    def _said(self, *, works: bool, cause: str) -> None:
        """A line when it begins to fail, and one when it works again."""
        if works == self._works:
            return
        self._works = works
        if works:
            log.info("the collector takes spans again", extra={"event": "traces_exported"})
        else:
            log.warning("spans could not be exported: %s", cause, extra={"event": "traces_failed"})


def _rejected(answer: bytes) -> int:
    """What a partial success says was not taken. An answer that is none of the protocol says nothing."""
    message = ExportTraceServiceResponse()
    try:
        message.ParseFromString(answer)
    except DecodeError:
        return 0
    return max(0, message.partial_success.rejected_spans)
