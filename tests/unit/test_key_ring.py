"""The keys that a replica knows: for how long, from whom, and what a change does to them."""

from collections.abc import Callable, Sequence
from types import MappingProxyType

import pytest

from gateway.config.sections.identity.model import ConsumerConfig, IdentityConfig, KeyConfig
from gateway.identity.credentials import CredentialReader, Presented
from gateway.identity.keys import FRESH, UNAVAILABLE, Found, KeyRing, Read, Record
from gateway.identity.tenants import Caller, Directory
from gateway.store.keys import KeyRecord
from gateway.store.port import StoreUnavailable
from tests.support.keys import key, sha256
from tests.support.tickets import request

ID = "abcdefgh1234"
GOOD, WRONG = key(ID), key(ID, "B")


class Source:
    """A store whose answers the test gives."""

    def __init__(self) -> None:
        self.up = True
        self.asked: list[tuple[str, Read]] = []

    def read(self, key_id: str, told: Read) -> None:
        self.asked.append((key_id, told))

    def answer(self, record: Record, at: float) -> None:
        asked, self.asked = self.asked, []
        for _, told in asked:
            told(record, at)


class Ring:
    def __init__(self, consumers: Sequence[ConsumerConfig] = (), *, stored: bool = True) -> None:
        self.now = 100.0
        self.wall = 1_000_000.0
        config = IdentityConfig(consumers=MappingProxyType({each.name: each for each in consumers}))
        self.source = Source()
        self.ring = KeyRing(
            consumers,
            Directory(config, {}),
            self.source if stored else None,
            lambda: self.now,
            lambda: self.wall,
        )

    def known(self, text: str = GOOD) -> str | None:
        caller = self.ring.known(shown(text), self.now)
        return None if caller is None else caller.consumer

    def look_up(self, text: str = GOOD) -> Callable[[], Found]:
        found: list[Found] = []
        self.ring.look_up(shown(text), found.append)
        return lambda: found[0]


def shown(text: str) -> Presented:
    return CredentialReader("X-API-Key").read(request(b"/", f"X-API-Key: {text}").fields.lines)


def record(text: str = GOOD, not_after: float | None = None, tenant: str = "acme") -> KeyRecord:
    return KeyRecord(ID, sha256(text), "web", tenant, ("a", "b"), not_after)


def test_a_key_of_the_file_is_known_until_it_ends() -> None:
    ring = Ring([ConsumerConfig("web", "acme", keys=(KeyConfig(ID, sha256(GOOD), 1_000_010.0),))], stored=False)
    assert ring.known() == "web"
    assert ring.known(WRONG) is None
    assert ring.look_up(WRONG)() is None
    ring.now += 10_000
    assert ring.known() == "web"
    ring.wall = 1_000_010.0
    assert ring.known() is None


def test_a_key_of_the_store_is_asked_for_once_and_known_for_a_while() -> None:
    ring = Ring()
    assert ring.known() is None
    first, second = ring.look_up(), ring.look_up()
    ring.source.answer(record(), ring.now)
    caller = first()
    assert isinstance(caller, Caller)
    assert second() is caller
    assert (caller.tenant, caller.scopes) == ("acme", frozenset("ab"))
    ring.now += FRESH - 6
    assert ring.known() == "web"
    assert ring.source.asked == []


def test_a_record_that_gets_old_is_read_again_while_it_serves() -> None:
    ring = Ring()
    ring.look_up()
    ring.source.answer(record(), ring.now)
    ring.now += FRESH - 1
    assert [ring.known(), ring.known()] == ["web", "web"]
    assert len(ring.source.asked) == 1
    ring.source.answer(record(), ring.now)
    ring.now += FRESH - 6
    assert ring.known() == "web"


def test_a_record_that_is_too_old_is_not_used_while_the_store_is_there() -> None:
    ring = Ring()
    ring.look_up()
    ring.source.answer(record(), ring.now)
    ring.now += FRESH
    assert ring.known() is None
    ring.source.up = False
    assert ring.known() == "web"


