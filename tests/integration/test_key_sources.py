"""Keys of issuers: fetched from a server that is good, slow, huge, malformed, gone and back, and read from files."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.identity.issuer_keys import STALE, IssuerKeys
from gateway.identity.key_sources import MOST_RETRY_WITHOUT, KeyFetcher, KeyFile
from gateway.jose.jwk import MOST_BYTES, parse_set, secret_set
from tests.support.certificates import make_certificate
from tests.support.issuer import IssuerServer, SigningKey, jwks
from tests.support.waiting import PATIENCE

KEY, OTHER = SigningKey("k1", "ES256"), SigningKey("k2", "ES256")
PARSE = partial(parse_set, algorithms=("ES256",))


@asynccontextmanager
async def fetching(
    url: str, *, refresh: float = 600.0, handed_on: SigningKey | None = None, **more: Any
) -> AsyncIterator[IssuerKeys]:
    keys = IssuerKeys(expire=True)
    fetcher = KeyFetcher("login", keys, url, more.pop("ca_file", None), refresh, PARSE, random.Random(1), **more)
    if handed_on is not None:
        fetcher.adopt(time.monotonic() - 10.0, json.dumps(jwks(handed_on)).encode())
    fetcher.start()
    try:
        await fetcher.tried()
        yield keys
    finally:
        await fetcher.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def names(keys: IssuerKeys) -> list[str | None]:
    return [key.kid for key in keys.keys.keys] if keys.keys is not None else []


async def test_the_keys_are_fetched_and_fetched_again() -> None:
    with IssuerServer(KEY) as issuer:
        async with fetching(issuer.url, refresh=0.2) as keys:
            assert (names(keys), keys.problem) == (["k1"], None)
            issuer.answer = issuer.serving(KEY, OTHER)
            await until(lambda: names(keys) == ["k1", "k2"])
            assert keys.outcomes["fetched"] >= 2


async def test_a_token_with_an_unknown_key_brings_the_next_fetch_at_once() -> None:
    with IssuerServer(KEY) as issuer:
        async with fetching(issuer.url) as keys:
            issuer.answer = issuer.serving(OTHER)
            ended = asyncio.Event()
            assert keys.wanted(1e9)
            assert keys.wait(ended.set)
            await asyncio.wait_for(ended.wait(), PATIENCE)
            assert names(keys) == ["k2"]
            assert issuer.fetches == 2
            assert not keys.wanted(1e9 + 59.0)


def redirecting(_: web.Request) -> Any:
    raise web.HTTPFound("/elsewhere")


BAD: dict[str, tuple[Callable[[web.Request], Any], str]] = {
    "500": (IssuerServer.saying(b"", 500), "status"),
    "404": (IssuerServer.saying(json.dumps(jwks(KEY)).encode(), 404), "status"),
    "redirect": (redirecting, "status"),
    "html": (IssuerServer.saying(b"<html>"), "malformed"),
    "no keys": (IssuerServer.saying(b'{"keys":[]}'), "malformed"),
    "packed": (IssuerServer.saying(b"\x1f\x8b", Content_Encoding="gzip"), "malformed"),
    "huge": (IssuerServer.saying(b" " * (MOST_BYTES + 1) + json.dumps(jwks(KEY)).encode()), "too_large"),
    "slow": (IssuerServer.slow, "timeout"),
}


@pytest.mark.parametrize("answer", BAD)
async def test_a_bad_answer_keeps_the_keys_of_before_and_is_tried_again(answer: str) -> None:
    bad, outcome = BAD[answer]
    with IssuerServer(KEY) as issuer:
        async with fetching(issuer.url, time_limit=0.5) as keys:
            issuer.answer = bad
            assert keys.wanted(1e9)
            await until(lambda: keys.outcomes[outcome] >= 1)
            assert names(keys) == ["k1"]
            assert keys.problem is not None
            issuer.answer = issuer.serving(OTHER)
            await until(lambda: keys.problem is None)
            assert names(keys) == ["k2"]


async def test_an_answer_that_trickles_ends_at_the_time_limit() -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    with IssuerServer(KEY) as issuer:
        issuer.answer = trickle
        async with fetching(issuer.url, time_limit=0.5) as keys:
            assert (names(keys), keys.outcomes["timeout"]) == ([], 1)


async def test_an_issuer_that_is_gone_at_the_start_is_found_when_it_comes() -> None:
    issuer = IssuerServer(KEY)
    async with fetching(issuer.url) as keys:
        assert (names(keys), keys.outcomes["unreachable"]) == ([], 1)
        with issuer:
            await until(lambda: names(keys) == ["k1"])


@pytest.mark.parametrize(("age", "soon"), [(None, True), (STALE + 1.0, True), (STALE - 60.0, False)])
async def test_where_no_token_can_be_checked_the_issuer_is_asked_again_sooner(age: float | None, soon: bool) -> None:
    """Also where the keys of before have become too old."""
    keys = IssuerKeys(expire=True)
    if age is not None:
        keys.keys, keys.good_at = PARSE(json.dumps(jwks(KEY)).encode()), time.monotonic() - age
    fetcher = KeyFetcher("login", keys, IssuerServer(KEY).url, None, 600.0, PARSE, random.Random(1), retry=1000.0)
    fetcher.start()
    await fetcher.tried()
    assert (keys.retry_after(time.monotonic()) <= MOST_RETRY_WITHOUT) is soon
    await fetcher.stop()


async def test_keys_that_are_handed_on_are_for_when_the_first_fetch_brings_nothing() -> None:
    issuer = IssuerServer(OTHER)
    async with fetching(issuer.url, handed_on=KEY) as keys:
        assert (names(keys), keys.outcomes["unreachable"]) == (["k1"], 1)
        with issuer:
            await until(lambda: names(keys) == ["k2"])
            # Who begins while the issuer answers has tried it before it serves.
            async with fetching(issuer.url, handed_on=KEY) as successor:
                assert names(successor) == ["k2"]


async def test_failures_are_told_once_however_many_there_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "gateway")
    with IssuerServer() as issuer:
        issuer.answer = issuer.saying(b"", 503)
        async with fetching(issuer.url, retry=0.01) as keys:
            await until(lambda: keys.outcomes["status"] >= 4)
            issuer.answer = issuer.serving(KEY)
            await until(lambda: keys.problem is None)
    assert [record.getMessage() for record in caplog.records] == [
        "the keys of the issuer login cannot be had: status 503; its tokens cannot be checked",
        "the keys of the issuer login were fetched: 1",
    ]


async def test_a_certificate_that_nobody_vouches_for_brings_no_keys(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    with IssuerServer(KEY, tls=made) as issuer:
        async with fetching(issuer.url) as keys:
            assert (names(keys), keys.outcomes["unreachable"]) == ([], 1)
            assert keys.problem == "ClientConnectorCertificateError"
        async with fetching(issuer.url, ca_file=str(made.cert)) as keys:
            assert names(keys) == ["k1"]


async def test_who_waits_is_told_when_the_gateway_stops() -> None:
    with IssuerServer(KEY) as issuer:
        told: list[int] = []
        async with fetching(issuer.url) as keys:
            issuer.answer = issuer.slow
            assert keys.wanted(1e9)
            assert keys.wait(lambda: told.append(1))
        assert told == [1]


async def test_a_file_is_read_and_read_again_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(jwks(KEY)))
    keys = IssuerKeys(expire=False)
    source = KeyFile("login", keys, str(file), PARSE)
    source.start()
    try:
        await asyncio.wait_for(source.tried(), PATIENCE)
        assert names(keys) == ["k1"]
        file.write_text("<html>")
        await until(lambda: keys.problem is not None)
        assert names(keys) == ["k1"]
        file.write_text(json.dumps(jwks(OTHER)))
        await until(lambda: keys.problem is None)
        assert names(keys) == ["k2"]
        # Nobody fetches a file because of a token.
        assert not keys.wanted(1e9)
        assert keys.usable(1e12) is keys.keys
    finally:
        await source.stop()


async def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    keys = IssuerKeys(expire=False)
    source = KeyFile("login", keys, str(file), partial(secret_set, algorithms=("HS256",)))
    source.start()
    try:
        await asyncio.wait_for(source.tried(), PATIENCE)
        assert (keys.keys, keys.problem) == (None, "No such file or directory")
        file.write_bytes(b"x" * 32 + b"\n")
        await until(lambda: keys.keys is not None)
    finally:
        await source.stop()
