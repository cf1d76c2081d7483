"""Calls to other services, all of them through the gateway.

The gateway limits, retries and breaks circuits. What is left to this client is to say what became of a call, and there
are three answers, not two:

    done      2xx
    refused   4xx: the service has understood the request and says no; nothing has happened
    unknown   anything else. A 503, a timeout or a broken connection may come after the money has moved. So may a 503
              `circuit_open` of the gateway: an earlier attempt of the same call may have arrived.

Each call has an idempotency key that is made of what it is for, so a call can be repeated at any time, also by another
process after a crash. A broken connection to the gateway itself is the one thing that the gateway cannot repeat, so it
is repeated here.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from shop.common.service import correlation

# More than the gateway takes for all its attempts (`timeouts.total` in gateway.yaml).
CALL_SECONDS: Final = 4.0
CONNECTION_ATTEMPTS: Final = 3
# Not an answer to the question, but "not now".
NOT_NOW: Final = frozenset({408, 409, 425, 429})


@dataclass(frozen=True)
class Done:
    """The answer of the service."""

    body: Mapping[str, Any]


@dataclass(frozen=True)
class Refusal:
    """Why the service says no."""

    reason: str


@dataclass(frozen=True)
class Unknown:
    """What went wrong. `retry_after` is how many seconds somebody asked us to wait, 0 if nobody did."""

    reason: str
    retry_after: float = 0.0


Outcome = Done | Refusal | Unknown


class GatewayClient:
    """One pool of connections to the gateway, and the key that proves who asks."""

    def __init__(self, url: str, api_key: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._session: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: Mapping[str, Any], key: str) -> Outcome:
        """The outcome of one call; raises nothing."""
        headers = {"Idempotency-Key": key, "X-Correlation-ID": correlation.get()}
        try:
            async with asyncio.timeout(CALL_SECONDS):
                for attempt in range(1, CONNECTION_ATTEMPTS + 1):
                    try:
                        return await self._post(path, body, headers)
                    except (aiohttp.ClientError, OSError) as error:
                        if attempt == CONNECTION_ATTEMPTS:
                            return Unknown(f"gateway_unreachable: {type(error).__name__}")
                    await asyncio.sleep(random.uniform(0.0, 0.2 * 2**attempt))
        except TimeoutError:
            pass
        return Unknown("timeout")

    async def start(self, path: str, body: Mapping[str, Any], key: str, wait: int) -> tuple[int, dict[str, Any]]:
        """Start a run of a workflow, or ask for the one that was started with this key, and wait so many seconds for
        its outcome. Status and body of the answer; 0 and nothing where there is none."""
        headers = {"Idempotency-Key": key, "X-Correlation-ID": correlation.get(), "Prefer": f"wait={wait}"}
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await self._json("POST", path, json=body, headers=headers)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, {}

    async def get(self, path: str) -> dict[str, Any]:
        """The body of an answer of 200; empty where there is none."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                status, found = await self._json("GET", path)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return {}
        return found if status == 200 else {}

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _json(self, method: str, path: str, **request: Any) -> tuple[int, dict[str, Any]]:
        async with self._opened().request(method, self._url + path, **request) as answer:
            return answer.status, await _body(answer)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers)
        return self._session

    async def _post(self, path: str, body: Mapping[str, Any], headers: dict[str, str]) -> Outcome:
        async with self._opened().post(self._url + path, json=body, headers=headers) as answer:
            found = await _body(answer)
            if 200 <= answer.status < 300:
                return Done(found)
            reason = str(found.get("reason", answer.status))
            if 400 <= answer.status < 500 and answer.status not in NOT_NOW:
                return Refusal(reason)
            after = answer.headers.get("Retry-After", "")
            return Unknown(reason, float(after) if after.isdigit() else 0.0)


async def _body(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """The JSON of an answer; of a proxy in between it may be HTML."""
    found = await answer.json(content_type=None) if "json" in answer.content_type else {}
    return found if isinstance(found, dict) else {}
