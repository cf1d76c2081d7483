"""A client's share of the places in flight."""

import pytest

from gateway.policy.client_share import ClientShare


def test_a_client_has_its_share_and_no_more() -> None:
    share = ClientShare(2)
    share.take("a")
    assert not share.used_up("a")
    share.take("a")
    assert share.used_up("a")
    assert not share.used_up("b")
    share.give_back("a")
    assert not share.used_up("a")


def test_nothing_is_kept_of_clients_that_hold_nothing() -> None:
    share = ClientShare(2)
    for client in ("a", "b", "a"):
        share.take(client)
    assert len(share) == 2
    for client in ("a", "b", "a"):
        share.give_back(client)
    assert len(share) == 0
    with pytest.raises(KeyError):
        share.give_back("a")
