"""Callers, and the accounts of their tenants: what is remembered of whom, and for how long."""

from types import MappingProxyType

import pytest

from gateway.config.sections.identity.model import ConsumerConfig, IdentityConfig, TierConfig
from gateway.identity.tenants import OTHER, Directory

IDENTITY = IdentityConfig(
    MappingProxyType({"web": ConsumerConfig("web", "acme"), "shop": ConsumerConfig("shop", "umbrella")}),
    MappingProxyType({"acme": "gold"}),
    MappingProxyType({"gold": TierConfig("gold"), "default": TierConfig("default", None, None, 5)}),
)


@pytest.fixture
def directory() -> Directory:
    return Directory(IDENTITY, {}, most=4)


def of_others(directory: Directory) -> tuple[int, int]:
    """The requests of the tenants that share a label, and the refusals for the quota."""
    return directory.requests[OTHER], directory.refusals[OTHER, "quota_exceeded"]


def test_what_forgotten_tenants_have_counted_is_kept(directory: Directory) -> None:
    """A counter never goes down: who reads it would take that for a restart."""
    for at in range(50):
        account = directory.account(f"tenant-{at}")
        account.requests += 2
        account.refused["quota_exceeded"] += 1
        assert of_others(directory) == (2 * at + 2, at + 1)
    assert len(list(directory.accounts)) <= 4


def test_tenants_of_the_file_are_never_forgotten_nor_those_of_its_consumers(directory: Directory) -> None:
    """Callers with keys of the file have their account for ever, so it has to be the one that is counted."""
    shop = directory.caller("shop", "umbrella", frozenset())
    for at in range(50):
        directory.account(f"tenant-{at}")
    assert shop.account is directory.account("umbrella")
    assert {"acme", "umbrella"} <= {each.tenant for each in directory.accounts}
    assert directory.account("umbrella").label == "umbrella"


def test_whoever_keeps_callers_hears_when_accounts_are_forgotten(directory: Directory) -> None:
    told: list[str] = []
    directory.on_forgotten.append(lambda: told.append("forgotten"))
    for at in range(4):
        directory.account(f"tenant-{at}")
    assert told == ["forgotten"]


def test_what_is_in_flight_or_not_told_yet_is_not_forgotten(directory: Directory) -> None:
    busy, unsent = directory.account("busy"), directory.account("unsent")
    busy.in_flight, unsent.unsent = 1, 1
    for at in range(10):
        directory.account(f"tenant-{at}")
    assert directory.account("busy") is busy
    assert directory.account("unsent") is unsent


def test_asking_what_would_become_of_a_tenant_leaves_no_trace(directory: Directory) -> None:
    before = [each.tenant for each in directory.accounts]
    assert directory.supposed("anybody", "new", frozenset()).tenant == "new"
    assert [each.tenant for each in directory.accounts] == before
    known = directory.caller("shop", "umbrella", frozenset())
    assert directory.supposed("shop", "umbrella", frozenset()).account is known.account


def test_tenants_that_the_fleet_knows_have_their_place_before_they_come() -> None:
    directory = Directory(IDENTITY, {}, most=8)
    directory.meet(["x", "acme", "y", "z"])
    assert [each.tenant for each in directory.accounts] == ["acme", "umbrella", "x", "y"]
    assert directory.account("x").quota == 5
