"""One identity in several spellings."""

from ipaddress import ip_network

import pytest

from gateway.syntax import hosts


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:0201", "192.0.2.1"),
        ("0:0:0:0:0:ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("0064:ff9b:0:0:0:0:c000:201", "192.0.2.1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8::0001", "2001:db8::1"),
        # The prefix never carries what is not public: these must not pass for loopback or for a private proxy.
        ("64:ff9b::127.0.0.1", "64:ff9b::7f00:1"),
        ("64:ff9b::10.0.0.1", "64:ff9b::a00:1"),
        ("64:ff9b::192.168.1.1", "64:ff9b::c0a8:101"),
    ],
)
def test_addresses(text: str, address: str) -> None:
    assert str(hosts.address(text)) == address


@pytest.mark.parametrize("text", ["", "unknown", "1.2.3", "1.2.3.4.5", "[::1]", "127.1", "0x7f000001", "1::2::3"])
def test_what_is_no_address(text: str) -> None:
    assert hosts.address(text) is None
    assert not hosts.is_loopback(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("::ffff:127.0.0.1", True), ("0:0::1", True), ("64:ff9b::127.0.0.1", False), ("::ffff:10.0.0.1", False)],
)
def test_loopback(text: str, loopback: bool) -> None:
    assert hosts.is_loopback(text) is loopback


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("64:ff9b::198.51.100.0/120", "198.51.100.0/24"),
        ("64:ff9b::198.51.100.7", "198.51.100.7/32"),
        ("64:ff9b::/96", "64:ff9b::/96"),
        ("64:ff9b::10.0.0.0/104", "64:ff9b::a00:0/104"),
        ("fe80::1%eth0", "fe80::1/128"),
        ("::/0", "::/0"),
    ],
)
def test_networks(text: str, network: str) -> None:
    assert hosts.network(text) == ip_network(network)


def test_a_network_with_bits_of_hosts() -> None:
    with pytest.raises(ValueError, match="host bits set"):
        hosts.network("::ffff:10.0.0.1/104")
    assert hosts.network("::ffff:10.0.0.1/104", strict=False) == ip_network("10.0.0.0/8")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("64:ff9b::192.0.2.33", "64:ff9b::198.51.100.33", False),
        ("64:ff9b::192.0.2.33", "192.0.2.33", True),
        ("64:ff9b::10.0.0.1", "64:ff9b::10.0.0.2", False),
        ("64:ff9b:1::192.0.2.33", "64:ff9b:1::198.51.100.33", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2002:c000:201::1", "2002:c000:201::2", True),
    ],
)
def test_who_shares_a_bucket(one: str, other: str, same: bool) -> None:
    assert (hosts.client_key(one) == hosts.client_key(other)) is same


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.4:5678", "1.2.3.4"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ('"[2001:db8::1]:4711"', "2001:db8::1"),
        ("[fe80::1%25eth0]:1", "fe80::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
        ("unknown", "None"),
        ("_hidden", "None"),
        ("[::1", "None"),
        ("[::1]x", "None"),
        ("", "None"),
    ],
)
def test_hops(text: str, address: str) -> None:
    assert str(hosts.hop(text)) == address


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("shop.test", "shop.test"),
        ("SHOP.test.", "shop.test"),
        ("Shop.Test.:8080", "shop.test"),
        ("shop.test:", "shop.test"),
        ("shop.test..", "shop.test.."),
        (".", "."),
        ("[::1]", "::1"),
        ("[0:0:0:0:0:0:0:1]:443", "::1"),
        ("::1", "::1"),
        ("[::ffff:127.0.0.1]", "127.0.0.1"),
        ("", ""),
    ],
)
def test_hosts(text: str, host: str) -> None:
    assert hosts.host(text) == host


@pytest.mark.parametrize(
    "text", ["a b", "u@a", "a:b", "a:65536", "[::1", "[:::]", "[::1]x", "%61", "[fe80::1%25e]", "a/b"]
)
def test_what_is_no_host(text: str) -> None:
    assert hosts.host(text) is None


@pytest.mark.parametrize(
    ("one", "other", "scheme", "same"),
    [
        ("a.test", "A.test.:80", "http", True),
        ("a.test:", "a.test:443", "https", True),
        ("a.test", "a.test:443", "http", False),
        ("[::1]:5000", "[0:0::1]:5000", "http", True),
        ("", "", "http", False),
    ],
)
def test_authorities(one: str, other: str, scheme: str, same: bool) -> None:
    assert hosts.same_authority(one, other, scheme) is same
