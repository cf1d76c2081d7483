"""Readings of key records: nobody waits for ever, whatever the store does."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from gateway.fleet.link import Link
from gateway.identity.keys import Record
from gateway.identity.lookups import KeyLookups
from gateway.store.keys import KeyStore
from gateway.store.port import StoreUnavailable


class Broken:
    """A store with a defect."""

    async def read_keys(self, _ids: Sequence[str]) -> Sequence[Any]:
        raise ZeroDivisionError


async def test_a_defect_of_the_store_is_told_to_whoever_waits() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    link = Link(lambda: 0.0)
    link.up = True
    lookups = KeyLookups(cast(KeyStore, Broken()), link)
    told: list[Record] = []
    lookups.read("abcdefgh", lambda record, _: told.append(record))
    task = lookups._task
    assert task is not None
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(outcome, ZeroDivisionError)
    assert isinstance(told[0], StoreUnavailable)
