"""A worker begins with the keys that others have fetched, over a real channel to what its supervisor keeps."""

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from gateway.identity.issuer_keys import STALE, IssuerKeys
from gateway.identity.key_sources import KeyFetcher
from gateway.ipc.channel import Channel, Reply
from gateway.jose.jwk import parse_set
from gateway.supervisor.one_service import OneService
from gateway.worker.handed_keys import share_keys
from tests.support.issuer import SigningKey, jwks

TEXT = json.dumps(jwks(SigningKey("k1", "ES256"))).encode()
PARSE = partial(parse_set, algorithms=("ES256",))


class ToSupervisor:
    """A worker's way to its supervisor."""

    slot = 0

    def __init__(self, channel: Channel) -> None:
        self.call = channel.call
        self.tell = channel.tell


class Supervised:
    """Workers of one supervisor, each with one issuer. Nothing is fetched: the tests say what is."""

    def __init__(self) -> None:
        self.one = OneService()
        self.knows_keys = True
        self._channels: list[Channel] = []

    async def worker(self, pid: int) -> tuple[KeyFetcher, IssuerKeys]:
        ends = socket.socketpair()
        serve = partial(self._serve, pid)
        theirs = await Channel.over(ends[0], serve, lambda: None)
        ours = await Channel.over(ends[1], lambda *_: None, lambda: None)
        self._channels += theirs, ours
        self.one.started(0, pid, theirs)
        keys = IssuerKeys(expire=True)
        fetcher = KeyFetcher("login", keys, "http://127.0.0.1:1/", None, 600.0, PARSE, random.Random(1))
        await share_keys({"source": fetcher}, ToSupervisor(ours))
        self.ours = ours
        return fetcher, keys

    async def heard(self) -> None:
        """Until the supervisor has served what the last worker has told."""
        await self.ours.call("hello")

    def _serve(self, pid: int, operation: str, body: Any, reply: Reply) -> None:
        if not self.knows_keys and operation.startswith("key_set"):
            raise ValueError(f"there is no operation {operation!r}")
        assert self.one.serve(0, pid, operation, body, reply)

    def close(self) -> None:
        self.one.stop()
        for channel in self._channels:
            channel.close()


@asynccontextmanager
async def supervised() -> AsyncIterator[Supervised]:
    made = Supervised()
    try:
        yield made
    finally:
        made.close()
        await asyncio.sleep(0)


async def test_what_one_worker_has_fetched_the_next_one_begins_with() -> None:
    async with supervised() as gateway:
        fetcher, keys = await gateway.worker(1)
        assert keys.keys is None
        begun_at = time.monotonic() - 100.0
        fetcher.on_fetched(begun_at, TEXT)
        await gateway.heard()
        _, keys = await gateway.worker(2)
        assert keys.keys is not None
        assert [key.kid for key in keys.keys.keys] == ["k1"]
        assert keys.good_at == begun_at


async def test_what_is_too_old_or_of_no_use_is_not_begun_with(caplog: pytest.LogCaptureFixture) -> None:
    async with supervised() as gateway:
        fetcher, _ = await gateway.worker(1)
        fetcher.on_fetched(time.monotonic() - STALE - 1.0, TEXT)
        await gateway.heard()
        fetcher, keys = await gateway.worker(2)
        assert keys.keys is None
        fetcher.on_fetched(time.monotonic(), b'{"keys": []}')
        await gateway.heard()
        _, keys = await gateway.worker(3)
        assert keys.keys is None
        assert "the keys of the issuer login that another worker had are of no use: it has no key" in caplog.text


async def test_a_supervisor_of_an_older_version_is_asked_once_and_told_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with supervised() as gateway:
        gateway.knows_keys = False
        fetcher, keys = await gateway.worker(1)
        assert keys.keys is None
        assert "the supervisor has no keys of issuers" in caplog.text
        caplog.clear()
        fetcher.on_fetched(time.monotonic(), TEXT)
        await gateway.heard()
        assert caplog.text == ""


async def test_an_upgrade_of_a_supervisor_that_kept_no_keys_begins_without() -> None:
    before = OneService().dump()
    del before["key_sets"]
    async with supervised() as gateway:
        gateway.one.restore(before)
        _, keys = await gateway.worker(1)
        assert keys.keys is None