@pytest.mark.parametrize("told", [None, record(WRONG), record(not_after=999_999.0), record()._replace(sha256="zz")])
def test_what_the_store_does_not_bear_out_is_nobody(told: KeyRecord | None) -> None:
    ring = Ring()
    found = ring.look_up()
    ring.source.answer(told, ring.now)
    assert found() is None
    assert ring.known() is None


def test_nothing_is_remembered_of_an_id_that_does_not_exist_and_a_wrong_secret_asks_again() -> None:
    ring = Ring()
    ring.look_up()
    ring.source.answer(None, ring.now)
    ring.look_up()
    assert len(ring.source.asked) == 1
    ring.source.answer(record(), ring.now)
    assert ring.known(WRONG) is None
    ring.look_up(WRONG)
    assert len(ring.source.asked) == 1


def test_without_an_answer_nobody_can_say() -> None:
    ring = Ring()
    found = ring.look_up()
    ring.source.answer(StoreUnavailable("away"), ring.now)
    assert found() is UNAVAILABLE


def test_a_change_ends_what_is_known_and_what_was_asked_for_before_it() -> None:
    ring = Ring()
    ring.look_up()
    ring.source.answer(record(), ring.now)
    asked_at = ring.now
    late = ring.look_up()
    ring.now += 1.0
    ring.ring.forget([ID, "another"])
    assert ring.known() is None
    # The answer was on its way when the key was revoked: it serves the request that asked, and is not kept.
    ring.source.answer(record(), asked_at)
    assert isinstance(late(), Caller)
    assert ring.known() is None
    ring.look_up()
    ring.source.answer(record(), ring.now + 0.1)
    assert ring.known() == "web"


@pytest.mark.parametrize("stored", [None, record(), record()._replace(sha256="zz")])
def test_of_every_wrong_secret_the_digest_is_compared_once_and_nothing_is_kept(stored: KeyRecord | None) -> None:
    """Whether the store has the id must show neither in the time nor in the memory that it takes."""
    ring = Ring()
    wrong = shown(WRONG)
    found: list[Found] = []
    ring.ring.look_up(wrong, found.append)
    ring.source.answer(stored, ring.now)
    assert wrong._digest
    assert (found, repr(ring.ring)) == ([None], "<KeyRing 0 of the file, 0 cached>")


def test_a_key_that_was_good_is_recognised_until_it_is_read_again() -> None:
    """So it may be read again whatever else its address did, though it is not used before."""
    ring = Ring()
    ring.look_up()
    assert not ring.ring.recognises(shown(GOOD))
    ring.source.answer(record(), ring.now)
    ring.now += 1.0
    ring.ring.forget([ID])
    assert (ring.known(), ring.ring.recognises(shown(GOOD)), ring.ring.recognises(shown(WRONG))) == (None, True, False)
    ring.source.up = False
    assert ring.known() is None
    ring.source.up = True
    ring.look_up()
    ring.source.answer(None, ring.now + 1.0)
    assert not ring.ring.recognises(shown(GOOD))


def test_no_more_keys_are_remembered_than_there_is_room_for() -> None:
    ring = Ring()
    for at in range(20_100):
        text = key(f"key{at:09}")
        found: list[Found] = []
        ring.ring.look_up(shown(text), found.append)
        ring.source.answer(KeyRecord(f"key{at:09}", sha256(text), "web"), ring.now)
        assert isinstance(found[0], Caller)
    assert repr(ring.ring) == "<KeyRing 0 of the file, 20000 cached>"
    assert ring.known(key("key000020099")) == "web"
    assert ring.known(key("key000000000")) is None


def test_when_callers_are_forgotten_every_record_is_read_again() -> None:
    ring = Ring()
    ring.look_up()
    ring.source.answer(record(), ring.now)
    assert ring.known() == "web"
    ring.ring.forget_callers()
    assert ring.known() is None
