"""Alerts delivered to somebody's HTTP endpoint, by a task of its own that nothing ever waits for.

    POST <url>
    Content-Type: application/json
    X-Gateway-Delivery: <id of this delivery, equal in every attempt at it>
    X-Gateway-Timestamp: <seconds since the epoch, of this attempt>
    X-Gateway-Signature: sha256=<hex HMAC-SHA256(secret, timestamp + "." + body)>

The receiver checks it in three steps: refuse a timestamp more than five minutes from its own clock; compute the HMAC of
the timestamp's text, a dot and the body's bytes as they came; compare in constant time (`hmac.compare_digest`). Without
a secret there is no signature.

2xx is delivered. Anything else is tried again up to `ATTEMPTS` times, after a delay uniform in [0, min(MAX_DELAY,
BASE_DELAY * 2^n)), except after statuses that say that the same request will never succeed: 3xx (redirects are not
followed: the body is for the configured receiver) and 4xx other than 408, 425 and 429. Deliveries are at least once, in
order; when more than `CAPACITY` wait, the oldest is given up.
"""

import asyncio
import contextlib
import hashlib
import hmac
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Literal

import aiohttp
import orjson

from gateway.background import Background
from gateway.telemetry.alerts.alerts import Alert
from gateway.telemetry.log.render import rfc3339

log = logging.getLogger("gateway.alerts")

ATTEMPTS = 6
BASE_DELAY = 0.5
MAX_DELAY = 30.0
CAPACITY = 100

_AGAIN = frozenset({408, 425, 429})


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """The value of `X-Gateway-Signature`."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """`deliver` may be called from `start` on, on the same event loop. `source` is what the bodies say of the sender.

    `sent` counts deliveries that were accepted, `failed` those that were given up, `retried` further attempts.
    """

    def __init__(
        self,
        url: str,
        secret: str | None,
        source: dict[str, str],
        rng: random.Random,
        *,
        timeout: float = 5.0,
        base_delay: float = BASE_DELAY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.sent = 0
        self.failed = 0
        self.retried = 0
        self._url = url
        self._secret = secret.encode() if secret else None
        self._source = source
        self._rng = rng
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._base_delay = base_delay
        self._clock = clock
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._background = Background(self._run, "alert-webhook")

    def __repr__(self) -> str:
        # The URL may hold a secret of its own.
        return f"<Webhook {len(self._waiting)} waiting, {self.sent} sent, {self.failed} failed>"

    def start(self) -> None:
        """Begin to send what is delivered, on the running loop. Idempotent."""
        self._background.start()

    async def stop(self, grace: float = 1.0) -> None:
        """Give what waits `grace` seconds to be delivered, then end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._idle.wait()
        await self._background.stop()
        self.failed += len(self._waiting)
        self._waiting.clear()
        self._idle.set()

    def deliver(self, event: Literal["raised", "resolved"], alert: Alert) -> None:
        """Queue the alert as it is now. Waits for nothing."""
        if len(self._waiting) >= CAPACITY:
            self._waiting.popleft()
            self._gave_up("too many wait")
        self._waiting.append((uuid.uuid4().hex, self._body(event, alert)))
        self._idle.clear()
        self._wake.set()

    def _body(self, event: str, alert: Alert) -> bytes:
        told: dict[str, object] = asdict(alert)
        for name in ("first_at", "last_at", "resolved_at"):
            at = told[name]
            told[name] = rfc3339(at) if isinstance(at, float) else None
        return orjson.dumps({"event": event, "alert": told, **self._source}, option=orjson.OPT_APPEND_NEWLINE)

    async def _run(self) -> None:
        # A proxy that the environment names is not used for the gateway's own traffic.
        async with aiohttp.ClientSession(timeout=self._timeout, trust_env=False) as session:
            while True:
                while self._waiting:
                    # It stays in the queue until it is settled, so `stop` counts it as failed if it never is.
                    delivery = self._waiting[0]
                    await self._settle(session, *delivery)
                    if self._waiting and self._waiting[0] is delivery:
                        self._waiting.popleft()
                self._idle.set()
                await self._wake.wait()
                self._wake.clear()

    async def _settle(self, session: aiohttp.ClientSession, identity: str, body: bytes) -> None:
        cause = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self.retried += 1
                await asyncio.sleep(self._rng.uniform(0.0, min(MAX_DELAY, self._base_delay * 2.0**attempt)))
            try:
                status = await self._post(session, identity, body)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                # Only the class of the error: its text names the address, which may hold a secret.
                cause = type(error).__name__
                continue
            if 200 <= status < 300:
                self.sent += 1
                return
            cause = f"status {status}"
            if status < 500 and status not in _AGAIN:
                break
        self._gave_up(cause)

    async def _post(self, session: aiohttp.ClientSession, identity: str, body: bytes) -> int:
        timestamp = str(int(self._clock()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "gateway-alerts",
            "X-Gateway-Delivery": identity,
            "X-Gateway-Timestamp": timestamp,
        }
        if self._secret is not None:
            headers["X-Gateway-Signature"] = signature(self._secret, timestamp, body)
        async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
            return response.status

    def _gave_up(self, cause: str) -> None:
        self.failed += 1
        log.warning("an alert could not be delivered: %s", cause, extra={"event": "alert_undelivered"})
