"""Readings of key records: nobody waits for ever, whatever the store does."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from gateway.fleet.link import Link
from gateway.identity.keys import Record
from gateway.identity.lookups import KeyChanges, KeyLookups
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


class Changing:
    """A store in which keys change."""

    def __init__(self) -> None:
        self.changes: dict[str, float] | None = {}

    async def changed_keys(self) -> Mapping[str, float]:
        if self.changes is None:
            raise StoreUnavailable("away")
        return dict(self.changes)


async def test_each_change_of_a_key_is_told_once() -> None:
    """A store that comes and goes is asked again and again, and what was read since the change is good."""
    store = Changing()
    told: list[list[str]] = []
    changes = KeyChanges(cast(KeyStore, store), told.append)
    await changes.refresh()
    store.changes = {"a": 1.0, "b": 2.0}
    for _ in range(3):
        await changes.refresh()
    store.changes = None
    with pytest.raises(StoreUnavailable):
        await changes.refresh()
    store.changes = {"b": 2.0, "a": 3.0, "c": 3.0}
    await changes.refresh()
    assert told == [["a", "b"], ["a", "c"]]
