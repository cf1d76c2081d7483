"""Where the keys of issuers come from: a URL that is asked again and again, or a file that is watched.

    KeyFetcher   GET <jwks_url>, every `refresh` seconds, and at once when a token has a key that is not known
    KeyFile      read when it has changed

Neither is on the path of a request. What an issuer answers is bounded in time, size and number of keys; redirects are
not followed, because the keys are those of the configured address or none; certificates are verified, for which the
authorities are read anew each time. A fetch that brings nothing is repeated after `RETRY` seconds, doubled each time up
to `MOST_RETRY`, or to `MOST_RETRY_WITHOUT` while no key can be used. It leaves the keys of before as they are.
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp

from gateway.background import Background
from gateway.identity.issuer_keys import IssuerKeys
from gateway.jose.jwk import MOST_BYTES, KeysError
from gateway.jose.keys import KeySet
from gateway.system.watched_files import INTERVAL, WatchedFiles

log = logging.getLogger("gateway")

TIME_LIMIT: Final = 5.0
"""Seconds for a whole fetch."""
RETRY: Final = 1.0
MOST_RETRY: Final = 60.0
MOST_RETRY_WITHOUT: Final = 5.0
_PIECE: Final = 65_536

Parse = Callable[[bytes], KeySet]
"""From a text to keys. Raises `KeysError`."""


def _nothing(_begun_at: float, _text: bytes) -> None:
    """Nobody wants to be told."""


class _UselessError(Exception):
    """An answer without keys. `outcome` is one of `OUTCOMES`; `str()` says more, and nothing of the answer."""

    def __init__(self, outcome: str, why: str) -> None:
        super().__init__(why)
        self.outcome = outcome


class KeyFetcher:
    """Keeps `keys` up to date from a URL, from `start` to `stop`. `ca_file` None: the authorities of the system."""

    def __init__(
        self,
        issuer: str,
        keys: IssuerKeys,
        url: str,
        ca_file: str | None,
        refresh: float,
        parse: Parse,
        rng: random.Random,
        *,
        time_limit: float = TIME_LIMIT,
        retry: float = RETRY,
    ) -> None:
        self._issuer = issuer
        self._keys = keys
        self._url = url
        self._ca_file = ca_file
        self._refresh = refresh
        self._parse = parse
        self._rng = rng
        self._time_limit = time_limit
        self._retry = retry
        self.on_fetched: Callable[[float, bytes], None] = _nothing
        """Told of each key set that is of use: when its fetch began, by the monotonic clock, and its text."""
        self._failures = 0
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()
        self._background = Background(self._run, f"jwks-{issuer}")

    def adopt(self, begun_at: float, text: bytes) -> None:
        """Begin with what another worker has told `on_fetched`. To be called before `start`."""
        try:
            found = self._parse(text)
        except KeysError as error:
            # Another version of the program may have taken what this one does not.
            log.warning("the keys of the issuer %s that another worker had are of no use: %s", self._issuer, error)
            return
        if self._keys.adopt(found, begun_at):
            log.info("the keys of the issuer %s were handed on: %d", self._issuer, len(found.keys))

    def start(self) -> None:
        """Begin to fetch, on the running loop."""
        self._keys.begun()
        self._keys.wake = self._wake.set
        self._background.start()

    async def tried(self) -> None:
        """Until the first fetch has ended, however it ended."""
        await self._tried.wait()

    async def stop(self) -> None:
        """Fetch no more, and tell those who wait."""
        await self._background.stop()
        self._keys.closed()

    async def _run(self) -> None:
        while True:
            # Before the fetch: who is told of its end may ask for another one at once.
            self._wake.clear()
            self._keys.begun()
            delay = await self._fetch()
            self._tried.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wake.wait()

    async def _fetch(self) -> float:
        """One fetch. Returns the seconds to the next one."""
        begun_at = time.monotonic()
        try:
            text = await self._get()
            found = await asyncio.to_thread(self._parse, text)
        except KeysError as error:
            return self._failed("malformed", str(error))
        except _UselessError as error:
            return self._failed(error.outcome, str(error))
        except TimeoutError:
            return self._failed("timeout", f"no answer within {self._time_limit:g} seconds")
        except Exception as error:  # noqa: BLE001 - whatever this answer has caused, the next one may be good
            # Only the class of the error: its text may name an address that somebody wants to keep.
            return self._failed("unreachable", type(error).__name__)
        if self._keys.problem is not None or self._keys.keys is None:
            log.info("the keys of the issuer %s were fetched: %d", self._issuer, len(found.keys))
        self.on_fetched(begun_at, text)
        self._failures = 0
        delay = self._refresh * self._rng.uniform(0.9, 1.0)
        self._keys.succeeded(found, delay)
        return delay

    def _failed(self, outcome: str, why: str) -> float:
        _complain(self._issuer, self._keys, outcome, why)
        # Keys that are too old check nothing either.
        most = MOST_RETRY if self._keys.usable(time.monotonic()) is not None else MOST_RETRY_WITHOUT
        delay = min(most, self._retry * 2.0 ** min(self._failures, 16)) * self._rng.uniform(0.9, 1.0)
        self._failures += 1
        self._keys.failed(outcome, why, delay)
        return delay

    async def _get(self) -> bytes:
        context = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
        timeout = aiohttp.ClientTimeout(total=self._time_limit)
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        headers["User-Agent"] = "gateway-jwks"
        # A proxy that the environment names is not used for the gateway's own traffic, and what is packed is not
        # unpacked: a small answer could be a large one.
        async with (
            aiohttp.ClientSession(
                timeout=timeout, trust_env=False, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            session.get(self._url, headers=headers, allow_redirects=False, ssl=context) as response,
        ):
            if response.status != 200:
                raise _UselessError("status", f"status {response.status}")
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise _UselessError("malformed", "the answer is packed, which was not asked for")
            data = bytearray()
            async for piece in response.content.iter_chunked(_PIECE):
                data += piece
                if len(data) > MOST_BYTES:
                    raise _UselessError("too_large", f"the answer is larger than {MOST_BYTES} bytes")
            return bytes(data)


class KeyFile:
    """Keeps `keys` up to date from a file, from `start` to `stop`."""

    def __init__(self, issuer: str, keys: IssuerKeys, file: str, parse: Parse) -> None:
        self._issuer = issuer
        self._keys = keys
        self._file = file
        self._parse = parse
        self._tried = asyncio.Event()
        self._background = Background(self._run, f"keys-{issuer}")

    def start(self) -> None:
        """Read the file, and watch it from now on."""
        self._keys.begun()
        self._background.start()

    async def tried(self) -> None:
        """Until the file was read."""
        await self._tried.wait()

    async def stop(self) -> None:
        """Watch no longer."""
        await self._background.stop()
        self._keys.closed()

    async def _run(self) -> None:
        watched = await asyncio.to_thread(WatchedFiles, [self._file])
        await self._read()
        self._tried.set()
        while True:
            await asyncio.sleep(INTERVAL)
            if await asyncio.to_thread(watched.changed):
                self._keys.begun()
                await self._read()

    async def _read(self) -> None:
        try:
            found = await asyncio.to_thread(self._parsed)
        except (KeysError, OSError) as error:
            why = str(error) if isinstance(error, KeysError) else error.strerror or type(error).__name__
            _complain(self._issuer, self._keys, "malformed", why)
            self._keys.failed("malformed", why, INTERVAL)
        else:
            log.info("the keys of the issuer %s were read: %d", self._issuer, len(found.keys))
            self._keys.succeeded(found, INTERVAL)

    def _parsed(self) -> KeySet:
        with Path(self._file).open("rb") as file:
            return self._parse(file.read(MOST_BYTES + 1))


def _complain(issuer: str, keys: IssuerKeys, outcome: str, why: str) -> None:
    """A log line, unless the last one said the same."""
    if why != keys.problem:
        usable = keys.usable(time.monotonic()) is not None
        stay = "those of before stay in use" if usable else "its tokens cannot be checked"
        extra = {"event": "jwks_fetch_failed", "issuer": issuer, "outcome": outcome}
        log.warning("the keys of the issuer %s cannot be had: %s; %s", issuer, why, stay, extra=extra)
